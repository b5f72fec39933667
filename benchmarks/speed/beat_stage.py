"""Speed of the whole beats stage's kernels on 15 leads at 1000 Hz: int16 in, R peaks, windows and flags out.

    python -m benchmarks.speed.beat_stage ../shared/data [--rounds 7]

Prints, over interleaved rounds, medians on the wall clock and of processor time (a busy machine distorts the former only): how
many times faster than the naive way on one thread (wfdb reads, NeuroKit2 finds R peaks on lead II at 1000 Hz, or SciPy's
``find_peaks`` where it is not installed, SciPy takes every lead to 125 Hz and high-passes it, a Python loop cuts the windows);
the same for the extraction of Kachuee et al. 2018 beside its naive way; seconds of 15-lead ECG a second on one thread and on two;
the memory that detection and windows take beyond the record and the windows themselves, at one, four, sixteen and sixty-four
times the length (from an hour on it is searched in pieces). The records are ``ptb-full``'s that have 15 leads, 115 s and longer;
in ``python -m benchmarks`` without real records, synthetic ones.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import xarray as xr
from scipy.signal import butter, find_peaks, resample_poly, sosfiltfilt

from benchmarks.speed.naive import AFTER, BEFORE, RATE_HZ, paper_parts
from benchmarks.speed.section import Claim, Section, Times
from ecgbatch.beats.kachuee import kachuee_beats
from ecgbatch.beats.record import beat_windows, detect_r_peaks
from ecgbatch.beats.warm import warm_up
from ecgbatch.formats.inspection import inspect_record
from ecgbatch.formats.records import read_record
from ecgbatch.synthetic.archive import ArchiveShape, write_archive
from ecgbatch.terms import LEADS

FS, N_LEADS = 1000.0, 15

TIMES = 40
"""How often our side does the records in a round: some tenths of a second, or two threads' start and end weigh in."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder that holds ptb-full/")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--memory-of", type=int, help="only print the peak memory of a record this many times as long, bytes")
    options = parser.parse_args()
    paths = _paths(options.data / "ptb-full")
    if options.memory_of:
        warm_up()
        print(peak_bytes(read_record(str(paths[0].parent), paths[0].name), options.memory_of))
        return
    print("\n".join(section(paths, options.rounds).lines))
    for times in (1, 4, 16, 64):
        command = [sys.executable, "-m", "benchmarks.speed.beat_stage", str(options.data), "--memory-of", str(times)]
        beyond = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        print(f"record of {times:2d} x 115 s: {beyond / 2**20:.1f} MiB beyond the record and the windows")


def _paths(archive: Path) -> list[Path]:
    """Return the archive's records of ``N_LEADS``."""
    names = (archive / "RECORDS").read_text().split()
    return [archive / name for name in names if len(inspect_record(archive, name).leads) == N_LEADS]


def measure(folder: Path, *, rounds: int, data: Path | None) -> Section:
    """Measure on real records, or on synthetic ones of their length where there are none."""
    if data is not None and (data / "ptb-full" / "RECORDS").exists():
        return section(_paths(data / "ptb-full"), rounds)
    write_archive(folder / "archive", ArchiveShape(n_records=4, duration_s=115.2), seed=1)
    return section(_paths(folder / "archive"), rounds)


