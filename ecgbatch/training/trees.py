"""Boosted trees fitted to the wave figures of median beats, by scikit-learn, and laid out for the model's kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgbatch.model.trees import MOST_LEAVES
from ecgbatch.training.settings import TrainSettings


def load_boosting() -> None:
    """Load scikit-learn's part that ``fit_trees`` needs, a second of a process."""
    import sklearn.ensemble  # noqa: F401


def fit_trees(
    figures: NDArray[np.float32],
    group: NDArray[np.integer[Any]],
    weight: NDArray[np.floating[Any]],
    settings: TrainSettings,
    seed: int,
) -> dict[str, NDArray[Any]]:
    """Fit gradient boosting (Friedman 2001) of histograms (Ke and others 2017) on one thread; the same bits each time.

    Parameters
    ----------
    figures : (row, figure) float32
        From ``model.waves.wave_figures``.
    group : (row,) int
        Class of each row, 0 to the number of classes less one, each of them there.
    weight : (row,) float
        Need not sum to 1.
    settings
        ``n_trees`` a class, ``tree_leaves``, ``tree_rate``, ``tree_share`` of the figures that a split may choose from.
    seed
        Of those choices.

    Returns
    -------
    dict
        ``model.trees.Trees``; two classes have one tree a round, of the second's logit.

    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    boosting = HistGradientBoostingClassifier(
        max_iter=settings.n_trees, learning_rate=settings.tree_rate, max_leaf_nodes=settings.tree_leaves, l2_regularization=1.0,
        max_features=settings.tree_share, early_stopping=False, random_state=seed,
    )  # fmt: skip
    with threadpool_limits(1):
        boosting.fit(figures, group, sample_weight=weight * (len(weight) / weight.sum()))
    return flattened(boosting)


def flattened(boosting: Any) -> dict[str, NDArray[Any]]:
    """Return scikit-learn's trees as ``model.trees.Trees``; thresholds rounded down to float32, so that sides stay."""
    nodes = [tree.nodes for together in boosting._predictors for tree in together]
    if max(len(one) for one in nodes) > 2 * MOST_LEAVES - 1:
        raise ValueError(f"trees of at most {MOST_LEAVES} leaves are kept, found more; give a smaller tree_leaves")
    column = {name: np.concatenate([one[name] for one in nodes]) for name in nodes[0].dtype.names}
    is_leaf = column["is_leaf"].astype(bool)
    low = column["num_threshold"].astype(np.float32)
    low = np.where(low > column["num_threshold"], np.nextafter(low, np.float32(-np.inf)), low)
    start = np.ravel(boosting._baseline_prediction).astype(np.float64)
    root = np.cumsum([0, *(len(one) for one in nodes)])[:-1].astype(np.int32)
    if start.size == 1:  # the second class's logit alone: the first stays at 0, with a tree of one empty leaf
        return _beside_nothing(column, is_leaf, low, root, start)
    return {
        "figure": np.where(is_leaf, -1, column["feature_idx"]).astype(np.int16),
        "value": np.where(is_leaf, column["value"], low).astype(np.float32),
        "left": column["left"].astype(np.uint8),
        "right": column["right"].astype(np.uint8),
        "root": root,
        "start": start,
    }


def _beside_nothing(
    column: dict[str, NDArray[Any]], is_leaf: NDArray[np.bool_], low: NDArray[np.float32], root: NDArray[np.int32],
    start: NDArray[np.float64],
) -> dict[str, NDArray[Any]]:  # fmt: skip
    """Return trees of two classes: the last node is an empty leaf, and every other tree is it."""
    empty = len(is_leaf)
    both = np.stack([np.full(len(root), empty, np.int32), root], axis=1).ravel()
    return {
        "figure": np.append(np.where(is_leaf, -1, column["feature_idx"]), -1).astype(np.int16),
        "value": np.append(np.where(is_leaf, column["value"], low), 0).astype(np.float32),
        "left": np.append(column["left"], 0).astype(np.uint8),
        "right": np.append(column["right"], 0).astype(np.uint8),
        "root": both,
        "start": np.concatenate([[0.0], start]),
    }
