"""The shape of a record's page: a digest of all that makes it look and say what it does, so that none is made twice."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

SHAPING = (
    "reports/templates/record.html",
    "reports/templates/style.css",
    "measurements/intervals.py",
    "reports/pages.py",
    "reports/ecg_paper.py",
    "reports/record.py",
)
"""Files below the package: template, style and the code that fills them."""

ONLY_MOVED = {
    "8f24c8083d7c7fd76140457cf8af90ec49c388551e8a79865d5a1d3d7ab661df": "bc1c76c5bf07f53366de0a565af9df8ccda6802f2017c41e769bb2da53969329"  # noqa: E501 - two digests
}
"""Digest of these files to the one under which the pages that they make were first known. Where code has only moved, pages are
not made again, and their digests and FHIR identifiers stay. An entry goes with the next change of what a page is."""


@cache
def shape_digest() -> str:
    """Return a digest of everything that shapes a record's page: templates, style and the code that fills them."""
    digest = digest_of_files(Path(__file__).parents[1])
    return ONLY_MOVED.get(digest, digest)


def digest_of_files(package: Path) -> str:
    """Return the digest of the files of ``SHAPING`` below a folder."""
    return hashlib.sha256(b"".join((package / name).read_bytes() for name in SHAPING)).hexdigest()
