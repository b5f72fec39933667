"""Whether there is a P wave before each QRS, and whether the rhythm is irregular."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgbatch.measurements.ordering import median_of_rows
from ecgbatch.measurements.selection import BEFORE
from ecgbatch.terms import BEAT_FLAGS

Array = NDArray[Any]

P_REPEATS = 0.55
"""Agreement of the beats before QRS (``p_agreement``) from which a P wave is believed. Of 88 records of LUDB with P annotated the
least has 0.70; of 111 with atrial fibrillation (CPSC, PTB-XL) 95 % have less. docs/measurements.md."""

CHANGED = 0.0325
"""Relative change from one interval to the next that counts: pRR3.25% (Bus and others 2023, J Clin Med 12:687)."""

IRREGULAR = 0.5
"""Share of changed intervals from which a rhythm is called irregular."""

VARIED = 0.1
"""SD of the intervals between normal beats, as a share of RR, from which a rhythm with P waves is called irregular too: breathing
alone varies a young heart's by less (2 % of 850 healthy records of PTB-XL are called so; 25 % are over ``IRREGULAR``)."""

FEWEST_CHANGES = 4

_REACH = 100  # samples before QRS that hold P: 200 ms


def p_agreement(signal: Array, r_sample: Array, onset: float) -> float:
    """Return how much the 200 ms before QRS are the same in all beats: energy of their median over that of a beat.

    1: the same in each; about 1 over the number of beats where nothing repeats. The median over leads; slopes do not count.

    Parameters
    ----------
    signal : (lead, sample) float32
    r_sample : (beat,) int
        From ``selection.beats_of_one_kind``.
    onset
        QRS onset, samples from R.

    """
    last = int(onset) - 2
    at = np.arange(max(last - _REACH, -BEFORE), last)
    whole = r_sample[r_sample + at[0] >= 0]
    if whole.size < 2:
        return float("nan")
    windows = signal[:, whole[:, None] + at]
    windows = windows - windows.mean(axis=2, keepdims=True)
    ramp = np.linspace(-1, 1, at.size, dtype=np.float32)
    windows = windows - (windows @ ramp)[..., None] * (ramp / (ramp @ ramp))
    alike = (median_of_rows(windows.transpose(1, 0, 2)) ** 2).mean(axis=1)
    each = np.median((windows**2).mean(axis=2), axis=1)
    return float(np.median(alike / np.maximum(each, 1e-12)))


def changed_share(r_sample: Array, beat_flags: Array) -> float:
    """Return the share of neighbouring RR intervals that differ by more than ``CHANGED``; NaN with under ``FEWEST_CHANGES``.

    Intervals beside a noisy beat do not count; ectopic beats do.
    """
    interval = np.diff(r_sample).astype(float)
    is_noisy = (np.asarray(beat_flags) & BEAT_FLAGS["noisy"]) != 0
    interval[is_noisy[1:] | is_noisy[:-1]] = np.nan
    change = np.abs(np.diff(interval)) / interval[:-1]
    change = change[np.isfinite(change)]
    return float((change > CHANGED).mean()) if change.size >= FEWEST_CHANGES else float("nan")
