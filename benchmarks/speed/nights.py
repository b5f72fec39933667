"""What a year of small nights costs to open, report and verify, before and after ``ecgbatch compact``.

python -m benchmarks.speed.nights [--nights 365] [--records 2] [--keep FOLDER]

Each night leaves a few records of 10 s, 12 leads, 100 Hz (synthetic): a store of signals, of peaks, of beats, of measurements,
and one of the scores of all records so far. Then the commands are timed, a process each, before and after.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import psutil

from ecgbatch.beats.lookup import current_beats, extract_beats
from ecgbatch.beats.record import BeatSettings
from ecgbatch.measurements.lookup import current_measurements, measure_workspace
from ecgbatch.model.files import load_model, save_model, shipped_model
from ecgbatch.scores.stage import score_records
from ecgbatch.signals.stage import convert_archive
from ecgbatch.synthetic.archive import ArchiveShape, write_archive
from ecgbatch.upkeep.compact import KINDS
from ecgbatch.workspace.runs import write_run
from storage import folder_at, list_stores

COMMAND = str(Path(sys.executable).with_name("ecgbatch"))


def live_nights(everything: Path, top: Path, n_nights: int, n_records: int) -> None:
    """Make the stores that so many nights leave, each night's in a workspace of its own: a store does not know where it lies."""
    names = (everything / "RECORDS").read_text().split()
    settings = BeatSettings(**load_model(shipped_model()).beats)
    work = top / "work"
    for night in range(n_nights):
        archive, tonight = top / "tonight", top / "tonight-work"
        for name in names[night * n_records : (night + 1) * n_records]:
            (archive / name).parent.mkdir(parents=True, exist_ok=True)
            for path in (everything / name).parent.glob(f"{Path(name).name}.*"):
                os.link(path, (archive / name).parent / path.name)
        convert_archive(str(archive), str(tonight))
        extract_beats(str(tonight), settings)
        measure_workspace(str(tonight), settings.document())
        for kind in ("signals", "peaks", "beats", "measurements"):
            for path in list_stores(tonight, kind):
                (work / kind).mkdir(parents=True, exist_ok=True)
                Path(path).rename(work / kind / Path(path).name)
        shutil.rmtree(archive)
        shutil.rmtree(tonight)
    convert_archive(str(everything), str(work))
    records = current_measurements(str(work), current_beats(str(work), settings.document()))
    model = shipped_model()
    kept = save_model(load_model(model), work / "models" / load_model(model).digest[:20])
    for night in range(n_nights):
        scored = score_records(work, records.isel(record=slice(0, (night + 1) * n_records)), kept)
        write_run(str(work), Path(scored).stem, {"archive": str(everything)})


def cost_of(*arguments: str | Path) -> tuple[float, float]:
    """Run a command to its end; return wall time and processor time, s."""
    start, process = time.perf_counter(), psutil.Popen([COMMAND, *map(str, arguments), "--json"], stdout=-3, stderr=-3)
    spent = 0.0
    while process.poll() is None:
        try:
            times = process.cpu_times()
            spent = times.user + times.system
        except psutil.Error:
            break
        time.sleep(0.02)
    if process.wait() not in (0, 3):
        raise RuntimeError(f"ecgbatch {' '.join(map(str, arguments))}: exit {process.returncode}")
    return time.perf_counter() - start, spent


def costs(archive: Path, work: Path) -> dict[str, tuple[float, float]]:
    """Return what each command costs on a workspace, in which nothing is new."""
    return {
        "convert, nothing new": cost_of("convert", archive, work),
        "beats, nothing new": cost_of("beats", work),
        "score, nothing new": cost_of("score", work, "--model", shipped_model()),
        "report, pages written anew": cost_of("report", work),
        "report, nothing new": cost_of("report", work),
        "status": cost_of("status", work),
        "verify --quick": cost_of("verify", work, "--quick"),
        "verify": cost_of("verify", work),
    }


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nights", type=int, default=365)
    parser.add_argument("--records", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="Leave the workspace here.")
    asked = parser.parse_args()
    top = Path(tempfile.mkdtemp(prefix="ecgbatch-nights-")) if asked.keep is None else asked.keep
    work, everything = top / "work", top / "archive"
    n_records = asked.nights * asked.records
    write_archive(everything, ArchiveShape(n_records=n_records, duration_s=10.0, sampling_frequency_hz=100.0, n_leads=12), seed=1)
    start = time.perf_counter()
    live_nights(everything, top, asked.nights, asked.records)
    print(f"{asked.nights} nights of {asked.records} records: {time.perf_counter() - start:.0f} s", flush=True)
    before = state_of(work), costs(everything, work)
    seconds = cost_of("compact", work)
    after = state_of(work), costs(everything, work)
    print(f"compact: {seconds[0]:.1f} s, {seconds[1]:.1f} s of processor time; load {os.getloadavg()[0]:.1f}")
    print("| | before | after |\n|---|---:|---:|")
    for what in before[0]:
        print(f"| {what} | {before[0][what]:,} | {after[0][what]:,} |")
    for what, (wall, spent) in before[1].items():
        print(f"| {what} | {wall:.1f} s, {spent:.1f} s | {after[1][what][0]:.1f} s, {after[1][what][1]:.1f} s |")
    if asked.keep is None:
        shutil.rmtree(top)


def state_of(work: Path) -> dict[str, int]:
    """Return how many stores, files and bytes a workspace's stores are."""
    stores = {f"stores of {kind}": len(list_stores(work, kind)) for kind in KINDS}
    files = [n_bytes for kind in KINDS for _, n_bytes in folder_at(work).files(kind)]
    return stores | {"files of stores": len(files), "bytes of stores": sum(files)}


if __name__ == "__main__":
    main()
