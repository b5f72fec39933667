"""Plain charts of the cohort page: inline SVG without a script, a style sheet or a font file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

WIDTH, HEIGHT = 360.0, 320.0
"""Of every chart, in CSS pixels; the page scales it to its column."""

LABEL_COLOURS = {"mi": "#a32020", "control": "#15599c", "other": "#7a5a00", "unknown": "#666666"}
LABEL_WORDS = {
    "mi": "myocardial infarction",
    "control": "healthy control",
    "other": "other heart disease",
    "unknown": "label unknown",
}

_HALO = 'stroke="#fff" stroke-width="3" paint-order="stroke"'
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 12.0, 12.0, 44.0


def probability_histograms(histogram: Mapping[str, Any], thresholds: Mapping[str, float | None]) -> Markup:
    """Draw the distribution of record probabilities, one strip a label, on one scale, with the threshold across all.

    Parameters
    ----------
    histogram
        ``edges`` (of the bins, 0 to 1) and ``counts``: label to scored records of each bin; labels without any are left out.
    thresholds
        ``low`` and ``high`` of the operating points applied: a line where they agree, a band where members differ.

    """
    rows = [(label, counts) for label, counts in histogram["counts"].items() if sum(counts)]
    most = max((max(counts) for _, counts in rows), default=1)
    parts = _x_axis("probability of myocardial infarction")
    low, high = thresholds["low"], thresholds["high"]
    if low is not None and high is not None:
        parts += _threshold(low, high)
    band = (HEIGHT - _TOP - _BOTTOM) / max(len(rows), 1)
    for place, (label, counts) in enumerate(rows):
        base, tallest = _TOP + band * (place + 1), band - 22
        for low, high, count in zip(histogram["edges"], histogram["edges"][1:], counts, strict=False):
            height = tallest * count / most
            if count:
                parts.append(_rect(_x(low) + 0.5, base - height, _x(high) - _x(low) - 1, height, LABEL_COLOURS[label]))
        parts.append(_line(_LEFT, base, WIDTH - _RIGHT, base, "#333"))
        words = f"{LABEL_WORDS[label]}: {sum(counts)} records"
        parts.append(_text(_LEFT + 4, base - tallest - 5, words, colour=LABEL_COLOURS[label]))
        parts.append(_text(_LEFT - 5, base - tallest + 4, str(most), anchor="end"))
        parts.append(_text(_LEFT - 5, base, "0", anchor="end"))
    return _svg(parts, "Distribution of the records' probabilities by label, with the threshold")


def roc(
    curve: Mapping[str, Sequence[float]],
    sensitivity: Mapping[str, Any],
    specificity: Mapping[str, Any],
    band: Mapping[str, Sequence[float]],
) -> Markup:
    """Draw the ROC curve by patient with its band, the diagonal of chance, and the operating point with its two intervals."""
    parts = [*_x_axis("1 - specificity"), *_y_axis("sensitivity"), _line(_x(0), _y(0), _x(1), _y(1), "#999", dash="4 4")]
    parts.append(_band(band["false_positive_rate"], band["low"], band["high"]))
    parts.append(_curve(curve["false_positive_rate"], curve["sensitivity"]))
    if sensitivity["value"] is not None and specificity["value"] is not None:
        x, y = _x(1 - specificity["value"]), _y(sensitivity["value"])
        if specificity["low"] is not None and specificity["high"] is not None:
            parts.append(_line(_x(1 - specificity["high"]), y, _x(1 - specificity["low"]), y, "#a32020"))
        if sensitivity["low"] is not None and sensitivity["high"] is not None:
            parts.append(_line(x, _y(sensitivity["low"]), x, _y(sensitivity["high"]), "#a32020"))
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="#a32020"/>')
    parts.append(_text(_x(1) - 4, _y(0.05), "red: operating point with 95 % intervals", anchor="end", colour="#a32020"))
    return _svg(parts, "ROC curve by patient with its 95 % band and the operating point")


def precision_recall(curve: Mapping[str, Sequence[float]], band: Mapping[str, Sequence[float]], prevalence: float) -> Markup:
    """Draw the precision-recall curve by patient with its band; dashed: the share of infarction, which chance reaches."""
    parts = [*_x_axis("recall (sensitivity)"), *_y_axis("precision (predictive value)")]
    parts.append(_line(_x(0), _y(prevalence), _x(1), _y(prevalence), "#999", dash="4 4"))
    parts.append(_band(band["recall"], band["low"], band["high"]))
    parts.append(_curve(curve["recall"], curve["precision"]))
    return _svg(parts, "Precision-recall curve by patient with its 95 % band")


def decision_curve(curve: Mapping[str, Sequence[float]]) -> Markup:
    """Draw the net benefit of acting on the model at each threshold, beside acting on everybody and on nobody."""
    top = max(0.1, *curve["high"], *curve["treat_all"][:1])
    floor = -0.25 * top

    def y(value: float) -> float:
        return _y((max(value, floor) - floor) / (top - floor))

    parts = [*_x_axis("threshold of the probability")]
    for tick in (0.0, top / 2, top):
        parts.append(_line(_LEFT - 4, y(tick), _LEFT, y(tick), "#333"))
        parts.append(_text(_LEFT - 7, y(tick) + 4, f"{tick:.2f}", anchor="end"))
    parts += [_line(_LEFT, _TOP, _LEFT, HEIGHT - _BOTTOM, "#333"), _turned("net benefit a patient")]
    parts.append(_line(_x(0), y(0), _x(1), y(0), "#666", dash="4 4"))
    x = curve["threshold"]
    lower = [(at, value) for at, value in zip(x, curve["treat_all"], strict=True) if value >= floor]
    if len(lower) > 1:
        points = " ".join(f"{_x(at):.1f},{y(value):.1f}" for at, value in lower)
        parts.append(f'<polyline points="{points}" fill="none" stroke="#7a5a00" stroke-width="1.5" stroke-dasharray="6 3"/>')
    outline = [(at, y(value)) for at, value in zip(x, curve["high"], strict=True)]
    outline += [(at, y(value)) for at, value in zip(x[::-1], curve["low"][::-1], strict=True)]
    points = " ".join(f"{_x(at):.1f},{down:.1f}" for at, down in outline)
    parts.append(f'<polygon points="{points}" fill="#15599c" fill-opacity=".18"/>')
    points = " ".join(f"{_x(at):.1f},{y(value):.1f}" for at, value in zip(x, curve["value"], strict=True))
    parts.append(f'<polyline points="{points}" fill="none" stroke="#15599c" stroke-width="2"/>')
    parts.append(_text(_x(1) - 4, _TOP + 12, "blue: model; brown: everybody; grey: nobody", anchor="end", colour="#444"))
    return _svg(parts, "Decision curve by patient with its 95 % band")


def predictive_values(curve: Mapping[str, Sequence[float]], stated: float) -> Markup:
    """Draw both predictive values over the prevalence, 1 to 50 % on a logarithmic scale, with bands; dotted: ``stated``."""
    low, high = curve["prevalence"][0], curve["prevalence"][-1]

    def place(value: float) -> float:
        return math.log(value / low) / math.log(high / low)

    parts = [_line(_LEFT, HEIGHT - _BOTTOM, WIDTH - _RIGHT, HEIGHT - _BOTTOM, "#333"), *_y_axis("predictive value")]
    for tick in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5):
        parts.append(_line(_x(place(tick)), HEIGHT - _BOTTOM, _x(place(tick)), HEIGHT - _BOTTOM + 4, "#333"))
        parts.append(_text(_x(place(tick)), HEIGHT - _BOTTOM + 17, f"{100 * tick:g} %", anchor="middle"))
    parts.append(_text(_x(0.5), HEIGHT - 8, "prevalence of infarction", anchor="middle"))
    parts.append(_line(_x(place(stated)), _TOP, _x(place(stated)), HEIGHT - _BOTTOM, "#666", dash="2 3"))
    at = [place(value) for value in curve["prevalence"]]
    for name, colour, words, level in (("npv", "#14532d", "negative", 0.93), ("ppv", "#a32020", "positive", 0.06)):
        parts.append(_band(at, curve[f"{name}_low"], curve[f"{name}_high"], colour=colour))
        parts.append(_curve(at, curve[name], colour=colour))
        parts.append(_text(_x(1) - 4, _y(level), f"{words} predictive value", anchor="end", colour=colour))
    return _svg(parts, "Predictive values over the prevalence, with 95 % bands")


def calibration(curve: Mapping[str, Sequence[Any]]) -> Markup:
    """Draw predicted probability against the observed share of MI in each bin of patients, with Wilson's 95 % intervals."""
    parts = [*_x_axis("predicted probability (mean of the bin)"), *_y_axis("observed share of infarction")]
    parts.append(_line(_x(0), _y(0), _x(1), _y(1), "#999", dash="4 4"))
    for predicted, observed, low, high in zip(curve["predicted"], curve["observed"], curve["low"], curve["high"], strict=True):
        x = _x(predicted)
        parts.append(_line(x, _y(low), x, _y(high), "#15599c"))
        parts += [_line(x - 4, _y(end), x + 4, _y(end), "#15599c") for end in (low, high)]
        parts.append(f'<circle cx="{x:.1f}" cy="{_y(observed):.1f}" r="4.5" fill="#15599c"/>')
    parts.append(_text(_x(1) - 4, _y(0.05), "dashed: perfect calibration", anchor="end", colour="#666"))
    return _svg(parts, "Calibration curve by patient with Wilson intervals")


