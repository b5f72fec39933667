"""Records gathered into patients, each of whom counts once: labels, probabilities and thresholds as one row a patient."""

from __future__ import annotations

from collections.abc import Sequence
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
        As in ``same_records``.

    """
    (scores,), labels, names = same_records([probability], mi, patient_id)
    cuts = np.broadcast_to(np.asarray(threshold, dtype=np.float64), scores.shape)
    keep = np.isfinite(scores) & np.isin(labels, (0, 1))
    scores, labels, names, cuts = scores[keep], labels[keep], names[keep], cuts[keep]
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


def same_records(
    scores: Sequence[npt.ArrayLike], mi: npt.ArrayLike, patient_id: npt.ArrayLike
) -> tuple[list[Float], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return ``scores``, labels (-1 where unknown) and a number for each record's patient, all (record,), of the same records.

    Columns of pandas say by their index which record each row is. They are not put in order here, since arrays say nothing.

    Raises
    ------
    ValueError
        If lengths differ, columns of pandas have other records or another order, a label is a word, or a probability
        lies outside [0, 1].

    """
    _require_one_index(*scores, mi, patient_id)
    found = [np.asarray(one, dtype=np.float64) for one in scores]
    labels, names = _mi_numbers(mi), codes(patient_id)
    shapes = [one.shape for one in (*found, labels, names)]
    if labels.ndim != 1 or len(set(shapes)) > 1:
        raise ValueError(
            f"expected one probability, label and patient a record, found shapes {', '.join(map(str, shapes))}. "
            "Pass columns of one table."
        )
    for one in found:
        judged = one[np.isfinite(one)]
        if judged.size and (judged.min() < 0 or judged.max() > 1):
            raise ValueError(
                f"expected probabilities in [0, 1], found {judged.min()} to {judged.max()}. "
                "Apply the model's calibration to logits first."
            )
    return found, labels, names


def _require_one_index(*columns: Any) -> None:
    """Refuse columns of pandas that are not in one order: row by row they would be judged with other records' labels."""
    indexes = [column.index for column in columns if hasattr(getattr(column, "index", None), "equals")]
    if any(not indexes[0].equals(index) for index in indexes[1:]):
        raise ValueError(
            "expected columns of the same records in the same order, found columns of pandas whose indexes differ. "
            "Join them to one table first: records.join(probability.rename('own'))."
        )


def _mi_numbers(mi: npt.ArrayLike) -> npt.NDArray[np.int64]:
    found = np.asarray(mi)
    if found.size and found.dtype.kind not in "biuf":
        first = found.ravel().tolist()[0]
        raise ValueError(f"expected labels as numbers, 1 MI and 0 control, found {first!r}. Pass the column `mi`.")
    return np.where(np.isin(found, (0, 1)), found, -1).astype(np.int64)


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
