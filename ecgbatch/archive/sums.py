"""Digests that an archive brings along: PhysioNet's SHA256SUMS.txt, compared with the files of every record that is converted."""

from __future__ import annotations

import hashlib
import re
from functools import partial
from pathlib import Path

import numpy as np
import xarray as xr

from ecgbatch.archive.listing import CHUNK_RECORDS
from ecgbatch.terms import MOST_SUMS_BYTES, STATUS, SUMS_FILE
from storage import TEXT, Map

_LINE = re.compile(r"([0-9a-fA-F]{64})\s+\*?(?:\./)?(.+)")


def archive_sums(archive: str) -> dict[str, str]:
    """Return path below the archive to SHA-256, as the archive's own list has them; empty without a list that can be read.

    Lines that are none of a list of digests are passed over: the list is a help, not a condition.
    """
    path = Path(archive, SUMS_FILE)
    try:
        if path.stat().st_size > MOST_SUMS_BYTES:
            return {}
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    found = (_LINE.fullmatch(line.strip()) for line in lines)
    return {match[2]: match[1].lower() for match in found if match}


def with_sums(archive: str, listing: xr.Dataset, *, map: Map = map) -> xr.Dataset:
    """Return a listing in which records with a file that is not the listed one carry the warning ``SUM_DIFFERS``.

    No record is set aside for it: a header that was corrected by hand differs too, and samples have their header's checksums.

    Parameters
    ----------
    listing
        ``listing.list_archive``'s table of records that are about to be converted.
    map
        Engine for reading the files.

    """
    sums = archive_sums(archive) if listing.sizes["record"] else {}
    if not sums:
        return listing
    usable = np.flatnonzero(listing["status"].values != STATUS["set_aside"]).tolist()
    files = listing["files"].values.tolist()
    asked = [(row, [(path, sums[path]) for path in files[row].split("\n") if path in sums]) for row in usable]
    asked = [(row, known) for row, known in asked if known]
    differ: set[int] = set()
    chunks = [asked[first : first + CHUNK_RECORDS] for first in range(0, len(asked), CHUNK_RECORDS)]
    for rows in map(partial(_differing, archive=archive), chunks):
        differ.update(rows)
    if not differ:
        return listing
    warnings = listing["warnings"].values.tolist()
    for row in differ:
        warnings[row] = " ".join(sorted({*warnings[row].split(), "SUM_DIFFERS"}))
    return listing.assign(warnings=("record", np.array(warnings, dtype=TEXT)))


def _differing(asked: list[tuple[int, list[tuple[str, str]]]], *, archive: str) -> list[int]:
    return [row for row, known in asked if any(_sha256(Path(archive, path)) not in (digest, "") for path, digest in known)]


def _sha256(path: Path) -> str:
    """Return a file's digest; empty where it cannot be read, which the conversion says itself."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
