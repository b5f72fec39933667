"""Figures of merit by patient, each with a bootstrap interval that resamples patients, never records or beats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from ecgbatch.figures.calibration import recalibration
from ecgbatch.terms import DECISION, INDETERMINATE_KINDS, LABEL, SCORE_FLAGS, STATUS

type_floats = npt.NDArray[np.float64]
Figure = dict[str, Any]
"""``value``, ``low``, ``high`` (None where unknown or unbounded) and ``n_patients``; ``note`` where a reader needs one."""

N_RESAMPLES = 1000
"""Bootstrap resamples: enough for 95 % percentile limits (Efron and Tibshirani 1993, section 14.3)."""

CONFIDENCE = 0.95

BOOTSTRAP_SEED = 1805_00794
"""Any fixed number: the same scores give the same interval, everywhere."""

_DECIMALS = 12
"""Patients' means are rounded here: means that are equal by arithmetic are ties, whatever their last bit says."""

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

AGAINST_EVERYTHING = ("auroc", "brier", "calibration_slope", "calibration_intercept")
"""Figures of MI against healthy controls and other heart disease together: what a model of three groups is calibrated for."""

_NEED_BOTH = ("auroc", "auprc", "calibration_slope", "calibration_intercept")


@dataclass(frozen=True)
class Patients:
    """One row a patient, ordered by label and then by probability: names and order of the records leave no trace.

    Parameters
    ----------
    probability : (patient,) float64
        Mean over the patient's labelled, scored records.
    mi : (patient,) bool
        True if any of those records is MI.
    threshold : (patient,) float64
        Mean of the thresholds of those records.
    n_records : (patient,) int
        How many records the means rest on.
    is_mixed : (patient,) bool
        True if the patient has records of both labels (recorded before and after an infarction).

    """

    probability: type_floats
    mi: npt.NDArray[np.bool_]
    threshold: type_floats
    n_records: npt.NDArray[np.int64]
    is_mixed: npt.NDArray[np.bool_]

    @property
    def n_patients(self) -> int:
        """Number of patients."""
        return int(self.mi.size)

    @property
    def has_both_classes(self) -> bool:
        """Whether there is at least one MI patient and one control."""
        return bool(self.mi.any() and not self.mi.all())


def by_patient(
    probability: npt.ArrayLike, mi: npt.ArrayLike, patient_id: npt.ArrayLike, *, threshold: npt.ArrayLike = 0.5
) -> Patients:
    """Gather records into patients; records without a probability (NaN) or without a label (``mi`` not 0 or 1) are left out.

    Parameters
    ----------
    probability : (record,) float
        NaN where not scored.
    mi : (record,) int
        1 MI, 0 healthy control, anything else unknown.
    patient_id : (record,) text
        Whose record it is.
    threshold
        One operating point, or one a record; finite wherever the probability is.

    Raises
    ------
    ValueError
        If lengths differ, or a probability lies outside [0, 1].

    """
    scores = np.asarray(probability, dtype=np.float64)
    labels = np.asarray(mi, dtype=np.int64)
    names = _codes(patient_id)
    cuts = np.broadcast_to(np.asarray(threshold, dtype=np.float64), scores.shape)
    if not (scores.ndim == 1 and scores.shape == labels.shape == names.shape):
        raise ValueError(
            f"by_patient: expected one probability, label and patient a record, found shapes {scores.shape}, {labels.shape}, "
            f"{names.shape}. Pass columns of the same scores store."
        )
    keep = np.isfinite(scores) & np.isin(labels, (0, 1))
    scores, labels, names, cuts = scores[keep], labels[keep], names[keep], cuts[keep]
    if scores.size and (scores.min() < 0 or scores.max() > 1):
        raise ValueError(
            f"by_patient: expected probabilities in [0, 1], found {scores.min()} to {scores.max()}. "
            "Apply the model's calibration to logits first."
        )
    order = np.lexsort((cuts, scores, names))  # sums in a fixed order: the same bits for any order of records
    scores, labels, names, cuts = scores[order], labels[order], names[order], cuts[order]
    index = np.unique(names, return_inverse=True)[1]
    n_records = np.bincount(index)
    n_mi = np.bincount(index, weights=labels)
    mean = (np.bincount(index, weights=scores) / np.maximum(n_records, 1)).round(_DECIMALS).clip(0.0, 1.0)
    cut = (np.bincount(index, weights=cuts) / np.maximum(n_records, 1)).round(_DECIMALS)
    rank = np.lexsort((n_records, cut, mean, n_mi > 0))
    mixed = (n_mi > 0) & (n_mi < n_records)
    return Patients(mean[rank], (n_mi > 0)[rank], cut[rank], n_records[rank].astype(np.int64), mixed[rank])


