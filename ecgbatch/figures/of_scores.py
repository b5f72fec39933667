"""Counts and figures of a scores store: who was scored, what was decided, and why not."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from ecgbatch.figures.by_patient import patient_figures
from ecgbatch.figures.patients import Patients, by_patient, codes, confusion, mi_or_not, mi_or_other
from ecgbatch.figures.resampling import BOOTSTRAP_SEED, N_RESAMPLES
from ecgbatch.figures.thresholds import calibration_curve, precision_recall_curve, roc_curve
from ecgbatch.terms import DECISION, INDETERMINATE_KINDS, LABEL, SCORE_FLAGS, STATUS

AGAINST_EVERYTHING = ("auroc", "brier", "calibration_slope", "calibration_intercept")
"""Figures of MI against healthy controls and other heart disease together: what a model of three groups is calibrated for."""


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
    patient_id, threshold = codes(scores["patient_id"].values), scores["threshold"].values
    patients = by_patient(probability, mi, patient_id, threshold=threshold)
    how: dict[str, Any] = {"threshold": threshold, "n_resamples": n_resamples, "seed": seed}
    return {
        **_denominators(scores, patient_id, patients),
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


def _denominators(scores: xr.Dataset, patient_id: npt.NDArray[np.int64], patients: Patients) -> dict[str, Any]:
    """Return how many records and patients there are, were scored and are judged, what was decided, and why not."""
    is_scored = np.isfinite(scores["mi_probability"].values)
    return {
        "n_records": int(is_scored.size),
        "n_patients": int(np.unique(patient_id).size),
        "n_scored": int(is_scored.sum()),
        "n_patients_scored": int(np.unique(patient_id[is_scored]).size),
        "n_labelled": int(np.isin(scores["mi"].values, (0, 1)).sum()),
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
    }


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


def _count_reasons(scores: xr.Dataset, chosen: npt.NDArray[np.bool_]) -> dict[str, int]:
    return dict(sorted(Counter(scores["reason"].values[chosen].tolist()).items()))


def _count_words(values: npt.NDArray[Any], flags: Any) -> dict[str, int]:
    return {word: int((values == value).sum()) for word, value in flags.items()}
