"""Nights, crashes, second writers and changes in any order: the end is a simple model's, the bytes an undisturbed run's."""

from __future__ import annotations

import hashlib
import io
import os
import random
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import ecgbatch.archive.watch
import storage.lock
from ecgbatch.beats.lookup import current_beats, extract_beats
from ecgbatch.beats.record import BeatSettings
from ecgbatch.scores.stage import score_workspace
from ecgbatch.scores.table import scores_path
from ecgbatch.signals.lookup import current_records
from ecgbatch.signals.stage import convert_archive
from ecgbatch.synthetic.archive import ArchiveShape, write_archive
from ecgbatch.terms import STATUS
from ecgbatch.upkeep.garbage import collect_garbage
from ecgbatch.upkeep.verify import KINDS, verify_workspace
from ecgbatch.workspace.runs import write_run
from storage import only_writer, open_store, verify_store
from tests.reports.report_runs import untrained_model

SLOTS = ("r0", "r1", "r2", "r3")
STAGES = ("convert", "beats", "score")
STEPS = ("fsync", "rename", "replace", "link", "unlink", "mkdir", "rmdir", "symlink", "sync")
"""What changes a disk, besides opening a file to write it."""
FAULTS = ("none", "killed", "power cut", "frozen")


class Died(Exception):
    """The process is gone: from here on nothing that it tries reaches the disk."""


