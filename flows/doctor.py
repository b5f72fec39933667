"""What a night needs, looked at beforehand: each finding says what is there, what is wrong, and what to do.

Nothing is left behind, and nothing of a record is read: disk, home, Prefect's address, proxies, Dask workers, bucket, clock,
certificates, model, room.
"""

from __future__ import annotations

import errno
import os
import shutil
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from ecgbatch.model.definition import ModelError
from ecgbatch.model.files import load_model, shipped_model
from ecgbatch.settings import LOOPBACK, Settings, load_settings
from flows.chosen import NamedServer, named_server
from flows.server import ask_server, check_proxies, state_folder, without_password
from storage import cache_folder, folder_at, is_address

CLOCK_S = 300.0
"""A clock that is off by more is refused by services that sign requests."""

SOON_DAYS = 14.0
"""A certificate that ends within so many days is worth a word."""

ROOM_BYTES = 2 << 30
"""Free space below which a night is likely to end for want of it, where the archive's size is not known."""

GOOD, WARNING, BAD = "good", "warning", "bad"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: ``of``, ``state`` (good, warning or bad), what was ``found``, and what to ``do`` about it."""

    of: str
    state: str
    found: str
    do: str = ""

    def document(self) -> dict[str, str]:
        """Return it for JSON and tables."""
        return asdict(self)

    def sentence(self) -> str:
        """Return it as one line."""
        return f"{self.of}: {self.found}{f'; {self.do}' if self.do else ''}"


def examine_night(
    archive: str | None, work: str | None, *, dask: str | None = None, model: str | None = None, schedules: bool = True
) -> list[Finding]:
    """Look at all that a night needs; never raises for what it finds.

    Parameters
    ----------
    archive, work
        Places, where known: folders or ``s3://`` addresses.
    dask, model
        As ``run`` takes them; default as the settings say.
    schedules
        Whether Prefect's server matters.

    """
    settings = load_settings(dask=dask, model=model)
    looks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("home", _home),
        ("proxies", _proxies),
        ("model", lambda: _model(settings)),
    ]
    if schedules:
        looks.append(("Prefect", lambda: _prefect(work)))
    if archive is not None:
        looks.append(("archive", lambda: _archive(archive)))
    if work is not None:
        looks.append(("workspace", lambda: _bucket(work) if is_address(work) else _disk(Path(work), archive)))
    if settings.dask is not None:
        looks.append(("Dask", lambda: _dask(settings, archive, work)))
    found = []
    for of, look in looks:
        try:
            for finding in look():  # what was found before something fails is kept
                found.append(finding)
        except (OSError, ValueError, ModelError) as error:
            found.append(Finding(of, BAD, str(error)))
    return found


def _home() -> Iterator[Finding]:
    try:
        home = Path.home()
    except RuntimeError:
        yield Finding("home", WARNING, "this user has none", "caches go to TMPDIR; set XDG_STATE_HOME for a schedule's own state")
    else:
        is_writable = os.access(home, os.W_OK | os.X_OK)
        yield Finding("home", GOOD if is_writable else WARNING, f"{home}{'' if is_writable else ' cannot be written'}")
    cache = cache_folder()
    there = next(folder for folder in (cache, *cache.parents) if folder.exists())
    yield _room("cache", there, 64 << 20, "or set XDG_CACHE_HOME to a folder elsewhere")


def _proxies() -> Iterator[Finding]:
    named = {name: os.environ[name] for name in os.environ if name.lower() in ("http_proxy", "https_proxy", "all_proxy")}
    if not named:
        yield Finding("proxies", GOOD, "none named")
        return
    try:
        check_proxies()
    except ValueError as error:
        yield Finding("proxies", BAD, str(error), "webhook, fetch and Prefect cannot use them")
        return
    passed = [host.strip() for host in os.environ.get("no_proxy", "").split(",")]
    is_passed = "*" in passed or set(LOOPBACK) <= set(passed)
    yield Finding("proxies", GOOD if is_passed else WARNING, f"{', '.join(sorted(named))} used, except for {', '.join(passed)}")


def _model(settings: Settings) -> Iterator[Finding]:
    folder = settings.model or shipped_model()
    yield Finding("model", GOOD, f"{Path(folder).name}, digest {load_model(folder).digest[:20]}")


def _prefect(work: str | None) -> Iterator[Finding]:
    server = named_server()
    if server is not None:
        yield _answering(server)
    elif work is None:
        yield Finding("Prefect", GOOD, "no server named: a schedule starts its own")
    if work is not None and not os.environ.get("PREFECT_API_URL"):  # a profile's server is for runs: a schedule heeds none
        yield _own_state(work)


def _answering(server: NamedServer) -> Finding:
    there, here = ask_server(server.url, server.auth, server.key, named=server.named), version("prefect")
    is_same = there.split(".")[:2] == here.split(".")[:2]
    do = "" if is_same else "install the same minor version on both sides"
    told = f"{without_password(server.url)} answers, version {there}, here {here}"
    return Finding("Prefect", GOOD if is_same else WARNING, told, do)


def _own_state(work: str) -> Finding:
    state = state_folder(work)
    there = next(folder for folder in (state, *state.parents) if folder.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        return Finding("Prefect", BAD, f"{there} cannot be written", "set XDG_STATE_HOME to a folder that can")
    return _room("Prefect's own state", there, 256 << 20, "or set XDG_STATE_HOME to a folder elsewhere")


def _archive(archive: str) -> Iterator[Finding]:
    if is_address(archive):
        names = folder_at(archive).children()
        yield Finding("archive", GOOD if names else BAD, f"{archive}: {len(names)} names", "" if names else "nothing is there")
        return
    place = Path(archive)
    if not place.is_dir():
        yield Finding("archive", BAD, f"{archive}: no such folder", "mount it")
        return
    try:
        is_empty = next(place.iterdir(), None) is None
    except OSError as error:
        yield Finding("archive", BAD, f"{archive}: {error.strerror}", "give this user the right to read it")
        return
    yield Finding("archive", BAD if is_empty else GOOD, archive, "it is empty: is it mounted?" if is_empty else "")


def _disk(work: Path, archive: str | None) -> Iterator[Finding]:
    there = next(folder for folder in (work, *work.parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        yield Finding("workspace", BAD, f"{there} cannot be written", "give this user the right, or name another folder")
        return
    probe = there / f".ecgbatch-doctor-{os.getpid()}-{os.urandom(4).hex()}"
    try:
        probe.mkdir(mode=0o700)
        began = time.perf_counter()
        with (probe / "file").open("xb") as file:
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())
        synced_ms = 1000 * (time.perf_counter() - began)
        links = [name for name, make in (("hard", os.link), ("symbolic", os.symlink)) if _can(make, probe / "file", probe / name)]
        yield Finding("workspace", GOOD, f"{there}: written and synced in {synced_ms:.0f} ms")
        missing = {"hard", "symbolic"} - set(links)
        do = f"no {' and no '.join(sorted(missing))} links here: copies and a small file take their place" if missing else ""
        yield Finding("links", WARNING if missing else GOOD, ", ".join(links) or "none", do)
    except OSError as error:
        yield Finding("workspace", BAD, f"{there}: {error.strerror or error}", "make room, or mount it for writing")
    finally:
        shutil.rmtree(probe, ignore_errors=True)
    wanted = _wanted_bytes(archive)
    yield _room("room", there, wanted, f"for {wanted / 1e9:.1f} GB if all of it is new (run --dry-run says how much)")


def _can(make: Callable[[Path, Path], None], source: Path, target: Path) -> bool:
    try:
        make(source, target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        return False
    return True


def _wanted_bytes(archive: str | None) -> int:
    """Return the room that a first night takes at most: twice the archive's files, whose samples are stored packed."""
    if archive is None or is_address(archive) or not Path(archive).is_dir():
        return ROOM_BYTES
    n_bytes = 0
    for folder, _, names in os.walk(archive):
        for name in names:
            with suppress(OSError):
                n_bytes += Path(folder, name).stat().st_size
    return 2 * n_bytes


