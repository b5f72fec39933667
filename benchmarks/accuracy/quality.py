"""Quality flags measured: faults planted on real records that carry no flag, and flags on the same records untouched.

    python -m benchmarks.accuracy.quality DATA

prints the table of docs/quality.md. ``DATA`` is a folder with the collections ``ptb`` and ``ptb-10s``.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ecgbatch.archive.finding import find_records
from ecgbatch.formats.header import UnreadableRecord
from ecgbatch.formats.records import read_record
from ecgbatch.signals.quality import lead_flags
from ecgbatch.terms import LEAD_FLAGS, LEADS, MISSING_SAMPLE

SECONDS = 20.0
JUDGED = (
    "missing",
    "gaps",
    "flat",
    "clipped",
    "noisy",
    "wander",
    "powerline",
    "implausible_amplitude",
    "lead_sum",
    "suspected_swap",
)
Array = np.ndarray[Any, Any]


class Excerpt(NamedTuple):
    """The first seconds of one record, as float adu for planting."""

    patient: str
    signal: Array
    gain: Array
    baseline: Array
    fs: float
    leads: list[str]

    def flags(self, signal: Array) -> Array:
        """Return the flags of another signal in this record's place."""
        whole = np.clip(np.rint(signal), -32767, 32767)
        stored = np.where(np.isnan(whole), MISSING_SAMPLE, whole).astype(np.int16)
        return lead_flags(stored, self.gain, self.baseline, self.fs, self.leads)


def excerpts(data: Path) -> Iterator[Excerpt]:
    """Yield the excerpt of every readable record."""
    for archive in ("ptb", "ptb-10s"):
        for name in find_records(data / archive):
            try:
                record = read_record(data / archive, name)
            except UnreadableRecord:
                continue
            fs = record.attrs["sampling_frequency_hz"]
            signal = record["signal"].values[:, : round(SECONDS * fs)].astype(np.float64)
            yield Excerpt(
                name.split("/")[0],
                signal,
                record["adc_gain"].values,
                record["baseline"].values,
                fs,
                record["lead"].values.tolist(),
            )


def _noise(one: Excerpt, lead: int, rng: np.random.Generator) -> Array:
    band = np.convolve(rng.normal(0, 1, one.signal.shape[1]), np.ones(max(1, round(0.004 * one.fs))), mode="same")
    return one.signal[lead] + 0.1 * one.gain[lead] * band / band.std()


def _sine(one: Excerpt, lead: int, hz: float, millivolts: float) -> Array:
    return one.signal[lead] + millivolts * one.gain[lead] * np.sin(2 * np.pi * hz * np.arange(one.signal.shape[1]) / one.fs)


def _clip(one: Excerpt, lead: int) -> Array:
    centre = np.median(one.signal[lead])
    distance = np.abs(one.signal[lead] - centre)
    return np.clip(one.signal[lead], centre - np.quantile(distance, 0.98), centre + np.quantile(distance, 0.98))


def _gap(one: Excerpt, lead: int) -> Array:
    values = one.signal[lead].copy()
    values[100:200] = np.nan
    return values


ON_A_LEAD: dict[str, tuple[str, Callable[[Excerpt, int, np.random.Generator], Array]]] = {
    "no samples": ("missing", lambda one, _lead, _: np.full(one.signal.shape[1], np.nan)),
    "a gap of 100 samples": ("gaps", lambda one, lead, _: _gap(one, lead)),
    "a straight line": ("flat", lambda one, _lead, _: np.full(one.signal.shape[1], 7.0)),
    "cut at the 98th percentile": ("clipped", lambda one, lead, _: _clip(one, lead)),
    "muscle noise, 0.1 mV rms": ("noisy", _noise),
    "50 Hz, 0.05 mV": ("powerline", lambda one, lead, _: _sine(one, lead, 50.0, 0.05)),
    "60 Hz, 0.05 mV": ("powerline", lambda one, lead, _: _sine(one, lead, 60.0, 0.05)),
    "wander, 1.2 mV at 0.25 Hz": ("wander", lambda one, lead, _: _sine(one, lead, 0.25, 1.2)),
    "gain wrong, times 20": ("implausible_amplitude", lambda one, lead, _: 20 * one.signal[lead]),
}
LIMB = LEADS[:6]


