"""Train the models that ship with the package, from ECG excerpts beside it: ``python -m benchmarks.accuracy.shipped_model``.

Under 40 minutes for both on two processors; with the same ``--work`` it goes on where it stopped.
Two trainings with one seed give the same bits on one processor type and torch version (``--check`` trains one member again and
compares); other seeds move AUROC by 0.003.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import xarray as xr

from ecgbatch.archive.watch import LookOptions
from ecgbatch.beats.lookup import current_beats, extract_beats
from ecgbatch.beats.record import BeatSettings
from ecgbatch.evaluation.audit import compare_baselines, evaluate_workspace, groups, other_diagnoses
from ecgbatch.evaluation.baselines import Records, read_records
from ecgbatch.figures.by_patient import ALL_FIGURES, patient_figures
from ecgbatch.model.definition import Model
from ecgbatch.model.files import load_model, save_model
from ecgbatch.scores.stage import score_workspace
from ecgbatch.scores.table import scores_path
from ecgbatch.signals.stage import convert_archive
from ecgbatch.terms import LABEL
from ecgbatch.training.data import prepare_training
from ecgbatch.training.fit import train
from ecgbatch.training.member import Task, train_member
from ecgbatch.training.recipes import RECIPES
from ecgbatch.training.settings import TrainSettings
from flows.cluster import engine, processes
from storage import open_store

MODELS = {"mi-12-leads": "ecgbatch", "mi-lead-ii": "ecgbatch-lead-ii"}
"""Name of a shipped model to its recipe."""

MEMBERS: Mapping[str, dict[str, Any]] = {
    "mi-12-leads": {"n_folds": 5, "n_seeds": 3},
    "mi-lead-ii": {"n_folds": 5, "n_seeds": 2},
}
"""Folds and deals of each: a patient of the data is scored by the three (two) members that never saw it, anybody else by all;
each trained on 80 % of them."""

FOLDS: dict[str, Any] = {"n_folds": 10, "n_seeds": 1}
"""Of the trainings that judge the recipe."""

PTB_XL = ("ptbxl", "ptbxl-more")
TRAINED_ON = (*PTB_XL, "cpsc", "ptb")
ARCHIVES = {"ptbxl": True, "ptbxl-more": True, "cpsc": True, "ptb": False, "ptb-10s": False, "ludb": True}
"""Folder of the data to whether it has a table of labels. ``ptb-10s`` and ``ludb`` are never trained on."""

DATA = (
    "PTB-XL 1.0.3 (Wagner and others 2020; PhysioNet, CC BY 4.0): 1625 ten-second records of folds 1-9: normal, MI or other "
    "heart disease without MI; band-passed and normalised per lead by those who prepared the excerpt. Half of its MI labels are "
    "uncertain (likelihood under 100) or not validated by a human, and count as MI.",
    "CPSC 2018 (Liu and others 2018, as in the Challenge of 2020; CC BY 4.0): 155 records of 6 to 60 s in millivolts, normal or "
    "with bundle branch block, ST change, AF, AV block or extrasystoles; no MI.",
    "PTB Diagnostic ECG Database 1.0.0 (Bousseljot and others 1995; PhysioNet, ODC-By 1.0): the first 40 s of 40 records of "
    "MI patients and healthy controls.",
    "Of the patients nothing is kept but keyed digests of their identifiers and of their beats, so that nobody is scored by a "
    "member that saw them. An archive that numbers patients as PTB-XL does (plain integers) may lose members to a mere likeness "
    "of names, never gain one.",
)

LIMITS = (
    "Tells MI from healthy well, from other heart disease in part: one in seven patients with other disease is called at the "
    "threshold, most often with hypertrophy, ischaemic ST and T or fascicular block. Not for triage of chest pain.",
    "Labels are statements of readers or diagnoses of a whole stay: acute and former infarctions together, half of PTB-XL's "
    "not certain. Where the infarction lies is not said.",
    "Few patients outside PTB-XL (12 MI patients in PTB, none in CPSC): intervals are wide, and no subgroup by sex, age or site "
    "is claimed. Calibration holds for a seventh of patients with MI; another prevalence needs another intercept.",
    "Exchanged electrodes, a beat unlike training, or an interval that holds the threshold make a record indeterminate. A wide "
    "QRS or pacing does not yet.",
)

ONLY = {
    "mi-lead-ii": (
        "One lead hardly tells infarction from other heart disease (AUROC 0.71 by ten folds), and at its threshold half of the "
        "infarctions are not called: take it where there is no other lead.",
    )
}
"""Limits of one model alone."""


def main() -> None:
    """Prepare, train, evaluate and save every model."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy.shipped_model", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with the archives")
    parser.add_argument("--out", type=Path, default=Path("ecgbatch/weights"), help="where models are saved, a folder each")
    parser.add_argument("--work", type=Path, help="where to work and resume (default: a temporary folder)")
    parser.add_argument("--note", default="", help="kept in the model: where it was trained, if not here")
    parser.add_argument("--model", choices=list(MODELS), action="append", help="only this one (default: all)")
    parser.add_argument("--check", action="store_true", help="train one member twice and compare the bits")
    options = parser.parse_args()
    with TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        prepare(options.data, work)
        for name in options.model or MODELS:
            model = build(name, work, options.note)
            if options.check:
                check(model, recipe(name, MEMBERS[name]), work)
            shutil.rmtree(options.out / name, ignore_errors=True)
            print(save_model(model, options.out / name))
            print(json.dumps(model.training["evaluations"], indent=1))


