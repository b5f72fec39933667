"""Curves of a cohort by patient, and figures of its subgroups; every band and interval resamples patients."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ecgbatch.figures.by_patient import patient_figures
from ecgbatch.figures.patients import Patients, by_patient
from ecgbatch.figures.resampling import BOOTSTRAP_SEED
from ecgbatch.terms import LABEL, LEAD_FLAGS, SCORE_FLAGS, SEX, STATUS

Float = NDArray[np.float64]

N_RESAMPLES = 500
"""Bootstrap resamples of a band: its limits are read off a chart."""

MOST_BINS = 1000
"""Distinct probabilities kept apart; more are joined by rank, which moves a curve by a thousandth at most."""

FEWEST_PATIENTS = 20
"""Of a subgroup; with fewer its figures are noise, and marked so."""

MOST_PLACES = 12
"""Localisations judged, the commonest first."""

YEARS_A_PERIOD = 5
"""Of recording: long enough to hold patients, short enough for a change of machine or habit to show."""

AGE_BANDS = ((0, 40, "under 40"), (40, 60, "40 to 59"), (60, 80, "60 to 79"), (80, 200, "80 and over"))

REMARKABLE = sum(bit for word, bit in LEAD_FLAGS.items() if word not in ("unverified", "not_millivolts"))
"""Bits of ``terms.LEAD_FLAGS`` that say something of a lead, not of a source as a whole."""

_RATES = np.round(np.linspace(0, 1, 41), 4)
_THRESHOLDS = np.round(np.linspace(0.02, 0.98, 49), 4)
_PREVALENCES = np.round(np.geomspace(0.01, 0.5, 30), 4)


def curve_bands(scores: xr.Dataset, *, n_resamples: int = N_RESAMPLES) -> dict[str, dict[str, list[Any]]]:
    """Return four curves with bands; every list is empty unless MI patients and controls are both scored.

    Bands are pointwise percentile bootstrap, stratified by label, models held fixed.

    Parameters
    ----------
    scores
        ``mi_probability``, ``mi``, ``patient_id`` and ``threshold`` on dimension ``record``.
    n_resamples
        Of the bootstrap.

    Returns
    -------
    dict
        ``roc_band`` (``false_positive_rate``, ``low``, ``high``), ``precision_recall_band`` (``recall``, ``low``, ``high``),
        ``decision`` (``threshold``, ``value``, ``low``, ``high``, ``treat_all``: net benefit a patient, Vickers and Elkin 2006)
        and ``predictive_value`` (``prevalence``, ``ppv``, ``ppv_low``, ``ppv_high``, ``npv``, ``npv_low``, ``npv_high``: by
        Bayes' rule from sensitivity and specificity at the operating point).

    """
    columns = (scores[name].values for name in ("mi_probability", "mi", "patient_id"))
    patients = by_patient(*columns, threshold=scores["threshold"].values)
    if not patients.has_both_classes:
        names = {
            "roc_band": ("false_positive_rate", "low", "high"),
            "precision_recall_band": ("recall", "low", "high"),
            "decision": ("threshold", "value", "low", "high", "treat_all"),
            "predictive_value": ("prevalence", "ppv", "ppv_low", "ppv_high", "npv", "npv_low", "npv_high"),
        }
        return {curve: {name: [] for name in parts} for curve, parts in names.items()}
    random = np.random.default_rng(BOOTSTRAP_SEED)
    cut, hits, alarms = _binned(patients)
    drawn_hits, drawn_alarms = (random.multinomial(int(n.sum()), n / n.sum(), n_resamples) for n in (hits, alarms))
    n_mi, n_control = int(hits.sum()), int(alarms.sum())
    many = _cumulated(drawn_hits), _cumulated(drawn_alarms)
    one = _cumulated(hits[None]), _cumulated(alarms[None])
    roc = np.stack([np.interp(_RATES, fpr, tpr) for tpr, fpr in zip(many[0] / n_mi, many[1] / n_control, strict=True)])
    precision = np.stack([_precision_at(h, a, n_mi) for h, a in zip(*many, strict=True)])
    benefit = _net_benefit(cut, *one, n_mi, n_control)[0]
    low, high = _limits(_net_benefit(cut, *many, n_mi, n_control))
    prevalence = n_mi / (n_mi + n_control)
    treat_all = prevalence - (1 - prevalence) * _THRESHOLDS / (1 - _THRESHOLDS)
    roc_low, roc_high = _limits(roc)
    precision_low, precision_high = _limits(precision)
    return {
        "roc_band": {"false_positive_rate": _RATES.tolist(), "low": roc_low, "high": roc_high},
        "precision_recall_band": {"recall": _RATES.tolist(), "low": precision_low, "high": precision_high},
        "decision": {
            "threshold": _THRESHOLDS.tolist(),
            "value": _plain(benefit),
            "low": low,
            "high": high,
            "treat_all": _plain(treat_all),
        },
        "predictive_value": _predictive_values(patients, random, n_resamples),
    }


def _binned(patients: Patients) -> tuple[Float, NDArray[np.int64], NDArray[np.int64]]:
    """Return distinct probabilities, falling, with the MI patients and controls that have each; at most ``MOST_BINS``."""
    cut, index = np.unique(-patients.probability, return_inverse=True)
    if cut.size > MOST_BINS:
        order = np.argsort(-patients.probability, kind="stable")
        index = np.empty(order.size, np.int64)
        index[order] = np.arange(order.size) * MOST_BINS // order.size
        cut = np.array([(-patients.probability[index == number]).max() for number in range(MOST_BINS)])
    n_bins = cut.size
    return (
        -cut,
        np.bincount(index[patients.mi], minlength=n_bins),
        np.bincount(index[~patients.mi], minlength=n_bins),
    )


def _cumulated(counts: NDArray[Any]) -> Float:
    """Return (resample, 1 + bin): how many lie at or above each probability, from none."""
    total = np.zeros((counts.shape[0], counts.shape[1] + 1))
    total[:, 1:] = counts.cumsum(axis=1)
    return total


def _precision_at(hits: Float, alarms: Float, n_mi: int) -> Float:
    """Return precision at each recall of ``_RATES``: of the first cut that reaches it."""
    reached = np.searchsorted(hits / n_mi, np.maximum(_RATES, 1e-12), side="left").clip(1, hits.size - 1)
    precision: Float = hits[reached] / np.maximum(hits[reached] + alarms[reached], 1)
    return precision


def _net_benefit(cut: Float, hits: Float, alarms: Float, n_mi: int, n_control: int) -> Float:
    """Return (resample, threshold) true less weighed false positives, a patient."""
    at = np.searchsorted(-cut, -_THRESHOLDS, side="right")
    odds = _THRESHOLDS / (1 - _THRESHOLDS)
    benefit: Float = (hits[:, at] - alarms[:, at] * odds) / (n_mi + n_control)
    return benefit


def _predictive_values(patients: Patients, random: np.random.Generator, n_resamples: int) -> dict[str, list[Any]]:
    called = patients.probability >= patients.threshold
    n_mi, n_control = int(patients.mi.sum()), int((~patients.mi).sum())
    sensitivity, specificity = float(called[patients.mi].mean()), float((~called[~patients.mi]).mean())
    # A share of 0 or 1 would draw itself for ever; one patient more on the other side keeps an interval.
    inside = [np.clip(share, 1 / (n + 2), 1 - 1 / (n + 2)) for share, n in ((sensitivity, n_mi), (specificity, n_control))]
    drawn = random.binomial(n_mi, inside[0], n_resamples) / n_mi, random.binomial(n_control, inside[1], n_resamples) / n_control
    found: dict[str, list[Any]] = {"prevalence": _PREVALENCES.tolist()}
    for name, value_of in (("ppv", _ppv), ("npv", _npv)):
        value = value_of(np.array([[sensitivity]]), np.array([[specificity]]))[0]
        low, high = _limits(value_of(drawn[0][:, None], drawn[1][:, None]))
        found[name] = _plain(value)
        found[f"{name}_low"] = np.minimum(low, found[name]).tolist()
        found[f"{name}_high"] = np.maximum(high, found[name]).tolist()
    return found


def _ppv(sensitivity: Float, specificity: Float) -> Float:
    right = _PREVALENCES * sensitivity
    return np.asarray(right / np.maximum(right + (1 - _PREVALENCES) * (1 - specificity), 1e-12))


def _npv(sensitivity: Float, specificity: Float) -> Float:
    right = (1 - _PREVALENCES) * specificity
    return np.asarray(right / np.maximum(right + _PREVALENCES * (1 - sensitivity), 1e-12))


def _limits(draws: Float) -> tuple[list[float], list[float]]:
    low, high = np.quantile(draws, (0.025, 0.975), axis=0)
    return _plain(low), _plain(high)


def _plain(values: Float) -> list[float]:
    return [float(value) for value in np.round(values, 5)]


OF_SUBGROUPS = ("auroc", "sensitivity", "specificity", "brier")
"""Figures that each group gets."""


def subgroups(scores: xr.Dataset, facts: Mapping[str, NDArray[Any]]) -> list[dict[str, Any]]:
    """Return figures of groups of patients: by sex, age, place and age of the infarction, period of recording, and quality.

    Parameters
    ----------
    scores
        Variables of ``scores.stage.SCORES`` on ``record``.
    facts
        (record,) each: ``infarct_location``, ``infarct_age``, ``recording_year`` (-1: unknown) and ``lead_flags`` (of any lead).

    Returns
    -------
    list of dict
        ``kind``, ``name``, ``n_records``, ``n_mi`` and ``n_control`` (patients), ``is_small``, and ``OF_SUBGROUPS`` of
        ``patient_figures``. Groups without a scored and labelled patient are left out; groups of infarctions are judged against
        all controls.

    """
    labelled = np.isin(scores["mi"].values, (0, 1)) & np.isfinite(scores["mi_probability"].values)
    is_control = scores["label"].values == LABEL["control"]
    age = scores["age_years"].values.astype(float)
    groups: list[tuple[str, str, NDArray[np.bool_]]] = []
    groups += [("sex", word, scores["sex"].values == value) for word, value in SEX.items()]
    groups += [("age", name, (age >= low) & (age < high)) for low, high, name in AGE_BANDS]
    groups.append(("age", "unknown", ~np.isfinite(age)))
    for kind, field in (("localisation", "infarct_location"), ("infarction", "infarct_age")):
        stated = facts[field]
        names = [name for name, _ in Counter(name for name in stated[labelled & ~is_control] if name).most_common()]
        groups += [(kind, name, (stated == name) | is_control) for name in names[:MOST_PLACES]]
    year = facts["recording_year"]
    for first in sorted({int(value) // YEARS_A_PERIOD * YEARS_A_PERIOD for value in year[labelled] if value >= 0}):
        is_then = (first <= year) & (year < first + YEARS_A_PERIOD)
        groups.append(("period", f"{first} to {first + YEARS_A_PERIOD - 1}", is_then))
    groups.append(("period", "unknown", year < 0))
    has_remark = facts["lead_flags"] & REMARKABLE != 0
    groups += [("quality", "no remark on any lead", ~has_remark), ("quality", "a remark on some lead", has_remark)]
    flags = scores["score_flags"].values if "score_flags" in scores else np.zeros(year.shape, np.uint8)  # of a version 1 store
    is_unlike = flags & SCORE_FLAGS["unlike_training"] > 0
    groups += [
        ("quality", "some leads missing or unusable", scores["status"].values == STATUS["partial"]),
        ("quality", "under ten beats scored", scores["n_beats_scored"].values < 10),
        ("quality", "unlike training", is_unlike),
    ]
    return [_subgroup(scores, kind, name, chosen & labelled) for kind, name, chosen in groups if (chosen & labelled).any()]


def _subgroup(scores: xr.Dataset, kind: str, name: str, chosen: NDArray[np.bool_]) -> dict[str, Any]:
    columns = [scores[column].values[chosen] for column in ("mi_probability", "mi", "patient_id", "threshold")]
    n_resamples = max(100, min(500, 2_000_000 // max(1, int(chosen.sum()))))
    figures = patient_figures(*columns[:3], threshold=columns[3], names=OF_SUBGROUPS, n_resamples=n_resamples)
    n_mi, n_control = (figures[figure]["n_patients"] for figure in ("sensitivity", "specificity"))
    return {
        "kind": kind,
        "name": name,
        "n_records": int(chosen.sum()),
        "n_mi": n_mi,
        "n_control": n_control,
        "is_small": min(n_mi, n_control) < FEWEST_PATIENTS,
        **figures,
    }