def _threshold(low: float, high: float) -> list[str]:
    top, bottom = _TOP, HEIGHT - _BOTTOM
    band = [] if low == high else [_rect(_x(low), top, _x(high) - _x(low), bottom - top, "#111", opacity=0.12)]
    return [*band, *(_line(_x(at), top, _x(at), bottom, "#111", dash="5 3") for at in sorted({low, high}))]


def _x(value: float) -> float:
    return _LEFT + (WIDTH - _LEFT - _RIGHT) * value


def _y(value: float) -> float:
    return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * value


def _x_axis(title: str) -> list[str]:
    bottom = HEIGHT - _BOTTOM
    parts = [_line(_LEFT, bottom, WIDTH - _RIGHT, bottom, "#333")]
    for tick in (0, 0.2, 0.4, 0.6, 0.8, 1):
        parts.append(_line(_x(tick), bottom, _x(tick), bottom + 4, "#333"))
        parts.append(_text(_x(tick), bottom + 17, f"{tick:g}", anchor="middle"))
    return [*parts, _text(_x(0.5), HEIGHT - 8, title, anchor="middle")]


def _y_axis(title: str) -> list[str]:
    parts = [_line(_LEFT, _TOP, _LEFT, HEIGHT - _BOTTOM, "#333")]
    for tick in (0, 0.2, 0.4, 0.6, 0.8, 1):
        parts.append(_line(_LEFT - 4, _y(tick), _LEFT, _y(tick), "#333"))
        parts.append(_text(_LEFT - 7, _y(tick) + 4, f"{tick:g}", anchor="end"))
    return [*parts, _turned(title)]


