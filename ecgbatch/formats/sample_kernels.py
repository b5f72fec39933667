"""Samples dealt to their leads in machine code. Importing this module imports numba; ``records`` does it when it reads."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgbatch.kernels import kernel

Array = NDArray[Any]


@kernel
def deal(frames: Array, rows: Array, block: Array, first: int, totals: Array, lowest: Array) -> None:
    """Copy frames (frame, column) int16 into rows of ``block`` from sample ``first`` on; add up each column, find its lowest.

    ``rows`` (column) says which row a column goes to; ``totals`` and ``lowest`` (column) int64 are brought up to date.
    """
    for column in range(frames.shape[1]):
        out = block[rows[column], first : first + frames.shape[0]]
        total, low = np.int64(0), np.int16(32767)
        for i in range(frames.shape[0]):
            value = frames[i, column]
            out[i] = value
            total += value
            low = min(low, value)
        totals[column] += total
        lowest[column] = min(lowest[column], np.int64(low))
