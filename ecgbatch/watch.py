"""What is new in an archive, told by names, sizes and times: a record that has not moved is not opened again."""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ecgbatch import __version__
from ecgbatch.archive import CHUNK_RECORDS, find_records, list_archive
from ecgbatch.records import source_digest
from ecgbatch.terms import STATUS
from storage import TEXT, Folder, Map

CACHE_FILE = "archive.parquet"
"""Below the workspace: the listing of the last run, with sizes and times of every file. Without it all records are read again."""

CACHE_FORMAT = 1
"""Raise it when the columns of a listing, or what they say of a header, change: headers are then read again, samples are not."""

YOUNG_S = 10.0
"""An incomplete record whose files changed this shortly before is looked at twice, ``PAUSE_S`` apart: does it still grow?"""
PAUSE_S = 1.0
TICK_S, COARSE_TICK_S = 0.05, 2.0
"""A file that changed this shortly before it was looked at may change again within one tick of its disk's clock, unseen: not
remembered. The coarse one is for disks whose times are whole seconds."""

LOOK_COLUMNS = ("files", "key", "base", "signature")
"""Columns of a look that say where and when, not what: no store holds them, and no digest depends on them."""

Place = tuple[str, int]
"""Of a record: digest and row of a signals store."""


@dataclass(frozen=True)
class Look:
    """One look at an archive."""

    names: tuple[str, ...]
    """Every record of the archive, in its order."""
    listing: xr.Dataset
    """``list_archive``'s table of the records that may be used now (those that still grow are left out)."""
    waiting: tuple[str, ...]
    """Records whose files are still being written: the next run takes them."""
    places: dict[str, Place] = field(default_factory=dict)
    """Where the records that have not moved are stored already."""
    unsure: frozenset[str] = frozenset()
    """Records whose files are not those of the last look, by size or time: their content decides."""


def look_at(
    archive: str,
    work: str,
    *,
    labels: str | None = None,
    keep_comments: bool = False,
    rehash: bool = False,
    settle_s: float = 0.0,
    map: Map = map,
) -> Look:
    """List an archive; open only records whose files are not those of the last look.

    Parameters
    ----------
    archive, work, labels, keep_comments
        As ``convert_archive`` takes them.
    rehash
        Trust no time: look into every record again.
    settle_s
        A record with a file that changed less than this many seconds ago waits for the next run. Whatever its value, an
        incomplete record that changes while it is looked at waits too.
    map
        Engine for the headers.

    """
    started = time.time()
    names = find_records(archive)
    cached = {} if rehash else _read_cache(work)
    key = _key(labels, keep_comments)
    rows: dict[str, dict[str, Any]] = {}
    for name in names:
        row = cached.get(name)
        if row is not None and row["key"] == key and row["signature"] and row["signature"] == _signature(archive, row):
            rows[name] = row
    again = [name for name in names if name not in rows]
    fresh = list_archive(archive, labels=labels, keep_comments=keep_comments, names=again, map=map) if again else None
    for row in _rows_of(fresh):
        before = cached.get(row["record_name"])
        row |= {"key": key, "base": row["fingerprint"], "signature": _signature(archive, row), "store": "", "row": -1}
        if before and before["signature"] == row["signature"] != "" and before["base"] == row["base"]:
            row |= {name: before[name] for name in ("fingerprint", "store", "row")}
        rows[row["record_name"]] = row
    waiting = _growing(archive, [rows[name] for name in again], started, settle_s)
    kept = [rows[name] for name in names if name not in waiting]
    places = {row["record_name"]: (row["store"], row["row"]) for row in kept if row["store"]}
    unsure = frozenset(row["record_name"] for row in kept if not row["store"])
    return Look(tuple(names), _table(kept, keep_comments), tuple(name for name in names if name in waiting), places, unsure)


def settle_changes(archive: str, look: Look, stored: dict[str, str], *, map: Map = map) -> xr.Dataset:
    """Return a look's listing with new fingerprints for records whose content is another than that of the stored ones.

    A fingerprint knows names, sizes and the header: a signal file written again with the same size has the same one, but
    another digest. Only records that a store knows and whose files have moved are read for that.

    Parameters
    ----------
    stored
        Fingerprint to source digest of every row of the published stores.

    """
    names = look.listing["record_name"].values.tolist()
    fingerprints = look.listing["fingerprint"].values.tolist()
    asked = [row for row, name in enumerate(names) if name in look.unsure and fingerprints[row] in stored]
    chunks = [[names[row] for row in asked[first : first + CHUNK_RECORDS]] for first in range(0, len(asked), CHUNK_RECORDS)]
    now: dict[str, str] = {}
    for found in map(partial(_digests, archive=archive), chunks):
        now |= found
    changed = [row for row in asked if now[names[row]] != stored[fingerprints[row]]]
    if not changed:
        return look.listing
    for row in changed:
        fingerprints[row] = hashlib.sha256(f"{fingerprints[row]} {now[names[row]]}".encode()).hexdigest()
    return look.listing.assign(fingerprint=("record", np.array(fingerprints, dtype=TEXT)))


