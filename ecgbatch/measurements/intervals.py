"""Measurements: rate, RR, QRS duration, QT and ST level of the ten seconds on paper; each a number, or the reason why not.

Measured as a resting ECG usually is: on the median of the excerpt's normal beats, all leads sharing one QRS onset and offset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgbatch.beats.rhythm import rhythm
from ecgbatch.terms import BEAT_FLAGS, LEAD_FLAGS, UNUSABLE_LEAD

Float = NDArray[np.floating[Any]]

FEWEST_BEATS = 4
"""Normal beats that a median needs here: two halves of two, whose agreement is the test of reliability."""

LOWEST_RATE_HZ = 200.0
"""Below it a sample is longer than 5 ms, and a QRS of 100 ms cannot be told from one of 90."""

ST_AFTER_J_S = 0.060
"""Where the ST level is read: 60 ms after the J point, as in exercise testing (Fletcher and others, Circulation 2013;128:873)."""

BEFORE_S, AFTER_S = 0.35, 0.60
"""Window around R: PR intervals up to 0.30 s begin in it, T waves end in it at rates from 50/min."""

QRS_MS = (50.0, 220.0)
"""Believed QRS durations; outside them a boundary was missed (normal: 70 to 110, broadest blocks: about 200)."""

QT_MS = (240.0, 640.0)
"""Believed QT intervals."""

AGREEMENT_MS = 16.0
"""Most that the two halves of the beats may differ in QRS duration; in QT twice that."""

SMALLEST_T_MV = 0.08
"""A smaller T has no tangent that could be trusted. Normalised leads: this share of their QRS height instead."""

METHOD = (
    "Measured on the median of the normal beats of the ten seconds on paper. QRS: all leads together, from the change of the "
    "spatial velocity; QT: to the median, over the leads, of the end of T by its tangent; QTc: Fridericia, and Bazett; ST: "
    "60 ms after the J point, from the level before QRS. Each half of the beats must give the same, else nothing is stated."
)

_SPREAD_MS = 40.0  # most that the middle half of the leads may differ in the end of T
_SLOPE_S = 0.004  # half width of the difference that stands for the velocity
_QUIET_S = 0.012  # this long below the threshold ends a QRS
_ACTIVE_SHARE = 0.04  # of the highest velocity: P and ST are slower, in QRS only notches are
_NOISY_SHARE = 0.10  # a floor higher than this share of the highest velocity hides where QRS begins or ends
_HIGHEST_RATE_HZ = 500.0  # more samples a second add nothing to a boundary, and cost time
_UNMEASURED_LEAD = UNUSABLE_LEAD | sum(LEAD_FLAGS[word] for word in ("noisy", "clipped", "gaps", "implausible_amplitude"))
_UNWANTED_BEAT = sum(BEAT_FLAGS[word] for word in ("edge", "noisy", "clipped", "ectopic", "aberrant"))


@dataclass(frozen=True)
class Boundaries:
    """Samples of a median beat, as fractions too: QRS onset and offset (the J point) and the end of T of each lead (NaN)."""

    onset: float
    offset: float
    t_end: Float


def measure(
    signal: Float,
    leads: Sequence[str],
    lead_flags: Sequence[int],
    *,
    sampling_frequency_hz: float,
    r_sample: NDArray[np.integer[Any]],
    beat_flags: NDArray[np.integer[Any]],
) -> dict[str, Any]:
    """Measure an excerpt of up to ten seconds.

    Parameters
    ----------
    signal : (lead, sample) float, mV
        NaN where missing; for a lead flagged ``not_millivolts`` the shape alone counts.
    leads, lead_flags
        Name and ``terms.LEAD_FLAGS`` mask of each lead.
    sampling_frequency_hz
        Rate of ``signal``.
    r_sample, beat_flags : (beat,) int
        R peaks inside the excerpt, counted from its first sample, and ``terms.BEAT_FLAGS``.

    Returns
    -------
    dict
        JSON types. ``heart_rate_bpm``, ``rr_ms``, ``rr_spread_ms``, ``qrs_ms``, ``qt_ms``, ``qtc_fridericia_ms`` and
        ``qtc_bazett_ms``, each ``{"value": float or None, "reason": ""}``; ``st_60_mv``: the same for each lead; ``n_beats``
        (normal ones, of which the median is made) and ``method``.

    """
    found = rhythm(r_sample, beat_flags, sampling_frequency_hz)
    rr_ms = 60_000.0 / found.heart_rate_bpm if found.heart_rate_bpm > 0 else float("nan")
    is_believed = [not flags & _UNMEASURED_LEAD for flags in lead_flags]
    beats, rate = _normal_beats(signal[is_believed], sampling_frequency_hz, r_sample, beat_flags)
    used = [lead for lead, good in zip(leads, is_believed, strict=True) if good]
    why = _why_not(beats, rate, used)
    none = {"value": None, "reason": why}
    intervals: dict[str, Any] = dict.fromkeys(("qrs_ms", "qt_ms", "qtc_fridericia_ms", "qtc_bazett_ms"), none)
    st = {lead: _no_st(why, flags) for lead, flags in zip(leads, lead_flags, strict=True)}
    if not why:
        millivolts = np.array([not lead_flags[list(leads).index(lead)] & LEAD_FLAGS["not_millivolts"] for lead in used])
        intervals, levels = _intervals(beats, rate, rr_ms, millivolts)
        for lead, level, in_mv in zip(used, levels, millivolts, strict=True):
            if in_mv:
                st[lead] = level
    return {
        "n_beats": len(beats),
        "heart_rate_bpm": _stated(found.heart_rate_bpm, "fewer than two believable beats in these seconds"),
        "rr_ms": _stated(rr_ms, "fewer than two believable beats in these seconds"),
        "rr_spread_ms": _stated(found.rr_spread_s * 1000, "fewer than five intervals between normal beats"),
        **intervals,
        "st_60_mv": st,
        "method": METHOD,
    }


def _stated(value: float, reason: str, digits: int = 1) -> dict[str, Any]:
    return {"value": round(float(value), digits), "reason": ""} if np.isfinite(value) else {"value": None, "reason": reason}


def _why_not(beats: Float, rate: float, used: Sequence[str]) -> str:
    if rate < LOWEST_RATE_HZ:
        return f"sampled at {rate:g} Hz; durations need {LOWEST_RATE_HZ:g}"
    if not used:
        return "no lead is free of noise, clipping and gaps"
    return "" if len(beats) >= FEWEST_BEATS else f"{len(beats)} whole normal beats in these seconds; {FEWEST_BEATS} are needed"


def _no_st(why: str, flags: int) -> dict[str, Any]:
    for word, reason in (("missing", "absent"), ("flat", "flat"), ("not_millivolts", "not in millivolts")):
        if flags & LEAD_FLAGS[word]:
            return {"value": None, "reason": reason}
    return {"value": None, "reason": "noisy, clipped or with gaps" if flags & _UNMEASURED_LEAD else why}


def _normal_beats(
    signal: Float, fs: float, r_sample: NDArray[np.integer[Any]], beat_flags: NDArray[np.integer[Any]]
) -> tuple[Float, float]:
    """Return (beat, lead, sample) windows of the normal beats that lie whole in the excerpt, and their rate (at most 500 Hz)."""
    step = max(1, int(fs // _HIGHEST_RATE_HZ))
    before, after = round(BEFORE_S * fs / step) * step, round(AFTER_S * fs / step) * step
    chosen = r_sample[(beat_flags & _UNWANTED_BEAT) == 0]
    chosen = chosen[(chosen >= before) & (chosen + after <= signal.shape[1])]
    if not chosen.size or not signal.size:
        return np.empty((0, signal.shape[0], (before + after) // step)), fs / step
    windows = np.stack([signal[:, r - before : r + after] for r in chosen.tolist()])
    windows = windows.reshape(*windows.shape[:2], -1, step).mean(axis=3)
    return windows[np.isfinite(windows).all(axis=(1, 2))], fs / step


def _intervals(
    beats: Float, rate: float, rr_ms: float, millivolts: NDArray[np.bool_]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return QRS, QT and QTc, and the ST level of each lead: of all beats, if each half of them says the same."""
    middle = _median(beats)
    whole, halves = find_boundaries(middle, rate, millivolts), []
    for half in (beats[::2], beats[1::2]):
        halves.append(find_boundaries(_median(half), rate, millivolts))
    no_qrs = _disagreement(whole, halves, rate)
    if isinstance(whole, str) or no_qrs:
        none = {"value": None, "reason": no_qrs}
        return dict.fromkeys(("qrs_ms", "qt_ms", "qtc_fridericia_ms", "qtc_bazett_ms"), none), [none] * beats.shape[1]
    qrs_ms = (whole.offset - whole.onset) / rate * 1000
    qt = _qt(whole, [half for half in halves if not isinstance(half, str)], rate, rr_ms)
    rr_s = rr_ms / 1000
    corrected = {"qtc_fridericia_ms": 1 / 3, "qtc_bazett_ms": 1 / 2}
    qtc = {name: _stated(qt["value"] / rr_s**power, "") if qt["value"] else qt for name, power in corrected.items()}
    levels = [_stated(float(level), "", 3) for level in st_levels(middle, whole, rate)]
    return {"qrs_ms": _stated(qrs_ms, ""), "qt_ms": qt, **qtc}, levels


