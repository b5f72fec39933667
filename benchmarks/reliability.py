"""Faults put into the real command line, counted: ``python -m benchmarks.reliability`` (``make reliability``).

F1 kills the process group of convert, beats, score and report at random instants. F2 kills convert and beats at the N-th call of
fsync, rename, mkdir, link and unlink of a thread (so not at every call of the main one), F3 lets it fail; strace does both.
F2P and F3P do the same to the calls that touch the places which every run uses (the folder a store is published in, archive.json,
archive.parquet, the lock), whatever thread makes them. F4 fills the disk (a tmpfs of growing size). F9 and F10 let two and eight
writers run one stage at once; in every second contest one of them is frozen at a random instant and woken only when the others
have ended.

After each fault the same command is run again, undisturbed: every byte of the stores must be that of a run which nothing
disturbed, the same reports must be there, nothing may be left beside them (what lies below .build is not looked at), and
``verify`` must find nothing. A fault that does not kill must end without a traceback; a failed sync must not end with exit 0.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

from ecgbatch.model import shipped_model
from ecgbatch.synthetic import write_archive

PROGRAM = str(Path(sys.executable).parent / "ecgbatch")

STAGES = ("convert", "beats", "score", "report")
CALLS = {
    "fsync": "fsync,fdatasync",
    "rename": "rename,renameat,renameat2",
    "mkdir": "mkdir,mkdirat",
    "link": "link,linkat",
    "unlink": "unlink,unlinkat",
    "open": "open,openat",
}
"""What strace is told to count; a kernel has several calls of each kind."""

SWEPT = ("fsync", "rename", "mkdir", "link", "unlink")
"""Of which F2 and F3 take the N-th."""

PLACES = (
    ("fsync", ""),
    ("fsync", "{kind}"),
    ("fsync", "runs"),
    ("open", "archive.json"),
    ("open", "archive.parquet"),
    ("open", ".build/lock"),
    ("open", ".build"),
    ("mkdir", "{kind}"),
    ("unlink", ".build/lock"),
)
"""Calls at a place that every run touches: the folders that a publishing is acknowledged in, documents, the lock.

strace matches a call's first path only, so a rename onto a place cannot be asked for; the sync of its folder follows it.
"""

MOST_CALLS = 400
"""A sweep ends where a run was not reached by its fault any more, or here."""


@dataclass
class Tally:
    """Of one campaign: how often it was tried, and what went wrong."""

    tried: int = 0
    hit: int = 0
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Bench:
    """An archive, its workspace after each stage of an undisturbed run, and how long each stage lasts."""

    folder: Path
    archive: Path
    seconds: dict[str, float]

    def before(self, stage: str) -> Path:
        """Return the workspace as a stage finds it; of ``convert``: empty."""
        return self.folder / f"before-{stage}"

    def command(self, stage: str, work: Path) -> list[str]:
        """Return the command line of a stage."""
        line = [PROGRAM, stage]
        line += [str(self.archive), str(work)] if stage == "convert" else [str(work)]
        return line + (["--model", str(shipped_model())] if stage == "score" else [])

    def wanted(self, stage: str) -> dict[str, str]:
        """Return the digests of all that an undisturbed stage leaves."""
        following = [*STAGES[1:], "end"][STAGES.index(stage)]
        return contents(self.before(following))

    def problems(self, stage: str, work: Path) -> list[str]:
        """Run the stage again and say what differs from an undisturbed run."""
        again = subprocess.run(self.command(stage, work), capture_output=True, text=True, check=False)
        if again.returncode:
            return [f"the same command again: exit {again.returncode}: {again.stderr.strip()[-200:]}"]
        found, wanted = contents(work), self.wanted(stage)
        wrong = [f"{name} {'differs' if name in wanted else 'is too many'}" for name in found if found[name] != wanted.get(name)]
        wrong += [f"{name} is lost" for name in wanted.keys() - found.keys()]
        verify = [PROGRAM, "verify", str(work)]
        checked = subprocess.run(verify, capture_output=True, text=True, check=False)
        return wrong[:3] + ([f"verify: {checked.stdout.strip()[-200:]}"] if checked.returncode else [])


def contents(work: Path) -> dict[str, str]:
    """Return path to digest of every published byte; of reports, which hold the time they were made at, the names only."""
    found = {}
    for path in sorted(work.rglob("*")):
        name = path.relative_to(work)
        if path.is_symlink() or not path.is_file() or name.parts[0] == ".build":
            continue
        if any(part.endswith(".zarr") for part in name.parts):
            found[str(name)] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif name.parts[0] == "reports" or ".partial" in name.name:
            found[str(name)] = "there"
    return found


def undisturbed(folder: Path, n_records: int) -> Bench:
    """Make the archive and run every stage once, in one workspace."""
    bench = Bench(folder, folder / "archive", {})
    write_archive(bench.archive, n_records=n_records, duration_s=10.0, seed=1)
    for stage, following in zip(STAGES, [*STAGES[1:], "end"], strict=True):
        bench.before(stage).mkdir(exist_ok=True)
        shutil.copytree(bench.before(stage), bench.before(following), symlinks=True)
        began = time.perf_counter()
        subprocess.run(bench.command(stage, bench.before(following)), capture_output=True, check=True)
        bench.seconds[stage] = time.perf_counter() - began
        if contents(bench.before(stage)) == contents(bench.before(following)):
            raise SystemExit(f"{stage}: an undisturbed run left nothing, so nothing can be compared")
    return bench


def kills(bench: Bench, count: int, seed: int, folder: Path) -> Iterator[tuple[str, bool, list[str]]]:
    """Kill each stage ``count`` times, at instants spread over an undisturbed run's time."""
    draw = random.Random(seed)
    for number in range(count):
        for stage in STAGES:
            instant = draw.uniform(0.1, 1.0) * bench.seconds[stage]
            work = Path(shutil.copytree(bench.before(stage), folder / "work", symlinks=True))
            process = subprocess.Popen(
                bench.command(stage, work), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
            )
            try:
                process.wait(instant)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            yield f"{stage} {number} at {instant:.2f} s", process.returncode < 0, bench.problems(stage, work)
            shutil.rmtree(work)


