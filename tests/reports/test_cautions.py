"""Cautions: measured ST elevation against the score, and a wide QRS, are said and change nothing."""

from __future__ import annotations

import pytest

from ecgbatch.reports.cautions import cautions


def a_report(decision, *statements, qrs_ms=148.0):
    said = [{"statement": name, "words": f"words of {name}", "leads": []} for name in statements]
    return {"decision": decision, "measurements": {"statements": said, "qrs_ms": {"value": qrs_ms, "reason": ""}}}


@pytest.mark.parametrize("decision", ["mi_not_indicated", "indeterminate", "not_scorable"])
def test_st_elevation_where_infarction_is_not_indicated_is_said(decision):
    (found,) = cautions(a_report(decision, "st_elevation"))
    assert found["caution"] == "st_elevation"
    assert found["words"].startswith("words of st_elevation. The score does not say infarction")


def test_nothing_is_said_where_score_and_st_agree_or_nothing_was_measured():
    assert cautions(a_report("mi_indicated", "st_elevation", "rate_fast")) == []
    assert cautions(a_report("mi_not_indicated", "q_waves")) == []
    assert cautions({"decision": "not_scorable", "measurements": None}) == []


def test_a_wide_qrs_is_said_with_its_width_whatever_the_decision():
    for decision in ("mi_indicated", "mi_not_indicated", "indeterminate"):
        (found,) = cautions(a_report(decision, "qrs_wide"))
        assert found["caution"] == "wide_qrs"
        assert "148 ms" in found["words"]
    assert cautions(a_report("not_scorable", "qrs_wide")) == []
