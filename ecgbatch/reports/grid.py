"""ECG paper: the two grids, with and without lines for amplitude, that all drawings of a page share."""

from __future__ import annotations

from functools import cache

from markupsafe import Markup

from ecgbatch.reports.svg import UNITS_PER_MM, units

_LARGEST_MM = (270, 180)  # drawing


@cache
def grid_patterns() -> Markup:
    """Return the grids, to stand once on a page before the first ``sheet``."""
    grids = {
        "paper": _grid("#f2c0c0", "#de9090", has_amplitude=True),
        "time": _grid("#e4e4e4", "#c4c4c4", has_amplitude=False),
    }
    parts = "".join(f'<g id="{name}" fill="none">{lines}</g>' for name, lines in grids.items())
    return Markup(f'<svg class="defs" width="0" height="0" aria-hidden="true"><defs>{parts}</defs></svg>')  # noqa: S704 - ours


def sheet(left_mm: float, top_mm: float, width_mm: float, height_mm: float, *, is_millivolts: bool) -> str:
    """Return a piece of one of the two grids; all pieces of a drawing share its lines."""
    x, y = units(left_mm), units(top_mm)
    moved = f' x="{-x}" y="{-y}"' if x or y else ""
    grid = f'<use href="#{"paper" if is_millivolts else "time"}"{moved}/>'
    place = f' x="{x}" y="{y}"' if x or y else ""
    return f'<svg{place} width="{units(width_mm)}" height="{units(height_mm)}">{grid}</svg>'


def _grid(thin: str, thick: str, *, has_amplitude: bool) -> str:
    """Return lines each millimetre, and stronger ones each fifth: dashes of one stroke as broad as the drawing is high."""
    width, height = (size * UNITS_PER_MM for size in _LARGEST_MM)
    parts = ""
    for colour, line, apart in ((thin, 4, UNITS_PER_MM), (thick, 8, 5 * UNITS_PER_MM)):
        dashes = f'stroke="{colour}" stroke-dasharray="{line} {apart - line}"'
        parts += f'<path d="M{-line // 2} {height // 2}H{width}" stroke-width="{height}" {dashes}/>'
        if has_amplitude:
            parts += f'<path d="M{width // 2} {-line // 2}V{height}" stroke-width="{width}" {dashes}/>'
    return parts
