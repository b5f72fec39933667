"""An excerpt laid out on its sheet: which lead stands where, at which gain, and how far rows must be apart."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from ecgbatch.measurements.excerpt import EXCERPT_S
from ecgbatch.reports.excerpts import Excerpt
from ecgbatch.reports.svg import UNITS_PER_MM, Float, thinned
from ecgbatch.terms import LEAD_FLAGS

MM_PER_S = 25.0
"""Paper speed of the routine 12-lead ECG (AHA/ACCF/HRS 2007, part I)."""
MM_PER_MV = 10.0
"""Standard gain of the routine 12-lead ECG (AHA/ACCF/HRS 2007, part I)."""
GAINS = ((10.0, 10.0), (10.0, 5.0), (10.0, 2.5), (5.0, 5.0))
"""Of limb and chest leads, mm/mV: the first at which no wave runs into the next row; carts halve the chest leads first."""
COLUMNS = (("I", "II", "III"), ("aVR", "aVL", "aVF"), ("V1", "V2", "V3"), ("V4", "V5", "V6"))

LEFT_MM, RIGHT_MM, FOOT_MM = 10.0, 5.0, 8.0
SHEET_WIDTH_MM = LEFT_MM + EXCERPT_S * MM_PER_S + RIGHT_MM
SHARED_MM, OWN_MM = 128.0, 168.0
"""Height of the rows that A4 landscape leaves below identity, quality and decision, and on a page of their own."""
MARKS_MM = 8.0
"""Above the rhythm strip: triangles and figures of the R peaks."""
LABEL_MM = 12.0
"""Height of a lead's name above the baseline, unless a wave stands there."""

_USUAL_ROW_MM = 26.0  # between baselines; carts: 25 to 30
_LEAST_ROW_MM = 20.0  # where waves overlap
_TALLEST_MM = 60.0  # above the first baseline, and below the last, where nothing helps
_CLEAR_MM = 1.0  # between the waves of neighbouring rows
_NORMALISED_SPAN_MM = 15.0


@dataclass(frozen=True)
class Panel:
    """One lead in one place of the sheet: ``y_mm`` is up from its baseline; no samples where the lead is absent."""

    lead: str
    left_mm: float
    width_mm: float
    x_mm: Float
    y_mm: Float
    is_millivolts: bool
    mm_per_mv: float
    is_strip: bool
    """Whether it is a row of its own: then its name stands in the margin, where no wave is."""
    note: str = ""

    @property
    def remark(self) -> str:
        """What is particular about it, to stand by its name: why there is no trace, another scale than the sheet's usual one."""
        is_usual = self.mm_per_mv == MM_PER_MV or not self.is_millivolts or not self.y_mm.size
        return self.note or ("" if is_usual else f"{self.mm_per_mv:g} mm/mV")

    @cached_property
    def label_mm(self) -> float:
        """Height of the lead's name above the baseline: over the waves below it."""
        if self.is_strip or not self.y_mm.size:
            return LABEL_MM
        words_mm = max(2.6 * len(self.lead), 1.3 * len(self.remark))
        return max(LABEL_MM, _highest(self.y_mm[self.x_mm < self.left_mm + 2.0 + words_mm]) + (4.0 if self.remark else 1.5))

    @cached_property
    def above_mm(self) -> float:
        """What it needs above its baseline: waves, name and, in the margin, the pulse."""
        name = (self.mm_per_mv if self.is_strip else self.label_mm) + (5.0 if self.is_strip else 3.5)
        return max(name, _highest(self.y_mm) + _CLEAR_MM)

    @cached_property
    def below_mm(self) -> float:
        """What it needs below its baseline."""
        return max(4.0, _highest(-self.y_mm) + _CLEAR_MM)


@dataclass(frozen=True)
class Strip:
    """One row of the sheet: its panels, its height, and the distance of the baseline from its top, in mm."""

    panels: list[Panel]
    height_mm: float
    above_mm: float
    is_rhythm: bool
    """Whether its R peaks are marked."""


