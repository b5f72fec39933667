"""What speaks for and against a candidate, and the fitted trees that turn it into log-odds of being a beat (numba kernels).

``sequence`` decides most candidates by rules. Here the others, about a quarter, are looked at again, each in its context: trees
fitted on annotated records (``benchmarks/accuracy/fit_beats.py``) weigh 29 figures. docs/beat-detection.md says what they gain.
"""

from __future__ import annotations

import json
import math
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgbatch.kernels import kernel

Array = NDArray[Any]

RATE_HZ = 125.0
"""``resampling.RATE_HZ``, as a literal that kernels can freeze."""

FIGURES = (
    "amplitude", "likeness to the usual beat", "likeness to the usual other beat", "activity between beats around it",
    "s since the beat before", "the same over the local interval", "s to the beat after", "the same over the local interval",
    "log amplitude over the beat before", "log amplitude over the beat after", "interval around it over the local interval",
    "local interval, s", "chosen by the rules", "width at half height, samples", "size of the usual beat in it",
    "root mean square frequency, Hz", "s since the candidate before", "log amplitude over it",
    "s to the candidate after", "log amplitude over it", "likeness of the beat before", "likeness of the beat after",
    "mean level of its block", "mean around it over its height", "activity, mean of 32 beats", "likeness, mean of 32 beats",
    "irregularity, mean of 16 beats", "log of the local typical QRS over the record's", "agreement of the leads",
)  # fmt: skip
"""What the trees know of a candidate, in order. "Beat" is one that the rules chose."""

N_FIGURES = 29
REACH = 11
"""``sequence.REACH``: samples to either side that shapes are compared over."""
AGREEMENT_REACH = 5
"""Samples to either side of a candidate in which each lead has its own summit: 40 ms."""
NEAR_BEATS, NEAR_INTERVALS = 16, 8
"""Beats to either side that the means of activity and likeness, and of irregularity, run over."""

CERTAIN = 6.0
"""Log-odds are held within this; what is plainly a beat is given it without asking the trees."""

TREES_FILE = Path(__file__).parents[1] / "weights" / "beats" / "trees.json"


class Trees(NamedTuple):
    """Boosted trees, all nodes in a row: a leaf's ``figure`` is -1 and its ``value`` its share of the log-odds.

    ``figure`` (node) int8; ``value`` (node) float32, the threshold where it is no leaf (left if not greater); ``left`` and
    ``right`` (node) int32; ``root`` (tree) int32; ``start`` float64, the log-odds before any tree.
    """

    figure: Array
    value: Array
    left: Array
    right: Array
    root: Array
    start: float


@lru_cache(maxsize=1)
def fitted_trees() -> Trees:
    """Return the trees that ship with the package; ValueError if they were fitted for other figures."""
    document = json.loads(TREES_FILE.read_text())
    if document["figures"] != list(FIGURES):
        raise ValueError(
            f"{TREES_FILE.name} was fitted for other figures than this version has: run benchmarks.accuracy.fit_beats"
        )
    return Trees(
        np.array(document["figure"], np.int8),
        np.array(document["value"], np.float32),
        np.array(document["left"], np.int32),
        np.array(document["right"], np.int32),
        np.array(document["root"], np.int32),
        float(document["start"]),
    )


class Scorer(NamedTuple):
    """Trees laid out to be asked of many candidates at once: every split of all trees, one after the other.

    ``figure`` (split) int8 and ``edge`` (split) float32: it goes right where the figure is not at most the edge. ``keeps``
    (split) uint32 is what is left then of the tree's leaves, a bit each from left to right; the lowest bit that all splits leave
    is the leaf that is reached (QuickScorer: Lucchese et al., SIGIR 2015). ``first`` (tree + 1) int32: a tree's splits; ``leaf``
    (tree, ``MOST_LEAVES``) float32: its leaves' shares of the log-odds; ``start`` float64.
    """

    figure: Array
    edge: Array
    keeps: Array
    first: Array
    leaf: Array
    start: float


MOST_LEAVES = 32
"""Leaves that a tree may have: the bits of a word."""


