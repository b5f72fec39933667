"""What may be taken out of a trace before it is drawn: wander, and what lies above 40 Hz. Nothing is measured on the result.

All filters are symmetric in time: they shift no wave. A cut-off of 0.5 Hz is below the 0.67 Hz that Kligfield and others 2007
(Circulation 115:1306, AHA/ACC/HRS part I) allow such filters where ST is read; 40 Hz is what monitors use: it rounds QRS, lowers
R by some per cent and hides notches, so the picture says that it is on.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import firwin, oaconvolve

from ecgbatch.terms import MISSING_SAMPLE

Steps = NDArray[np.int16]

NO_FILTER = "none"

FILTERS: Mapping[str, str] = {
    NO_FILTER: "no filter",
    "wander": "baseline filter 0.5 Hz",
    "monitor": "filter 0.5-40 Hz",
}
"""Name of each filter to the words that stand on the picture while it is on."""

WANDER_HZ, WANDER_WIDTH_HZ = 0.5, 0.5
HIGH_HZ, HIGH_WIDTH_HZ = 40.0, 10.0
"""Where a filter halves the amplitude, and the width of the step there."""

_HAMMING = 3.3  # taps times width over rate (Oppenheim and Schafer, table of windows)


def filters_for(sampling_frequency_hz: float) -> dict[str, str]:
    """Return those of ``FILTERS`` that a rate allows: 40 Hz and the step around it must lie below its half."""
    is_fast = sampling_frequency_hz > 2 * (HIGH_HZ + HIGH_WIDTH_HZ)
    return {name: words for name, words in FILTERS.items() if is_fast or name != "monitor"}


def reach(name: str, sampling_frequency_hz: float) -> int:
    """Return how many samples to either side a filter looks at."""
    return 0 if name == NO_FILTER else int(_taps(name, sampling_frequency_hz).size // 2)


@lru_cache(maxsize=32)
def _taps(name: str, fs: float) -> NDArray[np.float64]:
    n_taps = 2 * round(_HAMMING * fs / WANDER_WIDTH_HZ / 2) + 1
    taps: NDArray[np.float64] = -firwin(n_taps, WANDER_HZ, fs=fs)
    taps[n_taps // 2] += 1.0
    if name == "monitor":
        taps = np.convolve(taps, firwin(2 * round(_HAMMING * fs / HIGH_WIDTH_HZ / 2) + 1, HIGH_HZ, fs=fs))
    return taps


def filtered(steps: Steps, name: str, sampling_frequency_hz: float, *, before: int, after: int) -> Steps:
    """Filter samples, a lead after the other.

    Parameters
    ----------
    steps : (lead, sample) int16, adu
        With what lies before and after, as far as the record has it and no further than ``reach``.
    before, after
        How many samples at each end of ``steps`` are there for the filter alone. Where the record ends its last sample is
        held; missing samples are bridged by a straight line for the filter, and are missing again in the result.

    Returns
    -------
    (lead, sample) int16, adu
        Without ``before`` and ``after``; around 0, whatever the lead's baseline was.

    """
    taps = _taps(name, sampling_frequency_hz)
    half = taps.size // 2
    found = np.empty((steps.shape[0], steps.shape[1] - before - after), np.int16)
    for row, lead in zip(found, steps, strict=True):
        whole = np.pad(_bridged(lead), (half - before, half - after), mode="edge")
        values = np.clip(np.rint(oaconvolve(whole, taps, mode="valid")), MISSING_SAMPLE + 1, 32767)
        is_missing = lead[before : lead.size - after] == MISSING_SAMPLE
        row[:] = np.where(is_missing, MISSING_SAMPLE, values)
    return found


def _bridged(lead: NDArray[np.int16]) -> NDArray[Any]:
    values = lead.astype(np.float64)
    is_known = lead != MISSING_SAMPLE
    if is_known.all() or not is_known.any():
        return values
    places = np.arange(lead.size)
    return np.asarray(np.interp(places, places[is_known], values[is_known]))
