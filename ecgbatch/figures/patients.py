"""Records gathered into patients, each of whom counts once: labels, probabilities and thresholds as one row a patient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ecgbatch.terms import LABEL

Float = npt.NDArray[np.float64]

DECIMALS = 12
"""Patients' means are rounded here: means that are equal by arithmetic are ties, whatever their last bit says."""


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

    probability: Float
    mi: npt.NDArray[np.bool_]
    threshold: Float
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
    names = codes(patient_id)
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
    mean = (np.bincount(index, weights=scores) / np.maximum(n_records, 1)).round(DECIMALS).clip(0.0, 1.0)
    cut = (np.bincount(index, weights=cuts) / np.maximum(n_records, 1)).round(DECIMALS)
    rank = np.lexsort((n_records, cut, mean, n_mi > 0))
    mixed = (n_mi > 0) & (n_mi < n_records)
    return Patients(mean[rank], (n_mi > 0)[rank], cut[rank], n_records[rank].astype(np.int64), mixed[rank])


def codes(patient_id: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Return a number for each record's patient, equal where the identifiers are equal as text."""
    code: dict[str, int] = {}
    return np.array([code.setdefault(str(name), len(code)) for name in np.asarray(patient_id).tolist()], dtype=np.int64)


def mi_or_other(label: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return 1 MI, 0 other heart disease, -1 anything else, (record,), of codes of ``terms.LABEL``."""
    return np.select([label == LABEL["mi"], label == LABEL["other"]], [1, 0], -1)


def mi_or_not(label: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return 1 MI, 0 healthy control or other heart disease, -1 anything else, (record,), of codes of ``terms.LABEL``."""
    return np.select([label == LABEL["mi"], np.isin(label, (LABEL["control"], LABEL["other"]))], [1, 0], -1)


def confusion(patients: Patients) -> dict[str, int]:
    """Count patients by label and call at their threshold: ``true_mi``, ``missed_mi``, ``true_control``, ``false_alarm``."""
    called = patients.probability >= patients.threshold
    return {
        "true_mi": int((patients.mi & called).sum()),
        "missed_mi": int((patients.mi & ~called).sum()),
        "true_control": int((~patients.mi & ~called).sum()),
        "false_alarm": int((~patients.mi & called).sum()),
    }
