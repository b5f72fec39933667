"""Values by rank, many columns at once: the median of beats, and one lead's value among all (numba kernels)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgbatch.kernels import kernel

Array = NDArray[Any]


@kernel
def sort_columns(rows: Array) -> None:
    """Sort every column in place by exchanging neighbours, whole rows at a time: no branches, so many columns at once."""
    for turn in range(rows.shape[0]):
        for i in range(turn % 2, rows.shape[0] - 1, 2):
            upper, lower = rows[i], rows[i + 1]
            for k in range(rows.shape[1]):
                a, b = upper[k], lower[k]
                upper[k] = a if a < b else b
                lower[k] = b if a < b else a


@kernel
def median_window(signal: Array, r_sample: Array, before: int, after: int) -> Array:
    """Return the median of windows around R peaks, (lead, ``before`` + ``after``) float32, of those that hold the sample.

    NaN where none does: ``signal`` (lead, sample) float32 holds none.
    """
    n, width = signal.shape[1], before + after
    rows, found = np.empty((r_sample.shape[0], width), np.float32), np.empty((signal.shape[0], width), np.float32)
    known = np.zeros(width, np.int64)
    for i in range(r_sample.shape[0]):
        first = r_sample[i] - before
        for k in range(max(0, -first), min(width, n - first)):
            known[k] += 1
    for lead in range(signal.shape[0]):
        for i in range(r_sample.shape[0]):
            first = r_sample[i] - before
            low, high = max(0, -first), min(width, n - first)
            row, line = rows[i], signal[lead]
            row[:] = np.inf  # sorts last
            for k in range(low, high):
                row[k] = line[first + k]
        sort_columns(rows)
        for k in range(width):
            if known[k]:
                found[lead, k] = (rows[(known[k] - 1) // 2, k] + rows[known[k] // 2, k]) / np.float32(2)
            else:
                found[lead, k] = np.nan
    return found


PIECE = 512
"""Columns that are sorted at a time: they stay in the first cache."""


@kernel
def ranked(lines: Array, places: Array) -> Any:
    """Return, column by column of ``lines`` (row, column), the values that ``places`` others are not above, (place, column)."""
    found, rows = np.empty((places.shape[0], lines.shape[1]), lines.dtype), np.empty((lines.shape[0], PIECE), lines.dtype)
    for first in range(0, lines.shape[1], PIECE):
        n = min(PIECE, lines.shape[1] - first)
        for row in range(lines.shape[0]):
            rows[row, :n] = lines[row, first : first + n]
        sort_columns(rows)
        for k in range(places.shape[0]):
            found[k, first : first + n] = rows[places[k], :n]
    return found


def median_of_rows(lines: Array) -> Array:
    """Return the median down each column of ``lines`` (row, ...) without NaN, as ``np.median`` does."""
    n = len(lines)
    low, high = ranked(np.require(lines.reshape(n, -1), requirements=("C", "W")), np.array([(n - 1) // 2, n // 2]))
    return np.asarray((low + high) / lines.dtype.type(2)).reshape(lines.shape[1:])
