"""The side of ecgbatch: the stages as its commands run them, on threads and processes of one machine."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ecgbatch.beats.lookup import current_beats, extract_beats
from ecgbatch.beats.record import BeatSettings
from ecgbatch.measurements.lookup import measure_workspace
from ecgbatch.model.definition import Calibration, Member, Model, OperatingPoint, Preprocessing
from ecgbatch.model.files import load_model, save_model
from ecgbatch.model.inference import beat_logits, pack
from ecgbatch.scores.stage import score_workspace
from ecgbatch.scores.table import scores_path
from ecgbatch.signals.stage import convert_archive
from ecgbatch.terms import LEADS, UNSCORABLE_BEAT
from flows.cluster import convert_engine, engine, measure_engine, usable_processors
from storage import open_store

ROBUST, PAPER = BeatSettings(), BeatSettings("kachuee")
FIFTEEN, LEAD_TWO = LEADS[:15], ("II",)


def convert(archive: Path, work: Path) -> None:
    """Convert an archive."""
    with convert_engine() as on_engine:
        convert_archive(str(archive), str(work), map=on_engine)


def beats(work: Path, settings: BeatSettings) -> None:
    """Find R peaks and cut beats."""
    with engine() as on_threads:
        extract_beats(str(work), settings, map=on_threads)


def measure(work: Path, settings: BeatSettings) -> None:
    """Measure intervals, axes and waves."""
    with measure_engine() as on_engine:
        measure_workspace(str(work), settings.document(), map=on_engine)


def score(work: Path, model: Path) -> str:
    """Score, and measure what is not measured yet; return the run."""
    with engine() as on_threads:
        return score_workspace(str(work), str(model), map=on_threads)


def score_leads(work: Path, model_folder: Path) -> dict[str, float]:
    """Score every lead's part of every beat of ``PAPER`` by a network of one lead, as the paper does.

    Returns each record's probability. No command does this (a model takes all leads of a beat at once): it is the kernel that
    scores, on the stored beats.
    """
    model = load_model(model_folder)
    packed = pack(model.members[0].weights)
    records = current_beats(str(work), PAPER.document())
    probability: dict[str, float] = {}
    for digest in sorted(set(records["beats_store"].values.tolist())):
        store = open_store(str(work / "beats" / f"{digest}.zarr"))
        names, first, count = (store[name].values for name in ("record_name", "first_beat", "n_beats"))

        def score_record(row: int, store: Any = store, first: Any = first, count: Any = count) -> float:
            own = store[["waveform", "beat_flags"]].isel(beat=slice(int(first[row]), int(first[row] + count[row])))
            kept = own["waveform"].values[(own["beat_flags"].values & UNSCORABLE_BEAT) == 0]
            parts = kept.reshape(-1, 1, kept.shape[2]) * np.float32(model.preprocessing.scale)
            return float(1 / (1 + np.exp(-beat_logits(packed, parts).mean(dtype=np.float64)))) if len(parts) else float("nan")

        with ThreadPoolExecutor(usable_processors()) as pool:
            probability |= dict(zip(map(str, names), pool.map(score_record, range(len(names))), strict=True))
    return probability


def peaks_found(work: Path, settings: BeatSettings) -> dict[str, np.ndarray]:
    """Return the R peaks of every record, by name."""
    records = current_beats(str(work), settings.document())
    peaks: dict[str, np.ndarray] = {}
    for digest in set(records["beats_store"].values.tolist()):
        store = open_store(str(work / "beats" / f"{digest}.zarr"))
        r_sample, names = store["r_sample"].values, store["record_name"].values
        first, count = store["first_beat"].values, store["n_beats"].values
        peaks |= {str(name): r_sample[a : a + n] for name, a, n in zip(names, first, count, strict=True)}
    return peaks


def scores_found(work: Path, run: str) -> dict[str, tuple[float, np.ndarray]]:
    """Return the MI probability and the evidence (lead, segment) of every record, by name."""
    scores = open_store(scores_path(str(work), run))
    names, probability, evidence = (scores[name].values for name in ("record_name", "mi_probability", "evidence"))
    return {str(name): (float(p), parts) for name, p, parts in zip(names, probability, evidence, strict=True)}


def write_untrained_model(folder: Path, settings: BeatSettings, leads: Sequence[str], seed: int = 0) -> Path:
    """Write a model of one member with random weights: it costs what a trained one costs, and its scores mean nothing."""
    import torch

    from ecgbatch.model.network import BeatNet

    torch.manual_seed(seed)
    network = BeatNet(len(leads), settings.n_samples)
    weights = {name: values.numpy() for name, values in network.state_dict().items()}
    unknown = {"value": 0.5, "low": 0.0, "high": 1.0, "n_patients": 0}
    kind = "scaled" if settings.method == "kachuee" else "z_score"
    facts: dict[str, Any] = {"figures": {}, "training": {"recipe": "untrained benchmark"}, "versions": {}}
    model = Model(
        members=(Member("benchmark", 0, weights, (), 0.5, Calibration()),),
        patient_key="benchmark",
        beats=settings.document(),
        leads=tuple(leads),
        n_samples=settings.n_samples,
        preprocessing=Preprocessing(kind),
        operating_point=OperatingPoint(0.5, unknown, unknown, "nothing: random weights, for timing"),
        calibration=Calibration(),
        **facts,
    )
    return save_model(model, folder)


def network_flops(model: Path) -> float:
    """Return the multiplications and additions of one beat through one member's network."""
    own = load_model(model)
    total, length = 2.0 * len(own.leads) * 5 * 32 * own.n_samples, own.n_samples
    for _ in range(5):
        total += 2 * 2 * 5 * 32 * 32 * length
        length = (length - 5) // 2 + 1 if length >= 5 else length
    return total + 2 * (32 * length * 32 + 32 * 32 + 32 * 2)
