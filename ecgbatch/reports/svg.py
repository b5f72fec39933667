"""Drawing as inline SVG without a script, a style sheet or a font file: paths, dots, rectangles, words, true to scale.

Coordinates are integers, 40 to the millimetre: at 25 mm/s one unit is 1 ms, at 10 mm/mV one unit is 2.5 uV.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from ecgbatch.kernels import scratch

UNITS_PER_MM = 40

Float = NDArray[np.floating[Any]]

BROKEN, JOINED, AREAS = 0, 1, 2
"""Kinds of lines of ``path_kernels.spell_lines``."""

THIN_MM = 0.05
"""A fifth of the line's width, half a dot of a 300 dpi printer: thinning by this cannot be seen."""


def drawing(width_mm: float, height_mm: float, parts: Sequence[str], label: str) -> Markup:
    """Return a drawing that is shown and printed at its size in mm."""
    return Markup(  # noqa: S704 - parts are numbers and escaped text
        f'<svg class="mm" width="{width_mm:g}mm" height="{height_mm:g}mm" '
        f'viewBox="0 0 {units(width_mm)} {units(height_mm)}" role="img" aria-label="{escaped(label)}">{"".join(parts)}</svg>'
    )


def units(mm: float) -> int:
    """Return a length as the whole number that a drawing holds."""
    return round(mm * UNITS_PER_MM)


@lru_cache(maxsize=16384)
def text(
    x: float, y: float, words: str, size_mm: float, *, anchor: str = "start", weight: str = "normal", fill: str = "#111"
) -> str:
    """Return words with a white rim, so that they can be read upon a grid; what all have alike is in the style sheet."""
    own = _ANCHORS[anchor] + ("b" if weight == "bold" else "")
    look = f' class="{own}"' if own else ""
    look += "" if fill == "#111" else f' fill="{fill}"'
    return f'<text x="{units(x)}" y="{units(y)}" font-size="{units(size_mm)}"{look}>{escaped(words)}</text>'


_ANCHORS = {"start": "", "middle": "c", "end": "e"}  # classes of the style sheet, where a b stands for bold


@lru_cache(maxsize=16384)
def rectangle(x: float, y: float, width: float, height: float, fill: str, *, opacity: float = 1.0) -> str:
    """Return a filled rectangle."""
    seen = "" if opacity == 1 else f' fill-opacity="{opacity:.2f}"'
    return f'<rect x="{units(x)}" y="{units(y)}" width="{units(width)}" height="{units(height)}" fill="{fill}"{seen}/>'


def dots(x_mm: Float, y_mm: Float, colour: str, size_mm: float) -> str:
    """Return round dots as one path."""
    if not x_mm.size:
        return ""
    path = "".join(f"M{units(x)} {units(y)}h0" for x, y in zip(x_mm.tolist(), y_mm.tolist(), strict=True))
    return f'<path class="beats" d="{path}" stroke="{colour}" stroke-width="{units(size_mm)}" stroke-linecap="round"/>'


def path(x: Float, y: Float, *, thin_mm: float = THIN_MM) -> str:
    """Return path data of a line, in units; it is broken where ``y`` is NaN, and thinned where nobody can see it."""
    return paths(x, y, (0, x.size), thin_mm=thin_mm)[0]


def paths(x: Float, y: Float, start: Sequence[int], kind: int = 0, *, thin_mm: float = THIN_MM) -> list[str]:
    """Return path data of several lines at once.

    Parameters
    ----------
    x, y : (point,) float, units
        One line after another.
    start
        Where each line's points begin, and the last's end.
    kind
        ``BROKEN`` where ``y`` is NaN, as ``path`` is; ``JOINED`` over such points; ``AREAS``: joined, and one path for each two
        lines, the edges of an area.

    """
    from ecgbatch.reports.path_kernels import MOST_BYTES, spell_lines

    own_x, own_y = np.array(x, np.float64), np.array(y, np.float64)  # worked in
    starts = np.array(start, np.int64)
    ends = np.empty((starts.size - 1) // (2 if kind == AREAS else 1), np.int64)
    out = scratch("svg", (MOST_BYTES * (own_x.size + starts.size),), np.uint8)
    spell_lines(own_x, own_y, starts, kind, thin_mm * UNITS_PER_MM, out, ends)
    return texts(out, ends)


def texts(out: NDArray[np.uint8], ends: NDArray[np.int64]) -> list[str]:
    """Return the texts that a kernel wrote one after another."""
    places = [0, *ends.tolist()]
    whole = out[: places[-1]].tobytes().decode("ascii")
    return [whole[first:last] for first, last in pairwise(places)]


def thinned(x: Float, y: Float, thin_mm: float = THIN_MM) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Drop every other point that lies on the line between its neighbours to ``thin_mm``, four times over; all in units."""
    from ecgbatch.reports.path_kernels import thin

    own_x, own_y = np.array(x, np.float64), np.array(y, np.float64)
    n = thin(own_x, own_y, thin_mm * UNITS_PER_MM)
    return own_x[:n], own_y[:n]


def visible(text: str) -> str:
    """Show control characters, and marks that turn the direction of text, as U+FFFD: a name must not rearrange a page."""
    if text.isascii() and text.isprintable():
        return text
    return "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(mark) in ("Cc", "Cf", "Cs") else mark for mark in text)


@lru_cache(maxsize=1024)
def escaped(text: str) -> str:
    """Return text that may stand in an element or an attribute."""
    return str(escape(visible(text)))  # plain: a format string takes ten times as long to put Markup in