@dataclass(frozen=True)
class Sheet:
    """Rows from top to bottom; gains of limb and chest leads; whether no wave reaches into the next row, none is cut off."""

    rows: list[Strip]
    limb_mm_per_mv: float
    chest_mm_per_mv: float
    is_apart: bool
    is_whole: bool

    @property
    def height_mm(self) -> float:
        """Of all rows."""
        return sum(row.height_mm for row in self.rows)

    @property
    def is_tall(self) -> bool:
        """Whether it needs a printed page of its own, because its waves are tall or its leads laid out as strips."""
        return self.height_mm > SHARED_MM

    @property
    def rhythm_lead(self) -> str:
        """Lead whose R peaks are marked; empty where there is none."""
        return next((row.panels[0].lead for row in self.rows if row.is_rhythm), "")


def lay_out(excerpt: Excerpt, *, most_mm: Sequence[float] = (SHARED_MM, OWN_MM)) -> Sheet:
    """Lay an excerpt out on a sheet ``SHEET_WIDTH_MM`` wide.

    Rows are as far apart as their waves need, column by column. The first of ``GAINS`` at which the rows fit into one of the
    heights of ``most_mm`` is taken; where none does (a wandering baseline, a spike), rows reach into each other, as they do on a
    cart's paper, at the first gain at which no wave is cut off. Of more strips than twelve, the first are drawn.
    """
    close = []
    for limb, chest in GAINS:
        rows = _rows(excerpt, limb, chest)
        for limit in most_mm:
            sheet = _sheet(rows, excerpt.rhythm_lead, limb, chest, limit)
            if sheet.is_apart:
                return sheet
        close.append(sheet)
    return next((sheet for sheet in close if sheet.is_whole), close[-1])


def traces(panel: Panel) -> list[tuple[Float, Float]]:
    """Return the pieces of a panel's trace between missing samples, thinned: x from the sheet's left, y up, in mm."""
    known = np.flatnonzero(np.isfinite(panel.y_mm))
    pieces = np.split(known, np.flatnonzero(np.diff(known) > 1) + 1) if known.size else []
    found: list[tuple[Float, Float]] = []
    for piece in pieces:
        x, y = thinned(panel.x_mm[piece] * UNITS_PER_MM, panel.y_mm[piece] * UNITS_PER_MM)
        found.append((x / UNITS_PER_MM, y / UNITS_PER_MM))
    return found


def is_chest_lead(lead: str) -> bool:
    """Whether a lead is one of V1 to V9 or its mirror on the right: carts give these a gain of their own."""
    return bool(re.fullmatch(r"V[1-9]R?", lead))


def normalising_gain(values: Float, span_mm: float = _NORMALISED_SPAN_MM) -> float:
    """Return the factor that makes a lead's own range (0.5th to 99.5th percentile) one fixed height on paper."""
    known = values[np.isfinite(values)]
    if not known.size:
        return 0.0
    first = round(0.005 * (known.size - 1))
    ordered = np.partition(known, (first, known.size - 1 - first))  # a tenth of the time of numpy.nanpercentile
    low, high = ordered[first], ordered[known.size - 1 - first]
    return float(span_mm / (high - low)) if high > low else 0.0


