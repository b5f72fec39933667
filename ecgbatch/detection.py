"""R peaks from int16 samples: the numba kernels behind ``ecgbatch.beats``.

Every kernel is ``nogil`` and single-threaded, sums integers exactly and floats in one fixed order: the same samples give
the same bytes on any processor, engine and number of threads. Importing this module imports numba; ``beats`` does it
only when it is about to compute. docs/beat-detection.md explains the method and how its rules were chosen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]
Kernel = TypeVar("Kernel", bound=Callable[..., Any])

RATE_HZ = 125.0
"""Working rate of detection and of every stored window."""

TAP_ONE = 32768
"""Taps are integers, this many to 1: sums are exact, so their order cannot matter."""

MISSING = -32768
"""``terms.MISSING_SAMPLE``, as a literal that kernels can freeze."""


def kernel(function: Kernel) -> Kernel:
    """Compile to machine code that runs without the interpreter lock; kept on disk beside the module."""
    return cast(Kernel, njit(nogil=True, cache=True, error_model="numpy")(function))


class Rules(NamedTuple):
    """What a beat looks like. Tuned on MIT-BIH DS1 (see docs/beat-detection.md); amplitudes are relative to a typical QRS.

    ``block_s``, ``n_blocks``: a lead's typical QRS is what two thirds of the maxima of blocks lie below, over that many
    neighbours on either side. ``threshold``, ``separation_s``: smallest and closest maxima that become candidates. ``cap``,
    ``theta``: a beat earns its amplitude, at most ``cap``, less ``theta``. ``refractory_s``: never closer.
    ``early_s``, ``early_cost``, ``unequal``: closer than this costs, twice if one is less than ``unequal`` of the other
    (a T wave). ``late``, ``late_slope``, ``late_cost``: an interval longer than ``late`` times the local one costs
    (search-back); ``first_s`` is taken for local in the first round. ``noise``, ``noise_power``: a lead's vote against its
    mean level. ``floor_mv``: a typical QRS below this is no signal. ``likeness``, ``likeness_zero``: a candidate earns its
    correlation with the usual beat, or with the usual other beat, above the second. ``theta_noise``: it pays for what
    lies between beats around it.

    """

    block_s: float = 1.1
    n_blocks: int = 4
    threshold: float = 0.21
    separation_s: float = 0.17
    cap: float = 1.38
    theta: float = 0.44
    refractory_s: float = 0.2
    early_s: float = 0.34
    early_cost: float = 0.48
    unequal: float = 0.43
    late: float = 1.14
    late_slope: float = 0.79
    late_cost: float = 3.3
    noise: float = 0.62
    noise_power: float = 2.3
    floor_mv: float = 0.01
    likeness: float = 0.59
    likeness_zero: float = 0.4
    theta_noise: float = 1.6
    first_s: float = 1.3


RULES = Rules()

BAND_HZ = 15.0
"""Centre of the band: most of a QRS lies in 5-22 Hz, most of P, T and wander below, most of muscle above."""
BAND_SD_HZ = 5.5
"""Width of the band, the standard deviation of its Gaussian: -4 dB at 10 and 20 Hz, -7 at 8 and 22, -16 at 5, -45 at 1."""
BAND_REACH = 12
"""Samples at ``RATE_HZ`` that the band's taps reach to either side (3.3 standard deviations of its envelope in time)."""

PAD = 16
"""Samples before and after a lead at the working rate; at least ``BAND_REACH``."""


