"""The campaign of faults itself: it must see a byte that differs, and a short form of it must find nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from importlib import import_module

import pytest

from benchmarks.reliability import page
from benchmarks.reliability.bench import STAGES, Bench, Tally, gone_through, undisturbed
from benchmarks.reliability.calls import injected_at_places
from benchmarks.reliability.disks import acknowledged, everything
from benchmarks.reliability.every_call import forker, swept
from benchmarks.reliability.processes import contests, gc_kills, kills
from ecgbatch.signals.stage import convert_archive
from tests.commands import said_by


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Bench:
    return undisturbed(tmp_path_factory.mktemp("reliability"), n_records=2)


def again(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command line once more, in this process."""
    return subprocess.CompletedProcess(command, *said_by(*command[1:]))


def test_each_stage_killed_once_and_run_again_ends_as_if_undisturbed(bench, tmp_path):
    cases = list(kills(bench, 1, seed=5, folder=tmp_path, runner=again))
    assert len(cases) == len(STAGES)
    if not any(hit for _, hit, _ in cases):  # the machine has less to do than before: how long each stage lasts now is known
        cases += kills(bench, 1, seed=6, folder=tmp_path, runner=again)
    assert any(hit for _, hit, _ in cases)
    assert not [wrong for _, _, wrong in cases if wrong]


def test_campaign_erases_where_nobody_can_be_asked(bench, tmp_path):
    work = shutil.copytree(bench.before("end"), tmp_path / "w", symlinks=True)
    ended = again(bench.command("second erase", work))
    assert ended.returncode == 0, ended.stderr


def test_campaign_whose_undisturbed_run_fails_says_what_the_command_said(tmp_path):
    with pytest.raises(SystemExit, match=r"convert .*: exit \d, undisturbed: .*no-such-archive"):
        gone_through(Bench(tmp_path, tmp_path / "no-such-archive", {}))


def test_campaign_sees_a_byte_that_differs_and_a_file_that_is_lost(bench, tmp_path):
    work = shutil.copytree(bench.before("measure"), tmp_path / "w", symlinks=True)
    shard = next(path for path in sorted(work.glob("signals/*.zarr/signal/c/**/*")) if path.is_file())
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    assert any("differs" in one for one in bench.problems("beats", work, again))
    shard.unlink()
    assert any("is lost" in one for one in bench.problems("beats", work, again))


def test_what_a_stopped_stage_has_acknowledged_is_told_by_its_receipts(bench, tmp_path, monkeypatch):
    def no_power(*_: object) -> None:
        raise OSError("no power")

    monkeypatch.setattr(import_module("storage.build"), "_publish", no_power)
    with pytest.raises(OSError, match="no power"):
        convert_archive(str(bench.archive), str(tmp_path))
    later = tmp_path / "signals-of-another-day"
    later.touch()
    os.utime(later, (time.time() + 1,) * 2)  # so the receipt was not the last that was written
    promised, there = acknowledged(tmp_path), everything(tmp_path)
    assert [name for name in promised if "/signal/c/" in name]
    assert [name for name in promised if name.endswith("receipts/00000000.json")]
    assert promised == {name: there[name] for name in promised}


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_sync_that_fails_in_the_folder_of_a_published_store_is_not_acknowledged(bench, tmp_path):
    places = [("fsync", "{kind}")]
    cases = injected_at_places(bench, ["error=EIO"], tmp_path, places=places)
    name, wrong = next((name, wrong) for name, hit, wrong in cases if hit)
    assert wrong == [], name


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_what_a_kill_and_an_error_leave_is_cleared_at_calls_that_strace_does_not_reach(bench, tmp_path):
    with forker(tmp_path) as forked:
        faults = [("score", "rename", "KILL"), ("convert", "open", "EMFILE")]
        for stage, kind, fault in faults:
            (name, hit, wrong), *more = swept(bench, stage, kind, fault, range(1, 2), forked, tmp_path)
            assert hit
            assert more == wrong == [], name
            assert name.startswith("score: rename 1 of models/.") == (stage == "score"), "while a model is kept with the scores"


def test_gc_killed_once_and_run_again_removes_what_a_killed_conversion_left_and_nothing_else(bench, tmp_path):
    ((name, _, wrong),) = gc_kills(bench, 1, seed=1, folder=tmp_path)
    assert wrong == [], name


def test_two_writers_of_one_stage_end_as_if_one_had_run(bench, tmp_path):
    (name, is_frozen, wrong), *_ = contests(bench, 1, 2, seed=1, folder=tmp_path)
    assert not is_frozen
    assert wrong == [], name


def test_page_of_figures_is_the_one_that_the_program_writes():
    assert page.PAGE.read_text() == page.page(page.LEDGER), "run python -m benchmarks.reliability --page"


def test_page_counts_wrong_cases_and_says_what_was_not_run(tmp_path):
    ledger = tmp_path / "figures.jsonl"
    ledger.touch()
    tally = Tally(tried=10, hit=7, failures=["convert 3: it differs"])
    page.keep(ledger, "F1", tally, 12.3, {"seed": 4, "stride": 1, "records": 4})
    page.keep(ledger, "F1", Tally(10, 6), 10.0, {"seed": 5, "stride": 1, "records": 4})
    rows = {line.split(" | ")[0].strip("| "): line for line in page.page(ledger).splitlines() if line.startswith("|")}
    assert "| 19 of 20 | 13 |" in rows["F1"]
    assert "--seed 4" in rows["F1"]
    assert "not run" in rows["F4"]
    with ledger.open("a") as file:
        file.write('{"campaign": "F4", "day": "2026-01-01", "mended": "a disk too full was taken for a disk too small"}\n')
    assert "- F4 (2026-01-01): a disk too full" in page.page(ledger)
    with ledger.open("a") as file:
        file.write('{"day": "2026-01-02", "rebuilt": "the tree is another"}\n')
    rows = {line.split(" | ")[0].strip("| "): line for line in page.page(ledger).splitlines() if line.startswith("|")}
    assert "not run" in rows["F1"]
    assert "| 19 of 20, 13 hit, " in rows["F1"]
    page.keep(ledger, "F1", Tally(3, 2), 10.0, {"seed": 5, "stride": 1, "records": 4})
    assert "| 3 of 3 | 2 |" in page.page(ledger)
    assert "the tree is another" in page.page(ledger)
