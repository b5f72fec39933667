"""All stages on an archive in a process of its own: ``python -m benchmarks.speed.whole ARCHIVE WORK [--model M] [--warm]``.

It prints what they took as JSON, all records having a page; ``--warm`` converts two other records first, so that libraries and
kernels are loaded; ``--only STAGE`` stops there; ``--called`` makes the reports once more, with pages of those called alone.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.speed.section import processor_seconds
from ecgbatch.synthetic.archive import ArchiveShape

STAGES = ("convert", "beats", "measure", "score", "report")
CALLED = "called"
"""Reports made once more, with pages of those called alone."""


def run(archive: Path, work: Path, model: Path | None = None, *, warm: bool = False) -> dict[str, Any]:
    """Run all stages in a new process; return ``seconds`` and ``processor`` seconds by stage, and ``peak_bytes`` of memory."""
    command = [sys.executable, "-m", "benchmarks.speed.whole", str(archive), str(work)]
    command += ["--model", str(model)] * (model is not None) + ["--warm"] * warm
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Convert, cut beats, measure, score and report, and print what it took as JSON."""
    from benchmarks.speed import ours
    from ecgbatch.model.files import load_model, shipped_model
    from ecgbatch.reports.writing import report_workspace
    from ecgbatch.synthetic.archive import write_archive
    from ecgbatch.workspace.runs import write_run
    from flows.cluster import report_engine

    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.whole", description="All stages, timed.")
    parser.add_argument("archive", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--model", type=Path, default=shipped_model())
    parser.add_argument("--warm", action="store_true", help="convert two other records first")
    parser.add_argument("--only", choices=STAGES, help="stop after this stage")
    parser.add_argument("--called", action="store_true", help="then the reports again, with pages of the records called alone")
    options = parser.parse_args()
    archive, work, model = options.archive, options.work, options.model
    load_model(model)
    if options.warm:
        with tempfile.TemporaryDirectory() as folder:
            write_archive(
                Path(folder, "archive"), ArchiveShape(n_records=2, duration_s=10, sampling_frequency_hz=500, n_leads=12)
            )
            ours.convert(Path(folder, "archive"), Path(folder, "work"))
    seconds: dict[str, float] = {}
    processor: dict[str, float] = {}
    named: list[str] = []

    def report(pages: str = "all") -> None:
        write_run(str(work), named[0], {"model": model.name})
        with report_engine() as on_engine:
            report_workspace(str(work), named[0], pages=pages, map=on_engine)

    steps = (
        lambda: ours.convert(archive, work),
        lambda: ours.beats(work, ours.ROBUST),
        lambda: ours.measure(work, ours.ROBUST),
        lambda: named.append(ours.score(work, model)),
        report,
    )
    reported: dict[str, dict[str, int]] = {}

    def timed(stage: str, step: Callable[[], None]) -> None:
        begun, used = time.perf_counter(), processor_seconds()
        step()
        seconds[stage], processor[stage] = time.perf_counter() - begun, processor_seconds() - used
        if stage in ("report", CALLED):
            reported[stage] = size_of(work)

    for stage, step in zip(STAGES, steps, strict=True):
        timed(stage, step)
        if stage == options.only:
            break
    if options.called:
        shutil.rmtree(work / "reports")
        timed(CALLED, lambda: report("called"))
    print(json.dumps({"seconds": seconds, "processor": processor, "peak_bytes": peak_bytes(), "reported": reported}))


def size_of(work: Path) -> dict[str, int]:
    """Return the ``bytes`` of a workspace's reports and their number of ``pages``."""
    runs = [path for path in (work / "reports").iterdir() if path.is_dir() and not path.is_symlink()]
    files = [path for run in runs for path in run.rglob("*") if path.is_file()]
    n_pages = sum(path.suffix == ".html" and path.parent.name == "records" for path in files)
    return {"bytes": sum(path.stat().st_size for path in files), "pages": n_pages}


def peak_bytes() -> int:
    """Return the most memory that this process has held, not those it started.

    ``getrusage`` would count what its parent held when it was started.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    main()
