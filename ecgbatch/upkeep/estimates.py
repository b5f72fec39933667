"""What a command will take, from arithmetic and measured rates: for ``--dry-run``."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from ecgbatch.signals.stage import plan_signals

RATES = {
    "convert": 60e6,  # decoded bytes
    "beats": 4_000.0,  # seconds of 12 to 15 lead ECG
    "measure": 150.0,  # records
    "train": 2_000.0,  # beats of one epoch of one member
    "score": 5_000.0,  # beats
    "report": 25.0,  # records
}
"""Work per second on two processors of 2023, measured by ``make bench`` on PTB-shaped records; within a factor of two."""

TYPICAL_HEART_RATE_BPM = 75.0
BYTES_PER_BEAT = 15 * 88 * 2
SHARD_MEMORY_BYTES = 3 * 32_000_000
"""A block, its copy read back, and its encoded form, of one worker."""

EPOCHS_TIMES_MEMBERS = 30 * 5
BYTES_PER_MEASUREMENT = 560
"""Of a record of twelve leads."""
BYTES_PER_SAMPLE = 12 * 2
"""Of twelve leads: what shards of measurements are cut by."""
BYTES_PER_REPORT = 150_000


def estimate_conversion(listing: xr.Dataset) -> dict[str, Any]:
    """Return the stores, shards, decoded bytes, memory of a worker, and minutes that converting ``listing`` takes."""
    plans = [plan.estimate() for plan in plan_signals(listing)]
    n_bytes = sum(plan["bytes"] for plan in plans)
    memory = max((plan["memory_bytes_per_worker"] for plan in plans), default=0)
    stage = {"shards": sum(plan["shards"] for plan in plans), "bytes": n_bytes, "memory_bytes_per_worker": memory}
    return {"convert": stage | {"records": listing.sizes["record"], "minutes": _minutes(n_bytes, "convert")}}


def estimate_stages(records: xr.Dataset, stages: list[str], earlier: dict[str, Any]) -> dict[str, Any]:
    """Add stages to an estimate, and the sums over all: shards, bytes, memory of a worker, minutes.

    Parameters
    ----------
    records
        Table with ``n_samples`` and ``sampling_frequency_hz`` (record).
    stages
        Of ``RATES``.
    earlier
        Stages estimated before, as ``estimate_conversion`` gives them.

    """
    fs = np.maximum(records["sampling_frequency_hz"].values.astype(float), 1.0)
    seconds = float((records["n_samples"].values / fs).sum())
    n_records, n_beats = records.sizes["record"], int(seconds * TYPICAL_HEART_RATE_BPM / 60)
    work = {"beats": seconds, "train": n_beats * EPOCHS_TIMES_MEMBERS, "score": n_beats}
    work |= dict.fromkeys(("measure", "report"), n_records)
    n_bytes = {"beats": n_beats * BYTES_PER_BEAT, "train": 0, "score": 4 * n_beats}
    n_bytes |= {"measure": n_records * BYTES_PER_MEASUREMENT, "report": n_records * BYTES_PER_REPORT}
    cut_by = n_bytes | {"measure": int(records["n_samples"].values.sum()) * BYTES_PER_SAMPLE}
    estimate = dict(earlier)
    for stage in stages:
        estimate[stage] = {
            "shards": max(1, round(cut_by[stage] / 32_000_000)),
            "bytes": n_bytes[stage],
            "memory_bytes_per_worker": SHARD_MEMORY_BYTES,
            "minutes": _minutes(work[stage], stage),
        }
    parts = list(estimate.values())
    total = {name: sum(part[name] for part in parts) for name in ("shards", "bytes", "minutes")}
    return estimate | total | {"memory_bytes_per_worker": max(part["memory_bytes_per_worker"] for part in parts)}


def _minutes(work: float, stage: str) -> float:
    return round(work / RATES[stage] / 60, 3)
