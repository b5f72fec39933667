"""Fetch a database of PhysioNet, or of a mirror of the same layout: parallel, resumable, every file checked by its SHA-256."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import httpx

from ecgbatch.formats.files import check_record_name
from ecgbatch.formats.header import UnreadableRecord
from ecgbatch.terms import MOST_SUMS_BYTES, SUMS_FILE

DATABASES = {"ptbdb": "ptbdb/1.0.0", "ptbxl": "ptb-xl/1.0.3", "mitdb": "mitdb/1.0.0"}
"""Name to folder below ``PHYSIONET``: the version is part of it."""

PHYSIONET = "https://physionet.org/files"
SILENCE_S = 30.0
"""Without a byte for this long a connection counts as dead, and the file goes on from where it is."""
TRIES = 6
"""Of one file, in a row without a byte gained; then the command fails, and goes on from there when it is repeated."""
PART = ".part"
"""Suffix of a file on its way; never taken for a finished one."""


@dataclass(frozen=True)
class Fetched:
    """What ``fetch`` did."""

    folder: str
    n_files: int
    n_fetched: int
    n_bytes: int
    """Bytes that came over the network."""


def fetch(
    database: str,
    destination: str | Path,
    *,
    base: str | None = None,
    connections: int = 4,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Fetched:
    """Download a database into ``destination``; what is there and right stays, what is half there goes on.

    Parameters
    ----------
    database
        A name of ``DATABASES``.
    base
        Address of the folder that holds ``SHA256SUMS.txt``; default PhysioNet's.
    connections
        Files at a time.
    on_progress
        Called with (what, files done, files in all).

    Raises
    ------
    ValueError
        If there is no such database, or the list of digests is not one, or names a file outside the folder.
    OSError
        If a file cannot be had, or keeps coming with another digest; all others are kept.

    """
    if database not in DATABASES:
        raise ValueError(f"expected a database of {', '.join(DATABASES)}, found {database!r}")
    folder = Path(destination)
    folder.mkdir(parents=True, exist_ok=True)
    source = (base or f"{PHYSIONET}/{DATABASES[database]}").rstrip("/")
    limits = httpx.Limits(max_connections=connections)
    with httpx.Client(timeout=SILENCE_S, limits=limits, follow_redirects=True) as client:
        job = _Job(client, source, folder, Event())
        sums = _sums(job)
        done, n_bytes, n_fetched = 0, 0, 0
        with ThreadPoolExecutor(connections) as pool:
            waiting = {pool.submit(_fetch_one, job, name, digest) for name, digest in sums.items()}
            try:
                while waiting:
                    finished, waiting = wait(waiting, timeout=1, return_when=FIRST_EXCEPTION)
                    for future in finished:
                        came = future.result()
                        done, n_bytes, n_fetched = done + 1, n_bytes + came, n_fetched + (came > 0)
                    if on_progress:
                        on_progress(f"fetch {database}", done, len(sums))
            except BaseException:
                job.stop.set()
                pool.shutdown(cancel_futures=True)
                raise
    return Fetched(str(folder), len(sums), n_fetched, n_bytes)


@dataclass(frozen=True)
class _Job:
    client: httpx.Client
    source: str
    folder: Path
    stop: Event


def _sums(job: _Job) -> dict[str, str]:
    """Return file name to SHA-256, as the list of the database has them; the list is fetched anew each time."""
    path = job.folder / SUMS_FILE
    path.unlink(missing_ok=True)
    (job.folder / f"{SUMS_FILE}{PART}").unlink(missing_ok=True)
    _fetch_one(job, SUMS_FILE, None)
    if path.stat().st_size > MOST_SUMS_BYTES:
        raise ValueError(f"{job.source}/{SUMS_FILE}: expected a list of digests, found {path.stat().st_size} bytes")
    sums = {}
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        digest, _, name = line.partition(" ")
        name = name.strip().removeprefix("*").removeprefix("./")
        if not line.strip():
            continue
        try:
            check_record_name(name)
            is_whole = len(bytes.fromhex(digest)) == hashlib.sha256().digest_size
        except (UnreadableRecord, ValueError):
            is_whole = False
        if not is_whole:
            raise ValueError(
                f"{job.source}/{SUMS_FILE}, line {number}: expected a SHA-256 and a path below the folder, found {line[:80]!r}"
            )
        sums[name] = digest.lower()
    if not sums:
        raise ValueError(f"{job.source}/{SUMS_FILE}: expected a list of digests, found none; is this the folder of a database?")
    return sums


def _fetch_one(job: _Job, name: str, digest: str | None) -> int:
    """Bring one file, if it is not there already; return the bytes that came."""
    target, part = job.folder / name, job.folder / f"{name}{PART}"
    if digest is not None and _sha256(target) == digest:
        return 0
    target.parent.mkdir(parents=True, exist_ok=True)
    came, failures, said = 0, 0, ""
    while failures < TRIES and not job.stop.is_set():
        if failures:
            job.stop.wait(min(8.0, 0.25 * 2**failures))
        before = came
        try:
            for length in _receive(job, name, part):
                came += length
        except (httpx.HTTPError, OSError) as error:
            said = f"{type(error).__name__}: {error}"
            failures = 1 if came > before else failures + 1
            continue
        found = _sha256(part)
        if digest is None or found == digest:
            _publish(part, target)
            return came
        part.unlink()  # wrong bytes are no start to go on from
        said = f"expected SHA-256 {digest}, found {found}"
        failures += 1
    raise OSError(f"{job.source}/{name}: {said or 'stopped'}; run the same command again to go on")


def _receive(job: _Job, name: str, part: Path) -> Iterator[int]:
    """Append what is missing of a file; yield the length of each piece that came."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={have}-", "Accept-Encoding": "identity"} if have else {"Accept-Encoding": "identity"}
    with job.client.stream("GET", f"{job.source}/{name}", headers=headers) as answer:
        if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # all of it, or more, is here: the digest decides
        answer.raise_for_status()
        is_rest = answer.status_code == httpx.codes.PARTIAL_CONTENT and _starts_at(answer, have)
        with part.open("ab" if is_rest else "wb") as file:
            for piece in answer.iter_raw():
                if job.stop.is_set():
                    raise OSError("stopped")
                file.write(piece)
                yield len(piece)
            file.flush()
            os.fsync(file.fileno())


def _starts_at(answer: httpx.Response, start: int) -> bool:
    return str(answer.headers.get("Content-Range", "")).startswith(f"bytes {start}-")


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""


def _publish(part: Path, target: Path) -> None:
    part.replace(target)
    descriptor = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
