"""The evaluation as a whole: figures, subgroups, other diagnoses, baselines, comparisons, the audit for leaks and shortcuts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ecgbatch.evaluation.baselines import Records, baselines, folds, out_of_fold, patient_weight, read_records, shortcuts
from ecgbatch.figures.against_other import figures_against_other
from ecgbatch.figures.by_patient import ALL_FIGURES, Figure, paired_difference, patient_figures
from ecgbatch.figures.calibration import fit_platt
from ecgbatch.figures.curves import subgroups
from ecgbatch.figures.of_scores import evaluate_scores, indeterminate_flags
from ecgbatch.figures.patients import mi_or_other
from ecgbatch.model.definition import Calibration as Platt
from ecgbatch.model.definition import Model
from ecgbatch.model.files import load_model
from ecgbatch.model.probability import beat_logit, calibrated
from ecgbatch.model.splits import assign_folds
from ecgbatch.scores.stage import score_workspace
from ecgbatch.scores.table import scores_path
from ecgbatch.signals.lookup import current_records, signals_path
from ecgbatch.terms import DECISION, INDETERMINATE_KINDS, LABEL, SCORE_FLAGS
from ecgbatch.training.data import GROUPS
from storage import open_store

Array = NDArray[Any]
Map = Callable[..., Any]
OnProgress = Callable[[str, int, int], None]

N_FOLDS = 10
"""Of baselines, audit and recalibration; fewer where a class has fewer patients."""

AGAINST_OTHER = ("auroc_mi_against_other", "specificity_against_other")
"""Figures of MI beside other heart disease."""

NEIGHBOURS = 5
"""The leak is shown by nearest neighbours: the rule that profits most from having seen the same heart."""


def evaluate_workspace(
    work: str,
    model_folder: str,
    *,
    against: str | None = None,
    with_baselines: bool = False,
    with_audit: bool = False,
    map: Map = map,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Score a workspace and say all that its labels allow; patients that the model trained on are scored out of fold.

    Parameters
    ----------
    work
        Workspace with beats cut as the model wants them.
    model_folder
        As ``save_model`` left it.
    against
        Another model to compare with, on the records that both score.
    with_baselines
        Fit the baselines by folds of these patients and compare the model with each.
    with_audit
        Show what shortcuts alone reach, and what a split by beats instead of patients would have claimed.
    map, on_progress
        As in ``scores.stage.score_workspace``.

    Returns
    -------
    dict
        JSON types: ``run``, all of ``figures.of_scores.evaluate_scores``, ``ppv``, ``npv``, ``ece``, ``recalibrated``,
        ``indeterminate_band``, ``groups`` (decisions and their kinds), ``subgroups``, ``other_diagnoses``, and where asked for
        ``against`` (MI and healthy), ``against_on_other`` (MI and other heart disease), ``baselines``, ``audit``.

    """
    model = load_model(model_folder)
    scored = score_workspace(work, model_folder, map=map, on_progress=on_progress)
    scores = open_store(scores_path(work, scored)).load()
    known = (scores["mi_probability"].values, scores["mi"].values, scores["patient_id"].values)
    further = patient_figures(*known, threshold=scores["threshold"].values, names=("ppv", "npv", "ece"))
    found: dict[str, Any] = {"run": scored, **evaluate_scores(scores), **further}
    found["recalibrated"] = recalibrated(scores, model)
    found["indeterminate_band"] = indeterminate_band(scores)
    found["groups"] = groups(scores)
    found["subgroups"] = subgroups(scores, _stated(work, current_records(work)))
    found["other_diagnoses"] = other_diagnoses(scores)
    found["n_records_by_one_member"] = int((scores["score_flags"].values & SCORE_FLAGS["one_member"] > 0).sum())
    found["n_records_unlike_training"] = int((scores["score_flags"].values & SCORE_FLAGS["unlike_training"] > 0).sum())
    if against is not None:
        other = open_store(scores_path(work, score_workspace(work, against, map=map, on_progress=on_progress))).load()
        theirs = other["mi_probability"].values
        found["against"] = paired_difference(known[0], theirs, *known[1:])
        found["against_on_other"] = paired_difference(known[0], theirs, mi_or_other(scores["label"].values), known[2])
    if with_baselines or with_audit:
        records = read_records(work, model_folder, beats_a_record=20 if with_audit else 1, with_signals=with_audit)
        found |= {"baselines": compare_baselines(scores, records, model)} if with_baselines else {}
        found |= {"audit": audit(records, model)} if with_audit else {}
    return found


