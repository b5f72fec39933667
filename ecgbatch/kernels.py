"""How numba kernels are compiled, and how a first use says that it compiles.

numba keeps machine code on disk beside the module (or in ``NUMBA_CACHE_DIR``) and makes it anew when the module's file
changes, but does not see a change in another file. So **a kernel uses kernels, classes and constants of its own file only**;
whatever else it needs is an argument. A test holds every module to that.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def kernel(function: Kernel) -> Kernel:
    """Compile to machine code that runs without the interpreter lock, when first called; kept on disk beside the module."""
    from numba import njit

    return cast(Kernel, njit(nogil=True, cache=True, error_model="numpy")(function))


def is_on_disk(compiled: Any) -> bool:
    """Return whether machine code of a kernel is kept on disk that is no older than the kernel's file."""
    written = Path(compiled.py_func.__code__.co_filename).stat().st_mtime
    kept = Path(compiled.stats.cache_path).glob(f"*.{compiled.py_func.__qualname__}-*.nbi")
    return any(file.stat().st_mtime >= written for file in kept)
