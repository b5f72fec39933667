"""Statements that follow from measured numbers alone, by published limits (``terms``): measurements, never a diagnosis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgbatch.measurements.atrial import IRREGULAR, P_REPEATS, VARIED
from ecgbatch.measurements.quantities import LEAD_QUANTITIES, QUANTITIES
from ecgbatch.terms import (
    CONTIGUOUS_LEADS,
    CORNELL_MV,
    DEEP_Q_MV,
    FAST_BPM,
    FEWEST_YEARS_OF_VOLTAGE,
    HIGH_ST_ELSEWHERE_MV,
    HIGH_ST_MV,
    LEFT_AXIS_DEG,
    LONG_P_MS,
    LONG_PR_MS,
    LONG_Q_MS,
    LONG_Q_V2_MS,
    LONG_QTC_MS,
    LOW_ST_MV,
    LOW_VOLTAGE_MV,
    Q_GROUPS,
    QRS_ALLOWANCE_MS,
    RIGHT_AXIS_DEG,
    SEX,
    SHORT_PR_MS,
    SHORT_QTC_MS,
    SLOW_BPM,
    SOKOLOW_LYON_MV,
    STATEMENTS,
    VERY_LONG_QTC_MS,
    WIDE_QRS_MS,
)

Array = NDArray[Any]

LIMB = ("I", "II", "III", "aVR", "aVL", "aVF")

NOTES: Mapping[str, str] = {
    "irregular_without_p": (
        "found in 96 % of 27 records with atrial fibrillation in CPSC and 94 % of 85 in PTB-XL; said wrongly in 0 % of 128 and "
        "1 % of 1,023 (its limit was chosen on these records)"
    ),
}
"""What to know of a statement beside its words: how often it is right on labelled records. Figures: docs/measurements.md."""


class Facts(NamedTuple):
    """What statements are made of: numbers by name (NaN unknown), those of leads by lead and name, and of whom they are."""

    of: Mapping[str, float]
    lead: Mapping[str, Mapping[str, float]]
    p_agreement: float
    irregularity: float
    age_years: float
    sex: str


def statements_of(
    value: Array,
    lead_value: Array,
    leads: Sequence[str],
    p_agreement: float,
    irregularity: float,
    age_years: float = float("nan"),
    sex: int = 0,
) -> int:
    """Return the mask of ``terms.STATEMENTS`` that the numbers of a record (``record.Measured``) support."""
    facts = facts_of(value, lead_value, leads, p_agreement, irregularity, age_years, sex)
    return sum(STATEMENTS[name] for name in find_statements(facts))


def facts_of(
    value: Array, lead_value: Array, leads: Sequence[str], p_agreement: float, irregularity: float, age_years: float, sex: int
) -> Facts:
    """Return numbers in ``record.Measured``'s order under their names; ages and sexes as stores keep them."""
    of = dict(zip(QUANTITIES, np.asarray(value, float).tolist(), strict=True))
    by_lead = np.asarray(lead_value, float).T.tolist()
    lead = {name: dict(zip(LEAD_QUANTITIES, row, strict=True)) for name, row in zip(leads, by_lead, strict=True)}
    return Facts(of, lead, p_agreement, irregularity, age_years, next(word for word, code in SEX.items() if code == sex))


