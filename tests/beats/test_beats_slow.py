"""What of ``test_beats`` takes long."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.beats.test_beats import check_kachuee_plainly, check_real_record, real_records

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("folder", ["ptb", "ptbxl"])
def test_every_real_record_keeps_its_count_when_any_lead_is_removed(test_data: Path, folder: str) -> None:
    for path in real_records(test_data, folder, 1):
        check_real_record(path)


@pytest.mark.parametrize("folder", ["ptb", "ptb-full", "ptb-10s", "ptbxl", "mitdb-ds1", "nstdb"])
def test_kachuee_equals_the_plain_reading_on_every_real_record(test_data: Path, folder: str) -> None:
    paths = real_records(test_data, folder, 1)
    assert len(paths) == {"ptb": 40, "ptb-full": 4, "ptb-10s": 31, "ptbxl": 492, "mitdb-ds1": 22, "nstdb": 2}[folder]
    for path in paths:
        check_kachuee_plainly(path)
