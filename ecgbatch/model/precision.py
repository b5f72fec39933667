"""Precision: whether a model's networks may score in bfloat16, tried on beats like those it was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ecgbatch.model.inference import ENGINE
from ecgbatch.model.tile_kernels import may_use_tiles

if TYPE_CHECKING:
    from ecgbatch.model.definition import Model

RECORD_TOLERANCE, BEAT_TOLERANCE = 1e-3, 5e-3
"""How far bfloat16 may move the calibrated probability of a record and of a single beat."""

DECISION_MARGIN = 5 * RECORD_TOLERANCE
"""A record whose probability, or an end of whose interval, comes this near to its threshold is scored again in float32."""

N_RECORDS, N_BEATS = 64, 8
_SHARE = 0.5
"""Of the tolerances that the trial may use up: it has 64 records, an archive thousands."""
_BEAT_SD = 0.3
"""Spread of a record's beats about its own, against that of records: what real records show, roughly."""


class Precision(NamedTuple):
    """What the networks score in, and why."""

    name: str
    why: str


def choose_precision(model: Model) -> Precision:
    """Return bfloat16 where this processor is faster with it and it changes no decision, else float32, with the reason.

    It is for records that all members score: the mean of ten members forgives what rounding does to each, that of one does
    not (measured: 2e-4 and 2e-3 on real records). The trial compares both on beats drawn from the model's own description of its
    training records (``novelty``); same model, same verdict on every processor that gains by it.
    """
    if not may_use_tiles():
        return Precision("float32", "this processor is not faster in bfloat16")
    if not model.novelty:
        return Precision("float32", "the model holds no description of its training records to try bfloat16 on")
    if model.digest not in _chosen:
        _chosen[model.digest] = _tried(model)
    return _chosen[model.digest]


def remember(digest: str, stated: Mapping[str, Any]) -> None:
    """Take over what a trial of a model by these very versions found, as scores state it: ``engine``, ``name``, ``why``."""
    if stated.get("engine") == ENGINE and f"on {N_RECORDS} records" in stated.get("why", ""):  # else there was no trial
        _chosen.setdefault(digest, Precision(stated["name"], stated["why"]))


_chosen: dict[str, Precision] = {}
"""By the model's digest: a trial takes a third of a second, and several stages of one command ask."""


def _tried(model: Model) -> Precision:
    record, beat, n_decisions = trial(model)
    found = f"on {N_RECORDS} records like those of training, records differ by {record:.1e}, beats by {beat:.1e}"
    if record > _SHARE * RECORD_TOLERANCE or beat > _SHARE * BEAT_TOLERANCE or n_decisions:
        return Precision("float32", f"bfloat16 was refused: {found}, decisions in {n_decisions}")
    return Precision("bfloat16", f"{found}, no decision")


def trial(model: Model) -> tuple[float, float, int]:
    """Return how far bfloat16 moves a record's and a beat's probability at most, and how many decisions it turns."""
    from ecgbatch.model.members import member_probabilities
    from ecgbatch.model.probability import beat_logit, calibrated

    beats = reference_beats(model)
    indices = range(len(model.members))
    first = range(0, len(beats), N_BEATS)
    found = []
    for name in ("float32", "bfloat16"):
        logit = beat_logit(member_probabilities(model, indices, beats, first, precision=name)).mean(axis=0)
        found.append([calibrated(one, model.calibration) for one in (logit.reshape(N_RECORDS, -1).mean(axis=1), logit)])
    (records, each), (rounded, each_rounded) = found
    threshold = model.operating_point.threshold
    is_sure = np.abs(records - threshold) > DECISION_MARGIN
    n_decisions = int(((records > threshold) != (rounded > threshold))[is_sure].sum())
    return float(np.abs(rounded - records).max()), float(np.abs(each_rounded - each).max()), n_decisions


def reference_beats(model: Model) -> np.ndarray:
    """Return (N_RECORDS x N_BEATS, lead, sample) float32 beats drawn from the principal components of training's median beats."""
    mean, component, variance, rest = (
        np.asarray(model.novelty[name], np.float64) for name in ("mean", "component", "variance", "rest")
    )
    random = np.random.default_rng(0)
    own = random.standard_normal((N_RECORDS, 1, *variance.shape))
    drawn = own + _BEAT_SD * random.standard_normal((N_RECORDS, N_BEATS, *variance.shape))
    beats = mean + np.einsum("rblc,lcs->rbls", drawn * np.sqrt(variance), component)
    beats += np.sqrt(rest)[:, None] * random.standard_normal(beats.shape)
    clip = model.preprocessing.clip
    return np.asarray(np.clip(beats, -clip, clip), np.float32).reshape(-1, *mean.shape)
