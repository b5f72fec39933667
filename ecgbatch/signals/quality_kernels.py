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


class Limits(NamedTuple):
    """Thresholds of ``terms``."""

    flat_share: float
    noise_mv: float
    noise_share_of_range: float
    wander_mv_per_s: float
    mains_mv: float
    mains_ratio: float
    largest_range_mv: float
    smallest_range_mv: float


class Bits(NamedTuple):
    """Of ``terms.LEAD_FLAGS``."""

    missing: int
    gaps: int
    flat: int
    clipped: int
    noisy: int
    wander: int
    powerline: int
    implausible_amplitude: int


MISSING = -32768
"""``terms.MISSING_SAMPLE``."""


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
def mark(
    signal: Array, n_samples: int, found: Array, measured: Array, limits: Limits, bits: Bits, least: float, long_run: float
) -> tuple[Array, Array]:
    """Return what each lead shows by itself (lead,) uint16, and which leads are judged: neither missing nor flat.

    ``found`` is of ``extremes``, ``measured`` of ``measure``, ``least`` and ``long_run`` are samples at an extreme. NaN exceeds
    nothing: what cannot be measured is not flagged, but for a lead without one whole second, which is flat.
    """
    n_leads = signal.shape[0]
    flags, judged = np.zeros(n_leads, np.uint16), np.zeros(n_leads, np.bool_)
    is_small = True
    for lead in range(n_leads):
        n_missing = found[lead, 2] if found[lead, 0] == MISSING else 0
        if n_missing == n_samples:
            flags[lead] = bits.missing
            continue
        span, flat_share, noise = measured[0, lead], measured[1, lead], measured[2, lead]
        mains, beside, wander = measured[3, lead], measured[4, lead], measured[5, lead]
        mask = bits.gaps if n_missing > 0 else 0
        if np.isnan(flat_share) or flat_share > limits.flat_share:
            flags[lead] = mask | bits.flat
            continue
        judged[lead] = True
        if n_missing > 0 or found[lead, 2] >= least or found[lead, 3] >= least:
            mask |= bits.clipped if _is_clipped(signal[lead, :n_samples], least, long_run) else 0
        mask |= bits.noisy if noise > limits.noise_mv and noise > limits.noise_share_of_range * span else 0
        mask |= bits.wander if wander > limits.wander_mv_per_s else 0
        mask |= bits.powerline if mains > limits.mains_mv and mains > limits.mains_ratio * beside else 0
        mask |= bits.implausible_amplitude if span > limits.largest_range_mv else 0
        is_small = is_small and span < limits.smallest_range_mv
        flags[lead] = mask
    if is_small:
        for lead in range(n_leads):
            flags[lead] |= bits.implausible_amplitude if judged[lead] else 0
    return flags, judged


@kernel
def _is_clipped(samples: Array, least: float, long_run: float) -> bool:
    """Return whether samples stay at their own extremes as only a limited amplifier or converter does."""
    low, high = 32767, MISSING
    for i in range(samples.shape[0]):
        if samples[i] != MISSING:
            low, high = min(low, samples[i]), max(high, samples[i])
    return _stays_at(samples, low, least, long_run) or _stays_at(samples, high, least, long_run)


@kernel
def _stays_at(samples: Array, extreme: int, least: float, long_run: float) -> bool:
    """Return whether samples stay at their extreme: ``least`` in runs of two and more, in two runs or one ``long_run``.

    Samples before and after missing ones are neighbours.
    """
    n_runs, total, first, run = 0, 0, 0, 0
    for i in range(samples.shape[0] + 1):
        if i < samples.shape[0] and samples[i] == MISSING:
            continue
        if i < samples.shape[0] and samples[i] == extreme:
            run += 1
            continue
        if run >= 2:
            n_runs, total, first = n_runs + 1, total + run, first if n_runs else run
        run = 0
    return total >= least and (n_runs >= 2 or first >= long_run)


