"""The course of a recording longer than the paper: one lead in compressed strips, with time, beats and the excerpt marked.

Each column, a pixel or two wide, shows the lowest and the highest sample that fall into it: no beat and no spike is lost,
however long a line is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from ecgbatch.measurements.excerpt import in_millivolts
from ecgbatch.reports import svg
from ecgbatch.reports.excerpts import FULL_LINE_S, LONG_LINE_S, MINUTE_LINE_S
from ecgbatch.reports.grid import sheet
from ecgbatch.reports.layout import LEFT_MM, SHEET_WIDTH_MM, normalising_gain, upper_median
from ecgbatch.reports.svg import UNITS_PER_MM, Float, units
from ecgbatch.terms import LEAD_FLAGS

GAINS = (10.0, 5.0, 2.5, 1.25)
"""mm/mV: the first at which almost all columns fit into a line's height."""
HEIGHTS_MM = {FULL_LINE_S: 26.0, LONG_LINE_S: 16.0, MINUTE_LINE_S: 11.0}
"""Of the trace, for each length of a line: at most."""
COLUMN_MM = {FULL_LINE_S: 0.25, LONG_LINE_S: 0.25, MINUTE_LINE_S: 0.4}
"""Width of a column: about a pixel; of the minutes, which are many, a little more, so that a noisy half hour stays small."""
UNUSUAL = frozenset({"ectopic", "aberrant"})
"""Flags of a beat that is early, or of another shape than most: it gets a mark of its own."""

_LENGTH_MM = 250.0
_HEAD_MM = 3.0  # marks of beats
_FOOT_MM = {FULL_LINE_S: 3.6, LONG_LINE_S: 3.6, MINUTE_LINE_S: 1.0}
"""Ticks and, but where the margin says each minute, times."""
_TICK_S = {FULL_LINE_S: 1, LONG_LINE_S: 5, MINUTE_LINE_S: 10}
_KEPT_SHARE = 0.003  # of columns may be cut off at a line's edge: a spike must not make all waves small
_THIN_MM = 0.1
_COARSE = 4  # traces are drawn in tenths of a millimetre: the numbers of a path are a third shorter


@dataclass(frozen=True)
class Course:
    """One lead of a record, reduced to columns.

    Parameters
    ----------
    low, high : (line, column) float32, mV
        Smallest and largest sample of each column, from the line's median; NaN where there is none.
    is_millivolts
        False where only its shape counts.
    mm_per_mv
        Gain at which it is drawn; of a lead that is not in millivolts, whatever makes it fit.
    is_levelled
        Whether its wandering baseline was taken out, without which its waves would have had to be drawn much smaller.

    """

    low: Float
    high: Float
    is_millivolts: bool
    mm_per_mv: float
    is_levelled: bool


def course_of(steps: NDArray[np.int16], source: Mapping[str, Any], plan: Mapping[str, Any]) -> Course:
    """Reduce a record's samples to what ``excerpts.plan_strips`` wants shown.

    Parameters
    ----------
    steps : (lead, sample) int16, adu
        The whole record, of the signals store.
    source
        The record's row: ``lead``, ``lead_flags``, ``adc_gain``, ``baseline``, ``sampling_frequency_hz``.
    plan
        From ``plan_strips``.

    """
    number = source["lead"].tolist().index(plan["lead"])
    own = slice(number, number + 1)
    fs, line_s = float(source["sampling_frequency_hz"]), plan["line_s"]
    column_mm, low, high = COLUMN_MM[line_s], [], []
    for line in range(plan["n_lines"]):
        first = plan["start_s"] + line * line_s
        samples = steps[own, round(first * fs) : round(min(first + line_s * 1.02, plan["end_s"]) * fs)]
        values = in_millivolts(samples, source["adc_gain"][own], source["baseline"][own])[0]
        ends = columns(values, fs * line_s / _LENGTH_MM * column_mm, round(1.02 * _LENGTH_MM / column_mm))
        middle = upper_median(values)
        low.append(ends[0] - middle)
        high.append(ends[1] - middle)
    in_mv = not source["lead_flags"][number] & LEAD_FLAGS["not_millivolts"]
    lowest, highest = np.array(low, np.float32), np.array(high, np.float32)
    gain = _gain(lowest, highest, line_s, in_mv=in_mv)
    level = np.array([_wander(*ends, _LENGTH_MM / line_s / column_mm) for ends in zip(lowest, highest, strict=True)], np.float32)
    larger = _gain(lowest - level, highest - level, line_s, in_mv=in_mv)
    if larger > 1.5 * gain:
        return Course(lowest - level, highest - level, in_mv, larger, is_levelled=True)
    return Course(lowest, highest, in_mv, gain, is_levelled=False)