def scorer(trees: Trees) -> Scorer:
    """Lay trees out for ``log_odds``; ValueError if one has more than ``MOST_LEAVES`` leaves."""
    splits: list[tuple[int, float, int]] = []
    first, leaves = [0], np.zeros((len(trees.root), MOST_LEAVES), np.float32)
    for number, root in enumerate(trees.root.tolist()):
        own: list[float] = []

        def down(node: int, own: list[float] = own) -> None:
            if trees.figure[node] < 0:
                own.append(float(trees.value[node]))
                return
            place, begin = len(splits), len(own)
            splits.append((0, 0.0, 0))
            down(int(trees.left[node]))
            gone = (1 << len(own)) - (1 << begin)
            splits[place] = int(trees.figure[node]), float(trees.value[node]), ~gone & 0xFFFFFFFF
            down(int(trees.right[node]))

        down(root)
        if len(own) > MOST_LEAVES:
            raise ValueError(f"tree {number} has {len(own)} leaves, expected at most {MOST_LEAVES}")
        leaves[number, : len(own)] = own
        first.append(len(splits))
    figure, edge, keeps = zip(*splits, strict=True) if splits else ((), (), ())
    return Scorer(
        np.array(figure, np.int8),
        np.array(edge, np.float32),
        np.array(keeps, np.uint32),
        np.array(first, np.int32),
        leaves,
        trees.start,
    )


@lru_cache(maxsize=1)
def fitted_scorer() -> Scorer:
    """Return the trees that ship with the package, laid out."""
    return scorer(fitted_trees())


@lru_cache(maxsize=1)
def trees_digest() -> str:
    """Return the SHA-256 of the trees' file, which names what a store was detected with."""
    return sha256(TREES_FILE.read_bytes()).hexdigest()


