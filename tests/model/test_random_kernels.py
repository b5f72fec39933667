"""Random kernels and their regression, the novelty of a record, and the rules of calibration."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from ecgbatch.figures.calibration import RULES, compare_calibrations
from ecgbatch.model.novelty import fit_reference, novelty
from ecgbatch.model.random_kernels import (
    DILATIONS,
    LENGTH,
    draw_kernels,
    fit_regression,
    kernel_features,
    regression_logit,
    replaced_features,
)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def beats(n: int, n_leads: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, n_leads, 88)).astype(np.float32)


def test_kernels_have_mean_zero_and_use_some_leads():
    kernels = draw_kernels(64, 12, 7)
    for dilation in DILATIONS:
        weight = kernels[f"weight{dilation}"]
        assert weight.shape == (16, 12, LENGTH)
        assert np.abs(weight.mean(axis=2)).max() < 1e-6
        n_used = weight.any(axis=2).sum(axis=1)
        assert n_used.min() >= 1
        assert n_used.max() <= 12
    assert all((draw_kernels(64, 12, 7)[name] == kernels[name]).all() for name in kernels)


def test_features_are_those_of_a_plain_loop():
    kernels, beat = draw_kernels(8, 2, 1), beats(1, 2)
    found = kernel_features(kernels, beat)[0]
    expected: list[float] = []
    for dilation in DILATIONS:
        shares, largest = [], []
        for weight, bias in zip(kernels[f"weight{dilation}"], kernels[f"bias{dilation}"], strict=True):
            reach = dilation * (LENGTH // 2)
            padded = np.pad(beat[0].astype(np.float64), ((0, 0), (reach, reach)))
            answer = [
                bias + sum(weight[:, tap] @ padded[:, place + tap * dilation] for tap in range(LENGTH)) for place in range(88)
            ]
            shares.append(np.mean(np.array(answer) > 0))
            largest.append(max(answer))
        expected += shares + largest
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_beats_features_do_not_depend_on_its_neighbours():
    kernels, some = draw_kernels(32, 3, 1), beats(70)
    np.testing.assert_array_equal(kernel_features(kernels, some)[5:9], kernel_features(kernels, some[5:9]))


def test_features_of_beats_with_one_lead_replaced_are_the_same_numbers():
    kernels, (beat, *others) = draw_kernels(64, 3, 4), beats(5)
    replaced = np.stack([[other[lead] for other in others] for lead in range(3)])
    found = replaced_features(kernels, beat, replaced)
    for lead in range(3):
        copies = np.repeat(beat[None], 4, axis=0)
        copies[:, lead] = replaced[lead]
        np.testing.assert_array_equal(found[lead], kernel_features(kernels, copies))


def test_a_kernel_that_looks_at_no_lead_answers_its_bias():
    kernels, (beat, other) = draw_kernels(4, 3, 4), beats(2)
    for step in DILATIONS:
        kernels[f"weight{step}"][:] = 0
        kernels[f"bias{step}"][:] = step - 3.0
    expected = [found for step in DILATIONS for found in (float(step > 3), step - 3.0)]
    np.testing.assert_array_equal(kernel_features(kernels, beat[None])[0], expected)
    np.testing.assert_array_equal(replaced_features(kernels, beat, other[:, None])[:, 0], [expected] * 3)


def test_kernels_of_other_leads_are_refused():
    with pytest.raises(ValueError, match="kernels of 2 leads and 9 samples are needed"):
        kernel_features(draw_kernels(8, 3, 1), beats(1, 2))


def test_regression_equals_sklearns_on_hard_labels():
    random = np.random.default_rng(2)
    x = random.normal(3, 2, (200, 5)).astype(np.float32)
    y = (x @ [1, -1, 0, 0.5, 0] + random.normal(0, 2, 200) > 1).astype(float)
    ours = fit_regression(x, y, np.ones(200), penalty=0.05)
    standard = ((x - x.mean(0)) / x.std(0)).astype(np.float64)  # of float32 sklearn would solve in that, to 1e-3
    theirs = LogisticRegression(C=1 / (0.05 * 200), tol=1e-10, max_iter=1000).fit(standard, y)
    np.testing.assert_allclose(regression_logit(ours, x), theirs.decision_function(standard), atol=1e-4)


def test_a_regression_that_goes_on_from_another_stays_near_it_where_the_penalty_is_large():
    x, y = beats(50, 1)[:, 0, :4], np.arange(50) % 2
    start = {"coefficient": np.array([1.0, -2.0, 0.5, 0.0]), "intercept": np.array([0.3])}
    near = fit_regression(x, y, np.ones(50), penalty=1e6, start=start)
    np.testing.assert_allclose(near["coefficient"], start["coefficient"], atol=1e-3)


def test_a_feature_that_never_varies_gets_no_weight():
    x = beats(40, 1)[:, 0, :3].copy()
    x[:, 1] = 5
    fitted = fit_regression(x, np.arange(40) % 2, np.ones(40), penalty=0.1)
    assert fitted["coefficient"][1] == 0
    assert np.isfinite(fitted["intercept"]).all()


def like_training(n: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    shapes = random.standard_normal((3, 88)) if seed == 0 else np.random.default_rng(0).standard_normal((3, 88))
    return (random.standard_normal((n, 2, 3)) @ shapes + 0.1 * random.standard_normal((n, 2, 88))).astype(np.float32)


def test_about_one_in_a_hundred_like_training_is_called_unlike_and_noise_is():
    reference = fit_reference(like_training(600), np.arange(600) % 5)
    new = [novelty(reference, beat) for beat in like_training(1000, seed=1)]
    assert 0.002 < np.mean(np.array(new) > 1) < 0.03
    assert novelty(reference, 3 * beats(1, 2, seed=9)[0]) > 3


def test_a_missing_lead_is_not_unlike_and_without_a_reference_nothing_is_known():
    reference = fit_reference(like_training(300), np.arange(300) % 5)
    beat = like_training(1, seed=2)[0]
    beat[1] = 0
    assert novelty(reference, beat) < 1.5
    assert np.isnan(novelty(reference, np.zeros((2, 88), np.float32)))
    assert np.isnan(novelty({}, beat))


def test_the_rule_that_the_data_follow_has_the_least_loss():
    random = np.random.default_rng(5)
    logit = random.normal(0, 2, 3000)
    patient = [f"p{number}" for number in range(3000)]
    mi = random.random(3000) < 1 / (1 + np.exp(-(0.5 * logit - 1.5)))
    losses = compare_calibrations(logit, mi, patient, np.arange(3000) % 5)
    assert tuple(losses) == RULES
    assert min(losses, key=lambda rule: losses[rule]["log_loss"]) == "platt"
    assert losses["none"]["brier"] > losses["platt"]["brier"]


def test_rules_cannot_be_compared_where_a_fold_leaves_one_class():
    assert compare_calibrations([0.0, 1.0, 2.0], [1, 0, 0], ["a", "b", "c"], [0, 1, 1]) == {}
