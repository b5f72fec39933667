"""ECG on paper: inline SVG that prints true to scale, without a script, a style sheet or a font file.

Coordinates are integers, 40 to the millimetre: at 25 mm/s one unit is 1 ms, at 10 mm/mV one unit is 2.5 uV.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from ecgbatch.measurements.excerpt import EXCERPT_S
from ecgbatch.terms import LEAD_FLAGS, LEADS, UNUSABLE_LEAD

UNITS_PER_MM = 40
MM_PER_S = 25.0
"""Paper speed of the routine 12-lead ECG (AHA/ACCF/HRS 2007, part I)."""
MM_PER_MV = 10.0
"""Standard gain of the routine 12-lead ECG (AHA/ACCF/HRS 2007, part I)."""
COLUMNS = (("I", "II", "III"), ("aVR", "aVL", "aVF"), ("V1", "V2", "V3"), ("V4", "V5", "V6"))

_LEFT_MM, _RIGHT_MM, _FOOT_MM = 10.0, 5.0, 8.0
SHEET_WIDTH_MM = _LEFT_MM + EXCERPT_S * MM_PER_S + _RIGHT_MM
_ROWS_MM = 118.0  # what A4 landscape leaves for the traces below identity, quality and decision
_TALL_ROWS_MM = 150.0  # and on a page of their own
_OVERLAP_MM = (
    42.0  # rows may reach so far into each other, all together: carts print rows 25 to 30 mm apart, whatever the heights
)
_LEAST_MM = 5.0  # between a row's baseline and its neighbour's place
_GRID_MM = (270, 170)  # the largest drawing
_NORMALISED_SPAN_MM = 15.0
_THIN_MM = 0.05  # a fifth of the line's width, half a dot of a 300 dpi printer: thinning by this cannot be seen
_LARGEST_SMALL = 4000

_FOR, _AGAINST = "#8a1c1c", "#15599c"  # for infarction, against it

Float = NDArray[np.floating]


@dataclass(frozen=True)
class Excerpt:
    """Up to ten seconds of a record.

    Parameters
    ----------
    signal : (lead, sample) float32, mV; NaN where a sample is missing
        For a lead flagged ``not_millivolts`` only the shape counts.
    leads, lead_flags
        Name and ``terms.LEAD_FLAGS`` mask of each lead.
    start_s
        Time of the first sample from the record's start, in seconds.
    sampling_frequency_hz
        Samples a second.

    """

    signal: Float
    leads: tuple[str, ...]
    lead_flags: tuple[int, ...]
    start_s: float
    sampling_frequency_hz: float

    @property
    def present(self) -> list[str]:
        """Names of the leads that the record has."""
        return [lead for lead, flags in zip(self.leads, self.lead_flags, strict=True) if not flags & LEAD_FLAGS["missing"]]

    @property
    def rhythm_lead(self) -> str:
        """Lead of the rhythm strip: II, or the first usable lead; empty where there is none."""
        usable = [lead for lead, flags in zip(self.leads, self.lead_flags, strict=True) if not flags & UNUSABLE_LEAD]
        return "II" if "II" in usable else (usable[0] if usable else "")

    @property
    def is_standard(self) -> bool:
        """Whether it is laid out as 3 x 4 and a rhythm strip; with fewer than six of the twelve leads each gets a strip."""
        return sum(lead in LEADS[:12] for lead in self.present) >= 6

    @property
    def is_millivolts(self) -> bool:
        """Whether every lead of the record is in millivolts."""
        return not any(flags & LEAD_FLAGS["not_millivolts"] for flags in self.lead_flags)


def ecg_paper(
    excerpt: Excerpt,
    beat_time_s: Float,
    beat_probability: Float,
    *,
    threshold: float | None = None,
    rows: Sequence[Strip] | None = None,
) -> Markup:
    """Draw an excerpt on ECG paper: 25 mm/s, 10 mm/mV, grid of 1 mm and 5 mm, calibration pulse.

    Parameters
    ----------
    excerpt
        What to draw. Twelve leads: 3 x 4 of 2.5 s, then a rhythm strip; otherwise a strip for each lead. Every trace is
        moved to its own median, none is filtered. Leads that are missing are shown as absent; leads that are not in
        millivolts are scaled to one height, on paper that has lines for time only, without a calibration pulse.
    beat_time_s : (beat,) float, s from the record's start
        R peaks; those inside the excerpt are marked above the last strip.
    beat_probability : (beat,) float
        NaN where a beat was not scored: its mark is hollow.
    threshold
        Beats at or above it are marked in red and pointing up, those below in blue and pointing down.

    rows
        From ``layout``, where the caller has it.

    Returns
    -------
    Markup
        An ``<svg>`` element whose size is given in mm; its ``viewBox`` has 40 units to the millimetre.

    """
    rows = layout(excerpt) if rows is None else rows
    parts, top_mm = _background(rows), 0.0
    for number, strip in enumerate(rows):
        parts += _row(strip, top_mm)
        if number == len(rows) - 1:
            parts += _marks(excerpt, beat_time_s, beat_probability, top_mm, threshold)
        top_mm += strip.height_mm
    parts += _footer(excerpt, rows, top_mm)
    scale = "25 mm/s, 10 mm/mV" if excerpt.is_millivolts else "25 mm/s, amplitude normalised"
    return _svg(SHEET_WIDTH_MM, top_mm + _FOOT_MM, parts, f"ECG of {len(excerpt.present)} leads, {scale}")


def is_tall(rows: Sequence[Strip]) -> bool:
    """Whether the drawing needs a printed page of its own, because its waves are tall or its leads laid out as strips."""
    return sum(strip.height_mm for strip in rows) > _ROWS_MM


@cache
def grid_patterns() -> Markup:
    """Return the two grids (with and without lines for amplitude) that the drawings of a page share."""
    grids = {
        "paper": _grid("#f2c0c0", "#de9090", has_amplitude=True),
        "time": _grid("#e4e4e4", "#c4c4c4", has_amplitude=False),
    }
    parts = "".join(f'<g id="{name}" fill="none">{lines}</g>' for name, lines in grids.items())
    return Markup(f'<svg class="defs" width="0" height="0" aria-hidden="true"><defs>{parts}</defs></svg>')  # noqa: S704 - ours


def _grid(thin: str, thick: str, *, has_amplitude: bool) -> str:
    """Return lines each millimetre, and stronger ones each fifth, as two paths."""
    width, height = (size * UNITS_PER_MM for size in _GRID_MM)
    paths = {False: "", True: ""}
    for mm in range(_GRID_MM[0] + 1):
        paths[mm % 5 == 0] += f"M{mm * UNITS_PER_MM} 0V{height}"
    for mm in range(_GRID_MM[1] + 1 if has_amplitude else 0):
        paths[mm % 5 == 0] += f"M0 {mm * UNITS_PER_MM}H{width}"
    return (
        f'<path d="{paths[False]}" stroke="{thin}" stroke-width="4"/><path d="{paths[True]}" stroke="{thick}" stroke-width="8"/>'
    )


def median_beats(
    quartiles: Float,
    leads: Sequence[str],
    lead_flags: Sequence[int],
    sample_time_s: Float,
    *,
    is_millivolts: bool = True,
    evidence: Mapping[str, Any] | None = None,
) -> list[tuple[str, Markup]]:
    """Draw the median beat of every lead, one small sheet each, with the middle half of its beats as a band.

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
    list of (lead name, drawing)
        At ``beat_speed`` and 10 mm/mV. Six leads in a row are of one height.

    """
    mm_per_s = beat_speed(sample_time_s)
    panels = []
    for number, (lead, flags) in enumerate(zip(leads, lead_flags, strict=True)):
        in_mv = is_millivolts and not flags & LEAD_FLAGS["not_millivolts"]
        cells = _evidence_cells(lead, evidence, sample_time_s, mm_per_s)
        panels.append(_beat_panel(lead, quartiles[:, number], sample_time_s * mm_per_s, flags, in_mv, cells))
    drawings = []
    for first in range(0, len(panels), BEATS_A_ROW):
        row = panels[first : first + BEATS_A_ROW]
        finite = [panel.y_mm for panel in row if np.isfinite(panel.y_mm).any()]
        above = min(max([8.0] + [float(np.nanmax(y)) for y in finite]), 35.0)
        below = min(max([4.0] + [-float(np.nanmin(y)) for y in finite]), 30.0)
        drawings += [(panel.lead, _beat_sheet(panel, _up_to(above + 1.0, 1.0), _up_to(below + 1.0, 1.0))) for panel in row]
    return drawings


BEATS_A_ROW = 6


def beat_speed(sample_time_s: Float) -> float:
    """Return the paper speed, in mm/s, at which windows of this span are drawn: twice the usual where they fit so."""
    return 2 * MM_PER_S if sample_time_s[-1] - sample_time_s[0] <= 0.72 else MM_PER_S


def beat_strip(time_s: Float, probability: Float, *, duration_s: float, threshold: float | None = None) -> Markup:
    """Draw the MI probability of every beat over the record's time.

    Parameters
    ----------
    time_s, probability : (beat,) float
        R peaks in seconds from the record's start; NaN probability marks a beat that was not scored (a tick below the axis).
    duration_s
        Length of the record.
    threshold
        Drawn as a dashed line, if any.

    """
    left, right, top, bottom = 12.0, SHEET_WIDTH_MM - 4.0, 1.5, 17.5
    x = left + (right - left) * np.asarray(time_s, float) / max(duration_s, 1e-9)
    y = bottom - (bottom - top) * np.asarray(probability, float)
    parts = [_rect(left, top, right - left, bottom - top, "#f7f7f7")]
    for tick in (0.0, 0.5, 1.0):
        level = bottom - (bottom - top) * tick
        parts.append(f'<path d="M{_u(left)} {_u(level)}H{_u(right)}" stroke="#ddd" stroke-width="6"/>')
        parts.append(_text(left - 1.5, level + 1.0, f"{tick:g}", 2.8, anchor="end"))
    if threshold is not None:
        level = _u(bottom - (bottom - top) * threshold)
        parts.append(f'<path d="M{_u(left)} {level}H{_u(right)}" stroke="#8a4b00" stroke-width="12" stroke-dasharray="80 60"/>')
    parts += _time_axis(left, right, bottom, duration_s)
    scored = np.isfinite(y)
    parts.append(_dots(x[scored], y[scored], "#15599c", 1.2))
    ticks = "".join(f"M{_u(value)} {_u(bottom + 0.6)}v{_u(1.6)}" for value in x[~scored])
    parts.append(f'<path class="unscored" d="{ticks}" stroke="#777" stroke-width="12"/>' if ticks else "")
    return _svg(SHEET_WIDTH_MM, bottom + 8.0, parts, f"MI probability of {int(scored.sum())} beats over {duration_s:.0f} s")


def probability_scale(probability: float, interval: tuple[float, float] | None, threshold: float) -> Markup:
    """Draw a record's probability on a scale of 0 to 1, with its interval as a band and the operating point as a line."""
    left, width, middle = 6.0, 120.0, 8.0
    parts = [_rect(left, middle - 2.0, width, 4.0, "#ececec")]
    if interval is not None:
        parts.append(_rect(left + width * interval[0], middle - 2.0, width * (interval[1] - interval[0]), 4.0, "#9cc1e4"))
    x = _u(left + width * threshold)
    parts.append(f'<path d="M{x} {_u(middle - 3.5)}v{_u(7.0)}" stroke="#8a4b00" stroke-width="20"/>')
    parts.append(_text(left + width * threshold, middle - 4.4, "threshold", 2.8, anchor="middle", fill="#8a4b00"))
    parts.append(_dots(np.array([left + width * probability]), np.array([middle]), "#0b3a67", 3.4))
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(_text(left + width * tick, middle + 6.4, f"{tick:g}", 2.8, anchor="middle"))
    return _svg(width + 2 * left, middle + 7.5, parts, "the record's probability beside the threshold")