@kernel
def evidence(
    fused: Array, even: Array, envelope: Array, weight: Array, typical: Array, mean_level: Array, block: int, usual: Array,
    other: Array, position: Array, amplitude: Array, chosen: Array, local_s: Array, level: Array, gains: Array,
) -> Array:  # fmt: skip
    """Return the figures of every candidate, (candidate, figure) float32, in the order of ``FIGURES``.

    ``usual`` and ``other`` (lead, sample) are the mean shapes of beats, ``chosen`` (beat) the candidates that the rules chose,
    ``level`` (candidate) the activity between beats around each, ``gains`` (candidate, lead, shift) ``sequence.shape_gains``.
    """
    figures = np.zeros((position.shape[0], N_FIGURES), np.float32)
    is_beat = np.zeros(position.shape[0], np.bool_)
    for i in range(chosen.shape[0]):
        is_beat[chosen[i]] = True
    norm, has_other = np.full(even.shape[0], 1e-9), bool(np.any(other != 0))
    for lead in range(even.shape[0]):
        for k in range(2 * REACH + 1):
            norm[lead] += usual[lead, k] * usual[lead, k]
        norm[lead] = math.sqrt(norm[lead])
    for j in range(position.shape[0]):
        own = figures[j]
        own[0], own[3], own[11], own[12] = min(amplitude[j], 4.0), level[j], local_s[j] if local_s[j] > 0 else 0.8, is_beat[j]
        at = min(position[j] // block, weight.shape[1] - 1)
        shape(even, weight, typical, gains[j], at, usual, other, norm, has_other, position[j], own)
        peak(fused, weight, mean_level, block, position[j], own)
        own[28] = agreement(envelope, weight, typical, at, position[j])
    neighbours(position, amplitude, chosen, figures)
    surroundings(position, chosen, local_s, figures)
    scale(weight, typical, block, position, figures)
    return figures


@kernel
def evidence_each(
    fused: Array, even: Array, envelope: Array, weight: Array, typical: Array, mean_level: Array, block: int, begin: Array,
    n_candidates: Array, n_chosen: Array, usual: Array, other: Array, position: Array, amplitude: Array, chosen: Array,
    local_s: Array, level: Array, gains: Array,
) -> Array:  # fmt: skip
    """Do ``evidence`` for each of some records, whose candidates lie one after another as ``sequence.Choices`` holds them."""
    figures = np.empty((n_candidates.sum(), N_FIGURES), np.float32)
    at, chosen_at, gains_at = 0, 0, 0
    for i in range(fused.shape[0]):
        low, high, n, m = begin[i], begin[i + 1], n_candidates[i], n_chosen[i]
        size = n * (high - low) * 5
        figures[at : at + n] = evidence(
            fused[i], even[low:high], envelope[low:high], weight[low:high], typical[low:high], mean_level[low:high], block,
            usual[low:high], other[low:high], position[at : at + n], amplitude[at : at + n], chosen[chosen_at : chosen_at + m],
            local_s[at : at + n], level[at : at + n], gains[gains_at : gains_at + size].reshape(n, high - low, 5),
        )  # fmt: skip
        at, chosen_at, gains_at = at + n, chosen_at + m, gains_at + size
    return figures


@kernel
def shape(
    even: Array, weight: Array, typical: Array, gains: Array, at: int, usual: Array, other: Array, norm: Array, has_other: bool,
    centre: int, own: Array,
) -> None:  # fmt: skip
    """Write how a candidate resembles the usual beats (each lead of norm 1, by its vote), and how fast it moves."""
    first = centre - REACH
    own[1] = 0.4
    if first < 2 or first + 2 * REACH + 2 >= even.shape[1]:
        return
    to_usual, to_other, size, product = np.zeros(5), np.zeros(5), np.zeros(5), np.zeros(5)
    for lead in range(even.shape[0]):
        part = even[lead, first - 2 : first + 2 * REACH + 3]
        products(part, usual[lead], product)
        amplitude = max(np.float32(0.01), typical[lead, at])
        for shift in range(5):
            to_usual[shift] += gains[lead, shift] * product[shift]
            size[shift] += weight[lead, at] * product[shift] / amplitude / norm[lead]
        if has_other:
            products(part, other[lead], product)
            for shift in range(5):
                to_other[shift] += gains[lead, shift] * product[shift]
    best_usual = best_other = best_size = -1.0
    for shift in range(5):
        best_usual, best_other = max(best_usual, to_usual[shift]), max(best_other, to_other[shift])
        best_size = max(best_size, size[shift])
    frequency = 0.0
    for lead in range(even.shape[0]):
        slope, power = 0.0, 1e-12
        for k in range(centre - 6, centre + 7):
            step = 0.5 * (even[lead, k + 1] - even[lead, k - 1])
            slope += step * step
            power += even[lead, k] * even[lead, k]
        frequency += weight[lead, at] * math.sqrt(slope / power)
    own[1], own[2], own[14], own[15] = best_usual, best_other, best_size, frequency * RATE_HZ / (2 * math.pi)


@kernel
def products(part: Array, other: Array, product: Array) -> None:
    """Write the sums of products of a lead's part with a shape at five shifts, side by side: each alone waits for itself."""
    a = b = c = d = e = 0.0
    for k in range(2 * REACH + 1):
        value = other[k]
        a += part[k] * value
        b += part[k + 1] * value
        c += part[k + 2] * value
        d += part[k + 3] * value
        e += part[k + 4] * value
    product[0], product[1], product[2], product[3], product[4] = a, b, c, d, e


@kernel
def peak(fused: Array, weight: Array, mean_level: Array, block: int, centre: int, own: Array) -> None:
    """Write how wide a candidate's summit is, and what lies around it."""
    first = last = centre
    while first > 0 and centre - first < 25 and fused[first] > 0.5 * fused[centre]:
        first -= 1
    while last < fused.shape[0] - 1 and last - centre < 25 and fused[last] > 0.5 * fused[centre]:
        last += 1
    around, n = 0.0, 0
    for j in range(max(0, centre - 20), min(fused.shape[0], centre + 21)):
        if abs(j - centre) > 9:
            around += fused[j]
            n += 1
    at, level = min(centre // block, weight.shape[1] - 1), 0.0
    for lead in range(weight.shape[0]):
        level += weight[lead, at] * mean_level[lead, at]
    own[13], own[22], own[23] = last - first, level, around / max(1, n) / max(1e-6, fused[centre])


@kernel
def agreement(envelope: Array, weight: Array, typical: Array, at: int, centre: int) -> float:
    """Return how alike the leads see a candidate: the log of a mean by root over a mean, both by votes.

    Of one lead, 0 to rounding (1e-7). An artefact, however tall, stands out in one lead alone; a beat does in most.
    """
    votes, root, mean = 0.0, 0.0, 0.0
    low, high = max(0, centre - AGREEMENT_REACH), min(envelope.shape[1], centre + AGREEMENT_REACH + 1)
    for lead in range(envelope.shape[0]):
        top = np.float32(0)
        for k in range(low, high):
            top = max(top, envelope[lead, k])
        height, vote = top / max(np.float32(0.01), typical[lead, at]), weight[lead, at]
        votes += vote
        root += vote * math.sqrt(height)
        mean += vote * height
    return math.log(max(0.05, root * root / max(1e-9, votes * mean)))


@kernel
def neighbours(position: Array, amplitude: Array, chosen: Array, figures: Array) -> None:
    """Write intervals and amplitudes against the beats and the candidates before and after each candidate."""
    n, after = position.shape[0], 0
    for j in range(n):
        own = figures[j]
        while after < chosen.shape[0] and chosen[after] <= j:
            after += 1
        before = after - 1
        if before >= 0 and chosen[before] == j:
            before -= 1
        since = to = 3.0
        if before >= 0:
            i = chosen[before]
            since = min(3.0, (position[j] - position[i]) / RATE_HZ)
            own[8], own[20] = math.log(amplitude[j] / amplitude[i]), figures[i, 1]
        if after < chosen.shape[0]:
            i = chosen[after]
            to = min(3.0, (position[i] - position[j]) / RATE_HZ)
            own[9], own[21] = math.log(amplitude[j] / amplitude[i]), figures[i, 1]
        own[4], own[5], own[6], own[7], own[10] = since, since / own[11], to, to / own[11], (since + to) / own[11]
        own[16] = own[18] = 3.0
        if j > 0:
            own[16], own[17] = (position[j] - position[j - 1]) / RATE_HZ, math.log(amplitude[j] / amplitude[j - 1])
        if j < n - 1:
            own[18], own[19] = (position[j + 1] - position[j]) / RATE_HZ, math.log(amplitude[j] / amplitude[j + 1])


@kernel
def surroundings(position: Array, chosen: Array, local_s: Array, figures: Array) -> None:
    """Write means over the beats around each candidate: activity, likeness, and how irregular they come."""
    m, before = chosen.shape[0], 0
    sums = np.zeros((m + 1, 3))
    for i in range(m):
        j = chosen[i]
        interval_s = (position[j] - position[chosen[i - 1]]) / RATE_HZ if i > 0 else 0.8
        sums[i + 1, 0] = sums[i, 0] + figures[j, 3]
        sums[i + 1, 1] = sums[i, 1] + max(figures[j, 1], figures[j, 2])
        sums[i + 1, 2] = sums[i, 2] + abs(math.log(max(interval_s, 0.1) / max(local_s[j], 0.2)))
    for j in range(position.shape[0]):
        while before < m and chosen[before] < j:
            before += 1
        for which in range(3):
            reach = NEAR_BEATS if which < 2 else NEAR_INTERVALS
            low = max(0, min(before - reach, m - 2 * reach))
            high = min(m, low + 2 * reach)
            figures[j, 24 + which] = (sums[high, which] - sums[low, which]) / max(1, high - low)


@kernel
def scale(weight: Array, typical: Array, block: int, position: Array, figures: Array) -> None:
    """Write how the typical QRS at each candidate compares with the record's: noise inflates it."""
    relative = np.zeros(weight.shape[1])
    for lead in range(weight.shape[0]):
        usual = max(np.float32(0.01), np.median(typical[lead]))
        for i in range(weight.shape[1]):
            relative[i] += weight[lead, i] * typical[lead, i] / usual
    for j in range(position.shape[0]):
        figures[j, 27] = math.log(max(0.05, relative[min(position[j] // block, weight.shape[1] - 1)]))


@kernel
def is_plain(own: Array) -> Any:
    """Return whether a candidate is plainly a beat: chosen, alike, tall, in quiet, in step with both neighbours."""
    in_step = 0.8 < own[5] < 1.25 and 0.8 < own[7] < 1.25
    return in_step and own[12] > 0 and own[1] > 0.85 and own[0] > 0.7 and own[3] < 0.1


@kernel
def log_odds(figures: Array, figure: Array, edge: Array, keeps: Array, first: Array, leaf: Array, start: float) -> Array:
    """Return the log-odds that each candidate is a beat, (candidate) float64; plain ones are not put to the trees.

    The other arguments are ``Scorer``'s.
    """
    odds, asked = np.full(figures.shape[0], CERTAIN), np.empty(figures.shape[0], np.int64)
    n = 0
    for j in range(figures.shape[0]):
        if not is_plain(figures[j]):
            asked[n] = j
            n += 1
    if n == 0:
        return odds
    columns, total, left = np.empty((N_FIGURES, n), np.float32), np.full(n, start), np.empty(n, np.uint32)
    for k in range(N_FIGURES):
        for i in range(n):
            columns[k, i] = figures[asked[i], k]
    for tree in range(leaf.shape[0]):
        left[:] = np.uint32(0xFFFFFFFF)
        for split in range(first[tree], first[tree + 1]):
            cut(columns[figure[split]], edge[split], keeps[split], left)
        add_leaves(left, leaf[tree], total)
    for i in range(n):
        odds[asked[i]] = total[i]
    return odds


@kernel
def cut(column: Array, edge: Any, keeps: Any, left: Array) -> None:
    """Take from what is left of a tree's leaves those that a split rules out, for every candidate."""
    for i in range(left.shape[0]):
        left[i] &= keeps if not column[i] <= edge else np.uint32(0xFFFFFFFF)


@kernel
def add_leaves(left: Array, leaf: Array, total: Array) -> None:
    """Add the leaf that each candidate reaches: the lowest bit of ``left``, counted by the zeros below it."""
    for i in range(left.shape[0]):
        below = (left[i] & (~left[i] + np.uint32(1))) - np.uint32(1)
        below -= (below >> np.uint32(1)) & np.uint32(0x55555555)
        below = (below & np.uint32(0x33333333)) + ((below >> np.uint32(2)) & np.uint32(0x33333333))
        below = (below + (below >> np.uint32(4))) & np.uint32(0x0F0F0F0F)
        total[i] += leaf[np.uint32(below * np.uint32(0x01010101)) >> np.uint32(24)]
