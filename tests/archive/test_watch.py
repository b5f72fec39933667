"""What has not moved is not opened; what has changed is found by its content; what still grows waits."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from ecgbatch.archive.listing import LISTING_COLUMNS
from ecgbatch.archive.remembered import CACHE_FILE
from ecgbatch.archive.watch import TICK_S, LookOptions, look_at
from ecgbatch.formats import inspection, records
from ecgbatch.formats.header import UnreadableRecord
from ecgbatch.signals import shard as signals_shard
from ecgbatch.signals.lookup import archive_facts, current_records
from ecgbatch.signals.stage import convert_archive
from ecgbatch.synthetic.archive import ArchiveShape, write_archive
from storage import list_stores, open_store
from tests.formats.dicom_files import ecg, encoded, group, waves

_opened: list[str] = []
_watching = threading.Event()


def _hook(event: str, arguments: tuple) -> None:
    if event == "open" and _watching.is_set() and isinstance(arguments[0], str | bytes | os.PathLike):
        _opened.append(os.fsdecode(arguments[0]))


sys.addaudithook(_hook)


def opened_below(folder: Path, action) -> set[str]:
    """Names of the files below a folder that an action opens, whatever library does it."""
    _opened.clear()
    _watching.set()
    try:
        action()
    finally:
        _watching.clear()
    return {Path(path).name for path in _opened if path.startswith(f"{folder}/")}


def settle(archive: Path, age_s: float = 60.0) -> None:
    """Give every file the time of an archive's: a whole second long ago would read as a disk with a coarse clock."""
    at = time.time() - age_s
    for path in archive.rglob("*"):
        os.utime(path, (at, at))


@pytest.fixture
def archive(tmp_path) -> Path:
    folder = tmp_path / "archive"
    write_archive(folder, ArchiveShape(n_records=6, duration_s=4.0), seed=3)
    settle(folder)
    time.sleep(2 * TICK_S)
    return folder


@pytest.fixture
def work(archive, tmp_path) -> str:
    convert_archive(str(archive), str(tmp_path / "work"))
    return str(tmp_path / "work")


def names_of(archive: Path) -> list[str]:
    return (archive / "RECORDS").read_text().split()


def test_no_record_of_an_unchanged_archive_is_opened(archive, work):
    for _ in range(3):
        assert opened_below(archive, lambda: convert_archive(str(archive), work)) <= {"RECORDS"}
    done = convert_archive(str(archive), work)
    assert (done.n_records, done.n_new, done.superseded, done.gone, done.waiting) == (6, 0, (), (), ())


def test_records_set_aside_are_not_opened_again_either(archive, tmp_path):
    names = names_of(archive)
    (archive / f"{names[0]}.dat").unlink()
    (archive / f"{names[1]}.hea").write_text("no header\n")
    (archive / f"{names[2]}.hea").unlink()
    settle(archive)
    time.sleep(2 * TICK_S)
    work = str(tmp_path / "w")
    assert sum(convert_archive(str(archive), work).set_aside.values()) == 3
    assert opened_below(archive, lambda: convert_archive(str(archive), work)) <= {"RECORDS"}


def test_rehash_reads_every_record(archive, work):
    opened = opened_below(archive, lambda: convert_archive(str(archive), work, LookOptions(rehash=True)))
    assert {f"{Path(name).name}.dat" for name in names_of(archive)} <= opened


def test_only_what_is_new_is_opened_and_stored(archive, work, tmp_path):
    more = tmp_path / "more"
    write_archive(more, ArchiveShape(n_records=8, duration_s=4.0), seed=3)
    new = [name for name in names_of(more) if name not in names_of(archive)]
    for name in new:
        (archive / name).parent.mkdir(exist_ok=True)
        for suffix in ("hea", "dat", "xyz"):
            shutil.copy2(more / f"{name}.{suffix}", archive / f"{name}.{suffix}")
    (archive / "RECORDS").write_text("\n".join(names_of(archive) + new) + "\n")
    opened = opened_below(archive, lambda: convert_archive(str(archive), work))
    assert {Path(name).stem for name in opened} - {"RECORDS"} == {Path(name).name for name in new}
    records = current_records(work)
    assert records["record_name"].values.tolist() == names_of(archive)
    assert sorted(open_store(path).sizes["record"] for path in list_stores(work, "signals")) == [2, 6]


