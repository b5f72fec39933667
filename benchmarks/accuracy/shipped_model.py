"""Train the models that ship with the package, from ECG excerpts beside it: ``python -m benchmarks.accuracy.shipped_model``.

About ten minutes for both on two processors; with the same ``--work`` it goes on where it stopped.
Two trainings with one seed give the same bits on one processor type and torch version (``--check`` trains one member again and
compares); other seeds move AUROC by 0.003.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ecgbatch.beats.lookup import current_beats, extract_beats
from ecgbatch.beats.record import BeatSettings
from ecgbatch.evaluation.audit import evaluate_workspace
from ecgbatch.figures.by_patient import ALL_FIGURES, choose_threshold, patient_figures
from ecgbatch.model.members import Model, OperatingPoint, save_model
from ecgbatch.scores.stage import score_workspace, scores_path
from ecgbatch.signals.stage import convert_archive
from ecgbatch.training.data import prepare_training
from ecgbatch.training.fit import Task, train, train_member
from ecgbatch.training.recipes import RECIPES
from ecgbatch.training.settings import TrainSettings
from flows.cluster import engine, processes
from storage import open_store

MODELS = {"mi-12-leads": "ecgbatch", "mi-lead-ii": "ecgbatch-lead-ii"}
"""Name of a shipped model to its recipe."""

MEMBERS: dict[str, Any] = {"n_folds": 10}
"""A patient of the data is scored by the one member that never saw it, anybody else by ten; each trained on 90 % of them."""

ARCHIVES = {"ptbxl": "labels.csv", "ptb": None, "ptb-10s": None}
"""Folder of the data to its table of labels; the first two are trained on."""

FOLDS = {"ptbxl-folds-1-8": range(1, 9), "ptbxl-fold-9": range(9, 10)}
"""PTB-XL's own deal of patients: a workspace to train on, and one that chooses the threshold; labels of other folds are blank."""

DATA = (
    "PTB-XL 1.0.3 (Wagner and others 2020; PhysioNet, CC BY 4.0): 492 ten-second records of folds 1-9, normal or MI, "
    "band-passed and normalised per lead by those who prepared the excerpt. A third of its MI labels are uncertain "
    "(likelihood under 100) and count as MI.",
    "PTB Diagnostic ECG Database 1.0.0 (Bousseljot and others 1995; PhysioNet, ODC-By 1.0): the first 40 s of 40 records of "
    "MI patients and healthy controls.",
    "Of the patients nothing is kept but keyed digests of their identifiers and of their beats, so that nobody is scored by a "
    "member that saw them. An archive that numbers patients as PTB-XL does (plain integers) may lose members to a mere likeness "
    "of names, never gain one.",
)

LIMITS = (
    "Separates MI-like recordings from healthy ones. It has seen no other disease: conduction disorders, hypertrophy and "
    "cardiomyopathy often score as MI (see the figures on other diagnoses): there is no third class, since the data "
    "label no other disease. Not for triage of chest pain.",
    "Labels are diagnoses of the whole stay: acute and former infarctions together.",
    "Few patients (17 to 18 controls and 12 MI patients in PTB): intervals are wide, and no subgroup by sex, age or site is "
    "claimed. Calibration holds for a third of patients with MI; another prevalence needs another intercept.",
    "Accuracy moves with how patients are dealt to folds: AUROC of the network alone over PTB-XL was 0.981 to 0.983 with these "
    "folds, 0.991 with another deal.",
    "Training and test patients are of two German databases of 1989 to 1996; newer devices and other populations are untested.",
)


