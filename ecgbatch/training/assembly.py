"""A model put together from its members: calibrations, thresholds and figures, each from patients that were held out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from ecgbatch.figures.against_other import figures_against_other, threshold_sparing
from ecgbatch.figures.by_patient import patient_figures
from ecgbatch.figures.calibration import compare_calibrations, fit_platt
from ecgbatch.figures.drift import of_training
from ecgbatch.figures.thresholds import choose_threshold
from ecgbatch.model.definition import Calibration, Member, Model, OperatingPoint
from ecgbatch.model.novelty import fit_reference
from ecgbatch.model.probability import calibrated
from ecgbatch.model.splits import patient_digest
from ecgbatch.training.data import Prepared
from ecgbatch.training.descent import versions
from ecgbatch.training.draws import MOST_ROWS, some_of
from ecgbatch.training.member import Outcome, Task, shared_kernels, start_index
from ecgbatch.training.settings import TrainSettings


def assemble(
    outcomes: Sequence[Outcome], prepared: Prepared, beats: Mapping[str, Any], settings: TrainSettings, start: Model | None
) -> Model:
    """Choose calibrations and thresholds, work out the figures, and put the model together."""
    outcomes = _without_known(outcomes, prepared, settings, start)
    validation_logit = _mean_known([outcome.validation_logit for outcome in outcomes])
    test_logit = _mean_known([outcome.test_logit for outcome in outcomes])
    _check_new(validation_logit, prepared)
    calibration, shared_cut = _rule(validation_logit, prepared, np.ones(len(prepared.group), bool))
    members, probability, threshold = [], np.full(len(prepared.group), np.nan), np.full(len(prepared.group), np.nan)
    for outcome in outcomes:
        is_test = prepared.folds[outcome.task.replica] == outcome.task.fold
        own_calibration, cut = _rule(validation_logit, prepared, ~is_test)
        if outcome.task.replica == 0:
            probability[is_test], threshold[is_test] = calibrated(test_logit[is_test], own_calibration), cut
        seen = np.flatnonzero(_is_seen(prepared, outcome.task))
        digests = {patient_digest(prepared.patient_id[record], settings.patient_key) for record in seen}
        digests |= {prepared.content[record] for record in seen}
        if start is not None:
            digests |= set(start.members[start_index(settings, outcome.task, len(start.members))].seen)
        own = (outcome.weights, tuple(sorted(digests)), shared_cut, own_calibration, outcome.regression, outcome.trees)
        members.append(Member(outcome.task.name, outcome.task.fold, *own))
    compared = compare_calibrations(test_logit, prepared.mi, prepared.patient_id, prepared.folds[0])
    figures = patient_figures(probability, prepared.mi_or_control, prepared.patient_id, threshold=threshold)
    abnormal_logit = _mean_known([outcome.abnormal_logit for outcome in outcomes])
    return Model(
        members=tuple(members),
        patient_key=settings.patient_key,
        beats=dict(beats),
        leads=settings.leads,
        n_samples=prepared.waveform.shape[2],
        preprocessing=settings.preprocessing,
        operating_point=_operating_point(calibrated(validation_logit, calibration), prepared, shared_cut),
        calibration=calibration,
        figures=figures | figures_against_other(probability, prepared.group, prepared.patient_id, threshold=threshold),
        training=json.loads(json.dumps(asdict(settings)))
        | _counts(prepared, test_logit)
        | {"calibrations": compared, "reference": of_training(probability)},
        versions=versions(),
        kernels=start.kernels if start else shared_kernels(Path(), settings),
        novelty=_reference(prepared, settings),
        abnormal=_abnormal_rule(abnormal_logit, prepared),
    )


def _abnormal_rule(logit: np.ndarray, prepared: Prepared) -> Calibration | None:
    """Fit Platt's rule for any heart disease against none; None without a third class."""
    known = np.isfinite(logit)
    if prepared.n_classes < 3 or len(set((prepared.group[known] > 0).tolist())) < 2:
        return None
    weight = _patient_weight(prepared, known)
    return Calibration(*fit_platt(logit[known], (prepared.group[known] > 0).astype(np.int64), weight=weight))


def _reference(prepared: Prepared, settings: TrainSettings) -> dict[str, np.ndarray]:
    records = some_of(np.arange(len(prepared.mi)), MOST_ROWS, np.random.default_rng(settings.seed))
    return fit_reference(np.array(prepared.median[records]), prepared.folds[0, records])


