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

from benchmarks.reliability.bench import STAGES, Bench, Cases


def kills(bench: Bench, count: int, seed: int, folder: Path, stages: Sequence[str] = STAGES) -> Cases:
    """Kill the group of each stage's processes ``count`` times, at instants spread over an undisturbed run's time."""
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
            yield f"{stage} {number} at {instant:.2f} s", process.returncode < 0, bench.problems(stage, work)
            shutil.rmtree(work)


def contests(bench: Bench, count: int, n_writers: int, seed: int, folder: Path) -> Cases:
    """Let ``n_writers`` run the same stage at once; in every second contest freeze one, and wake it when the others have ended.

    All must end with 0: who comes second waits, follows a frozen holder, and finds the work done.
    """
    draw = random.Random(seed)
    for number in range(count):
        stage = STAGES[number // 2 % 3]
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
