"""The median beat of every lead on a small sheet of its own, with what moved the score tinted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from ecgbatch.reports import svg
from ecgbatch.reports.ecg_paper import AGAINST, FOR
from ecgbatch.reports.grid import sheet
from ecgbatch.reports.layout import MM_PER_MV, MM_PER_S, normalising_gain, upper_median
from ecgbatch.reports.svg import UNITS_PER_MM, Float
from ecgbatch.terms import LEAD_FLAGS, MISSING_SAMPLE, UNSCORABLE_BEAT

BEATS_A_ROW = 6
GAINS = (MM_PER_MV, 5.0, 2.5)
"""mm/mV of a row: the first at which its beats are no taller than ``_TALLEST_MM``."""

_TALLEST_MM = 45.0
_MOST_BEATS = 256  # for the median beat: more change nothing that can be seen, and cost time
_LEFT_MM, _WIDTH_MM = 2.5, 40.0


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
    x_mm = (sample_time_s - sample_time_s[0]) * mm_per_s + _LEFT_MM
    beats = []
    for number, (lead, flags) in enumerate(zip(leads, lead_flags, strict=True)):
        if flags & LEAD_FLAGS["missing"] or not np.isfinite(quartiles[:, number]).all(axis=0).any():
            continue
        in_mv = is_millivolts and not flags & LEAD_FLAGS["not_millivolts"]
        cells = _evidence_cells(lead, evidence, sample_time_s, mm_per_s)
        beats.append(_Beat(lead, x_mm, _level(quartiles[:, number]), in_mv, cells))
    drawings = []
    for first in range(0, len(beats), BEATS_A_ROW):
        row = beats[first : first + BEATS_A_ROW]
        gain = next((gain for gain in GAINS if sum(_reach(row, gain)) <= _TALLEST_MM), GAINS[-1])
        above, below = (float(np.ceil(min(size, _TALLEST_MM))) for size in _reach(row, gain))
        for beat in row:
            remark = f"{gain:g} mm/mV" if beat.is_millivolts and gain != MM_PER_MV else ""
            drawings.append((beat.lead, remark, _drawn(beat, gain, above, below)))
    return drawings


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
    scorable = np.flatnonzero((beat_flags & UNSCORABLE_BEAT) == 0)
    if not scorable.size:
        return np.full((3, *waveform.shape[1:]), np.nan, np.float32)
    if scorable.size > _MOST_BEATS:
        scorable = scorable[np.linspace(0, scorable.size - 1, _MOST_BEATS).round().astype(int)]
    values = np.sort(waveform[scorable], axis=0)
    n_missing = (values == MISSING_SAMPLE).sum(axis=0)  # missing sorts first
    n_known = values.shape[0] - n_missing
    rank = np.rint(np.multiply.outer(np.array([0.25, 0.5, 0.75]), n_known - 1)).astype(int) + n_missing
    chosen = np.take_along_axis(values, np.clip(rank, 0, values.shape[0] - 1), axis=0).astype(np.float32) / np.float32(1000.0)
    return np.where(n_missing * 2 > values.shape[0], np.float32(np.nan), chosen)


def beat_speed(sample_time_s: Float) -> float:
    """Return the paper speed, in mm/s, at which windows of this span are drawn: twice the usual where they fit so."""
    return 2 * MM_PER_S if sample_time_s[-1] - sample_time_s[0] <= 0.72 else MM_PER_S


@dataclass(frozen=True)
class _Beat:
    """A lead's median beat: ``level`` (3, sample) up from its baseline; ``cells``: left, right (mm), value, share of largest."""

    lead: str
    x_mm: Float
    level: Float
    is_millivolts: bool
    cells: list[tuple[float, float, float, float]]

    def y_mm(self, mm_per_mv: float) -> Float:
        """Height of its three lines; a lead that is not in millivolts fills one height, whatever the gain."""
        return self.level * (mm_per_mv if self.is_millivolts else normalising_gain(self.level[1]))


def _level(quartiles: Float) -> Float:
    first = quartiles[1, : max(3, quartiles.shape[1] // 16)]  # before P: the usual place of the isoelectric line
    level: Float = quartiles - upper_median(first)
    return level


def _reach(row: Sequence[_Beat], mm_per_mv: float) -> tuple[float, float]:
    """Return what a row needs above and below its baseline, mm."""
    lines = [beat.y_mm(mm_per_mv) for beat in row]
    return max([8.0, *(float(np.nanmax(y)) for y in lines)]) + 1.0, max([4.0, *(-float(np.nanmin(y)) for y in lines)]) + 1.0


def _evidence_cells(
    lead: str, evidence: Mapping[str, Any] | None, sample_time_s: Float, mm_per_s: float
) -> list[tuple[float, float, float, float]]:
    """Return the segments of a lead that carry evidence, as places on its sheet."""
    if evidence is None or lead not in evidence["leads"]:
        return []
    known = [abs(value) for cells in evidence["leads"].values() for value in cells.values() if value is not None]
    largest = max(known, default=0.0) or 1.0
    first, last = float(sample_time_s[0]), float(sample_time_s[-1])
    found = []
    for name, value in evidence["leads"][lead].items():
        start, end = (min(max(bound, first), last) for bound in evidence["segments_s"].get(name, (first, first)))
        if value is not None and end > start:
            left, right = ((bound - first) * mm_per_s + _LEFT_MM for bound in (start, end))
            found.append((left, right, value, abs(value) / largest))
    return found


def _drawn(beat: _Beat, mm_per_mv: float, above_mm: float, below_mm: float) -> Markup:
    height, foot = above_mm + below_mm, 3.6 if beat.cells else 0.0
    parts = [sheet(0.0, 0.0, _WIDTH_MM, height, is_millivolts=beat.is_millivolts)]
    for left, right, value, share in beat.cells:
        colour = FOR if value > 0 else AGAINST
        parts.append(svg.rectangle(left, 0.0, right - left, height + foot, colour, opacity=0.45 * share))
        if right - left >= 4.5:
            parts.append(svg.text((left + right) / 2, height + 2.7, f"{value:+.2f}", 2.1, anchor="middle"))
    y_mm = beat.y_mm(mm_per_mv)
    known = np.isfinite(y_mm).all(axis=0)
    x = beat.x_mm[known] * UNITS_PER_MM
    low, middle, high = ((above_mm - line[known]) * UNITS_PER_MM for line in y_mm)
    parts.append(f'<path class="band" d="{svg.band(x, low, high)}"/><path class="median" d="{svg.path(x, middle)}"/>')
    return svg.drawing(_WIDTH_MM, height + foot, parts, f"median beat of lead {beat.lead}")
