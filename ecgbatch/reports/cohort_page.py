"""The cohort's page: figures with the way to the records that they count, and the list of all records."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgbatch.figures import drift
from ecgbatch.figures.curves import AGE_BANDS
from ecgbatch.figures.drift import MOST_NAMED
from ecgbatch.reports import charts, pages, triage, words, worklist
from ecgbatch.reports.files import utf8
from ecgbatch.reports.operating_point import STATED_PREVALENCE
from ecgbatch.reports.serial import COMPARED, ORDINARY
from ecgbatch.reports.tables import Table
from ecgbatch.terms import LABEL

MOST_ROWS = 500
"""Records written out in a list; the page's script shows the others of its table a page at a time."""


def cohort_page(cohort: Mapping[str, Any], table: Table) -> bytes:
    """Return the cohort's page: one HTML file in UTF-8; its one script, which filters and sorts the list, is its own.

    Parameters
    ----------
    cohort
        From ``cohort.cohort_report``, with ``since_last_run``, ``drift`` and ``timing``.
    table
        The same records.

    """
    probability = table.scores["mi_probability"].values
    unscored = table.order[~np.isfinite(probability[table.order])][:MOST_NAMED]
    details = table.facts["reason_detail"][unscored].tolist()
    without = [row | {"detail": detail} for row, detail in zip(table.rows(unscored), details, strict=True)]
    why = {code: words.explain_reason(code, is_scored=False)[0] or "no reason stated" for code in cohort["not_scorable_reasons"]}
    pieces = pages.pieces(
        "cohort.html",
        script="cohort.js",
        cohort=cohort,
        drawings=_drawings(cohort),
        records=table.rows(table.order[:MOST_ROWS]),
        data=pages.data_block(worklist.data(table)),
        without=without,
        wrong=table.rows(worst_errors(table)),
        link_of=_links(cohort["since_last_run"], table),
        most_rows=MOST_ROWS,
        most_named=MOST_NAMED,
        age_range={name: f"{low}..{high - 0.01}" for low, high, name in AGE_BANDS} | {"unknown": "unknown"},
        stated_prevalence=STATED_PREVALENCE,
        words={
            "why": why,
            "kind": words.KIND_WORDS,
            "label": charts.LABEL_WORDS,
            "decision": words.DECISION_WORDS,
            "lead": words.LEAD_WORDS,
            "variable": drift.WORDS,
            "quantity": COMPARED,
            "ordinary": ORDINARY,
            "short_label": worklist.WORDS["label"],
            "look": triage.NEEDS_LOOK,
            "quality": worklist.WORDS["quality"],
        },
    )
    out = io.BytesIO()
    for piece in pieces:
        out.write(utf8(piece))
    return out.getvalue()


def _links(since: Mapping[str, Any] | None, table: Table) -> dict[str, str]:
    """Return the page of each record that is named as new, changed or decided otherwise since the last run."""
    if not since:
        return {}
    named = {*since["new"], *since["changed"], *(moved["record_name"] for moved in since["decisions_changed"])}
    places = [place for place, name in enumerate(table.scores["record_name"].values) if name in named]
    return dict(zip(*(table.column(name, places) for name in ("record_name", "report")), strict=True))


def _drawings(cohort: Mapping[str, Any]) -> dict[str, Any]:
    curves, drawings = cohort["curves"], {}
    if cohort["n_scored"]:
        drawings["histogram"] = charts.probability_histograms(cohort["histogram"], cohort["thresholds"])
    if curves["roc"]["sensitivity"]:
        drawings["roc"] = charts.roc(curves["roc"], cohort["sensitivity"], cohort["specificity"], curves["roc_band"])
        prevalence = cohort["sensitivity"]["n_patients"] / cohort["n_patients_evaluated"]
        drawings["precision_recall"] = charts.precision_recall(
            curves["precision_recall"], curves["precision_recall_band"], prevalence
        )
        drawings["decision"] = charts.decision_curve(curves["decision"])
        drawings["predictive_value"] = charts.predictive_values(curves["predictive_value"], STATED_PREVALENCE)
    if curves["calibration"]["predicted"]:
        drawings["calibration"] = charts.calibration(curves["calibration"])
    return drawings


def worst_errors(table: Table) -> NDArray[np.int64]:
    """Return the places of decisions that contradict the label, the surest first; ``MOST_NAMED`` at most.

    A call on other heart disease is as sure as one on a healthy heart.
    """
    label, probability = table.scores["label"].values, table.scores["mi_probability"].values.astype(float)
    places = table.order[table.disagreement[table.order] & ~triage.DISAGREEMENTS["statement"] > 0]
    surest = np.where(label[places] == LABEL["mi"], probability[places], 1 - probability[places])
    return places[np.argsort(surest, kind="stable")][:MOST_NAMED]
