"""F1, F1G, F1I, F9, F10: processes killed or told to stop at random instants, and several at once in one workspace."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.reliability.bench import (
    ERASED,
    PROGRAM,
    STAGES,
    UPKEEP,
    Bench,
    Cases,
    Runner,
    contents,
    different,
    gone_through,
    run,
    run_well,
    unverified,
)
from benchmarks.reliability.every_call import forker
from benchmarks.reliability.nights import bring
from ecgbatch.cli.exit_codes import STOPPED
from ecgbatch.synthetic.archive import ArchiveShape, write_archive
from ecgbatch.upkeep.verify import KINDS
from storage import list_stores, open_store

NIGHTS = (3, 6, 8)
"""Records that the archive has in each night before anything is erased or compacted: three stores of every kind."""


def of_nights(folder: Path) -> Bench:
    """Return a workspace of three nights, what is left when a patient is erased, that compacted, and another patient erased."""
    bench, everything = Bench(folder, folder / "archive", {}, UPKEEP), folder / "everything"
    write_archive(everything, ArchiveShape(n_records=NIGHTS[-1], duration_s=10.0), seed=5)
    names = (everything / "RECORDS").read_text().split()
    for n_records in NIGHTS:
        bring(everything, bench.archive, names[:n_records])
        for stage in STAGES:
            run_well(bench.command(stage, bench.before(UPKEEP[0])))
    return gone_through(bench)


def left_of(patient: str, work: Path) -> list[str]:
    """Say where a patient is still named: in a file's name or bytes, or in a store's decoded text."""
    named = [
        path for path in work.rglob("*") if patient in path.name or (path.is_file() and patient.encode() in path.read_bytes())
    ]
    for path in [path for kind in KINDS for path in list_stores(str(work), kind)]:
        texts = [values.values for values in open_store(path).variables.values() if values.dtype.kind == "T"]
        named += [Path(path)] if any(patient in text for values in texts for text in values.ravel().tolist()) else []
    return [f"{patient} is left in {path.relative_to(work)}" for path in named]


def upkeep_kills(bench: Bench, count: int, seed: int, folder: Path) -> Cases:
    """Kill erasures and a compaction as ``kills`` does; run again, nothing of the erased may be left."""
    gone = {stage: [ERASED[one] for one in UPKEEP[: number + 1] if one in ERASED] for number, stage in enumerate(UPKEEP)}
    with forker(folder) as forked:
        for case, hit, wrong in kills(bench, count, seed, folder, UPKEEP, forked.run):
            stage = case.rpartition(" at ")[0].rpartition(" ")[0]
            yield case, hit, wrong + [one for patient in gone[stage] for one in left_of(patient, folder / "work")]


def kills(
    bench: Bench, count: int, seed: int, folder: Path, stages: Sequence[str] = STAGES, runner: Runner | None = None
) -> Cases:
    """Kill the group of each stage's processes ``count`` times, at instants spread over an undisturbed run's time.

    The same command again is run by ``runner``, if there is one. Each case is yielded while its workspace, ``folder / "work"``,
    is still there.
    """
    draw = random.Random(seed)
    for number in range(count):
        for stage in stages:
            instant = draw.uniform(0.1, 1.0) * bench.seconds[stage]
            work = bench.copied(stage, folder)
            process = subprocess.Popen(
                bench.command(stage, work), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
            )
            _struck(process, bench, stage, instant, signal.SIGKILL)
            process.wait()
            yield f"{stage} {number} at {instant:.2f} s", process.returncode < 0, bench.problems(stage, work, runner)
            shutil.rmtree(work)


def _struck(process: subprocess.Popen[bytes], bench: Bench, stage: str, instant: float, number: signal.Signals) -> None:
    """Send a signal to all of a stage's processes after so many seconds; if it ends before, keep how long it took."""
    began = time.monotonic()
    try:
        process.wait(instant)
        bench.lasted(stage, began)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, number)


MOST_S = 60.0
"""A command that is told to stop and has not by then hangs."""


def interrupts(bench: Bench, count: int, seed: int, folder: Path) -> Cases:
    """Tell each stage to stop (Ctrl-C, to all of its processes) at random instants: it ends soon, says so, and goes on later."""
    draw = random.Random(seed)
    for number in range(count):
        for stage in bench.stages:
            instant, work = draw.uniform(0.1, 1.0) * bench.seconds[stage], bench.copied(stage, folder)
            with (folder / "said").open("w+") as said:
                process = subprocess.Popen(
                    bench.command(stage, work), stdout=subprocess.DEVNULL, stderr=said, start_new_session=True
                )
                _struck(process, bench, stage, instant, signal.SIGINT)
                wrong = _ended_in_time(process)
                said.seek(0)
                words = said.read()
            wrong += ["a traceback"] if "Traceback" in words else []
            wrong += [f"exit {process.returncode}: {words[-200:]}"] if process.returncode not in (0, STOPPED) else []
            yield f"{stage} {number} at {instant:.2f} s", process.returncode != 0, wrong + bench.problems(stage, work)
            shutil.rmtree(work)


def _ended_in_time(process: subprocess.Popen[bytes]) -> list[str]:
    try:
        process.wait(MOST_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return [f"not ended {MOST_S:.0f} s after it was told to stop"]
    return []


def gc_kills(bench: Bench, count: int, seed: int, folder: Path) -> Cases:
    """Kill ``gc --unfinished`` while it removes what a killed conversion left; the same again removes all of it, nothing else."""
    draw, left = random.Random(seed), folder / "left"
    process = subprocess.Popen(bench.command("convert", left), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(_builds(left)):
        time.sleep(0.01)
    process.kill()
    process.wait()
    wanted, lasts = contents(bench.before("end")), bench.seconds["convert"]
    for number in range(count):
        work = shutil.copytree(bench.before("end"), folder / "work", symlinks=True)
        shutil.copytree(left / ".build", work / ".build", dirs_exist_ok=True)
        command = [PROGRAM, "gc", str(work), "--unfinished"]
        had, instant = _builds(work), draw.uniform(0.1, 1.0) * lasts
        process, began = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL), time.monotonic()
        try:
            process.wait(instant)
            lasts = min(lasts, time.monotonic() - began)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        again = run(command)
        wrong = [f"exit {again.returncode}: {again.stderr[-200:]}"] if again.returncode else []
        wrong += [] if had else ["there was nothing to remove"]
        wrong += [f"{name} is still there" for name in _builds(work)] + different(contents(work), wanted) + unverified(work)
        yield f"gc {number} at {instant:.2f} s", process.returncode < 0, wrong
        shutil.rmtree(work)


def _builds(work: Path) -> list[str]:
    return sorted(path.parent.name for path in work.glob(".build/*/plan.json"))


def contests(bench: Bench, count: int, n_writers: int, seed: int, folder: Path) -> Cases:
    """Let ``n_writers`` run the same stage at once; in every second contest freeze one, and wake it when the others have ended.

    All must end with 0: who comes second waits, follows a frozen holder, and finds the work done.
    """
    draw = random.Random(seed)
    for number in range(count):
        stage = STAGES[number // 2 % 4]
        work = bench.copied(stage, folder)
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
