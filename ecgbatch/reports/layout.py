"""An excerpt laid out on its sheet: which lead stands where, at which gain, and how far rows must be apart."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

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


class Panel(NamedTuple):
    """One lead in one place of the sheet; without samples where the lead is absent, or has none there.

    ``samples`` (sample,) mV is what it shows of the lead, from the sample ``first`` of the excerpt on, of which ``level`` (mV)
    stands on its baseline. ``gain``: mm to the mV as it is drawn, which for a lead that is not in millivolts is not
    ``mm_per_mv``. ``all_x_mm`` (sample of the excerpt,): all leads' alike.
    """

    lead: str
    left_mm: float
    width_mm: float
    is_millivolts: bool
    mm_per_mv: float
    is_strip: bool
    """Whether it is a row of its own: then its name stands in the margin, where no wave is."""
    remark: str
    """What is particular about it, to stand by its name: why there is no trace, another scale than the sheet's usual one."""
    is_absent: bool
    samples: Float
    first: int
    level: float
    gain: float
    all_x_mm: Float
    label_mm: float
    """Height of the lead's name above the baseline: over the waves below it."""
    above_mm: float
    """What it needs above its baseline: waves, name and, in the margin, the pulse."""
    below_mm: float
    """What it needs below its baseline."""

    @property
    def x_mm(self) -> Float:
        """From the sheet's left, (sample,)."""
        return self.all_x_mm[self.first : self.first + self.samples.size]

    @property
    def y_mm(self) -> Float:
        """Up from its baseline, (sample,)."""
        return (np.asarray(self.samples, float) - self.level) * self.gain


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
    close, plan = [], _plan_of(excerpt.leads, excerpt.lead_flags, excerpt.sampling_frequency_hz, excerpt.signal.shape[1])
    facts = _facts(excerpt, plan)
    for limb, chest in GAINS:
        panels = [_panel(excerpt, plan, place, own, (limb, chest)) for place, own in zip(plan.places, facts, strict=True)]
        rows = [panels[first:last] for first, last in pairwise(plan.row_starts)]
        for limit in most_mm:
            sheet = _sheet(rows, plan.rhythm_lead, limb, chest, limit)
            if sheet.is_apart:
                return sheet
        close.append(sheet)
    return next((sheet for sheet in close if sheet.is_whole), close[-1])


def traces(panel: Panel) -> list[tuple[Float, Float]]:
    """Return the pieces of a panel's trace between missing samples, thinned: x from the sheet's left, y up, in mm."""
    all_x_mm, all_y_mm = panel.x_mm, panel.y_mm
    known = np.flatnonzero(np.isfinite(all_y_mm))
    pieces = np.split(known, np.flatnonzero(np.diff(known) > 1) + 1) if known.size else []
    found: list[tuple[Float, Float]] = []
    for piece in pieces:
        x, y = thinned(all_x_mm[piece] * UNITS_PER_MM, all_y_mm[piece] * UNITS_PER_MM)
        found.append((x / UNITS_PER_MM, y / UNITS_PER_MM))
    return found


@cache
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


class _Place(NamedTuple):
    """Where on the sheet which part of a lead stands, whatever its gain; ``number`` of the lead, -1 where it is absent."""

    lead: str
    left_mm: float
    width_mm: float
    is_strip: bool
    number: int
    first: int
    last: int


class _Plan(NamedTuple):
    """What is alike for all excerpts of the same leads and length: places, row by row, and where each row begins."""

    places: list[_Place]
    row_starts: list[int]
    rhythm_lead: str
    all_x_mm: Float
    mm_per_sample: float
    is_millivolts: bool
    all_normalised: bool


@lru_cache(maxsize=256)
def _plan_of(leads: tuple[str, ...], lead_flags: tuple[int, ...], fs: float, n_samples: int) -> _Plan:
    """Plan three rows of four, each a quarter of the time, and the rhythm strip; or a strip a lead."""
    excerpt = Excerpt(np.empty((len(leads), n_samples), np.float32), leads, lead_flags, 0.0, fs)
    length_s, present, rhythm = min(EXCERPT_S, excerpt.length_s), excerpt.present, excerpt.rhythm_lead
    if excerpt.is_standard:
        quarter_s = length_s / 4
        rows = [[(leads[row], (k * quarter_s, (k + 1) * quarter_s)) for k, leads in enumerate(COLUMNS)] for row in range(3)]
        rows += [[(rhythm, (0.0, length_s))]] if rhythm else []
    else:
        rows = [[(lead, (0.0, length_s))] for lead in present[:12]]
    places = [
        _Place(
            lead,
            LEFT_MM + start_s * MM_PER_S,
            (end_s - start_s) * MM_PER_S,
            start_s == 0.0 and end_s >= length_s,
            leads.index(lead) if lead in present else -1,
            *(min(round(bound * fs), n_samples) for bound in (start_s, end_s)),
        )
        for row in rows
        for lead, (start_s, end_s) in row
    ]
    starts = [0, *accumulate(len(row) for row in rows)]
    all_x_mm = LEFT_MM + np.arange(n_samples) * (MM_PER_S / fs)
    return _Plan(places, starts, rhythm, all_x_mm, MM_PER_S / fs, excerpt.is_millivolts, _all_normalised(excerpt))


