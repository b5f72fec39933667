"""Ten seconds on ECG paper: traces, calibration pulse, names, marks of the R peaks; inline SVG that prints true to scale."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from markupsafe import Markup

from ecgbatch.kernels import scratch
from ecgbatch.measurements.excerpt import EXCERPT_S
from ecgbatch.reports import svg
from ecgbatch.reports.excerpts import Excerpt
from ecgbatch.reports.grid import sheet as piece_of_paper
from ecgbatch.reports.layout import (
    FOOT_MM,
    LEFT_MM,
    MM_PER_MV,
    MM_PER_S,
    RIGHT_MM,
    SHEET_WIDTH_MM,
    Panel,
    Sheet,
    Strip,
    lay_out,
    samples_of,
)
from ecgbatch.reports.svg import UNITS_PER_MM, Float, units

FOR, AGAINST = "#8a1c1c", "#15599c"
"""Colours of what speaks for infarction, and against it."""

_WIDE_ROW_MM = 36.0  # rows further apart than a reader is used to
_MOST_FIGURES = 34  # in ten seconds: more would run into each other


def ecg_paper(
    excerpt: Excerpt,
    beat_time_s: Float,
    beat_probability: Float,
    *,
    threshold: float | None = None,
    sheet: Sheet | None = None,
) -> Markup:
    """Draw an excerpt on ECG paper: 25 mm/s, grid of 1 mm and 5 mm, calibration pulse of 1 mV.

    Parameters
    ----------
    excerpt
        What to draw. Twelve leads: 3 x 4 of 2.5 s, then a rhythm strip; otherwise a strip for each lead. Every trace is
        moved to its own median, none is filtered. Leads that are missing are shown as absent; leads that are not in
        millivolts are scaled to one height, on paper that has lines for time only, without a calibration pulse.
    beat_time_s : (beat,) float, s from the record's start
        R peaks; those inside the excerpt are marked above the rhythm strip.
    beat_probability : (beat,) float
        NaN where a beat was not scored: its mark is hollow.
    threshold
        Beats at or above it are marked in red and pointing up, those below in blue and pointing down.
    sheet
        From ``lay_out``, where the caller has it.

    Returns
    -------
    Markup
        An ``<svg>`` element whose size is given in mm; its ``viewBox`` has 40 units to the millimetre.

    """
    sheet = lay_out(excerpt) if sheet is None else sheet
    parts, top_mm = _background(sheet), 0.0
    drawn = _traces(excerpt, sheet)
    for strip in sheet.rows:
        parts += _row(strip, top_mm, drawn)
        if strip.is_rhythm:
            parts += _marks(excerpt, beat_time_s, beat_probability, top_mm, threshold)
        top_mm += strip.height_mm
    parts += _footer(excerpt, sheet, top_mm)
    said = f"ECG of {len(excerpt.present)} leads, {scale_words(excerpt, sheet)}"
    return svg.drawing(SHEET_WIDTH_MM, top_mm + FOOT_MM, parts, said)


def scale_words(excerpt: Excerpt, sheet: Sheet) -> str:
    """Return the scale of a sheet in words: speed, and the gains of its leads in millivolts."""
    gain = f"{sheet.limb_mm_per_mv:g} mm/mV"
    if sheet.limb_mm_per_mv != sheet.chest_mm_per_mv:
        gain = f"limb leads {sheet.limb_mm_per_mv:g} mm/mV, chest leads {sheet.chest_mm_per_mv:g} mm/mV"
    if not excerpt.is_millivolts:
        kinds = {panel.is_millivolts for row in sheet.rows for panel in row.panels if panel.samples.size}
        gain = f"{gain} on red paper only, leads on grey paper normalised" if True in kinds else "amplitude normalised"
    return f"{MM_PER_S:g} mm/s, {gain}"


def sheet_words(sheet: Sheet) -> list[str]:
    """Return sentences on what is unusual about a sheet: its gains, and how far its rows are apart."""
    limb, chest = sheet.limb_mm_per_mv, sheet.chest_mm_per_mv
    found = []
    if chest != MM_PER_MV:
        which = "Chest leads are" if limb == MM_PER_MV else "All leads are"
        found.append(f"{which} drawn at {chest:g} mm/mV: at {MM_PER_MV:g} their waves would run into the next row.")
    if not sheet.is_apart:
        found.append("Some waves, or a wandering baseline, reach into neighbouring rows.")
    elif max((row.height_mm for row in sheet.rows), default=0.0) > _WIDE_ROW_MM:
        found.append("Rows stand as far apart as the waves need.")
    return found


def _background(sheet: Sheet) -> list[str]:
    """Return the paper: with lines for amplitude below leads in millivolts, without below the others."""
    kinds = {panel.is_millivolts for strip in sheet.rows for panel in strip.panels}
    if len(kinds) < 2:
        return [piece_of_paper(0.0, 0.0, SHEET_WIDTH_MM, sheet.height_mm, is_millivolts=kinds != {False})]
    parts, top_mm = [], 0.0
    for strip in sheet.rows:
        in_mv = all(panel.is_millivolts for panel in strip.panels)
        parts.append(piece_of_paper(0.0, top_mm, LEFT_MM, strip.height_mm, is_millivolts=in_mv))
        for number, panel in enumerate(strip.panels):
            width = panel.width_mm + (RIGHT_MM if number == len(strip.panels) - 1 else 0.0)
            parts.append(piece_of_paper(panel.left_mm, top_mm, width, strip.height_mm, is_millivolts=panel.is_millivolts))
        top_mm += strip.height_mm
    return parts


def pulse_steps(strip: Strip) -> list[tuple[float, float]]:
    """Return the calibration pulse of a row as steps to the right and up, mm: 1 mV, 0.2 s; two halves where gains differ."""
    if not all(panel.is_millivolts for panel in strip.panels):
        return []
    first, last = strip.panels[0].mm_per_mv, strip.panels[-1].mm_per_mv
    return [(1.5, 0.0), (0.0, first), (2.5, 0.0), (0.0, last - first), (2.5, 0.0), (0.0, -last), (1.5, 0.0)]


def _row(strip: Strip, top_mm: float, drawn: Iterator[str]) -> list[str]:
    parts, baseline_mm = [], top_mm + strip.above_mm
    if steps := pulse_steps(strip):
        line = "".join(f"h{units(right)}" if right else f"v{-units(up)}" for right, up in steps if right or up)
        pulse = f"M{units(1.5)} {units(baseline_mm)}{line}"
        parts.append(f'<path class="pulse" d="{pulse}"/>')
    for panel in strip.panels:
        if panel.samples.size:
            parts.append(f'<path class="trace" data-lead="{svg.escaped(panel.lead)}" d="{next(drawn)}"/>')
        parts.append(_label(panel, top_mm, baseline_mm))
    return parts


def _traces(excerpt: Excerpt, sheet: Sheet) -> Iterator[str]:
    """Yield path data of each panel that has samples, from top to bottom and left to right."""
    from ecgbatch.reports.path_kernels import MOST_BYTES, spell_traces

    top_mm, panels, scale = 0.0, [], []
    for strip in sheet.rows:
        for panel in strip.panels:
            if panel.samples.size:
                panels.append(panel)
                scale.append((panel.level, panel.gain, top_mm + strip.above_mm))
        top_mm += strip.height_mm
    if not panels:
        return iter(())
    lead = np.array([excerpt.leads.index(panel.lead) for panel in panels], np.int64)
    span = np.array([(panel.first, panel.first + panel.samples.size) for panel in panels], np.int64)
    out = scratch("svg", (MOST_BYTES * (int(np.diff(span).sum()) + len(panels)),), np.uint8)
    ends, pen = np.empty(len(panels), np.int64), np.array([UNITS_PER_MM, svg.THIN_MM * UNITS_PER_MM])
    x_mm = np.array([LEFT_MM, MM_PER_S / excerpt.sampling_frequency_hz])
    spell_traces(samples_of(excerpt), lead, span, np.array(scale), x_mm, pen, out, ends)
    return iter(svg.texts(out, ends))


def _label(panel: Panel, top_mm: float, baseline_mm: float) -> str:
    """Return a lead's name: of a strip in the margin, since the marks of the R peaks need the place above it."""
    name, remark = (f"{panel.lead} absent", "") if panel.is_absent else (panel.lead, panel.remark)
    if panel.is_strip:
        left_mm = 0.6 if len(name) <= 4 else panel.left_mm + 1.0
        words = svg.text(left_mm, baseline_mm - panel.mm_per_mv - 1.5, name, 3.6, weight="bold")
        lines = enumerate(remark.split(" ", 1) if remark else ())
        return words + "".join(svg.text(0.4, baseline_mm + 3.0 + 2.4 * line, word, 1.9) for line, word in lines)
    base_mm = max(baseline_mm - panel.label_mm, top_mm + 3.5)
    words = svg.text(panel.left_mm + 1.0, base_mm, name, 3.6, weight="bold")
    words += svg.text(panel.left_mm + 1.0, base_mm + 2.8, remark, 2.3) if remark else ""
    separator = f'<path class="rule" d="M{units(panel.left_mm)} {units(baseline_mm - 4.0)}v{units(3.0)}"/>'
    return (separator if panel.left_mm > LEFT_MM else "") + words


