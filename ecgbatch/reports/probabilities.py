"""A record's probability drawn on a scale beside the threshold, and those of its beats over its time."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from markupsafe import Markup

from ecgbatch.reports import svg
from ecgbatch.reports.layout import SHEET_WIDTH_MM
from ecgbatch.reports.svg import Float, units

_DOT_MM = 1.2
_TICK_STEPS_S = (1, 2, 5, 10, 20, 60, 120, 300, 600, 1800, 3600, 7200, 10**9)


def probability_scale(probability: float, interval: tuple[float, float] | None, threshold: float) -> Markup:
    """Draw a record's probability on a scale of 0 to 1, with its interval as a band and the operating point as a line."""
    left, width, middle = 6.0, 120.0, 8.0
    parts = [svg.rectangle(left, middle - 2.0, width, 4.0, "#ececec")]
    if interval is not None:
        parts.append(svg.rectangle(left + width * interval[0], middle - 2.0, width * (interval[1] - interval[0]), 4.0, "#9cc1e4"))
    x = units(left + width * threshold)
    parts.append(f'<path d="M{x} {units(middle - 3.5)}v{units(7.0)}" stroke="#8a4b00" stroke-width="20"/>')
    parts.append(svg.text(left + width * threshold, middle - 4.4, "threshold", 2.8, anchor="middle", fill="#8a4b00"))
    parts.append(svg.dots(np.array([left + width * probability]), np.array([middle]), "#0b3a67", 3.4))
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(svg.text(left + width * tick, middle + 6.4, f"{tick:g}", 2.8, anchor="middle"))
    return svg.drawing(width + 2 * left, middle + 7.5, parts, "the record's probability beside the threshold")


def beat_strip(time_s: Float, probability: Float, *, duration_s: float, threshold: float | None = None) -> Markup:
    """Draw the MI probability of every beat over the record's time.

    Parameters
    ----------
    time_s, probability : (beat,) float
        R peaks in seconds from the record's start; NaN probability marks a beat that was not scored (a tick below the axis).
        Dots that would hide each other are drawn once, so that a day takes no more room than an hour.
    duration_s
        Length of the record.
    threshold
        Drawn as a dashed line, if any.

    """
    left, right, top, bottom = 12.0, SHEET_WIDTH_MM - 4.0, 1.5, 17.5
    x = left + (right - left) * np.asarray(time_s, float) / max(duration_s, 1e-9)
    y = bottom - (bottom - top) * np.asarray(probability, float)
    parts = [_frame(left, right, top, bottom, duration_s, threshold)]
    scored = np.isfinite(y)
    seen = _seen(np.column_stack([x[scored], y[scored]]), _DOT_MM / 4)
    parts.append(svg.dots(seen[:, 0], seen[:, 1], "#15599c", _DOT_MM))
    unscored = _seen(x[~scored, None], 0.25)[:, 0]
    ticks = "".join(f"M{units(value)} {units(bottom + 0.6)}v{units(1.6)}" for value in unscored)
    parts.append(f'<path class="unscored" d="{ticks}" stroke="#777" stroke-width="12"/>' if ticks else "")
    label = f"MI probability of {int(scored.sum())} beats over {duration_s:.0f} s"
    return svg.drawing(SHEET_WIDTH_MM, bottom + 8.0, parts, label)


@lru_cache(maxsize=64)
def _frame(left: float, right: float, top: float, bottom: float, duration_s: float, threshold: float | None) -> str:
    """Return the axes, with the threshold: alike for all records of one length."""
    parts = [svg.rectangle(left, top, right - left, bottom - top, "#f7f7f7")]
    for tick in (0.0, 0.5, 1.0):
        level = bottom - (bottom - top) * tick
        parts.append(f'<path d="M{units(left)} {units(level)}H{units(right)}" stroke="#ddd" stroke-width="6"/>')
        parts.append(svg.text(left - 1.5, level + 1.0, f"{tick:g}", 2.8, anchor="end"))
    if threshold is not None:
        level = units(bottom - (bottom - top) * threshold)
        line = f"M{units(left)} {level}H{units(right)}"
        parts.append(f'<path d="{line}" stroke="#8a4b00" stroke-width="12" stroke-dasharray="80 60"/>')
    return "".join([*parts, *_time_axis(left, right, bottom, duration_s)])


def _seen(points: Float, step_mm: float) -> Float:
    """Return one point of each square of a grid that holds any, if there are so many that most would hide each other."""
    if len(points) < 1000:
        return points
    return points[np.sort(np.unique(np.floor(points / step_mm), axis=0, return_index=True)[1])]


def _time_axis(left: float, right: float, bottom: float, duration_s: float) -> list[str]:
    step = next(step for step in _TICK_STEPS_S if duration_s / step <= 14)
    parts = []
    for second in range(0, int(duration_s) + 1, step):
        x = left + (right - left) * second / max(duration_s, 1e-9)
        parts.append(f'<path d="M{units(x)} {units(bottom + 2.6)}v{units(1.0)}" stroke="#111" stroke-width="8"/>')
        words = f"{second} s" if step < 60 else f"{second // 60} min" if step < 3600 else f"{second // 3600} h"
        parts.append(svg.text(x, bottom + 6.6, words, 2.8, anchor="middle"))
    return parts
