"""One member trained: its network, its regression and its trees, blind to its fold, and what it says of that fold."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ecgbatch.model.definition import Calibration, Member
from ecgbatch.model.files import load_model
from ecgbatch.model.members import joined, member_abnormal, member_votes
from ecgbatch.model.network import BeatNet, network_probabilities, train_repeatably
from ecgbatch.model.probability import mean_beat_logit
from ecgbatch.model.random_kernels import Kernels, draw_kernels, fit_regression, kernel_features
from ecgbatch.model.trees import Trees
from ecgbatch.model.waves import r_index, wave_figures
from ecgbatch.training.arrhythmia import load_trunk
from ecgbatch.training.data import Prepared, open_prepared
from ecgbatch.training.descent import Descent, load_optimiser
from ecgbatch.training.draws import MOST_ROWS, Batches, augment, mixed, some_of
from ecgbatch.training.settings import TrainSettings
from ecgbatch.training.trees import fit_trees, load_boosting


@dataclass(frozen=True)
class Task:
    """One member to train: its test fold, its validation fold and which of the fold's seeds."""

    fold: int
    validation_fold: int
    replica: int

    @property
    def name(self) -> str:
        """Name of the member and of its checkpoint."""
        return f"fold{self.fold}-seed{self.replica}"


@dataclass(frozen=True)
class Outcome:
    """A trained member's weights and its mean beat logits (record,) of test and validation records, NaN elsewhere.

    ``abnormal_logit`` is of any heart disease against none, of test records; NaN without a third class.
    """

    task: Task
    weights: dict[str, np.ndarray]
    regression: dict[str, np.ndarray]
    trees: Trees
    test_logit: np.ndarray
    validation_logit: np.ndarray
    abnormal_logit: np.ndarray


def load_libraries() -> None:
    """Load what ``train_member`` loads when it comes to it: a process that waits for its member may as well do so."""
    load_boosting()
    load_optimiser()


