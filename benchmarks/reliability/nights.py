"""F18: many nights in one process, as a schedule that is never restarted would have them."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import psutil

from benchmarks.reliability.bench import Bench, Cases, unverified
from ecgbatch.model import shipped_model

NEW_EVERY = 10
"""Nights of which one finds a new record."""

MOST_BYTES_A_NIGHT = 40_000
"""Of growth that is let pass: what a night's line in a list of 400 bytes takes, a hundred times over."""


def many_nights(bench: Bench, count: int, folder: Path) -> Cases:
    """Call the flow ``count`` times in one process; then its memory, descriptors, threads and leftovers must not have grown.

    The last four cases are the growth, from the median of the second quarter of the nights to that of the last.
    """
    work, archive, state = folder / "work", folder / "growing", folder / "prefect"
    environment = os.environ | {"PREFECT_HOME": str(state), "XDG_STATE_HOME": str(state)}
    environment.pop("PREFECT_API_URL", None)
    command = [sys.executable, "-m", "benchmarks.reliability.nights", str(bench.archive), str(archive), str(work), str(count)]
    nights = []
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{"):
                night = json.loads(line)
                nights.append(night)
                yield f"night {len(nights)}", night["is_new"], [] if night["ok"] else [f"outcome {night}"]
    yield "the process", True, [f"exit {process.returncode} after {len(nights)} nights"] if process.returncode else []
    yield "verify", True, unverified(work)
    quarter = max(1, len(nights) // 4)
    for name, most in (("bytes", MOST_BYTES_A_NIGHT * 2 * quarter), ("descriptors", 2), ("threads", 2), ("leftovers", 0)):
        first, last = (
            statistics.median(night[name] for night in part) for part in (nights[quarter : 2 * quarter], nights[-quarter:])
        )
        said = f"{name}: {first:,.0f}, at the end {last:,.0f}"
        print(f"  {said}", flush=True)
        yield said, True, [said] if last - first > most else []


def live(source: str, archive: str, work: str, count: int) -> None:
    """Have the nights, and print what the process holds after each."""
    from flows.server import prefect_server

    names = (Path(source) / "RECORDS").read_text().split()
    with prefect_server(work):
        from flows.score import run_archive

        for night in range(count):
            new = names[: 1 + night // NEW_EVERY]
            for path in Path(source).glob(f"{new[-1]}.*"):
                (Path(archive) / new[-1]).parent.mkdir(parents=True, exist_ok=True)
                if not (Path(archive) / f"{new[-1]}{path.suffix}").exists():
                    shutil.copy2(path, Path(archive) / f"{new[-1]}{path.suffix}")
            done = run_archive(archive, work, model=str(shipped_model()))
            process = psutil.Process()
            held = {
                "is_new": night % NEW_EVERY == 0,
                "ok": done["counts"]["n_records"] == len(new),
                "bytes": process.memory_info().rss,
                "descriptors": process.num_fds(),
                "threads": process.num_threads(),
                "leftovers": sum(1 for path in (Path(work) / ".build").rglob("*") if path.is_file()),
            }
            print(json.dumps(held), flush=True)


if __name__ == "__main__":
    live(*sys.argv[1:4], count=int(sys.argv[4]))
