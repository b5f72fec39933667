"""Loaders of torch whose workers begin as new processes, as object stores and later Pythons want it."""

from __future__ import annotations

from collections import Counter

import pytest
from torch.utils.data import DataLoader

import ecgbatch
from tests.api.test_torch_beats import beats_in

pytestmark = pytest.mark.slow


# Torch warns where a machine has fewer processors than workers.
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_spawned_workers_share_the_beats_and_every_epoch_has_each_once(nights):
    dataset = ecgbatch.open_workspace(nights.work).torch_beats(batch=10)
    loader = DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context="spawn", persistent_workers=True)
    expected = Counter(beats_in(DataLoader(dataset, batch_size=None)))
    for _ in range(2):
        assert Counter(beats_in(loader)) == expected
    assert set(expected.values()) == {1}
