"""How like each beat is to the record's usual beat, in shape and size (numba kernels)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgbatch.kernels import kernel

Array = NDArray[Any]

MISSING = -32768
"""``terms.MISSING_SAMPLE``, as a literal that kernels can freeze."""


@kernel
def resemblance_each(
    waveform: Array, use: Array, first_beat: Array, is_ordinary: Array, is_whole: Array, most: int
) -> tuple[Array, Array]:
    """Do ``resemblance`` for each record's beats, ``first_beat[i]`` to ``first_beat[i + 1]``; of fewer than three 1 and 1.

    The usual beat is the median of at most ``most`` of the ``is_ordinary`` (beat,) ones, spread evenly; of ``is_whole`` ones
    where those are fewer than three, else of all.
    """
    correlation, size = np.ones(waveform.shape[0]), np.ones(waveform.shape[0])
    for i in range(use.shape[0]):
        low, high = first_beat[i], first_beat[i + 1]
        if high - low < 3:
            continue
        known = np.flatnonzero(is_ordinary[low:high])
        if known.shape[0] < 3:
            known = np.flatnonzero(is_whole[low:high])
        if known.shape[0] < 3:
            known = np.arange(high - low)
        chosen = np.empty(min(most, known.shape[0]), np.int64)
        step = (known.shape[0] - 1) / (chosen.shape[0] - 1)
        for k in range(chosen.shape[0] - 1):
            chosen[k] = known[int(k * step)]
        chosen[-1] = known[-1]
        correlation[low:high], size[low:high] = resemblance(waveform[low:high], use[i], chosen)
    return correlation, size


@kernel
def usual_beat(waveform: Array, use: Array, chosen: Array) -> Array:
    """Return the (upper) median of the chosen beats, (lead, sample) int16; 0 on unused leads."""
    usual = np.zeros(waveform.shape[1:], np.int16)
    rows = np.empty((chosen.shape[0], waveform.shape[2]), np.int16)
    for lead in range(waveform.shape[1]):
        if use[lead]:
            for i in range(chosen.shape[0]):
                rows[i] = waveform[chosen[i], lead]
            sort_columns(rows)
            usual[lead] = rows[chosen.shape[0] // 2]
    return usual


@kernel
def sort_columns(rows: Array) -> None:
    """Sort every column in place by exchanging neighbours, whole rows at a time: no branches, so many columns at once."""
    for turn in range(rows.shape[0]):
        for i in range(turn % 2, rows.shape[0] - 1, 2):
            upper, lower = rows[i], rows[i + 1]
            for k in range(rows.shape[1]):
                small, large = min(upper[k], lower[k]), max(upper[k], lower[k])
                upper[k], lower[k] = small, large


@kernel
def resemblance(waveform: Array, use: Array, chosen: Array) -> tuple[Array, Array]:
    """Return each beat's correlation with the usual beat over all leads, and its size relative to it (by regression).

    The usual beat is the median of the ``chosen`` ones. A lead's mean is removed; samples that a beat lacks are left out of
    both. What is summed is whole numbers, so it is exact.
    """
    n, n_leads, width = waveform.shape
    usual = usual_beat(waveform, use, chosen)
    correlation, size = np.zeros(n), np.zeros(n)
    mean, power = np.zeros(n_leads), np.zeros(n_leads)
    for lead in range(n_leads):
        total, square, _ = sums_of(usual[lead], usual[lead])
        mean[lead] = total / width
        power[lead] = square - total * mean[lead]
    for beat in range(n):
        cross = own = other = 0.0
        for lead in range(n_leads):
            if use[lead]:
                window, there = waveform[beat, lead], usual[lead]
                if least(window) == MISSING:
                    window, there, n_there = left_out(window, there)
                    total, square, _ = sums_of(there, there)
                    other += square + (n_there * mean[lead] - 2 * total) * mean[lead]
                    middle = total / max(1, n_there)
                else:
                    n_there, middle = width, mean[lead]
                    other += power[lead]
                total, square, product = sums_of(window, there)
                own += square - total * (total / max(1, n_there))
                cross += product - total * middle
        correlation[beat] = cross / max(1e-9, np.sqrt(own * other))
        size[beat] = np.sqrt(own / max(1e-9, other))
    return correlation, size


@kernel
def least(window: Array) -> Any:
    """Return a window's lowest sample, or 0 if that is lower."""
    low = np.int16(0)
    for k in range(window.shape[0]):
        low = min(low, window[k])
    return low


@kernel
def sums_of(window: Array, other: Array) -> tuple[Any, Any, Any]:
    """Return the sums of a window's samples, of their squares, and of their products with another's."""
    total, square, product = np.int32(0), np.int64(0), np.int64(0)
    for k in range(window.shape[0]):
        value = np.int64(window[k])
        total = np.int32(total + np.int32(window[k]))
        square += value * value
        product += value * np.int64(other[k])
    return total, square, product


@kernel
def left_out(window: Array, other: Array) -> tuple[Array, Array, int]:
    """Return a window and another with 0 where the first is missing, and the number of samples that are not."""
    own, there, n = np.zeros_like(window), np.zeros_like(other), 0
    for k in range(window.shape[0]):
        if window[k] != MISSING:
            own[k], there[k] = window[k], other[k]
            n += 1
    return own, there, n
