"""Addresses of an object store, told from paths."""

from __future__ import annotations

import re
from pathlib import Path

_ADDRESS = re.compile(r"s3:/+(?P<bucket>[^/]+)/*(?P<prefix>.*)", re.DOTALL)


def is_address(root: str | Path) -> bool:
    """Tell whether a place is in an object store; ``pathlib`` may have made one slash of two."""
    return _ADDRESS.fullmatch(str(root)) is not None


def split_address(root: str | Path) -> tuple[str, str]:
    """Return bucket and prefix of an address; ``ValueError`` if it is none."""
    found = _ADDRESS.fullmatch(str(root))
    if found is None:
        raise ValueError(f"expected an address as s3://bucket/prefix, found {str(root)!r}")
    return found["bucket"], found["prefix"].strip("/")