def find_statements(facts: Facts) -> dict[str, list[str]]:
    """Return the statements that hold, in the order of ``terms.STATEMENTS``, with the leads that each is about (or none)."""
    of = facts.of
    is_irregular = facts.irregularity >= IRREGULAR
    is_narrow = not of["qrs_ms"] >= WIDE_QRS_MS + QRS_ALLOWANCE_MS
    axis = of["axis_qrs_deg"]
    holds: dict[str, Any] = {
        "rate_slow": of["heart_rate_bpm"] < SLOW_BPM,
        "rate_fast": of["heart_rate_bpm"] > FAST_BPM,
        "irregular_without_p": is_irregular and facts.p_agreement < P_REPEATS,
        "irregular": is_irregular and not facts.p_agreement < P_REPEATS and of["rr_spread_ms"] >= VARIED * of["rr_ms"],
        "p_long": of["p_ms"] >= LONG_P_MS,
        "pr_long": of["pr_ms"] > LONG_PR_MS,
        "pr_short": of["pr_ms"] < SHORT_PR_MS,
        "qrs_wide": not is_narrow,
        "qtc_long": LONG_QTC_MS[facts.sex] <= of["qtc_fridericia_ms"] < VERY_LONG_QTC_MS,
        "qtc_very_long": of["qtc_fridericia_ms"] >= VERY_LONG_QTC_MS,
        "qtc_short": of["qtc_fridericia_ms"] <= SHORT_QTC_MS,
        "axis_left": -90 <= axis < LEFT_AXIS_DEG,
        "axis_right": axis > RIGHT_AXIS_DEG,
        "axis_extreme": axis < -90,
        "q_waves": _q_waves(facts) if is_narrow else [],
        "st_elevation": _contiguous(facts, lambda lead, found: found["st_j_mv"] >= _high_st(facts, lead)) if is_narrow else [],
        "st_depression": _contiguous(facts, _is_depressed) if is_narrow else [],
        "lv_voltage": _large_voltage(facts),
        "low_voltage": _low_voltage(facts),
    }
    return {name: found if isinstance(found, list) else [] for name in STATEMENTS if (found := holds[name])}


def _contiguous(facts: Facts, is_met: Callable[[str, Mapping[str, float]], bool]) -> list[str]:
    """Return the leads that meet a condition together with a neighbour in ``terms.CONTIGUOUS_LEADS``."""
    found = []
    for row in CONTIGUOUS_LEADS:
        met = [lead in facts.lead and is_met(lead, facts.lead[lead]) for lead in row]
        found += [lead for k, lead in enumerate(row) if met[k] and any(met[max(0, k - 1) : k] + met[k + 1 : k + 2])]
    return found


def _high_st(facts: Facts, lead: str) -> float:
    if lead not in ("V2", "V3"):
        return HIGH_ST_ELSEWHERE_MV
    is_young = facts.sex == "male" and facts.age_years < 40
    unsure = facts.sex == "male" and not np.isfinite(facts.age_years)
    return HIGH_ST_MV["male under 40" if is_young or unsure else facts.sex]


def _is_depressed(_lead: str, found: Mapping[str, float]) -> bool:
    """Whether ST is low at J and does not rise behind it: horizontal or falling."""
    return found["st_j_mv"] <= LOW_ST_MV and found["st_80_mv"] <= found["st_j_mv"]


def _q_waves(facts: Facts) -> list[str]:
    def is_q(lead: str) -> bool:
        found = facts.lead.get(lead, {})
        return found.get("q_duration_ms", 0) >= LONG_Q_MS and found.get("q_mv", 0) <= DEEP_Q_MV

    found = []
    for group in Q_GROUPS:
        here = [lead for lead in group if is_q(lead)]
        found += here if len(here) > 1 else []
    right = [lead for lead in ("V2", "V3") if facts.lead.get(lead, {}).get("q_duration_ms", 0) > LONG_Q_V2_MS]
    return right + found


def _large_voltage(facts: Facts) -> bool:
    if facts.age_years < FEWEST_YEARS_OF_VOLTAGE:
        return False

    def mv(lead: str, name: str) -> float:
        return abs(facts.lead.get(lead, {}).get(name, float("nan")))

    # What is all negative is kept as Q: in V1 and V3 that is the S of the rule.
    s_v1, s_v3 = (np.fmax(mv(lead, "s_mv"), mv(lead, "q_mv")) for lead in ("V1", "V3"))
    sokolow_lyon = s_v1 + np.fmax(mv("V5", "r_mv"), mv("V6", "r_mv"))
    return bool(sokolow_lyon >= SOKOLOW_LYON_MV or mv("aVL", "r_mv") + s_v3 > CORNELL_MV[facts.sex])


