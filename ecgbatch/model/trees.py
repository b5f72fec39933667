"""Boosted trees on the wave figures of a record's median beat: nodes in arrays, asked by a compiled kernel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgbatch.kernels import kernel

Array = NDArray[Any]

Trees = Mapping[str, Array]
"""All nodes in a row. ``figure`` (node,) int16: which figure a split asks, -1 a leaf; ``value`` (node,) float32: left where the
figure is at most this, of a leaf what it adds; ``left``, ``right`` (node,) uint8: counted from the tree's root, and behind the
node; ``root`` (tree,) int32; ``start`` (class,) float64: what each class begins with. Trees serve the classes in turn."""


MOST_LEAVES = 127
"""Leaves that a tree may have: its nodes are counted in a byte."""


AT_ONCE = 64
"""Rows that walk a tree side by side."""


def class_scores(trees: Trees, figures: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return (row, class) float64 of figures (row, figure) float32: a softmax over classes gives probabilities.

    A row's numbers depend on that row only.

    Raises
    ------
    ValueError
        If a branch does not lie behind its node: these are not trees that were fitted here.

    """
    figure, value, left, right, root, start = (
        np.require(np.require(trees[name], kind, "C"), requirements="W") for name, kind in _KINDS.items()
    )
    begins = np.append(np.unique(root), len(figure))  # trees may share one, all leaf
    end = begins[np.searchsorted(begins, root, "right")].astype(np.int32)
    scores, is_whole = ask(np.require(figures, np.float32, ("C", "W")), figure, value, left, right, root, start, end)
    if not is_whole:
        raise ValueError("expected trees whose branches lie behind their nodes, found one that leads back; train them again")
    return np.asarray(scores)


_KINDS = {"figure": np.int16, "value": np.float32, "left": np.uint8, "right": np.uint8, "root": np.int32, "start": np.float64}


MOST_IN_A_MASK = 32
"""Leaves of a tree that are told apart by the bits of one number; trees of more are walked."""


@kernel
def ask(figures: Array, figure: Array, value: Array, left: Array, right: Array, root: Array, start: Array, end: Array) -> Any:
    """Do ``class_scores``: each tree from its root (to ``end``) to a leaf, in order; and tell whether all branches lead on."""
    n_trees, n_classes, is_whole = root.shape[0], start.shape[0], True
    scores = np.empty((figures.shape[0], n_classes))
    columns, total = np.zeros((figures.shape[1], AT_ONCE), np.float32), np.empty((n_classes, AT_ONCE))
    at, lowest = np.empty(AT_ONCE, np.int32), np.empty(AT_ONCE, np.float32)
    of_split, bound, kept = np.empty(figure.shape[0], np.int64), np.empty_like(value), np.empty(figure.shape[0], np.int32)
    n_leaves, n_splits, leaf = np.empty(n_trees, np.int64), np.zeros(n_trees + 1, np.int64), np.empty((n_trees, MOST_IN_A_MASK))
    for tree in range(n_trees):
        own, done = slice(root[tree], end[tree]), n_splits[tree]
        shape = figure[own], left[own], right[own], value[own]
        n_leaves[tree] = number_leaves(*shape, of_split[done:], bound[done:], kept[done:], leaf[tree])
        n_splits[tree + 1] = done + max(n_leaves[tree] - 1, 0)
    for first in range(0, figures.shape[0], AT_ONCE):
        n = min(AT_ONCE, figures.shape[0] - first)
        for row in range(n):
            for k in range(figures.shape[1]):
                columns[k, row] = figures[first + row, k]
        for k in range(n_classes):
            total[k] = start[k]
        for tree in range(n_trees):
            if n_leaves[tree]:
                splits = n_splits[tree], n_splits[tree + 1]
                add_leaf(columns, of_split, bound, kept, splits, leaf[tree], total[tree % n_classes], at, lowest)
                continue
            begin, stop = root[tree], end[tree]
            walked = walk(columns, figure[begin:stop], value[begin:stop], left[begin:stop], right[begin:stop], at)
            is_whole = is_whole and walked
            for row in range(AT_ONCE):
                total[tree % n_classes, row] += value[begin + at[row]]
        for row in range(n):
            for k in range(n_classes):
                scores[first + row, k] = total[k, row]
    return scores, is_whole


