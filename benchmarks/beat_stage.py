"""Speed of the whole beats stage's kernels on 15 leads at 1000 Hz: int16 in, R peaks, windows and flags out.

    python -m benchmarks.beat_stage ../shared/data [--rounds 7]

Prints, over interleaved rounds, medians on the wall clock and of processor time (a busy machine distorts the former only): how
many times faster than the naive way on one thread (wfdb reads, NeuroKit2 finds R peaks on lead II at 1000 Hz, or SciPy's
``find_peaks`` where it is not installed, SciPy takes every lead to 125 Hz and high-passes it, a Python loop cuts the windows);
seconds of 15-lead ECG a second on one thread and on two; the memory that detection and windows take beyond the record and the
windows themselves, at one, four, sixteen and sixty-four times the length (from an hour on it is searched in pieces).
The records are ``ptb-full``'s that have 15 leads, 115 s and longer.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import xarray as xr
from scipy.signal import butter, find_peaks, resample_poly, sosfiltfilt

from benchmarks.naive import AFTER, BEFORE, RATE_HZ
from ecgbatch.beats import beat_windows, detect_r_peaks, warm_up
from ecgbatch.records import read_record

FS = 1000.0

TIMES = 40
"""How often our side does the records in a round: some tenths of a second, or two threads' start and end weigh in."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder that holds ptb-full/")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--memory-of", type=int, help="only print the peak memory of a record this many times as long, bytes")
    options = parser.parse_args()
    paths = [options.data / "ptb-full" / name for name in (options.data / "ptb-full" / "RECORDS").read_text().split()]
    records = {path: read_record(str(path.parent), path.name) for path in paths}
    records = {path: record for path, record in records.items() if record.sizes["lead"] == 15}
    warm_up()
    if options.memory_of:
        print(peak_bytes(next(iter(records.values())), options.memory_of))
        return
    measure_speed(list(records), list(records.values()), options.rounds)
    for times in (1, 4, 16, 64):
        command = [sys.executable, "-m", "benchmarks.beat_stage", str(options.data), "--memory-of", str(times)]
        beyond = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        print(f"record of {times:2d} x 115 s: {beyond / 2**20:.1f} MiB beyond the record and the windows")


def measure_speed(paths: list[Path], records: list[Any], rounds: int) -> None:
    """Print the ratio to the naive way, the speed on one and on two threads, and how they scale."""
    batch = list(map(arrays_of, records)) * TIMES
    halves = [batch[: len(batch) // 2]] * 2
    seconds = sum(record.sizes["sample"] / FS for record in records)
    spent: dict[str, list[tuple[float, float]]] = {"naive": [], "one thread": [], "two threads": []}
    load = os.getloadavg()[0]
    with ThreadPoolExecutor(2) as pool:
        for _ in range(rounds):
            spent["naive"].append(timed(lambda: deque(map(naive_beats, paths), maxlen=0)))
            spent["one thread"].append(timed(lambda: our_shard(batch), TIMES))
            spent["two threads"].append(timed(lambda: list(pool.map(our_shard, halves)), TIMES))
    print(
        f"{len(paths)} records, {seconds:.0f} s of 15 leads at 1000 Hz, medians of {rounds} interleaved rounds, load {load:.1f}"
    )
    for which, kind in enumerate(("wall clock", "processor time")):
        one = {name: [own[which] for own in both] for name, both in spent.items()}
        for name, own in one.items():
            speed, each_ms = seconds / median(own), 1000 * median(own) / len(paths)
            print(f"{kind}: {name:12} {speed:8,.0f} s of 15-lead ECG a second, {each_ms:.1f} ms a record")
        for name in ("one thread", "two threads"):
            low, middle, high = low_middle_high(one["naive"], one[name])
            print(f"{kind}: naive over {name} {middle:.1f} ({low:.1f}-{high:.1f})")
        low, middle, high = low_middle_high(one["one thread"], one["two threads"])
        print(f"{kind}: one thread over two {middle:.2f} ({low:.2f}-{high:.2f})")


def low_middle_high(slow: list[float], fast: list[float]) -> tuple[float, float, float]:
    """Return the lowest, the median and the highest ratio of rounds."""
    ratios = sorted(a / b for a, b in zip(slow, fast, strict=True))
    return ratios[0], median(ratios), ratios[-1]


def timed(work: Callable[[], Any], times: int = 1) -> tuple[float, float]:
    """Return how long ``work`` took and its processor time, s, over ``times``."""
    begun, begun_processor = time.perf_counter(), time.process_time()
    work()
    return (time.perf_counter() - begun) / times, (time.process_time() - begun_processor) / times


def arrays_of(record: xr.Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a record's samples (lead, sample), gains and baselines (lead)."""
    return record["signal"].values, record["adc_gain"].values, record["baseline"].values


def our_beats(record: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Any:
    """Return R peaks, windows and flags of a record in memory."""
    signal, gain, baseline = record
    found = detect_r_peaks(signal, adc_gain=gain, baseline=baseline, sampling_frequency_hz=FS)
    return beat_windows(signal, found.r_sample, found.beat_flags, adc_gain=gain, sampling_frequency_hz=FS)


def our_shard(records: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> None:
    """Do the same for many records, one after another, and keep nothing: as a thread does that makes a shard."""
    deque(map(our_beats, records), maxlen=0)


def naive_beats(path: Path) -> list[np.ndarray]:
    """Return the windows of a record as one first writes it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # wfdb 4.3 uses what pandas has deprecated
        import wfdb

        record = wfdb.rdrecord(str(path))
    high_pass = butter(2, 0.5, btype="highpass", fs=RATE_HZ, output="sos")
    leads = [sosfiltfilt(high_pass, resample_poly(record.p_signal[:, lead], 1, 8)) for lead in range(record.n_sig)]
    beats = []
    for r in naive_peaks(record.p_signal[:, 1]):
        peak = round(r / 8)
        if peak >= BEFORE and peak + AFTER <= len(leads[0]):
            beats.append(np.stack([lead[peak - BEFORE : peak + AFTER] for lead in leads]))
    return beats


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
