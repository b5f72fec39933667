"""Plans: what a store will hold and how it is cut, decided by arithmetic before anything is written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from storage.errors import SchemaError
from storage.schema import Schema, Variable, digest_array
from storage.versions import installed_version

SHARD_BYTES = 32_000_000
"""Decoded bytes of one shard: small enough for a few in memory, large enough that 1 M ten-second records make 3,750 files."""

INNER_CHUNK_BYTES = 512_000
"""Decoded bytes of one inner chunk: about a second level cache, and one read of an object store."""


@dataclass(frozen=True, order=True)
class Shard:
    """Rows ``start`` to ``stop`` (exclusive) of a store; written whole, by one writer."""

    index: int
    start: int
    stop: int


@dataclass(frozen=True)
class Plan:
    """A store before it exists. Equal plans make equal bytes; ``digest`` names plan and store.

    ``inputs`` is what is known beforehand: variables that the schema fixes are stored as they are, variables on the row
    dimension are sliced and handed to the stage with each shard, and all of it counts in the digest.
    """

    schema: Schema
    sizes: Mapping[str, int]
    shard_rows: int
    inputs: xr.Dataset = field(compare=False, repr=False)
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    inputs_digest: str = ""

    @property
    def n_rows(self) -> int:
        """Rows of the whole store."""
        return self.sizes[self.schema.row_dim]

    @property
    def n_shards(self) -> int:
        """Shards of the whole store."""
        return -(-self.n_rows // self.shard_rows)

    def shard(self, index: int) -> Shard:
        """Return shard ``index``."""
        return Shard(index, index * self.shard_rows, min((index + 1) * self.shard_rows, self.n_rows))

    @cached_property
    def document(self) -> dict[str, Any]:
        """The plan as JSON-ready data: everything but the inputs themselves."""
        # What is written by shard begins with it; it is said where nothing is, for earlier digests hold without it.
        row_dim = {} if self.schema.bulk() else {"row_dim": self.schema.row_dim}
        return row_dim | {
            "schema": self.schema.name,
            "schema_version": self.schema.version,
            "variables": {name: asdict(variable) for name, variable in self.schema.variables.items()},
            "sizes": dict(self.sizes),
            "shard_rows": self.shard_rows,
            "inputs_digest": self.inputs_digest,
            "settings": dict(self.settings),
            "versions": dict(self.versions),
        }

    @cached_property
    def digest(self) -> str:
        """Twenty hexadecimal digits of the SHA-256 of the plan's canonical JSON: the store's name."""
        return hashlib.sha256(canonical_json(self.document)).hexdigest()[:20]

    def rows(self, shard: Shard) -> xr.Dataset:
        """Return the inputs of a shard's rows."""
        on_rows = [name for name, variable in self.inputs.variables.items() if self.schema.row_dim in variable.dims]
        return self.inputs[on_rows].isel({self.schema.row_dim: slice(shard.start, shard.stop)}, missing_dims="ignore")

    def without_inputs(self) -> Plan:
        """Return the plan as it travels to workers: a few kilobytes whatever the number of rows."""
        return Plan(self.schema, self.sizes, self.shard_rows, xr.Dataset(), self.settings, self.versions, self.inputs_digest)

    def shape(self, variable: Variable) -> tuple[int, ...]:
        """Return the shape of a variable in the whole store."""
        return tuple(self.sizes[dim] for dim in variable.dims)

    def chunks(self, variable: Variable) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return shard shape and inner chunk shape of a bulk variable."""
        inner = _inner_chunk(variable, self.sizes)
        rest = tuple(-(-self.sizes[dim] // length) * length for dim, length in zip(variable.dims[1:], inner, strict=True))
        return (self.shard_rows, *rest), (_inner_rows(variable, self.sizes, self.shard_rows), *inner)

    @property
    def row_bytes(self) -> int:
        """Decoded bytes of one row of all bulk variables."""
        return _row_bytes(self.schema, self.sizes)

    def estimate(self) -> dict[str, Any]:
        """Return shards, rows, decoded bytes, and memory that one worker needs (block, its copy read back, encoded)."""
        return {
            "store": self.schema.name,
            "digest": self.digest,
            "rows": self.n_rows,
            "shards": self.n_shards,
            "bytes": self.row_bytes * self.n_rows,
            "memory_bytes_per_worker": 3 * self.row_bytes * min(self.shard_rows, max(self.n_rows, 1)),
        }


def make_plan(
    schema: Schema,
    *,
    sizes: Mapping[str, int],
    inputs: xr.Dataset,
    settings: Mapping[str, Any],
    versions: Mapping[str, str] | None = None,
    shard_rows: int | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> Plan:
    """Decide how a store is cut. Depends on schema, sizes and inputs only, never on workers or memory.

    Parameters
    ----------
    sizes
        Length of every dimension of the schema.
    inputs
        See ``Plan``. Must hold the schema's fixed variables with their exact types and shapes.
    settings, versions
        JSON-ready; whatever else the content depends on. Versions of zarr, numcodecs and numpy are added.
    shard_rows
        Rows of a shard where the work of a row, not its bytes, should decide; rounded to whole inner chunks.

    Raises
    ------
    SchemaError
        If a dimension or a fixed variable is missing or of the wrong kind.

    """
    missing = {dim for variable in schema.variables.values() for dim in variable.dims} - sizes.keys()
    if missing:
        raise SchemaError(f"plan of {schema.name!r} needs the size of {sorted(missing)}")
    for name, variable in schema.fixed().items():
        shape = tuple(sizes[dim] for dim in variable.dims)
        found = inputs.variables.get(name)
        if found is None or found.shape != shape or found.dtype != variable.numpy_dtype:
            raise SchemaError(f"plan of {schema.name!r}: input {name!r} must be {variable.dtype} {shape}, found {found!r}")
    wanted = shard_rows or max(1, shard_bytes // max(1, _row_bytes(schema, sizes)))
    rows = _whole_chunks(schema, sizes, wanted)
    return Plan(schema, dict(sizes), rows, inputs, dict(settings), with_own_versions(versions or {}), _digest_inputs(inputs))


def with_own_versions(versions: Mapping[str, str]) -> dict[str, str]:
    """Return a stage's versions with those of what writes every store, as a plan states them."""
    return {name: installed_version(name) for name in ("zarr", "numcodecs", "numpy")} | dict(versions)