@kernel
def measure(
    signal: Array, n_samples: int, adc_gain: Array, baseline: Array, factor: int, n_second: int, length: int, waves: Array,
    is_mains: Array, gain: Array, flat_mv: float,
) -> tuple[Array, Array]:  # fmt: skip
    """Measure a record without gaps: return (measure, lead) in the order of ``quality.LeadMeasures``, and covariances.

    Parameters
    ----------
    signal : (lead, sample) int16
        Its first ``n_samples`` are the record.
    adc_gain, baseline : (lead,) float64, int32
    factor
        Samples of a mean.
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
    # The sum of ``factor`` samples times scale, less offset, is their mean in mV.
    scale, offset = np.empty(n_leads, np.float32), np.empty(n_leads, np.float32)
    for lead in range(n_leads):
        scale[lead], offset[lead] = np.float32(1 / (factor * adc_gain[lead])), np.float32(baseline[lead] / adc_gain[lead])
    means = _means(signal, n_samples, scale, offset, factor)
    span, middle, covariance = _seconds(means, n_second, n_leads)
    power, square = _tenths(means, length, waves)
    n_tenths = power.shape[0]
    measured, some = np.zeros((6, n_leads)), np.empty(n_tenths, np.float32)
    for lead in range(n_leads):
        measured[0, lead] = _quantile(span[lead], 0.5)
        measured[1, lead] = np.sum(span[lead] < flat_mv) / span.shape[1]
        step = np.abs(middle[lead, 1:] - middle[lead, :-1]) if middle.shape[1] > 1 else np.zeros(1, np.float32)
        measured[5, lead] = _quantile(step, 0.9)
        if n_tenths == 0:
            continue
        for i in range(n_tenths):
            mains = np.float32(0)
            for k in range(square.shape[0]):
                mains += square[k, i, lead] if is_mains[k] else np.float32(0)
            some[i] = max(power[i, lead] - mains / np.float32(2), np.float32(0)) / np.float32(1.5)
        measured[2, lead] = _quantile(some, 0.5) ** 0.5
        for k in range(square.shape[0]):
            for i in range(n_tenths):
                some[i] = square[k, i, lead]
            amplitude = _quantile(some, 0.5) ** 0.5 / gain[k]
            row = 3 if is_mains[k] else 4
            measured[row, lead] = max(measured[row, lead], amplitude)
    return measured, covariance


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
def _seconds(means: Array, n_second: int, n_leads: int) -> tuple[Array, Array, Array]:
    """Return span and mean of each second (lead, second), and (lead, lead) the covariance of what is left without the means."""
    n, width = means.shape[0] // n_second, means.shape[1]
    span, middle = np.empty((width, n), np.float32), np.empty((width, n), np.float32)
    centred = np.zeros((n_second + 3, width), np.float32)
    low, high, total = np.empty(width, np.float32), np.empty(width, np.float32), np.empty(width, np.float32)
    products, covariance = np.empty((n_leads, width), np.float32), np.zeros((n_leads, n_leads))
    for second in range(n):
        here = means[second * n_second :]
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
                centred[i, lead] = here[i, lead] - low[lead]
        _add_products(centred, n_second, products)
        for lead in range(n_leads):
            for other in range(n_leads):
                covariance[lead, other] += products[lead, other]
    return span, middle, covariance / max(n * n_second, 1)


@kernel
def _add_products(centred: Array, n: int, products: Array) -> None:
    """Sum the products of every two leads over ``n`` rows; three more rows are zero."""
    products[:] = np.float32(0)
    for i in range(0, n, 4):
        for one in range(products.shape[0]):
            a, b, c, d = centred[i, one], centred[i + 1, one], centred[i + 2, one], centred[i + 3, one]
            for lead in range(products.shape[1]):
                products[one, lead] += (
                    a * centred[i, lead] + b * centred[i + 1, lead] + c * centred[i + 2, lead] + d * centred[i + 3, lead]
                )


@kernel
def _tenths(means: Array, length: int, waves: Array) -> tuple[Array, Array]:
    """Return power of the second difference (tenth of a second, lead), and its part at each frequency."""
    width, n_waves = means.shape[1], waves.shape[1]
    n = (means.shape[0] - 2) // length if means.shape[0] >= length + 2 else 0
    power, square = np.empty((n, width), np.float32), np.empty((n_waves // 2, n, width), np.float32)
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
            power[tenth, lead] = total[lead] / np.float32(length)
        for wave in range(n_waves // 2):
            for lead in range(width):
                cosine, sine = parts[wave, lead], parts[wave + n_waves // 2, lead]
                square[wave, tenth, lead] = cosine * cosine + sine * sine
    return power, square


@kernel
def _quantile(values: Array, share: float) -> float:
    """Return the value that ``share`` of the values lie below, in whole places; float32, none negative.

    Then they are ordered as their bits are, and these are found one after the other, the highest first: without a branch that
    depends on a value, a third of the time of a selection.
    """
    bits, found = values.view(np.int32), np.zeros(1, np.int32)
    place = min(int(bits.shape[0] * share), bits.shape[0] - 1)
    for bit in range(30, -1, -1):
        candidate = found[0] | np.int32(1 << bit)
        n_below = np.int32(0)
        for i in range(bits.shape[0]):
            n_below += np.int32(bits[i] < candidate)
        if n_below <= place:
            found[0] = candidate
    return float(found.view(np.float32)[0])


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
def unexplained(covariance_mv2: Array, row: Array, differences: Array) -> Array:
    """Return the power of what each of ``differences`` (way, combination, lead) makes of the leads in ``row``."""
    power = np.zeros(differences.shape[0])
    for way in range(differences.shape[0]):
        for k in range(differences.shape[1]):
            for i in range(row.shape[0]):
                for j in range(row.shape[0]):
                    power[way] += differences[way, k, i] * covariance_mv2[row[i], row[j]] * differences[way, k, j]
    return power
