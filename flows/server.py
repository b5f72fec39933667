"""A Prefect server for a schedule where none is named: on loopback, behind a password, without analytics; ends with its owner.

This module must not import Prefect: it tells Prefect, through the environment, which server to talk to.
"""

from __future__ import annotations

import atexit
import errno
import fcntl
import hashlib
import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

import httpx
import psutil

from flows.notify import notify
from storage import folder_at, is_address

log = logging.getLogger("ecgbatch")

START_S = 600
"""Seconds that a server may take until it answers; the first start, with a new database, takes 10 to 25 s on two cores, and
minutes where a batch system starts many at a time. One that ends is noticed at once."""

ASK_S = 30
"""Seconds that a server which is named, and so is said to be there, may take until it answers."""

LEAST_BYTES = 1 << 20
"""Free space below which Prefect's database cannot be made (0.7 MB), nor its log written."""

LOOK_EVERY_S = 1.0
"""How often it is looked whether our own server lives."""

MOST_RESTARTS, WITHIN_S = 5, 3600.0
"""A server that ends more often than that within so many seconds is given up."""

MARK = "ECGBATCH_SERVER_OF"
"""In the environment of a server of ours: the folder of its state, so that one that was left over is known again."""

WHY = {
    "Can't locate revision": "its database was written by a newer Prefect: install that one, or move the database away",
    "No space left on device": "the disk is full: make room there",
    "database or disk is full": "the disk is full: make room there",
    "readonly database": "its database cannot be written: see the rights of the folder",
    "unable to open database file": "its database cannot be opened: see the rights of the folder and its free space",
    "Read-only file system": "the folder is read-only: set XDG_STATE_HOME (and PREFECT_HOME, where it is set) to one that is not",
    "Permission denied": "the folder cannot be written: set XDG_STATE_HOME (and PREFECT_HOME, where it is set) to one that can",
    "password authentication failed": "the database of PREFECT_API_DATABASE_CONNECTION_URL refuses the password in it",
    "Connect call failed": "the database of PREFECT_API_DATABASE_CONNECTION_URL does not answer: start it, or name another",
    "database is locked": "another server uses its database: end that one",
}
"""What a server's log says when it cannot start, and what to do."""


def workspace_name(work: str) -> str:
    """Return the name of a workspace in Prefect: of its deployment, and of its limit of one run at a time."""
    place = str(folder_at(work)) if is_address(work) else str(Path(work).resolve())
    return f"ecgbatch-{hashlib.sha256(place.encode()).hexdigest()[:12]}"


def state_folder(work: str) -> Path:
    """Return the folder of a workspace's own Prefect server: ``~/.local/state/ecgbatch/<name>``; it may not exist yet.

    Raises
    ------
    OSError
        If this user has no home folder, and ``XDG_STATE_HOME`` names no other place.

    """
    try:
        home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    except RuntimeError:
        raise OSError("this user has no home folder: set XDG_STATE_HOME to a folder for the schedule's own state") from None
    return Path(home).absolute() / "ecgbatch" / workspace_name(work)  # nights have a folder of their own to work in


