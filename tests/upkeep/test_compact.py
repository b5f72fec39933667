"""Many nights in few stores: the same rows, the same later runs, and every earlier digest is still proved."""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path

import pytest

from ecgbatch.beats.lookup import extract_beats
from ecgbatch.model.files import shipped_model
from ecgbatch.scores.stage import score_workspace
from ecgbatch.signals.stage import convert_archive
from ecgbatch.synthetic.archive import ArchiveShape, write_archive
from ecgbatch.upkeep.compact import KINDS, compact
from ecgbatch.upkeep.erase import erase_patient
from ecgbatch.upkeep.repair import repair
from ecgbatch.upkeep.verify import items_of, verify_workspace
from ecgbatch.workspace.compacted import COMPACTED_FILE, compacted
from ecgbatch.workspace.runs import latest_run, runs_by_time
from storage import folder_at, list_stores, sealed
from tests.storage.test_storage import tree_digest
from tests.upkeep.test_erase import SETTINGS, WHO, killed_at, measured_anew_alike, night, scores_by_record, whole


@pytest.fixture(scope="module")
def three_nights(tmp_path_factory) -> tuple[Path, Path]:
    """An archive, and a workspace that took it in three nights; one record changed in between, so that a row is superseded."""
    top = tmp_path_factory.mktemp("compact")
    archive, work = top / "archive", top / "work"
    write_archive(archive, ArchiveShape(n_records=8, duration_s=10.0), seed=5)
    names = (archive / "RECORDS").read_text().split()
    before = os.umask(0o077)
    try:
        night(archive, work, names[:3])
        header = archive / f"{names[0]}.hea"
        header.write_text(header.read_text() + "# read by another\n")
        night(archive, work, names[:7])
        night(archive, work, names)
    finally:
        os.umask(before)
    return archive, work


@pytest.fixture(scope="module")
def once_compacted(three_nights, tmp_path_factory) -> Path:
    work = Path(shutil.copytree(three_nights[1], tmp_path_factory.mktemp("compacted") / "w", symlinks=True))
    compact(str(work))
    return work


@pytest.fixture
def work(once_compacted, tmp_path) -> Path:
    return Path(shutil.copytree(once_compacted, tmp_path / "w", symlinks=True))


def n_stores(work: Path) -> dict[str, int]:
    return {kind: len(list_stores(work, kind)) for kind in KINDS}


def test_few_stores_hold_every_row_and_later_runs_compute_nothing(three_nights, work):
    archive, nights = three_nights
    assert n_stores(nights) == dict.fromkeys(KINDS, 3)
    assert n_stores(work) == {"signals": 1, "peaks": 1, "beats": 1, "measurements": 1, "scores": 3}
    assert verify_workspace(str(work)) == {}
    for before, after in zip(runs_by_time(str(nights)), runs_by_time(str(work)), strict=True):
        assert scores_by_record(nights, before) == scores_by_record(work, after)
    stores, run = whole(work), latest_run(str(work))
    assert convert_archive(str(archive), str(work)).n_new == 0
    extract_beats(str(work), SETTINGS)
    assert score_workspace(str(work), str(shipped_model())) == run
    assert whole(work) == stores
    assert compact(str(work))["n_stores"] == {kind: [n, n] for kind, n in n_stores(work).items()}


def test_compacted_measurements_are_those_that_measuring_would_make(work):
    measured_anew_alike(work)


def test_every_earlier_store_is_proved_and_a_wrong_proof_is_found(three_nights, work):
    earlier = {f"{kind}/{Path(path).name}" for kind in KINDS for path in list_stores(three_nights[1], kind)}
    assert {key for sort, key in items_of(str(work)) if sort == "earlier store"} == earlier
    wanted = {"signals": "signal", "peaks": "r_sample", "beats": "waveform", "measurements": "qt_ms", "scores": "evidence"}
    for kind, of in wanted.items():
        document = compacted(work)
        key = next(key for key in sorted(earlier) if key.startswith(kind))
        proof = document["stores"][key]
        sort = "shards" if of in proof["shards"] else "columns"
        digest = proof[sort][of][0] if sort == "shards" else proof[sort][of]
        turned = [digest[::-1], *proof[sort][of][1:]] if sort == "shards" else digest[::-1]
        wrong = proof | {sort: proof[sort] | {of: turned}}
        folder_at(work).put(COMPACTED_FILE, sealed(document | {"stores": document["stores"] | {key: wrong}}))
        assert [item for item in verify_workspace(str(work)) if item[0] == "earlier store"] == [("earlier store", key)]
        folder_at(work).put(COMPACTED_FILE, sealed(document))


