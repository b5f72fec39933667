"""Whom a workspace must not hold any more: keyed digests of erased patients and of their records, and what was done for each."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storage import Folder, sealed, unsealed

ERASED_FILE = "erased.json"
"""Below the workspace, sealed. Who has it can ask it for a name, and cannot read one in it."""

_DIGITS = 32
"""Of a digest: 128 bits, so that no other patient is ever left out for the like of it."""


@dataclass(frozen=True)
class Erased:
    """The list of erasures of one workspace; false where there is none.

    Parameters
    ----------
    key
        Of the digests (HMAC-SHA-256), drawn for this list.
    erasures
        One document a patient: ``patient`` and ``records`` (digests), ``began`` and ``ended`` (ISO times; the latter empty while
        it is not done), ``replaced`` {key of a store: key of the one that has its other rows, or empty}, ``n_removed`` {sort:
        how many of what named the patient}, ``models`` (folders of models that were trained on the patient).

    """

    key: bytes
    erasures: tuple[Mapping[str, Any], ...] = ()
    _known: frozenset[str] = field(default=frozenset(), repr=False)

    def __bool__(self) -> bool:
        return bool(self.erasures)

    def digest(self, kind: str, name: str) -> str:
        """Return the digest of a ``record``'s or ``patient``'s name."""
        return hmac.digest(self.key, f"{kind} {name}".encode("utf-8", "surrogatepass"), "sha256").hex()[:_DIGITS]

    def has_record(self, record_name: str) -> bool:
        """Tell whether a record of this name belongs to an erased patient."""
        return self.digest("record", record_name) in self._known

    def has_patient(self, patient_id: str) -> bool:
        """Tell whether this patient is erased."""
        return self.digest("patient", patient_id) in self._known

    def of(self, patient_id: str) -> dict[str, Any]:
        """Return the erasure of a patient; empty where there is none."""
        digest = self.digest("patient", patient_id)
        return next((dict(one) for one in self.erasures if one["patient"] == digest), {})

    def with_erasure(self, erasure: Mapping[str, Any]) -> Erased:
        """Return the list with an erasure added, or in the place of the one of the same patient."""
        others = (one for one in self.erasures if one["patient"] != erasure["patient"])
        return _listed(self.key, (*others, erasure))


def _listed(key: bytes, erasures: Iterable[Mapping[str, Any]]) -> Erased:
    listed = tuple(erasures)
    return Erased(key, listed, frozenset(digest for one in listed for digest in (one["patient"], *one["records"])))


def erased_list(work: str | Path) -> Erased:
    """Return a workspace's list of erasures; an empty one with a key of its own where there is none.

    Raises
    ------
    CorruptStore
        If the list was altered: without it erased patients would come back.

    """
    try:
        document = unsealed(Folder(work).read(ERASED_FILE), f"{work}/{ERASED_FILE}")
    except FileNotFoundError:
        return Erased(secrets.token_bytes(32))
    return _listed(bytes.fromhex(document["key"]), document["erasures"])


def write_erased(work: str | Path, erased: Erased) -> None:
    """Put the list of erasures."""
    Folder(work).put(ERASED_FILE, sealed({"key": erased.key.hex(), "erasures": [dict(one) for one in erased.erasures]}))


def unended(work: str | Path) -> int:
    """Return how many erasures were begun and have not ended."""
    return sum(not one["ended"] for one in erased_list(work).erasures)
