"""A Prefect server for a schedule where none is named: on loopback, behind a password, without analytics; ends with its owner.

This module must not import Prefect: it tells Prefect, through the environment, which server to talk to.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from storage import folder_at, is_address

log = logging.getLogger("ecgbatch")

START_S = 180
"""Seconds that a server may take until it answers; the first start, with a new database, takes 10 to 25 s on two cores."""


def workspace_name(work: str) -> str:
    """Return the name of a workspace in Prefect: of its deployment, and of its limit of one run at a time."""
    place = str(folder_at(work)) if is_address(work) else str(Path(work).resolve())
    return f"ecgbatch-{hashlib.sha256(place.encode()).hexdigest()[:12]}"


@contextmanager
def prefect_server(work: str) -> Iterator[str]:
    """Yield the address of the Prefect server to use, and start one if ``PREFECT_API_URL`` names none.

    Parameters
    ----------
    work
        Names the folder of the server's own state (``~/.local/state/ecgbatch/<name>``): log, password (``auth``) and, unless
        ``PREFECT_API_DATABASE_CONNECTION_URL`` names a PostgreSQL database, an SQLite one.

    Raises
    ------
    OSError
        If the server does not answer in time; its log says why.

    """
    if os.environ.get("PREFECT_API_URL"):
        yield os.environ["PREFECT_API_URL"]
        return
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "ecgbatch" / workspace_name(work)
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    if "PREFECT_API_DATABASE_CONNECTION_URL" not in os.environ:
        log.warning("the schedule keeps its history in SQLite; name a PostgreSQL database for more than one workspace")
    os.environ.setdefault("PREFECT_HOME", str(state))
    auth = os.environ.get("PREFECT_SERVER_API_AUTH_STRING") or _password(state / "auth")
    port = _free_port()
    url = f"http://127.0.0.1:{port}/api"
    environment = os.environ | {"PREFECT_SERVER_API_AUTH_STRING": auth, "PREFECT_UI_API_URL": url}
    environment.setdefault("PREFECT_SERVER_CORS_ALLOWED_ORIGINS", url.removesuffix("/api"))  # its own pages; all, by default
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with (state / "server.log").open("ab") as output:
        server = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)  # noqa: S603
    try:
        _wait_until_healthy(url, server, state / "server.log")
        os.environ |= {"PREFECT_API_URL": url, "PREFECT_API_AUTH_STRING": auth}
        yield url
    finally:
        server.terminate()
        try:
            server.wait(timeout=10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _password(path: Path) -> str:
    """Return the server's password, made once and kept where only its owner reads it."""
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"ecgbatch:{secrets.token_urlsafe(24)}")
    return path.read_text()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait_until_healthy(url: str, server: subprocess.Popen[bytes], output: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if httpx.get(f"{url}/health", timeout=2).status_code == httpx.codes.OK:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.5)
    raise OSError(f"expected Prefect's server to answer at {url} within {START_S} s; it did not, see {output}")
