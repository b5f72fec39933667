"""What is new in an archive, told by names, sizes and times: a record that has not moved is not opened again."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import xarray as xr

from ecgbatch.archive.clinical import count_matched, label_table
from ecgbatch.archive.finding import Found, search
from ecgbatch.archive.listing import CHUNK_RECORDS, each, list_archive
from ecgbatch.archive.remembered import CACHED_AT_ONCE, Columns, Place, cache_file, key_of, parquet_errors, read_cache
from ecgbatch.formats.records import source_digest
from ecgbatch.terms import STATUS
from ecgbatch.workspace.erased import Erased, erased_list
from ecgbatch.workspace.privacy import workspace_pseudonyms
from storage import TEXT, Map, algorithm_of, is_mirror, list_stores

YOUNG_S = 10.0
"""An incomplete record whose files changed this shortly before is looked at twice, ``PAUSE_S`` apart: does it still grow?"""
PAUSE_S = 1.0
TICK_S, COARSE_TICK_S = 0.05, 2.0
"""A file that changed this shortly before it was looked at may change again within one tick of its disk's clock, unseen: not
remembered. The coarse one is for disks whose times are whole seconds."""


@dataclass(frozen=True)
class LookOptions:
    """How an archive is looked at."""

    labels: str | None = None
    """CSV with record, patient_id, label."""
    keep_comments: bool = False
    """Store the headers' comment lines too, whatever names and dates they hold."""
    rehash: bool = False
    """Trust no time: look into every record again; and take an archive at another place for this workspace's."""
    settle_s: float = 0.0
    """A record with a file that changed less than this many seconds ago waits for the next run. Whatever its value, an incomplete
    record that changes while it is looked at waits too."""


@dataclass(frozen=True)
class Look:
    """One look at an archive."""

    names: tuple[str, ...]
    """Every record of the archive, in its order."""
    listing: xr.Dataset
    """``list_archive``'s table of the records that may be used now (those that still grow are left out); without any record where
    the look ``is_remembered``, whose listing is on the disk."""
    key: str
    """What its rows depend on besides the records' files."""
    waiting: tuple[str, ...]
    """Records whose files are still being written: the next run takes them."""
    places: dict[str, Place] = field(default_factory=dict)
    """Where the records that have not moved are stored already."""
    unsure: frozenset[str] = frozenset()
    """Records whose files are not those of the last look, by size or time: their content decides."""
    n_erased: int = 0
    """Records that the archive has and that are left out, since their patient was erased from this workspace."""
    labels: dict[str, int] = field(default_factory=dict)
    """Of the label table: how many of its records the archive has (``matched``) or not; nothing without one, or remembered."""
    is_remembered: bool = False
    """Whether all of it is what the last look left behind: the same records in the same order, all stored still, none moved."""
    found: Found = field(default_factory=lambda: Found([]))
    """What lies beside the records, and what was left out of the search."""


def look_at(
    archive: str,
    work: str,
    options: LookOptions = LookOptions(),
    *,
    map: Map = map,
) -> Look:
    """List an archive; open only records whose files are not those of the last look.

    Parameters
    ----------
    archive, work
        As ``convert_archive`` takes them.
    map
        Engine for the headers.

    """
    started, labels, keep_comments = time.time(), options.labels, options.keep_comments
    erased = erased_list(work)
    found = search(archive)
    names = [name for name in found.names if not erased.has_record(name)] if erased else found.names
    key = key_of(labels, keep_comments)
    places = None if options.rehash else _remembered(archive, work, names, key)
    if places is not None:
        n_erased = len(found.names) - len(names)
        return Look(tuple(names), _NO_ROWS, key, (), places, n_erased=n_erased, is_remembered=True, found=found)
    told = None if labels is None else label_table(labels, frozenset(found.names))
    counted = {} if told is None else count_matched(told, found.names)
    cached = {} if options.rehash else read_cache(work)
    cached_row = {name: row for row, name in enumerate(_texts(cached, "record_name"))}
    unmoved = _unmoved(archive, names, cached, cached_row, key)
    is_unmoved = set(unmoved)
    again = [name for name in names if name not in is_unmoved]
    pseudonyms = workspace_pseudonyms(work)
    listed = list_archive(archive, labels=told, keep_comments=keep_comments, names=again, pseudonyms=pseudonyms, map=map)
    if erased:
        listed = _without_erased(listed, erased)
        again = listed["record_name"].values.tolist()
        left = is_unmoved.union(again)
        names = [name for name in names if name in left]
    fresh = {str(name): values.values for name, values in listed.data_vars.items()}
    del listed, told, is_unmoved
    _look_back(archive, fresh, cached, cached_row)
    waiting = _growing(archive, fresh, started, options.settle_s)
    table = _in_order(names, (unmoved, again), waiting, (cached, [cached_row[name] for name in unmoved]), fresh)
    places = _taken_places(table)
    unsure = frozenset(name for name in each(table["record_name"]) if name not in places)
    listing = xr.Dataset({name: ("record", values) for name, values in table.items()})
    waits, n_erased = tuple(name for name in names if name in waiting), len(found.names) - len(names)
    return Look(tuple(names), listing, key, waits, places, unsure, n_erased, counted, found=found)