def _low_voltage(facts: Facts) -> bool:
    heights = [
        facts.lead[lead]["r_mv"] - min(facts.lead[lead]["s_mv"], facts.lead[lead]["q_mv"]) for lead in LIMB if lead in facts.lead
    ]
    return len(heights) == len(LIMB) and all(height < LOW_VOLTAGE_MV for height in heights)


def say(facts: Facts) -> list[dict[str, Any]]:
    """Return the statements that hold, in words with their numbers: ``{"statement", "words", "leads", "note"}``, JSON types."""
    return [
        {"statement": name, "words": _words(name, leads, facts), "leads": leads, "note": NOTES.get(name, "")}
        for name, leads in find_statements(facts).items()
    ]


def _words(name: str, leads: Sequence[str], facts: Facts) -> str:
    of = facts.of
    changed = (
        "" if np.isnan(facts.irregularity) else f"{facts.irregularity * 100:.0f} % of RR intervals differ from the one before"
    )
    words = {
        "rate_slow": f"Rate {of['heart_rate_bpm']:.0f}/min: under {SLOW_BPM:g}",
        "rate_fast": f"Rate {of['heart_rate_bpm']:.0f}/min: over {FAST_BPM:g}",
        "irregular_without_p": f"Irregular, and no P wave repeats before QRS: atrial fibrillation possible ({changed})",
        "irregular": f"Irregular, with a P wave before QRS or one not judged (RR spread {of['rr_spread_ms']:.0f} ms)",
        "p_long": f"P {of['p_ms']:.0f} ms: {LONG_P_MS:g} or longer",
        "pr_long": f"PR {of['pr_ms']:.0f} ms: over {LONG_PR_MS:g}",
        "pr_short": f"PR {of['pr_ms']:.0f} ms: under {SHORT_PR_MS:g}",
        "qrs_wide": f"QRS {of['qrs_ms']:.0f} ms: wide (over {WIDE_QRS_MS:g} by more than a measurement scatters)",
        "qtc_long": f"QTc {of['qtc_fridericia_ms']:.0f} ms (Fridericia): {LONG_QTC_MS[facts.sex]:g} or longer",
        "qtc_very_long": f"QTc {of['qtc_fridericia_ms']:.0f} ms (Fridericia): {VERY_LONG_QTC_MS:g} or longer",
        "qtc_short": f"QTc {of['qtc_fridericia_ms']:.0f} ms (Fridericia): {SHORT_QTC_MS:g} or shorter",
        "axis_left": f"QRS axis {of['axis_qrs_deg']:.0f}°: left of {LEFT_AXIS_DEG:g}°",
        "axis_right": f"QRS axis {of['axis_qrs_deg']:.0f}°: right of {RIGHT_AXIS_DEG:g}°",
        "axis_extreme": f"QRS axis {of['axis_qrs_deg']:.0f}°: between -90° and -180°",
        "q_waves": f"Measured Q waves in {_with(leads, facts, 'q_mv')}",
        "st_elevation": f"Measured ST elevation at J in {_with(leads, facts, 'st_j_mv')}: over the limit for {_whose(facts)}",
        "st_depression": f"Measured ST depression, level or falling, in {_with(leads, facts, 'st_j_mv')}",
        "lv_voltage": "Large left ventricular voltages: S in V1 with R in V5 or V6, or R in aVL with S in V3",
        "low_voltage": f"QRS of every limb lead lower than {LOW_VOLTAGE_MV:g} mV",
    }
    return words[name]


def _with(leads: Sequence[str], facts: Facts, name: str) -> str:
    """Return leads with their values, four at most."""
    said = [f"{lead} ({facts.lead[lead][name]:.2f} mV)" for lead in leads]
    return ", ".join(said) if len(said) < 5 else f"{', '.join(said[:4])} and {len(said) - 4} more"


def _whose(facts: Facts) -> str:
    if facts.sex == "unknown":
        return "unknown sex"
    age = "of unknown age" if not np.isfinite(facts.age_years) else "under 40" if facts.age_years < 40 else "from 40"
    return "women" if facts.sex == "female" else f"men {age}"