def canonical_json(document: Any) -> bytes:
    """Return the one spelling of a JSON document that digests are taken of."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=True).encode()


def _digest_inputs(inputs: xr.Dataset) -> str:
    parts = {
        str(name): [list(v.dims), digest_array(v.values)]
        for name, v in sorted(inputs.variables.items(), key=lambda named: str(named[0]))
    }
    return hashlib.sha256(canonical_json(parts)).hexdigest()


def _row_bytes(schema: Schema, sizes: Mapping[str, int]) -> int:
    lengths = ((v.numpy_dtype.itemsize, [sizes[dim] for dim in v.dims[1:]]) for v in schema.bulk().values())
    return sum(itemsize * int(np.prod(rest, dtype=np.int64)) for itemsize, rest in lengths)


def _inner_chunk(variable: Variable, sizes: Mapping[str, int]) -> tuple[int, ...]:
    wanted = variable.inner_chunk or (None,) * (len(variable.dims) - 1)
    lengths = (sizes[dim] for dim in variable.dims[1:])
    return tuple(_even_part(max(1, length), chunk or max(1, length)) for length, chunk in zip(lengths, wanted, strict=True))


def _even_part(length: int, most: int) -> int:
    """Cut ``length`` into the fewest equal parts of at most ``most``, so that the last chunk is not mostly padding."""
    return -(-length // -(-length // most))


def _inner_rows(variable: Variable, sizes: Mapping[str, int], shard_rows: int) -> int:
    """Return the rows of an inner chunk: the power of two that fills it best and divides the shard."""
    one_row = variable.numpy_dtype.itemsize * int(np.prod(_inner_chunk(variable, sizes), dtype=np.int64))
    rows = 1
    while 2 * rows * one_row <= INNER_CHUNK_BYTES and shard_rows % (2 * rows) == 0:
        rows *= 2
    return rows


def _whole_chunks(schema: Schema, sizes: Mapping[str, int], wanted: int) -> int:
    """Round a number of shard rows so that inner chunks of the wished size divide it; no larger than the store needs."""
    wanted = min(wanted, max(1, sizes[schema.row_dim]))
    step = max((_inner_rows(v, sizes, 1 << 30) for v in schema.bulk().values()), default=1)
    step = min(step, 1 << (wanted.bit_length() - 1))
    return max(step, wanted // step * step)
