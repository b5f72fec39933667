"""Nights that fail on a real server, a real runner and a real pool's worker: somebody is told, and nothing is left running."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from ecgbatch.synthetic.archive import ArchiveShape, write_archive
from flows.server import MARK, state_folder
from tests.cli.test_end_to_end import COMMAND
from tests.flows.test_rehearsal import ROOT, free_port, process, wait_for

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("nights") / "archive"
    write_archive(folder, ArchiveShape(n_records=24, duration_s=60.0), seed=8)
    return folder


def told_in(folder: Path) -> dict[str, str]:
    """Return settings under which whoever is told appends to a file."""
    return {"ECGBATCH_NOTIFY_COMMAND": f"tee -a {folder / 'told'}", "ECGBATCH_WORKERS": "1"}


def told(folder: Path) -> str:
    return (folder / "told").read_text() if (folder / "told").exists() else ""


@contextmanager
def schedule(
    archive: Path, folder: Path, cron: str = "* * * * *", cwd: str = "", **environment: str
) -> Iterator[subprocess.Popen]:
    command = [*COMMAND, "schedule", archive, folder / "work", "--cron", cron, "--settle-s", "0"]
    state = {"XDG_STATE_HOME": str(folder / "state"), "PREFECT_API_URL": "", **told_in(folder), **environment}
    with process(command, folder / "schedule.log", cwd=cwd, **state) as started:
        yield started


def servers(folder: Path) -> list[psutil.Process]:
    found = []
    for one in psutil.process_iter():
        try:
            if one.environ().get(MARK, "").startswith(str(folder)):
                found.append(one)
        except (psutil.Error, OSError):
            continue
    return found


def night(folder: Path) -> psutil.Process:
    """Return the process of the night at work, which has the lock."""
    return psutil.Process(json.loads((folder / "work" / ".build" / "lock").read_text())["pid"])


def is_at_work(folder: Path) -> bool:
    return bool(list((folder / "work").glob(".build/*/plan.json"))) and alive(folder)


def test_a_night_that_is_killed_is_told_and_so_is_one_in_a_folder_with_flows_of_its_own(tmp_path, archive):
    cwd = tmp_path / "own"
    (cwd / "flows").mkdir(parents=True)
    (cwd / "flows" / "__init__.py").write_text("")
    with schedule(archive, tmp_path, cwd=str(cwd)) as serving:
        wait_for("a night at work", lambda: is_at_work(tmp_path), 200)
        night(tmp_path).send_signal(signal.SIGKILL)
        said = json.loads(wait_for("somebody told", lambda: told(tmp_path), 60).splitlines()[0].partition("}{")[0])
        assert said["event"] == "failed"
        assert "crashed" in said["message"]
        assert said["work"] == str(tmp_path / "work")
        server = wait_for("the server", lambda: servers(tmp_path), 5)
        server[0].send_signal(signal.SIGKILL)
        wait_for("the server started again", lambda: servers(tmp_path) not in ([], server), 60)
        (tmp_path / "told").unlink()
        wait_for("a night after it", lambda: is_at_work(tmp_path), 200)
        serving.send_signal(signal.SIGKILL)
        wait_for("the server gone with its owner", lambda: not servers(tmp_path), 30)
    assert "No module named" not in (tmp_path / "schedule.log").read_text()


def test_a_night_of_a_pool_that_is_killed_or_cancelled_is_told(tmp_path, archive):
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    home = {"PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_API_URL": url, "DO_NOT_TRACK": "1"}
    declared = (ROOT / "deploy" / "prefect.yaml").read_text()
    for ours, here in {"/data/archive": archive, "/data/work": tmp_path / "work"}.items():
        declared = declared.replace(f" {ours}\n", f" {here}\n")
    (tmp_path / "prefect.yaml").write_text(declared.replace("work: ", "settle_s: 0\n    work: ", 1))

    def prefect(*words: str) -> str:
        command = [sys.executable, "-m", "prefect", "--no-prompt", *words]
        done = subprocess.run(command, env=os.environ | home, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    with ExitStack() as stack:
        start = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", port]
        stack.enter_context(process(start, tmp_path / "server.log", **home))
        wait_for("Prefect", lambda: is_healthy(url), 120)
        prefect("work-pool", "create", "ecgbatch", "--type", "process")
        prefect("deploy", "--name", "nightly", "--prefect-file", str(tmp_path / "prefect.yaml"))
        work = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "ecgbatch", "--limit", "1"]
        stack.enter_context(process(work, tmp_path / "worker.log", **home, **told_in(tmp_path)))
        for ended in ("crashed", "cancelling"):
            run = re.search(r"[0-9a-f]{8}-[0-9a-f-]{27}", prefect("deployment", "run", "nightly/nightly")).group(0)
            wait_for("a night at work", lambda: is_at_work(tmp_path), 120)
            if ended == "crashed":
                night(tmp_path).send_signal(signal.SIGKILL)
            else:
                prefect("flow-run", "cancel", run)
            wait_for(f"{ended} told", lambda ended=ended, run=run: ended in told(tmp_path) and run in told(tmp_path), 90)
            wait_for("its end", lambda: not (tmp_path / "work" / ".build" / "lock").exists() or not alive(tmp_path), 60)


def alive(folder: Path) -> bool:
    try:
        return night(folder).is_running()
    except (OSError, psutil.Error):
        return False


def is_healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=2).is_success
    except httpx.HTTPError:
        return False


def test_schedule_ends_with_its_terminal_and_takes_the_server_with_it(tmp_path, archive):
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "runner_storage").touch()  # another user's, who served something on this machine before: closed to this one
    with schedule(archive, tmp_path, "0 0 1 1 *", TMPDIR=str(shared)) as serving:
        wait_for("the schedule", lambda: "Prefect: http" in (tmp_path / "schedule.log").read_text(), 120)
        wait_for("it serves", lambda: serves(tmp_path), 60)
        second = subprocess.run(
            [*COMMAND, "schedule", str(archive), str(tmp_path / "work"), "--cron", "0 0 1 1 *"],
            env=os.environ | {"XDG_STATE_HOME": str(tmp_path / "state"), "PREFECT_API_URL": ""},
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert second.returncode == 1
        assert f"has a schedule already (process {serving.pid})" in second.stderr
        serving.send_signal(signal.SIGHUP)
        assert serving.wait(timeout=40) in (129, 143)
        wait_for("the server gone", lambda: not servers(tmp_path), 20)
    assert "Traceback" not in (tmp_path / "schedule.log").read_text()
    assert not list(shared.glob("ecgbatch-*"))


def test_server_left_over_by_an_earlier_version_is_ended_and_proxies_are_passed(tmp_path, archive):
    """A left-over on the same SQLite is what a killed schedule of an earlier version left; the proxies lead nowhere."""
    work = tmp_path / "work"
    before = os.environ.get("XDG_STATE_HOME")
    os.environ["XDG_STATE_HOME"] = str(tmp_path / "state")
    try:
        state = state_folder(str(work))
    finally:
        os.environ.pop("XDG_STATE_HOME")
        os.environ |= {} if before is None else {"XDG_STATE_HOME": before}
    state.mkdir(parents=True)
    left = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", free_port()]
    nowhere = f"http://127.0.0.1:{free_port()}"
    with process(left, tmp_path / "left.log", PREFECT_HOME=str(state)) as left_over:
        time.sleep(3)
        proxies = {"http_proxy": nowhere, "https_proxy": nowhere, "no_proxy": ""}
        with schedule(archive, tmp_path, "0 0 1 1 *", **proxies) as serving:
            began = time.monotonic()
            wait_for("the schedule", lambda: "Prefect: http" in (tmp_path / "schedule.log").read_text(), 120)
            wait_for("it serves", lambda: serves(tmp_path), 60)
            assert left_over.poll() is not None
            assert serving.poll() is None
            assert time.monotonic() - began < 150


@pytest.mark.parametrize("seed", [1, 2])
def test_schedule_that_is_killed_in_a_night_leaves_a_workspace_that_the_next_command_takes(tmp_path, archive, seed):
    with schedule(archive, tmp_path) as serving:
        wait_for("a night at work", lambda: is_at_work(tmp_path), 300)
        time.sleep(random.Random(seed).uniform(0, 3))
        serving.send_signal(signal.SIGKILL)
        wait_for("the server gone with its owner", lambda: not servers(tmp_path), 60)
        wait_for("the night at its end", lambda: not alive(tmp_path), 300)
    for command in (["verify", tmp_path / "work"], ["run", archive, tmp_path / "work"], ["verify", tmp_path / "work"]):
        done = subprocess.run([*COMMAND, *map(str, command)], capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr


def serves(folder: Path) -> bool:
    """Tell whether the schedule's deployment is on its server."""
    url = re.search(r"Prefect: (\S+);", (folder / "schedule.log").read_text()).group(1)
    (auth,) = (folder / "state").rglob("auth")
    login = tuple(auth.read_text().split(":"))
    found = httpx.post(f"{url}/deployments/filter", json={}, auth=login, timeout=30, trust_env=False).json()
    return any(one["tags"] == ["ecgbatch"] for one in found)


def test_standing_server_that_is_away_is_waited_for(tmp_path, archive):
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    home = {"PREFECT_HOME": str(tmp_path / "prefect"), "DO_NOT_TRACK": "1"}
    start = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", port]
    with ExitStack() as later:
        with process(start, tmp_path / "server.log", **home):
            wait_for("Prefect", lambda: is_healthy(url), 120)
            serving = later.enter_context(schedule(archive, tmp_path, "0 0 1 1 *", PREFECT_API_URL=url))
            wait_for("the schedule", lambda: "Prefect: http" in (tmp_path / "schedule.log").read_text(), 120)
            time.sleep(20)
        wait_for("somebody told", lambda: "has not answered for" in told(tmp_path), 400)
        assert serving.poll() is None
        with process(start, tmp_path / "server.log", **home):
            wait_for("Prefect", lambda: is_healthy(url), 120)
            wait_for("taken up again", lambda: "answers again" in (tmp_path / "schedule.log").read_text(), 200)
            assert serving.poll() is None
    assert "Traceback" not in (tmp_path / "schedule.log").read_text()
