"""Which archive a workspace holds: another one's records, of the same names, sizes and times, must not pass for its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from storage import is_mirror


class OtherArchive(ValueError):
    """An archive is not at the place of the one whose records the workspace holds."""


def place_of(archive: str) -> str:
    """Return where an archive lies, links followed; of a bucket's copy here its name, which is a digest of the address."""
    return f"bucket {Path(archive).parent.name}" if is_mirror(archive) else str(Path(archive).resolve())


def refuse_another(archive: str, work: str, earlier: Mapping[str, Any]) -> None:
    """Go on if an archive is the one that a workspace holds, as far as its place says.

    Parameters
    ----------
    earlier
        The workspace's view of its archive: ``place``, or of earlier versions the ``archive``'s name alone.

    Raises
    ------
    OtherArchive
        If it lies elsewhere.

    """
    if not earlier.get("archive"):
        return
    now, before = place_of(archive), earlier.get("place")
    is_same = now == before if before else Path(archive).resolve().name == earlier["archive"]
    if not is_same:
        raise OtherArchive(
            f"{archive}: {work} holds the records of another archive ({before or earlier['archive']}). Give each archive a "
            "workspace of its own. If this is the same one at a new place, say --rehash once: every record is read again, and "
            "content decides"
        )
