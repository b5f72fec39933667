"""Names that try to leave their folder, a run that may do nothing but its work, and what answers on the network meanwhile."""

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
from wfdb_files import simple

from ecgbatch.signals.stage import convert_archive, current_records
from ecgbatch.synthetic.archive import write_archive
from ecgbatch.terms import STATUS

COMMAND = str(Path(sys.executable).with_name("ecgbatch"))
ROOT = Path(__file__).parents[1]

WAYS_OUT = (
    "../outside/r",
    "{outside}/r",
    "./../outside/r",
    "ok/../../outside/r",
    "..\\outside\\r",
    "file://{outside}/r",
    "http://127.0.0.1:9/r",
    "s3://bucket/r",
    "simplecache::file://{outside}/r",
    "~/r",
    "$HOME/r",
    "$(touch {outside}/touched)",
    "`touch {outside}/touched`",
    "| touch {outside}/touched",
    "; touch {outside}/touched",
    "linked/r",
    "linked",
    "ok\x00/../../outside/r",
    "%2e%2e/outside/r",
    "..%2foutside%2fr",
    "\u2025/outside/r",
    "..\u2215outside\u2215r",
    "con",
    "nul.hea",
    "aux/r",
    "-rf",
    "--help",
    "*",
    "[a-z]",
    "r" * 300,
    "a/" * 200 + "r",
    ".",
    "..",
    "/",
    "//",
    "r\u202egnp",
    "r\x1b[2J",
    "<img src=x>",
    "=cmd|' /C calc'!A0",
    " r ",
)
"""As a name in a list, and, where a disk allows it, as the name of a file."""


def hostile_names(outside: Path) -> list[str]:
    """1,000 names: each way out, alone and with something before and behind it."""
    ways = [way.format(outside=outside) for way in WAYS_OUT]
    around = [
        ("", ""),
        ("ok/", ""),
        ("", ".hea"),
        ("./", ""),
        ("", "/r"),
        ("../", ""),
        ("../../", ""),
        ("/", ""),
        ("patient001/", ""),
    ]
    names = [before + way + behind for before, behind in around for way in ways]
    names += [f"{'../' * depth}{way}" for depth in range(3, 30) for way in ways]
    return list(dict.fromkeys(names))[:1000]


def test_thousand_names_neither_read_nor_write_outside_their_folders(tmp_path):
    archive, outside, work = tmp_path / "archive", tmp_path / "outside", tmp_path / "work"
    simple().write(outside)
    simple().write(archive / "ok")
    (archive / "linked").symlink_to(outside)
    names = hostile_names(outside)
    assert len(names) == 1000
    (archive / "RECORDS").write_text("\n".join(["ok/r", *(name for name in names if "\n" not in name)]), encoding="utf-8")
    for name in names:
        try:
            shutil.copy(outside / "r.hea", archive / "ok" / f"{name.replace('/', '_')}.hea")
        except (OSError, ValueError):
            continue  # this disk has no such name
    before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))
    opened: list[tuple[str, str]] = []
    watching = [True]

    def hook(event: str, arguments: tuple) -> None:
        if watching and event == "open" and isinstance(arguments[0], str):
            opened.append((os.path.realpath(arguments[0]), str(arguments[1] or "")))
        if watching and event in {"os.system", "subprocess.Popen", "socket.connect"}:
            opened.append((event, ""))

    sys.addaudithook(hook)  # there is no way to take it away again: it ends by what it is told
    try:
        done = convert_archive(str(archive), str(work))
    finally:
        watching.clear()
    assert not [path for path, _ in opened if path.startswith(str(outside)) or path in {"os.system", "subprocess.Popen"}]
    assert "socket.connect" not in dict(opened)
    compiled = f"{ROOT}/ecgbatch/__pycache__"
    written = [path for path, mode in opened if set(mode) & set("wxa+") and not path.startswith(compiled)]
    assert all(Path(path).is_relative_to(work) for path in written), written
    after = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if not path.is_relative_to(work))
    assert after == before
    records = current_records(str(work))
    good = records["record_name"].values[records["status"].values != STATUS["set_aside"]].tolist()
    assert len(good) > 100
    assert all(Path(os.path.realpath(f"{archive}/{name}.hea")).parent == archive / "ok" for name in good)
    assert done.n_records == records.sizes["record"] == len(good) + sum(done.set_aside.values())


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap (bwrap)")
def test_every_stage_runs_as_nobody_without_network_rights_or_a_disk_but_the_workspace(tmp_path):
    archive, work = tmp_path / "archive", tmp_path / "work"
    write_archive(archive, n_records=2, duration_s=10.0, seed=2)
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
    from ecgbatch.model.members import shipped_model

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


@pytest.mark.slow
def test_run_listens_on_loopback_only_while_it_lasts(tmp_path):
    write_archive(tmp_path / "archive", n_records=8, duration_s=20.0, seed=2)
    command = [COMMAND, "run", str(tmp_path / "archive"), str(tmp_path / "work")]
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


OPEN_TO_ALL = {"/api/health", "/api/ready"}
"""What a watchdog asks."""


@pytest.mark.slow
def test_server_of_a_schedule_asks_for_its_password_at_every_door(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    from flows.server import prefect_server

    with prefect_server(str(tmp_path / "work")) as url:
        auth = os.environ["PREFECT_API_AUTH_STRING"]
        doors = httpx.get(f"{url}/openapi.json", auth=tuple(auth.split(":", 1)))
        if doors.status_code != 200:
            doors = httpx.get(url.replace("/api", "/openapi.json"), auth=tuple(auth.split(":", 1)))
        paths = doors.json()["paths"]
        assert len(paths) > 100
        opened = set()
        for path, methods in paths.items():
            for method in methods:
                place = path if path.startswith("/api") else f"/api{path}"
                answer = httpx.request(method, url.replace("/api", place).replace("{", "").replace("}", ""))
                if answer.status_code != 401:
                    opened.add(place)
        assert opened <= OPEN_TO_ALL, opened
        answer = httpx.post(
            f"{url}/flows/filter", json={}, auth=tuple(auth.split(":", 1)), headers={"Origin": "https://evil.example"}
        )
        assert answer.status_code == 200
        assert answer.headers.get("access-control-allow-origin") not in {"*", "https://evil.example"}
    for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING"):
        os.environ.pop(name, None)
