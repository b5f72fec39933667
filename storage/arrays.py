"""Zarr's side of a store: array documents, codecs, reading and writing of whole blocks."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import zarr
import zarr.storage
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec
from zarr.core.buffer import default_buffer_prototype

from storage.folder import Folder
from storage.plan import Plan
from storage.schema import Variable

COLUMN_ROWS = 65_536
"""Rows of a chunk of a small column: 10 M records make 153 chunks."""


def array_document(plan: Plan, variable: Variable) -> bytes:
    """Return the bytes of an array's ``zarr.json``: the same for the same plan, so that they can be verified."""
    shape = plan.shape(variable)
    if variable.bulk:
        shards, chunks = plan.chunks(variable)
        return _document(variable, shape, chunks, shards)
    return _document(variable, shape, (min(COLUMN_ROWS, max(1, shape[0])), *(max(1, n) for n in shape[1:])), None)


def plain_document(values: np.ndarray[Any, Any], dims: tuple[str, ...], long_name: str) -> bytes:
    """Return the ``zarr.json`` of an unsharded array as large as ``values``, outside of any schema."""
    variable = Variable(dims, str(values.dtype), long_name)
    return _document(
        variable, values.shape, (min(COLUMN_ROWS, max(1, values.shape[0])), *(max(1, n) for n in values.shape[1:])), None
    )


def _document(variable: Variable, shape: tuple[int, ...], chunks: tuple[int, ...], shards: tuple[int, ...] | None) -> bytes:
    array = zarr.create_array(
        zarr.storage.MemoryStore(),
        shape=shape,
        dtype=variable.numpy_dtype,
        chunks=chunks,
        shards=shards,
        compressors=_compressors(variable),
        fill_value=variable.fill_value,
        dimension_names=variable.dims,
        attributes=variable.attributes(),
        zarr_format=3,
    )
    return array.metadata.to_buffer_dict(default_buffer_prototype())["zarr.json"].to_bytes()


def _compressors(variable: Variable) -> list[Any]:
    """Return the codecs after the serializer; ``crc32c`` comes last, since the others let bit flips through unseen."""
    if variable.dtype == "string" or not variable.bulk:
        return [ZstdCodec(level=3), Crc32cCodec()]
    itemsize = variable.numpy_dtype.itemsize
    return [BloscCodec(typesize=itemsize, cname="lz4", clevel=5, shuffle="bitshuffle", blocksize=0), Crc32cCodec()]


def group_document(attributes: dict[str, Any]) -> bytes:
    """Return the bytes of a group's ``zarr.json``."""
    document = {"attributes": attributes, "zarr_format": 3, "node_type": "group"}
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False).encode()


def open_array(folder: Folder, prefix: str, name: str, *, read_only: bool = False) -> Any:
    """Open one array of a store whose root does not exist yet."""
    store = folder.zarr_store(prefix, read_only=read_only)
    return zarr.open_array(store, path=name, mode="r" if read_only else "r+", zarr_format=3)


def read_rows(array: Any, start: int, stop: int) -> np.ndarray[Any, Any]:
    """Return rows ``start`` to ``stop`` as numpy."""
    return np.asarray(array[start:stop])


def shard_key(plan: Plan, name: str, index: int) -> str:
    """Return the key, below the store, of the file of shard ``index`` of a bulk variable."""
    return f"{name}/c/{index}" + "/0" * (len(plan.schema.variables[name].dims) - 1)
