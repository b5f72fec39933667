"""The main job from the command line, as a user runs it: archive in, a report on every record out."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecgbatch.synthetic.archive import ArchiveShape, write_archive
from ecgbatch.training import recipes
from storage import list_stores, open_store
from tests.commands import result_of, said_by

COMMAND = [str(Path(sys.executable).with_name("ecgbatch"))]


def ecgbatch(*arguments: object, code: int = 0) -> dict[str, Any]:
    """Run a command in a process of its own with --json; return what it printed."""
    done = subprocess.run([*COMMAND, *map(str, arguments), "--json"], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == code, done.stderr[-2000:] + done.stdout[-500:]
    return json.loads(done.stdout) if done.stdout.strip() else {}


def store_digests(work: Path) -> dict[str, str]:
    """SHA-256 of every file of every published store."""
    files = sorted(path for path in work.glob("*/*.zarr/**/*") if path.is_file())
    return {path.relative_to(work).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("archive") / "ptb-like"
    write_archive(folder, ArchiveShape(n_records=24, duration_s=12.0), seed=5)
    return folder


@pytest.fixture(scope="module")
def short_training() -> Iterator[None]:
    """The recipe as it is, but for a fraction of its steps and trees: the demo trains in full."""
    settings, beats = recipes.RECIPES["ecgbatch"]
    short = replace(settings, epochs=1, min_steps=20, n_trees=10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipes, "RECIPES", {**recipes.RECIPES, "ecgbatch": (short, beats)})
        yield


@pytest.fixture(scope="module")
def ran(archive, short_training, tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    """A workspace after `run --train`, and what the command said."""
    work = tmp_path_factory.mktemp("work") / "w"
    return work, result_of("run", archive, work, "--train")


def reports_of(work: Path) -> dict[str, dict[str, Any]]:
    pages = sorted((work / "reports" / "latest" / "records").glob("*.json"))
    return {report["record_name"]: report for report in (json.loads(page.read_text()) for page in pages)}


def test_every_record_has_a_report_and_is_scored(archive, ran):
    work, said = ran
    names = (archive / "RECORDS").read_text().split()
    reports = reports_of(work)
    assert sorted(reports) == sorted(names)
    assert len(list((work / "reports" / "latest" / "records").glob("*.html"))) == len(names)
    assert all(report["mi_probability"] is not None for report in reports.values())
    assert said["counts"]["n_records"] == said["counts"]["n_scored"] == len(names)
    assert Path(said["cohort"]).is_file()
    assert (work / "reports" / "latest" / "scores.parquet").is_file()


def test_no_record_is_scored_by_a_member_that_saw_its_patient(ran):
    from ecgbatch.model.files import load_model
    from ecgbatch.model.members import members_for

    work, said = ran
    model = load_model(said["model"])
    scores = open_store(list_stores(work, "scores")[0])
    used = dict(zip(scores["patient_id"].values.tolist(), scores["n_members_used"].values.tolist(), strict=True))
    for patient, n_used in used.items():
        assert 1 <= n_used == len(members_for(model, patient)) <= len(model.members)
    labelled = scores["patient_id"].values[scores["mi"].values >= 0].tolist()
    assert all(used[patient] < len(model.members) for patient in labelled)


def test_stores_verify_and_samples_equal_those_of_the_files(archive, ran):
    import wfdb

    work, _ = ran
    assert result_of("verify", work, "--read-data")["n_problems"] == 0
    signals = open_store(list_stores(work, "signals")[0])
    names = signals["record_name"].values.tolist()
    for row in (0, 7, 23):
        record = wfdb.rdrecord(str(archive / names[row]), physical=False)
        np.testing.assert_array_equal(signals["signal"][row, :, : record.sig_len].values, record.d_signal.T)


def test_second_run_redoes_nothing(archive, ran):
    work, said = ran
    before = {path: path.stat().st_mtime_ns for path in work.glob("[!.]*/**/*") if path.is_file() and path.parent.name != "runs"}
    again = result_of("run", archive, work, "--train")
    assert again["run"] == said["run"]
    assert again["prepared"]["new_records"] == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_workspace_built_again_elsewhere_has_the_same_bytes(archive, ran, tmp_path):
    work, said = ran
    result_of("convert", archive, tmp_path, "--workers", 1)
    result_of("beats", tmp_path, "--workers", 1)
    result_of("score", tmp_path, "--model", said["model"], "--workers", 1)
    assert store_digests(tmp_path) == store_digests(work)


def test_single_stages_report_and_evaluate(archive, ran, tmp_path):
    work, said = ran
    evaluated = result_of("evaluate", work, "--model", said["model"])
    assert evaluated["run"] == said["run"]
    assert evaluated["auroc"]["low"] <= evaluated["auroc"]["value"] <= evaluated["auroc"]["high"]
    assert result_of("report", work)["run"] == said["run"]


def test_damage_is_found_by_verify(archive, tmp_path):
    result_of("convert", archive, tmp_path)
    shard = next(Path(list_stores(tmp_path, "signals")[0]).glob("signal/c/0/0/0"))
    content = bytearray(shard.read_bytes())
    content[1000] ^= 1
    shard.write_bytes(content)
    assert result_of("verify", tmp_path, "--read-data", code=1)["n_problems"] == 1


def test_unreadable_record_keeps_its_row_and_exit_code_is_3(tmp_path):
    archive, work = tmp_path / "archive", tmp_path / "work"
    write_archive(archive, ArchiveShape(n_records=4, duration_s=5.0), seed=2)
    names = (archive / "RECORDS").read_text().split()
    data = archive / f"{names[1]}.dat"
    data.write_bytes(data.read_bytes()[:-7])
    (archive / f"{names[2]}.xyz").unlink()
    result_of("convert", archive, work, code=3)
    signals = open_store(list_stores(work, "signals")[0])
    assert signals["record_name"].values.tolist() == names
    assert signals["status"].values.tolist() == [0, 2, 1, 0]
    assert signals["reason"].values[1] != ""
    assert result_of("beats", work, code=3)["n_without_beats"] == 1


def test_run_without_a_model_scores_with_the_one_that_ships(tmp_path):
    from ecgbatch.model.files import load_model, shipped_model

    archive, work = tmp_path / "archive", tmp_path / "work"
    write_archive(archive, ArchiveShape(n_records=3, duration_s=8.0), seed=11)
    said = result_of("run", archive, work)
    assert said["counts"]["n_records"] == 3
    report = next(iter(reports_of(work).values()))
    assert report["model"]["digest"] == load_model(shipped_model()).digest


def test_model_and_train_together_are_wrong_usage(archive, ran, tmp_path):
    _, said = ran
    code, _, error = said_by("run", archive, tmp_path, "--train", "--model", said["model"])
    assert code == 2
    assert "--train" in error
    assert "--model" in error


def test_relative_paths_are_understood(archive, ran, tmp_path, monkeypatch):
    _, said = ran
    (tmp_path / "archive").symlink_to(archive)
    monkeypatch.chdir(tmp_path)
    assert result_of("run", "archive", "work", "--model", os.path.relpath(said["model"], tmp_path))["run"] == said["run"]
    assert (tmp_path / "work" / "reports" / "latest" / "cohort.html").is_file()


def test_errors_are_one_message_without_a_traceback(tmp_path):
    done = subprocess.run([*COMMAND, "beats", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ecgbatch convert" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["run", "convert"])
def test_dry_run_writes_nothing(archive, tmp_path, command):
    options = ["--train"] if command == "run" else []
    estimate = result_of(command, archive, tmp_path / "w", "--dry-run", *options)
    assert estimate["shards"] >= 1
    assert {"bytes", "minutes", "memory_bytes_per_worker"} <= estimate.keys()
    assert not (tmp_path / "w").exists()


def test_dask_cluster_gives_the_same_bytes(archive, ran, tmp_path, dask_address):
    work, _ = ran
    result_of("convert", archive, tmp_path, "--dask", dask_address)
    result_of("beats", tmp_path, "--dask", dask_address)
    made = store_digests(tmp_path)
    assert any(name.startswith("beats/") for name in made)
    assert made == {name: digest for name, digest in store_digests(work).items() if name in made}
