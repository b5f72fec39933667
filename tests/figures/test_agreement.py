"""Agreement of readers and score is by patient, with an interval that resamples patients."""

from __future__ import annotations

import numpy as np
import pytest

from ecgbatch.figures.agreement import agreement
from ecgbatch.figures.resampling import wilson_interval


def test_a_patient_counts_once_however_many_records_it_has():
    found = agreement([1, 1, 1, 0], ["a", "a", "a", "b"])
    assert (found["value"], found["n_patients"], found["n_records"]) == (0.5, 2, 4)


def test_the_interval_is_that_of_a_mean_over_patients():
    random = np.random.default_rng(3)
    agrees = (random.random(400) < 0.8).astype(float)
    found = agreement(agrees, [str(k) for k in range(400)])
    half = 1.96 * np.sqrt(found["value"] * (1 - found["value"]) / 400)
    assert found["low"] == pytest.approx(found["value"] - half, abs=0.012)
    assert found["high"] == pytest.approx(found["value"] + half, abs=0.012)
    doubled = agreement(np.repeat(agrees, 2), [str(k // 2) for k in range(800)])
    assert (doubled["low"], doubled["high"]) == (found["low"], found["high"])  # more records of as many patients prove no more


def test_all_agree_has_wilsons_interval_and_nobody_none():
    found = agreement([1, 1, 1], ["a", "b", "c"])
    assert (found["low"], found["high"]) == wilson_interval(3, 3)
    assert agreement([], [])["value"] is None
    assert agreement([0.25, 0.75], ["a", "b"]) == agreement([0.75, 0.25], ["b", "a"])
