"""Digests that say by which algorithm they were made: what a store proves of itself, and what is compared with it later.

A digest of BLAKE3 is written ``blake3:`` and 64 hexadecimal digits; one of SHA-256, by which everything was proved before, the
digits alone. Two digests are compared only where one algorithm made both. What names a thing (the digest of a plan, of a model,
of inputs), seals a small document or is checked by others (``SHA256SUMS.txt``) stays SHA-256: docs/adr/0032.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from blake3 import blake3

SHA256, BLAKE3 = "sha256", "blake3"
STRONG = BLAKE3
"""What new proofs are made by: as strong as SHA-256, and about three times as fast on one core."""

Bytes = bytes | bytearray | memoryview | np.ndarray[Any, Any]


class Hasher:
    """A digest in the making.

    Raises
    ------
    ValueError
        If ``algorithm`` is none that is known here: a later version made that digest.

    """

    def __init__(self, algorithm: str = STRONG) -> None:
        if algorithm not in (SHA256, BLAKE3):
            raise ValueError(f"digest by {algorithm!r}; this version knows {SHA256} and {BLAKE3}: use the ecgbatch that made it")
        self._algorithm = algorithm
        self._state: Any = hashlib.sha256() if algorithm == SHA256 else blake3()

    def update(self, content: Bytes) -> None:
        """Add bytes; of an array those of its values, in C order."""
        if isinstance(content, np.ndarray):
            content = np.ascontiguousarray(content).reshape(-1).view(np.uint8)
        self._state.update(content)

    def text(self) -> str:
        """Return the digest of what was added, with its algorithm's name."""
        return named(self._algorithm, self._state.digest())


def named(algorithm: str, digest: bytes) -> str:
    """Return a digest as text, with its algorithm's name; SHA-256 has none."""
    return digest.hex() if algorithm == SHA256 else f"{algorithm}:{digest.hex()}"


def algorithm_of(digest: str) -> str:
    """Return by which algorithm a digest was made; of an empty one, by which it would be made now."""
    name, colon, _ = digest.partition(":")
    return name if colon else SHA256 if digest else STRONG


def digest_bytes(digest: str) -> bytes:
    """Return the 32 bytes of a digest."""
    return bytes.fromhex(digest.rpartition(":")[2])
