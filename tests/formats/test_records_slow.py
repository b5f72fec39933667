"""What of ``test_records`` takes long."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.formats.test_records import REAL, compare_with_wfdb

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("folder", REAL)
def test_every_stored_sample_of_all_real_records_is_wfdbs(test_data: Path, folder: str) -> None:
    assert compare_with_wfdb(test_data / folder, 1)
