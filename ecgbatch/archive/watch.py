"""What is new in an archive, told by names, sizes and times: a record that has not moved is not opened again."""

from __future__ import annotations

import hashlib
import io
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from ecgbatch import __version__
from ecgbatch.archive.clinical import count_matched
from ecgbatch.archive.listing import CHUNK_RECORDS, LISTING_COLUMNS, each, find_records, list_archive
from ecgbatch.formats.records import source_digest
from ecgbatch.terms import STATUS
from ecgbatch.workspace.erased import Erased, erased_list
from ecgbatch.workspace.privacy import workspace_pseudonyms
from storage import TEXT, Map, folder_at, is_mirror, list_stores

CACHE_FILE = "archive.parquet"
"""Below the workspace: the listing of the last run, with sizes and times of every file. Without it all records are read again."""

CACHED_AT_ONCE = 4096
"""Rows that are written, and read, at a time: all of them would be held twice."""

CACHE_FORMAT = 1
"""Raise it when what a listing's columns say of a header changes: headers are then read again, samples are not. Another set of
columns does the same by itself."""

YOUNG_S = 10.0
"""An incomplete record whose files changed this shortly before is looked at twice, ``PAUSE_S`` apart: does it still grow?"""
PAUSE_S = 1.0
TICK_S, COARSE_TICK_S = 0.05, 2.0
"""A file that changed this shortly before it was looked at may change again within one tick of its disk's clock, unseen: not
remembered. The coarse one is for disks whose times are whole seconds."""

NOT_OF_FILES = frozenset({"LISTED_MISSING", "EXTRA_MISSING"})
"""Reasons that rest on what is mounted or installed, not on the files: such a record is looked at again each time, whatever sizes
and times say."""

LOOK_COLUMNS = ("files", "base", "signature")
"""Columns of a look that say where and when, not what: no store holds them, and no digest depends on them."""

Place = tuple[str, int]
"""Of a record: digest and row of a signals store."""


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
    erased = erased_list(work)
    found = find_records(archive)
    names = [name for name in found if not erased.has_record(name)] if erased else found
    key = _key(labels, keep_comments)
    places = None if rehash else _remembered(archive, work, names, key)
    if places is not None:
        return Look(tuple(names), _no_listing(), key, (), places, n_erased=len(found) - len(names), is_remembered=True)
    counted = {} if labels is None else count_matched(labels, found)
    cached = {} if rehash else _read_cache(work)
    cached_row = {name: row for row, name in enumerate(_texts(cached, "record_name"))}
    unmoved = _unmoved(archive, names, cached, cached_row, key)
    is_unmoved = set(unmoved)
    again = [name for name in names if name not in is_unmoved]
    pseudonyms = workspace_pseudonyms(work)
    listed = list_archive(archive, labels=labels, keep_comments=keep_comments, names=again, pseudonyms=pseudonyms, map=map)
    if erased:
        listed = _without_erased(listed, erased)
        again = listed["record_name"].values.tolist()
        left = is_unmoved.union(again)
        names = [name for name in names if name in left]
    fresh = {str(name): values.values for name, values in listed.data_vars.items()}
    del listed
    _look_back(archive, fresh, cached, cached_row)
    waiting = _growing(archive, fresh, started, settle_s)
    row_of = {name: row for row, name in enumerate([*unmoved, *again]) if name not in waiting}
    rows = np.array([row_of[name] for name in names if name in row_of], dtype=np.int64)
    kept = [cached_row[name] for name in unmoved]
    del cached_row, row_of, is_unmoved
    table = _joined(fresh, cached, kept, rows)
    stored = zip(each(table["record_name"]), each(table.pop("store")), each(table.pop("row")), strict=True)
    places = {name: (sys.intern(store), row) for name, store, row in stored if store}
    unsure = frozenset(name for name in each(table["record_name"]) if name not in places)
    listing, n_erased = xr.Dataset({name: ("record", values) for name, values in table.items()}), len(found) - len(names)
    return Look(tuple(names), listing, key, tuple(filter(waiting.__contains__, names)), places, unsure, n_erased, counted)


