"""The report of a record on whose content making its page failed: its numbers, and a page that says so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ecgbatch.reports.files import json_lines, utf8
from ecgbatch.reports.pages import Around, page
from ecgbatch.reports.record import SCHEMA_VERSION, Edition, record_report
from ecgbatch.reports.rows import Row
from ecgbatch.reports.words import DECISION_WORDS
from ecgbatch.terms import DECISION, NOTICE, STATUS, STEP_FAILED
from storage import NOT_OF_A_ROW

NOT_FOR_REUSE = "-failed"
"""Ends the report's digest: no later run takes the page over, so that each tries to make it."""


def failed_report(row: Row, source: Row | None, kind: str, edition: Edition) -> dict[str, Any]:
    """Return what can be said of the record: as ``record.record_report`` without its beats, or, where that fails too, its score.

    ``kind`` is the type of the exception; it stands among the warnings.
    """
    try:
        report: dict[str, Any] = record_report(row, source, None, edition)
    except NOT_OF_A_ROW:
        raise
    except Exception:  # the same fault again, most likely
        report = _score_alone(row, source or {}, edition)
    report["excerpt"] = report["strips"] = None
    report["warnings"] = [*report["warnings"], f"{STEP_FAILED}:report:{kind}"]
    report["provenance"]["report_digest"] += NOT_FOR_REUSE
    return report


def _score_alone(row: Row, source: Row, edition: Edition) -> dict[str, Any]:
    told = ("record_name", "patient_id", "reason", "mi_probability", "n_beats_detected", "n_beats_scored")
    texts = ("diagnosis", "infarct_location", "infarct_age")
    return {name: row[name] for name in told} | {name: source.get(name, "") for name in texts} | {
        "schema_version": SCHEMA_VERSION,
        "notice": NOTICE,
        "status": next(word for word, code in STATUS.items() if code == row["status"]),
        "decision": next(word for word, code in DECISION.items() if code == row["decision"]),
        "patient_unknown": bool(source.get("patient_unknown", 0)),
        "reason_detail": source.get("status_detail", ""),
        "warnings": source.get("warnings", "").split(),
        "n_leads_usable": 0,
        "leads_scored": [],
        "leads_derived": [],
        "leads_unknown": [],
        "duration_s": None,
        "provenance": {"run": edition.run, "created": edition.created, "report_digest": ""},
    }  # fmt: skip


def failed_files(report: Mapping[str, Any], kind: str) -> Iterable[tuple[str, bytes]]:
    """Yield kind and content of the record's page and JSON."""
    yield "html", utf8(failed_page(report, kind).rstrip())
    yield "json", utf8(json_lines(report))


def failed_page(report: Mapping[str, Any], kind: str, around: Around | None = None) -> str:
    """Return the page of such a report."""
    return page("failed.html", around=around, report=report, kind=kind, words=DECISION_WORDS[report["decision"]])
