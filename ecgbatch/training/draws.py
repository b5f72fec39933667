"""What a member sees in training: balanced draws of beats, altered copies of them, and blends of two."""

from __future__ import annotations

import numpy as np

from ecgbatch.training.data import Prepared
from ecgbatch.training.settings import TrainSettings

MOST_ROWS = 30_000
"""Of a regression and of the novelty reference: drawn at random from a larger archive, so that memory stays below a gigabyte."""


def some_of(records: np.ndarray, at_most: int, random: np.random.Generator) -> np.ndarray:
    """Return all records, or ``at_most`` of them drawn without replacement, in order."""
    return records if len(records) <= at_most else np.sort(random.choice(records, at_most, replace=False))


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


class Batches:
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