def test_a_night_after_a_compaction_goes_on_and_the_next_keeps_the_proofs(three_nights, work, tmp_path):
    archive = Path(shutil.copytree(three_nights[0], tmp_path / "archive"))
    proved = set(compacted(work)["stores"])
    names = (archive / "RECORDS").read_text().split()
    header = archive / f"{names[5]}.hea"
    header.write_text(header.read_text() + "# read by another\n")
    night(archive, work, names, rehash=True)  # a copy: at another place
    assert n_stores(work) == {"signals": 2, "peaks": 2, "beats": 2, "measurements": 2, "scores": 4}
    compact(str(work))
    assert n_stores(work) == {"signals": 1, "peaks": 1, "beats": 1, "measurements": 1, "scores": 4}
    assert set(compacted(work)["stores"]) > proved
    assert verify_workspace(str(work)) == {}


def test_a_compaction_that_is_cut_off_ends_with_the_same_command(three_nights, once_compacted, tmp_path, monkeypatch):
    for number in (112,):
        cut = Path(shutil.copytree(three_nights[1], tmp_path / str(number), symlinks=True))
        assert killed_at(number, partial(compact, str(cut)), monkeypatch)
        compact(str(cut))
        assert whole(cut) == whole(once_compacted)
        assert verify_workspace(str(cut), read_data=False) == {}


def test_a_patient_is_erased_from_what_was_compacted(work):
    erase_patient(str(work), WHO)
    assert verify_workspace(str(work)) == {}
    assert compacted(work)["stores"] == {}, "their digests were of the patient's rows too"
    left = [path for path in work.rglob("*") if WHO in path.name or (path.is_file() and WHO.encode() in path.read_bytes())]
    assert left == []


def damaged_shard(work: Path) -> tuple[Path, str]:
    """Damage the samples of a workspace's one signals store; return its path and what its bytes were."""
    (path,) = list_stores(work, "signals")
    before, shard = tree_digest(Path(path)), next(Path(path).glob("signal/c/0/*/*"))
    shard.write_bytes(shard.read_bytes()[:-40] + b"x" * 40)
    return Path(path), before


def test_a_damaged_store_with_a_row_that_the_archive_has_no_more_is_said_not_to_be_repaired(three_nights, work):
    path, _ = damaged_shard(work)
    left = repair(str(work), str(three_nights[0]), verify_workspace(str(work)))
    assert f"signals/{path.name}" in left, "one of its rows is of a file that has changed since"
    assert convert_archive(str(three_nights[0]), str(work)).n_new == 0, "the archive's records have come back"


def test_an_erasure_takes_what_a_cut_off_compaction_made_with_it(three_nights, tmp_path, monkeypatch):
    cut, plain = (Path(shutil.copytree(three_nights[1], tmp_path / name, symlinks=True)) for name in ("cut", "plain"))
    assert killed_at(60, partial(compact, str(cut)), monkeypatch)
    assert n_stores(cut)["signals"] == 4, "the three, and one with all their rows"
    for work in (cut, plain):
        erase_patient(str(work), WHO)
    assert whole(cut) == whole(plain)
    assert verify_workspace(str(cut)) == {}


def test_an_erasure_that_has_not_ended_comes_first(three_nights, tmp_path, monkeypatch):
    work = Path(shutil.copytree(three_nights[1], tmp_path / "w", symlinks=True))
    assert killed_at(20, partial(erase_patient, str(work), WHO), monkeypatch)
    with pytest.raises(ValueError, match="an erasure has not ended"):
        compact(str(work))


def test_a_compaction_that_has_not_ended_comes_before_an_erasure(work):
    folder_at(work).put(COMPACTED_FILE, sealed(compacted(work) | {"pending": {"replaced": {}, "rows": {}}}))
    before = whole(work)
    with pytest.raises(ValueError, match="a compaction has not ended"):
        erase_patient(str(work), WHO)
    assert whole(work) == before
    compact(str(work))
    assert compacted(work)["pending"] == {}
