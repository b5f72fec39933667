"""What of ``test_erase`` takes long."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from ecgbatch.signals.lookup import current_records
from ecgbatch.upkeep.erase import erase_patient
from ecgbatch.upkeep.verify import verify_workspace
from storage import list_stores
from tests.upkeep import test_erase
from tests.upkeep.test_erase import WHO, ends_well, killed_at, whole

pytestmark = pytest.mark.slow

erased, once_erased, two_nights = test_erase.erased, test_erase.once_erased, test_erase.two_nights
"""Fixtures of both."""


def test_erasing_everybody_leaves_an_empty_workspace(erased):
    work = erased
    for who in ("patient001", "patient003"):
        erase_patient(str(work), who)
    with pytest.raises(ValueError, match="no published store"):
        verify_workspace(str(work))
    assert list_stores(work, "signals") == list_stores(work, "scores") == []
    assert current_records(str(work)).sizes["record"] == 0


N_PARTS = 8
"""Of the sweep over all changes that an erasure makes: whole it takes more than eight minutes, and says nothing until then."""


@pytest.mark.parametrize("first", range(1, N_PARTS + 1))
def test_an_erasure_ends_wherever_it_was_cut_off(two_nights, once_erased, tmp_path, monkeypatch, first):
    wanted = whole(once_erased[0])
    for number in count(first, N_PARTS):
        cut = Path(shutil.copytree(two_nights[1], tmp_path / "cut", symlinks=True))
        if not killed_at(number, partial(erase_patient, str(cut), WHO), monkeypatch):
            break
        ends_well(cut, wanted)
        shutil.rmtree(cut)
    assert number > 50


def test_the_command_line_erases_though_it_is_killed(two_nights, once_erased, tmp_path):
    command = [str(Path(sys.executable).with_name("ecgbatch")), "erase"]
    wanted = whole(once_erased[0])
    for milliseconds in (1500, 2000, 2300, 2600, 2900, 3300):
        cut = Path(shutil.copytree(two_nights[1], tmp_path / str(milliseconds), symlinks=True))
        erase = [*command, str(cut), "--patient", WHO, "--yes"]
        process = subprocess.Popen(erase, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            process.wait(milliseconds / 1000)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        subprocess.run([*erase, "--json"], check=True, capture_output=True)
        assert whole(cut) == wanted
        assert verify_workspace(str(cut)) == {}
