"""How a workspace stands, how its last run ended, what Prometheus reads; and a run that SIGTERM stops and that goes on."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import xarray as xr
from prometheus_client.parser import text_string_to_metric_families

from ecgbatch.cli.output import print_result
from ecgbatch.figures.drift import shift_of_new
from ecgbatch.synthetic.archive import ArchiveShape, write_archive
from ecgbatch.upkeep.status import LAST_RUN_FILE, METRICS_FILE, last_run, last_run_problems, recorded, status
from ecgbatch.workspace.runs import log_file
from storage import StoreError, UnfinishedStore, build, sealed
from tests.archive.test_watch import names_of
from tests.cli.test_end_to_end import COMMAND, store_digests
from tests.commands import result_of
from tests.storage.test_storage import plan_of, produce


def samples(work: Path) -> dict[tuple[str, ...], float]:
    families = text_string_to_metric_families((work / METRICS_FILE).read_text())
    return {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}


def test_run_that_fails_says_so_and_why(tmp_path):
    def fail() -> None:
        with recorded(str(tmp_path), "run") as facts:
            assert last_run(str(tmp_path))["outcome"] == "running"
            facts["seconds"] = {"convert": 1.5}
            raise ValueError("no such thing")

    with pytest.raises(ValueError, match="no such thing"):
        fail()
    told = last_run(str(tmp_path))
    assert (told["outcome"], told["error"]) == ("failed", "ValueError: no such thing")
    metrics = samples(tmp_path)
    assert metrics["ecgbatch_last_run_success",] == 0
    assert metrics["ecgbatch_stage_seconds", "convert"] == 1.5
    assert status(str(tmp_path))["last_run"]["outcome"] == "failed"


def test_run_that_was_stopped_is_told_from_one_that_failed(tmp_path):
    with pytest.raises(KeyboardInterrupt), recorded(str(tmp_path), "run"):
        raise KeyboardInterrupt
    assert last_run(str(tmp_path))["outcome"] == "stopped"


def test_run_whose_process_is_gone_was_killed(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    with recorded(str(tmp_path), "run"):
        path = tmp_path / LAST_RUN_FILE
        path.write_bytes(sealed(json.loads(path.read_text()) | {"pid": child.pid}))
        assert last_run(str(tmp_path))["outcome"] == "killed"
    assert last_run(str(tmp_path))["outcome"] == "ok"


def test_altered_record_or_metrics_of_the_last_run_are_found_and_stop_no_run(tmp_path):
    with recorded(str(tmp_path), "run") as facts:
        facts["seconds"] = {"convert": 1.5}
    for name in (LAST_RUN_FILE, METRICS_FILE):
        path = tmp_path / name
        whole = path.read_bytes()
        assert last_run_problems(str(tmp_path), name) == []
        damages = {b"", b"[]", b"{}", b"\xff", whole[:-1], whole.replace(b"1.5", b"2.5"), whole.replace(b"e", b"E", 1)}
        for damage in damages:
            path.write_bytes(damage)
            assert last_run_problems(str(tmp_path), name)
            assert last_run(str(tmp_path))["outcome"] == ("damaged" if name == LAST_RUN_FILE else "ok")
        path.write_bytes(whole)
    (tmp_path / METRICS_FILE).unlink()
    assert last_run_problems(str(tmp_path), METRICS_FILE)
    with recorded(str(tmp_path), "run"):
        pass
    assert not [problem for name in (LAST_RUN_FILE, METRICS_FILE) for problem in last_run_problems(str(tmp_path), name)]


def test_workspace_where_nothing_was_ever_done_is_an_error(tmp_path):
    with pytest.raises(UnfinishedStore, match="nothing is converted"):
        status(str(tmp_path))


def faulty_archive(folder: Path) -> Path:
    """Seven records: two set aside, two with a beat or two, one without Frank's leads, two as they should be."""
    archive, short = folder / "archive", folder / "short"
    write_archive(archive, ArchiveShape(n_records=7, duration_s=8.0, sampling_frequency_hz=500.0), seed=4)
    write_archive(short, ArchiveShape(n_records=7, duration_s=1.0, sampling_frequency_hz=500.0), seed=4)
    names = names_of(archive)
    (archive / f"{names[0]}.dat").unlink()
    data = archive / f"{names[1]}.dat"
    data.write_bytes(data.read_bytes()[:-3])
    for name in names[2:4]:
        for path in short.glob(f"{name}.*"):
            path.replace(archive / path.relative_to(short))
    (archive / f"{names[4]}.xyz").unlink()
    return archive


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> tuple[Path, Path, dict[str, Any]]:
    """Archive and workspace of a run over it, and what the command said."""
    folder = tmp_path_factory.mktemp("ran")
    archive, work = faulty_archive(folder), folder / "work"
    return archive, work, result_of("run", archive, work, code=3)


