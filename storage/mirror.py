"""Up-to-date local copies of what lies in an object store, for libraries that read files."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from stat import S_ISDIR
from typing import Any

from storage.address import split_address
from storage.bucket import Bucket
from storage.folder import Folder


def mirror(address: str, target: str | Path) -> Path:
    """Bring a copy of all below an address up to date in a local folder, for libraries that read files; return the folder.

    One listing tells what is new or changed (size, time, entity tag); only that is fetched, each file whole or not at all, and
    what is gone there goes here too. A file's time is its object's second, its fraction drawn from the entity tag: an object
    replaced within a second by one of the same size is seen as changed, here and by whoever looks at the file's time.
    """
    source, folder = Bucket(address), Path(target)
    for _ in range(MOST_LISTINGS):
        if _brought_up_to_date(source, folder):
            break
    return folder


MOST_LISTINGS = 3
"""An object that changes between the listing and its own fetch may stand beside older ones: all are listed again, so often."""

MIRROR_CONNECTIONS = 8
"""Objects fetched at a time."""


def _brought_up_to_date(source: Bucket, folder: Path) -> bool:
    """Fetch what a listing says is new, remove what it lacks; tell whether what came is what was listed."""
    wanted, changed, root = set(), [], folder.resolve()
    for one in source.listed():
        local = folder / source.key_of(one)
        if not local.resolve().is_relative_to(root):
            raise ValueError(f"s3://{source.bucket}/{one['path']}: a name that leads outside the archive")
        wanted.add(local)
        found = local.stat() if local.is_file() else None
        if found is None or (found.st_size, found.st_mtime_ns) != (one["size"], _time_ns(one)):
            changed.append((local, one))
    for local in [local for local in folder.rglob("*") if local.is_file() and local not in wanted]:
        local.unlink()

    def fetch(entry: tuple[Path, Any]) -> bool:
        local, listed = entry
        try:
            content, came = source.read_with_facts(source.key_of(listed))
        except FileNotFoundError:
            return False
        Folder(folder).put(source.key_of(listed), content)
        os.utime(local, ns=(_time_ns(came), _time_ns(came)))
        return _time_ns(came) == _time_ns(listed)

    with ThreadPoolExecutor(MIRROR_CONNECTIONS) as pool:
        return all(list(pool.map(fetch, changed)))


def _time_ns(one: Any) -> int:
    """Return the time that an object's copy bears: the second of its last change, and a fraction that its entity tag gives."""
    fraction = int.from_bytes(hashlib.sha256(str(one["e_tag"]).encode()).digest()[:8]) % 10**9
    return int(one["last_modified"].timestamp()) * 10**9 + fraction


ADDRESS_FILE = "s3-address"
"""Beside a mirror: what it is the copy of."""


def is_mirror(folder: str | Path) -> bool:
    """Tell whether a folder is a mirror of ``cached_mirror``'s: its files' times are those of their objects."""
    return (Path(folder).parent / ADDRESS_FILE).is_file()


def cached_mirror(address: str) -> Path:
    """Return the up-to-date mirror of an address in the user's cache (``$XDG_CACHE_HOME/ecgbatch``), readable by its owner."""
    bucket, prefix = split_address(address)
    name = hashlib.sha256(f"{bucket}/{prefix}".encode()).hexdigest()[:12]
    folder = cache_folder() / f"archive-{name}" / (prefix.rpartition("/")[2] or bucket)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    place = folder.parent / ADDRESS_FILE
    if not place.is_file():
        Folder(folder.parent).put(ADDRESS_FILE, f"s3://{bucket}/{prefix}\n".encode())
    return mirror(address, folder)


def cache_folder() -> Path:
    """Return the user's cache for what lies in an object store and libraries want as files; it may not exist yet.

    A user without a home folder, or with one that cannot be written, has it in ``TMPDIR``: closed to others, and said once.

    Raises
    ------
    OSError
        If that folder is another user's.

    """
    try:
        usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ecgbatch"
    except RuntimeError:
        return _cache_without_home("this user has no home folder")
    there = next(folder for folder in (usual, *usual.parents) if folder.exists())
    return usual if os.access(there, os.W_OK | os.X_OK) else _cache_without_home(f"{there} cannot be written")


@cache
def _cache_without_home(why: str) -> Path:
    folder = Path(tempfile.gettempdir()) / f"ecgbatch-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise OSError(f"{folder}: expected a folder of this user's own, closed to others; set XDG_CACHE_HOME to one")
    print(f"ecgbatch: {why}: the cache of archives in a bucket is {folder} (XDG_CACHE_HOME names another)", file=sys.stderr)
    return folder
