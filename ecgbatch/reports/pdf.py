"""A record's report as PDF: one A4 page with the same decision, numbers and ECG as its HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from ecgbatch.measurements.document import in_words
from ecgbatch.reports import layout, svg
from ecgbatch.reports.cart import cart_line
from ecgbatch.reports.ecg_paper import pulse_steps, scale_words, sheet_words
from ecgbatch.reports.excerpts import Excerpt
from ecgbatch.reports.pages import probability_text
from ecgbatch.reports.words import EXCHANGE_WORDS, explain_reason, lead_remarks, leads_scored_words

if TYPE_CHECKING:
    from fpdf import FPDF

_WIDTH_MM, _HEIGHT_MM, _MARGIN_MM = 297.0, 210.0, 8.0
_FOOT_MM = 30.0  # for scale, measurements and provenance
_GREY, _BLACK, _RED, _BLUE = (70, 70, 70), (17, 17, 17), (122, 18, 18), (21, 89, 156)
_GRIDS = {True: ((242, 192, 192), (222, 144, 144)), False: ((228, 228, 228), (196, 196, 196))}


def check_installed() -> None:
    """Raise ``ValueError`` if the library that writes PDF is not installed."""
    try:
        import fpdf  # noqa: F401
    except ImportError as error:
        raise ValueError("--pdf needs fpdf2, which is not installed; run: pip install 'ecgbatch[pdf]'") from error


def record_pdf(report: Mapping[str, Any], *, excerpt: Excerpt | None = None) -> bytes:
    """Return the page; the same report gives the same bytes.

    Parameters
    ----------
    report
        From ``record_report``.
    excerpt
        The signal to put on paper at 25 mm/s and 10 mm/mV; None leaves the drawing out and says so.

    """
    from fpdf import FPDF

    pdf = FPDF(orientation="landscape", unit="mm", format="A4")
    pdf.set_creation_date(_made(report["provenance"]["created"]))
    pdf.set_auto_page_break(False)
    pdf.set_margins(_MARGIN_MM, _MARGIN_MM)
    pdf.add_page()
    pdf.set_title(_latin(f"{report['record_name']}: ECG report"))
    _head(pdf, report)
    if excerpt is None:
        _write(pdf, "No ECG is drawn: the samples of this record could not be read, or not be trusted.", 10, bold=True)
    else:
        _ecg(pdf, report, excerpt, pdf.get_y() + 1.0)
    _foot(pdf, report)
    return bytes(pdf.output())


def _made(created: str) -> datetime:
    try:
        return datetime.fromisoformat(created)
    except ValueError:
        return datetime(2000, 1, 1, tzinfo=UTC)


def _latin(text: str) -> str:
    """Return what the standard fonts can show; other marks become question marks."""
    return svg.visible(text).encode("latin-1", "replace").decode("latin-1")


def _write(pdf: FPDF, text: str, size_pt: float, *, bold: bool = False, colour: tuple[int, int, int] = _BLACK) -> None:
    pdf.set_font("Helvetica", "B" if bold else "", size_pt)
    pdf.set_text_color(*colour)
    pdf.multi_cell(_WIDTH_MM - 2 * _MARGIN_MM, size_pt * 0.42, _latin(text), new_x="LMARGIN", new_y="NEXT", align="L")


def _head(pdf: FPDF, report: Mapping[str, Any]) -> None:
    _write(pdf, f"ECG report: record {report['record_name'][:120]}", 12, bold=True)
    _write(pdf, report["notice"], 8, bold=True, colour=_RED)
    _write(pdf, report["scope"], 7, colour=_GREY)
    if report["is_synthetic"]:
        _write(pdf, "Synthetic data: computed, not recorded from a person.", 8, bold=True)
    age = "age unknown" if report["age_years"] is None else f"{report['age_years']:.0f} years"
    age = "90+ years" if (report["age_years"] or 0) >= 90 else age
    sex = report["sex"] if report["sex"] != "unknown" else "sex unknown"
    length = "length unknown" if report["duration_s"] is None else f"{report['duration_s']:.1f} s"
    _write(pdf, f"Patient {report['patient_id'][:120]}; {age}, {sex}; {length}. {_rate(report)} {_quality(report)}", 7.5)
    _write(pdf, _decision(report), 10, bold=True)
    for line in _meaning(report):
        _write(pdf, line, 7, colour=_GREY)


def _rate(report: Mapping[str, Any]) -> str:
    rate = report["rate"]
    if rate["bpm"] is None:
        return "Heart rate not measured."
    other = "" if rate["other_bpm"] is None else f" (of the whole recording {rate['other_bpm']:.0f}/min)"
    return f"Heart rate {rate['bpm']:.0f}/min, {rate['meaning']}{other}."


def _quality(report: Mapping[str, Any]) -> str:
    if not (report["leads"] and report["excerpt"]):
        return "Quality not assessed: the samples could not be read, or not be trusted."
    shared, particular = lead_remarks(report["leads"])
    remarks = [f"all leads {', '.join(shared)}"] if shared else []
    remarks += [f"{', '.join(leads)} {remark}" for remark, leads in particular.items()]
    said = "; ".join(remarks)
    said = f"Remarks: {said[:280]}{'...' if len(said) > 280 else ''}." if said else "No remark on any lead."
    counts = f"{report['n_leads_usable']} of {len(report['leads'])} leads without a fault"
    return f"{counts}; beats found {report['n_beats_detected']}, scored {report['n_beats_scored']}. {said}"


def _decision(report: Mapping[str, Any]) -> str:
    if report["mi_probability"] is None:
        why, _ = explain_reason(report["reason"], is_scored=False)
        return f"{report['decision_words']}: {why or 'no reason stated'} ({report['reason'] or 'no code'})"
    interval = "unknown" if report["interval"] is None else " to ".join(probability_text(end) for end in report["interval"])
    of = "range over its beats, one member" if report["model"]["n_members_used"] == 1 else "95 % interval"
    abnormal = report["abnormal_probability"]
    also = "" if abnormal is None else f"; any heart disease {probability_text(abnormal)}"
    threshold = report["operating_point"]["threshold"]
    return (
        f"{report['decision_words']}: probability {probability_text(report['mi_probability'])} ({of} {interval}), "
        f"threshold {'unknown' if threshold is None else f'{threshold:.3f}'}{also}"
    )


def _meaning(report: Mapping[str, Any]) -> list[str]:
    """Return what is written below the decision, a line each: cautions first."""
    return [*(caution["words"] for caution in report["cautions"]), *_of_decision(report)]


def _of_decision(report: Mapping[str, Any]) -> list[str]:
    if report["mi_probability"] is None:
        _, advice = explain_reason(report["reason"], is_scored=False)
        found = f"Found: {report['reason_detail'][:300]}" if report["reason_detail"] else ""
        none = (
            "No probability was computed, and none may be assumed: a record that is not scorable is neither normal nor abnormal."
        )
        return [line for line in (found, f"What to do: {advice}" if advice else "", none) if line]
    lines, point, at = [], report["operating_point"], report["at_prevalence"]
    if point["sensitivity"] is not None and point["specificity"] is not None:
        stated = f"Operating point: sensitivity {point['sensitivity']:.3f}, specificity {point['specificity']:.3f}"
        if point["specificity_against_other"] is not None:
            stated += f", against other heart disease {point['specificity_against_other']:.3f}"
        lines.append(f"{stated}; chosen on: {point['chosen_on'] or 'unknown'}.")
    if at and report["decision"] != "indeterminate":
        name, called = ("ppv", "indicated") if report["decision"] == "mi_indicated" else ("npv", "not indicated")
        healthy, other = at[name]["value"], at[f"{name}_other"]["value"]
        range_ = "" if other is None else f"{100 * other:.0f} % if everybody else has other heart disease, "
        lines.append(
            f"Where {100 * at['prevalence']:.0f} of 100 recordings are of infarction, of those called {called} are right: "
            f"{range_}{100 * healthy:.0f} % if everybody else is healthy."
        )
    used = report["model"]["n_members_used"]
    alone = " One member alone scored it: the interval does not hold how far members differ." if used == 1 else ""
    said = f"Members that never saw this patient, and scored it: {used} of {report['model']['n_members']}.{alone}"
    lines.append(f"{leads_scored_words(report)} {said}".strip())
    if "electrodes_exchanged" in report["score_flags"]:
        pair = f", most likely {EXCHANGE_WORDS[report['exchange']]}" if report["exchange"] else ""
        back = report["probability_put_back"]
        said = "" if back is None else f" With the leads put back, for information: {probability_text(back)}."
        lines.append(f"Limb electrodes seem exchanged{pair}: record again before anything is concluded.{said}")
    if "unlike_training" in report["score_flags"]:
        lines.append("This recording is unlike those that the model was trained on; the probability means little here.")
    return lines


def _ecg(pdf: FPDF, report: Mapping[str, Any], excerpt: Excerpt, top_mm: float) -> None:
    most_mm = _HEIGHT_MM - _MARGIN_MM - _FOOT_MM - top_mm
    sheet = layout.lay_out(excerpt, most_mm=(most_mm,))
    strips = list(sheet.rows)
    while sum(strip.height_mm for strip in strips) > most_mm:  # more strips than a page holds: the first ones
        strips = strips[:-1]
    left_mm = (_WIDTH_MM - layout.SHEET_WIDTH_MM) / 2
    _paper(pdf, strips, left_mm, top_mm)
    for strip in strips:
        _strip(pdf, strip, left_mm, top_mm)
        if strip.is_rhythm:
            _marks(pdf, report, excerpt, left_mm, top_mm)
        top_mm += strip.height_mm
    pdf.set_xy(_MARGIN_MM, top_mm + 0.5)
    chosen = report["excerpt"] or {"why": "", "rhythm_lead": "", "rhythm_why": ""}
    said = [f"{scale_words(excerpt, sheet)}, no filter, from second {excerpt.start_s:.0f}: {chosen['why']}."]
    if sheet.rhythm_lead:
        why = f", {chosen['rhythm_why']}" if chosen["rhythm_why"] else ""
        said.append(f"Rhythm strip: {sheet.rhythm_lead}{why}; R peaks marked (hollow: not scored).")
    n_left_out = len(excerpt.present) - len(strips) if not excerpt.is_standard else 0
    said += [*sheet_words(sheet), f"{n_left_out} further leads are on the HTML page."][: None if n_left_out > 0 else -1]
    if report["strips"]:
        said.append("Strips of the rest of the recording are on the HTML page.")
    _write(pdf, " ".join(said), 7)


def _strip(pdf: FPDF, strip: layout.Strip, left_mm: float, top_mm: float) -> None:
    """Draw one row: pulse, traces, and the leads' names."""
    pdf.set_draw_color(*_BLACK)
    pdf.set_line_width(0.2)
    baseline_mm = top_mm + strip.above_mm
    points = [(left_mm + 1.5, baseline_mm)]
    for right, up in pulse_steps(strip):
        if right or up:
            points.append((points[-1][0] + right, points[-1][1] - up))
    if len(points) > 1:
        pdf.polyline(points)
    pdf.set_text_color(*_BLACK)
    for panel in strip.panels:
        _trace(pdf, panel, left_mm, baseline_mm)
        x = left_mm + (0.6 if panel.is_strip and len(panel.lead) <= 4 else panel.left_mm + 1)
        y = max(baseline_mm - (panel.mm_per_mv + 1.5 if panel.is_strip else panel.label_mm), top_mm + 3.0)
        pdf.set_font("Helvetica", "B", 8)
        pdf.text(x, y, _latin(panel.lead[:20]))
        pdf.set_font("Helvetica", "", 6)
        pdf.text(x, baseline_mm + 3.0 if panel.is_strip else y + 2.6, _latin(panel.remark))


