"""An archive that grows and changes: only what is new is scored, what changed trains no more, and nothing differs from one go."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ecgbatch.archive.watch import TICK_S
from ecgbatch.beats.lookup import current_beats, extract_beats
from ecgbatch.beats.record import BeatSettings
from ecgbatch.model.files import shipped_model
from ecgbatch.scores import stage as scores_stage
from ecgbatch.scores.stage import score_workspace
from ecgbatch.scores.table import scores_path
from ecgbatch.signals import table as signals_table
from ecgbatch.signals.lookup import current_records
from ecgbatch.signals.stage import convert_archive
from ecgbatch.synthetic.archive import ArchiveShape, write_archive
from ecgbatch.training.data import _read_stores
from ecgbatch.training.recipes import current_rows
from ecgbatch.workspace.runs import write_run
from storage import open_store
from tests.archive.test_watch import names_of, opened_below, rewrite, settle

MODEL = str(shipped_model())
SETTINGS = BeatSettings()


def night(archive: Path, work: str) -> str:
    convert_archive(str(archive), work)
    extract_beats(work, SETTINGS)
    run = score_workspace(work, MODEL)
    write_run(work, run, {})
    return run


@pytest.fixture
def whole(tmp_path) -> Path:
    write_archive(tmp_path / "whole", ArchiveShape(n_records=6, duration_s=10.0), seed=9)
    return tmp_path / "whole"


def put(whole: Path, archive: Path, names: list[str]) -> None:
    for name in names:
        (archive / name).parent.mkdir(parents=True, exist_ok=True)
        for suffix in ("hea", "dat", "xyz"):
            shutil.copy2(whole / f"{name}.{suffix}", archive / f"{name}.{suffix}")
    (archive / "RECORDS").write_text("\n".join([*(names_of(archive) if (archive / "RECORDS").exists() else []), *names]) + "\n")


def test_grown_archive_scores_exactly_the_new_records_and_the_numbers_are_those_of_one_go(whole, tmp_path, monkeypatch):
    names, archive, work = names_of(whole), tmp_path / "archive", str(tmp_path / "w")
    scored: list[str] = []
    score_shard = scores_stage.score_shard

    def noted(rows, *arguments, **options):
        scored.extend(rows["record_name"].values.tolist())
        return score_shard(rows, *arguments, **options)

    monkeypatch.setattr(scores_stage, "score_shard", noted)
    put(whole, archive, names[:4])
    night(archive, work)
    assert scored == names[:4]
    scored.clear()
    put(whole, archive, names[4:])
    grown = night(archive, work)
    assert scored == names[4:]
    scored.clear()
    assert night(archive, work) == grown
    assert scored == []

    monkeypatch.setattr(scores_stage, "find_earlier", lambda *_: "")
    found = open_store(scores_path(work, grown)).load()
    shutil.rmtree(Path(work) / "scores")
    again = open_store(scores_path(work, night(archive, work))).load()
    assert scored == names
    assert found.attrs == again.attrs
    for name in found.variables:
        np.testing.assert_array_equal(found[name].values, again[name].values)


def test_three_nights_on_an_unchanged_archive_open_no_record_and_write_no_store(whole, tmp_path):
    work = str(tmp_path / "w")
    settle(whole)
    time.sleep(2 * TICK_S)
    first = night(whole, work)
    stores = {path: path.stat().st_mtime_ns for path in Path(work).glob("*/*.zarr")}
    for _ in range(3):
        assert opened_below(whole, lambda: night(whole, work)) <= {"RECORDS"}
    assert night(whole, work) == first
    assert {path: path.stat().st_mtime_ns for path in Path(work).glob("*/*.zarr")} == stores


def test_another_model_scores_every_record_and_reads_no_recording(whole, tmp_path):
    work = str(tmp_path / "w")
    first = night(whole, work)
    shutil.rmtree(whole)
    assert score_workspace(work, MODEL) == first
    other = score_workspace(work, str(shipped_model("mi-lead-ii")))
    assert other != first
    assert open_store(scores_path(work, other)).sizes["record"] == 6


def test_superseded_and_gone_records_train_no_more(whole, tmp_path):
    work, names = str(tmp_path / "w"), names_of(whole)
    night(whole, work)
    rewrite(whole / f"{names[0]}.dat")
    (whole / "RECORDS").write_text("\n".join(names[:-1]) + "\n")
    night(whole, work)
    current = current_rows(current_beats(work, SETTINGS.document()))
    assert sorted(len(rows) for rows in current.values()) == [1, 4]
    stores = {f"{work}/beats/{digest}.zarr": rows for digest, rows in current.items()}
    labelled = [mi for block in _read_stores(stores) for mi in block.mi.tolist()]
    assert len(labelled) == 7
    assert sum(mi >= 0 for mi in labelled) == 5
    assert sum(mi >= 0 for block in _read_stores(list(stores)) for mi in block.mi.tolist()) == 7


def test_a_store_of_an_earlier_version_has_no_year_and_grows_on(whole, tmp_path, monkeypatch):
    names, archive, work = names_of(whole), tmp_path / "archive", str(tmp_path / "w")
    put(whole, archive, names[:3])
    settle(archive)
    without = {name: variable for name, variable in signals_table.SIGNALS.variables.items() if name != "recording_year"}
    with monkeypatch.context() as earlier:
        earlier.setattr(signals_table, "SIGNALS", replace(signals_table.SIGNALS, variables=without))
        convert_archive(str(archive), work)
    put(whole, archive, names[3:])
    for name in names[3:]:
        header = archive / f"{name}.hea"
        first, _, rest = header.read_text().partition("\n")
        header.write_text(f"{first} 10:11:12 05/12/1996\n{rest}")
    settle(archive)
    assert convert_archive(str(archive), work).n_new == 3
    assert current_records(work)["recording_year"].values.tolist() == [-1] * 3 + [1996] * 3
