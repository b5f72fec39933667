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


@kernel
def ask(figures: Array, figure: Array, value: Array, left: Array, right: Array, root: Array, start: Array, end: Array) -> Any:
    """Do ``class_scores``: each tree from its root (to ``end``) to a leaf, in order; and tell whether all branches lead on."""
    scores, n_classes, is_whole = np.empty((figures.shape[0], start.shape[0])), start.shape[0], True
    columns, total = np.empty((figures.shape[1], AT_ONCE), np.float32), np.empty((n_classes, AT_ONCE))
    at = np.empty(AT_ONCE, np.int32)
    for first in range(0, figures.shape[0], AT_ONCE):
        n = min(AT_ONCE, figures.shape[0] - first)
        for row in range(n):
            for k in range(figures.shape[1]):
                columns[k, row] = figures[first + row, k]
        for k in range(n_classes):
            total[k] = start[k]
        for tree in range(root.shape[0]):
            begin, stop = root[tree], end[tree]
            walked = walk(columns, figure[begin:stop], value[begin:stop], left[begin:stop], right[begin:stop], at[:n])
            is_whole = is_whole and walked
            own = total[tree % n_classes]
            for row in range(n):
                own[row] += value[begin + at[row]]
        for row in range(n):
            for k in range(n_classes):
                scores[first + row, k] = total[k, row]
    return scores, is_whole


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