class Resampler(NamedTuple):
    """A polyphase low-pass between a record's rate and ``RATE_HZ``: ``taps`` (phase, tap) int16, ``TAP_ONE`` to 1."""

    up: int
    down: int
    reach: int
    taps: Array


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
    padded = np.zeros((up, -(-(2 * reach + 1) // 16) * 16))
    offset = half + np.arange(up)[:, None] - up * np.arange(-reach, reach + 1)[None, :]
    inside = (offset >= 0) & (offset <= 2 * half)
    padded[:, : 2 * reach + 1][inside] = prototype[offset[inside]]
    taps = np.rint(padded * TAP_ONE).astype(np.int64)
    taps[np.arange(up), np.argmax(taps, axis=1)] += TAP_ONE - taps.sum(axis=1)
    if np.abs(taps).sum(axis=1).max() >= 2 * TAP_ONE:
        raise ValueError(f"low-pass at {cutoff_hz} Hz for {sampling_frequency_hz} Hz could overflow 32 bits: use wider taps")
    return Resampler(up, down, reach, taps.astype(np.int16))


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
def typical_qrs(envelope: Array, block: int, n_blocks: int) -> Array:
    """Return each block's typical QRS: what two thirds of the maxima of the blocks around it lie below.

    Not their median: at 40 beats a minute nearly half of the blocks hold no QRS.
    """
    n = max(1, (envelope.shape[0] + block // 2) // block)
    highest = np.zeros(n, np.float32)
    for i in range(n):
        stop = envelope.shape[0] if i == n - 1 else (i + 1) * block
        top = np.float32(0)
        part = envelope[i * block : stop]
        for j in range(part.shape[0]):
            top = max(top, part[j])
        highest[i] = top
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
def votes(level: Array, typical: Array, rules: Rules) -> Array:
    """Return each lead's weight in each block, summing to 1 over leads, or to 0 where no lead carries a signal."""
    n_leads, n = level.shape
    weight = np.zeros((n_leads, n), np.float32)
    for i in range(n):
        total = 0.0
        low, high = max(0, i - 1), min(n, i + 2)
        for lead in range(n_leads):
            if typical[lead, i] > rules.floor_mv:
                mean = 0.0
                for b in range(low, high):
                    mean += level[lead, b]
                weight[lead, i] = max(0.02, 1.0 - mean / (high - low) / rules.noise) ** rules.noise_power
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
def find_candidates(fused: Array, threshold: float, separation: int, position: Array, amplitude: Array) -> int:
    """Write local maxima above ``threshold``, the larger of two that are too close; return how many."""
    n = 0
    limit = np.float32(threshold)
    for j in range(1, fused.shape[0] - 1):
        value = fused[j]
        if value > limit and value > fused[j - 1] and value >= fused[j + 1]:
            if n > 0 and j - position[n - 1] < separation:
                if value > amplitude[n - 1]:
                    position[n - 1], amplitude[n - 1] = j, value
            else:
                position[n], amplitude[n] = j, value
                n += 1
    return n


@kernel
def lateness(gap_s: float, local_s: float, rules: Rules) -> float:
    """Return what an interval longer than the local one costs; nothing while none is known."""
    if local_s <= 0 or gap_s <= rules.late * local_s:
        return 0.0
    return min(rules.late_cost, rules.late_slope * math.log(gap_s / (rules.late * local_s)))


@kernel
def interval_cost(gap_s: float, local_s: float, first: float, second: float, rules: Rules) -> float:
    """Return what an interval between two candidates of given amplitudes costs; ``local_s`` is 0 while none is known."""
    cost = 0.0
    if gap_s < rules.early_s:
        cost += rules.early_cost * (rules.early_s - gap_s) / (rules.early_s - rules.refractory_s)
        if second < rules.unequal * first or first < rules.unequal * second:
            cost += rules.early_cost
    return cost + lateness(gap_s, local_s, rules)


@kernel
def best_sequence(position: Array, amplitude: Array, worth: Array, local_s: Array, rules: Rules, chosen: Array) -> int:
    """Choose the candidates whose worth, less what the intervals between them cost, sums highest; return how many."""
    n = position.shape[0]
    score, highest = np.empty(n), np.empty(n)
    before, highest_at = np.empty(n, np.int64), np.empty(n, np.int64)
    for j in range(n):
        best, best_at = -lateness(position[j] / RATE_HZ, local_s[j], rules), -1
        i = j - 1
        while i >= 0:
            gap_s = (position[j] - position[i]) / RATE_HZ
            if gap_s > 3.0:
                value = highest[i] - lateness(gap_s, local_s[j], rules)
                if value > best:
                    best, best_at = value, highest_at[i]
                break
            if gap_s >= rules.refractory_s and score[i] > best:
                value = score[i] - interval_cost(gap_s, local_s[j], amplitude[i], amplitude[j], rules)
                if value > best:
                    best, best_at = value, i
            i -= 1
        score[j] = best + worth[j]
        before[j] = best_at
        highest[j], highest_at[j] = score[j], j
        if j > 0 and highest[j - 1] > score[j]:
            highest[j], highest_at[j] = highest[j - 1], highest_at[j - 1]
    return trace_back(position, score, before, local_s, rules, chosen)


@kernel
def trace_back(position: Array, score: Array, before: Array, local_s: Array, rules: Rules, chosen: Array) -> int:
    """Write the best sequence's candidates in order; return how many."""
    best, at = 0.0, -1
    for i in range(position.shape[0]):
        value = score[i] - lateness((position[-1] - position[i]) / RATE_HZ, local_s[i], rules)
        if value > best:
            best, at = value, i
    n = 0
    while at >= 0:
        chosen[n] = at
        n += 1
        at = before[at]
    for i in range(n // 2):
        chosen[i], chosen[n - 1 - i] = chosen[n - 1 - i], chosen[i]
    return n


@kernel
def local_intervals(position: Array, chosen: Array, local_s: Array) -> None:
    """Write, for each candidate, the median interval of the ten chosen beats around it; 0 where there are too few."""
    n, after, near = chosen.shape[0], 0, np.empty(10)
    for j in range(position.shape[0]):
        while after < n and position[chosen[after]] < position[j]:
            after += 1
        low, high = max(0, min(after - 5, n - 10)), min(n, max(after + 5, 10))
        for i in range(low + 1, high):
            near[i - low - 1] = position[chosen[i]] - position[chosen[i - 1]]
        local_s[j] = ranked(near[: high - low - 1], 0.5) / RATE_HZ if high - low >= 4 else 0.0


@kernel
def premature(r_sample: Array, share: float) -> Array:
    """Return (beat,) bool: the interval before the beat is under ``share`` of the median of the eleven around it."""
    n, near = r_sample.shape[0] - 1, np.empty(11)
    early = np.zeros(r_sample.shape[0], np.bool_)
    for i in range(n if n >= 4 else 0):
        low = max(0, min(i - 5, n - 11))
        high = min(n, low + 11)
        for j in range(low, high):
            near[j - low] = r_sample[j + 1] - r_sample[j]
        early[i + 1] = r_sample[i + 1] - r_sample[i] < share * ranked(near[: high - low], 0.5)
    return early


@kernel
def decide(fused: Array, even: Array, weight: Array, block: int, rules: Rules) -> tuple[Array, Array, Array]:
    """Return position (samples at ``RATE_HZ``), amplitude and noise of every beat: rounds, each knowing its neighbours."""
    separation = max(2, int(rules.separation_s * RATE_HZ))
    room = fused.shape[0] // separation + 2
    position, amplitude = np.empty(room, np.int64), np.empty(room)
    n = find_candidates(fused, rules.threshold, separation, position, amplitude)
    position, amplitude = position[:n], amplitude[:n]
    total = running_total(fused)
    level = np.zeros(n)
    local_s, chosen = np.full(n, rules.first_s), np.empty(n, np.int64)
    likeness, worth = np.full(n, rules.likeness_zero), np.empty(n)
    m = 0
    for turn in range(3):
        for j in range(n):
            worth[j] = min(amplitude[j], rules.cap) - rules.theta - rules.theta_noise * level[j]
            worth[j] += rules.likeness * (likeness[j] - rules.likeness_zero)
        m = best_sequence(position, amplitude, worth, local_s, rules, chosen) if n > 0 else 0
        if m == 0:
            break
        if turn < 2:
            local_intervals(position, chosen[:m], local_s)
            resemble(even, weight, block, position, chosen[:m], likeness)
            level = level_between(total, position, position[chosen[:m]])
    position, amplitude = position[chosen[:m]], amplitude[chosen[:m]]
    return position, amplitude, level_between(total, position, position)


REACH = 11
"""Samples to either side of a candidate that its shape is compared over: 88 ms, a wide QRS."""


@kernel
def shape_at(even: Array, weight: Array, block: int, centre: int, shape: Array) -> bool:
    """Write the leads' shapes around ``centre``, each of norm 1 times the root of its vote; False at the record's ends."""
    if centre < REACH or centre + REACH >= even.shape[1]:
        return False
    at = min(centre // block, weight.shape[1] - 1)
    width = 2 * REACH + 1
    for lead in range(even.shape[0]):
        power = 0.0
        for k in range(width):
            value = even[lead, centre - REACH + k]
            power += value * value
        gain = math.sqrt(weight[lead, at] / max(1e-12, power))
        for k in range(width):
            shape[lead, k] = gain * even[lead, centre - REACH + k]
    return True


@kernel
def product(first: Array, second: Array) -> float:
    """Return the sum of products of two sets of shapes."""
    total = 0.0
    for lead in range(first.shape[0]):
        for k in range(first.shape[1]):
            total += first[lead, k] * second[lead, k]
    return total


@kernel
def mean_shape(even: Array, weight: Array, block: int, centres: Array, other: Array, use_other: bool) -> tuple[Array, int]:
    """Return the mean shape of beats, norm 1, and their number; of those unlike ``other`` only, if asked."""
    mean, own, n = np.zeros((even.shape[0], 2 * REACH + 1)), np.zeros((even.shape[0], 2 * REACH + 1)), 0
    for i in range(centres.shape[0]):
        if shape_at(even, weight, block, centres[i], own) and (not use_other or product(own, other) < 0.5):
            mean += own
            n += 1
    power = product(mean, mean)
    if power > 0:
        mean /= math.sqrt(power)
    return mean, n


@kernel
def resemble(even: Array, weight: Array, block: int, position: Array, chosen: Array, likeness: Array) -> None:
    """Write each candidate's correlation with the usual beat, or with the mean of those unlike it where that is closer."""
    centres, n_leads = position[chosen], even.shape[0]
    usual, _ = mean_shape(even, weight, block, centres, np.zeros((1, 1)), False)
    second, n = mean_shape(even, weight, block, centres, usual, True)
    if n < max(5, 0.02 * centres.shape[0]):
        second[:] = 0.0
    for j in range(position.shape[0]):
        first, at = position[j] - REACH, min(position[j] // block, weight.shape[1] - 1)
        if first < 2 or first + 2 * REACH + 2 >= even.shape[1]:
            continue
        best = -1.0
        for shift in range(-2, 3):
            like_usual = like_second = 0.0
            for lead in range(n_leads):
                power = to_usual = to_second = 0.0
                for k in range(2 * REACH + 1):
                    value = even[lead, first + shift + k]
                    power += value * value
                    to_usual += value * usual[lead, k]
                    to_second += value * second[lead, k]
                gain = math.sqrt(weight[lead, at] / max(1e-12, power))
                like_usual += gain * to_usual
                like_second += gain * to_second
            best = max(best, like_usual, like_second)
        likeness[j] = best


@kernel
def running_total(fused: Array) -> Array:
    """Return the sum of the fused envelope before each sample, single peaks counted up to 1.5."""
    total = np.empty(fused.shape[0] + 1)
    total[0] = 0.0
    for j in range(fused.shape[0]):
        total[j + 1] = total[j] + min(fused[j], np.float32(1.5))
    return total


@kernel
def level_between(total: Array, centre: Array, beat: Array) -> Array:
    """Return the mean fused envelope in the second before and after each centre, 80 ms around it and any beat left out."""
    level, first = np.zeros(centre.shape[0]), 0
    for i in range(centre.shape[0]):
        low, high = max(0, centre[i] - 125), min(total.shape[0] - 1, centre[i] + 126)
        rest, width, done = total[high] - total[low], high - low, low
        while first < beat.shape[0] and beat[first] + 10 < low:
            first += 1
        k, own = first, True
        while own or (k < beat.shape[0] and beat[k] - 10 < high):
            # Zones to leave out, in order: the centre's own among the beats'.
            if own and (k >= beat.shape[0] or centre[i] <= beat[k]):
                at, own = centre[i], False
            else:
                at, k = beat[k], k + 1
            start, stop = max(done, at - 10), min(high, at + 11)
            if stop > start:
                rest -= total[stop] - total[start]
                width -= stop - start
                done = stop
        level[i] = rest / max(1, width)
    return level


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
    signal: Array, n: int, use: Array, offset: Array, step: Array, taps: Array, up: int, down: int, reach: int,
    even_taps: Array, odd_taps: Array, block: int, n_blocks: int,
) -> tuple[Array, Array, Array, Array]:  # fmt: skip
    """Return every used lead's band and envelope (lead, sample) at ``RATE_HZ``, typical QRS and mean level (lead, block)."""
    n_out, n_used, row = -(-n * up // down), np.sum(use), 0
    even, envelope = np.empty((n_used, n_out), np.float32), np.empty((n_used, n_out), np.float32)
    padded = np.empty(n_out + 2 * PAD, np.float32)
    n_block = max(1, (n_out + block // 2) // block)
    typical, level = np.empty((n_used, n_block), np.float32), np.empty((n_used, n_block), np.float32)
    for lead in range(signal.shape[0]):
        if use[lead]:
            resample(fill_gaps(signal[lead, :n]), taps, up, down, reach, offset[lead], step[lead], padded[PAD : PAD + n_out])
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
    signal: Array, n: int, use: Array, offset: Array, step: Array, design: Resampler, *, reference: int, rules: Rules = RULES
) -> Found:
    """Find the beats of a record on all its usable leads.

    Parameters
    ----------
    signal : (lead, sample) int16
        C-contiguous; missing samples are -32768.
    n
        Samples that belong to the record, at least one.
    use : (lead,) bool
        At least one is true.
    offset, step : (lead,) float64
        ADC value of 0 mV; mV per ADC unit.
    design
        From ``resampler``, for the record's rate.
    reference
        The lead that R is placed on, as far as it carries a signal.

    """
    block = int(rules.block_s * RATE_HZ)
    even, envelope, typical, level = listen(
        signal, n, use, offset, step, design.taps, design.up, design.down, design.reach, *band_taps(), block, rules.n_blocks
    )
    weight = votes(level, typical, rules)
    fused = np.empty(even.shape[1], np.float32)
    fuse(envelope, weight, typical, block, fused)
    position, _, noise = decide(fused, even, weight, block, rules)
    gain = (weight / np.maximum(typical, np.float32(rules.floor_mv))).sum(axis=1, dtype=np.float64)
    if use[reference]:
        gain[np.count_nonzero(use[:reference])] *= REFERENCE_GAIN
    gain *= polarity(even, position, PLACE_REACH)
    return Found(place(even, gain, position, PLACE_REACH, int(rules.refractory_s * RATE_HZ) + 1), noise)
