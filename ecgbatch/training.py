"""Training: patient-wise folds, one independent member a fold, exact resume, thresholds from patients held out."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import tempfile
from builtins import map as _map
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save as save_tensors

from ecgbatch import __version__
from ecgbatch.beats import current_beats
from ecgbatch.evaluation import choose_threshold, fit_platt, patient_figures
from ecgbatch.model import (
    DEFAULT_LEADS,
    BeatNet,
    Calibration,
    Member,
    Model,
    OperatingPoint,
    Preprocessing,
    calibrated,
    mean_beat_logit,
    network_probabilities,
    prepare_waveforms,
    save_model,
    write_synced,
)
from ecgbatch.splits import assign_folds, patient_digest, patient_labels
from ecgbatch.terms import LABEL, UNSCORABLE_BEAT
from storage import open_store

BLOCK_BYTES = 64_000_000
"""Waveforms read at once from a store: a few of its shards, whole records, whatever the store's size."""

BEAT_SETTINGS = ("method", "sampling_frequency_hz", "before_s", "after_s")
"""Settings of a beats store that change what a network sees (``beats.BeatSettings``)."""


@dataclass(frozen=True)
class TrainSettings:
    """Everything that decides a training, besides the beats; saved in the model.

    The optimiser is the paper's (Kachuee et al. 2018: Adam 1e-3, betas 0.9 and 0.999). Batches are balanced: half MI, half
    control, every patient of a class as likely as any other, so neither prevalence nor a patient's number of records weighs.

    What the defaults add to the paper was chosen on folds of PTB-XL patients alone (docs/model.md): above all ``mixup``
    (Zhang and others 2018, arXiv:1710.09412), worth 0.004 of AUROC there, and a rate that falls along a half cosine to 0
    (Loshchilov and Hutter 2017, arXiv:1608.03983). Without ``cosine`` the rate is the paper's: times ``decay`` every
    ``decay_steps``. ``min_steps`` lengthens the epochs of a small archive: below some 300 steps a member is not yet trained.

    With ``holds_out_validation`` member k is validated on fold k+1; without it, it trains on that fold too, and calibrations
    and thresholds come from the test scores of the other folds' members (never from the patient they are applied to).
    """

    recipe: str = "ecgbatch"
    leads: tuple[str, ...] = DEFAULT_LEADS
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    n_folds: int = 5
    n_seeds: int = 1
    holds_out_validation: bool = True
    epochs: int = 12
    min_steps: int = 300
    batch_size: int = 64
    max_beats_per_record: int = 32
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    decay: float = 0.75
    decay_steps: int = 10_000
    cosine: bool = True
    averaging: float = 0.0
    augmentation: bool = True
    amplitude_sd: float = 0.2
    shift_samples: int = 3
    noise_sd: float = 0.1
    lead_dropout: float = 0.1
    mixup: float = 1.0
    seed: int = 2018

    def __post_init__(self) -> None:
        if self.n_folds < 2 or min(self.n_seeds, self.epochs, self.batch_size // 2, self.max_beats_per_record) < 1:
            raise ValueError(
                "TrainSettings need n_folds of at least 2, n_seeds, epochs and max_beats_per_record of at least 1 and a "
                f"batch_size of at least 2, found {self}"
            )

    @property
    def patient_key(self) -> str:
        """Key of the patients' digests and of the folds: a function of the seed."""
        return f"ecgbatch patients {self.seed}"


@dataclass(frozen=True)
class TrainingBeats:
    """Beats in memory, shaped as a beats store: rows of a record lie together, records in order.

    Parameters
    ----------
    waveform : (beat, lead, sample) int16, stored steps
    is_scorable : (beat,) bool
        Without a bit of ``terms.UNSCORABLE_BEAT``; the others only keep their rows.
    lead : (lead,) text
    patient_id, mi, n_beats : (record,) text, int (1 MI, 0 control, -1 other or unknown: never trained on), int
    beats
        Settings the beats were cut with; the model will want the same (``model.check_beats``).

    """

    waveform: np.ndarray
    is_scorable: np.ndarray
    lead: tuple[str, ...]
    patient_id: Sequence[str]
    mi: np.ndarray
    n_beats: np.ndarray
    beats: Mapping[str, Any]


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
    """A trained member's weights and its mean beat logits (record,) of test and validation records, NaN elsewhere."""

    task: Task
    weights: dict[str, np.ndarray]
    test_logit: np.ndarray
    validation_logit: np.ndarray


@dataclass(frozen=True)
class _Prepared:
    """The network's input on disk (memory-mapped, so members share it) and the labelled records it belongs to."""

    waveform: np.ndarray  # (beat, lead, sample) float32
    patient_id: tuple[str, ...]  # (record,)
    mi: np.ndarray  # (record,)
    first_beat: np.ndarray  # (record + 1,)
    fold: np.ndarray  # (record,)


def train(
    source: Sequence[str] | TrainingBeats,
    settings: TrainSettings | None = None,
    *,
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
        Paths of beats stores cut with one setting, or beats in memory.
    settings
        Default ``TrainSettings()``.
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
    folder, beats = prepare_training(source, settings, Path(checkpoints))
    prepared = _open_prepared(folder, settings)
    tasks = plan_members(prepared.fold, settings)
    outcomes = []
    for outcome in map(partial(train_member, str(folder), settings), tasks):
        outcomes.append(outcome)
        if progress is not None:
            progress(len(outcomes), len(tasks))
    outcomes.sort(key=lambda outcome: outcome.task.name)
    return _assemble(outcomes, prepared, beats, settings)


def plan_members(fold: np.ndarray, settings: TrainSettings) -> list[Task]:
    """Return the members to train; with two folds the test fold validates, since nothing else would be left to train on."""
    n_folds = int(fold.max()) + 1
    step = 1 if settings.holds_out_validation and n_folds > 2 else 0
    return [Task(k, (k + step) % n_folds, replica) for k in range(n_folds) for replica in range(settings.n_seeds)]


def train_member(folder: str, settings: TrainSettings, task: Task) -> Outcome:
    """Train one member from its last checkpoint on; one thread, deterministic, whatever process it runs in."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    prepared = _open_prepared(Path(folder), settings)
    batches = _Batches(prepared, np.flatnonzero((prepared.fold != task.fold) & (prepared.fold != task.validation_fold)))
    state = _State(prepared, settings, task)
    checkpoint = Path(folder) / f"{task.name}.safetensors"
    n_steps = max(batches.n_beats // settings.batch_size + 1, -(-settings.min_steps // settings.epochs))  # an epoch
    for epoch in range(state.restore(checkpoint), settings.epochs):
        random = np.random.default_rng((settings.seed, task.fold, task.replica, epoch))  # so a checkpoint needs no RNG state
        state.network.train()
        for _ in range(n_steps):
            rows, mi = batches.draw(settings.batch_size, random)
            waveform, target = mixed(augment(prepared.waveform[rows], settings, random), mi, settings, random)
            loss = torch.nn.functional.cross_entropy(state.network(torch.from_numpy(waveform)), torch.from_numpy(target))
            state.step(loss, state.steps / (n_steps * settings.epochs))
        state.save(checkpoint, epoch + 1)
    network = state.averaged()
    return Outcome(
        task,
        {name: tensor.numpy().copy() for name, tensor in network.state_dict().items()},
        _record_logits(network, prepared, prepared.fold == task.fold),
        _record_logits(network, prepared, prepared.fold == task.validation_fold),
    )


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
    waveform: np.ndarray, mi: np.ndarray, settings: TrainSettings, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return beats blended with other beats of the batch, and the blended labels.

    Parameters
    ----------
    waveform : (beat, lead, sample) float32
    mi : (beat,) int64
        0 or 1.
    settings
        ``mixup`` is the probability of each beat to be blended; its partner gets a share uniform in [0, 0.5].
    random
        Source of every draw; none is taken where ``mixup`` is 0.

    Returns
    -------
    waveform, target : (beat, lead, sample) float32, (beat, class) float32
        Rows of ``target`` sum to 1.

    """
    target = np.eye(2, dtype=np.float32)[mi]
    if not (settings.augmentation and settings.mixup):
        return waveform, target
    is_blended = random.random(len(mi), np.float32) < settings.mixup
    share = (np.float32(0.5) * random.random(len(mi), np.float32) * is_blended)[:, None]
    partner = random.permutation(len(mi))
    return waveform + share[:, :, None] * (waveform[partner] - waveform), target + share * (target[partner] - target)


class _Batches:
    """Balanced draws of training beats: class, then patient, then beat."""

    def __init__(self, prepared: _Prepared, records: np.ndarray) -> None:
        patients: dict[tuple[int, str], list[np.ndarray]] = {}
        for record in records:
            rows = np.arange(prepared.first_beat[record], prepared.first_beat[record + 1])
            patients.setdefault((int(prepared.mi[record]), prepared.patient_id[record]), []).append(rows)
        pools = [np.concatenate(patients[patient]) for patient in sorted(patients)]  # controls first
        self.rows = np.concatenate(pools)
        self.n_beats = len(self.rows)
        self.pool_size = np.array([len(pool) for pool in pools])
        self.pool_first = np.cumsum(self.pool_size) - self.pool_size
        self.n_controls = sum(mi == 0 for mi, _ in patients)

    def draw(self, batch_size: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return rows (beat,) and classes (beat,) int64 of one batch."""
        mi = np.arange(batch_size, dtype=np.int64) % 2
        n_patients = np.where(mi == 1, len(self.pool_size) - self.n_controls, self.n_controls)
        patient = (random.random(batch_size) * n_patients).astype(np.int64) + mi * self.n_controls
        beat = (random.random(batch_size) * self.pool_size[patient]).astype(np.int64)
        return self.rows[self.pool_first[patient] + beat], mi


class _State:
    """What a checkpoint holds: network, running mean of its weights, optimiser, steps done."""

    def __init__(self, prepared: _Prepared, settings: TrainSettings, task: Task) -> None:
        self.settings = settings
        self.steps = 0
        shape = prepared.waveform.shape[1:]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int.from_bytes(hashlib.sha256(f"{settings.seed} {task.name}".encode()).digest()[:7], "big"))
            self.network = BeatNet(*shape)
        self.mean = BeatNet(*shape)
        self.mean.load_state_dict(self.network.state_dict())
        self.optimiser = torch.optim.Adam(self.network.parameters(), settings.learning_rate, settings.betas)

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


def _record_logits(network: BeatNet, prepared: _Prepared, is_wanted: np.ndarray) -> np.ndarray:
    logits = np.full(len(prepared.mi), np.nan)
    for record in np.flatnonzero(is_wanted):
        beats = np.asarray(prepared.waveform[prepared.first_beat[record] : prepared.first_beat[record + 1]])
        logits[record] = mean_beat_logit(network_probabilities(network, beats)[None])
    return logits


def prepare_training(
    source: Sequence[str] | TrainingBeats, settings: TrainSettings, checkpoints: Path
) -> tuple[Path, dict[str, Any]]:
    """Write the network's input of all labelled records once, for all members to map into memory.

    Memory stays within a few times ``BLOCK_BYTES``.

    Returns
    -------
    folder, beats
        Folder named by the digest of content and settings; the settings that the beats were cut with.

    Raises
    ------
    ValueError
        As ``train`` does.

    """
    checkpoints.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=".prepared.", suffix=".partial", dir=checkpoints))
    try:
        digest = hashlib.sha256(json.dumps(asdict(settings), sort_keys=True).encode())
        table: dict[str, Any] = {"patient_id": [], "mi": [], "n_beats": [], "shape": None, "beats": None}
        with (aside / "waveform.f32").open("wb") as file:
            for block in [source] if isinstance(source, TrainingBeats) else _read_stores(source):
                for rows in _prepare_block(block, settings, table):
                    digest.update(rows.data)
                    file.write(rows.data)
        _check_patients(table)
        text = json.dumps(table, sort_keys=True)
        digest.update(text.encode())
        write_synced(aside / "records.json", text.encode())
        folder = checkpoints / digest.hexdigest()[:32]
        if not folder.exists():
            _publish(aside, folder)
        return folder, table["beats"]
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _publish(aside: Path, folder: Path) -> None:
    try:
        aside.rename(folder)
    except OSError:  # another process prepared the same bytes first
        if not folder.exists():
            raise


def _read_stores(paths: Sequence[str]) -> Iterator[TrainingBeats]:
    """Yield blocks of whole records of each store, about ``BLOCK_BYTES`` of waveforms each."""
    for path in paths:
        store = open_store(path)
        settings = {name: store.attrs["settings"][name] for name in BEAT_SETTINGS if name in store.attrs["settings"]}
        first, n_beats = store["first_beat"].values, store["n_beats"].values
        bytes_a_beat = 2 * store.sizes["lead"] * store.sizes["sample"]
        block_of = np.cumsum(n_beats.astype(np.int64) * bytes_a_beat) // BLOCK_BYTES
        for block in np.unique(block_of):
            records = np.flatnonzero(block_of == block)
            rows = slice(int(first[records[0]]), int(first[records[-1]] + n_beats[records[-1]]))
            yield TrainingBeats(
                store["waveform"].isel(beat=rows).values,
                (store["beat_flags"].isel(beat=rows).values & UNSCORABLE_BEAT) == 0,
                tuple(map(str, store["lead"].values)),
                [str(patient) for patient in store["patient_id"].values[records]],
                store["mi"].values[records],
                n_beats[records],
                settings,
            )


def _prepare_block(block: TrainingBeats, settings: TrainSettings, table: dict[str, Any]) -> Iterator[np.ndarray]:
    """Yield each labelled record's chosen beats, prepared, and note the record in ``table``."""
    shape = [len(settings.leads), block.waveform.shape[2]]
    beats = dict(block.beats)
    if table["shape"] not in (None, shape) or table["beats"] not in (None, beats):
        raise ValueError(
            f"a model is trained on beats cut one way, found {beats} with {shape[1]} samples beside {table['beats']} with "
            f"{table['shape'][1]}; run ecgbatch beats with one method over all signals"
        )
    table["shape"], table["beats"] = shape, beats
    stop = np.cumsum(block.n_beats)
    for record, patient in enumerate(block.patient_id):
        rows = slice(int(stop[record] - block.n_beats[record]), int(stop[record]))
        is_scorable = block.is_scorable[rows]
        if block.mi[record] not in (0, 1) or not is_scorable.any():
            continue
        prepared = prepare_waveforms(
            block.waveform[rows],
            is_scorable,
            store_leads=block.lead,
            leads=settings.leads,
            preprocessing=settings.preprocessing,
        )
        chosen = evenly_spread(np.flatnonzero(is_scorable), settings.max_beats_per_record)
        table["patient_id"].append(str(patient))
        table["mi"].append(int(block.mi[record]))
        table["n_beats"].append(len(chosen))
        yield np.ascontiguousarray(prepared[chosen])


def evenly_spread(rows: np.ndarray, at_most: int) -> np.ndarray:
    """Return all rows, or ``at_most`` of them at even steps from the first to the last."""
    if len(rows) <= at_most:
        return rows
    return np.asarray(rows[np.linspace(0, len(rows) - 1, at_most).round().astype(np.int64)])


def _labels(mi: Iterable[int]) -> list[int]:
    return [LABEL["mi"] if value == 1 else LABEL["control"] for value in mi]


def _check_patients(table: Mapping[str, Any]) -> tuple[int, int]:
    """Return the numbers of MI and control patients, both at least 2."""
    of_patient = list(patient_labels(table["patient_id"], _labels(table["mi"])).values())
    n_mi, n_control = of_patient.count(LABEL["mi"]), of_patient.count(LABEL["control"])
    if min(n_mi, n_control) < 2:
        raise ValueError(
            "training needs records with scorable beats of at least 2 patients with label mi and 2 with label control (one to "
            f"train on, one to test on), found {n_mi} and {n_control}. Give labels with --labels, or more records; with the "
            "five default folds, aim at 5 patients of each and expect little below 20."
        )
    return n_mi, n_control


def _open_prepared(folder: Path, settings: TrainSettings) -> _Prepared:
    table = json.loads((folder / "records.json").read_bytes())
    n_folds = min(settings.n_folds, *_check_patients(table))
    first_beat = np.cumsum([0, *table["n_beats"]])
    shape = (int(first_beat[-1]), *table["shape"])
    return _Prepared(
        np.memmap(folder / "waveform.f32", np.float32, "r", shape=shape),
        tuple(table["patient_id"]),
        np.array(table["mi"], np.int64),
        first_beat,
        assign_folds(table["patient_id"], _labels(table["mi"]), n_folds, settings.patient_key),
    )


def _assemble(outcomes: Sequence[Outcome], prepared: _Prepared, beats: Mapping[str, Any], settings: TrainSettings) -> Model:
    """Choose calibrations and thresholds, work out the figures, and put the model together."""
    validation_logit = np.nanmean([outcome.validation_logit for outcome in outcomes], axis=0)
    test_logit = np.nanmean([outcome.test_logit for outcome in outcomes], axis=0)
    members, probability, threshold = [], np.full(len(prepared.mi), np.nan), np.full(len(prepared.mi), np.nan)
    for outcome in outcomes:
        is_test = prepared.fold == outcome.task.fold
        calibration, cut = _rule(validation_logit, prepared, ~is_test)
        probability[is_test], threshold[is_test] = calibrated(test_logit[is_test], calibration), cut
        seen = {prepared.patient_id[record] for record in np.flatnonzero(_is_seen(prepared.fold, outcome.task))}
        digests = tuple(sorted(patient_digest(patient, settings.patient_key) for patient in seen))
        members.append(Member(outcome.task.name, outcome.task.fold, outcome.weights, digests, cut, calibration))
    everyone = np.ones(len(prepared.mi), bool)
    calibration, cut = _rule(validation_logit, prepared, everyone)
    return Model(
        members=tuple(members),
        patient_key=settings.patient_key,
        beats=dict(beats),
        leads=settings.leads,
        n_samples=prepared.waveform.shape[2],
        preprocessing=settings.preprocessing,
        operating_point=_operating_point(calibrated(validation_logit, calibration), prepared, cut),
        calibration=calibration,
        figures=patient_figures(probability, prepared.mi, prepared.patient_id, threshold=threshold),
        training=json.loads(json.dumps(asdict(settings))) | _counts(prepared),
        versions=_versions(),
    )


def _is_seen(fold: np.ndarray, task: Task) -> np.ndarray:
    """All folds but its own: those it trained on and the one it was validated on."""
    return np.asarray(fold != task.fold)


def _rule(logit: np.ndarray, prepared: _Prepared, is_used: np.ndarray) -> tuple[Calibration, float]:
    """Fit Platt's rule, every patient weighing the same, and choose the threshold on the calibrated probabilities."""
    patients = np.array(prepared.patient_id)[is_used]
    index, n_records = np.unique(patients, return_inverse=True, return_counts=True)[1:]
    mi = prepared.mi[is_used]
    calibration = Calibration(*fit_platt(logit[is_used], mi, weight=1.0 / n_records[index]))
    return calibration, choose_threshold(calibrated(logit[is_used], calibration), mi, patients)


def _operating_point(probability: np.ndarray, prepared: _Prepared, threshold: float) -> OperatingPoint:
    figures = patient_figures(probability, prepared.mi, prepared.patient_id, threshold=threshold)
    chosen_on = (
        f"validation patients of all folds ({figures['sensitivity']['n_patients']} MI, "
        f"{figures['specificity']['n_patients']} control), pooled; sensitivity and specificity are of these same patients"
    )
    return OperatingPoint(threshold, figures["sensitivity"], figures["specificity"], chosen_on)


def _counts(prepared: _Prepared) -> dict[str, int]:
    return {
        "n_records": len(prepared.mi),
        "n_patients": len(set(prepared.patient_id)),
        "n_beats": int(prepared.first_beat[-1]),
        "n_folds_used": int(prepared.fold.max()) + 1,
    }


RECIPES: Mapping[str, tuple[TrainSettings, Mapping[str, Any]]] = {
    "ecgbatch": (TrainSettings(), {"method": "robust"}),
    "ecgbatch-lead-ii": (TrainSettings(recipe="ecgbatch-lead-ii", leads=("II",), lead_dropout=0.0), {"method": "robust"}),
    "kachuee": (
        TrainSettings(
            recipe="kachuee",
            leads=("II",),
            preprocessing=Preprocessing(kind="scaled"),
            epochs=30,
            min_steps=0,
            cosine=False,
            augmentation=False,
        ),
        {"method": "kachuee"},
    ),
}
"""Name to training settings and the beat settings that they want."""


def train_workspace(
    work: str,
    *,
    recipe: str = "ecgbatch",
    out: str | None = None,
    map: Callable[..., Iterable[Outcome]] = _map,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> str:
    """Train on the labelled records of a workspace; return the model's folder.

    Parameters
    ----------
    work
        Workspace with beats cut as the recipe wants them.
    recipe
        A name of ``RECIPES``.
    out
        Folder of the model. Default ``WORK/models/<digest>``; a model of the same beats and settings is not trained again.
    map, on_progress
        As in ``train``; ``on_progress`` is called with the stage's name too.

    Raises
    ------
    ValueError
        If there is no such recipe, or too few labelled patients.

    """
    if recipe not in RECIPES:
        raise ValueError(f"recipe must be one of {', '.join(RECIPES)}, found {recipe!r}")
    settings, beat_settings = RECIPES[recipe]
    digests = sorted(set(current_beats(work, beat_settings)["beats_store"].values.tolist()))
    source = hashlib.sha256(json.dumps([digests, asdict(settings), _versions()], sort_keys=True).encode()).hexdigest()
    if out is None and (found := _find_model(work, source)):
        return found
    checkpoints = Path(work) / ".build" / f"train-{source[:20]}"
    progress = partial(on_progress, "train") if on_progress else None
    stores = [str(Path(work) / "beats" / f"{digest}.zarr") for digest in digests]
    model = train(stores, settings, checkpoints=checkpoints, map=map, progress=progress)
    model = replace(model, training={**model.training, "source": source})
    folder = save_model(model, out or Path(work) / "models" / model.digest[:20])
    shutil.rmtree(checkpoints, ignore_errors=True)
    return str(folder)


def _find_model(work: str, source: str) -> str | None:
    """Return the workspace's model that was trained on this very source."""
    for document in sorted((Path(work) / "models").glob("*/model.json")):
        if json.loads(document.read_bytes()).get("training", {}).get("source") == source:
            return str(document.parent)
    return None


def _versions() -> dict[str, str]:
    return {"ecgbatch": __version__, "torch": torch.__version__.split("+")[0], "numpy": np.__version__}
