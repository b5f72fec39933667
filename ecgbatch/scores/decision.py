"""From the probabilities of beats to one of the record, its interval and a decision."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ecgbatch.model.definition import Calibration, Model
from ecgbatch.model.probability import beat_logit, calibrated, record_probability, rule_for
from ecgbatch.terms import DECISION, SCORE_FLAGS

BEATS_A_BLOCK = 5
"""Consecutive beats drawn together by the bootstrap: about one breath (70 beats and 14 breaths a minute). Breathing turns
the heart's axis, so the beats of one breath are not independent; drawing them one by one would feign precision."""


N_DRAWS = 1000
"""Bootstrap draws a record, for 95 % percentile limits (Efron and Tibshirani 1993, section 14.3)."""


INTERVAL_RULE = (
    f"95 % percentile bootstrap, {N_DRAWS} draws of members and of runs of up to {BEATS_A_BLOCK} beats, seeded by the record's "
    "name: how far other beats of this recording, or other members, would have moved the number; not how sure it is for the "
    "patient, and with one member used the spread of members is not in it (score_flags says so, and no page calls it a 95 % "
    "interval). What trees or random kernels give to a logit is the median beat's and does not move with the beats drawn"
)
"""What ``probability_low`` and ``probability_high`` mean; kept in every scores store."""


DECISION_RULE = (
    "indeterminate where limb electrodes seem exchanged, the record is unlike anything the model was trained on, or the interval "
    "holds the threshold (score_flags says which); else MI indicated above the threshold, not indicated below it"
)
"""How many records each kind leaves open, by group of patients: docs/model.md. The band catches what is close, not what is wrong
for sure."""


@dataclass(frozen=True)
class RecordScore:
    """One record's result; ``beat_probability`` (scored beat,) is calibrated, on the threshold's scale."""

    probability: float
    low: float
    high: float
    threshold: float
    decision: int
    agreement: float
    beat_probability: npt.NDArray[np.float32]
    novelty: float
    flags: int


def score_record(
    model: Model,
    indices: Sequence[int],
    beat_probability: npt.NDArray[np.float32],
    record_name: str,
    *,
    novelty: float = float("nan"),
    is_exchanged: bool = False,
) -> RecordScore:
    """Turn beat probabilities into the record's probability, its interval and a decision.

    The probability is ``model.members.record_probability``: the mean logit over members and beats, calibrated. A beat's own is
    its mean logit over members, calibrated alike, so that the record's logit is the mean of its beats'. The decision is
    ``DECISION_RULE``; agreement is the share of beats on the side where the record's probability lies.

    Parameters
    ----------
    indices
        Members used, at least one.
    beat_probability : (member, beat) float32
        Scored beats only, at least one.
    record_name
        Seeds the interval.
    novelty
        From ``model.novelty.novelty``; above 1 the record is unlike training and its decision indeterminate. NaN: not measured.
    is_exchanged
        Whether electrodes seem exchanged: then the decision is indeterminate too.

    """
    calibration, threshold = rule_for(model, indices)
    logit = beat_logit(beat_probability)
    drawn = probability_interval(logit, calibration, record_name)
    probability, low, high, threshold = _stored(record_probability(beat_probability, calibration), *drawn, threshold)
    low, high = min(low, probability), max(high, probability)
    beats = np.asarray(calibrated(logit.mean(axis=0), calibration), dtype=np.float32)
    is_above = probability >= threshold
    decision = decide(probability, low, high, threshold)
    kinds = {
        "electrodes_exchanged": is_exchanged,
        "unlike_training": novelty > 1,
        "close_to_threshold": decision == DECISION["indeterminate"],
    }
    flags = {"one_member": len(indices) == 1} | kinds
    return RecordScore(
        probability=probability,
        low=low,
        high=high,
        threshold=threshold,
        decision=DECISION["indeterminate"] if any(kinds.values()) else decision,
        agreement=float(np.mean((beats >= threshold) == is_above)),
        beat_probability=beats,
        novelty=float(np.float32(novelty)),
        flags=sum(SCORE_FLAGS[word] for word, is_set in flags.items() if is_set),
    )


def _stored(*numbers: float) -> tuple[float, ...]:
    """Round to float32: decisions are taken on the numbers that the store keeps, so they can be checked from them."""
    return tuple(float(np.float32(number)) for number in numbers)


def decide(probability: float, low: float, high: float, threshold: float) -> int:
    """Return the code of ``terms.DECISION`` by ``DECISION_RULE``; an interval that ends on the threshold holds it."""
    if low <= threshold <= high:
        return DECISION["indeterminate"]
    return DECISION["mi_indicated" if probability > threshold else "mi_not_indicated"]


def probability_interval(
    logit: npt.NDArray[np.float64], calibration: Calibration, record_name: str, *, n_draws: int = N_DRAWS
) -> tuple[float, float]:
    """Return the 95 % interval of a record's probability: ``INTERVAL_RULE``.

    Each draw takes as many members as there are, with replacement, and circular runs of consecutive beats (Politis and
    Romano 1992) of ``BEATS_A_BLOCK`` beats, a third of the record at most. It holds the model fixed and says nothing about
    another day, another database or the labels.

    Parameters
    ----------
    logit : (member, beat) float64
        Of the scored beats, before calibration.
    record_name
        Its BLAKE2b digest is the seed: the same record gets the same interval, whatever else is scored.

    """
    n_members, n_beats = logit.shape
    random = np.random.default_rng(int.from_bytes(hashlib.blake2b(record_name.encode(), digest_size=8).digest()))
    length = max(1, min(BEATS_A_BLOCK, n_beats // 3))
    around = np.concatenate([logit, logit[:, : length - 1]], axis=1)
    reached = np.concatenate([np.zeros((n_members, 1)), around.cumsum(axis=1)], axis=1)
    run = (reached[:, length:] - reached[:, :-length]) / length  # (member, beat): mean of the run that starts at this beat
    drawn = random.integers(0, n_members, (n_draws, n_members)) * n_draws + np.arange(n_draws)[:, None]
    share = np.bincount(drawn.ravel(), minlength=n_members * n_draws).reshape(n_members, n_draws) / n_members
    starts = random.integers(0, n_beats, (n_draws, n_beats // length))
    total = np.zeros((n_members, n_draws))
    for of_each_draw in starts.T:  # five times faster than a mean over the few runs of a draw
        total += run.take(of_each_draw, axis=1)
    mean = (share * (total / starts.shape[1])).sum(axis=0)  # (member, draw) to (draw)
    low, high = np.quantile(calibrated(mean, calibration), (0.025, 0.975))
    return float(low), float(high)
