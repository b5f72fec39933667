"""The whole deployment as plain processes on loopback: PostgreSQL, Prefect, a schedule, Dask over TLS; nights that are disturbed.

A cron line that fires each minute scores an archive that grows; a Dask worker and then Prefect's server are killed on the way.
In the end every record is scored once and the stores are those of a run that nobody disturbed.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from test_end_to_end import COMMAND, ecgbatch, store_digests

from ecgbatch.status import last_run
from ecgbatch.synthetic import write_archive
from storage import list_stores, open_store

POSTGRES = Path("/usr/lib/postgresql/15/bin")
ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = shutil.which("chromium")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (POSTGRES / "initdb").exists(), reason="no PostgreSQL 15 server here (Debian: postgresql-15)"),
]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_for(what: str, is_so: Callable[[], Any], within_s: float) -> Any:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if found := is_so():
            return found
        time.sleep(0.2)
    raise TimeoutError(f"{what}: not within {within_s} s")


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def process(command: list[Any], log: Path, cwd: str = "", **environment: str) -> Iterator[subprocess.Popen]:
    with log.open("ab") as output:
        started = subprocess.Popen(
            [*map(str, command)], env=os.environ | environment, stdout=output, stderr=output, cwd=cwd or log.parent, umask=0o077
        )
    try:
        yield started
    finally:
        if started.poll() is None:
            started.terminate()
            try:
                started.wait(timeout=30)
            except subprocess.TimeoutExpired:
                started.kill()
                started.wait()


@contextmanager
def postgres(log: Path) -> Iterator[tuple[str, subprocess.Popen]]:
    """Yield the address of a database on loopback that asks for a password; its own user cannot look into pytest's folders."""
    with tempfile.TemporaryDirectory(prefix="ecgbatch-postgres-") as place, _postgres(Path(place), log) as started:
        yield started


@contextmanager
def _postgres(folder: Path, log: Path) -> Iterator[tuple[str, subprocess.Popen]]:
    data, port, password = folder / "data", free_port(), "rehearsal"
    (folder / "password").write_text(password)
    as_postgres = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if as_postgres:
        shutil.chown(folder, "postgres")
        shutil.chown(folder / "password", "postgres")
    initialise = [POSTGRES / "initdb", "-D", data, "-U", "prefect", "--auth=scram-sha-256", f"--pwfile={folder / 'password'}"]
    subprocess.run([*as_postgres, *map(str, initialise)], check=True, capture_output=True, cwd="/")
    serve = [POSTGRES / "postgres", "-D", data, "-h", "127.0.0.1", "-p", port, "-k", folder, "-c", "fsync=off"]
    with process([*as_postgres, *serve], log, cwd="/") as started:
        wait_for("PostgreSQL", lambda: answers(port), 30)
        yield f"postgresql+asyncpg://prefect:{password}@127.0.0.1:{port}/postgres", started


class Prefect:
    """Prefect's server on PostgreSQL, which can be killed and started again on the same port."""

    def __init__(self, folder: Path, database: str) -> None:
        self.auth, self.port, self.log = "ecgbatch:rehearsal", free_port(), folder / "prefect.log"
        self.url = f"http://127.0.0.1:{self.port}/api"
        self.environment = {
            "PREFECT_HOME": str(folder / "prefect-server"),
            "PREFECT_API_DATABASE_CONNECTION_URL": database,
            "PREFECT_SERVER_API_AUTH_STRING": self.auth,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_UI_API_URL": self.url,  # its page asks port 4200 otherwise
            "DO_NOT_TRACK": "1",
        }
        self.client = {
            "PREFECT_HOME": str(folder / "prefect-client"),
            "PREFECT_API_URL": self.url,
            "PREFECT_API_AUTH_STRING": self.auth,
        }

    @contextmanager
    def serving(self) -> Iterator[subprocess.Popen]:
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", self.port]
        with process(command, self.log, **self.environment) as server:
            wait_for("Prefect", self.is_healthy, 180)
            yield server

    def is_healthy(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=2, auth=tuple(self.auth.split(":"))).is_success
        except httpx.HTTPError:
            return False

    def runs(self, **filters: Any) -> list[dict[str, Any]]:
        query = {"flows": {"name": {"any_": ["nightly"]}}, "limit": 200, **filters}
        answer = httpx.post(f"{self.url}/flow_runs/filter", json=query, auth=tuple(self.auth.split(":")), timeout=30)
        answer.raise_for_status()
        return answer.json()


