"""A model: its members, what they saw, and the one definition of a record's probability."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from ecgbatch.model.card import model_card
from ecgbatch.model.inference import beat_logits, changed_logits, logit_of, pack, probabilities
from ecgbatch.model.novelty import Reference
from ecgbatch.model.random_kernels import Kernels, kernel_features, regression_logit
from ecgbatch.model.splits import patient_digest
from ecgbatch.model.trees import Trees, class_scores
from ecgbatch.model.waves import VERSION as WAVES_VERSION
from ecgbatch.model.waves import r_index, wave_figures
from ecgbatch.terms import LEADS, MISSING_SAMPLE, MODEL_NAME_DIGITS, NOTICE
from storage import folder_at, is_address, seal_folder
from storage.schema import digest_array

SCHEMA_VERSION = 3
READABLE_VERSIONS = (1, 2, 3)
"""Version 1 had neither random kernels nor a novelty reference, version 2 neither trees nor a third class."""


DEFAULT_LEADS = LEADS[:12]
"""The standard twelve leads; a lead that a store lacks enters as zeros."""

TREE_VOTES = 2
"""Of a member's trees, beside one of its network and one of its regression: what served best out of fold (docs/model.md)."""

PROBABILITY_FLOOR = 1e-6
"""Beat probabilities are kept this far from 0 and 1 before the logit: beyond it float32 softmax has no digits left."""


class ModelError(ValueError):
    """A model's folder that cannot be trusted or used: not safetensors, altered, incomplete, of another version."""


@dataclass(frozen=True)
class Preprocessing:
    """From stored steps to the network's input.

    ``z_score``: per record and lead, minus the mean and over the SD of the record's scorable beats, so neither gain,
    units nor a database's amplitude normalisation matters. ``scaled``: times ``scale`` (the paper's [0, 1] beats).
    """

    kind: str = "z_score"
    clip: float = 8.0
    sd_floor: float = 1.0
    """In stored steps (1 uV): a lead that varies less over a record is flat and enters as zeros."""
    scale: float = 1.0 / 16384

    def __post_init__(self) -> None:
        if self.kind not in ("z_score", "scaled"):
            raise ValueError(f"preprocessing kind must be 'z_score' or 'scaled', found {self.kind!r}")


@dataclass(frozen=True)
class Calibration:
    """Platt's rule: probability = sigmoid(slope x mean beat logit + intercept)."""

    slope: float = 1.0
    intercept: float = 0.0


@dataclass(frozen=True)
class OperatingPoint:
    """Threshold on a record's calibrated probability, and what it reached on the patients that chose it."""

    threshold: float
    sensitivity: Mapping[str, float]
    specificity: Mapping[str, float]
    chosen_on: str
    specificity_against_other: Mapping[str, float] | None = None
    """Share of patients with other heart disease that it does not call MI; None where a model knows no third class."""


@dataclass(frozen=True)
class Member:
    """One trained network with its trees on wave figures and its regression on random kernels (empty: none), and their use.

    ``seen`` holds the digests of all patients that it trained or was validated on, and of their records' content.
    ``calibration`` was chosen without any patient of its own test ``fold``, for out-of-fold scores; ``threshold`` is the model's
    one threshold (of models of version 1 and 2 chosen as the calibration was).
    """

    name: str
    fold: int
    weights: Mapping[str, np.ndarray] = field(repr=False)
    seen: tuple[str, ...] = field(repr=False)
    threshold: float
    calibration: Calibration
    regression: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)
    trees: Trees = field(default_factory=dict, repr=False)

    @cached_property
    def known(self) -> frozenset[str]:
        """What ``seen`` holds: asked of every record, so not as a list."""
        return frozenset(self.seen)


