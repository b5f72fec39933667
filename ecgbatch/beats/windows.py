"""Windows around R peaks: low-pass, resampling, baseline and cutting in one pass over int16 samples (numba kernels).

Nothing of a record is copied but one lead's baseline curve. As in ``detection``: integer sums, one order, the same bytes
everywhere. Importing this module imports numba; ``record`` does it only when it is about to compute.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgbatch.beats.blocks import Peaks, Records
from ecgbatch.beats.filtering import AT_ONCE, bridged, settings_of, windows_sums
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


@dataclass(frozen=True)
class Groups:
    """Leads of some records whose windows are cut together, at most ``TOGETHER`` a group.

    ``record`` (group,): whose leads they are; ``begin`` (group + 1,): where they begin in ``leads``, (used lead,); all int64.
    """

    record: Array
    begin: Array
    leads: Array

    @property
    def width(self) -> int:
        """Columns that hold any group's leads: a multiple of ``SIDE_BY_SIDE``."""
        return int(-(-np.diff(self.begin).max(initial=1) // SIDE_BY_SIDE) * SIDE_BY_SIDE)


def groups_of(use: Array) -> Groups:
    """Return the groups of the leads that are used, (record, lead) bool."""
    record, leads = np.nonzero(use)
    size = np.count_nonzero(use, axis=1)
    place = np.arange(len(record)) - np.repeat(size.cumsum() - size, size)
    begin = np.flatnonzero(place % TOGETHER == 0)
    # A view of every second number, but of one lead as much as a whole array: other machine code, which ``warm`` had not made.
    return Groups(record[begin], np.append(begin, len(record)), np.ascontiguousarray(leads))


def baselines(signal: Array, n: int, groups: Groups, design: HighPass) -> tuple[Array, int]:
    """Return the baselines of leads in ADC units at the centres of their blocks, (group, block, lead) float64, ``scratch``.

    Of the first ``n`` samples of ``signal`` (record, lead, sample); and how many blocks lie before the first and behind the last:
    what the filter saw there. The record's ends are mirrored about their end points. There are columns of 0 up to
    ``groups.width``.
    """
    n_blocks = max(1, n // design.block)
    pad = min(design.pad, n_blocks - 1)
    curve = scratch("baselines", (len(groups.record), n_blocks + 2 * pad, groups.width), np.float64)
    follow_each(signal, n, groups.record, groups.leads, groups.begin, design, pad, curve)
    return curve, pad


@kernel
def follow_each(
    signal: Array, n: int, record: Array, leads: Array, begin: Array, design: HighPass, pad: int, curve: Array
) -> None:
    """Do ``follow`` for each group of leads, into ``curve`` (group, block, column)."""
    for i in range(record.shape[0]):
        follow(signal[record[i]], n, leads[begin[i] : begin[i + 1]], design, pad, curve[i])


@kernel
def follow(signal: Array, n_samples: int, leads: Array, design: HighPass, pad: int, curve: Array) -> None:
    """Write the baselines of some leads' first ``n_samples`` into ``curve`` (``pad`` + block + ``pad``, column).

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


@dataclass(frozen=True)
class Window:
    """How windows are cut: samples before R and in all, low-pass and resampling, baseline."""

    before: int
    n_samples: int
    design: Resampler
    base: HighPass


def cut_windows(records: Records, n: int, peaks: Peaks, window: Window, has_gaps: Array) -> tuple[Array, Array]:
    """Cut one window around each R peak, (beat, lead, sample) int16, in microvolts; unused leads are missing.

    Window sample ``k`` is the filtered signal at exactly ``r_sample + (k - before) / 125 s``, less the baseline there. Gaps are
    bridged for the filters and missing in the window.

    Parameters
    ----------
    records, n
        Signals, and how many of their samples are the records'.
    peaks
        R peaks of each record.
    has_gaps : (record,) bool
        Whether a sample of a used lead is missing.

    Returns
    -------
    waveform : (beat, lead, sample) int16
    leaves : (beat,) bool
        Whether a part of the window lies outside the record or in a gap, on any used lead: missing there.

    """
    out = np.empty((len(peaks.r_sample), records.use.shape[1], window.n_samples), np.int16)
    out[~np.repeat(records.use, np.diff(peaks.first_beat), axis=0)] = MISSING
    leaves, width = np.zeros(len(out), bool), -(-window.n_samples // AT_ONCE) * AT_ONCE
    filled = bridged(records.signal, n, records.use) if has_gaps.any() else records.signal
    groups, base, design = groups_of(records.use), window.base, window.design
    curve, pad = baselines(filled, n, groups, base)
    for part in _at_once(peaks.first_beat):
        n_rows = int((np.diff(part)[groups.record] * np.diff(groups.begin)).sum())
        total = scratch("sums", (n_rows, width), np.int32)
        of_groups = (groups.record, groups.leads, groups.begin, peaks.r_sample, part)
        windows_sums(filled, n, *of_groups, window.before, *settings_of(design), total)
        write_each(
            total, records.signal, n, *of_groups, records.step_uv, window.before, has_gaps,
            design.up, design.down, base.block, curve, pad, out, leaves,
        )  # fmt: skip
    return out, leaves


def _at_once(first_beat: Array) -> Iterator[Array]:
    """Yield ``first_beat`` whole, or of one record with many beats ``BEATS_AT_ONCE`` at a time."""
    if len(first_beat) != 2:
        yield first_beat
        return
    for first in range(0, int(first_beat[1]), BEATS_AT_ONCE):
        yield np.array([first, min(first + BEATS_AT_ONCE, int(first_beat[1]))])


@kernel
def write_each(
    total: Array, signal: Array, n: int, record: Array, leads: Array, begin: Array, r_sample: Array, first_beat: Array,
    step_uv: Array, before: int, has_gaps: Array, up: int, down: int, block: int, curve: Array, pad: int, out: Array,
    leaves: Array,
) -> None:  # fmt: skip
    """Do ``write_windows`` for each group of leads: see ``filtering.windows_sums``."""
    at = 0
    for i in range(record.shape[0]):
        low, high, own = first_beat[record[i]], first_beat[record[i] + 1], leads[begin[i] : begin[i + 1]]
        size = (high - low) * own.shape[0]
        if size:
            sums = total[at : at + size].reshape(high - low, own.shape[0], total.shape[1])
            write_windows(
                sums, signal[record[i]], n, own, step_uv[record[i]], r_sample[low:high], before, has_gaps[record[i]],
                up, down, block, curve[i, pad : curve.shape[1] - pad], out[low:high], leaves[low:high],
            )  # fmt: skip
        at += size


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
def flat_tops_each(
    signal: Array, n: int, use: Array, step_mv: Array, r_sample: Array, first_beat: Array, before: int, after: int, run: int
) -> tuple[Array, Array]:
    """Do ``flat_tops`` for each record: (beat,) bool, and (record,) bool."""
    clipped, has_gaps = np.empty(r_sample.shape[0], np.bool_), np.empty(signal.shape[0], np.bool_)
    for i in range(signal.shape[0]):
        low, high = first_beat[i], first_beat[i + 1]
        clipped[low:high], has_gaps[i] = flat_tops(signal[i], n, use[i], step_mv[i], r_sample[low:high], before, after, run)
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
