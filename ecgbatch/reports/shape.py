"""The shape of a record's page: a digest of all that makes it look and say what it does, so that none is made twice."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

SHAPING = (
    "reports/templates/record.html",
    "reports/templates/record_ecg.html",
    "reports/templates/record_beats.html",
    "reports/templates/record_measured.html",
    "reports/templates/record_cart.html",
    "reports/templates/serial.html",
    "reports/templates/record.js",
    "reports/templates/style.css",
    "measurements/document.py",
    "measurements/excerpt.py",
    "measurements/quantities.py",
    "measurements/statements.py",
    "reports/pages.py",
    "reports/files.py",
    "reports/svg.py",
    "reports/path_kernels.py",
    "reports/grid.py",
    "reports/excerpts.py",
    "reports/layout.py",
    "reports/measured.py",
    "reports/ecg_paper.py",
    "reports/course.py",
    "reports/median_beats.py",
    "reports/probabilities.py",
    "reports/overlay.py",
    "reports/rows.py",
    "reports/words.py",
    "reports/operating_point.py",
    "reports/record.py",
    "reports/record_page.py",
    "reports/cart.py",
    "reports/cautions.py",
    "reports/serial.py",
)
"""Files below the package: template, style and the code that fills them. (What measures says its version.)"""


@cache
def shape_digest() -> str:
    """Return a digest of everything that shapes a record's page: templates, style and the code that fills them."""
    return digest_of_files(Path(__file__).parents[1])


def digest_of_files(package: Path) -> str:
    """Return the digest of the files of ``SHAPING`` below a folder."""
    return hashlib.sha256(b"".join((package / name).read_bytes() for name in SHAPING)).hexdigest()
