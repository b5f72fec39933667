"""What of ``test_compact`` takes long."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import pytest

from ecgbatch.upkeep.compact import compact
from ecgbatch.upkeep.erase import erase_patient
from ecgbatch.upkeep.repair import repair
from ecgbatch.upkeep.verify import verify_workspace
from ecgbatch.workspace.compacted import compacted
from tests.storage.test_storage import tree_digest
from tests.upkeep import test_compact
from tests.upkeep.test_compact import damaged_shard, n_stores
from tests.upkeep.test_erase import WHO, killed_at, night, whole

pytestmark = pytest.mark.slow

once_compacted, three_nights = test_compact.once_compacted, test_compact.three_nights
"""Fixtures of both."""


def test_a_compaction_ends_wherever_it_was_cut_off(three_nights, once_compacted, tmp_path, monkeypatch):
    number = 1
    while True:
        cut = Path(shutil.copytree(three_nights[1], tmp_path / "cut", symlinks=True))
        if not killed_at(number, partial(compact, str(cut)), monkeypatch):
            break
        compact(str(cut))
        assert whole(cut) == whole(once_compacted)
        assert verify_workspace(str(cut)) == {}
        shutil.rmtree(cut)
        number += 1
    assert number > 50


def test_what_a_cut_off_compaction_left_goes_when_a_night_came_between(three_nights, tmp_path, monkeypatch):
    archive = Path(shutil.copytree(three_nights[0], tmp_path / "archive"))
    work = Path(shutil.copytree(three_nights[1], tmp_path / "w", symlinks=True))
    assert killed_at(60, partial(compact, str(work)), monkeypatch)
    names = (archive / "RECORDS").read_text().split()
    header = archive / f"{names[5]}.hea"
    header.write_text(header.read_text() + "# read by another\n")
    night(archive, work, names)
    compact(str(work))
    assert n_stores(work) == {"signals": 1, "peaks": 1, "beats": 1, "measurements": 1, "scores": 4}
    assert verify_workspace(str(work)) == {}


def test_a_damaged_store_that_was_made_of_others_is_repaired_to_the_same_digest(three_nights, tmp_path):
    archive, work = Path(shutil.copytree(three_nights[0], tmp_path / "archive")), tmp_path / "w"
    names = (archive / "RECORDS").read_text().split()
    for listed in (names[:3], names):
        night(archive, work, listed)
    compact(str(work))
    erase_patient(str(work), WHO)
    path, before = damaged_shard(work)
    assert repair(str(work), str(archive), verify_workspace(str(work))) == []
    assert tree_digest(path) == before
    assert verify_workspace(str(work)) == {}


def test_an_erasure_leaves_nothing_twice_wherever_a_compaction_was_cut_off(three_nights, tmp_path, monkeypatch):
    plain = Path(shutil.copytree(three_nights[1], tmp_path / "plain", symlinks=True))
    erase_patient(str(plain), WHO)
    wanted, n_refused = whole(plain), 0
    for number in range(1, 200, 8):
        cut = Path(shutil.copytree(three_nights[1], tmp_path / str(number), symlinks=True))
        if not killed_at(number, partial(compact, str(cut)), monkeypatch):
            break
        if compacted(cut)["pending"]:
            n_refused += 1  # the compaction must be ended first
            continue
        erase_patient(str(cut), WHO)
        assert whole(cut) == wanted, number
        shutil.rmtree(cut)
    assert n_refused > 0
