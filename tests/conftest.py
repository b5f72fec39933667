"""Shared fixtures."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Folder of real records, or a skip that says how to get them."""
    folder = os.environ.get("ECGBATCH_TEST_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("no real records: set ECGBATCH_TEST_DATA to a folder with ptb/, ptbxl/, mitdb-ds1/ ...")
    return Path(folder)


@pytest.fixture(scope="session")
def dask_address() -> Iterator[str]:
    """Address of a Dask cluster of three processes on loopback: a scheduler and two workers of one thread."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    dask = [sys.executable, "-m", "dask"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    page = "--dashboard-address=127.0.0.1:0"  # with --no-dashboard they would answer by HTTP on every address
    scheduler = [*dask, "scheduler", "--host", "127.0.0.1", "--port", str(port), page, "--no-show"]
    worker = [*dask, "worker", address, "--host", "127.0.0.1", "--nthreads", "1", "--no-nanny", page]
    processes = [subprocess.Popen(command, **quiet) for command in (scheduler, worker, worker)]
    try:
        _wait_for_port(port)
        yield address
    finally:
        for process in reversed(processes):
            process.kill()
        for process in processes:
            process.wait(timeout=20)


def _wait_for_port(port: int) -> None:
    for _ in range(300):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(f"no Dask scheduler on port {port} within 30 s")
