"""Which candidates are beats: the sequence that earns most, by amplitude, likeness and rhythm (numba kernels).

docs/beat-detection.md explains the method (steps 5 and 7) and how its rules were chosen.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgbatch.kernels import kernel

Array = NDArray[Any]

RATE_HZ = 125.0
"""``resampling.RATE_HZ``, as a literal that kernels can freeze."""


class Rules(NamedTuple):
    """What a beat looks like: round figures, of which ``odds_shift`` alone is fitted (docs/beat-detection.md).

    Amplitudes are relative to a typical QRS.

    ``block_s``, ``n_blocks``: a lead's typical QRS is what two thirds of the maxima of blocks lie below, over that many
    neighbours on either side. ``threshold``, ``separation_s``: smallest and closest maxima that become candidates. ``cap``,
    ``theta``: a beat earns its amplitude, at most ``cap``, less ``theta``. ``refractory_s``: never closer.
    ``early_s``, ``early_cost``, ``unequal``: closer than this costs, twice if one is less than ``unequal`` of the other
    (a T wave). ``late``, ``late_slope``, ``late_cost``: an interval longer than ``late`` times the local one costs
    (search-back); ``first_s`` is taken for local in the first round. ``noise``, ``noise_power``: a lead's vote against its
    mean level. ``floor_mv``: a typical QRS below this is no signal. ``likeness``, ``likeness_zero``: a candidate earns its
    correlation with the usual beat, or with the usual other beat, above the second. ``theta_noise``: it pays for what
    lies between beats around it. ``rule_share``, ``odds_share``, ``odds_shift``, ``odds_cap``: what counts in the last
    round is a share of that and a share of the trees' log-odds (``candidates``), shifted and held within the cap.

    """

    block_s: float = 1.1
    n_blocks: int = 4
    threshold: float = 0.18
    separation_s: float = 0.17
    cap: float = 1.5
    theta: float = 0.5
    refractory_s: float = 0.2
    early_s: float = 0.36
    early_cost: float = 0.5
    unequal: float = 0.5
    late: float = 1.25
    late_slope: float = 0.5
    late_cost: float = 2.5
    noise: float = 0.6
    noise_power: float = 2.0
    floor_mv: float = 0.01
    likeness: float = 0.5
    likeness_zero: float = 0.5
    theta_noise: float = 1.0
    first_s: float = 1.3
    rule_share: float = 0.3
    odds_share: float = 0.2
    odds_shift: float = 1.0
    odds_cap: float = 6.0


RULES = Rules()


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
    last, median_s = -1, 0.0
    for j in range(position.shape[0]):
        while after < n and position[chosen[after]] < position[j]:
            after += 1
        low, high = max(0, min(after - 5, n - 10)), min(n, max(after + 5, 10))
        if low != last:  # else the beats around it are those of the candidate before
            for i in range(low + 1, high):
                near[i - low - 1] = position[chosen[i]] - position[chosen[i - 1]]
            median_s = ranked(near[: high - low - 1], 0.5) / RATE_HZ if high - low >= 4 else 0.0
            last = low
        local_s[j] = median_s


class Choice(NamedTuple):
    """What the rules chose, and all that a second look at it needs.

    Per candidate: ``position`` (samples at ``RATE_HZ``), ``amplitude``, ``worth`` to the last round, ``local_s`` (the local
    interval) and ``level`` (activity between beats around it). ``chosen`` (beat): numbers of candidates. ``usual``, ``other``
    (lead, sample): mean shapes of beats. ``total``: running sum of the fused envelope. ``gains``
    (candidate, lead, shift): see ``shape_gains``.
    """

    position: Array
    amplitude: Array
    worth: Array
    local_s: Array
    level: Array
    chosen: Array
    usual: Array
    other: Array
    total: Array
    gains: Array


@kernel
def choose(fused: Array, even: Array, weight: Array, block: int, rules: Rules, total: Array) -> Choice:
    """Choose beats among local maxima by rules: three rounds, each knowing its neighbours from the one before.

    ``total`` (sample + 1) float64 is room for ``Choice.total``.
    """
    separation = max(2, int(rules.separation_s * RATE_HZ))
    room = fused.shape[0] // separation + 2
    position, amplitude = np.empty(room, np.int64), np.empty(room)
    n = find_candidates(fused, rules.threshold, separation, position, amplitude)
    position, amplitude = position[:n], amplitude[:n]
    running_total(fused, total)
    level = np.zeros(n)
    local_s, chosen = np.full(n, rules.first_s), np.empty(n, np.int64)
    likeness, worth = np.full(n, rules.likeness_zero), np.empty(n)
    usual = other = np.zeros((even.shape[0], 2 * REACH + 1))
    gains, m, before = shape_gains(even, weight, block, position), 0, chosen[:0].copy()
    for turn in range(3):
        for j in range(n):
            worth[j] = min(amplitude[j], rules.cap) - rules.theta - rules.theta_noise * level[j]
            worth[j] += rules.likeness * (likeness[j] - rules.likeness_zero)
        m = best_sequence(position, amplitude, worth, local_s, rules, chosen) if n > 0 else 0
        if m == 0 or np.array_equal(chosen[:m], before):
            break  # all that follows from the same beats is known, and the next round would choose them again
        before = chosen[:m].copy()
        local_intervals(position, chosen[:m], local_s)
        level = level_between(total, position, position[chosen[:m]])
        usual, other = usual_shapes(even, gains, position, chosen[:m])
        if turn < 2:
            resemble(even, gains, position, usual, other, likeness)
    return Choice(position, amplitude, worth, local_s, level, chosen[:m], usual, other, total, gains)


@kernel
def settle(choice: Choice, log_odds: Array, rules: Rules) -> tuple[Array, Array]:
    """Choose once more, by rules and log-odds (candidate) together; return the beats' position and activity around them.

    Where the rules chose fewer than four there is nothing to compare a candidate with: their choice stands.
    """
    if choice.chosen.shape[0] < 4:
        position = choice.position[choice.chosen]
        return position, level_between(choice.total, position, position)
    position, chosen = choice.position, np.empty(choice.position.shape[0], np.int64)
    worth = np.empty(position.shape[0])
    for j in range(position.shape[0]):
        odds = min(max(log_odds[j] + rules.odds_shift, -rules.odds_cap), rules.odds_cap)
        worth[j] = rules.rule_share * choice.worth[j] + rules.odds_share * odds
    n = best_sequence(position, choice.amplitude, worth, choice.local_s, rules, chosen)
    position = position[chosen[:n]]
    return position, level_between(choice.total, position, position)


class Choices(NamedTuple):
    """The ``Choice`` of each of some records, one after another, and room for them.

    ``n_candidates``, ``n_chosen`` (record): how many of each are a record's; ``begin`` (record + 1): its leads among ``usual``'s
    and ``other``'s. ``total`` (record, sample + 1). ``gains``: each record's (candidate, lead, shift), flat.
    """

    n_candidates: Array
    n_chosen: Array
    begin: Array
    position: Array
    amplitude: Array
    worth: Array
    local_s: Array
    level: Array
    chosen: Array
    usual: Array
    other: Array
    total: Array
    gains: Array


@kernel
def choose_each(fused: Array, even: Array, weight: Array, block: int, rules: Rules, choices: Choices) -> None:
    """Do ``choose`` for each record, into ``choices``: ``fused`` (record, sample), ``even`` and ``weight`` (used lead, ...)."""
    at, chosen_at, gains_at = 0, 0, 0
    for i in range(fused.shape[0]):
        low, high = choices.begin[i], choices.begin[i + 1]
        own = choose(fused[i], even[low:high], weight[low:high], block, rules, choices.total[i])
        n, m, size = own.position.shape[0], own.chosen.shape[0], own.gains.size
        choices.n_candidates[i], choices.n_chosen[i] = n, m
        choices.position[at : at + n] = own.position
        choices.amplitude[at : at + n] = own.amplitude
        choices.worth[at : at + n] = own.worth
        choices.local_s[at : at + n] = own.local_s
        choices.level[at : at + n] = own.level
        choices.chosen[chosen_at : chosen_at + m] = own.chosen
        choices.usual[low:high] = own.usual
        choices.other[low:high] = own.other
        choices.gains[gains_at : gains_at + size] = own.gains.reshape(-1)
        at, chosen_at, gains_at = at + n, chosen_at + m, gains_at + size


@kernel
def choice_of(choices: Choices, i: int, at: int, chosen_at: int, gains_at: int) -> Choice:
    """Return one record's choice, which begins there."""
    low, high, n, m = choices.begin[i], choices.begin[i + 1], choices.n_candidates[i], choices.n_chosen[i]
    gains = choices.gains[gains_at : gains_at + n * (high - low) * SHIFTS].reshape(n, high - low, SHIFTS)
    return Choice(
        choices.position[at : at + n],
        choices.amplitude[at : at + n],
        choices.worth[at : at + n],
        choices.local_s[at : at + n],
        choices.level[at : at + n],
        choices.chosen[chosen_at : chosen_at + m],
        choices.usual[low:high],
        choices.other[low:high],
        choices.total[i],
        gains,
    )


