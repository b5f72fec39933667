"""Where bytes lie: a local folder, or a prefix of an object store."""

from __future__ import annotations

from pathlib import Path

from storage.address import is_address
from storage.bucket import Bucket
from storage.folder import Folder


def folder_at(root: str | Path) -> Folder:
    """Return what answers to the verbs of ``Folder`` at a place: a ``Bucket`` for an ``s3://`` address, else a local folder."""
    return Bucket(root) if is_address(root) else Folder(root)