@contextmanager
def prefect_server(work: str, before_start: Callable[[], None] = lambda: None) -> Iterator[str]:
    """Yield the address of the Prefect server to use, and start one if ``PREFECT_API_URL`` names none.

    One that is started is started again when it ends by itself; it ends with this process, whatever ends that.

    Parameters
    ----------
    work
        Names the folder of the server's own state (``state_folder``): log, password (``auth``) and, unless
        ``PREFECT_API_DATABASE_CONNECTION_URL`` names a PostgreSQL database, an SQLite one.
    before_start
        Called when the environment names the server, so that Prefect may be imported, and before anything is started.

    Raises
    ------
    OSError
        If a server that is named does not answer as Prefect's, or wants a password; if our own does not start, or ends again
        and again; or if another process serves this workspace.

    """
    check_proxies()
    if url := os.environ.get("PREFECT_API_URL"):
        home_for_prefect()
        before_start()
        ask_server(url, os.environ.get("PREFECT_API_AUTH_STRING"), os.environ.get("PREFECT_API_KEY"))
        yield url
        return
    state = state_folder(work)
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        what = error.strerror or type(error).__name__
        raise OSError(f"{state}: cannot be made ({what}); set XDG_STATE_HOME to a folder for the schedule's own state") from None
    with _only_owner(state):
        os.environ.setdefault("PREFECT_HOME", str(state))
        home_for_prefect(state)
        auth = os.environ.get("PREFECT_SERVER_API_AUTH_STRING") or _password(state / "auth")
        server = OwnServer(state, free_port(), auth)
        os.environ |= {"PREFECT_API_URL": server.url, "PREFECT_API_AUTH_STRING": auth}
        before_start()
        if "PREFECT_API_DATABASE_CONNECTION_URL" not in os.environ:
            log.warning("the schedule keeps its history in SQLite; name a PostgreSQL database for more than one workspace")
        end_left_over(state)
        with server.kept(work):
            yield server.url


def ask_server(
    url: str,
    auth: str | None,
    key: str | None = None,
    *,
    named: str = "PREFECT_API_URL in the environment",
    without: str = "then the schedule starts a server of its own",
) -> str:
    """Return the version of the Prefect server at an address.

    Parameters
    ----------
    url, auth, key
        As Prefect's settings have them.
    named, without
        Where it is named, and what happens where none is: for messages.

    Raises
    ------
    OSError
        One sentence: which address, where it was named, what is wrong and what to do.

    """
    where = f"the Prefect server {without_password(url)} ({named})"
    advice = f"start it, or name none there: {without}"
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    login = None if auth is None else (auth.partition(":")[0], auth.partition(":")[2])
    try:
        answer = _asked(f"{url.rstrip('/')}/admin/version", login, headers)
    except (httpx.HTTPError, httpx.InvalidURL, ImportError) as error:
        raise OSError(f"{where} does not answer: {str(error) or type(error).__name__}; {advice}") from None
    if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        found = "wants a password" if auth is None and key is None else "refuses the password given"
        raise OSError(
            f"{where} {found} (answer {answer.status_code}): set PREFECT_API_AUTH_STRING to what its server has as "
            "PREFECT_SERVER_API_AUTH_STRING (of Prefect Cloud: PREFECT_API_KEY)"
        )
    if answer.is_server_error:
        raise OSError(
            f"{where} or what stands before it is in trouble itself (answer {answer.status_code}): its log says why (look "
            f"at its database first); mend it, or name none there: {without}"
        )
    try:
        version = answer.json() if answer.is_success else None
    except ValueError:
        version = None
    if not isinstance(version, str):
        raise OSError(
            f"{where} answers, but not as Prefect's (answer {answer.status_code} to /admin/version): expected an address that "
            f"ends with /api; {advice}"
        )
    return version


def _asked(url: str, login: tuple[str, str] | None, headers: dict[str, str]) -> httpx.Response:
    """Ask until there is an answer, or for so long that a server just started would have given one.

    An error of the server's own (500 to 599) is no answer yet: a gateway before one that starts says 502 or 503.
    """
    deadline, is_said = time.monotonic() + ASK_S, False
    while True:
        is_late = time.monotonic() > deadline
        try:
            answer = httpx.get(url, timeout=5, auth=login, headers=headers)
            if is_late or not answer.is_server_error:
                return answer
            found = f"answers {answer.status_code}"
        except httpx.TransportError as error:
            if is_late:
                raise
            found = f"does not answer: {str(error) or type(error).__name__}"
        if not is_said:
            log.warning("the Prefect server %s %s; it is asked again for %.0f s", without_password(url), found, ASK_S)
            is_said = True
        time.sleep(1)