def _codes(patient_id: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Return a number for each record's patient, equal where the identifiers are equal as text."""
    code: dict[str, int] = {}
    return np.array([code.setdefault(str(name), len(code)) for name in np.asarray(patient_id).tolist()], dtype=np.int64)


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
    value = {name: float(v[0]) for name, v in _figures_of(patients, np.ones((1, patients.n_patients))).items()}
    draws = _bootstrap(patients, n_resamples, seed)
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


def _figure(name: str, value: float, draws: type_floats, n_patients: int, patients: Patients) -> Figure:
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


def wilson_interval(n_events: int, n: int) -> tuple[float, float]:
    """Return Wilson's 95 % score interval (1927) of the proportion ``n_events / n``, without continuity correction.

    Raises
    ------
    ValueError
        If ``n`` is not positive or ``n_events`` is not in 0..n.

    """
    if n <= 0 or not 0 <= n_events <= n:
        raise ValueError(f"wilson_interval: expected 0 <= n_events <= n and n > 0, found {n_events} of {n}")
    z = 1.959963984540054  # normal quantile of 0.975
    share = n_events / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low = 0.0 if n_events == 0 else max(0.0, float(centre - half))
    high = 1.0 if n_events == n else min(1.0, float(centre + half))
    return low, high


def _bootstrap(patients: Patients, n_resamples: int, seed: int) -> dict[str, type_floats]:
    """Return (resample,) draws of every figure; blocks of resamples keep memory near 100 MB."""
    random = np.random.default_rng(seed)
    block = max(1, _BLOCK_CELLS // patients.n_patients)
    blocks = []
    for start in range(0, n_resamples, block):
        weight = _stratified_weights(patients.mi, min(block, n_resamples - start), random)
        blocks.append(_figures_of(patients, weight))
    return {name: np.concatenate([b[name] for b in blocks]) if blocks else np.empty(0) for name in ALL_FIGURES}


def _stratified_weights(mi: npt.NDArray[np.bool_], n_resamples: int, random: np.random.Generator) -> type_floats:
    """Return (resample, patient) float64: how often each patient was drawn, with replacement within its label."""
    weight = np.zeros((n_resamples, mi.size))
    for member in (~mi, mi):
        where = np.flatnonzero(member)
        if where.size:
            drawn = random.integers(0, where.size, (n_resamples, where.size))
            cell = (drawn + np.arange(n_resamples)[:, None] * where.size).ravel()
            weight[:, where] = np.bincount(cell, minlength=n_resamples * where.size).reshape(n_resamples, where.size)
    return weight


def _figures_of(patients: Patients, weight: type_floats) -> dict[str, type_floats]:
    """Return every figure under each row of ``weight`` (resample, patient); undefined is NaN, separated is infinite."""
    mi, p = patients.mi, patients.probability
    n_mi, n_control = weight[:, mi].sum(1), weight[:, ~mi].sum(1)
    called = p >= patients.threshold
    with np.errstate(divide="ignore", invalid="ignore"):
        sensitivity = weight[:, mi & called].sum(1) / n_mi
        specificity = weight[:, ~mi & ~called].sum(1) / n_control
        accuracy = weight[:, mi == called].sum(1) / (n_mi + n_control)
        brier = weight @ (p - mi) ** 2 / (n_mi + n_control)
        auroc, auprc = _areas(p, mi, weight)
        ppv, npv = (weight[:, right & side].sum(1) / weight[:, side].sum(1) for right, side in ((mi, called), (~mi, ~called)))
    slope, intercept = recalibration(p, mi, weight) if patients.has_both_classes else (np.full(len(weight), np.nan),) * 2
    return {
        "auroc": auroc,
        "auprc": auprc,
        "sensitivity": sensitivity,
        "specificity": specificity,
        "accuracy": accuracy,
        "majority_baseline": np.maximum(n_mi, n_control) / (n_mi + n_control),
        "brier": brier,
        "calibration_slope": slope,
        "calibration_intercept": intercept,
        "ppv": ppv,
        "npv": npv,
        "ece": _calibration_error(p, mi, weight),
    }


def _calibration_error(p: type_floats, mi: npt.NDArray[np.bool_], weight: type_floats) -> type_floats:
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

    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    labels, names = np.asarray(mi, np.int64), _codes(patient_id)
    keep = np.isfinite(a) & np.isfinite(b) & np.isin(labels, (0, 1))
    index, n_records = np.unique(names[keep], return_inverse=True, return_counts=True)[1:]
    p, q = ((np.bincount(index, weights=x[keep]) / n_records).round(_DECIMALS) for x in (a, b))
    is_mi = np.bincount(index, weights=labels[keep]) > 0
    n_patients = int(is_mi.size)
    if n_patients == 0 or is_mi.all() or not is_mi.any():
        unknown = _unknown(n_patients, "MI patients and controls are both needed")
        nothing = {"first": None, "second": None, "difference": unknown, "is_significant": None}
        return {"auroc": nothing, "brier": dict(nothing)}
    weight = np.concatenate([np.ones((1, n_patients)), _stratified_weights(is_mi, n_resamples, np.random.default_rng(seed))])
    table = {
        "auroc": [_areas(x, is_mi, weight)[0] for x in (p, q)],
        "brier": [weight @ (x - is_mi) ** 2 / weight.sum(1) for x in (p, q)],
    }
    return {name: _difference(values[0], values[1], n_patients) for name, values in table.items()}


def _difference(first: type_floats, second: type_floats, n_patients: int) -> dict[str, Any]:
    """Gather a comparison from values (1 + resample,): the data's own first."""
    value, draws = float(first[0] - second[0]), (first - second)[1:]
    low, high = (float(limit) for limit in np.quantile(draws, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)))
    figure = {"value": value, "low": min(low, value), "high": max(high, value), "n_patients": n_patients}
    both = {"first": float(first[0]), "second": float(second[0])}
    return {**both, "difference": figure, "is_significant": bool(low > 0 or high < 0)}


def _areas(p: type_floats, mi: npt.NDArray[np.bool_], weight: type_floats) -> tuple[type_floats, type_floats]:
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


def roc_curve(probability: npt.ArrayLike, mi: npt.ArrayLike, patient_id: npt.ArrayLike) -> dict[str, list[float | None]]:
    """Return the ROC curve by patient, from (0, 0) to (1, 1), one point a distinct probability.

    Returns
    -------
    dict
        ``false_positive_rate``, ``sensitivity`` and ``threshold`` (a patient is called MI at or above it; None at the
        first point, where nobody is). Empty lists where not both classes are known.

    """
    patients = by_patient(probability, mi, patient_id)
    if not patients.has_both_classes:
        return {"false_positive_rate": [], "sensitivity": [], "threshold": []}
    cut, hits, alarms = _cumulative(patients)
    return {
        "false_positive_rate": [0.0, *(alarms / alarms[-1]).tolist()],
        "sensitivity": [0.0, *(hits / hits[-1]).tolist()],
        "threshold": [None, *cut.tolist()],
    }


def precision_recall_curve(probability: npt.ArrayLike, mi: npt.ArrayLike, patient_id: npt.ArrayLike) -> dict[str, list[float]]:
    """Return ``recall``, ``precision`` and ``threshold`` by patient, recall increasing; empty unless both classes are known."""
    patients = by_patient(probability, mi, patient_id)
    if not patients.has_both_classes:
        return {"recall": [], "precision": [], "threshold": []}
    cut, hits, alarms = _cumulative(patients)
    return {
        "recall": (hits / hits[-1]).tolist(),
        "precision": (hits / (hits + alarms)).tolist(),
        "threshold": cut.tolist(),
    }


def _cumulative(patients: Patients) -> tuple[type_floats, type_floats, type_floats]:
    """Return the distinct probabilities, falling, and the MI patients and controls at or above each."""
    cut, index = np.unique(-patients.probability, return_inverse=True)
    hits = np.bincount(index, weights=patients.mi).cumsum()
    alarms = np.bincount(index, weights=~patients.mi).cumsum()
    return -cut, hits, alarms


def calibration_curve(
    probability: npt.ArrayLike, mi: npt.ArrayLike, patient_id: npt.ArrayLike, *, n_bins: int = 10
) -> dict[str, list[Any]]:
    """Compare predicted probability with the observed share of MI, by patient, in bins of nearly equal numbers of patients.

    Bins are cut by rank of the probability; patients of equal probability are never parted, so there may be fewer than
    ``n_bins``. Ten bins is the habit of the field (Hosmer and Lemeshow); with under 50 patients there are n // 5.

    Returns
    -------
    dict
        ``predicted`` (mean of the bin), ``observed`` (share of MI), ``low``, ``high`` (Wilson, 95 %), ``n_patients``.

    """
    patients = by_patient(probability, mi, patient_id)
    curve: dict[str, list[Any]] = {"predicted": [], "observed": [], "low": [], "high": [], "n_patients": []}
    if patients.n_patients == 0:
        return curve
    n_bins = max(1, min(n_bins, patients.n_patients // 5))
    first = np.searchsorted(np.sort(patients.probability), patients.probability, side="left")
    bin_of = first * n_bins // patients.n_patients
    for number in np.unique(bin_of):
        inside = bin_of == number
        n, n_mi = int(inside.sum()), int(patients.mi[inside].sum())
        low, high = wilson_interval(n_mi, n)
        row = (float(patients.probability[inside].mean()), n_mi / n, low, high, n)
        for key, entry in zip(curve, row, strict=True):
            curve[key].append(entry)
    return curve


def choose_threshold(probability: npt.ArrayLike, mi: npt.ArrayLike, patient_id: npt.ArrayLike) -> float:
    """Choose the operating point with the largest Youden index (1950: sensitivity + specificity - 1), by patient.

    Candidates lie half-way between neighbouring distinct probabilities, so that the cut has the widest margin that these
    patients allow; half-way to 0 and to 1 are candidates too. Of several with the same index the lowest wins: a missed
    infarction costs more than a false alarm. Use it on validation patients only.

    Raises
    ------
    ValueError
        If not both MI patients and controls are given: any cut would do.

    """
    patients = by_patient(probability, mi, patient_id)
    if not patients.has_both_classes:
        raise ValueError(
            f"choose_threshold: expected MI patients and controls, found {int(patients.mi.sum())} MI of {patients.n_patients} "
            "labelled patients. Add validation patients of the other class, or use fewer folds."
        )
    cut, hits, alarms = _cumulative(patients)
    bounds = np.r_[1.0, cut, 0.0]
    candidate = (bounds[:-1] + bounds[1:]) / 2  # candidate k calls the first k distinct probabilities MI
    n_mi, n_control = round(hits[-1]), round(alarms[-1])
    caught, spared = np.r_[0, np.rint(hits)].astype(int), n_control - np.r_[0, np.rint(alarms)].astype(int)
    youden = caught * n_control + spared * n_mi  # integers: ties are exact
    return float(candidate[np.flatnonzero(youden == youden.max())[-1]])


def evaluate_scores(scores: xr.Dataset, *, n_resamples: int = N_RESAMPLES, seed: int = BOOTSTRAP_SEED) -> dict[str, Any]:
    """Return the counts and figures of a scores store: what ``evaluate`` prints and the cohort's JSON holds.

    Parameters
    ----------
    scores
        Variables of ``scores.stage.SCORES`` on dimension ``record``.
    n_resamples, seed
        Of the bootstrap.

    Returns
    -------
    dict
        Plain JSON types. Denominators: ``n_records``, ``n_patients``, ``n_scored``, ``n_patients_scored``, ``n_labelled``
        (records with MI yes or no), ``n_patients_evaluated`` and ``n_records_evaluated`` (labelled and scored),
        ``n_patients_mixed`` (both labels), ``n_set_aside`` (reason to number, records whose files cannot be used),
        ``n_not_scorable`` (records without a score, those set aside among them) and ``not_scorable_reasons`` (reason to number,
        of these); ``decisions`` and ``labels`` (word to number), ``decisions_by_label`` (label to decision to number of records),
        ``indeterminate_kinds`` (kind to number; a record may be of several); ``confusion`` by patient; the figures of
        ``patient_figures``; as ``against_other``, ``auroc`` and ``specificity`` of MI beside other heart disease, and as
        ``against_everything`` ``auroc``, Brier score and calibration beside everybody else; ``curves``.

    """
    probability, mi = scores["mi_probability"].values, scores["mi"].values
    patient_id, threshold = _codes(scores["patient_id"].values), scores["threshold"].values
    is_scored = np.isfinite(probability)
    patients = by_patient(probability, mi, patient_id, threshold=threshold)
    how: dict[str, Any] = {"threshold": threshold, "n_resamples": n_resamples, "seed": seed}
    return {
        "n_records": int(probability.size),
        "n_patients": int(np.unique(patient_id).size),
        "n_scored": int(is_scored.sum()),
        "n_patients_scored": int(np.unique(patient_id[is_scored]).size),
        "n_labelled": int(np.isin(mi, (0, 1)).sum()),
        "n_records_evaluated": int(patients.n_records.sum()),
        "n_patients_evaluated": patients.n_patients,
        "n_patients_mixed": int(patients.is_mixed.sum()),
        "n_set_aside": _count_reasons(scores, scores["status"].values == STATUS["set_aside"]),
        "n_not_scorable": int((~is_scored).sum()),
        "not_scorable_reasons": _count_reasons(scores, ~is_scored),
        "decisions": _count_words(scores["decision"].values, DECISION),
        "labels": _count_words(scores["label"].values, LABEL),
        "decisions_by_label": {
            word: _count_words(scores["decision"].values[scores["label"].values == code], DECISION)
            for word, code in LABEL.items()
        },
        "indeterminate_kinds": indeterminate_kinds(scores),
        "confusion": confusion(patients),
        **patient_figures(probability, mi, patient_id, **how),
        "against_other": patient_figures(
            probability, mi_or_other(scores["label"].values), patient_id, names=("auroc", "specificity"), **how
        ),
        "against_everything": patient_figures(
            probability, mi_or_not(scores["label"].values), patient_id, names=AGAINST_EVERYTHING, **how
        ),
        "curves": {
            "roc": roc_curve(probability, mi, patient_id),
            "precision_recall": precision_recall_curve(probability, mi, patient_id),
            "calibration": calibration_curve(probability, mi, patient_id),
        },
    }


def mi_or_other(label: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return 1 MI, 0 other heart disease, -1 anything else, (record,), of codes of ``terms.LABEL``."""
    return np.select([label == LABEL["mi"], label == LABEL["other"]], [1, 0], -1)


def mi_or_not(label: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return 1 MI, 0 healthy control or other heart disease, -1 anything else, (record,), of codes of ``terms.LABEL``."""
    return np.select([label == LABEL["mi"], np.isin(label, (LABEL["control"], LABEL["other"]))], [1, 0], -1)


def indeterminate_kinds(scores: xr.Dataset) -> dict[str, int]:
    """Return why records are indeterminate, kind to number of records: one may be of several kinds."""
    flags = indeterminate_flags(scores)
    return {kind: int((flags & SCORE_FLAGS[kind] > 0).sum()) for kind in INDETERMINATE_KINDS}


def indeterminate_flags(scores: xr.Dataset) -> npt.NDArray[np.int64]:
    """Return the bits of ``terms.INDETERMINATE_KINDS`` of each indeterminate record, 0 of others, (record,).

    In a store of version 1 or 2 what bears no other kind was close to the threshold.
    """
    kinds = sum(SCORE_FLAGS[kind] for kind in INDETERMINATE_KINDS)
    decision = scores["decision"].values
    flags = (
        scores["score_flags"].values.astype(np.int64) & kinds if "score_flags" in scores else np.zeros(decision.size, np.int64)
    )
    flags = np.where(flags == 0, SCORE_FLAGS["close_to_threshold"], flags)
    return np.where(decision == DECISION["indeterminate"], flags, 0)


def confusion(patients: Patients) -> dict[str, int]:
    """Count patients by label and call at their threshold: ``true_mi``, ``missed_mi``, ``true_control``, ``false_alarm``."""
    called = patients.probability >= patients.threshold
    return {
        "true_mi": int((patients.mi & called).sum()),
        "missed_mi": int((patients.mi & ~called).sum()),
        "true_control": int((~patients.mi & ~called).sum()),
        "false_alarm": int((~patients.mi & called).sum()),
    }


def _count_reasons(scores: xr.Dataset, chosen: npt.NDArray[np.bool_]) -> dict[str, int]:
    return dict(sorted(Counter(scores["reason"].values[chosen].tolist()).items()))


def _count_words(values: npt.NDArray[Any], flags: Any) -> dict[str, int]:
    return {word: int((values == value).sum()) for word, value in flags.items()}