def _no_listing() -> xr.Dataset:
    return xr.Dataset({name: ("record", np.empty(0, TEXT)) for name in ("record_name", "fingerprint", "reason")})


def _without_erased(listed: xr.Dataset, erased: Erased) -> xr.Dataset:
    is_left = [not erased.has_patient(patient) for patient in listed["patient_id"].values.tolist()]
    return listed.isel(record=np.flatnonzero(is_left))


def _joined(fresh: _Columns, cached: _Columns, kept: list[int], rows: npt.NDArray[np.int64]) -> _Columns:
    """Return the ``rows`` of what was ``kept`` of the last look with what was listed afresh behind it; empties both."""
    table = {}
    for name in list(fresh):  # a column at a time is held twice
        values = fresh.pop(name)
        if kept:
            values = np.concatenate([cached.pop(name).astype(values.dtype, copy=False)[kept], values])
        table[name] = values if np.array_equal(rows, np.arange(len(values))) else values[rows]
    return table


def _remembered(archive: str, work: str, names: list[str], key: str) -> dict[str, Place] | None:
    """Return where all records are stored, if they are those of the last look, in its order, none moved; else None.

    The look is read a few rows at a time, and nothing else of it is held.
    """
    file = _cache_file(work)
    if file is None or file.metadata.num_rows != len(names):
        return None
    published = {Path(path).stem for path in list_stores(work, "signals")}
    places: dict[str, Place] = {}
    unreadable: tuple[type[Exception], ...] = (KeyError, *_parquet_errors())
    told = ("record_name", "key", "signature", "files", "status", "reason", "store", "row")
    try:
        for batch in file.iter_batches(CACHED_AT_ONCE, columns=list(told)):
            for name, key_then, signature, files, status, reason, store, row in zip(
                *(batch.column(column).to_pylist() for column in told), strict=True
            ):
                is_same = name == names[len(places)] and key_then == key and store in published
                if not is_same or not signature or signature != _signature(archive, name, files, status, reason):
                    return None
                places[names[len(places)]] = (sys.intern(store), row)
    except unreadable:
        return None
    return places


_Columns = dict[str, np.ndarray[Any, Any]]
"""A listing's columns with those of a look. Rows one by one, as dictionaries, would take ten times the memory."""


def _texts(columns: _Columns, name: str) -> list[str]:
    return list(columns[name].tolist()) if columns else []


def _unmoved(archive: str, names: list[str], cached: _Columns, cached_row: dict[str, int], key: str) -> list[str]:
    """Return the records whose files have the sizes and times of the last look, and whose row depends on nothing else."""
    if not cached:
        return []
    keys, signatures, files, status, reasons = (cached[name] for name in ("key", "signature", "files", "status", "reason"))
    unmoved = []
    for name in names:
        row = cached_row.get(name, -1)
        if row < 0 or keys[row] != key or not signatures[row]:
            continue
        if signatures[row] == _signature(archive, name, files[row], status[row], reasons[row]):
            unmoved.append(name)
    return unmoved


def _look_back(archive: str, fresh: _Columns, cached: _Columns, cached_row: dict[str, int]) -> None:
    """Add a look's columns to those of a listing; what has moved and is yet the same keeps its fingerprint and place."""
    n = len(fresh["record_name"])
    fresh["base"], fresh["signature"] = fresh["fingerprint"], np.empty(n, TEXT)
    fresh["store"], fresh["row"] = np.full(n, "", dtype=TEXT), np.full(n, -1, dtype=np.int64)
    told = zip(*(each(fresh[name]) for name in ("record_name", "files", "status", "reason")), strict=True)
    for row, (name, files, status, reason) in enumerate(told):
        signature = fresh["signature"][row] = _signature(archive, name, files, status, reason)
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


