"""A dry run counts what is left to do, and its minutes are those of the run that follows."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from ecgbatch import cli
from ecgbatch.synthetic.archive import ArchiveShape, write_archive
from ecgbatch.upkeep.status import counted_from, last_run, recorded

STAGES = ("convert", "beats", "measure", "score", "report")


def said(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> dict[str, Any]:
    with pytest.raises(SystemExit) as ended:
        cli.main([*map(str, arguments), "--json"])
    assert ended.value.code in (0, 3)
    return json.loads(capsys.readouterr().out)


def n_records(estimate: dict[str, Any]) -> list[int]:
    return [estimate[stage]["records"] for stage in STAGES]


def test_a_dry_run_counts_what_each_stage_has_still_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive, work = tmp_path / "archive", tmp_path / "work"
    truth = write_archive(archive, ArchiveShape(n_records=5, duration_s=8.0, sampling_frequency_hz=250.0))
    later = [path for path in archive.rglob("*") if path.stem == truth.records[-1].record_name.split("/")[-1]]
    contents = {path: path.read_bytes() for path in later}
    for path in later:
        path.unlink()
    (archive / "RECORDS").unlink()

    def dry(command: str = "run", *options: str) -> dict[str, Any]:
        places = [archive, work] if command in ("run", "convert") else [work]
        return said(capsys, command, *places, *options, "--dry-run")

    assert n_records(dry()) == [4] * 5
    assert not work.exists()
    said(capsys, "convert", archive, work)
    assert n_records(dry()) == [0, 4, 4, 4, 4]
    said(capsys, "beats", work)
    assert n_records(dry()) == [0, 0, 4, 4, 4]
    assert dry("beats")["shards"] == 0
    assert dry("beats", "--method", "kachuee")["beats"]["records"] == 4
    said(capsys, "measure", work)
    assert n_records(dry()) == [0, 0, 0, 4, 4]
    said(capsys, "score", work, "--model", "mi-12-leads")
    assert n_records(dry()) == [0, 0, 0, 0, 4]
    said(capsys, "run", archive, work)
    finished = dry()
    assert n_records(finished) == [0] * 5
    assert finished["shards"] == finished["bytes"] == 0
    assert 0 < finished["minutes"] == finished["start_minutes"]
    assert dry("score", "--model", "mi-12-leads")["score"]["records"] == 0
    assert n_records(dry("run", "--model", "mi-lead-ii")) == [0, 0, 0, 4, 4]
    for path, content in contents.items():
        path.write_bytes(content)
    assert n_records(dry()) == [1] * 5
    assert dry()["convert"]["shards"] == 1


def test_seconds_in_all_are_those_that_a_user_waits(tmp_path: Path) -> None:
    with counted_from(time.time() - 100.0), recorded(str(tmp_path), "run"):
        pass
    assert 100.0 <= last_run(str(tmp_path))["seconds_in_all"] < 160.0
    with recorded(str(tmp_path), "run"):
        pass
    assert last_run(str(tmp_path))["seconds_in_all"] < 60.0
