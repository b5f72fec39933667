"""A record's page: everything that its report says, with what is drawn of the recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from markupsafe import Markup

from ecgbatch.formats.header import WARNINGS
from ecgbatch.reports.cart import cart_words
from ecgbatch.reports.course import Course, course_lines, is_cut_off
from ecgbatch.reports.ecg_paper import ecg_paper, sheet_words
from ecgbatch.reports.excerpts import Excerpt
from ecgbatch.reports.grid import grid_patterns
from ecgbatch.reports.layout import MM_PER_S, SHARED_MM, Sheet, lay_out
from ecgbatch.reports.measured import measured_words
from ecgbatch.reports.median_beats import beat_speed, median_beats
from ecgbatch.reports.pages import Around, page
from ecgbatch.reports.probabilities import beat_strip, probability_scale
from ecgbatch.reports.serial import serial_rows, serial_words
from ecgbatch.reports.words import EXCHANGE_WORDS, FAULTS, LEAD_WORDS, explain_reason, lead_remarks, leads_scored_words


@dataclass(frozen=True)
class Drawn:
    """What of a recording a page draws; what is None, or not there, is left out.

    ``excerpt``: the signal to put on paper, the span of ``report["excerpt"]``. ``course``: the whole recording's lead of
    ``report["strips"]``. ``quartiles`` (3, lead, sample) float, mV, with ``sample_time_s`` (sample,) float, s: from
    ``beat_quartiles``, leads in the order of ``excerpt``. ``is_millivolts``: False where the beats were normalised when cut.
    """

    excerpt: Excerpt | None = None
    course: Course | None = None
    quartiles: np.ndarray | None = None
    sample_time_s: np.ndarray | None = None
    is_millivolts: bool = True

    @cached_property
    def sheet(self) -> Sheet:
        """The paper on which the excerpt is laid out; there is an excerpt."""
        assert self.excerpt is not None
        return lay_out(self.excerpt)


def record_page(
    report: Mapping[str, Any],
    drawn: Drawn,
    overlay: Sequence[tuple[str, Markup]] = (),
    *,
    is_alone: bool = False,
    around: Around | None = None,
    template: str = "record.html",
) -> str:
    """Return a record's page: one HTML file that holds everything, on A4 landscape when printed.

    Parameters
    ----------
    report
        From ``record_report``: every number on the page is one of its values.
    drawn
        Where it holds no excerpt, the page says that no ECG is drawn.
    overlay
        From ``overlay.overlay``: median beats of this recording and of another of the patient's.
    is_alone
        Whether it lies apart from the cohort's page and others: then it leads to none.
    around
        What a server puts around it; None: it is a file.
    template
        ``record.html``, or ``blind.html``, which a ``blinded`` report fills.

    """
    beats = report["beats"]
    probability = np.array([np.nan if value is None else value for value in beats["probability"]], float)
    time_s = np.array(beats["time_s"], float)
    threshold = report["operating_point"]["threshold"] if report["mi_probability"] is not None else None
    drawings: dict[str, Any] = {"grid": "", "is_on_its_own": False, "overlay": overlay, "is_alone": is_alone}
    if drawn.excerpt is not None:
        ecg = ecg_paper(drawn.excerpt, time_s, probability, threshold=threshold, sheet=drawn.sheet)
        drawings |= {"grid": grid_patterns(), "ecg": ecg} | _of_sheet(report, drawn.excerpt, drawn.sheet)
        if drawn.course is not None:
            drawings |= _of_course(report, drawn.course)
        drawings |= _of_beats(report, drawn.excerpt, drawn)
    if np.isfinite(probability).any() and report["duration_s"]:
        drawings["beat_strip"] = beat_strip(time_s, probability, duration_s=report["duration_s"], threshold=threshold)
    if threshold is not None:
        drawings["scale"] = probability_scale(report["mi_probability"], report["interval"], threshold)
    words = _page_words(report)
    drawings["serial_rows"] = partial(serial_rows, has_links=not is_alone)
    return page(template, script="record.js", around=around, report=report, drawings=drawings, words=words)


def _of_sheet(report: Mapping[str, Any], excerpt: Excerpt, sheet: Sheet) -> dict[str, Any]:
    """Return what is said beside the ECG: its scale, leads that found no place, whether it has a printed page of its own."""
    on_paper = {panel.lead for row in sheet.rows for panel in row.panels}
    return {
        "sheet_words": sheet_words(sheet),
        "is_on_its_own": sheet.height_mm > SHARED_MM - _extra_mm(report),
        "not_on_paper": [lead for lead in excerpt.present if lead not in on_paper],
    }


def _of_course(report: Mapping[str, Any], course: Course) -> dict[str, Any]:
    lines = course_lines(course, report["strips"], report["excerpt"], report["beats"])
    return {"course": lines, "is_cut_off": is_cut_off(course), "is_levelled": course.is_levelled}


def _of_beats(report: Mapping[str, Any], excerpt: Excerpt, drawn: Drawn) -> dict[str, Any]:
    if drawn.quartiles is None or drawn.sample_time_s is None:
        return {}
    beats = median_beats(
        drawn.quartiles,
        excerpt.leads,
        excerpt.lead_flags,
        drawn.sample_time_s,
        is_millivolts=drawn.is_millivolts,
        evidence=report["evidence"],
    )
    return {
        "median_beats": beats,
        "beats_are_fast": beat_speed(drawn.sample_time_s) > MM_PER_S,
        "beats_are_millivolts": drawn.is_millivolts and excerpt.is_millivolts,
    }


def _extra_mm(report: Mapping[str, Any]) -> float:
    """Return how much higher than usual, printed, is what stands above the ECG: warnings, long reasons, the header's comments."""
    warned = {"electrodes_exchanged", "unlike_training"} & set(report["score_flags"])
    return 9.0 * len(warned) + 4.0 * (
        len(report.get("comments", ())) + len(report["warnings"]) + 2 * bool(report["reason_detail"])
    )


def _page_words(report: Mapping[str, Any]) -> dict[str, Any]:
    why, advice = explain_reason(report["reason"], is_scored=report["mi_probability"] is not None)
    shared, particular = lead_remarks(report["leads"])
    return {
        "lead": LEAD_WORDS,
        "leads_scored": leads_scored_words(report),
        "series": serial_words(report) if report["n_other_recordings"] else None,
        "shared": shared,
        "particular": particular,
        "has_good_leads": _has_good_leads(report["leads"]),
        "measured": measured_words(report["measurements"]) if report["measurements"] else None,
        "cart": cart_words(report["cart"]),
        "warning": WARNINGS,
        "exchange": EXCHANGE_WORDS,
        "why": why,
        "advice": advice,
    }


def _has_good_leads(leads: Mapping[str, Sequence[str]]) -> bool:
    """Whether some lead has no remark but those that all have, none of which is a fault."""
    present = [set(flags) for flags in leads.values() if "missing" not in flags]
    of_all = set.intersection(*present) if len(present) > 1 else set()
    return not FAULTS & of_all and any(not flags - of_all for flags in present)
