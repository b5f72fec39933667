"""Triage: which records of a night need a reader first, what contradicts what, and how good a recording is; said once, here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ecgbatch.figures.curves import REMARKABLE
from ecgbatch.figures.of_scores import indeterminate_flags
from ecgbatch.scores.scorable import MIN_LEAD_SHARE
from ecgbatch.terms import (
    DECISION,
    FAULTY_LEAD,
    INDETERMINATE_KINDS,
    LABEL,
    LEAD_FLAGS,
    QUALITY,
    SCORE_FLAGS,
    STATEMENTS,
    STATUS,
)

NEEDS_LOOK: Mapping[str, str] = {
    "mi_indicated": "a pattern of infarction is indicated",
    "contradicted": "not indicated, but the label or a measured statement speaks for infarction",
    "electrodes_exchanged": "limb electrodes seem exchanged: record again",
    "close_to_threshold": "too close to the threshold to call",
    "unlike_training": "unlike anything the model was trained on",
    "not_scorable": "can be read, but not scored: too few beats or leads",
    "set_aside": "its files cannot be used",
    "poor_recording": "not indicated, but leads are missing or the recording is not usable",
    "nothing": "nothing of these",
}
"""Groups in which records are read, in their order: what may be an infarction, then what may hide one, then what was not judged.
Within a group the higher probability comes first, then reason and name. A record is in the first that holds for it."""

DISAGREEMENTS: Mapping[str, int] = {
    "missed_mi": 1,  # label infarction, decision not indicated
    "false_alarm": 2,  # label healthy, decision indicated
    "other_called": 4,  # label other heart disease, decision indicated
    "statement": 8,  # a measured statement speaks for infarction, decision not indicated
}
"""Bits: what a decision contradicts."""

SPEAK_FOR_MI = ("st_elevation", "q_waves")
"""Of ``terms.STATEMENTS``, those that speak for infarction (Fourth Universal Definition of Myocardial Infarction, 2018)."""


def quality(lead_flags: NDArray[np.integer[Any]], *, is_set_aside: bool = False) -> int:
    """Return the code of ``terms.QUALITY`` of a recording with these ``terms.LEAD_FLAGS``, (lead,).

    Leads that were never recorded do not count; those that were need two thirds without a fault, the share that scoring needs.
    """
    recorded = lead_flags[(lead_flags & LEAD_FLAGS["missing"]) == 0]
    n_good = np.count_nonzero((recorded & FAULTY_LEAD) == 0)
    if is_set_aside or not recorded.size or n_good < MIN_LEAD_SHARE * recorded.size:
        return QUALITY["not_usable"]
    return QUALITY["remarks" if (lead_flags & REMARKABLE).any() else "good"]


def disagreements(scores: xr.Dataset, facts: Mapping[str, NDArray[Any]]) -> NDArray[np.int64]:
    """Return the bits of ``DISAGREEMENTS`` of each record, (record,)."""
    label, decision = scores["label"].values, scores["decision"].values
    called, not_called = decision == DECISION["mi_indicated"], decision == DECISION["mi_not_indicated"]
    stated = facts.get("statements", np.zeros(label.size, np.int64))
    holds = {
        "missed_mi": not_called & (label == LABEL["mi"]),
        "false_alarm": called & (label == LABEL["control"]),
        "other_called": called & (label == LABEL["other"]),
        "statement": not_called & (stated & sum(STATEMENTS[word] for word in SPEAK_FOR_MI) > 0),
    }
    return np.asarray(sum(bit * holds[name].astype(np.int64) for name, bit in DISAGREEMENTS.items()))


def needs_look(scores: xr.Dataset, facts: Mapping[str, NDArray[Any]]) -> NDArray[np.int64]:
    """Return the place of each record's group in ``NEEDS_LOOK``, (record,)."""
    decision, status, flags = scores["decision"].values, scores["status"].values, indeterminate_flags(scores)
    first_kind = {kind: _is_first(kind, flags) for kind in INDETERMINATE_KINDS}
    speaks = DISAGREEMENTS["missed_mi"] | DISAGREEMENTS["statement"]
    poor = (status == STATUS["partial"]) | (facts["quality"] == QUALITY["not_usable"])
    holds = {
        "mi_indicated": decision == DECISION["mi_indicated"],
        "contradicted": disagreements(scores, facts) & speaks > 0,
        **first_kind,
        "not_scorable": (decision == DECISION["not_scorable"]) & (status != STATUS["set_aside"]),
        "set_aside": status == STATUS["set_aside"],
        "poor_recording": poor,
        "nothing": np.ones(decision.size, bool),
    }
    return np.select([holds[name] for name in NEEDS_LOOK], list(range(len(NEEDS_LOOK))))


def _is_first(kind: str, flags: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which records are indeterminate of this kind and of none before it: the kind that their page names."""
    before = sum(SCORE_FLAGS[other] for other in INDETERMINATE_KINDS[: INDETERMINATE_KINDS.index(kind)])
    return np.asarray((flags & SCORE_FLAGS[kind] > 0) & (flags & before == 0))


def reading_order(scores: xr.Dataset, group: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the records' places in the order in which they are read, (record,); ``group`` from ``needs_look``."""
    probability = scores["mi_probability"].values.astype(float)
    last = np.where(np.isfinite(probability), -probability, 1.0)
    reason, name = (np.unique(scores[column].values, return_inverse=True)[1] for column in ("reason", "record_name"))
    return np.lexsort((name, reason, last, group))
