"""A Prefect server for one command: in the user's own Prefect home where that can be had, else in a folder that goes with it.

This module must not import Prefect: it tells Prefect, through the environment, which server to talk to.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from flows.server import OwnServer, free_port, home_for_prefect

log = logging.getLogger("ecgbatch")

LOCK = "ecgbatch-command.lock"
"""In a Prefect home: held by the one command at a time whose server has the database there."""

OURS = ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "PREFECT_HOME", "PREFECT_PROFILES_PATH", "HOME")


@contextmanager
def server_of_one_command(home: Path | None) -> Iterator[str]:
    """Yield the address of a server on loopback, with a password of its own; it ends with the block, or with this process.

    The history of the run is kept in the user's Prefect home. Where that cannot be (it is not there to be written, is full, was
    written by a newer Prefect, or another command's server has it), this is said, and the history goes with the command.

    Parameters
    ----------
    home
        Prefect's home of this user; None: there is none.

    Raises
    ------
    OSError
        If a server does not start in a folder of its own either.

    """
    before = {name: os.environ.get(name) for name in OURS}
    place = Path(tempfile.mkdtemp(prefix="ecgbatch-prefect-"))
    try:
        with ExitStack() as stack:
            server, why = _started(stack, place, home) if home is not None else (None, "this user has no home folder")
            if server is None:
                log.warning("Prefect's history of this run is not kept: %s", why)
                server = _server(place, place / "home", home)
                stack.callback(server.stop)
                _start(server)
            yield server.url
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            os.environ |= {} if value is None else {name: value}
        shutil.rmtree(place, ignore_errors=True)


def _start(server: OwnServer) -> None:
    try:
        server.start()
    except OSError as error:
        why = server.why or error
        raise OSError(f"Prefect's server for this command did not start ({why}). Without --prefect it runs without one") from None


def _started(stack: ExitStack, place: Path, home: Path) -> tuple[OwnServer | None, str]:
    """Return a server that keeps its history in the user's home; else None, and why there is none."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        held = stack.enter_context((home / LOCK).open("ab"))
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None, f"another command has the database in {home} just now"
    except OSError as error:
        return None, f"{home} cannot be written ({error.strerror or error})"
    server = _server(place, home, None)
    stack.callback(server.stop)
    try:
        server.start()
    except OSError as error:
        server.stop()
        return None, f"{home}: {server.why or error}"
    return server, ""


def _server(place: Path, home: Path, profiles_in: Path | None) -> OwnServer:
    """Return a server, not started yet, whose address and password Prefect finds in the environment."""
    home.mkdir(mode=0o700, exist_ok=True)
    os.environ["PREFECT_HOME"] = str(home)
    if profiles_in is not None and os.access(profiles_in / "profiles.toml", os.R_OK):
        os.environ.setdefault("PREFECT_PROFILES_PATH", str(profiles_in / "profiles.toml"))
    home_for_prefect(home)
    auth = os.environ.get("PREFECT_SERVER_API_AUTH_STRING") or f"ecgbatch:{secrets.token_urlsafe(24)}"
    server = OwnServer(place, free_port(), auth)
    server.environment["PREFECT_SERVER_UI_ENABLED"] = "false"  # nobody looks at it for so short a time
    os.environ |= {"PREFECT_API_URL": server.url, "PREFECT_API_AUTH_STRING": auth}
    return server