def remember(work: str, listing: xr.Dataset, key: str, places: dict[str, Place], *, forget: set[str]) -> None:
    """Keep a look for the next run: the listing, the files' sizes and times, and where each record is stored now.

    Parameters
    ----------
    key
        Of the look.
    forget
        Records to look into again next time, whatever their files' sizes and times.

    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    writer = None
    for first in range(0, max(1, listing.sizes["record"]), CACHED_AT_ONCE):
        part = listing.isel(record=slice(first, first + CACHED_AT_ONCE))
        columns = {str(name): pa.array(values.values.tolist()) for name, values in part.data_vars.items()}
        names = part["record_name"].values.tolist()
        columns["key"] = pa.array([key] * len(names))
        columns |= {"store": pa.array([places[name][0] for name in names]), "row": pa.array([places[name][1] for name in names])}
        signatures = zip(names, part["signature"].values.tolist(), strict=True)
        columns["signature"] = pa.array(["" if name in forget else signature for name, signature in signatures])
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(buffer, table.schema, write_page_checksum=True)
        writer.write_table(table)
    assert writer is not None
    _put_cache(work, writer, buffer)


_SEAL_KEY, _SEAL = "ecgbatch_seal", "sha256 of the file with zeros here: "
"""Of the digest in the file's metadata: pages carry checksums, but neither their headers nor the list of pages do."""


def _put_cache(work: str, writer: Any, buffer: io.BytesIO) -> None:
    """Write a look that ``writer`` has put into ``buffer``, with the digest of all its bytes in its metadata."""
    writer.add_key_value_metadata({_SEAL_KEY: _SEAL + "0" * 64})
    writer.close()
    raw = bytearray(buffer.getbuffer())
    digest, place = hashlib.sha256(raw).hexdigest().encode(), raw.rindex(_SEAL.encode()) + len(_SEAL)
    raw[place : place + 64] = digest
    folder_at(work).put(CACHE_FILE, bytes(raw))


def _whole_cache(work: str) -> io.BytesIO:
    """Return the bytes of the last look; ``OSError`` where there is none or it was altered. Earlier ones bear no seal."""
    raw = folder_at(work).read(CACHE_FILE)
    place = raw.rfind(_SEAL.encode())
    if place >= 0 or _SEAL_KEY.encode() in raw:
        place += len(_SEAL)
        found = hashlib.sha256(memoryview(raw)[:place])
        found.update(b"0" * 64)
        found.update(memoryview(raw)[place + 64 :])
        if found.hexdigest().encode() != raw[place : place + 64]:
            raise OSError(f"{work}/{CACHE_FILE}: altered")
    return io.BytesIO(raw)