def _gain(low: Float, high: Float, line_s: float, *, in_mv: bool) -> float:
    height_mm = HEIGHTS_MM[line_s]
    if in_mv:
        return next((gain for gain in GAINS if sum(_reach(low, high, gain)) <= height_mm), GAINS[-1])
    return normalising_gain(np.concatenate([low.ravel(), high.ravel()]), height_mm / 2)


def _wander(low: Float, high: Float, columns_per_s: float) -> Float:
    """Return a line's baseline, (column,): the medians of its seconds, joined by straight lines."""
    middle = (low + high) / 2
    edges = np.arange(0.0, middle.size, columns_per_s).astype(int)
    levels = np.array([upper_median(second) for second in np.split(middle, edges[1:])])
    known = np.isfinite(levels)
    if not known.any():
        return np.zeros(middle.size)
    baseline: Float = np.interp(np.arange(middle.size), edges[known] + columns_per_s / 2, levels[known])
    return baseline


def columns(values: Float, samples_per_column: float, n_columns: int) -> tuple[Float, Float]:
    """Return the smallest and the largest value of each column, (column,) each; NaN where none falls into it.

    With fewer samples than columns, each stands in its own column and those between are filled by a straight line.
    """
    low, high = np.full(n_columns, np.nan), np.full(n_columns, np.nan)
    if not values.size:
        return low, high
    if samples_per_column < 2:
        at = np.arange(n_columns) * samples_per_column
        inside = at <= values.size - 1
        low[inside] = high[inside] = np.interp(at[inside], np.arange(values.size), values)
        return low, high
    starts = np.rint(np.arange(n_columns) * samples_per_column).astype(np.int64)
    starts = starts[starts < values.size]
    low[: starts.size] = np.fmin.reduceat(values, starts)
    high[: starts.size] = np.fmax.reduceat(values, starts)
    return low, high


def course_lines(
    course: Course, plan: Mapping[str, Any], excerpt: Mapping[str, Any], beats: Mapping[str, Sequence[Any]]
) -> list[Markup]:
    """Draw the lines from top to bottom.

    Parameters
    ----------
    course
        From ``course_of``.
    plan, excerpt, beats
        ``strips``, ``excerpt`` and ``beats`` of the record's JSON: the excerpt is shaded, each beat has a tick above it, and an
        early beat, or one of another shape, a triangle.

    """
    above, below = _reach(course.low, course.high, course.mm_per_mv)
    time_s = np.array(beats["time_s"], float)
    is_unusual = np.array([not UNUSUAL.isdisjoint(flags) for flags in beats["flags"]], bool)
    drawings = []
    for line in range(plan["n_lines"]):
        start_s = plan["start_s"] + line * plan["line_s"]
        end_s = min(start_s + plan["line_s"], plan["end_s"])
        shown = slice(*np.searchsorted(time_s, (start_s, end_s)))
        parts = _paper(course, plan, (above, below), excerpt, start_s)
        parts.append(_trace(course.low[line], course.high[line], course.mm_per_mv, above, below))
        parts += _beat_marks((time_s[shown] - start_s) * _LENGTH_MM / plan["line_s"], is_unusual[shown])
        parts += _time_marks(plan, start_s, _HEAD_MM + above + below)
        said = f"lead {plan['lead']} from {clock(start_s)} to {clock(end_s)}"
        drawings.append(svg.drawing(SHEET_WIDTH_MM, _HEAD_MM + above + below + _FOOT_MM[plan["line_s"]], parts, said))
    return drawings


def is_cut_off(course: Course) -> bool:
    """Whether some wave is taller than its line."""
    above, below = _reach(course.low, course.high, course.mm_per_mv)
    return bool((course.high * course.mm_per_mv > above).any() or (course.low * course.mm_per_mv < -below).any())


