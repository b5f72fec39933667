"""What of ``test_bucket`` takes long."""

from __future__ import annotations

import os
import subprocess

import pytest

from ecgbatch.synthetic.archive import ArchiveShape, write_archive
from storage import list_stores
from tests.storage import test_bucket
from tests.storage.test_bucket import COMMAND, SLOW_KINDS, check_fault_is_ridden_out, objects

pytestmark = pytest.mark.slow

s3, s3_port = test_bucket.s3, test_bucket.s3_port
"""Fixtures of both."""


@pytest.mark.parametrize("kind", SLOW_KINDS)
def test_each_fault_alone_is_ridden_out(s3, monkeypatch, tmp_path, kind):
    check_fault_is_ridden_out(s3, monkeypatch, tmp_path, kind)


def test_train_on_a_bucket_from_the_command_line_writes_the_model_of_a_disk(s3, tmp_path):
    from ecgbatch.beats.lookup import extract_beats
    from ecgbatch.beats.record import BeatSettings
    from ecgbatch.signals.stage import convert_archive

    write_archive(tmp_path / "a", ArchiveShape(n_records=12, duration_s=22.0), seed=5)
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    models = []
    for number, work in enumerate(("s3://ecg/work", str(tmp_path / "w"))):
        convert_archive(str(tmp_path / "a"), work)
        extract_beats(work, BeatSettings(method="kachuee"))
        line = ["train", work, "--recipe", "kachuee", "--out", str(tmp_path / f"model{number}"), "--workers", "1", "--json"]
        done = subprocess.run(
            [*COMMAND, *line], capture_output=True, text=True, check=False, env=environment, cwd=tmp_path, timeout=300
        )
        assert done.returncode == 0, done.stderr[-2000:]
        models.append({path.name: path.read_bytes() for path in (tmp_path / f"model{number}").iterdir()})
    assert models[0] == models[1]
    assert "model.safetensors" in models[0]
    assert not (tmp_path / "s3:").exists()


def test_nights_are_compacted_and_a_patient_erased_in_a_bucket_as_on_a_disk(s3, tmp_path):
    from ecgbatch.beats.lookup import extract_beats
    from ecgbatch.signals.stage import convert_archive
    from ecgbatch.upkeep.compact import compact
    from ecgbatch.upkeep.erase import erase_patient
    from ecgbatch.upkeep.verify import verify_workspace
    from tests.upkeep.test_erase import SETTINGS, WHO

    archive, local = tmp_path / "archive", str(tmp_path / "work")
    write_archive(archive, ArchiveShape(n_records=5, duration_s=10.0), seed=5)
    names = (archive / "RECORDS").read_text().split()
    for work in ("s3://ecg/work", local):
        for listed in (names[:3], names):
            (archive / "RECORDS").write_text("".join(f"{name}\n" for name in listed))
            if len(listed) == 3:
                (archive / WHO).rename(tmp_path / WHO)
            convert_archive(str(archive), work)
            if len(listed) == 3:
                (tmp_path / WHO).rename(archive / WHO)
            extract_beats(work, SETTINGS)
        compact(work)
        assert len(list_stores(work, "signals")) == 1
        assert verify_workspace(work) == {}
        erase_patient(work, WHO)
        assert verify_workspace(work) == {}
    in_bucket, on_disk = objects("s3://ecg/work"), objects(local)
    assert {key for key in in_bucket if ".zarr" in key} == {key for key in on_disk if ".zarr" in key}
    assert all(in_bucket[key] == on_disk[key] for key in on_disk if ".zarr" in key or key == "archive.json")
    assert not any(WHO.encode() in content for content in in_bucket.values())
