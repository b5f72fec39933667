"""Whether a record is unlike anything a model was trained on: how far its median beat lies from those of training."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

N_COMPONENTS = 8
"""Principal components a lead: they hold nine tenths of what the leads of healthy and infarcted hearts differ by."""

UNLIKE_QUANTILE = 0.99
"""Share of training records, measured on patients left out of the reference, that may lie nearer than 1."""

Reference = Mapping[str, NDArray[np.float32]]
"""``mean`` (lead, sample), ``component`` (lead, component, sample), ``variance`` (lead, component), ``rest`` (lead,): mean square
beside the components; ``scale`` (1,)."""


def fit_reference(beats: NDArray[np.float32], fold: NDArray[np.int64]) -> dict[str, NDArray[np.float32]]:
    """Describe the median beats of training.

    Parameters
    ----------
    beats : (record, lead, sample) float32, prepared
    fold : (record,) int
        By patient: the scale is measured on folds left out.

    """
    distance = np.full(len(beats), np.nan)
    for out in np.unique(fold):
        partial = _describe(beats[fold != out])
        for record in np.flatnonzero(fold == out):
            distance[record] = _distance(partial, beats[record])
    known = distance[np.isfinite(distance)]
    scale = float(np.quantile(known, UNLIKE_QUANTILE)) if known.size else 1.0
    return {**_describe(beats), "scale": np.array([scale], np.float32)}


def novelty(reference: Reference, beat: NDArray[np.float32]) -> float:
    """Return how far a median beat (lead, sample) lies from training: above 1 is further than 99 % of the training records.

    NaN without a reference or without a lead. A lead of zeros is missing and does not count.
    """
    if not reference:
        return float("nan")
    return _distance(reference, beat) / float(reference["scale"][0])


def _describe(beats: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Principal components and what they leave over, lead by lead, of the records that have the lead."""
    n_leads, n_samples = beats.shape[1:]
    n = min(N_COMPONENTS, n_samples - 1)
    found = {
        "mean": np.zeros((n_leads, n_samples)),
        "component": np.zeros((n_leads, n, n_samples)),
        "variance": np.ones((n_leads, n)),
        "rest": np.ones(n_leads),
    }
    for lead in range(n_leads):
        own = beats[beats[:, lead].any(axis=1), lead].astype(np.float64)
        if len(own) <= n + 1:
            continue
        mean = own.mean(axis=0)
        _, size, component = np.linalg.svd(own - mean, full_matrices=False)
        variance = size**2 / (len(own) - 1)
        found["mean"][lead], found["component"][lead], found["variance"][lead] = mean, component[:n], variance[:n]
        found["rest"][lead] = variance[n:].sum() / (n_samples - n)
    return {name: values.astype(np.float32) for name, values in found.items()}


def _distance(reference: Reference, beat: NDArray[np.float32]) -> float:
    """Return the root mean square distance over leads, in SD of training, within the components and beside them."""
    present = beat.any(axis=1)
    if not present.any():
        return float("nan")
    centred = (beat - reference["mean"])[present].astype(np.float64)
    component = reference["component"][present].astype(np.float64)
    score = (component * centred[:, None]).sum(axis=2)  # (lead, component)
    beside = centred - (score[:, :, None] * component).sum(axis=1)
    n = beat.shape[1] - component.shape[1]
    within = (score**2 / np.maximum(reference["variance"][present], 1e-6)).mean(axis=1)
    outside = (beside**2).sum(axis=1) / n / np.maximum(reference["rest"][present], 1e-6)
    return float(np.sqrt(np.mean(within + outside) / 2))
