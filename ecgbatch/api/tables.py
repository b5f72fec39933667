"""A workspace's tables, one row a record that is in the archive now, with words for codes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from ecgbatch.api.windows import what_is_seen
from ecgbatch.beats.lookup import current_beats
from ecgbatch.measurements.lookup import current_measurements
from ecgbatch.measurements.stage import MEASUREMENTS
from ecgbatch.reports.lead_columns import LeadValues
from ecgbatch.reports.tables import lead_facts
from ecgbatch.scores.scorable import with_own_status
from ecgbatch.scores.table import SCORES, scores_path
from ecgbatch.signals.lookup import current_records, signals_path
from ecgbatch.signals.table import SIGNALS
from ecgbatch.terms import FAULTY_LEAD, LEAD_FLAGS, QUALITY, STATUS, words_of_mask
from ecgbatch.workspace.runs import latest_run
from storage import Variable, folder_at, load_columns

_OF_RECORDS = (
    "patient_id",
    "patient_unknown",
    "status",
    "reason",
    "status_detail",
    "label",
    "mi",
    "quality",
    "n_leads",
    "n_leads_usable",
    "flags_by_lead",
    "n_samples",
    "sampling_frequency_hz",
    "duration_s",
    "age_years",
    "sex",
    "diagnosis",
    "infarct_location",
    "infarct_age",
    "recording_year",
    "warnings",
    "label_rule",
    "signals_store",
    "signals_row",
)
"""Columns of ``records_table``, in order."""

_PLACES = ("signals_store", "signals_row")


def records_table(work: str) -> pd.DataFrame:
    """Return the records that are in the archive now; as ``Workspace.records`` says."""
    found = current_records(work)
    columns = _columns(found, SIGNALS.variables) | {name: _plain(found[name].values) for name in _PLACES} | _of_leads(work, found)
    rate = found["sampling_frequency_hz"].values
    columns["duration_s"] = np.divide(found["n_samples"].values, rate, out=np.full(rate.size, np.nan), where=rate > 0)
    columns["patient_unknown"] = found["patient_unknown"].values == 1
    return _frame(found, {name: columns[name] for name in _OF_RECORDS})


def _of_leads(work: str, found: xr.Dataset) -> dict[str, Any]:
    """Return what the leads of each record make: number, number without a fault, quality, remarks lead by lead."""
    n_records, stores = found.sizes["record"], found["signals_store"].values
    n_leads, n_usable = np.zeros(n_records, np.int64), np.zeros(n_records, np.int64)
    quality, said = np.zeros(n_records, np.int8), np.full(n_records, "", object)
    is_set_aside = found["status"].values == STATUS["set_aside"]
    for digest in sorted(set(stores.tolist())):
        store = load_columns(signals_path(work, digest), ("lead", "lead_flags"))
        here = np.flatnonzero(stores == digest)
        flags, leads = store["lead_flags"].values[found["signals_row"].values[here]], store["lead"].values.tolist()
        is_own = (flags & LEAD_FLAGS["missing"]) == 0
        n_leads[here], n_usable[here] = is_own.sum(axis=1), ((flags & FAULTY_LEAD) == 0).sum(axis=1)
        alike: dict[tuple[bytes, bool], dict[str, Any]] = {}  # most records of an archive have the same flags
        for place, own, aside in zip(here.tolist(), flags, is_set_aside[here].tolist(), strict=True):
            key = (own.tobytes(), aside)
            if key not in alike:
                alike[key] = lead_facts(leads, own, is_set_aside=aside)
            quality[place], said[place] = alike[key]["quality"], alike[key]["flags_by_lead"]
    told = {"quality": pd.Categorical.from_codes(quality, list(QUALITY)), "flags_by_lead": pd.array(said, dtype="str")}
    return {"n_leads": n_leads, "n_leads_usable": n_usable, **told}


def scores_table(work: str) -> pd.DataFrame:
    """Return the scores of the latest run, of records that have not changed since; as ``Workspace.scores`` says."""
    run = latest_run(work)
    scores = with_own_status(load_columns(scores_path(work, run)))
    current = current_records(work, ["record_name"])
    now = set(zip(*(current[name].values.tolist() for name in ("record_name", *_PLACES)), strict=True))
    places = zip(*(scores[name].values.tolist() for name in ("record_name", *_PLACES)), strict=True)
    scores = scores.isel(record=np.flatnonzero([place in now for place in places]))
    frame = _frame(scores, _columns(scores, SCORES.variables))
    frame.attrs = {"run": run, "model": scores.attrs["settings"]["model"]["digest"]}
    return frame


def measurements_table(work: str) -> pd.DataFrame:
    """Return the measurements of every record; as ``Workspace.measurements`` says."""
    records = current_beats(work, what_is_seen("robust"), ["record_name", "patient_id"])
    stores = current_measurements(work, records)["measurements_store"].values
    rows, names = records["beats_row"].values, [name for name, one in MEASUREMENTS.columns().items() if one.dims == ("record",)]
    parts = []
    for digest in sorted(set(stores.tolist())):
        here = np.flatnonzero(stores == digest)
        found = load_columns(folder_at(work).path(f"measurements/{digest}.zarr"), tuple(names)).isel(record=rows[here])
        parts.append(pd.DataFrame(_columns(found, MEASUREMENTS.variables), index=here))
    frame = pd.concat(parts).sort_index() if parts else pd.DataFrame()
    of_leads = pd.DataFrame(dict(LeadValues(folder_at(work), stores, rows).columns(slice(None))))
    patients = {"patient_id": pd.array(records["patient_id"].values.tolist(), dtype="str")}
    return _frame(records, patients | dict(frame.items()) | dict(of_leads.items()))


def _frame(of: xr.Dataset, columns: Mapping[str, Any]) -> pd.DataFrame:
    index = pd.Index(of["record_name"].values.tolist(), dtype="str", name="record_name")
    return pd.DataFrame(
        {name: np.asarray(one) if isinstance(one, pd.Series) else one for name, one in columns.items()}, index=index
    )


def _columns(of: xr.Dataset, variables: Mapping[str, Variable]) -> dict[str, Any]:
    """Return the variables on dimension ``record`` alone, codes as words: of bits, with a space between."""
    return {
        name: _in_words(of[name].values, variable)
        for name, variable in variables.items()
        if variable.dims == ("record",) and name in of and name != "record_name"
    }


def _in_words(values: Any, variable: Variable) -> Any:
    if variable.flags is None:
        return _plain(values)
    if not variable.is_mask:
        places = {code: place for place, code in enumerate(variable.flags.values())}
        return pd.Categorical.from_codes([places[code] for code in values.tolist()], list(variable.flags))
    words = {mask: " ".join(words_of_mask(mask, variable.flags)) for mask in set(values.tolist())}
    return pd.array([words[mask] for mask in values.tolist()], dtype="str")


def _plain(values: Any) -> Any:
    return pd.array(values.tolist(), dtype="str") if values.dtype.kind == "T" else values