def upper_median(values: Float) -> float:
    """Return the upper median of the known values; a tenth of the time of ``numpy.nanmedian``."""
    known = values[np.isfinite(values)]
    return float(np.partition(known, known.size // 2)[known.size // 2]) if known.size else float("nan")


def _rows(excerpt: Excerpt, limb: float, chest: float) -> list[list[Panel]]:
    """Return the panels row by row: three rows of four, each a quarter of the time, and the rhythm strip; or a strip a lead."""
    length_s = min(EXCERPT_S, excerpt.length_s)

    def panel(lead: str, first_s: float, last_s: float) -> Panel:
        return _panel(excerpt, lead, (first_s, last_s), chest if is_chest_lead(lead) else limb)

    if not excerpt.is_standard:
        return [[panel(lead, 0.0, length_s)] for lead in excerpt.present[:12]]
    quarter_s = length_s / 4
    rows = [[panel(leads[row], k * quarter_s, (k + 1) * quarter_s) for k, leads in enumerate(COLUMNS)] for row in range(3)]
    return rows + ([[panel(excerpt.rhythm_lead, 0.0, length_s)]] if excerpt.rhythm_lead else [])


def _panel(excerpt: Excerpt, lead: str, span_s: tuple[float, float], gain: float) -> Panel:
    fs, is_strip = excerpt.sampling_frequency_hz, span_s[0] == 0.0 and span_s[1] >= min(EXCERPT_S, excerpt.length_s)
    left_mm, width_mm, nothing = LEFT_MM + span_s[0] * MM_PER_S, (span_s[1] - span_s[0]) * MM_PER_S, np.empty(0)
    if lead not in excerpt.present:
        return Panel(lead, left_mm, width_mm, nothing, nothing, excerpt.is_millivolts, gain, is_strip, "absent")
    number = excerpt.leads.index(lead)
    first, last = round(span_s[0] * fs), round(span_s[1] * fs)
    whole = np.asarray(excerpt.signal[number], float)
    part = whole[first:last]
    in_mv = not excerpt.lead_flags[number] & LEAD_FLAGS["not_millivolts"]
    note = "" if in_mv or _all_normalised(excerpt) else "amplitude normalised"
    if not np.isfinite(part).any():
        return Panel(lead, left_mm, width_mm, nothing, nothing, in_mv, gain, is_strip, note or "no samples here")
    y_mm = (part - upper_median(part)) * (gain if in_mv else normalising_gain(whole))
    x_mm = LEFT_MM + np.arange(first, first + part.size) * (MM_PER_S / fs)
    return Panel(lead, left_mm, width_mm, x_mm, y_mm, in_mv, gain, is_strip, note)


def _all_normalised(excerpt: Excerpt) -> bool:
    """Whether no lead is in millivolts: then the sheet says so once, and not each lead."""
    present = [flags for flags in excerpt.lead_flags if not flags & LEAD_FLAGS["missing"]]
    return all(flags & LEAD_FLAGS["not_millivolts"] for flags in present)


def _sheet(rows: list[list[Panel]], rhythm_lead: str, limb: float, chest: float, most_mm: float) -> Sheet:
    """Return rows of one gain in one height, apart where they fit into it, else reaching into each other."""
    rhythm = max((place for place, row in enumerate(rows) if row[0].lead == rhythm_lead and row[0].is_strip), default=-1)
    marks = [MARKS_MM if place == rhythm else 0.0 for place in range(len(rows))]
    above = [max(panel.above_mm for panel in row) + extra for row, extra in zip(rows, marks, strict=True)]
    below = [max(panel.below_mm for panel in row) for row in rows]
    apart = [_distance(upper, lower) + extra for (upper, lower), extra in zip(pairwise(rows), marks[1:], strict=True)]
    usual = min(_USUAL_ROW_MM, most_mm / max(len(rows), 1))
    apart = [float(np.ceil(max(distance, usual))) for distance in apart]
    first, last = _edges(above, below, apart)
    is_apart = first + sum(apart) + last <= most_mm
    while first + sum(apart) + last > most_mm and max(apart, default=0.0) > min(_LEAST_ROW_MM, usual):
        apart[apart.index(max(apart))] -= 1.0
        first, last = _edges(above, below, apart)
    is_whole = first + sum(apart) + last <= most_mm
    if not is_whole:
        first, last = min(first, _TALLEST_MM), min(last, _TALLEST_MM)
    tops = [first, *(min(size, distance) for size, distance in zip(above[1:], apart, strict=True))]
    heights = [top + distance - after for top, distance, after in zip(tops, [*apart, last], [*tops[1:], 0.0], strict=True)]
    strips = [Strip(row, heights[k], tops[k], k == rhythm) for k, row in enumerate(rows)]
    return Sheet(strips, limb, chest, is_apart, is_whole)


def _edges(above: list[float], below: list[float], apart: list[float]) -> tuple[float, float]:
    """Return what is needed above the first baseline and below the last so that the sheet cuts no row's waves off."""
    depth = np.concatenate([[0.0], np.cumsum(apart)])[: len(above)]
    if not depth.size:
        return 0.0, 0.0
    return float(np.ceil(max(above - depth))), float(np.ceil(max(np.array(below) - (depth[-1] - depth))))


def _distance(upper: list[Panel], lower: list[Panel]) -> float:
    """Return how far two baselines must be apart so that no wave meets another, in any column that both rows have."""
    needed = 0.0
    for above in upper:
        for below in lower:
            if above.left_mm < below.left_mm + below.width_mm and below.left_mm < above.left_mm + above.width_mm:
                needed = max(needed, above.below_mm + below.above_mm)
    return needed


def _highest(values: Float) -> float:
    known = values[np.isfinite(values)]
    return float(known.max()) if known.size else 0.0
