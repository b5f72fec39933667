"""One record measured: every quantity of ``quantities``, or the code of why it has no value."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgbatch.beats.rhythm import rhythm
from ecgbatch.measurements import intervals
from ecgbatch.measurements.quantities import LEAD_QUANTITIES, QUANTITIES, REASONS
from ecgbatch.terms import STATEMENTS

VERSION = 1
"""Raise it when any number or reason would change for any record."""

METHOD = intervals.METHOD
"""How it is measured, for pages and stores."""

WIDE_QRS_MS = 120.0
"""QRS from which on conduction is delayed (Surawicz and others, Circulation 2009;119:e235)."""


class Measured(NamedTuple):
    """What is measured of one record.

    Fields
    ------
    value : (quantity,) float32
        In the order of ``quantities.QUANTITIES``, NaN where none.
    reason : (quantity,) uint8
        Codes of ``quantities.REASONS``, 0 where there is a value.
    lead_value : (lead_quantity, lead) float32
        In the order of ``quantities.LEAD_QUANTITIES``, leads as the store's.
    lead_reason : (lead,) uint8
        Why a lead has no amplitudes, 0 where it has.
    n_beats
        Normal beats of which the median was made.
    rhythm
        How irregular the whole record is; NaN unknown.
    statements
        Mask of ``terms.STATEMENTS``.

    """

    value: NDArray[np.float32]
    reason: NDArray[np.uint8]
    lead_value: NDArray[np.float32]
    lead_reason: NDArray[np.uint8]
    n_beats: int
    rhythm: float
    statements: int


def nothing_measured(n_leads: int, reason_word: str) -> Measured:
    """Return what is said of a record of which nothing is measured, for this reason of ``quantities.REASONS``."""
    code = REASONS[reason_word]
    return Measured(
        value=np.full(len(QUANTITIES), np.nan, np.float32),
        reason=np.full(len(QUANTITIES), code, np.uint8),
        lead_value=np.full((len(LEAD_QUANTITIES), n_leads), np.nan, np.float32),
        lead_reason=np.full(n_leads, code, np.uint8),
        n_beats=0,
        rhythm=float("nan"),
        statements=0,
    )


def measure_record(
    excerpt_mv: NDArray[np.float32],
    leads: Sequence[str],
    lead_flags: Sequence[int],
    *,
    sampling_frequency_hz: float,
    r_sample: NDArray[np.integer[Any]],
    beat_flags: NDArray[np.integer[Any]],
    all_r_sample: NDArray[np.integer[Any]],
    all_beat_flags: NDArray[np.integer[Any]],
    age_years: float,  # noqa: ARG001
    sex: int,  # noqa: ARG001
) -> Measured:
    """Measure one record.

    Parameters
    ----------
    excerpt_mv : (lead, sample) float32, mV
        Up to ten seconds; NaN where missing. For a lead flagged ``not_millivolts`` the shape alone counts.
    leads, lead_flags
        Name and ``terms.LEAD_FLAGS`` mask of each lead.
    r_sample, beat_flags : (beat,) int
        R peaks inside the excerpt, counted from its first sample, and ``terms.BEAT_FLAGS``.
    all_r_sample, all_beat_flags : (beat,) int
        Those of the whole record.
    age_years, sex
        NaN where unknown; ``terms.SEX``.

    """
    told = intervals.measure(
        excerpt_mv, leads, lead_flags, sampling_frequency_hz=sampling_frequency_hz, r_sample=r_sample, beat_flags=beat_flags
    )
    found = nothing_measured(len(leads), "no_wave")
    for place, name in enumerate(QUANTITIES):
        if name in told:
            found.value[place], found.reason[place] = _coded(told[name])
    row = list(LEAD_QUANTITIES).index("st_60_mv")
    for place, lead in enumerate(leads):
        found.lead_value[row, place], found.lead_reason[place] = _coded(told["st_60_mv"][lead])
    whole = rhythm(all_r_sample, all_beat_flags, sampling_frequency_hz)
    qrs_ms = told["qrs_ms"]["value"]
    return found._replace(
        n_beats=told["n_beats"],
        rhythm=whole.rr_spread_s * whole.heart_rate_bpm / 60.0,
        statements=STATEMENTS["qrs_wide"] if qrs_ms is not None and qrs_ms >= WIDE_QRS_MS else 0,
    )


def _coded(found: dict[str, Any]) -> tuple[float, int]:
    if found["value"] is not None:
        return found["value"], 0
    return float("nan"), next(REASONS[word] for pattern, word in _WORDS if re.search(pattern, found["reason"]))


_WORDS = (
    ("sampled at", "low_rate"),
    ("no lead is free", "no_lead"),
    ("whole normal beats", "too_few_beats"),
    ("fewer than", "no_beats"),
    ("no quiet line", "no_quiet_line"),
    ("not believed", "not_believed"),
    ("two halves", "halves_disagree"),
    ("leads disagree", "leads_disagree"),
    ("too few leads", "no_wave"),
    ("no RR", "no_rr"),
    ("not in millivolts", "not_millivolts"),
    ("absent", "absent"),
    ("flat", "flat"),
    ("noisy", "noisy"),
    ("", "no_boundaries"),
)
