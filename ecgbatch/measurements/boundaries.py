"""Where P, QRS and T of median beats begin and end: fitted trees say of each moment whether the boundary lies behind it.

What they ask is in ``curves``. Fitted on the boundaries that cardiologists set on all leads of LUDB
(``benchmarks/accuracy/boundaries.py``); docs/measurements.md has the figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgbatch.measurements.curves import BOUNDARIES, qrs_figures, wave_figures
from ecgbatch.model.trees import Trees, class_scores

Array = NDArray[Any]

TREES_FILE = Path(__file__).parents[1] / "weights" / "measurements" / "boundaries.npz"

OUTWARD: Mapping[str, float] = {"qrs_onset": -2.0, "qrs_offset": 2.0}
"""Samples by which the second earliest onset and second latest offset of the fitted leads lie inside those of the cardiologists:
a fit draws each lead to the middle, and the extremes with it. Fitted with the trees."""


class Boundaries(NamedTuple):
    """Of one median beat: where each of ``BOUNDARIES`` lies, samples from R, how unsure that is (SD, samples), and (lead,) where
    QRS begins in each lead by itself.
    """

    at: Mapping[str, float]
    spread: Mapping[str, float]
    onset_of_lead: Array


def find_boundaries(beats: Array, leads: Array, rr: Array, trees: Mapping[str, Trees] | None = None) -> list[Boundaries]:
    """Find the boundaries of median beats of as many leads each.

    QRS begins at the second earliest of the leads' own onsets and ends at the second latest of their offsets, as a cardiologist
    with all leads in view sets them: one lead's odd boundary does not decide. Both are moved by ``OUTWARD``. A beat's boundaries
    depend on that beat only.

    Parameters
    ----------
    beats : (lead, beat, ``BEFORE`` + ``AFTER``) float32
        From ``selection.median_beat``; one lead or more, each in its own unit.
    leads : (lead, beat) int
        Place of each lead in ``terms.LEADS``, -1 for any other.
    rr : (beat,) float
        Median RR interval, samples.
    trees
        Default: those that ship with the package.

    """
    trees = fitted_trees() if trees is None else trees
    at: dict[str, Array] = {}
    spread: dict[str, Array] = {}
    onset_of_lead = np.empty((0, len(rr)))
    for name, figures in qrs_figures(beats, leads).items():
        own, doubt = _asked(trees[name], figures, name)
        onset_of_lead = own if name == "qrs_onset" else onset_of_lead
        second = min(1, len(own) - 1) if name == "qrs_onset" else max(0, len(own) - 2)
        chosen = own.argsort(axis=0)[second][None]
        at[name] = np.take_along_axis(own, chosen, axis=0)[0] + OUTWARD[name]
        spread[name] = np.take_along_axis(doubt, chosen, axis=0)[0]
    for name, figures in wave_figures(beats, rr, at["qrs_onset"], at["qrs_offset"]).items():
        at[name], spread[name] = _asked(trees[name], figures, name)
    of_beats = [{name: float(values[beat]) for name, values in at.items()} for beat in range(len(rr))]
    doubts = [{name: float(values[beat]) for name, values in spread.items()} for beat in range(len(rr))]
    return [Boundaries(*found) for found in zip(of_beats, doubts, onset_of_lead.T, strict=True)]


def _asked(trees: Trees, figures: Array, name: str) -> tuple[Array, Array]:
    """Return mean and SD of where a boundary lies, (...), by its trees' answers to figures (..., moment, figure)."""
    moments = BOUNDARIES[name]
    score = class_scores(trees, figures.reshape(-1, figures.shape[-1]))[:, 1].reshape(-1, moments.size)
    place, doubt = likeliest(score, moments)
    return place.reshape(figures.shape[:-2]), doubt.reshape(figures.shape[:-2])


@lru_cache(1)
def fitted_trees() -> Mapping[str, Trees]:
    """Return the trees of each boundary that ship with the package."""
    return read_trees(TREES_FILE)


def read_trees(path: Path) -> Mapping[str, Trees]:
    """Return the trees of each boundary of a file that ``benchmarks/accuracy/boundaries.py`` wrote."""
    with np.load(path, allow_pickle=False) as stored:
        parts = {key: stored[key] for key in stored.files}
    return {name: {key.split(".")[1]: part for key, part in parts.items() if key.startswith(f"{name}.")} for name in BOUNDARIES}


def likeliest(score: Array, moments: Array) -> tuple[Array, Array]:
    """Return mean and SD of each boundary's place, (row,), given for each moment the log odds that it lies before that moment.

    Parameters
    ----------
    score : (row, moment) float
        Each place between two moments is as likely as all moments' answers together make it.
    moments : (moment,) int

    """
    passed = np.clip(1 / (1 + np.exp(-score)), 1e-3, 1 - 1e-3)
    none = np.zeros((len(score), 1))
    early = np.concatenate([none, -np.log(1 - passed).cumsum(axis=1)], axis=1)
    late = np.concatenate([-np.log(passed)[:, ::-1].cumsum(axis=1)[:, ::-1], none], axis=1)
    unlikely = early + late
    weight = np.exp(unlikely.min(axis=1, keepdims=True) - unlikely)
    weight /= weight.sum(axis=1, keepdims=True)
    places = np.concatenate([moments[:1], (moments[1:] + moments[:-1]) / 2, moments[-1:]])
    mean = weight @ places
    return mean, np.sqrt((weight * (places - mean[:, None]) ** 2).sum(axis=1))