def _marks(excerpt: Excerpt, time_s: Float, probability: Float, top_mm: float, threshold: float | None) -> list[str]:
    """Mark the R peaks above the rhythm strip: filled if scored, hollow if not, each with its probability."""
    parts = []
    inside = (time_s >= excerpt.start_s) & (time_s < excerpt.start_s + min(EXCERPT_S, excerpt.length_s))
    is_crowded = int(inside.sum()) > _MOST_FIGURES
    for when, value in zip(time_s[inside], probability[inside], strict=True):
        x = units(LEFT_MM + (when - excerpt.start_s) * MM_PER_S)
        scored = bool(np.isfinite(value))
        is_above = scored and threshold is not None and value >= threshold
        colour = FOR if is_above else AGAINST
        mark = f"M{x} {units(top_mm + 6.0)}l-36 64h72z" if is_above else f"M{x} {units(top_mm + 7.6)}l-36 -64h72z"
        fill = "" if scored else ' fill="none"'
        parts.append(f'<path class="beat{" for" if is_above else ""}" d="{mark}"{fill}/>')
        if scored and not is_crowded:
            parts.append(svg.text(x / UNITS_PER_MM, top_mm + 5.2, _two_digits(value), 2.4, anchor="middle", fill=colour))
    return parts


def _two_digits(probability: float) -> str:
    """Return a probability as it fits above a beat; none is certain, so none is 0 or 1."""
    return "<0.01" if probability < 0.005 else ">0.99" if probability >= 0.995 else f"{probability:.2f}"


