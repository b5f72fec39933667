"""Quality's measures of a record without gaps, in machine code: what ``quality.measure_leads`` says, on one pass for all leads.

Samples lie (sample, lead) in here, so that one instruction works on all leads. Importing this module imports numba; ``quality``
does it when a record is judged.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgbatch.kernels import kernel

Array = NDArray[Any]

WIDTH = 8
"""Leads are padded to a multiple of this: single precision numbers of a 256-bit register."""


PIECE = 512
"""Means of all leads that are turned from (lead, mean) to (mean, lead) at a time: they stay in the first cache."""


class Measures(NamedTuple):
    """Per lead as ``quality.LeadMeasures``; ``centred_mv`` (mean, lead), padded, are the leads without their baseline."""

    range_mv: Array
    flat_share: Array
    noise_mv: Array
    mains_mv: Array
    beside_mains_mv: Array
    wander_mv_per_s: Array
    centred_mv: Array


@kernel
def extremes(signal: Array, n_samples: int) -> Array:
    """Return (lead, 4) int64: each lead's lowest and highest sample, and how many samples are there."""
    found = np.empty((signal.shape[0], 4), np.int64)
    for lead in range(signal.shape[0]):
        samples = signal[lead, :n_samples]
        low, high = samples[0], samples[0]
        for i in range(samples.shape[0]):
            low, high = min(low, samples[i]), max(high, samples[i])
        n_low, n_high = 0, 0
        for i in range(samples.shape[0]):
            n_low += samples[i] == low
            n_high += samples[i] == high
        found[lead, 0], found[lead, 1], found[lead, 2], found[lead, 3] = low, high, n_low, n_high
    return found


@kernel
def stays_at(samples: Array, extreme: int, least: float, long_run: float) -> bool:
    """Return whether samples stay at their extreme: ``least`` in runs of two and more, in two runs or one ``long_run``."""
    n_runs, total, first, run = 0, 0, 0, 0
    for i in range(samples.shape[0] + 1):
        if i < samples.shape[0] and samples[i] == extreme:
            run += 1
            continue
        if run >= 2:
            n_runs, total, first = n_runs + 1, total + run, first if n_runs else run
        run = 0
    return total >= least and (n_runs >= 2 or first >= long_run)


@kernel
def measure(
    signal: Array, n_samples: int, scale: Array, offset: Array, factor: int, n_second: int, length: int, waves: Array,
    is_mains: Array, gain: Array, flat_mv: float,
) -> Measures:  # fmt: skip
    """Measure a record without gaps.

    Parameters
    ----------
    signal : (lead, sample) int16
        Its first ``n_samples`` are the record.
    scale, offset : (lead,) float32
        Sum of ``factor`` samples to their mean in mV: times scale, less offset.
    n_second, length
        Means in a second and in a tenth of one.
    waves : (length, 2 x frequency) float32
        Cosines, then sines, of the frequencies that are looked for.
    is_mains : (frequency,) bool
    gain : (frequency,) float64
        Of the second difference.
    flat_mv : float32
        A second of a smaller span is flat.

    """
    n_leads = signal.shape[0]
    means = _means(signal, n_samples, scale, offset, factor)
    span, middle, centred = _seconds(means, n_second)
    power, square = _tenths(means, length, waves)
    measured = np.zeros((6, n_leads))
    for lead in range(n_leads):
        measured[0, lead] = _quantile(span[lead].copy(), 0.5)
        measured[1, lead] = np.sum(span[lead] < flat_mv) / span.shape[1]
        step = np.abs(middle[lead, 1:] - middle[lead, :-1]) if middle.shape[1] > 1 else np.zeros(1, np.float32)
        measured[5, lead] = _quantile(step, 0.9)
        if power.shape[1] == 0:
            continue
        mains = np.zeros(power.shape[1], np.float32)
        for k in range(square.shape[0]):
            if is_mains[k]:
                mains += square[k, lead]
        rest = np.maximum(power[lead] - mains / np.float32(2), np.float32(0)) / np.float32(1.5)
        measured[2, lead] = _quantile(rest, 0.5) ** 0.5
        for k in range(square.shape[0]):
            amplitude = _quantile(square[k, lead].copy(), 0.5) ** 0.5 / gain[k]
            row = 3 if is_mains[k] else 4
            measured[row, lead] = max(measured[row, lead], amplitude)
    return Measures(measured[0], measured[1], measured[2], measured[3], measured[4], measured[5], centred)