@dataclass(frozen=True)
class Model:
    """A set of members with everything that scoring needs.

    ``beats`` holds the settings that a beats store must have to be scored (``check_beats``); ``n_samples`` and
    ``leads`` the network's input; ``patient_key`` the key of ``patient_digest``; ``figures`` out-of-fold figures,
    each {value, low, high, n_patients}; ``training`` and ``versions`` how it came about. Of ``training``, the model card
    shows ``data`` and ``limits`` (lists of text) and ``evaluations`` (title to figures) as sections of their own.
    ``kernels`` are the random kernels that all members' regressions share, ``novelty`` the reference of ``novelty.novelty``;
    both may be empty. ``abnormal`` calibrates the logit of any heart disease against none; None where a model knows no third
    class.
    """

    members: tuple[Member, ...]
    patient_key: str
    beats: Mapping[str, Any]
    leads: tuple[str, ...]
    n_samples: int
    preprocessing: Preprocessing
    operating_point: OperatingPoint
    calibration: Calibration
    figures: Mapping[str, Any]
    training: Mapping[str, Any]
    versions: Mapping[str, str]
    kernels: Kernels = field(default_factory=dict, repr=False)
    novelty: Reference = field(default_factory=dict, repr=False)
    abnormal: Calibration | None = None

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over the weights and the canonical JSON of everything else."""
        return _digest(_tensors(self), _plain(_stated(self)))

    @property
    def name(self) -> str:
        """Recipe and number of members, as reports show it."""
        return f"{self.training.get('recipe', 'unnamed')}, {len(self.members)} members"


SHIPPED = "mi-12-leads"
"""The model that scores where none is named: 12 leads, trained on excerpts of PTB-XL and PTB (its MODEL_CARD.md says how)."""


def shipped_model(name: str = SHIPPED) -> Path:
    """Return the folder of a model that comes with the package; ``load_model`` reads it.

    Parameters
    ----------
    name
        A folder below ``ecgbatch/weights``: ``mi-12-leads`` or ``mi-lead-ii``.

    Raises
    ------
    ModelError
        If there is none of that name; the message names those that there are.

    """
    weights = Path(__file__).parents[1] / "weights"
    found = sorted(folder.parent.name for folder in weights.glob("*/model.json"))
    if name not in found:
        raise ModelError(
            f"no model {name!r} ships with this version, found {', '.join(found) or 'none'} in {weights}; name one of these, "
            "or train one: ecgbatch train"
        )
    return weights / name


def check_beats(model: Model, settings: Mapping[str, Any], where: str) -> None:
    """Refuse a beats store whose beats were cut otherwise than those the model was trained on.

    Parameters
    ----------
    model
        The model that is to score.
    settings
        The beats store's settings; those not in ``model.beats`` do not matter.
    where
        Names the store in the message.

    Raises
    ------
    ValueError
        Naming every setting that differs.

    """
    wrong = [
        f"{name} {settings.get(name)!r} instead of {value!r}"
        for name, value in model.beats.items()
        if settings.get(name) != value
    ]
    if wrong:
        raise ValueError(
            f"{where}: the model cannot score these beats: {'; '.join(wrong)}. Cut beats with the model's settings "
            "(ecgbatch beats) or train a model on these."
        )


def members_for(model: Model, patient_id: str, record: str | None = None) -> tuple[int, ...]:
    """Return the indices of the members that never saw this patient, nor this record under another name; empty if all did.

    Parameters
    ----------
    record
        ``splits.record_digest`` of the record with the model's key and leads; None: by patient only.

    """
    digests = {patient_digest(patient_id, model.patient_key), record}
    return tuple(index for index, member in enumerate(model.members) if digests.isdisjoint(member.known))


def rule_for(model: Model, indices: Sequence[int]) -> tuple[Calibration, float]:
    """Return the calibration and the threshold for records scored by these members.

    All members: the model's own. Some: the mean of theirs, so that no patient helped to choose the calibration that it is
    judged by; the threshold is one for all.

    Raises
    ------
    ValueError
        If ``indices`` is empty: no rule without a member.

    """
    if not indices:
        raise ValueError("no member is left to score with: every member has seen this patient; train without it first")
    if len(set(indices)) == len(model.members):
        return model.calibration, model.operating_point.threshold
    chosen = [model.members[index] for index in indices]
    slope, intercept = (float(np.mean([getattr(m.calibration, name) for m in chosen])) for name in ("slope", "intercept"))
    return Calibration(slope, intercept), float(np.mean([member.threshold for member in chosen]))


def prepare_waveforms(
    waveform: np.ndarray,
    is_scorable: np.ndarray,
    *,
    store_leads: Sequence[str],
    leads: Sequence[str] = DEFAULT_LEADS,
    preprocessing: Preprocessing | None = None,
    is_usable: np.ndarray | None = None,
) -> np.ndarray:
    """Turn the beats of one record into the network's input.

    Parameters
    ----------
    waveform : (beat, lead, sample) int16, stored steps
        All beats of one record, as in the beats store; ``terms.MISSING_SAMPLE`` is missing.
    is_scorable : (beat,) bool
        Beats that count for the record's mean and SD (those without a bit of ``terms.UNSCORABLE_BEAT``).
    store_leads : (lead,) text
        Names of the leads in ``waveform``.
    leads
        Names of the leads that the network wants, in its order.
    preprocessing
        Default ``Preprocessing()``.
    is_usable : (lead,) bool, in the order of ``store_leads``
        False: the lead enters as zeros. Default: all; a lead that is missing or flat in the record is found here.

    Returns
    -------
    (beat, len(leads), sample) float32
        Every beat, scorable or not, in order, within +-``clip``; missing samples and leads are zeros.

    Raises
    ------
    ValueError
        If shapes disagree or the array is not int16: another type would silently carry another unit.

    """
    if waveform.dtype != np.int16 or waveform.ndim != 3 or waveform.shape[:2] != (len(is_scorable), len(store_leads)):
        raise ValueError(
            f"waveform must be int16 (beat {len(is_scorable)}, lead {len(store_leads)}, sample), "
            f"found {waveform.dtype} {waveform.shape}"
        )
    preprocessing = preprocessing or Preprocessing()
    column = {name: index for index, name in enumerate(map(str, store_leads)) if is_usable is None or is_usable[index]}
    prepared = np.zeros((waveform.shape[0], len(leads), waveform.shape[2]), np.float32)
    present = [(place, column[lead]) for place, lead in enumerate(leads) if lead in column]
    if present and np.any(is_scorable):
        places, columns = map(list, zip(*present, strict=True))
        prepared[:, places] = _normalised(waveform[:, columns], np.asarray(is_scorable, bool), preprocessing)
    return prepared


def _normalised(steps: np.ndarray, is_scorable: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    is_known = steps != MISSING_SAMPLE
    values = np.where(is_known, steps, 0).astype(np.float32)
    if preprocessing.kind == "scaled":
        return np.asarray(np.clip(values * np.float32(preprocessing.scale), -preprocessing.clip, preprocessing.clip))
    counted = is_known[is_scorable]
    n = np.maximum(counted.sum(axis=(0, 2), dtype=np.int64), 1)
    mean = values[is_scorable].sum(axis=(0, 2), dtype=np.float64) / n  # (lead,)
    centred = np.where(is_known, values - mean[:, None].astype(np.float32), np.float32(0))
    sd = np.sqrt(np.square(centred[is_scorable], dtype=np.float64).sum(axis=(0, 2)) / n)
    factor = np.where(sd >= preprocessing.sd_floor, 1.0 / np.maximum(sd, preprocessing.sd_floor), 0.0)
    return np.asarray(np.clip(centred * factor[:, None].astype(np.float32), -preprocessing.clip, preprocessing.clip))


def member_probabilities(
    model: Model,
    indices: Sequence[int],
    waveform: np.ndarray,
    first_beat: Sequence[int] = (0,),
    *,
    precision: str = "float32",
    features: np.ndarray | None = None,
    spans: np.ndarray | None = None,
) -> np.ndarray:
    """Return each member's MI probability of each beat, before any calibration.

    Of a network alone, its own of that beat. Where the member has trees on wave figures or a regression on random kernels, the
    logit is the mean of the network's of the beat and of theirs of the record's median beat, of which the trees have two votes.

    A record's numbers do not depend on the other records passed along, on threads or on the kind of processor.

    Parameters
    ----------
    model
        The model that scores.
    indices
        Of ``model.members``, as ``members_for`` gives them.
    waveform : (beat, lead, sample) float32
        Scored beats only, from ``prepare_waveforms`` with the model's leads and preprocessing; several records may be joined.
    first_beat : (record,) int
        Where each record begins in ``waveform``; no record is empty. Default: all beats are one record's.
    precision
        Of the networks, one of ``inference.PRECISIONS``.
    features : (record, feature) float32
        Those of the records' median beats by the model's random kernels, where they are known. Default: they are computed.
    spans
        As in ``median_beat_logits``.

    Returns
    -------
    (len(indices), beat) float32

    Raises
    ------
    ValueError
        If the waveforms do not have the model's leads and samples.

    """
    expected = (len(model.leads), model.n_samples)
    if waveform.dtype != np.float32 or waveform.ndim != 3 or waveform.shape[1:] != expected:
        raise ValueError(
            f"prepared waveforms must be float32 (beat, {expected[0]} leads, {expected[1]} samples), "
            f"found {waveform.dtype} {waveform.shape}; pass the model's leads to prepare_waveforms"
        )
    result = np.empty((len(indices), len(waveform)), np.float32)
    for row, index in enumerate(indices):
        packed = pack(model.members[index].weights)
        if spans is None:
            result[row] = probabilities(beat_logits(packed, waveform, precision))
        else:
            groups = waveform.reshape(-1, 1 + len(spans), *expected)
            result[row] = np.concatenate([probabilities(changed_logits(packed, own[0], own[1:], spans)) for own in groups])
    if not len(waveform) or not indices or not (model.kernels or model.members[indices[0]].trees):
        return result
    n_beats = np.diff([*first_beat, len(waveform)])
    medians = waveform if (n_beats == 1).all() else np.stack([median_beat(own) for own in np.split(waveform, first_beat[1:])])
    if model.kernels and features is None:
        features = kernel_features(model.kernels, medians)
    figures = wave_figures(medians, r_index(model.beats, model.n_samples)) if model.members[indices[0]].trees else None
    votes = [member_votes(model.members[index], features, figures) for index in indices]
    return joined(result, np.stack(votes, axis=1), n_beats)


def member_votes(member: Member, features: np.ndarray | None, figures: np.ndarray | None, of: str = "mi") -> np.ndarray:
    """Return the logits of all of a member but its network, (vote, record) float64, at least one.

    Parameters
    ----------
    features
        Of its random kernels, (record, feature); None where it has no regression, which knows of MI alone.
    figures
        Wave figures, (record, figure); None where it has no trees.
    of
        As in ``inference.logit_of``.

    """
    votes = [regression_logit(member.regression, features)] if features is not None and of == "mi" else []
    if figures is not None:
        votes += [logit_of(class_scores(member.trees, figures), of)] * TREE_VOTES
    return np.stack(votes)


def joined(probability: np.ndarray, votes: np.ndarray, n_beats: np.ndarray) -> np.ndarray:
    """Give the network and each vote the same share of the logit.

    Parameters
    ----------
    probability : (member, beat) float32
        The networks', of several records one after another.
    votes : (vote, member, record) float64
        Logits of what else a member is made of.
    n_beats : (record,) int
        Beats of each record in ``probability``.

    Returns
    -------
    (member, beat) float32

    """
    total = beat_logit(probability) + np.repeat(votes.sum(axis=0), n_beats, axis=1)
    return np.asarray(_sigmoid(total / (1 + len(votes))), np.float32)


def abnormal_logits(model: Model, indices: Sequence[int], medians: np.ndarray) -> np.ndarray:
    """Return each member's logit of any heart disease, MI or another, against none, before calibration.

    Parameters
    ----------
    indices
        As in ``member_probabilities``.
    medians : (record, lead, sample) float32
        Median beats, prepared.

    Returns
    -------
    (len(indices), record) float64
        Of a model without a third class NaN.

    """
    if model.abnormal is None:
        return np.full((len(indices), len(medians)), np.nan)
    figures = wave_figures(medians, r_index(model.beats, model.n_samples)) if model.members[indices[0]].trees else None
    return np.stack([member_abnormal(model.members[index], medians, figures) for index in indices])


def member_abnormal(member: Member, medians: np.ndarray, figures: np.ndarray | None) -> np.ndarray:
    """Return one member's ``abnormal_logits``, (record,)."""
    logit = beat_logit(probabilities(beat_logits(pack(member.weights), medians, of="abnormal")))
    if figures is None:
        return logit
    votes = member_votes(member, None, figures, "abnormal")
    return np.asarray((logit + votes.sum(axis=0)) / (1 + len(votes)))


