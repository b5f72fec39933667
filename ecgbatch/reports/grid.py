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
    grid = f'<use href="#{"paper" if is_millivolts else "time"}" x="{-x}" y="{-y}"/>'
    return f'<svg x="{x}" y="{y}" width="{units(width_mm)}" height="{units(height_mm)}">{grid}</svg>'


def _grid(thin: str, thick: str, *, has_amplitude: bool) -> str:
    """Return lines each millimetre, and stronger ones each fifth, as two paths."""
    width, height = (size * UNITS_PER_MM for size in _LARGEST_MM)
    paths = {False: "", True: ""}
    for mm in range(_LARGEST_MM[0] + 1):
        paths[mm % 5 == 0] += f"M{mm * UNITS_PER_MM} 0V{height}"
    for mm in range(_LARGEST_MM[1] + 1 if has_amplitude else 0):
        paths[mm % 5 == 0] += f"M0 {mm * UNITS_PER_MM}H{width}"
    return (
        f'<path d="{paths[False]}" stroke="{thin}" stroke-width="4"/><path d="{paths[True]}" stroke="{thick}" stroke-width="8"/>'
    )