def _disagreement(whole: Boundaries | str, halves: Sequence[Boundaries | str], rate: float) -> str:
    """Return why the QRS boundaries are not believed, or nothing."""
    if isinstance(whole, str):
        return whole
    durations = []
    for found in (whole, *halves):
        if isinstance(found, str):
            return found
        durations.append((found.offset - found.onset) / rate * 1000)
    if not QRS_MS[0] <= durations[0] <= QRS_MS[1]:
        return f"a QRS of {durations[0]:.0f} ms is not believed: a boundary was missed"
    return "" if np.ptp(durations[1:]) <= AGREEMENT_MS else "the two halves of the beats disagree"


def _qt(whole: Boundaries, halves: Sequence[Boundaries], rate: float, rr_ms: float) -> dict[str, Any]:
    known = whole.t_end[np.isfinite(whole.t_end)]
    few = known.size < min(3, whole.t_end.size) or not all(np.isfinite(found.t_end).any() for found in halves)
    values = [0.0] if few else [float(np.nanmedian(found.t_end) - found.onset) / rate * 1000 for found in (whole, *halves)]
    spread_ms = 0.0 if few else float(np.subtract(*np.quantile(known, (0.75, 0.25)))) / rate * 1000
    is_believed = QT_MS[0] <= values[0] <= QT_MS[1] and values[0] < 0.95 * rr_ms
    doubts = (
        (not np.isfinite(rr_ms), "no RR interval is known"),
        (few, "too few leads with a T wave that ends clearly"),
        (known.size > 3 and spread_ms > _SPREAD_MS, "the leads disagree about the end of T"),
        (not is_believed, f"a QT of {values[0]:.0f} ms is not believed at this rate"),
        (float(np.ptp(values)) > 2 * AGREEMENT_MS, "the two halves of the beats disagree about the end of T"),
    )
    reason = next((words for doubted, words in doubts if doubted), "")
    return {"value": None, "reason": reason} if reason else _stated(values[0], "")


