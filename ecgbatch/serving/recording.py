"""One recording as a viewer needs it: what it is, its samples in blocks, its beats. Nothing here has heard of HTTP."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from functools import partial
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from ecgbatch.reports.excerpts import rhythm_lead
from ecgbatch.reports.median_beats import beat_quartiles, beat_speed, median_beats
from ecgbatch.reports.rows import Row, plain_float, plain_rows
from ecgbatch.reports.sources import store_path
from ecgbatch.reports.words import LEAD_WORDS, explain_reason
from ecgbatch.terms import BEAT_FLAGS, LEAD_FLAGS, STATUS, UNSCORABLE_BEAT, words_of_mask
from storage import folder_at, open_once, read_columns

Steps = NDArray[np.int16]

BLOCK_SAMPLES = 131_072
"""Samples a lead that are read together: a chunk of the stores."""

KEPT_BYTES = 96_000_000
"""Of blocks that a ``Kept`` holds by default: four half hours of 12 leads at 500 Hz."""

_MOST_BEATS = 256  # that a median beat is made of: as many as ``reports.median_beats`` takes

_SIGNALS = ("lead", "lead_flags", "adc_gain", "baseline", "sampling_frequency_hz", "n_samples", "status", "reason")


@dataclass(frozen=True)
class Place:
    """Where the rows of a record are: stores of a workspace, by kind, name and row; what is empty is not there.

    ``shown_name`` is what the viewer calls the record: its name, or a pseudonym.
    """

    work: str
    signals_store: str
    signals_row: int
    shown_name: str
    beats_store: str = ""
    beats_row: int = 0
    scores_run: str = ""
    scores_row: int = 0


def place_of(work: str, scores_run: str, row: int, shown_name: str, *, is_hidden: bool = False) -> Place:
    """Return the place of the record in a row of a scores store.

    Parameters
    ----------
    is_hidden
        Whether its score is hidden from who looks: then no probability is shown, and no threshold.

    Raises
    ------
    StoreError
        If there is no such store, or it is damaged.

    """
    path = store_path(folder_at(work), "scores", scores_run)
    found = plain_rows(read_columns(path, np.array([row]), ("signals_store", "signals_row", "beats_store", "beats_row")))[0]
    place = Place(work, found["signals_store"], found["signals_row"], shown_name, found["beats_store"], found["beats_row"])
    return place if is_hidden else replace(place, scores_run=scores_run, scores_row=row)


@dataclass(frozen=True)
class Lead:
    """A lead that the record has: ``number`` on the store's lead dimension; ``gain`` NaN where its units are unknown."""

    name: str
    number: int
    flags: int
    gain: float
    baseline: int

    @property
    def is_millivolts(self) -> bool:
        """Whether its amplitude means anything."""
        return self.gain > 0 and not self.flags & LEAD_FLAGS["not_millivolts"]


@dataclass(frozen=True)
class Recording:
    """A record of a signals store; without leads where it is set aside."""

    place: Place
    leads: tuple[Lead, ...]
    n_samples: int
    sampling_frequency_hz: float
    status: str
    why: str

    @property
    def duration_s(self) -> float:
        """From its first sample to its last."""
        return self.n_samples / self.sampling_frequency_hz if self.sampling_frequency_hz else 0.0


class Kept:
    """What was made last, up to so many bytes: a block that several tiles are cut from is decoded once."""

    def __init__(self, n_bytes: int = KEPT_BYTES) -> None:
        self._most, self._n_bytes = n_bytes, 0
        self._blocks: OrderedDict[Hashable, Steps] = OrderedDict()
        self._lock, self._makers = Lock(), tuple(Lock() for _ in range(16))

    def get(self, key: Hashable, make: Callable[[], Steps]) -> Steps:
        """Return what is kept under this key; make it where nothing is, once for all who ask at the same time."""
        with self._makers[hash(key) % len(self._makers)]:
            with self._lock:
                if key in self._blocks:
                    self._blocks.move_to_end(key)
                    return self._blocks[key]
            block = make()
            with self._lock:
                self._blocks[key] = block
                self._n_bytes += block.nbytes
                while self._n_bytes > self._most:
                    self._n_bytes -= self._blocks.popitem(last=False)[1].nbytes
            return block


