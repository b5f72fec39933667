"""The filters run: int16 samples at a record's rate in, low-pass and band at 125 Hz out (numba kernels).

Sums of integers are exact, so how they are grouped cannot matter: the same bytes on every processor. Where a rate is an even
multiple of 125 Hz, samples are laid out by pairs and eight neighbouring sums grow side by side; else each sum is made alone.
Importing this module imports numba.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from ecgbatch.beats.resampling import RATE_HZ, Resampler
from ecgbatch.kernels import kernel, processor_features

Array = NDArray[Any]

TAP_ONE = 32768
"""``resampling.TAP_ONE``, as a literal that kernels can freeze."""

MISSING = -32768
"""``terms.MISSING_SAMPLE``, likewise."""

SIDE_BY_SIDE, WIDEST = 8, 16
"""Sums in one vector: of 256 bits, and of 512."""

AT_ONCE = 88
"""Sums that grow together in registers: eleven vectors, a window's 88 samples."""

SPAN = 32768
"""Samples that windows may lie apart to share one layout: 64 kB, so that samples and pairs stay in a core's own cache."""


BAND_HZ = 15.0
"""Centre of the band: most of a QRS lies in 5-22 Hz, most of P, T and wander below, most of muscle above."""
BAND_SD_HZ = 5.5
"""Width of the band, the standard deviation of its Gaussian: -4 dB at 10 and 20 Hz, -7 at 8 and 22, -16 at 5, -45 at 1."""
BAND_REACH = 12
"""Samples at ``RATE_HZ`` that the band's taps reach to either side (3.3 standard deviations of its envelope in time)."""

PAD = 16
"""Samples before and after a lead at the working rate; at least ``BAND_REACH``."""


@lru_cache(maxsize=1)
def band_taps() -> tuple[Array, Array]:
    """Return the band's even and odd taps, centre first: a Gaussian times cosine and sine (a Gabor pair), float32."""
    time_s = np.arange(-BAND_REACH, BAND_REACH + 1) / RATE_HZ
    bell = np.exp(-0.5 * (2 * np.pi * BAND_SD_HZ * time_s) ** 2)
    even = bell * np.cos(2 * np.pi * BAND_HZ * time_s)
    even -= bell * even.sum() / bell.sum()
    odd = bell * np.sin(2 * np.pi * BAND_HZ * time_s)
    gain = np.abs(np.sum(even * np.exp(-2j * np.pi * BAND_HZ * time_s)))
    return (even / gain)[BAND_REACH:].astype(np.float32), (odd / gain)[BAND_REACH:].astype(np.float32)


