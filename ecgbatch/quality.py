"""Quality: what is wrong with each lead of a record, as bits of ``terms.LEAD_FLAGS``. Signals are flagged, never changed.

One pass over the samples finds extremes; everything else is measured on block means at about 250 Hz. Thresholds, with their
sources, are in ``terms.py``; how often they find planted faults, and flag clean leads, is in docs/quality.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np
import numpy.typing as npt

from ecgbatch.heart_vector import LEAD_VECTORS
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

Floats = npt.NDArray[np.float32]
_LIMB = ("I", "II", "III", "aVR", "aVL", "aVF")
_LIMB_OF_I_II = np.array([[1, 0], [0, 1], [-1, 1], [-0.5, -0.5], [1, -0.5], [-0.5, 1]])
_EXCHANGES = (((-1, 0), (-1, 1)), ((1, -1), (0, -1)), ((0, 1), (1, 0)))  # of (I, II): LA with RA, RA with LL, LA with LL


@dataclass(frozen=True)
class LeadMeasures:
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
    signal, gain = np.asarray(signal), np.asarray(adc_gain, dtype=np.float64)
    _check(signal, gain, np.asarray(baseline), leads)
    flags = np.zeros(len(signal), dtype=np.uint16)
    if signal.shape[1] == 0:
        return flags | np.uint16(LEAD_FLAGS["missing"])
    lowest = signal.min(axis=1)
    gaps = _gaps(signal, lowest)
    measured = measure_leads(signal, gain, np.asarray(baseline), sampling_frequency_hz, has_gaps=bool(gaps.any()))
    is_missing = gaps == signal.shape[1]
    is_flat = ~is_missing & (np.nan_to_num(measured.flat_share, nan=1.0) > FLAT_SHARE)
    judged = ~is_missing & ~is_flat
    _mark(flags, "missing", is_missing)
    _mark(flags, "gaps", (gaps > 0) & ~is_missing)
    _mark(flags, "flat", is_flat)
    _mark(flags, "clipped", judged & _is_clipped(signal, judged, sampling_frequency_hz))
    with np.errstate(invalid="ignore"):
        _mark_by_measures(flags, measured, judged)
    _mark_relations(flags, measured.covariance_mv2, judged, list(leads))
    return flags


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


def _gaps(signal: npt.NDArray[np.int16], lowest: npt.NDArray[np.int16]) -> npt.NDArray[np.int64]:
    """Return the number of missing samples of each lead; only leads that reach the sentinel are counted."""
    counts = np.zeros(len(signal), dtype=np.int64)
    for lead in np.flatnonzero(lowest == MISSING_SAMPLE):
        counts[lead] = np.count_nonzero(signal[lead] == MISSING_SAMPLE)
    return counts


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
    power 1.5. A tenth of a second holds whole cycles of 40, 50, 60 and 70 Hz, so that none leaks into another.
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
    frequency_hz = np.array([f for f in (40.0, 50.0, 60.0, 70.0) if f < 0.45 * rate_hz])
    turns = 2 * np.pi * frequency_hz * np.arange(length)[:, None] / rate_hz
    waves = np.concatenate([np.cos(turns), np.sin(turns)], axis=1).astype(np.float32) * np.float32(2 / length)
    parts = tenths @ waves
    n = len(frequency_hz)
    square = parts[..., :n] ** 2 + parts[..., n:] ** 2  # (lead, tenth, frequency): of the amplitude after the second difference
    is_mains = np.isin(frequency_hz, MAINS_HZ)
    noise = _quantile(np.maximum(power - square[..., is_mains].sum(axis=2) / 2, 0) / np.float32(1.5), 0.5)
    gain = 1 - np.cos(2 * np.pi * frequency_hz / rate_hz)
    amplitude = np.stack([_quantile(square[..., k], 0.5) ** 0.5 / gain[k] for k in range(n)], axis=1).reshape(len(averaged), n)
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


def _is_clipped(
    signal: npt.NDArray[np.int16], judged: npt.NDArray[np.bool_], sampling_frequency_hz: float
) -> npt.NDArray[np.bool_]:
    """Return whether each judged lead stays at its own extremes as only a limited amplifier or converter does."""
    clipped = np.zeros(len(signal), dtype=np.bool_)
    for lead in np.flatnonzero(judged):
        samples = signal[lead]
        present = samples if samples.min() != MISSING_SAMPLE else samples[samples != MISSING_SAMPLE]
        clipped[lead] = any(_stays_at(present, extreme, sampling_frequency_hz) for extreme in (present.min(), present.max()))
    return clipped


def _stays_at(samples: npt.NDArray[np.int16], extreme: np.int16, sampling_frequency_hz: float) -> bool:
    is_there = samples == extreme
    if np.count_nonzero(is_there) < max(CLIPPED_S * sampling_frequency_hz, 4):
        return False
    edges = np.flatnonzero(np.diff(is_there, prepend=False, append=False))
    runs = edges[1::2] - edges[::2]
    runs = runs[runs >= 2]
    enough = runs.sum() >= max(CLIPPED_S * sampling_frequency_hz, 4)
    return bool(enough and (len(runs) >= 2 or runs[0] >= CLIPPED_RUN_S * sampling_frequency_hz))


def _mark_by_measures(flags: npt.NDArray[np.uint16], measured: LeadMeasures, judged: npt.NDArray[np.bool_]) -> None:
    """Mark what one lead's measures show. NaN compares as not exceeding: what cannot be measured is not flagged."""
    is_noisy = (measured.noise_mv > NOISE_MV) & (measured.noise_mv > NOISE_SHARE_OF_RANGE * measured.range_mv)
    _mark(flags, "noisy", judged & is_noisy)
    _mark(flags, "wander", judged & (measured.wander_mv_per_s > WANDER_MV_PER_S))
    is_mains = (measured.mains_mv > MAINS_MV) & (measured.mains_mv > MAINS_RATIO * measured.beside_mains_mv)
    _mark(flags, "powerline", judged & is_mains)
    _mark(flags, "implausible_amplitude", judged & (measured.range_mv > LARGEST_RANGE_MV))
    if judged.any() and (measured.range_mv[judged] < SMALLEST_RANGE_MV).all():
        _mark(flags, "implausible_amplitude", judged)