@dataclass(frozen=True)
class Panel:
    """One lead in one place of the sheet: ``y_mm`` is up from its baseline; no samples where the lead is absent."""

    lead: str
    left_mm: float
    width_mm: float
    x_mm: Float
    y_mm: Float
    is_millivolts: bool
    note: str = ""


@dataclass(frozen=True)
class Strip:
    """One row of the sheet: its panels, its height, and the distance of the baseline from its top, in mm."""

    panels: list[Panel]
    height_mm: float
    above_mm: float


def layout(excerpt: Excerpt, *, rows_mm: float | None = None) -> list[Strip]:
    """Lay an excerpt out on the sheet, ``SHEET_WIDTH_MM`` wide: rows from top to bottom, together at most ``rows_mm`` high."""
    rows = _rows(excerpt)
    return [Strip(row, height, above) for row, (height, above) in zip(rows, _bands(rows, rows_mm), strict=True)]


def traces(panel: Panel) -> list[tuple[Float, Float]]:
    """Return the pieces of a panel's trace between missing samples, thinned: x from the sheet's left, y up, in mm."""
    known = np.flatnonzero(np.isfinite(panel.y_mm))
    pieces = np.split(known, np.flatnonzero(np.diff(known) > 1) + 1) if known.size else []
    found: list[tuple[Float, Float]] = []
    for piece in pieces:
        x, y = _thinned(panel.x_mm[piece] * UNITS_PER_MM, panel.y_mm[piece] * UNITS_PER_MM)
        found.append((x / UNITS_PER_MM, y / UNITS_PER_MM))
    return found


