"""Triage: which records are read first, what contradicts what, how good a recording is, and what the tables say of leads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

from ecgbatch import terms
from ecgbatch.reports import record_page, tables, triage, words, worklist
from ecgbatch.terms import DECISION, INDETERMINATE_KINDS, LABEL, LEAD_FLAGS, QUALITY, SCORE_FLAGS, STATUS, UNUSABLE_LEAD
from storage import TEXT
from tests.reports.test_cohort import data_of, decoded, facts_of, many_scores, page_of
from tests.reports.test_safety import a_report

ROWS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("mi_indicated", {"decision": "mi_indicated", "p": 0.9, "label": "mi"}),
    ("mi_indicated", {"decision": "mi_indicated", "p": 0.8, "label": "control", "quality": "not_usable"}),
    ("mi_indicated", {"decision": "mi_indicated", "p": 0.7, "status": "partial"}),
    ("contradicted", {"decision": "mi_not_indicated", "p": 0.3, "label": "mi", "status": "partial"}),
    ("contradicted", {"decision": "mi_not_indicated", "p": 0.1, "label": "mi"}),
    ("electrodes_exchanged", {"decision": "indeterminate", "p": 0.2, "kinds": INDETERMINATE_KINDS}),
    ("close_to_threshold", {"decision": "indeterminate", "p": 0.9, "label": "mi", "kinds": ("close_to_threshold",)}),
    ("unlike_training", {"decision": "indeterminate", "p": 0.9, "kinds": ("unlike_training", "close_to_threshold")}),
    ("not_scorable", {"decision": "not_scorable", "reason": "NO_BEATS", "quality": "not_usable"}),
    ("not_scorable", {"decision": "not_scorable", "reason": "TOO_FEW_BEATS", "label": "mi"}),
    ("set_aside", {"decision": "not_scorable", "reason": "DAT_EMPTY", "status": "set_aside", "quality": "not_usable"}),
    ("poor_recording", {"decision": "mi_not_indicated", "p": 0.2, "quality": "not_usable"}),
    ("poor_recording", {"decision": "mi_not_indicated", "p": 0.1, "status": "partial", "reason": "LEADS_MISSING"}),
    ("nothing", {"decision": "mi_not_indicated", "p": 0.3, "label": "other", "quality": "remarks"}),
    ("nothing", {"decision": "mi_not_indicated", "p": 0.1, "label": "control"}),
)
"""Records in the order in which they are to be read, each with its group."""


def table_of(rows: list[dict[str, Any]]) -> tables.Table:
    def words(name: str, codes: Any, default: str) -> np.ndarray:
        return np.array([codes[row.get(name, default)] for row in rows], np.int8)

    flags = [sum(SCORE_FLAGS[kind] for kind in row.get("kinds", ())) for row in rows]
    columns = {
        "record_name": np.array([row["name"] for row in rows], TEXT),
        "patient_id": np.array([row["name"] for row in rows], TEXT),
        "mi_probability": np.array([row.get("p", np.nan) for row in rows], np.float32),
        "decision": words("decision", DECISION, ""),
        "label": words("label", LABEL, "unknown"),
        "status": words("status", STATUS, "ok"),
        "reason": np.array([row.get("reason", "") for row in rows], TEXT),
        "score_flags": np.array(flags, np.uint8),
    }
    scores = xr.Dataset({name: ("record", values) for name, values in columns.items()})
    facts = {"quality": words("quality", QUALITY, "good"), "slug": columns["record_name"]}
    facts["statements"] = np.array([row.get("statements", 0) for row in rows], np.int64)
    return tables.Table(scores, facts)


def test_records_are_read_by_group_and_then_by_probability_whatever_their_order_was():
    assert {group for group, _ in ROWS} == set(triage.NEEDS_LOOK)
    rows = [row | {"name": f"{number:02d}", "group": group} for number, (group, row) in enumerate(ROWS)]
    random = np.random.default_rng(0)
    for _ in range(5):
        mixed = [rows[place] for place in random.permutation(len(rows))]
        table = table_of(mixed)
        assert [mixed[place]["name"] for place in table.order] == [row["name"] for row in rows]
        assert table.column("needs_look") == [row["group"] for row in mixed]
        assert table.column("needs_look_rank") == [int(row["name"]) + 1 for row in mixed]


def test_what_a_decision_contradicts_is_named():
    elevated, wide = terms.STATEMENTS["st_elevation"], terms.STATEMENTS["qrs_wide"]
    cases = {
        "missed_mi": {"decision": "mi_not_indicated", "label": "mi"},
        "false_alarm": {"decision": "mi_indicated", "label": "control"},
        "other_called": {"decision": "mi_indicated", "label": "other"},
        "statement": {"decision": "mi_not_indicated", "statements": elevated | wide},
        "missed_mi statement": {"decision": "mi_not_indicated", "label": "mi", "statements": elevated},
        "": {"decision": "indeterminate", "label": "mi", "statements": elevated, "kinds": ("close_to_threshold",)},
    }
    table = table_of([row | {"name": name} for name, row in cases.items()])
    assert table.column("disagreement") == list(cases)
    assert table.column("needs_look")[3] == "contradicted"
    assert table_of([{"name": "wide", "decision": "mi_not_indicated", "statements": wide}]).column("disagreement") == [""]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([0] * 12, "good"),
        ([LEAD_FLAGS["unverified"] | LEAD_FLAGS["not_millivolts"]] * 12, "good"),
        ([LEAD_FLAGS["wander"]] + [0] * 11, "remarks"),
        ([LEAD_FLAGS["noisy"]] * 4 + [0] * 8, "remarks"),
        ([LEAD_FLAGS["noisy"]] * 5 + [0] * 7, "not_usable"),
        ([LEAD_FLAGS["missing"]] * 11 + [0], "remarks"),
        ([LEAD_FLAGS["missing"]] * 12, "not_usable"),
        ([], "not_usable"),
    ],
)
def test_quality_is_that_of_the_leads_that_were_recorded(flags, expected):
    assert triage.quality(np.array(flags, np.int64)) == QUALITY[expected]
    assert triage.quality(np.array(flags, np.int64), is_set_aside=True) == QUALITY["not_usable"]


def test_flags_of_leads_are_said_of_the_record_and_lead_by_lead():
    masks = np.array([LEAD_FLAGS["noisy"], 0, LEAD_FLAGS["flat"] | LEAD_FLAGS["clipped"]], np.int64)
    found = tables.lead_facts(["I", "II", "V1:;x"], masks, is_set_aside=False)
    assert found["flags_by_lead"] == "I:noisy;V1__x:flat clipped"
    assert terms.words_of_mask(found["lead_flags"], LEAD_FLAGS) == ["flat", "clipped", "noisy"]


def test_a_noisy_lead_is_not_usable_on_the_page_and_pure_noise_is_never_called_good():
    leads = {"I": ["noisy"], "II": ["noisy"], "V1": ["noisy", "wander"]}
    report = a_report() | {"leads": leads, "n_leads_usable": 0, "excerpt": {"start_s": 0.0, "length_s": 10.0}, "status": "ok"}
    page = record_page.record_page(report, record_page.Drawn())
    assert "of 3 leads without a fault" in page
    assert "<b>All leads</b>: <span" in page
    assert page.count("noise") == 1
    assert 'class="good"' not in page
    assert a_report()["n_leads_usable"] == 1  # lead II is noisy
    assert terms.FAULTY_LEAD & UNUSABLE_LEAD == UNUSABLE_LEAD


def test_what_the_list_shows_is_declared_in_words_that_exist():
    known = {**tables.MASKS, "needs_look": triage.NEEDS_LOOK, "exchange": words.EXCHANGE_WORDS}
    known |= {"decision": DECISION, "label": LABEL, "status": STATUS, "quality": QUALITY}
    for name, own in worklist.WORDS.items():
        assert set(own) <= set(known[name]), name
    assert all(one.filter in ("", "choice", "words", "range") for one in worklist.LIST)
    assert {one.name for one in worklist.LIST if one.filter == "words"} <= set(tables.MASKS)


def test_a_column_of_measurements_is_on_the_page_where_it_is_known_and_nowhere_else():
    scores = many_scores(40)
    assert "qrs_ms" not in [one["name"] for one in data_of(page_of(scores))["list"]]
    facts = facts_of(scores) | {"qrs_ms": np.linspace(80, 120, 40).astype(np.float32)}
    table = tables.Table(scores, facts)
    found = dict(worklist.data(table))
    assert decoded(found["=qrs_ms"], 40) == table.column("qrs_ms", table.order)
    assert "qrs_ms" in [one["name"] for one in found["list"]]
    assert found["csv"] == list(tables.COLUMNS)


@pytest.mark.parametrize("n", [3, 64, 65, 4096, 4097])
def test_columns_are_read_back_from_their_signs(n):
    texts = [f"t{place * 7 % n}" for place in range(2 * n)] + [None]
    assert decoded(worklist.encoded(texts), len(texts)) == texts
    numbers = [float(str(value)) for value in np.random.default_rng(n).random(n).astype(np.float32)] + [None]
    assert decoded(worklist.encoded(numbers, is_float=True), n + 1) == numbers
    counts = [place * 3 for place in range(n)]
    assert decoded(worklist.encoded(counts), n) == counts
    words = worklist.encoded(["b", "a", None, "c"], first=("c", "x"))
    assert words["of"] == ["c", "a", "b", None]