@intrinsic  # type: ignore[untyped-decorator]
def add_up(_typing: Any, pairs: Any, _start: Any, offset: Any, taps: Any, total: Any) -> Any:
    """Write ``AT_ONCE`` sums: of products of the pair of samples ``_start + offset[j] + i`` with the pair of taps ``j``, over j.

    LLVM would make each sum alone and add up a vector at its end; side by side there is nothing to add up. Processors with AVX2
    have one instruction for the products of a vector of pairs; others are given the same sums in plain steps.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def array(i: int) -> Any:
            return context.make_array(signature.args[i])(context, builder, arguments[i])

        # Vectors as wide as the processor has them; what is left of the sums in narrower ones.
        wide = WIDEST if "+avx512vnni" in processor_features() else SIDE_BY_SIDE
        widths = [wide] * (AT_ONCE // wide) + [SIDE_BY_SIDE] * (AT_ONCE % wide // SIDE_BY_SIDE)
        starts = [sum(widths[:i]) for i in range(len(widths))]
        sums = [cgutils.alloca_once_value(builder, ir.Constant(_int32s(width), None), zfill=True) for width in widths]
        for width, one in zip(widths, sums, strict=True):
            builder.store(ir.Constant(_int32s(width), None), one)
        first = builder.gep(array(0).data, [arguments[1]])
        with cgutils.for_range(builder, builder.extract_value(array(2).shape, 0)) as loop:
            tap = builder.load(builder.gep(array(3).data, [loop.index]))
            taps = {width: repeated(builder, tap, width) for width in set(widths)}
            at = builder.gep(first, [builder.load(builder.gep(array(2).data, [loop.index]))])
            for start, width, one in zip(starts, widths, sums, strict=True):
                place = builder.gep(at, [ir.Constant(ir.IntType(64), start)])
                sample = builder.load(builder.bitcast(place, _int32s(width).as_pointer()), align=4)
                builder.store(with_products(builder, builder.load(one), sample, taps[width]), one)
        for start, width, one in zip(starts, widths, sums, strict=True):
            place = builder.gep(array(4).data, [ir.Constant(ir.IntType(64), start)])
            builder.store(builder.load(one), builder.bitcast(place, _int32s(width).as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(pairs, types.int64, offset, taps, total), generate


def _int32s(width: int) -> Any:
    return ir.VectorType(ir.IntType(32), width)


def repeated(builder: Any, value: Any, width: int) -> Any:
    """Build a vector (width) int32 of one value."""
    unknown = ir.Constant(_int32s(width), ir.Undefined)
    return builder.shuffle_vector(
        builder.insert_element(unknown, value, ir.Constant(ir.IntType(32), 0)), unknown, ir.Constant(_int32s(width), [0] * width)
    )


def with_products(builder: Any, total: Any, first: Any, second: Any) -> Any:
    """Build ``total`` and the sums of products of neighbouring pairs: (n) int32; ``first``, ``second`` hold a pair in each."""
    width = total.type.count
    if "+avx512vnni" in processor_features():
        kind = ir.FunctionType(total.type, [total.type] * 3)
        name = f"llvm.x86.avx512.vpdpwssd.{32 * width}"
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [total, first, second])
    int16s = ir.VectorType(ir.IntType(16), 2 * width)
    first, second = builder.bitcast(first, int16s), builder.bitcast(second, int16s)
    if "+avx2" in processor_features():
        kind = ir.FunctionType(total.type, [int16s] * 2)
        own = builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx2.pmadd.wd"), [first, second])
        return builder.add(total, own)
    halves = []
    for side in (0, 1):
        every_second = ir.Constant(total.type, [2 * i + side for i in range(width)])
        of_both = (builder.shuffle_vector(one, ir.Constant(int16s, ir.Undefined), every_second) for one in (first, second))
        halves.append(builder.mul(*(builder.sext(half, total.type) for half in of_both)))
    return builder.add(total, builder.add(*halves))


@kernel
def lowest(lead: Array) -> Any:
    """Return a lead's lowest sample, or 0 if that is lower."""
    low = np.int16(0)
    for i in range(lead.shape[0]):
        low = min(low, lead[i])
    return low


@kernel
def fill_gaps(lead: Array) -> Array:
    """Return the lead with missing samples held at the last known one; the lead itself if none is missing."""
    if lowest(lead) != MISSING:
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


def bridged(signal: Array, n: int, use: Array) -> Array:
    """Return a copy of some signals (record, lead, sample) with the gaps of every used (record, lead) bridged."""
    filled = signal.copy()
    for record, lead in zip(*np.nonzero(use), strict=True):
        filled[record, lead, :n] = fill_gaps(signal[record, lead, :n])
    return filled


@kernel
def lay_out(lead: Array, first: int, n_columns: int, samples: Array, pairs: Array) -> None:
    """Write a lead's pairs of samples from ``first`` on into ``pairs`` (row, column) int32, one to each row in turn.

    The record's ends are held. Of ``pairs`` the first ``n_columns`` are written; ``samples`` int16 is room to work in.
    """
    n, n_rows = lead.shape[0], pairs.shape[0]
    size = 2 * n_rows * n_columns
    begin = min(max(0, -first), size)
    end = max(begin, min(size, n - first))
    for i in range(begin):
        samples[i] = lead[0]
    inside, own = samples[begin:end], lead[first + begin : first + end]
    for i in range(inside.shape[0]):  # numba copies slices six times slower
        inside[i] = own[i]
    for i in range(end, size):
        samples[i] = lead[n - 1]
    both = samples.view(np.int32)
    if n_rows == 4:  # 1000 Hz, 500 Hz: a constant step lets many be written at once
        a, b, c, d = pairs[0], pairs[1], pairs[2], pairs[3]
        for i in range(n_columns):
            a[i], b[i], c[i], d[i] = both[4 * i], both[4 * i + 1], both[4 * i + 2], both[4 * i + 3]
    elif n_rows == 2:
        a, b = pairs[0], pairs[1]
        for i in range(n_columns):
            a[i], b[i] = both[2 * i], both[2 * i + 1]
    else:
        for row in range(n_rows):
            for i in range(n_columns):
                pairs[row, i] = both[n_rows * i + row]


@kernel
def offsets(n_rows: int, n_columns: int, n_pairs: int) -> Array:
    """Return where the pairs after a pair lie, by its row: (row, pair) int64, in pairs from its column's place in row 0."""
    offset = np.empty((n_rows, n_pairs), np.int64)
    for row in range(n_rows):
        for j in range(n_pairs):
            offset[row, j] = (row + j) % n_rows * n_columns + (row + j) // n_rows
    return offset


