"""Windows around R peaks: low-pass, resampling, baseline and cutting in one pass over int16 samples (numba kernels).

Nothing of a record is copied but one lead's baseline curve. As in ``detection``: integer sums, one order, the same bytes
everywhere. Importing this module imports numba; ``record_beats`` does it only when it is about to compute.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgbatch.kernels import kernel

Array = NDArray[Any]

TAP_ONE = 32768
"""``resampling.TAP_ONE``, as a literal that kernels can freeze."""

BASELINE_RATE_HZ = 25.0
"""The baseline is followed on means of blocks of about 1/25 s; what they alias below 0.5 Hz lies 34 dB down."""

TOGETHER = 8
"""Leads whose baselines are filtered side by side: what a vector of float64 holds."""


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


@kernel
def baseline(lead: Array, design: HighPass) -> Array:
    """Return a lead's baseline in ADC units at the centres of its blocks; its ends mirrored about their end points."""
    return baselines(lead.reshape(1, -1), np.zeros(1, np.int64), design)[:, 0].copy()


@kernel
def baselines(signal: Array, leads: Array, design: HighPass) -> Array:
    """Return the baselines of at most ``TOGETHER`` leads, (block, ``TOGETHER``) float64; columns without a lead are 0.

    A recursive filter waits for its own last value; side by side, leads wait together.
    """
    n = max(1, signal.shape[1] // design.block)
    size = min(design.block, signal.shape[1])
    pad = min(design.pad, n - 1)
    curve = np.zeros((n + 2 * pad, TOGETHER))
    for column in range(leads.shape[0]):
        lead = signal[leads[column]]
        for i in range(n):
            curve[pad + i, column] = block_sum(lead[i * size : (i + 1) * size]) / size
    for i in range(pad):
        for column in range(TOGETHER):
            curve[pad - 1 - i, column] = 2 * curve[pad, column] - curve[pad + 1 + i, column]
            curve[pad + n + i, column] = 2 * curve[pad + n - 1, column] - curve[pad + n - 2 - i, column]
    one_way(curve, design)
    one_way(curve[::-1], design)
    return curve[pad : pad + n]


@kernel
def block_sum(part: Array) -> Any:
    """Return the sum of some samples."""
    total = np.int32(0)
    for j in range(np.uint64(part.shape[0])):
        total = np.int32(total + np.int32(part[j]))
    return total


@kernel
def one_way(values: Array, design: HighPass) -> None:
    """Run the low-pass once over ``values`` (block, ``TOGETHER``), in place, each column from the steady state of its first."""
    x1, x2, y1, y2 = values[0].copy(), values[0].copy(), values[0].copy(), values[0].copy()
    for i in range(values.shape[0]):
        row = values[i]
        for k in range(TOGETHER):
            x = row[k]
            y = design.b0 * x + design.b1 * x1[k] + design.b2 * x2[k] - design.a1 * y1[k] - design.a2 * y2[k]
            x2[k], x1[k], y2[k], y1[k] = x1[k], x, y1[k], y
            row[k] = y


@kernel
def cut_windows(
    signal: Array, filled: Array, n: int, use: Array, step_uv: Array, r_sample: Array, before: int, has_gaps: bool,
    taps: Array, up: int, down: int, reach: int, design: HighPass, out: Array, fill: int,
) -> Array:  # fmt: skip
    """Write one window around each R peak into ``out`` (beat, lead, sample) int16, in microvolts.

    ``filled`` is the signal with its gaps bridged, ``fill`` the value that means missing, in ``signal`` and ``out``.
    Window sample ``k`` is the filtered signal at exactly ``r_sample + (k - before) / 125 s``, less the baseline there.

    Returns
    -------
    leaves : (beat,) bool
        Whether a part of the window lies outside the record or in a gap, on any used lead: filled there.

    """
    leaves = np.zeros(r_sample.shape[0], np.bool_)
    width = out.shape[2]
    total, left, share = np.empty(width, np.int32), np.empty(width, np.int64), np.empty(width)
    start, stop = -down * before, down * (width - 1 - before)
    leads = np.flatnonzero(use)
    for lead in range(signal.shape[0]):
        if not use[lead]:
            out[:, lead] = fill
    for first in range(0, leads.shape[0], TOGETHER):
        group = leads[first : first + TOGETHER]
        curve = baselines(filled[:, :n], group, design)
        for beat in range(r_sample.shape[0]):
            r = up * r_sample[beat]
            places_between(r + start, up, down, design.block, curve.shape[0], left, share)
            for column in range(group.shape[0]):
                lead = group[column]
                filter_window(filled[lead, :n], taps, up, down, reach, r + start, total)
                write_window(total, left, share, curve[:, column], step_uv[lead], out[beat, lead])
                if has_gaps or r + start < 0 or r + stop > up * (n - 1):
                    leaves[beat] |= fill_outside(signal[lead, :n], up, down, r + start, out[beat, lead], fill)
    return leaves


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
def filter_window(lead: Array, taps: Array, up: int, down: int, reach: int, position: int, total: Array) -> None:
    """Write a window's filtered samples, in ``1 / TAP_ONE`` steps.

    ``position`` is the first one's, in ``1 / up`` samples.
    """
    n, n_taps = lead.shape[0], taps.shape[1]
    whole, part = down // up, down % up
    i, phase = position // up, position % up
    for k in range(total.shape[0]):
        first = i - reach
        if first >= 0 and first + n_taps <= n:
            # As in detection.resample: exact, and unsigned so that the loop is not kept scalar.
            start, row = np.uint64(first), np.uint64(phase)
            value = np.int32(0)
            for tap in range(np.uint64(n_taps)):
                value = np.int32(value + np.int32(lead[start + tap]) * np.int32(taps[row, tap]))
            total[k] = value
        else:
            value = np.int32(0)
            for tap in range(2 * reach + 1):  # the record's ends are held
                value = np.int32(value + np.int32(lead[min(max(first + tap, 0), n - 1)]) * np.int32(taps[phase, tap]))
            total[k] = value
        i += whole
        phase += part
        if phase >= up:
            phase -= up
            i += 1


@kernel
def write_window(total: Array, left: Array, share: Array, curve: Array, step_uv: float, out: Array) -> None:
    """Write a window in microvolts, less the baseline curve ``share`` of the way from its point ``left`` to the next."""
    last = curve.shape[0] - 1
    for k in range(total.shape[0]):
        here = curve[left[k]]
        value = (total[k] / TAP_ONE - (here + share[k] * (curve[min(left[k] + 1, last)] - here))) * step_uv
        out[k] = np.int16(min(32767.0, max(-32767.0, np.rint(value))))


@kernel
def fill_outside(raw: Array, up: int, down: int, position: int, out: Array, fill: int) -> bool:
    """Fill a window where it lies outside the record or in a gap; return whether it does."""
    last, leaves = up * (raw.shape[0] - 1), False
    for k in range(out.shape[0]):
        if position < 0 or position > last or raw[position // up] == fill:
            out[k] = fill
            leaves = True
        position += down
    return leaves


@kernel
def flat_tops(
    signal: Array, n: int, use: Array, step_mv: Array, r_sample: Array, before: int, after: int, run: int, missing: int
) -> Array:
    """Return (beat,) bool: in its window, ``run`` samples lie at a lead's highest or lowest value, 1 mV off its middle."""
    clipped = np.zeros(r_sample.shape[0], np.bool_)
    for lead in range(signal.shape[0]):
        if not use[lead]:
            continue
        raw = signal[lead, :n]
        total: Any = 0
        low, high = np.int16(32767), np.int16(-32767)
        for i in range(n):
            if raw[i] != missing:
                low, high = min(low, raw[i]), max(high, raw[i])
                total += np.int64(raw[i])
        middle = total / max(1, n)
        for rail in (low, high):
            if abs((rail - middle) * step_mv[lead]) < 1.0:
                continue
            for probe in range(0, n, run):  # a run of this length cannot pass between two probes
                if raw[probe] == rail:
                    first, last = probe, probe
                    while first > 0 and raw[first - 1] == rail:
                        first -= 1
                    while last + 1 < n and raw[last + 1] == rail:
                        last += 1
                    if last - first + 1 >= run:
                        mark(clipped, r_sample, first - after, last + before)
    return clipped


@kernel
def mark(flag: Array, r_sample: Array, first: int, last: int) -> None:
    """Set the flag of every beat whose R lies from ``first`` to ``last``."""
    for beat in range(np.searchsorted(r_sample, first), r_sample.shape[0]):
        if r_sample[beat] > last:
            break
        flag[beat] = True


@kernel
def usual_beat(waveform: Array, use: Array, chosen: Array) -> Array:
    """Return the (upper) median of the chosen beats, (lead, sample) float64, each lead's mean removed; 0 on unused leads."""
    usual = np.zeros(waveform.shape[1:])
    rows = np.empty((chosen.shape[0], waveform.shape[2]), np.int16)
    for lead in range(waveform.shape[1]):
        if use[lead]:
            for i in range(chosen.shape[0]):
                rows[i] = waveform[chosen[i], lead]
            sort_columns(rows)
            usual[lead] = rows[chosen.shape[0] // 2]
            mean = 0.0
            for k in range(waveform.shape[2]):
                mean += usual[lead, k] / waveform.shape[2]
            usual[lead] -= mean
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
def resemblance(waveform: Array, usual: Array, fill: int) -> tuple[Array, Array]:
    """Return each beat's correlation with the usual beat over all leads, and its size relative to it (by regression)."""
    n, width = waveform.shape[0], waveform.shape[2]
    correlation, size = np.zeros(n), np.zeros(n)
    # Sums grow by columns, many at once, and columns are added in order: one order on every processor.
    sums = np.zeros((3, width))
    for beat in range(n):
        sums[:] = 0.0
        for lead in range(waveform.shape[1]):
            add_resemblance(waveform[beat, lead], usual[lead], fill, sums[0], sums[1], sums[2])
        cross = own = other = 0.0
        for k in range(width):
            cross += sums[0, k]
            own += sums[1, k]
            other += sums[2, k]
        correlation[beat] = cross / max(1e-9, np.sqrt(own * other))
        size[beat] = np.sqrt(own / max(1e-9, other))
    return correlation, size


@kernel
def add_resemblance(window: Array, usual: Array, fill: int, cross: Array, own: Array, other: Array) -> None:
    """Add a lead's products, its mean removed, to the sums of each sample; none where it is ``fill``."""
    total, count = np.int32(0), np.int32(0)
    for k in range(window.shape[0]):
        there = window[k] != fill
        total = np.int32(total + (np.int32(window[k]) if there else np.int32(0)))
        count = np.int32(count + (np.int32(1) if there else np.int32(0)))
    mean = total / max(np.int32(1), count)
    for k in range(window.shape[0]):
        there = 1.0 if window[k] != fill else 0.0
        value = (window[k] - mean) * there
        cross[k] += value * usual[k]
        own[k] += value * value
        other[k] += usual[k] * usual[k] * there
