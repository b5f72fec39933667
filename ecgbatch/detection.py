"""R peaks from int16 samples: bands, votes and the place of R (numba kernels); ``sequence`` chooses the beats.

Every kernel is ``nogil`` and single-threaded, sums integers exactly and floats in one fixed order: the same samples give
the same bytes on any processor, engine and number of threads. Importing this module imports numba; ``record_beats`` does it
only when it is about to compute. docs/beat-detection.md explains the method and how its rules were chosen.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgbatch.beat_evidence import Trees, evidence, fitted_trees, log_odds
from ecgbatch.kernels import kernel
from ecgbatch.resampling import RATE_HZ, Resampler, full_taps, resampler
from ecgbatch.sequence import RULES, Choice, Rules, choose, premature, settle

__all__ = [
    "RATE_HZ",
    "RULES",
    "Found",
    "Resampler",
    "Rules",
    "fill_gaps",
    "find_beats",
    "full_taps",
    "premature",
    "resample",
    "resampler",
]

Array = NDArray[Any]

TAP_ONE = 32768
"""``resampling.TAP_ONE``, as a literal that kernels can freeze."""

MISSING = -32768
"""``terms.MISSING_SAMPLE``, likewise."""

BAND_HZ = 15.0
"""Centre of the band: most of a QRS lies in 5-22 Hz, most of P, T and wander below, most of muscle above."""
BAND_SD_HZ = 5.5
"""Width of the band, the standard deviation of its Gaussian: -4 dB at 10 and 20 Hz, -7 at 8 and 22, -16 at 5, -45 at 1."""
BAND_REACH = 12
"""Samples at ``RATE_HZ`` that the band's taps reach to either side (3.3 standard deviations of its envelope in time)."""

PAD = 16
"""Samples before and after a lead at the working rate; at least ``BAND_REACH``."""


@lru_cache(maxsize=1)
def band_taps() -> tuple[Array, Array]:
    """Return the band's even and odd taps, centre first: a Gaussian times cosine and sine (a Gabor pair), float32."""
    time_s = np.arange(-BAND_REACH, BAND_REACH + 1) / RATE_HZ
    bell = np.exp(-0.5 * (2 * np.pi * BAND_SD_HZ * time_s) ** 2)
    even = bell * np.cos(2 * np.pi * BAND_HZ * time_s)
    even -= bell * even.sum() / bell.sum()
    odd = bell * np.sin(2 * np.pi * BAND_HZ * time_s)
    gain = np.abs(np.sum(even * np.exp(-2j * np.pi * BAND_HZ * time_s)))
    return (even / gain)[BAND_REACH:].astype(np.float32), (odd / gain)[BAND_REACH:].astype(np.float32)


@kernel
def at_the_end(lead: Array, taps: Array, phase: int, reach: int, first: int) -> Any:
    """Return a filtered sample whose taps leave the record, in ``1 / TAP_ONE`` steps: the record's end is held."""
    total = np.int32(0)
    for k in range(2 * reach + 1):
        i = min(max(first + k, 0), lead.shape[0] - 1)
        total = np.int32(total + np.int32(lead[i]) * np.int32(taps[phase, k]))
    return total


@kernel
def fill_gaps(lead: Array) -> Array:
    """Return the lead with missing samples held at the last known one; the lead itself if none is missing."""
    lowest = np.int16(0)
    for i in range(lead.shape[0]):
        lowest = min(lowest, lead[i])
    if lowest != MISSING:
        return lead
    filled = lead.copy()
    known = 0
    while known < lead.shape[0] and lead[known] == MISSING:
        known += 1
    last = lead[known] if known < lead.shape[0] else np.int16(0)
    for i in range(lead.shape[0]):
        if lead[i] == MISSING:
            filled[i] = last
        else:
            last = lead[i]
    return filled


def without_gaps(signal: Array, n: int, use: Array) -> tuple[Array, bool]:
    """Return the signal (lead, sample) with every used lead's gaps bridged, and whether there are any; a copy only then."""
    filled = signal
    for lead in np.flatnonzero(use):
        own = fill_gaps(signal[lead, :n])
        if not np.may_share_memory(own, signal):
            filled = signal.copy() if filled is signal else filled
            filled[lead, :n] = own
    return filled, filled is not signal


