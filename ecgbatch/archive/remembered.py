"""What the last look at an archive left behind: its listing with sizes and times of every file, sealed, in one Parquet file."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ecgbatch import __version__
from ecgbatch.archive.listing import LISTING_COLUMNS
from storage import TEXT, folder_at

CACHE_FILE = "archive.parquet"
"""Below the workspace: the listing of the last run, with sizes and times of every file. Without it all records are read again."""

CACHED_AT_ONCE = 4096
"""Rows that are written, and read, at a time: all of them would be held twice."""

CACHE_FORMAT = 1
"""Raise it when what a listing's columns say of a header changes: headers are then read again, samples are not. Another set of
columns does the same by itself."""

LOOK_COLUMNS = ("files", "base", "signature")
"""Columns of a look that say where and when, not what: no store holds them, and no digest depends on them."""

Columns = dict[str, np.ndarray[Any, Any]]
"""A listing's columns with those of a look. Rows one by one, as dictionaries, would take ten times the memory."""

Place = tuple[str, int]
"""Of a record: digest and row of a signals store."""


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


def read_cache(work: str) -> Columns:
    """Return the table of the last look; none where there was none, or where it cannot be read."""
    import pyarrow as pa

    file, columns = cache_file(work), {}
    try:
        for field in file.schema_arrow if file and file.metadata.num_rows else ():  # a column at a time is held twice
            values = file.read(columns=[field.name]).column(0).to_pylist()
            columns[field.name] = np.array(values, dtype=TEXT if pa.types.is_string(field.type) else None)
    except parquet_errors():
        return {}
    return columns if columns.keys() - {"comments"} == _COLUMNS else {}


def cache_problems(work: str) -> list[str]:
    """Return what is wrong with what the last look left behind, whose pages carry checksums; an earlier version's is not used."""
    if not folder_at(work).exists(CACHE_FILE):
        return []
    file = cache_file(work)
    unreadable: tuple[type[Exception], ...] = (KeyError, IndexError, *parquet_errors())
    keys: set[str] = set()
    try:
        for rows in file.iter_batches(CACHED_AT_ONCE) if file else ():  # every page is read, a few rows at a time
            keys |= {key.split(" ")[2] for key in rows.column("key").to_pylist()}
        names = set(file.schema_arrow.names) if file else set()
    except unreadable:
        file, names = None, set()
    is_whole = file is not None and (keys != {_columns_digest()} or names - {"comments"} == _COLUMNS)
    return [] if is_whole else [f"{work}/{CACHE_FILE}: altered; remove it, and the next run looks into every record again"]


def cache_file(work: str) -> Any:
    """Return the last look as a Parquet file; None where there was none, or where it is no such file."""
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(_whole_cache(work), page_checksum_verification=True)
    except parquet_errors():
        return None


def parquet_errors() -> tuple[type[Exception], ...]:
    """Return what reading a Parquet file that was altered may raise."""
    import pyarrow as pa

    return OSError, ValueError, pa.ArrowException


def key_of(labels: str | None, keep_comments: bool) -> str:
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
    now, others = key_of(labels, keep_comments), Counter(keys)
    others.pop(now, None)
    if not others:
        return None
    said = [dict(zip_longest(_KEY_PARTS, key.split(" "), fillvalue="")) for key in (now, others.most_common(1)[0][0])]
    return sum(others.values()), [f"{name} differs" for name in _KEY_PARTS if said[0][name] != said[1][name]]


_KEY_PARTS = ("what is read of a header", "ecgbatch's version", "the listing's columns", "the label table", "--keep-comments")