def _room(of: str, folder: Path, wanted: int, otherwise: str) -> Finding:
    free = shutil.disk_usage(folder).free
    is_enough = free >= wanted
    told = f"{free / 1e9:.1f} GB free at {folder}" if free >= 1e8 else f"{free / 1e6:.1f} MB free at {folder}"
    return Finding(of, GOOD if is_enough else WARNING, told, "" if is_enough else f"make room there, {otherwise}")


def _bucket(work: str) -> Iterator[Finding]:
    from storage.bucket import is_conditional
    from storage.bucket_access import access

    place: Any = folder_at(work)
    names = place.children()
    yield Finding("workspace", GOOD, f"{place}: {len(names)} names")
    conditional = is_conditional(place.bucket, place.prefix)
    do = "" if conditional else "run one command at a time in this workspace: the service cannot keep two apart"
    yield Finding("conditional writes", GOOD if conditional else WARNING, "offered" if conditional else "not offered", do)
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or access().get("AWS_ENDPOINT_URL", "")
    if endpoint:
        yield from _clock(endpoint)
        yield from _certificate(endpoint)


def _clock(endpoint: str) -> Iterator[Finding]:
    with suppress(httpx.HTTPError, ImportError, KeyError, ValueError):
        told = parsedate_to_datetime(httpx.head(endpoint, timeout=10).headers["Date"])
        off = abs((datetime.now(UTC) - told).total_seconds())
        is_right = off < CLOCK_S
        yield Finding("clock", GOOD if is_right else BAD, f"{off:.0f} s from the service's", "" if is_right else "set this clock")


