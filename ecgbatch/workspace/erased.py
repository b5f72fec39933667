"""Whom a workspace must not hold any more: keyed digests of erased patients and of their records, and what was done for each."""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storage import CorruptStore, folder_at, sealed, unsealed

ERASED_FILE = "erased.json"
"""Below the workspace, sealed. Who has it can ask it for a name, and cannot read one in it."""

VIEW_FILE = "archive.json"
"""The archive's view (``signals.stage.ARCHIVE_FILE``): from the first erasure on it says how many there are, so that a list
which is lost is missed."""

N_ERASURES = "n_erasures"
"""Key of that number in the view."""

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
        If the list was altered, or is missing though there were erasures: without it erased patients would come back.

    """
    stated = erasures_stated(work)
    try:
        document = unsealed(folder_at(work).read(ERASED_FILE), f"{work}/{ERASED_FILE}")
    except FileNotFoundError:
        document = {"key": secrets.token_hex(32), "erasures": []}
    if len(document["erasures"]) < stated:
        raise CorruptStore(
            f"{work}/{ERASED_FILE}: missing or an old copy: {VIEW_FILE} says that {stated} patients were erased here, this list "
            f"has {len(document['erasures'])}, and the others would come back. Restore it from a copy; if there is none, take "
            "those patients out of the archive and begin a new workspace"
        )
    return _listed(bytes.fromhex(document["key"]), document["erasures"])


def erasures_stated(work: str | Path) -> int:
    """Return how many erasures the archive's view says there were; 0 where there is no view, or one of before the first.

    The view is not parsed, since it names every record: no line of it begins like this but that of its own key.
    """
    try:
        found = _STATED.search(folder_at(work).read(VIEW_FILE))
    except FileNotFoundError:
        return 0
    return int(found[1]) if found else 0


_STATED = re.compile(rf'^ "{N_ERASURES}": (\d+)'.encode(), re.MULTILINE)


def write_erased(work: str | Path, erased: Erased) -> None:
    """Put the list of erasures, then let the archive's view say how many it has."""
    folder = folder_at(work)
    folder.put(ERASED_FILE, sealed({"key": erased.key.hex(), "erasures": [dict(one) for one in erased.erasures]}))
    if folder.exists(VIEW_FILE) and erasures_stated(work) != len(erased.erasures):
        view = unsealed(folder.read(VIEW_FILE), f"{work}/{VIEW_FILE}")
        folder.put(VIEW_FILE, sealed(view | {N_ERASURES: len(erased.erasures)}))


def unended(work: str | Path) -> int:
    """Return how many erasures were begun and have not ended."""
    return sum(not one["ended"] for one in erased_list(work).erasures)
