"""Training one member: ecgbatch beside the loop that one first writes in torch, same batches, steps and recipe."""

from __future__ import annotations

import math
import os
import shutil
import statistics
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.speed import naive, ours
from benchmarks.speed.section import Claim, Section, Times
from ecgbatch.archive.watch import LookOptions
from ecgbatch.figures.by_patient import Figure, patient_figures
from ecgbatch.model.definition import Calibration
from ecgbatch.model.network import network_probabilities
from ecgbatch.model.probability import calibrated
from ecgbatch.signals.stage import convert_archive
from ecgbatch.synthetic.archive import ArchiveShape, write_archive
from ecgbatch.training.data import Prepared, open_prepared, prepare_training
from ecgbatch.training.member import Task, train_member
from ecgbatch.training.recipes import RECIPES
from ecgbatch.training.settings import TrainSettings
from flows.cluster import engine, processes, usable_processors
from storage import Map

_PLAIN = {"amplitude_sd": 0.0, "shift_samples": 0, "noise_sd": 0.0, "lead_dropout": 0.0, "n_trees": 0, "n_classes": 2}
EPOCHS, EPOCH_STEPS = (1, 2, 4), 75
"""Lengths of the trainings, in epochs of at least so many steps; the longest is a fifth of the shipped models'."""
SETTINGS = replace(RECIPES["ecgbatch"][0], n_folds=5, n_seeds=usable_processors(), **_PLAIN)
"""The shipped models' recipe, as many members as train at once; of what is done to beats only mixup, MI against control, and no
trees."""

EAGER = "torch eager"
GIVEN_AUROC = 0.95
"""Of validation, the time to which is told."""


def of_length(epochs: int) -> TrainSettings:
    """Return the recipe of so many epochs: its rate falls to 0 over them."""
    return replace(SETTINGS, epochs=epochs, min_steps=EPOCH_STEPS * epochs)


