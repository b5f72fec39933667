"""Whether a Dask worker may make shards: it must have this very code, and see the files that the client sees.

What a client asks travels with each task, and each worker process looks once; a worker that differs refuses, which is an error
of the machinery, never a verdict on a record.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ecgbatch.own_packages import ForeignPackage, ours_first
from storage import this_maker
from storage.maker import PACKAGES

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
    return tuple({**this_maker(), **{name: _version(name) for name in LIBRARIES}}.items())


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


def passport(sees: Sequence[str] = ()) -> Passport:
    """Return what workers must match: this code, and a few files of each local folder that they must see as this process does."""
    return Passport(made_by(), tuple((place, _witnesses(place)) for place in sees))


def _witnesses(place: str) -> tuple[tuple[str, int], ...]:
    """Return a few files of a folder, and one of each folder in it, and their sizes (-1: any): those of the first names.

    Of a workspace that a command holds, its lock too: it may hold nothing else yet.
    """
    top = Path(place)
    found = [(LOCK, -1)] if (top / LOCK).is_file() else []
    folders = [top, *sorted(path for path in top.iterdir() if path.is_dir() and not path.name.startswith("."))[:WITNESSES]]
    for folder in folders:
        steady = sorted(path for path in folder.iterdir() if path.name.endswith(STEADY) and path.is_file())
        found += [(path.relative_to(top).as_posix(), path.stat().st_size) for path in steady[:WITNESSES]]
    return tuple(found)


LOCK = ".build/lock"
"""Of a workspace; its content changes while it is held."""

STEADY = (".hea", ".dat", ".edf", ".dcm", ".xml", ".scp", "zarr.json")
"""Ends of names of files that no command writes twice while it runs."""


@lru_cache(maxsize=64)
def refusal(wanted: Passport) -> OtherCode | UnseenPlace | None:
    """Return why this process may make nothing, as what is said of it; None if it matches."""
    own = dict(made_by())
    other = [f"{what} {own.get(what, 'none')}, expected {value}" for what, value in wanted.made_by if own.get(what) != value]
    if other:
        return OtherCode(
            f"has another ecgbatch than this command: {'; '.join(other)}. Nothing was made by it. Install the same there (or "
            "build the image anew) and start it again"
        )
    for place, witnesses in wanted.places:
        if problem := _unlike(Path(place), witnesses):
            return UnseenPlace(
                f"does not see {place} as this machine does: {problem}. Nothing was said of any record. Mount it there under the "
                "same path, then run the same command again"
            )
    return None


def admit(wanted: Passport, name: str) -> None:
    """Go on if this process matches.

    Raises
    ------
    OtherCode, UnseenPlace
        Naming this worker, what differs, and what to do.

    """
    found = refusal(wanted)
    if found is not None:
        raise type(found)(f"the Dask worker {name} on {socket.gethostname()} {found}")


def _unlike(place: Path, witnesses: Sequence[tuple[str, int]]) -> str:
    try:
        if not place.is_dir():
            return "there is no such folder"
        next(place.iterdir(), None)
        for name, n_bytes in witnesses:
            if not (place / name).is_file():
                return f"{name} is not there"
            if n_bytes >= 0 and (place / name).stat().st_size != n_bytes:
                return f"{name} has {(place / name).stat().st_size} bytes, expected {n_bytes}"
    except OSError as error:
        return f"{error.strerror or error}"
    return ""


LACKING = f"[name for name in {PACKAGES!r} if __import__('importlib').util.find_spec(name) is None]"
"""Asked in words of Python's own: whoever has none of our packages understands it."""


def examine(client: Any, wanted: Passport, workers: Sequence[str]) -> None:
    """Ask workers that are there whether they match; one that goes meanwhile is none.

    Raises
    ------
    OtherCode, UnseenPlace
        Of the first that does not: its address, what it lacks or what differs, and what to do.

    """
    install = "install the same there as here (make install, or the image), and start it again"
    how = {"on_error": "return"}
    for address, lacks in client.run(eval, f"__import__('importlib.util') and {LACKING}", workers=list(workers), **how).items():
        if isinstance(lacks, list) and lacks:
            raise OtherCode(f"the Dask worker {address} has no ecgbatch (not there: {', '.join(lacks)}): {install}")
    for address, found in client.run(ours_first, workers=list(workers), **how).items():
        if isinstance(found, ForeignPackage):
            raise OtherCode(f"the Dask worker {address}: {found}; then start it again")
    for address, found in client.run(refusal, wanted, workers=list(workers), **how).items():
        if isinstance(found, OtherCode | UnseenPlace):
            raise type(found)(f"the Dask worker {address} {found}")
        if isinstance(found, ImportError | AttributeError | TypeError):
            raise OtherCode(f"the Dask worker {address} has another ecgbatch than this command ({found}): {install}")