def _sigmoid(logit: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logit)))


def median_beat(waveform: np.ndarray) -> np.ndarray:
    """Return the median (lead, sample) float32 of a record's prepared, scored beats (beat, lead, sample)."""
    return np.asarray(np.median(waveform, axis=0), np.float32)


def median_beat_logits(
    model: Model,
    indices: Sequence[int],
    beats: np.ndarray,
    features: np.ndarray | None = None,
    spans: np.ndarray | None = None,
) -> np.ndarray:
    """Return the logit, before calibration, that each of these would have as the median beat of a record; mean over members.

    Parameters
    ----------
    model, indices, features
        As in ``member_probabilities``.
    beats : (record, lead, sample) float32
        Prepared.
    spans : (copy, 2) int
        Where ``beats`` are a beat and its copies, again and again: the samples that differ, as in ``inference.changed_logits``.

    Returns
    -------
    (record,) float64

    """
    probability = member_probabilities(model, indices, beats, range(len(beats)), features=features, spans=spans)
    return np.asarray(beat_logit(probability).mean(axis=0))


def mean_beat_logit(beat_probability: np.ndarray) -> float:
    """Return the mean over members and beats of the logit of (member, beat) MI probabilities, in float64.

    Raises
    ------
    ValueError
        If there is no probability or one is not a number: a record without a scorable beat has no probability.

    """
    probability = np.asarray(beat_probability, np.float64)
    if probability.size == 0 or np.isnan(probability).any():
        raise ValueError(f"a record's probability needs (member, beat) numbers, found shape {probability.shape}, some NaN")
    return float(np.mean(beat_logit(probability)))


