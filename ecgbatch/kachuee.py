"""The beat extraction of Kachuee, Fazeli and Sarrafzadeh 2018 (arXiv:1805.00794), seven steps, as published.

What the paper leaves open is decided in docs/beat-detection.md.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgbatch.kernels import kernel
from ecgbatch.record_beats import KACHUEE_LENGTH, KACHUEE_STEP, WORKING_RATE_HZ, Beats, RPeaks, check_signal, is_calibrated
from ecgbatch.terms import BEAT_FLAGS, MISSING_SAMPLE

Array = NDArray[Any]

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
    at_125 = np.stack([resample_lead(signal[lead, :n], gain[lead], baseline[lead], sampling_frequency_hz) for lead in used])
    reference = int(np.flatnonzero(used == _reference_lead(leads, use))[0])
    width = int(KACHUEE_WINDOW_S * WORKING_RATE_HZ)
    parts = []
    for start in range(0, at_125.shape[1] - width + 1, width):
        window = np.ascontiguousarray(at_125[:, start : start + width])
        peaks = kachuee_peaks(_scaled(window[reference]))
        parts.append((start + peaks, *_kachuee_window(window, used, peaks, len(gain))))
    empty = (np.zeros(0, np.int64), np.zeros((0, len(gain), KACHUEE_LENGTH), np.int16), np.zeros(0, np.uint16))
    place, waveform, flags = (np.concatenate(column) for column in zip(empty, *parts, strict=True))
    r_sample = np.rint(place * (sampling_frequency_hz / WORKING_RATE_HZ)).astype(np.int32)
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


def kachuee_peaks(scaled: Array) -> Array:
    """Return the samples of steps 3 and 4 in one window scaled to [0, 1]; none if there are fewer than two."""
    slope = np.sign(np.diff(scaled))
    moving = np.flatnonzero(slope)
    turns = moving[:-1][(slope[moving[:-1]] > 0) & (slope[moving[1:]] < 0)] + 1
    peaks = turns[scaled[turns] > KACHUEE_THRESHOLD]
    return peaks if len(peaks) >= 2 else peaks[:0]


def _kachuee_window(window: Array, used: Array, peaks: Array, n_leads: int) -> tuple[Array, Array]:
    """Do steps 5 to 7 in one window (used lead, sample): (beat, lead, 187) int16 and flags."""
    waveform = np.full((len(peaks), n_leads, KACHUEE_LENGTH), MISSING_SAMPLE, np.int16)
    flags = np.zeros(len(peaks), np.uint16)
    if len(peaks) == 0:
        return waveform, flags
    wanted = int(12 * np.median(2 * np.diff(peaks))) // 20  # floor(1.2 T) in whole numbers: 2 T is one
    if wanted > KACHUEE_LENGTH:
        flags |= np.uint16(BEAT_FLAGS["cut"])
    length = min(wanted, KACHUEE_LENGTH)
    cut_parts(window, used, peaks, length, KACHUEE_STEP, waveform)
    flags[peaks + length > window.shape[1]] |= BEAT_FLAGS["edge"]
    return waveform, flags


@kernel
def cut_parts(window: Array, used: Array, peaks: Array, length: int, step: float, waveform: Array) -> None:
    """Scale each lead of a window to [0, 1] and write, in steps, ``length`` samples from each peak; zeros behind them."""
    n = window.shape[1]
    stored = np.empty(n, np.int16)
    for row in range(window.shape[0]):
        low, high = window[row].min(), window[row].max()
        for i in range(n):
            stored[i] = np.int16(np.rint((window[row, i] - low) / (high - low) / step)) if high > low else 0
        for beat in range(peaks.shape[0]):
            part = waveform[beat, used[row]]
            part[:] = 0
            for i in range(min(length, n - peaks[beat])):
                part[i] = stored[peaks[beat] + i]


def resample_lead(lead: Array, adc_gain: float, baseline: int, sampling_frequency_hz: float) -> Array:
    """Return one lead at 125 Hz, (sample) float64, mV: ``scipy.signal.resample_poly`` as it comes, the ends held."""
    from fractions import Fraction

    from ecgbatch.filtering import fill_gaps

    ratio = Fraction(125) / Fraction(sampling_frequency_hz).limit_denominator(1000)
    filled = fill_gaps(np.ascontiguousarray(lead))
    if ratio.numerator == 1 and ratio.denominator > 1 and filled.dtype == np.int16 and filled.size:
        return np.asarray(decimate(filled, float(adc_gain), float(baseline), low_pass(ratio.denominator), ratio.denominator))
    from scipy.signal import resample_poly

    millivolts = (filled.astype(np.float64) - float(baseline)) / float(adc_gain)
    resampled: Array = resample_poly(millivolts, ratio.numerator, ratio.denominator, padtype="edge")
    return resampled


@lru_cache(maxsize=8)
def low_pass(factor: int) -> Array:
    """Return the taps of ``scipy.signal.resample_poly`` for every ``factor``-th sample, the last one first."""
    from scipy.signal import firwin

    return np.ascontiguousarray(firwin(20 * factor + 1, 1 / factor, window=("kaiser", 5.0))[::-1])


@kernel
def decimate(lead: Array, adc_gain: float, baseline: float, taps: Array, factor: int) -> Array:
    """Return every ``factor``-th sample of a filtered lead, mV: ``resample_poly``'s sums in its own order, to the last bit.

    All sums of a block grow together, tap by tap, so that they are made in vectors: each adds its products in the order in
    which SciPy does, without fusing, and samples lie by their place within ``factor`` so that neighbouring sums read neighbours.
    """
    n, reach = lead.shape[0], taps.shape[0] // 2
    n_out = (n + factor - 1) // factor
    width = n_out + taps.shape[0] // factor + 1
    by_place = np.empty((factor, width))
    for place in range(factor):
        row = by_place[place]
        for i in range(width):
            row[i] = lead[min(max(i * factor + place - reach, 0), n - 1)]
        for i in range(width):
            row[i] = (row[i] - baseline) / adc_gain
    resampled = np.zeros(n_out)
    for start in range(0, n_out, 512):
        total = resampled[start : start + 512]
        m = total.shape[0]
        tap = 0
        while tap + 4 <= taps.shape[0]:
            a, b, c, d = taps[tap], taps[tap + 1], taps[tap + 2], taps[tap + 3]
            at = start + tap // factor
            x = by_place[tap % factor, at : at + m]
            at = start + (tap + 1) // factor
            y = by_place[(tap + 1) % factor, at : at + m]
            at = start + (tap + 2) // factor
            z = by_place[(tap + 2) % factor, at : at + m]
            at = start + (tap + 3) // factor
            w = by_place[(tap + 3) % factor, at : at + m]
            for i in range(m):
                total[i] = total[i] + x[i] * a + y[i] * b + z[i] * c + w[i] * d
            tap += 4
        for last in range(tap, taps.shape[0]):
            at = start + last // factor
            x = by_place[last % factor, at : at + m]
            for i in range(m):
                total[i] += x[i] * taps[last]
    return resampled


def _scaled(values: Array) -> Array:
    """Scale to [0, 1] by own minimum and maximum; a constant gives zeros."""
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.zeros_like(values)
