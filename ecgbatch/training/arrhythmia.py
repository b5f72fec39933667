"""The paper's first task: five AAMI classes of beats on lead II, from reference annotations; its trunk can then learn MI.

Kachuee, Fazeli and Sarrafzadeh 2018 (arXiv:1805.00794) trained their network on MIT-BIH's beats, kept its convolutions and gave
them a new head for MI. Beats are cut as theirs, at the reference's R peaks: the window of 10 s scaled to [0, 1], 1.2 median RR
from R, zeros up to 187 samples at 125 Hz.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from ecgbatch import __version__
from ecgbatch.beats.kachuee import KACHUEE_WINDOW_S, resample_lead
from ecgbatch.beats.record import KACHUEE_LENGTH, REFERENCE_LEADS, WORKING_RATE_HZ
from ecgbatch.formats.files import read_small_file
from ecgbatch.formats.wfdb_annotation import BEAT_SYMBOLS, decode
from ecgbatch.model.definition import ModelError
from ecgbatch.model.files import write_synced
from ecgbatch.model.network import SCORING_BATCH, BeatNet, train_repeatably
from ecgbatch.signals.lookup import current_records, signals_path
from ecgbatch.terms import NOTICE, STATUS
from storage import open_store

Array = NDArray[Any]

CLASSES = ("N", "S", "V", "F", "Q")
"""ANSI/AAMI EC57: normal and bundle branch block, supraventricular and ventricular ectopic, fusion, unknown or paced."""

AAMI: Mapping[str, str] = {
    symbol: name for name, symbols in (("N", "NLRBejn"), ("S", "AaJS"), ("V", "VEr"), ("F", "F")) for symbol in symbols
}
"""Symbol of a WFDB beat annotation to its class; every other beat is Q. Escape beats (``e``, ``j``, ``n``) are N."""

SCORED = 4
"""N, S, V and F count for balanced accuracy; Q is counted, not scored: half of MIT-BIH holds eight such beats."""

_MOST_BYTES = 1 << 26


@dataclass(frozen=True)
class ArrhythmiaSettings:
    """Of a training: Adam as the paper's, every class as likely in a batch.

    In place of the paper's schedule a half cosine, and every beat blended with another of the batch (mixup). What these steps
    reached: docs/model.md.
    """

    n_folds: int = 5
    steps: int = 6000
    steps_by_record: int = 2500
    batch_size: int = 64
    learning_rate: float = 1e-3
    test_share: float = 0.2
    seed: int = 2018


@dataclass(frozen=True)
class ClassedBeats:
    """``waveform`` (beat, 1, 187) float32 in [0, 1], ``label`` (beat,) index of ``CLASSES``, ``record`` (beat,) text."""

    waveform: Array
    label: Array
    record: Array


def read_classed_beats(work: str, archive: str | Path, extension: str = "atr") -> ClassedBeats:
    """Cut the beats of every usable record at its reference's R peaks.

    Parameters
    ----------
    work
        Workspace with signals of the archive.
    archive
        Where the annotation files lie, beside the headers.
    extension
        Of the annotation files.

    Raises
    ------
    ValueError
        If no record has both lead II (or MLII) and annotations.

    """
    rows = current_records(work)
    found: list[tuple[Array, Array]] = []
    records = []
    for row in np.flatnonzero(rows["status"].values != STATUS["set_aside"]):
        name = str(rows["record_name"].values[row])
        store = open_store(signals_path(work, str(rows["signals_store"].values[row])))
        leads = store["lead"].values.tolist()
        place = next((leads.index(lead) for lead in REFERENCE_LEADS if lead in leads), None)
        here = int(rows["signals_row"].values[row])
        if place is None or not store["adc_gain"].values[here, place] > 0 or not _has_annotations(archive, name, extension):
            continue
        rate, n = float(rows["sampling_frequency_hz"].values[row]), int(rows["n_samples"].values[row])
        lead = store["signal"].isel(record=here, lead=place, sample=slice(0, n)).values
        millivolts = resample_lead(
            lead, float(store["adc_gain"].values[here, place]), int(store["baseline"].values[here, place]), rate
        )
        noted = decode(read_small_file(archive, f"{name}.{extension}", _MOST_BYTES, "HEADER_TOO_BIG"))
        is_beat = np.isin(noted.symbol, sorted(BEAT_SYMBOLS))
        label = np.array([CLASSES.index(AAMI.get(symbol, "Q")) for symbol in noted.symbol[is_beat]])
        found.append(_cut(millivolts, noted.sample[is_beat] * (WORKING_RATE_HZ / rate), label))
        records += [name] * len(found[-1][1])
    if not records:
        raise ValueError(
            f"{work}: no record with lead {' or '.join(REFERENCE_LEADS)} and a .{extension} file in {archive}; expected an "
            "archive such as the MIT-BIH Arrhythmia Database, converted into this workspace"
        )
    waveform, labels = (np.concatenate(column) for column in zip(*found, strict=True))
    return ClassedBeats(waveform, labels, np.array(records))


def _has_annotations(archive: str | Path, name: str, extension: str) -> bool:
    return (Path(archive) / f"{name}.{extension}").is_file()


def _cut(millivolts: Array, peaks: Array, label: Array) -> tuple[Array, Array]:
    """Return (beat, 1, 187) float32 and labels; a window with fewer than two beats has no RR and gives none."""
    width = int(KACHUEE_WINDOW_S * WORKING_RATE_HZ)
    peak = np.rint(peaks).astype(np.int64)
    waveforms, labels = [np.zeros((0, 1, KACHUEE_LENGTH), np.float32)], [label[:0]]
    for start in range(0, len(millivolts) - width + 1, width):
        inside = (peak >= start) & (peak < start + width)
        if inside.sum() < 2:
            continue
        low, high = millivolts[start : start + width].min(), millivolts[start : start + width].max()
        length = min(int(1.2 * np.median(np.diff(peak[inside]))), KACHUEE_LENGTH)
        cut = np.zeros((int(inside.sum()), 1, KACHUEE_LENGTH), np.float32)
        for beat, r in enumerate(peak[inside]):
            part = millivolts[r : r + length]  # runs on into the next window, on this window's scale
            cut[beat, 0, : len(part)] = np.clip((part - low) / max(high - low, 1e-9), 0, 1)
        waveforms.append(cut)
        labels.append(label[inside])
    return np.concatenate(waveforms), np.concatenate(labels)


def train_arrhythmia(
    work: str,
    archive: str | Path,
    out: str | Path,
    *,
    extension: str = "atr",
    settings: ArrhythmiaSettings | None = None,
    map: Callable[..., Iterable[Any]] = map,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Train the five classes; figures with beats split at random (as published) and by record; keep the trunk.

    Parameters
    ----------
    work, archive, extension
        As in ``read_classed_beats``.
    out
        A new folder: ``trunk.safetensors`` (the network of the random split), ``arrhythmia.json``.
    map, on_progress
        As in ``fit.train``; one task for the random split, one a fold of records.

    Returns
    -------
    dict
        ``n_beats`` (by class), ``random_beats`` and ``by_record``: balanced accuracy over N, S, V and F with interval, recall
        of each class, confusion (true, called).

    """
    settings = settings or ArrhythmiaSettings()
    out = Path(out)
    if out.exists() and any(out.iterdir()):
        raise ModelError(f"{out}: holds something already; give a new folder")
    beats = read_classed_beats(work, archive, extension)
    random = np.random.default_rng(settings.seed)
    is_test = _share_of_each(beats.label, settings.test_share, random)
    fold = _record_folds(beats.record, settings.n_folds)
    tasks = [(is_test, settings.steps), *((fold == k, settings.steps_by_record) for k in range(int(fold.max()) + 1))]
    results = []
    for result in map(partial(_train_one, beats, settings), tasks):
        results.append(result)
        if on_progress is not None:
            on_progress("train", len(results), len(tasks))
    weights = results[0][0]
    called = np.concatenate([answer for _, answer in results[1:]])
    order = np.concatenate([np.flatnonzero(fold == k) for k in range(int(fold.max()) + 1)])
    figures = {
        "n_records": len(set(beats.record.tolist())),
        "n_beats": {name: int((beats.label == number).sum()) for number, name in enumerate(CLASSES)},
        "random_beats": _figures(beats.label[is_test], results[0][1], np.arange(int(is_test.sum())), word="beats")
        | {"note": "LEAKS: beats of one record on both sides, as in the paper; bootstrap of beats"},
        "by_record": _figures(beats.label[order], called, beats.record[order], word="records")
        | {"note": f"{settings.n_folds} folds of records, nobody on both sides; bootstrap of records"},
    }
    document = {"task": "arrhythmia", "figures": figures, "settings": asdict(settings), "notice": NOTICE, "version": __version__}
    content = save_tensors(weights)
    document["digest"] = hashlib.sha256(content).hexdigest()
    out.mkdir(parents=True, exist_ok=True)
    write_synced(out / "trunk.safetensors", content)
    write_synced(out / "arrhythmia.json", json.dumps(document, indent=1, sort_keys=True).encode() + b"\n")
    return {"trunk": str(out), "digest": document["digest"], **figures}