def injected(bench: Bench, stride: int, what: str, folder: Path) -> Iterator[tuple[str, bool, list[str]]]:
    """Let each ``stride``-th call of a kind be met by ``what`` (``signal=KILL`` or ``error=EIO``), one a run."""
    for stage in STAGES[:2]:
        for call in SWEPT:
            for number in range(1, MOST_CALLS, stride):
                work = Path(shutil.copytree(bench.before(stage), folder / "work", symlinks=True))
                _, hit, wrong = _met(bench.command(stage, work), call, f"{what}:when={number}", folder)
                yield f"{stage}: {call} {number}, {what}", hit, wrong + bench.problems(stage, work)
                shutil.rmtree(work)
                if not hit:
                    break


def injected_at_places(
    bench: Bench, what: str, folder: Path, places: Sequence[tuple[str, str]] = PLACES
) -> Iterator[tuple[str, bool, list[str]]]:
    """Let the first and the second call that touches a fixed place be met by ``what``; the old state must be intact then."""
    for stage, kind in (("convert", "signals"), ("beats", "beats"), ("score", "scores")):
        for (call, pattern), number in product(places, (1, 2)):
            work, place = Path(shutil.copytree(bench.before(stage), folder / "work", symlinks=True)), pattern.format(kind=kind)
            before = contents(work)
            code, hit, wrong = _met(bench.command(stage, work), call, f"{what}:when={number}", folder, "-P", str(work / place))
            after = contents(work)
            wrong += ["exit 0 though a sync failed"] if hit and call == "fsync" and not code else []
            wrong += [f"{name} was lost before the rerun" for name in before if after.get(name) != before[name]]
            yield f"{stage}: {call} {number} of {place}, {what}", hit, wrong + bench.problems(stage, work)
            shutil.rmtree(work)


def _met(command: list[str], call: str, what: str, folder: Path, *options: str) -> tuple[int, bool, list[str]]:
    """Run a command in which strace meets calls of a kind by ``what``; return its exit, whether one was met, what is wrong."""
    trace, names = folder / "trace", ",".join(f"?{name}" for name in CALLS[call].split(","))
    strace = ["strace", "-f", "-qq", "-o", str(trace), *options, "-e", f"trace={names}", "-e", f"inject={names}:{what}"]
    ended = subprocess.run([*strace, *command], capture_output=True, text=True, check=False)
    hit = "INJECTED" in trace.read_text() or "killed by SIGKILL" in trace.read_text()
    return ended.returncode, hit, ["a traceback"] if "Traceback" in ended.stderr else []