@contextmanager
def dask(folder: Path, certificates: Path) -> Iterator[tuple[str, int, list[subprocess.Popen]]]:
    """Yield address, port of the page and processes (scheduler, two workers under nannies) of a cluster over TLS."""
    port, page = free_port(), free_port()
    address = f"tls://127.0.0.1:{port}"
    tls = [
        f"--tls-{name}={certificates / file}" for name, file in (("ca-file", "ca.pem"), ("cert", "cert.pem"), ("key", "key.pem"))
    ]
    serve = ["scheduler", "--protocol=tls", "--host=tls://127.0.0.1", f"--port={port}", f"--dashboard-address=127.0.0.1:{page}"]
    work = ["worker", address, "--host=127.0.0.1", "--nthreads=1", "--memory-limit=3GB", "--dashboard-address=127.0.0.1:0"]
    with ExitStack() as stack:

        def start(*arguments: Any) -> subprocess.Popen:
            command = [sys.executable, "-m", "dask", *arguments, *tls]
            # A worker's own folder has a "storage" too and stands on its path: an editable install may lose against it.
            own = {"DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "true", "PYTHONPATH": str(ROOT)}
            return stack.enter_context(process(command, folder / "dask.log", **own))

        scheduler = start(*serve, "--no-show")
        wait_for("Dask scheduler", lambda: answers(port), 60)
        workers = [start(*work, f"--local-directory={folder / f'dask-{number}'}") for number in range(2)]
        yield address, page, [scheduler, *workers]


def put(whole: Path, archive: Path, names: list[str]) -> None:
    """Copy records; the list that names them comes last, at once."""
    listed = (archive / "RECORDS").read_text().split() if (archive / "RECORDS").exists() else []
    for name in names:
        (archive / name).parent.mkdir(parents=True, exist_ok=True)
        for suffix in ("hea", "dat", "xyz"):
            shutil.copy2(whole / f"{name}.{suffix}", archive / f"{name}.{suffix}")
    (archive / "RECORDS.new").write_text("\n".join([*listed, *names]) + "\n")
    (archive / "RECORDS.new").replace(archive / "RECORDS")


def listening(processes: list[subprocess.Popen]) -> set[str]:
    """Addresses that these processes and their children listen on."""
    found = set()
    for one in processes:
        family = [psutil.Process(one.pid), *psutil.Process(one.pid).children(recursive=True)]
        for member in family:
            found |= {c.laddr.ip for c in member.net_connections("inet") if c.status == psutil.CONN_LISTEN}
    return found


def n_stored(work: Path) -> int:
    try:
        return len(json.loads((work / "archive.json").read_text())["records"])
    except FileNotFoundError:
        return 0


def has_scored(work: Path, n: int) -> bool:
    told = last_run(str(work))
    return told.get("outcome") == "ok" and told["records"]["scored"] == n


def test_nights_that_are_disturbed_leave_what_an_undisturbed_run_leaves(tmp_path):
    whole, archive, work = tmp_path / "whole", tmp_path / "archive", tmp_path / "work"
    write_archive(whole, n_records=12, duration_s=10.0, seed=8)
    names = (whole / "RECORDS").read_text().split()
    steps = [names[:4], names[4:8], names[8:10], names[10:]]
    certificates = tmp_path / "certificates"
    subprocess.run(["sh", str(ROOT / "deploy" / "make_secrets.sh"), str(certificates)], check=True, capture_output=True)
    put(whole, archive, steps[0])
    with ExitStack() as stack:
        database, database_process = stack.enter_context(postgres(tmp_path / "postgres.log"))
        prefect = Prefect(tmp_path, database)
        server_stack = stack.enter_context(ExitStack())
        server = server_stack.enter_context(prefect.serving())
        address, page, cluster = stack.enter_context(dask(tmp_path, certificates))
        told = tmp_path / "told.jsonl"
        night = {
            "ECGBATCH_DASK": address,
            "ECGBATCH_TLS_CA_FILE": str(certificates / "ca.pem"),
            "ECGBATCH_TLS_CERT": str(certificates / "cert.pem"),
            "ECGBATCH_TLS_KEY": str(certificates / "key.pem"),
            "ECGBATCH_NOTIFY_COMMAND": f"sh -c 'cat >> {told}; echo >> {told}'",
        }
        command = [*COMMAND, "schedule", archive, work, "--cron", "* * * * *", "--settle-s", "0"]
        schedule = stack.enter_context(process(command, tmp_path / "schedule.log", **prefect.client, **night))

        # A night that cron fires by itself.
        wait_for("the first night", lambda: has_scored(work, 4), 240)
        assert all(run["auto_scheduled"] for run in prefect.runs(flow_runs={"state": {"type": {"any_": ["COMPLETED"]}}}))
        everything = [database_process, server, *cluster, schedule]
        assert listening(everything) == {"127.0.0.1"}
        assert httpx.post(f"{prefect.url}/flow_runs/filter", json={}).status_code == 401
        stranger = f"from distributed import Client; Client('{address.replace('tls', 'tcp')}', timeout=3)"
        assert subprocess.run([sys.executable, "-c", stranger], capture_output=True, check=False).returncode != 0
        look_at_pages(prefect, page, tmp_path)

        # A worker is killed while a night is at work.
        put(whole, archive, steps[1])
        wait_for("the second night at work", lambda: last_run(str(work))["outcome"] == "running", 120)
        victim = psutil.Process(cluster[1].pid)
        for member in [*victim.children(recursive=True), victim]:
            member.kill()
        wait_for("the second night", lambda: has_scored(work, 8), 240)

        # Prefect's server is killed while a night is at work, and comes back.
        put(whole, archive, steps[2])
        wait_for("the third night at work", lambda: last_run(str(work))["outcome"] == "running", 120)
        server.send_signal(signal.SIGKILL)
        server.wait()
        server_stack.close()
        time.sleep(5)
        server = server_stack.enter_context(prefect.serving())
        wait_for("the third night", lambda: has_scored(work, 10), 400)

        put(whole, archive, steps[3])
        wait_for("the last night", lambda: has_scored(work, 12), 240)
        schedule.terminate()
        assert schedule.wait(timeout=30) is not None

    undisturbed = tmp_path / "undisturbed"
    grown = tmp_path / "grown" / "archive"
    for step in steps:
        put(whole, grown, step)
        ecgbatch("run", grown, undisturbed)
    assert store_digests(work) == store_digests(undisturbed)
    scores = max((open_store(path) for path in list_stores(work, "scores")), key=lambda scores: scores.sizes["record"])
    assert scores["record_name"].values.tolist() == names
    assert sorted(open_store(path).sizes["record"] for path in list_stores(work, "signals")) == [2, 2, 4, 4]
    assert ecgbatch("verify", work, "--read-data")["n_problems"] == 0
    modes = {path.stat().st_mode & 0o777 for path in work.rglob("*") if not path.is_symlink()}
    assert modes <= {0o600, 0o700}
    secrets = [prefect.auth, "rehearsal@"]
    logs = "".join(path.read_text(errors="replace") for path in [*work.glob("runs/*.log"), tmp_path / "schedule.log"])
    assert not any(secret in logs for secret in secrets)


def look_at_pages(prefect: Prefect, page: int, folder: Path) -> None:
    """Open Prefect's and Dask's pages in a browser: each shows what it is of, and a picture is kept in ``folder``."""
    if CHROMIUM is None or shutil.which("chromedriver") is None:
        return
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.common.by import By

    options = webdriver.ChromeOptions()
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--window-size=1400,900",
        f"--user-data-dir={folder}/chromium",
    ):
        options.add_argument(argument)
    browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        browser.get(f"http://127.0.0.1:{page}/status")
        wait_for("Dask's page", lambda: "Task Stream" in browser.page_source or "Processing" in browser.page_source, 30)
        time.sleep(3)
        browser.save_screenshot(str(folder / "dask.png"))
        browser.get(prefect.url.removesuffix("/api"))
        browser.execute_script("localStorage.setItem('prefect-password', btoa(arguments[0]))", prefect.auth)
        browser.get(prefect.url.replace("/api", "/runs"))
        wait_for("a night on Prefect's page", lambda: "nightly" in browser.find_element(By.TAG_NAME, "body").text, 120)
    finally:
        browser.save_screenshot(str(folder / "prefect.png"))
        browser.quit()