@kernel
def resample(lead: Array, taps: Array, up: int, down: int, reach: int, offset: float, step: float, out: Array) -> None:
    """Write a lead at ``RATE_HZ`` into ``out`` float32: (filtered - offset) x step, gain applied here and only here."""
    n, n_taps = lead.shape[0], taps.shape[1]
    whole, part = down // up, down % up
    scale, zero = np.float32(step / TAP_ONE), np.float32(offset * step)
    i, phase = 0, 0
    for j in range(out.shape[0]):
        first = i - reach
        total = np.int32(0)
        if first >= 0 and first + n_taps <= n:
            # int16 products in int32 are exact; unsigned indices because a sign test would keep this loop scalar.
            start, row = np.uint64(first), np.uint64(phase)
            for k in range(np.uint64(n_taps)):
                total = np.int32(total + np.int32(lead[start + k]) * np.int32(taps[row, k]))
        else:
            total = at_the_end(lead, taps, phase, reach, first)
        out[j] = np.float32(total) * scale - zero
        i += whole
        phase += part
        if phase >= up:
            phase -= up
            i += 1


@kernel
def add_pair(c: Any, d: Any, after: Array, before: Array, even: Array, odd: Array) -> None:
    """Add one tap's share of both filters."""
    for j in range(even.shape[0]):
        even[j] += c * (after[j] + before[j])
        odd[j] += d * (after[j] - before[j])


@kernel
def band(padded: Array, even_taps: Array, odd_taps: Array, even: Array, envelope: Array) -> None:
    """Filter a lead (padded by ``PAD`` on both sides) to its band and that band's envelope, both zero phase."""
    for start in range(0, even.shape[0], 512):
        n = min(512, even.shape[0] - start)
        o = start + PAD
        e, q, x = even[start : start + n], envelope[start : start + n], padded[o : o + n]
        for j in range(n):
            e[j] = even_taps[0] * x[j]
            q[j] = np.float32(0)
        for k in range(1, even_taps.shape[0]):
            add_pair(even_taps[k], odd_taps[k], padded[o + k : o + k + n], padded[o - k : o - k + n], e, q)
        for j in range(n):
            q[j] = np.sqrt(e[j] * e[j] + q[j] * q[j])


@kernel
def ranked(values: Array, share: float) -> Any:
    """Return the value that ``share`` of a few values lie below, sorting them in place; 0.5 gives the (upper) median."""
    for i in range(1, values.shape[0]):
        value, j = values[i], i
        while j > 0 and values[j - 1] > value:
            values[j] = values[j - 1]
            j -= 1
        values[j] = value
    return values[int(share * values.shape[0])]


@kernel
def highest_of(values: Array) -> Any:
    """Return the highest of some int32, 0 at least."""
    top = np.int32(0)
    for j in range(values.shape[0]):
        top = max(top, values[j])
    return top


