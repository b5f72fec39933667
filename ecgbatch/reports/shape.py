"""The shape of a record's page: a digest of all that makes it look and say what it does, so that none is made twice."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

SHAPING = (
    "reports/templates/record.html",
    "reports/templates/record.js",
    "reports/templates/style.css",
    "measurements/intervals.py",
    "reports/pages.py",
    "reports/ecg_paper.py",
    "reports/record.py",
)
"""Files below the package: template, style and the code that fills them."""


@cache
def shape_digest() -> str:
    """Return a digest of everything that shapes a record's page: templates, style and the code that fills them."""
    return digest_of_files(Path(__file__).parents[1])


def digest_of_files(package: Path) -> str:
    """Return the digest of the files of ``SHAPING`` below a folder."""
    return hashlib.sha256(b"".join((package / name).read_bytes() for name in SHAPING)).hexdigest()
