"""What of ``test_end_to_end`` takes long."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.test_end_to_end import ecgbatch

pytestmark = pytest.mark.slow


def test_demo_makes_a_cohort_page_that_says_synthetic(tmp_path):
    said = ecgbatch("demo", tmp_path / "out")
    assert "ynthetic" in Path(said["cohort"]).read_text()
    assert said["counts"]["n_scored"] == said["counts"]["n_records"] == 60
