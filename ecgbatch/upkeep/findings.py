"""What a run found beside its counts, for who watches nights: decisions, share unlike training, drift, who is set aside."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import xarray as xr

from ecgbatch.figures.drift import Shift, shift_of_new
from ecgbatch.scores.table import scores_path
from ecgbatch.terms import DECISION, STATUS
from ecgbatch.workspace.privacy import workspace_pseudonyms
from storage import StoreError, open_once


def findings_of(work: str, run: str, earlier: str | None, *, pseudonymise: bool = False) -> dict[str, Any]:
    """Return what a run found, JSON-ready.

    Parameters
    ----------
    run, earlier
        Names of the run and of the one before it, or None.
    pseudonymise
        Name records by their keyed digests.

    Returns
    -------
    dict
        ``model`` (name and digest), ``decisions`` {word: n}, ``unlike_training`` (share of the scored; None where none is),
        ``drift`` (``Shift.document``), and ``records_set_aside`` {reason: [name]}.

    """
    scores = open_once(scores_path(work, run))
    words = {code: word for word, code in DECISION.items()}
    told = Counter(words[code] for code in scores["decision"].values.tolist())
    novelty = scores["novelty"].values if "novelty" in scores else np.empty(0)
    measured = novelty[np.isfinite(novelty)]
    is_aside = scores["status"].values == STATUS["set_aside"]
    pseudonym = workspace_pseudonyms(work).record if pseudonymise else str
    aside: dict[str, list[str]] = {}
    for name, reason in zip(scores["record_name"].values[is_aside], scores["reason"].values[is_aside], strict=True):
        aside.setdefault(str(reason), []).append(pseudonym(str(name)))
    model = scores.attrs["settings"]["model"]
    return {
        "model": {"name": model["name"], "digest": model["digest"]},
        "decisions": {word: told.get(word, 0) for word in DECISION},
        "unlike_training": float((measured > 1).mean()) if measured.size else None,
        "drift": drift_since(work, scores, None if earlier == run else earlier).document(),
        "records_set_aside": {reason: sorted(names) for reason, names in sorted(aside.items())},
    }


def drift_since(work: str, scores: xr.Dataset, earlier: str | None) -> Shift:
    """Compare a run's new records with an earlier run's, where the same model scored both."""
    if earlier is None:
        return shift_of_new(scores, None)
    try:
        before = open_once(scores_path(work, earlier))
    except StoreError:
        return shift_of_new(scores, None)
    is_same = before.attrs["settings"]["model"] == scores.attrs["settings"]["model"]
    return shift_of_new(scores, before if is_same else None)
