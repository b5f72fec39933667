"""Quality: what is wrong with each lead of a record, as bits of ``terms.LEAD_FLAGS``. Signals are flagged, never changed.

One pass over the samples finds extremes; everything else is measured on block means at about 250 Hz. Thresholds were set on the
real records named in their sources so that clean leads stay unflagged, and are checked by planted faults in the tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from ecgbatch.heart_vector import LEAD_VECTORS
from ecgbatch.terms import LEAD_FLAGS, MISSING_SAMPLE

ANALYSIS_RATE_HZ = 250.0
"""Rate to which records are averaged before anything is measured: QRS energy ends near 40 Hz, muscle and mains noise lie below 125 Hz."""

FLAT_RANGE_MV = 0.02
"""A second whose values span less shows no beat. The smallest median span of a real lead met is 0.14 mV (MIT-BIH 118), 0.18 in PTB."""

FLAT_SHARE = 0.5
"""Share of flat seconds above which a lead is flat: more than half of its beats cannot be seen."""

CLIPPED_S = 0.02
"""Time that a lead spends at exactly its largest or smallest value, in runs, above which it is clipped: about two clipped R waves."""

CLIPPED_RUN_S = 0.1
"""One run at an extreme as long as this is clipping by itself; shorter ones must occur at least twice (a smooth wave has one top)."""

NOISE_MV = 0.010
NOISE_SHARE_OF_RANGE = 1 / 40
"""Noise between beats (rms, 30 to 125 Hz, mains left out) above both is noisy. Clean PTB leads: 0.003 mV in the median, 0.008 mV in
the 99th percentile, never above 1/46 of the lead's span."""

WANDER_MV_PER_S = 0.5
"""Change of the baseline from one second to the next, 90th percentile, above which a lead wanders: it then moves by about an R wave
of a limb lead within one beat. PTB 95th percentile 0.2, MIT-BIH maximum 0.6; the wander record of the noise stress test 0.25 to 2."""

MAINS_HZ = (50.0, 60.0)
MAINS_MV = 0.015
MAINS_RATIO = 2.0
"""Amplitude at a mains frequency between beats, and its ratio to the amplitudes 10 Hz or 20 Hz beside, above which it is powerline."""

LARGEST_RANGE_MV = 10.0
"""Median span of a second above which amplitude is implausible: no QRS is taller than the +-5 mV that IEC 60601-2-25 asks an
electrocardiograph to record; taller means a wrong gain, pacing artefacts or a loose electrode."""

SMALLEST_RANGE_MV = 0.1
"""If every lead spans less, the gain is implausible: low voltage is called below 0.5 mV in all limb leads (Surawicz and Knilans 2008)."""

LEAD_SUM_TOLERANCE = 0.05
LEAD_SUM_TOLERANCE_MV = 0.01
"""Residual (rms) of the limb-lead identities above both, the first as a share of the lead's own rms, breaks them. PTB: under 0.003."""

SAME_PLANE_SHARE = 0.001
"""Six limb leads of any true record span a plane, whatever each lead's scale: the third eigenvalue of their correlations, as a share
of six, is below 1e-5 in PTB and in amplitude-normalised PTB-XL. Below this the leads are scaled one by one, not wrong."""

SWAP_CORRELATION = -0.3
SWAP_AVR_CORRELATION = -0.1
"""Swapped electrodes turn I or II against V6 (correlation below the first) and aVR along with it (above the second). An exchange
involving the right arm is found in 80 to 90 % of PTB-XL's records so changed, at 0.2 % false alarms; LA with LL is not found."""

SWAP_RESIDUAL_RATIO = 0.5
"""With Frank's leads: residual of Dower's prediction of I and II after the best exchange, as a share of that without, which shows it.
An exchange of this kind is in PTB itself (patient071/s0236lre, left and right arm: 0.18); all other records have 0.8 or more."""

Floats = npt.NDArray[np.float32]
_LIMB = ("I", "II", "III", "aVR", "aVL", "aVF")
_LIMB_OF_I_II = np.array([[1, 0], [0, 1], [-1, 1], [-0.5, -0.5], [1, -0.5], [-0.5, 1]])
_EXCHANGES = (((-1, 0), (-1, 1)), ((1, -1), (0, -1)), ((0, 1), (1, 0)))  # of (I, II): LA with RA, RA with LL, LA with LL


@dataclass(frozen=True)
class LeadMeasures:
    """What the flags are judged by; every array is (lead,), missing leads are NaN.

    ``range_mv``: median span of a second. ``flat_share``: share of flat seconds. ``noise_mv``: rms between beats above 30 Hz without
    mains. ``mains_mv``, ``beside_mains_mv``: amplitude at 50 or 60 Hz, whichever is larger, and beside. ``wander_mv_per_s``: 90th
    percentile of the baseline's change within a second. ``covariance_mv2`` (lead, lead): of the leads without their baseline.
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
        suspected_swap, and not_millivolts where limb leads are scaled one by one (normalised data: then no lead_sum). A missing lead has no other
        bit; a flat one is not judged for noise, clipping or sums.

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
    """Measure every lead of one record; parameters as in ``lead_flags``. ``has_gaps=False`` promises that no sample is missing."""
    averaged, rate_hz = _averaged(signal, adc_gain, baseline, sampling_frequency_hz, has_gaps)
    n_second = min(max(round(rate_hz), 1), averaged.shape[1])
    seconds = _blocks(averaged, n_second)
    span = seconds.max(axis=2) - seconds.min(axis=2)
    mean = seconds @ np.full(n_second, 1 / n_second, dtype=np.float32)
    noise_mv, mains_mv, beside_mv = _noise(averaged, rate_hz)
    centred = (seconds - mean[:, :, None]).reshape(len(seconds), -1)
    if has_gaps:
        centred = np.nan_to_num(centred * np.isfinite(centred).all(axis=0, where=np.isfinite(mean).any(axis=1)[:, None]), nan=0.0)
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