def contests(bench: Bench, count: int, n_writers: int, seed: int, folder: Path) -> Iterator[tuple[str, bool, list[str]]]:
    """Let ``n_writers`` run the same stage at once; in every second contest freeze one, and wake it when the others have ended.

    All must end with 0: who comes second waits, follows a frozen holder, and finds the work done.
    """
    draw = random.Random(seed)
    for number in range(count):
        stage = STAGES[number // 2 % 3]
        work = Path(shutil.copytree(bench.before(stage), folder / "work", symlinks=True))
        with (folder / "said").open("w+") as said:
            writers = [
                subprocess.Popen(bench.command(stage, work), stdout=subprocess.DEVNULL, stderr=said, start_new_session=True)
                for _ in range(n_writers)
            ]
            is_frozen = number % 2 == 1
            frozen = writers.pop(0) if is_frozen else None
            if frozen:
                time.sleep(draw.uniform(0.3, 1.0) * bench.seconds[stage])
                os.killpg(frozen.pid, signal.SIGSTOP)
            codes = [writer.wait() for writer in writers]
            if frozen:
                os.killpg(frozen.pid, signal.SIGCONT)
                codes.append(frozen.wait())
            said.seek(0)
            words = said.read()
        wrong = [f"exits {codes}: {words.strip()[-200:]}"] if any(codes) else []
        wrong += ["a traceback"] if "Traceback" in words else []
        yield f"{stage} {number}{', one frozen' if is_frozen else ''}", is_frozen, wrong + bench.problems(stage, work)
        shutil.rmtree(work)


def full_disks(bench: Bench, count: int, folder: Path) -> Iterator[tuple[str, bool, list[str]]]:
    """Convert onto ``count`` disks from almost nothing to almost enough, then make room."""
    work = folder / "disk"
    work.mkdir()
    needed = sum(path.stat().st_blocks * 512 for path in bench.before("beats").rglob("*"))
    for number in range(1, count + 1):
        size = max(needed * number // count // 4096, 2) * 4096
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(work)], check=True)
        try:
            ended = subprocess.run(bench.command("convert", work), capture_output=True, text=True, check=False)
            wrong = ["a traceback"] if "Traceback" in ended.stderr else []
            if ended.returncode and not re.search(r"[Nn]o space|[Dd]isk|room", ended.stderr):
                wrong.append(f"no word about room: {ended.stderr.strip()[-200:]}")
            subprocess.run(["mount", "-o", "remount,size=1g", str(work)], check=True)
            yield f"{size} bytes", ended.returncode != 0, wrong + bench.problems("convert", work)
        finally:
            subprocess.run(["umount", str(work)], check=True)


def main() -> None:
    """Run the campaigns asked for and print a line each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reliability", description=__doc__)
    parser.add_argument(
        "--only", action="append", choices=["F1", "F2", "F3", "F2P", "F3P", "F4", "F9", "F10"], help="this campaign (repeatable)"
    )
    parser.add_argument("--count", type=int, default=50, help="F1: kills a stage; F4: sizes; F9, F10: contests")
    parser.add_argument("--stride", type=int, default=1, help="F2, F3: each N-th call")
    parser.add_argument("--records", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    failed = 0
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        bench = undisturbed(folder, options.records)
        campaigns = {
            "F1": lambda: kills(bench, options.count, options.seed, folder),
            "F2": lambda: injected(bench, options.stride, "signal=KILL", folder),
            "F3": lambda: (
                case for error in ("EIO", "ENOSPC") for case in injected(bench, options.stride, f"error={error}", folder)
            ),
            "F2P": lambda: injected_at_places(bench, "signal=KILL", folder),
            "F3P": lambda: (
                case for error in ("EIO", "ENOSPC", "EMFILE") for case in injected_at_places(bench, f"error={error}", folder)
            ),
            "F9": lambda: contests(bench, options.count, 2, options.seed, folder),
            "F10": lambda: contests(bench, options.count, 8, options.seed, folder),
            "F4": lambda: full_disks(bench, options.count, folder),
        }
        for name in options.only or campaigns:
            tally, began = Tally(), time.perf_counter()
            for case, hit, wrong in campaigns[name]():
                tally.tried += 1
                tally.hit += hit
                tally.failures += [f"{case}: {one}" for one in wrong[:1]]
                if wrong:
                    print(f"  {name} {case}: {'; '.join(wrong)}", flush=True)
                elif tally.tried % 10 == 0:
                    print(f"  {name}: {tally.tried} tried, {tally.hit} hit, {len(tally.failures)} wrong", flush=True)
            failed += len(tally.failures)
            print(
                f"{name}: {tally.tried} tried, {tally.hit} hit by the fault, {len(tally.failures)} wrong; "
                f"{time.perf_counter() - began:.0f} s, seed {options.seed}, stride {options.stride}",
                flush=True,
            )
    raise SystemExit(failed > 0)


if __name__ == "__main__":
    main()
