"""Read published stores."""

from __future__ import annotations

import hashlib
import json
import re
from functools import lru_cache
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from storage.address import is_address
from storage.arrays import open_array, read_rows
from storage.columns import column_rows, read_proved
from storage.errors import CorruptStore, ForeignStore, UnfinishedStore
from storage.folder import Folder
from storage.location import folder_at
from storage.plan import canonical_json
from storage.receipts import RECEIPTS
from storage.shards import Layout, decode_rows, layout_of


def open_store(path: str | Path) -> xr.Dataset:
    """Open a published store, lazily indexed (nothing is decoded until values are asked for).

    Returns
    -------
    xarray.Dataset
        As the schema says; attributes ``schema``, ``schema_version``, ``digest``, ``settings``, ``versions``, ``plan``.

    Raises
    ------
    UnfinishedStore
        If there is no finished store at ``path``.
    ForeignStore
        If it was not written by ``storage.build``.
    CorruptStore
        If its root document was altered or is another store's; from the values, when they are asked for: if the files of a small
        column are not those that were written, or a chunk of a bulk variable is missing or does not have its checksum.

    """
    folder = folder_at(path)
    attributes = read_root(folder)
    _check_root(folder, attributes)
    described, files = attributes["plan"]["variables"], attributes["files"]
    store = folder.zarr_store(read_only=True)
    dataset: xr.Dataset = xr.open_zarr(store, consolidated=False, chunks=None, zarr_format=3, decode_cf=False)
    proved = {name: _proved(folder, name, dataset[name].variable, files) for name in described if not described[name]["bulk"]}
    if is_address(path):
        return dataset.assign(proved)  # there Zarr fetches many ranges at once
    bulk = {name: dataset[name].variable for name, variable in described.items() if variable["bulk"]}
    return dataset.assign(proved | {name: _read_by_shards(folder, name, variable) for name, variable in bulk.items()})


def _check_root(folder: Folder, attributes: dict[str, Any]) -> None:
    """Refuse a root document that does not fit its seal, and one that lies below the digest of another store."""
    if not fits_seal(attributes):
        raise CorruptStore(f"{folder}/zarr.json: altered: its attributes do not fit their seal; see ecgbatch verify --repair")
    name = folder.root.name.removesuffix(".zarr")
    if _DIGEST.fullmatch(name) and name != attributes["digest"]:
        raise CorruptStore(f"{folder}: holds the store {attributes['digest']}: in another's place; see ecgbatch verify --repair")


def fits_seal(attributes: dict[str, Any]) -> bool:
    """Tell whether a root's attributes are those that its seal was made of."""
    unsealed = {key: value for key, value in attributes.items() if key != "seal"}
    return bool(attributes.get("seal") == hashlib.sha256(canonical_json(unsealed)).hexdigest())


_DIGEST = re.compile("[0-9a-f]{20}")


def _proved(folder: Folder, name: str, variable: xr.Variable, files: dict[str, list[Any]]) -> xr.Variable:
    """Return a small column whose files are compared with their digests before their values are given."""
    own = {key: file for key, file in files.items() if key.startswith(f"{name}/")}
    lazy: Any = indexing.LazilyIndexedArray(_ProvedArray(folder, name, variable, own))
    kept = indexing.MemoryCachedArray(indexing.CopyOnWriteArray(lazy))  # type: ignore[no-untyped-call]
    return xr.Variable(variable.dims, kept, variable.attrs, variable.encoding)


class _ProvedArray(BackendArray):
    """A small column as xarray reads it: to Zarr a chunk that is gone is one of fill."""

    def __init__(self, folder: Folder, name: str, variable: xr.Variable, files: dict[str, list[Any]]) -> None:
        self._folder, self._name, self._variable, self._files = folder, name, variable, files
        self.shape, self.dtype = variable.shape, variable.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        self._prove()
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _prove(self) -> None:
        """Compare the files with their digests, once; or by each of several threads that come at the same time."""
        files = self._files
        for key in files:
            read_proved(self._folder, key, files)
        self._files = {}

    def _read(self, key: tuple[Any, ...]) -> np.ndarray[Any, Any]:
        return np.asarray(self._variable[key].values)


def _read_by_shards(folder: Folder, name: str, variable: xr.Variable) -> xr.Variable:
    """Return a variable whose values are decoded on the thread that asks for them; the one given if that is not possible."""
    layout = layout_of(folder.read(f"{name}/zarr.json"))
    if layout is None:
        return variable
    lazy: Any = indexing.LazilyIndexedArray(_ShardedArray(folder, name, layout))
    kept = indexing.MemoryCachedArray(indexing.CopyOnWriteArray(lazy))  # type: ignore[no-untyped-call]
    return xr.Variable(variable.dims, kept, variable.attrs, variable.encoding)


