"""What the stores hold of a record that is to be scored: its beats, and which of its leads can be used."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from ecgbatch.beats.lookup import leads_of_signals
from ecgbatch.model.definition import Model
from ecgbatch.model.preparation import check_beats
from ecgbatch.terms import STATUS, UNSCORABLE_BEAT
from storage import open_once


@dataclass(frozen=True)
class RecordBeats:
    """What the stores hold of one record.

    Parameters
    ----------
    waveform : (beat, lead, sample) int16
        As in the beats store, all beats.
    beat_flags : (beat,) uint16
    rr_previous_s : (beat,) float32
    leads
        Names of the leads of ``waveform``.
    is_usable : (lead,) bool
        False where the signals store flags the lead with a bit of ``terms.UNUSABLE_LEAD``.
    is_exchanged
        Whether the signals store suspects exchanged electrodes.

    """

    waveform: npt.NDArray[np.int16]
    beat_flags: npt.NDArray[np.uint16]
    rr_previous_s: npt.NDArray[np.float32]
    leads: tuple[str, ...]
    is_usable: npt.NDArray[np.bool_]
    is_exchanged: bool = False

    @property
    def is_scorable(self) -> npt.NDArray[np.bool_]:
        """Which beats are scored, (beat,)."""
        return np.asarray((self.beat_flags & UNSCORABLE_BEAT) == 0)


def read_record_beats(rows: xr.Dataset, work: Path, model: Model) -> Iterator[RecordBeats | None]:
    """Yield the stored beats of each row, in order; None where there are none or the record is set aside."""
    names, places = rows["beats_store"].values.tolist(), rows["beats_row"].values
    usable = (rows["status"].values != STATUS["set_aside"]) & (rows["n_beats"].values > 0) & (np.array(names, dtype=str) != "")
    found: dict[int, RecordBeats] = {}
    for name in sorted({name for name, use in zip(names, usable, strict=True) if use}):
        path = work / "beats" / f"{name}.zarr"
        store = open_once(path, ("lead", "first_beat", "n_beats"))
        check_beats(model, store.attrs["settings"], str(path))
        mine = [row for row, use in enumerate(usable) if use and names[row] == name]
        usable_leads, exchanged = leads_of_signals(str(work), rows.isel(record=mine), store["lead"].values.tolist())
        if "lead_flags" in store:  # leads that were made of I and II
            usable_leads |= store["lead_flags"].values[places[mine]] != 0
        for row, beats in zip(mine, _read_beats(store, places[mine], usable_leads, exchanged), strict=True):
            found[row] = beats
    for row in range(len(names)):
        yield found.get(row)


def _read_beats(
    store: xr.Dataset, places: npt.NDArray[Any], is_usable: npt.NDArray[np.bool_], is_exchanged: npt.NDArray[np.bool_]
) -> Iterator[RecordBeats]:
    """Yield the beats of a store's records; neighbours are read in one go, since they share chunks."""
    leads = tuple(store["lead"].values.tolist())
    by_beat = [store[name].variable for name in ("waveform", "beat_flags", "rr_previous_s")]
    first, count = store["first_beat"].values[places], store["n_beats"].values[places]
    low, high = int(first.min()), int((first + count).max())
    joined = [values[low:high].values for values in by_beat] if high - low <= 2 * int(count.sum()) else None
    for start, n, usable, exchanged in zip(first.tolist(), count.tolist(), is_usable, is_exchanged.tolist(), strict=True):
        waveform, flags, rr_previous_s = (
            [values[start : start + n].values for values in by_beat]
            if joined is None
            else [values[start - low : start - low + n] for values in joined]
        )
        yield RecordBeats(waveform, flags.astype(np.uint16), rr_previous_s, leads, usable, exchanged)
