"""The ten seconds of a record that are put on paper: which they are, their samples in mV, and what is measured on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgbatch.measurements.record import Excerpt, Measured, measure_record
from ecgbatch.terms import MISSING_SAMPLE, UNSCORABLE_BEAT

Array = NDArray[Any]

EXCERPT_S = 10.0
"""Length of an excerpt: four columns of 2.5 s on paper, and a rhythm strip below them."""


class Span(NamedTuple):
    """Start and length of an excerpt, s from the record's start."""

    start_s: float
    length_s: float

    def samples(self, sampling_frequency_hz: float, n_samples: int) -> slice:
        """Return the excerpt's sample numbers in a record of so many."""
        first = round(self.start_s * sampling_frequency_hz)
        return slice(first, min(first + round(self.length_s * sampling_frequency_hz), n_samples))


def choose_excerpt(r_sample: Array, beat_flags: Array, *, sampling_frequency_hz: float, n_samples: int) -> Span | None:
    """Return the ten seconds with most usable beats, the earliest of equals; None of a record without samples.

    Parameters
    ----------
    r_sample, beat_flags : (beat,) int
        All beats of the record, in order; there may be none. A beat with a bit of ``terms.UNSCORABLE_BEAT`` outweighs two others.

    """
    starts, usable, length_s = _usable_beats(r_sample, beat_flags, sampling_frequency_hz, n_samples)
    return Span(float(starts[int(usable.argmax())]), length_s) if length_s else None


def has_equals(r_sample: Array, beat_flags: Array, *, sampling_frequency_hz: float, n_samples: int) -> bool:
    """Return whether other ten seconds, from another whole second on, have as many usable beats as those chosen."""
    usable = _usable_beats(r_sample, beat_flags, sampling_frequency_hz, n_samples)[1]
    return int(np.count_nonzero(usable == usable.max())) > 1


def _usable_beats(r_sample: Array, beat_flags: Array, fs: float, n_samples: int) -> tuple[Array, Array, float]:
    """Return each start (s) that an excerpt may have, how many usable beats it then holds, and its length; 0 without samples."""
    duration_s = n_samples / fs if fs else 0.0
    if not duration_s:
        return np.zeros(1), np.zeros(1, int), 0.0
    length_s = min(EXCERPT_S, duration_s)
    starts = np.arange(int(duration_s - length_s) + 1, dtype=float)
    total = np.concatenate([[0], np.where(beat_flags & UNSCORABLE_BEAT, -2, 1).cumsum()])
    time_s = np.round(r_sample / fs, 4)
    return starts, total[np.searchsorted(time_s, starts + length_s)] - total[np.searchsorted(time_s, starts)], length_s


def in_millivolts(steps: Array, adc_gain: Array, baseline: Array) -> NDArray[np.float32]:
    """Return stored samples as (lead, sample) float32 mV; NaN where missing, and where a lead has no gain.

    Parameters
    ----------
    steps : (lead, sample) int16, adu
        Of a signals store.
    adc_gain, baseline : (lead,)
        The record's, of the same store.

    """
    gain = np.where(adc_gain > 0, adc_gain, np.nan)[:, None].astype(np.float32)
    millivolts = np.asarray((steps - baseline[:, None].astype(np.float32)) / gain, np.float32)
    if (missing := steps == MISSING_SAMPLE).any():
        millivolts[missing] = np.nan
    return millivolts


def excerpt_of(
    excerpt_mv: NDArray[np.float32], source: Mapping[str, Any], first_sample: int, r_sample: Array, beat_flags: Array
) -> Excerpt:
    """Return what is measured of a record.

    Parameters
    ----------
    excerpt_mv : (lead, sample) float32, mV
        From ``in_millivolts``.
    source
        The record's row of its signals store: ``lead``, ``lead_flags``, ``sampling_frequency_hz``, ``age_years``, ``sex``.
    first_sample
        Where the excerpt begins in the record.
    r_sample, beat_flags : (beat,) int
        All beats of the record.

    """
    here = r_sample - first_sample
    inside = (here >= 0) & (here < excerpt_mv.shape[1])
    age_years = source["age_years"]
    return Excerpt(
        excerpt_mv,
        source["lead"],
        source["lead_flags"],
        float(source["sampling_frequency_hz"]),
        here[inside],
        beat_flags[inside],
        whole=(r_sample, beat_flags),
        age_years=float("nan") if age_years is None else float(age_years),
        sex=int(source["sex"]),
    )


def measure_excerpt(
    excerpt_mv: NDArray[np.float32], source: Mapping[str, Any], first_sample: int, r_sample: Array, beat_flags: Array
) -> Measured:
    """Measure a record on its excerpt; parameters as of ``excerpt_of``."""
    return measure_record(excerpt_of(excerpt_mv, source, first_sample, r_sample, beat_flags))
