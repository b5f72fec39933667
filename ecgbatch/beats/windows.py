"""Windows around R peaks: low-pass, resampling, baseline and cutting in one pass over int16 samples (numba kernels).

Nothing of a record is copied but one lead's baseline curve. As in ``detection``: integer sums, one order, the same bytes
everywhere. Importing this module imports numba; ``record`` does it only when it is about to compute.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgbatch.beats.filtering import AT_ONCE, bridged, settings_of, window_sums
from ecgbatch.beats.resampling import Resampler
from ecgbatch.kernels import kernel, scratch

Array = NDArray[Any]

TAP_ONE = 32768
"""``resampling.TAP_ONE``, as a literal that kernels can freeze."""

MISSING = -32768
"""``terms.MISSING_SAMPLE``, likewise."""

BEATS_AT_ONCE = 1024
"""Beats whose windows are cut before the next ones': their sums are held as int32 until then."""

BASELINE_RATE_HZ = 25.0
"""The baseline is followed on means of blocks of about 1/25 s; what they alias below 0.5 Hz lies 34 dB down."""

SIDE_BY_SIDE = 4
"""Baselines in one vector of float64."""

TOGETHER = 16
"""Leads whose windows are cut at a time: all of most records."""


class HighPass(NamedTuple):
    """Baseline removal: block length in samples, and a second-order low-pass run forth and back over block means.

    The record less that low-pass, |H|^2 = 1 / (1 + (f/fc)^4), is the zero-phase Butterworth high-pass of the same order.
    """

    block: int
    b0: float
    b1: float
    b2: float
    a1: float
    a2: float
    pad: int


@lru_cache(maxsize=64)
def high_pass(sampling_frequency_hz: float, cutoff_hz: float) -> HighPass:
    """Design the baseline removal; -6 dB at ``cutoff_hz``, zero phase."""
    from scipy.signal import butter

    block = max(1, round(sampling_frequency_hz / BASELINE_RATE_HZ))
    rate = sampling_frequency_hz / block
    b, a = butter(2, cutoff_hz, fs=rate)
    return HighPass(block, b[0], b[1], b[2], a[1], a[2], round(1.5 * rate / cutoff_hz))