def beat_logit(probability: np.ndarray) -> np.ndarray:
    """Return logits, float64, of probabilities kept within ``PROBABILITY_FLOOR`` of 0 and 1."""
    inside = np.clip(np.asarray(probability, np.float64), PROBABILITY_FLOOR, 1.0 - PROBABILITY_FLOOR)
    return np.asarray(np.log(inside) - np.log1p(-inside))


def calibrated(logit: np.ndarray | float, calibration: Calibration) -> Any:
    """Return probabilities in the shape of ``logit`` (mean beat logits), float64, by Platt's rule."""
    return _sigmoid(calibration.slope * np.asarray(logit, np.float64) + calibration.intercept)


def with_prevalence(model: Model, prevalence: float) -> Model:
    """Return the model for a population in which this share of the patients has MI, instead of that of its calibration.

    All log odds move by the difference of the two prevalences' (Saerens, Latinne and Decaestecker 2002), thresholds too: the
    decisions stay, the probabilities become those of that population, if the disease looks there as it did in training.

    Raises
    ------
    ValueError
        If ``prevalence`` is not between 0 and 1, or the model does not state its own.

    """
    own = model.training.get("prevalence")
    if not 0 < prevalence < 1 or own is None:
        raise ValueError(
            f"a prevalence between 0 and 1 and a model that states its own are needed, found {prevalence} and {own} "
            f"(model {model.digest[:MODEL_NAME_DIGITS]}); train the model again with this version if it states none"
        )
    shift = float(np.log(prevalence / (1 - prevalence)) - np.log(own / (1 - own)))

    def cut(threshold: float) -> float:
        return float(_sigmoid(np.log(threshold / (1 - threshold)) + shift))

    def moved(calibration: Calibration) -> Calibration:
        return replace(calibration, intercept=calibration.intercept + shift)

    members = [replace(m, threshold=cut(m.threshold), calibration=moved(m.calibration)) for m in model.members]
    chosen_on = f"{model.operating_point.chosen_on}; moved from a prevalence of {own:.3f} to {prevalence:.3f}"
    point = replace(model.operating_point, threshold=cut(model.operating_point.threshold), chosen_on=chosen_on)
    training = {**model.training, "prevalence": prevalence, "prevalence_of_training": own}
    return replace(model, members=tuple(members), operating_point=point, calibration=moved(model.calibration), training=training)