def rewrite(path: Path) -> None:
    """Change one sample of a signal file: same size, another content."""
    samples = np.fromfile(path, "<i2")
    samples[len(samples) // 2] += 1
    path.write_bytes(samples.tobytes())


def test_file_of_the_same_size_with_another_content_supersedes_its_record(archive, work):
    name = names_of(archive)[2]
    before = current_records(work)
    rewrite(archive / f"{name}.dat")
    done = convert_archive(str(archive), work)
    assert done.n_new == 1
    assert done.superseded == (name,)
    after = current_records(work)
    assert after["record_name"].values.tolist() == before["record_name"].values.tolist()
    moved = after["source_digest"].values != before["source_digest"].values
    assert np.flatnonzero(moved).tolist() == [2]
    again = convert_archive(str(archive), work)
    assert (again.n_new, again.superseded) == (0, ())


def test_touched_file_with_the_same_content_is_read_once_and_stored_no_more(archive, work):
    name = names_of(archive)[1]
    os.utime(archive / f"{name}.dat")
    time.sleep(2 * TICK_S)
    opened = opened_below(archive, lambda: convert_archive(str(archive), work))
    assert f"{Path(name).name}.dat" in opened
    assert len(list_stores(work, "signals")) == 1
    assert opened_below(archive, lambda: convert_archive(str(archive), work)) <= {"RECORDS"}


def test_change_is_found_without_the_cache_too_and_changed_back_is_known(archive, work):
    path = archive / f"{names_of(archive)[3]}.dat"
    original = path.read_bytes()
    rewrite(path)
    (Path(work) / CACHE_FILE).unlink()
    assert len(convert_archive(str(archive), work).superseded) == 1
    (Path(work) / CACHE_FILE).write_bytes(b"not a table")
    assert convert_archive(str(archive), work).n_new == 0
    path.write_bytes(original)
    done = convert_archive(str(archive), work)
    assert (done.n_new, len(done.superseded)) == (0, 1)


def test_record_that_is_gone_is_said_until_it_is_back(archive, work):
    names = names_of(archive)
    (archive / "RECORDS").write_text("\n".join(names[1:]) + "\n")
    for _ in range(2):
        done = convert_archive(str(archive), work)
        assert (done.gone, done.n_records) == ((names[0],), 5)
    (archive / "RECORDS").write_text("\n".join(names) + "\n")
    done = convert_archive(str(archive), work)
    assert (done.gone, done.n_records, done.n_new) == ((), 6, 0)


def test_file_that_still_grows_waits_for_the_next_run(archive, tmp_path):
    work, name = str(tmp_path / "w"), names_of(archive)[0]
    path = archive / f"{name}.dat"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    stop = threading.Event()

    def copy() -> None:
        with path.open("ab") as file:
            while not stop.wait(0.05):
                file.write(b"\0\0")
                file.flush()

    copying = threading.Thread(target=copy)
    copying.start()
    try:
        done = convert_archive(str(archive), work)
    finally:
        stop.set()
        copying.join()
    assert done.waiting == (name,)
    assert (done.n_records, done.set_aside) == (5, {})
    assert archive_facts(work)["waiting"] == [name]
    path.write_bytes(whole)
    done = convert_archive(str(archive), work)
    assert (done.waiting, done.n_new, done.n_records, done.set_aside) == ((), 1, 6, {})
    assert current_records(work)["record_name"].values.tolist() == names_of(archive)


def test_truncated_file_that_does_not_grow_is_set_aside_and_read_again_once_whole(archive, tmp_path):
    work, path = str(tmp_path / "w"), archive / f"{names_of(archive)[0]}.dat"
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    done = convert_archive(str(archive), work)
    assert (done.waiting, done.set_aside) == ((), {"DAT_TRUNCATED": 1})
    path.write_bytes(whole)
    assert convert_archive(str(archive), work).set_aside == {}


def test_changed_record_stays_what_it_was_while_it_settles(archive, work):
    name = names_of(archive)[4]
    before = current_records(work)["source_digest"].values.tolist()
    rewrite(archive / f"{name}.dat")
    done = convert_archive(str(archive), work, LookOptions(settle_s=30.0))
    assert done.waiting == (name,)
    assert current_records(work)["source_digest"].values.tolist() == before
    assert convert_archive(str(archive), work).superseded == (name,)


def test_other_labels_are_seen_and_make_new_rows_once(archive, work, tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text("record,patient_id,label\n" + "".join(f"{name},p{name},mi\n" for name in names_of(archive)))
    convert_archive(str(archive), work, LookOptions(labels=str(labels)))
    assert set(current_records(work)["mi"].values.tolist()) == {1}
    assert opened_below(archive, lambda: convert_archive(str(archive), work, LookOptions(labels=str(labels)))) <= {"RECORDS"}


def test_look_of_a_version_with_other_columns_is_taken_anew(tmp_path, monkeypatch):
    write_archive(tmp_path / "a", ArchiveShape(n_records=3, duration_s=5), seed=1)
    archive, work = str(tmp_path / "a"), str(tmp_path / "w")
    with monkeypatch.context() as before:
        before.setattr("ecgbatch.archive.remembered.LISTING_COLUMNS", tuple(c for c in LISTING_COLUMNS if c != "recording_year"))
        stores = convert_archive(archive, work).stores
    cache = Path(work, CACHE_FILE)
    table = pq.read_table(cache).drop_columns(["recording_year"])
    pq.write_table(table, cache)
    again = convert_archive(archive, work)
    assert (again.n_new, again.n_records, again.stores) == (0, 3, stores)
    assert "recording_year" in pq.read_table(cache).column_names


def test_only_a_look_like_the_last_one_is_remembered_and_it_holds_no_listing(archive: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    convert_archive(str(archive), str(work))
    look = look_at(str(archive), str(work))
    facts = archive_facts(str(work))
    assert look.is_remembered
    assert look.listing.sizes["record"] == 0
    assert list(look.names) == facts["records"]
    assert list(look.places.values()) == list(zip(facts["stores"], facts["rows"], strict=True))
    names = (archive / "RECORDS").read_text().split()
    for told in (names[:-1], names[::-1]):  # one is gone; another order
        (archive / "RECORDS").write_text("\n".join(told))
        changed = look_at(str(archive), str(work))
        assert not changed.is_remembered
        assert changed.listing["record_name"].values.tolist() == told
        assert set(changed.places) == set(told)
    (archive / "RECORDS").write_text("\n".join(names))
    shutil.rmtree(list_stores(str(work), "signals")[0])
    again = convert_archive(str(archive), str(work))
    assert again.n_new == len(names)
    assert look_at(str(archive), str(work)).is_remembered


def test_record_that_became_whole_after_it_was_refused_is_read_again(archive, tmp_path, monkeypatch):
    name, work = names_of(archive)[2], str(tmp_path / "work")
    path = archive / f"{name}.dat"
    whole = path.read_bytes()
    inspect, read, refused = inspection.inspect_records, records.read_samples, []

    def half_written(root, names):
        if name in names:
            path.write_bytes(whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))
        return inspect(root, names)

    def then_whole(inspection, *block, **options):
        try:
            return read(inspection, *block, **options)
        except UnreadableRecord as error:
            refused.append(error.code)
            raise
        finally:
            if inspection.record_name == name:
                path.write_bytes(whole)
                settle(archive)

    with monkeypatch.context() as patch:
        patch.setattr(signals_shard, "inspect_records", half_written)
        patch.setattr(signals_shard, "read_samples", then_whole)
        assert convert_archive(str(archive), work).set_aside == {"CHANGED_WHILE_READING": 1}
    assert refused == ["CHECKSUM_MISMATCH"]
    done = convert_archive(str(archive), work)
    assert (done.set_aside, done.superseded) == ({}, (name,))


def reasons_of(work: str) -> dict[str, str]:
    now = current_records(work, ["record_name", "reason"])
    return dict(zip(now["record_name"].values.tolist(), now["reason"].values.tolist(), strict=True))


@pytest.mark.parametrize("patient", ["MRN1", ""])
def test_record_whose_reader_is_installed_later_is_read_in_the_next_night(tmp_path, monkeypatch, patient):
    """Without a patient's identifier its fingerprint is that of the night without the reader."""
    folder, work = tmp_path / "archive", str(tmp_path / "work")
    folder.mkdir()
    one = ecg(group(("II", "I", "V1"), waves(3)))
    one.PatientID = patient
    (folder / "r.dcm").write_bytes(encoded(one))
    settle(folder)
    time.sleep(2 * TICK_S)
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "pydicom", None)
        convert_archive(str(folder), work)
        first = reasons_of(work)
        assert convert_archive(str(folder), work).n_new == 0
    assert first == {"r.dcm": "EXTRA_MISSING"}
    assert convert_archive(str(folder), work).n_new == 1
    assert reasons_of(work) == {"r.dcm": ""}
    for rehash in (False, True):  # the row of the night without it is never taken again
        assert convert_archive(str(folder), work, LookOptions(rehash=rehash)).n_new == 0
        assert reasons_of(work) == {"r.dcm": ""}


def test_records_that_a_reader_did_not_see_are_looked_for_again_though_no_file_has_moved(archive, tmp_path):
    """Whoever reads headers may not have mounted what the workspace's machine sees."""
    work, mount, nothing = str(tmp_path / "work"), tmp_path / "mount", tmp_path / "nothing"
    nothing.mkdir()
    mount.symlink_to(archive)

    def unmounted(function, *rows):
        mount.unlink()
        mount.symlink_to(nothing)
        try:
            return [function(*row) for row in zip(*rows, strict=True)]
        finally:
            mount.unlink()
            mount.symlink_to(archive)

    convert_archive(str(mount), work, map=unmounted)
    assert set(reasons_of(work).values()) == {"LISTED_MISSING"}
    assert convert_archive(str(mount), work, map=unmounted).n_new == 0
    assert convert_archive(str(mount), work).n_new == 6
    assert set(reasons_of(work).values()) == {""}
