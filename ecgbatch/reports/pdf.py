"""A record's report as PDF: one A4 page with the same decision, numbers and ECG as its HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from ecgbatch.measurements import intervals
from ecgbatch.reports import ecg_paper
from ecgbatch.reports.pages import probability_text
from ecgbatch.reports.record import EXCHANGE_WORDS, LEAD_WORDS, explain_reason

if TYPE_CHECKING:
    from fpdf import FPDF

_WIDTH_MM, _HEIGHT_MM, _MARGIN_MM = 297.0, 210.0, 8.0
_ROWS_MM = 130.0  # of traces, between decision and measurements
_GREY, _BLACK, _RED = (70, 70, 70), (17, 17, 17), (122, 18, 18)
_GRIDS = {True: ((242, 192, 192), (222, 144, 144)), False: ((228, 228, 228), (196, 196, 196))}


def check_installed() -> None:
    """Raise ``ValueError`` if the library that writes PDF is not installed."""
    try:
        import fpdf  # noqa: F401
    except ImportError as error:
        raise ValueError("--pdf needs fpdf2, which is not installed; run: pip install 'ecgbatch[pdf]'") from error


def record_pdf(report: Mapping[str, Any], *, excerpt: ecg_paper.Excerpt | None = None) -> bytes:
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
        _ecg(pdf, excerpt, pdf.get_y() + 1.0)
    _foot(pdf, report)
    return bytes(pdf.output())


def _made(created: str) -> datetime:
    try:
        return datetime.fromisoformat(created)
    except ValueError:
        return datetime(2000, 1, 1, tzinfo=UTC)


def _latin(text: str) -> str:
    """Return what the standard fonts can show; other marks become question marks."""
    return ecg_paper.visible(text).encode("latin-1", "replace").decode("latin-1")


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
    _write(pdf, f"Patient {report['patient_id'][:120]}; {age}, {sex}; {length}. {_quality(report)}", 7.5)
    _write(pdf, _decision(report), 10, bold=True)
    for line in _meaning(report):
        _write(pdf, line, 7, colour=_GREY)


def _quality(report: Mapping[str, Any]) -> str:
    if not (report["leads"] and report["excerpt"]):
        return "Quality not assessed: the samples could not be read, or not be trusted."
    remarks = [f"{lead} {', '.join(LEAD_WORDS[flag] for flag in flags)}" for lead, flags in report["leads"].items() if flags]
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
    lines.append(f"Members that never saw this patient, and scored it: {used} of {report['model']['n_members']}.{alone}")
    if "electrodes_exchanged" in report["score_flags"]:
        pair = f", most likely {EXCHANGE_WORDS[report['exchange']]}" if report["exchange"] else ""
        back = report["probability_put_back"]
        said = "" if back is None else f" With the leads put back, for information: {probability_text(back)}."
        lines.append(f"Limb electrodes seem exchanged{pair}: record again before anything is concluded.{said}")
    if "unlike_training" in report["score_flags"]:
        lines.append("This recording is unlike those that the model was trained on; the probability means little here.")
    return lines


def _ecg(pdf: FPDF, excerpt: ecg_paper.Excerpt, top_mm: float) -> None:
    strips = ecg_paper.layout(excerpt, rows_mm=_ROWS_MM)
    while sum(strip.height_mm for strip in strips) > _ROWS_MM + 10:  # more strips than a page holds: the first ones
        strips = strips[:-1]
    left_mm = (_WIDTH_MM - ecg_paper.SHEET_WIDTH_MM) / 2
    for strip in strips:
        if len({panel.is_millivolts for panel in strip.panels}) == 1:
            in_mv = strip.panels[0].is_millivolts
            _grid(pdf, left_mm, top_mm, ecg_paper.SHEET_WIDTH_MM, strip.height_mm, is_millivolts=in_mv)
        else:
            for panel in strip.panels:
                _grid(pdf, left_mm + panel.left_mm, top_mm, panel.width_mm, strip.height_mm, is_millivolts=panel.is_millivolts)
        pdf.set_draw_color(*_BLACK)
        pdf.set_line_width(0.2)
        baseline_mm = top_mm + strip.above_mm
        if all(panel.is_millivolts for panel in strip.panels):
            x, y = left_mm + 1.5, baseline_mm
            up = y - ecg_paper.MM_PER_MV
            pdf.polyline([(x, y), (x + 1.5, y), (x + 1.5, up), (x + 6.5, up), (x + 6.5, y), (x + 8, y)])
        for panel in strip.panels:
            _trace(pdf, panel, left_mm, baseline_mm)
            pdf.set_font("Helvetica", "B", 8)
            pdf.set_text_color(*_BLACK)
            pdf.text(left_mm + panel.left_mm + 1, top_mm + 3.5, _latin(f"{panel.lead[:20]} {panel.note}".strip()))
        top_mm += strip.height_mm
    scale = "25 mm/s, 10 mm/mV" if excerpt.is_millivolts else "25 mm/s, amplitude normalised: heights are not millivolts"
    pdf.set_xy(_MARGIN_MM, top_mm + 0.5)
    n_left_out = len(excerpt.present) - len(strips) if not excerpt.is_standard else 0
    left_out = f"; {n_left_out} further leads are on the HTML page" if n_left_out > 0 else ""
    _write(pdf, f"{scale}, no filter, from second {excerpt.start_s:.0f}; last strip: {strips[-1].panels[0].lead}{left_out}", 7)


def _grid(pdf: FPDF, left: float, top: float, width: float, height: float, *, is_millivolts: bool) -> None:
    for thick, (colour, line_mm) in enumerate(zip(_GRIDS[is_millivolts], (0.05, 0.12), strict=True)):
        pdf.set_draw_color(*colour)
        pdf.set_line_width(line_mm)
        for mm in range(0, int(width + 0.5) + 1, 5 if thick else 1):
            pdf.line(left + mm, top, left + mm, top + height)
        for mm in range(0, int(height) + 1 if is_millivolts else 0, 5 if thick else 1):
            pdf.line(left, top + mm, left + width, top + mm)


def _trace(pdf: FPDF, panel: ecg_paper.Panel, left_mm: float, baseline_mm: float) -> None:
    for x, y in ecg_paper.traces(panel):
        points = np.column_stack([left_mm + x, baseline_mm - y]).round(3)
        if len(points) > 1:
            pdf.polyline([(float(a), float(b)) for a, b in points])


def _foot(pdf: FPDF, report: Mapping[str, Any]) -> None:
    if report["measurements"]:
        known = []
        for title, unit, found in intervals.in_words(report["measurements"]):
            known.append(f"{title} " + ("not measured" if found["value"] is None else f"{found['value']:.0f} {unit}"))
        _write(pdf, "Measured: " + "; ".join(known) + ".", 7)
        levels = {lead: found["value"] for lead, found in report["measurements"]["st_60_mv"].items()}
        said = ", ".join(f"{lead[:20]} {value:.2f}" for lead, value in levels.items() if value is not None)
        _write(pdf, f"ST 60 ms after J, mV: {said[:250] or 'not measured'}.", 7)
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
