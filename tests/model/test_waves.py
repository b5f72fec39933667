"""Wave figures say what was drawn, whatever gain it was drawn with; trees on them are scikit-learn's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from ecgbatch.model.trees import class_scores
from ecgbatch.model.waves import N_OF_BEAT, N_OF_LEAD, OF_BEAT, OF_LEAD, wave_figures
from ecgbatch.training.settings import TrainSettings
from ecgbatch.training.trees import fit_trees, flattened

R = 31
MS = 8.0


def drawn(*, q: float = 0.0, q_ms: float = 30.0, r: float = 1.0, s: float = 0.2, st: float = 0.0, n_leads: int = 2) -> np.ndarray:
    """A beat (lead, sample) of 125 Hz: P, a Q of this depth and width, R, S, a raised ST and T."""
    t = (np.arange(88) - R) * MS
    wave = r * np.exp(-((t / 12) ** 2)) - s * np.exp(-(((t - 30) / 9) ** 2)) + 0.1 * np.exp(-(((t + 150) / 25) ** 2))
    wave -= q * np.exp(-(((t + 30) / (q_ms / 2)) ** 2))
    wave += 0.3 * np.exp(-(((t - 270) / 45) ** 2)) + st * ((t > 50) & (t < 250))
    return np.repeat(wave[None], n_leads, axis=0).astype(np.float32)


def named(beat: np.ndarray, lead: int = 0) -> dict[str, float]:
    found = wave_figures(beat[None], R)[0]
    own = found[N_OF_BEAT + lead * N_OF_LEAD :][:N_OF_LEAD]
    return dict(zip((*OF_BEAT, *OF_LEAD), (*found[:N_OF_BEAT].tolist(), *own.tolist()), strict=True))


def test_a_q_wave_is_seen_in_depth_and_duration() -> None:
    none, small, broad = (named(drawn(q=depth, q_ms=width)) for depth, width in ((0.0, 30), (0.3, 24), (0.6, 44)))
    assert none["Q"] > -0.03
    assert small["Q"] == pytest.approx(-0.3 / 1.3, abs=0.06)
    assert broad["Q"] < small["Q"] < none["Q"]
    assert broad["Q duration"] > small["Q duration"] > none["Q duration"]
    assert broad["QRS duration"] > none["QRS duration"]
    assert 60 < none["QRS duration"] * MS < 130


def test_a_raised_st_is_seen_and_a_lost_r_too() -> None:
    flat, raised = named(drawn()), named(drawn(st=0.25))
    assert raised["ST 80 ms"] - flat["ST 80 ms"] == pytest.approx(0.25 / 1.2, abs=0.07)
    assert named(drawn(r=0.2, s=1.0))["R"] < 0.4 < flat["R"]


def test_gain_leaves_only_the_height() -> None:
    beat = drawn(q=0.3)
    one, five = named(beat), named((beat * np.float32(5)).astype(np.float32))
    assert five.pop("QRS height") == pytest.approx(5 * one.pop("QRS height"), rel=1e-5)
    assert five == pytest.approx(one, rel=1e-3, abs=1e-4)


def test_a_missing_lead_is_zeros_and_nothing_depends_on_neighbours() -> None:
    beats = np.stack([drawn(q=depth) for depth in (0.0, 0.2, 0.5)])
    together = wave_figures(beats, R)
    np.testing.assert_array_equal(together[1], wave_figures(beats[1:2], R)[0])
    beats[1, 1] = 0
    assert not wave_figures(beats, R)[1, N_OF_BEAT + N_OF_LEAD :].any()
    assert not wave_figures(np.zeros((1, 2, 88), np.float32), R).any()


@pytest.mark.parametrize(("n_samples", "at"), [(88, 31), (88, 0), (12, 3), (4, 3), (1, 0)])
def test_any_window_has_finite_figures(n_samples: int, at: int) -> None:
    beats = np.random.default_rng(0).standard_normal((20, 3, n_samples)).astype(np.float32)
    found = wave_figures(beats, at)
    assert found.shape == (20, N_OF_BEAT + 3 * N_OF_LEAD)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_kernel_asks_the_trees_that_scikit_learn_fitted(n_classes: int) -> None:
    rng = np.random.default_rng(0)
    figures = rng.standard_normal((300, 7)).astype(np.float32)
    group = (figures[:, 0] > 0).astype(int) + (figures[:, 1] > 0.5) * (n_classes - 2)
    boosting = HistGradientBoostingClassifier(max_iter=20, max_leaf_nodes=7, random_state=0).fit(figures, group)
    scores, expected = class_scores(flattened(boosting), figures), boosting.decision_function(figures)
    found = scores[:, 1] - scores[:, 0] if n_classes == 2 else scores
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_trees_fitted_twice_are_the_same_bits_and_weights_count() -> None:
    rng = np.random.default_rng(1)
    figures, settings = rng.standard_normal((200, 5)).astype(np.float32), replace(TrainSettings(), n_trees=5)
    group, weight = np.arange(200) % 3, np.ones(200)
    one, two = (fit_trees(figures, group, weight, settings, 3) for _ in range(2))
    assert all(np.array_equal(one[name], two[name]) for name in one)
    heavy = fit_trees(figures, group, np.where(group == 2, 5.0, 1.0), settings, 3)
    share = [np.exp(s := class_scores(trees, figures))[:, 2] / np.exp(s).sum(axis=1) for trees in (one, heavy)]
    assert share[1].mean() > share[0].mean() + 0.2
