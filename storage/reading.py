"""Read published stores."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import xarray as xr

from storage.errors import ForeignStore, UnfinishedStore
from storage.location import Folder


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

    """
    folder = Folder(path)
    read_root(folder)
    store = folder.zarr_store(read_only=True)
    dataset: xr.Dataset = xr.open_zarr(store, consolidated=False, chunks=None, zarr_format=3, decode_cf=False)
    return dataset


def open_once(path: str | Path) -> xr.Dataset:
    """Open a published store once a process (opening costs 30 ms, and a worker does it for every shard); keep its columns.

    Safe because a published store never changes; one that was removed and built anew is opened anew.
    """
    version = Folder(path).version("zarr.json")
    return _open_once(str(path), version).copy() if version else open_store(path)


KEPT_COLUMN_BYTES = 8_000_000
"""Small columns up to this size stay in memory once a store is opened by ``open_once``: each read of one costs 2 ms."""


@lru_cache(maxsize=16)
def _open_once(path: str, _version: str) -> xr.Dataset:
    store = open_store(path)
    described = store.attrs["plan"]["variables"]
    for name, variable in store.variables.items():
        if not described[str(name)]["bulk"] and variable.nbytes <= KEPT_COLUMN_BYTES:
            variable.load()
    return store


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
    folder = Folder(work)
    names = [name for name in folder.children(schema_name) if name.endswith(".zarr")]
    return [str(folder.path(f"{schema_name}/{name}")) for name in names if folder.exists(f"{schema_name}/{name}/zarr.json")]
