"""The page that the benchmarks write, docs/PERFORMANCE.md, and its plot."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from benchmarks.speed.section import Section

COLOURS = {"naive": "#999999", "ecgbatch": "#15599c", "limit": "#2e7d32"}
_LEFT, _WIDTH, _BAR, _GAP = 86, 560, 15, 16

HEAD = """# How fast, beside what else there is and what the machine allows

Made by `python -m benchmarks --write` (`make bench`; `make bench-full` for 20,000 and 50,000 records), which measures all ways in
turn, in one run; do not edit. `--only PART` measures one part ({parts}), `--records N` fewer records;
without `--write` it only prints. Ratios are the medians of the ratios of each round; on another machine seconds are others.
"""


def page(
    sections: Sequence[Section], machine: Mapping[str, str], loads: tuple[float, float], parts: Sequence[str], plot: str
) -> str:
    """Return the page as Markdown; ``plot`` is the plot's path beside it, or empty."""
    lines = [HEAD.format(parts=", ".join(f"`{part}`" for part in parts))]
    lines += [f"- {name}: {value}" for name, value in machine.items()]
    lines += [
        f"- load of the last minute: {loads[0]:.1f} at the start, {loads[1]:.1f} at the end (its own threads count)",
        "",
    ]
    lines += ["| | wanted | measured (lowest-highest) | reached |", "|---|---|---:|---|"]
    lines += [claim.row() for section in sections for claim in section.claims]
    missed = [claim for section in sections for claim in section.claims if claim.why and not claim.is_met]
    if missed:
        lines += ["", "What is not reached, and what would reach it:", ""]
        lines += [f"- {claim.text}: {claim.why}" for claim in missed]
    if plot:
        lines += [
            "",
            f"![Seconds of each stage: the naive way, ecgbatch, the machine's limit; logarithmic axis]({plot})",
        ]
    for section in sections:
        lines += ["", f"## {section.title}", "", *section.lines]
    return "\n".join(lines) + "\n"


def drawing(bars: Sequence[tuple[str, str, float]], title: str) -> str:
    """Return bars (group, way, seconds) as SVG on a logarithmic axis."""
    low = 10 ** math.floor(math.log10(min(seconds for *_, seconds in bars)))
    high = 10 ** math.ceil(math.log10(max(seconds for *_, seconds in bars)))

    def x(seconds: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - 60) * math.log(seconds / low) / math.log(high / low)

    parts, y, group = [], 40.0, ""
    for name, way, seconds in bars:
        if name != group:
            y += _GAP if group else 0
            parts.append(
                f'<text x="{_LEFT - 8}" y="{y + 1.8 * _BAR:.0f}" text-anchor="end" font-weight="bold">{escape(name)}</text>'
            )
            group = name
        width = max(1.0, x(seconds) - _LEFT)
        parts.append(f'<rect x="{_LEFT}" y="{y:.0f}" width="{width:.1f}" height="{_BAR - 2}" fill="{COLOURS[way]}"/>')
        parts.append(f'<text x="{_LEFT + width + 5:.1f}" y="{y + _BAR - 4:.0f}">{_seconds(seconds)} s</text>')
        y += _BAR
    ticks = [10.0**power for power in range(round(math.log10(low)), round(math.log10(high)) + 1)]
    grid = "".join(
        f'<line x1="{x(tick):.1f}" y1="34" x2="{x(tick):.1f}" y2="{y + 4:.0f}" stroke="#dddddd"/>'
        f'<text x="{x(tick):.1f}" y="{y + 18:.0f}" text-anchor="middle">{tick:g} s</text>'
        for tick in ticks
    )
    legend = "".join(
        f'<rect x="{_LEFT + 110 * number}" y="{y + 28:.0f}" width="12" height="12" fill="{colour}"/>'
        f'<text x="{_LEFT + 110 * number + 17}" y="{y + 38:.0f}">{way}</text>'
        for number, (way, colour) in enumerate(COLOURS.items())
    )
    height = y + 50
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="#ffffff"/>'
        f'<text x="{_LEFT}" y="20" font-size="13" font-weight="bold">{escape(title)}</text>'
        f"{grid}{''.join(parts)}{legend}</svg>\n"
    )


def _seconds(seconds: float) -> str:
    return f"{seconds:.3g}" if seconds < 1000 else f"{seconds:.0f}"
