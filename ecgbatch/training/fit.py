"""Training: patient-wise folds, one independent member a fold, exact resume, thresholds from patients held out."""

from __future__ import annotations

import hashlib
import json
import math
from builtins import map as _map
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save as save_tensors

from ecgbatch import __version__
from ecgbatch.figures.against_other import figures_against_other, threshold_sparing
from ecgbatch.figures.by_patient import choose_threshold, patient_figures
from ecgbatch.figures.calibration import compare_calibrations, fit_platt
from ecgbatch.figures.drift import of_training
from ecgbatch.model.definition import Calibration, Member, Model, OperatingPoint
from ecgbatch.model.files import load_model, save_model, write_synced
from ecgbatch.model.members import joined, member_abnormal, member_votes
from ecgbatch.model.network import BeatNet, network_probabilities, train_repeatably
from ecgbatch.model.novelty import fit_reference
from ecgbatch.model.preparation import check_beats
from ecgbatch.model.probability import calibrated, mean_beat_logit
from ecgbatch.model.random_kernels import Kernels, draw_kernels, fit_regression, kernel_features
from ecgbatch.model.splits import patient_digest
from ecgbatch.model.trees import Trees
from ecgbatch.model.waves import r_index, wave_figures
from ecgbatch.training.arrhythmia import load_trunk
from ecgbatch.training.data import Prepared, Source, open_prepared, prepare_training
from ecgbatch.training.settings import TrainSettings
from ecgbatch.training.trees import fit_trees


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


def train(
    source: Source,
    settings: TrainSettings | None = None,
    *,
    start: Model | None = None,
    trunk: str | Path | None = None,
    checkpoints: str | Path,
    map: Callable[..., Iterable[Outcome]] = _map,
    progress: Callable[[int, int], None] | None = None,
) -> Model:
    """Train a model: one member a fold and seed, each blind to the patients of its fold.

    Member k never sees the patients of fold k. It is validated on those of fold k+1 and trained on the rest; the last
    epoch's weights are kept, so validation patients serve only to calibrate and to choose thresholds. Whatever is applied
    to a patient of fold k out of fold (member k's calibration and threshold) was chosen on patients outside fold k.

    Parameters
    ----------
    source
        Paths of beats stores cut with one setting (as a mapping: to the rows, records, that may train),
        beats in memory, or blocks of them.
    settings
        Default ``TrainSettings()``.
    start
        Model to go on from (fine-tuning), the one whose digest ``settings.start`` is (see ``recipes.settings_from``).
        Members count its patients as seen; those of ``source`` among them get no out-of-fold score.
    trunk
        Folder of the network whose digest ``settings.trunk`` is.
    checkpoints
        Folder for the prepared beats and the members' checkpoints, under a digest of both; seen by every process of
        ``map``. Calling again with the same source and settings goes on where the last call stopped.
    map
        Shape of the built-in ``map``; results may come in any order, and do not depend on it.
    progress
        Called with (members done, members in all).

    Returns
    -------
    Model
        The same for the same beats and settings on the same processor type, versions and thread count (one).

    Raises
    ------
    ValueError
        If fewer than two patients of either class have scorable beats, or the stores' beats were cut differently.

    """
    settings = settings or TrainSettings()
    if settings.start != ("" if start is None else start.digest):
        raise ValueError(f"settings go on from model {settings.start or 'none'!r}, found {start and start.digest!r}")
    folder, beats = prepare_training(source, settings, Path(checkpoints))
    if trunk is not None:
        (folder / "trunk").mkdir(exist_ok=True)
        for name in ("trunk.safetensors", "arrhythmia.json"):
            write_synced(folder / "trunk" / name, (Path(trunk) / name).read_bytes())
    if start is not None:
        check_beats(start, beats, "the beats to train on")
        save_model(start, folder / "start")
    prepared = open_prepared(folder, settings)
    tasks = plan_members(prepared.folds[0], settings)
    outcomes = []
    for outcome in map(partial(train_member, str(folder), settings), tasks):
        outcomes.append(outcome)
        if progress is not None:
            progress(len(outcomes), len(tasks))
    outcomes.sort(key=lambda outcome: outcome.task.name)
    return _assemble(outcomes, prepared, beats, settings, start)