def prepare(data: Path, work: Path) -> None:
    """Convert the archives and cut their beats, a workspace each."""
    with engine() as on_engine:
        for archive, has_table in ARCHIVES.items():
            table = str(data / archive / "labels.csv") if has_table else None
            convert_archive(str(data / archive), str(work / archive), LookOptions(labels=table), map=on_engine)
            extract_beats(str(work / archive), BeatSettings(), map=on_engine)


def recipe(name: str, members: Mapping[str, Any]) -> TrainSettings:
    """Return the settings of a shipped model with these folds and deals."""
    return replace(RECIPES[MODELS[name]][0], **members)


def build(name: str, work: Path, note: str = "") -> Model:
    """Judge the recipe by folds and by databases left out, then train on all; return that model with every figure."""
    judged = kept(trained(recipe(name, FOLDS), work, PTB_XL), work)
    without_ptb = kept(trained(recipe(name, {"n_folds": 5}), work, (*PTB_XL, "cpsc")), work)
    without_cpsc = kept(trained(recipe(name, {"n_folds": 5}), work, (*PTB_XL, "ptb")), work)
    pooled = trained(recipe(name, MEMBERS[name]), work, TRAINED_ON)
    folder = kept(pooled, work)
    evaluations = {
        "PTB-XL alone, ten folds by patient": figures_of(judged, PTB_XL, work),
        "PTB-XL alone, ten folds: baselines by the same folds": against_baselines(judged, work),
        "Trained on PTB-XL and CPSC, tested on PTB": figures_of(without_ptb, ("ptb",), work),
        "The same after slope and intercept were fitted to PTB patients (ten folds)": evaluate_workspace(
            str(work / "ptb"), str(without_ptb)
        )["recalibrated"],
        "Trained on PTB-XL and PTB, tested on CPSC (no MI there)": figures_of(without_cpsc, ("cpsc",), work),
        "Shipped: PTB-XL patients, out of fold": figures_of(folder, PTB_XL, work),
        "Shipped: CPSC patients, out of fold (no MI there)": figures_of(folder, ("cpsc",), work),
        "Shipped: PTB patients, out of fold": figures_of(folder, ("ptb",), work),
        "Shipped: PTB, first ten seconds of other records (all patients new to it)": figures_of(folder, ("ptb-10s",), work),
        "Shipped: LUDB, half of it (a database that nobody trained on)": figures_of(folder, ("ludb",), work),
        "Which database: AUROC by which MI probability tells databases apart among patients of one group": databases(
            folder, work
        ),
    }
    stated = {"data": list(DATA), "limits": [*LIMITS, *ONLY.get(name, ())], "evaluations": evaluations}
    return replace(pooled, training={**pooled.training, **stated, **({"note": note} if note else {})})


def trained(settings: TrainSettings, work: Path, archives: Sequence[str]) -> Model:
    """Train on the labelled records of these workspaces together; a training that was done before is read."""
    with processes() as on_processes:
        return train(stores(work, archives), settings, checkpoints=work / "checkpoints", map=on_processes)


def kept(model: Model, work: Path) -> Path:
    """Save a model in the workspace; return its folder."""
    return save_model(model, work / "models" / model.digest[:20])


def stores(work: Path, archives: Sequence[str]) -> list[str]:
    """Return the beats stores of these workspaces."""
    found: list[str] = []
    for archive in archives:
        digests = set(current_beats(str(work / archive), {"method": "robust"})["beats_store"].values.tolist())
        found += [str(work / archive / "beats" / f"{digest}.zarr") for digest in sorted(digests)]
    return found


COLUMNS = (
    "record_name",
    "patient_id",
    "label",
    "mi",
    "mi_probability",
    "abnormal_probability",
    "threshold",
    "decision",
    "score_flags",
)


