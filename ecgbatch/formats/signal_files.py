"""Files that were inspected before: read once, hashed on the way, refused where they have changed since."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgbatch.formats.files import open_regular
from ecgbatch.formats.header import UnreadableRecord
from ecgbatch.formats.inspection import Inspection, SignalFile
from storage import Hasher

BLOCK_SAMPLES = 1 << 17
"""256 KiB: stays in a core's second-level cache while it is read, hashed and sorted."""


@contextmanager
def opened(file: SignalFile) -> Iterator[FileIO]:
    """Open a signal file; afterwards refuse what was read if the file is not the one inspected, or changed meanwhile."""
    descriptor, before = open_regular(file.path)
    with FileIO(descriptor, "rb") as source:
        yield source
        after = os.fstat(descriptor)
    if {(found.st_size, found.st_mtime_ns) for found in (before, after)} != {(file.n_bytes, file.mtime_ns)}:
        raise changed(file)


def changed(file: SignalFile) -> UnreadableRecord:
    """Return the error of a file that is no longer the one inspected."""
    return UnreadableRecord("CHANGED_WHILE_READING", f"{file.name} changed while it was read; run again when it is whole")


def fill(source: FileIO, values: NDArray[Any], file: SignalFile) -> None:
    """Fill an array with the next bytes of a file that is known to hold so many."""
    place = values.reshape(-1).view(np.uint8).data
    while place:
        try:
            n = source.readinto(place)
        except OSError as error:
            raise UnreadableRecord("UNREADABLE_FILE", f"{file.name}: {error.strerror}") from None
        if not n:
            raise changed(file)
        place = place[n:]


def hash_bytes(source: FileIO, n_bytes: int, digest: Hasher) -> None:
    """Add the next bytes of a file to a digest, block by block."""
    while n_bytes > 0 and (content := source.read(min(n_bytes, 2 * BLOCK_SAMPLES))):
        digest.update(content)
        n_bytes -= len(content)


def whole_file(inspection: Inspection, digest: Hasher) -> NDArray[np.uint8]:
    """Return the bytes of a record that is one file, and add them to a digest."""
    (file,) = inspection.files
    content = np.empty(file.n_bytes, np.uint8)
    with opened(file) as source:
        fill(source, content, file)
    digest.update(content)
    return content


def digest_file(file: SignalFile, digest: Hasher) -> None:
    """Add a file's bytes to a digest; nothing of one that cannot be read."""
    try:
        descriptor, _ = open_regular(file.path)
        with FileIO(descriptor, "rb") as source:
            hash_bytes(source, file.n_bytes, digest)
    except (UnreadableRecord, OSError):
        return