def load_trunk(folder: str | Path) -> tuple[str, dict[str, Array]]:
    """Return digest and weights of a network that ``train_arrhythmia`` left.

    Raises
    ------
    ModelError
        If a file is missing or the weights were altered.

    """
    try:
        digest = json.loads((Path(folder) / "arrhythmia.json").read_bytes())["digest"]
        content = (Path(folder) / "trunk.safetensors").read_bytes()
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"{folder}: expected arrhythmia.json and trunk.safetensors: {error}; see train --task arrhythmia"
        ) from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise ModelError(f"{folder}: trunk.safetensors is not the file that arrhythmia.json describes; train it again")
    return digest, load_tensors(content)


def _share_of_each(label: Array, share: float, random: np.random.Generator) -> Array:
    """Return which beats are tested: a share of each class, drawn at random, at least one."""
    is_test = np.zeros(len(label), bool)
    for number in np.unique(label):
        own = random.permutation(np.flatnonzero(label == number))
        is_test[own[: max(1, round(share * len(own)))]] = True
    return is_test


def _record_folds(record: Array, n_folds: int) -> Array:
    """Return the fold of each beat: records in order of their name's digest, dealt in turn."""
    names = sorted(set(record.tolist()), key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    fold_of = {name: place % n_folds for place, name in enumerate(names)}
    return np.array([fold_of[name] for name in record.tolist()])


def _train_one(beats: ClassedBeats, settings: ArrhythmiaSettings, task: tuple[Array, int]) -> tuple[dict[str, Array], Array]:
    """Train on the beats that are not tested; return the weights and the class called for each tested beat."""
    train_repeatably()
    is_test, steps = task
    random = np.random.default_rng((settings.seed, steps, int(is_test.sum())))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = BeatNet(1, KACHUEE_LENGTH, len(CLASSES))
    pools = [pool for number in range(len(CLASSES)) if (pool := np.flatnonzero(~is_test & (beats.label == number))).size]
    optimiser = torch.optim.Adam(network.parameters(), settings.learning_rate, fused=True)
    target = np.eye(len(CLASSES), dtype=np.float32)[beats.label]
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        rows = np.array(
            [pool[random.integers(len(pool))] for pool in (pools[i % len(pools)] for i in range(settings.batch_size))]
        )
        partner = random.permutation(rows)
        share = np.float32(0.5) * random.random((len(rows), 1), np.float32)
        waveform = beats.waveform[rows]
        waveform = waveform + share[:, :, None] * (beats.waveform[partner] - waveform)
        blended = target[rows] + share * (target[partner] - target[rows])
        loss = torch.nn.functional.cross_entropy(network(torch.from_numpy(waveform)), torch.from_numpy(blended))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    weights = {name: tensor.numpy().copy() for name, tensor in network.state_dict().items()}
    return weights, _called(network, beats.waveform[is_test])


def _called(network: BeatNet, waveform: Array) -> Array:
    network.eval()
    with torch.inference_mode():
        parts = [
            network(torch.from_numpy(waveform[start : start + SCORING_BATCH])).argmax(dim=1).numpy()
            for start in range(0, len(waveform), SCORING_BATCH)
        ]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _figures(label: Array, called: Array, unit: Array, *, word: str, n_resamples: int = 1000) -> dict[str, Any]:
    """Return balanced accuracy over N, S, V and F with an interval by resampling ``unit`` (beats or records)."""
    confusion = np.zeros((len(CLASSES), len(CLASSES)), np.int64)
    np.add.at(confusion, (label, called), 1)
    index = np.unique(unit, return_inverse=True)[1]
    n_units = int(index.max()) + 1
    total, right = (np.zeros((n_units, SCORED)) for _ in range(2))
    for number in range(SCORED):
        total[:, number] = np.bincount(index, label == number, minlength=n_units)
        right[:, number] = np.bincount(index, (label == number) & (called == number), minlength=n_units)
    random = np.random.default_rng(0)
    draws = []
    for _ in range(n_resamples):
        weight = np.bincount(random.integers(0, n_units, n_units), minlength=n_units)
        drawn = weight @ total
        if (drawn > 0).all():
            draws.append(float(np.mean((weight @ right) / drawn)))
    recall = right.sum(0) / np.maximum(total.sum(0), 1)
    value = float(recall.mean())
    low, high = np.quantile(draws, (0.025, 0.975)) if draws else (value, value)
    return {
        "balanced_accuracy": {
            "value": value,
            "low": min(float(low), value),
            "high": max(float(high), value),
            "n_units": n_units,
            "unit": word,
        },
        "recall": {name: float(share) for name, share in zip(CLASSES, recall, strict=False)},
        "confusion": confusion.tolist(),
    }