def main() -> None:
    """Prepare, train, evaluate and save every model."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy.shipped_model", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with ptbxl/, ptb/ and ptb-10s/")
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
                check(model, replace(RECIPES[MODELS[name]][0], **MEMBERS), work)
            shutil.rmtree(options.out / name, ignore_errors=True)
            print(save_model(model, options.out / name))
            print(json.dumps(model.training["evaluations"], indent=1))


def prepare(data: Path, work: Path) -> None:
    """Convert the archives and cut their beats, a workspace each."""
    with engine() as on_engine:
        for archive, labels in ARCHIVES.items():
            table = None if labels is None else str(data / archive / labels)
            convert_archive(str(data / archive), str(work / archive), labels=table, map=on_engine)
            extract_beats(str(work / archive), BeatSettings(), map=on_engine)
        rows = list(csv.DictReader((data / "ptbxl" / "labels.csv").open(encoding="utf-8")))
        for name, folds in FOLDS.items():
            table = work / f"{name}.csv"
            with table.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(row if int(row["fold"]) in folds else {**row, "label": ""} for row in rows)
            convert_archive(str(data / "ptbxl"), str(work / name), labels=str(table), map=on_engine)
            extract_beats(str(work / name), BeatSettings(), map=on_engine)


def build(name: str, work: Path, note: str = "") -> Model:
    """Train on PTB-XL alone and look at PTB with it, then train on both; return that model with every figure."""
    settings = replace(RECIPES[MODELS[name]][0], **MEMBERS)
    alone = trained(settings, work, ["ptbxl"])
    pooled = trained(settings, work, ["ptbxl", "ptb"])
    first, folder = (save_model(model, work / "models" / model.digest[:20]) for model in (alone, pooled))
    dealt = by_published_folds(settings, work)
    inside, outside = (evaluate_workspace(str(work / archive), str(first), with_baselines=True) for archive in ("ptbxl", "ptb"))
    shipped = {archive: evaluate_workspace(str(work / archive), str(folder)) for archive in ARCHIVES}
    ten_s = shipped["ptb-10s"]
    evaluations = {
        "PTB-XL alone, ten folds by patient": chosen(inside),
        "PTB-XL alone, ten folds: baselines by the same folds": against_baselines(inside),
        "Trained on PTB-XL, tested on PTB (threshold and calibration from PTB-XL)": chosen(outside),
        "The same after slope and intercept were fitted to PTB patients (ten folds)": outside["recalibrated"],
        "Trained on PTB-XL folds 1-8, threshold chosen on fold 9, tested on PTB": dealt,
        "Baselines on PTB by folds of its own patients, against the model trained on PTB-XL": against_baselines(outside),
        "Shipped: PTB-XL patients, out of fold": chosen(shipped["ptbxl"]),
        "Shipped: PTB patients, out of fold (PTB-XL in training)": chosen(shipped["ptb"]),
        "Shipped: PTB, first ten seconds of other records (all patients new to it)": chosen(ten_s),
        "Shipped: how other diagnoses score (PTB, first ten seconds)": {
            "n_records": ten_s["other_diagnoses"]["n_records"],
            **ten_s["other_diagnoses"]["decisions"],
            "median_probability": ten_s["other_diagnoses"]["median_probability"],
            "auroc_mi_against_other": ten_s["other_diagnoses"]["auroc_mi_against_other"],
            "n_records_unlike_training": ten_s["n_records_unlike_training"],
        },
        "Shipped: the indeterminate band on PTB-XL, out of fold": shipped["ptbxl"]["indeterminate_band"],
    }
    stated = {"data": list(DATA), "limits": list(LIMITS), "evaluations": evaluations}
    return replace(pooled, training={**pooled.training, **stated, **({"note": note} if note else {})})


def by_published_folds(settings: TrainSettings, work: Path) -> dict[str, Any]:
    """Train on folds 1 to 8 of PTB-XL, let fold 9 choose the threshold, and look at PTB."""
    train_on, choose_on = FOLDS
    model = trained(settings, work, [train_on])
    folder = save_model(model, work / "models" / model.digest[:20])
    scores = open_store(scores_path(str(work / choose_on), score_workspace(str(work / choose_on), str(folder)))).load()
    known = tuple(scores[name].values for name in ("mi_probability", "mi", "patient_id"))
    threshold = choose_threshold(*known)
    reached = patient_figures(*known, threshold=threshold)
    point = OperatingPoint(threshold, reached["sensitivity"], reached["specificity"], "fold 9 of PTB-XL")
    model = replace(model, operating_point=point)
    folder = save_model(model, work / "models" / model.digest[:20])
    return {**chosen(evaluate_workspace(str(work / "ptb"), str(folder))), "threshold": threshold, "n_members": len(model.members)}


def trained(settings: TrainSettings, work: Path, archives: list[str]) -> Model:
    """Train on the labelled records of these workspaces together."""
    with processes() as on_processes:
        return train(stores(work, archives), settings, checkpoints=work / "checkpoints", map=on_processes)


def stores(work: Path, archives: list[str]) -> list[str]:
    """Return the beats stores of these workspaces."""
    found: list[str] = []
    for archive in archives:
        digests = set(current_beats(str(work / archive), {"method": "robust"})["beats_store"].values.tolist())
        found += [str(work / archive / "beats" / f"{digest}.zarr") for digest in sorted(digests)]
    return found


def chosen(found: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of an evaluation that the card shows."""
    return {name: found[name] for name in ALL_FIGURES}


def against_baselines(found: dict[str, Any]) -> dict[str, Any]:
    """Return each baseline's AUROC and the model's minus it, on the same patients."""
    rows = {}
    for name, figures in found["baselines"].items():
        rows[f"{name}: auroc"] = figures["auroc"]
        rows[f"the model's auroc minus that of {name}"] = figures["model_minus_it"]["auroc"]["difference"]
    return rows


def check(model: Model, settings: TrainSettings, work: Path) -> None:
    """Train the first member again from nothing and compare: the tolerance is 0."""
    task = Task(0, 0, 0)
    with TemporaryDirectory() as again:
        folder, _ = prepare_training(stores(work, ["ptbxl", "ptb"]), settings, Path(again))
        weights = train_member(str(folder), settings, task).weights
    first = next(member for member in model.members if member.name == task.name).weights
    largest = max(float(np.abs(weights[name] - first[name]).max()) for name in first)
    print(f"first member trained again: largest difference of a weight {largest}")
    if largest:
        raise SystemExit("two trainings with one seed differ")


if __name__ == "__main__":
    main()
