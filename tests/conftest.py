"""Shared fixtures."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.reliability.engines import cluster


def pytest_configure() -> None:
    """Take signals as a shell hands them on: under nohup, and behind ``&``, what tests start and stop would ignore them."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Folder of real records, or a skip that says how to get them."""
    folder = os.environ.get("ECGBATCH_TEST_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("no real records: set ECGBATCH_TEST_DATA to a folder with ptb/, ptbxl/, mitdb-ds1/ ...")
    return Path(folder)


@pytest.fixture(scope="session")
def dask_address() -> Iterator[str]:
    """Address of a Dask cluster of three processes on loopback: a scheduler and two workers of one thread, which are there."""
    from distributed import Client

    with cluster(2) as dask:
        with Client(dask.address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=120)
        yield dask.address
