"""The side of ecgbatch: the three stages as its commands run them, on threads of one machine."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from ecgbatch.beats import BeatSettings, current_beats, extract_beats
from ecgbatch.model import BeatNet, Calibration, Member, Model, OperatingPoint, Preprocessing, save_model
from ecgbatch.scoring import score_workspace, scores_path
from ecgbatch.signals import convert_archive
from ecgbatch.terms import LEADS
from flows.cluster import engine
from storage import open_store

STANDARD_LEADS = LEADS[:12]
SETTINGS = BeatSettings()
N_SAMPLES = 88


def ours(archive: str, work: str, model: str) -> dict[str, float]:
    """Convert, cut beats and score; return seconds by stage."""
    seconds = {}
    with engine() as on_threads:
        start = time.perf_counter()
        convert_archive(archive, work, map=on_threads)
        seconds["convert"] = time.perf_counter() - start
        start = time.perf_counter()
        extract_beats(work, SETTINGS, map=on_threads)
        seconds["beats"] = time.perf_counter() - start
        start = time.perf_counter()
        score_workspace(work, model, map=on_threads)
        seconds["score"] = time.perf_counter() - start
    return seconds


def found(work: str) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Return what the run found: R peaks and MI probability of every record, by record name."""
    records = current_beats(work, SETTINGS.document())
    peaks: dict[str, np.ndarray] = {}
    for digest in set(records["beats_store"].values.tolist()):
        beats = open_store(str(Path(work) / "beats" / f"{digest}.zarr"))
        r_sample, names = beats["r_sample"].values, beats["record_name"].values
        first, count = beats["first_beat"].values, beats["n_beats"].values
        peaks |= {str(name): r_sample[a : a + n] for name, a, n in zip(names, first, count, strict=True)}
    run = next(path.stem for path in (Path(work) / "scores").glob("*.zarr"))
    scores = open_store(scores_path(work, run))
    names, probability = scores["record_name"].values, scores["mi_probability"].values
    return peaks, {str(name): float(value) for name, value in zip(names, probability, strict=True)}


def write_untrained_model(folder: str, seed: int = 0) -> str:
    """Write a model of one member with random weights: it costs what a trained one costs, and its scores mean nothing."""
    import torch

    torch.manual_seed(seed)
    network = BeatNet(len(STANDARD_LEADS), N_SAMPLES)
    weights = {name: values.numpy() for name, values in network.state_dict().items()}
    unknown = {"value": 0.5, "low": 0.0, "high": 1.0, "n_patients": 0}
    model = Model(
        members=(Member("benchmark", 0, weights, (), 0.5, Calibration()),),
        patient_key="benchmark",
        beats=SETTINGS.document(),
        leads=STANDARD_LEADS,
        n_samples=N_SAMPLES,
        preprocessing=Preprocessing(),
        operating_point=OperatingPoint(0.5, unknown, unknown, "nothing: random weights, for timing"),
        calibration=Calibration(),
        figures={},
        training={"recipe": "untrained benchmark"},
        versions={},
    )
    return str(save_model(model, folder))
