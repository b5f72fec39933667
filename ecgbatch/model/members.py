"""What the members of a model say of beats, and which of them may: those that never saw the patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ecgbatch.model.definition import Member, Model
from ecgbatch.model.inference import beat_logits, changed_logits, logit_of, probabilities
from ecgbatch.model.preparation import median_beat
from ecgbatch.model.probability import beat_logit, sigmoid
from ecgbatch.model.random_kernels import kernel_features, regression_logit
from ecgbatch.model.splits import patient_digest
from ecgbatch.model.trees import class_scores
from ecgbatch.model.waves import r_index, wave_figures

TREE_VOTES = 2
"""Of a member's trees, beside one of its network and one of its regression: what served best out of fold (docs/model.md)."""


def members_for(model: Model, patient_id: str, record: str | None = None) -> tuple[int, ...]:
    """Return the indices of the members that never saw this patient, nor this record under another name; empty if all did.

    Parameters
    ----------
    record
        ``splits.record_digest`` of the record with the model's key and leads; None: by patient only.

    """
    digests = {patient_digest(patient_id, model.patient_key), record}
    return tuple(index for index, member in enumerate(model.members) if digests.isdisjoint(member.known))


def member_probabilities(
    model: Model,
    indices: Sequence[int],
    waveform: np.ndarray,
    first_beat: Sequence[int] = (0,),
    *,
    precision: str = "float32",
    medians: Medians | None = None,
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
    medians
        ``medians_of`` these records, where it is known.
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
    _check_prepared(model, waveform)
    result = _network_probabilities(model, indices, waveform, precision, spans)
    if not len(waveform) or not indices or not (model.kernels or model.members[indices[0]].trees):
        return result
    medians = medians or medians_of(model, np.split(waveform, first_beat[1:]))
    figures = _wave_figures(model, indices, medians.beats)
    votes = [member_votes(model.members[index], medians.features, figures) for index in indices]
    return joined(result, np.stack(votes, axis=1), np.diff([*first_beat, len(waveform)]))


@dataclass(frozen=True)
class Medians:
    """What trees, regressions and explanations look at: the median beats of records.

    Parameters
    ----------
    beats : (record, lead, sample) float32
        Prepared.
    features : (record, feature) float32
        Theirs by the model's random kernels; None where it has none.

    """

    beats: np.ndarray
    features: np.ndarray | None


def medians_of(model: Model, beats: Sequence[np.ndarray]) -> Medians:
    """Return the medians of the prepared, scored beats (beat, lead, sample) of each of at least one record."""
    medians = np.concatenate(beats) if all(len(own) == 1 for own in beats) else np.stack([median_beat(own) for own in beats])
    return Medians(medians, kernel_features(model.kernels, medians) if model.kernels else None)


def _check_prepared(model: Model, waveform: np.ndarray) -> None:
    expected = (len(model.leads), model.n_samples)
    if waveform.dtype != np.float32 or waveform.ndim != 3 or waveform.shape[1:] != expected:
        raise ValueError(
            f"prepared waveforms must be float32 (beat, {expected[0]} leads, {expected[1]} samples), "
            f"found {waveform.dtype} {waveform.shape}; pass the model's leads to prepare_waveforms"
        )


def _network_probabilities(
    model: Model, indices: Sequence[int], waveform: np.ndarray, precision: str, spans: np.ndarray | None
) -> np.ndarray:
    """Return what the members' networks alone say, (len(indices), beat) float32."""
    result = np.empty((len(indices), len(waveform)), np.float32)
    for row, index in enumerate(indices):
        packed = model.members[index].packed
        if spans is None:
            result[row] = probabilities(beat_logits(packed, waveform, precision))
        else:
            groups = waveform.reshape(-1, 1 + len(spans), *waveform.shape[1:])
            result[row] = np.concatenate([probabilities(changed_logits(packed, own[0], own[1:], spans)) for own in groups])
    return result


def _wave_figures(model: Model, indices: Sequence[int], medians: np.ndarray) -> np.ndarray | None:
    """Return the wave figures (record, figure) of median beats, None where the members have no trees to ask for them."""
    return wave_figures(medians, r_index(model.beats, model.n_samples)) if model.members[indices[0]].trees else None


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
    return np.asarray(sigmoid(total / (1 + len(votes))), np.float32)


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
    figures = _wave_figures(model, indices, medians)
    return np.stack([member_abnormal(model.members[index], medians, figures) for index in indices])


def member_abnormal(member: Member, medians: np.ndarray, figures: np.ndarray | None) -> np.ndarray:
    """Return one member's ``abnormal_logits``, (record,)."""
    logit = beat_logit(probabilities(beat_logits(member.packed, medians, of="abnormal")))
    if figures is None:
        return logit
    votes = member_votes(member, None, figures, "abnormal")
    return np.asarray((logit + votes.sum(axis=0)) / (1 + len(votes)))


def median_beat_logits(model: Model, indices: Sequence[int], medians: Medians, spans: np.ndarray | None = None) -> np.ndarray:
    """Return the logit, before calibration, that each of these would have as the median beat of a record; mean over members.

    Parameters
    ----------
    model, indices, medians
        As in ``member_probabilities``.
    spans : (copy, 2) int
        Where they are a beat and its copies, again and again: the samples that differ, as in ``inference.changed_logits``.

    Returns
    -------
    (record,) float64

    """
    beats = medians.beats
    probability = member_probabilities(model, indices, beats, range(len(beats)), medians=medians, spans=spans)
    return np.asarray(beat_logit(probability).mean(axis=0))