def swapped(one: Excerpt, kind: str) -> Array:
    """Return the record as it would be with two limb electrodes exchanged."""
    first, second, third = one.signal[:3]
    new = {"RA with LA": (-first, third), "RA with LL": (-third, -second), "LA with LL": (second, first)}[kind]
    i, ii = new
    return np.concatenate([[i, ii, ii - i, -(i + ii) / 2, i - ii / 2, ii - i / 2], one.signal[6:]])


def measure(data: Path) -> tuple[dict[str, tuple[str, int, int]], dict[str, tuple[int, int]], int, int]:
    """Return hits and trials of each fault, false alarms and leads of each flag, and the numbers of records and patients."""
    found: dict[str, Counter[bool]] = {}
    alarms: Counter[str] = Counter()
    n_leads, n_records, patients = 0, 0, set()
    flag_of = {name: flag for name, (flag, _) in ON_A_LEAD.items()}
    rng = np.random.default_rng(0)
    for one in excerpts(data):
        clean = one.flags(one.signal)
        n_records, n_leads = n_records + 1, n_leads + len(clean)
        patients.add(one.patient)
        for flag in JUDGED:
            alarms[flag] += int(((clean & LEAD_FLAGS[flag]) > 0).sum())
        for name, (flag, plant) in ON_A_LEAD.items():
            lead = int(rng.integers(0, len(clean)))
            if clean[lead] & LEAD_FLAGS[flag]:
                continue
            signal = one.signal.copy()
            signal[lead] = plant(one, lead, rng)
            found.setdefault(name, Counter())[bool(one.flags(signal)[lead] & LEAD_FLAGS[flag])] += 1
        if tuple(one.leads[:6]) != LIMB:
            continue
        lead = int(rng.integers(0, 6))
        signal = one.signal.copy()
        signal[lead] = -signal[lead]
        if not (clean & LEAD_FLAGS["lead_sum"]).any():
            found.setdefault("one limb lead turned over", Counter())[bool(one.flags(signal)[lead] & LEAD_FLAGS["lead_sum"])] += 1
            flag_of["one limb lead turned over"] = "lead_sum"
        if not (clean & LEAD_FLAGS["suspected_swap"]).any():
            for kind in ("RA with LA", "RA with LL", "LA with LL"):
                name = f"electrodes exchanged: {kind}, {'with' if 'Vx' in one.leads else 'without'} Frank's leads"
                hit = bool((one.flags(swapped(one, kind))[:6] & LEAD_FLAGS["suspected_swap"]).any())
                found.setdefault(name, Counter())[hit] += 1
                flag_of[name] = "suspected_swap"
    faults = {name: (flag_of[name], counts[True], counts.total()) for name, counts in found.items()}
    return faults, {flag: (alarms[flag], n_leads) for flag in JUDGED}, n_records, len(patients)


def main() -> None:
    """Print both tables."""
    faults, alarms, n_records, n_patients = measure(Path(sys.argv[1]))
    print(f"{n_records} records of {n_patients} patients, first {SECONDS:g} s each\n")
    print("| fault planted on one lead (or on the record) | flag | found |\n|---|---|---|")
    for name, (flag, hits, trials) in faults.items():
        print(f"| {name} | `{flag}` | {hits} of {trials} ({100 * hits / trials:.0f} %) |")
    print("\n| flag | leads that carry it untouched |\n|---|---|")
    for flag, (hits, leads) in alarms.items():
        print(f"| `{flag}` | {hits} of {leads} ({100 * hits / leads:.1f} %) |")


if __name__ == "__main__":
    main()
