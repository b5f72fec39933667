"""F2C, F3C: a kill or an error at every call of a kind that is about the workspace, whichever thread makes it.

A library of our own (calls.c) counts the calls and meets the N-th. Commands run in processes that are forked off one which has
imported all that they need, so that a case takes a second and every call can have its turn.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.reliability.bench import Bench, Cases, contents

KINDS = ("open", "fsync", "rename", "mkdir", "link", "unlink")
MOST_S = 120
"""A command that lasts longer hangs."""
MOST_CALLS = 5000
"""A sweep ends where a run was not reached by its fault any more, or here."""


class Forker:
    """A process that runs command lines of ours in forks of itself, with or without a fault."""

    def __init__(self, folder: Path) -> None:
        self.said, self.told, library = folder / "said", folder / "told", folder / "calls.so"
        source = Path(__file__).with_name("calls.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], check=True)
        command = [sys.executable, "-m", "benchmarks.reliability.every_call"]
        environment = os.environ | {"LD_PRELOAD": str(library)}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    def run(self, command: list[str], fault: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command line; its exit status is negative where a signal ended it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.told.unlink(missing_ok=True)
        asked = {"command": command, "said": str(self.said), "fault": fault or {}}
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        code = int(self.process.stdout.readline())
        return subprocess.CompletedProcess(command, code, "", self.said.read_text(errors="replace"))

    def where(self) -> str:
        """Return the path at which the last fault was met; empty if it was not."""
        return self.told.read_text().strip() if self.told.exists() else ""


@contextmanager
def forker(folder: Path) -> Iterator[Forker]:
    """Yield a forker, and end it."""
    made = Forker(folder)
    with made.process:
        yield made


def at_every_call(bench: Bench, stride: int, seed: int, faults: tuple[str, ...], folder: Path) -> Cases:
    """Let every ``stride``-th call of each kind, from the ``seed``-th on, be met by each fault: ``KILL`` or the name of an error.

    ``ENOSPC`` and ``EMFILE`` go to opens only where a kernel gives them: the former to those that may make a file.
    """
    with forker(folder) as forked:
        asked = [one for one in product(faults, KINDS, bench.stages) if one[0] != "EMFILE" or one[1] == "open"]
        numbers = range(seed, MOST_CALLS, stride)
        sweeps = [swept(bench, stage, kind, fault, numbers, forked, folder) for fault, kind, stage in asked]
        while sweeps:  # one of each in turn, so that a campaign which the clock ends has met all stages and kinds
            for sweep in list(sweeps):
                if case := next(sweep, None):
                    yield case
                else:
                    sweeps.remove(sweep)


def swept(bench: Bench, stage: str, kind: str, fault: str, numbers: range, forked: Forker, folder: Path) -> Cases:
    """Let the calls of these numbers be met, one a run, until a run has not so many."""
    for number in numbers:
        work = bench.copied(stage, folder)
        before = contents(work)
        what = {
            "CALLS_BELOW": str(work),
            "CALLS_KIND": kind,
            "CALLS_AT": str(number),
            "CALLS_ERRNO": "0" if fault == "KILL" else str(getattr(errno, fault)),
            "CALLS_MAKES": "1" if fault == "ENOSPC" else "0",
            "CALLS_TOLD": str(forked.told),
        }
        ended = forked.run(bench.command(stage, work), what)
        place = forked.where().removeprefix(f"{work}/")
        if not place:
            shutil.rmtree(work)
            break
        after = contents(work)
        wrong = ["a traceback"] if "Traceback" in ended.stderr else []
        wrong += ["it hung"] if fault != "KILL" and ended.returncode < 0 else []
        wrong += ["exit 0 though a sync failed"] if kind == "fsync" and fault != "KILL" and not ended.returncode else []
        wrong += [f"{name} was lost before the rerun" for name in before if after.get(name) != before[name]]
        wrong += bench.problems(stage, work, forked.run)
        shutil.rmtree(work)
        yield f"{stage}: {kind} {number} of {place}, {fault}", True, wrong


def serve() -> None:
    """Fork off a process for each line of the input, and print how it ended."""
    _import_all()
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if not child:
            _become(asked)
        waiting = threading.Timer(MOST_S, os.kill, (child, signal.SIGKILL))
        waiting.start()
        status = os.waitpid(child, 0)[1]
        waiting.cancel()
        print(os.waitstatus_to_exitcode(status), flush=True)


NEEDED = (
    "ecgbatch.cli",
    "ecgbatch.signals.stage",
    "ecgbatch.scores.stage",
    "ecgbatch.reports.writing",
    "flows.cluster",
    "dask.threaded",
    "torch",
)


def _import_all() -> None:
    """Import what the stages import when they need it, and load their kernels: nothing of it starts a thread of Python's."""
    from ecgbatch.beats import warm
    from ecgbatch.signals import quality

    for name in NEEDED:
        import_module(name)
    for of in (quality, warm):
        of.warm_up()
    assert threading.active_count() == 1, "a process with threads cannot be forked safely"


def _become(asked: dict[str, Any]) -> None:
    """Be the command line that was asked for, and end as it ends."""
    from ecgbatch.cli import main

    said = os.open(asked["said"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    nothing = os.open(os.devnull, os.O_RDWR)
    for mine, theirs in ((nothing, 0), (nothing, 1), (said, 2)):
        os.dup2(mine, theirs)
    os.environ.update(asked["fault"])
    sys.argv = asked["command"]
    code = 0
    try:
        main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    serve()