def remember(work: str, listing: xr.Dataset, places: dict[str, Place], *, forget: set[str]) -> None:
    """Keep a look for the next run: the listing, the files' sizes and times, and where each record is stored now.

    Parameters
    ----------
    forget
        Records to look into again next time, whatever their files' sizes and times.

    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, list[Any]] = {str(name): values.values.tolist() for name, values in listing.data_vars.items()}
    names = columns["record_name"]
    columns |= {"store": [places[name][0] for name in names], "row": [places[name][1] for name in names]}
    columns["signature"] = ["" if name in forget else kept for name, kept in zip(names, columns["signature"], strict=True)]
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    Folder(work).put(CACHE_FILE, buffer.getvalue())


def _read_cache(work: str) -> dict[str, dict[str, Any]]:
    """Return the rows of the last look by record name; none where there was none, or where it cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(Folder(work).read(CACHE_FILE)))
    except (FileNotFoundError, pa.ArrowInvalid):
        return {}
    return {row["record_name"]: row for row in table.to_pylist()}


def _key(labels: str | None, keep_comments: bool) -> str:
    """Return what a cached row depends on besides the record's files: this version, the label table, and what is kept."""
    table = hashlib.sha256(Path(labels).read_bytes()).hexdigest() if labels is not None else ""
    return f"{CACHE_FORMAT} {__version__} {table}{' comments' if keep_comments else ''}"


def _rows_of(listing: xr.Dataset | None) -> Iterator[dict[str, Any]]:
    if listing is None:
        return
    columns = {str(name): values.values.tolist() for name, values in listing.data_vars.items()}
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(columns, values, strict=True))


def _table(rows: list[dict[str, Any]], keep_comments: bool) -> xr.Dataset:
    """Return rows as a table like ``list_archive``'s, with the columns of a look beside it."""
    empty = list_archive("", names=[], keep_comments=keep_comments)
    own = {"key": TEXT, "base": TEXT, "signature": TEXT}
    kinds = {str(name): values.dtype for name, values in empty.data_vars.items()} | own
    columns = {name: ("record", np.array([row[name] for row in rows], dtype=kind)) for name, kind in kinds.items()}
    return xr.Dataset(columns)


def _signature(archive: str, row: dict[str, Any]) -> str:
    """Return sizes and times of a record's files; empty where they cannot be told (it is looked at again each time).

    Of a record that lacks something, the time of its folder counts too: what is missing appears there.
    """
    parts = [_size_and_time(found) for found in _stats(archive, row)]
    if parts and (row["status"] != STATUS["ok"] or "-" in parts):
        parts.append(_size_and_time(_stat(os.path.dirname(f"{archive}/{row['record_name']}"))))  # noqa: PTH120
    return ";".join(parts)


def _stats(archive: str, row: dict[str, Any]) -> list[os.stat_result | None]:
    return [_stat(f"{archive}/{path}") for path in row["files"].split("\n")] if row["files"] else []


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)  # noqa: PTH116
    except (OSError, ValueError):
        return None


def _size_and_time(found: os.stat_result | None) -> str:
    return "-" if found is None else f"{found.st_size}:{found.st_mtime_ns}"


def _growing(archive: str, rows: list[dict[str, Any]], started: float, settle_s: float) -> set[str]:
    """Return the records that are still being written; forget the signatures of those that may be."""
    waiting, young = set(), []
    for row in rows:
        stats = [found for found in _stats(archive, row) if found is not None]
        # The disk's own clock: a copy may carry an older time of modification along.
        changed_at = max((found.st_ctime for found in stats), default=0.0)
        tick_s = COARSE_TICK_S if all(found.st_mtime_ns % 10**9 == 0 for found in stats) else TICK_S
        if changed_at > started - tick_s:
            row["signature"] = ""
        if changed_at > started - settle_s and settle_s > 0:
            waiting.add(row["record_name"])
        elif row["status"] != STATUS["ok"] and changed_at > started - YOUNG_S:
            young.append((row, stats))
    if young:
        time.sleep(PAUSE_S)
    for row, stats in young:
        now = [found for found in _stats(archive, row) if found is not None]
        if [*map(_size_and_time, now)] != [*map(_size_and_time, stats)]:
            waiting.add(row["record_name"])
    return waiting


def _digests(names: list[str], *, archive: str) -> dict[str, str]:
    return {name: source_digest(archive, name) for name in names}