def _paper(pdf: FPDF, strips: Sequence[layout.Strip], left_mm: float, top_mm: float) -> None:
    """Draw one grid below all rows, or, where some leads are not in millivolts, one below each."""
    kinds = {panel.is_millivolts for strip in strips for panel in strip.panels}
    if len(kinds) < 2:
        height_mm = sum(strip.height_mm for strip in strips)
        _grid(pdf, left_mm, top_mm, layout.SHEET_WIDTH_MM, height_mm, is_millivolts=kinds != {False})
        return
    for strip in strips:
        for panel in strip.panels:
            _grid(pdf, left_mm + panel.left_mm, top_mm, panel.width_mm, strip.height_mm, is_millivolts=panel.is_millivolts)
        top_mm += strip.height_mm


def _marks(pdf: FPDF, report: Mapping[str, Any], excerpt: Excerpt, left_mm: float, top_mm: float) -> None:
    """Mark the R peaks above the rhythm strip, as on the page: red and up at or above the threshold, hollow if not scored."""
    threshold = report["operating_point"]["threshold"]
    for when, value in zip(report["beats"]["time_s"], report["beats"]["probability"], strict=True):
        if not excerpt.start_s <= when < excerpt.start_s + excerpt.length_s:
            continue
        is_above = value is not None and threshold is not None and value >= threshold
        x, (tip, base) = (
            left_mm + layout.LEFT_MM + (when - excerpt.start_s) * layout.MM_PER_S,
            (6.0, 7.6)[:: 1 if is_above else -1],
        )
        pdf.set_draw_color(*(_RED if is_above else _BLUE))
        pdf.set_fill_color(*(_RED if is_above else _BLUE))
        points = [(x, top_mm + tip), (x - 0.9, top_mm + base), (x + 0.9, top_mm + base)]
        pdf.polygon(points, style="D" if value is None else "DF")


