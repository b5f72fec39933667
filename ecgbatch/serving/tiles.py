"""A recording at any zoom: level 0 is its samples, each level above the lowest and the highest of four bins below.

No beat and no spike is lost, however small a recording is drawn. Tiles are made when they are asked for, from at most
``MOST_SAMPLES`` samples of each lead and what a filter needs beside them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgbatch.serving.filters import NO_FILTER, filtered, filters_for, reach
from ecgbatch.serving.recording import Kept, Recording, read_samples
from ecgbatch.terms import MISSING_SAMPLE

Steps = NDArray[np.int16]

FORM = 1
"""Of the tiles: raise it when the bytes of a tile would change, since browsers keep them."""

TILE_SAMPLES, TILE_BINS = 4096, 1024
"""Samples of a tile of level 0, bins of one above."""

STRIDES = (1, 4, 16, 64, 256, 1024)
MOST_SAMPLES = STRIDES[-1] * TILE_BINS
"""Samples of each lead that a tile of the coarsest level is made of: 35 min at 500 Hz."""


class NoSuchTile(ValueError):
    """A level, number or filter that a recording does not have."""


class Level(NamedTuple):
    """Samples a bin, bins a tile, and tiles of one level of a recording."""

    stride: int
    n_bins: int
    n_tiles: int


def levels_of(n_samples: int) -> list[Level]:
    """Return the levels of a recording of so many samples: up to the first that is one tile, or the coarsest."""
    levels: list[Level] = []
    for stride in STRIDES if n_samples else ():
        n_bins = TILE_SAMPLES if stride == 1 else TILE_BINS
        levels.append(Level(stride, n_bins, -(-n_samples // (stride * n_bins))))
        if levels[-1].n_tiles == 1 and stride > 1:
            break
    return levels


def version_of(recording: Recording) -> str:
    """Return a name for all tiles of a recording that changes where one of them would."""
    place = recording.place
    return f"{place.signals_store}-{place.signals_row}-{FORM}"


def check_tile(recording: Recording, level: int, number: int, filter_name: str) -> Level:
    """Return the level of a tile; raise ``NoSuchTile`` if the recording has none of that level, number or filter."""
    levels, filters = levels_of(recording.n_samples), filters_for(recording.sampling_frequency_hz)
    if not 0 <= level < len(levels) or not 0 <= number < levels[level].n_tiles:
        raise NoSuchTile(f"no tile {number} of level {level}: the levels have {[one.n_tiles for one in levels]} tiles")
    if filter_name not in filters:
        raise NoSuchTile(f"no filter {filter_name[:40]!r}: there are {', '.join(filters)}")
    return levels[level]


def read_tile(recording: Recording, level: int, number: int, kept: Kept, *, filter_name: str = NO_FILTER) -> Steps:
    """Return a piece of a recording at one zoom.

    Parameters
    ----------
    level, number
        Of ``levels_of``, from 0.
    filter_name
        Of ``filters_for``; what is filtered lies around 0 adu, not around the lead's baseline.

    Returns
    -------
    (lead, sample) int16, adu
        Of level 0; ``terms.MISSING_SAMPLE`` where missing. The last tile ends with the record.
    (lead, bin, 2) int16, adu
        Of a level above: lowest and highest sample of each bin, missing where all of its samples are.

    Raises
    ------
    NoSuchTile
        If there is none of that level, number or filter.

    """
    stride, n_bins, _ = check_tile(recording, level, number, filter_name)
    first = number * stride * n_bins
    stop = min(first + stride * n_bins, recording.n_samples)
    steps = _steps(recording, first, stop, kept, filter_name)
    return steps if stride == 1 else extremes(steps, stride)


def _steps(recording: Recording, first: int, stop: int, kept: Kept, filter_name: str) -> Steps:
    if filter_name == NO_FILTER:
        return read_samples(recording, first, stop, kept)
    fs = recording.sampling_frequency_hz
    n_beside = reach(filter_name, fs)
    before, after = min(n_beside, first), min(n_beside, recording.n_samples - stop)
    return filtered(read_samples(recording, first - before, stop + after, kept), filter_name, fs, before=before, after=after)


def extremes(steps: Steps, stride: int) -> Steps:
    """Return lowest and highest of every ``stride`` samples: (lead, bin, 2) int16; the last bin may have fewer.

    A missing sample is neither; a bin of nothing else is ``terms.MISSING_SAMPLE`` twice.
    """
    n_leads, n_samples = steps.shape
    if rest := -n_samples % stride:
        steps = np.pad(steps, ((0, 0), (0, rest)), constant_values=MISSING_SAMPLE)
    bins = steps.reshape(n_leads, -1, stride)
    found = np.empty((*bins.shape[:2], 2), np.int16)
    bins.max(axis=2, out=found[..., 1])  # missing is the smallest of all numbers
    bins.min(axis=2, out=found[..., 0])
    holed = found[..., 0] == MISSING_SAMPLE
    if holed.any():
        some = bins[holed]
        found[holed, 0] = np.where(some == MISSING_SAMPLE, np.int16(32767), some).min(axis=1)
        found[found[..., 1] == MISSING_SAMPLE] = MISSING_SAMPLE
    return found