def recalibrated(scores: xr.Dataset, model: Model) -> dict[str, Any]:
    """Return figures after slope and intercept were fitted anew to the other folds of these patients; thresholds move along.

    What a site gets that recalibrates on patients of its own. ``brier_of_base_rate`` is what naming the share of MI reaches.
    """
    p, mi, patient = (scores[name].values for name in ("mi_probability", "mi", "patient_id"))
    keep = np.flatnonzero(np.isfinite(p) & np.isin(mi, (0, 1)))
    p, mi, patient = p[keep], mi[keep].astype(np.int64), patient[keep]
    logit, weight = beat_logit(p), patient_weight(patient)
    n_folds = _n_folds(mi, patient)
    if n_folds < 2:  # nothing to fit on and nobody to test on
        return {}
    fold = assign_folds(patient.tolist(), [LABEL["mi"] if m else LABEL["control"] for m in mi], n_folds, model.patient_key)
    new, base, cut = np.empty(len(p)), np.empty(len(p)), np.empty(len(p))
    for number in range(n_folds):
        train, test = fold != number, fold == number
        rule = Platt(*fit_platt(logit[train], mi[train], weight=weight[train], smooth=False))
        new[test], base[test] = calibrated(logit[test], rule), np.average(mi[train], weights=weight[train])
        cut[test] = calibrated(beat_logit(scores["threshold"].values[keep][test]), rule)
    figures = patient_figures(new, mi, patient, threshold=cut, names=ALL_FIGURES)
    base_rate = patient_figures(base, mi, patient, names=("brier",))["brier"]
    wanted = ("brier", "ece", "calibration_slope", "calibration_intercept", "sensitivity", "specificity")
    return {name: figures[name] for name in wanted} | {"brier_of_base_rate": base_rate, "n_folds": n_folds}


def _n_folds(mi: Array, patient: Array) -> int:
    return min(N_FOLDS, len(set(patient[mi == 1].tolist())), len(set(patient[mi == 0].tolist())))


def indeterminate_band(scores: xr.Dataset) -> dict[str, Any]:
    """Return how many labelled records were left undecided, and how many of these and of the decided the threshold gets wrong."""
    p, mi, decision = (scores[name].values for name in ("mi_probability", "mi", "decision"))
    is_used = np.isfinite(p) & np.isin(mi, (0, 1))
    is_wrong = (p >= scores["threshold"].values) != (mi == 1)
    inside = is_used & (decision == DECISION["indeterminate"])
    outside = is_used & ~inside
    return {
        "n_records": int(is_used.sum()),
        "n_indeterminate": int(inside.sum()),
        "n_wrong_of_indeterminate": int((inside & is_wrong).sum()),
        "n_wrong_of_decided": int((outside & is_wrong).sum()),
    }


GROUP_WORDS = {"mi": LABEL["mi"], "control": LABEL["control"], "other": LABEL["other"]}
"""Groups of patients that labels tell apart."""


def groups(scores: xr.Dataset) -> dict[str, dict[str, int]]:
    """Return how the scored records of each group were decided, and why those left open were."""
    decision, flags = scores["decision"].values, indeterminate_flags(scores)
    found = {}
    for word, code in GROUP_WORDS.items():
        own = (scores["label"].values == code) & (decision != DECISION["not_scorable"])
        counts = {name: int((decision[own] == value).sum()) for name, value in DECISION.items() if name != "not_scorable"}
        kinds = {f"indeterminate: {kind}": int((flags[own] & SCORE_FLAGS[kind] > 0).sum()) for kind in INDETERMINATE_KINDS}
        found[word] = {"n_records": int(own.sum()), **counts, **kinds}
    return found