def section(paths: list[Path], rounds: int) -> Section:
    """Return speeds of the naive ways, of one thread and of two, in interleaved rounds, and how they scale."""
    warm_up()
    records = [arrays_of(read_record(str(path.parent), path.name)) for path in paths]
    seconds = sum(signal.shape[1] / FS for signal, *_ in records)
    times, load, share = Times(), os.getloadavg()[0], 1000 / len(records)
    ways = {"robust": (naive_beats, our_beats), "`kachuee`": (naive_paper_beats, our_paper_beats)}
    with ThreadPoolExecutor(2) as pool:
        for _ in range(rounds):
            for method, (theirs, own) in ways.items():
                batch = records * TIMES
                shard = partial(_let_go, own)
                halves = [batch[: len(batch) // 2]] * 2
                times.take(method, "naive", partial(_let_go, theirs, paths), share)
                times.take(method, "one thread", partial(shard, batch), share / TIMES)
                times.take(method, "two threads", lambda shard=shard, halves=halves: list(pool.map(shard, halves)), share / TIMES)
    out = Section("Beats alone: int16 in, windows out, nothing stored")
    out.lines = [
        f"{len(paths)} records, {seconds:.0f} s of 15 leads at 1000 Hz in memory (the naive way reads them by wfdb); medians of "
        f"{rounds} interleaved rounds, load {load:.1f}, given for 1,000 records; seconds of processor time in square brackets.",
        "",
        *times.table(list(ways), ["naive", "one thread", "two threads"]),
        "",
    ]
    for method in ways:
        rate = {way: share * seconds / median(times.wall[method, way]) for way in ("one thread", "two threads")}
        scale = times.ratios([method], "one thread", "two threads")
        over = {way: times.ratios([method], "naive", way) for way in rate}
        out.lines.append(
            f"{method}: {rate['one thread']:,.0f} s of 15-lead ECG a second on one thread, {rate['two threads']:,.0f} on two; "
            f"naive takes {_told(over['one thread'])} times as long as one thread and {_told(over['two threads'])} as two; "
            f"two are {_told(scale)} times as fast as one."
        )
        out.lines.append("")
        out.claims.append(Claim(f"{method} beats, int16 in, windows out: times faster than naive", over["two threads"], 25))
    out.claims.append(
        Claim("the same, `robust`: two threads over one", times.ratios(["robust"], "one thread", "two threads"), 1.6)
    )
    out.figures = {"wall": {"/".join(key): value for key, value in times.wall.items()}}
    return out


def _told(ratios: Sequence[float]) -> str:
    return f"{median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


def _let_go(work: Callable[[Any], Any], records: list[Any]) -> None:
    """Do the work for many records, one after another, and keep nothing: as a thread does that makes a shard."""
    deque(map(work, records), maxlen=0)


def arrays_of(record: xr.Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a record's samples (lead, sample), gains and baselines (lead)."""
    return record["signal"].values, record["adc_gain"].values, record["baseline"].values


def our_beats(record: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Any:
    """Return R peaks, windows and flags of a record in memory."""
    signal, gain, baseline = record
    found = detect_r_peaks(signal, adc_gain=gain, baseline=baseline, sampling_frequency_hz=FS)
    return beat_windows(signal, found, adc_gain=gain, sampling_frequency_hz=FS)


def our_paper_beats(record: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Any:
    """Return beats of a record in memory by the paper's extraction."""
    signal, gain, baseline = record
    return kachuee_beats(signal, adc_gain=gain, baseline=baseline, sampling_frequency_hz=FS, leads=list(LEADS[:N_LEADS]))


def naive_paper_beats(path: Path) -> Any:
    """Return beats of a record by the paper's extraction as one first writes it."""
    record = _read_by_wfdb(path)
    return paper_parts([resample_poly(record.p_signal[:, lead], 1, 8, padtype="edge") for lead in range(record.n_sig)])


def naive_beats(path: Path) -> list[np.ndarray]:
    """Return the windows of a record as one first writes it."""
    record = _read_by_wfdb(path)
    high_pass = butter(2, 0.5, btype="highpass", fs=RATE_HZ, output="sos")
    leads = [sosfiltfilt(high_pass, resample_poly(record.p_signal[:, lead], 1, 8)) for lead in range(record.n_sig)]
    beats = []
    for r in naive_peaks(record.p_signal[:, 1]):
        peak = round(r / 8)
        if peak >= BEFORE and peak + AFTER <= len(leads[0]):
            beats.append(np.stack([lead[peak - BEFORE : peak + AFTER] for lead in leads]))
    return beats


def _read_by_wfdb(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # wfdb 4.3 uses what pandas has deprecated
        import wfdb

        return wfdb.rdrecord(str(path))


def naive_peaks(lead: np.ndarray) -> np.ndarray:
    """Return R peaks as NeuroKit2 finds them by default; as ``find_peaks`` does where it is not installed."""
    try:
        import neurokit2
    except ImportError:
        return np.asarray(find_peaks(lead, height=0.5 * lead.max(), distance=int(0.3 * FS))[0])
    cleaned = neurokit2.ecg_clean(lead, sampling_rate=int(FS))
    return np.asarray(neurokit2.ecg_peaks(cleaned, sampling_rate=int(FS))[1]["ECG_R_Peaks"])


def peak_bytes(record: xr.Dataset, times: int) -> int:
    """Return the memory that a record so many times as long takes at most beyond itself and its windows, bytes (Linux)."""
    signal, gain, baseline = arrays_of(record)
    signal = np.tile(signal, times)
    our_beats((signal[:, :10_000].copy(), gain, baseline))
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to what is held now
    before = memory("VmRSS")
    cut = our_beats((signal, gain, baseline))
    return max(0, memory("VmHWM") - before - cut.waveform.nbytes)


def memory(which: str) -> int:
    """Return a figure of this process's memory, bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{which}:"))


if __name__ == "__main__":
    main()
