"""Loaders of torch get every beat once an epoch, however many workers share them."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from torch.utils.data import DataLoader

import ecgbatch


def beats_in(loader) -> list[tuple[str, int]]:
    """Return record and R peak of every beat, in the order that they come."""
    batches = (zip(batch["record_name"], batch["r_sample"].tolist(), strict=True) for batch in loader)
    return list(itertools.chain.from_iterable(batches))


@pytest.fixture(scope="module")
def workspace(nights) -> ecgbatch.Workspace:
    return ecgbatch.open_workspace(nights.work)


@pytest.fixture(scope="module")
def expected(workspace) -> list[tuple[str, int]]:
    beats = workspace.beats()
    names = beats["record"].values[beats["record_index"].values].tolist()
    return list(zip(names, beats["r_sample"].values.tolist(), strict=True))


# Fork is torch's default here, and fast; tests of Python 3.12 on are warned of it. Spawned workers: test_torch_beats_slow.py.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded", "ignore:This DataLoader will create")
def test_two_workers_share_the_beats_and_an_epoch_has_each_once(workspace, expected):
    dataset = workspace.torch_beats(batch=10, seed=4)
    found = beats_in(DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context="fork"))
    assert Counter(found) == Counter(expected)
    assert len(set(found)) == len(found) > 80
    alone = beats_in(DataLoader(dataset, batch_size=None))
    assert found != alone, "two workers: they did share"


def test_an_order_is_drawn_from_the_seed_and_the_epoch(workspace, expected):
    assert beats_in(DataLoader(workspace.torch_beats(batch=7), batch_size=None)) == expected
    dataset, orders = workspace.torch_beats(batch=7, seed=1), []
    for epoch in (0, 1, 0):
        dataset.set_epoch(epoch)
        orders.append(beats_in(DataLoader(dataset, batch_size=None)))
        assert sorted(orders[-1]) == sorted(expected)
    assert orders[0] == orders[2] != orders[1]
    assert expected not in orders


def test_batches_have_labels_and_zeros_for_what_is_missing(nights, workspace):
    (batch,) = workspace.torch_beats(batch=1000, records=nights.short, leads=["Vx", "II"])
    own = workspace.beats(nights.short, leads=["Vx", "II"])
    assert batch["waveform"].dtype.is_floating_point
    np.testing.assert_array_equal(batch["waveform"].numpy(), np.nan_to_num(own["waveform"].values))
    assert not batch["waveform"][:, 0].any()
    assert batch["mi"].tolist() == workspace.records["mi"].loc[batch["record_name"]].tolist()
    with pytest.raises(ValueError, match="at least 1 beat"):
        workspace.torch_beats(batch=0)


def test_a_dataset_does_not_mix_two_nights(copied):
    dataset = ecgbatch.open_workspace(copied.work).torch_beats()
    (copied.archive / copied.broken).with_suffix(".hea").unlink()
    ecgbatch.convert(copied.archive, copied.work, rehash=True)
    with pytest.raises(ValueError, match="another night has been converted since"):
        next(iter(dataset))