@kernel
def sums_alone(lead: Array, taps: Array, up: int, down: int, reach: int, position: int, total: Array) -> None:
    """Write sums from ``position`` (in ``1 / up`` samples) on, ``down`` apart, each made alone."""
    n, n_taps = lead.shape[0], taps.shape[1]
    whole, part = down // up, down % up
    i, phase = position // up, position % up
    for k in range(total.shape[0]):
        first = i - reach
        value = np.int32(0)
        if first >= 0 and first + n_taps <= n:
            # int16 products in int32 are exact; unsigned indices because a sign test would keep this loop scalar.
            start, row = np.uint64(first), np.uint64(phase)
            for tap in range(np.uint64(n_taps)):
                value = np.int32(value + np.int32(lead[start + tap]) * np.int32(taps[row, tap]))
        else:
            for tap in range(2 * reach + 1):  # the record's ends are held
                value = np.int32(value + np.int32(lead[min(max(first + tap, 0), n - 1)]) * np.int32(taps[phase, tap]))
        total[k] = value
        i += whole
        phase += part
        if phase >= up:
            phase -= up
            i += 1


@kernel
def resampled_sums(lead: Array, taps: Array, pairs_of_taps: Array, up: int, down: int, reach: int, total: Array) -> None:
    """Write a lead's sums from its first sample on; ``total`` has room for a multiple of ``AT_ONCE``."""
    if pairs_of_taps.shape[1] == 0:
        sums_alone(lead, taps, up, down, reach, 0, total)
        return
    n_rows, n_pairs = down // 2, pairs_of_taps.shape[1]
    length = min(max(1, SPAN // (down * AT_ONCE)) * AT_ONCE, total.shape[0])
    n_columns = length + n_pairs // n_rows + 1
    samples, pairs = np.empty(2 * n_rows * n_columns, np.int16), np.empty((n_rows, n_columns), np.int32)
    offset, flat = offsets(n_rows, n_columns, n_pairs), pairs.reshape(-1)
    for first in range(0, total.shape[0], AT_ONCE):
        column = first % length
        if column == 0:
            lay_out(lead, down * first - reach, n_columns, samples, pairs)
        add_up(flat, column, offset[0], pairs_of_taps[0], total[first : first + AT_ONCE])


@kernel
def add_four(c: Array, d: Array, after: Array, before: Array, even: Array, odd: Array) -> None:
    """Add four taps' shares of both filters, in order; ``after`` and ``before`` begin one sample further for each tap."""
    n = even.shape[0]
    a0, a1, a2, a3 = after[:n], after[1 : n + 1], after[2 : n + 2], after[3 : n + 3]
    b0, b1, b2, b3 = before[3 : n + 3], before[2 : n + 2], before[1 : n + 1], before[:n]
    c0, c1, c2, c3, d0, d1, d2, d3 = c[0], c[1], c[2], c[3], d[0], d[1], d[2], d[3]
    for j in range(n):
        even[j] = even[j] + c0 * (a0[j] + b0[j]) + c1 * (a1[j] + b1[j]) + c2 * (a2[j] + b2[j]) + c3 * (a3[j] + b3[j])
        odd[j] = odd[j] + d0 * (a0[j] - b0[j]) + d1 * (a1[j] - b1[j]) + d2 * (a2[j] - b2[j]) + d3 * (a3[j] - b3[j])


@kernel
def band(padded: Array, even_taps: Array, odd_taps: Array, even: Array, envelope: Array) -> None:
    """Filter a lead (padded by ``PAD`` on both sides) to its band and that band's envelope, both zero phase."""
    for start in range(0, even.shape[0], 512):
        n = min(512, even.shape[0] - start)
        o = start + PAD
        e, q, x = even[start : start + n], envelope[start : start + n], padded[o : o + n]
        for j in range(n):
            e[j] = even_taps[0] * x[j]
            q[j] = np.float32(0)
        for k in range(1, even_taps.shape[0], 4):  # BAND_REACH is a multiple of 4
            after, before = padded[o + k : o + k + n + 3], padded[o - k - 3 : o - k + n]
            add_four(even_taps[k : k + 4], odd_taps[k : k + 4], after, before, e, q)
        for j in range(n):
            q[j] = np.sqrt(e[j] * e[j] + q[j] * q[j])


@kernel
def listen(
    signal: Array, first: int, n: int, use: Array, offset: Array, step: Array,
    taps: Array, pairs_of_taps: Array, up: int, down: int, reach: int, even_taps: Array, odd_taps: Array,
    total: Array, padded: Array, even: Array, envelope: Array,
) -> None:  # fmt: skip
    """Write band and envelope of the used leads of some records, (used lead, sample) float32, mV at 125 Hz, one after another.

    Of the samples from ``first`` to ``n`` of each (record, lead, sample): (sample - offset) x step, gain applied here and only
    here. ``total`` int32 (a multiple of ``AT_ONCE`` long) and ``padded`` float32 (``PAD`` on both sides) are room for one lead.
    """
    n_out, row = even.shape[1], 0
    for record in range(signal.shape[0]):
        for lead in range(signal.shape[1]):
            if use[record, lead]:
                resampled_sums(fill_gaps(signal[record, lead, first:n]), taps, pairs_of_taps, up, down, reach, total)
                scale = np.float32(step[record, lead] / TAP_ONE)
                zero = np.float32(offset[record, lead] * step[record, lead])
                for j in range(n_out):
                    padded[PAD + j] = np.float32(total[j]) * scale - zero
                padded[:PAD] = padded[PAD]
                padded[PAD + n_out :] = padded[PAD + n_out - 1]
                band(padded, even_taps, odd_taps, even[row], envelope[row])
                row += 1


@kernel
def window_sums(
    signal: Array, n: int, leads: Array, r_sample: Array, before: int,
    taps: Array, pairs_of_taps: Array, up: int, down: int, reach: int, total: Array,
) -> None:  # fmt: skip
    """Write the sums of a window around each R peak into ``total`` (beat, lead, sample) int32, a multiple of ``AT_ONCE`` wide.

    Sample ``k`` is the low-pass of the record at exactly ``r_sample + (k - before) / 125 s``.
    """
    if pairs_of_taps.shape[1] == 0:
        for beat in range(r_sample.shape[0]):
            for lead in range(leads.shape[0]):
                own = total[beat, lead]
                sums_alone(signal[leads[lead], :n], taps, up, down, reach, up * r_sample[beat] - down * before, own)
        return
    n_rows, n_pairs = down // 2, pairs_of_taps.shape[1]
    n_beats, beyond = r_sample.shape[0], total.shape[2] + n_pairs // n_rows + 3
    n_columns = min(SPAN, r_sample[-1] - r_sample[0]) // down + beyond
    samples, pairs = np.empty(2 * n_rows * n_columns, np.int16), np.empty((n_rows, n_columns), np.int32)
    offset, flat = offsets(n_rows, n_columns, n_pairs), pairs.reshape(-1)
    beat = 0
    while beat < n_beats:
        stop = beat + 1
        while stop < n_beats and r_sample[stop] - r_sample[beat] < SPAN:
            stop += 1
        n_columns = (r_sample[stop - 1] - r_sample[beat]) // down + beyond
        for lead in range(leads.shape[0]):
            lay_out(signal[leads[lead], :n], r_sample[beat] - down * before - reach, n_columns, samples, pairs)
            for one in range(beat, stop):
                since = r_sample[one] - r_sample[beat]
                column = since // down
                row, odd = (since - column * down) // 2, since % 2
                for k in range(0, total.shape[2], AT_ONCE):
                    add_up(flat, column + k, offset[row], pairs_of_taps[odd], total[one, lead, k : k + AT_ONCE])
        beat = stop


@kernel
def windows_sums(
    signal: Array, n: int, record: Array, leads: Array, begin: Array, r_sample: Array, first_beat: Array, before: int,
    taps: Array, pairs_of_taps: Array, up: int, down: int, reach: int, total: Array,
) -> None:  # fmt: skip
    """Do ``window_sums`` for groups of leads one after another, into ``total`` (group, beat and lead; sample).

    Group ``i`` is the leads ``begin[i]`` to ``begin[i + 1]`` of ``leads``, of ``record[i]``, whose R peaks are
    ``first_beat[record]`` to ``first_beat[record + 1]`` of ``r_sample``.
    """
    at = 0
    for i in range(record.shape[0]):
        own = r_sample[first_beat[record[i]] : first_beat[record[i] + 1]]
        of_group = leads[begin[i] : begin[i + 1]]
        size = own.shape[0] * of_group.shape[0]
        if size:
            part = total[at : at + size].reshape(own.shape[0], of_group.shape[0], total.shape[1])
            window_sums(signal[record[i]], n, of_group, own, before, taps, pairs_of_taps, up, down, reach, part)
        at += size


def settings_of(design: Resampler) -> tuple[Array, Array, int, int, int]:
    """Return a design as kernels take it."""
    return design.taps, design.pairs, design.up, design.down, design.reach
