"""Those of ``data/cases`` that speak of scores, from the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.cli.test_end_to_end import ecgbatch
from tests.formats.test_cases_by_command import TWELVE

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("case", "others"), [("eight-leads", ("eight", "twelve")), ("lead-names", ("dialect", "standard"))])
def test_what_is_scored_stands_on_the_same_leads_and_says_so(case, others, test_data, tmp_path):
    reports = []
    for other in others:
        ecgbatch("run", test_data / "cases" / case / other, tmp_path / other)
        pages = sorted((tmp_path / other / "reports/latest/records").glob("*.json"))
        reports.append([json.loads(page.read_text()) for page in pages])
        html = [page.with_suffix(".html").read_text() for page in pages]
        assert all(
            "Scored on 12 of the model&#39;s 12 leads" in text or "Scored on 12 of the model's 12 leads" in text for text in html
        )
    for one, two in zip(*reports, strict=True):
        assert one["decision"] == two["decision"]
        np.testing.assert_allclose(one["mi_probability"], two["mi_probability"], atol=0.02)
        assert one["leads_scored"] == two["leads_scored"] == TWELVE
        assert one["leads_derived"] == (["III", "aVR", "aVL", "aVF"] if others[0] == "eight" else [])
        assert two["leads_derived"] == one["leads_unknown"] == []
