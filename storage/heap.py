"""Memory that was freed, back to the system: the C library keeps it, thread by thread, for what it guesses will come."""

from __future__ import annotations

import ctypes
from contextlib import suppress

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt, in glibc's malloc.h
_LARGE_BYTES = 1 << 20


def hold_little() -> None:
    """From now on hand each block of a megabyte back when it is freed; does nothing where the C library is not glibc.

    Left alone glibc raises that limit to the largest block that was ever freed, up to 32 MB, and each thread holds twice as much.
    """
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        for option in (_MMAP_THRESHOLD, _TRIM_THRESHOLD):
            library.mallopt(option, _LARGE_BYTES)


def give_back() -> None:
    """Hand all free memory back, in milliseconds: between two phases that hold much for a short time each."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