_NO_ROWS = xr.Dataset({name: ("record", np.empty(0, TEXT)) for name in ("record_name", "fingerprint", "reason")})


def _without_erased(listed: xr.Dataset, erased: Erased) -> xr.Dataset:
    is_left = [not erased.has_patient(patient) for patient in listed["patient_id"].values.tolist()]
    return listed.isel(record=np.flatnonzero(is_left))


def _taken_places(table: Columns) -> dict[str, Place]:
    """Take store and row out of a table; return where the records are stored that have both."""
    stored = zip(each(table["record_name"]), each(table.pop("store")), each(table.pop("row")), strict=True)
    return {name: (sys.intern(store), row) for name, store, row in stored if store}


def _in_order(
    names: list[str],
    parts: tuple[list[str], list[str]],
    waiting: set[str],
    kept: tuple[Columns, list[int]],
    fresh: Columns,
) -> Columns:
    """Return the columns of ``names``, in their order, without those that are ``waiting``; ``kept`` and ``fresh`` are used up.

    ``parts`` names the rows that are kept of the last look (its columns, and which rows of it), then those of ``fresh``.
    """
    row_of = {name: row for row, name in enumerate([*parts[0], *parts[1]]) if name not in waiting}
    rows = np.array([row_of[name] for name in names if name in row_of], dtype=np.int64)
    del row_of
    cached, cached_rows = kept
    table = {}
    for name in list(fresh):  # a column at a time is held twice
        values = fresh.pop(name)
        if cached_rows:
            values = np.concatenate([cached.pop(name).astype(values.dtype, copy=False)[cached_rows], values])
        table[name] = values if np.array_equal(rows, np.arange(len(values))) else values[rows]
    return table


def _remembered(archive: str, work: str, names: list[str], key: str) -> dict[str, Place] | None:
    """Return where all records are stored, if they are those of the last look, in its order, none moved; else None.

    The look is read a few rows at a time, and nothing else of it is held.
    """
    file = cache_file(work)
    if file is None or file.metadata.num_rows != len(names):
        return None
    published = {Path(path).stem for path in list_stores(work, "signals")}
    places: dict[str, Place] = {}
    unreadable: tuple[type[Exception], ...] = (KeyError, *parquet_errors())
    told = ("record_name", "key", "signature", "files", "status", "store", "row")
    try:
        for batch in file.iter_batches(CACHED_AT_ONCE, columns=list(told)):
            for name, key_then, signature, files, status, store, row in zip(
                *(batch.column(column).to_pylist() for column in told), strict=True
            ):
                is_same = name == names[len(places)] and key_then == key and store in published
                if not is_same or not signature or signature != _signature(archive, name, files, status):
                    return None
                places[names[len(places)]] = (sys.intern(store), row)
    except unreadable:
        return None
    return places


def _texts(columns: Columns, name: str) -> list[str]:
    return list(columns[name].tolist()) if columns else []


def _unmoved(archive: str, names: list[str], cached: Columns, cached_row: dict[str, int], key: str) -> list[str]:
    """Return the records whose files have the sizes and times of the last look, and whose row depends on nothing else."""
    if not cached:
        return []
    keys, signatures, files, status = (cached[name] for name in ("key", "signature", "files", "status"))
    unmoved = []
    for name in names:
        row = cached_row.get(name, -1)
        if row < 0 or keys[row] != key or not signatures[row]:
            continue
        if signatures[row] == _signature(archive, name, files[row], status[row]):
            unmoved.append(name)
    return unmoved