def clock(time_s: float) -> str:
    """Return a time from the record's start as minutes and seconds, with hours where there are any."""
    hours, rest = divmod(round(time_s), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


def _reach(low: Float, high: Float, mm_per_mv: float) -> tuple[float, float]:
    """Return the height above and below the baseline that almost all columns need, in half millimetres."""
    known = np.isfinite(high)
    if not known.any():
        return 3.0, 2.0
    top = max(float(np.quantile(high[known], 1 - _KEPT_SHARE)) * mm_per_mv, 2.0)
    bottom = max(-float(np.quantile(low[known], _KEPT_SHARE)) * mm_per_mv, 1.0)
    return math.ceil(2 * top + 1) / 2, math.ceil(2 * bottom + 1) / 2


def _paper(
    course: Course, plan: Mapping[str, Any], reach: tuple[float, float], excerpt: Mapping[str, Any], start_s: float
) -> list[str]:
    """Return paper, or white where a minute takes the line; the excerpt's span shaded; name and time in the margin."""
    height, per_s = sum(reach), _LENGTH_MM / plan["line_s"]
    parts = []
    if plan["line_s"] < MINUTE_LINE_S:
        parts.append(sheet(0.0, _HEAD_MM, SHEET_WIDTH_MM, height, is_millivolts=course.is_millivolts))
    left = max(excerpt["start_s"] - start_s, 0.0) * per_s
    right = min(excerpt["end_s"] - start_s, plan["line_s"]) * per_s
    if right > left:
        parts.append(svg.rectangle(LEFT_MM + left, _HEAD_MM, right - left, height, "#ffe27a", opacity=0.45))
    parts.append(svg.text(0.4, _HEAD_MM + reach[0] + 1.0, clock(start_s), 2.6, weight="bold"))
    return parts


def _trace(low: Float, high: Float, mm_per_mv: float, above: float, below: float) -> str:
    """Return both ends of each column as one line, which goes up where the signal rises, and down where it falls."""
    lower, upper = (np.clip(ends * mm_per_mv, -below, above) for ends in (low, high))
    middle = (lower + upper) / 2
    is_falling = np.concatenate([middle[1:] < middle[:-1], [False]])
    column_mm = 1.02 * _LENGTH_MM / low.size
    y = np.column_stack([np.where(is_falling, upper, lower), np.where(is_falling, lower, upper)]).ravel()
    x = LEFT_MM + (np.arange(y.size) / 2 + 0.25) * column_mm
    per_mm = UNITS_PER_MM / _COARSE
    path = svg.path(x * per_mm, (_HEAD_MM + above - y) * per_mm, thin_mm=_THIN_MM / _COARSE)
    look = f'transform="scale({_COARSE})" fill="none" stroke="#111" stroke-width="2" stroke-linejoin="round"'
    return f'<path class="course" {look} d="{path}"/>'


def _beat_marks(x_mm: Float, is_unusual: NDArray[np.bool_]) -> list[str]:
    places = [units(LEFT_MM + x) for x in x_mm]
    ticks = "".join(f"M{x} {units(1.0)}v{units(1.6)}" for x, unusual in zip(places, is_unusual, strict=True) if not unusual)
    triangles = "".join(f"M{x} {units(2.6)}l-28 -64h56z" for x, unusual in zip(places, is_unusual, strict=True) if unusual)
    parts = [f'<path class="beats" d="{ticks}" stroke="#15599c" stroke-width="10"/>'] if ticks else []
    return [*parts, f'<path class="unusual" d="{triangles}" fill="#8a1c1c"/>'] if triangles else parts


def _time_marks(plan: Mapping[str, Any], start_s: float, top_mm: float) -> list[str]:
    step, per_s = _TICK_S[plan["line_s"]], _LENGTH_MM / plan["line_s"]
    length_s = min(plan["line_s"], plan["end_s"] - start_s)
    places = [LEFT_MM + second * per_s for second in range(0, int(length_s) + 1, step)]
    ticks = "".join(f"M{units(x)} {units(top_mm)}v{units(0.8)}" for x in places)
    labels = [
        svg.text(LEFT_MM + second * per_s, top_mm + 3.0, clock(start_s + second), 2.1, anchor="middle")
        for second in range(5 * step, int(length_s) + 1, 5 * step)
        if second < plan["line_s"] < MINUTE_LINE_S
    ]
    return [f'<path d="{ticks}" stroke="#111" stroke-width="6"/>', *labels]
