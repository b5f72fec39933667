"""The median beat of every lead on a small sheet of its own, with what moved the score tinted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from ecgbatch.reports import svg
from ecgbatch.reports.ecg_paper import AGAINST, FOR
from ecgbatch.reports.grid import sheet
from ecgbatch.reports.layout import MM_PER_MV, MM_PER_S, normalising_gain
from ecgbatch.reports.svg import UNITS_PER_MM, Float, units
from ecgbatch.terms import LEAD_FLAGS, MISSING_SAMPLE, UNSCORABLE_BEAT

BEATS_A_ROW = 6
GAINS = (MM_PER_MV, 5.0, 2.5)
"""mm/mV of a row: the first at which its beats are no taller than ``_TALLEST_MM``."""

_TALLEST_MM = 45.0
_MOST_BEATS = 256  # for the median beat: more change nothing that can be seen, and cost time
_LEFT_MM, _WIDTH_MM = 2.5, 40.0
_RANKS = np.array([0.25, 0.5, 0.75])


def median_beats(
    quartiles: Float,
    leads: Sequence[str],
    lead_flags: Sequence[int],
    sample_time_s: Float,
    *,
    is_millivolts: bool = True,
    evidence: Mapping[str, Any] | None = None,
) -> list[tuple[str, str, Markup]]:
    """Draw the median beat of every lead that has one, one small sheet each, with the middle half of its beats as a band.

    Parameters
    ----------
    quartiles : (3, lead, sample) float, mV
        Lower quartile, median and upper quartile over the scored beats, sample by sample; NaN where unknown.
    leads, lead_flags
        Name and ``terms.LEAD_FLAGS`` mask of each lead.
    sample_time_s : (sample,) float, s
        Time from the R peak.
    is_millivolts
        False where the beats themselves were normalised (the kachuee method).
    evidence
        As the record's JSON has it: each segment of the leads it names is tinted and its number written below.

    Returns
    -------
    list of (lead name, remark, drawing)
        At ``beat_speed``. Six leads in a row share height and gain: 10 mm/mV, or what the remark says where waves are taller.

    """
    mm_per_s = beat_speed(sample_time_s)
    kept = [
        number
        for number, (flags, is_known) in enumerate(zip(lead_flags, _are_known(quartiles).tolist(), strict=True))
        if is_known and not flags & LEAD_FLAGS["missing"]
    ]
    level = _levels(quartiles[:, kept])
    in_mv = [is_millivolts and not lead_flags[number] & LEAD_FLAGS["not_millivolts"] for number in kept]
    gains, reach = _gains(level, in_mv)
    y_units = (reach[:, :1, None] - level * gains[:, None, None].astype(level.dtype)).astype(level.dtype) * UNITS_PER_MM
    lines = _lines(((sample_time_s - sample_time_s[0]) * mm_per_s + _LEFT_MM) * UNITS_PER_MM, y_units)
    places, largest = _segments(evidence, sample_time_s, mm_per_s)
    drawings = []
    for place, number in enumerate(kept):
        cells = _cells(leads[number], evidence, places, largest)
        own = reach[place].tolist()
        gain = float(gains[place])
        remark = f"{gain:g} mm/mV" if in_mv[place] and gain != MM_PER_MV else ""
        drawings.append((leads[number], remark, _drawn(leads[number], own, cells, lines[place], is_millivolts=in_mv[place])))
    return drawings


def _are_known(quartiles: Float) -> NDArray[np.bool_]:
    """Return which leads have a sample of which all three lines are known, (lead,)."""
    return np.asarray(np.any(np.all(np.isfinite(quartiles), axis=0), axis=1))


def beat_quartiles(waveform: np.ndarray, beat_flags: np.ndarray) -> np.ndarray:
    """Return lower quartile, median and upper quartile over the scorable beats, sample by sample.

    Parameters
    ----------
    waveform : (beat, lead, sample) int16, 1 uV a step
        All beats of one record; ``terms.MISSING_SAMPLE`` is missing. Of more than 256 scorable beats, 256 evenly spread count.
    beat_flags : (beat,) uint16
        ``terms.BEAT_FLAGS``; beats with a bit of ``terms.UNSCORABLE_BEAT`` do not count.

    Returns
    -------
    (3, lead, sample) float32, mV
        NaN throughout without a scorable beat, and where a lead misses a sample in more than half of them.

    """
    from ecgbatch.reports.path_kernels import quartiles_of

    scorable = np.flatnonzero((beat_flags & UNSCORABLE_BEAT) == 0)
    found = np.full((3, *waveform.shape[1:]), np.nan, np.float32)
    if scorable.size > _MOST_BEATS:
        scorable = scorable[np.linspace(0, scorable.size - 1, _MOST_BEATS).round().astype(int)]
    quartiles_of(np.ascontiguousarray(waveform), scorable, _RANKS, MISSING_SAMPLE, found)
    found /= np.float32(1000.0)
    return found


def beat_speed(sample_time_s: Float) -> float:
    """Return the paper speed, in mm/s, at which windows of this span are drawn: twice the usual where they fit so."""
    return 2 * MM_PER_S if sample_time_s[-1] - sample_time_s[0] <= 0.72 else MM_PER_S


def _levels(quartiles: Float) -> Float:
    """Return lines up from their baselines, (lead, 3, sample): what is usual before P, the place of the isoelectric line."""
    first = np.sort(quartiles[1, :, : max(3, quartiles.shape[2] // 16)], axis=1)  # unknown sorts last
    n_known = np.isfinite(first).sum(axis=1)
    middle = np.take_along_axis(first, np.minimum(n_known // 2, first.shape[1] - 1)[:, None], axis=1)
    return np.ascontiguousarray((quartiles - middle).transpose(1, 0, 2))


def _gains(level: Float, in_mv: Sequence[bool]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mm/mV of each lead, (lead,), and what its row needs above and below its baseline, (lead, 2), mm.

    A lead that is not in millivolts fills one height, whatever its row's gain.
    """
    gains, reach = np.empty(len(in_mv)), np.empty((len(in_mv), 2))
    own = [1.0 if one else normalising_gain(line[1]) for one, line in zip(in_mv, level, strict=True)]
    highest, lowest = np.fmax.reduce(level, axis=(1, 2)), np.fmin.reduce(level, axis=(1, 2))
    for first in range(0, len(in_mv), BEATS_A_ROW):
        row = slice(first, first + BEATS_A_ROW)
        for gain in GAINS:
            gains[row] = [gain if one else normal for one, normal in zip(in_mv[row], own[row], strict=True)]
            scale = gains[row].astype(level.dtype)
            above = max(8.0, float(np.fmax.reduce(highest[row] * scale))) + 1.0
            below = max(4.0, -float(np.fmin.reduce(lowest[row] * scale))) + 1.0
            if above + below <= _TALLEST_MM:
                break
        reach[row] = np.ceil(min(above, _TALLEST_MM)), np.ceil(min(below, _TALLEST_MM))
    return gains, reach


