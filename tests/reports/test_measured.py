"""A page's measurements: every number is the JSON's, what is beyond a limit is marked, what has no number says why."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from ecgbatch.measurements.document import document
from ecgbatch.measurements.quantities import LEAD_QUANTITIES, QUANTITIES, REASON_WORDS, REASONS
from ecgbatch.measurements.record import Measured
from ecgbatch.measurements.statements import NOTES
from ecgbatch.reports.measured import GROUPS, LEAD_MARKS, MARKS, measured_words
from ecgbatch.reports.pages import page
from ecgbatch.terms import STATEMENTS

LEADS, UP = ("I", "II", "<b>V1"), "\N{BLACK UP-POINTING TRIANGLE}"


def measured(statements: tuple[str, ...] = (), reason: str = "", lead_reason: str = "", q_ms: float = np.nan) -> dict[str, Any]:
    """Measurements whose numbers all differ, or that lack them all for a reason."""
    value = np.arange(100, 100 + len(QUANTITIES)).astype(np.float32)
    lead_value = (np.arange(len(LEAD_QUANTITIES) * len(LEADS)).reshape(len(LEAD_QUANTITIES), -1) / 100 + 1).astype(np.float32)
    if reason:
        value[:] = np.nan
    if lead_reason:
        lead_value[:] = np.nan
        lead_value[0] = q_ms
    codes = np.full(len(QUANTITIES), REASONS[reason or "measured"], np.uint8)
    of_leads = np.full(len(LEADS), REASONS[lead_reason or "measured"], np.uint8)
    mask = sum(STATEMENTS[name] for name in statements)
    return document(Measured(value, codes, lead_value, of_leads, 9, 0.9, 0.1, mask), LEADS, "Method.", age_years=60)


def drawn(measurements: dict[str, Any]) -> str:
    said = page("record_measured.html", report={"measurements": measurements}, words={"measured": measured_words(measurements)})
    return re.sub(r"\s+", " ", said)


def test_every_quantity_is_in_one_group_of_the_table_and_every_mark_names_one():
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(QUANTITIES)
    assert {name for name, _ in MARKS.values()} <= set(QUANTITIES)
    assert {name for name, _ in LEAD_MARKS.values()} <= set(LEAD_QUANTITIES)
    assert set(MARKS) | set(LEAD_MARKS) <= set(STATEMENTS)


def test_every_number_of_the_json_is_on_the_page_exactly():
    found = measured()
    text = drawn(found)
    assert {float(value) for value in re.findall(r'<data value="([^"]+)">', text)} == {
        9.0,
        *(found[name]["value"] for name in QUANTITIES),
        *(of[name] for of in found["leads"].values() for name in LEAD_QUANTITIES),
    }
    assert text.count("<tr>") == len(QUANTITIES) + 1 + len(LEADS)
    assert "&lt;b&gt;V1" in text
    assert "Nothing: no number that is measured lies beyond its limit" in text
    assert "not a diagnosis" in text
    assert QUANTITIES["qtc_fridericia_ms"].meaning in text
    assert "not measured:" not in text


def test_a_quantity_beyond_its_limit_is_marked_in_words_and_atrial_fibrillation_says_how_often_it_is_right():
    found = measured() | {
        "statements": [
            {"statement": "irregular_without_p", "words": "Irregular", "leads": [], "note": NOTES["irregular_without_p"]},
            {"statement": "pr_long", "words": "PR long", "leads": [], "note": ""},
            {"statement": "st_elevation", "words": "ST", "leads": ["II"], "note": ""},
        ]
    }
    text = drawn(found)
    assert NOTES["irregular_without_p"] in text
    assert text.index("Irregular") < text.index("<table")
    assert re.findall(r'class="mark">([^<]+)<', text) == [
        "\N{BLACK UP-POINTING TRIANGLE} long",
        "\N{BLACK UP-POINTING TRIANGLE} ",
    ]
    (row,) = re.findall(r'<tr><th scope="row">PR</th>.*?</tr>', text)
    assert "long" in row
    (row,) = re.findall(r'<tr><th scope="row"><bdi>II</bdi></th>.*?</tr>', text)
    assert f'{UP} <data value="{found["leads"]["II"]["st_j_mv"]}"' in row


@pytest.mark.parametrize("q_ms", [np.nan, 24.0])
def test_leads_that_lack_amplitudes_for_one_reason_have_a_line_and_no_table_but_durations_of_q(q_ms):
    text = drawn(measured(lead_reason="not_millivolts", q_ms=q_ms))
    assert "are not measured: not in millivolts." in text
    assert "matrix" not in text
    assert text.count('<data value="24.0">24</data>') == (0 if np.isnan(q_ms) else len(LEADS))


def test_a_lead_without_amplitudes_says_why_beside_those_that_have_them():
    found = measured()
    found["leads"]["II"] = dict.fromkeys(LEAD_QUANTITIES) | {"reason": "flat"}
    found["leads"]["I"]["t_mv"] = None
    text = drawn(found)
    assert '<bdi>II</bdi></th><td colspan="8" class="small">flat</td></tr>' in text
    assert '<td class="n">\N{EN DASH}</td></tr>' in text
    found["leads"]["II"] |= {"q_duration_ms": 0.0, "reason": "not in millivolts"}
    assert '0</data></td><td colspan="7" class="small">not in millivolts</td></tr>' in drawn(found)


def test_where_nothing_is_measured_for_one_reason_no_empty_table_stands():
    text = drawn(measured(reason="no_beats", lead_reason="no_beats"))
    assert f"No quantity is measured: {REASON_WORDS['no_beats']}." in text
    assert "<table" not in text


def test_no_height_is_printed_as_minus_zero_and_none_as_zero_without_digits():
    found = measured()
    found["leads"]["I"] |= {"st_j_mv": -0.004, "s_mv": 0.0}
    text = drawn(found)
    assert '<data value="-0.004">0.00</data>' in text
    assert '<data value="0.0">0</data>' in text