@kernel
def settle_each(choices: Choices, log_odds: Array, rules: Rules) -> tuple[Array, Array, Array]:
    """Do ``settle`` for each record; return positions and activity of all, one after another, and each one's number of beats."""
    position, noise = np.empty(log_odds.shape[0], np.int64), np.empty(log_odds.shape[0])
    count = np.empty(choices.begin.shape[0] - 1, np.int64)
    at, chosen_at, beat = 0, 0, 0
    for i in range(count.shape[0]):
        n = choices.n_candidates[i]
        own = choice_of(choices, i, at, chosen_at, 0)
        found, around = settle(own, log_odds[at : at + n], rules)
        count[i] = found.shape[0]
        position[beat : beat + count[i]] = found
        noise[beat : beat + count[i]] = around
        at, chosen_at, beat = at + n, chosen_at + choices.n_chosen[i], beat + count[i]
    return position[:beat], noise[:beat], count


REACH = 11
"""Samples to either side of a candidate that its shape is compared over: 88 ms, a wide QRS."""
SHIFTS = 5
"""Places that a shape is compared at: two samples to either side of the candidate's summit, and there."""


@kernel
def shape_gains(even: Array, weight: Array, block: int, position: Array) -> Array:
    """Return what brings a lead's shape around each candidate to norm 1 times the root of its vote.

    (candidate, lead, shift) float64, ``SHIFTS`` of them, the middle one in place; 0 where a shape leaves the record. Every
    round compares the same shapes, so their norms are taken once.
    """
    gains = np.zeros((position.shape[0], even.shape[0], SHIFTS))
    vote = np.zeros_like(gains)
    for j in range(position.shape[0]):
        first, at = position[j] - REACH - 2, min(position[j] // block, weight.shape[1] - 1)
        if first < 0 or first + 2 * REACH + SHIFTS > even.shape[1]:
            continue
        for lead in range(even.shape[0]):
            part = even[lead, first : first + 2 * REACH + SHIFTS]
            a = b = c = d = e = 0.0
            for k in range(2 * REACH + 1):
                a += part[k] * part[k]
                b += part[k + 1] * part[k + 1]
                c += part[k + 2] * part[k + 2]
                d += part[k + 3] * part[k + 3]
                e += part[k + 4] * part[k + 4]
            own = gains[j, lead]
            own[0], own[1], own[2], own[3], own[4] = a, b, c, d, e
            vote[j, lead] = weight[lead, at]
    power, votes = gains.reshape(-1), vote.reshape(-1)
    for i in range(power.shape[0]):  # many roots at once
        power[i] = math.sqrt(votes[i] / max(1e-12, power[i]))
    for j in range(position.shape[0]):
        first, at = position[j] - REACH - 2, min(position[j] // block, weight.shape[1] - 1)
        if first < 0 or first + 2 * REACH + SHIFTS > even.shape[1]:
            edge_gains(even, weight, at, first, gains[j])
    return gains


@kernel
def edge_gains(even: Array, weight: Array, at: int, first: int, gains: Array) -> None:
    """Write one candidate's gains (lead, shift) where some of its shapes leave the record."""
    for lead in range(even.shape[0]):
        for shift in range(SHIFTS):
            start, power = first + shift, 0.0
            if start >= 0 and start + 2 * REACH < even.shape[1]:
                for k in range(2 * REACH + 1):
                    power += even[lead, start + k] * even[lead, start + k]
                gains[lead, shift] = math.sqrt(weight[lead, at] / max(1e-12, power))


@kernel
def product(first: Array, second: Array) -> float:
    """Return the sum of products of two sets of shapes."""
    column, total = np.zeros(first.shape[1]), 0.0
    for lead in range(first.shape[0]):
        for k in range(first.shape[1]):
            column[k] += first[lead, k] * second[lead, k]
    for k in range(first.shape[1]):
        total += column[k]
    return total


@kernel
def mean_shape(even: Array, gains: Array, position: Array, chosen: Array, other: Array, use_other: bool) -> tuple[Array, int]:
    """Return the mean shape of beats, norm 1, and their number; of those unlike ``other`` only, if asked."""
    width = 2 * REACH + 1
    mean, own, n = np.zeros((even.shape[0], width)), np.zeros((even.shape[0], width)), 0
    for i in range(chosen.shape[0]):
        first = position[chosen[i]] - REACH
        if first < 0 or first + width > even.shape[1]:
            continue
        for lead in range(even.shape[0]):
            gain, part = gains[chosen[i], lead, SHIFTS // 2], even[lead, first : first + width]
            for k in range(width):
                own[lead, k] = gain * part[k]
        if not use_other or product(own, other) < 0.5:
            mean += own
            n += 1
    power = product(mean, mean)
    if power > 0:
        mean /= math.sqrt(power)
    return mean, n


@kernel
def usual_shapes(even: Array, gains: Array, position: Array, chosen: Array) -> tuple[Array, Array]:
    """Return the mean shape of beats, and of those unlike it; zeros for the latter where they are too few."""
    usual, _ = mean_shape(even, gains, position, chosen, np.zeros((1, 1)), False)
    other, n = mean_shape(even, gains, position, chosen, usual, True)
    if n < max(5, 0.02 * chosen.shape[0]):
        other[:] = 0.0
    return usual, other


@kernel
def add_likeness(part: Array, shape: Array, gain: Array, likeness: Array) -> None:
    """Add a lead's correlation with a shape, at every shift: five sums side by side, since each alone waits for itself."""
    a = b = c = d = e = 0.0
    for k in range(2 * REACH + 1):
        value = shape[k]
        a += part[k] * value
        b += part[k + 1] * value
        c += part[k + 2] * value
        d += part[k + 3] * value
        e += part[k + 4] * value
    likeness[0] += gain[0] * a
    likeness[1] += gain[1] * b
    likeness[2] += gain[2] * c
    likeness[3] += gain[3] * d
    likeness[4] += gain[4] * e


@kernel
def resemble(even: Array, gains: Array, position: Array, usual: Array, other: Array, likeness: Array) -> None:
    """Write each candidate's correlation with the usual beat, or with the mean of those unlike it where that is closer."""
    to_usual, to_other = np.zeros(SHIFTS), np.zeros(SHIFTS)
    has_other = np.any(other != 0)
    for j in range(position.shape[0]):
        first = position[j] - REACH
        if first < 2 or first + 2 * REACH + 2 >= even.shape[1]:
            continue
        to_usual[:] = 0.0
        to_other[:] = 0.0
        for lead in range(even.shape[0]):
            part = even[lead, first - 2 : first + 2 * REACH + 3]
            add_likeness(part, usual[lead], gains[j, lead], to_usual)
            if has_other:
                add_likeness(part, other[lead], gains[j, lead], to_other)
        best = -1.0
        for shift in range(SHIFTS):
            best = max(best, to_usual[shift], to_other[shift])
        likeness[j] = best


@kernel
def running_total(fused: Array, total: Array) -> None:
    """Write the sum of the fused envelope before each sample, single peaks counted up to 1.5."""
    total[0] = 0.0
    for j in range(fused.shape[0]):
        total[j + 1] = total[j] + min(fused[j], np.float32(1.5))


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
