"""What follows from a median beat once its boundaries are known: Q, R, S, ST and T of each lead, and the frontal axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgbatch.measurements.curves import LEVEL_BEFORE
from ecgbatch.measurements.deflections import q_r_s
from ecgbatch.measurements.quantities import LEAD_QUANTITIES
from ecgbatch.measurements.selection import BEFORE, RATE_HZ

Array = NDArray[Any]

SMALLEST_WAVE_MV, SMALLEST_WAVE_S = 0.030, 0.006
"""A deflection of QRS is a wave from 30 uV over at least 6 ms: IEC 60601-2-51:2003, annex GG.5. Of a lead that is not in
millivolts, ``SMALLEST_SHARE`` of its QRS height instead."""

SMALLEST_SHARE = 0.03

LIMB_DIRECTIONS: Mapping[str, tuple[float, float]] = {
    "I": (0.0, 1.0),
    "II": (60.0, 1.0),
    "III": (120.0, 1.0),
    "aVR": (-150.0, 3**0.5 / 2),
    "aVL": (-30.0, 3**0.5 / 2),
    "aVF": (90.0, 3**0.5 / 2),
}
"""Direction (degrees) and strength of each limb lead in Einthoven's triangle (Malmivuo and Plonsey 1995, 15.3)."""

LEAST_LENGTH = 0.15
"""Length of the frontal vector, as a share of what the leads' deflections sum to without their signs, under which positive and
negative areas cancel and the direction means nothing."""

_AFTER_J = 20  # samples behind J at which T may begin
_HALF = 4  # 8 ms to each side are averaged where a level is read


def lead_amplitudes(beat: Array, at: Mapping[str, float], onset_of_lead: Array, is_millivolts: NDArray[np.bool_]) -> Array:
    """Return ``LEAD_QUANTITIES`` of each lead, (quantity, lead) float32; NaN where there is no such value.

    Parameters
    ----------
    beat : (lead, sample) float32, mV
        From ``selection.median_beat``.
    at
        From ``boundaries.find_boundaries``; a ``t_end`` of NaN gives no T.
    onset_of_lead : (lead,) float
        Where QRS begins in each lead by itself: a Q begins there, not where the earliest lead does.
    is_millivolts : (lead,) bool
        Amplitudes of other leads are not stated; the duration of Q is.

    """
    start, end = BEFORE + round(at["qrs_onset"]), BEFORE + round(at["qrs_offset"])
    away = beat - level_before(beat, at["qrs_onset"])[:, None]
    found = np.full((len(LEAD_QUANTITIES), len(beat)), np.nan, np.float32)
    rows = {name: place for place, name in enumerate(LEAD_QUANTITIES)}
    begin = np.minimum(np.maximum(start, BEFORE + np.rint(onset_of_lead).astype(np.int64)), end - 1)
    height = np.array([np.ptp(line[first : end + 1]) for line, first in zip(away, begin, strict=True)])
    least = np.where(is_millivolts, SMALLEST_WAVE_MV, SMALLEST_SHARE * height).astype(np.float32)
    waves = q_r_s(np.ascontiguousarray(away), begin, end + 1, least, SMALLEST_WAVE_S * RATE_HZ, 1000 / RATE_HZ)
    found[[rows[name] for name in ("q_duration_ms", "q_mv", "r_mv", "s_mv")]] = waves.T
    for name, after_ms in (("st_j_mv", 0), ("st_60_mv", 60), ("st_80_mv", 80)):
        middle = end + round(after_ms / 1000 * RATE_HZ)
        found[rows[name]] = away[:, middle - (_HALF if after_ms else 0) : middle + _HALF + 1].mean(axis=1)
    if np.isfinite(at["t_end"]) and (last := BEFORE + round(at["t_end"])) > end + 2 * _AFTER_J:
        wave = away[:, end + _AFTER_J : last]
        found[rows["t_mv"]] = np.take_along_axis(wave, np.abs(wave).argmax(axis=1)[:, None], axis=1)[:, 0]
    amplitudes = [place for name, place in rows.items() if name != "q_duration_ms"]
    found[np.ix_(np.array(amplitudes), np.flatnonzero(~is_millivolts))] = np.nan
    return found


def level_before(beat: Array, onset: float) -> Array:
    """Return each lead's level just before QRS, (lead,)."""
    start = BEFORE + int(onset)
    return np.asarray(np.median(beat[:, start + LEVEL_BEFORE.start : start + LEVEL_BEFORE.stop], axis=1))


def frontal_axes(beat: Array, leads: Sequence[str], at: Mapping[str, float]) -> dict[str, float]:
    """Return ``axis_p_deg``, ``axis_qrs_deg`` and ``axis_t_deg``: directions of the waves' areas; NaN where they have none.

    Parameters
    ----------
    beat : (lead, sample) float32, mV
        Of ``leads``, the limb leads among which are in real millivolts; two at least, or nothing is returned but NaN.
    at
        Boundaries, samples from R; NaN for a wave that is not there.

    """
    none = dict.fromkeys(("axis_p_deg", "axis_qrs_deg", "axis_t_deg"), float("nan"))
    limb = [place for place, lead in enumerate(leads) if lead in LIMB_DIRECTIONS]
    if len(limb) < 2:
        return none
    away = beat[limb] - level_before(beat[limb], at["qrs_onset"])[:, None]
    vector_of = _vector_of(tuple(leads[place] for place in limb))
    spans = {
        "axis_p_deg": (at["p_onset"], at["p_end"]),
        "axis_qrs_deg": (at["qrs_onset"], at["qrs_offset"]),
        "axis_t_deg": (at["qrs_offset"] + _AFTER_J, at["t_end"]),
    }
    for name, (first, last) in spans.items():
        if np.isfinite(first + last) and last - first > _HALF:
            wave = away[:, BEFORE + round(first) : BEFORE + round(last) + 1]
            if name == "axis_p_deg":  # P rides on what is left of T: its own level is the line between its ends
                wave = wave - np.linspace(wave[:, 0], wave[:, -1], wave.shape[1], axis=1)
            none[name] = _direction(vector_of, wave)
    return none


@lru_cache(maxsize=64)
def _vector_of(limb: tuple[str, ...]) -> Array:
    """Return what makes a frontal vector of these leads' values by least squares, (2, lead)."""
    angle, strength = np.array([LIMB_DIRECTIONS[lead] for lead in limb]).T
    return np.linalg.pinv(np.stack([np.cos(np.radians(angle)), np.sin(np.radians(angle))], axis=1) * strength[:, None])


def _direction(vector_of: Array, wave: Array) -> float:
    along = vector_of @ wave
    vector = along.sum(axis=1)
    whole = np.hypot(*along).sum()
    if whole <= 0 or np.hypot(*vector) < LEAST_LENGTH * whole:
        return float("nan")
    return float(np.degrees(np.arctan2(vector[1], vector[0])))
