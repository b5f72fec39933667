"""Quality: what is wrong with each lead of a record, as bits of ``terms.LEAD_FLAGS``. Signals are flagged, never changed.

One pass over the samples finds extremes; everything else is measured on block means at about 250 Hz: of records without gaps,
which nearly all are, by ``quality_kernels``. Thresholds, with their sources, are in ``terms.py``; how often they find planted
faults, and flag clean leads, is in docs/quality.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from ecgbatch.kernels import is_on_disk
from ecgbatch.terms import (
    ANALYSIS_RATE_HZ,
    CLIPPED_RUN_S,
    CLIPPED_S,
    FLAT_RANGE_MV,
    FLAT_SHARE,
    LARGEST_RANGE_MV,
    LEAD_FLAGS,
    LEAD_SUM_TOLERANCE,
    LEAD_SUM_TOLERANCE_MV,
    LEAD_VECTORS,
    LEADS,
    MAINS_HZ,
    MAINS_MV,
    MAINS_RATIO,
    MISSING_SAMPLE,
    NOISE_MV,
    NOISE_SHARE_OF_RANGE,
    SAME_PLANE_SHARE,
    SMALLEST_RANGE_MV,
    SWAP_AVR_CORRELATION,
    SWAP_CORRELATION,
    SWAP_ONE_CORRELATION,
    SWAP_RESIDUAL_RATIO,
    WANDER_MV_PER_S,
)

if TYPE_CHECKING:
    from ecgbatch.signals.quality_kernels import Bits, Limits

Floats = npt.NDArray[np.float32]
_LIMB = ("I", "II", "III", "aVR", "aVL", "aVF")
_LIMB_OF_I_II = np.array([[1, 0], [0, 1], [-1, 1], [-0.5, -0.5], [1, -0.5], [-0.5, 1]])
_EXCHANGES = (((-1, 0), (-1, 1)), ((1, -1), (0, -1)), ((0, 1), (1, 0)))  # of (I, II): LA with RA, RA with LL, LA with LL


class LeadMeasures(NamedTuple):
    """What the flags are judged by; every array is (lead,), missing leads are NaN.

    ``range_mv``: median span of a second. ``flat_share``: share of flat seconds. ``noise_mv``: rms between beats above 30 Hz
    without mains. ``mains_mv``, ``beside_mains_mv``: amplitude at 50 or 60 Hz, whichever is larger, and at 40 or 70 Hz.
    ``wander_mv_per_s``: 90th percentile of the baseline's change within a second. ``covariance_mv2`` (lead, lead): of the leads
    without their baseline.
    """

    range_mv: npt.NDArray[np.float64]
    flat_share: npt.NDArray[np.float64]
    noise_mv: npt.NDArray[np.float64]
    mains_mv: npt.NDArray[np.float64]
    beside_mains_mv: npt.NDArray[np.float64]
    wander_mv_per_s: npt.NDArray[np.float64]
    covariance_mv2: npt.NDArray[np.float64]


def lead_flags(
    signal: npt.NDArray[np.int16],
    adc_gain: npt.NDArray[np.float64],
    baseline: npt.NDArray[np.int32],
    sampling_frequency_hz: float,
    leads: Sequence[str],
    n_samples: int | None = None,
) -> npt.NDArray[np.uint16]:
    """Judge every lead of one record.

    Parameters
    ----------
    signal : (lead, sample) int16, adu
        As stored; ``terms.MISSING_SAMPLE`` where there is none.
    adc_gain : (lead,) adu/mV
    baseline : (lead,) adu
    sampling_frequency_hz
        Any; below 112 Hz mains noise cannot be told.
    leads
        Canonical names, one for each row. Sums and swaps are judged on the leads that have the names they need.
    n_samples
        Length of the record where rows are longer (a store's row is); default all of them.

    Returns
    -------
    (lead,) uint16
        Bits of ``terms.LEAD_FLAGS``: missing, gaps, flat, clipped, noisy, wander, powerline, implausible_amplitude, lead_sum,
        suspected_swap, and not_millivolts where limb leads are scaled one by one (normalised data: then no lead_sum). A missing
        lead has no other bit; a flat one is not judged for noise, clipping or sums.

    Raises
    ------
    ValueError
        If shapes differ, or a gain is not positive: amplitudes would mean nothing.

    """
    from ecgbatch.signals import quality_kernels

    signal, gain = np.asarray(signal), np.asarray(adc_gain, dtype=np.float64)
    _check(signal, gain, np.asarray(baseline), leads)
    n_samples = signal.shape[1] if n_samples is None else n_samples
    if n_samples == 0:
        return np.full(len(signal), LEAD_FLAGS["missing"], dtype=np.uint16)
    signal = np.require(signal, np.int16, ["C", "W"])  # the one memory layout that kernels are compiled for
    n_samples = _before_pulse(signal, n_samples, sampling_frequency_hz)
    extremes = quality_kernels.extremes(signal, n_samples)
    has_gaps = bool((extremes[:, 0] == MISSING_SAMPLE).any())
    baseline, fs = np.asarray(baseline, dtype=np.int32), float(sampling_frequency_hz)
    if has_gaps or len(signal) < FEWEST_LEADS or 4 * signal.size > MOST_AT_ONCE_BYTES:
        measured = measure_leads(signal[:, :n_samples], gain, baseline, fs, has_gaps=has_gaps)
        by_lead, covariance_mv2 = np.stack(measured[:-1]), measured.covariance_mv2
    else:
        by_lead, covariance_mv2 = _measure_whole(signal, gain, baseline, fs, n_samples)
    least, long_run = max(CLIPPED_S * fs, 4.0), CLIPPED_RUN_S * fs
    flags, judged = quality_kernels.mark(signal, n_samples, extremes, by_lead, *_limits(), least, long_run)
    _mark_relations(flags, covariance_mv2, judged, tuple(leads))
    return flags


_PULSE_S = (0.2, 2.0)
"""Lengths of an end that a device may have appended: Philips' is 0.4 s of zeros, 1 mV and zeros."""


def _before_pulse(signal: npt.NDArray[np.int16], n_samples: int, fs: float) -> int:
    """Return where a device's calibration pulse begins, if a record ends in one: all leads equal there, at more than one level.

    No electrode records that. It stays in the signals, and says nothing of the leads: it would break their sums and clip them.
    """
    if len(signal) < FEWEST_LEADS or (signal[:, n_samples - 1] != signal[0, n_samples - 1]).any():
        return n_samples  # as nearly always
    end = signal[:, max(0, n_samples - int(_PULSE_S[1] * fs) - 1) : n_samples]
    differ = np.flatnonzero((end != end[0]).any(axis=0))
    n_equal = end.shape[1] - 1 - int(differ[-1]) if differ.size else 0
    is_pulse = n_equal >= _PULSE_S[0] * fs and end[0, -n_equal:].min() < end[0, -n_equal:].max()
    return n_samples - n_equal if is_pulse else n_samples


@cache
def _limits() -> tuple[Limits, Bits]:
    from ecgbatch.signals.quality_kernels import Bits, Limits

    limits = Limits(
        FLAT_SHARE, NOISE_MV, NOISE_SHARE_OF_RANGE, WANDER_MV_PER_S, MAINS_MV, MAINS_RATIO, LARGEST_RANGE_MV, SMALLEST_RANGE_MV
    )
    return limits, Bits(**{word: LEAD_FLAGS[word] for word in Bits._fields})


def warm_up(on_progress: Callable[[int, int], None] | None = None) -> None:
    """Have numba load or make all machine code that a conversion needs, before threads ask for it at once.

    Parameters
    ----------
    on_progress
        Called with steps done and steps in all, only where code is made, about 10 s the first time on a machine.

    """
    from ecgbatch.formats import sample_kernels
    from ecgbatch.signals import quality_kernels

    is_made = all(is_on_disk(one) for one in (quality_kernels.mark, quality_kernels.unexplained, sample_kernels.deal))
    report = on_progress if on_progress and not is_made else lambda _done, _total: None
    report(0, 1)
    one, two = (np.where(np.arange(1000) // n % 2, 500, -500) for n in (50, 70))  # at its extremes: every kernel is asked
    signal = np.concatenate([_LIMB_OF_I_II @ [one, two], np.tile(one, (9, 1))]).astype(np.int16)
    lead_flags(signal, np.full(15, 1000.0), np.zeros(15, np.int32), 500.0, LEADS)
    totals = np.zeros(15, np.int64)
    sample_kernels.deal(signal.T.copy(), np.arange(15), signal, 0, totals, totals.copy())
    report(1, 1)


def measure_leads(
    signal: npt.NDArray[np.int16],
    adc_gain: npt.NDArray[np.float64],
    baseline: npt.NDArray[np.int32],
    sampling_frequency_hz: float,
    *,
    has_gaps: bool = True,
) -> LeadMeasures:
    """Measure every lead of one record; parameters as in ``lead_flags``; ``has_gaps=False`` promises that none is missing."""
    averaged, rate_hz = _averaged(signal, adc_gain, baseline, sampling_frequency_hz, has_gaps)
    n_second = min(max(round(rate_hz), 1), averaged.shape[1])
    seconds = _blocks(averaged, n_second)
    span = seconds.max(axis=2) - seconds.min(axis=2)
    mean = seconds @ np.full(n_second, 1 / n_second, dtype=np.float32)
    noise_mv, mains_mv, beside_mv = _noise(averaged, rate_hz)
    centred = (seconds - mean[:, :, None]).reshape(len(seconds), -1)
    if has_gaps:
        has_samples = np.any(np.isfinite(mean), axis=1)
        is_whole = np.all(np.isfinite(centred[has_samples]), axis=0)
        centred = np.where(has_samples[:, None] & is_whole, centred, np.float32(0))  # only moments that all leads have
    with np.errstate(invalid="ignore"):
        flat_share = np.where(np.isnan(span), np.nan, span < FLAT_RANGE_MV)
    step = np.abs(np.diff(mean, axis=1)) if mean.shape[1] > 1 else np.zeros_like(mean)
    return LeadMeasures(
        range_mv=_quantile(span, 0.5),
        flat_share=_mean(flat_share),
        noise_mv=noise_mv,
        mains_mv=mains_mv,
        beside_mains_mv=beside_mv,
        wander_mv_per_s=_quantile(step, 0.9),
        covariance_mv2=(centred @ centred.T).astype(np.float64) / max(centred.shape[1], 1),
    )


FEWEST_LEADS = 4
"""Kernels work on eight leads at once, whether they are there or not: with fewer numpy is faster."""
MOST_AT_ONCE_BYTES = 1 << 28
"""Kernels hold all means of a record; on a longer one numpy works lead by lead."""


def measure_whole_leads(
    signal: npt.NDArray[np.int16],
    adc_gain: npt.NDArray[np.float64],
    baseline: npt.NDArray[np.int32],
    sampling_frequency_hz: float,
    n_samples: int,
) -> LeadMeasures:
    """Measure a record without gaps: as ``measure_leads``, but for the order of sums, and in machine code."""
    by_lead, covariance_mv2 = _measure_whole(signal, adc_gain, baseline, sampling_frequency_hz, n_samples)
    return LeadMeasures._make([*by_lead, covariance_mv2])


def _measure_whole(
    signal: npt.NDArray[np.int16], adc_gain: npt.NDArray[np.float64], baseline: npt.NDArray[np.int32], fs: float, n_samples: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return (measure, lead) and the leads' covariance."""
    from ecgbatch.signals import quality_kernels

    factor = min(max(int(fs // ANALYSIS_RATE_HZ), 1), n_samples)
    rate_hz = fs / factor
    length, n_second = max(round(rate_hz / 10), 3), min(max(round(rate_hz), 1), n_samples // factor)
    waves = _waves(rate_hz, length)
    found: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] = quality_kernels.measure(
        signal, n_samples, adc_gain, baseline, factor, n_second, length, *waves, FLAT_MV
    )
    return found


FLAT_MV = float(np.float32(FLAT_RANGE_MV))
"""As the single precision numbers that it is compared with have it."""


@lru_cache(maxsize=64)
def _waves(rate_hz: float, length: int) -> tuple[Floats, npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """Return (length, 2 x frequency) cosines and sines to look for, which of them are mains, and the second difference's gains.

    A tenth of a second holds whole cycles of 40, 50, 60 and 70 Hz, so that none leaks into another.
    """
    frequency_hz = np.array([f for f in (40.0, 50.0, 60.0, 70.0) if f < 0.45 * rate_hz])
    turns = 2 * np.pi * frequency_hz * np.arange(length)[:, None] / rate_hz
    waves = np.concatenate([np.cos(turns), np.sin(turns)], axis=1).astype(np.float32) * np.float32(2 / length)
    return waves, np.isin(frequency_hz, MAINS_HZ), 1 - np.cos(2 * np.pi * frequency_hz / rate_hz)


def _check(
    signal: npt.NDArray[np.int16], gain: npt.NDArray[np.float64], baseline: npt.NDArray[np.int32], leads: Sequence[str]
) -> None:
    n_leads = len(leads)
    if signal.ndim != 2 or len(signal) != n_leads or gain.shape != (n_leads,) or baseline.shape != (n_leads,):
        raise ValueError(
            f"expected a signal (lead, sample) with one gain, baseline and name for each lead, found signal {signal.shape}, "
            f"gain {gain.shape}, baseline {baseline.shape} and {n_leads} names; pass the arrays of one record."
        )
    if not (np.isfinite(gain) & (gain > 0)).all():
        bad = [f"{lead} {value}" for lead, value in zip(leads, gain, strict=True) if not (np.isfinite(value) and value > 0)]
        raise ValueError(f"expected adc_gain above 0 adu/mV, found {', '.join(bad)}; correct the header's gain.")


def _mark(flags: npt.NDArray[np.uint16], word: str, where: npt.NDArray[np.bool_]) -> None:
    flags[where] |= LEAD_FLAGS[word]


def _averaged(
    signal: npt.NDArray[np.int16],
    adc_gain: npt.NDArray[np.float64],
    baseline: npt.NDArray[np.int32],
    sampling_frequency_hz: float,
    has_gaps: bool,
) -> tuple[Floats, float]:
    """Return (lead, sample) float32 mV at about ``ANALYSIS_RATE_HZ``, each a mean; NaN where a sample of it is missing."""
    factor = min(max(int(sampling_frequency_hz // ANALYSIS_RATE_HZ), 1), signal.shape[1])
    stop = signal.shape[1] // factor * factor
    averaged = np.empty((len(signal), stop // factor), dtype=np.float32)
    ones = np.ones(factor, dtype=np.float32)  # sums of up to 512 int16 are exact in float32
    for lead, samples in enumerate(signal):  # one after another: each stays in the cache
        averaged[lead] = samples[:stop].astype(np.float32).reshape(-1, factor) @ ones
    averaged *= (1 / (factor * adc_gain)).astype(np.float32)[:, None]
    averaged -= (baseline / adc_gain).astype(np.float32)[:, None]
    if has_gaps:
        is_missing = signal[:, :stop] == MISSING_SAMPLE
        averaged[is_missing.reshape(len(signal), -1, factor).any(axis=2)] = np.nan
    return averaged, sampling_frequency_hz / factor


def _blocks(samples: Floats, length: int) -> Floats:
    """Return (lead, block, sample): whole blocks of ``length``, what is left over at the end dropped."""
    n_blocks = samples.shape[1] // length
    return samples[:, : n_blocks * length].reshape(len(samples), n_blocks, length)


def _noise(averaged: Floats, rate_hz: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return noise, mains and beside-mains amplitudes between beats: medians over tenths of seconds, most of which hold no QRS.

    The second difference takes away P, T and wander: a sine of f Hz passes with gain 1 - cos(2 pi f / rate), white noise with
    power 1.5.
    """
    length = max(round(rate_hz / 10), 3)
    if averaged.shape[1] < length + 2:
        nothing = np.zeros(len(averaged))
        return nothing, nothing, nothing
    rough = averaged[:, :-2] + averaged[:, 2:]
    rough *= np.float32(-0.5)
    rough += averaged[:, 1:-1]
    tenths = _blocks(rough, length)
    power = np.einsum("ijk,ijk->ij", tenths, tenths) / np.float32(length)
    waves, is_mains, gain = _waves(rate_hz, length)
    parts = tenths @ waves
    n = len(gain)
    square = parts[..., :n] ** 2 + parts[..., n:] ** 2  # (lead, tenth, frequency): of the amplitude after the second difference
    noise = _quantile(np.maximum(power - square[..., is_mains].sum(axis=2) / 2, 0) / np.float32(1.5), 0.5)
    amplitude = np.empty((len(averaged), n))  # below 89 Hz none of the frequencies can be told
    for k in range(n):
        amplitude[:, k] = _quantile(square[..., k], 0.5) ** 0.5 / gain[k]
    mains = amplitude[:, is_mains].max(axis=1, initial=0.0)
    beside = amplitude[:, ~is_mains].max(axis=1, initial=0.0)
    return noise**0.5, mains, beside


def _quantile(values: Floats, share: float) -> npt.NDArray[np.float64]:
    """Return a quantile over the blocks of each lead that have no gap; NaN where no block is left."""
    if values.shape[1] == 0:
        return np.full(len(values), np.nan)
    ordered = np.sort(values, axis=1)  # NaN last
    n_valid = (~np.isnan(values)).sum(axis=1)
    at = np.minimum((n_valid * share).astype(np.int64), np.maximum(n_valid - 1, 0))
    chosen: npt.NDArray[np.float64] = ordered[np.arange(len(values)), at].astype(np.float64)
    return chosen


def _mean(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the mean over the blocks of each lead that have no gap; NaN where no block is left."""
    n_valid = (~np.isnan(values)).sum(axis=1)
    total: npt.NDArray[np.float64] = np.where(n_valid > 0, np.nansum(values, axis=1) / np.maximum(n_valid, 1), np.nan)
    return total


def _mark_relations(
    flags: npt.NDArray[np.uint16], covariance_mv2: npt.NDArray[np.float64], judged: npt.NDArray[np.bool_], leads: tuple[str, ...]
) -> None:
    """Mark what several leads show together: sums, scales, exchanged electrodes."""
    from ecgbatch.signals.quality_kernels import excess

    is_judged = judged.tobytes()
    present, row, rest = _limb_leads(leads, is_judged)
    broken: list[str] = []
    if len(present) >= 3 and excess(covariance_mv2, row, rest, LEAD_SUM_TOLERANCE, LEAD_SUM_TOLERANCE_MV) > 1:
        broken = _breakers(covariance_mv2, present, row, 1)
        # Before pairs are tried: all records of a normalised archive come here, and whatever pairs say, scales decide.
        if not broken and _is_scaled_apart(covariance_mv2[np.ix_(row, row)]):
            _mark(flags, "not_millivolts", judged)
        else:
            broken = broken or _breakers(covariance_mv2, present, row, 2) or list(present)
        _mark(flags, "lead_sum", np.isin(leads, broken))
    if _is_swapped(covariance_mv2, leads, is_judged, tuple(broken)):
        _mark(flags, "suspected_swap", np.isin(leads, present))


@lru_cache(maxsize=256)
def _limb_leads(leads: tuple[str, ...], judged: bytes) -> tuple[tuple[str, ...], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return the judged limb leads, their rows, and ``_off_plane`` of them."""
    present = tuple(lead for lead in _LIMB if lead in leads and judged[leads.index(lead)])
    return present, np.array([leads.index(lead) for lead in present], dtype=np.int64), _off_plane(present)


def _breakers(
    covariance_mv2: npt.NDArray[np.float64], present: tuple[str, ...], row: npt.NDArray[np.int64], n_left_out: int
) -> list[str]:
    """Return the limb leads, so many, without which the others best obey II = I + III and its like; none if no others do."""
    from ecgbatch.signals.quality_kernels import excess

    fits = [
        (excess(covariance_mv2, row[kept], rest, LEAD_SUM_TOLERANCE, LEAD_SUM_TOLERANCE_MV), left_out)
        for kept, rest, left_out in _left_out(present, n_left_out)
    ]
    least, broken = min(fits, default=(math.inf, []))
    return broken if least <= 1 else []


@cache
def _left_out(
    present: tuple[str, ...], n_left_out: int
) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], list[str]]]:
    """Return each choice of leads to leave out: which of ``present`` stay, ``_off_plane`` of these, who goes."""
    choices = []
    for left_out in combinations(range(len(present)), n_left_out) if len(present) >= n_left_out + 3 else ():
        kept = [k for k in range(len(present)) if k not in left_out]
        rest = _off_plane(tuple(present[k] for k in kept))
        choices.append((np.array(kept, dtype=np.int64), rest, [present[k] for k in left_out]))
    return choices


@cache
def _off_plane(present: tuple[str, ...]) -> npt.NDArray[np.float64]:
    """Return the projection of these limb leads on what no I and II can make."""
    model = _LIMB_OF_I_II[[_LIMB.index(lead) for lead in present]]
    rest: npt.NDArray[np.float64] = np.eye(len(present)) - model @ np.linalg.pinv(model)
    return rest


def _is_scaled_apart(covariance_mv2: npt.NDArray[np.float64]) -> bool:
    """Return whether the limb leads span a plane although they break the sums: each has a scale of its own."""
    size = np.sqrt(np.diag(covariance_mv2))
    if len(size) < 4 or (size == 0).any():
        return False
    shares = np.linalg.eigvalsh(covariance_mv2 / np.outer(size, size)) / len(size)
    return bool(shares[-3] < SAME_PLANE_SHARE)


def _is_swapped(covariance_mv2: npt.NDArray[np.float64], leads: tuple[str, ...], judged: bytes, broken: tuple[str, ...]) -> bool:
    """Return whether limb electrodes seem exchanged: by Frank's leads where they are, else by V6."""
    from ecgbatch.signals.quality_kernels import unexplained

    row = _rows_of(("I", "II", "Vx", "Vy", "Vz"), leads, judged, broken)
    if row is not None:
        residual = unexplained(covariance_mv2, row, _differences()).tolist()
        return bool(min(residual[1:]) < SWAP_RESIDUAL_RATIO * residual[0])
    row = _rows_of(("I", "II", "aVR", "V6"), leads, judged, broken)
    if row is not None:
        chest = row[3]
        one, two, right = (_correlation(covariance_mv2, lead, chest) for lead in row[:3])
        return one < SWAP_ONE_CORRELATION or (right > SWAP_AVR_CORRELATION and min(one, two) < SWAP_CORRELATION)
    return False


@lru_cache(maxsize=256)
def _rows_of(
    names: tuple[str, ...], leads: tuple[str, ...], judged: bytes, broken: tuple[str, ...]
) -> npt.NDArray[np.int64] | None:
    """Return the rows of these leads; None unless all are judged and none breaks the sums."""
    at = {lead: k for k, lead in enumerate(leads) if judged[k] and lead not in broken}
    return np.array([at[name] for name in names], dtype=np.int64) if all(name in at for name in names) else None


def _correlation(covariance_mv2: npt.NDArray[np.float64], one: int, other: int) -> float:
    size = math.sqrt(max(covariance_mv2[one, one] * covariance_mv2[other, other], 1e-12))
    return float(covariance_mv2[one, other]) / size


@cache
def _differences() -> npt.NDArray[np.float64]:
    """Return, of no exchange and of each, what I and II taken back through it have that Dower's leads do not predict."""
    # Every exchange undoes itself.
    return np.array(
        [np.hstack([np.array(way, dtype=np.float64), -np.array(LEAD_VECTORS[:2])]) for way in (((1, 0), (0, 1)), *_EXCHANGES)]
    )
