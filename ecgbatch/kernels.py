"""How numba kernels are compiled, how a first use says that it compiles, and the room that they work in.

numba keeps machine code on disk (``machine_code`` says where) and makes it anew when the module's file changes, but does not see
a change in another file. So **a kernel uses kernels, classes and constants of its own file only**, or of those that its module
names in ``EMITTED_BY``; whatever else it needs is an argument. A test holds every module to that.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def kernel(function: Kernel) -> Kernel:
    """Compile to machine code that runs without the interpreter lock, when first called; kept on disk (``machine_code``)."""
    from numba import njit

    from ecgbatch.machine_code import KeptCode

    compiled = njit(nogil=True, error_model="numpy")(function)
    if compiled is not function:  # as it is where NUMBA_DISABLE_JIT is set
        # What njit(cache=True) does, with another cache: numba 0.68 has no public way to give one.
        compiled._cache = KeptCode(function)
    return cast(Kernel, compiled)


def processor_features() -> frozenset[str]:
    """Return what numba compiles for, as LLVM names it (``+avx2``): the processor's features, or ``NUMBA_CPU_FEATURES``."""
    from numba.core import config
    from numba.core.codegen import get_host_cpu_features

    told = config.CPU_FEATURES
    return frozenset((get_host_cpu_features() if told is None else told).split(","))


def is_on_disk(compiled: Any) -> bool:
    """Return whether machine code of a kernel is kept on disk, for its file as it is and this processor."""
    return bool(compiled._cache.has_code(compiled.targetctx))


KEPT_BYTES = 8 << 20
"""Room up to this size is kept for the thread's next record."""

_kept = threading.local()


def scratch(name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Return an uninitialised array to work in; **the thread's next call with this name is given the same memory**.

    Megabytes that are handed back after each record are taken page by page for the next one, which can cost as much as what is
    computed in them.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    room = getattr(_kept, name, None)
    if room is None or room.nbytes < size:
        room = np.empty(size, np.uint8)
        if size <= KEPT_BYTES:
            setattr(_kept, name, room)
    return cast("NDArray[Any]", room[:size].view(dtype).reshape(shape))