def train_member(folder: str, settings: TrainSettings, task: Task) -> Outcome:
    """Train one member from its last checkpoint on; one thread, deterministic, whatever process it runs in."""
    train_repeatably()
    prepared = open_prepared(Path(folder), settings)
    start = start_member(Path(folder), settings, task)
    fold = prepared.folds[task.replica]
    records = np.flatnonzero((fold != task.fold) & (fold != task.validation_fold))
    batches = Batches(prepared, records)
    state = Descent(prepared, settings, task.name, start, load_trunk(Path(folder) / "trunk")[1] if settings.trunk else None)
    checkpoint = Path(folder) / f"{task.name}.safetensors"
    n_steps = max(batches.n_beats // settings.batch_size + 1, -(-settings.min_steps // settings.epochs))  # an epoch
    for epoch in range(state.restore(checkpoint), settings.epochs):
        random = np.random.default_rng((settings.seed, task.fold, task.replica, epoch))  # so a checkpoint needs no RNG state
        state.network.train()
        for _ in range(n_steps):
            rows, group = batches.draw(settings.batch_size, random)
            altered = augment(prepared.waveform[rows], settings, random)
            waveform, target = mixed(altered, group, settings, random, prepared.n_classes)
            state.step(waveform, target, state.steps / (n_steps * settings.epochs))
        state.save(checkpoint, epoch + 1)
    network, kernels = state.averaged(), shared_kernels(Path(folder), settings)
    regression = _fit_regression(prepared, records, kernels, settings, task, start) if kernels else {}
    r_at = r_index(prepared.beats, prepared.waveform.shape[2])
    trees = _fit_trees(prepared, records, r_at, settings, task) if start is None else start.trees  # few patients make poor trees
    weights = {name: tensor.numpy().copy() for name, tensor in network.state_dict().items()}
    member = Member(task.name, task.fold, weights, (), 0.5, Calibration(), regression, trees)
    is_test, is_validation = fold == task.fold, fold == task.validation_fold
    test, abnormal = _record_logits(member, network, kernels, prepared, is_test)
    validation = (
        test if task.fold == task.validation_fold else _record_logits(member, network, kernels, prepared, is_validation)[0]
    )
    return Outcome(task, weights, regression, trees, test, validation, abnormal)


def start_member(folder: Path, settings: TrainSettings, task: Task) -> Member | None:
    """Return the member that this one goes on from: the start model's members serve in turn."""
    if not settings.start:
        return None
    members = load_model(folder / "start").members
    return members[start_index(settings, task, len(members))]


def start_index(settings: TrainSettings, task: Task, n_members: int) -> int:
    """Return which of the start model's members this one goes on from."""
    return (task.fold * settings.n_seeds + task.replica) % n_members


def shared_kernels(folder: Path, settings: TrainSettings) -> Kernels:
    """Return the random kernels that all members share: those of the start model, or drawn from the seed; empty for none."""
    if settings.start:
        return load_model(folder / "start").kernels
    return draw_kernels(settings.n_kernels, len(settings.leads), settings.seed) if settings.n_kernels else {}


def _fit_regression(
    prepared: Prepared, records: np.ndarray, kernels: Kernels, settings: TrainSettings, task: Task, start: Member | None
) -> dict[str, np.ndarray]:
    """Fit a member's regression to its records' median beats and to copies blended with other records of its training.

    Either class weighs half, each patient of it the same.
    """
    random = np.random.default_rng((settings.seed, task.fold, task.replica, 1 << 20))
    records = some_of(records, MOST_ROWS // (1 + settings.kernel_copies), random)
    median, mi = np.array(prepared.median[records]), prepared.mi[records]
    features, target = [kernel_features(kernels, median)], [mi.astype(np.float64)]
    for _ in range(settings.kernel_copies if settings.augmentation and settings.mixup else 0):
        waveform, blended = mixed(median, mi, settings, random)
        features.append(kernel_features(kernels, waveform))
        target.append(blended[:, 1].astype(np.float64))
    index, n_records = np.unique([prepared.patient_id[r] for r in records], return_inverse=True, return_counts=True)[1:]
    own = 1.0 / n_records[index]
    weight = own * np.where(mi == 1, 1 / own[mi == 1].sum(), 1 / own[mi == 0].sum())
    return fit_regression(
        np.concatenate(features),
        np.concatenate(target),
        np.tile(weight, len(features)),
        penalty=settings.kernel_penalty / len(records),
        start=start.regression if start else None,
    )


def _fit_trees(prepared: Prepared, records: np.ndarray, r_at: int, settings: TrainSettings, task: Task) -> Trees:
    """Fit a member's trees to its records' median beats and to altered copies; every class weighs the same, and so does every
    patient of it.
    """
    if not settings.n_trees:
        return {}
    random = np.random.default_rng((settings.seed, task.fold, task.replica, 1 << 21))
    n_copies = settings.tree_copies if settings.augmentation else 0
    records = some_of(records, MOST_ROWS // (1 + n_copies), random)
    median, group = np.array(prepared.median[records]), prepared.classes[records]
    figures = [wave_figures(median, r_at)]
    noisy = replace(settings, amplitude_sd=0.0, shift_samples=1, lead_dropout=0.0)  # figures are shares of a lead's own height
    figures += [wave_figures(augment(median, noisy, random), r_at) for _ in range(n_copies)]
    index, n_records = np.unique([prepared.patient_id[r] for r in records], return_inverse=True, return_counts=True)[1:]
    own = 1.0 / n_records[index]
    weight = own / np.array([own[group == number].sum() for number in range(prepared.n_classes)])[group]
    n_rows = 1 + n_copies
    seed = settings.seed + 1000 * task.replica + task.fold
    return fit_trees(np.concatenate(figures), np.tile(group, n_rows), np.tile(weight, n_rows), settings, seed)


def _record_logits(
    member: Member, network: BeatNet, kernels: Kernels, prepared: Prepared, is_wanted: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the member's logits of MI and of any heart disease, (record,) each, as scoring would; NaN where not wanted."""
    logits, abnormal = np.full(len(prepared.group), np.nan), np.full(len(prepared.group), np.nan)
    wanted = np.flatnonzero(is_wanted)
    medians = np.array(prepared.median[wanted])
    features = kernel_features(kernels, medians) if kernels else None
    figures = wave_figures(medians, r_index(prepared.beats, medians.shape[2])) if member.trees else None
    has_votes = features is not None or figures is not None
    votes = member_votes(member, features, figures) if has_votes else np.zeros((0, len(wanted)))
    for place, record in enumerate(wanted):
        beats = np.asarray(prepared.waveform[prepared.first_beat[record] : prepared.first_beat[record + 1]])
        probability = network_probabilities(network, beats)[None]
        if has_votes:
            probability = joined(probability, votes[:, None, place, None], np.array([len(beats)]))
        logits[record] = mean_beat_logit(probability)
    if prepared.n_classes == 3 and len(wanted):
        abnormal[wanted] = member_abnormal(member, medians, figures)
    return logits, abnormal
