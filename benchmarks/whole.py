"""All stages on an archive in a process of its own: ``python -m benchmarks.whole ARCHIVE WORK [MODEL]`` prints what it took."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

STAGES = ("convert", "beats", "score", "report")


def run(archive: Path, work: Path, model: Path | None = None) -> dict[str, Any]:
    """Run all stages in a new process; return ``seconds`` by stage, ``processor`` seconds and ``peak_bytes`` of memory."""
    command = [sys.executable, "-m", "benchmarks.whole", str(archive), str(work), *([str(model)] if model else [])]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Convert, cut beats, score and report, and print what it took as JSON."""
    from benchmarks import ours
    from ecgbatch.model import load_model, shipped_model
    from ecgbatch.reports import report_workspace
    from ecgbatch.runs import write_run
    from flows.cluster import engine

    archive, work = Path(sys.argv[1]), Path(sys.argv[2])
    model = Path(sys.argv[3]) if len(sys.argv) > 3 else shipped_model()
    load_model(model)
    seconds: dict[str, float] = {}
    named: list[str] = []

    def report() -> None:
        write_run(str(work), named[0], {"model": model.name})
        with engine() as on_threads:
            report_workspace(str(work), named[0], map=on_threads)

    steps = (
        lambda: ours.convert(archive, work),
        lambda: ours.beats(work, ours.ROBUST),
        lambda: named.append(ours.score(work, model)),
        report,
    )
    processor = time.process_time()
    for stage, step in zip(STAGES, steps, strict=True):
        begun = time.perf_counter()
        step()
        seconds[stage] = time.perf_counter() - begun
    print(json.dumps({"seconds": seconds, "processor": time.process_time() - processor, "peak_bytes": peak_bytes()}))


def peak_bytes() -> int:
    """Return the most memory that this program has held; ``getrusage`` would count what its parent held when it was started."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    main()