@kernel
def _means(signal: Array, n_samples: int, scale: Array, offset: Array, factor: int) -> Array:
    """Return (mean, lead) float32 mV, leads padded with zeros."""
    n_leads, n = signal.shape[0], n_samples // factor
    means = np.zeros((n, (n_leads + WIDTH - 1) // WIDTH * WIDTH), np.float32)
    some = np.empty((n_leads, PIECE), np.float32)
    for first in range(0, n, PIECE):
        n_here = min(PIECE, n - first)
        for lead in range(n_leads):
            _sums(signal[lead, first * factor : (first + n_here) * factor], factor, some[lead])
        for i in range(n_here):
            for lead in range(n_leads):
                means[first + i, lead] = some[lead, i] * scale[lead] - offset[lead]
    return means


@kernel
def _sums(samples: Array, factor: int, out: Array) -> None:
    """Sum ``factor`` neighbours; exact in float32 for up to 512 of them."""
    n = samples.shape[0] // factor
    if factor == 4:  # PTB's and most others': with the number known, the compiler adds eight sums at once
        for i in range(n):
            out[i] = np.int32(samples[4 * i]) + samples[4 * i + 1] + samples[4 * i + 2] + samples[4 * i + 3]
    elif factor == 2:
        for i in range(n):
            out[i] = np.int32(samples[2 * i]) + samples[2 * i + 1]
    elif factor == 1:
        for i in range(n):
            out[i] = samples[i]
    else:
        for i in range(n):
            total = np.int32(0)
            for k in range(factor):
                total += samples[i * factor + k]
            out[i] = total


@kernel
def _seconds(means: Array, n_second: int) -> tuple[Array, Array, Array]:
    """Return span and mean of each second (lead, second), and (mean, lead) what is left without the seconds' means."""
    n, width = means.shape[0] // n_second, means.shape[1]
    span, middle = np.empty((width, n), np.float32), np.empty((width, n), np.float32)
    centred = np.empty((n * n_second, width), np.float32)
    low, high, total = np.empty(width, np.float32), np.empty(width, np.float32), np.empty(width, np.float32)
    for second in range(n):
        here, there = means[second * n_second :], centred[second * n_second :]
        low[:], high[:], total[:] = here[0], here[0], np.float32(0)
        for i in range(n_second):
            for lead in range(width):
                value = here[i, lead]
                low[lead], high[lead] = min(low[lead], value), max(high[lead], value)
                total[lead] += value
        for lead in range(width):
            span[lead, second] = high[lead] - low[lead]
            middle[lead, second] = total[lead] / np.float32(n_second)
            low[lead] = middle[lead, second]
        for i in range(n_second):
            for lead in range(width):
                there[i, lead] = here[i, lead] - low[lead]
    return span, middle, centred


@kernel
def _tenths(means: Array, length: int, waves: Array) -> tuple[Array, Array]:
    """Return power of the second difference in each tenth of a second (lead, tenth), and its part at each frequency."""
    width, n_waves = means.shape[1], waves.shape[1]
    n = (means.shape[0] - 2) // length if means.shape[0] >= length + 2 else 0
    power, square = np.empty((width, n), np.float32), np.empty((n_waves // 2, width, n), np.float32)
    rough, padded = np.zeros((length + 3, width), np.float32), np.zeros((length + 3, n_waves), np.float32)
    padded[:length] = waves
    total, parts = np.empty(width, np.float32), np.empty((n_waves, width), np.float32)
    for tenth in range(n):
        total[:], parts[:] = np.float32(0), np.float32(0)
        here = means[tenth * length : (tenth + 1) * length + 2]
        for k in range(length):
            for lead in range(width):
                value = (here[k, lead] + here[k + 2, lead]) * np.float32(-0.5) + here[k + 1, lead]
                rough[k, lead] = value
                total[lead] += value * value
        for k in range(0, length, 4):
            for wave in range(n_waves):
                a, b, c, d = padded[k, wave], padded[k + 1, wave], padded[k + 2, wave], padded[k + 3, wave]
                for lead in range(width):
                    parts[wave, lead] += (
                        a * rough[k, lead] + b * rough[k + 1, lead] + c * rough[k + 2, lead] + d * rough[k + 3, lead]
                    )
        for lead in range(width):
            power[lead, tenth] = total[lead] / np.float32(length)
            for wave in range(n_waves // 2):
                square[wave, lead, tenth] = parts[wave, lead] ** 2 + parts[wave + n_waves // 2, lead] ** 2
    return power, square


@kernel
def _quantile(values: Array, share: float) -> float:
    """Return the value that ``share`` of the values lie below, in whole places; ``values`` are rearranged (Hoare's selection)."""
    n = values.shape[0]
    place = min(int(n * share), n - 1)
    low, high = 0, n - 1
    while low < high:
        pivot = values[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i, j = i + 1, j - 1
        if place <= j:
            high = j
        elif place >= i:
            low = i
        else:
            break
    return float(values[place])


@kernel
def excess(covariance_mv2: Array, row: Array, rest: Array, tolerance: float, tolerance_mv: float) -> float:
    """Return the largest residual of the limb leads' fit by one I and one II, in tolerances."""
    n = row.shape[0]
    largest = 0.0
    for k in range(n):
        residual = 0.0
        for i in range(n):
            for j in range(n):
                residual += rest[k, i] * covariance_mv2[row[i], row[j]] * rest[k, j]
        own = covariance_mv2[row[k], row[k]]
        largest = max(largest, max(residual, 0.0) ** 0.5 / max(tolerance * own**0.5, tolerance_mv))
    return largest


@kernel
def unexplained(covariance_mv2: Array, row: Array, difference: Array) -> float:
    """Return the power of what ``difference`` (combination, lead) makes of the leads in ``row``."""
    total = 0.0
    for k in range(difference.shape[0]):
        for i in range(row.shape[0]):
            for j in range(row.shape[0]):
                total += difference[k, i] * covariance_mv2[row[i], row[j]] * difference[k, j]
    return total
