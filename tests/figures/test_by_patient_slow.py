"""What of ``test_by_patient`` takes long."""

from __future__ import annotations

import numpy as np
import pytest

from ecgbatch.figures.by_patient import patient_figures

pytestmark = pytest.mark.slow


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    """Binormal cohorts of 120 patients, calibrated by construction: true AUROC is known, slope is 1, intercept 0."""
    hits: dict[str, list[bool]] = {"auroc": [], "calibration_slope": [], "calibration_intercept": [], "sensitivity": []}
    random = np.random.default_rng(11)
    for _ in range(600):
        mi = np.r_[np.ones(60, bool), np.zeros(60, bool)]
        x = random.normal(size=120) + 1.5 * mi
        p = 1 / (1 + np.exp(-(1.5 * x - 1.125)))  # the posterior of two unit normals 1.5 apart, prevalence one half
        figures = patient_figures(p, mi, np.arange(120), n_resamples=400)
        truth = {"auroc": 0.85557, "calibration_slope": 1.0, "calibration_intercept": 0.0, "sensitivity": 0.77337}
        for name, value in truth.items():
            high = np.inf if figures[name]["high"] is None else figures[name]["high"]
            hits[name].append(figures[name]["low"] <= value <= high)
    coverage = {name: np.mean(rows) for name, rows in hits.items()}
    assert all(0.91 <= share <= 0.985 for share in coverage.values()), coverage