def measure(folder: Path, *, rounds: int, data: Path | None) -> Section:
    """Train the network on four folds of five by patient, in turn by both ways and for several lengths, and score the fifth."""
    prepared_at, title = prepare(folder, data)
    prepared = open_prepared(prepared_at, SETTINGS)
    times, auroc = Times(), {}
    at_once = usable_processors()
    with processes() as on_processes:
        # Libraries are loaded before anything is timed.
        list(on_processes(partial(steps, settings=SETTINGS), [prepared] * at_once))
        ways = {
            EAGER: lambda settings: eager(prepared, settings),
            "ecgbatch": lambda settings: by_ecgbatch(prepared_at, settings, on_processes),
        }
        for number in range(rounds):
            for epochs in EPOCHS:
                settings = of_length(epochs)
                for way in sorted(ways, reverse=bool(number % 2)):
                    for left in prepared_at.glob("fold*.safetensors"):
                        left.unlink()
                    train = partial(ways[way], settings)
                    auroc[way, epochs] = _auroc(times.take(f"{epochs} epochs", way, train), prepared)
    out = Section("Training")
    n_steps = {epochs: steps(prepared, of_length(epochs)) for epochs in EPOCHS}
    out.lines = [
        f"{title}; batches of {SETTINGS.batch_size} beats, {prepared.waveform.shape[1]} leads, mixup, Adam, a half cosine; AUROC "
        f"by patient of the fold left out (95 % interval). torch eager trains one member on all {at_once} processors; ecgbatch "
        f"{at_once} at a time, a process and a thread each, checkpoints and running mean of weights included. {rounds} rounds.",
        "",
        "| way | members | steps | seconds (lowest-highest) | beats a second | AUROC |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for way, n_members in ((EAGER, 1), ("ecgbatch", at_once)):
        for epochs in EPOCHS:
            seconds = times.wall[f"{epochs} epochs", way]
            speed = n_members * n_steps[epochs] * SETTINGS.batch_size / statistics.median(seconds)
            spread = f"{statistics.median(seconds):.1f} ({min(seconds):.1f}-{max(seconds):.1f})"
            own = auroc[way, epochs]
            reached = f"{own['value']:.3f} ({own['low']:.3f}-{own['high']:.3f})"
            out.lines.append(f"| {way} | {n_members} | {n_steps[epochs]} | {spread} | {speed:,.0f} | {reached} |")
    told = [_time_to(times, auroc, way) for way in ways]
    out.lines += ["", f"Seconds of the shortest of these trainings that reaches AUROC {GIVEN_AUROC:g}: {'; '.join(told)}."]
    longest = f"{EPOCHS[-1]} epochs"
    ratios = [at_once * ratio for ratio in times.ratios([longest], EAGER, "ecgbatch")]
    out.claims = [Claim("train: beats a second on all processors, over torch eager's", ratios, 1.8)]
    out.figures = {
        "wall": {f"{way}/{stage}": seconds for (stage, way), seconds in times.wall.items()},
        "auroc": {f"{way}/{epochs}": found for (way, epochs), found in auroc.items()},
    }
    return out


def _auroc(logit: np.ndarray, prepared: Prepared) -> Figure:
    known = np.isfinite(logit)
    patients = np.array(prepared.patient_id)[known]
    probability = calibrated(logit[known], Calibration())
    return patient_figures(probability, prepared.mi[known], patients, names=["auroc"])["auroc"]


def _time_to(times: Times, auroc: dict[tuple[str, int], Figure], way: str) -> str:
    for epochs in EPOCHS:
        if auroc[way, epochs]["value"] >= GIVEN_AUROC:
            return f"{way} {statistics.median(times.wall[f'{epochs} epochs', way]):.1f}"
    return f"{way} not with the longest"


def prepare(folder: Path, data: Path | None) -> tuple[Path, str]:
    """Cut beats of PTB-XL records, or of synthetic ones where there are none, and prepare them for training."""
    work, real = folder / "work", data is not None and (data / "ptbxl" / "RECORDS").exists()
    with engine() as on_threads:
        if real:
            archive, labels = data / "ptbxl", str(data / "ptbxl" / "labels.csv")
        else:
            archive, labels = folder / "archive", None
            write_archive(
                archive, ArchiveShape(n_records=300, duration_s=12, n_leads=12, sampling_frequency_hz=250), seed=3, map=on_threads
            )
        convert_archive(str(archive), str(work), LookOptions(labels=labels), map=on_threads)
    ours.beats(work, ours.ROBUST)
    stores = [str(path) for path in sorted((work / "beats").glob("*.zarr"))]
    prepared_at, _ = prepare_training(stores, SETTINGS, folder / "prepared")
    shutil.rmtree(work)
    return prepared_at, "492 ten-second PTB-XL records" if real else "300 synthetic records of twelve seconds"


def steps(prepared: Prepared, settings: TrainSettings) -> int:
    """Return how many steps a training takes on all folds but the first."""
    n_beats = sum(int(prepared.first_beat[r + 1] - prepared.first_beat[r]) for r in np.flatnonzero(prepared.folds[0] != 0))
    return settings.epochs * max(n_beats // settings.batch_size + 1, -(-settings.min_steps // settings.epochs))


def by_ecgbatch(prepared_at: Path, settings: TrainSettings, on_processes: Map) -> np.ndarray:
    """Return the logits (record,) of the first fold by one of as many members as there are processors, trained at once."""
    members = [Task(0, 0, replica) for replica in range(usable_processors())]
    outcomes = list(on_processes(partial(train_member, str(prepared_at), settings), members))
    return np.asarray(outcomes[0].test_logit)


def eager(prepared: Prepared, settings: TrainSettings) -> np.ndarray:
    """Return the logits (record,) of the first fold by a plain loop in torch on all processors."""
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(0)
    random, n_steps = np.random.default_rng(0), steps(prepared, settings)
    pools = [
        [
            np.concatenate([np.arange(prepared.first_beat[r], prepared.first_beat[r + 1]) for r in records])
            for records in _by_patient(prepared, mi)
        ]
        for mi in (0, 1)
    ]
    network = naive.plain_network(*prepared.waveform.shape[1:])
    optimiser = torch.optim.Adam(network.parameters(), lr=settings.learning_rate, betas=settings.betas)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 0.5 * (1 + math.cos(math.pi * step / n_steps)))
    network.train()
    for _ in range(n_steps):
        mi = np.arange(settings.batch_size) % 2
        rows = [random.choice(pools[label][random.integers(len(pools[label]))]) for label in mi]
        waveform, target = torch.from_numpy(prepared.waveform[rows]), torch.nn.functional.one_hot(torch.from_numpy(mi), 2).float()
        share = torch.from_numpy(0.5 * random.random(len(mi), np.float32))[:, None]
        other = torch.from_numpy(random.permutation(len(mi)))
        waveform = waveform + share[:, :, None] * (waveform[other] - waveform)
        target = target + share * (target[other] - target)
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(network(waveform), target).backward()
        optimiser.step()
        schedule.step()
    logit = np.full(len(prepared.mi), np.nan)
    for record in np.flatnonzero(prepared.folds[0] == 0):
        probability = network_probabilities(
            network, prepared.waveform[prepared.first_beat[record] : prepared.first_beat[record + 1]]
        )
        inside = np.clip(probability.astype(np.float64), 1e-6, 1 - 1e-6)
        logit[record] = np.mean(np.log(inside / (1 - inside)))
    return logit


def _by_patient(prepared: Prepared, mi: int) -> list[list[int]]:
    found: dict[str, list[int]] = {}
    for record in np.flatnonzero((prepared.folds[0] != 0) & (prepared.mi == mi)):
        found.setdefault(prepared.patient_id[record], []).append(int(record))
    return list(found.values())
