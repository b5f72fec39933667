"""What a command will take, from arithmetic and measured rates: for ``--dry-run``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from ecgbatch.signals.table import plan_signals

START_S = 2.0
"""Of a command until its first stage begins: imports, and a look at what is there."""

STAGE_S = {"convert": 1.0, "beats": 1.0, "measure": 0.7, "train": 4.0, "score": 1.3, "report": 0.7}
"""Of a stage that has something to do, before its first record: what is compiled is read, and what is left behind is written."""

RECORD_S = {"convert": 0.0005, "beats": 0.0004, "measure": 0.010, "train": 0.0, "score": 0.013, "report": 0.014}
"""Of a stage for each record, however short."""

WORK_S = {
    "convert": 0.0014,  # of a megabyte, decoded
    "beats": 0.00001,  # here and below: of a second of ECG
    "measure": 0.0,
    "train": 0.0001,  # of a beat in one epoch of one member
    "score": 0.00012,
    "report": 0.00006,
}
"""Of a stage for what is in the records. All four were measured on two processors of 2023 with ``ecgbatch run`` on 40 to 1,600
records of 10 to 110 s, and lie between a machine of one's own and one that others use as well: within a factor of two."""

TYPICAL_HEART_RATE_BPM = 75.0
BYTES_PER_BEAT = 15 * 88 * 2
SHARD_MEMORY_BYTES = 3 * 32_000_000
"""A block, its copy read back, and its encoded form, of one worker."""

EPOCHS_TIMES_MEMBERS = 30 * 5
BYTES_PER_MEASUREMENT = 560
"""Of a record of twelve leads."""
BYTES_PER_SAMPLE = 12 * 2
"""Of twelve leads: what shards of measurements are cut by."""
BYTES_PER_REPORT = 105_000
"""Of a record with a page: 96 to 104 kB for ten seconds of twelve leads, more where the patient has other recordings or the
recording is long; without a page 3 kB. (``benchmarks.speed.reports``)"""


def estimate_conversion(listing: xr.Dataset) -> dict[str, Any]:
    """Return the stores, shards, decoded bytes, memory of a worker, and minutes that converting ``listing`` takes."""
    plans = [plan.estimate() for plan in plan_signals(listing)]
    n_bytes, n_records = sum(plan["bytes"] for plan in plans), listing.sizes["record"]
    memory = max((plan["memory_bytes_per_worker"] for plan in plans), default=0)
    stage = {"shards": sum(plan["shards"] for plan in plans), "bytes": n_bytes, "memory_bytes_per_worker": memory}
    return {"convert": stage | {"records": n_records, "minutes": _minutes("convert", n_records, n_bytes / 1e6)}}


def estimate_stages(pending: Mapping[str, xr.Dataset], earlier: dict[str, Any]) -> dict[str, Any]:
    """Add stages to an estimate, and the sums over all: shards, bytes, memory of a worker, minutes (the command's start too).

    Parameters
    ----------
    pending
        Stage to the records that it has still to work on: a table with ``n_samples`` and ``sampling_frequency_hz`` (record).
    earlier
        Stages estimated before, as ``estimate_conversion`` gives them.

    """
    stages = earlier | {stage: _stage(stage, records) for stage, records in pending.items()}
    parts = list(stages.values())
    total = {name: sum(part[name] for part in parts) for name in ("shards", "bytes", "minutes")}
    total["minutes"] = round(total["minutes"] + START_S / 60, 3)
    memory = max((part["memory_bytes_per_worker"] for part in parts), default=0)
    return {**stages, **total, "start_minutes": round(START_S / 60, 3), "memory_bytes_per_worker": memory}


def _stage(stage: str, records: xr.Dataset) -> dict[str, Any]:
    n_samples, n_records = records["n_samples"].values, records.sizes["record"]
    seconds = float((n_samples / np.maximum(records["sampling_frequency_hz"].values.astype(float), 1.0)).sum())
    n_beats = int(seconds * TYPICAL_HEART_RATE_BPM / 60)
    work = n_beats * EPOCHS_TIMES_MEMBERS if stage == "train" else seconds
    n_bytes = {"beats": n_beats * BYTES_PER_BEAT, "train": 0, "score": 4 * n_beats}
    n_bytes |= {"measure": n_records * BYTES_PER_MEASUREMENT, "report": n_records * BYTES_PER_REPORT}
    cut_by = n_bytes | {"measure": int(n_samples.sum()) * BYTES_PER_SAMPLE}
    return {
        "records": n_records,
        "shards": max(1, round(cut_by[stage] / 32_000_000)) if n_records else 0,
        "bytes": n_bytes[stage],
        "memory_bytes_per_worker": SHARD_MEMORY_BYTES if n_records else 0,
        "minutes": _minutes(stage, n_records, work),
    }


def _minutes(stage: str, n_records: int, work: float) -> float:
    seconds = STAGE_S[stage] + n_records * RECORD_S[stage] + work * WORK_S[stage] if n_records else 0.0
    return round(seconds / 60, 3)