def _mark_relations(
    flags: npt.NDArray[np.uint16], covariance_mv2: npt.NDArray[np.float64], judged: npt.NDArray[np.bool_], leads: list[str]
) -> None:
    """Mark what several leads show together: sums, scales, exchanged electrodes."""
    present = [lead for lead in _LIMB if lead in leads and judged[leads.index(lead)]]
    row = [leads.index(lead) for lead in present]
    broken = _breakers(covariance_mv2[np.ix_(row, row)], present)
    if broken and len(broken) != 1 and _is_scaled_apart(covariance_mv2[np.ix_(row, row)]):
        _mark(flags, "not_millivolts", judged)
        broken = []
    _mark(flags, "lead_sum", np.isin(leads, broken))
    at = {lead: k for k, lead in enumerate(leads) if judged[k] and lead not in broken}
    if _is_swapped(covariance_mv2, at):
        _mark(flags, "suspected_swap", np.isin(leads, present))


def _breakers(covariance_mv2: npt.NDArray[np.float64], present: list[str]) -> list[str]:
    """Return the fewest limb leads, two at most, without which the others obey II = I + III and its like; all if none do."""
    if len(present) < 3 or _excess(covariance_mv2, present) <= 1:
        return []
    for n_left_out in range(1, min(len(present) - 2, 3)):
        fits = []
        for left_out in combinations(range(len(present)), n_left_out):
            kept = [k for k in range(len(present)) if k not in left_out]
            excess = _excess(covariance_mv2[np.ix_(kept, kept)], [present[k] for k in kept])
            fits.append((excess, [present[k] for k in left_out]))
        excess, broken = min(fits)
        if excess <= 1:
            return broken
    return present


def _excess(covariance_mv2: npt.NDArray[np.float64], present: list[str]) -> float:
    """Return the largest residual of the leads' fit by one I and one II, in tolerances."""
    rest = _off_plane(tuple(present))
    residual_mv = np.sqrt(np.maximum(np.diag(rest @ covariance_mv2 @ rest.T), 0))
    tolerance_mv = np.maximum(LEAD_SUM_TOLERANCE * np.sqrt(np.diag(covariance_mv2)), LEAD_SUM_TOLERANCE_MV)
    return float((residual_mv / tolerance_mv).max())


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


def _is_swapped(covariance_mv2: npt.NDArray[np.float64], at: dict[str, int]) -> bool:
    """Return whether limb electrodes seem exchanged: by Frank's leads where they are, else by V6."""
    if all(lead in at for lead in ("I", "II", "Vx", "Vy", "Vz")):
        row = [at[lead] for lead in ("I", "II", "Vx", "Vy", "Vz")]
        known = covariance_mv2[np.ix_(row, row)]
        residual = [_unexplained(known, exchange) for exchange in (((1, 0), (0, 1)), *_EXCHANGES)]
        return bool(min(residual[1:]) < SWAP_RESIDUAL_RATIO * residual[0])
    if all(lead in at for lead in ("I", "II", "aVR", "V6")):
        row = [at[lead] for lead in ("I", "II", "aVR", "V6")]
        chest = covariance_mv2[row, at["V6"]]
        one, two, right = chest[:3] / np.sqrt(np.maximum(np.diag(covariance_mv2)[row[:3]] * chest[3], 1e-12))
        return bool(one < SWAP_ONE_CORRELATION or (right > SWAP_AVR_CORRELATION and min(one, two) < SWAP_CORRELATION))
    return False


def _unexplained(known: npt.NDArray[np.float64], exchange: tuple[tuple[int, int], tuple[int, int]]) -> float:
    """Return the power of I and II, taken back through the exchange, that Frank's leads do not predict."""
    difference = np.hstack([np.array(exchange, dtype=np.float64), -LEAD_VECTORS[:2]])  # every exchange undoes itself
    return float(np.trace(difference @ known @ difference.T))
