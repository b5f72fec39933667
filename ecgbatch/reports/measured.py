"""The measurements of a record's page as an electrocardiograph prints them: statements, quantities, the waves of each lead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from ecgbatch.measurements.document import in_words
from ecgbatch.measurements.quantities import LEAD_QUANTITIES, QUANTITIES
from ecgbatch.reports.pages import number_html
from ecgbatch.reports.svg import escaped

GROUPS: Mapping[str, tuple[str, ...]] = {
    "Rate": ("heart_rate_bpm", "rr_ms", "rr_spread_ms"),
    "Intervals": ("p_ms", "pr_ms", "qrs_ms", "qt_ms", "qtc_fridericia_ms", "qtc_bazett_ms"),
    "Axes": ("axis_p_deg", "axis_qrs_deg", "axis_t_deg"),
}
"""``QUANTITIES`` below the headings of a page's table."""

_UNKNOWN = "\N{EN DASH}"
_UP, _DOWN = "\N{BLACK UP-POINTING TRIANGLE}", "\N{BLACK DOWN-POINTING TRIANGLE}"

MARKS: Mapping[str, tuple[str, str]] = {
    "rate_slow": ("heart_rate_bpm", f"{_DOWN} slow"),
    "rate_fast": ("heart_rate_bpm", f"{_UP} fast"),
    "p_long": ("p_ms", f"{_UP} long"),
    "pr_long": ("pr_ms", f"{_UP} long"),
    "pr_short": ("pr_ms", f"{_DOWN} short"),
    "qrs_wide": ("qrs_ms", f"{_UP} wide"),
    "qtc_long": ("qtc_fridericia_ms", f"{_UP} long"),
    "qtc_very_long": ("qtc_fridericia_ms", f"{_UP} very long"),
    "qtc_short": ("qtc_fridericia_ms", f"{_DOWN} short"),
    "axis_left": ("axis_qrs_deg", f"{_DOWN} left"),
    "axis_right": ("axis_qrs_deg", f"{_UP} right"),
    "axis_extreme": ("axis_qrs_deg", f"{_DOWN} extreme"),
}
"""Of statements about one quantity: which, and the mark beside its value."""

LEAD_MARKS: Mapping[str, tuple[str, str]] = {
    "q_waves": ("q_duration_ms", _UP),
    "st_elevation": ("st_j_mv", _UP),
    "st_depression": ("st_j_mv", _DOWN),
}
"""Of statements that name leads: the column, and the mark in each of them."""

WAVES = ("q_mv", "r_mv", "s_mv")
"""Heights of which 0 says that a lead has no such wave; a level of 0 is a level."""


def measured_words(measurements: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a page shows of ``measurements`` of a record's JSON (``measurements.document``), beside their numbers.

    Returns
    -------
    dict
        ``groups``: the table's rows below its headings, as markup; ``nothing``: the reason, where none of them has a value and
        all for the same one. ``heads``, ``lead_rows``: markup of the leads' table; ``no_lead``: the reason, where every lead
        lacks amplitudes and all for the same one; ``has_q``: whether a duration of Q is known all the same.

    """
    said = {one["statement"]: one["leads"] for one in measurements["statements"]}
    marks = dict(MARKS[name] for name in said if name in MARKS)
    rows = {
        name: _row(title, unit, found, marks.get(name, ""), QUANTITIES[name].meaning if name.startswith("qtc") else "")
        for name, (title, unit, found) in zip(QUANTITIES, in_words(measurements), strict=True)
    }
    leads = measurements["leads"]
    lead_marks = {(lead, LEAD_MARKS[name][0]): LEAD_MARKS[name][1] for name in said if name in LEAD_MARKS for lead in said[name]}
    return {
        "groups": {heading: Markup("\n".join(rows[name] for name in names)) for heading, names in GROUPS.items()},  # noqa: S704
        "nothing": _one_reason([measurements[name] for name in QUANTITIES]),
        "heads": _HEADS,
        "lead_rows": Markup("\n".join(_lead_row(lead, found, lead_marks) for lead, found in leads.items())),  # noqa: S704
        "no_lead": _one_reason([{"value": found["r_mv"], "reason": found["reason"]} for found in leads.values()]),
        "has_q": any(found["q_duration_ms"] is not None for found in leads.values()),
    }


def _row(title: str, unit: str, found: Mapping[str, Any], mark: str, formula: str) -> str:
    """Return a quantity's line of the table; ``found`` is ``{"value", "reason"}`` of the record's JSON."""
    head = f'<tr><th scope="row">{escaped(title)}</th>'
    if found["value"] is None:
        reason = escaped(found["reason"] or "")
        return f'{head}<td colspan="2" class="small">not measured{": " if reason else ""}{reason}</td></tr>'
    marked = f' <b class="mark">{mark}</b>' if mark else ""
    small = f' <span class="small">{escaped(formula)}</span>' if formula else ""
    return f'{head}<td class="n">{number_html(found["value"], 0)}</td><td>{escaped(unit)}{marked}{small}</td></tr>'


_HEADS = Markup("".join(f'<th scope="col" class="n">{of.title}, {of.unit}</th>' for of in LEAD_QUANTITIES.values()))  # noqa: S704
_WHOLE = frozenset(name for name, of in LEAD_QUANTITIES.items() if of.unit == "ms")


def _lead_row(lead: str, found: Mapping[str, Any], marks: Mapping[tuple[str, str], str]) -> str:
    """Return a lead's line of the table; the reason why the rest of a line has no number stands in one cell."""
    cells, n_without, reason = [f'<tr><th scope="row"><bdi>{escaped(lead)}</bdi></th>'], 0, found["reason"]
    for name in LEAD_QUANTITIES:
        value = found[name]
        if value is None:
            if reason:
                n_without += 1
            else:
                cells.append(f'<td class="n">{_UNKNOWN}</td>')
            continue
        # No rounded height: there is no such wave.
        text = number_html(value, 0 if name in _WHOLE or (value == 0 and name in WAVES) else 2)
        mark = marks.get((lead, name)) if marks else ""
        cells.append(f'<td class="n"><b class="mark">{mark} {text}</b></td>' if mark else f'<td class="n">{text}</td>')
    cells.append(f'<td colspan="{n_without}" class="small">{escaped(reason)}</td></tr>' if n_without else "</tr>")
    return "".join(cells)


def _one_reason(found: list[Mapping[str, Any]]) -> str:
    """Return the reason that all of them share for having no value; empty where one has a value, or another reason."""
    reasons = {str(one["reason"]) for one in found}
    return reasons.pop() if len(reasons) == 1 and all(one["value"] is None for one in found) else ""
