"""Calibration: from a logit to a probability that means what it says; which rule, by evidence from patients held out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

type_floats = npt.NDArray[np.float64]

LOGIT_MARGIN = 1e-6
"""Probabilities are kept this far from 0 and 1 before a logit is taken; float32 rounds certainty to exactly 1."""

_NEWTON_STEPS = 60
_LONGEST_STEP = 4.0
_CACHED_CELLS = 65_536


def fit_platt(
    logits: npt.ArrayLike, mi: npt.ArrayLike, *, weight: npt.ArrayLike | None = None, smooth: bool = True
) -> tuple[float, float]:
    """Fit Platt's scaling: P(MI) = 1 / (1 + exp(-(slope * logit + intercept))).

    Targets are Platt's (1999): (n_mi + 1) / (n_mi + 2) for MI and 1 / (n_control + 2) for controls, which keep the fit
    finite where the classes are separated. The slope is never negative: a calibration that turns the ranking round would
    hide a useless model, so a fit that would be negative gives slope 0 and the prevalence.

    Parameters
    ----------
    logits : (row,) float, finite
        One a record, or one a patient.
    mi : (row,) int
        1 MI, 0 healthy control.
    weight : (row,) float, optional
        1 / (records of the row's patient) makes patients count once; by default every row counts once.
    smooth
        False: the targets are 1 and 0, Cox's logistic recalibration by maximum likelihood (1958), unbiased where patients are
        few; Platt's all the same where a cut separates the classes, since then nothing else is finite.

    Returns
    -------
    slope, intercept : float

    Raises
    ------
    ValueError
        If a logit is not finite, lengths differ, or one class is missing.

    """
    x, y = np.asarray(logits, dtype=np.float64), np.asarray(mi, dtype=np.int64)
    w = np.ones(x.shape) if weight is None else np.asarray(weight, dtype=np.float64)
    if x.ndim != 1 or not x.shape == y.shape == w.shape or not np.isfinite(x).all() or not np.isin(y, (0, 1)).all():
        raise ValueError(
            f"fit_platt: expected finite logits and labels 0 or 1 of one length, found shapes {x.shape}, {y.shape}, {w.shape}. "
            "Leave out records without a score or label."
        )
    n_mi, n_control = float(w[y == 1].sum()), float(w[y == 0].sum())
    if n_mi == 0 or n_control == 0:
        raise ValueError("fit_platt: expected both MI and controls, found one class. Calibrate on more validation patients.")
    target = np.where(y == 1, (n_mi + 1) / (n_mi + 2), 1 / (n_control + 2))
    if not smooth and x[y == 1].min() < x[y == 0].max():
        target = y.astype(np.float64)
    centre, spread = float(np.average(x, weights=w)), float(x.std())
    level = float(_logit(np.average(target, weights=w, keepdims=True))[0])
    if spread == 0:
        return 0.0, level
    a, b = _newton(w[None], target, (x - centre) / spread, with_slope=True, start=(level, 0.0))
    slope = float(b[0]) / spread
    return (slope, float(a[0]) - slope * centre) if slope > 0 else (0.0, level)


def recalibration(p: type_floats, mi: npt.NDArray[np.bool_], weight: type_floats) -> tuple[type_floats, type_floats]:
    """Return slope and intercept of the logistic recalibration under each row of weights."""
    logit = _logit(p)
    everyone = np.ones((1, mi.size))
    alone = float(_newton(everyone, mi, logit, with_slope=False)[0][0])
    intercept = _newton(weight, mi, logit, with_slope=False, start=(alone, 1.0))[0]
    centre, spread = float(logit.mean()), float(logit.std())
    if spread == 0:
        return np.full(len(weight), np.nan), intercept
    start = _newton(everyone, mi, (logit - centre) / spread, with_slope=True)
    sign = _separation(weight, mi, logit)
    slope = np.select([sign > 0, sign < 0], [np.inf, -np.inf], sign)
    free = sign == 0
    if free.any():
        first = (float(start[0][0]), float(start[1][0])) if np.isfinite(start[1][0]) else (0.0, 0.0)
        slope[free] = _newton(weight[free], mi, (logit - centre) / spread, with_slope=True, start=first)[1] / spread
    return slope, intercept


def _logit(p: type_floats) -> type_floats:
    inside = np.clip(p, LOGIT_MARGIN, 1 - LOGIT_MARGIN)
    return np.log(inside) - np.log1p(-inside)


def _separation(weight: type_floats, mi: npt.NDArray[np.bool_], z: type_floats) -> type_floats:
    """Return for each row 1 where no drawn MI patient lies below a drawn control, -1 the other way round, NaN if both, else 0."""
    drawn = weight > 0
    mi_low = np.where(drawn[:, mi], z[mi], np.inf).min(1)
    mi_high = np.where(drawn[:, mi], z[mi], -np.inf).max(1)
    control_low = np.where(drawn[:, ~mi], z[~mi], np.inf).min(1)
    control_high = np.where(drawn[:, ~mi], z[~mi], -np.inf).max(1)
    up, down = mi_low >= control_high, mi_high <= control_low
    return np.where(up & down, np.nan, up.astype(float) - down.astype(float))


def _newton(
    weight: type_floats,
    mi: npt.NDArray[np.bool_],
    z: type_floats,
    *,
    with_slope: bool,
    start: tuple[float, float] = (0.0, 1.0),
) -> tuple[type_floats, type_floats]:
    """Fit logit P(mi) = a + b z by weighted maximum likelihood, all rows of ``weight`` at once; without slope, b stays 1.

    Newton's method with the step's length bounded: the likelihood is concave, and callers have ruled separation out. A few rows
    at a time, so that what one step makes of them stays in the processor's cache.
    """
    a, b = np.full(len(weight), start[0]), np.full(len(weight), start[1] if with_slope else 1.0)
    n_rows = max(1, _CACHED_CELLS // max(1, z.size))
    for first in range(0, len(weight), n_rows):
        rows = slice(first, first + n_rows)
        _newton_rows(weight[rows], mi, z, a[rows], b[rows], with_slope=with_slope)
    return a, b


def _newton_rows(
    weight: type_floats, mi: npt.NDArray[np.bool_], z: type_floats, a: type_floats, b: type_floats, *, with_slope: bool
) -> None:
    """Improve ``a`` and ``b`` of each row, in place, until they stand."""
    active, squared = np.arange(len(weight)), z * z
    for _ in range(_NEWTON_STEPS):
        w = weight if active.size == len(weight) else weight[active]
        q = 1 / (1 + np.exp(-np.clip(a[active, None] + b[active, None] * z, -700, 700)))
        residual, curvature = w * (mi - q), w * (q * (1 - q))
        g0, h00 = residual.sum(1), curvature.sum(1)
        if with_slope:
            g1, h01, h11 = residual @ z, curvature @ z, curvature @ squared
            det = np.maximum(h00 * h11 - h01 * h01, 1e-300)
            step_a, step_b = (h11 * g0 - h01 * g1) / det, (h00 * g1 - h01 * g0) / det
        else:
            step_a, step_b = g0 / np.maximum(h00, 1e-300), np.zeros_like(g0)
        length = np.hypot(step_a, step_b)
        scale = np.minimum(1.0, _LONGEST_STEP / np.maximum(length, 1e-300))
        a[active] += scale * step_a
        b[active] += scale * step_b
        active = active[length > 1e-9 * (1 + np.abs(a[active]) + np.abs(b[active]))]
        if active.size == 0:
            break


RULES = ("none", "temperature", "platt", "isotonic")
"""Sigmoid of the logit as it is; of slope x logit; of slope x logit + intercept (Platt); any rising step function (isotonic)."""


def compare_calibrations(
    logit: npt.ArrayLike, mi: npt.ArrayLike, patient_id: Sequence[str], fold: npt.ArrayLike
) -> dict[str, dict[str, float]]:
    """Return each rule's log loss and Brier score by patient, fitted on the other folds: which rule this much data supports.

    Parameters
    ----------
    logit : (record,) float
        NaN: not used.
    mi, patient_id, fold : (record,)
        Fold by patient.

    Returns
    -------
    dict
        Rule of ``RULES`` to ``log_loss`` and ``brier``; lower is better. Empty where a fold's complement lacks a class.

    """
    x, y, where = np.asarray(logit, np.float64), np.asarray(mi, np.int64), np.asarray(fold, np.int64)
    known = np.isfinite(x)
    x, y, where = x[known], y[known], where[known]
    index, n_records = np.unique(np.asarray(patient_id)[known], return_inverse=True, return_counts=True)[1:]
    weight = 1.0 / n_records[index]
    found = {rule: np.full(x.size, np.nan) for rule in RULES}
    for out in np.unique(where):
        train, test = where != out, where == out
        if np.unique(y[train]).size < 2:
            return {}
        slope, intercept = fit_platt(x[train], y[train], weight=weight[train])
        both = np.concatenate([x[train], -x[train]]), np.concatenate([y[train], 1 - y[train]])  # symmetric: no intercept
        temperature = fit_platt(*both, weight=np.tile(weight[train], 2))[0]
        found["none"][test] = _sigmoid(x[test])
        found["temperature"][test] = _sigmoid(temperature * x[test])
        found["platt"][test] = _sigmoid(slope * x[test] + intercept)
        found["isotonic"][test] = _isotonic(x[train], y[train], weight[train], x[test])
    return {rule: _losses(probability, y, weight) for rule, probability in found.items()}


def _sigmoid(logit: type_floats) -> type_floats:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logit)))


def _isotonic(x: type_floats, y: npt.NDArray[np.int64], weight: type_floats, at: type_floats) -> type_floats:
    from sklearn.isotonic import IsotonicRegression

    n = float(weight.sum())
    rule = IsotonicRegression(y_min=1 / (n + 2), y_max=(n + 1) / (n + 2), out_of_bounds="clip").fit(x, y, sample_weight=weight)
    return np.asarray(rule.predict(at))


def _losses(probability: type_floats, y: npt.NDArray[np.int64], weight: type_floats) -> dict[str, float]:
    logit = _logit(probability)
    loss = np.logaddexp(0.0, np.where(y == 1, -logit, logit))
    return {
        "log_loss": float(np.average(loss, weights=weight)),
        "brier": float(np.average((probability - y) ** 2, weights=weight)),
    }
