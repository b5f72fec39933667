"""The beat extraction of Kachuee, Fazeli and Sarrafzadeh 2018 (arXiv:1805.00794), seven steps, as published.

What the paper leaves open is decided in docs/beat-detection.md.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from ecgbatch.beats.record import KACHUEE_LENGTH, KACHUEE_STEP, WORKING_RATE_HZ, Beats, RPeaks, check_signal, is_calibrated
from ecgbatch.kernels import kernel
from ecgbatch.terms import BEAT_FLAGS, MISSING_SAMPLE

Array = NDArray[Any]

VECTOR, AT_ONCE = 8, 48
"""Double precision numbers in a vector; sums that grow together in registers."""

COLUMNS = 16
"""Values that are compared side by side."""

BLOCK = 6 * AT_ONCE
"""Sums whose samples are laid out together: what they read stays in a core's nearest cache."""

KACHUEE_WINDOW_S = 10.0
KACHUEE_THRESHOLD = 0.9
"""Kachuee et al. 2018: window and threshold."""


def kachuee_beats(
    signal: Array, *, adc_gain: Array, baseline: Array, sampling_frequency_hz: float, leads: list[str],
    present: Array | None = None, n_samples: int | None = None,
) -> Beats:  # fmt: skip
    """Extract beats by the seven steps of Kachuee et al. 2018, at 125 Hz, R peaks of lead II, all leads cut there.

    1 windows of 10 s; what is left at the end, and a record shorter than 10 s, gives no beats. 2 each lead scaled to [0, 1]
    in its window. 3 local maxima where the first derivative crosses zero (the first sample of a flat top). 4 those above
    0.9 on lead II. 5 T = median interval between them; a window with fewer than two has no T and gives no beats.
    6 a part of floor(1.2 T) samples from each, cut and flagged ``cut`` at 187, flagged ``edge`` where it leaves the window.
    7 zeros up to 187.

    Parameters
    ----------
    leads
        Names of the leads, canonical order; without II the first present lead takes its place.

    Returns
    -------
    Beats
        ``waveform`` (beat, lead, 187) in steps of 1/16384; a lead without samples is -32768, one that is constant is 0.
        ``r_sample`` is the 125 Hz sample's place at the record's own rate, rounded.

    """
    n = check_signal(signal, adc_gain, baseline, sampling_frequency_hz, n_samples)
    gain = np.asarray(adc_gain, dtype=np.float64)
    use = is_calibrated(gain, present)
    if not use.any() or n == 0:
        return Beats(np.zeros(0, np.int32), np.zeros((0, len(gain), KACHUEE_LENGTH), np.int16), np.zeros(0, np.uint16))
    used = np.flatnonzero(use)
    at_125 = resample_leads(signal, n, use, gain, np.asarray(baseline, dtype=np.float64), sampling_frequency_hz)
    width = int(KACHUEE_WINDOW_S * WORKING_RATE_HZ)
    place = np.empty(at_125.shape[1] // 2 + 1, np.int64)
    n_beats = find_peaks(at_125[np.searchsorted(used, _reference_lead(leads, use))], width, KACHUEE_THRESHOLD, place)
    waveform = np.full((n_beats, len(gain), KACHUEE_LENGTH), MISSING_SAMPLE, np.int16)
    wanted = np.empty(n_beats, np.int64)
    cut_beats(at_125, used, place[:n_beats], width, KACHUEE_STEP, waveform, wanted)
    flags = np.where(wanted > KACHUEE_LENGTH, BEAT_FLAGS["cut"], 0).astype(np.uint16)
    flags[place[:n_beats] % width + np.minimum(wanted, KACHUEE_LENGTH) > width] |= BEAT_FLAGS["edge"]
    r_sample = np.rint(place[:n_beats] * (sampling_frequency_hz / WORKING_RATE_HZ)).astype(np.int32)
    return Beats(np.minimum(r_sample, n - 1), waveform, flags)


def kachuee_r_peaks(
    signal: Array, *, adc_gain: Array, baseline: Array, sampling_frequency_hz: float, leads: list[str],
    present: Array | None = None, n_samples: int | None = None,
) -> RPeaks:  # fmt: skip
    """Return R peaks and flags of ``kachuee_beats``, which depend on one lead: of 15 leads the others are 93 % of its work.

    Parameters are those of ``kachuee_beats``.
    """
    use = is_calibrated(np.asarray(adc_gain, dtype=np.float64), present)
    if not use.any():
        return RPeaks(np.zeros(0, np.int32), np.zeros(0, np.uint16), 0)
    only = np.arange(len(use)) == _reference_lead(leads, use)
    facts: dict[str, Any] = {"baseline": baseline, "sampling_frequency_hz": sampling_frequency_hz, "n_samples": n_samples}
    found = kachuee_beats(signal, adc_gain=adc_gain, leads=leads, present=only, **facts)
    return RPeaks(found.r_sample, found.beat_flags, int(len(found.r_sample) > 0))


def _reference_lead(leads: list[str], use: Array) -> int:
    """Return the row of lead II, or of the first lead that can be used where that cannot."""
    return leads.index("II") if "II" in leads and use[leads.index("II")] else int(np.flatnonzero(use)[0])


@kernel
def find_peaks(lead: Array, width: int, threshold: float, place: Array) -> int:
    """Write the samples of steps 3 and 4, window by window; none of one that has fewer than two. Return how many."""
    n, scaled = 0, np.empty(width)
    for start in range(0, lead.shape[0] - width + 1, width):
        window = lead[start : start + width]
        low, high = window.min(), window.max()
        if not high > low:
            continue
        for i in range(width):
            scaled[i] = (window[i] - low) / (high - low)
        first, turn, is_rising = n, 0, False
        for i in range(width - 1):
            slope = scaled[i + 1] - scaled[i]
            if slope < 0 and is_rising and scaled[turn] > threshold:
                place[n] = start + turn
                n += 1
            if slope != 0:
                turn, is_rising = i + 1, slope > 0  # of a flat top the first sample
        if n - first < 2:
            n = first
    return n


@kernel
def cut_beats(at_125: Array, used: Array, place: Array, width: int, step: float, waveform: Array, wanted: Array) -> None:
    """Do steps 5 to 7: write ``waveform`` (beat, lead, 187) and ``wanted`` (beat) int64, the samples that 1.2 T asks for."""
    first = 0
    while first < place.shape[0]:
        start = place[first] // width * width
        stop = first
        while stop < place.shape[0] and place[stop] < start + width:
            stop += 1
        between = np.sort(np.diff(place[first:stop]))
        twice = between[(between.shape[0] - 1) // 2] + between[between.shape[0] // 2]
        wanted[first:stop] = 12 * twice // 20  # floor(1.2 T) in whole numbers: 2 T is one
        length = min(wanted[first], waveform.shape[2])
        window = at_125[:, start : start + width]
        cut_parts(window, used, place[first:stop] - start, length, step, waveform[first:stop])
        first = stop


@kernel
def extremes(values: Array) -> tuple[float, float]:
    """Return the lowest and the highest of some values, many columns side by side: one by one, each waits for the last."""
    low, high = np.full(COLUMNS, values[0]), np.full(COLUMNS, values[0])
    rest = values.shape[0] % COLUMNS
    for first in range(0, values.shape[0] - rest, COLUMNS):
        own = values[first : first + COLUMNS]
        for j in range(COLUMNS):
            low[j] = own[j] if own[j] < low[j] else low[j]
            high[j] = own[j] if own[j] > high[j] else high[j]
    lowest, highest = low[0], high[0]
    for j in range(COLUMNS):
        lowest, highest = min(lowest, low[j]), max(highest, high[j])
    for j in range(values.shape[0] - rest, values.shape[0]):
        lowest, highest = min(lowest, values[j]), max(highest, values[j])
    return lowest, highest


@kernel
def cut_parts(window: Array, used: Array, peaks: Array, length: int, step: float, waveform: Array) -> None:
    """Scale each lead of a window to [0, 1] and write, in steps, ``length`` samples from each peak; zeros behind them."""
    n = window.shape[1]
    stored = np.empty(n, np.int16)
    for row in range(window.shape[0]):
        low, high = extremes(window[row])
        span = high - low if high > low else np.inf  # of a lead that is constant every sample becomes 0
        own = window[row]
        for i in range(n):
            stored[i] = np.int16(np.rint((own[i] - low) / span / step))
        for beat in range(peaks.shape[0]):
            part = waveform[beat, used[row]]
            here = stored[peaks[beat] : peaks[beat] + length]
            for i in range(here.shape[0]):
                part[i] = here[i]
            for i in range(here.shape[0], part.shape[0]):
                part[i] = 0


def resample_leads(signal: Array, n: int, use: Array, gain: Array, baseline: Array, sampling_frequency_hz: float) -> Array:
    """Return the used leads at 125 Hz, (used lead, sample) float64, mV; each as ``resample_lead`` does."""
    used, factor = np.flatnonzero(use), sampling_frequency_hz / WORKING_RATE_HZ
    if not (factor.is_integer() and factor > 1):
        return np.stack([resample_lead(signal[lead, :n], gain[lead], baseline[lead], sampling_frequency_hz) for lead in used])
    from ecgbatch.beats.filtering import fill_gaps

    whole = np.ascontiguousarray(signal)
    at_125 = np.empty((len(used), -(-n // int(factor))))
    for lead, own in zip(used.tolist(), at_125, strict=True):
        decimate(fill_gaps(whole[lead, :n]), gain[lead], baseline[lead], low_pass(int(factor)), int(factor), own)
    return at_125


def resample_lead(lead: Array, adc_gain: float, baseline: float, sampling_frequency_hz: float) -> Array:
    """Return one lead at 125 Hz, (sample) float64, mV: ``scipy.signal.resample_poly`` as it comes, the ends held."""
    from fractions import Fraction

    from ecgbatch.beats.filtering import fill_gaps

    ratio = Fraction(125) / Fraction(sampling_frequency_hz).limit_denominator(1000)
    filled = fill_gaps(np.ascontiguousarray(lead))
    if ratio.numerator == 1 and ratio.denominator > 1 and filled.dtype == np.int16 and filled.size:
        resampled = np.empty(-(-filled.size // ratio.denominator))
        decimate(filled, float(adc_gain), float(baseline), low_pass(ratio.denominator), ratio.denominator, resampled)
        return resampled
    from scipy.signal import resample_poly

    millivolts = (filled.astype(np.float64) - float(baseline)) / float(adc_gain)
    made: Array = resample_poly(millivolts, ratio.numerator, ratio.denominator, padtype="edge")
    return made


@lru_cache(maxsize=8)
def low_pass(factor: int) -> Array:
    """Return the taps of ``scipy.signal.resample_poly`` for every ``factor``-th sample, the last one first."""
    from scipy.signal import firwin

    return np.ascontiguousarray(firwin(20 * factor + 1, 1 / factor, window=("kaiser", 5.0))[::-1])


@intrinsic  # type: ignore[untyped-decorator]
def add_up(_typing: Any, samples: Any, _start: Any, offset: Any, taps: Any, total: Any) -> Any:
    """Write ``AT_ONCE`` sums: of samples ``_start + offset[j] + i`` times tap ``j``, over j in order, no step fused.

    LLVM would load and store each sum for every few taps; here they stay in registers.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def array(i: int) -> Any:
            return context.make_array(signature.args[i])(context, builder, arguments[i])

        doubles = ir.VectorType(ir.DoubleType(), VECTOR)
        zero = ir.Constant(doubles, None)
        sums = [cgutils.alloca_once_value(builder, zero, zfill=True) for _ in range(AT_ONCE // VECTOR)]
        for one in sums:
            builder.store(zero, one)
        first = builder.gep(array(0).data, [arguments[1]])
        with cgutils.for_range(builder, builder.extract_value(array(2).shape, 0)) as loop:
            tap = builder.load(builder.gep(array(3).data, [loop.index]))
            unknown = ir.Constant(doubles, ir.Undefined)
            tap = builder.insert_element(unknown, tap, ir.Constant(ir.IntType(32), 0))
            tap = builder.shuffle_vector(tap, unknown, ir.Constant(ir.VectorType(ir.IntType(32), VECTOR), [0] * VECTOR))
            at = builder.gep(first, [builder.load(builder.gep(array(2).data, [loop.index]))])
            for i, one in enumerate(sums):
                place = builder.gep(at, [ir.Constant(ir.IntType(64), i * VECTOR)])
                sample = builder.load(builder.bitcast(place, doubles.as_pointer()), align=8)
                builder.store(builder.fadd(builder.load(one), builder.fmul(sample, tap)), one)
        for i, one in enumerate(sums):
            place = builder.gep(array(4).data, [ir.Constant(ir.IntType(64), i * VECTOR)])
            builder.store(builder.load(one), builder.bitcast(place, doubles.as_pointer()), align=8)
        return context.get_dummy_value()

    return types.void(samples, types.int64, offset, taps, total), generate


@kernel
def decimate(lead: Array, adc_gain: float, baseline: float, taps: Array, factor: int, resampled: Array) -> None:
    """Write every ``factor``-th sample of a filtered lead, mV: ``resample_poly``'s sums in its own order, to the last bit.

    All sums of a block grow together, tap by tap, so that they are made in vectors: each adds its products in the order in
    which SciPy does, without fusing, and samples lie by their place within ``factor`` so that neighbouring sums read neighbours.
    """
    reach = taps.shape[0] // 2
    width = BLOCK + taps.shape[0] // factor + 1
    some, by_place, total = np.empty(width * factor, np.int16), np.empty((factor, width)), np.empty(BLOCK)
    offset, flat = np.empty(taps.shape[0], np.int64), by_place.reshape(-1)
    for tap in range(taps.shape[0]):
        offset[tap] = tap % factor * width + tap // factor
    for start in range(0, resampled.shape[0], BLOCK):
        held(lead, start * factor - reach, some)
        millivolts(some, adc_gain, baseline, by_place)
        own = resampled[start : start + BLOCK]
        for first in range(0, own.shape[0], AT_ONCE):
            add_up(flat, first, offset, taps, total[first : first + AT_ONCE])
        for i in range(own.shape[0]):
            own[i] = total[i]


@kernel
def held(lead: Array, first: int, out: Array) -> None:
    """Write a lead's samples from ``first`` on, its ends held."""
    begin = min(max(0, -first), out.shape[0])
    end = max(begin, min(out.shape[0], lead.shape[0] - first))
    out[:begin], out[end:] = lead[0], lead[-1]
    inside, own = out[begin:end], lead[first + begin : first + end]
    for i in range(inside.shape[0]):
        inside[i] = own[i]


@kernel
def millivolts(samples: Array, adc_gain: float, baseline: float, by_place: Array) -> None:
    """Write samples in mV by their place within ``factor``, (factor, n)."""
    factor, n = by_place.shape
    if factor == 8:  # 1000 Hz: a constant step lets many be read at once
        for half in range(0, 8, 4):
            a, b, c, d = by_place[half], by_place[half + 1], by_place[half + 2], by_place[half + 3]
            own = samples[half:]
            for i in range(n):
                a[i], b[i] = (own[8 * i] - baseline) / adc_gain, (own[8 * i + 1] - baseline) / adc_gain
                c[i], d[i] = (own[8 * i + 2] - baseline) / adc_gain, (own[8 * i + 3] - baseline) / adc_gain
        return
    for place in range(factor):
        row = by_place[place]
        for i in range(n):
            row[i] = (samples[i * factor + place] - baseline) / adc_gain
