"""R peaks from int16 samples: bands, votes and the place of R (numba kernels); ``sequence`` chooses the beats.

Every kernel is ``nogil`` and single-threaded, sums integers exactly and floats in one fixed order: the same samples give
the same bytes on any processor, engine and number of threads. Importing this module imports numba; ``record`` does it
only when it is about to compute. docs/beat-detection.md explains the method and how its rules were chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgbatch.beats.candidates import Scorer, evidence_each, fitted_scorer, log_odds
from ecgbatch.beats.filtering import AT_ONCE, PAD, band_taps, listen, settings_of
from ecgbatch.beats.resampling import RATE_HZ, Resampler
from ecgbatch.beats.sequence import REACH, RULES, SHIFTS, Choices, Rules, choose_each, settle_each
from ecgbatch.kernels import kernel, scratch

Array = NDArray[Any]


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
    typical, near, last = np.empty(n, np.float32), np.empty(2 * n_blocks + 1, np.float32), -1
    for i in range(n):
        low, high = max(0, min(i - n_blocks, n - 2 * n_blocks - 1)), min(n, max(i + n_blocks + 1, 2 * n_blocks + 1))
        if low != last:  # else the blocks around it are those of the block before
            for j in range(low, high):
                near[j - low] = highest[j]
            typical[i] = ranked(near[: high - low], 2.0 / 3.0)
            last = low
        else:
            typical[i] = typical[i - 1]
    return typical


COLUMNS = 16
"""Sums that grow side by side."""


@kernel
def capped_sum(part: Array, top: Any, column: Array) -> float:
    """Return the sum of some values, each at most ``top``: by columns, many at once, and columns in order."""
    width, total = COLUMNS, 0.0
    column[:] = 0.0
    for first in range(0, part.shape[0] - width + 1, width):
        own = part[first : first + width]
        for j in range(COLUMNS):
            column[j] += min(own[j], top)
    for j in range(part.shape[0] - part.shape[0] % width, part.shape[0]):
        total += min(part[j], top)
    for j in range(width):
        total += column[j]
    return total


@kernel
def mean_level(envelope: Array, typical: Array, block: int) -> Array:
    """Return each block's mean envelope over its typical QRS: 0.1-0.2 where beats stand alone, near 0.5 in noise."""
    n = typical.shape[0]
    level, column = np.empty(n, np.float32), np.empty(COLUMNS)
    for i in range(n):
        stop = envelope.shape[0] if i == n - 1 else (i + 1) * block
        part = envelope[i * block : stop]
        total = capped_sum(part, np.float32(1.5) * typical[i], column)
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
def place(even: Array, gain: Array, position: Array, reach: int, closest: int) -> Array:
    """Return where R is, in samples at ``RATE_HZ`` with fractions: the summit of the leads' weighted sum in the band.

    ``gain`` (lead) is fixed for the record, and each lead turned so that its usual QRS is positive; only where a beat's
    opposite swing is half as large again (an aberrant beat) is R placed on that.
    """
    n, width = position.shape[0], 2 * reach + 3
    gain = gain * polarity(even, position, reach)
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
def levels(envelope: Array, block: int, n_blocks: int) -> tuple[Array, Array]:
    """Return each lead's typical QRS and mean level in each block, (lead, block) float32."""
    n_leads, n = envelope.shape
    n_block = max(1, (n + block // 2) // block)
    typical, level = np.empty((n_leads, n_block), np.float32), np.empty((n_leads, n_block), np.float32)
    for lead in range(n_leads):
        typical[lead] = typical_qrs(envelope[lead], block, n_blocks)
        level[lead] = mean_level(envelope[lead], typical[lead], block)
    return typical, level


@kernel
def fuse_each(
    envelope: Array, typical: Array, level: Array, begin: Array, block: int, floor_mv: float, noise: float, power: float,
    weight: Array, fused: Array,
) -> None:  # fmt: skip
    """Write the votes (used lead, block) and each record's envelopes added by them (record, sample)."""
    for i in range(fused.shape[0]):
        low, high = begin[i], begin[i + 1]
        own = votes(level[low:high], typical[low:high], floor_mv, noise, power)
        weight[low:high] = own
        fuse(envelope[low:high], own, typical[low:high], block, fused[i])


@kernel
def place_each(even: Array, gain: Array, position: Array, count: Array, begin: Array, reach: int, closest: int) -> Array:
    """Do ``place`` for each record's ``count`` positions, which lie one after another."""
    placed, at = np.empty(position.shape[0]), 0
    for i in range(count.shape[0]):
        low, high, stop = begin[i], begin[i + 1], at + count[i]
        placed[at:stop] = place(even[low:high], gain[low:high], position[at:stop], reach, closest)
        at = stop
    return placed


@dataclass(frozen=True)
class Leads:
    """Samples of some records of one rate, and which of their leads have a vote.

    Parameters
    ----------
    signal : (record, lead, sample) int16
        C-contiguous; missing samples are -32768.
    use : (record, lead) bool
        At least one of each record is true.
    offset, step : (record, lead) float64
        ADC value of 0 mV; mV per ADC unit.
    design
        From ``resampler``, for the records' rate.
    reference : (record,) int
        The lead that R is placed on, as far as it carries a signal.

    """

    signal: Array
    use: Array
    offset: Array
    step: Array
    design: Resampler
    reference: Array

    @property
    def begin(self) -> Array:
        """Where each record's used leads begin among those of all, (record + 1,) int64."""
        return np.concatenate([[0], np.count_nonzero(self.use, axis=1).cumsum()])


class Bands(NamedTuple):
    """What detection listens to: each used lead's band and envelope (lead, sample), typical QRS and mean level (lead, block).

    Leads of several records lie one after another. At ``RATE_HZ``; band and envelope are ``scratch``: the thread's next block
    overwrites them.
    """

    even: Array
    envelope: Array
    typical: Array
    level: Array


def bands(leads: Leads, first: int, stop: int, rules: Rules = RULES) -> Bands:
    """Return the bands of the samples from ``first`` to ``stop`` of each record."""
    design = leads.design
    shape = (int(np.count_nonzero(leads.use)), -(-(stop - first) * design.up // design.down))
    even, envelope = scratch("even", shape, np.float32), scratch("envelope", shape, np.float32)
    total = scratch("sums", (-(-shape[1] // AT_ONCE) * AT_ONCE,), np.int32)
    padded = scratch("padded", (shape[1] + 2 * PAD,), np.float32)
    listen(
        leads.signal, first, stop, leads.use, leads.offset, leads.step, *settings_of(design), *band_taps(),
        total, padded, even, envelope,
    )  # fmt: skip
    return Bands(even, envelope, *levels(envelope, int(rules.block_s * RATE_HZ), rules.n_blocks))


def fusion(heard: Bands, begin: Array, rules: Rules = RULES) -> tuple[Array, Array]:
    """Return the leads' votes (lead, block), and each record's envelopes added by them (record, sample), ``scratch``."""
    weight = np.empty_like(heard.level)
    fused = scratch("fused", (len(begin) - 1, heard.envelope.shape[1]), np.float32)
    parts = (heard.envelope, heard.typical, heard.level, begin, int(rules.block_s * RATE_HZ))
    fuse_each(*parts, rules.floor_mv, rules.noise, rules.noise_power, weight, fused)
    return weight, fused


def candidates(heard: Bands, begin: Array, weight: Array, fused: Array, rules: Rules = RULES) -> tuple[Choices, Array]:
    """Return the rules' choice in each record, and every candidate's figures (candidate, figure) for the trees."""
    block = int(rules.block_s * RATE_HZ)
    room = scratch("running total", (len(fused), fused.shape[1] + 1), np.float64)
    own = _room_for(begin, fused.shape[1], rules, room)
    choose_each(fused, heard.even, weight, block, rules, own)
    return own, evidence_each(
        fused, heard.even, heard.envelope, weight, heard.typical, heard.level, block, begin, own.n_candidates, own.n_chosen,
        own.usual, own.other, own.position, own.amplitude, own.chosen, own.local_s, own.level, own.gains,
    )  # fmt: skip


def _room_for(begin: Array, n_samples: int, rules: Rules, total: Array) -> Choices:
    """Return room for the choices among records of so many samples at ``RATE_HZ``; memory that is not needed is not touched.

    ``total``: see ``Choices``, whatever is in it.
    """
    n_records, n_leads = len(begin) - 1, int(begin[-1])
    each = n_samples // max(2, int(rules.separation_s * RATE_HZ)) + 2
    counts = np.zeros((2, n_records), np.int64)
    amplitude, worth, local_s, level = (np.empty(n_records * each) for _ in range(4))
    position, chosen = (np.empty(n_records * each, np.int64) for _ in range(2))
    usual, other = (np.empty((n_leads, 2 * REACH + 1)) for _ in range(2))
    gains = np.empty(each * n_leads * SHIFTS)
    return Choices(counts[0], counts[1], begin, position, amplitude, worth, local_s, level, chosen, usual, other, total, gains)


class Found(NamedTuple):
    """Beats of some records, one after another.

    ``place`` (beat) float64: where R is, in samples at ``RATE_HZ``; ``noise`` (beat) float64: activity between beats; ``n_beats``
    (record,) int64: how many are each record's.
    """

    place: Array
    noise: Array
    n_beats: Array


def find_beats(leads: Leads, first: int, stop: int, *, rules: Rules = RULES, trees: Scorer | None = None) -> Found:
    """Find the beats of records on all their usable leads.

    A record's beats do not depend on the others.

    Parameters
    ----------
    leads
        The records.
    first, stop
        Samples of each to look at; places count from ``first``.
    trees
        What weighs the candidates that the rules leave in doubt; those that ship with the package if not given.

    """
    begin, heard = leads.begin, bands(leads, first, stop, rules)
    weight, fused = fusion(heard, begin, rules)
    choices, figures = candidates(heard, begin, weight, fused, rules)
    position, noise, count = settle_each(choices, log_odds(figures, *(trees or fitted_scorer())), rules)
    gain = (weight / np.maximum(heard.typical, np.float32(rules.floor_mv))).sum(axis=1, dtype=np.float64)
    rows, is_used = np.arange(len(leads.use)), leads.use.cumsum(axis=1)
    stands = leads.use[rows, leads.reference]
    gain[(begin[:-1] + is_used[rows, leads.reference] - 1)[stands]] *= REFERENCE_GAIN
    closest = int(rules.refractory_s * RATE_HZ) + 1
    return Found(place_each(heard.even, gain, position, count, begin, PLACE_REACH, closest), noise, count)
