"""A prefix of an object store (S3 protocol) with the verbs of a local folder."""

from __future__ import annotations

import contextlib
import os
import random
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import obstore
import zarr.storage
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    InvalidPathError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)

from storage.address import split_address
from storage.bucket_access import LASTING, access, advice_for, reason_of
from storage.folder import PIECE_BYTES, Folder

MOST_TRIES = 8
"""Of one request, each of which ``obstore`` itself repeats a few times after a server's error or a lost connection."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
"""Pauses double from the first to the longest, each shortened by up to a half at random."""

TIMEOUT_S = 20
"""Of one request."""

_FINAL = (AlreadyExistsError, InvalidPathError, NotFoundError, PermissionDeniedError, PreconditionError, UnauthenticatedError)
"""Answers that another try would not change."""


class _NotOffered(OSError):
    """The service answers that it does not do what was asked, whoever asks."""


class Bucket(Folder):
    """``s3://bucket/prefix``: credentials, region and endpoint come from the usual ``AWS_`` variables, or from ``AWS_PROFILE``.

    A put is all or nothing and durable when it is acknowledged, so there is nothing to sync; and nothing can be moved, so a
    store is built where it will lie, and is published by its root document, which is put last and only if none is there.
    """

    def __init__(self, root: str | Path) -> None:
        self.bucket, self.prefix = split_address(root)
        self.root = Path(f"s3://{self.bucket}/{self.prefix}")

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def __reduce__(self) -> tuple[Any, ...]:
        return Bucket, (str(self),)

    def _key(self, key: str) -> str:
        return f"{self.prefix}/{key}".strip("/")

    def _ask(self, verb: Callable[..., Any], key: str, *rest: Any, **named: Any) -> Any:
        """Send a request until it is answered; ``OSError`` with the address if it never is."""
        for number in range(MOST_TRIES):
            try:
                return verb(_store(self.bucket), key, *rest, **named)
            except FileNotFoundError as error:
                self._refuse_lasting(error, key)
                raise FileNotFoundError(f"s3://{self.bucket}/{key}: no such object") from None
            except (PermissionDeniedError, UnauthenticatedError) as error:
                raise PermissionError(self._refusal(error, key)) from None
            except _FINAL:
                raise
            except BaseError as error:
                self._refuse_lasting(error, key)
                if number == MOST_TRIES - 1:
                    raise OSError(
                        f"s3://{self.bucket}/{key}: {reason_of(error)}; no better answer in {MOST_TRIES} tries; "
                        "the same command goes on where this one was"
                    ) from None
                time.sleep(_pause(number))
        raise AssertionError

    def _refuse_lasting(self, error: BaseException, key: str) -> None:
        """Raise what no further try mends: a bucket that is not there, keys that have expired, a clock that is off."""
        text = str(error)
        if "NoSuchBucket" in text:
            raise OSError(f"s3://{self.bucket}: no such bucket; make it first, or see the AWS_ variables") from None
        if "status code: 501" in text or "<Code>NotImplemented</Code>" in text:
            raise _NotOffered(self._refusal(error, key)) from None
        if LASTING.search(text):
            raise PermissionError(self._refusal(error, key)) from None

    def _refusal(self, error: BaseException, key: str) -> str:
        reason = reason_of(error)
        return f"s3://{self.bucket}/{key}: {reason}; {advice_for(reason)}"

    def read(self, key: str) -> bytes:
        """Return the bytes under ``key``; ``FileNotFoundError`` if there are none."""
        whole: bytes = self._ask(lambda store, path: obstore.get(store, path).bytes().to_bytes(), self._key(key))
        return whole

    def read_with_facts(self, key: str) -> tuple[bytes, Any]:
        """Return the bytes under ``key`` and what ``listed`` would say of them; ``FileNotFoundError`` if there are none."""

        def get(store: Any, path: str) -> tuple[bytes, Any]:
            answer = obstore.get(store, path)
            return answer.bytes().to_bytes(), answer.meta

        content, facts = self._ask(get, self._key(key))
        return content, facts

    def exists(self, key: str) -> bool:
        """Tell whether an object lies under ``key``."""
        return self.version(key) != ""

    def version(self, key: str) -> str:
        """Return what changes when the object does; empty if there is none."""
        try:
            return str(self._ask(obstore.head, self._key(key))["e_tag"] or "?")
        except FileNotFoundError:
            return ""

    def put(self, key: str, content: bytes) -> None:
        """Write ``content`` under ``key``, replacing what is there: all of it or nothing."""
        self._ask(obstore.put, self._key(key), content, use_multipart=False)

    def replace(self, key: str, *content: bytes) -> None:
        """Write ``content``, one part after another, under ``key``: all of it or nothing."""
        self.put(key, b"".join(content))

    @contextlib.contextmanager
    def stream(self, key: str) -> Iterator[BinaryIO]:
        """Yield a file to write into, which lies under ``key`` when all went well; until then its bytes are on this disk."""
        with tempfile.TemporaryFile() as file:
            yield file

            def send(store: Any, path: str) -> Any:
                file.seek(0)
                return obstore.put(store, path, file)

            self._ask(send, self._key(key))

    def pieces(self, key: str) -> Iterator[bytes]:
        """Yield the bytes under ``key`` in pieces; an object whose stream breaks off is an error of the network."""
        answer = self._ask(obstore.get, self._key(key))
        try:
            for piece in answer.stream(min_chunk_size=PIECE_BYTES):
                yield bytes(piece)
        except BaseError as error:
            raise OSError(f"object store: {self}/{key} broke off: {reason_of(error)}") from None

    write = put

    def put_if_absent(self, key: str, content: bytes) -> bool:
        """Write ``content`` under ``key`` unless something is there; tell whether this call, or a like one, wrote it.

        An answer may be lost after the write: the next try then finds its own object, told by its bytes. Of two who write at
        once one wins, where the service has conditional writes; elsewhere whoever wrote last does, and what is promised without
        is said (``is_conditional``).
        """
        if not is_conditional(self.bucket, self.prefix):
            if self.exists(key):
                return self.read(key) == content
            self.put(key, content)
            return self.read(key) == content
        try:
            self._ask(obstore.put, self._key(key), content, mode="create", use_multipart=False)
        except (AlreadyExistsError, PreconditionError):
            return self.read(key) == content
        return True

    def link(self, key: str, other: str) -> bool:
        """Let the bytes under ``key`` appear under ``other`` too: as a copy, made by the object store and durable."""
        if key != other:
            self._ask(lambda store, path: obstore.copy(store, path, self._key(other)), self._key(key))
        return True

    def point(self, key: str, name: str) -> None:
        """Let ``key`` name its neighbour ``name``: an object that holds the name."""
        self.put(key, name.encode())

    def pointed(self, key: str) -> str:
        """Return the name that ``point`` gave ``key``; empty if it has none."""
        try:
            return self.read(key).decode().rpartition("/")[2]
        except (FileNotFoundError, UnicodeDecodeError):
            return ""

    def make_folder(self, key: str) -> None:
        """Do nothing: there are no folders."""

    def sync(self, keys: Iterable[str], below: str, *, linked: Iterable[str] = ()) -> None:
        """Do nothing: an acknowledged put is durable."""

    settle = sync

    def files(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Yield key and size of every object below ``prefix``, in order of keys."""
        for one in sorted(self.listed(prefix), key=lambda entry: str(entry["path"])):
            yield self.key_of(one), int(one["size"])

    def listed(self, prefix: str = "") -> list[Any]:
        """Return ``path`` (in the bucket), ``size``, ``last_modified`` and ``e_tag`` of every object below ``prefix``."""
        below = self._key(prefix)
        found: list[Any] = self._ask(
            lambda store, path: [one for chunk in obstore.list(store, prefix=path or None) for one in chunk], below
        )
        return found

    def key_of(self, one: Any) -> str:
        """Return the key of an object that ``listed`` told of."""
        return str(one["path"])[len(f"{self.prefix}/") if self.prefix else 0 :]

    def children(self, prefix: str = "") -> list[str]:
        """Return the names directly below ``prefix``, sorted."""
        below = self._key(prefix)
        found = self._ask(lambda store, path: obstore.list_with_delimiter(store, prefix=path or None), below)
        paths = [*found["common_prefixes"], *(one["path"] for one in found["objects"])]
        return sorted({str(path).rstrip("/").rpartition("/")[2] for path in paths})

    def clear_partial(self, pid: int) -> None:
        """Do nothing: an object appears whole or not at all."""

    def own_place(self, key: str) -> str:
        """Return ``key``: all writers of a store put the same bytes, and nothing could be moved."""
        return key

    def store_place(self, building: str, published: str) -> str:  # noqa: ARG002
        """Return where a store is built: where it will lie."""
        return published

    def delete(self, key: str) -> None:
        """Remove an object or everything below a prefix; nothing happens if there is none."""
        keys = [self._key(one) for one, _ in self.files(key)] + [self._key(key)]
        for start in range(0, len(keys), 500):
            for one in keys[start : start + 500]:
                try:
                    self._ask(obstore.delete, one)
                except FileNotFoundError:
                    continue

    def put_aside(self, key: str, other: str) -> None:
        """Copy an object, or all below a prefix, to another place and remove it; nothing happens if there is none."""
        for one in [one for one, _ in self.files(key)] or ([key] if self.exists(key) else []):
            self.link(one, other + one.removeprefix(key))
        self.delete(key)

    def publish(self, building: str, published: str) -> None:
        """Do nothing: the root document has published."""

    def zarr_store(self, prefix: str = "", *, read_only: bool = False) -> Any:
        """Return the Zarr store below ``prefix``."""
        return _SteadyStore(_store(self.bucket, self._key(prefix)), read_only=read_only)


