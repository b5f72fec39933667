"""The beat table that readers of Kachuee et al. 2018 know: CSV, a row a beat, 187 values of one lead and a label. In and out."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ecgbatch.beats.lookup import current_beats
from ecgbatch.beats.record import KACHUEE_LENGTH, KACHUEE_STEP, BeatSettings
from ecgbatch.terms import LABEL, MISSING_SAMPLE, STATUS
from storage import folder_at, open_store

MAX_TABLE_BYTES = 1 << 31
"""The published tables have up to 0.4 GB (87,554 beats)."""
LONGEST_LINE = 8192
"""187 values of 24 characters, their commas and a label take 4,700."""
_BEATS_AT_ONCE = 4096


def write_beat_table(work: str, path: str | Path, lead: str = "II") -> int:
    """Write a workspace's beats as a table; return how many.

    Parameters
    ----------
    work
        With beats of the method ``kachuee``: 187 samples at 125 Hz from the R peak on, scaled to [0, 1] in their window.
    path
        CSV without a header line: 187 values, then 1 (myocardial infarction) or 0 (healthy control). Records with another
        label, or set aside, have no place in it, nor have beats whose lead is missing.
    lead
        The paper's is II.

    Raises
    ------
    UnfinishedStore
        Where no such beats were cut.

    """
    records = current_beats(work, BeatSettings(method="kachuee").document())
    n_written = 0
    target = Path(path)
    aside = target.with_name(f"{target.name}.partial")
    with aside.open("w", encoding="ascii", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        for waveform, label in _labelled_beats(work, records, lead):
            present = waveform[waveform[:, 0] != MISSING_SAMPLE]
            for values in (present * KACHUEE_STEP).tolist():
                writer.writerow([*(f"{value:.10g}" for value in values), label])
            n_written += len(present)
    aside.replace(target)
    return n_written


def _labelled_beats(work: str, records: xr.Dataset, lead: str) -> Iterator[tuple[NDArray[np.int16], int]]:
    """Yield (beat, sample) waveforms of one lead, and 1 or 0: record by record, not more than a few thousand beats at once."""
    opened: dict[str, xr.Dataset] = {}
    usable = (records["status"].values != STATUS["set_aside"]) & np.isin(records["label"].values, [LABEL["mi"], LABEL["control"]])
    for place in np.flatnonzero(usable).tolist():
        digest, row = str(records["beats_store"].values[place]), int(records["beats_row"].values[place])
        if digest not in opened:
            opened[digest] = open_store(folder_at(work).path(f"beats/{digest}.zarr"))
        beats = opened[digest]
        leads = beats["lead"].values.tolist()
        if lead not in leads:
            continue
        first, n_beats = int(beats["first_beat"].values[row]), int(beats["n_beats"].values[row])
        label = int(records["label"].values[place] == LABEL["mi"])
        for start in range(first, first + n_beats, _BEATS_AT_ONCE):
            stop = min(start + _BEATS_AT_ONCE, first + n_beats)
            yield beats["waveform"].variable[start:stop, leads.index(lead)].values, label


def read_beat_table(path: str | Path) -> xr.Dataset:
    """Read a table of beats: the published ``ptbdb_normal.csv`` and its like, or one that ``write_beat_table`` wrote.

    Returns
    -------
    <xarray.Dataset>
        Dimensions: (beat, sample)
          waveform  (beat, sample) float32  0 to 1, at 125 Hz, zeros after the beat's end
          label     (beat)         int8     as the table states: 0 and 1 in PTB's, 0 to 4 in MIT-BIH's; -1 where it has no label
        Patients and records are not in such a table: nothing of it can be dealt by patient, and no figure made of it is one.

    Raises
    ------
    ValueError
        Naming file and line: no file, too large, not 187 or 188 columns (the same in all rows), a value that is no number
        from 0 to 1, or a label that is no whole number from 0 to 4.

    """
    path = Path(path)
    if not path.is_file() or path.stat().st_size > MAX_TABLE_BYTES:
        raise ValueError(
            f"{path.name}: expected a table of beats (CSV, at most {MAX_TABLE_BYTES} bytes), found none or a larger file"
        )
    waveforms: list[NDArray[np.float32]] = []
    labels: list[int] = []
    n_columns = 0
    with path.open("rb") as file:
        number = 0
        while line := file.readline(LONGEST_LINE):
            number += 1
            if not line.strip():
                continue
            values = _values(path.name, number, line)
            n_columns = n_columns or values.size
            if values.size not in {KACHUEE_LENGTH, KACHUEE_LENGTH + 1} or values.size != n_columns:
                wanted = n_columns if n_columns in {KACHUEE_LENGTH, KACHUEE_LENGTH + 1} else f"{KACHUEE_LENGTH} or one more"
                raise ValueError(f"{path.name}, line {number}: expected {wanted} columns, found {values.size}")
            waveforms.append(_checked(path.name, number, values[:KACHUEE_LENGTH]))
            labels.append(_label(path.name, number, values[KACHUEE_LENGTH:]))
    if not waveforms:
        raise ValueError(f"{path.name}: expected a row a beat, found none")
    variables: dict[str, Any] = {
        "waveform": (("beat", "sample"), np.stack(waveforms), {"long_name": "beat, scaled in its window", "units": "1"}),
        "label": ("beat", np.array(labels, np.int8), {"long_name": "label as the table states it", "units": "1"}),
    }
    return xr.Dataset(variables, attrs={"sampling_frequency_hz": 125.0})


def _values(name: str, number: int, line: bytes) -> NDArray[np.float64]:
    try:
        return np.array([float(field) for field in line.decode("ascii").split(",")])
    except ValueError:
        raise ValueError(f"{name}, line {number}: expected numbers separated by commas, found something else") from None


def _checked(name: str, number: int, values: NDArray[np.float64]) -> NDArray[np.float32]:
    if not ((values >= 0) & (values <= 1)).all():
        wrong = int(np.flatnonzero(~((values >= 0) & (values <= 1)))[0])
        raise ValueError(f"{name}, line {number}: expected values from 0 to 1, found {values[wrong]:g} in column {wrong + 1}")
    return values.astype(np.float32)


def _label(name: str, number: int, values: NDArray[np.float64]) -> int:
    if values.size == 0:
        return -1
    if values[0] not in {0.0, 1.0, 2.0, 3.0, 4.0}:
        raise ValueError(f"{name}, line {number}: expected a label from 0 to 4 in the last column, found {values[0]:g}")
    return int(values[0])
