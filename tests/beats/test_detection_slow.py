"""What of ``test_detection`` takes long."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.accuracy import beat_detection
from tests.beats.test_detection import sums_elsewhere, sums_here

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("leads", "least", "worst"), [((0,), 99.80, 97.0), ((0, 1), 99.90, 97.0)])
def test_mit_bih_ds1_reaches_its_goals(test_data: Path, leads: tuple[int, ...], least: float, worst: float) -> None:
    rows = [beat_detection.evaluate_record(test_data, name, leads=leads) for name in beat_detection.record_names(test_data)]
    total = beat_detection.total(rows)
    assert min(total.sensitivity, total.positive_predictivity) >= least
    assert min(min(row.sensitivity, row.positive_predictivity) for row in rows) >= worst
    assert total.error_ms < 5


@pytest.mark.parametrize("leads", [(0,), (0, 1)])
def test_baseline_wander_as_strong_as_the_ecg_costs_at_most_a_fifth_of_a_point(test_data: Path, leads: tuple[int, ...]) -> None:
    clean, stressed = beat_detection.wander_cost(test_data, leads)
    assert stressed.sensitivity >= clean.sensitivity - 0.2
    assert stressed.positive_predictivity >= clean.positive_predictivity - 0.2


def test_sums_are_the_same_on_a_processor_that_is_twenty_years_old(tmp_path: Path) -> None:
    assert sums_elsewhere(tmp_path, "x86-64", "") == [sums_here(), "False", "False"]
