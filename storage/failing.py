"""Rows whose own content makes a stage fail: left out, named in the settings, and tried again by another version."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import xarray as xr

from storage.build import Map, Progress, build, build_key, published_key
from storage.errors import StoreError
from storage.folder import Folder
from storage.location import folder_at
from storage.plan import Plan, Shard
from storage.reading import list_stores, read_root

NOT_OF_A_ROW = (StoreError, OSError, MemoryError, ImportError, CancelledError)
"""Exceptions that say nothing of the row that was worked on: a disk, a network, a machine, an installation, an end that was asked
for. They are retried, or end the stage; every other exception is a row's own."""

FAILED = "failed"
"""Setting of a store with rows that were left out: ``of`` (digest of the plan without it), ``version``, ``rows`` {key: kind}."""


class RowsFailed(StoreError):
    """Rows of a shard whose content made the stage fail; ``kinds`` is {``row_key``: type of the exception}."""

    def __init__(self, kinds: Mapping[str, str]) -> None:
        super().__init__(dict(kinds))
        self.kinds = dict(kinds)


def row_key(name: str) -> str:
    """Return what a row of this name goes by in a store's settings: no name, which may be a patient's, is read there."""
    return hashlib.sha256(name.encode()).hexdigest()[:20]


@contextmanager
def noting(failed: dict[str, str], name: str) -> Iterator[None]:
    """Run what is done for one row; what its content raises goes to ``failed`` and nowhere else."""
    try:
        yield
    except NOT_OF_A_ROW:
        raise
    except Exception as error:  # whatever a bug or an input that nobody thought of raises: it is one row's, and stays one row's
        failed[row_key(name)] = type(error).__name__


def together(rows: Sequence[int], names: Sequence[str], failed: dict[str, str], do: Callable[[Sequence[int]], None]) -> None:
    """Do something for some rows at once; where the content of one breaks it, for each alone: only its own goes to ``failed``.

    Parameters
    ----------
    rows
        Numbers of rows of ``names``.
    failed
        As in ``noting``.
    do
        Called with rows, all or one; keeps what it makes of them itself, and nothing where it raises.

    """
    try:
        do(rows)
    except NOT_OF_A_ROW:
        raise
    except Exception as error:  # of several, one by one tells whose content it is
        if len(rows) == 1:
            failed[row_key(names[rows[0]])] = type(error).__name__
            return
        for row in rows:
            together([row], names, failed, do)


class ProduceAround(Protocol):
    """As ``build.Produce``, but rows of ``skip`` are left out, and others that fail are told by ``RowsFailed`` at the end."""

    def __call__(self, shard: Shard, rows: xr.Dataset, *, skip: Mapping[str, str]) -> xr.Dataset:
        """Make a shard."""


def build_around(
    work: str,
    plan_for: Callable[[Mapping[str, Any]], Plan],
    produce: ProduceAround,
    *,
    version: str,
    map: Map = map,
    on_progress: Progress | None = None,
) -> str:
    """Build a store as ``build`` does, around the rows whose content makes it fail.

    Parameters
    ----------
    plan_for
        Returns the plan with these settings beside its own; with none its digest is what it always was.
    version
        Of the code: rows that failed under another one are tried again.

    """
    plain, folder = plan_for({}), folder_at(work)
    known = "" if folder.exists(f"{published_key(plain)}/zarr.json") else _built_around(work, plain, version)
    if known:
        return known
    try:
        return build(work, plain, partial(produce, skip={}), map=map, on_progress=on_progress)
    except RowsFailed:
        tasks = ((plain.shard(index), plain.rows(plain.shard(index))) for index in range(plain.n_shards))
        kinds = {key: kind for found in map(partial(_failures, produce), tasks) for key, kind in found.items()}
    folder.delete(build_key(plain))
    around = plan_for({FAILED: {"of": plain.digest, "version": version, "rows": dict(sorted(kinds.items()))}})
    return build(work, around, partial(produce, skip=kinds), map=map, on_progress=on_progress)


def _failures(produce: ProduceAround, task: tuple[Shard, xr.Dataset]) -> dict[str, str]:
    try:
        produce(*task, skip={})
    except RowsFailed as error:
        return error.kinds
    return {}


def _built_around(work: str, plain: Plan, version: str) -> str:
    for path in list_stores(work, plain.schema.name):
        failed = _root(folder_at(path)).get("settings", {}).get(FAILED, {})
        if (failed.get("of"), failed.get("version")) == (plain.digest, version):
            return path
    return ""


def _root(folder: Folder) -> dict[str, Any]:
    try:
        return read_root(folder)
    except StoreError:
        return {}  # verify says what is wrong with it


def failed_rows(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the rows that were left out of the store with these settings: {``row_key``: type of the exception}."""
    return dict(settings.get(FAILED, {}).get("rows", {}))


def preference(settings: Mapping[str, Any], version: str) -> int:
    """Return 2 for a store of all rows, 1 for one around rows that fail in this version, 0 for an earlier version's."""
    return 2 if FAILED not in settings else int(settings[FAILED]["version"] == version)
