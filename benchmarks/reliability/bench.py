"""An archive and its workspace after each stage of an undisturbed run: what every disturbed one is compared with."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ecgbatch.model.files import shipped_model
from ecgbatch.synthetic.archive import ArchiveShape, write_archive
from ecgbatch.upkeep.verify import verify_workspace
from storage.receipts import written_file

PROGRAM = str(Path(sys.executable).parent / "ecgbatch")

STAGES = ("convert", "beats", "measure", "score", "report")
TRAINING = ("convert", "paper's beats", "train")
"""Ends with the recipe that trains fastest: 5 members of 30 short epochs."""

UPKEEP = ("erase", "compact", "second erase")
"""Of a workspace of several nights: a patient goes from many stores, these become few, another goes from the few."""
ERASED = {"erase": "patient002", "second erase": "patient001"}

OPTIONS = {
    **{stage: ("--patient", patient, "--yes") for stage, patient in ERASED.items()},
    "score": ("--model", str(shipped_model())),
    "paper's beats": ("--method", "kachuee"),
    "train": ("--recipe", "kachuee"),
}

LASTED = "seconds.json"
"""How long each stage of a bench took; written when all are done."""

TRAINED = "models/trained"

Cases = Iterator[tuple[str, bool, list[str]]]
"""Of each case: its name, whether the fault reached it, what was wrong."""


Runner = Callable[[list[str]], subprocess.CompletedProcess[str]]
"""Runs a command line to its end."""


@dataclass
class Tally:
    """Of one campaign: how often it was tried, and what went wrong."""

    tried: int = 0
    hit: int = 0
    failures: list[str] = field(default_factory=list)
    note: str = ""


@dataclass(frozen=True)
class Bench:
    """An archive, its workspace after each stage of an undisturbed run, and how long each stage lasts."""

    folder: Path
    archive: Path
    seconds: dict[str, float]
    stages: Sequence[str] = STAGES

    def before(self, stage: str) -> Path:
        """Return the workspace as a stage finds it; of ``convert``: empty."""
        return self.folder / f"before-{stage.replace(' ', '-')}"

    def command(self, stage: str, work: Path) -> list[str]:
        """Return the command line of a stage."""
        line = [PROGRAM, stage.rsplit(maxsplit=1)[-1]]
        line += [str(self.archive), str(work)] if stage == "convert" else [str(work)]
        return [*line, *OPTIONS.get(stage, ()), *(("--out", str(work / TRAINED)) if stage == "train" else ())]

    def copied(self, stage: str, folder: Path) -> Path:
        """Return a new copy of the workspace that a stage finds, in ``folder``."""
        return Path(shutil.copytree(self.before(stage), folder / "work", symlinks=True))

    def lasted(self, stage: str, began: float) -> None:
        """Learn from a stage that has ended by itself since ``began`` how long it lasts now: instants are drawn from that."""
        self.seconds[stage] = min(self.seconds[stage], time.monotonic() - began)

    def wanted(self, stage: str) -> dict[str, str]:
        """Return the digests of all that an undisturbed stage leaves."""
        following = [*self.stages[1:], "end"][self.stages.index(stage)]
        return contents(self.before(following))

    def problems(self, stage: str, work: Path, runner: Runner | None = None) -> list[str]:
        """Run the stage again, in a process of its own or by ``runner``, and say what differs from an undisturbed run."""
        again = (runner or run)(self.command(stage, work))
        if again.returncode:
            return [f"the same command again: exit {again.returncode}: {again.stderr.strip()[-200:]}"]
        return different(contents(work), self.wanted(stage)) + unverified(work)


def run(command: list[str], environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command line to its end."""
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | (environment or {}))


def run_well(command: list[str]) -> None:
    """Run a command line that nothing disturbs; where it does not end well nothing can be compared, and what it said is told."""
    ended = run(command)
    if ended.returncode:
        raise SystemExit(f"{' '.join(command[1:])}: exit {ended.returncode}, undisturbed: {ended.stderr.strip()[-500:]}")


def different(found: dict[str, str], wanted: dict[str, str]) -> list[str]:
    """Say what differs, the first three."""
    wrong = [f"{name} {'differs' if name in wanted else 'is too many'}" for name in found if found[name] != wanted.get(name)]
    return (wrong + [f"{name} is lost" for name in wanted.keys() - found.keys()])[:3]


def unverified(work: Path) -> list[str]:
    """Say what ``verify`` finds in a workspace; in this process, since starting one takes longer."""
    return [f"verify: {problem}" for problems in verify_workspace(str(work)).values() for problem in problems][:2]


def digest_of(path: Path) -> str:
    """Return the digest of a file's bytes, as a receipt states it."""
    return written_file(path.read_bytes()).digest


def contents(work: Path) -> dict[str, str]:
    """Return path to digest of every published byte; of reports, which hold the time they were made at, the names only."""
    found = {}
    for path in sorted(work.rglob("*")):
        name = path.relative_to(work)
        if path.is_symlink() or not path.is_file() or name.parts[0] == ".build":
            continue
        if name.parts[0] == "models" or any(part.endswith(".zarr") for part in name.parts):
            found[str(name)] = digest_of(path)
        elif name.parts[0] == "reports" or ".partial" in name.name:
            found[str(name)] = "there"
    return found


def undisturbed(folder: Path, n_records: int, stages: Sequence[str] = STAGES, durations_s: Sequence[float] = (10.0,)) -> Bench:
    """Make the archive and run every stage once, in one workspace.

    Records of several ``durations_s``, each twice as long as the one before, make as many stores of each kind. A folder that has
    all of that already, of an earlier slice, is taken as it is.
    """
    bench = Bench(folder, folder / "archive", {}, stages)
    if (folder / LASTED).exists():
        bench.seconds.update(json.loads((folder / LASTED).read_text()))
        return bench
    folder.mkdir(parents=True, exist_ok=True)
    for seed, duration_s in enumerate(durations_s, 1):
        part = bench.archive / f"part{seed}" if len(durations_s) > 1 else bench.archive
        write_archive(part, ArchiveShape(n_records=n_records, duration_s=duration_s), seed=seed)
    return gone_through(bench)


def gone_through(bench: Bench) -> Bench:
    """Run every stage once, each in a copy of the workspace that the one before left."""
    for stage, following in zip(bench.stages, [*bench.stages[1:], "end"], strict=True):
        bench.before(stage).mkdir(exist_ok=True)
        shutil.copytree(bench.before(stage), bench.before(following), symlinks=True)
        began = time.perf_counter()
        run_well(bench.command(stage, bench.before(following)))
        bench.seconds[stage] = time.perf_counter() - began
        if contents(bench.before(stage)) == contents(bench.before(following)):
            raise SystemExit(f"{stage}: an undisturbed run left nothing, so nothing can be compared")
    (bench.folder / LASTED).write_text(json.dumps(bench.seconds))
    return bench
