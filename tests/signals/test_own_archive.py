"""A workspace knows its archive, and a verdict that rests on more than the files is looked at again."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from ecgbatch.archive.watch import LookOptions
from ecgbatch.signals.lookup import archive_facts, current_records
from ecgbatch.signals.own_archive import OtherArchive
from ecgbatch.signals.stage import convert_archive
from ecgbatch.synthetic.archive import ArchiveShape, write_archive
from storage.sealed import sealed
from tests.formats.dicom_files import ecg, encoded, group, waves

LONG_AGO = (1.7e9, 1.7e9)


def write_at(folder: Path, seed: int, n_records: int = 3) -> Path:
    """Write records of the same sizes and times, and one of the same name, whatever the seed: as from a reproducible tar."""
    write_archive(folder, ArchiveShape(n_records=n_records, duration_s=3.0, sampling_frequency_hz=250.0), seed=seed)
    for path in folder.rglob("*.hea"):
        path.write_bytes(path.read_bytes().ljust(4000, b"#"))
    for path in [*folder.rglob("*"), folder]:
        os.utime(path, LONG_AGO)
    return folder


def test_another_archive_of_like_named_records_is_refused_and_content_decides_where_it_is_asked_for(tmp_path: Path) -> None:
    one, two, work = write_at(tmp_path / "one", 1, 1), write_at(tmp_path / "two", 2, 1), str(tmp_path / "work")
    sizes = [sorted((path.relative_to(folder), path.stat().st_size) for path in folder.rglob("s*.*")) for folder in (one, two)]
    assert sizes[0] == sizes[1]
    convert_archive(str(one), work)
    before = current_records(work, ["record_name", "source_digest"])
    with pytest.raises(OtherArchive, match=r"holds the records of another archive \(.*one\).*--rehash once"):
        convert_archive(str(two), work)
    assert convert_archive(str(one), work).n_new == 0
    done = convert_archive(str(two), work, LookOptions(rehash=True))
    after = current_records(work, ["record_name", "source_digest"])
    assert done.n_new == 1
    assert after["record_name"].values.tolist() == before["record_name"].values.tolist()
    assert not np.isin(after["source_digest"].values, before["source_digest"].values).any()
    with pytest.raises(OtherArchive, match="two"):
        convert_archive(str(one), work)


def test_the_same_archive_at_a_new_place_is_taken_over_without_converting_anything(tmp_path: Path) -> None:
    work = str(tmp_path / "work")
    convert_archive(str(write_at(tmp_path / "one", 1)), work)
    (tmp_path / "one").rename(tmp_path / "moved")
    assert convert_archive(str(tmp_path / "moved"), work, LookOptions(rehash=True)).n_new == 0
    assert convert_archive(str(tmp_path / "moved"), work).n_new == 0
    (tmp_path / "link").symlink_to(tmp_path / "moved")
    assert convert_archive(str(tmp_path / "link"), work).n_new == 0


def test_a_workspace_of_an_earlier_version_knows_its_archive_by_name(tmp_path: Path) -> None:
    work = tmp_path / "work"
    convert_archive(str(write_at(tmp_path / "a" / "ecg", 1)), str(work))
    facts = archive_facts(str(work))
    del facts["place"]
    (work / "archive.json").write_bytes(sealed(facts))
    with pytest.raises(OtherArchive, match="another archive"):
        convert_archive(str(write_at(tmp_path / "b", 1)), str(work))
    assert convert_archive(str(tmp_path / "a" / "ecg"), str(work)).n_new == 0
    assert archive_facts(str(work))["place"] == str(tmp_path / "a" / "ecg")


def test_a_reader_that_is_installed_later_reads_what_was_set_aside_for_want_of_it(tmp_path: Path, monkeypatch) -> None:
    archive, work = tmp_path / "archive", str(tmp_path / "work")
    archive.mkdir()
    (archive / "r.dcm").write_bytes(encoded(ecg(group(["I", "II"], waves(2, 2500)))))
    os.utime(archive / "r.dcm", LONG_AGO)
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "pydicom", None)
        for _ in range(2):
            assert convert_archive(str(archive), work).set_aside == {"EXTRA_MISSING": 1}
    done = convert_archive(str(archive), work)
    assert (done.n_new, done.set_aside) == (1, {})


def test_a_file_that_was_not_seen_while_it_was_read_is_looked_at_again(tmp_path: Path) -> None:
    """As where a mount was away for a while: sizes and times are afterwards what they were before."""
    archive, work = write_at(tmp_path / "archive", 1), str(tmp_path / "work")
    away = tmp_path / "away"

    def unmount(stage: str, done: int, _total: int) -> None:
        if stage == "signals" and done == 0 and not away.exists():
            away.mkdir()
            for path in [*archive.rglob("*.dat"), *archive.rglob("*.xyz")]:
                shutil.move(path, away / path.name)

    first = convert_archive(str(archive), work, on_progress=unmount)
    assert first.set_aside == {"DAT_MISSING": 3}
    for path in archive.rglob("*.hea"):
        for part in away.glob(f"{path.stem}.*"):
            shutil.move(part, path.parent)
        os.utime(path.parent, LONG_AGO)
    done = convert_archive(str(archive), work)
    assert (done.n_new, done.set_aside) == (3, {})