class Disk:
    """Counts a process's steps that change the disk; at one of them the process dies, or another comes between."""

    def __init__(self, at: int = 0, then: Callable[[], None] | None = None) -> None:
        self.steps, self.at, self.then = 0, at, then
        self.is_dead = False
        self.synced: set[int] = set()

    def step(self) -> None:
        if self.is_dead:
            raise Died
        if threading.current_thread() is not threading.main_thread():
            return
        self.steps += 1
        if self.steps != self.at:
            return
        if self.then is None:
            self.is_dead = True
            raise Died
        then, self.then = self.then, None
        then()

    @contextmanager
    def watched(self) -> Iterator[Disk]:
        with pytest.MonkeyPatch.context() as patch:
            for name in STEPS:
                patch.setattr(os, name, self._counted(name, getattr(os, name)))
            patch.setattr(io, "open", self._opened(io.open))
            yield self

    def _counted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            self.step()
            found = call(*arguments, **options)
            if name == "fsync":
                self.synced.add(os.fstat(arguments[0]).st_ino)
            return found

        return counted

    def _opened(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def opened(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            if set(mode) & set("wxa+"):
                self.step()
            return call(file, mode, *arguments, **options)

        return opened


def digests(work: Path) -> dict[str, str]:
    """Digest of each published store and model: of the names and bytes of its files."""
    found = {}
    for kind in (*KINDS, "models"):
        for store in sorted((work / kind).glob("[!.]*")):
            whole = hashlib.sha256()
            for path in sorted(path for path in store.rglob("*") if path.is_file()):
                whole.update(f"{path.relative_to(store)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
            found[f"{kind}/{store.name}"] = whole.hexdigest()
    return found


def stamps(work: Path) -> dict[str, tuple[int, int]]:
    """What changes when a file is written anew; of the places that a run without work leaves alone."""
    paths = [work / "archive.json", *(path for kind in (*KINDS, "models") for path in (work / kind).rglob("*"))]
    return {str(path.relative_to(work)): (path.lstat().st_ino, path.lstat().st_mtime_ns) for path in paths if path.is_file()}


def make_pool(folder: Path) -> Path:
    """Two versions of each record, ``r0-0.hea`` and so on, each an ECG of its own; and a model of random weights."""
    truth = write_archive(
        folder / "all", ArchiveShape(n_records=2 * len(SLOTS), duration_s=8.0, sampling_frequency_hz=250.0, n_leads=12), seed=3
    )
    for number, record in enumerate(truth.records):
        slot, short = f"{SLOTS[number // 2]}", Path(record.record_name).name
        for path in (folder / "all").rglob(f"{short}.*"):
            content = path.read_bytes()
            content = content.replace(short.encode(), slot.encode()) if path.suffix == ".hea" else content
            (folder / f"{slot}-{number % 2}{path.suffix}").write_bytes(content)
    untrained_model(folder / "model")
    return folder


def machine(pool: Path, work_in: Path, reached: Counter[str]) -> type[RuleBasedStateMachine]:
    """Return the machine, which counts what it has reached; the bytes of stores it remembers over all its runs."""
    seen: dict[str, str] = {}
    first = work_in / "first"

    class Nights(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.folder = Path(tempfile.mkdtemp(dir=work_in))
            self.archive, self.work = self.folder / "archive", self.folder / "work"
            self.archive.mkdir()
            self.there: dict[str, tuple[int, bool]] = {}
            """Record to its version and whether it is cut short: the archive as it is."""
            self.converted: dict[str, tuple[int, bool]] | None = None
            """The archive as a conversion has seen it last."""
            self.clock = 1_600_000_000
            self.n_stages = 0

        def teardown(self) -> None:
            shutil.rmtree(self.folder)

        # The archive

        @initialize()
        def first_night(self) -> None:
            """One record, and all of a night done: copied, since every run begins with it."""
            self.put("r0", 0)
            if first.exists():
                shutil.copytree(first, self.work, symlinks=True)
            for stage in STAGES:
                if not first.exists():
                    self.perform(stage, self.work)
                self.ended(stage)
            if not first.exists():
                shutil.copytree(self.work, first, symlinks=True)

        @rule(change=st.sampled_from(["put", "put", "cut", "remove"]), slot=st.sampled_from(SLOTS), version=st.integers(0, 1))
        def change(self, change: str, slot: str, version: int) -> None:
            """A record comes, another takes its place, its signal file loses its end (then it is set aside), it goes."""
            if change == "put" or slot not in self.there:
                self.put(slot, version)
            elif change == "cut":
                path = self.archive / f"{slot}.dat"
                path.write_bytes((pool / f"{slot}-{self.there[slot][0]}.dat").read_bytes()[:-7])
                self.there[slot] = (self.there[slot][0], True)
                self.age(slot)
            elif len(self.there) > 1:
                for suffix in (".hea", ".dat"):
                    (self.archive / f"{slot}{suffix}").unlink()
                del self.there[slot]

        def put(self, slot: str, version: int) -> None:
            for suffix in (".hea", ".dat"):
                shutil.copy(pool / f"{slot}-{version}{suffix}", self.archive / f"{slot}{suffix}")
            self.there[slot] = (version, False)
            self.age(slot)

        def age(self, slot: str) -> None:
            """Its files are of some day last year: nobody waits whether they still grow."""
            self.clock += 10
            for suffix in (".hea", ".dat"):
                os.utime(self.archive / f"{slot}{suffix}", (self.clock, self.clock))

        # What a night does

        def possible(self, stage: str) -> str:
            """This stage, or the first one that it waits for: what it needs must be of the archive as it was converted last."""
            return STAGES[min(STAGES.index(stage), self.n_stages)]

        def perform(self, stage: str, work: Path) -> None:
            if stage == "convert":
                convert_archive(str(self.archive), str(work))
            elif stage == "beats":
                extract_beats(str(work), BeatSettings())
            else:
                run = score_workspace(str(work), str(pool / "model"))
                write_run(str(work), run, {"archive": "archive"})

        @rule(stage=st.sampled_from(STAGES), fault=st.sampled_from(FAULTS), part=st.floats(0, 1), goes_on=st.booleans())
        def night(self, stage: str, fault: str, part: float, goes_on: bool) -> None:
            """A stage runs, and something happens to it at one of its steps, or nothing."""
            stage = self.possible(stage)
            if fault == "none":
                return self.whole(stage)
            wanted, n_steps = self.undisturbed(stage)
            at = 1 + int(part * n_steps)
            if fault == "frozen":
                self.freezes(stage, at)
            elif not self.dies(stage, at, is_power_cut=fault == "power cut"):
                self.ended(stage)
            elif not goes_on:
                return None
            else:
                self.whole(stage)
            assert digests(self.work) == wanted
            return None

        def whole(self, stage: str) -> None:
            """A stage runs to its end, and once more, which does nothing."""
            with only_writer(self.work, stage):
                self.perform(stage, self.work)
            self.ended(stage)
            before = stamps(self.work)
            self.perform(stage, self.work)
            assert stamps(self.work) == before, "a run without work has written something"

        def freezes(self, stage: str, at: int) -> None:
            """The process stands still, another does the whole stage without asking, the first wakes and goes on."""
            with Disk(at, lambda: self.perform(stage, self.work)).watched() as disk:
                self.perform(stage, self.work)
            reached["frozen"] += disk.then is None
            self.ended(stage)

        def dies(self, stage: str, at: int, *, is_power_cut: bool) -> bool:
            """The process is gone; with the power goes what no fsync has brought to the disk too."""
            before, safe = digests(self.work), {path.lstat().st_ino for path in self.work.rglob("*") if path.is_file()}
            with pytest.MonkeyPatch.context() as patch:
                # Of a process that is gone: the next writer must follow it at once.
                patch.setattr(storage.lock, "_myself", lambda: {**myself(), "pid": 4_194_305})
                with Disk(at).watched() as disk:
                    try:
                        with only_writer(self.work, stage):
                            self.perform(stage, self.work)
                    except Exception:
                        assert disk.is_dead
            reached["died"] += disk.is_dead
            if disk.is_dead and is_power_cut:
                for path in self.work.rglob("*"):
                    if path.is_file() and not path.is_symlink() and path.stat().st_ino not in safe | disk.synced:
                        os.truncate(path, 0)
            after = digests(self.work)
            assert {name: after.get(name) for name in before} == before, "a dying run reached what was published"
            return disk.is_dead

        @rule(unfinished=st.booleans())
        def garbage(self, unfinished: bool) -> None:
            before = stamps(self.work)
            with only_writer(self.work, "gc"):
                collect_garbage(str(self.work), unfinished=unfinished)
            assert stamps(self.work) == before
            assert not list(self.work.rglob("*.partial"))

        # What must hold

        def undisturbed(self, stage: str) -> tuple[dict[str, str], int]:
            """Run a stage on a copy; return what is published then, and how many steps it took."""
            copy = self.folder / "copy"
            shutil.copytree(self.work, copy, symlinks=True)
            with Disk().watched() as disk, only_writer(copy, stage):
                self.perform(stage, copy)
            found = digests(copy)
            shutil.rmtree(copy)
            return found, disk.steps

        def ended(self, stage: str) -> None:
            """A stage has ended: the model's words for what must be there."""
            reached[stage] += 1
            self.n_stages = max(STAGES.index(stage) + 1, self.n_stages)
            work = str(self.work)
            if stage == "convert":
                self.n_stages = 1 if self.converted != self.there else max(1, self.n_stages)
                self.converted = dict(self.there)
            listed = self.converted or {}
            table = {"convert": current_records, "beats": lambda work: current_beats(work, {}), "score": scored}[stage](work)
            assert table["record_name"].values.tolist() == sorted(listed)
            is_aside = (table["status"].values == STATUS["set_aside"]).tolist()
            assert is_aside == [listed[name][1] for name in sorted(listed)]
            assert verify_workspace(work) == {}
            if stage == "convert":
                for name, digest in zip(sorted(listed), table["source_digest"].values.tolist(), strict=True):
                    assert seen.setdefault(f"{name} {listed[name]}", digest) == digest

        @invariant()
        def every_store_is_whole_and_has_the_bytes_of_its_name(self) -> None:
            for name, digest in digests(self.work).items():
                if name not in seen and not name.startswith("models/"):
                    assert verify_store(str(self.work / name), read_data=True) == []
                assert seen.setdefault(name, digest) == digest, f"{name} has other bytes than another run gave it"

    return Nights


def scored(work: str) -> Any:
    newest = max((Path(work) / "runs").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    return open_store(scores_path(work, newest.stem)).load()


myself = storage.lock._myself


@pytest.fixture
def make(tmp_path, monkeypatch) -> tuple[type[RuleBasedStateMachine], Counter[str]]:
    """The machine, and what it has reached."""
    monkeypatch.setattr(storage.lock, "BEAT_S", 1e6)
    monkeypatch.setattr(ecgbatch.archive.watch, "PAUSE_S", 0.0)
    for name in ("pool", "nights"):
        (tmp_path / name).mkdir()
    reached = Counter[str]()
    return machine(make_pool(tmp_path / "pool"), tmp_path / "nights", reached), reached


def test_short_walk_of_changes_crashes_and_second_writers_ends_as_the_model_says(make):
    nights, reached = make[0](), make[1]
    nights.first_night()
    draw = random.Random(5)
    for version, (fault, stage) in enumerate(zip((*FAULTS[1:], "killed"), ("convert", "beats", "score", "score"), strict=True)):
        nights.change(draw.choice(("put", "put", "cut", "remove")), draw.choice(SLOTS), version % 2)
        for earlier in STAGES[: STAGES.index(stage)]:
            nights.whole(earlier)
        nights.night(stage, fault, draw.uniform(0.2, 0.9), goes_on=version == 1)
        nights.garbage(unfinished=version == 0)
        nights.every_store_is_whole_and_has_the_bytes_of_its_name()
    nights.teardown()
    assert (reached["died"], reached["frozen"]) == (3, 1)
