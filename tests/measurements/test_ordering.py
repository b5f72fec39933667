"""Values by rank are those that numpy finds, whatever lies outside the signal."""

from __future__ import annotations

import numpy as np
import pytest

from ecgbatch.measurements.ordering import PIECE, median_window, ranked


@pytest.mark.parametrize("n_rows", [1, 2, 7, 12])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_ranked_is_numpys_sort(n_rows: int, kind: type) -> None:
    lines = np.random.default_rng(1).normal(size=(n_rows, 2 * PIECE + 61)).astype(kind)
    places = np.arange(n_rows)[::-1].copy()
    np.testing.assert_array_equal(ranked(lines.copy(), places), np.sort(lines, axis=0)[places])


@pytest.mark.parametrize("n_beats", [1, 4, 5])
def test_a_median_window_is_numpys_median_of_what_lies_in_the_signal(n_beats: int) -> None:
    signal = np.random.default_rng(2).normal(size=(3, 400)).astype(np.float32)
    r_sample = np.array([10, 60, 200, 330, 395])[:n_beats]
    at = r_sample[:, None] + np.arange(-30, 50)
    windows = np.where((at >= 0) & (at < 400), signal[:, at.clip(0, 399)], np.nan)
    is_known = ~np.isnan(windows).all(axis=1)
    found = median_window(signal, r_sample, 30, 50)
    assert (np.isnan(found) == ~is_known).all()
    for lead, column in zip(*np.nonzero(is_known), strict=True):
        own = windows[lead, :, column]
        assert found[lead, column] == np.median(own[~np.isnan(own)])
