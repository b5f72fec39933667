"""What chance alone could have given: patients drawn anew within their label, and Wilson's interval of a proportion."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ecgbatch.figures.patients import Float

N_RESAMPLES = 1000
"""Bootstrap resamples: enough for 95 % percentile limits (Efron and Tibshirani 1993, section 14.3)."""

CONFIDENCE = 0.95

BOOTSTRAP_SEED = 1805_00794
"""Any fixed number: the same scores give the same interval, everywhere."""


def wilson_interval(n_events: int, n: int) -> tuple[float, float]:
    """Return Wilson's 95 % score interval (1927) of the proportion ``n_events / n``, without continuity correction.

    Raises
    ------
    ValueError
        If ``n`` is not positive or ``n_events`` is not in 0..n.

    """
    if n <= 0 or not 0 <= n_events <= n:
        raise ValueError(f"wilson_interval: expected 0 <= n_events <= n and n > 0, found {n_events} of {n}")
    z = 1.959963984540054  # normal quantile of 0.975
    share = n_events / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low = 0.0 if n_events == 0 else max(0.0, float(centre - half))
    high = 1.0 if n_events == n else min(1.0, float(centre + half))
    return low, high


def stratified_weights(mi: npt.NDArray[np.bool_], n_resamples: int, random: np.random.Generator) -> Float:
    """Return (resample, patient) float64: how often each patient was drawn, with replacement within its label."""
    weight = np.zeros((n_resamples, mi.size))
    for member in (~mi, mi):
        where = np.flatnonzero(member)
        if where.size:
            drawn = random.integers(0, where.size, (n_resamples, where.size))
            cell = (drawn + np.arange(n_resamples)[:, None] * where.size).ravel()
            weight[:, where] = np.bincount(cell, minlength=n_resamples * where.size).reshape(n_resamples, where.size)
    return weight