def plan_members(fold: np.ndarray, settings: TrainSettings) -> list[Task]:
    """Return the members to train; with two folds the test fold validates, since nothing else would be left to train on."""
    n_folds = int(fold.max()) + 1
    step = 1 if settings.holds_out_validation and n_folds > 2 else 0
    return [Task(k, (k + step) % n_folds, replica) for k in range(n_folds) for replica in range(settings.n_seeds)]


def train_member(folder: str, settings: TrainSettings, task: Task) -> Outcome:
    """Train one member from its last checkpoint on; one thread, deterministic, whatever process it runs in."""
    train_repeatably()
    prepared = open_prepared(Path(folder), settings)
    start = start_member(Path(folder), settings, task)
    fold = prepared.folds[task.replica]
    records = np.flatnonzero((fold != task.fold) & (fold != task.validation_fold))
    batches = _Batches(prepared, records)
    state = _State(prepared, settings, task, start, load_trunk(Path(folder) / "trunk")[1] if settings.trunk else None)
    checkpoint = Path(folder) / f"{task.name}.safetensors"
    n_steps = max(batches.n_beats // settings.batch_size + 1, -(-settings.min_steps // settings.epochs))  # an epoch
    for epoch in range(state.restore(checkpoint), settings.epochs):
        random = np.random.default_rng((settings.seed, task.fold, task.replica, epoch))  # so a checkpoint needs no RNG state
        state.network.train()
        for _ in range(n_steps):
            rows, group = batches.draw(settings.batch_size, random)
            altered = augment(prepared.waveform[rows], settings, random)
            waveform, target = mixed(altered, group, settings, random, prepared.n_classes)
            loss = torch.nn.functional.cross_entropy(state.network(torch.from_numpy(waveform)), torch.from_numpy(target))
            state.step(loss, state.steps / (n_steps * settings.epochs))
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


MOST_ROWS = 30_000
"""Of a regression and of the novelty reference: drawn at random from a larger archive, so that memory stays below a gigabyte."""


def some_of(records: np.ndarray, at_most: int, random: np.random.Generator) -> np.ndarray:
    """Return all records, or ``at_most`` of them drawn without replacement, in order."""
    return records if len(records) <= at_most else np.sort(random.choice(records, at_most, replace=False))


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


def augment(waveform: np.ndarray, settings: TrainSettings, random: np.random.Generator) -> np.ndarray:
    """Return altered copies of prepared beats: each lead's amplitude, the R peak's place, noise, leads lost.

    Parameters
    ----------
    waveform : (beat, lead, sample) float32
    settings
        ``amplitude_sd`` of a lead's log amplitude, ``shift_samples`` either way, ``noise_sd`` in the lead's SD,
        ``lead_dropout`` probability of each lead; an amount of 0 draws nothing, and without ``augmentation`` nothing is.
    random
        Source of every draw.

    Returns
    -------
    (beat, lead, sample) float32

    """
    if not settings.augmentation:
        return waveform
    n_beats, n_leads, n_samples = waveform.shape
    if settings.shift_samples:
        shift = random.integers(-settings.shift_samples, settings.shift_samples + 1, (n_beats, 1))
        source = np.clip(np.arange(n_samples) - shift, 0, n_samples - 1)  # the edge's value is repeated
        waveform = np.take_along_axis(waveform, source[:, None, :], axis=2)
    if settings.amplitude_sd:
        scale = np.exp(settings.amplitude_sd * random.standard_normal((n_beats, n_leads, 1), np.float32))
        waveform = waveform * scale
    if settings.noise_sd:
        is_present = waveform.any(axis=2, keepdims=True)
        noise = random.standard_normal(waveform.shape, np.float32)
        waveform = waveform + np.float32(settings.noise_sd) * noise * is_present
    if settings.lead_dropout:
        waveform = waveform * (random.random((n_beats, n_leads, 1), np.float32) >= settings.lead_dropout)
    return np.ascontiguousarray(waveform, np.float32)


def mixed(
    waveform: np.ndarray, group: np.ndarray, settings: TrainSettings, random: np.random.Generator, n_classes: int = 2
) -> tuple[np.ndarray, np.ndarray]:
    """Return beats blended with other beats of the batch, and the blended labels.

    Parameters
    ----------
    waveform : (beat, lead, sample) float32
    group : (beat,) int64
        Class, 0 to ``n_classes - 1``.
    settings
        ``mixup`` is the probability of each beat to be blended; its partner gets a share uniform in [0, 0.5].
    random
        Source of every draw; none is taken where ``mixup`` is 0.

    Returns
    -------
    waveform, target : (beat, lead, sample) float32, (beat, class) float32
        Rows of ``target`` sum to 1.

    """
    target = np.eye(n_classes, dtype=np.float32)[group]
    if not (settings.augmentation and settings.mixup):
        return waveform, target
    is_blended = random.random(len(group), np.float32) < settings.mixup
    share = (np.float32(0.5) * random.random(len(group), np.float32) * is_blended)[:, None]
    partner = random.permutation(len(group))
    return waveform + share[:, :, None] * (waveform[partner] - waveform), target + share * (target[partner] - target)


class _Batches:
    """Balanced draws of training beats: class, then patient, then beat."""

    def __init__(self, prepared: Prepared, records: np.ndarray) -> None:
        patients: dict[tuple[int, str], list[np.ndarray]] = {}
        classes = prepared.classes
        for record in records:
            rows = np.arange(prepared.first_beat[record], prepared.first_beat[record + 1])
            patients.setdefault((int(classes[record]), prepared.patient_id[record]), []).append(rows)
        pools = [np.concatenate(patients[patient]) for patient in sorted(patients)]  # class by class
        self.rows = np.concatenate(pools)
        self.n_beats = len(self.rows)
        self.pool_size = np.array([len(pool) for pool in pools])
        self.pool_first = np.cumsum(self.pool_size) - self.pool_size
        of_patient = np.array([group for group, _ in sorted(patients)])
        self.group, self.first_patient, self.n_patients = np.unique(of_patient, return_index=True, return_counts=True)

    def draw(self, batch_size: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return rows (beat,) and classes (beat,) int64 of one batch."""
        turn = np.arange(batch_size, dtype=np.int64) % len(self.group)
        patient = (random.random(batch_size) * self.n_patients[turn]).astype(np.int64) + self.first_patient[turn]
        beat = (random.random(batch_size) * self.pool_size[patient]).astype(np.int64)
        return self.rows[self.pool_first[patient] + beat], self.group[turn].astype(np.int64)


def _freeze(network: BeatNet, trunk: Mapping[str, np.ndarray]) -> None:
    """Take over the convolutions of another network of one lead, and let them be."""
    for name, parameter in network.named_parameters():
        if name.split(".")[0] in ("first", "inner", "outer"):
            with torch.no_grad():
                parameter.copy_(torch.from_numpy(np.array(trunk[name])))
            parameter.requires_grad_(False)


class _State:
    """What a checkpoint holds: network, running mean of its weights, optimiser, steps done."""

    def __init__(
        self,
        prepared: Prepared,
        settings: TrainSettings,
        task: Task,
        start: Member | None,
        trunk: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self.settings = settings
        self.steps = 0
        n_leads, n_samples = prepared.waveform.shape[1:]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int.from_bytes(hashlib.sha256(f"{settings.seed} {task.name}".encode()).digest()[:7], "big"))
            self.network = BeatNet(n_leads, n_samples, prepared.n_classes)
        if start is not None:
            self.network.load_state_dict({name: torch.from_numpy(np.array(w)) for name, w in start.weights.items()})
        if trunk:
            _freeze(self.network, trunk)
        self.mean = BeatNet(n_leads, n_samples, prepared.n_classes)
        self.mean.load_state_dict(self.network.state_dict())
        learning = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        self.optimiser = torch.optim.Adam(learning, settings.learning_rate, settings.betas, fused=True)

    def step(self, loss: torch.Tensor, done: float) -> None:
        """Descend once, at the schedule's rate for this share of the training, and update the running mean."""
        settings = self.settings
        decay = settings.decay ** (self.steps // settings.decay_steps)
        if settings.cosine:
            decay = 0.5 * (1 + math.cos(math.pi * done))
        for group in self.optimiser.param_groups:
            group["lr"] = settings.learning_rate * decay
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.steps += 1
        keep = min(settings.averaging, self.steps / (self.steps + 10))  # short memory at first: forget the random start
        with torch.no_grad():
            for mean, weight in zip(self.mean.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(weight, 1.0 - keep)

    def averaged(self) -> BeatNet:
        """Return the network to keep: the running mean, or the last weights where ``averaging`` is 0."""
        return self.mean.eval()

    def save(self, path: Path, epochs_done: int) -> None:
        """Write a checkpoint aside and rename it."""
        tensors = {f"network/{name}": tensor for name, tensor in self.network.state_dict().items()}
        tensors |= {f"mean/{name}": tensor for name, tensor in self.mean.state_dict().items()}
        for number, state in dict(self.optimiser.state_dict()["state"]).items():
            tensors |= {f"adam/{number}/{name}": tensor for name, tensor in state.items()}
        position = {"epochs_done": epochs_done, "steps": self.steps}
        aside = path.with_suffix(".partial")
        write_synced(aside, save_tensors(tensors, metadata={"position": json.dumps(position)}))
        aside.replace(path)

    def restore(self, path: Path) -> int:
        """Read a checkpoint if there is one; return the epochs it has done."""
        if not path.exists():
            return 0
        with safe_open(path, framework="pt") as file:
            position = json.loads(file.metadata()["position"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
        for prefix, network in (("network/", self.network), ("mean/", self.mean)):
            network.load_state_dict({n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)})
        adam = self.optimiser.state_dict()
        for name in [name for name in tensors if name.startswith("adam/")]:
            _, number, entry = name.split("/")
            adam["state"].setdefault(int(number), {})[entry] = tensors[name]
        self.optimiser.load_state_dict(adam)
        self.steps = position["steps"]
        return int(position["epochs_done"])


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


def _assemble(
    outcomes: Sequence[Outcome], prepared: Prepared, beats: Mapping[str, Any], settings: TrainSettings, start: Model | None
) -> Model:
    """Choose calibrations and thresholds, work out the figures, and put the model together."""
    outcomes = _without_known(outcomes, prepared, settings, start)
    validation_logit = _mean_known([outcome.validation_logit for outcome in outcomes])
    test_logit = _mean_known([outcome.test_logit for outcome in outcomes])
    _check_new(validation_logit, prepared)
    calibration, shared_cut = _rule(validation_logit, prepared, np.ones(len(prepared.group), bool))
    members, probability, threshold = [], np.full(len(prepared.group), np.nan), np.full(len(prepared.group), np.nan)
    for outcome in outcomes:
        is_test = prepared.folds[outcome.task.replica] == outcome.task.fold
        own_calibration, cut = _rule(validation_logit, prepared, ~is_test)
        if outcome.task.replica == 0:
            probability[is_test], threshold[is_test] = calibrated(test_logit[is_test], own_calibration), cut
        seen = np.flatnonzero(_is_seen(prepared, outcome.task))
        digests = {patient_digest(prepared.patient_id[record], settings.patient_key) for record in seen}
        digests |= {prepared.content[record] for record in seen}
        if start is not None:
            digests |= set(start.members[start_index(settings, outcome.task, len(start.members))].seen)
        own = (outcome.weights, tuple(sorted(digests)), shared_cut, own_calibration, outcome.regression, outcome.trees)
        members.append(Member(outcome.task.name, outcome.task.fold, *own))
    compared = compare_calibrations(test_logit, prepared.mi, prepared.patient_id, prepared.folds[0])
    figures = patient_figures(probability, prepared.mi_or_control, prepared.patient_id, threshold=threshold)
    abnormal_logit = _mean_known([outcome.abnormal_logit for outcome in outcomes])
    return Model(
        members=tuple(members),
        patient_key=settings.patient_key,
        beats=dict(beats),
        leads=settings.leads,
        n_samples=prepared.waveform.shape[2],
        preprocessing=settings.preprocessing,
        operating_point=_operating_point(calibrated(validation_logit, calibration), prepared, shared_cut),
        calibration=calibration,
        figures=figures | figures_against_other(probability, prepared.group, prepared.patient_id, threshold=threshold),
        training=json.loads(json.dumps(asdict(settings)))
        | _counts(prepared, test_logit)
        | {"calibrations": compared, "reference": of_training(probability)},
        versions=versions(),
        kernels=start.kernels if start else shared_kernels(Path(), settings),
        novelty=_reference(prepared, settings),
        abnormal=_abnormal_rule(abnormal_logit, prepared),
    )


def _abnormal_rule(logit: np.ndarray, prepared: Prepared) -> Calibration | None:
    """Fit Platt's rule for any heart disease against none; None without a third class."""
    known = np.isfinite(logit)
    if prepared.n_classes < 3 or len(set((prepared.group[known] > 0).tolist())) < 2:
        return None
    weight = _patient_weight(prepared, known)
    return Calibration(*fit_platt(logit[known], (prepared.group[known] > 0).astype(np.int64), weight=weight))


def _reference(prepared: Prepared, settings: TrainSettings) -> dict[str, np.ndarray]:
    records = some_of(np.arange(len(prepared.mi)), MOST_ROWS, np.random.default_rng(settings.seed))
    return fit_reference(np.array(prepared.median[records]), prepared.folds[0, records])


def _without_known(
    outcomes: Sequence[Outcome], prepared: Prepared, settings: TrainSettings, start: Model | None
) -> Sequence[Outcome]:
    """Blank the scores of patients that the member which an outcome goes on from has seen: they are not new to it."""
    if start is None:
        return outcomes
    digests = [
        {patient_digest(patient, settings.patient_key), content}
        for patient, content in zip(prepared.patient_id, prepared.content, strict=True)
    ]
    cleaned = []
    for outcome in outcomes:
        seen = start.members[start_index(settings, outcome.task, len(start.members))].seen
        known = np.array([not own.isdisjoint(seen) for own in digests])
        test, validation, abnormal = (
            np.where(known, np.nan, logit) for logit in (outcome.test_logit, outcome.validation_logit, outcome.abnormal_logit)
        )
        cleaned.append(replace(outcome, test_logit=test, validation_logit=validation, abnormal_logit=abnormal))
    return cleaned


def _check_new(logit: np.ndarray, prepared: Prepared) -> None:
    """Refuse to calibrate on fewer than two new patients of either class."""
    for word, mi in (("mi", 1), ("control", 0)):
        new = {prepared.patient_id[record] for record in np.flatnonzero(np.isfinite(logit) & (prepared.mi_or_control == mi))}
        if len(new) < 2:
            raise ValueError(
                f"fine-tuning needs at least 2 patients with label {word} that the model it goes on from has not seen, found "
                f"{len(new)}: these recordings are its own training data. Train without --from, or add patients."
            )


def _is_seen(prepared: Prepared, task: Task) -> np.ndarray:
    """All folds of its deal but its own: those it trained on and the one it was validated on."""
    return np.asarray(prepared.folds[task.replica] != task.fold)


def _rule(logit: np.ndarray, prepared: Prepared, is_used: np.ndarray) -> tuple[Calibration, float]:
    """Fit Platt's rule, every patient weighing the same, and choose the threshold on the calibrated probabilities.

    MI against everything else. With a third class the threshold is the one that ``threshold_sparing`` chooses, else Youden's.
    """
    is_used = is_used & np.isfinite(logit)
    patients = np.array(prepared.patient_id)[is_used]
    mi = prepared.mi[is_used]
    calibration = Calibration(*fit_platt(logit[is_used], mi, weight=_patient_weight(prepared, is_used)))
    probability = calibrated(logit[is_used], calibration)
    if prepared.n_classes == 3 and (prepared.group[is_used] == 2).any():
        return calibration, threshold_sparing(probability, prepared.group[is_used], patients)
    return calibration, choose_threshold(probability, prepared.mi_or_control[is_used], patients)


def _patient_weight(prepared: Prepared, is_used: np.ndarray) -> np.ndarray:
    """Return one over the number of used records of each used record's patient."""
    patients = np.array(prepared.patient_id)[is_used]
    index, n_records = np.unique(patients, return_inverse=True, return_counts=True)[1:]
    return np.asarray(1.0 / n_records[index])


def _operating_point(probability: np.ndarray, prepared: Prepared, threshold: float) -> OperatingPoint:
    figures = patient_figures(probability, prepared.mi_or_control, prepared.patient_id, threshold=threshold)
    other = figures_against_other(probability, prepared.group, prepared.patient_id, threshold=threshold)
    n_other = f", {other['specificity_against_other']['n_patients']} other" if other else ""
    chosen_on = (
        f"validation patients of all folds ({figures['sensitivity']['n_patients']} MI, "
        f"{figures['specificity']['n_patients']} control{n_other}), pooled; sensitivity and specificity are of these same "
        "patients"
    )
    return OperatingPoint(
        threshold, figures["sensitivity"], figures["specificity"], chosen_on, other.get("specificity_against_other")
    )


def _counts(prepared: Prepared, test_logit: np.ndarray) -> dict[str, Any]:
    """Return how many there were, and the share of patients with MI among those that the calibration rests on."""
    is_new = np.isfinite(test_logit)
    mi_of: dict[str, int] = {}
    for patient, mi, new in zip(prepared.patient_id, prepared.mi.tolist(), is_new.tolist(), strict=True):
        if new:
            mi_of[patient] = max(mi, mi_of.get(patient, 0))
    return {
        "n_records": len(prepared.group),
        "n_classes_learnt": prepared.n_classes,
        "n_patients_by_group": {
            word: len({p for p, group in zip(prepared.patient_id, prepared.group.tolist(), strict=True) if group == number})
            for number, word in enumerate(("control", "mi", "other"))
        },
        "n_patients": len(set(prepared.patient_id)),
        "n_patients_known_before": len(set(prepared.patient_id)) - len(mi_of),
        "n_beats": int(prepared.first_beat[-1]),
        "n_folds_used": int(prepared.folds.max()) + 1,
        "prevalence": sum(mi_of.values()) / len(mi_of),
    }


def _mean_known(logits: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean (record,) over those that know a number; NaN where none does."""
    table = np.stack(logits)
    n_known = np.isfinite(table).sum(axis=0)
    return np.where(n_known, np.nansum(table, axis=0) / np.maximum(n_known, 1), np.nan)


def versions() -> dict[str, str]:
    """Return the versions that a model's bits depend on."""
    return {"ecgbatch": __version__, "torch": torch.__version__.split("+")[0], "numpy": np.__version__}
