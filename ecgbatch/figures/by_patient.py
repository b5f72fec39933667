"""Figures of merit by patient, each with a bootstrap interval that resamples patients, never records or beats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ecgbatch.figures.calibration import recalibration
from ecgbatch.figures.patients import DECIMALS, Float, Patients, by_patient, same_records
from ecgbatch.figures.resampling import BOOTSTRAP_SEED, CONFIDENCE, N_RESAMPLES, stratified_weights, wilson_interval

Figure = dict[str, Any]
"""``value``, ``low``, ``high`` (None where unknown or unbounded) and ``n_patients``; ``note`` where a reader needs one."""

_BLOCK_CELLS = 2_000_000

FIGURES = (
    "auroc",
    "auprc",
    "sensitivity",
    "specificity",
    "accuracy",
    "majority_baseline",
    "brier",
    "calibration_slope",
    "calibration_intercept",
)
"""The figures of ``patient_figures``, in the order of a table."""

ALL_FIGURES = (*FIGURES, "ppv", "npv", "ece")
"""With the predictive values at the operating point and the expected calibration error in ``ECE_BINS`` bins of equal width
(Naeini and others 2015; a bootstrap of it lies above its value, the more the fewer patients)."""

ECE_BINS = 10

_NEED_BOTH = ("auroc", "auprc", "calibration_slope", "calibration_intercept")


def patient_figures(
    probability: npt.ArrayLike,
    mi: npt.ArrayLike,
    patient_id: npt.ArrayLike,
    *,
    threshold: npt.ArrayLike = 0.5,
    names: Sequence[str] = FIGURES,
    n_resamples: int = N_RESAMPLES,
    seed: int = BOOTSTRAP_SEED,
) -> dict[str, Figure]:
    """Return the figures ``names`` of ``ALL_FIGURES``, by patient, each with a 95 % interval.

    A patient counts once: its probability is the mean over its records, and it is called MI when that reaches the mean
    of its records' thresholds. Records called indeterminate count on their side of the threshold: no patient is dropped
    from sensitivity or specificity.

    Intervals are percentile bootstrap over patients, stratified by label (each resample has as many MI patients and as
    many controls as the data, as pROC does: Robin and others 2011), models held fixed. They are widened to hold the value
    itself where the bootstrap is biased. A proportion that is exactly 0 or 1, and the majority baseline, would get an
    interval of width 0; they get Wilson's instead and say so in ``note``.

    ``calibration_slope`` is b of the logistic recalibration logit P(MI) = a + b logit(p) (Cox 1958), 1 when calibrated;
    ``calibration_intercept`` is a with b held at 1 (calibration in the large: Steyerberg 2009, 15.2), 0 when calibrated.
    Where a cut separates MI patients from controls the slope has no finite value: None, with a note; where that happens in
    more than 2.5 % of the resamples, its upper limit is None.

    ``n_patients`` is the figure's denominator: MI patients for sensitivity, controls for specificity, all otherwise.
    ``majority_baseline`` is the accuracy of always naming the commoner label: print it beside every accuracy.

    Parameters
    ----------
    probability, mi, patient_id, threshold
        As in ``by_patient``.
    n_resamples, seed
        Of the bootstrap; the same seed and scores give the same interval for any order of the records.

    Returns
    -------
    dict
        Figure name to ``{"value", "low", "high", "n_patients"}`` of plain floats, int and None, ready for JSON. With one
        class known, what needs both is None with a note; with nobody labelled and scored, everything is.

    """
    patients = by_patient(probability, mi, patient_id, threshold=threshold)
    count = _denominators(patients)
    if patients.n_patients == 0:
        return {name: _unknown(0, "no patient is both labelled and scored") for name in names}
    value = {name: float(v[0]) for name, v in _figures_of(patients, np.ones((1, patients.n_patients)), names).items()}
    draws = _bootstrap(patients, names, n_resamples, seed)
    return {name: _figure(name, value[name], draws[name], count[name], patients) for name in names}


def _denominators(patients: Patients) -> dict[str, int]:
    n_mi = int(patients.mi.sum())
    n_called = int((patients.probability >= patients.threshold).sum())
    narrow = {"sensitivity": n_mi, "specificity": patients.n_patients - n_mi}
    narrow |= {"ppv": n_called, "npv": patients.n_patients - n_called}
    return {name: narrow.get(name, patients.n_patients) for name in ALL_FIGURES}


def _unknown(n_patients: int, note: str) -> Figure:
    return {"value": None, "low": None, "high": None, "n_patients": n_patients, "note": note}


_EMPTY = {
    "sensitivity": "no MI patient",
    "specificity": "no control patient",
    "ppv": "nobody is called MI",
    "npv": "everybody is called MI",
}


def _figure(name: str, value: float, draws: Float, n_patients: int, patients: Patients) -> Figure:
    """Make a figure's dict from its value and its bootstrap draws (NaN: undefined, infinite: separated)."""
    if n_patients == 0:
        return _unknown(0, _EMPTY[name])
    if name in _NEED_BOTH and not patients.has_both_classes:
        return _unknown(n_patients, "only one class is known: MI patients and controls are both needed")
    if not np.isfinite(value):
        note = "every patient has the same probability" if np.isnan(value) else "a cut separates MI patients from controls"
        return _unknown(n_patients, f"no finite value: {note}")
    if name == "majority_baseline" or (name in ("sensitivity", "specificity", "accuracy", "ppv", "npv") and value in (0.0, 1.0)):
        low, high = wilson_interval(round(value * n_patients), n_patients)
        return {"value": value, "low": low, "high": high, "n_patients": n_patients, "note": "Wilson interval"}
    tail = (1 - CONFIDENCE) / 2
    known = draws[~np.isnan(draws)]  # 'lower' and 'higher' name actual draws: infinite ones are never averaged into NaN
    low = min(value, float(np.quantile(known, tail, method="lower"))) if known.size else value
    high = max(value, float(np.quantile(known, 1 - tail, method="higher"))) if known.size else value
    figure: Figure = {"value": value, "low": _finite(low), "high": _finite(high), "n_patients": n_patients}
    if figure["low"] is None or figure["high"] is None:
        figure["note"] = "a limit is unbounded: many resamples separate MI patients from controls"
    elif low == high and name in ("auroc", "auprc", "brier"):
        figure["note"] = "every resample gave this value: too few patients for an interval"
    return figure


