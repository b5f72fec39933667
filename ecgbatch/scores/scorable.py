"""Which records can be scored, and why the others cannot."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

import numpy as np
import xarray as xr

from ecgbatch.model.definition import Model
from ecgbatch.scores.stored_beats import RecordBeats
from ecgbatch.terms import STATUS

MIN_SCORABLE_BEATS = 3
"""Fewer usable beats give no score: with three, one odd beat cannot decide alone, and ten seconds at 30/min still hold five."""


MIN_LEAD_SHARE = 2 / 3
"""Share of the model's leads that must be usable: eight of twelve, the number of independent leads in a 12-lead ECG
(two limb leads give the other four; Malmivuo and Plonsey 1995, 15.7). One of one, two of two and of three, ten of fifteen."""


REASONS = MappingProxyType(
    {
        "NO_BEATS": "no R peak was found",
        "TOO_FEW_BEATS": f"fewer than {MIN_SCORABLE_BEATS} beats can be used (the others are cut off, noisy or clipped)",
        "LEADS_MISSING": "fewer than two thirds of the model's leads can be used",
        "PATIENT_TRAINED_ON": "every member of the model has seen this patient in training",
    }
)
"""Why a record that is not set aside is not scored."""


def reason_not_scored(status: int, record: RecordBeats | None, model: Model, indices: Sequence[int]) -> str | None:
    """Return why a record cannot be scored (a key of ``REASONS``, or SET_ASIDE where its row says why), or None.

    The first that applies of: set aside before; no beats; leads missing; patient trained on; too few beats. Missing leads
    that the model does not use, and status ``partial``, do not matter.
    """
    if status == STATUS["set_aside"]:
        return "SET_ASIDE"
    if record is None or record.beat_flags.size == 0:
        return "NO_BEATS"
    usable = {lead for lead, use in zip(record.leads, record.is_usable, strict=True) if use}
    if len(usable & set(model.leads)) < min_usable_leads(len(model.leads)):
        return "LEADS_MISSING"
    if not indices:
        return "PATIENT_TRAINED_ON"
    return "TOO_FEW_BEATS" if int(record.is_scorable.sum()) < MIN_SCORABLE_BEATS else None


def with_own_status(scores: xr.Dataset) -> xr.Dataset:
    """Return scores whose ``status`` is that of the records' files; before version 4 all without a score were set aside.

    Of those a record that had too few beats or leads can be read: it counts as ok, or partial where leads were missing.
    """
    status, reason = scores["status"].values, scores["reason"].values
    aside = np.flatnonzero(status == STATUS["set_aside"])
    read = [place for place in aside.tolist() if reason[place] in REASONS]
    if not read:
        return scores
    status = status.copy()
    status[read] = [STATUS["partial" if reason[place] == "LEADS_MISSING" else "ok"] for place in read]
    return scores.assign(status=("record", status))


def min_usable_leads(n_leads: int) -> int:
    """Return how many of a model's ``n_leads`` leads a record must have: ``MIN_LEAD_SHARE``, rounded up."""
    return -(-2 * n_leads // 3)
