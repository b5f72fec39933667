"""Small columns of a store, read on the caller's own thread and only as far as they are wanted.

Zarr's own way decodes a column's chunk of 65,536 rows whole, text as one object a row, on whichever of its threads is free: each
of those keeps for itself what it was given. Read here, the text of a chunk is bytes until a row of it is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from struct import Struct
from typing import Any

import google_crc32c
import numpy as np
from numcodecs.zstd import Zstd

from storage.errors import CorruptStore
from storage.folder import Folder
from storage.receipts import WrittenFile, is_as_written
from storage.schema import TEXT

Array = np.ndarray[Any, Any]

_NUMBERS = frozenset({"bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64"})
_AT_A_TIME = 4096  # texts that are Python's at once


Files = Mapping[str, Sequence[Any]]
"""Keys of a store's small files, with bytes and digest of each, as its root document has them."""


def read_proved(folder: Folder, key: str, files: Files) -> bytes:
    """Return the bytes under ``key`` if they are those that were written; ``FileNotFoundError`` where none were.

    Raises
    ------
    CorruptStore
        If they are others, or gone: to Zarr a chunk that is not there is one of fill.

    """
    wanted = files.get(key)
    try:
        content = folder.read(key)
    except FileNotFoundError:
        if wanted is None:
            raise
        raise CorruptStore(f"{folder}/{key}: missing; see ecgbatch verify --repair") from None
    if wanted is None or not is_as_written(content, WrittenFile(*wanted)):
        raise CorruptStore(f"{folder}/{key}: not the bytes that were written; see ecgbatch verify --repair")
    return content


def column_rows(folder: Folder, name: str, files: Files, start: int, stop: int | None = None) -> Array | None:
    """Return rows of a small column of a published store; None where it is not written as ``arrays.array_document`` says.

    Raises
    ------
    CorruptStore
        If files are not those that were written, or cannot be decoded.

    """
    told = json.loads(read_proved(folder, f"{name}/zarr.json", files))
    shape, chunk = told["shape"], told["chunk_grid"]["configuration"].get("chunk_shape")
    is_text, codecs = told["data_type"] == "string", [codec["name"] for codec in told["codecs"]]
    known = is_text or told["data_type"] in _NUMBERS
    if not known or not shape or not chunk or codecs != ["vlen-utf8" if is_text else "bytes", "zstd", "crc32c"]:
        return None
    if any(part < whole for part, whole in zip(chunk[1:], shape[1:], strict=True)) or (is_text and len(shape) > 1):
        return None
    stop = shape[0] if stop is None else min(stop, shape[0])
    dtype = TEXT if is_text else np.dtype(told["data_type"]).newbyteorder("<")
    found = np.full((max(0, stop - start), *shape[1:]), told["fill_value"], dtype=dtype)
    for number in range(start // chunk[0], -(-stop // chunk[0])):
        key = f"{name}/c/{number}" + "/0" * (len(shape) - 1)
        first, last = max(start, number * chunk[0]), min(stop, (number + 1) * chunk[0])
        here, out = slice(first - number * chunk[0], last - number * chunk[0]), found[first - start : last - start]
        try:
            raw = _decoded(read_proved(folder, key, files), f"{folder}/{key}")
        except FileNotFoundError:
            continue  # all fill
        if is_text:
            _copy_texts(raw, here, out)
        else:
            out[...] = np.frombuffer(raw, dtype).reshape(chunk)[here, *(slice(0, n) for n in shape[1:])]
    return found


def _decoded(content: bytes, where: str) -> bytes:
    if len(content) < 4 or int(google_crc32c.value(content[:-4])).to_bytes(4, "little") != content[-4:]:
        raise CorruptStore(f"{where}: a chunk does not have its checksum; see ecgbatch verify --repair")
    try:
        return bytes(Zstd().decode(content[:-4]))
    except RuntimeError as error:
        raise CorruptStore(f"{where}: a chunk cannot be decoded ({error}); see ecgbatch verify --repair") from error


def _copy_texts(raw: bytes, rows: slice, out: Array) -> None:
    """Fill ``out`` with some of a chunk's texts: after their number each stands behind its length, four bytes each."""
    at = 4
    for _ in range(rows.start):
        at += 4 + _length(raw, at)[0]
    for first in range(0, len(out), _AT_A_TIME):
        texts = []
        for _ in range(min(_AT_A_TIME, len(out) - first)):
            end = at + 4 + _length(raw, at)[0]
            texts.append(raw[at + 4 : end].decode())
            at = end
        out[first : first + len(texts)] = texts


_length = Struct("<I").unpack_from
