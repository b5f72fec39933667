"""Q, R and S of each lead's QRS: what deflections it consists of (a numba kernel)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgbatch.kernels import kernel

Array = NDArray[Any]


@kernel
def q_r_s(lines: Array, begin: Array, end: int, least: Array, shortest: float, sample_ms: float) -> Array:
    """Return duration (ms) and depth of Q, height of R and depth of S of each lead, (lead, 4) float64; 0 of what is not there.

    A complex without a positive wave is all Q; what is negative behind the first positive wave is S.

    Parameters
    ----------
    lines : (lead, sample) float32
        Over the level before QRS.
    begin : (lead,) int
        Where each lead's QRS begins; all end before ``end``.
    least : (lead,) float32
        A deflection is a wave where at least ``shortest`` of its samples are as large.
    sample_ms
        Length of a sample.

    """
    found = np.zeros((lines.shape[0], 4))
    for lead in range(lines.shape[0]):
        first, duration, lowest, n_waves, is_positive = 0.0, 0, 0.0, 0, False
        length, top, n_large = 0, np.float32(0), 0
        for i in range(begin[lead], end + 1):
            is_over = i == end or (length > 0 and np.signbit(lines[lead, i]) != np.signbit(lines[lead, i - 1]))
            if is_over and n_large >= shortest and length > 0:
                n_waves += 1
                if n_waves == 1:
                    first, duration = float(top), length
                elif top < 0:
                    found[lead, 3] = min(found[lead, 3], top)
                is_positive = bool(is_positive or top > 0)
                found[lead, 2], lowest = max(found[lead, 2], top), min(lowest, float(top))
            if is_over:
                length, top, n_large = 0, np.float32(0), 0
            if i < end:
                value = lines[lead, i]
                top = value if length == 0 or abs(value) > abs(top) else top
                n_large += abs(value) >= least[lead]
                length += 1
        if not is_positive:
            found[lead, 3] = 0.0
        if first < 0:
            found[lead, 0] = (duration if is_positive else end - begin[lead]) * sample_ms
            found[lead, 1] = first if is_positive else lowest
    return found
