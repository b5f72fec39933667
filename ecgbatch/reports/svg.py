"""Drawing as inline SVG without a script, a style sheet or a font file: paths, dots, rectangles, words, true to scale.

Coordinates are integers, 40 to the millimetre: at 25 mm/s one unit is 1 ms, at 10 mm/mV one unit is 2.5 uV.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

UNITS_PER_MM = 40

Float = NDArray[np.floating[Any]]

THIN_MM = 0.05
"""A fifth of the line's width, half a dot of a 300 dpi printer: thinning by this cannot be seen."""

_LARGEST_SMALL = 4000


def drawing(width_mm: float, height_mm: float, parts: Sequence[str], label: str) -> Markup:
    """Return a drawing that is shown and printed at its size in mm."""
    return Markup(  # noqa: S704 - parts are numbers and escaped text
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width_mm:g}mm" height="{height_mm:g}mm" '
        f'viewBox="0 0 {units(width_mm)} {units(height_mm)}" role="img" aria-label="{escaped(label)}">{"".join(parts)}</svg>'
    )


def units(mm: float) -> int:
    """Return a length as the whole number that a drawing holds."""
    return round(mm * UNITS_PER_MM)


def text(
    x: float, y: float, words: str, size_mm: float, *, anchor: str = "start", weight: str = "normal", fill: str = "#111"
) -> str:
    """Return words with a white rim, so that they can be read upon a grid."""
    return (
        f'<text x="{units(x)}" y="{units(y)}" font-size="{units(size_mm)}" font-family="Helvetica,Arial,sans-serif" '
        f'text-anchor="{anchor}" font-weight="{weight}" fill="{fill}" stroke="#fff" stroke-width="24" stroke-opacity=".8" '
        f'paint-order="stroke">{escaped(words)}</text>'
    )


def rectangle(x: float, y: float, width: float, height: float, fill: str, *, opacity: float = 1.0) -> str:
    """Return a filled rectangle."""
    seen = "" if opacity == 1 else f' fill-opacity="{opacity:.2f}"'
    return f'<rect x="{units(x)}" y="{units(y)}" width="{units(width)}" height="{units(height)}" fill="{fill}"{seen}/>'


def dots(x_mm: Float, y_mm: Float, colour: str, size_mm: float) -> str:
    """Return round dots as one path."""
    if not x_mm.size:
        return ""
    points = np.rint(np.column_stack([x_mm, y_mm]) * UNITS_PER_MM).astype(int).tolist()
    path = "".join(f"M{x} {y}h0" for x, y in points)
    return f'<path class="beats" d="{path}" stroke="{colour}" stroke-width="{units(size_mm)}" stroke-linecap="round"/>'


def path(x: Float, y: Float, *, is_function: bool = True, thin_mm: float = THIN_MM) -> str:
    """Return path data of a line, in units; it is broken where ``y`` is NaN, and thinned where nobody can see it."""
    known = np.flatnonzero(np.isfinite(y))
    if known.size == 0:
        return ""
    pieces = []
    for run in [slice(None)] if known.size == y.size else np.split(known, np.flatnonzero(np.diff(known) > 1) + 1):
        part_x, part_y = thinned(x[run], y[run], thin_mm) if is_function else (x[run], y[run])
        at_x, at_y = np.rint(part_x).astype(np.int64), np.rint(part_y).astype(np.int64)
        steps = np.empty(2 * at_x.size - 2, np.int64)
        np.subtract(at_x[1:], at_x[:-1], out=steps[::2])
        np.subtract(at_y[1:], at_y[:-1], out=steps[1::2])
        pieces.append(f"M{at_x[0]} {at_y[0]}" + (f"l{_spelled(steps)}" if steps.size else "h0"))
    return "".join(pieces)


def thinned(x: Float, y: Float, thin_mm: float = THIN_MM) -> tuple[Float, Float]:
    """Drop every other point that lies on the line between its neighbours to ``thin_mm``, four times over; all in units."""
    for _ in range(4):
        if x.size < 5:
            break
        before, at, after = slice(0, -2, 2), slice(1, -1, 2), slice(2, None, 2)
        n_odd = min(x[at].size, x[after].size)
        first_x, first_y = x[before][:n_odd], y[before][:n_odd]
        share = (x[at][:n_odd] - first_x) / (x[after][:n_odd] - first_x)
        straight = first_y + share * (y[after][:n_odd] - first_y)
        keep = np.ones(x.size, bool)
        keep[1 : 2 * n_odd : 2] = np.abs(y[at][:n_odd] - straight) > thin_mm * UNITS_PER_MM
        x, y = x[keep], y[keep]
    return x, y


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


def visible(text: str) -> str:
    """Show control characters, and marks that turn the direction of text, as U+FFFD: a name must not rearrange a page."""
    if text.isascii() and text.isprintable():
        return text
    return "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(mark) in ("Cc", "Cf", "Cs") else mark for mark in text)


@lru_cache(maxsize=1024)
def escaped(text: str) -> str:
    """Return text that may stand in an element or an attribute."""
    return str(escape(visible(text)))  # plain: a format string takes ten times as long to put Markup in