def test_every_place_counts_the_same_records_as_set_aside_and_as_not_scorable(ran, capsys):
    _, work, done = ran
    aside = {"DAT_MISSING": 1, "DAT_TRUNCATED": 1}
    without = aside | {"TOO_FEW_BEATS": 2}
    reports = Path(done["reports"])
    cohort = json.loads((reports / "cohort.json").read_text())
    last = json.loads((work / "last-run.json").read_text())
    for told in (done["counts"], result_of("status", work), cohort):
        assert told["n_set_aside"] == aside
        assert (told["n_not_scorable"], told["not_scorable_reasons"]) == (4, without)
        assert told["n_scored"] == 3
    assert done["counts"]["decisions"]["not_scorable"] == cohort["decisions"]["not_scorable"] == 4
    assert (last["set_aside"], last["not_scorable"]) == (aside, without)
    metrics = samples(work)
    for name, counts in (("set_aside", aside), ("not_scorable", without)):
        told = {key[1]: value for key, value in metrics.items() if key[0] == f"ecgbatch_records_{name}"}
        assert told == counts
        assert metrics["ecgbatch_records", name] == sum(counts.values())
    with (reports / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for column, counts in (
        ([row["status"] for row in rows], {"set_aside": 2, "partial": 1, "ok": 4}),
        ([row["decision"] for row in rows if row["decision"] == "not_scorable"], {"not_scorable": 4}),
        (pq.read_table(reports / "scores.parquet")["status"].to_pylist(), {"set_aside": 2, "partial": 1, "ok": 4}),
        (
            [json.loads(path.read_text())["status"] for path in reports.glob("records/*.json")],
            {"set_aside": 2, "partial": 1, "ok": 4},
        ),
    ):
        assert Counter(column) == counts
    assert [cohort["needs_look"][word] for word in ("set_aside", "not_scorable")] == [2, 2]
    page = " ".join(re.sub(r"<[^>]+>", " ", (reports / "cohort.html").read_text().partition("<script")[0]).split())
    for words in ("2 set aside: their files cannot be used", "2 can be read, but not scored", "Records without a score: 4 of 7"):
        assert words in page
    print_result(done, as_json=False)
    said = capsys.readouterr().out
    for words in ("3 scored, 4 not scorable, 2 of these set aside", "set aside: 1 DAT_MISSING", "not scorable: 2 TOO_FEW_BEATS"):
        assert words in said


def test_status_and_metrics_count_what_a_run_did(ran, tmp_path):
    archive, work, _ = ran
    told = result_of("status", work)
    assert (told["n_stored"], told["n_pending"]) == (7, 0)
    assert told["last_run"]["outcome"] == "ok"
    metrics = samples(work)
    assert metrics["ecgbatch_records", "seen"] == metrics["ecgbatch_records", "new"] == 7
    assert metrics["ecgbatch_records", "scored"] == told["n_scored"]
    assert metrics["ecgbatch_stage_bytes", "convert"] > 1e5
    assert {key[1] for key in metrics if key[0] == "ecgbatch_stage_seconds"} == {"convert", "beats", "measure", "score", "report"}
    assert metrics["ecgbatch_last_run_success",] == 1
    write_archive(tmp_path / "more", ArchiveShape(n_records=8, duration_s=8.0, sampling_frequency_hz=500.0), seed=4)
    name = names_of(tmp_path / "more")[7]
    for path in (tmp_path / "more").glob(f"{name}.*"):
        target = archive / path.relative_to(tmp_path / "more")
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
    (archive / "RECORDS").write_text("\n".join([*names_of(archive), name]) + "\n")
    result_of("convert", archive, work, code=3)
    assert result_of("status", work)["n_pending"] == 1


def scores_of(numbers: np.ndarray, start: int = 0) -> xr.Dataset:
    rows = np.arange(start, start + numbers.size)
    columns = {"signals_store": np.array(["s"] * rows.size), "signals_row": rows, "mi_probability": numbers}
    return xr.Dataset({name: ("record", values) for name, values in columns.items()})


def test_drift_is_seen_in_new_records_and_not_in_chance_or_in_a_few():
    random = np.random.default_rng(0)
    earlier, like, unlike = random.beta(1, 3, 400), random.beta(1, 3, 60), random.beta(3, 1, 60)

    def grown(new: np.ndarray) -> xr.Dataset:
        return scores_of(np.concatenate([earlier, new]))

    assert not shift_of_new(grown(like), scores_of(earlier)).is_beyond(0.2)
    found = shift_of_new(grown(unlike), scores_of(earlier))
    assert found.is_beyond(0.2)
    assert (found.n_new, found.n_earlier) == (60, 400)
    few = shift_of_new(grown(unlike[:20]), scores_of(earlier))
    assert not few.is_beyond(0.0)
    assert few.document()["distance"] is None
    assert not shift_of_new(scores_of(earlier), None).is_beyond(0.0)


def test_plan_that_needs_more_memory_than_a_worker_has_is_refused_before_anything_is_written(tmp_path):
    plan = plan_of()

    class Small:
        memory_bytes_per_task = plan.estimate()["memory_bytes_per_worker"] - 1

        def __call__(self, function, tasks):
            return map(function, tasks)

    with pytest.raises(StoreError, match=r"a shard needs .* MB and a worker has .*--workers 1"):
        build(str(tmp_path), plan, produce, map=Small())
    assert list(tmp_path.iterdir()) == []


def test_sigterm_ends_a_run_soon_with_143_and_the_same_command_gives_the_same_bytes(tmp_path):
    archive, whole, work = tmp_path / "archive", tmp_path / "whole", tmp_path / "work"
    write_archive(archive, ArchiveShape(n_records=24, duration_s=60.0), seed=4)
    command = [*COMMAND, "convert", str(archive), str(work), "--workers", "1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    while not list(work.glob(".build/signals-*/plan.json")) and process.poll() is None:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGTERM)
    began = time.monotonic()
    _, said = process.communicate(timeout=60)
    assert time.monotonic() - began < 30
    assert process.returncode == 143, said
    assert "goes on" in said
    assert not list(work.glob("signals/*.zarr"))
    result_of("convert", archive, work)
    result_of("convert", archive, whole)
    assert store_digests(work) == store_digests(whole)


def test_reports_of_the_same_run_by_the_same_code_are_not_made_again(tmp_path, monkeypatch):
    from ecgbatch.workspace.runs import write_run
    from flows import score

    work, said = str(tmp_path), {"cohort": str(tmp_path / "reports" / "r" / "cohort.html"), "counts": {"n_records": 2}}
    assert score.finished_reports(work, "r") is None
    write_run(work, "r", {"reported": {**said, "by": score._report_code(pseudonymise=False)}})
    assert score.finished_reports(work, "r") is None
    (tmp_path / "reports" / "r").mkdir(parents=True)
    (tmp_path / "reports" / "latest").symlink_to("r")
    assert score.finished_reports(work, "r") is None
    Path(said["cohort"]).touch()
    assert score.finished_reports(work, "r") == said | {"reports": str(tmp_path / "reports" / "r")}
    assert score.finished_reports(work, "another") is None
    assert score.finished_reports(work, "r", pseudonymise=True) is None
    monkeypatch.setattr(score, "__version__", "another")
    assert score.finished_reports(work, "r") is None


def test_when_a_run_last_ended_well_outlives_the_runs_that_fail_and_alerts_name_what_there_is(tmp_path):
    found = {"decisions": {"mi_indicated": 2}, "drift": {"distance": 0.3, "p_value": None}, "unlike_training": 0.25}
    with recorded(str(tmp_path), "run") as facts:
        facts.update(found)
        facts["set_aside"] = {"DAT_MISSING": 1}
        facts["records"] = {"seen": 3}
    ended_well = samples(tmp_path)["ecgbatch_last_good_run_end_time_seconds",]
    assert samples(tmp_path)["ecgbatch_decisions", "mi_indicated"] == 2
    assert samples(tmp_path)["ecgbatch_drift", "distance"] == 0.3
    assert ("ecgbatch_drift", "p_value") not in samples(tmp_path)
    assert samples(tmp_path)["ecgbatch_unlike_training_share",] == 0.25
    names = set(re.findall(r"ecgbatch_\w+", (Path(__file__).parents[2] / "deploy" / "alerts.yml").read_text()))
    assert names <= {name for name, *_ in samples(tmp_path)}
    for _ in range(2):
        with pytest.raises(OSError, match="gone"), recorded(str(tmp_path), "run"):
            raise OSError("gone")
        assert samples(tmp_path)["ecgbatch_last_run_success",] == 0
        assert samples(tmp_path)["ecgbatch_last_good_run_end_time_seconds",] == ended_well


def test_log_has_one_line_an_event_as_json_where_asked(tmp_path, monkeypatch):
    monkeypatch.setenv("ECGBATCH_LOG_JSON", "true")
    with log_file(str(tmp_path)), recorded(str(tmp_path), "run") as facts:
        facts |= {"run": "r", "records_set_aside": {"DAT_MISSING": ["p/1"]}}
    (log,) = (tmp_path / ".build").glob("log-*.log")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["run started", "run ended", "records set aside"]
    assert lines[1]["outcome"] == "ok"
    assert lines[2]["records"] == {"DAT_MISSING": ["p/1"]}
    assert "p/1" not in (tmp_path / LAST_RUN_FILE).read_text()