def _grid(pdf: FPDF, left: float, top: float, width: float, height: float, *, is_millivolts: bool) -> None:
    for thick, (colour, line_mm) in enumerate(zip(_GRIDS[is_millivolts], (0.05, 0.12), strict=True)):
        pdf.set_draw_color(*colour)
        pdf.set_line_width(line_mm)
        for mm in range(0, int(width + 0.5) + 1, 5 if thick else 1):
            pdf.line(left + mm, top, left + mm, top + height)
        for mm in range(0, int(height) + 1 if is_millivolts else 0, 5 if thick else 1):
            pdf.line(left, top + mm, left + width, top + mm)


def _trace(pdf: FPDF, panel: layout.Panel, left_mm: float, baseline_mm: float) -> None:
    for x, y in layout.traces(panel):
        points = np.column_stack([left_mm + x, baseline_mm - y]).round(3)
        if len(points) > 1:
            pdf.polyline([(float(a), float(b)) for a, b in points])


def _foot(pdf: FPDF, report: Mapping[str, Any]) -> None:
    if report["measurements"]:
        _measured(pdf, report["measurements"])
    if said := cart_line(report["cart"]):
        _write(pdf, said, 7)
    source, model = report["provenance"], report["model"]
    parts = (
        f"Source {source['source_digest'] or 'unreadable'}",
        f"signals {source['signals_store']}",
        f"beats {source['beats_store'] or 'none'}",
        f"model {model['name']} {model['digest']}",
        f"run {source['run']}",
        f"ecgbatch {source['ecgbatch_version']}",
        f"made {source['created']}",
        f"report {source['report_digest']}",
    )
    _write(pdf, "; ".join(parts), 5.5, colour=_GREY)


def _measured(pdf: FPDF, measurements: Mapping[str, Any]) -> None:
    """Write what the page's table says, short: quantities without a value together below their reason."""
    known, without = [], dict[str, list[str]]()
    for title, unit, found in in_words(measurements):
        if found["value"] is None:
            without.setdefault(found["reason"], []).append(title)
        else:
            known.append(f"{title} {found['value']:z.0f} {unit}")
    parts = ["; ".join(known)] if known else []
    parts += [f"not measured ({reason}): {', '.join(titles)}" for reason, titles in without.items()]
    _write(pdf, f"Measured: {'; '.join(parts)}.", 7)
    said = [one["words"] + (f" ({one['note']})" if one["note"] else "") for one in measurements["statements"]]
    nothing = "nothing, no number that is measured lies beyond its limit"
    _write(pdf, f"What follows from the numbers alone, not a diagnosis: {'; '.join(said) or nothing}.", 7, bold=bool(said))
    levels = {lead: found["st_j_mv"] for lead, found in measurements["leads"].items()}
    st = ", ".join(f"{lead[:20]} {value:z.2f}" for lead, value in levels.items() if value is not None)
    _write(pdf, f"ST at J, mV: {st[:250] or 'not measured'}.", 7)
