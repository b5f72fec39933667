"""Zarr's sharded format, spoken on the caller's own thread: a whole shard to bytes, rows from ranges of bytes.

Zarr's own way there leads every block through one event loop of the process, where threads wait for each other; see
docs/adr/0015. The format is Zarr's to the byte, which tests prove both ways.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import google_crc32c
import numpy as np
from numcodecs.blosc import Blosc
from zarr.core.indexing import morton_order_iter

from storage.errors import CorruptStore

Array = np.ndarray[Any, Any]
Read = Callable[[int, int], bytes | memoryview]
"""``read(start, n_bytes)`` of a shard's file; a negative ``start`` counts from its end."""

_NOTHING = np.uint64(2**64 - 1)
"""Offset and length of a chunk that is all fill: it has no bytes."""
_INDEX_CODECS = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
_SHUFFLES = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}


@dataclass(frozen=True)
class Layout:
    """How a sharded array is cut, and how a chunk of it becomes bytes."""

    shape: tuple[int, ...]
    shard: tuple[int, ...]
    chunk: tuple[int, ...]
    fill: Any
    codec: Blosc

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the array's values."""
        dtype: np.dtype[Any] = self.fill.dtype
        return dtype

    @property
    def chunks(self) -> tuple[int, ...]:
        """Chunks of a shard along each dimension."""
        return tuple(whole // part for whole, part in zip(self.shard, self.chunk, strict=True))


def layout_of(document: bytes) -> Layout | None:
    """Return the layout that an array's ``zarr.json`` states; None if this module does not speak it.

    Spoken are numbers in shards of one row of shards (every dimension after the first is whole), whose chunks pass through
    blosc and crc32c: all that ``array_document`` writes for bulk variables.
    """
    told = json.loads(document)
    outer, dtype = told["codecs"], told["data_type"]
    if len(outer) != 1 or outer[0]["name"] != "sharding_indexed" or dtype not in _TYPES:
        return None
    sharding = outer[0]["configuration"]
    inner = sharding["codecs"]
    if [codec["name"] for codec in inner] != ["bytes", "blosc", "crc32c"] or inner[0].get("configuration", _LITTLE) != _LITTLE:
        return None
    if sharding["index_codecs"] != _INDEX_CODECS or sharding["index_location"] != "end":
        return None
    shape, shard = tuple(told["shape"]), tuple(told["chunk_grid"]["configuration"]["chunk_shape"])
    if any(whole > part for whole, part in zip(shape[1:], shard[1:], strict=True)):
        return None
    blosc = inner[1]["configuration"]
    codec = Blosc(blosc["cname"], blosc["clevel"], _SHUFFLES[blosc["shuffle"]], blosc["blocksize"], blosc["typesize"])
    fill = np.array(told["fill_value"], dtype=dtype)[()]  # Zarr spells infinities and NaN as numpy does
    return Layout(shape, shard, tuple(sharding["chunk_shape"]), fill, codec)


_TYPES = frozenset({"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64"})
_LITTLE = {"endian": "little"}


def encode_shard(layout: Layout, values: Array) -> list[bytes]:
    """Return the bytes of a shard's file, in parts; none where all is fill, for then Zarr has no file.

    ``values`` are the shard's rows; fewer than a whole shard in the store's last one.
    """
    index = np.full((*layout.chunks, 2), _NOTHING, dtype="<u8")
    parts: list[bytes] = []
    end = 0
    for place in morton_order_iter(layout.chunks):
        chunk = _chunk_of(layout, values, place)
        if chunk is None:
            continue
        encoded = layout.codec.encode(chunk)
        parts += [encoded, _checksum(encoded)]
        index[place] = end, len(encoded) + 4
        end += len(encoded) + 4
    raw = index.tobytes()
    return [*parts, raw, _checksum(raw)] if parts else []


def _checksum(content: Any) -> bytes:
    return int(google_crc32c.value(content)).to_bytes(4, "little")


def _chunk_of(layout: Layout, values: Array, place: tuple[int, ...]) -> Array | None:
    """Return a whole chunk, padded with fill where the array ends within it; None where it holds nothing else."""
    start = [at * length for at, length in zip(place, layout.chunk, strict=True)]
    part = values[tuple(slice(at, at + length) for at, length in zip(start, layout.chunk, strict=True))]
    if part.size == 0 or _is_fill(part, layout.fill):
        return None
    if part.shape == layout.chunk:
        return np.ascontiguousarray(part)
    chunk = np.full(layout.chunk, layout.fill, dtype=layout.dtype)
    chunk[tuple(slice(0, length) for length in part.shape)] = part
    return chunk


def _is_fill(part: Array, fill: Any) -> bool:
    first = part[(0,) * part.ndim]
    if first.tobytes() != fill.tobytes():  # settles nearly every chunk
        return False
    bits = np.dtype(f"u{part.dtype.itemsize}")
    return bool((np.ascontiguousarray(part).view(bits) == np.asarray(fill).view(bits)).all())


def decode_rows(layout: Layout, read: Read, first: int, rows: Array, box: tuple[slice, ...], out: Array, where: str) -> None:
    """Decode rows of one shard into ``out``.

    Parameters
    ----------
    read
        Reads from the shard's file.
    first
        The shard's first row.
    rows
        Row numbers in the array, of this shard, not decreasing.
    box
        Start and stop of every dimension after the first.
    out
        (row, ...) One row for each of ``rows``, the other dimensions as large as ``box``; filled here.
    where
        Name of the file, for errors.

    Raises
    ------
    CorruptStore
        If bytes do not have their checksum, or are not there.

    """
    offsets = _read_index(layout, read, where)
    in_chunk = (rows - first) // layout.chunk[0]
    for number in np.unique(in_chunk).tolist():
        low, high = np.searchsorted(in_chunk, [number, number + 1]).tolist()
        wanted = rows[low:high] - first - number * layout.chunk[0]
        # Neighbouring rows are a slice: copied without looking each of them up.
        picked: Any = wanted if (np.diff(wanted) != 1).any() else slice(int(wanted[0]), int(wanted[-1]) + 1)
        for place, source, target in _parts(layout, box):
            part = out[(slice(low, high), *target)]
            offset, n_bytes = offsets[(number, *place)].tolist()
            if offset == _NOTHING:
                part[...] = layout.fill
            elif part.shape == layout.chunk and part.flags.c_contiguous and isinstance(picked, slice):
                _decode_chunk(layout, read(offset, n_bytes), part, where)
            else:
                whole = np.empty(layout.chunk, dtype=layout.dtype)
                _decode_chunk(layout, read(offset, n_bytes), whole, where)
                part[...] = whole[(picked, *source)]


def _parts(layout: Layout, box: tuple[slice, ...]) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...], tuple[slice, ...]]]:
    """Yield every chunk of a chunk row that the box meets: its place, and where they meet, in the chunk and in the box."""
    lengths = layout.chunk[1:]
    met = [range(part.start // n, -(-part.stop // n)) for part, n in zip(box, lengths, strict=True)]
    for place in product(*met):
        low = [max(at * n, part.start) for at, n, part in zip(place, lengths, box, strict=True)]
        high = [min((at + 1) * n, part.stop) for at, n, part in zip(place, lengths, box, strict=True)]
        source = tuple(slice(a - at * n, b - at * n) for a, b, at, n in zip(low, high, place, lengths, strict=True))
        yield place, source, tuple(slice(a - part.start, b - part.start) for a, b, part in zip(low, high, box, strict=True))


def _read_index(layout: Layout, read: Read, where: str) -> Array:
    n_bytes = 16 * int(np.prod(layout.chunks)) + 4
    raw = bytes(read(-n_bytes, n_bytes))
    if len(raw) != n_bytes or _checksum(raw[:-4]) != raw[-4:]:
        raise CorruptStore(f"{where}: the shard's index does not have its checksum; see ecgbatch verify --repair")
    return np.frombuffer(raw[:-4], dtype="<u8").reshape((*layout.chunks, 2))


def _decode_chunk(layout: Layout, raw: bytes | memoryview, out: Array, where: str) -> None:
    content = np.frombuffer(raw, dtype=np.uint8)
    if len(raw) < 4 or _checksum(content[:-4]) != raw[-4:]:
        raise CorruptStore(f"{where}: a chunk does not have its checksum; see ecgbatch verify --repair")
    try:
        layout.codec.decode(content[:-4], out=out)
    except (RuntimeError, ValueError) as error:
        raise CorruptStore(f"{where}: a chunk cannot be decoded ({error}); see ecgbatch verify --repair") from error
