"""How time and memory grow with the number of records: one thousand, ten thousand, fifty thousand tiny ones.

    python -m benchmarks.speed.stages [--sizes 1000 10000 50000] [--folder F] [--markdown FILE] [--report]

Archives are hard links to two hundred synthetic records of 10 s, 12 leads, 100 Hz. Every stage is the command that a user types,
in a process of its own, whose wall time, processor time and peak resident memory are taken; the smallest archive goes first. The
exponent is that of the wall time between the two largest sizes: 1 is linear, less where starting costs more than the records.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ecgbatch.model.files import shipped_model
from ecgbatch.synthetic.archive import ArchiveShape, write_archive

N_UNIQUE = 200
MOST_TIME, MOST_MEMORY = 5.3, 1.2
"""Of 50,000 records in units of 10,000."""


class Cost(NamedTuple):
    """Of one command."""

    wall_s: float
    processor_s: float
    """Its own: of threads, not of other processes."""
    peak_mb: float


RUN = """
import atexit, pathlib, sys, time
def tell():
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    peak = next(line.split()[1] for line in lines if line.startswith("VmHWM"))
    pathlib.Path(sys.argv[1]).write_text(f"{peak} {time.process_time()}")
atexit.register(tell)
from ecgbatch.cli import main
main(sys.argv[2:])
"""
"""A command that tells its own peak and processor time: what ``wait4`` says counts this process's memory when it forked."""


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.stages", description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 50_000], help="numbers of records, ascending")
    parser.add_argument("--folder", help="where to work (default: a temporary folder, removed at the end)")
    parser.add_argument("--markdown", type=Path, help="also write the table to this file")
    parser.add_argument("--stages", nargs="+", help="only these (convert goes first; default all)")
    parser.add_argument("--report", action="store_true", help="reports too: a page a record, a minute for 10,000")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ecgbatch-stages-", dir=options.folder) as folder:
        found = {size: measure(Path(folder), size, report=options.report, stages=options.stages) for size in options.sizes}
    text = "\n".join(table(found))
    print(text)
    if options.markdown:
        options.markdown.write_text(text + "\n")


def measure(folder: Path, n_records: int, *, report: bool, stages: list[str] | None = None) -> dict[str, Cost]:
    """Run every stage on an archive of so many records; return what each cost."""
    archive, work = folder / f"archive-{n_records}", folder / f"work-{n_records}"
    link_records(folder / "unique", archive, n_records)
    commands: dict[str, list[str | Path]] = {
        "start (--help)": ["--help"],
        "inspect": ["inspect", archive, "--json"],
        "convert": ["convert", archive, work, "--json"],
        "convert, nothing new": ["convert", archive, work, "--json"],
        "beats": ["beats", work, "--json"],
        "score": ["score", work, "--model", shipped_model(), "--json"],
        "score, nothing new": ["score", work, "--model", shipped_model(), "--json"],
        "report": ["report", work, "--json"],
        "status": ["status", work, "--json"],
        "verify --quick": ["verify", work, "--quick", "--json"],  # after the reports, which are most of what it reads
        "verify": ["verify", work, "--json"],
    }
    if not report:
        del commands["report"]
    commands = {stage: command for stage, command in commands.items() if stages is None or stage in stages}
    costs = {}
    for stage, command in commands.items():
        costs[stage] = cost_of(command, folder / "peak")
        wall_s, processor_s, peak_mb = costs[stage]
        print(f"{n_records:7d} {stage:22s} {wall_s:8.2f} s [{processor_s:8.2f}] {peak_mb:6.0f} MB", file=sys.stderr)
    shutil.rmtree(work, ignore_errors=True)
    shutil.rmtree(archive)
    return costs


def link_records(unique: Path, archive: Path, n_records: int) -> None:
    """Make an archive of hard links to a few unique records, a folder for each time they are repeated."""
    if not unique.exists():
        write_archive(unique, ArchiveShape(n_records=N_UNIQUE, duration_s=10.0, sampling_frequency_hz=100.0, n_leads=12), seed=1)
    names = (unique / "RECORDS").read_text().split()
    listed = []
    for number in range(n_records):
        name = names[number % len(names)]
        listed.append(f"again{number // len(names):04d}/{name}")
        header = archive / f"{listed[-1]}.hea"
        header.parent.mkdir(parents=True, exist_ok=True)
        os.link(unique / f"{name}.hea", header)
        os.link(unique / f"{name}.dat", header.with_suffix(".dat"))
    (archive / "RECORDS").write_text("".join(f"{name}\n" for name in listed))


def cost_of(command: list[str | Path], peak: Path) -> Cost:
    """Run a command to its end and return what it cost; records set aside are no failure."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", RUN, str(peak), *map(str, command)], stdout=subprocess.DEVNULL, check=False)
    if done.returncode not in (0, 3):
        raise RuntimeError(f"{' '.join(map(str, command))}: exit {done.returncode}")
    wall_s, (most, processor_s) = time.perf_counter() - start, peak.read_text().split()
    return Cost(wall_s, float(processor_s), int(most) / 1024)


def table(found: dict[int, dict[str, Cost]]) -> Iterator[str]:
    """Yield the lines of a table: wall time and peak memory at every size, and how they grow between the two largest."""
    sizes = sorted(found)
    few, many = sizes[-2:] if len(sizes) > 1 else (sizes[0], sizes[0])
    where = f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} at the end"
    yield f"Records of 10 s, 12 leads, 100 Hz; {where}. Wall time, processor time, peak memory."
    yield ""
    heads = [f"{size:,} records" for size in sizes]
    yield f"| stage | {' | '.join(heads)} | time {many:,} / {few:,} | exponent | memory {many:,} / {few:,} |"
    yield "|---|" + "---:|" * (len(sizes) + 3)
    for stage in found[many]:
        costs = [found[size][stage] for size in sizes]
        cells = [f"{cost.wall_s:.2f} s [{cost.processor_s:.2f}], {cost.peak_mb:.0f} MB" for cost in costs]
        before, after = found[few][stage], found[many][stage]
        exponent = math.log(after.wall_s / before.wall_s) / math.log(many / few) if many > few else 0.0
        time_ratio, memory_ratio = after.wall_s / before.wall_s, after.peak_mb / before.peak_mb
        yield f"| {stage} | {' | '.join(cells)} | {time_ratio:.2f} | {exponent:.2f} | {memory_ratio:.2f} |"
    yield ""
    yield f"To be held from 10,000 to 50,000 records: at most {MOST_TIME} times the time, {MOST_MEMORY} times the memory."


if __name__ == "__main__":
    main()
