"""What a record's report is made of: its rows of the stores behind its scores; what neighbours share is read once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from ecgbatch.beats.derived import FLAGS as BEATS_LEAD_FLAGS
from ecgbatch.measurements.document import document
from ecgbatch.measurements.excerpt import Span, measure_excerpt
from ecgbatch.measurements.stage import MEASUREMENTS, measured_of
from ecgbatch.reports.course import course_of
from ecgbatch.reports.excerpts import Excerpt, excerpt_of
from ecgbatch.reports.median_beats import beat_quartiles
from ecgbatch.reports.record import Beats
from ecgbatch.reports.record_page import Drawn
from ecgbatch.reports.rows import Row, plain_rows
from storage import Folder, open_once, read_columns

DERIVED = BEATS_LEAD_FLAGS["derived"]

_MOST_BYTES = 16_000_000  # of signals held at once by a task

_COLUMNS: dict[str, tuple[str, ...]] = {
    "signals": (
        "lead",
        "lead_flags",
        "adc_gain",
        "baseline",
        "sampling_frequency_hz",
        "n_samples",
        "status",
        "status_detail",
        "reason",
        "warnings",
        "comments",
        "cart",
        "source_digest",
        "patient_unknown",
        "label_rule",
        "diagnosis",
        "infarct_location",
        "infarct_age",
        "recording_year",
    ),
    "beats": ("lead", "lead_flags", "sample_time_s", "first_beat", "n_beats"),
    "measurements": (*MEASUREMENTS.columns(), "lead"),
}  # the small columns that a report is made of: the others would take as much memory again


def store_path(folder: Folder, kind: str, name: str) -> str:
    """Return where a workspace's store of this kind and name lies."""
    return str(folder.path(f"{kind}/{name}.zarr"))