def _rows(excerpt: Excerpt) -> list[list[Panel]]:
    width = EXCERPT_S * MM_PER_S
    if not excerpt.is_standard:
        return [[_panel(excerpt, lead, 0.0, width)] for lead in excerpt.present[:12]]
    rows = [
        [_panel(excerpt, column[row], number * width / 4, width / 4) for number, column in enumerate(COLUMNS)] for row in range(3)
    ]
    return rows + ([[_panel(excerpt, excerpt.rhythm_lead, 0.0, width)]] if excerpt.rhythm_lead else [])


def _panel(excerpt: Excerpt, lead: str, offset_mm: float, width_mm: float) -> Panel:
    left_mm, nothing = _LEFT_MM + offset_mm, np.empty(0)
    if lead not in excerpt.present:
        return Panel(lead, left_mm, width_mm, nothing, nothing, excerpt.is_millivolts, "absent")
    number = excerpt.leads.index(lead)
    fs = excerpt.sampling_frequency_hz
    first, last = round(offset_mm / MM_PER_S * fs), round((offset_mm + width_mm) / MM_PER_S * fs)
    whole = np.asarray(excerpt.signal[number], float)
    part = whole[first:last]
    in_mv = not excerpt.lead_flags[number] & LEAD_FLAGS["not_millivolts"]
    note = "" if in_mv else "amplitude normalised"
    if not np.isfinite(part).any():
        return Panel(lead, left_mm, width_mm, nothing, nothing, in_mv, note or "no samples here")
    y_mm = (part - _median(part)) * (MM_PER_MV if in_mv else _normalising(whole))
    return Panel(lead, left_mm, width_mm, _LEFT_MM + np.arange(first, first + part.size) * (MM_PER_S / fs), y_mm, in_mv, note)


