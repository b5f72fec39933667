"""What of ``test_verify`` takes long."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.upkeep import test_verify
from tests.upkeep.test_verify import missed_damages

pytestmark = pytest.mark.slow

reported = test_verify.reported
"""Fixture of both."""


def test_each_of_a_thousand_damages_is_found(reported, tmp_path):
    work = Path(shutil.copytree(reported[1], tmp_path / "w", symlinks=True))
    assert missed_damages(work, 1000, seed=2) == []
