"""A workspace in an object store reads as the same one on a disk."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from torch.utils.data import DataLoader

import ecgbatch
from storage import folder_at
from tests.api.test_torch_beats import beats_in
from tests.storage.test_bucket import s3, s3_port  # noqa: F401 - fixtures

pytestmark = pytest.mark.slow


def test_a_workspace_in_a_bucket_reads_as_on_a_disk(nights, s3):  # noqa: F811
    here, there = folder_at(nights.work), folder_at("s3://ecg/work")
    for key, _ in here.files():
        if key.split("/")[0] in ("signals", "beats", "peaks", "measurements", "scores", "runs", "archive.json"):
            there.put(key, here.read(key))
    local, remote = ecgbatch.open_workspace(nights.work), ecgbatch.open_workspace("s3://ecg/work")
    for table in ("records", "scores", "measurements"):
        pd.testing.assert_frame_equal(getattr(remote, table), getattr(local, table))
    xr.testing.assert_identical(remote.signals(nights.faulty), local.signals(nights.faulty))
    np.testing.assert_array_equal(remote.beats()["waveform"].values, local.beats()["waveform"].values)
    np.testing.assert_array_equal(
        remote.beats()["waveform"][[9, 2, 70], :3, 5].values, local.beats()["waveform"][[9, 2, 70], :3, 5].values
    )
    loaders = (DataLoader(one.torch_beats(batch=20), batch_size=None) for one in (remote, local))
    first, second = map(beats_in, loaders)
    assert first == second