def _certificate(endpoint: str) -> Iterator[Finding]:
    parts = urlsplit(endpoint)
    if parts.scheme != "https":
        return
    import socket

    try:
        with (
            socket.create_connection((parts.hostname or "", parts.port or 443), timeout=10) as plain,
            ssl.create_default_context().wrap_socket(plain, server_hostname=parts.hostname) as secure,
        ):
            ends = str((secure.getpeercert() or {})["notAfter"])
    except OSError as error:
        yield Finding("certificate of the service", BAD, str(error), "renew it, or name its authority (SSL_CERT_FILE)")
        return
    yield _ends("certificate of the service", datetime.fromtimestamp(ssl.cert_time_to_seconds(ends), UTC))


def _ends(of: str, ends: datetime) -> Finding:
    days = (ends - datetime.now(UTC)).total_seconds() / 86400
    state = BAD if days < 0 else WARNING if days < SOON_DAYS else GOOD
    return Finding(of, state, f"{'ended' if days < 0 else 'ends'} {ends:%Y-%m-%d}", "" if state == GOOD else "renew it")


def _dask(settings: Settings, archive: str | None, work: str | None) -> Iterator[Finding]:
    from cryptography import x509

    from flows.cluster import engine

    for name in ("tls_ca_file", "tls_cert"):
        path = getattr(settings, name)
        if path is not None and path.is_file():
            certificate = x509.load_pem_x509_certificate(path.read_bytes())
            yield _ends(f"certificate {path}", certificate.not_valid_after_utc)
    sees = [place for place in (archive, work) if place is not None and not is_address(place)]
    with engine(settings.dask, sees=sees) as on_cluster:
        n_workers = on_cluster.workers()
        do = "" if n_workers else f"they must come within {settings.wait_for_workers_s:g} s of a night's first task"
        told = f"{settings.dask}: {n_workers} workers, of this very code, that see archive and workspace"
        yield Finding("Dask", GOOD if n_workers else WARNING, told if n_workers else f"{settings.dask}: no worker now", do)
