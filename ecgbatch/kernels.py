"""How numba kernels are compiled, and how a first use says that it compiles.

numba keeps machine code on disk beside the module (or in ``NUMBA_CACHE_DIR``) and makes it anew when the module's file
changes, but does not see a change in another file. So **a kernel uses kernels, classes and constants of its own file only**;
whatever else it needs is an argument. A test holds every module to that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def kernel(function: Kernel) -> Kernel:
    """Compile to machine code that runs without the interpreter lock, when first called; kept on disk beside the module."""
    from numba import njit

    return cast(Kernel, njit(nogil=True, cache=True, error_model="numpy")(function))


def is_on_disk(compiled: Any) -> bool:
    """Return whether machine code of a kernel is kept on disk that numba will take for the kernel's file as it is."""
    # numba 0.68 names no public way to ask. It compares the file's content, so times say nothing after a checkout.
    return bool(compiled._cache._cache_file._load_index())
