"""What every threshold would do to a cohort, by patient: ROC, precision and recall, calibration, and the one to choose."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ecgbatch.figures.patients import Float, Patients, by_patient
from ecgbatch.figures.resampling import wilson_interval


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


def _cumulative(patients: Patients) -> tuple[Float, Float, Float]:
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
