"""Rhythm: intervals between R peaks, and what they say of a record."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgbatch.terms import BEAT_FLAGS, UNSCORABLE_BEAT

Array = NDArray[Any]

SLOWEST_BPM, FASTEST_BPM = 30.0, 220.0
"""Rates outside are not believed: every beat of such a record is flagged noisy."""

FEWEST_INTERVALS = 5
"""Normal intervals that a spread is worth stating for."""


class Rhythm(NamedTuple):
    """Rhythm figures of one record.

    Fields
    ------
    heart_rate_bpm
        60 s over the median interval between neighbouring beats that are not noisy; NaN where there is no such interval.
    rr_spread_s
        Standard deviation of normal intervals (SDNN of the record; Task Force, Circulation 1996;93:1043), s. NaN under
        ``FEWEST_INTERVALS`` of them. Not comparable between records of different lengths.
    n_normal_intervals
        Intervals between two neighbouring beats neither of which is noisy, ectopic or aberrant.
    usable_share
        Share of the beats that can be scored (no bit of ``terms.UNSCORABLE_BEAT``); NaN without beats.
    n_beats, n_ectopic, n_aberrant
        Counts.

    """

    heart_rate_bpm: float
    rr_spread_s: float
    n_normal_intervals: int
    usable_share: float
    n_beats: int
    n_ectopic: int
    n_aberrant: int


def rhythm(r_sample: Array, beat_flags: Array, sampling_frequency_hz: float) -> Rhythm:
    """Return the rhythm figures of one record.

    Parameters
    ----------
    r_sample : (beat,) int, increasing
        R peaks of all beats, at the record's own rate.
    beat_flags : (beat,) uint16
        ``terms.BEAT_FLAGS``; those of a beats store, since peaks do not know shapes (``aberrant``) yet.
    sampling_frequency_hz
        Rate of the record.

    """
    interval_s = np.diff(r_sample) / sampling_frequency_hz
    believed = _between(beat_flags, BEAT_FLAGS["noisy"])
    normal = _between(beat_flags, BEAT_FLAGS["noisy"] | BEAT_FLAGS["ectopic"] | BEAT_FLAGS["aberrant"])
    n_normal = int(np.count_nonzero(normal))
    return Rhythm(
        heart_rate_bpm=60.0 / float(np.median(interval_s[believed])) if believed.any() else float("nan"),
        rr_spread_s=float(np.std(interval_s[normal], ddof=1)) if n_normal >= FEWEST_INTERVALS else float("nan"),
        n_normal_intervals=n_normal,
        usable_share=float(np.mean((beat_flags & UNSCORABLE_BEAT) == 0)) if len(beat_flags) else float("nan"),
        n_beats=len(r_sample),
        n_ectopic=int(np.count_nonzero(beat_flags & BEAT_FLAGS["ectopic"])),
        n_aberrant=int(np.count_nonzero(beat_flags & BEAT_FLAGS["aberrant"])),
    )


def _between(beat_flags: Array, unwanted: int) -> Array:
    """Return (interval,) bool: neither of an interval's two beats has an unwanted bit."""
    is_good: Array = (np.asarray(beat_flags) & unwanted) == 0
    both: Array = is_good[1:] & is_good[:-1]
    return both


def is_plausible(r_sample: Array, sampling_frequency_hz: float, n_samples: int) -> bool:
    """Whether beats make a heart rate of 30-220/min, both by their number and by their median interval; none does."""
    if len(r_sample) < 2:
        return False
    by_number = 60.0 * len(r_sample) * sampling_frequency_hz / n_samples
    by_interval = 60.0 * sampling_frequency_hz / float(np.median(np.diff(r_sample)))
    # One beat more or less at the ends of a short record is no sign of failure.
    slack = 60.0 * sampling_frequency_hz / n_samples
    return SLOWEST_BPM - slack <= by_number <= FASTEST_BPM + slack and SLOWEST_BPM <= by_interval <= FASTEST_BPM


def rr_previous_s(r_sample: Array, sampling_frequency_hz: float) -> Array:
    """Return the time since the previous R peak, (beat) float32, s; NaN for the first."""
    interval = np.full(len(r_sample), np.nan, np.float32)
    interval[1:] = np.diff(r_sample) / sampling_frequency_hz
    return interval
