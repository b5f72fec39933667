"""Many tasks at a time: each keeps to one processor, and processes of a pool end with the one that started them."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager, ExitStack
from multiprocessing import parent_process
from multiprocessing.connection import wait
from threading import Lock, Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threadpoolctl import threadpool_limits


def end_with_parent() -> None:
    """End this process when the one that started it is gone; an initializer for a pool of spawned processes.

    A pool's processes wait for work on a pipe whose other end each of them holds as well: after a parent that was killed, or ran
    out of memory, they would wait for good, hundreds of megabytes each.
    """
    parent = parent_process()
    if parent is not None:
        Thread(target=_end_after, args=(parent.sentinel,), name="owner", daemon=True).start()


THREADS_OF_A_LIBRARY = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def begin_owned() -> None:
    """Begin a process of a pool, one of as many as there are processors: ``end_with_parent``, and a thread for products.

    BLAS takes all processors for each small product, and waits busily in between: two such processes on two processors take 2.6
    times as long to measure. What the user has set holds.
    """
    for name in THREADS_OF_A_LIBRARY:
        os.environ.setdefault(name, "1")
    if "numpy" in sys.modules:  # by a user's own script, which every process begins with: too late for the environment
        _limit()
    end_with_parent()


def one_thread_for_products() -> AbstractContextManager[object]:
    """Inside it BLAS has one thread, or as many as ``OMP_NUM_THREADS`` says; the last to leave it gives BLAS back its own.

    For as long as as many tasks as there are processors run in this process: measuring on two threads takes two thirds of the
    processor time so. How many threads BLAS has is the process's, so whoever is inside at the same time, on whatever thread,
    shares it, and may leave in any order.
    """
    return _PRODUCTS


class _Products:
    """Who holds BLAS to its threads, and what it had before.

    Each who enters limits anew, as a library may have been loaded meanwhile. What a second one found is what the first had set:
    given back in any order but the opposite one, at the time each leaves, that would stay for good.
    """

    def __init__(self) -> None:
        self._lock, self._n_inside, self._before = Lock(), 0, ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            self._before.callback(_limit().restore_original_limits)
            self._n_inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._n_inside -= 1
            if not self._n_inside:
                self._before.close()  # newest first, so that the oldest has the last word


_PRODUCTS = _Products()


def _limit() -> threadpool_limits:
    from threadpoolctl import threadpool_limits

    told = os.environ.get("OMP_NUM_THREADS", "1")
    return threadpool_limits(int(told) if told.isdecimal() else 1, user_api="blas")


def _end_after(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)  # what was begun is nobody's any more: no clean-up of a result that nobody takes