class Sources:
    """The rows of signals and beats stores behind some rows of a scores store; what neighbours share is read once."""

    def __init__(self, folder: Folder, scores: Sequence[Row]) -> None:
        self._folder, self._scores = folder, scores
        self._rows: dict[tuple[str, int], Row] = {}
        self._joined: dict[tuple[str, str], tuple[int, np.ndarray] | None] = {}
        self._signals: dict[tuple[str, int], np.ndarray] = {}
        self._stores: dict[tuple[str, str], xr.Dataset] = {}

    def _store(self, kind: str, name: str) -> xr.Dataset:
        if (kind, name) not in self._stores:
            self._stores[kind, name] = open_once(store_path(self._folder, kind, name), ())
        return self._stores[kind, name]

    def _name(self, kind: str, place: int) -> str:
        return str(self._scores[place].get(f"{kind}_store", ""))  # earlier scores name no measurements

    def _places(self, kind: str, name: str) -> list[int]:
        return [place for place in range(len(self._scores)) if self._name(kind, place) == name]

    def row(self, kind: str, place: int) -> Row | None:
        """Return the small columns of a record's row in its store of this kind, or None where it has none."""
        name = self._name(kind, place)
        if not name:
            return None
        if (kind, place) not in self._rows:
            places = self._places(kind, name)
            row_of = "beats_row" if kind == "measurements" else f"{kind}_row"
            rows = np.array([self._scores[other][row_of] for other in places], np.int64)
            columns = read_columns(store_path(self._folder, kind, name), rows, _COLUMNS[kind])
            self._rows |= {(kind, other): row for other, row in zip(places, plain_rows(columns), strict=True)}
        return self._rows[kind, place]

    def beats(self, place: int) -> Beats | None:
        """Return R peaks, flags and probabilities of the record's beats."""
        r_sample, flags = self._of_beats(place, "r_sample"), self._of_beats(place, "beat_flags")
        if r_sample is None or flags is None:
            return None
        return Beats(r_sample, flags, self._scores[place]["beat_probability"][: r_sample.size], self._derived(place))

    def _derived(self, place: int) -> tuple[str, ...]:
        """Return the record's leads that were computed when beats were cut; stores of complete leads flag none."""
        row = self.row("beats", place) or {}
        return tuple(row["lead"][row["lead_flags"] & DERIVED != 0].tolist()) if "lead_flags" in row else ()

    def _of_beats(self, place: int, variable: str) -> np.ndarray | None:
        """Return a variable of the record's beats; records that lie side by side, as they mostly do, are read in one go."""
        row, name = self.row("beats", place), self._name("beats", place)
        if row is None or not row["n_beats"]:
            return None
        stored = self._store("beats", name)[variable].variable
        first, last = row["first_beat"], row["first_beat"] + row["n_beats"]
        if (name, variable) not in self._joined:
            self._joined[name, variable] = self._read_together(name, stored)
        joined = self._joined[name, variable]
        return stored[first:last].values if joined is None else joined[1][first - joined[0] : last - joined[0]]

    def _read_together(self, name: str, stored: xr.Variable) -> tuple[int, np.ndarray] | None:
        mine = [self._rows["beats", other] for other in self._places("beats", name)]
        low, high = min(row["first_beat"] for row in mine), max(row["first_beat"] + row["n_beats"] for row in mine)
        return (low, stored[low:high].values) if high - low <= 2 * sum(row["n_beats"] for row in mine) else None

    def measurements(self, place: int, excerpt: Excerpt, beats: Beats | None) -> dict[str, Any]:
        """Return what the record's JSON says of its measurements: from their store, or measured here where the scores name none.

        The report's digest was taken before: it names the store, or what they follow from.
        """
        whose = {name: self._scores[place][name] for name in ("age_years", "sex")}
        if row := self.row("measurements", place):
            method = self._store("measurements", self._name("measurements", place)).attrs["settings"]["method"]
            return document(measured_of(row), row["lead"].tolist(), method, **whose)
        fs = excerpt.sampling_frequency_hz
        source = {"lead": excerpt.leads, "lead_flags": excerpt.lead_flags, "sampling_frequency_hz": fs, **whose}
        r_sample, flags = (np.empty(0, np.int64),) * 2 if beats is None else (beats.r_sample, beats.flags)
        found = measure_excerpt(excerpt.signal, source, round(excerpt.start_s * fs), r_sample, flags)
        return document(found, excerpt.leads, **whose)

    def drawn(self, place: int, report: Mapping[str, Any], *, has_page: bool = True) -> Drawn:
        """Return what ``record_page`` draws: excerpt; course; median beats, their times and kind of amplitude.

        Without a page no beats: they have no part in what the report says.
        """
        row = self.row("signals", place)
        if report["excerpt"] is None or row is None:
            return Drawn()
        fs, store = report["sampling_frequency_hz"], self._store("signals", self._name("signals", place))
        start_s, length_s = report["excerpt"]["start_s"], report["excerpt"]["length_s"]
        part, plan = Span(start_s, length_s).samples(fs, report["n_samples"]), report["strips"]
        steps = self._signal(place, store)
        excerpt = excerpt_of(steps[:, part], row, start_s=part.start / fs)
        drawn = Drawn(excerpt, course_of(steps, row, plan) if plan else None)
        if not has_page:
            return drawn
        waveform, flags = self._of_beats(place, "waveform"), self._of_beats(place, "beat_flags")
        beats = self.row("beats", place)
        if beats is None or waveform is None or flags is None:
            return drawn
        quartiles = _in_order(beat_quartiles(waveform, flags), beats["lead"].tolist(), row["lead"].tolist())
        method = self._store("beats", self._name("beats", place)).attrs["settings"].get("method", "robust")
        return replace(drawn, quartiles=quartiles, sample_time_s=beats["sample_time_s"], is_millivolts=method != "kachuee")

    def _signal(self, place: int, store: xr.Dataset) -> np.ndarray:
        """Return a record's samples, (lead, sample); neighbours that share chunks are read together, as far as memory allows."""
        key = (self._name("signals", place), self._scores[place]["signals_row"])
        if key not in self._signals:
            stored = store["signal"].variable
            most = max(1, _MOST_BYTES // (stored.sizes["lead"] * stored.sizes["sample"] * stored.dtype.itemsize))
            rows = [self._scores[other]["signals_row"] for other in self._places("signals", key[0]) if other >= place][:most]
            n_together = next((k for k, row in enumerate(rows) if row != rows[0] + k), len(rows))
            block = stored[rows[0] : rows[0] + n_together].values
            self._signals = {(key[0], rows[0] + k): block[k] for k in range(n_together)}
        return self._signals[key]


def _in_order(quartiles: np.ndarray, found: Sequence[str], wanted: Sequence[str]) -> np.ndarray:
    ordered = np.full((3, len(wanted), quartiles.shape[2]), np.nan, np.float32)
    for place, lead in enumerate(wanted):
        if lead in found:
            ordered[:, place] = quartiles[:, list(found).index(lead)]
    return ordered