def _stated(work: str, table: xr.Dataset) -> dict[str, Array]:
    """Return what ``figures.curves.subgroups`` wants to know of each record beside its scores."""
    digests, places = table["signals_store"].values, table["signals_row"].values
    flags = np.zeros(digests.size, np.int64)
    for digest in sorted(set(digests.tolist())):
        masks = open_store(signals_path(work, digest))["lead_flags"].values
        here = digests == digest
        flags[here] = np.bitwise_or.reduce(masks[places[here]], axis=1)
    names = ("infarct_location", "infarct_age", "recording_year")
    return {"lead_flags": flags} | {name: table[name].values for name in names}


def other_diagnoses(scores: xr.Dataset) -> dict[str, Any]:
    """Return how records that are neither MI nor healthy score: decisions, median probability, MI against them by patient.

    ``auroc_mi_against_other`` and ``specificity_against_other``; indeterminate counts on its side of the threshold.
    """
    p, label = scores["mi_probability"].values, scores["label"].values
    is_other = (label == LABEL["other"]) & np.isfinite(p)
    decision = scores["decision"].values[is_other]
    found: dict[str, Any] = {"n_records": int(is_other.sum())}
    found["decisions"] = {word: int((decision == code).sum()) for word, code in DECISION.items()}
    found["median_probability"] = float(np.median(p[is_other])) if is_other.any() else None
    names = ("auroc", "specificity")
    known = (p, mi_or_other(label), scores["patient_id"].values)
    figures = patient_figures(*known, threshold=scores["threshold"].values, names=names)
    return found | {"auroc_mi_against_other": figures["auroc"], "specificity_against_other": figures["specificity"]}


def compare_baselines(scores: xr.Dataset, records: Records, model: Model) -> dict[str, Any]:
    """Return each baseline's AUROC and Brier score out of fold, and the model's minus it on the same patients."""
    place = {name: row for row, name in enumerate(scores["record_name"].values.tolist())}
    ours = scores["mi_probability"].values[[place[name] for name in records.record_name]]
    n_folds = _n_folds(records.mi, np.array(records.patient_id))
    found = {}
    on_other = mi_or_other(np.take(GROUPS, records.group))
    for name, features in baselines(records).items() if n_folds >= 2 else ():
        theirs = out_of_fold(name, features, records, n_folds=n_folds, key=model.patient_key)
        known = (records.mi_or_control, records.patient_id)
        found[name] = patient_figures(theirs, *known, names=("auroc", "brier"))
        found[name]["model_minus_it"] = paired_difference(ours, theirs, *known)
        if (records.group == 2).any():
            against = figures_against_other(theirs, records.group, records.patient_id)
            found[name]["auroc_against_other"] = against["auroc_against_other"]
            found[name]["model_minus_it_against_other"] = paired_difference(ours, theirs, on_other, records.patient_id)
    return found


def audit(records: Records, model: Model) -> dict[str, Any]:
    """Return what shortcuts alone reach by patient, and beats of one recording on both sides of a split beside patients apart.

    MI and healthy controls.
    """
    records = records.only(records.group != 2)
    n_folds = _n_folds(records.mi, np.array(records.patient_id))
    if n_folds < 2:
        return {}
    found: dict[str, Any] = {"shortcuts": {}}
    for name, features in shortcuts(records).items():
        if np.isfinite(features).any():
            probability = out_of_fold(name, features, records, n_folds=n_folds, key=model.patient_key)
            found["shortcuts"][name] = _auroc(probability, records.mi, records.patient_id)
        else:
            found["shortcuts"][name] = "not known here"
    found["leak"] = leak(records, n_folds, model.patient_key)
    return found


def leak(records: Records, n_folds: int, key: str) -> dict[str, Any]:
    """Return nearest neighbours' AUROC with beats split at random (wrong: patients on both sides) and by patient (right)."""
    from sklearn.decomposition import PCA

    flat = records.beats.reshape(len(records.beats), -1)
    points = PCA(min(30, *flat.shape), svd_solver="full").fit_transform(flat)
    beat_fold = np.random.default_rng(0).integers(0, n_folds, len(points))
    random_split = [(beat_fold != number, beat_fold == number) for number in range(n_folds)]
    by_patient = [(train[records.beat_record], test[records.beat_record]) for train, test in folds(records, n_folds, key)]
    titles = {"beats at random (leaks: the same patients on both sides)": random_split, "by patient": by_patient}
    return {title: _auroc(_neighbours(points, records, split), records.mi, records.patient_id) for title, split in titles.items()}


