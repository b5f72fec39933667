"""An archive in a bucket: one listing tells what is new; nothing unchanged is fetched or opened; what is half there waits."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from benchmarks.reliability.faulty_s3 import FaultyProxy
from ecgbatch.archive import watch
from ecgbatch.archive.watch import LookOptions
from ecgbatch.signals.lookup import current_records
from ecgbatch.signals.stage import convert_archive
from ecgbatch.synthetic.archive import ArchiveShape, write_archive
from storage import Folder, cached_mirror, folder_at, is_mirror
from tests.archive.test_watch import names_of, opened_below, rewrite
from tests.storage.test_bucket import s3, s3_port, use  # noqa: F401 (fixtures)

ADDRESS = "s3://ecg/archive"


@pytest.fixture
def local(tmp_path) -> Path:
    write_archive(tmp_path / "local", ArchiveShape(n_records=4, duration_s=4.0), seed=3)
    return tmp_path / "local"


@pytest.fixture
def archive(s3, local, tmp_path, monkeypatch) -> Folder:  # noqa: F811
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = folder_at(ADDRESS)
    upload(local, folder, [path.relative_to(local).as_posix() for path in sorted(local.rglob("*")) if path.is_file()])
    return folder


def upload(local: Path, archive: Folder, keys: list[str]) -> None:
    for key in keys:
        archive.put(key, (local / key).read_bytes())


def night(work: Path, **options: float):
    return convert_archive(str(cached_mirror(ADDRESS)), str(work), LookOptions(**options))


def test_unchanged_archive_costs_one_listing_and_no_file_is_opened(s3, archive, tmp_path, monkeypatch):  # noqa: F811
    work = tmp_path / "work"
    assert night(work).n_new == 4
    proxy = FaultyProxy(s3, share=0.0, seed=1)
    with proxy.running() as endpoint:
        use(monkeypatch, endpoint)
        for number in range(1, 4):
            assert opened_below(tmp_path / "cache", lambda: night(work)) <= {"RECORDS"}
            assert proxy.done.total() == number
        assert is_mirror(cached_mirror(ADDRESS))
    assert not is_mirror(tmp_path)


def test_object_replaced_within_a_second_by_one_of_the_same_size_supersedes_its_record(archive, local, tmp_path):
    work, name = tmp_path / "work", names_of(local)[2]
    night(work)
    before = current_records(str(work))["source_digest"].values.tolist()
    rewrite(local / f"{name}.dat")
    upload(local, archive, [f"{name}.dat"])
    done = night(work)
    assert (done.n_new, done.superseded) == (1, (name,))
    after = current_records(str(work))["source_digest"].values.tolist()
    assert [old != new for old, new in zip(before, after, strict=True)] == [False, False, True, False]
    assert night(work).n_new == 0


def test_record_whose_objects_are_not_all_there_yet_waits_and_is_set_aside_if_none_comes(archive, local, tmp_path, monkeypatch):
    work, name = tmp_path / "work", names_of(local)[1]
    archive.delete(f"{name}.dat")
    done = night(work)
    assert (done.waiting, done.n_records, done.set_aside) == ((name,), 3, {})
    upload(local, archive, [f"{name}.dat"])
    done = night(work)
    assert (done.waiting, done.n_new, done.n_records, done.set_aside) == ((), 1, 4, {})
    archive.delete(f"{name}.dat")
    monkeypatch.setattr(watch, "YOUNG_S", -60.0)
    assert night(work).set_aside == {"DAT_MISSING": 1}


def test_time_that_a_record_rests_is_told_by_the_bucket_not_by_the_copy(archive, tmp_path):
    assert len(night(tmp_path / "w", settle_s=60.0).waiting) == 4
    mirrored, old = cached_mirror(ADDRESS), time.time() - 100.0
    for path in mirrored.rglob("*.*"):
        os.utime(path, (old, old))  # an object of then, whose copy is of now
    assert convert_archive(str(mirrored), str(tmp_path / "w"), LookOptions(settle_s=60.0)).n_new == 4


def test_object_that_changes_while_the_archive_is_fetched_is_listed_again(archive, local, tmp_path, monkeypatch):
    from storage.bucket import Bucket

    name, read, changed = names_of(local)[0], Bucket.read_with_facts, []

    def read_late(self, key):
        if key == f"{name}.dat" and not changed:
            changed.append(key)
            rewrite(local / key)
            upload(local, archive, [key])
        return read(self, key)

    monkeypatch.setattr(Bucket, "read_with_facts", read_late)
    listed = []
    monkeypatch.setattr(Bucket, "listed", lambda self, prefix="", of=Bucket.listed: listed.append(prefix) or of(self, prefix))
    mirrored = cached_mirror(ADDRESS)
    assert (mirrored / f"{name}.dat").read_bytes() == (local / f"{name}.dat").read_bytes()
    assert len(listed) == 2


def test_object_that_is_gone_is_gone_from_the_copy(archive, local, tmp_path):
    work, name = tmp_path / "work", names_of(local)[3]
    night(work)
    for suffix in ("hea", "dat", "xyz"):
        archive.delete(f"{name}.{suffix}")
    archive.put("RECORDS", "".join(f"{other}\n" for other in names_of(local)[:3]).encode())
    done = night(work)
    assert (done.gone, done.n_records) == ((name,), 3)
