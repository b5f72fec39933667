"""F18: many nights in one process, as a schedule that is never restarted would have them."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil

from benchmarks.reliability.bench import Bench, Cases, unverified
from ecgbatch.model import shipped_model

NEW_EVERY = 10
"""Nights of which one finds a new record."""

MOST_BYTES_A_NIGHT = 40_000
"""Of growth that is let pass: what a night's line in a list of 400 bytes takes, a hundred times over."""


def many_nights(bench: Bench, count: int, folder: Path, by: str) -> Cases:
    """Have ``count`` nights in one process; then its memory, descriptors, threads and leftovers must not have grown.

    By ``stages``: the functions that the single commands call, under their lock. By ``flow``: with Prefect and its server.

    The last four cases are the growth, from the median of the second quarter of the nights to that of the last.
    """
    work, archive, state = folder / "work", folder / "growing", folder / "prefect"
    environment = os.environ | {"PREFECT_HOME": str(state), "XDG_STATE_HOME": str(state)}
    environment.pop("PREFECT_API_URL", None)
    command = [sys.executable, "-m", "benchmarks.reliability.nights", str(bench.archive), str(archive), str(work), str(count), by]
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


def live(source: str, archive: str, work: str, count: int, by: str) -> None:
    """Have the nights, and print what the process holds after each."""
    names = (Path(source) / "RECORDS").read_text().split()
    with ExitStack() as stack:
        if by == "flow":
            from flows.server import prefect_server

            stack.enter_context(prefect_server(work))
        for night in range(count):
            new = names[: 1 + night // NEW_EVERY]
            for path in Path(source).glob(f"{new[-1]}.*"):
                (Path(archive) / new[-1]).parent.mkdir(parents=True, exist_ok=True)
                if not (Path(archive) / f"{new[-1]}{path.suffix}").exists():
                    shutil.copy2(path, Path(archive) / f"{new[-1]}{path.suffix}")
            counts = _by_flow(archive, work) if by == "flow" else _by_stages(archive, work)
            process = psutil.Process()
            held = {
                "is_new": night % NEW_EVERY == 0,
                "ok": counts["n_records"] == len(new),
                "bytes": process.memory_info().rss,
                "descriptors": process.num_fds(),
                "threads": process.num_threads(),
                "leftovers": sum(1 for path in (Path(work) / ".build").rglob("*") if path.is_file()),
            }
            print(json.dumps(held), flush=True)


def _by_flow(archive: str, work: str) -> dict[str, Any]:
    from flows.score import run_archive

    counts: dict[str, Any] = run_archive(archive, work, model=str(shipped_model()))["counts"]
    return counts


def _by_stages(archive: str, work: str) -> dict[str, Any]:
    from ecgbatch.beats import BeatSettings, extract_beats
    from ecgbatch.model import load_model
    from ecgbatch.reports import report_workspace
    from ecgbatch.runs import log_file, name_log, write_run
    from ecgbatch.scoring import score_workspace
    from ecgbatch.signals import convert_archive
    from flows.cluster import engine
    from storage import only_writer

    with only_writer(work, "run"), log_file(work), engine() as on_engine:
        convert_archive(archive, work, map=on_engine)
        extract_beats(work, BeatSettings(**load_model(shipped_model()).beats), map=on_engine)
        run = score_workspace(work, str(shipped_model()), map=on_engine)
        write_run(work, run, {"archive": archive, "model": str(shipped_model())})
        counts: dict[str, Any] = report_workspace(work, run, map=on_engine)["counts"]
        name_log(work, run)
    return counts


if __name__ == "__main__":
    live(*sys.argv[1:4], count=int(sys.argv[4]), by=sys.argv[5])