def _median(values: Float) -> float:
    """Return the upper median of the known values; a tenth of the time of ``numpy.nanmedian``."""
    known = values[np.isfinite(values)]
    return float(np.partition(known, known.size // 2)[known.size // 2]) if known.size else float("nan")


def _normalising(values: Float) -> float:
    """Return the factor that makes a lead's own range (0.5th to 99.5th percentile) one fixed height on paper."""
    known = values[np.isfinite(values)]
    if not known.size:
        return 0.0
    first = round(0.005 * (known.size - 1))
    ordered = np.partition(known, (first, known.size - 1 - first))  # a tenth of the time of numpy.nanpercentile
    low, high = ordered[first], ordered[known.size - 1 - first]
    return float(_NORMALISED_SPAN_MM / (high - low)) if high > low else 0.0


def _bands(rows: list[list[Panel]], rows_mm: float | None) -> list[tuple[float, float]]:
    """Return height and distance of the baseline from the top, in mm, of each row: whole millimetres."""
    wanted = []
    for number, row in enumerate(rows):
        drawn = [panel.y_mm for panel in row if panel.y_mm.size]
        above = max([12.0] + [float(np.nanmax(y)) for y in drawn]) + (7.0 if number == len(rows) - 1 else 4.0)
        below = max([4.0] + [-float(np.nanmin(y)) + 1.0 for y in drawn])
        wanted.append((min(_up_to(above, 1.0), 60.0), min(_up_to(below, 1.0), 60.0)))
    natural = sum(above + below for above, below in wanted)
    usual = _ROWS_MM if natural <= _ROWS_MM + _OVERLAP_MM else _TALL_ROWS_MM
    excess = natural - (usual if rows_mm is None else rows_mm)
    last = len(wanted) - 1
    while excess > 0:  # then neighbours may overlap, as they do on real paper; the scale never changes
        # Not at the sheet's edges, where a wave would be cut off, nor in the last strip, where marks stand above the R waves.
        given = [
            (size, place, side) for place in range(last) for side, size in enumerate(wanted[place]) if (place, side) != (0, 0)
        ]
        size, place, side = max(given, default=(0.0, 0, 0))
        if size <= _LEAST_MM:
            break
        above_mm, below_mm = wanted[place]
        wanted[place] = (above_mm, below_mm - 1.0) if side else (above_mm - 1.0, below_mm)
        excess -= 1.0
    return [(above + below, above) for above, below in wanted]


def _background(rows: Sequence[Strip]) -> list[str]:
    """Return the paper: with lines for amplitude below leads in millivolts, without below the others."""
    height = sum(strip.height_mm for strip in rows)
    kinds = {panel.is_millivolts for strip in rows for panel in strip.panels}
    if len(kinds) < 2:
        return [_sheet(0.0, 0.0, SHEET_WIDTH_MM, height, is_millivolts=kinds != {False})]
    parts, top_mm = [], 0.0
    for strip in rows:
        in_mv = all(panel.is_millivolts for panel in strip.panels)
        parts.append(_sheet(0.0, top_mm, _LEFT_MM, strip.height_mm, is_millivolts=in_mv))
        for number, panel in enumerate(strip.panels):
            width = panel.width_mm + (_RIGHT_MM if number == len(strip.panels) - 1 else 0.0)
            parts.append(_sheet(panel.left_mm, top_mm, width, strip.height_mm, is_millivolts=panel.is_millivolts))
        top_mm += strip.height_mm
    return parts


def _sheet(left_mm: float, top_mm: float, width_mm: float, height_mm: float, *, is_millivolts: bool) -> str:
    """Return a piece of one of the two grids; all pieces of a drawing share its lines."""
    x, y = _u(left_mm), _u(top_mm)
    grid = f'<use href="#{"paper" if is_millivolts else "time"}" x="{-x}" y="{-y}"/>'
    return f'<svg x="{x}" y="{y}" width="{_u(width_mm)}" height="{_u(height_mm)}">{grid}</svg>'


def _row(strip: Strip, top_mm: float) -> list[str]:
    parts, baseline_mm = [], top_mm + strip.above_mm
    if all(panel.is_millivolts for panel in strip.panels):  # 1 mV for 0.2 s
        pulse = f"M{_u(1.5)} {_u(baseline_mm)}h{_u(1.5)}v{-_u(MM_PER_MV)}h{_u(5.0)}v{_u(MM_PER_MV)}h{_u(1.5)}"
        parts.append(f'<path class="pulse" d="{pulse}" fill="none" stroke="#111" stroke-width="10"/>')
    for panel in strip.panels:
        parts.append(_trace(panel, baseline_mm))
        parts.append(_label(panel, top_mm, baseline_mm))
    return parts


def _trace(panel: Panel, baseline_mm: float) -> str:
    if not panel.y_mm.size:
        return ""
    path = _path(panel.x_mm * UNITS_PER_MM, (baseline_mm - panel.y_mm) * UNITS_PER_MM)
    return (
        f'<path class="trace" data-lead="{_escaped(panel.lead)}" d="{path}" fill="none" stroke="#111" stroke-width="10" '
        'stroke-linejoin="round"/>'
    )


def _label(panel: Panel, top_mm: float, baseline_mm: float) -> str:
    separator = f'<path d="M{_u(panel.left_mm)} {_u(baseline_mm - 4.0)}v{_u(3.0)}" stroke="#111" stroke-width="10"/>'
    words = f"{panel.lead} {panel.note}" if panel.note == "absent" else panel.lead
    is_strip = panel.width_mm > EXCERPT_S * MM_PER_S / 2  # the marks of the R peaks need the place above a strip
    left_mm = 1.0 if is_strip and len(words) <= 4 else panel.left_mm + 1.0
    label = _text(left_mm, top_mm + 4.0, words, 3.6, weight="bold")
    if is_strip:
        label += "".join(_text(0.4, top_mm + 7.5 + 2.4 * line, word, 1.9) for line, word in enumerate(panel.note.split()))
    elif panel.note and panel.note != "absent":
        label += _text(panel.left_mm + 3.0 + 2.6 * len(panel.lead), top_mm + 4.0, panel.note, 2.6)
    return (separator if panel.left_mm > _LEFT_MM else "") + label


def _marks(excerpt: Excerpt, time_s: Float, probability: Float, top_mm: float, threshold: float | None) -> list[str]:
    """Mark the R peaks above the last strip: filled if scored, hollow if not, each with its probability."""
    parts = []
    end_s = excerpt.start_s + min(EXCERPT_S, excerpt.signal.shape[1] / excerpt.sampling_frequency_hz)
    inside = (time_s >= excerpt.start_s) & (time_s < end_s)
    crowded = int(inside.sum()) > 34  # then figures would run into each other
    for when, value in zip(time_s[inside], probability[inside], strict=True):
        x = _u(_LEFT_MM + (when - excerpt.start_s) * MM_PER_S)
        scored = bool(np.isfinite(value))
        is_above = scored and threshold is not None and value >= threshold
        colour = _FOR if is_above else _AGAINST
        mark = f"M{x} {_u(top_mm + 6.0)}l-36 64h72z" if is_above else f"M{x} {_u(top_mm + 7.6)}l-36 -64h72z"
        fill = colour if scored else "none"
        parts.append(f'<path class="beat" d="{mark}" fill="{fill}" stroke="{colour}" stroke-width="8"/>')
        if scored and not crowded:
            parts.append(_text(x / UNITS_PER_MM, top_mm + 5.2, f"{value:.2f}", 2.4, anchor="middle", fill=colour))
    return parts


def _footer(excerpt: Excerpt, rows: Sequence[Strip], top_mm: float) -> list[str]:
    parts = []
    length_s = min(EXCERPT_S, excerpt.signal.shape[1] / excerpt.sampling_frequency_hz)
    for second in range(int(np.ceil(excerpt.start_s)), int(excerpt.start_s + length_s) + 1):
        x = _LEFT_MM + (second - excerpt.start_s) * MM_PER_S
        parts.append(f'<path d="M{_u(x)} {_u(top_mm)}v{_u(1.2)}" stroke="#111" stroke-width="8"/>')
        parts.append(_text(x, top_mm + 3.6, f"{second} s", 2.4, anchor="middle"))
    if not rows:
        return parts
    if excerpt.is_millivolts:
        scale = "25 mm/s · 10 mm/mV · small square 0.04 s and 0.1 mV · pulse 1 mV, 0.2 s · no filter"
    elif all(not panel.is_millivolts for strip in rows for panel in strip.panels if panel.y_mm.size):
        scale = "25 mm/s · amplitude normalised: heights are not millivolts, lead by lead · small square 0.04 s · no filter"
    else:
        scale = "25 mm/s · 10 mm/mV on red paper only; leads on grey paper are normalised, not millivolts · no filter"
    parts.append(_text(_LEFT_MM, top_mm + 7.2, scale, 3.0))
    last = f"last strip: lead {rows[-1].panels[0].lead}, R peaks marked (hollow: not scored)"
    parts.append(_text(SHEET_WIDTH_MM - _RIGHT_MM, top_mm + 7.2, last, 3.0, anchor="end"))
    return parts


@dataclass(frozen=True)
class _Beat:
    """A lead's median beat: ``y_mm`` (3, sample) up from its baseline; ``cells``: left, right (mm), value, share of largest."""

    lead: str
    x_mm: Float
    y_mm: Float
    is_millivolts: bool
    cells: list[tuple[float, float, float, float]]


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
            left, right = ((bound - first) * mm_per_s + 2.5 for bound in (start, end))
            found.append((left, right, value, abs(value) / largest))
    return found


def _beat_panel(
    lead: str, quartiles: Float, x_mm: Float, flags: int, in_mv: bool, cells: list[tuple[float, float, float, float]]
) -> _Beat:
    if flags & LEAD_FLAGS["missing"] or not np.isfinite(quartiles).any():
        return _Beat(lead, x_mm, np.full((3, x_mm.size), np.nan), in_mv, [])
    start = _median(quartiles[1, : max(3, x_mm.size // 16)])  # before P: the usual place of the isoelectric line
    scale = MM_PER_MV if in_mv else _normalising(quartiles[1])
    return _Beat(lead, x_mm, (quartiles - start) * scale, in_mv, cells)


def _beat_sheet(panel: _Beat, above_mm: float, below_mm: float) -> Markup:
    width, height = 40.0, above_mm + below_mm
    foot = 3.6 if panel.cells else 0.0
    parts = [_sheet(0.0, 0.0, width, height, is_millivolts=panel.is_millivolts)]
    known = np.isfinite(panel.y_mm).all(axis=0)
    if not known.any():
        parts.append(_text(2.0, above_mm, "absent", 3.2))
        return _svg(width, height, parts, f"lead {panel.lead}: absent")
    for left, right, value, share in panel.cells:
        colour = _FOR if value > 0 else _AGAINST
        parts.append(_rect(left, 0.0, right - left, height + foot, colour, opacity=0.45 * share))
        if right - left >= 4.5:
            parts.append(_text((left + right) / 2, height + 2.7, f"{value:+.2f}", 2.1, anchor="middle"))
    x = (panel.x_mm[known] - panel.x_mm[0] + 2.5) * UNITS_PER_MM
    low, middle, high = ((above_mm - level[known]) * UNITS_PER_MM for level in panel.y_mm)
    band = _path(np.concatenate([x, x[::-1]]), np.concatenate([high, low[::-1]]), is_function=False)
    parts.append(f'<path d="{band}Z" fill="#15599c" fill-opacity=".28"/>')
    parts.append(f'<path class="median" d="{_path(x, middle)}" fill="none" stroke="#111" stroke-width="12"/>')
    return _svg(width, height + foot, parts, f"median beat of lead {panel.lead}")


def _time_axis(left: float, right: float, bottom: float, duration_s: float) -> list[str]:
    step = next(step for step in (1, 2, 5, 10, 20, 60, 120, 300, 600, 1800, 3600, 10**9) if duration_s / step <= 14)
    parts = []
    for second in range(0, int(duration_s) + 1, step):
        x = left + (right - left) * second / max(duration_s, 1e-9)
        parts.append(f'<path d="M{_u(x)} {_u(bottom + 2.6)}v{_u(1.0)}" stroke="#111" stroke-width="8"/>')
        parts.append(_text(x, bottom + 6.6, f"{second} s", 2.8, anchor="middle"))
    return parts


def _path(x: Float, y: Float, *, is_function: bool = True) -> str:
    """Return path data of a line; it is broken where ``y`` is NaN, and thinned where nobody can see it."""
    known = np.flatnonzero(np.isfinite(y))
    if known.size == 0:
        return ""
    pieces = []
    for run in [slice(None)] if known.size == y.size else np.split(known, np.flatnonzero(np.diff(known) > 1) + 1):
        part_x, part_y = _thinned(x[run], y[run]) if is_function else (x[run], y[run])
        at_x, at_y = np.rint(part_x).astype(np.int64), np.rint(part_y).astype(np.int64)
        steps = np.empty(2 * at_x.size - 2, np.int64)
        np.subtract(at_x[1:], at_x[:-1], out=steps[::2])
        np.subtract(at_y[1:], at_y[:-1], out=steps[1::2])
        pieces.append(f"M{at_x[0]} {at_y[0]}" + (f"l{_spelled(steps)}" if steps.size else "h0"))
    return "".join(pieces)


def _spelled(numbers: NDArray[np.int64]) -> str:
    """Return whole numbers with blanks between them; the small ones, of which drawings consist, are spelled once a process."""
    values = numbers.tolist()
    try:
        return " ".join(map(_small_numbers().__getitem__, values))
    except IndexError:
        return " ".join(map(str, values))


@cache
def _small_numbers() -> list[str]:
    """Return the spelling of each number up to ``_LARGEST_SMALL`` at its place; of those below nought counted from the end."""
    return [str(number) for number in (*range(_LARGEST_SMALL + 1), *range(-_LARGEST_SMALL, 0))]


def _thinned(x: Float, y: Float) -> tuple[Float, Float]:
    """Drop every other point that lies on the line between its neighbours to ``_THIN_MM``, four times over."""
    for _ in range(4):
        if x.size < 5:
            break
        before, at, after = slice(0, -2, 2), slice(1, -1, 2), slice(2, None, 2)
        n_odd = min(x[at].size, x[after].size)
        first_x, first_y = x[before][:n_odd], y[before][:n_odd]
        share = (x[at][:n_odd] - first_x) / (x[after][:n_odd] - first_x)
        straight = first_y + share * (y[after][:n_odd] - first_y)
        keep = np.ones(x.size, bool)
        keep[1 : 2 * n_odd : 2] = np.abs(y[at][:n_odd] - straight) > _THIN_MM * UNITS_PER_MM
        x, y = x[keep], y[keep]
    return x, y


def _dots(x_mm: Float, y_mm: Float, colour: str, size_mm: float) -> str:
    if not x_mm.size:
        return ""
    points = np.rint(np.column_stack([x_mm, y_mm]) * UNITS_PER_MM).astype(int).tolist()
    path = "".join(f"M{x} {y}h0" for x, y in points)
    return f'<path class="beats" d="{path}" stroke="{colour}" stroke-width="{_u(size_mm)}" stroke-linecap="round"/>'


def _rect(x: float, y: float, width: float, height: float, fill: str, *, opacity: float = 1.0) -> str:
    seen = "" if opacity == 1 else f' fill-opacity="{opacity:.2f}"'
    return f'<rect x="{_u(x)}" y="{_u(y)}" width="{_u(width)}" height="{_u(height)}" fill="{fill}"{seen}/>'


def _text(
    x: float, y: float, words: str, size_mm: float, *, anchor: str = "start", weight: str = "normal", fill: str = "#111"
) -> str:
    return (
        f'<text x="{_u(x)}" y="{_u(y)}" font-size="{_u(size_mm)}" font-family="Helvetica,Arial,sans-serif" '
        f'text-anchor="{anchor}" font-weight="{weight}" fill="{fill}" stroke="#fff" stroke-width="24" stroke-opacity=".8" '
        f'paint-order="stroke">{_escaped(words)}</text>'
    )


def _svg(width_mm: float, height_mm: float, parts: Sequence[str], label: str) -> Markup:
    return Markup(  # noqa: S704 - parts are numbers and escaped text
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width_mm:g}mm" height="{height_mm:g}mm" '
        f'viewBox="0 0 {_u(width_mm)} {_u(height_mm)}" role="img" aria-label="{_escaped(label)}">{"".join(parts)}</svg>'
    )


def visible(text: str) -> str:
    """Show control characters, and marks that turn the direction of text, as U+FFFD: a name must not rearrange a page."""
    if text.isascii() and text.isprintable():
        return text
    return "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(mark) in ("Cc", "Cf", "Cs") else mark for mark in text)


@lru_cache(maxsize=1024)
def _escaped(text: str) -> str:
    return str(escape(visible(text)))  # plain: a format string takes ten times as long to put Markup in


def _u(mm: float) -> int:
    return round(mm * UNITS_PER_MM)


def _up_to(value: float, step: float) -> float:
    return float(np.ceil(value / step) * step)