def _look_back(archive: str, fresh: Columns, cached: Columns, cached_row: dict[str, int]) -> None:
    """Add a look's columns to those of a listing; what has moved and is yet the same keeps its fingerprint and place."""
    n = len(fresh["record_name"])
    fresh["base"], fresh["signature"] = fresh["fingerprint"], np.empty(n, TEXT)
    fresh["store"], fresh["row"] = np.full(n, "", dtype=TEXT), np.full(n, -1, dtype=np.int64)
    told = zip(*(each(fresh[name]) for name in ("record_name", "files", "status")), strict=True)
    for row, (name, files, status) in enumerate(told):
        signature = fresh["signature"][row] = _signature(archive, name, files, status)
        before = cached_row.get(name, -1)
        if before < 0 or not cached["signature"][before] == signature != "":
            continue
        if cached["base"][before] == fresh["base"][row]:
            if fresh["base"] is fresh["fingerprint"]:
                fresh["fingerprint"] = fresh["base"].copy()
            for column in ("fingerprint", "store", "row"):
                fresh[column][row] = cached[column][before]


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
    known = [(names[row], algorithm_of(stored[fingerprints[row]])) for row in asked]
    chunks = [known[first : first + CHUNK_RECORDS] for first in range(0, len(known), CHUNK_RECORDS)]
    now: dict[str, str] = {}
    for found in map(partial(_digests, archive=archive), chunks):
        now |= found
    changed = [row for row in asked if now[names[row]] != stored[fingerprints[row]]]
    if not changed:
        return look.listing
    for row in changed:
        fingerprints[row] = hashlib.sha256(f"{fingerprints[row]} {now[names[row]]}".encode()).hexdigest()
    return look.listing.assign(fingerprint=("record", np.array(fingerprints, dtype=TEXT)))


def _signature(archive: str, record_name: str, files: str, status: int) -> str:
    """Return sizes and times of a record's files; empty where they cannot be told (it is looked at again each time).

    Of a record that lacks something, the time of its folder counts too: what is missing appears there.
    """
    parts = [_size_and_time(found) for found in _stats(archive, files)]
    if parts and (status != STATUS["ok"] or "-" in parts):
        parts.append(_size_and_time(_stat(os.path.dirname(f"{archive}/{record_name}"))))  # noqa: PTH120
    return ";".join(parts)


def _stats(archive: str, files: str) -> list[os.stat_result | None]:
    return [_stat(f"{archive}/{path}") for path in files.split("\n")] if files else []


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)  # noqa: PTH116
    except (OSError, ValueError):
        return None


def _size_and_time(found: os.stat_result | None) -> str:
    return "-" if found is None else f"{found.st_size}:{found.st_mtime_ns}"


def _growing(archive: str, fresh: Columns, started: float, settle_s: float) -> set[str]:
    """Return the records that are still being written; forget the signatures of those that may be.

    An object of a bucket is there whole or not at all, and its copy here bears its time and tag: no change of it goes unseen, and
    an incomplete record whose last object is young waits for the others.
    """
    waiting, young = set(), []
    mirrored = is_mirror(archive)
    told = zip(*(each(fresh[name]) for name in ("record_name", "files", "status")), strict=True)
    for row, (name, files, status) in enumerate(told):
        stats = [found for found in _stats(archive, files) if found is not None]
        # The disk's own clock: a copy may carry an older time of modification along. Of a bucket's copy, the bucket's.
        changed_at = max((found.st_mtime if mirrored else found.st_ctime for found in stats), default=0.0)
        tick_s = COARSE_TICK_S if all(found.st_mtime_ns % 10**9 == 0 for found in stats) else TICK_S
        if changed_at > started - tick_s and not mirrored:
            fresh["signature"][row] = ""
        is_young = status != STATUS["ok"] and changed_at > started - YOUNG_S
        if (changed_at > started - settle_s and settle_s > 0) or (is_young and mirrored):
            waiting.add(name)
        elif is_young:
            young.append((name, files, stats))
    if young:
        time.sleep(PAUSE_S)
    for name, files, stats in young:
        now = [found for found in _stats(archive, files) if found is not None]
        if [*map(_size_and_time, now)] != [*map(_size_and_time, stats)]:
            waiting.add(name)
    return waiting


def _digests(known: list[tuple[str, str]], *, archive: str) -> dict[str, str]:
    """Return the digest of each record's files, by the algorithm of the digest that it is compared with."""
    return {name: source_digest(archive, name, algorithm=algorithm) for name, algorithm in known}