class _SteadyStore(zarr.storage.ObjectStore[Any]):
    """Zarr's store on ``obstore``, whose reads and writes are tried again as ``Bucket``'s are."""

    async def get(self, *arguments: Any, **named: Any) -> Any:
        return await _again(super().get, *arguments, **named)

    async def get_partial_values(self, prototype: Any, key_ranges: Iterable[Any]) -> Any:
        return await _again(super().get_partial_values, prototype, list(key_ranges))

    async def set(self, *arguments: Any, **named: Any) -> None:
        await _again(super().set, *arguments, **named)

    async def exists(self, key: str) -> bool:
        return bool(await _again(super().exists, key))

    async def list_dir(self, prefix: str) -> AsyncGenerator[str, None]:
        async def whole() -> list[str]:
            return [key async for key in super(_SteadyStore, self).list_dir(prefix)]

        for key in await _again(whole):
            yield key


async def _again(verb: Callable[..., Awaitable[Any]], *arguments: Any, **named: Any) -> Any:
    import asyncio

    for number in range(MOST_TRIES):
        try:
            return await verb(*arguments, **named)
        except (FileNotFoundError, *_FINAL):
            raise
        except BaseError as error:
            if number == MOST_TRIES - 1:
                raise OSError(f"object store: no answer in {MOST_TRIES} tries: {reason_of(error)}") from None
            await asyncio.sleep(_pause(number))
    raise AssertionError


