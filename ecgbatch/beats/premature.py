"""Which beats come early, by their intervals alone (numba kernels)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgbatch.kernels import kernel

Array = NDArray[Any]


@kernel
def premature(r_sample: Array, share: float) -> Array:
    """Return (beat,) bool: the interval before the beat is under ``share`` of the median of the twelve around it.

    Of an even number, and the upper median: in bigeminy half of the intervals are short, and the long ones are the measure.
    """
    n, near = r_sample.shape[0] - 1, np.empty(12)
    early = np.zeros(r_sample.shape[0], np.bool_)
    width = min(12, n - n % 2)
    for i in range(n if n >= 4 else 0):
        low = max(0, min(i - width // 2, n - width))
        for j in range(width):
            near[j] = r_sample[low + j + 1] - r_sample[low + j]
        early[i + 1] = r_sample[i + 1] - r_sample[i] < share * np.sort(near[:width])[width // 2]
    return early


@kernel
def premature_each(r_sample: Array, count: Array, share: float) -> Array:
    """Do ``premature`` for each record's ``count`` R peaks of ``r_sample``."""
    early, at = np.empty(r_sample.shape[0], np.bool_), 0
    for i in range(count.shape[0]):
        early[at : at + count[i]] = premature(r_sample[at : at + count[i]], share)
        at += count[i]
    return early
