"""What reports say of a model: its name, its operating point, and what a decision means where infarction is rarer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

STATED_PREVALENCE = 0.08
"""Share of infarction for which pages say what a decision means: emergency departments find 6 to 10 % among those whom they
record for chest pain (three Swedish hospitals, 145,656 ECGs: European Heart Journal Digital Health, ztaf125)."""


def model_summary(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return what reports say of a model.json: workers need not carry the digests of every patient it saw."""
    training = model.get("training") or {}
    recipe = training.get("recipe", "unnamed")
    n_members = model.get("n_members") or len(model.get("members") or ())
    return {
        "name": str(model.get("name") or f"{recipe}, {n_members} members"),
        "digest": str(model.get("digest", "")),
        "n_members": n_members,
        "knows_other": bool(model.get("knows_other") or model.get("abnormal")),
        "operating_point": model.get("operating_point"),
        "prevalence": training.get("prevalence"),
        "reference": model.get("reference") or training.get("reference"),
    }


def at_prevalence(model: Mapping[str, Any], probability: float | None) -> dict[str, Any] | None:
    """Return what a decision means where ``STATED_PREVALENCE`` of the recordings are of infarction; None where unknown.

    Predictive values by Bayes' rule from sensitivity and specificity at the operating point; their limits put both at their
    unfavourable, then at their favourable, limit. ``ppv`` and ``npv`` are where everybody else is healthy, ``ppv_other`` and
    ``npv_other`` where everybody else has other heart disease (None where the model does not know): real life lies between.
    ``mi_probability`` is the record's, its log odds moved by the difference of
    the two prevalences' (Saerens, Latinne and Decaestecker 2002).
    """
    point = model.get("operating_point") or {}
    sensitivity, specificity = (_figure(point.get(name)) for name in ("sensitivity", "specificity"))
    if sensitivity["value"] is None or specificity["value"] is None:
        return None
    n = (sensitivity["n_patients"] or 0, specificity["n_patients"] or 0)
    own = model.get("prevalence") or (n[0] / sum(n) if sum(n) else None)
    found: dict[str, Any] = {"prevalence": STATED_PREVALENCE, "prevalence_of_model": own}
    against = {"": specificity, "_other": _figure(point.get("specificity_against_other"))}
    for name in ("ppv", "npv"):
        for suffix, own_specificity in against.items():
            ends = {key: _predictive(name, sensitivity[key], own_specificity[key]) for key in ("value", "low", "high")}
            found[f"{name}{suffix}"] = ends
    shifted = None
    if probability is not None and own and 0 < own < 1 and 0 < probability < 1:
        odds = probability / (1 - probability) * (STATED_PREVALENCE / (1 - STATED_PREVALENCE)) / (own / (1 - own))
        shifted = round(odds / (1 + odds), 6)
    return found | {"mi_probability": shifted}


def _predictive(name: str, sensitivity: float | None, specificity: float | None) -> float | None:
    if sensitivity is None or specificity is None:
        return None
    p = STATED_PREVALENCE
    right, wrong = (
        (p * sensitivity, (1 - p) * (1 - specificity)) if name == "ppv" else ((1 - p) * specificity, p * (1 - sensitivity))
    )
    return right / (right + wrong) if right + wrong else None


def _figure(found: Any) -> dict[str, Any]:
    figure = found if isinstance(found, Mapping) else {"value": found}
    return {key: figure.get(key) for key in ("value", "low", "high", "n_patients")}


def operating_point(model: Mapping[str, Any], threshold: float | None) -> dict[str, Any]:
    """Return the threshold applied to a record, and what the model's operating point reached where it was chosen."""
    chosen = model.get("operating_point") or {}
    point: dict[str, Any] = {"threshold": chosen.get("threshold") if threshold is None else threshold}
    for name in ("sensitivity", "specificity", "specificity_against_other"):
        figure = _figure(chosen.get(name))
        point[name] = figure["value"]
        point[f"{name}_interval"] = None if figure["low"] is None else [figure["low"], figure["high"]]
        point[f"{name}_n_patients"] = figure["n_patients"]
    return point | {"chosen_on": str(chosen.get("chosen_on", ""))}
