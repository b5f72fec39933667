"""F1, F9, F10: processes killed at random instants, and several at once in one workspace."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.reliability.bench import ERASED, STAGES, UPKEEP, Bench, Cases, Runner, gone_through
from benchmarks.reliability.every_call import forker
from benchmarks.reliability.nights import bring
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
            subprocess.run(bench.command(stage, bench.before(UPKEEP[0])), capture_output=True, check=True)
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
            began = time.monotonic()
            try:
                process.wait(instant)
                bench.lasted(stage, began)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            yield f"{stage} {number} at {instant:.2f} s", process.returncode < 0, bench.problems(stage, work, runner)
            shutil.rmtree(work)


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
