"""The whole deployment as processes on loopback: PostgreSQL, Prefect, schedule, Dask over TLS, S3; nights that are disturbed.

A cron line that fires each minute scores an archive that grows, both in buckets; a Dask worker, then Prefect's server are killed
on the way. In the end every record is scored once and the stores are those of a run that nobody disturbed, on a disk.
"""

from __future__ import annotations

import hashlib
import os
import re
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

import storage.bucket
from ecgbatch.synthetic.archive import ArchiveShape, write_archive
from ecgbatch.upkeep.status import last_run
from storage import Folder, folder_at, list_stores, open_store
from tests.cli.test_end_to_end import COMMAND, ecgbatch, store_digests

POSTGRES = Path("/usr/lib/postgresql/15/bin")
ROOT = Path(__file__).resolve().parents[2]
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
            [*map(str, command)], env=os.environ | environment, stdout=output, stderr=output, cwd=cwd or log.parent, umask=0o022
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


@contextmanager
def bucket(log: Path, patch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen]:
    """Serve S3 on loopback, with a bucket ``ecg``; the environment names it from here on."""
    pytest.importorskip("moto.server")
    port = free_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "rehearsal",
        "AWS_SECRET_ACCESS_KEY": "rehearsal-of-s3",
        "AWS_REGION": "us-east-1",
    }.items():
        patch.setenv(name, value)
    storage.bucket._store.cache_clear()
    with process([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", port], log) as server:
        wait_for("S3", lambda: answers(port), 60)
        httpx.put(f"http://127.0.0.1:{port}/ecg", timeout=60).raise_for_status()
        yield server


def put(whole: Path, archive: Folder, names: list[str]) -> None:
    """Copy records; the list that names them comes last, at once."""
    listed = archive.read("RECORDS").decode().split() if archive.exists("RECORDS") else []
    for name in names:
        for suffix in ("hea", "dat", "xyz"):
            archive.put(f"{name}.{suffix}", (whole / f"{name}.{suffix}").read_bytes())
    archive.put("RECORDS", ("\n".join([*listed, *names]) + "\n").encode())


def object_digests(work: str) -> dict[str, str]:
    """What ``store_digests`` says of a workspace on a disk, of one in a bucket."""
    folder = folder_at(work)
    keys = [key for key, _ in folder.files() if ".zarr/" in key and not key.startswith(".build/")]
    return {key: hashlib.sha256(folder.read(key)).hexdigest() for key in keys}


def listening(processes: list[subprocess.Popen]) -> set[str]:
    """Addresses that these processes and their children listen on."""
    found = set()
    for one in processes:
        family = [psutil.Process(one.pid), *psutil.Process(one.pid).children(recursive=True)]
        for member in family:
            found |= {c.laddr.ip for c in member.net_connections("inet") if c.status == psutil.CONN_LISTEN}
    return found


def has_scored(work: str, n: int) -> bool:
    told = last_run(work)
    return told.get("outcome") == "ok" and told["records"]["scored"] == n


def test_nights_that_are_disturbed_leave_what_an_undisturbed_run_leaves(tmp_path, monkeypatch):
    whole, work = tmp_path / "whole", "s3://ecg/work"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_archive(whole, ArchiveShape(n_records=12, duration_s=10.0), seed=8)
    names = (whole / "RECORDS").read_text().split()
    steps = [names[:4], names[4:8], names[8:10], names[10:]]
    certificates = tmp_path / "certificates"
    subprocess.run(["sh", str(ROOT / "deploy" / "make_secrets.sh"), str(certificates)], check=True, capture_output=True)
    with ExitStack() as stack:
        s3 = stack.enter_context(bucket(tmp_path / "s3.log", monkeypatch))
        archive = folder_at("s3://ecg/archive")
        put(whole, archive, steps[0])
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
        schedule_stack = stack.enter_context(ExitStack())
        schedule = schedule_stack.enter_context(process(command, tmp_path / "schedule.log", **prefect.client, **night))

        # A night that cron fires by itself.
        wait_for("the first night", lambda: has_scored(work, 4), 240)
        assert all(run["auto_scheduled"] for run in prefect.runs(flow_runs={"state": {"type": {"any_": ["COMPLETED"]}}}))
        everything = [database_process, server, *cluster, schedule, s3]
        assert listening(everything) == {"127.0.0.1"}
        assert httpx.post(f"{prefect.url}/flow_runs/filter", json={}, timeout=60).status_code == 401
        stranger = f"from distributed import Client; Client('{address.replace('tls', 'tcp')}', timeout=3)"
        assert subprocess.run([sys.executable, "-c", stranger], capture_output=True, check=False).returncode != 0
        look_at_pages(prefect, page, tmp_path, "first")

        # A worker is killed while a night is at work.
        put(whole, archive, steps[1])
        wait_for("the second night at work", lambda: last_run(work)["outcome"] == "running", 120)
        victim = psutil.Process(cluster[1].pid)
        for member in [*victim.children(recursive=True), victim]:
            member.kill()
        wait_for("the second night", lambda: has_scored(work, 8), 240)

        # Prefect's server is killed while a night is at work, and comes back.
        put(whole, archive, steps[2])
        wait_for("the third night at work", lambda: last_run(work)["outcome"] == "running", 120)
        server.send_signal(signal.SIGKILL)
        server.wait()
        server_stack.close()
        time.sleep(5)
        server = server_stack.enter_context(prefect.serving())
        wait_for("the third night", lambda: has_scored(work, 10), 400)

        # The schedule is stopped and started again.
        schedule.terminate()
        assert schedule.wait(timeout=30) == 143
        schedule = schedule_stack.enter_context(process(command, tmp_path / "schedule-again.log", **prefect.client, **night))
        put(whole, archive, steps[3])
        wait_for("the last night", lambda: has_scored(work, 12), 240)
        look_at_pages(prefect, page, tmp_path, "last")
        schedule.terminate()
        assert schedule.wait(timeout=30) == 143

        undisturbed = tmp_path / "undisturbed"
        grown = tmp_path / "grown" / "archive"
        for step in steps:
            put(whole, folder_at(grown), step)
            ecgbatch("run", grown, undisturbed)
        assert object_digests(work) == store_digests(undisturbed)
        scores = max((open_store(path) for path in list_stores(work, "scores")), key=lambda scores: scores.sizes["record"])
        assert scores["record_name"].values.tolist() == names
        assert sorted(open_store(path).sizes["record"] for path in list_stores(work, "signals")) == [2, 2, 4, 4]
        assert ecgbatch("verify", work, "--read-data")["n_problems"] == 0
        kept = [key for key, _ in folder_at(work).files("runs") if key.endswith(".log")]
        logs = "".join(folder_at(work).read(key).decode() for key in kept)
    logs += "".join(path.read_text(errors="replace") for path in tmp_path.glob("*.log") if path.name != "postgres.log")
    assert not any(secret in logs for secret in [prefect.auth, "rehearsal@", "rehearsal-of-s3"])
    private = [path for place in ("cache", "undisturbed") for path in (tmp_path / place).rglob("*") if not path.is_symlink()]
    assert {path.stat().st_mode & 0o777 for path in private} <= {0o600, 0o700}


def test_night_of_a_worker_on_a_work_pool_as_deploy_says(tmp_path):
    archive, work = tmp_path / "archive", tmp_path / "work"
    write_archive(archive, ArchiveShape(n_records=4, duration_s=10.0), seed=8)
    told = (ROOT / "deploy" / "prefect.yaml").read_text()
    for ours, here in {"/data/archive": archive, "/data/work": work, '"0 2 * * *"': '"* * * * *"'}.items():
        assert ours in told
        told = told.replace(f" {ours}\n", f" {here}\n")
    (tmp_path / "prefect.yaml").write_text(told.replace("work: ", "settle_s: 0\n    work: ", 1))
    with ExitStack() as stack:
        database, _ = stack.enter_context(postgres(tmp_path / "postgres.log"))
        prefect = Prefect(tmp_path, database)
        stack.enter_context(prefect.serving())

        def ask(*words: str) -> str:
            command = [sys.executable, "-m", "prefect", "--no-prompt", *words]
            environment = os.environ | prefect.client
            done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout

        ask("work-pool", "create", "ecgbatch", "--type", "process")
        ask("deploy", "--name", "nightly", "--prefect-file", str(tmp_path / "prefect.yaml"))
        start = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "ecgbatch", "--limit", "1"]
        worker = stack.enter_context(process(start, tmp_path / "worker.log", **prefect.client))
        wait_for("a night of the pool", lambda: has_scored(str(work), 4), 240)
        done = wait_for("its end", lambda: prefect.runs(flow_runs={"state": {"type": {"any_": ["COMPLETED"]}}}), 60)
        assert all(run["auto_scheduled"] and run["work_pool_name"] == "ecgbatch" for run in done)
        assert listening([worker]) <= {"127.0.0.1"}
    assert {path.stat().st_mode & 0o777 for path in work.rglob("*") if not path.is_symlink()} <= {0o600, 0o700}
    ecgbatch("run", archive, tmp_path / "by-hand")
    assert store_digests(work) == store_digests(tmp_path / "by-hand")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_schedule_that_is_stopped_in_the_middle_of_a_night_ends_quietly_and_leaves_no_half_state(tmp_path, number):
    archive, work, log = tmp_path / "archive", tmp_path / "work", tmp_path / "schedule.log"
    write_archive(archive, ArchiveShape(n_records=24, duration_s=60.0), seed=8)
    command = [*map(str, COMMAND), "schedule", str(archive), str(work), "--cron", "* * * * *", "--settle-s", "0"]
    environment = os.environ | {"XDG_STATE_HOME": str(tmp_path / "state"), "ECGBATCH_WORKERS": "1"}
    environment.pop("PREFECT_API_URL", None)
    with log.open("wb") as output:
        schedule = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
    try:
        wait_for("a night at work", lambda: list(work.glob(".build/peaks-*/plan.json")), 200)
        family = [psutil.Process(schedule.pid), *psutil.Process(schedule.pid).children(recursive=True)]
        assert {c.laddr.ip for one in family for c in one.net_connections("inet") if c.status == psutil.CONN_LISTEN} == {
            "127.0.0.1"
        }
        url = re.search(r"Prefect: (\S+);", log.read_text()).group(1)
        assert httpx.post(f"{url}/flow_runs/filter", json={}, timeout=60).status_code == 401
        state = [path for path in (tmp_path / "state").rglob("*") if not path.is_dir() and "pages" not in path.parts]
        (own,) = (tmp_path / "state" / "ecgbatch").iterdir()  # Prefect's own pages in it have the modes of the package
        assert own.stat().st_mode & 0o777 == 0o700
        assert {path.stat().st_mode & 0o777 for path in state} == {0o600}
        began = time.monotonic()
        os.killpg(schedule.pid, number)  # as a terminal does: the night too is told
        assert schedule.wait(timeout=40) == 128 + number
        assert time.monotonic() - began < 30
    finally:
        if schedule.poll() is None:
            os.killpg(schedule.pid, signal.SIGKILL)
    said = log.read_text()
    assert "Traceback" not in said, said[-3000:]
    assert "ecgbatch: stopped; the same command goes on where this one was" in said
    wait_for("all of its processes gone", lambda: not any(one.is_running() for one in family), 5)
    assert last_run(str(work))["outcome"] == "stopped"
    assert not (work / ".build" / "lock").exists()
    ecgbatch("run", archive, work)
    ecgbatch("run", archive, tmp_path / "undisturbed")
    assert ecgbatch("verify", work)["n_problems"] == 0
    assert store_digests(work) == store_digests(tmp_path / "undisturbed")


def look_at_pages(prefect: Prefect, page: int, folder: Path, name: str) -> None:
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
        browser.save_screenshot(str(folder / f"dask-{name}.png"))
        browser.get(prefect.url.removesuffix("/api"))
        browser.execute_script("localStorage.setItem('prefect-password', btoa(arguments[0]))", prefect.auth)
        browser.get(prefect.url.replace("/api", "/runs"))
        wait_for("a night on Prefect's page", lambda: "nightly" in browser.find_element(By.TAG_NAME, "body").text, 120)
    finally:
        browser.save_screenshot(str(folder / f"prefect-{name}.png"))
        browser.quit()
