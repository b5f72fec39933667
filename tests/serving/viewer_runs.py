"""Recordings for the viewer's tests: of twelve leads, with known pulses, gaps, unknown units."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ecgbatch.beats.lookup import extract_beats
from ecgbatch.beats.record import BeatSettings
from ecgbatch.signals.stage import convert_archive
from ecgbatch.terms import LEADS

GAIN, BASELINE = 200.0, 37
PULSE_HZ = 500.0


def write_wfdb(
    folder: Path, name: str, signal: np.ndarray, *, fs: float, units: str = "mV", leads: tuple[str, ...] = LEADS[:12]
) -> None:
    """Write (sample, lead) int16 as a WFDB record of format 16, with its checksums."""
    folder.mkdir(parents=True, exist_ok=True)
    signal.astype("<i2").tofile(folder / f"{name}.dat")
    sums = [int(values.astype(np.int64).sum() + 32768) % 65536 - 32768 for values in signal.T]
    lines = [f"{name} {signal.shape[1]} {fs:g} {signal.shape[0]}"]
    for number, lead in enumerate(leads):
        lines.append(f"{name}.dat 16 {GAIN:g}({BASELINE})/{units} 16 0 {signal[0, number]} {sums[number]} 0 {lead}")
    (folder / f"{name}.hea").write_text("\n".join(lines) + "\n")
    with (folder / "RECORDS").open("a") as names:
        names.write(f"{name}\n")


def heart(n_samples: int, fs: float, seed: int = 0) -> np.ndarray:
    """Steps of twelve leads that look like an ECG: P, QRS and T at about 70/min, some wander and noise. (sample, lead) int16."""
    draws = np.random.default_rng(seed)
    beat_s = np.cumsum(0.857 + 0.05 * draws.standard_normal(int(n_samples / fs) * 2))
    time_s = np.arange(n_samples) / fs
    from_r = time_s - beat_s[np.clip(np.searchsorted(beat_s, time_s + 0.4) - 1, 0, None)]
    waves = ((0.12, -0.17, 0.025), (-0.1, -0.025, 0.008), (1.1, 0.0, 0.010), (-0.25, 0.028, 0.009), (0.3, 0.27, 0.045))
    shape = sum(height * np.exp(-0.5 * ((from_r - at) / width) ** 2) for height, at, width in waves)
    scales = np.array([0.7, 1.0, 0.4, -0.8, 0.3, 0.7, -0.6, 0.5, 0.9, 1.3, 1.2, 0.9])
    wander = 0.1 * np.sin(2 * np.pi * 0.15 * time_s + draws.uniform(0, 6))
    noise = 0.008 * draws.standard_normal((n_samples, 12))
    return np.rint((shape[:, None] * scales + wander[:, None] + noise) * GAIN + BASELINE).astype(np.int16)


def pulses(n_samples: int) -> np.ndarray:
    """Steps of twelve leads: in I and V1 to V6 1 mV for 0.2 s, once a second, on a flat line; the others as that makes them.

    (sample, lead) int16, ``PULSE_HZ``.
    """
    time_s = np.arange(n_samples) / PULSE_HZ
    step = np.where((time_s % 1.0 >= 0.5) & (time_s % 1.0 < 0.7), GAIN, 0.0)
    return (step[:, None] * np.array([1, 1, 0, -1, 0.5, 0.5, 1, 1, 1, 1, 1, 1]) + BASELINE).astype(np.int16)


def converted(folder: Path, records: dict[str, tuple[np.ndarray, float]]) -> str:
    """Return a workspace with signals and beats of twelve-lead records, each (sample, lead) int16 and its rate."""
    for name, (signal, fs) in records.items():
        write_wfdb(folder / "archive", name, signal, fs=fs)
    work = str(folder / "work")
    convert_archive(str(folder / "archive"), work)
    extract_beats(work, BeatSettings())
    return work