def _without_known(
    outcomes: Sequence[Outcome], prepared: Prepared, settings: TrainSettings, start: Model | None
) -> Sequence[Outcome]:
    """Blank the scores of patients that the member which an outcome goes on from has seen: they are not new to it."""
    if start is None:
        return outcomes
    digests = [
        {patient_digest(patient, settings.patient_key), content}
        for patient, content in zip(prepared.patient_id, prepared.content, strict=True)
    ]
    cleaned = []
    for outcome in outcomes:
        seen = start.members[start_index(settings, outcome.task, len(start.members))].seen
        known = np.array([not own.isdisjoint(seen) for own in digests])
        test, validation, abnormal = (
            np.where(known, np.nan, logit) for logit in (outcome.test_logit, outcome.validation_logit, outcome.abnormal_logit)
        )
        cleaned.append(replace(outcome, test_logit=test, validation_logit=validation, abnormal_logit=abnormal))
    return cleaned


def _check_new(logit: np.ndarray, prepared: Prepared) -> None:
    """Refuse to calibrate on fewer than two new patients of either class."""
    for word, mi in (("mi", 1), ("control", 0)):
        new = {prepared.patient_id[record] for record in np.flatnonzero(np.isfinite(logit) & (prepared.mi_or_control == mi))}
        if len(new) < 2:
            raise ValueError(
                f"fine-tuning needs at least 2 patients with label {word} that the model it goes on from has not seen, found "
                f"{len(new)}: these recordings are its own training data. Train without --from, or add patients."
            )


def _is_seen(prepared: Prepared, task: Task) -> np.ndarray:
    """All folds of its deal but its own: those it trained on and the one it was validated on."""
    return np.asarray(prepared.folds[task.replica] != task.fold)


def _rule(logit: np.ndarray, prepared: Prepared, is_used: np.ndarray) -> tuple[Calibration, float]:
    """Fit Platt's rule, every patient weighing the same, and choose the threshold on the calibrated probabilities.

    MI against everything else. With a third class the threshold is the one that ``threshold_sparing`` chooses, else Youden's.
    """
    is_used = is_used & np.isfinite(logit)
    patients = np.array(prepared.patient_id)[is_used]
    mi = prepared.mi[is_used]
    calibration = Calibration(*fit_platt(logit[is_used], mi, weight=_patient_weight(prepared, is_used)))
    probability = calibrated(logit[is_used], calibration)
    if prepared.n_classes == 3 and (prepared.group[is_used] == 2).any():
        return calibration, threshold_sparing(probability, prepared.group[is_used], patients)
    return calibration, choose_threshold(probability, prepared.mi_or_control[is_used], patients)


def _patient_weight(prepared: Prepared, is_used: np.ndarray) -> np.ndarray:
    """Return one over the number of used records of each used record's patient."""
    patients = np.array(prepared.patient_id)[is_used]
    index, n_records = np.unique(patients, return_inverse=True, return_counts=True)[1:]
    return np.asarray(1.0 / n_records[index])


def _operating_point(probability: np.ndarray, prepared: Prepared, threshold: float) -> OperatingPoint:
    figures = patient_figures(probability, prepared.mi_or_control, prepared.patient_id, threshold=threshold)
    other = figures_against_other(probability, prepared.group, prepared.patient_id, threshold=threshold)
    n_other = f", {other['specificity_against_other']['n_patients']} other" if other else ""
    chosen_on = (
        f"validation patients of all folds ({figures['sensitivity']['n_patients']} MI, "
        f"{figures['specificity']['n_patients']} control{n_other}), pooled; sensitivity and specificity are of these same "
        "patients"
    )
    return OperatingPoint(
        threshold, figures["sensitivity"], figures["specificity"], chosen_on, other.get("specificity_against_other")
    )


def _counts(prepared: Prepared, test_logit: np.ndarray) -> dict[str, Any]:
    """Return how many there were, and the share of patients with MI among those that the calibration rests on."""
    is_new = np.isfinite(test_logit)
    mi_of: dict[str, int] = {}
    for patient, mi, new in zip(prepared.patient_id, prepared.mi.tolist(), is_new.tolist(), strict=True):
        if new:
            mi_of[patient] = max(mi, mi_of.get(patient, 0))
    return {
        "n_records": len(prepared.group),
        "n_classes_learnt": prepared.n_classes,
        "n_patients_by_group": {
            word: len({p for p, group in zip(prepared.patient_id, prepared.group.tolist(), strict=True) if group == number})
            for number, word in enumerate(("control", "mi", "other"))
        },
        "n_patients": len(set(prepared.patient_id)),
        "n_patients_known_before": len(set(prepared.patient_id)) - len(mi_of),
        "n_beats": int(prepared.first_beat[-1]),
        "n_folds_used": int(prepared.folds.max()) + 1,
        "prevalence": sum(mi_of.values()) / len(mi_of),
    }


def _mean_known(logits: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean (record,) over those that know a number; NaN where none does."""
    table = np.stack(logits)
    n_known = np.isfinite(table).sum(axis=0)
    return np.where(n_known, np.nansum(table, axis=0) / np.maximum(n_known, 1), np.nan)