def _finite(number: float) -> float | None:
    return number if np.isfinite(number) else None


def _bootstrap(patients: Patients, names: Sequence[str], n_resamples: int, seed: int) -> dict[str, Float]:
    """Return (resample,) draws of the figures ``names``; blocks of resamples keep memory near 100 MB."""
    random = np.random.default_rng(seed)
    block = max(1, _BLOCK_CELLS // patients.n_patients)
    blocks = []
    for start in range(0, n_resamples, block):
        weight = stratified_weights(patients.mi, min(block, n_resamples - start), random)
        blocks.append(_figures_of(patients, weight, names))
    return {name: np.concatenate([b[name] for b in blocks]) if blocks else np.empty(0) for name in names}


def _figures_of(patients: Patients, weight: Float, names: Sequence[str]) -> dict[str, Float]:
    """Return figures under each row of ``weight`` (resample, patient); undefined is NaN, separated is infinite.

    Those ``names`` alone: most of the time goes into recalibration, then into areas.
    """
    mi, p = patients.mi, patients.probability
    n_mi, n_control = weight[:, mi].sum(1), weight[:, ~mi].sum(1)
    called = p >= patients.threshold
    with np.errstate(divide="ignore", invalid="ignore"):
        sensitivity = weight[:, mi & called].sum(1) / n_mi
        specificity = weight[:, ~mi & ~called].sum(1) / n_control
        accuracy = weight[:, mi == called].sum(1) / (n_mi + n_control)
        brier = weight @ (p - mi) ** 2 / (n_mi + n_control)
        ppv, npv = (weight[:, right & side].sum(1) / weight[:, side].sum(1) for right, side in ((mi, called), (~mi, ~called)))
    found = {
        "sensitivity": sensitivity,
        "specificity": specificity,
        "accuracy": accuracy,
        "majority_baseline": np.maximum(n_mi, n_control) / (n_mi + n_control),
        "brier": brier,
        "ppv": ppv,
        "npv": npv,
    }
    if not {"auroc", "auprc"}.isdisjoint(names):
        with np.errstate(divide="ignore", invalid="ignore"):
            found["auroc"], found["auprc"] = _areas(p, mi, weight)
    if not {"calibration_slope", "calibration_intercept"}.isdisjoint(names):
        both = recalibration(p, mi, weight) if patients.has_both_classes else (np.full(len(weight), np.nan),) * 2
        found["calibration_slope"], found["calibration_intercept"] = both
    if "ece" in names:
        found["ece"] = _calibration_error(p, mi, weight)
    return {name: found[name] for name in names}


def _calibration_error(p: Float, mi: npt.NDArray[np.bool_], weight: Float) -> Float:
    """Return the mean over patients of their bin's distance between mean probability and share of MI, for each row of weights."""
    bin_of = np.minimum((p * ECE_BINS).astype(int), ECE_BINS - 1)
    excess = sum(np.abs(weight[:, bin_of == number] @ (p - mi)[bin_of == number]) for number in np.unique(bin_of))
    return np.asarray(excess / weight.sum(1))


def paired_difference(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    mi: npt.ArrayLike,
    patient_id: npt.ArrayLike,
    *,
    n_resamples: int = N_RESAMPLES,
    seed: int = BOOTSTRAP_SEED,
) -> dict[str, dict[str, Any]]:
    """Compare two scores of the same records, by patient: AUROC and Brier score of both, and first minus second.

    Patients are drawn once for both, so what makes a patient easy or hard for either cancels. Only records that both score count.

    Parameters
    ----------
    first, second : (record,) float
        Probabilities; NaN where not scored.
    mi, patient_id : (record,)
        As in ``by_patient``.

    Returns
    -------
    dict
        ``auroc`` and ``brier``, each with ``first`` and ``second`` (numbers), ``difference`` (a ``Figure``) and
        ``is_significant`` (its interval excludes 0). All None where not both classes are known.

    Raises
    ------
    ValueError
        As in ``same_records``.

    """
    (a, b), labels, names = same_records([first, second], mi, patient_id)
    keep = np.isfinite(a) & np.isfinite(b) & np.isin(labels, (0, 1))
    index, n_records = np.unique(names[keep], return_inverse=True, return_counts=True)[1:]
    p, q = ((np.bincount(index, weights=x[keep]) / n_records).round(DECIMALS) for x in (a, b))
    is_mi = np.bincount(index, weights=labels[keep]) > 0
    n_patients = int(is_mi.size)
    if n_patients == 0 or is_mi.all() or not is_mi.any():
        unknown = _unknown(n_patients, "MI patients and controls are both needed")
        nothing = {"first": None, "second": None, "difference": unknown, "is_significant": None}
        return {"auroc": nothing, "brier": dict(nothing)}
    weight = np.concatenate([np.ones((1, n_patients)), stratified_weights(is_mi, n_resamples, np.random.default_rng(seed))])
    table = {
        "auroc": [_areas(x, is_mi, weight)[0] for x in (p, q)],
        "brier": [weight @ (x - is_mi) ** 2 / weight.sum(1) for x in (p, q)],
    }
    return {name: _difference(values[0], values[1], n_patients) for name, values in table.items()}


def _difference(first: Float, second: Float, n_patients: int) -> dict[str, Any]:
    """Gather a comparison from values (1 + resample,): the data's own first."""
    value, draws = float(first[0] - second[0]), (first - second)[1:]
    low, high = (float(limit) for limit in np.quantile(draws, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)))
    figure = {"value": value, "low": min(low, value), "high": max(high, value), "n_patients": n_patients}
    both = {"first": float(first[0]), "second": float(second[0])}
    return {**both, "difference": figure, "is_significant": bool(low > 0 or high < 0)}


def _areas(p: Float, mi: npt.NDArray[np.bool_], weight: Float) -> tuple[Float, Float]:
    """Return AUROC (ties count half) and average precision under each row of weights."""
    order = np.argsort(-p, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(p[order]) != 0])
    hits = np.add.reduceat(weight[:, order] * mi[order], starts, axis=1)
    alarms = np.add.reduceat(weight[:, order] * ~mi[order], starts, axis=1)
    n_hits, n_alarms = hits.cumsum(1), alarms.cumsum(1)
    total_hits, total_alarms = n_hits[:, -1], n_alarms[:, -1]
    auroc = (alarms * (n_hits - hits / 2)).sum(1) / (total_hits * total_alarms)
    precision = n_hits / np.maximum(n_hits + n_alarms, 1)
    return auroc, (hits * precision).sum(1) / total_hits
