"""Addresses of an object store, told from paths."""

from __future__ import annotations

import re
from pathlib import Path

_ADDRESS = re.compile(r"s3:/+(?P<bucket>[^/]+)/*(?P<prefix>.*)", re.DOTALL)


_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+):(?:/|$)|(?P<bare>(?i:s3a?|gs|gcs|az|abfss?)):")


def refuse_foreign(root: str | Path) -> None:
    """Refuse an address that is none of ours, which would be taken for a folder of that name: ``ValueError``, with what is."""
    found = _SCHEME.match(str(root).lstrip())
    if found is not None and not is_address(root):
        raise ValueError(
            f"{root}: expected a folder or s3://bucket/prefix, found an address of another kind. Of object stores those that "
            "speak S3 are supported, under s3:// in small letters (Google's and others' S3 endpoints by AWS_ENDPOINT_URL); a "
            f"folder that is really called so: ./{root}"
        )


def is_address(root: str | Path) -> bool:
    """Tell whether a place is in an object store; ``pathlib`` may have made one slash of two."""
    return _ADDRESS.fullmatch(str(root)) is not None


def split_address(root: str | Path) -> tuple[str, str]:
    """Return bucket and prefix of an address; ``ValueError`` if it is none."""
    found = _ADDRESS.fullmatch(str(root))
    if found is None:
        raise ValueError(f"expected an address as s3://bucket/prefix, found {str(root)!r}")
    return found["bucket"], found["prefix"].strip("/")
