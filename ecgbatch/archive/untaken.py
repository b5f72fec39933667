"""Files that look like ECGs by their first bytes and are no record: what kind they are, and why they were not taken."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
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


def is_hidden(name: str) -> bool:
    """Return whether a file is a system's own: macOS writes ``._x.hea`` beside ``x.hea`` on other systems' disks."""
    return name.startswith("._") or name in {".DS_Store", "Thumbs.db", "desktop.ini"}


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


def find_untaken(archive: str, names: Collection[str], known: Iterable[Untaken] = ()) -> list[Untaken]:
    """Return the files below an archive that are no record's and were looked at, in order; those of ``kind`` '' are no ECGs.

    Parameters
    ----------
    names
        Of the archive's records.
    known
        What an earlier look gave: a file of the same size and time is not opened again.

    """
    root, taken = os.path.realpath(archive), set(names)
    before = {one.path: one for one in known}
    found = []
    for path, place in _candidates(root):
        if path in taken:
            continue
        try:
            stat = os.stat(place)  # noqa: PTH116
            same = before.get(path)
            if same is not None and (same.n_bytes, same.mtime_ns) == (stat.st_size, stat.st_mtime_ns):
                kind = same.kind
            else:
                kind = kind_of(first_bytes(place, _LOOKED_AT))
        except (OSError, UnreadableRecord):
            continue
        found.append(Untaken(path, stat.st_size, stat.st_mtime_ns, kind, _reason(path, kind) if kind else ""))
    return found


def _candidates(root: str) -> Iterator[tuple[str, str]]:
    for folder, folders, files in os.walk(root):
        folders.sort()
        below = folder[len(root) :].strip("/")
        for name in sorted(files):
            if not is_hidden(name) and name not in _OF_DATABASES and not name.lower().endswith(_NO_ECG):
                path = f"{below}/{name}" if below else name
                yield path.encode("utf-8", "backslashreplace").decode(), f"{folder}/{name}"


def _reason(path: str, kind: str) -> str:
    if path.lower().endswith(SUFFIXES):
        return "not listed in RECORDS"
    suffix = _SUFFIX_OF.get(kind, "")
    return f"its name does not end with {suffix}: rename it" if suffix in SUFFIXES else "no reader for this format"


def summarise_untaken(found: Iterable[Untaken]) -> dict[str, Any]:
    """Return ``n_not_taken`` {kind: n} and ``not_taken``, the first ``MOST_SHOWN`` of {file, kind, reason}."""
    ecgs = [one for one in found if one.kind]
    shown = [{"file": one.path, "kind": one.kind, "reason": one.reason} for one in ecgs[:MOST_SHOWN]]
    return {"n_not_taken": dict(Counter(one.kind for one in ecgs).most_common()), "not_taken": shown}