def find_boundaries(beat: Float, rate: float, millivolts: NDArray[np.bool_]) -> Boundaries | str:
    """Find QRS onset, offset and the ends of T of a median beat, or say why they cannot be found.

    Parameters
    ----------
    beat : (lead, sample) float, mV
        From ``BEFORE_S`` before R.
    rate
        Its samples a second.
    millivolts : (lead,) bool
        False where a lead is normalised: then its T is judged beside its own QRS.

    """
    half = max(1, round(_SLOPE_S * rate))
    speed = np.zeros(beat.shape[1])
    speed[half:-half] = np.sqrt(((beat[:, 2 * half :] - beat[:, : -2 * half]) ** 2).sum(axis=0))
    r = round(BEFORE_S * rate)
    near = slice(max(0, r - round(0.08 * rate)), r + round(0.08 * rate))
    peak = near.start + int(speed[near].argmax())
    highest = float(speed[peak])
    quiet = max(2, round(_QUIET_S * rate))
    smooth = np.convolve(speed, np.ones(quiet) / quiet, mode="valid")  # value k: mean of speed[k : k + quiet]
    before = float(smooth[max(half, r - round(0.25 * rate)) : max(half + 1, peak - quiet)].min())
    after = float(smooth[peak : r + round(0.20 * rate)].min())
    for floor, where in ((before, "before"), (after, "after")):
        if not highest or floor > _NOISY_SHARE * highest:
            return f"no quiet line {where} QRS"
    onset = _edge(speed[: peak + 1][::-1], before + _ACTIVE_SHARE * (highest - before), quiet)
    offset = _edge(speed[peak:], after + _ACTIVE_SHARE * (highest - after), quiet)
    if onset is None or offset is None:
        return "no quiet line beside QRS"
    # The difference reaches half a width beyond what moves.
    start, end = peak - onset + half, peak + offset - half
    return Boundaries(start, end, _t_ends(beat, start, end, rate, millivolts))