def _neighbours(points: Array, records: Records, split: Sequence[tuple[Array, Array]]) -> Array:
    """Return (record,) mean over its beats of the share of MI among the nearest beats of the training part."""
    from sklearn.neighbors import KNeighborsClassifier

    mi, probability = records.mi[records.beat_record], np.full(len(points), np.nan)
    for train, test in split:
        if test.any() and np.unique(mi[train]).size == 2:
            rule = KNeighborsClassifier(NEIGHBOURS).fit(points[train], mi[train])
            probability[test] = rule.predict_proba(points[test])[:, 1]
    return np.array([np.mean(probability[records.beat_record == record]) for record in range(len(records.mi))])


def _auroc(probability: Array, mi: Array, patient_id: Sequence[str]) -> Figure:
    return patient_figures(probability, mi, patient_id, names=("auroc",))["auroc"]


@dataclass(frozen=True)
class Repeats:
    """How a recipe is judged: trained anew so many times, each time with other folds, weights and draws."""

    recipe: str
    """A name of ``training.recipes.RECIPES``."""
    n_folds: int
    """Members of each repeat."""
    n_repeats: int
    """Trainings, each with another seed."""
    by_beat: bool = False
    """Deal beats instead of patients, and return the figures of beats out of fold: the published protocol, which leaks."""
    start: str | None = None
    """As in ``training.recipes.Training``: a model to fine-tune, or a network of arrhythmia whose convolutions are taken over."""


def repeated(
    work: str,
    train_on: Sequence[str],
    repeats: Repeats,
    *,
    map_training: Map,
    map: Map = map,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Train anew for every repeat and test on a workspace: folds by patient where it is trained on, new patients where not.

    Parameters
    ----------
    work
        The workspace to test on.
    train_on
        Workspaces to train on, ``work`` itself or others; their labelled patients are dealt to folds together.
    repeats
        How often, and how.
    map_training, map
        Engines for training (processes) and scoring.

    Returns
    -------
    dict
        ``trained_on``, ``tested_on``, ``repeats`` (the figures of each) and ``mean`` (of the repeats' values, with their range).

    """
    from ecgbatch.training.recipes import Training, train_workspaces

    sources, found = [str(Path(one)) for one in train_on], []
    for seed in range(FIRST_SEED, FIRST_SEED + repeats.n_repeats):
        changes = {"n_folds": repeats.n_folds, "seed": seed}
        training = Training(repeats.recipe, changes, repeats.by_beat, repeats.start)
        folder = train_workspaces(sources, training, map=map_training, on_progress=on_progress)
        if repeats.by_beat:
            figures = dict(load_model(folder).figures)
        else:
            figures = _figures_of(work, score_workspace(work, folder, map=map, on_progress=on_progress))
        found.append({"seed": seed, "model": folder, **figures})
    return {
        "recipe": repeats.recipe,
        "goes_on_from": repeats.start or "random weights",
        "trained_on": [str(one) for one in train_on],
        "tested_on": work,
        "is_out_of_fold": str(Path(work)) in sources,
        "unit": "beats: LEAKS, the same patients on both sides of every split" if repeats.by_beat else "patients",
        "mean": {name: _spread([one[name] for one in found]) for name in (*ALL_FIGURES, *AGAINST_OTHER) if name in found[0]},
        "repeats": found,
    }


FIRST_SEED = 2018
"""Of the first repeat; the next ones count up."""


def _figures_of(work: str, run: str) -> dict[str, Any]:
    scores = open_store(scores_path(work, run)).load()
    known = (scores["mi_probability"].values, scores["mi"].values, scores["patient_id"].values)
    figures = patient_figures(*known, threshold=scores["threshold"].values, names=ALL_FIGURES)
    other = other_diagnoses(scores)
    return {**figures, **{name: other[name] for name in AGAINST_OTHER}}


def _spread(figures: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    values = [figure["value"] for figure in figures if figure["value"] is not None]
    if not values:
        return {"mean": None, "lowest": None, "highest": None}
    return {"mean": float(np.mean(values)), "lowest": min(values), "highest": max(values)}
