"""A run of ten records, made once; who writes takes a copy."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.reports.report_runs import reported_run


@pytest.fixture(scope="session")
def ran(tmp_path_factory) -> SimpleNamespace:
    return reported_run(tmp_path_factory.mktemp("served"))


@pytest.fixture
def work(ran, tmp_path) -> Path:
    """A copy of the run's workspace."""
    return Path(shutil.copytree(ran.work, tmp_path / "work", symlinks=True))
