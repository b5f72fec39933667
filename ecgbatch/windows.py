"""From int16 samples to 125 Hz: whole leads for detection, windows around R peaks for beats (numba kernels).

Low-pass, resampling, baseline and cutting are one pass; nothing of a record is copied but one lead's baseline curve.
Importing this module imports numba; ``record_beats`` does it only when it is about to compute.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgbatch.kernels import kernel

Array = NDArray[Any]

RATE_HZ = 125.0
"""Working rate of detection and of every stored window."""

TAP_ONE = 32768
"""Taps are integers, this many to 1: sums are exact, so their order cannot matter."""

TAPS_AT_ONCE = 32
"""Taps are filled up with zeros to a multiple of this: processors multiply 16 or 32 at once, and a rest one by one."""

MISSING = -32768
"""``terms.MISSING_SAMPLE``, as a literal that kernels can freeze."""


class Resampler(NamedTuple):
    """A polyphase low-pass between a record's rate and ``RATE_HZ``: ``taps`` (phase, tap) int16, ``TAP_ONE`` to 1."""

    up: int
    down: int
    reach: int
    taps: Array


@lru_cache(maxsize=64)
def resampler(sampling_frequency_hz: float, cutoff_hz: float, half_width_s: float) -> Resampler:
    """Design the low-pass that takes a rate to ``RATE_HZ``: a Kaiser window (beta 5, as ``scipy.signal.resample_poly``).

    Parameters
    ----------
    sampling_frequency_hz
        Rate of the record; read to a thousandth of a hertz.
    cutoff_hz
        Where the response is -6 dB.
    half_width_s
        Time that the taps reach to either side.

    Returns
    -------
    Resampler
        Each phase sums to ``TAP_ONE`` exactly, so that an offset passes unchanged.

    """
    from scipy.signal import firwin

    fs = Fraction(sampling_frequency_hz).limit_denominator(1000)
    ratio = Fraction(125) / fs
    up, down = ratio.numerator, ratio.denominator
    half = round(half_width_s * float(max(fs, Fraction(125))) * up)
    prototype = firwin(2 * half + 1, min(cutoff_hz, 0.45 * float(fs)), window=("kaiser", 5.0), fs=float(fs) * up) * up
    reach = -(-half // up)
    padded = np.zeros((up, -(-(2 * reach + 1) // TAPS_AT_ONCE) * TAPS_AT_ONCE))
    offset = half + np.arange(up)[:, None] - up * np.arange(-reach, reach + 1)[None, :]
    inside = (offset >= 0) & (offset <= 2 * half)
    padded[:, : 2 * reach + 1][inside] = prototype[offset[inside]]
    taps = np.rint(padded * TAP_ONE).astype(np.int64)
    taps[np.arange(up), np.argmax(taps, axis=1)] += TAP_ONE - taps.sum(axis=1)
    if np.abs(taps).sum(axis=1).max() >= 2 * TAP_ONE:
        raise ValueError(f"low-pass at {cutoff_hz} Hz for {sampling_frequency_hz} Hz could overflow 32 bits: use wider taps")
    return Resampler(up, down, reach, taps.astype(np.int16))


def full_taps(design: Resampler) -> Array:
    """Return a design's taps as ``scipy.signal.resample_poly(x, up, down, window=...)`` takes them (sum 1, odd length)."""
    up, reach = design.up, design.reach
    taps = np.zeros((2 * reach + 1) * up + up)
    centre = (reach + 1) * up - 1
    for phase in range(up):
        position = centre + phase - up * np.arange(-reach, reach + 1)
        inside = (position >= 0) & (position < taps.size)
        taps[position[inside]] = design.taps[phase, : 2 * reach + 1][inside]
    half = min(centre, taps.size - 1 - centre)
    return taps[centre - half : centre + half + 1] / (TAP_ONE * up)


@kernel
def at_the_end(lead: Array, taps: Array, phase: int, reach: int, first: int) -> Any:
    """Return a filtered sample whose taps leave the record, in ``1 / TAP_ONE`` steps: the record's end is held."""
    total = np.int32(0)
    for k in range(2 * reach + 1):
        i = min(max(first + k, 0), lead.shape[0] - 1)
        total = np.int32(total + np.int32(lead[i]) * np.int32(taps[phase, k]))
    return total


@kernel
def has_gaps(lead: Array) -> Any:
    """Return whether a sample is missing."""
    lowest = np.int16(0)
    for i in range(lead.shape[0]):
        lowest = min(lowest, lead[i])
    return lowest == MISSING


@kernel
def fill_gaps(lead: Array) -> Array:
    """Return the lead with missing samples held at the last known one; the lead itself if none is missing."""
    if not has_gaps(lead):
        return lead
    filled = lead.copy()
    known = 0
    while known < lead.shape[0] and lead[known] == MISSING:
        known += 1
    last = lead[known] if known < lead.shape[0] else np.int16(0)
    for i in range(lead.shape[0]):
        if lead[i] == MISSING:
            filled[i] = last
        else:
            last = lead[i]
    return filled


@kernel
def resample(lead: Array, taps: Array, up: int, down: int, reach: int, offset: float, step: float, out: Array) -> None:
    """Write a lead at ``RATE_HZ`` into ``out`` float32: (filtered - offset) x step, gain applied here and only here."""
    n, n_taps = lead.shape[0], taps.shape[1]
    whole, part = down // up, down % up
    scale, zero = np.float32(step / TAP_ONE), np.float32(offset * step)
    i, phase = 0, 0
    for j in range(out.shape[0]):
        first = i - reach
        total = np.int32(0)
        if first >= 0 and first + n_taps <= n:
            # int16 products in int32 are exact; unsigned indices because a sign test would keep this loop scalar.
            start, row = np.uint64(first), np.uint64(phase)
            for k in range(np.uint64(n_taps)):
                total = np.int32(total + np.int32(lead[start + k]) * np.int32(taps[row, k]))
        else:
            total = at_the_end(lead, taps, phase, reach, first)
        out[j] = np.float32(total) * scale - zero
        i += whole
        phase += part
        if phase >= up:
            phase -= up
            i += 1


@kernel
def resample_leads(
    signal: Array, n: int, use: Array, offset: Array, step: Array, taps: Array, up: int, down: int, reach: int, pad: int
) -> Array:
    """Return every used lead at ``RATE_HZ``, (lead, sample) float32, its first and last sample held ``pad`` samples beyond."""
    n_out, row = -(-n * up // down), 0
    padded = np.empty((np.sum(use), n_out + 2 * pad), np.float32)
    for lead in range(signal.shape[0]):
        if use[lead]:
            own = padded[row]
            resample(fill_gaps(signal[lead, :n]), taps, up, down, reach, offset[lead], step[lead], own[pad : pad + n_out])
            own[:pad] = own[pad]
            own[pad + n_out :] = own[pad + n_out - 1]
            row += 1
    return padded


BASELINE_RATE_HZ = 25.0
"""The baseline is followed on means of blocks of about 1/25 s; what they alias below 0.5 Hz lies 34 dB down."""


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
    n = max(1, lead.shape[0] // design.block)
    size = min(design.block, lead.shape[0])
    pad = min(design.pad, n - 1)
    curve = np.empty(n + 2 * pad)
    for i in range(n):
        total = np.int32(0)
        part = lead[i * size : (i + 1) * size]
        for j in range(part.shape[0]):
            total = np.int32(total + np.int32(part[j]))
        curve[pad + i] = total / size
    for i in range(pad):
        curve[pad - 1 - i] = 2 * curve[pad] - curve[pad + 1 + i]
        curve[pad + n + i] = 2 * curve[pad + n - 1] - curve[pad + n - 2 - i]
    one_way(curve, design)
    one_way(curve[::-1], design)
    return curve[pad : pad + n].copy()


@kernel
def one_way(values: Array, design: HighPass) -> None:
    """Run the low-pass once over ``values``, in place, from the steady state of the first."""
    x1 = x2 = y1 = y2 = values[0]
    for i in range(values.shape[0]):
        x = values[i]
        y = design.b0 * x + design.b1 * x1 + design.b2 * x2 - design.a1 * y1 - design.a2 * y2
        x2, x1, y2, y1 = x1, x, y1, y
        values[i] = y


@kernel
def cut_windows(
    signal: Array, n: int, use: Array, step_uv: Array, r_sample: Array, before: int,
    taps: Array, up: int, down: int, reach: int, design: HighPass, out: Array, fill: int,
) -> Array:  # fmt: skip
    """Write one window around each R peak into ``out`` (beat, lead, sample) int16, in microvolts.

    Window sample ``k`` is the filtered signal at exactly ``r_sample + (k - before) / 125 s``, less the baseline there.

    Returns
    -------
    leaves : (beat,) bool
        Whether a part of the window lies outside the record or in a gap, on any used lead: filled there.

    """
    leaves = np.zeros(r_sample.shape[0], np.bool_)
    total, at = np.empty(out.shape[2], np.int32), np.empty(out.shape[2])
    start, stop = -down * before, down * (out.shape[2] - 1 - before)
    for lead in range(signal.shape[0]):
        if not use[lead]:
            out[:, lead] = fill
            continue
        raw = signal[lead, :n]
        filled, is_broken = fill_gaps(raw), has_gaps(raw)
        curve = baseline(filled, design)
        for beat in range(r_sample.shape[0]):
            r = up * r_sample[beat]
            filter_window(filled, taps, up, down, reach, r + start, total, at)
            for k in range(at.shape[0]):
                at[k] = (at[k] - 0.5 * (design.block - 1)) / design.block
            write_window(total, at, curve, step_uv[lead], out[beat, lead])
            if is_broken or r + start < 0 or r + stop > up * (n - 1):
                leaves[beat] |= fill_outside(raw, up, down, r + start, out[beat, lead], fill)
    return leaves


@kernel
def filter_window(lead: Array, taps: Array, up: int, down: int, reach: int, position: int, total: Array, at: Array) -> None:
    """Write a window's filtered samples, in ``1 / TAP_ONE`` steps, and the times that they lie at, in samples.

    ``position`` is the first one's, in ``1 / up`` samples.
    """
    n, n_taps = lead.shape[0], taps.shape[1]
    whole, part = down // up, down % up
    i, phase = position // up, position % up
    for k in range(total.shape[0]):
        first = i - reach
        at[k] = i + phase / up
        if first >= 0 and first + n_taps <= n:
            # As in resample: exact, and unsigned so that the loop is not kept scalar.
            start, row = np.uint64(first), np.uint64(phase)
            value = np.int32(0)
            for tap in range(np.uint64(n_taps)):
                value = np.int32(value + np.int32(lead[start + tap]) * np.int32(taps[row, tap]))
            total[k] = value
        else:
            total[k] = at_the_end(lead, taps, phase, reach, first)
        i += whole
        phase += part
        if phase >= up:
            phase -= up
            i += 1


@kernel
def write_window(total: Array, at: Array, curve: Array, step_uv: float, out: Array) -> None:
    """Write a window in microvolts, less the baseline at ``at`` (in points of its curve; then the baseline itself)."""
    for k in range(total.shape[0]):
        at[k] = between(curve, at[k])
    for k in range(total.shape[0]):
        value = (total[k] / TAP_ONE - at[k]) * step_uv
        out[k] = np.int16(min(32767.0, max(-32767.0, np.rint(value))))


@kernel
def fill_outside(raw: Array, up: int, down: int, position: int, out: Array, fill: int) -> bool:
    """Fill a window where it lies outside the record or in a gap; return whether it does."""
    last, leaves = up * (raw.shape[0] - 1), False
    for k in range(out.shape[0]):
        if position < 0 or position > last or raw[position // up] == MISSING:
            out[k] = fill
            leaves = True
        position += down
    return leaves


@kernel
def between(curve: Array, at: float) -> Any:
    """Return a curve's value between two of its points; its end points beyond them."""
    left = min(max(int(np.floor(at)), 0), max(0, curve.shape[0] - 2))
    share = min(1.0, max(0.0, at - left))
    return curve[left] + share * (curve[min(left + 1, curve.shape[0] - 1)] - curve[left])


@kernel
def flat_tops(signal: Array, n: int, use: Array, step_mv: Array, r_sample: Array, before: int, after: int, run: int) -> Array:
    """Return (beat,) bool: in its window, ``run`` samples lie at a lead's highest or lowest value, 1 mV off its middle."""
    clipped = np.zeros(r_sample.shape[0], np.bool_)
    for lead in range(signal.shape[0]):
        if not use[lead]:
            continue
        raw = signal[lead, :n]
        total: Any = 0
        low, high = np.int16(32767), np.int16(-32767)
        for i in range(n):
            if raw[i] != MISSING:
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
    n = waveform.shape[0]
    correlation, size = np.zeros(n), np.zeros(n)
    for beat in range(n):
        cross = own = other = 0.0
        for lead in range(waveform.shape[1]):
            total, count = 0.0, 0
            for k in range(waveform.shape[2]):
                if waveform[beat, lead, k] != fill:
                    total += waveform[beat, lead, k]
                    count += 1
            mean = total / max(1, count)
            for k in range(waveform.shape[2]):
                if waveform[beat, lead, k] != fill:
                    value = waveform[beat, lead, k] - mean
                    cross += value * usual[lead, k]
                    own += value * value
                    other += usual[lead, k] * usual[lead, k]
        correlation[beat] = cross / max(1e-9, np.sqrt(own * other))
        size[beat] = np.sqrt(own / max(1e-9, other))
    return correlation, size
