"""Files of an archive, opened with care: no name leaves it, no pipe blocks, no link is followed out, no size is trusted."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from ecgbatch.formats.header import UnreadableRecord

_BAD_NAME = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]|::")


def read_small_file(archive: str | Path, name: str, limit: int, too_big: str) -> bytes:
    """Return the bytes of a text file of the archive.

    Raises
    ------
    UnreadableRecord
        ``LISTED_MISSING``, ``NOT_REGULAR_FILE``, ``SYMLINK_ESCAPE``, ``UNREADABLE_FILE`` or, above ``limit`` bytes, ``too_big``.

    """
    root = os.path.realpath(archive)
    folder, _, base = name.rpartition("/")
    return read_file(root, folder_below(root, folder), base, limit, too_big, set())


def open_regular(path: str) -> tuple[int, os.stat_result]:
    """Open a file for reading, and only a file: a pipe does not block, a link is not followed.

    Raises
    ------
    UnreadableRecord
        ``NOT_REGULAR_FILE`` or ``UNREADABLE_FILE``.

    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise UnreadableRecord("UNREADABLE_FILE", f"{os.path.basename(path)}: {error.strerror}") from None  # noqa: PTH119
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise UnreadableRecord("NOT_REGULAR_FILE", f"{os.path.basename(path)} is not a regular file")  # noqa: PTH119
    return descriptor, found


def check_record_name(record_name: str) -> None:
    """Refuse a record name that is an address, leaves the archive or cannot be stored.

    Raises
    ------
    UnreadableRecord
        ``REMOTE_NAME``, ``PATH_ESCAPE`` or ``BAD_RECORD_NAME``.

    """
    if "://" in record_name:
        raise UnreadableRecord("REMOTE_NAME", f"{record_name[:80]!r} is an address; only files of the archive are read")
    parts = record_name.split("/")
    if record_name.startswith("/") or ".." in parts or "\\" in record_name:
        raise UnreadableRecord("PATH_ESCAPE", f"{record_name[:80]!r} is not a path below the archive")
    if not record_name or len(record_name) > 1024 or "" in parts or "." in parts or _BAD_NAME.search(record_name):
        raise UnreadableRecord("BAD_RECORD_NAME", f"{record_name[:80]!r} is empty, too long or has forbidden characters")


def first_bytes(path: str, n_bytes: int) -> bytes:
    """Return at most the first ``n_bytes`` of a file; ``UnreadableRecord`` as ``open_regular``."""
    descriptor, _ = open_regular(path)
    try:
        parts = []
        while n_bytes > 0 and (part := os.read(descriptor, n_bytes)):
            parts.append(part)
            n_bytes -= len(part)
        return b"".join(parts)
    except OSError as error:
        raise UnreadableRecord("UNREADABLE_FILE", f"{os.path.basename(path)}: {error.strerror}") from None  # noqa: PTH119
    finally:
        os.close(descriptor)


def folder_below(root: str, parent: str) -> str:
    """Return where a folder of the archive lies, links followed; ``SYMLINK_ESCAPE`` if that is outside.

    ``root`` is where the archive lies, links followed; ``parent`` is the folder's path below it, empty for the archive itself.
    """
    if parent and _is_without_links(root, parent):
        return f"{root.rstrip('/')}/{parent}"
    folder = os.path.realpath(f"{root}/{parent}") if parent else root
    if folder != root and not folder.startswith(root.rstrip("/") + "/"):
        raise UnreadableRecord("SYMLINK_ESCAPE", f"folder {parent[:80]!r} lies outside the archive")
    return folder


def _is_without_links(root: str, parent: str) -> bool:
    """Whether a path below a real folder is of real folders: nothing to follow, and no call of the disk for what lies above."""
    parts, path = parent.split("/"), root
    if not set(parts).isdisjoint(("", ".", "..")):
        return False
    for part in parts:
        path = f"{path}/{part}"
        try:
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                return False
        except (OSError, ValueError):
            return False
    return True


def read_file(root: str, folder: str, name: str, limit: int, too_big: str, warnings: set[str]) -> bytes:
    """Return the bytes of ``name`` in a folder that ``folder_below`` gave.

    Errors are those of ``read_small_file``, ``warnings`` are added to as ``locate`` says.
    """
    found = locate(root, folder, name, warnings)
    if found is None:
        if is_there(f"{folder}/{name}.gz"):
            raise UnreadableRecord("COMPRESSED_UNSUPPORTED", f"expected {name}, found {name}.gz; unpack it")
        raise UnreadableRecord("LISTED_MISSING", f"{name} is not there; fetch it or take the record off the list")
    path, size, _ = found
    if size > limit:
        raise UnreadableRecord(too_big, f"{name} has {size} bytes; at most {limit} are read")
    descriptor, _ = open_regular(path)
    try:
        content = os.read(descriptor, size + 1)
    except OSError as error:
        raise UnreadableRecord("UNREADABLE_FILE", f"{name}: {error.strerror}") from None
    finally:
        os.close(descriptor)
    if len(content) != size:
        raise UnreadableRecord(
            "CHANGED_WHILE_READING", f"{name} had {size} bytes, then {len(content)}; read it again when it is whole"
        )
    return content


def locate(root: str, folder: str, name: str, warnings: set[str]) -> tuple[str, int, int] | None:
    """Return (path, bytes, mtime in ns) of a regular file of the archive, or None where there is none.

    A name that differs in upper and lower case is found too, and adds ``CASE_MISMATCH`` to ``warnings``.
    """
    path = f"{folder}/{name}"
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        other = next((n for n in _case_variants(name) if is_there(f"{folder}/{n}")), None)
        if other is None:
            return None
        warnings.add("CASE_MISMATCH")
        return locate(root, folder, other, warnings)
    except OSError as error:
        raise UnreadableRecord("UNREADABLE_FILE", f"{name[:80]}: {error.strerror}") from None
    if stat.S_ISLNK(found.st_mode):
        path = os.path.realpath(path)
        if not path.startswith(root.rstrip("/") + "/"):
            raise UnreadableRecord("SYMLINK_ESCAPE", f"{name} is a link that leaves the archive; copy the file instead")
        try:
            found = os.lstat(path)
        except OSError:
            return None
        if stat.S_ISLNK(found.st_mode):
            raise UnreadableRecord("SYMLINK_ESCAPE", f"{name} is a loop of links")
    if not stat.S_ISREG(found.st_mode):
        raise UnreadableRecord("NOT_REGULAR_FILE", f"{name} is a folder, pipe, socket or device")
    return path, found.st_size, found.st_mtime_ns


def _case_variants(name: str) -> list[str]:
    stem, dot, suffix = name.rpartition(".")
    variants = [name.lower(), name.upper(), f"{stem}{dot}{suffix.upper()}", f"{stem}{dot}{suffix.lower()}"]
    variants += [f"{stem.lower()}{dot}{suffix}", f"{stem.upper()}{dot}{suffix}"]
    return [variant for variant in dict.fromkeys(variants) if variant != name]


def is_there(path: str) -> bool:
    """Tell whether there is anything under a path, be it a link that leads nowhere."""
    try:
        return bool(os.lstat(path))
    except OSError:
        return False
