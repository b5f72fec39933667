"""Receipts: the proof that a shard is on disk, and the small columns of its rows."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from storage.digests import BLAKE3, SHA256, STRONG, Hasher, algorithm_of, named
from storage.plan import Plan, Shard, canonical_json
from storage.schema import TEXT

RECEIPTS = "receipts"
"""Group of a published store that keeps, per shard, what the receipts said: a store proves itself."""


@dataclass(frozen=True)
class WrittenFile:
    """A file of a store: its size and the digest of its bytes, with its algorithm's name."""

    n_bytes: int
    digest: str


def written_file(content: bytes, algorithm: str = STRONG) -> WrittenFile:
    """Describe a file's bytes."""
    digest = Hasher(algorithm)
    digest.update(content)
    return WrittenFile(len(content), digest.text())


def is_as_written(content: bytes, stated: WrittenFile) -> bool:
    """Tell whether a file's bytes are those that were described."""
    return len(content) == stated.n_bytes and written_file(content, algorithm_of(stated.digest)) == stated


@dataclass(frozen=True)
class Receipt:
    """Shard ``shard`` of the plan ``plan_digest`` is complete: these files, this decoded content, these columns, by this code."""

    plan_digest: str
    shard: Shard
    files: Mapping[str, WrittenFile]
    content: Mapping[str, str]
    columns: Mapping[str, np.ndarray[Any, Any]]
    made_by: Mapping[str, str] = field(default_factory=dict)
    """``storage.maker.this_maker`` of whoever made it; empty in receipts of earlier versions."""

    def to_bytes(self) -> bytes:
        """Return the receipt as JSON that carries its own digest: a torn or altered receipt is no receipt."""
        body = {
            "plan": self.plan_digest,
            "shard": [self.shard.index, self.shard.start, self.shard.stop],
            "files": {key: [file.n_bytes, file.digest] for key, file in self.files.items()},
            "content": dict(self.content),
            "columns": {name: _pack(values) for name, values in self.columns.items()},
            **({"made_by": dict(self.made_by)} if self.made_by else {}),
        }
        return canonical_json({"receipt": body, "digest": hashlib.sha256(canonical_json(body)).hexdigest()})

    @classmethod
    def from_bytes(cls, raw: bytes) -> Receipt:
        """Read a receipt back; ``ValueError`` if its digest does not fit."""
        document = json.loads(raw)
        body = document["receipt"]
        if hashlib.sha256(canonical_json(body)).hexdigest() != document["digest"]:
            raise ValueError("the receipt's digest does not fit its content")
        return cls(
            body["plan"],
            Shard(*body["shard"]),
            {key: WrittenFile(*file) for key, file in body["files"].items()},
            body["content"],
            {name: _unpack(packed) for name, packed in body["columns"].items()},
            body.get("made_by", {}),
        )


def read_receipt(raw: bytes, plan: Plan, shard: Shard) -> Receipt | None:
    """Return the receipt if it belongs to this very shard of this very plan, else ``None``.

    One whose digests are of an algorithm that proofs are no longer made by is none either: a store has one algorithm.
    """
    try:
        receipt = Receipt.from_bytes(raw)
    except (ValueError, KeyError, TypeError):
        return None
    digests = [*receipt.content.values(), *(file.digest for file in receipt.files.values())]
    is_strong = all(algorithm_of(digest) == STRONG for digest in digests)
    return receipt if is_strong and (receipt.plan_digest, receipt.shard) == (plan.digest, shard) else None


def proved_digest(proof: Mapping[str, np.ndarray[Any, Any]], name: str, shard: int) -> str:
    """Return the digest that a published store's receipts (arrays of group ``RECEIPTS``) hold of one shard, under ``name``.

    Raises
    ------
    KeyError
        If they hold none: the store was not written by any version until now.

    """
    for algorithm in (BLAKE3, SHA256):
        if (rows := proof.get(f"{name}_{algorithm}")) is not None:
            return named(algorithm, rows[shard].tobytes())
    raise KeyError(name)


def columns_of(block: xr.Dataset, plan: Plan) -> dict[str, np.ndarray[Any, Any]]:
    """Return the values of a block's small columns."""
    return {name: np.asarray(block[name].values) for name in plan.schema.columns()}


def _pack(values: np.ndarray[Any, Any]) -> dict[str, Any]:
    if values.dtype.kind == "T":
        return {"shape": list(values.shape), "text": values.ravel().tolist()}
    raw = np.ascontiguousarray(values).tobytes()
    return {"shape": list(values.shape), "dtype": values.dtype.str, "base64": base64.b64encode(raw).decode()}


def _unpack(packed: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    if "text" in packed:
        return np.array(packed["text"], dtype=TEXT).reshape(packed["shape"])
    raw = base64.b64decode(packed["base64"])
    return np.frombuffer(raw, dtype=np.dtype(packed["dtype"])).reshape(packed["shape"])
