"""Rows of a store as plain values, which JSON and a digest can hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import xarray as xr

Row = Mapping[str, Any]
"""A record's row of a store, from ``plain_rows``."""


def plain_rows(dataset: xr.Dataset) -> list[dict[str, Any]]:
    """Return each row of the small columns of a store as Python values.

    Parameters
    ----------
    dataset
        Variables on ``record`` alone give a scalar (NaN is None, float32 keeps its shortest decimal form); those on further
        dimensions give the row's array, those without ``record`` the whole array, one for all rows.

    """
    columns: dict[str, list[Any]] = {}
    n_rows = dataset.sizes["record"]
    for name, variable in dataset.variables.items():
        values = variable.values
        if variable.dims == ("record",):
            columns[str(name)] = [plain_float(value) for value in values] if values.dtype.kind == "f" else values.tolist()
        else:
            columns[str(name)] = list(values) if "record" in variable.dims else [values] * n_rows
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def plain_float(value: Any) -> float | None:
    """Return a number with its shortest decimal form (of float32 too), None for one that is not finite."""
    return float(str(value)) if math.isfinite(value) else None