def baselines(signal: Array, n_samples: int, leads: Array, design: HighPass) -> Array:
    """Return the baselines of some leads in ADC units at the centres of their blocks, (block, lead) float64, ``scratch``.

    The record's ends are mirrored about their end points. There are columns of 0 up to a multiple of ``SIDE_BY_SIDE``.
    """
    n = max(1, n_samples // design.block)
    pad = min(design.pad, n - 1)
    shape = (n + 2 * pad, -(-len(leads) // SIDE_BY_SIDE) * SIDE_BY_SIDE)
    curve = scratch("baselines", shape, np.float64)
    follow(signal, n_samples, leads, design, pad, curve)
    return curve[pad : pad + n]


@kernel
def follow(signal: Array, n_samples: int, leads: Array, design: HighPass, pad: int, curve: Array) -> None:
    """Write the baselines of some leads into ``curve`` (``pad`` + block + ``pad``, column).

    A recursive filter waits for its own last value; side by side, leads wait together.
    """
    n, size = curve.shape[0] - 2 * pad, min(design.block, n_samples)
    ones = np.ones(size, np.int16)
    for column in range(leads.shape[0]):
        lead = signal[leads[column]]
        for i in range(n):
            curve[pad + i, column] = block_sum(lead[i * size : (i + 1) * size], ones) / size
    for column in range(leads.shape[0], curve.shape[1]):
        curve[pad : pad + n, column] = 0.0
    for i in range(pad):
        for column in range(curve.shape[1]):
            curve[pad - 1 - i, column] = 2 * curve[pad, column] - curve[pad + 1 + i, column]
            curve[pad + n + i, column] = 2 * curve[pad + n - 1, column] - curve[pad + n - 2 - i, column]
    one_way(curve, design)
    one_way(curve[::-1], design)


@kernel
def block_sum(part: Array, ones: Array) -> Any:
    """Return the sum of some samples; times ``ones``, because processors add up products of int16 faster than int16."""
    total = np.int32(0)
    for j in range(np.uint64(part.shape[0])):
        total = np.int32(total + np.int32(part[j]) * np.int32(ones[j]))
    return total


@kernel
def one_way(values: Array, design: HighPass) -> None:
    """Run the low-pass once over ``values`` (block, column), in place, each column from the steady state of its first."""
    x1, x2, y1, y2 = values[0].copy(), values[0].copy(), values[0].copy(), values[0].copy()
    for i in range(values.shape[0]):
        for first in range(0, values.shape[1], SIDE_BY_SIDE):
            row, p1, p2, q1, q2 = values[i, first:], x1[first:], x2[first:], y1[first:], y2[first:]
            for k in range(SIDE_BY_SIDE):
                x = row[k]
                y = design.b0 * x + design.b1 * p1[k] + design.b2 * p2[k] - design.a1 * q1[k] - design.a2 * q2[k]
                p2[k], p1[k], q2[k], q1[k] = p1[k], x, q1[k], y
                row[k] = y


def cut_windows(
    signal: Array, n: int, use: Array, has_gaps: bool, step_uv: Array, r_sample: Array, before: int, design: Resampler,
    base: HighPass, out: Array,
) -> Array:  # fmt: skip
    """Write one window around each R peak into ``out`` (beat, lead, sample) int16, in microvolts; unused leads are missing.

    Window sample ``k`` is the filtered signal at exactly ``r_sample + (k - before) / 125 s``, less the baseline there. Gaps are
    bridged for the filters and missing in the window.

    Returns
    -------
    leaves : (beat,) bool
        Whether a part of the window lies outside the record or in a gap, on any used lead: missing there.

    """
    out[:, ~use] = MISSING
    leaves = np.zeros(len(r_sample), bool)
    filled = bridged(signal, n, use) if has_gaps else signal
    leads, width = np.flatnonzero(use), -(-out.shape[2] // AT_ONCE) * AT_ONCE
    for group in (leads[first : first + TOGETHER] for first in range(0, len(leads), TOGETHER)):
        curve = baselines(filled, n, group, base)
        for first in range(0, len(r_sample), BEATS_AT_ONCE):
            part = slice(first, first + BEATS_AT_ONCE)
            total = scratch("sums", (len(r_sample[part]), len(group), width), np.int32)
            window_sums(filled, n, group, r_sample[part], before, *settings_of(design), total)
            write_windows(
                total, signal, n, group, step_uv, r_sample[part], before, has_gaps,
                design.up, design.down, base.block, curve, out[part], leaves[part],
            )  # fmt: skip
    return leaves


@kernel
def write_windows(
    total: Array, signal: Array, n: int, leads: Array, step_uv: Array, r_sample: Array, before: int, has_gaps: bool,
    up: int, down: int, block: int, curve: Array, out: Array, leaves: Array,
) -> None:  # fmt: skip
    """Write some leads' windows from their sums ``total`` and baselines ``curve``; set ``leaves`` where one is not whole."""
    width = out.shape[2]
    left, share = np.empty(width, np.int64), np.empty(width)
    rows, base = np.empty((width, curve.shape[1])), np.empty((curve.shape[1], width))
    start, stop = -down * before, down * (width - 1 - before)
    for beat in range(r_sample.shape[0]):
        r = up * r_sample[beat]
        places_between(r + start, up, down, block, curve.shape[0], left, share)
        between(curve, left, share, rows, base)
        for column in range(leads.shape[0]):
            lead = leads[column]
            own = out[beat, lead]
            write_window(total[beat, column, :width], base[column], step_uv[lead], own)
            if has_gaps or r + start < 0 or r + stop > up * (n - 1):
                leaves[beat] |= fill_outside(signal[lead, :n], up, down, r + start, own)


@kernel
def places_between(position: int, up: int, down: int, block: int, n: int, left: Array, share: Array) -> None:
    """Write between which points of a curve of ``n`` a window's samples lie, and how far; its end points beyond them.

    The same on every lead.
    """
    for k in range(left.shape[0]):
        at = (position // up + position % up / up - 0.5 * (block - 1)) / block
        left[k] = min(max(int(np.floor(at)), 0), max(0, n - 2))
        share[k] = min(1.0, max(0.0, at - left[k]))
        position += down


@kernel
def between(curve: Array, left: Array, share: Array, rows: Array, base: Array) -> None:
    """Write curves ``share`` of the way from their points ``left`` to the next, into ``base`` (curve, sample).

    All curves at one place first, in ``rows`` (sample, curve): no point has to be gathered.
    """
    last = curve.shape[0] - 1
    for k in range(left.shape[0]):
        here, after, own = curve[left[k]], curve[min(left[k] + 1, last)], rows[k]
        for i in range(own.shape[0]):
            own[i] = here[i] + share[k] * (after[i] - here[i])
    for first in range(0, base.shape[0], SIDE_BY_SIDE):
        for k in range(left.shape[0]):
            for i in range(SIDE_BY_SIDE):
                base[first + i, k] = rows[k, first + i]


@kernel
def write_window(total: Array, base: Array, step_uv: float, out: Array) -> None:
    """Write a window in microvolts, less its baseline."""
    for k in range(total.shape[0]):
        value = (total[k] / TAP_ONE - base[k]) * step_uv
        out[k] = np.int16(min(32767.0, max(-32767.0, np.rint(value))))


@kernel
def fill_outside(raw: Array, up: int, down: int, position: int, out: Array) -> bool:
    """Fill a window where it lies outside the record or in a gap; return whether it does."""
    last, leaves = up * (raw.shape[0] - 1), False
    for k in range(out.shape[0]):
        if position < 0 or position > last or raw[position // up] == MISSING:
            out[k] = MISSING
            leaves = True
        position += down
    return leaves


@kernel
def flat_tops(
    signal: Array, n: int, use: Array, step_mv: Array, r_sample: Array, before: int, after: int, run: int
) -> tuple[Array, bool]:
    """Return (beat,) bool: in its window, ``run`` samples lie at a lead's highest or lowest value, 1 mV off its middle.

    And whether a sample of a used lead is missing.
    """
    clipped, has_gaps = np.zeros(r_sample.shape[0], np.bool_), False
    for lead in range(signal.shape[0]):
        if not use[lead]:
            continue
        raw = signal[lead, :n]
        low, high, total, is_missing = extremes(raw)
        has_gaps |= is_missing
        middle = total / max(1, n)
        is_low = abs((low - middle) * step_mv[lead]) >= 1.0 and how_many(raw, low) >= run
        is_high = abs((high - middle) * step_mv[lead]) >= 1.0 and how_many(raw, high) >= run
        if not is_low and not is_high:
            continue
        for probe in range(0, n, run):  # a run of this length cannot pass between two probes
            if (raw[probe] == low and is_low) or (raw[probe] == high and is_high):
                first, last = probe, probe
                while first > 0 and raw[first - 1] == raw[probe]:
                    first -= 1
                while last + 1 < n and raw[last + 1] == raw[probe]:
                    last += 1
                if last - first + 1 >= run:
                    mark(clipped, r_sample, first - after, last + before)
    return clipped, has_gaps


@kernel
def extremes(raw: Array) -> tuple[Any, Any, Any, bool]:
    """Return the lowest, the highest and the sum of a lead's samples without those that are missing, and whether any is."""
    low, high, total = np.int16(32767), np.int16(-32767), np.int64(0)
    for i in range(raw.shape[0]):
        low, high = min(low, raw[i]), max(high, raw[i])
    if low != MISSING:
        for first in range(0, raw.shape[0], 32768):
            total += np.int64(short_sum(raw[first : first + 32768]))
        return low, high, total, False
    low = np.int16(32767)
    for i in range(raw.shape[0]):
        if raw[i] != MISSING:
            low = min(low, raw[i])
            total += np.int64(raw[i])
    return low, high, total, True


@kernel
def how_many(raw: Array, value: Any) -> Any:
    """Return how many of a lead's samples have a value."""
    n = np.int32(0)
    for i in range(raw.shape[0]):
        n = np.int32(n + np.int32(raw[i] == value))
    return n


@kernel
def short_sum(part: Array) -> Any:
    """Return the sum of at most 65536 samples."""
    total = np.int32(0)
    for j in range(part.shape[0]):
        total = np.int32(total + np.int32(part[j]))
    return total


@kernel
def mark(flag: Array, r_sample: Array, first: int, last: int) -> None:
    """Set the flag of every beat whose R lies from ``first`` to ``last``."""
    for beat in range(np.searchsorted(r_sample, first), r_sample.shape[0]):
        if r_sample[beat] > last:
            break
        flag[beat] = True


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
