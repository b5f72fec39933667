"""doctor says what is wrong with what a night needs, and what to do."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

import flows.server
from ecgbatch.synthetic.archive import ArchiveShape, write_archive
from flows.server import ask_server
from tests.cli.test_end_to_end import COMMAND
from tests.commands import said_by


def findings(*arguments: object, code: int, **environment: str) -> dict[str, dict[str, str]]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        ended, out, error = said_by("doctor", *arguments, "--json")
    assert ended == code, out + error
    assert "Traceback" not in error
    return {one["of"]: one for one in json.loads(out)["findings"]}


@pytest.fixture
def archive(tmp_path) -> Path:
    write_archive(tmp_path / "archive", ArchiveShape(n_records=2, duration_s=10.0), seed=8)
    return tmp_path / "archive"


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_what_is_right_is_good_and_nothing_is_left_behind(tmp_path, archive, dask_address):
    found = findings(archive, tmp_path / "work", "--dask", dask_address, code=0, PREFECT_API_URL="")
    assert {one["state"] for one in found.values()} == {"good"}
    assert "2 workers, of this very code" in found["Dask"]["found"]
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]


def test_archive_that_is_empty_or_absent_is_bad(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "mounted" in findings(tmp_path / "empty", code=1)["archive"]["do"]
    assert findings(tmp_path / "absent", code=1)["archive"]["state"] == "bad"


class Locked(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def test_prefect_server_that_wants_a_password_or_is_none_is_said_in_one_line(tmp_path, archive):
    with HTTPServer(("127.0.0.1", 0), Locked) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/api"
        said = findings(code=1, PREFECT_API_URL=url)["Prefect"]["found"]
        command = [*COMMAND, "schedule", str(archive), str(tmp_path / "w"), "--cron", "0 2 * * *"]
        done = subprocess.run(
            command, env=os.environ | {"PREFECT_API_URL": url}, capture_output=True, text=True, check=False, timeout=120
        )
        server.shutdown()
        thread.join()
    for told in (said, done.stderr):
        assert f"{url} (PREFECT_API_URL in the environment) wants a password" in told
        assert "PREFECT_API_AUTH_STRING" in told
        assert "Traceback" not in told
    assert done.returncode == 1


class Troubled(Locked):
    """Answers with errors of its own, in turn; then as a Prefect server."""

    answers: ClassVar[list[int]] = []

    def do_GET(self) -> None:
        code = self.answers.pop(0) if self.answers else 200
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(b'"3.0.0"')


@pytest.fixture
def troubled() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Troubled) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/api"
        server.shutdown()
        thread.join()


def test_prefect_server_in_trouble_itself_is_told_from_an_address_that_is_wrong(troubled, monkeypatch):
    monkeypatch.setattr(flows.server, "ASK_S", -1.0)
    monkeypatch.setattr(Troubled, "answers", [500])
    with pytest.raises(OSError, match=r"in trouble itself \(answer 500\): its log says why.*mend it, or name none there") as told:
        ask_server(troubled, None)
    assert "ends with /api" not in str(told.value)


def test_prefect_server_behind_a_gateway_is_waited_for_until_it_has_started_which_is_said_once(troubled, monkeypatch, caplog):
    monkeypatch.setattr(Troubled, "answers", [502, 502])
    assert ask_server(troubled, None) == "3.0.0"
    (said,) = (record.getMessage() for record in caplog.records if record.name == "ecgbatch")
    assert said == f"the Prefect server {troubled}/admin/version answers 502; it is asked again for 30 s"


@pytest.mark.parametrize(
    ("option", "value", "said"), [("--cron", "x", "--cron 'x': expected five fields"), ("--timezone", "Mars/X", "zone's name")]
)
def test_times_that_are_none_are_one_line_before_anything_starts(tmp_path, archive, monkeypatch, option, value, said):
    times = {"--cron": "0 2 * * *", option: value}
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("PREFECT_API_URL", "")
    code, _, error = said_by("schedule", archive, tmp_path / "w", *(word for pair in times.items() for word in pair))
    assert code == 2
    assert said in error
    assert len(error.strip().splitlines()) == 1
    assert not list((tmp_path / "state").rglob("server.log"))


def test_state_that_cannot_be_made_is_said_at_once(tmp_path, archive):
    (tmp_path / "state").write_text("a file where a folder should be")
    command = [*COMMAND, "schedule", str(archive), str(tmp_path / "w"), "--cron", "0 2 * * *"]
    state = {"XDG_STATE_HOME": str(tmp_path / "state"), "PREFECT_API_URL": ""}
    done = subprocess.run(command, env=os.environ | state, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert "XDG_STATE_HOME" in done.stderr
    assert "Traceback" not in done.stderr


def test_scheduler_and_service_that_are_not_there_are_bad(closed_port):
    found = findings("--dask", f"tcp://127.0.0.1:{closed_port}", code=1, ECGBATCH_WAIT_FOR_WORKERS_S="1")
    assert found["Dask"]["state"] == "bad"


def test_certificate_that_ends_soon_is_named(tmp_path, monkeypatch):
    if shutil.which("openssl") is None:
        pytest.skip("no openssl")
    make = "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -subj /CN=x -days 3"
    subprocess.run(make.split(), cwd=tmp_path, check=True, capture_output=True)
    names = {"TLS_CA_FILE": "cert.pem", "TLS_CERT": "cert.pem", "TLS_KEY": "key.pem"}
    files = {f"ECGBATCH_{name}": str(tmp_path / file) for name, file in names.items()}
    found = findings("--dask", "tls://127.0.0.1:9", code=1, ECGBATCH_WAIT_FOR_WORKERS_S="1", **files)
    assert found[f"certificate {tmp_path / 'cert.pem'}"]["do"] == "renew it"


def test_user_without_home_or_passwd_entry_runs_and_is_told(tmp_path, archive):
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root, to be somebody without an entry in the list of users")
    for path in (tmp_path, *tmp_path.parents[:-2]):
        path.chmod(0o755)
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp").chmod(0o777)
    for path in archive.rglob("*"):
        path.chmod(0o644)
    archive.chmod(0o755)
    nobody = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", "env", "-u", "HOME", f"TMPDIR={tmp_path / 'tmp'}"]
    done = subprocess.run([*nobody, *COMMAND, "config"], capture_output=True, text=True, check=False, timeout=120)
    if "Permission denied" in done.stderr:
        pytest.skip("the code lies where another user cannot read it")
    assert done.returncode == 0, done.stderr
    done = subprocess.run(
        [*nobody, *COMMAND, "doctor", str(archive), str(tmp_path / "tmp" / "work")],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert "XDG_STATE_HOME" in done.stdout
    assert done.stderr.count("this user has no home folder") == 1
