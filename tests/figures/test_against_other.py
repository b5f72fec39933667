"""MI beside other heart disease: the threshold spares, the figures are of the right patients."""

from __future__ import annotations

import numpy as np

from ecgbatch.figures.against_other import MOST_OTHER_CALLED, figures_against_other, threshold_sparing


def test_the_threshold_is_the_lowest_that_calls_few_of_the_others() -> None:
    rng = np.random.default_rng(0)
    p, group = rng.random(400), np.arange(400) % 3
    patient = [f"p{k}" for k in range(400)]
    cut = threshold_sparing(p, group, patient)
    other = p[group == 2]
    assert (other >= cut).mean() <= MOST_OTHER_CALLED
    nearest = np.sort(other)[::-1][int(MOST_OTHER_CALLED * other.size)]
    assert (other >= nearest).mean() > MOST_OTHER_CALLED
    assert cut > nearest


def test_controls_do_not_count_and_patients_do() -> None:
    p = [0.9, 0.8, 0.6, 0.2, 0.2, 0.95]
    group = [1, 1, 2, 2, 2, 0]
    patient = ["a", "b", "c", "d", "d", "e"]
    found = figures_against_other(p, group, patient, threshold=0.5)
    assert found["auroc_against_other"]["value"] == 1.0
    assert found["auroc_against_other"]["n_patients"] == 4
    assert found["specificity_against_other"]["value"] == 0.5
    assert found["specificity_against_other"]["n_patients"] == 2
    assert figures_against_other(p[:2], group[:2], patient[:2]) == {}


def test_where_too_many_of_the_others_are_certain_nothing_lies_above() -> None:
    assert threshold_sparing([1.0, 1.0, 0.2], [1, 2, 0], ["a", "b", "c"]) == 1.0
    assert threshold_sparing([0.9, 0.2], [1, 0], ["a", "b"]) == 0.1  # no such patient: everybody may be called