_UNKNOWN = (math.nan,) * 3


def _facts(excerpt: Excerpt, plan: _Plan) -> list[Sequence[float]]:
    """Return of each place what stands on the baseline, the highest and the lowest known sample, mV; NaN where none is known."""
    from ecgbatch.reports.path_kernels import spans_of

    there = [place for place in plan.places if place.number >= 0]
    if not there:
        return [_UNKNOWN] * len(plan.places)
    found = np.empty((len(there), 3))
    number, span = (np.array(part, np.int64) for part in ([one.number for one in there], [one[-2:] for one in there]))
    spans_of(samples_of(excerpt), number, span, found)
    facts = iter(found.tolist())
    return [next(facts) if place.number >= 0 else _UNKNOWN for place in plan.places]


def samples_of(excerpt: Excerpt) -> NDArray[np.float32]:
    """Return an excerpt's samples as kernels take them."""
    return np.ascontiguousarray(excerpt.signal, np.float32)


def _panel(excerpt: Excerpt, plan: _Plan, place: _Place, facts: Sequence[float], gains: tuple[float, float]) -> Panel:
    """Put a lead in its place at the gains of limb and chest leads."""
    mm_per_mv = gains[is_chest_lead(place.lead)]
    level, highest, lowest = facts
    is_absent, is_empty = place.number < 0, math.isnan(level)
    in_mv = plan.is_millivolts if is_absent else not excerpt.lead_flags[place.number] & LEAD_FLAGS["not_millivolts"]
    remark = "" if in_mv or is_absent or plan.all_normalised else "amplitude normalised"
    if is_empty:
        remark = "absent" if is_absent else remark or "no samples here"
        name_mm = (mm_per_mv if place.is_strip else LABEL_MM) + (5.0 if place.is_strip else 3.5)
        return Panel(
            *place[:3], in_mv, mm_per_mv, place.is_strip, remark, is_absent,
            np.empty(0), 0, 0.0, 0.0, plan.all_x_mm, LABEL_MM, name_mm, 4.0,
        )  # fmt: skip
    if in_mv and mm_per_mv != MM_PER_MV:
        remark = remark or f"{mm_per_mv:g} mm/mV"
    samples = excerpt.signal[place.number, place.first : place.last]
    gain = mm_per_mv if in_mv else normalising_gain(np.asarray(excerpt.signal[place.number], float))
    top_mm = (highest - level) * gain
    label_mm = LABEL_MM
    if not place.is_strip and top_mm + 4.0 > LABEL_MM:
        right_mm = place.left_mm + 2.0 + max(2.6 * len(place.lead), 1.3 * len(remark))
        below = samples[: max(0, math.ceil((right_mm - LEFT_MM) / plan.mm_per_sample) - place.first)]
        wave_mm = (float(np.fmax.reduce(below)) - level) * gain if below.size else 0.0
        label_mm = max(LABEL_MM, (0.0 if math.isnan(wave_mm) else wave_mm) + (4.0 if remark else 1.5))
    name_mm = mm_per_mv + 5.0 if place.is_strip else label_mm + 3.5
    above_mm, below_mm = max(name_mm, top_mm + _CLEAR_MM), max(4.0, (level - lowest) * gain + _CLEAR_MM)
    return Panel(
        *place[:3], in_mv, mm_per_mv, place.is_strip, remark, is_absent,
        samples, place.first, level, gain, plan.all_x_mm, label_mm, above_mm, below_mm,
    )  # fmt: skip


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
    apart = [float(math.ceil(max(distance, usual))) for distance in apart]
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
    depth = [0.0, *accumulate(apart)][: len(above)]
    if not depth:
        return 0.0, 0.0
    first = max(size - down for size, down in zip(above, depth, strict=True))
    return float(math.ceil(first)), float(
        math.ceil(max(size - (depth[-1] - down) for size, down in zip(below, depth, strict=True)))
    )


def _distance(upper: list[Panel], lower: list[Panel]) -> float:
    """Return how far two baselines must be apart so that no wave meets another, in any column that both rows have."""
    return max(
        (
            above.below_mm + below.above_mm
            for above in upper
            for below in lower
            if above.left_mm < below.left_mm + below.width_mm and below.left_mm < above.left_mm + above.width_mm
        ),
        default=0.0,
    )
