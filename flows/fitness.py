"""Whether a Dask worker may make shards: it must have this very code, and see the files that the client sees.

What a client asks travels with each task, and each worker process looks once; a worker that differs refuses, which is an error
of the machinery, never a verdict on a record.
"""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ecgbatch import __version__

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("ecgbatch", "flows", "storage")

LIBRARIES = ("numba", "numcodecs", "numpy", "scipy", "torch", "wfdb", "zarr")
"""Those whose versions stand in stores: what they compute goes in there."""

WITNESSES = 3
"""Files of a folder by which a worker shows that it sees the same one, not another's or an empty mount point."""


class OtherCode(ValueError):
    """A worker has another ecgbatch, or other libraries, than the client."""


class UnseenPlace(OSError):
    """A worker does not see a folder that the client sees."""


@dataclass(frozen=True)
class Passport:
    """What a worker must match: ``made_by`` {what: version or digest} as pairs, ``places`` as pairs of a path and witnesses."""

    made_by: tuple[tuple[str, str], ...]
    places: tuple[tuple[str, tuple[tuple[str, int], ...]], ...] = ()


@cache
def made_by() -> tuple[tuple[str, str], ...]:
    """Return who makes shards in this process: the version, a digest of all of our code, and versions of libraries."""
    digest = hashlib.sha256()
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        digest.update(f"{path.relative_to(ROOT).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    found = {"ecgbatch": __version__, "code": digest.hexdigest()[:16]}
    return tuple({**found, **{name: _version(name) for name in LIBRARIES}}.items())


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


def passport(sees: Sequence[str] = ()) -> Passport:
    """Return what workers must match: this code, and a few files of each local folder that they must see as this process does."""
    return Passport(made_by(), tuple((place, _witnesses(place)) for place in sees))


def _witnesses(place: str) -> tuple[tuple[str, int], ...]:
    """Return a few regular files directly in a folder, or one folder deeper, and their sizes: those of the first names."""
    found: list[tuple[str, int]] = []
    for folder, subfolders, names in os.walk(place):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))[:WITNESSES]
        for name in sorted(names)[: 4 * WITNESSES]:
            path = Path(folder, name)
            if not name.startswith(".") and path.is_file() and not path.is_symlink() and name.endswith(STEADY):
                found.append((path.relative_to(place).as_posix(), path.stat().st_size))
                if len(found) == WITNESSES:
                    return tuple(found)
        if len(Path(folder).relative_to(place).parts) >= 2:
            subfolders[:] = []
    return tuple(found)


STEADY = (".hea", ".dat", ".edf", ".dcm", ".xml", ".scp", "zarr.json")
"""Ends of names of files that no command writes twice while it runs."""


@lru_cache(maxsize=64)
def admit(wanted: Passport) -> str:
    """Return this worker's name if it matches.

    Raises
    ------
    OtherCode, UnseenPlace
        Naming this worker, what differs, and what to do.

    """
    me = f"{_worker_name()} on {socket.gethostname()}"
    own = dict(made_by())
    other = [f"{what} {own.get(what, 'none')}, expected {value}" for what, value in wanted.made_by if own.get(what) != value]
    if other:
        raise OtherCode(
            f"the Dask worker {me} has another ecgbatch than this command: {'; '.join(other)}. Nothing was made by it. "
            "Install the same there (or build the image anew) and start it again"
        )
    for place, witnesses in wanted.places:
        problem = _unlike(Path(place), witnesses)
        if problem:
            raise UnseenPlace(
                f"the Dask worker {me} does not see {place} as this machine does: {problem}. Nothing was said of any record. "
                "Mount it there under the same path, then run the same command again"
            )
    return me


def _worker_name() -> str:
    from distributed import get_worker

    try:
        return str(get_worker().address)
    except ValueError:
        return f"process {os.getpid()}"


def _unlike(place: Path, witnesses: Sequence[tuple[str, int]]) -> str:
    try:
        if not place.is_dir():
            return "there is no such folder"
        next(place.iterdir(), None)
        for name, n_bytes in witnesses:
            if not (place / name).is_file():
                return f"{name} is not there"
            if (place / name).stat().st_size != n_bytes:
                return f"{name} has {(place / name).stat().st_size} bytes, expected {n_bytes}"
    except OSError as error:
        return f"{error.strerror or error}"
    return ""


def what_is_lacking(address: str, error: BaseException) -> Exception:
    """Return the error of a worker that could not even be asked: it has no ecgbatch, or one of before this question."""
    if isinstance(error, OtherCode | UnseenPlace):
        return error
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in PACKAGES and "." not in str(error.name):
        found = f"has no ecgbatch ({error})"
    elif isinstance(error, ImportError | AttributeError | TypeError):
        found = f"has another ecgbatch than this command ({type(error).__name__}: {error})"
    else:
        return OSError(f"the Dask worker {address} does not answer: {type(error).__name__}: {error}")
    return OtherCode(
        f"the Dask worker {address} {found}: install the same there as here (make install, or the image), and start it again"
    )


def examine(client: Any, wanted: Passport, workers: Sequence[str]) -> None:
    """Ask workers that are there whether they match; raise the first one's refusal. One that is gone meanwhile is none."""
    answers = client.run(admit, wanted, workers=list(workers), on_error="return")
    for address, answer in answers.items():
        if isinstance(answer, BaseException):
            refusal = what_is_lacking(address, answer)
            if isinstance(refusal, OtherCode | UnseenPlace):
                raise refusal from None