def scored(folder: Path, archives: Sequence[str], work: Path) -> xr.Dataset:
    """Score workspaces; return what the figures need of them together."""
    parts = [
        open_store(scores_path(str(work / a), score_workspace(str(work / a), str(folder))))[list(COLUMNS)].load()
        for a in archives
    ]
    return xr.concat(parts, dim="record")


def figures_of(folder: Path, archives: Sequence[str], work: Path) -> dict[str, Any]:
    """Return the figures by patient over these workspaces together, and how each group was decided."""
    scores = scored(folder, archives, work)
    label, patient = scores["label"].values, scores["patient_id"].values
    known = {"threshold": scores["threshold"].values, "names": ALL_FIGURES}
    found: dict[str, Any] = patient_figures(scores["mi_probability"].values, scores["mi"].values, patient, **known)
    other = other_diagnoses(scores)
    found["auroc_against_other"], found["specificity_against_other"] = (
        other[name] for name in ("auroc_mi_against_other", "specificity_against_other")
    )
    is_abnormal = np.select([label == LABEL["control"], label != LABEL["unknown"]], [0, 1], -1)
    abnormal = patient_figures(scores["abnormal_probability"].values, is_abnormal, patient, names=("auroc", "brier"))
    found |= {f"abnormal: {name}": figure for name, figure in abnormal.items()}
    for group, counts in groups(scores).items():
        found[f"{group}: decisions of {counts['n_records']} records"] = ", ".join(
            f"{name.replace('_', ' ')} {n}" for name, n in counts.items() if name != "n_records"
        )
    return {name: figure for name, figure in found.items() if not (isinstance(figure, dict) and figure.get("value") is None)}


def databases(folder: Path, work: Path) -> dict[str, Any]:
    """Return, for groups that several databases hold, how well the MI probability names the database: 0.5 is not at all.

    Each is scored by members that never saw it. Patients differ between databases too: a figure off 0.5 asks, and proves nothing.
    """
    parts = {
        name: scored(folder, archives, work) for name, archives in (("PTB-XL", PTB_XL), ("CPSC", ("cpsc",)), ("LUDB", ("ludb",)))
    }
    found = {}
    for group in ("control", "other"):
        for other in ("CPSC", "LUDB"):
            own = [parts[name].isel(record=parts[name]["label"].values == LABEL[group]) for name in ("PTB-XL", other)]
            p, patient = (np.concatenate([part[name].values for part in own]) for name in ("mi_probability", "patient_id"))
            is_other = np.repeat([0, 1], [part.sizes["record"] for part in own])
            found[f"{group}: {other} against PTB-XL"] = patient_figures(p, is_other, patient, names=("auroc",))["auroc"]
    return found


def against_baselines(folder: Path, work: Path) -> dict[str, Any]:
    """Return each baseline's AUROC by ten folds of PTB-XL, and the model's minus it on the same patients."""
    records = together([read_records(str(work / archive), str(folder), with_signals=False) for archive in PTB_XL])
    rows = {}
    for name, figures in compare_baselines(scored(folder, PTB_XL, work), records, load_model(folder)).items():
        rows[f"{name}: auroc"] = figures["auroc"]
        rows[f"the model's auroc minus that of {name}"] = figures["model_minus_it"]["auroc"]["difference"]
        rows[f"{name}: auroc against other heart disease"] = figures["auroc_against_other"]
        difference = figures["model_minus_it_against_other"]["auroc"]["difference"]
        rows[f"against other heart disease, the model's auroc minus that of {name}"] = difference
    return rows


def together(parts: Sequence[Records]) -> Records:
    """Return the records of several workspaces as one."""
    first = np.cumsum([0, *(len(part.group) for part in parts)])
    return Records(
        tuple(name for part in parts for name in part.patient_id),
        tuple(name for part in parts for name in part.record_name),
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("group", "median", "beats")),
        np.concatenate([part.beat_record + at for part, at in zip(parts, first, strict=False)]),
        {name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns},
    )


def check(model: Model, settings: TrainSettings, work: Path) -> None:
    """Train the first member again from nothing and compare: the tolerance is 0."""
    task = Task(0, 0, 0)
    with TemporaryDirectory() as elsewhere:
        folder, _ = prepare_training(stores(work, TRAINED_ON), settings, Path(elsewhere))
        again = train_member(str(folder), settings, task)
    first = next(member for member in model.members if member.name == task.name)
    pairs = [
        (own[name], new[name])
        for own, new in ((first.weights, again.weights), (first.trees, again.trees), (first.regression, again.regression))
        for name in own
    ]
    largest = max(float(np.abs(own.astype(float) - new).max()) if own.shape == new.shape else np.inf for own, new in pairs)
    print(f"first member trained again: largest difference of a weight or a node {largest}")
    if largest:
        raise SystemExit("two trainings with one seed differ")


if __name__ == "__main__":
    main()
