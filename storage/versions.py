"""Versions of installed packages, as every plan states them."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version


@cache
def installed_version(name: str) -> str:
    """Return the version of an installed package; asked once a process, for each question reads and parses a file of its own."""
    return version(name)
