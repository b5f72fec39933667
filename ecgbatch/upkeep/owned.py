"""Processes that end with the process that started them, whatever ended that."""

from __future__ import annotations

import os
from multiprocessing import parent_process
from multiprocessing.connection import wait
from threading import Thread


def end_with_parent() -> None:
    """End this process when the one that started it is gone; an initializer for a pool of spawned processes.

    A pool's processes wait for work on a pipe whose other end each of them holds as well: after a parent that was killed, or ran
    out of memory, they would wait for good, hundreds of megabytes each.
    """
    parent = parent_process()
    if parent is not None:
        Thread(target=_end_after, args=(parent.sentinel,), name="owner", daemon=True).start()


def _end_after(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)  # what was begun is nobody's any more: no clean-up of a result that nobody takes
