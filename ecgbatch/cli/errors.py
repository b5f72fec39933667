"""Errors that a user can cause, and what to do about a full disk and its like."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

PLACES = "the workspace, TMPDIR or the caches in the home folder"
"""That a command writes to."""


def what_to_do(error: BaseException) -> str:
    """Return what to do about an error of the disk or of this machine's limits; nothing for others, which say it themselves."""
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.ENOENT and _is_here_gone():
        return ". The folder in which this command was called is gone: change to one that is there (cd), and run the same again"
    advice = {
        errno.ENOSPC: "make room there",
        errno.EDQUOT: "make room there, or have the quota raised",
        errno.EMFILE: "raise the limit of open files (ulimit -n)",
        errno.ENFILE: "raise the machine's limit of open files",
        errno.EIO: "check the disk",
        errno.EROFS: "mount it for writing",
    }
    if number not in advice:
        return ""
    # A write that fails, unlike an opening, does not know its file's name.
    is_of_disk = number in {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS}
    where = f" ({PLACES})" if is_of_disk and getattr(error, "filename", None) is None else ""
    return f". Nothing that was published is harmed: {advice[number]}{where}, then run the same command again"


def _is_here_gone() -> bool:
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False


def is_usage(error: BaseException) -> bool:
    """Tell whether an error is of what was typed, found only when files were read: a label table of another archive."""
    of_archive = sys.modules.get("ecgbatch.archive.clinical")
    return of_archive is not None and isinstance(error, of_archive.UnmatchedLabels)


def is_users(error: BaseException) -> bool:
    """Tell whether an error is one that a user can cause. Storage, half a second of imports, is not imported to ask."""
    of_stores = sys.modules.get("storage.errors")
    http = sys.modules.get("httpx")  # an address or a proxy that is none, an answer that does not come
    return (
        isinstance(error, ValueError | OSError)
        or (of_stores is not None and isinstance(error, of_stores.StoreError))
        or (http is not None and isinstance(error, http.InvalidURL | http.HTTPError))
    )