def _turned(title: str) -> str:
    middle = _y(0.5)
    return f'<text x="14" y="{middle:.1f}" text-anchor="middle" transform="rotate(-90 14 {middle:.1f})">{escape(title)}</text>'


def _curve(x: Sequence[float], y: Sequence[float], *, colour: str = "#15599c") -> str:
    points = " ".join(f"{_x(at):.1f},{_y(value):.1f}" for at, value in _unlike(x, y))
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'


def _unlike(x: Sequence[float], y: Sequence[float]) -> list[tuple[float, float]]:
    """Return the points of a curve without those that fall on the same pixel as the one before."""
    found: list[tuple[float, float]] = []
    for at, value in zip(x, y, strict=True):
        if not found or abs(_x(at) - _x(found[-1][0])) + abs(_y(value) - _y(found[-1][1])) > 0.5:
            found.append((at, value))
    return found


def _band(x: Sequence[float], low: Sequence[float], high: Sequence[float], *, colour: str = "#15599c") -> str:
    outline = [*zip(x, high, strict=True), *zip(x[::-1], low[::-1], strict=True)]
    points = " ".join(f"{_x(at):.1f},{_y(value):.1f}" for at, value in outline)
    return f'<polygon points="{points}" fill="{colour}" fill-opacity=".18"/>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, *, dash: str = "") -> str:
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="{colour}" stroke-width="1.5"{dashed}/>'


def _rect(x: float, y: float, width: float, height: float, fill: str, *, opacity: float = 1.0) -> str:
    seen = "" if opacity == 1 else f' fill-opacity="{opacity}"'
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{fill}"{seen}/>'


def _text(x: float, y: float, words: str, *, anchor: str = "start", colour: str = "#111") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" {_HALO}>{escape(words)}</text>'


def _svg(parts: Sequence[str], label: str) -> Markup:
    opening = (
        f'<svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" width="{WIDTH:g}" height="{HEIGHT:g}" role="img" aria-label="{escape(label)}"'
    )
    return Markup(f'{opening} font-family="Helvetica, Arial, sans-serif" font-size="12">{"".join(parts)}</svg>')  # noqa: S704 - escaped above
