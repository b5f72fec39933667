"""What readers have said of a run's records, in numbers: how many were reviewed, and how often reader and score agree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from ecgbatch.figures.agreement import agreement
from ecgbatch.terms import DECISION
from ecgbatch.workspace.reviews import CALLS, Kept, Review, is_conflict, latest

OF_SCORES = ("record_name", "patient_id", "decision")
"""Columns of a scores store that ``reviewed`` needs."""


def reviewed(work: str, scores: xr.Dataset, model: str) -> dict[str, Any]:
    """Return what verdicts say of a run.

    A verdict is on a score: it counts here if the same model decides the same of that record now; of each reader the latest.

    Parameters
    ----------
    work
        Workspace.
    scores
        Columns ``OF_SCORES`` of the run's scores store, under its own names.
    model
        Digest of the model that scored.

    Returns
    -------
    dict
        ``n_records`` that somebody reviewed, ``n_readers``, ``n_conflicts`` (readers differ), ``n_on_another_score`` (records
        whose verdicts are all on one that is not this run's), ``n_unreadable`` (files; ``ecgbatch verify`` names them), and
        ``agreement`` and ``agreement_blind`` (``figures.agreement``; the latter of verdicts given before the score was seen, the
        former of the others).

    """
    kept = Kept(work)
    verdicts = latest(kept.all())
    rows = _rows_of(scores, verdicts)
    now = {name: _WORDS[int(scores["decision"].values[row])] for name, row in rows.items()}
    here = {name: list(verdicts[name].values()) for name in rows}
    counting = {name: [one for one in each if (one.model, one.decision) == (model, now[name])] for name, each in here.items()}
    patients = {name: str(scores["patient_id"].values[row]) for name, row in rows.items()}
    return {
        "n_records": len(here),
        "n_readers": len({one.reader for each in here.values() for one in each}),
        "n_conflicts": sum(is_conflict(each) for each in here.values()),
        "n_on_another_score": sum(not each for each in counting.values()),
        "n_unreadable": len(kept.damaged),
        "agreement": _agreement(counting, patients, is_blind=False),
        "agreement_blind": _agreement(counting, patients, is_blind=True),
    }


_WORDS: Mapping[int, str] = {value: word for word, value in DECISION.items()}


def _rows_of(scores: xr.Dataset, verdicts: Mapping[str, Any]) -> dict[str, int]:
    """Return the row of each reviewed record that the run has."""
    if not verdicts:
        return {}
    names = scores["record_name"].values
    found = np.flatnonzero(np.isin(names, np.array(sorted(verdicts), names.dtype)))
    return {str(names[row]): row for row in found.tolist()}


def _agreement(counting: Mapping[str, list[Review]], patients: Mapping[str, str], *, is_blind: bool) -> dict[str, Any]:
    """Return how often readers agree with a call: of each record the share of those who judged."""
    shares, whose = [], []
    for name, each in counting.items():
        judged = [
            one.opinion == "agree"
            for one in each
            if one.is_blind == is_blind and one.decision in CALLS and one.opinion in ("agree", "disagree")
        ]
        if judged:
            shares.append(sum(judged) / len(judged))
            whose.append(patients[name])
    return agreement(shares, whose)