def remember_moved(
    work: str, places: Callable[[list[str], list[int]], Iterable[Place | None]], forget: Callable[[str], bool]
) -> None:
    """Let what the last look left behind name the stores where rows lie now.

    Parameters
    ----------
    places
        Called with stores and rows; yields where each is now, or None where it is no more.
    forget
        Tells whether a record of this name is left out.

    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(_whole_cache(work))
    except (OSError, pa.ArrowException):
        folder_at(work).delete(CACHE_FILE)  # what cannot be read may name whom it should not
        return
    if not table.num_rows:
        return
    told = [table.column(name).to_pylist() for name in ("record_name", "store", "row")]
    now = list(places(told[1], told[2]))
    kept = [row for row, place in enumerate(now) if place is not None and not forget(told[0][row])]
    table = table.take(pa.array(kept, pa.int64()))
    for name, part in (("store", 0), ("row", 1)):
        values = pa.array(
            [place[part] for place in (now[row] for row in kept) if place is not None], table.schema.field(name).type
        )
        table = table.set_column(table.schema.get_field_index(name), name, values)
    table, buffer = table.replace_schema_metadata(None), io.BytesIO()
    writer = pq.ParquetWriter(buffer, table.schema, write_page_checksum=True)
    writer.write_table(table, row_group_size=CACHED_AT_ONCE)
    _put_cache(work, writer, buffer)


_COLUMNS = frozenset({*LISTING_COLUMNS, *LOOK_COLUMNS, "key", "store", "row"} - {"comments"})
"""Of what a look leaves behind; without one of them nothing of it is taken over."""


def _read_cache(work: str) -> _Columns:
    """Return the table of the last look; none where there was none, or where it cannot be read."""
    import pyarrow as pa

    file, columns = _cache_file(work), {}
    try:
        for field in file.schema_arrow if file and file.metadata.num_rows else ():  # a column at a time is held twice
            values = file.read(columns=[field.name]).column(0).to_pylist()
            columns[field.name] = np.array(values, dtype=TEXT if pa.types.is_string(field.type) else None)
    except _parquet_errors():
        return {}
    return columns if columns.keys() - {"comments"} == _COLUMNS else {}


def cache_problems(work: str) -> list[str]:
    """Return what is wrong with what the last look left behind, whose pages carry checksums; an earlier version's is not used."""
    if not folder_at(work).exists(CACHE_FILE):
        return []
    file = _cache_file(work)
    unreadable: tuple[type[Exception], ...] = (KeyError, IndexError, *_parquet_errors())
    keys: set[str] = set()
    try:
        for rows in file.iter_batches(CACHED_AT_ONCE) if file else ():  # every page is read, a few rows at a time
            keys |= {key.split(" ")[2] for key in rows.column("key").to_pylist()}
        names = set(file.schema_arrow.names) if file else set()
    except unreadable:
        file, names = None, set()
    is_whole = file is not None and (keys != {_columns_digest()} or names - {"comments"} == _COLUMNS)
    return [] if is_whole else [f"{work}/{CACHE_FILE}: altered; remove it, and the next run looks into every record again"]


def _cache_file(work: str) -> Any:
    """Return the last look as a Parquet file; None where there was none, or where it is no such file."""
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(_whole_cache(work), page_checksum_verification=True)
    except _parquet_errors():
        return None


def _parquet_errors() -> tuple[type[Exception], ...]:
    import pyarrow as pa

    return OSError, ValueError, pa.ArrowException


def _key(labels: str | None, keep_comments: bool) -> str:
    """Return what a cached row depends on besides the record's files: version, columns, label table, what is kept."""
    columns = _columns_digest()
    table = hashlib.sha256(Path(labels).read_bytes()).hexdigest() if labels is not None else ""
    return f"{CACHE_FORMAT} {__version__} {columns} {table}{' comments' if keep_comments else ''}"


def _columns_digest() -> str:
    return hashlib.sha256(" ".join(LISTING_COLUMNS).encode()).hexdigest()[:8]


def changed_key(work: str, labels: str | None, keep_comments: bool) -> tuple[int, list[str]] | None:
    """Return how many headers the next look reads again though no file has moved, and why; None where that is none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        keys = pq.read_table(_whole_cache(work), columns=["key"]).column(0).to_pylist()
    except (OSError, KeyError, pa.ArrowException):
        return None
    now, others = _key(labels, keep_comments), Counter(keys)
    others.pop(now, None)
    if not others:
        return None
    said = [dict(zip_longest(_KEY_PARTS, key.split(" "), fillvalue="")) for key in (now, others.most_common(1)[0][0])]
    return sum(others.values()), [f"{name} differs" for name in _KEY_PARTS if said[0][name] != said[1][name]]


_KEY_PARTS = ("what is read of a header", "ecgbatch's version", "the listing's columns", "the label table", "--keep-comments")


def _signature(archive: str, record_name: str, files: str, status: int, reason: str) -> str:
    """Return sizes and times of a record's files; empty where they cannot be told, or where what was said of the record does not
    rest on them (``NOT_OF_FILES``): it is looked at again each time.

    Of a record that lacks something, the time of its folder counts too: what is missing appears there.
    """
    if reason in NOT_OF_FILES:
        return ""
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


def _growing(archive: str, fresh: _Columns, started: float, settle_s: float) -> set[str]:
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


def _digests(names: list[str], *, archive: str) -> dict[str, str]:
    return {name: source_digest(archive, name) for name in names}
