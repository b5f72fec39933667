"""One record's samples in millivolts, by its name."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from ecgbatch.api.lazy import RecordRow, Samples, Times, lazily
from ecgbatch.signals.lookup import signals_path
from ecgbatch.terms import LEAD_FLAGS, words_of_mask
from storage import read_columns

_MOST_COMPARED = 20_000  # names, when one that was asked for is none of them

_COLUMNS = ("lead", "lead_flags", "adc_gain", "baseline", "n_samples", "sampling_frequency_hz", "patient_id")


def signals_of(work: str, records: pd.DataFrame, record: str) -> xr.DataArray:
    """Return the samples of a record; as ``Workspace.signals`` says."""
    check_names(work, records, [record])
    told = records.loc[record]
    if told["status"] == "set_aside":
        raise ValueError(
            f"{work}: {record} has no samples: it is set aside, reason {told['reason']} ({told['status_detail']}). "
            "docs/reason-codes.md says what to do; `.records` has status and reason of every record"
        )
    path, place = signals_path(work, str(told["signals_store"])), int(told["signals_row"])
    row = read_columns(path, np.array([place]), _COLUMNS)
    flags = row["lead_flags"].values[0]
    own = np.flatnonzero((flags & LEAD_FLAGS["missing"]) == 0)
    fs, n_samples = float(row["sampling_frequency_hz"].values[0]), int(row["n_samples"].values[0])
    where = RecordRow(path, place, own, row["adc_gain"].values[0, own], row["baseline"].values[0, own], n_samples)
    said = [" ".join(words_of_mask(mask, LEAD_FLAGS)) for mask in flags[own].tolist()]
    coordinates: dict[str, Any] = {
        "lead": ("lead", row["lead"].values[own].astype(object)),
        "lead_flags": ("lead", np.array(said, object)),
        "time_s": lazily(("sample",), Times(n_samples, fs), {"units": "s"}),
    }
    stated = {"units": "mV", "sampling_frequency_hz": fs, "record_name": record, "patient_id": str(told["patient_id"])}
    return xr.DataArray(lazily(("lead", "sample"), Samples(where), stated), coordinates, name="signal")


def check_names(work: str, records: pd.DataFrame, names: list[str]) -> None:
    """Refuse names that are no record's, with the nearest that are."""
    unknown = [name for name in names if name not in records.index]
    if not unknown:
        return
    near = get_close_matches(str(unknown[0]), records.index.tolist(), 3, 0.5) if len(records) <= _MOST_COMPARED else []
    said = f" The nearest names: {', '.join(near)}." if near else ""
    raise ValueError(
        f"{work}: expected names of records that are in the archive now (`.records.index`), found none named {unknown[0]!r}"
        f"{f', nor {len(unknown) - 1} others' if unknown[1:] else ''}.{said}"
    )
