"""The one definition of a record's probability: mean logit, Platt's rule, threshold, and another prevalence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ecgbatch.model.definition import Calibration, Model
from ecgbatch.terms import MODEL_NAME_DIGITS

PROBABILITY_FLOOR = 1e-6
"""Beat probabilities are kept this far from 0 and 1 before the logit: beyond it float32 softmax has no digits left."""


def rule_for(model: Model, indices: Sequence[int]) -> tuple[Calibration, float]:
    """Return the calibration and the threshold for records scored by these members.

    All members: the model's own. Some: the mean of theirs, so that no patient helped to choose the calibration that it is
    judged by; the threshold is one for all.

    Raises
    ------
    ValueError
        If ``indices`` is empty: no rule without a member.

    """
    if not indices:
        raise ValueError("no member is left to score with: every member has seen this patient; train without it first")
    if len(set(indices)) == len(model.members):
        return model.calibration, model.operating_point.threshold
    chosen = [model.members[index] for index in indices]
    slope, intercept = (float(np.mean([getattr(m.calibration, name) for m in chosen])) for name in ("slope", "intercept"))
    return Calibration(slope, intercept), float(np.mean([member.threshold for member in chosen]))


def sigmoid(logit: np.ndarray) -> np.ndarray:
    """Return the probabilities, in (0, 1), of logits of any shape."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logit)))


def mean_beat_logit(beat_probability: np.ndarray) -> float:
    """Return the mean over members and beats of the logit of (member, beat) MI probabilities, in float64.

    Raises
    ------
    ValueError
        If there is no probability or one is not a number: a record without a scorable beat has no probability.

    """
    probability = np.asarray(beat_probability, np.float64)
    if probability.size == 0 or np.isnan(probability).any():
        raise ValueError(f"a record's probability needs (member, beat) numbers, found shape {probability.shape}, some NaN")
    return float(np.mean(beat_logit(probability)))


def beat_logit(probability: np.ndarray) -> np.ndarray:
    """Return logits, float64, of probabilities kept within ``PROBABILITY_FLOOR`` of 0 and 1."""
    inside = np.clip(np.asarray(probability, np.float64), PROBABILITY_FLOOR, 1.0 - PROBABILITY_FLOOR)
    return np.asarray(np.log(inside) - np.log1p(-inside))


def calibrated(logit: np.ndarray | float, calibration: Calibration) -> Any:
    """Return probabilities in the shape of ``logit`` (mean beat logits), float64, by Platt's rule."""
    return sigmoid(calibration.slope * np.asarray(logit, np.float64) + calibration.intercept)


def with_prevalence(model: Model, prevalence: float) -> Model:
    """Return the model for a population in which this share of the patients has MI, instead of that of its calibration.

    All log odds move by the difference of the two prevalences' (Saerens, Latinne and Decaestecker 2002), thresholds too: the
    decisions stay, the probabilities become those of that population, if the disease looks there as it did in training.

    Raises
    ------
    ValueError
        If ``prevalence`` is not between 0 and 1, or the model does not state its own.

    """
    own = model.training.get("prevalence")
    if not 0 < prevalence < 1 or own is None:
        raise ValueError(
            f"a prevalence between 0 and 1 and a model that states its own are needed, found {prevalence} and {own} "
            f"(model {model.digest[:MODEL_NAME_DIGITS]}); train the model again with this version if it states none"
        )
    shift = float(np.log(prevalence / (1 - prevalence)) - np.log(own / (1 - own)))

    def cut(threshold: float) -> float:
        return float(sigmoid(np.log(threshold / (1 - threshold)) + shift))

    def moved(calibration: Calibration) -> Calibration:
        return replace(calibration, intercept=calibration.intercept + shift)

    members = [replace(m, threshold=cut(m.threshold), calibration=moved(m.calibration)) for m in model.members]
    chosen_on = f"{model.operating_point.chosen_on}; moved from a prevalence of {own:.3f} to {prevalence:.3f}"
    point = replace(model.operating_point, threshold=cut(model.operating_point.threshold), chosen_on=chosen_on)
    training = {**model.training, "prevalence": prevalence, "prevalence_of_training": own}
    return replace(model, members=tuple(members), operating_point=point, calibration=moved(model.calibration), training=training)


def record_probability(beat_probability: np.ndarray, calibration: Calibration) -> float:
    """Return the MI probability of a record: its mean beat logit over members and scored beats, calibrated.

    Parameters
    ----------
    beat_probability : (member, beat) float
        From ``member_probabilities``, scored beats only. One row gives that member's own probability.
    calibration
        From ``rule_for`` with the same members.

    Returns
    -------
    float
        In (0, 1). Training chooses thresholds on this same number.

    """
    return float(calibrated(mean_beat_logit(beat_probability), calibration))
