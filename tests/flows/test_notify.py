"""Of a night that ended badly somebody is told, once, however many processes notice."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from flows import notify
from flows.notify import is_first_to_tell


@pytest.fixture
def work(tmp_path) -> str:
    (tmp_path / "work" / ".build").mkdir(parents=True)
    return str(tmp_path / "work")


def test_one_of_many_that_notice_tells(work):
    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(lambda _: is_first_to_tell(work, "night"), range(8))) == [False] * 7 + [True]
    assert is_first_to_tell(work, "another night")


def test_the_same_night_made_again_later_is_told_again(work, monkeypatch):
    assert is_first_to_tell(work, "night")
    monkeypatch.setattr(notify, "TOLD_FOR_S", 0.0)
    assert is_first_to_tell(work, "night")


@pytest.mark.parametrize("mark", ["no folder", "torn", "not mounted", "unknown"])
def test_whoever_cannot_put_a_mark_tells(work, tmp_path, mark):
    if mark == "no folder":
        Path(work, ".build", "told").write_text("a file where a folder should be")
    if mark == "torn":
        Path(work, ".build", "told").mkdir()
        Path(work, ".build", "told", "night").write_text("")
    place = {"not mounted": str(tmp_path / "absent"), "unknown": ""}.get(mark, work)
    assert is_first_to_tell(place, "night")
    assert not (tmp_path / "absent").exists()


def test_a_killed_night_that_its_worker_and_its_supervisor_notice_is_told_once(work, tmp_path, monkeypatch):
    from flows.schedule import tell_failure

    monkeypatch.setenv("ECGBATCH_NOTIFY_COMMAND", f"tee -a {tmp_path / 'told'}")
    night = SimpleNamespace(name="brave-owl", id="1-2-3", parameters={"work": work})
    for _ in range(2):
        state = SimpleNamespace(name="Crashed", message="process exited with status code -9")
        tell_failure(flow=SimpleNamespace(name="nightly"), flow_run=night, state=state)
    said = json.loads((tmp_path / "told").read_text())
    assert said["event"] == "failed"
    assert said["flow_run"] == "1-2-3"
