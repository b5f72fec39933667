"""F2, F3: a kill or an error at the N-th call of a kind, or at the calls that touch the places every run uses; strace does it.

A fault that does not kill must end without a traceback; a failed sync must not end with exit 0.
"""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from benchmarks.reliability.bench import Bench, Cases, contents

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

PLACED = (("convert", "signals"), ("beats", "beats"), ("measure", "measurements"), ("score", "scores"))
"""Stages whose places are met, and the kind of store that each publishes."""

MOST_CALLS = 400
"""A sweep ends where a run was not reached by its fault any more, or here."""


def injected(bench: Bench, stride: int, what: str, folder: Path) -> Cases:
    """Let each ``stride``-th call of a kind be met by ``what`` (``signal=KILL`` or ``error=EIO``), one a run."""
    for stage in bench.stages[:2]:
        for call in SWEPT:
            for number in range(1, MOST_CALLS, stride):
                work = bench.copied(stage, folder)
                _, hit, wrong = _met(bench.command(stage, work), call, f"{what}:when={number}", folder)
                yield f"{stage}: {call} {number}, {what}", hit, wrong + bench.problems(stage, work)
                shutil.rmtree(work)
                if not hit:
                    break


def injected_at_places(
    bench: Bench, faults: Sequence[str], folder: Path, *, places: Sequence[tuple[str, str]] = PLACES, seed: int = 1
) -> Cases:
    """Let the first and the second call that touches a fixed place be met by each fault; the old state must be intact then.

    The order is drawn by ``seed``, so that a campaign which the clock ends has met some of every stage and place.
    """
    cases = list(product(PLACED, places, (1, 2), faults))
    random.Random(seed).shuffle(cases)
    for (stage, kind), (call, pattern), number, what in cases:
        work, place = bench.copied(stage, folder), pattern.format(kind=kind)
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