class _ShardedArray(BackendArray):
    """A sharded array as xarray reads it."""

    def __init__(self, folder: Folder, name: str, layout: Layout) -> None:
        self._folder, self._name, self._layout = folder, name, layout
        self.shape, self.dtype = layout.shape, layout.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray[Any, Any]:
        """Return the values at whole numbers, slices and arrays of whole numbers, a dimension each."""
        wanted = [numbers_of(part, length) for part, length in zip(key, self.shape, strict=True)]
        shape = tuple(len(numbers) for part, numbers in zip(key, wanted, strict=True) if not isinstance(part, int | np.integer))
        if any(len(numbers) == 0 for numbers in wanted):
            return np.empty(shape, dtype=self.dtype)
        rows, rest = wanted[0], wanted[1:]
        in_order = np.argsort(rows, kind="stable") if (np.diff(rows) < 0).any() else None
        box = tuple(slice(int(numbers.min()), int(numbers.max()) + 1) for numbers in rest)
        found = self._rows(rows if in_order is None else rows[in_order], box)
        if in_order is not None:
            found = found[np.argsort(in_order)]
        for axis, (numbers, part) in enumerate(zip(rest, box, strict=True), 1):
            if len(numbers) != part.stop - part.start or (np.diff(numbers) != 1).any():
                found = found.take(numbers - part.start, axis=axis)
        return found.reshape(shape)

    def _rows(self, rows: np.ndarray[Any, Any], box: tuple[slice, ...]) -> np.ndarray[Any, Any]:
        """Return rows in order, cut to the box; shard by shard."""
        found = np.empty((len(rows), *(part.stop - part.start for part in box)), dtype=self.dtype)
        shard_of = rows // self._layout.shard[0]
        for shard in np.unique(shard_of).tolist():
            low, high = np.searchsorted(shard_of, [shard, shard + 1]).tolist()
            key = f"{self._name}/c/{shard}" + "/0" * len(box)
            first, where = shard * self._layout.shard[0], f"{self._folder}/{key}"
            try:
                with self._folder.reader(key) as read:
                    decode_rows(self._layout, read, first, rows[low:high], box, found[low:high], where)
            except FileNotFoundError:
                if self._n_bytes(shard):
                    raise CorruptStore(f"{where}: missing; see ecgbatch verify --repair") from None
                found[low:high] = self._layout.fill
        return found

    def _n_bytes(self, shard: int) -> int:
        """Return how large the file of a shard was written: 0 where it holds fill alone, and then there is none."""
        sizes = open_array(self._folder, RECEIPTS, f"{self._name}_file_bytes", read_only=True)
        return int(read_rows(sizes, shard, shard + 1)[0])


def numbers_of(part: Any, length: int) -> np.ndarray[Any, Any]:
    """Return the whole numbers that one dimension's part of an index means: of a slice, a number or an array of numbers."""
    if isinstance(part, slice):
        return np.arange(*part.indices(length))
    numbers = np.atleast_1d(np.asarray(part, dtype=np.int64))
    return np.where(numbers < 0, numbers + length, numbers)


def open_once(path: str | Path, keep: tuple[str, ...] | None = None) -> xr.Dataset:
    """Open a published store once a process (opening costs 30 ms, and a worker does it for every shard); keep its columns.

    Safe because a published store never changes; one that was removed and built anew is opened anew.

    Parameters
    ----------
    keep
        Names of the small columns to hold in memory, if that is known: text takes a hundred bytes a row. Default all; one
        that the store lacks, because it is of an earlier version, is passed over.

    """
    version = folder_at(path).version("zarr.json")
    if not version:
        return open_store(path)
    with _lock_of(str(path)):  # threads that begin together would each hold what they opened
        return _open_once(str(path), version, keep).copy()


@lru_cache(maxsize=256)
def _lock_of(_path: str) -> RLock:
    return RLock()


KEPT_COLUMN_BYTES = 8_000_000
"""Small columns up to this size stay in memory once a store is opened by ``open_once``: each read of one costs 2 ms."""


