"""How fast reports of a workspace are made, and what they take on disk: with all pages, those called, or none.

python -m benchmarks.speed.reports WORK [--beside CHECKOUT THEIR_WORK] [--rounds 3]

WORK holds a finished run; a copy is worked on. CHECKOUT is a checkout of an earlier commit and THEIR_WORK a workspace that it
made of the same archive (``benchmarks.speed.whole`` makes one); it runs in this environment, in turns with this tree. All is made
on one thread, by processes that have made the same reports once before, so that no start and no compiling counts.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
MODES = ("all", "called", "none")

MADE = """
import json, shutil, sys, time
from pathlib import Path
try:
    from ecgbatch.reports.writing import report_workspace
except ImportError:
    from ecgbatch.reports import report_workspace
work, run, mode = sys.argv[1:]
for _ in range(2):
    shutil.rmtree(Path(work, "reports"), ignore_errors=True)
    begun, used = time.perf_counter(), time.process_time()
    report_workspace(work, run, **({"pages": mode} if mode else {}))
    took = {"seconds": time.perf_counter() - begun, "processor": time.process_time() - used}
print(json.dumps(took))
"""
"""Of a checkout: a run's reports, made twice; an earlier one knows no ``pages``."""


def made(checkout: Path, work: Path, run: str, mode: str) -> dict[str, float]:
    """Make a run's reports by a checkout in a new process; return ``seconds``, ``processor`` seconds, ``bytes``, ``pages``."""
    command = [sys.executable, "-c", MADE, str(work), run, mode]
    environment = os.environ | {"PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=checkout, env=environment)
    took: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    files = [path for path in (work / "reports").rglob("*") if path.is_file() and "latest" not in path.relative_to(work).parts]
    n_pages = sum(path.suffix == ".html" for path in files if path.parent.name == "records")
    return took | {"bytes": sum(path.stat().st_size for path in files), "pages": n_pages}


def latest_run(work: Path) -> str:
    """Return the name of a workspace's newest scores."""
    stores = [path for path in (work / "scores").glob("*.zarr") if (path / "zarr.json").is_file()]
    if not stores:
        raise SystemExit(
            f"{work}: expected a workspace with scores, found none; ecgbatch run, or benchmarks.speed.whole, makes one"
        )
    return max(stores, key=lambda path: (path / "zarr.json").stat().st_mtime).name.removesuffix(".zarr")


def n_records_of(work: Path, run: str) -> int:
    """Return how many records a run has scored."""
    from storage import open_store

    return int(open_store(work / "scores" / f"{run}.zarr").sizes["record"])


def printed(name: str, rounds: Sequence[dict[str, float]], n_records: int) -> None:
    """Print a line of medians."""
    wall, processor = (statistics.median(one[kind] for one in rounds) for kind in ("seconds", "processor"))
    pages, n_bytes = rounds[-1]["pages"] / n_records, rounds[-1]["bytes"] / n_records
    print(
        f"{name:<12}{n_records / wall:>9,.0f}/s {1e3 * processor / n_records:>8.2f} ms cpu {n_bytes:>10,.0f} bytes a record,"
        f" {pages:.0%} with a page"
    )


def main() -> None:
    """Make the reports of all ways in turns, and print what they took."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.reports", description="Reports, with more or fewer pages.")
    parser.add_argument("work", type=Path, help="a workspace with a finished run")
    parser.add_argument("--beside", type=Path, nargs=2, metavar=("CHECKOUT", "THEIR_WORK"), help="an earlier commit's")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    ways: dict[str, tuple[Path, Path, str]] = {mode: (ROOT, options.work, mode) for mode in MODES}
    if options.beside:
        checkout, theirs = (path.resolve() for path in options.beside)
        ways = {"earlier": (checkout, theirs, "")} | ways
    found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as place:
        copies = {}
        for work in {work for _, work, _ in ways.values()}:
            copies[work] = Path(place, str(len(copies)))
            shutil.copytree(work, copies[work], ignore=shutil.ignore_patterns("reports"), symlinks=True)
        for _ in range(options.rounds):
            for way, (checkout, work, mode) in ways.items():
                found[way].append(made(checkout, copies[work], latest_run(work), mode))
    n_records = n_records_of(options.work, latest_run(options.work))
    for way, rounds in found.items():
        printed(way, rounds, n_records)
    for way in ways.keys() - {"earlier"} if options.beside else ():
        ratios = [
            statistics.median(before[kind] / now[kind] for before, now in zip(found["earlier"], found[way], strict=True))
            for kind in ("seconds", "processor", "bytes")
        ]
        print(f"{way}: {ratios[0]:.2f} times faster by wall, {ratios[1]:.2f} by processor, 1/{ratios[2]:.1f} of the bytes")


if __name__ == "__main__":
    main()
