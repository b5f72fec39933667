"""Files that look like ECGs by their first bytes and are no record: what kind they are, and why they were not taken."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from types import MappingProxyType
from typing import Any, NamedTuple

from ecgbatch.formats.files import first_bytes
from ecgbatch.formats.header import UnreadableRecord
from ecgbatch.formats.inspection import SUFFIXES

MOST_SHOWN = 20
"""Files that a summary names."""
_LOOKED_AT = 4096
"""First bytes of a file: an XML root stands within them."""
_NO_ECG = (
    ".hea",
    ".dat",
    ".xyz",
    ".mat",
    ".txt",
    ".csv",
    ".tsv",
    ".json",
    ".md",
    ".html",
    ".pdf",
    ".png",
    ".jpg",
    ".zip",
    ".gz",
    ".py",
)
"""Files that are not opened: WFDB's own, and what lies beside records everywhere."""
_OF_DATABASES = frozenset({"RECORDS", "ANNOTATORS", "DBS", "LICENSE", "README", "Makefile"})
"""Nor are these, which have no suffix."""
_OF_SYSTEMS = frozenset({"Thumbs.db", "desktop.ini"})
_ROOTS = MappingProxyType({b"<RestingECG": "GE MUSE XML", b"<restingecgdata": "Philips XML", b"<AnnotatedECG": "HL7 aECG"})
_SUFFIX_OF = MappingProxyType(
    {"DICOM": ".dcm", "EDF": ".edf", "SCP-ECG": ".scp", "GE MUSE XML": ".xml", "Philips XML": ".xml", "HL7 aECG": ".xml"}
)


class Untaken(NamedTuple):
    """One file; size and time tell whether it has to be looked at again."""

    path: str
    """Below the archive."""
    n_bytes: int
    mtime_ns: int
    kind: str
    """Empty where it does not look like an ECG."""
    reason: str


def may_be_ecg(name: str) -> bool:
    """Return whether a file of this name is looked into; those of a system, and those that lie beside records, are not."""
    return not (name in _OF_DATABASES or name in _OF_SYSTEMS or name.lower().endswith(_NO_ECG))


def kind_of(content: bytes) -> str:
    """Return which format a file's first bytes are of; empty where of none that is known."""
    if content[128:132] == b"DICM":
        return "DICOM"
    if content[:8] == b"0       " and content[8:256].isascii():
        return "EDF"
    if content[:8] == b"\xffBIOSEMI":
        return "BDF"
    if content[16:22] == b"SCPECG":
        return "SCP-ECG"
    if content[:8] in {b"ISHNE1.0", b"ANN  1.0"}:
        return "ISHNE"
    text = content.replace(b"\0", b"")  # UTF-16 too
    return next((kind for root, kind in _ROOTS.items() if root in text), "")


def find_untaken(
    beside: Iterable[tuple[str, str]], unlisted: Iterable[tuple[str, str]] = (), known: Iterable[Untaken] = ()
) -> list[Untaken]:
    """Return those files that are no record's and were looked at, in order; those of ``kind`` '' are no ECGs.

    Parameters
    ----------
    beside, unlisted
        Path below the archive and place of each file (``finding.Found``): such as are no records, and such as no list names.
    known
        What an earlier look gave: a file of the same size and time is not opened again.

    """
    before = {one.path: one for one in known}
    found = []
    reasons = [(one, "") for one in beside] + [(one, "not listed in RECORDS") for one in unlisted]
    for (path, place), reason in sorted(reasons):
        try:
            stat = os.stat(place)  # noqa: PTH116
            same = before.get(path)
            if same is not None and (same.n_bytes, same.mtime_ns) == (stat.st_size, stat.st_mtime_ns):
                kind = same.kind
            else:
                kind = kind_of(first_bytes(place, _LOOKED_AT))
        except (OSError, UnreadableRecord):
            continue
        found.append(Untaken(path, stat.st_size, stat.st_mtime_ns, kind, (reason or _reason(kind)) if kind else ""))
    return found


def _reason(kind: str) -> str:
    suffix = _SUFFIX_OF.get(kind, "")
    return f"its name does not end with {suffix}: rename it" if suffix in SUFFIXES else "no reader for this format"


def summarise_untaken(found: Iterable[Untaken]) -> dict[str, Any]:
    """Return ``n_not_taken`` {kind: n} and ``not_taken``, the first ``MOST_SHOWN`` of {file, kind, reason}."""
    ecgs = [one for one in found if one.kind]
    shown = [{"file": one.path, "kind": one.kind, "reason": one.reason} for one in ecgs[:MOST_SHOWN]]
    return {"n_not_taken": dict(Counter(one.kind for one in ecgs).most_common()), "not_taken": shown}
