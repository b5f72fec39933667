"""Records that are worked on together: of one rate and one length, and no more of them than stay near the processor.

Most archives are of short records of one length. What is computed for one of them takes less time than to ask for it; a block is
asked for once. A record's numbers do not depend on the others of its block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

BLOCK_SAMPLES = 1 << 20
"""Samples of all leads that a block holds, 2 MB; detection makes as much again of them. A longer record is a block alone."""

BLOCK_BEATS = 1024
"""Beats of a block whose windows are cut."""


@dataclass(frozen=True)
class Records:
    """Signals of a block.

    Parameters
    ----------
    signal : (record, lead, sample) int16, ADC units
        C-contiguous; missing samples are -32768.
    n_samples
        How many of them are the records'; what follows pads.
    sampling_frequency_hz
        Of all.
    use : (record, lead) bool
        Leads that take part.
    adc_gain, baseline : (record, lead) float64
        ADC units per mV; ADC value of 0 mV.

    """

    signal: Array
    n_samples: int
    sampling_frequency_hz: float
    use: Array
    adc_gain: Array
    baseline: Array

    @property
    def step_mv(self) -> Array:
        """Millivolts of an ADC unit, (record, lead) float64; 0 of leads that take no part."""
        return np.where(self.use, 1.0 / np.where(self.use, self.adc_gain, 1.0), 0.0)

    @property
    def step_uv(self) -> Array:
        """Microvolts of an ADC unit, likewise."""
        return np.where(self.use, 1000.0 / np.where(self.use, self.adc_gain, 1.0), 0.0)

    def of(self, chosen: Array) -> Records:
        """Return some of the records, by number, in order; themselves where all are."""
        if len(chosen) == len(self.use):
            return self
        return replace(
            self, signal=self.signal[chosen], use=self.use[chosen], adc_gain=self.adc_gain[chosen], baseline=self.baseline[chosen]
        )


@dataclass(frozen=True)
class Peaks:
    """R peaks of a block's records one after another: ``r_sample`` (beat,) int64 and ``beat_flags`` (beat,) uint16.

    ``first_beat`` (record + 1,) int64: where each record's begin.
    """

    r_sample: Array
    beat_flags: Array
    first_beat: Array


def cut_blocks(
    rows: Sequence[int], kinds: Sequence[Any], n_samples: Sequence[int], n_beats: Sequence[int] | None = None
) -> Iterator[list[int]]:
    """Cut some records into blocks of neighbours of one kind: yield the rows of each.

    Parameters
    ----------
    rows
        Which of the records.
    kinds
        Of every record, what those of a block must share.
    n_samples
        Of all leads of every record: a block holds ``BLOCK_SAMPLES`` at most, or one record.
    n_beats
        Of every record, where their windows are to be cut: ``BLOCK_BEATS`` at most.

    """
    block: list[int] = []
    samples_left = beats_left = 0
    for row in rows:
        beats = 0 if n_beats is None else n_beats[row]
        if block and (kinds[row] != kinds[block[0]] or n_samples[row] > samples_left or beats > beats_left):
            yield block
            block = []
        if not block:
            samples_left, beats_left = BLOCK_SAMPLES, BLOCK_BEATS
        block.append(row)
        samples_left, beats_left = samples_left - n_samples[row], beats_left - beats
    if block:
        yield block