def read_recording(place: Place) -> Recording:
    """Return what a signals store says of a record.

    Raises
    ------
    StoreError
        If the store is not there or is damaged.

    """
    row = _row(place, "signals", place.signals_store, place.signals_row, _SIGNALS)
    status = next(word for word, code in STATUS.items() if code == row["status"])
    found = () if status == "set_aside" else enumerate(row["lead"].tolist())
    leads = [
        Lead(name, number, int(row["lead_flags"][number]), float(row["adc_gain"][number]), int(row["baseline"][number]))
        for number, name in found
        if not row["lead_flags"][number] & LEAD_FLAGS["missing"]
    ]
    why = explain_reason(row["reason"], is_scored=bool(leads))[0] or row["reason"] if row["reason"] else ""
    return Recording(place, tuple(leads), row["n_samples"] if leads else 0, row["sampling_frequency_hz"] or 0.0, status, why)


def read_samples(recording: Recording, first: int, stop: int, kept: Kept) -> Steps:
    """Return samples as stored.

    Parameters
    ----------
    first, stop
        Sample numbers, cut to the record.

    Returns
    -------
    (lead, sample) int16, adu
        Of ``recording.leads``; ``terms.MISSING_SAMPLE`` where one is missing.

    """
    first, stop = max(first, 0), min(stop, recording.n_samples)
    blocks = range(first // BLOCK_SAMPLES, -(-stop // BLOCK_SAMPLES))
    place = recording.place
    key = (place.work, place.signals_store, place.signals_row)
    parts = [kept.get((*key, block), partial(_read_block, recording, block)) for block in blocks]
    start = blocks.start * BLOCK_SAMPLES
    cut = [part[:, max(first - start - i * BLOCK_SAMPLES, 0) : stop - start - i * BLOCK_SAMPLES] for i, part in enumerate(parts)]
    return cut[0] if len(cut) == 1 else np.concatenate(cut, axis=1) if cut else np.empty((len(recording.leads), 0), np.int16)


def _read_block(recording: Recording, number: int) -> Steps:
    place = recording.place
    stored = open_once(store_path(folder_at(place.work), "signals", place.signals_store), ())["signal"].variable
    samples = slice(number * BLOCK_SAMPLES, min((number + 1) * BLOCK_SAMPLES, recording.n_samples))
    block: Steps = stored[place.signals_row, :, samples].values
    return np.ascontiguousarray(block[[lead.number for lead in recording.leads]])


def describe(recording: Recording) -> dict[str, Any]:
    """Return what a viewer is told of a recording before it asks for samples, as JSON holds it.

    Returns
    -------
    dict
        ``name``, ``status`` and ``why`` it is not ok, ``duration_s``, ``n_samples``, ``sampling_frequency_hz``; ``leads``, each
        with ``name``, ``gain`` (adu/mV, None where units are unknown), ``baseline`` (adu) and ``remarks``; ``rhythm_lead`` with
        ``rhythm_why`` where it is not II; ``threshold`` of its score, None without.

    """
    lead, why = rhythm_lead([lead.name for lead in recording.leads], [lead.flags for lead in recording.leads])
    return {
        "name": recording.place.shown_name,
        "status": recording.status,
        "why": recording.why,
        "duration_s": recording.duration_s,
        "n_samples": recording.n_samples,
        "sampling_frequency_hz": recording.sampling_frequency_hz,
        "leads": [_lead_document(lead) for lead in recording.leads],
        "rhythm_lead": lead,
        "rhythm_why": why,
        "threshold": _threshold(recording.place),
    }


def _lead_document(lead: Lead) -> dict[str, Any]:
    remarks = [LEAD_WORDS[word] for word in words_of_mask(lead.flags, LEAD_FLAGS)]
    if not lead.is_millivolts and not lead.flags & LEAD_FLAGS["not_millivolts"]:
        remarks.append("units unknown, not millivolts")
    gain = lead.gain if lead.is_millivolts else None
    return {"name": lead.name, "gain": gain, "baseline": lead.baseline, "remarks": remarks}


def _threshold(place: Place) -> float | None:
    """Return the operating point of the record's score; None where it has none."""
    if not place.scores_run:
        return None
    row = _row(place, "scores", place.scores_run, place.scores_row, ("threshold", "mi_probability"))
    return row["threshold"] if row["mi_probability"] is not None else None


def read_beats(recording: Recording) -> dict[str, Any]:
    """Return the beats of a recording, as JSON holds them.

    Returns
    -------
    dict
        ``r_sample`` (0-based), ``flags`` (bits of ``words``) and ``probability`` (None where not scored), one of each a beat, in
        order; ``words`` of the flags.

    """
    place, words = recording.place, {str(bit): word for word, bit in BEAT_FLAGS.items()}
    part = _beats_part(place)
    if part.stop <= part.start:
        return {"r_sample": [], "flags": [], "probability": [], "words": words}
    store = open_once(store_path(folder_at(place.work), "beats", place.beats_store), ())
    r_sample, flags = (store[name].variable[part].values for name in ("r_sample", "beat_flags"))
    probability: list[float | None] = [None] * r_sample.size
    if place.scores_run:
        scores = open_once(store_path(folder_at(place.work), "scores", place.scores_run), ())
        stored = scores["beat_probability"].variable[place.scores_row].values[: r_sample.size]
        probability[: stored.size] = [plain_float(value) for value in stored]
    return {"r_sample": r_sample.tolist(), "flags": flags.tolist(), "probability": probability, "words": words}


class MedianBeats(NamedTuple):
    """Of a recording: paper speed, and lead, remark and drawing of each; no drawing without usable beats."""

    mm_per_s: float
    drawings: list[tuple[str, str, Markup]]


def draw_median_beats(recording: Recording) -> MedianBeats:
    """Draw the median beat of every lead, as on the record's report."""
    place, part = recording.place, _beats_part(recording.place)
    if part.stop <= part.start:
        return MedianBeats(0.0, [])
    store = open_once(store_path(folder_at(place.work), "beats", place.beats_store), ())
    flags = store["beat_flags"].variable[part].values
    usable = np.flatnonzero((flags & UNSCORABLE_BEAT) == 0)
    if usable.size > _MOST_BEATS:
        usable = usable[np.linspace(0, usable.size - 1, _MOST_BEATS).round().astype(int)]
    if not usable.size:
        return MedianBeats(0.0, [])
    waveform = store["waveform"].variable[part.start + usable].values
    quartiles = beat_quartiles(waveform, flags[usable])
    known, names = {lead.name: lead.flags for lead in recording.leads}, store["lead"].values.tolist()
    drawn = [number for number, name in enumerate(names) if name in known]
    order = sorted(drawn, key=lambda number: list(known).index(names[number]))
    leads = [names[number] for number in order]
    is_millivolts = store.attrs["settings"].get("method", "robust") != "kachuee"
    lead_flags, time_s = [known[lead] for lead in leads], store["sample_time_s"].values
    return MedianBeats(
        beat_speed(time_s), median_beats(quartiles[:, order], leads, lead_flags, time_s, is_millivolts=is_millivolts)
    )


def _beats_part(place: Place) -> slice:
    """Return which rows of its beats store are the record's."""
    if not place.beats_store:
        return slice(0, 0)
    row = _row(place, "beats", place.beats_store, place.beats_row, ("first_beat", "n_beats"))
    return slice(int(row["first_beat"]), int(row["first_beat"] + row["n_beats"]))


def _row(place: Place, kind: str, name: str, row: int, columns: tuple[str, ...]) -> Row:
    return plain_rows(read_columns(store_path(folder_at(place.work), kind, name), np.array([row]), columns))[0]