def _pause(number: int) -> float:
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0**number) * random.uniform(0.5, 1.0)  # noqa: S311 (not for secrets)


@lru_cache(maxsize=256)
def is_conditional(bucket: str, prefix: str) -> bool:
    """Tell whether a service keeps an object that is there from a write on the condition that none is; tried once a process.

    Where it does not, what that means for who works there is said on standard error.
    """
    folder = Bucket(f"s3://{bucket}/{prefix}")
    key = f".build/conditional-{os.urandom(8).hex()}"
    folder.put(key, b"here")
    try:
        folder._ask(obstore.put, folder._key(key), b"again", mode="create", use_multipart=False)
        found = "ignores"
    except (AlreadyExistsError, PreconditionError):
        return True
    except _NotOffered:
        found = "refuses"
    finally:
        folder.delete(key)
    print(
        f"ecgbatch: s3://{bucket}: this service {found} conditional writes (If-None-Match). Stores are published whole all the "
        "same, and whoever writes one writes the same bytes; but two commands at once in one workspace may not wait for each "
        "other: run one at a time there",
        file=sys.stderr,
    )
    return False


@lru_cache(maxsize=256)
def _store(bucket: str, prefix: str = "") -> Any:
    from obstore.store import S3Store

    stated = access()
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or stated.get("AWS_ENDPOINT_URL") or ""
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    config: Any = {name.removeprefix("AWS_").lower(): stated[name] for name in names if name in stated}
    config |= {"endpoint": endpoint} if endpoint else {}
    return S3Store(
        bucket,
        prefix=prefix or None,
        **config,
        region=stated.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1",
        client_options={"timeout": timedelta(seconds=TIMEOUT_S), "allow_http": endpoint.startswith("http://")},
        retry_config={
            "max_retries": 3,
            "retry_timeout": timedelta(seconds=3 * TIMEOUT_S),
            "backoff": {
                "init_backoff": timedelta(seconds=FIRST_PAUSE_S),
                "max_backoff": timedelta(seconds=LONGEST_PAUSE_S),
                "base": 2,
            },
        },
    )