def _footer(excerpt: Excerpt, sheet: Sheet, top_mm: float) -> list[str]:
    parts = [_seconds(excerpt.start_s, min(EXCERPT_S, excerpt.length_s), top_mm)]
    if not sheet.rows:
        return parts
    words = [scale_words(excerpt, sheet).replace(", ", " · ", 1), *_small_print(excerpt, sheet.rows)]
    parts.append(svg.text(LEFT_MM, top_mm + 7.2, " · ".join(words), 2.8))
    if sheet.rhythm_lead:
        marks = f"R peaks marked above lead {sheet.rhythm_lead} (hollow: not scored)"
        parts.append(svg.text(SHEET_WIDTH_MM - RIGHT_MM, top_mm + 7.2, marks, 2.8, anchor="end"))
    return parts


@lru_cache(maxsize=1024)
def _seconds(start_s: float, length_s: float, top_mm: float) -> str:
    """Return a tick and a number for each whole second."""
    parts, ticks = [], ""
    for second in range(int(np.ceil(start_s)), int(start_s + length_s) + 1):
        x = LEFT_MM + (second - start_s) * MM_PER_S
        ticks += f"M{units(x)} {units(top_mm)}v{units(1.2)}"
        parts.append(svg.text(x, top_mm + 3.6, f"{second} s", 2.4, anchor="middle"))
    parts.append(f'<path d="{ticks}" stroke="#111" stroke-width="8"/>' if ticks else "")
    return "".join(parts)


def _small_print(excerpt: Excerpt, rows: Sequence[Strip]) -> list[str]:
    pulses = [steps for row in rows if (steps := pulse_steps(row))]
    is_stepped = any(steps[3][1] for steps in pulses)
    pulse = ["pulse 1 mV: left half limb, right half chest leads" if is_stepped else "pulse 1 mV, 0.2 s"] if pulses else []
    if excerpt.is_millivolts:
        is_usual = not is_stepped and rows[0].panels[0].mm_per_mv == MM_PER_MV
        return ["small square 0.04 s" + (" and 0.1 mV" if is_usual else ""), *pulse, "no filter"]
    return [*pulse, "no filter"] if pulses else ["heights are not millivolts", "small square 0.04 s", "no filter"]
