"""How a workspace stands, how its last run ended, what Prometheus reads; and a run that SIGTERM stops and that goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from prometheus_client.parser import text_string_to_metric_families

from ecgbatch.figures.drift import shift_of_new
from ecgbatch.synthetic.archive import write_archive
from ecgbatch.upkeep.status import LAST_RUN_FILE, METRICS_FILE, last_run, last_run_problems, recorded, status
from storage import StoreError, UnfinishedStore, build, sealed
from tests.archive.test_watch import names_of
from tests.cli.test_end_to_end import COMMAND, ecgbatch, store_digests
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


def test_status_and_metrics_count_what_a_run_did(tmp_path):
    archive, work = tmp_path / "archive", tmp_path / "work"
    write_archive(archive, n_records=5, duration_s=8.0, seed=4)
    (archive / f"{names_of(archive)[1]}.dat").unlink()
    ecgbatch("run", archive, work, code=3)
    told = ecgbatch("status", work)
    assert (told["n_stored"], told["n_set_aside"], told["n_pending"]) == (5, {"DAT_MISSING": 1}, 0)
    assert told["n_scored"] + told["n_not_scorable"] == 5
    assert told["last_run"]["outcome"] == "ok"
    metrics = samples(work)
    assert metrics["ecgbatch_records", "seen"] == metrics["ecgbatch_records", "new"] == 5
    assert metrics["ecgbatch_records", "scored"] == told["n_scored"]
    assert metrics["ecgbatch_records_set_aside", "DAT_MISSING"] == 1
    assert metrics["ecgbatch_stage_bytes", "convert"] > 1e5
    assert {key[1] for key in metrics if key[0] == "ecgbatch_stage_seconds"} == {"convert", "beats", "measure", "score", "report"}
    assert metrics["ecgbatch_last_run_success",] == 1
    write_archive(tmp_path / "more", n_records=6, duration_s=8.0, seed=4)
    name = names_of(tmp_path / "more")[5]
    for path in (tmp_path / "more").glob(f"{name}.*"):
        target = archive / path.relative_to(tmp_path / "more")
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
    (archive / "RECORDS").write_text("\n".join([*names_of(archive), name]) + "\n")
    ecgbatch("convert", archive, work, code=3)
    assert ecgbatch("status", work)["n_pending"] == 1


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
    write_archive(archive, n_records=24, duration_s=60.0, seed=4)
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
    ecgbatch("convert", archive, work)
    ecgbatch("convert", archive, whole)
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
    assert score.finished_reports(work, "r") == said
    assert score.finished_reports(work, "another") is None
    assert score.finished_reports(work, "r", pseudonymise=True) is None
    monkeypatch.setattr(score, "__version__", "another")
    assert score.finished_reports(work, "r") is None