def _edge(speed: Float, threshold: float, quiet: int) -> float | None:
    """Return where speed falls below the threshold for ``quiet`` samples, between samples; None where it never does."""
    low = np.concatenate([[0], (speed < threshold).cumsum()])
    calm = np.flatnonzero(low[quiet:] - low[:-quiet] == quiet)
    if not calm.size or calm[0] == 0:
        return None
    k = int(calm[0])
    return k - 1 + float((speed[k - 1] - threshold) / (speed[k - 1] - speed[k]))


def _t_ends(beat: Float, onset: float, offset: float, rate: float, millivolts: NDArray[np.bool_]) -> Float:
    """Return where the steepest tangent behind the T wave's peak meets the level before QRS, lead by lead; NaN where unclear."""
    level = _isoelectric(beat, onset, rate)[:, None]
    height = np.abs(beat[:, int(onset) : int(offset) + 1] - level).max(axis=1)
    first, last = int(offset + 0.08 * rate), beat.shape[1] - max(2, round(0.02 * rate))
    ends = np.full(len(beat), np.nan)
    if last - first < round(0.1 * rate):
        return ends
    wave = beat[:, first:last] - level
    peak = np.abs(wave).argmax(axis=1)
    half = max(1, round(2 * _SLOPE_S * rate))
    for lead in range(len(beat)):
        smallest = SMALLEST_T_MV if millivolts[lead] else SMALLEST_T_MV * height[lead]
        top = wave[lead, peak[lead]]
        behind = wave[lead, peak[lead] :]
        if abs(top) < smallest or peak[lead] == 0 or behind.size <= 4 * half:
            continue
        slope = (behind[2 * half :] - behind[: -2 * half]) * np.sign(top) / (2 * half)
        fall = np.abs(behind) < 0.1 * abs(top)
        reach = min(int(fall.argmax()) + 1 if fall.any() else slope.size, slope.size)  # not into the next P
        steepest = int(slope[: max(1, reach)].argmin())
        if slope[steepest] < 0 and fall.any():
            at = steepest + half
            ends[lead] = first + peak[lead] + at - behind[at] * np.sign(top) / slope[steepest]
    return ends


def st_levels(beat: Float, found: Boundaries, rate: float) -> Float:
    """Return the level ``ST_AFTER_J_S`` after the J point over that before QRS, (lead,) mV; each over about 16 ms."""
    at, half = found.offset + ST_AFTER_J_S * rate, max(1, round(0.008 * rate))
    here: Float = beat[:, round(at) - half : round(at) + half + 1].mean(axis=1)
    return np.asarray(here - _isoelectric(beat, found.onset, rate))


def _isoelectric(beat: Float, onset: float, rate: float) -> Float:
    """Return the level of the 16 ms that end 4 ms before QRS, (lead,)."""
    last = max(1, round(onset - 0.004 * rate))
    level: Float = np.median(beat[:, max(0, last - round(0.016 * rate)) : last + 1], axis=1)
    return level


def _median(beats: Float) -> Float:
    """Return the median beat, (lead, sample); of an even number the mean of the middle two."""
    middle = len(beats) // 2
    ordered = np.sort(beats, axis=0)
    median: Float = ordered[middle] if len(beats) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    return median


def in_words(measured: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Return title, unit and figure of each measurement but ST, in the order of a page."""
    rows = (
        ("Rate", "/min", "heart_rate_bpm"),
        ("RR, median", "ms", "rr_ms"),
        ("RR, spread (SD)", "ms", "rr_spread_ms"),
        ("QRS duration", "ms", "qrs_ms"),
        ("QT", "ms", "qt_ms"),
        ("QTc, Fridericia", "ms", "qtc_fridericia_ms"),
        ("QTc, Bazett", "ms", "qtc_bazett_ms"),
    )
    return [(title, unit, measured[name]) for title, unit, name in rows]
