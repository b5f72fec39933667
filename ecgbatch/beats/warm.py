"""Have all machine code of this wing made, or loaded, before threads ask for it at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ecgbatch.beats.record import RPeaks, beat_windows, detect_r_peaks
from ecgbatch.kernels import is_on_disk
from ecgbatch.terms import LEADS, MISSING_SAMPLE


def warm_up(on_progress: Callable[[int, int], None] | None = None) -> None:
    """Have numba load or make all machine code for ``robust``.

    Parameters
    ----------
    on_progress
        Called with steps done and steps in all, only where code is made, about 20 s the first time on a machine.

    """
    from ecgbatch.beats import candidates, detection, filtering, likeness, sequence, windows

    made = (
        *(filtering.listen, filtering.windows_sums, detection.levels, sequence.choose_each, candidates.evidence_each),
        *(windows.write_each, likeness.resemblance_each),
    )
    report = on_progress if on_progress and not all(is_on_disk(one) for one in made) else lambda _done, _total: None
    report(0, 2)
    find_peaks()
    report(1, 2)
    cut_beats()
    report(2, 2)


def find_peaks() -> None:
    """Call each kernel of ``detect_r_peaks``."""
    detect_r_peaks(_signal(), baseline=np.zeros(2), **_FACTS)


def cut_beats() -> None:
    """Call each kernel of ``beat_windows``."""
    peaks = RPeaks(np.arange(100, 2000, 200, dtype=np.int32), np.zeros(10, np.uint16), 2)
    beat_windows(_signal(), peaks, **_FACTS)


def cut_as_published() -> None:
    """Call each kernel of ``kachuee_beats``: 10 s are one of its windows, and PTB's rate asks for the longest low-pass."""
    from ecgbatch.beats.kachuee import kachuee_beats

    signal = np.tile(_signal(), (1, 6))
    kachuee_beats(signal, adc_gain=_FACTS["adc_gain"], baseline=np.zeros(2), sampling_frequency_hz=1000.0, leads=list(LEADS[:2]))


_FACTS: dict[str, Any] = {"adc_gain": np.full(2, 1000.0), "sampling_frequency_hz": 250.0}


def _signal() -> Any:
    """Return two leads (lead, sample) int16 of a beat each 0.8 s; what bridges gaps is made too."""
    time_s = np.arange(2000) / 250.0
    signal = np.rint(1000 * np.exp(-0.5 * ((time_s % 0.8 - 0.4) / 0.012) ** 2) * np.ones((2, 1))).astype(np.int16)
    signal[1, 500:520] = MISSING_SAMPLE
    return signal
