"""F18: many nights in one process, as a schedule that is never restarted would have them."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil

from benchmarks.reliability.bench import Bench, Cases, unverified
from ecgbatch.model.files import shipped_model

NEW_EVERY = 10
"""Nights of which one finds a new record."""

MOST_RECORDS = 5
"""Of the archive, fewer in a short campaign: it has them before the second quarter of the nights; from then on a new record
comes in the oldest's place.

What a night works in grows with the records that it scores and reports, so an archive that grows looks like a leak: in 200 nights
that ended with 20 records the process went from 416 to 454 MB, of which the allocator had given out 103 and 104 MB.
"""

LEAST_NIGHTS = 8

N_NAMES = 200_000
"""Of paths that are made and forgotten after the first night. Python 3.11 interns every part of a path, in one table that takes
its final size, 3.8 MB more, when some 80,000 names have come and gone, and never grows again (tried with three million): after
some 150 nights here, in the middle of what is compared.
"""

MOST_BYTES_A_NIGHT = 40_000
"""Of growth that is let pass: what a night's line in a list of 400 bytes takes, a hundred times over."""


def many_nights(bench: Bench, count: int, minutes: float, folder: Path, by: str) -> Cases:
    """Have ``count`` nights in one process; then its memory, descriptors, threads and leftovers must not have grown.

    By ``stages``: the functions that the single commands call, under their lock. By ``flow``: with Prefect and its server. After
    so many ``minutes`` no more nights begin, and those that were are judged.

    The last five cases are the growth, from the median of the second quarter of the nights to that of the last: what the process
    has of the machine's memory when the allocator has handed back what it keeps for the next night, what it has given out,
    descriptors, threads, files in ``.build``.
    """
    work, archive, state = folder / "work", folder / "growing", folder / "prefect"
    environment = os.environ | {"PREFECT_HOME": str(state), "XDG_STATE_HOME": str(state)}
    environment.pop("PREFECT_API_URL", None)
    command = [sys.executable, "-m", "benchmarks.reliability.nights", str(bench.archive), str(archive), str(work)]
    command += [str(count), str(minutes), by]
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
    yield from _growth(nights)


def _growth(nights: list[dict[str, Any]]) -> Cases:
    """Compare the nights' second quarter with their last; tell memory by eighths, which shows whether a growth levels off."""
    if len(nights) < LEAST_NIGHTS:
        yield "nights", True, [f"expected {LEAST_NIGHTS} or more to compare, there were {len(nights)}"]
        return
    quarter, eighth = len(nights) // 4, len(nights) // 8
    parts = [statistics.median(night["bytes"] for night in nights[eighth * part : eighth * (part + 1)]) for part in range(8)]
    print(f"  memory by eighths of {len(nights)} nights, MB: {', '.join(f'{part / 1e6:.1f}' for part in parts)}", flush=True)
    most_bytes = MOST_BYTES_A_NIGHT * 2 * quarter
    allowed = {"bytes": most_bytes, "bytes given out": most_bytes, "descriptors": 2, "threads": 2, "leftovers": 0}
    for name, most in allowed.items():
        parts = nights[quarter : 2 * quarter], nights[-quarter:]
        first, last = (statistics.median(night[name] for night in part) for part in parts)
        said = f"{name}: {first:,.0f}, at the end {last:,.0f}"
        print(f"  {said}", flush=True)
        yield said, True, [said] if last - first > most else []


def live(source: str, archive: str, work: str, count: int, minutes: float, by: str) -> None:
    """Have the nights, and print what the process holds after each."""
    names, began = (Path(source) / "RECORDS").read_text().split(), time.monotonic()
    with ExitStack() as stack:
        if by == "flow":
            from flows.server import prefect_server

            stack.enter_context(prefect_server(work))
        for night in range(count):
            if time.monotonic() - began > 60 * minutes:
                break
            is_new, come = night % NEW_EVERY == 0, 1 + night // NEW_EVERY
            there = names[max(0, come - max(1, min(MOST_RECORDS, count // 4 // NEW_EVERY))) : come]
            if is_new:
                bring(Path(source), Path(archive), there)
            counts = _by_flow(archive, work) if by == "flow" else _by_stages(archive, work)
            if not night:
                for number in range(N_NAMES):
                    Path(f"{number:x} come and gone")
            given_out, process = _given_out(), psutil.Process()
            held = {
                "is_new": is_new,
                "ok": counts["n_records"] == len(there),
                "bytes": process.memory_info().rss,
                "bytes given out": given_out,
                "descriptors": process.num_fds(),
                "threads": process.num_threads(),
                "leftovers": sum(1 for path in (Path(work) / ".build").rglob("*") if path.is_file()),
            }
            print(json.dumps(held), flush=True)


def bring(source: Path, archive: Path, names: list[str]) -> None:
    """Let an archive have these records of another, and no others."""
    for header in archive.rglob("*.hea"):
        if header.relative_to(archive).with_suffix("").as_posix() not in names:
            for path in header.parent.glob(f"{header.stem}.*"):
                path.unlink()
    for name in names:
        (archive / name).parent.mkdir(parents=True, exist_ok=True)
        if not (archive / f"{name}.hea").exists():
            for path in source.glob(f"{name}.*"):
                shutil.copy2(path, (archive / name).parent)


class _Mallinfo(ctypes.Structure):
    """What glibc's ``mallinfo2`` tells of all arenas, in bytes; ``uordblks`` and ``hblkhd`` are what is given out."""

    _names = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    _fields_ = [(name, ctypes.c_size_t) for name in _names]


def _given_out() -> int:
    """Let the allocator hand back what it keeps for the next night; return the bytes that it has given out and not got back."""
    library = ctypes.CDLL(None)
    library.malloc_trim(0)
    library.mallinfo2.restype = _Mallinfo
    told = library.mallinfo2()
    return int(told.uordblks + told.hblkhd)


def _by_flow(archive: str, work: str) -> dict[str, Any]:
    from flows.chosen import prefect_if_wanted
    from flows.score import run_archive

    with prefect_if_wanted(True):
        counts: dict[str, Any] = run_archive(archive, work, model=str(shipped_model()))["counts"]
    return counts


def _by_stages(archive: str, work: str) -> dict[str, Any]:
    from ecgbatch.beats.lookup import extract_beats
    from ecgbatch.beats.record import BeatSettings
    from ecgbatch.model.files import load_model
    from ecgbatch.reports.writing import report_workspace
    from ecgbatch.scores.stage import score_workspace
    from ecgbatch.signals.stage import convert_archive
    from ecgbatch.workspace.runs import log_file, name_log, write_run
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
    live(*sys.argv[1:4], count=int(sys.argv[4]), minutes=float(sys.argv[5]), by=sys.argv[6])
