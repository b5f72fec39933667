"""What of a recording is put before the reader, and why: which ten seconds, which lead below them, which strips, which rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ecgbatch.measurements.excerpt import EXCERPT_S, has_equals, in_millivolts
from ecgbatch.measurements.excerpt import choose_excerpt as choose_span
from ecgbatch.reports.svg import Float
from ecgbatch.terms import LEAD_FLAGS, LEADS, STATUS, UNUSABLE_LEAD

RHYTHM_LEADS = ("II", "MLII", "V1", "V5")
"""Leads for the rhythm strip, the first usable one: II as on every cart, its Holter form, then those with the clearest P."""

FULL_LINE_S, FULL_LINES = 20.0, 6
LONG_LINE_S, LONG_LINES = 50.0, 6
MINUTE_LINE_S, MINUTE_LINES, MOST_LINES = 60.0, 30, 32
"""Lines of the strips: up to 2 min at half the usual speed, up to 5 min at a fifth of it, then a minute a line, as Holter
systems disclose a recording. Longer ones than ``MOST_LINES`` minutes: ``MINUTE_LINES`` of them."""

_RIGHT_S = 0.2  # fits into the margin at the right of a line

MARKED_RATE_SHARE, MARKED_RATE_BPM = 0.10, 5.0
"""Two rates that differ by more than both are both said; less is what a few beats more or less make of a median."""


@dataclass(frozen=True)
class Excerpt:
    """Up to ten seconds of a record.

    Parameters
    ----------
    signal : (lead, sample) float32, mV; NaN where a sample is missing
        For a lead flagged ``not_millivolts`` only the shape counts.
    leads, lead_flags
        Name and ``terms.LEAD_FLAGS`` mask of each lead.
    start_s
        Time of the first sample from the record's start, in seconds.
    sampling_frequency_hz
        Samples a second.

    """

    signal: Float
    leads: tuple[str, ...]
    lead_flags: tuple[int, ...]
    start_s: float
    sampling_frequency_hz: float

    @property
    def length_s(self) -> float:
        """Of its samples."""
        return int(self.signal.shape[1]) / self.sampling_frequency_hz

    @property
    def present(self) -> list[str]:
        """Names of the leads that the record has."""
        return [lead for lead, flags in zip(self.leads, self.lead_flags, strict=True) if not flags & LEAD_FLAGS["missing"]]

    @property
    def rhythm_lead(self) -> str:
        """Lead of the rhythm strip; empty where there is none."""
        return rhythm_lead(self.leads, self.lead_flags)[0]

    @property
    def is_standard(self) -> bool:
        """Whether it is laid out as 3 x 4 and a rhythm strip; with fewer than six of the twelve leads each gets a strip."""
        return sum(lead in LEADS[:12] for lead in self.present) >= 6

    @property
    def is_millivolts(self) -> bool:
        """Whether every lead that the record has is in millivolts."""
        return not any(flags & LEAD_FLAGS["not_millivolts"] for flags in self.lead_flags)


def excerpt_of(steps: np.ndarray, source: Mapping[str, Any], *, start_s: float) -> Excerpt:
    """Turn stored samples into the excerpt that is put on paper.

    Parameters
    ----------
    steps : (lead, sample) int16, adu
        Of the signals store; ``terms.MISSING_SAMPLE`` becomes NaN.
    source
        The record's row: ``lead``, ``lead_flags``, ``adc_gain``, ``baseline``, ``sampling_frequency_hz``.
    start_s
        Time of the first sample.

    """
    leads, flags = source["lead"].tolist(), source["lead_flags"].tolist()
    millivolts = in_millivolts(steps, source["adc_gain"], source["baseline"])
    return Excerpt(millivolts, tuple(leads), tuple(flags), start_s, float(source["sampling_frequency_hz"]))


def rhythm_lead(leads: Sequence[str], lead_flags: Sequence[int]) -> tuple[str, str]:
    """Return the lead of the rhythm strip, and why it is not II (empty where it is); no lead where none is usable."""
    flags = dict(zip(leads, lead_flags, strict=True))
    usable = [lead for lead in leads if not flags[lead] & UNUSABLE_LEAD]
    chosen = next((lead for lead in RHYTHM_LEADS if lead in usable), usable[0] if usable else "")
    if chosen == "II" or not chosen:
        return chosen, ""
    if chosen == "MLII":
        return chosen, "a modified lead II: the recording has no lead II"
    is_flat = not flags.get("II", UNUSABLE_LEAD) & LEAD_FLAGS["missing"]
    return chosen, f"in place of lead II, which {'is a flat line' if is_flat else 'this recording does not have'}"


def choose_excerpt(report: Mapping[str, Any], source: Mapping[str, Any], beats: Any) -> dict[str, Any] | None:
    """Return the ten seconds to put on paper (``measurements.excerpt``), with the reason in words and the rhythm strip's lead.

    Parameters
    ----------
    report
        A record's, with ``leads`` and ``duration_s``.
    source
        Its row of a signals store, or nothing.
    beats
        Its beats (``r_sample`` and ``flags``), or None.

    Returns
    -------
    dict
        ``start_s``, ``end_s``, ``length_s``; ``why``; ``rhythm_lead`` and ``rhythm_why``. None of a record that cannot be used.

    """
    if not source or source["status"] == STATUS["set_aside"]:
        return None
    known = (np.empty(0, np.int64),) * 2 if beats is None else (beats.r_sample, beats.flags)
    size = {"sampling_frequency_hz": source["sampling_frequency_hz"] or 0.0, "n_samples": source["n_samples"]}
    span = choose_span(*known, **size)
    if span is None:
        return None
    flags = [sum(LEAD_FLAGS[word] for word in words) for words in report["leads"].values()]
    lead, rhythm_why = rhythm_lead(list(report["leads"]), flags)
    return {
        "start_s": span.start_s,
        "end_s": round(span.start_s + span.length_s, 4),
        "length_s": span.length_s,
        "why": _why(report["duration_s"], has_beats=bool(known[0].size), is_one_of_several=has_equals(*known, **size)),
        "rhythm_lead": lead,
        "rhythm_why": rhythm_why,
    }


def _why(duration_s: float, *, has_beats: bool, is_one_of_several: bool) -> str:
    if duration_s <= EXCERPT_S:
        return "the whole recording"
    if not has_beats:
        return "the first ten seconds, since no beat was found"
    return f"the ten seconds with most usable beats{', the first of several' if is_one_of_several else ''}"


def plan_strips(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return which strips show the rest of a recording; None where all of it is on paper, or no lead is usable.

    Parameters
    ----------
    report
        A record's, with ``duration_s`` and ``excerpt``.

    Returns
    -------
    dict
        ``lead``; ``start_s`` and ``end_s`` of what is shown; ``line_s`` and ``n_lines``; ``mm_per_s``; ``is_whole``.

    """
    duration_s, excerpt = report["duration_s"], report["excerpt"]
    if excerpt is None or not excerpt["rhythm_lead"] or duration_s < excerpt["length_s"] + 1.0:
        return None
    start_s, end_s, line_s = 0.0, duration_s, MINUTE_LINE_S
    for candidate_s, most in ((FULL_LINE_S, FULL_LINES), (LONG_LINE_S, LONG_LINES)):
        if duration_s <= candidate_s * most + _RIGHT_S:
            line_s = candidate_s
            break
    n_lines = max(1, int(np.ceil((duration_s - _RIGHT_S) / line_s)))
    is_whole = n_lines <= MOST_LINES
    if not is_whole:
        n_lines = MINUTE_LINES
        middle = int(excerpt["start_s"] // line_s) - n_lines // 2
        start_s = line_s * min(max(middle, 0), int(duration_s // line_s) - n_lines)
        end_s = start_s + n_lines * line_s
    return {
        "lead": excerpt["rhythm_lead"],
        "start_s": start_s,
        "end_s": end_s,
        "line_s": line_s,
        "n_lines": n_lines,
        "mm_per_s": round(250.0 / line_s, 2),
        "is_whole": is_whole,
    }


def headline_rate(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the one rate that a page states, what it is, and the other where the two differ markedly.

    Parameters
    ----------
    report
        A record's: ``heart_rate_bpm`` of the whole recording, ``measurements`` of the excerpt (or None), ``excerpt``.

    Returns
    -------
    dict
        ``bpm`` (None: not measured), ``of`` (``excerpt`` or ``recording``), ``meaning`` in words; ``other_bpm``: of the whole
        recording, where it differs by more than ``MARKED_RATE_SHARE`` and ``MARKED_RATE_BPM``.

    """
    measured = (report["measurements"] or {}).get("heart_rate_bpm") or {"value": None}
    here, whole = measured["value"], report["heart_rate_bpm"]
    if here is None:
        return {"bpm": whole, "of": "recording", "meaning": "median of the whole recording" if whole else "", "other_bpm": None}
    is_all = report["duration_s"] <= EXCERPT_S
    differs = whole is not None and not is_all and abs(here - whole) > max(MARKED_RATE_BPM, MARKED_RATE_SHARE * whole)
    meaning = "median of the whole recording" if is_all else "median of the ten seconds on paper"
    return {"bpm": here, "of": "excerpt", "meaning": meaning, "other_bpm": whole if differs else None}
