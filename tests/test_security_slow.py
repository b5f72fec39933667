"""What of ``test_security`` takes long."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from ecgbatch.synthetic.archive import ArchiveShape, write_archive

COMMAND = str(Path(sys.executable).with_name("ecgbatch"))


OPEN_TO_ALL = {"/api/health", "/api/ready"}
"""What a watchdog asks."""


pytestmark = pytest.mark.slow


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap (bwrap)")
def test_every_stage_runs_as_nobody_without_network_rights_or_a_disk_but_the_workspace(tmp_path):
    archive, work = tmp_path / "archive", tmp_path / "work"
    write_archive(archive, ArchiveShape(n_records=2, duration_s=10.0), seed=2)
    home = tmp_path / "home"
    work.mkdir()
    home.mkdir()
    for path in (tmp_path, *tmp_path.parents[:2]):
        path.chmod(0o755)
    for path in [work, home, archive, *archive.rglob("*")]:
        path.chmod(0o777 if path in {work, home} else 0o755 if path.is_dir() else 0o644)
    jail = [
        "bwrap",
        "--ro-bind",
        "/",
        "/",
        "--tmpfs",
        "/tmp",
        "--ro-bind",
        str(archive),
        str(archive),
        "--bind",
        str(work),
        str(work),
    ]
    jail += ["--dev", "/dev", "--proc", "/proc", "--unshare-all", "--cap-drop", "ALL", "--uid", "65534", "--gid", "65534"]
    jail += ["--setenv", "HOME", str(home), "--new-session", "--die-with-parent"]
    if subprocess.run([*jail, "true"], capture_output=True, check=False).returncode:
        pytest.skip("bwrap may not make name spaces here")
    assert subprocess.run([*jail, "touch", str(archive / "x")], capture_output=True, check=False).returncode
    from ecgbatch.model.files import shipped_model

    stages = (
        ["convert", archive, work],
        ["beats", work],
        ["score", work, "--model", shipped_model()],
        ["report", work],
        ["verify", work],
    )
    for stage in stages:
        done = subprocess.run([*jail, COMMAND, *map(str, stage)], capture_output=True, text=True, check=False, timeout=500)
        assert done.returncode == 0, (stage[0], done.stderr[-2000:])


def test_run_listens_on_loopback_only_while_it_lasts(tmp_path):
    write_archive(tmp_path / "archive", ArchiveShape(n_records=8, duration_s=20.0), seed=2)
    command = [COMMAND, "run", str(tmp_path / "archive"), str(tmp_path / "work"), "--prefect"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment |= {"PREFECT_HOME": str(tmp_path / "prefect")}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    found = set()
    with subprocess.Popen(command, env=environment, **quiet) as running:
        while running.poll() is None:
            try:
                family = [psutil.Process(running.pid), *psutil.Process(running.pid).children(recursive=True)]
                found |= {c.laddr.ip for one in family for c in one.net_connections("inet") if c.status == psutil.CONN_LISTEN}
            except psutil.Error:
                pass
            time.sleep(0.1)
    assert running.returncode == 0
    assert found == {"127.0.0.1"}


def test_server_of_a_schedule_asks_for_its_password_at_every_door(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    from flows.server import prefect_server

    # A server's own description of its 400 operations takes a busy machine longer than the client's usual five seconds.
    with prefect_server(str(tmp_path / "work")) as url, httpx.Client(timeout=60) as client:
        auth = os.environ["PREFECT_API_AUTH_STRING"]
        doors = client.get(f"{url}/openapi.json", auth=tuple(auth.split(":", 1)))
        if doors.status_code != 200:
            doors = client.get(url.replace("/api", "/openapi.json"), auth=tuple(auth.split(":", 1)))
        paths = doors.json()["paths"]
        assert len(paths) > 100
        opened = set()
        for path, methods in paths.items():
            for method in methods:
                place = path if path.startswith("/api") else f"/api{path}"
                answer = client.request(method, url.replace("/api", place).replace("{", "").replace("}", ""))
                if answer.status_code != 401:
                    opened.add(place)
        assert opened <= OPEN_TO_ALL, opened
        answer = client.post(
            f"{url}/flows/filter", json={}, auth=tuple(auth.split(":", 1)), headers={"Origin": "https://evil.example"}
        )
        assert answer.status_code == 200
        assert answer.headers.get("access-control-allow-origin") not in {"*", "https://evil.example"}
    for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING"):
        os.environ.pop(name, None)