def without_password(url: str) -> str:
    """Return an address without what stands before its host."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if "@" in rest else url


class OwnServer:
    """Prefect's server as a process of ours, on one port of loopback."""

    def __init__(self, state: Path, port: int, auth: str) -> None:
        self.state, self.url, self.output = state, f"http://127.0.0.1:{port}/api", state / "server.log"
        pages = self.url.removesuffix("/api")
        self.environment = os.environ | {"PREFECT_SERVER_API_AUTH_STRING": auth, "PREFECT_UI_API_URL": self.url}
        self.environment |= {MARK: str(state), "PREFECT_HOME": os.environ.get("PREFECT_HOME", str(state))}
        self.environment.setdefault("PREFECT_SERVER_CORS_ALLOWED_ORIGINS", pages)  # its own pages; all, by default
        if not {"PREFECT_UI_STATIC_DIRECTORY", "PREFECT_SERVER_UI_STATIC_DIRECTORY"} & set(os.environ):
            # By default they are written into the installed package, where another user may not read them, nor write.
            self.environment["PREFECT_SERVER_UI_STATIC_DIRECTORY"] = str(state / "pages")
        start = ["server", "start", "--host", "127.0.0.1", "--port", str(port)]
        self.command = [sys.executable, "-P", str(Path(__file__).with_name("tied.py")), *start]
        self.process: subprocess.Popen[bytes] | None = None
        self.over, self.given_up, self.why = threading.Event(), "", ""

    def start(self) -> None:
        """Start the process and wait until it answers; one server at a time makes or upgrades the database of one home."""
        home = Path(self.environment["PREFECT_HOME"])
        with ExitStack() as stack:
            with suppress(OSError):  # where no file can be locked, the server itself will say what is wrong
                lock = stack.enter_context((home / "ecgbatch-start.lock").open("ab"))
                fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                output = stack.enter_context(self.output.open("ab"))
            except OSError as error:
                raise OSError(f"{self.output}: {error.strerror}; set XDG_STATE_HOME to a folder that can be written") from None
            begins = output.tell()
            self.process = subprocess.Popen(  # noqa: S603
                self.command, env=self.environment, stdin=subprocess.PIPE, stdout=output, stderr=output, cwd=self.state,
                start_new_session=True,
            )  # fmt: skip
            self._wait_until_healthy(begins)

    def _wait_until_healthy(self, begins: int) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self.process is not None and self.process.poll() is None:
            with suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/health", timeout=2).status_code == httpx.codes.OK:
                    return
            if self.over.wait(0.5):
                return
        with self.output.open("rb") as said:
            said.seek(begins)
            why = reason_in(said.read().decode(errors="replace")) or self._out_of_room()
        self.why = why.removeprefix(": ")
        raise OSError(f"expected Prefect's own server here to answer at {self.url}; it did not{why}; see {self.output}")

    def _out_of_room(self) -> str:
        """Return which disk is full: on one that is, a server's log cannot say so."""
        folders = (self.state, Path(self.environment["PREFECT_HOME"]), Path(tempfile.gettempdir()))
        full = next((folder for folder in folders if shutil.disk_usage(folder).free < LEAST_BYTES), None)
        return "" if full is None else f": the disk of {full} is full: make room there"

    @contextmanager
    def kept(self, work: str) -> Iterator[None]:
        """Keep the server alive while the block runs; ``OSError`` in the end if it could not be."""
        self.start()
        watch = threading.Thread(target=self._watch, args=(work,), name="ecgbatch-server", daemon=True)
        watch.start()
        try:
            yield
        except BaseException:
            if self.given_up:
                raise OSError(self.given_up) from None
            raise
        finally:
            self.over.set()
            watch.join(timeout=5)
            self.stop()

    def _watch(self, work: str) -> None:
        ends: list[float] = []
        while not self.over.wait(LOOK_EVERY_S):
            if self.process is None or self.process.poll() is None:
                continue
            ends = [at for at in ends if time.monotonic() - at < WITHIN_S] + [time.monotonic()]
            log.warning("Prefect's server of this schedule ended (code %s); it is started again", self.process.returncode)
            try:
                self._start_again(len(ends))
            except OSError as error:
                self.given_up = f"{error}. The schedule has ended: no night comes until the same command is started again"
                notify("failed", self.given_up, {"work": work})
                os.kill(os.getpid(), signal.SIGTERM)  # an orderly end: the night at work is told too
                return

    def _start_again(self, n_ends: int) -> None:
        if n_ends > MOST_RESTARTS:
            raise OSError(f"Prefect's server of the schedule ended {n_ends} times within an hour; see {self.output}")
        self.start()

    def stop(self) -> None:
        """End the process."""
        if self.process is None:
            return
        with suppress(ProcessLookupError):
            self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()


