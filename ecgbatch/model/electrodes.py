"""Electrodes exchanged: which pair it probably was, and the leads put back. Found in ``signals.quality``; here it is undone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgbatch.terms import MISSING_SAMPLE

Array = NDArray[Any]

EXCHANGES: Mapping[str, Mapping[str, tuple[str, int]]] = {
    "LA-RA": {"I": ("I", -1), "II": ("III", 1), "III": ("II", 1), "aVR": ("aVL", 1), "aVL": ("aVR", 1)},
    "RA-LL": {"I": ("III", -1), "II": ("II", -1), "III": ("I", -1), "aVR": ("aVF", 1), "aVF": ("aVR", 1)},
}
"""Pair of electrodes (LA left arm, RA right arm, LL left leg) to what each lead holds after their exchange: another lead's signal
and its sign (Einthoven's and Goldberger's definitions). Each undoes itself. LA with LL cannot be told from a turn of the axis."""


def name_exchange(median: NDArray[np.floating[Any]], leads: Sequence[str]) -> str:
    """Return which of ``EXCHANGES`` most probably made a median beat (lead, sample); empty where none makes it more plausible.

    Plausible is a beat in which I and II go with V6, and aVR against it.
    """
    row = {name: values for name, values in zip(leads, np.asarray(median, np.float64), strict=True) if np.ptp(values) > 0}
    if not {"I", "II", "III", "aVR", "V6"} <= row.keys():
        return ""
    found = {"": _plausibility(row)}
    for name, made in EXCHANGES.items():
        if all(source in row for source, _ in made.values()):
            found[name] = _plausibility(row | {lead: sign * row[source] for lead, (source, sign) in made.items()})
    return max(found, key=lambda name: found[name])


def _plausibility(row: Mapping[str, Array]) -> float:
    one, two, right = (float(np.corrcoef(row[lead], row["V6"])[0, 1]) for lead in ("I", "II", "aVR"))
    return one + two - right


def put_back(waveform: NDArray[np.int16], leads: Sequence[str], exchange: str) -> NDArray[np.int16]:
    """Return beats (beat, lead, sample) as they would be with the electrodes in place; a lead without its source is missing."""
    made, column = EXCHANGES[exchange], {lead: index for index, lead in enumerate(leads)}
    restored = waveform.copy()
    for lead, (source, sign) in made.items():
        if lead in column:
            restored[:, column[lead]] = MISSING_SAMPLE
            if source in column:
                values = waveform[:, column[source]]
                restored[:, column[lead]] = np.where(values == MISSING_SAMPLE, MISSING_SAMPLE, sign * values)
    return restored
