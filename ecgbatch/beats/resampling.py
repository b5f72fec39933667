"""The low-pass between a record's rate and 125 Hz, for detection and windows alike: designed here, run in their kernels."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

RATE_HZ = 125.0
"""Working rate of detection and of every stored window."""

TAP_ONE = 32768
"""Taps are integers, this many to 1: sums are exact, so their order cannot matter."""

TAPS_AT_ONCE = 32
"""Taps are filled up with zeros to a multiple of this: processors multiply 16 or 32 at once, and a rest one by one."""


class Resampler(NamedTuple):
    """A polyphase low-pass between a record's rate and ``RATE_HZ``: ``taps`` (phase, tap) int16, ``TAP_ONE`` to 1.

    ``pairs`` (2, pair) int32 are the same taps two by two, and so again behind one zero (for sums that begin at an odd
    sample), where ``up`` is 1 and ``down`` even; else (2, 0).
    """

    up: int
    down: int
    reach: int
    taps: Array
    pairs: Array


@lru_cache(maxsize=64)
def resampler(sampling_frequency_hz: float, cutoff_hz: float, half_width_s: float) -> Resampler:
    """Design the low-pass that takes a rate to ``RATE_HZ``: a Kaiser window (beta 5, as ``scipy.signal.resample_poly``).

    Parameters
    ----------
    sampling_frequency_hz
        Rate of the record; read to a thousandth of a hertz.
    cutoff_hz
        Where the response is -6 dB.
    half_width_s
        Time that the taps reach to either side.

    Returns
    -------
    Resampler
        Each phase sums to ``TAP_ONE`` exactly, so that an offset passes unchanged.

    """
    from scipy.signal import firwin

    fs = Fraction(sampling_frequency_hz).limit_denominator(1000)
    ratio = Fraction(125) / fs
    up, down = ratio.numerator, ratio.denominator
    half = round(half_width_s * float(max(fs, Fraction(125))) * up)
    prototype = firwin(2 * half + 1, min(cutoff_hz, 0.45 * float(fs)), window=("kaiser", 5.0), fs=float(fs) * up) * up
    reach = -(-half // up)
    padded = np.zeros((up, -(-(2 * reach + 1) // TAPS_AT_ONCE) * TAPS_AT_ONCE))
    offset = half + np.arange(up)[:, None] - up * np.arange(-reach, reach + 1)[None, :]
    inside = (offset >= 0) & (offset <= 2 * half)
    padded[:, : 2 * reach + 1][inside] = prototype[offset[inside]]
    taps = np.rint(padded * TAP_ONE).astype(np.int64)
    taps[np.arange(up), np.argmax(taps, axis=1)] += TAP_ONE - taps.sum(axis=1)
    if np.abs(taps).sum(axis=1).max() >= 2 * TAP_ONE:
        raise ValueError(f"low-pass at {cutoff_hz} Hz for {sampling_frequency_hz} Hz could overflow 32 bits: use wider taps")
    return Resampler(up, down, reach, taps.astype(np.int16), pairs_of(taps[0, : 2 * reach + 1], up, down))


def pairs_of(taps: Array, up: int, down: int) -> Array:
    """Return ``Resampler.pairs`` of an odd number of taps."""
    both = np.zeros((2, len(taps) + 1), np.int16)
    if up != 1 or down % 2:
        return both[:, :0].view(np.int32)
    both[0, :-1] = both[1, 1:] = taps
    return both.view(np.int32)


def full_taps(design: Resampler) -> Array:
    """Return a design's taps as ``scipy.signal.resample_poly(x, up, down, window=...)`` takes them (sum 1, odd length)."""
    up, reach = design.up, design.reach
    taps = np.zeros((2 * reach + 1) * up + up)
    centre = (reach + 1) * up - 1
    for phase in range(up):
        position = centre + phase - up * np.arange(-reach, reach + 1)
        inside = (position >= 0) & (position < taps.size)
        taps[position[inside]] = design.taps[phase, : 2 * reach + 1][inside]
    half = min(centre, taps.size - 1 - centre)
    return taps[centre - half : centre + half + 1] / (TAP_ONE * up)