def reason_in(said: str) -> str:
    """Return why a server did not start, from what it said, with what to do; empty if it is none that we know."""
    found = next((f": {advice}" for words, advice in WHY.items() if words in said), "")
    return found or next((f": {line.strip()[:300]}" for line in reversed(said.splitlines()) if "Error" in line), "")


@contextmanager
def _only_owner(state: Path) -> Iterator[None]:
    """Hold a schedule's state while the block runs; the hold ends with the process, whatever ends it."""
    with _opened_lock(state / "owner.lock") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise OSError(
                f"this workspace has a schedule already (process {lock.read().strip() or '?'}): stop that one first"
            ) from None
        with _in_words(state):
            lock.truncate(0)
            os.write(lock.fileno(), str(os.getpid()).encode())  # at once: what waits in a buffer fails a second time at its end
        yield


@contextmanager
def _in_words(state: Path) -> Iterator[None]:
    """Name the folder in an error of the disk that does not."""
    try:
        yield
    except OSError as error:
        raise OSError(
            f"{state}: {error.strerror or error}; make room there, or set XDG_STATE_HOME to a folder for the schedule's own state"
        ) from None


def check_proxies() -> None:
    """Refuse a proxy that Prefect's clients, which are made with it whatever they ask, would fail at.

    Raises
    ------
    ValueError
        In one sentence, without what may be a password.

    """
    try:
        httpx.Client().close()
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        named = sorted(name for name in os.environ if name.lower() in PROXIES and os.environ[name])
        raise ValueError(
            f"{', '.join(named)}: expected proxies as http://host:port or socks5://host:port, and hosts in no_proxy, found: "
            f"{error}. Set them right, or unset them, for this command"
        ) from None


PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def home_for_prefect(place: Path | None = None) -> None:
    """Give a user who has no home one, which Prefect asks for when it is imported: that folder, or one that ends with us.

    It must not be a folder that others can write to: Prefect reads there which server to trust.
    """
    try:
        Path.home()
    except RuntimeError:
        if place is None:
            place = Path(tempfile.mkdtemp(prefix="ecgbatch-home-"))
            atexit.register(shutil.rmtree, place, ignore_errors=True)
        os.environ["HOME"] = str(place)


def _opened_lock(path: Path) -> IO[str]:
    try:
        return path.open("a+")
    except OSError as error:
        what = error.strerror or errno.errorcode.get(error.errno or 0, "?")
        raise OSError(f"{path}: {what}; set XDG_STATE_HOME to a folder that can be written") from None


def end_left_over(state: Path) -> int:
    """End servers of this state that their owner, who is gone, left behind; return how many those were.

    Those of versions before the mark are known by their home, which is this folder and so nobody else's.
    """
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            words = process.cmdline()
            if process.pid == os.getpid() or "server" not in words or "start" not in words:
                continue
            environment = process.environ()
            if str(state) in (environment.get(MARK), environment.get("PREFECT_HOME")):
                process.terminate()
                found.append(process)
    _, alive = psutil.wait_procs(found, timeout=10)
    for process in alive:
        with suppress(psutil.Error):
            process.kill()
    if found:
        log.warning("%d Prefect server(s) left over by an earlier schedule of this workspace were ended", len(found))
    return len(found)


def _password(path: Path) -> str:
    """Return the server's password, made once and kept where only its owner reads it."""
    with _in_words(path.parent):
        if not path.exists() or not path.stat().st_size:  # begun on a disk that was full
            path.unlink(missing_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(f"ecgbatch:{secrets.token_urlsafe(24)}")
        return path.read_text()


def free_port() -> int:
    """Return a port of loopback that nobody listens at now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
