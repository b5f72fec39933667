"""Wave figures: what a cardiologist reads in a median beat, in numbers: Q, R, S, ST and T of each lead (numba kernels).

Everything is a share of the lead's own QRS height or a time, so that neither gain nor units nor a database's amplitude
normalisation matters. Measured by patient (docs/model.md), boosted trees on these tell infarction from other heart disease better
than the network and than random kernels: width and depth of Q and the height of R in neighbouring leads are what sets them apart.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgbatch.kernels import kernel

Array = NDArray[Any]

VERSION = 1
"""Of the figures; trees fitted to others are refused."""

OF_BEAT = ("QRS duration", "R after the onset of QRS", "slowest before QRS", "slowest after QRS")
"""The first figures, of all leads together: times in samples, speeds as a share of the fastest."""

OF_LEAD = (
    "R", "Q", "S", "Q duration", "R duration", "S duration", "J", "ST 40 ms", "ST 80 ms", "T highest", "T lowest", "T time",
    "T mean", "P highest", "P lowest", "QRS area", "R time", "ST slope", "16 ms", "24 ms", "40 ms", "area of 40 ms",
    "R' over S", "QRS height", "turns", "T size", "R + Q", "R + S", "negative duration", "ST slope, late",
)  # fmt: skip
"""The figures of each lead, lead after lead: amplitudes over its level before QRS as a share of its QRS height (the height itself
in SD of the lead), times in samples from the onset of QRS; all 0 where the lead is missing."""

N_OF_BEAT, N_OF_LEAD = 4, 30
EDGE_SHARE = 0.12
"""Share of the fastest movement, over the slowest beside QRS, below which (two samples long) QRS has not begun or has ended."""
LEVEL = 0.03
"""Share of the QRS height that a wave must exceed while its duration counts: baseline noise of a median beat lies below."""
TURN = 0.04
"""Share of the QRS height that a turn of direction must move: smaller ones are noise, not notches."""


def r_index(beats: Any, n_samples: int) -> int:
    """Return the sample of the window that R is on, for beats cut with these settings (``evidence.segment_samples``)."""
    rate = float(beats.get("sampling_frequency_hz", 125.0))
    at = 0 if beats.get("method") == "kachuee" else int(float(beats.get("before_s", 0.25)) * rate)
    return min(at, n_samples - 1)


def wave_figures(beats: NDArray[np.float32], r_at: int) -> NDArray[np.float32]:
    """Return the figures of prepared median beats.

    Parameters
    ----------
    beats : (beat, lead, sample) float32
        From ``preparation.prepare_waveforms``, 125 samples a second; a lead of zeros is missing.
    r_at
        Sample that R is on.

    Returns
    -------
    (beat, N_OF_BEAT + N_OF_LEAD x lead) float32
        In the order of ``OF_BEAT``, then ``OF_LEAD`` of each lead. A beat's figures depend on that beat only.

    """
    return np.asarray(figures_of(np.require(beats, np.float32, ("C", "W")), r_at))


@kernel
def figures_of(beats: Array, r_at: int) -> Array:
    """Do ``wave_figures``."""
    n_beats, n_leads, n_samples = beats.shape
    found = np.zeros((n_beats, N_OF_BEAT + n_leads * N_OF_LEAD), np.float32)
    if n_samples < 3:  # nothing that could move
        return found
    speed, wave = np.zeros(n_samples), np.zeros(n_samples)
    for i in range(n_beats):
        move(beats[i], speed)
        peak = r_at
        for s in range(max(0, r_at - 6), min(n_samples, r_at + 7)):
            if speed[s] > speed[peak]:
                peak = s
        if speed[peak] <= 0:
            continue
        before, after = speed[peak], speed[peak]
        for s in range(max(0, r_at - 28), max(1, r_at - 4)):
            before = min(before, speed[s])
        for s in range(min(n_samples - 1, r_at + 5), min(n_samples, r_at + 25)):
            after = min(after, speed[s])
        first, onset = edge(speed, peak, max(1, r_at - 20), -1, before)
        last, offset = edge(speed, peak, min(n_samples - 2, r_at + 22), 1, after)
        own = found[i]
        own[0], own[1], own[2], own[3] = offset - onset, r_at - onset, before / speed[peak], after / speed[peak]
        for lead in range(n_leads):
            part = own[N_OF_BEAT + lead * N_OF_LEAD : N_OF_BEAT + (lead + 1) * N_OF_LEAD]
            height = scale_lead(beats[i, lead], first, last, wave)
            if height > 1e-3:
                part[23] = height
                qrs_figures(wave, first, last, onset, part)
                t_and_p_figures(wave, first, last, part)
    return found


@kernel
def move(beat: Array, speed: Array) -> None:
    """Write how fast all leads together move at each sample, a mean of three."""
    n_leads, n_samples = beat.shape
    raw = np.zeros(n_samples)
    for s in range(1, n_samples - 1):
        total = 0.0
        for lead in range(n_leads):
            step = float(beat[lead, s + 1]) - float(beat[lead, s - 1])
            total += step * step
        raw[s] = math.sqrt(total)
    raw[0], raw[n_samples - 1] = raw[1], raw[n_samples - 2]
    for s in range(1, n_samples - 1):
        speed[s] = (raw[s - 1] + raw[s] + raw[s + 1]) / 3
    speed[0], speed[n_samples - 1] = speed[1], speed[n_samples - 2]


@kernel
def edge(speed: Array, peak: int, limit: int, way: int, slowest: float) -> Any:
    """Return the sample at which QRS has begun or ended, looking from its fastest, and the place between samples."""
    bound = slowest + EDGE_SHARE * (speed[peak] - slowest)
    at = peak
    while at * way < limit * way and not (speed[at] < bound and speed[at + way] < bound):
        at += way
    place = float(at)
    inside = speed[at - way] if at != peak else bound
    if speed[at] < bound < inside:
        place -= way * (bound - speed[at]) / (inside - speed[at])
    return at, place


@kernel
def scale_lead(lead: Array, first: int, last: int, wave: Array) -> float:
    """Write a lead over its level before QRS, as a share of its QRS height; return the height."""
    level, n = 0.0, 0
    for s in range(max(0, first - 4), first + 1):
        level += lead[s]
        n += 1
    level /= n
    highest, lowest = lead[first], lead[first]
    for s in range(first, last + 1):
        highest, lowest = max(highest, lead[s]), min(lowest, lead[s])
    height = float(highest) - float(lowest)
    if height > 1e-3:
        for s in range(lead.shape[0]):
            wave[s] = (lead[s] - level) / height
    return height


@kernel
def beyond(wave: Array, first: int, last: int, sign: float) -> float:
    """Return for how many samples, fractions too, a wave exceeds ``LEVEL`` on one side."""
    total = 0.0
    for s in range(first, last):
        here, there = sign * wave[s] - LEVEL, sign * wave[s + 1] - LEVEL
        if here > 0 and there > 0:
            total += 1.0
        elif here > 0:
            total += here / (here - there)
        elif there > 0:
            total += there / (there - here)
    return total


@kernel
def qrs_figures(wave: Array, first: int, last: int, onset: float, part: Array) -> None:
    """Write what QRS and ST look like in a lead."""
    end = wave.shape[0] - 1
    r = first
    for s in range(first, last + 1):
        if wave[s] > wave[r]:
            r = s
    q, after = first, r
    for s in range(first, r + 1):
        if wave[s] < wave[q]:
            q = s
    for s in range(r, last + 1):
        if wave[s] < wave[after]:
            after = s
    again, area, early = 0.0, 0.0, 0.0
    for s in range(after, last + 1):
        again = max(again, wave[s] - wave[after])
    for s in range(first, last + 1):
        area += wave[s]
    for s in range(first, min(end, first + 5) + 1):
        early += wave[s]
    part[0], part[1], part[2] = wave[r], wave[q], wave[after]
    part[3], part[4], part[5] = beyond(wave, first, r, -1.0), beyond(wave, first, last, 1.0), beyond(wave, r, last, -1.0)
    part[6], part[7], part[8] = wave[last], wave[min(end, last + 5)], wave[min(end, last + 10)]
    part[15], part[16], part[17] = area, r - onset, part[8] - part[6]
    part[18], part[19], part[20] = wave[min(end, first + 2)], wave[min(end, first + 3)], wave[min(end, first + 5)]
    part[21], part[22], part[24] = early, again, turns(wave, first, last)
    part[26], part[27] = part[0] + part[1], part[0] + part[2]
    part[28], part[29] = beyond(wave, first, last, -1.0), part[8] - part[7]


@kernel
def turns(wave: Array, first: int, last: int) -> float:
    """Return how often a lead turns round within QRS."""
    n, extreme, way = 0.0, wave[first], 0
    for s in range(first + 1, last + 1):
        if way >= 0 and wave[s] > extreme:
            extreme, way = wave[s], 1
        elif way >= 0 and extreme - wave[s] > TURN:
            n += way
            extreme, way = wave[s], -1
        elif way < 0 and wave[s] < extreme:
            extreme = wave[s]
        elif way < 0 and wave[s] - extreme > TURN:
            n += 1.0
            extreme, way = wave[s], 1
    return n


@kernel
def t_and_p_figures(wave: Array, first: int, last: int, part: Array) -> None:
    """Write what T and P look like in a lead; T from 64 to 352 ms after QRS, P from 192 to 32 ms before."""
    start, stop = last + 8, min(wave.shape[0] - 1, last + 44)
    if start < stop:
        highest, lowest, total, at = wave[start], wave[start], 0.0, start
        for s in range(start, stop):
            highest, lowest = max(highest, wave[s]), min(lowest, wave[s])
            total += wave[s]
            if abs(wave[s]) > abs(wave[at]):
                at = s
        part[9], part[10], part[11], part[12] = highest, lowest, at - start, total / (stop - start)
        part[25] = max(abs(highest), abs(lowest))
    start, stop = max(0, first - 24), max(1, first - 4)
    highest, lowest = wave[start], wave[start]
    for s in range(start, stop):
        highest, lowest = max(highest, wave[s]), min(lowest, wave[s])
    part[13], part[14] = highest, lowest
