"""Train the models that ship with the package, from ECG excerpts beside it: ``python -m benchmarks.shipped_model``.

About six minutes a model on two quiet processors; with the same ``--work`` it goes on where it stopped.
Two trainings with one seed give the same bits on one processor type and torch version; other seeds move AUROC by 0.003.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ecgbatch.beats import BeatSettings, current_beats, extract_beats
from ecgbatch.evaluation import FIGURES, evaluate_scores
from ecgbatch.model import Model, save_model
from ecgbatch.scoring import score_workspace, scores_path
from ecgbatch.signals import convert_archive
from ecgbatch.terms import DECISION, LABEL
from ecgbatch.training import RECIPES, TrainSettings, train
from flows.cluster import engine, processes
from storage import open_store

MODELS = {"mi-12-leads": "ecgbatch", "mi-lead-ii": "ecgbatch-lead-ii"}
"""Name of a shipped model to its recipe."""

MEMBERS: dict[str, Any] = {"n_folds": 10}
"""A patient of the data is scored by the one member that never saw it, anybody else by ten: each trained on 80 % of the
patients and validated on 10 %."""

ARCHIVES = {"ptbxl": "labels.csv", "ptb": None, "ptb-10s": None}
"""Folder of the data to its table of labels; the first two are trained on."""

DATA = (
    "PTB-XL 1.0.3 (Wagner and others 2020; PhysioNet, CC BY 4.0): 492 ten-second records of folds 1-9, normal or MI, "
    "band-passed and normalised per lead by those who prepared the excerpt. A third of its MI labels are uncertain "
    "(likelihood under 100) and count as MI.",
    "PTB Diagnostic ECG Database 1.0.0 (Bousseljot and others 1995; PhysioNet, ODC-By 1.0): the first 40 s of 40 records of "
    "MI patients and healthy controls.",
    "Of the patients nothing is kept but keyed digests of their identifiers, so that nobody is scored by a member that saw "
    "them. An archive that numbers patients as PTB-XL does (plain integers) may lose members to a mere likeness of names, "
    "never gain one.",
)

LIMITS = (
    "Separates MI-like recordings from healthy ones. It has seen no other disease: conduction disorders, hypertrophy and "
    "cardiomyopathy often score as MI (see the figures on other diagnoses). Not for triage of chest pain.",
    "Labels are diagnoses of the whole stay: acute and former infarctions together.",
    "Few patients (17 to 18 controls and 12 MI patients in PTB): intervals are wide, and no subgroup by sex, age or site is "
    "claimed. Calibration holds for a third of patients with MI; another prevalence needs another intercept.",
    "Accuracy moves with how patients are dealt to folds: AUROC over PTB-XL was 0.983 with these folds, 0.991 with another deal.",
    "Training and test patients are of two German databases of 1989 to 1996; newer devices and other populations are untested.",
)


def main() -> None:
    """Prepare, train, evaluate and save every model."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shipped_model", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with ptbxl/, ptb/ and ptb-10s/")
    parser.add_argument("--out", type=Path, default=Path("ecgbatch/weights"), help="where models are saved, a folder each")
    parser.add_argument("--work", type=Path, help="where to work and resume (default: a temporary folder)")
    parser.add_argument("--note", default="", help="kept in the model: where it was trained, if not here")
    parser.add_argument("--model", choices=list(MODELS), action="append", help="only this one (default: all)")
    options = parser.parse_args()
    with TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        prepare(options.data, work)
        for name in options.model or MODELS:
            model = build(name, work, options.note)
            print(save_model(model, options.out / name))
            print(json.dumps(model.training["evaluations"], indent=1))


def prepare(data: Path, work: Path) -> None:
    """Convert the archives and cut their beats, a workspace each."""
    with engine() as on_engine:
        for archive, labels in ARCHIVES.items():
            table = None if labels is None else str(data / archive / labels)
            convert_archive(str(data / archive), str(work / archive), labels=table, map=on_engine)
            extract_beats(str(work / archive), BeatSettings(), map=on_engine)


def build(name: str, work: Path, note: str = "") -> Model:
    """Train on PTB-XL alone and look at PTB with it, then train on both; return that model with every figure."""
    settings = replace(RECIPES[MODELS[name]][0], **MEMBERS)
    alone = trained(settings, work, ["ptbxl"])
    pooled = trained(settings, work, ["ptbxl", "ptb"])
    first, folder = (save_model(model, work / "models" / model.digest[:20]) for model in (alone, pooled))
    evaluations = {
        "PTB-XL alone, ten folds by patient": dict(alone.figures),
        "Trained on PTB-XL, tested on PTB (threshold and calibration from PTB-XL)": figures(first, work / "ptb"),
        "Shipped: PTB-XL patients, out of fold": figures(folder, work / "ptbxl"),
        "Shipped: PTB patients, out of fold": figures(folder, work / "ptb"),
        "Shipped: PTB, first ten seconds of other records (MI patients new to it, controls partly out of fold)": figures(
            folder, work / "ptb-10s"
        ),
        "Shipped: how other diagnoses score (PTB, first ten seconds)": other_diagnoses(folder, work / "ptb-10s"),
    }
    stated = {"data": list(DATA), "limits": list(LIMITS), "evaluations": evaluations}
    return replace(pooled, training={**pooled.training, **stated, **({"note": note} if note else {})})


def trained(settings: TrainSettings, work: Path, archives: list[str]) -> Model:
    """Train on the labelled records of these workspaces together."""
    stores: list[str] = []
    for archive in archives:
        digests = set(current_beats(str(work / archive), {"method": "robust"})["beats_store"].values.tolist())
        stores += [str(work / archive / "beats" / f"{digest}.zarr") for digest in sorted(digests)]
    with processes() as on_processes:
        return train(stores, settings, checkpoints=work / "checkpoints", map=on_processes)


def figures(model: Path, work: Path) -> dict[str, Any]:
    """Score a workspace; return its figures by patient. Patients trained on are scored by members that never saw them."""
    evaluated = evaluate_scores(_scores(model, work))
    return {name: evaluated[name] for name in FIGURES}


def other_diagnoses(model: Path, work: Path) -> dict[str, Any]:
    """Return how records that are neither MI nor healthy are decided."""
    scores = _scores(model, work)
    is_other = (scores["label"].values == LABEL["other"]) & np.isfinite(scores["mi_probability"].values)
    decision, probability = scores["decision"].values[is_other], scores["mi_probability"].values[is_other]
    counts: Mapping[str, int] = {word: int((decision == code).sum()) for word, code in DECISION.items()}
    return {"n_records": int(is_other.sum()), **counts, "median_probability": float(np.median(probability))}


def _scores(model: Path, work: Path) -> Any:
    with engine() as on_engine:
        run = score_workspace(str(work), str(model), map=on_engine)
    return open_store(scores_path(str(work), run)).load()


if __name__ == "__main__":
    main()
