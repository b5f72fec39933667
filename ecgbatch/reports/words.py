"""What is said for each code and flag of a record: decisions, leads, reasons and what to do about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ecgbatch.formats.header import REASONS as RECORD_REASONS
from ecgbatch.scores.scorable import REASONS as SCORE_REASONS
from ecgbatch.terms import (
    FAULTY_LEAD,
    LEAD_FLAGS,
    STEP_FAILED,
    words_of_mask,
)

SCOPE = (
    "The probability is of myocardial infarction, acute or old, against healthy hearts and other heart disease. It tells "
    "infarction from a healthy heart well, from other heart disease only in part; a low score does not exclude infarction."
)
"""What a score says, by a model that learnt from other heart disease too."""

NARROW_SCOPE = (
    "The probability tells recordings of patients with myocardial infarction, acute or old, from recordings of healthy controls. "
    "Other heart disease often scores as infarction; a low score does not exclude infarction."
)
"""By a model that knows infarction and health alone."""

LEAD_WORDS = {
    "missing": "absent",
    "flat": "flat line, not used",
    "clipped": "clipped",
    "noisy": "noise",
    "wander": "baseline wander",
    "powerline": "mains hum",
    "implausible_amplitude": "implausible amplitude",
    "lead_sum": "contradicts the other limb leads",
    "unverified": "checksum not verifiable",
    "not_millivolts": "amplitude normalised, not millivolts",
    "suspected_swap": "electrodes possibly swapped",
    "gaps": "samples missing",
}
"""What the page says for each of ``terms.LEAD_FLAGS``."""

FAULTS = frozenset(words_of_mask(FAULTY_LEAD, LEAD_FLAGS))
"""Of a lead: with any of them it is not usable in the words of pages and tables."""

DECISION_WORDS = {
    "mi_indicated": "Pattern of myocardial infarction indicated",
    "mi_not_indicated": "Pattern of myocardial infarction not indicated",
    "indeterminate": "Indeterminate",
    "not_scorable": "Not scorable",
}

KIND_WORDS = {
    "electrodes_exchanged": "Indeterminate: limb electrodes seem exchanged",
    "unlike_training": "Indeterminate: unlike anything the model was trained on",
    "close_to_threshold": "Indeterminate: too close to the threshold to call",
}
"""For each of ``terms.INDETERMINATE_KINDS``: what is said where that is the first reason."""

EXCHANGE_WORDS = {"LA-RA": "left arm and right arm", "RA-LL": "right arm and left leg"}
"""For each of ``model.electrodes.EXCHANGES``."""

_ADVICE = {
    "NO_BEATS": "Look at the leads: if all are flat or noise, record again. If beats are visible, please report the record.",
    "TOO_FEW_BEATS": "Record again, longer or with less movement; check the electrodes.",
    "LEADS_MISSING": "Fetch the missing signal files, or record the missing leads again; then run the archive again.",
    "PATIENT_TRAINED_ON": "A score of this record would flatter the model. Use a model that never saw this patient.",
    "CHECKSUM_MISMATCH": "Fetch the signal file again: it is altered, or belongs to another header.",
    "DAT_TRUNCATED": "Fetch the signal file again: the copy is incomplete.",
    "DAT_MISSING": "Fetch the signal file that the header names.",
    "DAT_EMPTY": "Fetch the signal file again: the copy is empty.",
    STEP_FAILED: "Report it with the record, if it may be shown. The next version of ecgbatch tries the record again.",
}
"""What an operator can do about the commonest reasons; all are in docs/reason-codes.md."""


def leads_scored_words(report: Mapping[str, Any]) -> str:
    """Return on which leads a record's probability stands; nothing where there is none."""
    scored, derived, n_leads = report["leads_scored"], report["leads_derived"], report["model"]["n_leads"]
    if not scored:
        return ""
    said = f"Scored on {len(scored)} of the model's {n_leads} leads"
    said += f": {', '.join(scored)}" if len(scored) < n_leads else ""
    return said + (f"; {', '.join(derived)} computed from I and II." if derived else ".")


def lead_remarks(leads: Mapping[str, Sequence[str]]) -> tuple[list[str], dict[str, list[str]]]:
    """Return what is to be said of the leads, each remark once.

    Parameters
    ----------
    leads
        Name of each lead to its ``terms.LEAD_FLAGS`` in words.

    Returns
    -------
    shared, particular
        Words that hold for every lead that the record has; then, for each other remark, the leads that it holds for.

    """
    present = [set(flags) for flags in leads.values() if "missing" not in flags]
    shared = [flag for flag in LEAD_WORDS if len(present) > 1 and all(flag in flags for flags in present)]
    particular: dict[str, list[str]] = {}
    for flag, words in LEAD_WORDS.items():
        of = [lead for lead, flags in leads.items() if flag in flags]
        if of and flag not in shared:
            particular[words] = of
    return [LEAD_WORDS[flag] for flag in shared], particular


def explain_reason(code: str, *, is_scored: bool) -> tuple[str, str]:
    """Return, in words, why a record has no score (or, scored, is only partial), and what to do about it."""
    meanings = (RECORD_REASONS, SCORE_REASONS) if is_scored else (SCORE_REASONS, RECORD_REASONS)
    code, _, step = code.partition(":")
    why = meanings[0].get(code) or meanings[1].get(code, "")
    why += f" ({step.replace(':', ', ')})" if step else ""
    advice = _ADVICE.get(code, "" if is_scored else "See docs/reason-codes.md for this code; then run the archive again.")
    return why, advice if code else ""


def scope(model: Mapping[str, Any]) -> str:
    """Return what a score by a model (``model_summary``) says: it learnt from other heart disease, or it did not."""
    return SCOPE if model.get("knows_other") else NARROW_SCOPE


STATEMENT_NAMES: Mapping[str, str] = {
    "rate_slow": "rate slow",
    "rate_fast": "rate fast",
    "irregular_without_p": "irregular without P",
    "irregular": "irregular",
    "p_long": "P long",
    "pr_long": "PR long",
    "pr_short": "PR short",
    "qrs_wide": "QRS wide",
    "qtc_long": "QTc long",
    "qtc_very_long": "QTc very long",
    "qtc_short": "QTc short",
    "axis_left": "axis left",
    "axis_right": "axis right",
    "axis_extreme": "axis extreme",
    "q_waves": "Q waves",
    "st_elevation": "ST elevation",
    "st_depression": "ST depression",
    "lv_voltage": "LV voltage",
    "low_voltage": "low voltage",
}
"""Statements in a list, without their numbers, which are on the record's page."""
