"""Which beats are measured: those of the commonest shape, laid on one another, and their median."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgbatch.measurements.ordering import median_of_rows, median_window
from ecgbatch.terms import BEAT_FLAGS

Array = NDArray[Any]

RATE_HZ = 500.0
"""Beats are measured at this rate: 2 ms a sample, what cardiologists' boundaries in LUDB are given in."""

BEFORE, AFTER = 250, 400
"""Samples of a beat before and from R: 0.5 s hold any P wave, 0.8 s the end of T down to 50/min."""

SAME_SHAPE = 0.8
"""Correlation of two QRS complexes, all leads together, from which they are one kind. Beats of one kind on noisy records of LUDB
agree to 0.85, bundle branch block beside normal conduction in one record to 0.7 at most."""

_QRS = slice(-40, 45)  # samples around R that are compared
_SHIFT = 8  # most that R may be off: 16 ms
_DOUBTFUL = BEAT_FLAGS["noisy"] | BEAT_FLAGS["clipped"]


def beats_of_one_kind(signal: Array, r_sample: Array, beat_flags: Array) -> Array:
    """Return R of the beats of the commonest shape, (beat,) int, increasing, each moved to where it fits the others best.

    Parameters
    ----------
    signal : (lead, sample) float32
        At ``RATE_HZ``; leads in any unit each, without NaN.
    r_sample, beat_flags : (beat,) int
        R peaks and ``terms.BEAT_FLAGS``. Noisy and clipped beats are chosen only where hardly any other is there. Of kinds that
        are equally common the one with less ectopic beats is chosen.

    """
    edge = -(_QRS.start - _SHIFT)
    inside = np.flatnonzero((r_sample >= edge) & (r_sample < signal.shape[1] - _QRS.stop - _SHIFT))
    clean = inside[(beat_flags[inside] & _DOUBTFUL) == 0]
    chosen = clean if clean.size > 1 else inside
    if chosen.size < 2:
        return np.asarray(r_sample[chosen])
    views, scale = _views(signal, r_sample[chosen])
    n = chosen.size
    centred = _centred(views[:, _SHIFT])
    agreement = _agreement(centred.reshape(n, -1) * scale[:, _SHIFT, None], views, scale).max(axis=2)
    is_alike = agreement > SAME_SHAPE
    is_normal = (beat_flags[chosen] & BEAT_FLAGS["ectopic"]) == 0
    worth = is_alike.sum(axis=1) + 0.4 * (is_alike & is_normal).mean(axis=1) + 0.1 * agreement.mean(axis=1)
    leader = int(worth.argmax())
    members = np.flatnonzero(is_alike[leader])
    target, shift = centred[leader], np.zeros(members.size, int)
    for _ in range(2):
        shift = _agreement(target.reshape(1, -1), views[members], scale[members])[0].argmax(axis=1)
        alike = _centred(views[members, shift]).reshape(members.size, -1) * scale[members, shift, None]
        target = _centred(median_of_rows(alike).reshape(target.shape))
    return np.asarray(r_sample[chosen[members]] + shift - _SHIFT)


def _views(signal: Array, r_sample: Array) -> tuple[Array, Array]:
    """Return QRS complexes at each shift, (beat, shift, lead, sample) float32, each lead in its own height, and their scales.

    Times its scale (beat, shift) a complex without its leads' levels has unit length: every lead counts alike.
    """
    at = np.arange(_QRS.start - _SHIFT, _QRS.stop + _SHIFT)
    whole = signal[:, r_sample[:, None] + at].transpose(1, 0, 2)
    height = np.median(np.ptp(whole[:, :, _SHIFT:-_SHIFT], axis=2), axis=0)
    whole = (whole - whole.mean(axis=2, keepdims=True)) / np.maximum(height, 1e-9)[:, None].astype(np.float32)
    width = _QRS.stop - _QRS.start
    views = np.lib.stride_tricks.sliding_window_view(whole, width, axis=2).transpose(0, 2, 1, 3)
    sums = np.zeros((2, *whole.shape[:2], whole.shape[2] + 1))
    np.cumsum([whole, whole**2], axis=3, out=sums[..., 1:], dtype=np.float64)
    total, square = sums[..., width:] - sums[..., :-width]
    power = (square - total**2 / width).sum(axis=1)  # (beat, shift): of all leads, without their levels
    scale = 1 / np.maximum(np.sqrt(np.maximum(power, 0)), 1e-9)
    return np.ascontiguousarray(views), scale.astype(np.float32)


def _centred(views: Array) -> Array:
    return np.asarray(views - views.mean(axis=-1, keepdims=True))


def _agreement(shapes: Array, views: Array, scale: Array) -> Array:
    """Return the correlation of shapes (shape, lead and sample), without levels, with each view, (shape, beat, shift)."""
    n_beats, n_shifts = scale.shape
    return np.asarray((shapes @ views.reshape(n_beats * n_shifts, -1).T).reshape(-1, n_beats, n_shifts) * scale)


def median_beat(signal: Array, r_sample: Array) -> Array:
    """Return the median of beats, (lead, ``BEFORE`` + ``AFTER``) float32, sample by sample.

    Where a beat's window leaves the signal it does not count; what no beat reaches gets the nearest value known.
    """
    signal = np.require(signal, np.float32, ("C", "W"))
    middle = median_window(signal, np.require(r_sample, np.int64, ("C", "W")), BEFORE, AFTER)
    is_known = np.isfinite(middle).all(axis=0)
    if not is_known.all():
        known = np.flatnonzero(is_known)
        middle = middle[:, known[np.abs(known[:, None] - np.arange(is_known.size)).argmin(axis=0)]]
    return np.ascontiguousarray(middle)
