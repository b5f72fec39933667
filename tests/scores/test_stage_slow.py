"""What of ``test_stage`` takes long."""

from __future__ import annotations

import numpy as np
import pytest

from ecgbatch.model.definition import Calibration
from ecgbatch.scores.decision import probability_interval

pytestmark = pytest.mark.slow


def test_the_interval_covers_the_long_run_probability_of_autocorrelated_beats() -> None:
    """Beats of an AR(1) process with correlation 0.5: the truth lies inside in about 95 % (a little less: percentile, n = 60)."""
    random = np.random.default_rng(2)
    inside = []
    for number in range(1000):
        noise = random.normal(0, 1, 160)
        for beat in range(1, 160):
            noise[beat] += 0.5 * noise[beat - 1]
        low, high = probability_interval(noise[None, 100:], Calibration(), f"r{number}")
        inside.append(low <= 0.5 <= high)
    assert 0.85 < np.mean(inside) < 0.97
