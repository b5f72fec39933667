"""A record whose content makes a step fail is a row with a reason; all others are done, and it is tried again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ecgbatch.beats import lookup as beats_lookup
from ecgbatch.beats import shard as of_shard
from ecgbatch.beats.lookup import extract_beats
from ecgbatch.beats.record import BeatSettings
from ecgbatch.formats import inspection
from ecgbatch.measurements import lookup as measurements_lookup
from ecgbatch.measurements import stage as measurements_stage
from ecgbatch.model.files import shipped_model
from ecgbatch.reports import record_files
from ecgbatch.reports.writing import report_workspace
from ecgbatch.scores import shard as scores_shard
from ecgbatch.scores import stage as scores_stage
from ecgbatch.scores.stage import score_workspace
from ecgbatch.scores.table import scores_path
from ecgbatch.signals import known as signals_known
from ecgbatch.signals import quality
from ecgbatch.signals import shard as signals_shard
from ecgbatch.signals import table as signals_table
from ecgbatch.signals.lookup import current_records
from ecgbatch.signals.stage import convert_archive
from ecgbatch.terms import STATUS
from ecgbatch.workspace.runs import write_run
from storage import open_store

STEPS = ("none", "header", "reading", "quality", "peaks", "beats", "measurements", "scores", "page", "report")
LENGTH = {step: 1250 + number for number, step in enumerate(STEPS)}
"""Samples of the record, named after it, on whose content each step is made to fail: by its length every step knows it."""


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    for step, n in LENGTH.items():
        put_lead(folder, step, 62.5, n)
    put_lead(folder, "slowest", 10.0, 200)
    put_lead(folder, "slow", 40.0, 800)
    return folder


def put_lead(folder: Path, name: str, fs: float, n: int) -> None:
    values = np.rint(800 * np.exp(-0.5 * ((np.arange(n) / fs % 0.8 - 0.4) / 0.03) ** 2)).astype("<i2")
    (folder / f"{name}.dat").write_bytes(values.tobytes())
    total = int(values.astype(np.int64).sum()) % 65536
    (folder / f"{name}.hea").write_text(f"{name} 1 {fs} {n}\n{name}.dat 16 1000/mV 16 0 {values[0]} {total} 0 II\n")


def night(archive: Path, work: Path, model: str) -> dict[str, dict[str, object]]:
    """All steps; what stores, JSON and pages say of each record."""
    convert_archive(str(archive), str(work))
    extract_beats(str(work), BeatSettings())
    run = score_workspace(str(work), model)
    write_run(str(work), run, {})
    done = report_workspace(str(work), run)
    signals, scores = current_records(str(work)), open_store(scores_path(str(work), run))
    detail = dict(zip(signals["record_name"].values.tolist(), signals["status_detail"].values.tolist(), strict=True))
    told = zip(*(scores[name].values.tolist() for name in ("record_name", "reason", "status")), strict=True)
    rows = {name: {"reason": reason, "status": status, "detail": detail[name]} for name, reason, status in told}
    for path in Path(done["reports"]).glob("records/*.json"):
        report = json.loads(path.read_text())
        rows[report["record_name"]] |= {"warnings": report["warnings"], "measurements": report.get("measurements")}
    return rows


def failing(function, is_planted):
    def planted(*arguments, **options):
        if is_planted(arguments, options):
            raise ZeroDivisionError("planted")
        return function(*arguments, **options)

    return planted


PLANTED = {
    "header": (inspection, "parse_header", lambda a, _: a[1] == "header"),
    "reading": (signals_shard, "read_samples", lambda a, _: a[0].record_name == "reading"),
    "quality": (signals_shard, "lead_flags", lambda a, _: a[5] == LENGTH["quality"]),
    "peaks": (of_shard, "detect_each", lambda a, _: a[0].n_samples == LENGTH["peaks"]),
    "beats": (of_shard, "windows_each", lambda a, _: a[0].n_samples == LENGTH["beats"]),
    "measurements": (
        measurements_stage,
        "measure_records",
        lambda a, _: any(one.signal_mv.shape[1] == LENGTH["measurements"] for one in a[0]),
    ),
    "scores": (scores_shard, "_fill_counts", lambda a, _: a[0]["record_name"][a[1]] == "scores" and a[2] is not None),
    "page": (record_files, "record_page", lambda a, _: a[0]["record_name"] == "page"),
    "report": (record_files, "record_report", lambda a, _: a[0]["record_name"] == "report"),
}


def test_a_step_that_fails_on_a_records_content_gives_that_record_a_reason_and_the_next_version_tries_again(
    archive, tmp_path, monkeypatch
):
    model = str(shipped_model())
    with monkeypatch.context() as patch:
        for module, name, is_planted in PLANTED.values():
            patch.setattr(module, name, failing(getattr(module, name), is_planted))
        found = night(archive, tmp_path, model)
        assert night(archive, tmp_path, model) == found
    good = {name: found[name] for name in ("none", "slow", "slowest")}
    reasons = {"none": "LEADS_MISSING", "slow": "NO_BEATS", "slowest": "NO_BEATS"}
    assert {name: row["reason"] for name, row in good.items()} == reasons
    for step in ("header", "reading", "quality"):
        assert found[step]["status"] == STATUS["set_aside"]
        assert found[step]["reason"] == "STEP_FAILED"
        assert found[step]["detail"].startswith(f"{step}: ZeroDivisionError")
    for step in ("peaks", "beats", "scores"):
        assert found[step]["status"] == STATUS["ok"]
        assert found[step]["reason"] == f"STEP_FAILED:{step}:ZeroDivisionError"
    assert found["measurements"]["measurements"]["qrs_ms"]["value"] is None
    for step in ("page", "report"):
        assert found[step]["warnings"][-1] == "STEP_FAILED:report:ZeroDivisionError"
        assert "failed (ZeroDivisionError)" in next(tmp_path.glob(f"reports/*/records/{step}.html")).read_text()
    for stage in (signals_known, signals_table, beats_lookup, measurements_lookup, scores_stage):
        monkeypatch.setattr(stage, "__version__", "99.0")
    monkeypatch.setattr("ecgbatch.archive.remembered.__version__", "99.0")
    mended = night(archive, tmp_path, model)
    assert {name: mended[name] for name in good} == good
    assert {
        name: (row["reason"], row["status"], row["detail"], row["warnings"]) for name, row in mended.items() if name in LENGTH
    } == dict.fromkeys(LENGTH, ("LEADS_MISSING", STATUS["ok"], "", good["none"]["warnings"]))


@pytest.mark.parametrize("error", [OSError("disk"), MemoryError()])
def test_a_disk_or_a_machine_that_fails_is_no_records_reason(error, archive, tmp_path, monkeypatch):
    def broken(*_arguments, **_options):
        raise error

    monkeypatch.setattr(signals_shard, "lead_flags", broken)
    with pytest.raises(Exception, match=r"disk|MemoryError"):
        convert_archive(str(archive), str(tmp_path))


def test_quality_is_judged_at_any_rate_and_number_of_leads():
    for fs in (10.0, 25.0, 62.5, 88.0, 89.0):
        for n_leads in (1, 4, 12):
            signal = np.tile(np.arange(int(3 * fs), dtype=np.int16), (n_leads, 1))
            signal[0, :5] = -32768
            leads = [f"x{number}" for number in range(n_leads)]
            flags = quality.lead_flags(signal, np.full(n_leads, 1000.0), np.zeros(n_leads, np.int32), fs, leads)
            assert flags.shape == (n_leads,)