@kernel
def typical_qrs(envelope: Array, block: int, n_blocks: int) -> Array:
    """Return each block's typical QRS: what two thirds of the maxima of the blocks around it lie below.

    Not their median: at 40 beats a minute nearly half of the blocks hold no QRS.
    """
    n = max(1, (envelope.shape[0] + block // 2) // block)
    # Positive floats are in the order of their bits, and a maximum of whole numbers is taken many at once.
    bits, highest = envelope.view(np.int32), np.zeros(n, np.float32)
    highest_bits = highest.view(np.int32)
    for i in range(n):
        stop = envelope.shape[0] if i == n - 1 else (i + 1) * block
        highest_bits[i] = highest_of(bits[i * block : stop])
    typical = np.empty(n, np.float32)
    for i in range(n):
        low, high = max(0, min(i - n_blocks, n - 2 * n_blocks - 1)), min(n, max(i + n_blocks + 1, 2 * n_blocks + 1))
        typical[i] = ranked(highest[low:high].copy(), 2.0 / 3.0)
    return typical


@kernel
def mean_level(envelope: Array, typical: Array, block: int) -> Array:
    """Return each block's mean envelope over its typical QRS: 0.1-0.2 where beats stand alone, near 0.5 in noise."""
    n = typical.shape[0]
    level = np.empty(n, np.float32)
    for i in range(n):
        stop = envelope.shape[0] if i == n - 1 else (i + 1) * block
        part = envelope[i * block : stop]
        top, total = np.float32(1.5) * typical[i], 0.0
        for j in range(part.shape[0]):
            total += min(part[j], top)
        level[i] = total / max(np.float32(1e-9), typical[i] * max(1, part.shape[0]))
    return level


@kernel
def votes(level: Array, typical: Array, floor_mv: float, noise: float, power: float) -> Array:
    """Return each lead's weight in each block, summing to 1 over leads, or to 0 where no lead carries a signal."""
    n_leads, n = level.shape
    weight = np.zeros((n_leads, n), np.float32)
    for i in range(n):
        total = 0.0
        low, high = max(0, i - 1), min(n, i + 2)
        for lead in range(n_leads):
            if typical[lead, i] > floor_mv:
                mean = 0.0
                for b in range(low, high):
                    mean += level[lead, b]
                weight[lead, i] = max(0.02, 1.0 - mean / (high - low) / noise) ** power
                total += weight[lead, i]
        for lead in range(n_leads):
            weight[lead, i] /= max(1e-9, total)
    return weight


@kernel
def fuse(envelope: Array, weight: Array, typical: Array, block: int, fused: Array) -> None:
    """Add the leads' envelopes, each over its typical QRS and by its vote."""
    n = typical.shape[1]
    for i in range(n):
        stop = fused.shape[0] if i == n - 1 else (i + 1) * block
        part = fused[i * block : stop]
        part[:] = np.float32(0)
        for lead in range(envelope.shape[0]):
            if weight[lead, i] > 0:
                gain = weight[lead, i] / typical[lead, i]
                own = envelope[lead, i * block : stop]
                for j in range(part.shape[0]):
                    part[j] += gain * own[j]


@kernel
def summit(curve: Array, centre: Any) -> Any:
    """Return the place of an extremum between samples, by the parabola through it and its two neighbours."""
    bend = curve[centre - 1] - 2 * curve[centre] + curve[centre + 1]
    shift = 0.5 * (curve[centre - 1] - curve[centre + 1]) / bend if bend != 0 else 0.0
    return centre + min(0.5, max(-0.5, shift))


@kernel
def place(even: Array, gain: Array, position: Array, reach: int, closest: int) -> Array:
    """Return where R is, in samples at ``RATE_HZ`` with fractions: the summit of the leads' weighted sum in the band.

    ``gain`` (lead) is fixed for the record, each lead turned so that its usual QRS is positive; only where a beat's
    opposite swing is half as large again (an aberrant beat) is R placed on that.
    """
    n, width = position.shape[0], 2 * reach + 3
    placed, curve = np.empty(n), np.empty(width)
    for i in range(n):
        # Two beats may not move closer to each other than the refractory period.
        left = reach if i == 0 else min(reach, (position[i] - position[i - 1] - closest) // 2)
        right = reach if i == n - 1 else min(reach, (position[i + 1] - position[i] - closest) // 2)
        if left < 1 or right < 1 or position[i] <= reach or position[i] + reach + 2 >= even.shape[1]:
            placed[i] = position[i]
            continue
        first = position[i] - reach - 1
        curve[:] = 0.0
        for lead in range(even.shape[0]):
            if gain[lead] != 0:
                for j in range(width):
                    curve[j] += gain[lead] * even[lead, first + j]
        up = down = reach + 1
        for j in range(reach + 1 - left, reach + 2 + right):
            up = j if curve[j] > curve[up] else up
            down = j if curve[j] < curve[down] else down
        placed[i] = first + summit(curve, down if -curve[down] > 1.5 * curve[up] else up)
    return placed


PLACE_REACH = 8
"""Samples at ``RATE_HZ`` to either side of a fused summit in which R is placed: 64 ms."""

REFERENCE_GAIN = 10.0
"""How much more the reference lead counts where R is placed: alone where it is good, helped where it is not."""


@kernel
def polarity(even: Array, position: Array, reach: int) -> Array:
    """Return +1 or -1 for each lead: the direction of its usual QRS in the band."""
    sign = np.ones(even.shape[0])
    for lead in range(even.shape[0]):
        balance = 0.0
        for i in range(position.shape[0]):
            part = even[lead, max(0, position[i] - reach) : position[i] + reach + 1]
            low = high = part[0]
            for j in range(part.shape[0]):
                low, high = min(low, part[j]), max(high, part[j])
            balance += low + high
        if balance < 0:
            sign[lead] = -1.0
    return sign


@kernel
def listen(
    signal: Array, first: int, n: int, use: Array, offset: Array, step: Array, taps: Array, up: int, down: int, reach: int,
    even_taps: Array, odd_taps: Array, block: int, n_blocks: int,
) -> tuple[Array, Array, Array, Array]:  # fmt: skip
    """Return every used lead's band and envelope (lead, sample) at ``RATE_HZ``, typical QRS and mean level (lead, block).

    Of the samples from ``first`` to ``n``.
    """
    n_out, n_used, row = -(-(n - first) * up // down), np.sum(use), 0
    even, envelope = np.empty((n_used, n_out), np.float32), np.empty((n_used, n_out), np.float32)
    padded = np.empty(n_out + 2 * PAD, np.float32)
    n_block = max(1, (n_out + block // 2) // block)
    typical, level = np.empty((n_used, n_block), np.float32), np.empty((n_used, n_block), np.float32)
    for lead in range(signal.shape[0]):
        if use[lead]:
            own = fill_gaps(signal[lead, first:n])
            resample(own, taps, up, down, reach, offset[lead], step[lead], padded[PAD : PAD + n_out])
            padded[:PAD] = padded[PAD]
            padded[PAD + n_out :] = padded[PAD + n_out - 1]
            band(padded, even_taps, odd_taps, even[row], envelope[row])
            typical[row] = typical_qrs(envelope[row], block, n_blocks)
            level[row] = mean_level(envelope[row], typical[row], block)
            row += 1
    return even, envelope, typical, level


class Found(NamedTuple):
    """Beats of a record: where R is in samples at ``RATE_HZ`` (beat) float64, and activity between beats (beat) float64."""

    place: Array
    noise: Array


def find_beats(
    signal: Array, n: int, use: Array, offset: Array, step: Array, design: Resampler, *, reference: int, rules: Rules = RULES,
    trees: Trees | None = None, first: int = 0,
) -> Found:  # fmt: skip
    """Find the beats of a record on all its usable leads.

    Parameters
    ----------
    signal : (lead, sample) int16
        C-contiguous; missing samples are -32768.
    n
        Samples that belong to the record, more than ``first``.
    use : (lead,) bool
        At least one is true.
    offset, step : (lead,) float64
        ADC value of 0 mV; mV per ADC unit.
    design
        From ``resampler``, for the record's rate.
    reference
        The lead that R is placed on, as far as it carries a signal.
    trees
        What weighs the candidates that the rules leave in doubt; those that ship with the package if not given.
    first
        Sample to begin at; places count from there.

    """
    block = int(rules.block_s * RATE_HZ)
    even, envelope, typical, level = listen(
        signal,
        first,
        n,
        use,
        offset,
        step,
        design.taps,
        design.up,
        design.down,
        design.reach,
        *band_taps(),
        block,
        rules.n_blocks,
    )
    weight, fused = fusion(envelope, typical, level, block, rules)
    choice, figures = candidates(fused, even, envelope, weight, typical, level, block, rules)
    position, noise = settle(choice, log_odds(figures, *(trees or fitted_trees())), rules)
    gain = (weight / np.maximum(typical, np.float32(rules.floor_mv))).sum(axis=1, dtype=np.float64)
    if use[reference]:
        gain[np.count_nonzero(use[:reference])] *= REFERENCE_GAIN
    gain *= polarity(even, position, PLACE_REACH)
    return Found(place(even, gain, position, PLACE_REACH, int(rules.refractory_s * RATE_HZ) + 1), noise)


def fusion(envelope: Array, typical: Array, level: Array, block: int, rules: Rules) -> tuple[Array, Array]:
    """Return the leads' votes (lead, block) and their envelopes added by them (sample)."""
    weight = votes(level, typical, rules.floor_mv, rules.noise, rules.noise_power)
    fused = np.empty(envelope.shape[1], np.float32)
    fuse(envelope, weight, typical, block, fused)
    return weight, fused


def candidates(
    fused: Array, even: Array, envelope: Array, weight: Array, typical: Array, level: Array, block: int, rules: Rules
) -> tuple[Choice, Array]:
    """Return the rules' choice, and every candidate's figures (candidate, figure) for the trees."""
    choice = choose(fused, even, weight, block, rules)
    return choice, evidence(
        fused, even, envelope, weight, typical, level, block, choice.usual, choice.other,
        choice.position, choice.amplitude, choice.chosen, choice.local_s, choice.level, choice.gains,
    )  # fmt: skip
