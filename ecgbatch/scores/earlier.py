"""Scores that an earlier run has: a record that has not changed is not scored again by the same model.

A record's numbers depend on that record, the model, the settings and the versions only, so that taking them over gives the
very bytes that scoring again would give, on the same kind of processor.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from ecgbatch.workspace.runs import runs_by_time
from storage import TEXT, Plan, StoreError, folder_at, open_once

PLACE = ("signals_store", "signals_row", "beats_store", "beats_row", "measurements_store")
"""What a score is of: rows of a signals store, a beats store and the measurements, all named by their content's plan."""

Key = tuple[str, int, str, int, str]


def find_earlier(work: str, plan: Plan) -> str:
    """Return the path of the newest run's scores by the same model, settings and versions; empty where there are none."""
    folder = folder_at(work)
    if folder.exists(f"{plan.schema.name}/{plan.digest}.zarr/zarr.json"):
        return ""
    document = plan.document
    for run in runs_by_time(work):
        path = str(folder.path(f"{plan.schema.name}/{run}.zarr"))
        try:
            made_by = open_once(path).attrs["plan"]
        except StoreError:
            continue
        if all(made_by[name] == document[name] for name in ("schema", "schema_version", "settings", "versions")):
            return path
    return ""


def known_rows(earlier: str, rows: xr.Dataset) -> npt.NDArray[np.int64]:
    """Return each row's row in an earlier store, -1 where it has none."""
    if not earlier:
        return np.full(rows.sizes["record"], -1, np.int64)
    known = _places(earlier)
    return np.array([known.get(key, -1) for key in _keys(rows)], dtype=np.int64)


def with_known(fresh: xr.Dataset, earlier: str, known: npt.NDArray[np.int64], n_beats: int) -> xr.Dataset:
    """Return a block of all rows: those of ``fresh`` in the places where ``known`` is negative, the others from ``earlier``."""
    store = open_once(earlier)
    is_known = known >= 0
    block: dict[str, Any] = {}
    for name, variable in fresh.variables.items():
        shape = (known.size, *variable.shape[1:])
        text = variable.dtype == TEXT
        values = np.empty(shape, dtype=TEXT) if text else np.full(shape, _fill(variable), dtype=variable.dtype)
        values[~is_known] = variable.values
        found = store[name][known[is_known]].values
        if "beat" in variable.dims:
            length = min(n_beats, found.shape[1])
            values[is_known, :length] = found[:, :length]
        else:
            values[is_known] = found
        block[str(name)] = (variable.dims, values)
    return xr.Dataset(block)


def _fill(variable: xr.Variable) -> Any:
    """Return what pads a row: nothing but ``beat_probability`` is ragged, and its fill is NaN."""
    return np.nan if variable.dtype.kind == "f" else 0


@lru_cache(maxsize=2)
def _places(path: str) -> dict[Key, int]:
    return {key: row for row, key in enumerate(_keys(open_once(path)))}


def _keys(rows: xr.Dataset) -> list[Key]:
    return list(zip(*(rows[name].values.tolist() for name in PLACE), strict=True))
