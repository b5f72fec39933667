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
figure is at most this, of a leaf what it adds; ``left``, ``right`` (node,) uint8: counted from the tree's root; ``root`` (tree,)
int32; ``start`` (class,) float64: what each class begins with. Trees serve the classes in turn."""


MOST_LEAVES = 127
"""Leaves that a tree may have: its nodes are counted in a byte."""


def class_scores(trees: Trees, figures: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return (row, class) float64 of figures (row, figure) float32: a softmax over classes gives probabilities.

    A row's numbers depend on that row only.
    """
    nodes = [np.require(trees[name], kind, "C") for name, kind in _KINDS.items()]
    return np.asarray(ask(np.require(figures, np.float32, ("C", "W")), *(np.require(node, requirements="W") for node in nodes)))


_KINDS = {"figure": np.int16, "value": np.float32, "left": np.uint8, "right": np.uint8, "root": np.int32, "start": np.float64}


@kernel
def ask(figures: Array, figure: Array, value: Array, left: Array, right: Array, root: Array, start: Array) -> Array:
    """Do ``class_scores``: each tree from its root to a leaf, in order."""
    scores = np.empty((figures.shape[0], start.shape[0]))
    for row in range(figures.shape[0]):
        scores[row] = start
        for tree in range(root.shape[0]):
            first = root[tree]
            node = first
            while figure[node] >= 0:
                step = left[node] if figures[row, figure[node]] <= value[node] else right[node]
                node = first + np.int64(step)
            scores[row, tree % start.shape[0]] += value[node]
    return scores
