"""A command that Prefect runs: on a server that is named and answers, or on one of its own, wherever the user's home is."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from ecgbatch.cli.exit_codes import FAILED
from ecgbatch.synthetic.archive import ArchiveShape, write_archive
from flows import chosen, one_command, server
from flows.one_command import server_of_one_command
from flows.server import OwnServer
from tests.cli.test_end_to_end import COMMAND
from tests.commands import result_of
from tests.flows.test_rehearsal import free_port


@pytest.fixture
def started(monkeypatch) -> list[OwnServer]:
    """Servers that were to be started; one whose home holds a file ``broken`` does not."""
    found: list[OwnServer] = []

    def start(self: OwnServer) -> None:
        found.append(self)
        if (Path(self.environment["PREFECT_HOME"]) / "broken").exists():
            self.why = "its database was written by a newer Prefect"
            raise OSError("did not answer")

    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(OwnServer, "start", start)
    return found


def homes(started: list[OwnServer]) -> list[Path]:
    return [Path(one.environment["PREFECT_HOME"]) for one in started]


def test_history_is_kept_in_the_users_home_and_nothing_else_is_left(tmp_path, started, caplog):
    home = tmp_path / ".prefect"
    with server_of_one_command(home) as url:
        assert os.environ["PREFECT_API_URL"] == url
        assert len(os.environ["PREFECT_API_AUTH_STRING"]) > 30
        assert started[0].environment["PREFECT_SERVER_API_AUTH_STRING"] == os.environ["PREFECT_API_AUTH_STRING"]
        assert started[0].environment["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"].startswith("http://127.0.0.1:")
    assert homes(started) == [home]
    assert not started[0].state.exists()
    assert not {"PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "PREFECT_HOME"} & set(os.environ)
    assert not caplog.records


def test_home_that_a_server_cannot_use_is_said_once_and_the_command_has_a_server(tmp_path, started, caplog):
    home = tmp_path / ".prefect"
    home.mkdir()
    (home / "broken").touch()
    (home / "profiles.toml").write_text('active = "own"\n')
    with server_of_one_command(home):
        assert os.environ["PREFECT_PROFILES_PATH"] == str(home / "profiles.toml")
        assert homes(started)[1].is_relative_to(started[1].state)
    assert caplog.messages == [f"Prefect's history of this run is not kept: {home}: {started[0].why}"]
    assert not homes(started)[1].exists()
    assert "PREFECT_PROFILES_PATH" not in os.environ


def test_commands_at_the_same_time_do_not_share_a_database(tmp_path, started, caplog):
    with server_of_one_command(tmp_path / "p"), server_of_one_command(tmp_path / "p"):
        first, second = homes(started)
        assert first != second
    assert "another command has the database" in caplog.text
    with server_of_one_command(tmp_path / "p"):
        assert homes(started)[2] == first


def test_user_without_a_home_has_one_for_prefect_while_the_command_lasts(tmp_path, started, caplog, monkeypatch):
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with server_of_one_command(chosen._home()):
        assert started[0].environment["HOME"] == started[0].environment["PREFECT_HOME"]
    assert "HOME" not in os.environ
    assert "no home folder" in caplog.text


def test_state_home_told_relative_to_this_folder_is_there_whatever_folder_a_night_has(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", "state")
    monkeypatch.chdir(tmp_path)
    folder = server.state_folder("s3://ecg/work")
    assert folder.is_absolute()
    assert folder.is_relative_to(tmp_path / "state")


def test_no_place_for_a_server_at_all_is_one_sentence(tmp_path, monkeypatch, started):
    def refused(self: OwnServer) -> None:
        self.why = "the disk is full"
        raise OSError("did not answer")

    monkeypatch.setattr(OwnServer, "start", refused)
    with pytest.raises(OSError, match=r"did not start \(the disk is full\)\. Without --prefect"), server_of_one_command(tmp_path):
        pytest.fail("it was said to have one")
    assert one_command.OURS[0] not in os.environ


@pytest.mark.parametrize("where", ["environment", ".env", "prefect.toml", "profiles.toml"])
def test_server_that_is_named_and_does_not_answer_is_one_sentence_with_its_place(tmp_path, where):
    """In a process of its own: Prefect reads its settings when it is imported."""
    url = f"http://127.0.0.1:{free_port()}/api"
    lines = {
        ".env": f"PREFECT_API_URL={url}\n",
        "prefect.toml": f'[api]\nurl = "{url}"\n',
        "profiles.toml": f'active = "own"\n[profiles.own]\nPREFECT_API_URL = "{url}"\n',
    }
    if where in lines:
        (tmp_path / where).write_text(lines[where])
    known = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    known |= {"PREFECT_HOME": str(tmp_path)} | ({"PREFECT_API_URL": url} if where == "environment" else {})
    script = """
import sys
from flows import server
from flows.chosen import prefect_if_wanted
server.ASK_S = 0
try:
    with prefect_if_wanted(False): sys.exit("a run without a server")
except OSError as error: print(error)
"""
    command = [server.sys.executable, "-c", script]
    done = subprocess.run(command, env=known, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert f"the Prefect server {url} (" in done.stdout
    assert where in done.stdout
    assert "start it, or name none there: then this command runs without one" in done.stdout
    assert len(done.stdout.splitlines()) == 1


def test_profile_that_there_is_none_of_is_said_and_nothing_runs(tmp_path):
    known = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    known |= {"PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_PROFILE": "no-such"}
    done = {
        words[0]: subprocess.run(
            [*COMMAND, *words], env=known, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
        )
        for words in (["run", ".", "work"], ["doctor", "--json"])
    }
    for command, one in done.items():
        assert one.returncode == FAILED, command
        said = one.stdout + one.stderr
        assert f"PREFECT_PROFILE=no-such: expected a profile of {tmp_path / 'prefect' / 'profiles.toml'}, which has" in said
        assert "unset PREFECT_PROFILE" in said
        assert "Traceback" not in said


@pytest.mark.parametrize(
    "error", [httpx.ConnectError("All connection attempts failed"), RuntimeError("Failed to reach API at x")]
)
def test_server_that_goes_away_in_the_middle_is_one_sentence(error):
    with pytest.raises(OSError, match=r"failed this run.*the same command goes on"), chosen._lost_server_in_words("http://x/api"):
        raise error


@pytest.mark.parametrize("said", ["a bug", "a bug of our own API"])
def test_other_errors_of_the_run_stay_what_they_are(said):
    with pytest.raises(RuntimeError, match="a bug"), chosen._lost_server_in_words("http://x/api"):
        raise RuntimeError(said)


def test_server_that_cannot_say_that_its_disk_is_full_has_it_said_for_it(tmp_path, monkeypatch):
    (tmp_path / "log").touch()
    one = OwnServer(tmp_path, free_port(), "a:b")
    one.output = tmp_path / "log"
    monkeypatch.setattr(server, "START_S", 0)
    assert one._out_of_room() == ""
    monkeypatch.setattr(server.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))
    with pytest.raises(OSError, match=f"the disk of {tmp_path} is full: make room there"):
        one._wait_until_healthy(0)


def test_workspace_that_was_copied_names_its_own_reports_when_nothing_is_new(tmp_path):
    write_archive(tmp_path / "archive", ArchiveShape(n_records=2, duration_s=10.0), seed=8)
    result_of("run", tmp_path / "archive", tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two", symlinks=True)
    told = result_of("run", tmp_path / "archive", tmp_path / "two")
    assert Path(told["cohort"]).is_relative_to(tmp_path / "two")
    assert Path(told["cohort"]).is_file()
