"""Fetching resumes, checks, and gives up with a word; against a server on loopback that cuts, stalls and corrupts."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

import ecgbatch.archive.fetch
from ecgbatch.archive.fetch import fetch


class Mirror(ThreadingHTTPServer):
    """A folder of a database, as PhysioNet serves it, and its faults: {path: [fault for each request in turn]}."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content: dict[str, bytes] = {}
        self.faults: dict[str, list[str]] = {}
        self.requests: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/files/ptbdb/1.0.0"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Mirror

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        name = self.path.removeprefix("/files/ptbdb/1.0.0/")
        self.server.requests[name] += 1
        content = self.server.content.get(name)
        faults = self.server.faults.get(name, [])
        fault = faults.pop(0) if faults else ""
        if content is None or fault == "503":
            self.send_error(404 if content is None else 503)
            return
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        if fault == "no ranges":
            start = 0
        if start >= len(content) > 0:
            self.send_error(416)
            return
        body = bytes(reversed(content[start:])) if fault == "corrupt" else content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if fault in ("cut", "stall"):
            body = body[: len(body) // 2]
        self.server.sent[name] += len(body)
        self.wfile.write(body)
        self.wfile.flush()
        if fault == "stall":
            self.server.released.wait(20)
        if fault in ("cut", "stall"):
            self.close_connection = True


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    server = Mirror()
    random = np.random.default_rng(1)
    for number in range(5):
        server.content[f"patient00{number}/s000{number}_re.hea"] = f"s000{number}_re 12 1000 10\n".encode()
        server.content[f"patient00{number}/s000{number}_re.dat"] = random.bytes(300_000 + number)
    server.content["RECORDS"] = b"".join(f"patient00{n}/s000{n}_re\n".encode() for n in range(5))
    sums = [f"{hashlib.sha256(content).hexdigest()} {name}\n" for name, content in server.content.items()]
    server.content["SHA256SUMS.txt"] = "".join(sums).encode()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(ecgbatch.archive.fetch, "SILENCE_S", 0.5)


def assert_whole(mirror: Mirror, folder: Path) -> None:
    there = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert there == mirror.content


DATA = "patient002/s0002_re.dat"


def test_every_file_arrives_and_a_second_fetch_brings_nothing(mirror, tmp_path):
    shown = []
    done = fetch("ptbdb", tmp_path / "db", base=mirror.url, on_progress=lambda *facts: shown.append(facts))
    assert_whole(mirror, tmp_path / "db")
    assert (done.n_files, done.n_fetched) == (11, 11)
    assert shown[-1] == ("fetch ptbdb", 11, 11)
    again = fetch("ptbdb", tmp_path / "db", base=mirror.url)
    assert (again.n_files, again.n_fetched, again.n_bytes) == (11, 0, 0)


@pytest.mark.parametrize("faults", [["cut"], ["cut", "cut", "503"], ["stall"], ["cut", "no ranges"], ["503", "503"]])
def test_what_cuts_and_stalls_goes_on_where_it_was(mirror, tmp_path, faults):
    mirror.faults[DATA] = list(faults)
    fetch("ptbdb", tmp_path / "db", base=mirror.url)
    assert_whole(mirror, tmp_path / "db")
    assert mirror.requests[DATA] == len(faults) + ("no ranges" not in faults)
    if "no ranges" not in faults:
        assert mirror.sent[DATA] == len(mirror.content[DATA])


def test_wrong_bytes_are_thrown_away_and_fetched_anew(mirror, tmp_path):
    mirror.faults[DATA] = ["corrupt", "cut"]
    fetch("ptbdb", tmp_path / "db", base=mirror.url)
    assert_whole(mirror, tmp_path / "db")


def test_file_that_keeps_coming_wrong_is_an_error_and_the_others_stay(mirror, tmp_path, monkeypatch):
    monkeypatch.setattr(ecgbatch.archive.fetch, "TRIES", 2)
    mirror.faults[DATA] = ["corrupt"] * 20
    with pytest.raises(OSError, match=rf"{DATA}: expected SHA-256 .* run the same command again"):
        fetch("ptbdb", tmp_path / "db", base=mirror.url, connections=1)
    assert not (tmp_path / "db" / DATA).exists()
    mirror.faults.clear()
    done = fetch("ptbdb", tmp_path / "db", base=mirror.url)
    assert_whole(mirror, tmp_path / "db")
    assert done.n_fetched < 11


def test_half_a_file_of_an_earlier_fetch_and_a_damaged_one_are_completed(mirror, tmp_path):
    folder = tmp_path / "db"
    (folder / "patient002").mkdir(parents=True)
    (folder / f"{DATA}.part").write_bytes(mirror.content[DATA][:250_000])
    (folder / "RECORDS").write_bytes(b"something else")
    fetch("ptbdb", folder, base=mirror.url)
    assert_whole(mirror, folder)
    assert mirror.sent[DATA] == len(mirror.content[DATA]) - 250_000


@pytest.mark.parametrize(
    "line", ["00 x", f"{'0' * 64} ../outside", f"{'0' * 64} /etc/passwd", "<html>not found</html>", f"{'z' * 64} RECORDS"]
)
def test_list_that_is_none_or_leads_outside_is_refused(mirror, tmp_path, line):
    mirror.content["SHA256SUMS.txt"] = f"{line}\n".encode()
    with pytest.raises(ValueError, match="line 1: expected a SHA-256 and a path below the folder"):
        fetch("ptbdb", tmp_path / "db", base=mirror.url)


def test_unknown_database_and_absent_mirror_are_named(mirror, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="ptbdb, ptbxl, mitdb"):
        fetch("afdb", tmp_path)
    monkeypatch.setattr(ecgbatch.archive.fetch, "TRIES", 1)
    del mirror.content["SHA256SUMS.txt"]
    with pytest.raises(OSError, match=r"SHA256SUMS\.txt: HTTPStatusError.*404"):
        fetch("ptbdb", tmp_path, base=mirror.url)