@lru_cache(maxsize=16)
def _open_once(path: str, _version: str, keep: tuple[str, ...] | None) -> xr.Dataset:
    store = open_store(path)
    described = store.attrs["plan"]["variables"]
    for name in store.variables if keep is None else store.variables.keys() & set(keep):
        variable = store.variables[name]
        if not described[str(name)]["bulk"] and variable.nbytes <= KEPT_COLUMN_BYTES:
            variable.load()
    return store


BLOCK_ROWS = 4096
"""Rows of small columns that ``read_columns`` keeps together: some megabytes, however many rows a store has. A column's chunk
has sixteen times as many, so each is decoded sixteen times on the way through a store."""


def read_columns(path: str | Path, rows: np.ndarray[Any, Any], names: tuple[str, ...] | None = None) -> xr.Dataset:
    """Return rows, on dimension ``record``, of small columns of a published store, in memory.

    What lies beside them is kept for the next call: a store that is read in order of its rows, a few at a time, takes the
    memory of a few thousand rows.

    Parameters
    ----------
    rows : (row,) int
        In any order; near ones should be asked for together.
    names
        Of the columns, default all; one that the store lacks, because it is of an earlier version, is passed over. Columns
        that are not on ``record`` come whole.

    """
    block_of = rows // BLOCK_ROWS
    version, parts, order = folder_at(path).version("zarr.json"), [], np.argsort(block_of, kind="stable")
    for block in np.unique(block_of).tolist() or [0]:
        with _lock_of(str(path)):
            kept = _read_block(str(path), version, names, block)
        parts.append(kept.isel(record=rows[block_of == block] - block * BLOCK_ROWS))
    if len(parts) == 1:
        return parts[0]
    place, columns = np.argsort(order), dict(parts[0].variables)
    for name, variable in columns.items():
        if variable.dims[:1] == ("record",):
            values = np.concatenate([part.variables[name].values for part in parts])[place]
            columns[name] = xr.Variable(variable.dims, values, variable.attrs, fastpath=True)
    return xr.Dataset(columns, attrs=parts[0].attrs)


@lru_cache(maxsize=8)
def _read_block(path: str, _version: str, names: tuple[str, ...] | None, block: int) -> xr.Dataset:
    return _columns(path, names, block * BLOCK_ROWS, (block + 1) * BLOCK_ROWS)


def forget_columns() -> None:
    """Let go of what ``read_columns`` keeps for its next call."""
    _read_block.cache_clear()


def load_columns(path: str | Path, names: tuple[str, ...] | None = None) -> xr.Dataset:
    """Return the small columns of a published store in memory, all or some; ``open_store(path).load()`` of no more than them."""
    return _columns(path, names, 0, None)


def _columns(path: str | Path, names: tuple[str, ...] | None, start: int, stop: int | None) -> xr.Dataset:
    """Return these rows of columns on dimension ``record``, and the columns that are on others."""
    folder, store = folder_at(path), open_once(path, ())
    described, files, columns = store.attrs["plan"]["variables"], store.attrs["files"], {}
    for name, variable in store.variables.items():
        if described[str(name)]["bulk"] or not (names is None or name in names):
            continue
        values = column_rows(folder, str(name), files, start, stop) if variable.dims[0] == "record" else None
        if values is None:
            values = variable.isel(record=slice(start, stop), missing_dims="ignore").values
        columns[name] = xr.Variable(variable.dims, values, variable.attrs, fastpath=True)
    return xr.Dataset(columns, attrs=store.attrs)


def read_root(folder: Folder) -> dict[str, Any]:
    """Return the root attributes of a store."""
    try:
        raw = folder.read("zarr.json")
    except (FileNotFoundError, NotADirectoryError):
        raise UnfinishedStore(f"{folder}: no finished store here (no zarr.json); run the command that makes it again") from None
    try:
        attributes = json.loads(raw)["attributes"]
    except (ValueError, KeyError, TypeError) as error:
        raise ForeignStore(f"{folder}/zarr.json: expected the root of a store, found {type(error).__name__}: {error}") from error
    if not isinstance(attributes, dict) or not {"plan", "files", "digest"} <= attributes.keys():
        raise ForeignStore(f"{folder}: a Zarr group, but not one that ecgbatch published (no plan in its attributes)")
    return attributes


def list_stores(work: str | Path, schema_name: str) -> list[str]:
    """Return the paths of the published stores of one kind, sorted by digest."""
    folder = folder_at(work)
    names = [name for name in folder.children(schema_name) if name.endswith(".zarr")]
    return [str(folder.path(f"{schema_name}/{name}")) for name in names if folder.exists(f"{schema_name}/{name}/zarr.json")]
