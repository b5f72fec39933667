"""The records of a shard of signals: which leads of each vote or are cut, and their R peaks and windows, a block at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgbatch.beats.blocks import Peaks, Records, cut_blocks
from ecgbatch.beats.record import (
    LEAST_RATE_HZ,
    NO_PEAKS,
    NO_VOTE,
    REFERENCE_LEADS,
    Beats,
    BeatSettings,
    RPeaks,
    check_peaks,
    check_signal,
    detect_each,
    is_calibrated,
    windows_each,
)
from ecgbatch.formats.leads import which_are_ecgs, which_decide_rate
from ecgbatch.terms import LEAD_FLAGS, UNUSABLE_LEAD

Array = NDArray[Any]


@dataclass(frozen=True)
class Signals:
    """Rows of a signals store.

    Parameters
    ----------
    samples : (record, lead, sample) int16
    facts
        By name, a value or values a record: ``n_samples``, ``sampling_frequency_hz``; ``adc_gain``, ``baseline``, ``lead_flags``
        (record, lead).
    leads
        Their names.

    """

    samples: Array
    facts: Mapping[str, Array]
    leads: tuple[str, ...]

    def lead_flags(self, row: int) -> bytes:
        """Return a record's flags, as ``voting_leads`` takes them."""
        return bytes(self.facts["lead_flags"][row].astype(np.uint16).tobytes())

    def records(self, rows: Sequence[int], use: Sequence[Array]) -> Records:
        """Return some rows of one rate and length as a block; ``use`` the leads of each that take part.

        Raises
        ------
        ValueError
            If what a row says cannot be right.

        """
        gain, zero = (np.asarray(self.facts[name][rows], np.float64) for name in ("adc_gain", "baseline"))
        n, fs = int(self.facts["n_samples"][rows[0]]), float(self.facts["sampling_frequency_hz"][rows[0]])
        for place, row in enumerate(rows):
            check_signal(self.samples[row], gain[place], zero[place], fs, n)
        is_run = rows[-1] - rows[0] + 1 == len(rows)
        signal = np.require(self.samples[rows[0] : rows[-1] + 1] if is_run else self.samples[list(rows)], np.int16, ["C", "W"])
        calibrated = np.stack([is_calibrated(own, wanted) for own, wanted in zip(gain, use, strict=True)])
        return Records(signal, n, fs, calibrated, gain, zero)

    def blocks(self, rows: Sequence[int], n_beats: Array | None = None) -> Iterator[list[int]]:
        """Yield those of some rows that are worked on together; ``n_beats`` of every record, where windows are cut."""
        kinds = list(zip(self.facts["sampling_frequency_hz"].tolist(), self.facts["n_samples"].tolist(), strict=True))
        n_samples = (len(self.leads) * self.facts["n_samples"]).tolist()
        return cut_blocks(rows, kinds, n_samples, None if n_beats is None else n_beats.tolist())


def find_peaks(signals: Signals, rows: Sequence[int]) -> list[RPeaks]:
    """Return the R peaks of some rows of one rate and length, by ``detect_each``; none of a rate too low, or without a lead."""
    votes = [voting_leads(signals.lead_flags(row), signals.leads) for row in rows]
    if float(signals.facts["sampling_frequency_hz"][rows[0]]) < LEAST_RATE_HZ:
        return [NO_PEAKS] * len(rows)
    records = signals.records(rows, [use for use, _ in votes])
    heard = np.flatnonzero(records.use.any(axis=1)) if records.n_samples else np.zeros(0, np.intp)
    found = [NO_PEAKS] * len(rows)
    if len(heard):
        use = records.use[heard]
        wanted = [votes[place][1] for place in heard.tolist()]
        placed = [one if one >= 0 and own[one] else int(own.argmax()) for one, own in zip(wanted, use, strict=True)]
        for place, own in zip(heard.tolist(), detect_each(records.of(heard), np.array(placed)), strict=True):
            found[place] = own
    return found


def cut_beats(signals: Signals, rows: Sequence[int], peaks: Sequence[RPeaks], settings: BeatSettings) -> list[Beats]:
    """Return the windows of some rows of one rate and length, by ``windows_each``; ``peaks`` of each."""
    is_there = [present_leads(signals.lead_flags(row), signals.leads) for row in rows]
    records = signals.records(rows, is_there)
    r_sample = [check_peaks(own.r_sample, records.n_samples) for own in peaks]
    first_beat = np.concatenate([[0], np.cumsum([len(own) for own in r_sample])])
    joined = Peaks(np.concatenate(r_sample), np.concatenate([own.beat_flags for own in peaks]).astype(np.uint16), first_beat)
    waveform, flags = windows_each(records, joined, settings)
    bounds = zip(first_beat[:-1].tolist(), first_beat[1:].tolist(), r_sample, strict=True)
    return [Beats(own.astype(np.int32), waveform[low:high], flags[low:high]) for low, high, own in bounds]


@lru_cache(maxsize=256)
def voting_leads(lead_flags: bytes, leads: tuple[str, ...]) -> tuple[Array, int]:
    """Return which leads vote in detection, (lead,) bool, and the number of the one that R is placed on, or -1.

    Signals of unknown names (an EEG's ``C3``) do not, where a usable one has the name of an ECG.
    ``lead_flags``: a record's (lead,) uint16, as bytes: most records of an archive have the same.
    """
    own = np.frombuffer(lead_flags, np.uint16)
    flags = _without(own, leads, which_decide_rate)
    flags = flags if ((flags & UNUSABLE_LEAD) == 0).any() else flags_of_ecgs(own, leads)
    voting = (flags & NO_VOTE) == 0
    voting = voting if voting.any() else (flags & UNUSABLE_LEAD) == 0
    return voting, next((leads.index(name) for name in REFERENCE_LEADS if name in leads and voting[leads.index(name)]), -1)


@lru_cache(maxsize=256)
def present_leads(lead_flags: bytes, leads: tuple[str, ...]) -> Array:
    """Return which leads have windows, (lead,) bool: all ECGs that the record has; ``lead_flags`` as in ``voting_leads``."""
    return np.asarray((flags_of_ecgs(np.frombuffer(lead_flags, np.uint16), leads) & LEAD_FLAGS["missing"]) == 0)


def flags_of_ecgs(lead_flags: Array, leads: Sequence[str]) -> Array:
    """Return a record's flags with every signal that is no ECG as good as missing: it neither votes nor has beats."""
    return _without(lead_flags, leads, which_are_ecgs)


def _without(lead_flags: Array, leads: Sequence[str], which: Callable[[Sequence[str], Sequence[bool]], Sequence[bool]]) -> Array:
    """Return a record's flags with every signal as good as missing that ``which`` does not choose."""
    is_there = np.flatnonzero((lead_flags & LEAD_FLAGS["missing"]) == 0)
    named = [leads[row] for row in is_there.tolist()]
    chosen = which(named, ((lead_flags[is_there] & LEAD_FLAGS["not_millivolts"]) == 0).tolist())
    if all(chosen):
        return lead_flags
    flags = lead_flags.copy()
    flags[is_there[~np.array(chosen)]] |= LEAD_FLAGS["missing"]
    return flags