def _lines(x: Float, y: Float) -> list[tuple[str, str]]:
    """Return paths of each lead's band and median, ``y`` (lead, 3, sample) in units; samples that are not known are left out."""
    y = np.where(np.all(np.isfinite(y), axis=1, keepdims=True), y, np.nan)
    n_leads, _, n_samples = y.shape
    middle, edges = y[:, 1], y[:, 2::-2]
    bands = svg.paths(*_points(x, edges), range(0, 2 * n_leads * n_samples + 1, n_samples), svg.AREAS)
    return list(zip(bands, svg.paths(*_points(x, middle), range(0, n_leads * n_samples + 1, n_samples), svg.JOINED), strict=True))


def _points(x: Float, y: Float) -> tuple[Float, Float]:
    """Return the points of lines (..., sample) that have ``x`` alike."""
    return np.broadcast_to(x, y.shape).ravel(), y.ravel()


Cells = list[tuple[float, float, float, float]]
"""Segments of a lead: left, right (mm), value, share of the largest."""


def _segments(
    evidence: Mapping[str, Any] | None, sample_time_s: Float, mm_per_s: float
) -> tuple[dict[str, tuple[float, float]], float]:
    """Return left and right of each segment on a sheet, mm, and the largest evidence of any lead."""
    if evidence is None:
        return {}, 1.0
    first, last = float(sample_time_s[0]), float(sample_time_s[-1])
    places = {}
    for name, bounds in evidence["segments_s"].items():
        left, right = ((min(max(bound, first), last) - first) * mm_per_s + _LEFT_MM for bound in bounds)
        if right > left:
            places[name] = (left, right)
    known = [abs(value) for cells in evidence["leads"].values() for value in cells.values() if value is not None]
    return places, max(known, default=0.0) or 1.0


def _cells(lead: str, evidence: Mapping[str, Any] | None, places: Mapping[str, tuple[float, float]], largest: float) -> Cells:
    """Return the segments of a lead that carry evidence, as places on its sheet."""
    own = evidence["leads"].get(lead, {}) if evidence else {}
    return [(*places[name], value, abs(value) / largest) for name, value in own.items() if value is not None and name in places]


def _drawn(lead: str, reach: Sequence[float], cells: Cells, lines: tuple[str, str], *, is_millivolts: bool) -> Markup:
    height, foot = sum(reach), 3.6 if cells else 0.0
    head, tail = _frame(lead, height, foot, is_millivolts=is_millivolts)
    tints = "".join(
        [
            _tint(left, right, height, foot) % (FOR if value > 0 else AGAINST, 0.45 * share, value)[: 2 + (right - left >= 4.5)]
            for left, right, value, share in cells
        ]
    )
    lines_drawn = f'<path class="band" d="{lines[0]}"/><path class="median" d="{lines[1]}"/>'
    return Markup(f"{head}{tints}{lines_drawn}{tail}")  # noqa: S704 - numbers, and what ``svg`` has escaped


@lru_cache(maxsize=4096)
def _frame(lead: str, height: float, foot: float, *, is_millivolts: bool) -> tuple[str, str]:
    """Return the drawing of a lead before and after what is particular to a record."""
    paper = sheet(0.0, 0.0, _WIDTH_MM, height, is_millivolts=is_millivolts)
    whole = str(svg.drawing(_WIDTH_MM, height + foot, [paper, "\n"], f"median beat of lead {lead}"))
    head, _, tail = whole.partition("\n")
    return head, tail


@lru_cache(maxsize=4096)
def _tint(left: float, right: float, height: float, foot: float) -> str:
    """Return a segment's tint, to be filled with colour and opacity, and where there is room for it its number."""
    size = f'width="{units(right - left)}" height="{units(height + foot)}"'
    tint = f'<rect x="{units(left)}" y="0" {size} fill="%s" fill-opacity="%.2f"/>'
    if right - left < 4.5:
        return tint
    return tint + svg.text((left + right) / 2, height + 2.7, "%+.2f", 2.1, anchor="middle")