def record_probability(beat_probability: np.ndarray, calibration: Calibration) -> float:
    """Return the MI probability of a record: its mean beat logit over members and scored beats, calibrated.

    Parameters
    ----------
    beat_probability : (member, beat) float
        From ``member_probabilities``, scored beats only. One row gives that member's own probability.
    calibration
        From ``rule_for`` with the same members.

    Returns
    -------
    float
        In (0, 1). Training chooses thresholds on this same number.

    """
    return float(calibrated(mean_beat_logit(beat_probability), calibration))


def save_model(model: Model, folder: str | Path) -> Path:
    """Write model.safetensors, model.json and MODEL_CARD.md into a new folder, all or nothing.

    Written aside, fsynced, renamed. A folder that already holds this very model is left as it is.

    Returns
    -------
    Path
        ``folder``.

    Raises
    ------
    ModelError
        If ``folder`` holds anything else: a published model never changes.

    """
    folder, place = Path(folder), folder_at(folder)
    if place.exists("model.json") or place.children():
        _check_same(folder, model)
        return folder
    if is_address(folder):
        for name, content in sorted(_files(model).items(), reverse=True):  # model.json, without which there is no model, last
            place.put(name, content)
        seal_folder(place, "")
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    # with the process in its name, whoever follows a dead writer knows it for one's leftover
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.{os.getpid()}-", suffix=".partial", dir=folder.parent))
    try:
        for name, content in _files(model).items():
            write_synced(aside / name, content)
        seal_folder(folder_at(aside), "")
        aside.rename(folder)
        _sync_folder(folder.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def load_model(folder: str | Path) -> Model:
    """Read a model written by ``save_model``; nothing in it is ever executed.

    Raises
    ------
    ModelError
        If a file is missing, the weights are not safetensors, the version is unknown or the digest does not fit.

    """
    folder = Path(folder)
    try:
        stated = json.loads(folder_at(folder).read("model.json"))
        content = folder_at(folder).read("model.safetensors")
    except (OSError, json.JSONDecodeError) as error:
        raise ModelError(f"{folder}: expected a model (model.json and model.safetensors): {error}; see ecgbatch train") from error
    if not isinstance(stated, dict) or stated.get("schema_version") not in READABLE_VERSIONS:
        raise ModelError(f"{folder}: model.json must have schema_version 1 to {SCHEMA_VERSION}; use the ecgbatch that wrote it")
    try:
        tensors = load_tensors(content)
    except (SafetensorError, KeyError, ValueError) as error:
        raise ModelError(
            f"{folder}/model.safetensors: not a safetensors file ({error}). Other formats, pickles above all, are refused: "
            "they can run code. Fetch or train the model again."
        ) from error
    digest = stated.pop("digest", None)
    found = _digest(tensors, stated)
    if found != digest:
        raise ModelError(f"{folder}: digest is {found}, model.json says {digest}: altered or damaged. Fetch or train it again.")
    return _model(stated, tensors, folder)


def write_synced(path: Path, content: bytes) -> None:
    """Write a file so that its content is on the disk when this returns."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_same(folder: Path, model: Model) -> None:
    if load_model(folder).digest != model.digest:
        raise ModelError(f"{folder}: holds another model; published models never change. Give a new folder.")


def _files(model: Model) -> dict[str, bytes]:
    stated, tensors = _stated(model), _tensors(model)
    document = _plain(stated)
    digest = _digest(tensors, document)
    n_kernels = sum(len(values) for name, values in model.kernels.items() if name.startswith("bias"))
    card = model_card(stated, name=model.name, digest=digest, n_kernels=n_kernels)
    text = json.dumps(document | {"digest": digest}, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return {
        "model.safetensors": save_tensors(tensors),
        "model.json": text.encode() + b"\n",
        "MODEL_CARD.md": card.encode(),
    }


def _tensors(model: Model) -> dict[str, np.ndarray]:
    groups = {"kernels": model.kernels, "novelty": model.novelty}
    for member in model.members:
        groups |= {
            member.name: member.weights,
            f"{member.name}.regression": member.regression,
            f"{member.name}.trees": member.trees,
        }
    return {
        f"{group}/{name}": np.ascontiguousarray(array) for group, found in groups.items() for name, array in sorted(found.items())
    }


def _group(tensors: Mapping[str, np.ndarray], group: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(f"{group}/"): array for name, array in tensors.items() if name.startswith(f"{group}/")}


def _stated(model: Model) -> dict[str, Any]:
    """Return everything but the weights; what an earlier version could say is said as that version, so that its digest stays."""
    is_new = model.abnormal is not None or any(member.trees for member in model.members)
    version = SCHEMA_VERSION if is_new else 2 if model.kernels or model.novelty else 1
    apart = ("members", "kernels", "novelty", *(() if is_new else ("abnormal",)))
    content: dict[str, Any] = {f.name: getattr(model, f.name) for f in fields(model) if f.name not in apart}
    if is_new:
        content |= {"abnormal": model.abnormal and asdict(model.abnormal), "wave_figures": WAVES_VERSION}
    for name in ("preprocessing", "operating_point", "calibration"):
        content[name] = asdict(content[name])
    if not is_new:
        del content["operating_point"]["specificity_against_other"]
    content["members"] = [
        {"name": m.name, "fold": m.fold, "seen": list(m.seen), "threshold": m.threshold, "calibration": asdict(m.calibration)}
        for m in model.members
    ]
    return content | {"schema_version": version, "notice": NOTICE}


def _plain(stated: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is stated as JSON values, as model.json has it."""
    plain: dict[str, Any] = json.loads(json.dumps(stated, allow_nan=False))
    return plain


def _digest(tensors: Mapping[str, np.ndarray], document: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode())
    for name in sorted(tensors):
        digest.update(f"{name}={digest_array(tensors[name])};".encode())
    return digest.hexdigest()


def _model(document: Mapping[str, Any], tensors: Mapping[str, np.ndarray], folder: Path) -> Model:
    if document.get("wave_figures", WAVES_VERSION) != WAVES_VERSION:
        raise ModelError(
            f"{folder}: its trees ask for wave figures of version {document['wave_figures']}, this version has {WAVES_VERSION}; "
            "use the ecgbatch that wrote it, or train it again"
        )
    try:
        members = tuple(
            Member(
                name=m["name"],
                fold=m["fold"],
                weights=_group(tensors, m["name"]),
                regression=_group(tensors, f"{m['name']}.regression"),
                trees=_group(tensors, f"{m['name']}.trees"),
                seen=tuple(m["seen"]),
                threshold=m["threshold"],
                calibration=Calibration(**m["calibration"]),
            )
            for m in document["members"]
        )
        return Model(
            members=members,
            preprocessing=Preprocessing(**document["preprocessing"]),
            operating_point=OperatingPoint(**document["operating_point"]),
            calibration=Calibration(**document["calibration"]),
            leads=tuple(document["leads"]),
            kernels=_group(tensors, "kernels"),
            novelty=_group(tensors, "novelty"),
            abnormal=Calibration(**document["abnormal"]) if document.get("abnormal") else None,
            **{name: document[name] for name in ("patient_key", "beats", "n_samples", "figures", "training", "versions")},
        )
    except (KeyError, TypeError) as error:
        raise ModelError(f"{folder}: model.json lacks or misnames an entry ({error}); use the ecgbatch that wrote it") from error