@kernel
def number_leaves(
    figure: Array, left: Array, right: Array, value: Array, of_split: Array, bound: Array, kept: Array, leaf: Array
) -> int:
    """Give a tree's leaves numbers from left to right; return how many there are, 0 where it must be walked.

    Filled in: ``leaf`` (leaf,), what each adds; ``of_split``, ``bound`` (split,), its figure and what that is compared with;
    ``kept`` (split,), the bits of all leaves but those on a split's left: what may still be reached where its figure is too
    large. So the leaf that a row reaches is the lowest bit that no split has taken away (Lucchese and others 2015, QuickScorer).
    """
    n_nodes, n_splits = figure.shape[0], 0
    below, first, n_above = np.ones(n_nodes, np.int64), np.zeros(n_nodes, np.int64), np.zeros(n_nodes, np.int64)
    for node in range(n_nodes - 1, -1, -1):
        if figure[node] >= 0:
            if left[node] <= node or right[node] <= node or max(left[node], right[node]) >= n_nodes:
                return 0
            below[node] = below[left[node]] + below[right[node]]
            n_above[left[node]] += 1
            n_above[right[node]] += 1
    if below[0] > MOST_IN_A_MASK or n_above.max() > 1:
        return 0
    for node in range(n_nodes):
        if figure[node] >= 0:
            first[left[node]], first[right[node]] = first[node], first[node] + below[left[node]]
            of_split[n_splits], bound[n_splits] = figure[node], value[node]
            kept[n_splits] = np.int32(~(((1 << below[left[node]]) - 1) << first[node]))
            n_splits += 1
        elif n_above[node] or not node:
            leaf[first[node]] = value[node]
    return int(below[0])


@kernel
def add_leaf(
    columns: Array, of_split: Array, bound: Array, kept: Array, splits: tuple[int, int], leaf: Array, total: Array, at: Array,
    lowest: Array,
) -> None:  # fmt: skip
    """Add to each row's total the leaf of one tree that it reaches, by crossing out all others split by split."""
    if splits[0] == splits[1]:
        for row in range(AT_ONCE):
            total[row] += leaf[0]
        return
    at[:] = -1
    for split in range(splits[0], splits[1]):
        cross_out(columns[of_split[split]], bound[split], kept[split], at)
    for row in range(AT_ONCE):  # one bit stands for the leaf: as a number its exponent says which
        lowest[row] = np.float32(at[row] & -at[row])
    for row in range(AT_ONCE):
        total[row] += leaf[((lowest.view(np.int32)[row] >> 23) & 255) - 127]


@kernel
def cross_out(own: Array, bound: float, kept: int, at: Array) -> None:
    """Take away from each row's leaves those that it cannot reach behind one split: all rows at once, without a branch."""
    for row in range(AT_ONCE):
        at[row] &= np.int32(-1) if own[row] <= bound else np.int32(kept)


@kernel
def walk(columns: Array, figure: Array, value: Array, left: Array, right: Array, at: Array) -> bool:
    """Write at which leaf of a tree each row ends; False where a branch leads back.

    Every node is asked of every row, and moves those that stand on it: that is more questions than each row's own way holds,
    but the same of all, so many at once, and none is guessed.
    """
    at[:] = 0
    for node in range(figure.shape[0]):
        if figure[node] >= 0:
            if left[node] <= node or right[node] <= node or max(left[node], right[node]) >= figure.shape[0]:
                return False
            here, low, high, bound = np.int32(node), np.int32(left[node]), np.int32(right[node]), value[node]
            own = columns[figure[node]]
            for row in range(at.shape[0]):
                way = low if own[row] <= bound else high
                at[row] = way if at[row] == here else at[row]
    return True
