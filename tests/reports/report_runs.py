"""A small archive taken through to its reports, for the tests that look at them."""

from __future__ import annotations

import json
import re
import shutil
from copy import deepcopy
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from ecgbatch.beats.lookup import extract_beats
from ecgbatch.beats.record import BeatSettings
from ecgbatch.model.definition import Calibration, Member, Model, OperatingPoint, Preprocessing
from ecgbatch.model.files import save_model
from ecgbatch.model.network import BeatNet
from ecgbatch.reports.writing import record_slugs, report_workspace
from ecgbatch.scores.stage import score_workspace
from ecgbatch.scores.table import scores_path
from ecgbatch.signals.stage import convert_archive
from ecgbatch.synthetic.archive import ArchiveShape, write_archive
from ecgbatch.terms import LEADS
from ecgbatch.workspace.runs import write_run
from storage import open_store

SCRIPT = "=<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
LEAD = "<svg/onload=alert(3)>"


def untrained_model(folder: Path) -> str:
    """A model of one member with random weights: its scores are numbers, and mean nothing."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights = {name: values.numpy().copy() for name, values in BeatNet(12, 88).state_dict().items()}
    unknown = {"value": 0.5, "low": 0.0, "high": 1.0, "n_patients": 0}
    model = Model(
        members=(Member("random", 0, weights, (), 0.5, Calibration()),),
        patient_key="test",
        beats=BeatSettings().document(),
        leads=LEADS[:12],
        n_samples=88,
        preprocessing=Preprocessing(),
        operating_point=OperatingPoint(0.5, unknown, unknown, "nothing: random weights"),
        calibration=Calibration(),
        figures={},
        training={"recipe": "test"},
        versions={},
    )
    return str(save_model(model, folder))


def reported_run(folder: Path) -> SimpleNamespace:
    """A finished run over ten records: one cannot be read, one lacks leads, one header attacks the page.

    It is made once a process; whoever asks gets a copy of its workspace in ``folder``, and may change that.
    """
    made = _made_once(folder.parent)
    work = str(shutil.copytree(made.work, folder / "work", symlinks=True))
    found = deepcopy(made)
    found.work, found.folder = work, Path(work, made.folder.relative_to(made.work))
    found.said = json.loads(json.dumps(made.said).replace(made.work, work))
    return found


@cache
def _made_once(top: Path) -> SimpleNamespace:
    return run_made_in(top / "a-run-of-ten-records")


def run_made_in(folder: Path) -> SimpleNamespace:
    """Make that run in ``folder``, which then has its archive too."""
    archive, work = folder / "archive", str(folder / "work")
    write_archive(archive, ArchiveShape(n_records=10, duration_s=8.0, sampling_frequency_hz=500.0), seed=4)
    names = (archive / "RECORDS").read_text().split()
    broken, partial, evil = names[1], names[3], names[5]
    data = archive / f"{broken}.dat"
    data.write_bytes(data.read_bytes()[:-7])
    (archive / f"{partial}.xyz").unlink()
    header = archive / f"{evil}.hea"
    text = re.sub(r"(# Reason for admission: ).*", lambda match: match[1] + SCRIPT, header.read_text())
    header.write_text(re.sub(r" vz$", f" {LEAD}", text, flags=re.M))
    run, said = _taken_through(archive, work, folder / "model")
    folder_of_run = Path(said["reports"])
    documents = [json.loads(path.read_text()) for path in sorted((folder_of_run / "records").glob("*.json"))]
    return SimpleNamespace(
        work=work,
        run=run,
        said=said,
        names=names,
        broken=broken,
        partial=partial,
        evil=evil,
        folder=folder_of_run,
        records={document["record_name"]: document for document in documents},
        slugs=record_slugs(names),
        cohort=json.loads((folder_of_run / "cohort.json").read_text()),
        scores=open_store(scores_path(work, run)).load(),
    )


def long_record_page(folder: Path) -> Path:
    """The page of a record of 45 s: ten on paper, all of it in strips."""
    write_archive(folder / "archive", ArchiveShape(n_records=1, duration_s=45.0, sampling_frequency_hz=250.0), seed=6)
    _, said = _taken_through(folder / "archive", str(folder / "work"), folder / "model")
    return next((Path(said["reports"]) / "records").glob("*.html"))


def _taken_through(archive: Path, work: str, model: Path) -> tuple[str, dict[str, Any]]:
    convert_archive(str(archive), work)
    extract_beats(work, BeatSettings())
    run = score_workspace(work, untrained_model(model))
    write_run(work, run, {})
    return run, report_workspace(work, run)
