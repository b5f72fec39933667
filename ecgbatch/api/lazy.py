"""Arrays that are read when their values are asked for: a record's samples, and variables of beats over several stores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from ecgbatch.measurements.excerpt import in_millivolts
from ecgbatch.terms import MISSING_SAMPLE
from storage import open_once
from storage.reading import numbers_of

Array = NDArray[Any]


def lazily(dims: tuple[str, ...], array: BackendArray, attrs: dict[str, Any]) -> xr.Variable:
    """Return a variable whose values are read when they are asked for."""
    return xr.Variable(dims, indexing.LazilyIndexedArray(array), attrs)


class _Numbered(BackendArray):
    """An array that is read at whole numbers of each dimension; a child says how (``_at``)."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> Array:
        numbers = [numbers_of(part, length) for part, length in zip(key, self.shape, strict=True)]
        shape = tuple(len(one) for part, one in zip(key, numbers, strict=True) if not isinstance(part, int | np.integer))
        return self._at(*numbers).reshape(shape)

    def _at(self, *numbers: Array) -> Array:
        raise NotImplementedError


@dataclass(frozen=True)
class RecordRow:
    """Where a record's samples lie: its row of a signals store, the columns of its own leads, and their gains, (lead,)."""

    path: str
    row: int
    columns: Array
    adc_gain: Array
    baseline: Array
    n_samples: int


class Samples(_Numbered):
    """A record's samples, (lead, sample) float32 mV; NaN where missing, and on a lead without a gain."""

    def __init__(self, where: RecordRow) -> None:
        self._where = where
        self.shape, self.dtype = (where.columns.size, where.n_samples), np.dtype(np.float32)

    def _at(self, *numbers: Array) -> Array:
        leads, samples = numbers
        if not leads.size or not samples.size:
            return np.empty((leads.size, samples.size), np.float32)
        where, low = self._where, int(samples.min())
        stored = open_once(where.path, ())["signal"].variable
        steps = stored[where.row, where.columns[leads], low : int(samples.max()) + 1].values
        if steps.shape[1] != samples.size or samples[0] > samples[-1]:
            steps = steps[:, samples - low]
        return in_millivolts(steps, where.adc_gain[leads], where.baseline[leads])


class Times(_Numbered):
    """Times of samples from the first, (sample,) float64 s: of a day's recording as large as its samples."""

    def __init__(self, n_samples: int, sampling_frequency_hz: float) -> None:
        self.shape, self.dtype, self._rate = (n_samples,), np.dtype(np.float64), sampling_frequency_hz

    def _at(self, *numbers: Array) -> Array:
        return numbers[0] / self._rate


@dataclass(frozen=True)
class BeatRows:
    """The chosen beats of one beats store.

    Parameters
    ----------
    path
        Of the store.
    rows : (beat,) int64, rising
        Of the beats.
    record : (beat,) int32
        Place of each beat's record among this store's chosen records.
    columns : (lead,) int64
        Of each lead that is wanted; -1 where the store has none of that name.
    is_masked : (record, lead) bool
        Where a wanted lead cannot be used in a chosen record.
    step
        Millivolts (method ``kachuee``: shares of a window's range) of one stored step.

    """

    path: str
    rows: Array
    record: Array
    columns: Array
    is_masked: Array
    step: float

    def stored(self, name: str, places: Array, *rest: Any) -> Array:
        """Return values of a variable at places among the chosen beats, in any order, and at ``rest`` of its other dimensions."""
        rows, back = np.unique(self.rows[places], return_inverse=True)
        part: Any = slice(int(rows[0]), int(rows[-1]) + 1) if rows.size == rows[-1] - rows[0] + 1 else rows
        values: Array = open_once(self.path, ())[name].variable[(part, *rest)].values
        return values if rows.size == places.size and (np.diff(back) == 1).all() else values[back]


class OfBeats(_Numbered):
    """A small variable of the chosen beats of several stores, one after another, (beat,)."""

    def __init__(self, parts: Sequence[BeatRows], name: str, dtype: Any) -> None:
        self._parts, self._name = tuple(parts), name
        self._first = np.cumsum([0, *(part.rows.size for part in parts)])
        self.shape, self.dtype = (int(self._first[-1]),), np.dtype(dtype)

    def _at(self, *numbers: Array) -> Array:
        found = np.empty((numbers[0].size, *map(len, numbers[1:])), self.dtype)
        of_part = np.searchsorted(self._first, numbers[0], side="right") - 1
        for number in np.unique(of_part).tolist():
            here = of_part == number
            found[here] = self._of_part(self._parts[number], numbers[0][here] - self._first[number], *numbers[1:])
        return found

    def _of_part(self, part: BeatRows, places: Array, *rest: Array) -> Array:  # noqa: ARG002 - windows have more dimensions
        return part.stored(self._name, places)


class Windows(OfBeats):
    """The chosen beats' windows, (beat, lead, sample) float32 mV; NaN where a sample is missing or a lead cannot be used."""

    def __init__(self, parts: Sequence[BeatRows], n_leads: int, n_samples: int) -> None:
        super().__init__(parts, "waveform", np.float32)
        self.shape = (self.shape[0], n_leads, n_samples)

    def _of_part(self, part: BeatRows, places: Array, *rest: Array) -> Array:
        leads, samples = rest
        found = np.full((places.size, leads.size, samples.size), np.nan, np.float32)
        there = np.flatnonzero(part.columns[leads] >= 0)
        if not there.size or not samples.size:
            return found
        steps = part.stored("waveform", places, part.columns[leads[there]], samples)
        values = steps * np.float32(part.step)
        values[steps == MISSING_SAMPLE] = np.nan
        values[part.is_masked[part.record[places]][:, leads[there]]] = np.nan
        found[:, there] = values
        return found
