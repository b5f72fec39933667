"""Make a store from rows of published ones: the same kind, the same versions, other rows. What was published never changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from storage.folder import Folder
from storage.plan import Plan, Shard
from storage.reading import open_once
from storage.schema import Schema, Variable


def schema_of(store: xr.Dataset) -> Schema:
    """Return the schema that a published store was made by, from its own plan: of whatever version."""
    plan = store.attrs["plan"]
    variables = {name: _variable(described) for name, described in plan["variables"].items()}
    row_dim = plan.get("row_dim") or next(variable.dims[0] for variable in variables.values() if variable.bulk)
    return Schema(plan["schema"], plan["schema_version"], row_dim, store.attrs["title"], variables)


def _variable(described: Mapping[str, Any]) -> Variable:
    inner = described["inner_chunk"]
    kept = {name: value for name, value in described.items() if name not in ("dims", "inner_chunk")}
    return Variable(dims=tuple(described["dims"]), inner_chunk=None if inner is None else tuple(inner), **kept)


def planned_like(plan: Plan, store: xr.Dataset, settings: Mapping[str, Any]) -> Plan:
    """Return a plan with the schema and the versions of a published store, whose content it takes over, and these settings."""
    versions = store.attrs["plan"]["versions"]
    return replace(plan, schema=schema_of(store), settings=dict(settings), versions=dict(versions))


@dataclass(frozen=True)
class Origin:
    """Where each row of a new store comes from.

    Parameters
    ----------
    stores
        Paths of published stores of the new one's kind.
    store, row : (row,) int64
        Index into ``stores``, -1 where the row has no origin and is fill; row there.
    given
        Columns that are not taken over: their values in the whole new store.

    """

    stores: tuple[str, ...]
    store: np.ndarray[Any, Any]
    row: np.ndarray[Any, Any]
    given: Mapping[str, np.ndarray[Any, Any]]


def copied(shard: Shard, _rows: xr.Dataset, *, origin: Origin, schema: Schema, sizes: Mapping[str, int]) -> xr.Dataset:
    """Return a shard of a new store: each row from its origin, cut or filled up to the new store's other dimensions."""
    here = slice(shard.start, shard.stop)
    store_of, row_of = origin.store[here], origin.row[here]
    shape = {**sizes, schema.row_dim: shard.stop - shard.start}
    taken = {name: variable for name, variable in (schema.bulk() | schema.columns()).items() if name not in origin.given}
    block = {
        name: np.full([shape[dim] for dim in variable.dims], variable.fill_value, dtype=variable.numpy_dtype)
        for name, variable in taken.items()
    }
    for number in np.unique(store_of[store_of >= 0]).tolist():
        store, mine = open_once(origin.stores[number]), store_of == number
        for name, values in block.items():
            found = store[name].variable
            box = tuple(slice(0, min(new, old)) for new, old in zip(values.shape[1:], found.shape[1:], strict=True))
            rows = values[mine]
            rows[(slice(None), *box)] = found[(row_of[mine], *box)].values
            values[mine] = rows
    block |= {name: values[here].astype(schema.variables[name].numpy_dtype) for name, values in origin.given.items()}
    return xr.Dataset({name: (schema.variables[name].dims, values) for name, values in block.items()})


def remove_store(folder: Folder, key: str) -> None:
    """Remove a published store: its root document first, so that at no moment half of it looks whole."""
    if folder.exists(f"{key}/zarr.json"):
        folder.delete(f"{key}/zarr.json")
        folder.sync((), below=key)
    remove_whole(folder, key)


def remove_whole(folder: Folder, key: str) -> None:
    """Remove a file or everything below a prefix, and see that it is gone.

    Raises
    ------
    OSError
        If anything is left: an erasure must not end while a patient's samples lie there.

    """
    folder.delete(key)
    if left := next(folder.files(key), None):
        raise OSError(f"{folder}/{left[0]}: cannot be removed; look at the disk and at rights, then run the same command again")
