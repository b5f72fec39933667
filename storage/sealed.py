"""Documents that carry their own digest, and folders that carry a list of their files' digests."""

from __future__ import annotations

import hashlib
import json
import re
from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from storage.errors import CorruptStore
from storage.folder import PARTIAL, Folder
from storage.plan import canonical_json

SEAL = "seal"
MANIFEST = "manifest.json"


def sealed(document: Mapping[str, Any]) -> bytes:
    """Return a document as JSON with its seal: the SHA-256 of all the rest."""
    rest = json.loads(json.dumps({key: value for key, value in document.items() if key != SEAL}))
    return _SPELLED.encode({**rest, SEAL: _seal(rest)}).encode()


_SPELLED = json.JSONEncoder(indent=1, sort_keys=True, ensure_ascii=False)


def unsealed(raw: bytes, where: str) -> dict[str, Any]:
    """Return a sealed document without its seal; one of an earlier version, which has none, is taken as it is.

    Raises
    ------
    CorruptStore
        If it is no JSON object, or its seal does not fit.

    """
    try:
        document = json.loads(raw)
    except ValueError as error:
        raise CorruptStore(f"{where}: expected JSON, found {type(error).__name__}; restore it, or see ecgbatch verify") from error
    if not isinstance(document, dict):
        raise CorruptStore(f"{where}: expected a JSON object, found {type(document).__name__}")
    seal = document.pop(SEAL, None)
    if seal is not None and seal != _seal(document):
        raise CorruptStore(f"{where}: altered: its content does not fit its seal; see ecgbatch verify --repair")
    return document


def document_problems(folder: Folder, key: str) -> Iterator[str]:
    """Yield what is wrong with a sealed document: its very bytes must be those that ``sealed`` gives."""
    where = f"{folder}/{key}"
    try:
        raw = folder.read(key)
        if not _is_sealed(raw, unsealed(raw, where)):
            yield f"{where}: altered, or of an earlier version that had no seal"
    except (CorruptStore, OSError) as error:
        yield str(error)


def _is_sealed(raw: bytes, document: dict[str, Any]) -> bool:
    """Tell whether these are the bytes that ``sealed`` gives, without having them a second time."""
    start = 0
    for piece in _SPELLED.iterencode({**document, SEAL: _seal(document)}):
        spelled = piece.encode()
        if not raw.startswith(spelled, start):
            return False
        start += len(spelled)
    return start == len(raw)


def _seal(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(document)).hexdigest()


def seal_folder(folder: Folder, below: str) -> None:
    """Bring every file of a folder onto the disk and write the list of their digests, last, as ``manifest.json``."""
    start = f"{below}/" if below else ""
    files, partial = Listing(), []
    for key, _ in folder.files(below):
        if key.endswith(PARTIAL):
            partial.append(key)
        elif key != f"{start}{MANIFEST}":
            files.add(key.removeprefix(start), folder.pieces(key))
    for key in partial:
        folder.delete(key)
    _put_listing(folder, below, files)


def seal_again(folder: Folder, below: str, names: Collection[str]) -> None:
    """Write the list of a sealed folder anew after some of its files, ``names``, were written; no other file is read."""
    known = Listing.from_bytes(folder.read(f"{below}/{MANIFEST}"))
    if known is None:
        raise CorruptStore(f"{folder}/{below}/{MANIFEST}: altered; see ecgbatch verify --repair")
    files = Listing()
    for place, name in enumerate(known.names):
        if name not in names:
            files.append(name, known.sizes[place], bytes(known.digests[32 * place : 32 * place + 32]))
    for name in names:
        files.add(name, folder.pieces(f"{below}/{name}"))
    _put_listing(folder, below, files)


def _put_listing(folder: Folder, below: str, files: Listing) -> None:
    start, content = f"{below}/" if below else "", files.to_bytes()
    try:
        if folder.read(f"{start}{MANIFEST}") == content:
            return
    except OSError:
        pass
    folder.settle((f"{start}{name}" for name in files.names), below)
    folder.put(f"{start}{MANIFEST}", content)


@dataclass
class Listing:
    """Names of files with their sizes and digests, as compact as can be: a folder of reports holds a hundred thousand."""

    names: list[str] = field(default_factory=list)
    sizes: array[int] = field(default_factory=lambda: array("q"))
    digests: bytearray = field(default_factory=bytearray)

    def add(self, name: str, content: Iterable[bytes]) -> None:
        """Append a file, whose bytes come in pieces."""
        self.append(name, *_facts_of(content))

    def append(self, name: str, n_bytes: int, sha256: bytes) -> None:
        """Append a file by its size and digest."""
        self.names.append(name)
        self.sizes.append(n_bytes)
        self.digests += sha256

    def is_of(self, place: int, n_bytes: int, sha256: bytes) -> bool:
        """Tell whether the file at this place has this size and digest."""
        return self.sizes[place] == n_bytes and self.digests[32 * place : 32 * place + 32] == sha256

    def to_bytes(self) -> bytes:
        """Return what ``sealed({"files": {name: [bytes, digest]}})`` would, which holds all of it five times on the way."""
        out = BytesIO()
        for piece in self._pieces():
            out.write(piece)
        return out.getvalue()

    def _pieces(self) -> Iterator[bytes]:
        seal, comma = hashlib.sha256(b'{"files":{'), b""
        yield b'{\n "files": {'
        for place in sorted(range(len(self.names)), key=self.names.__getitem__):
            name = json.dumps(self.names[place], ensure_ascii=False).encode()
            n_bytes, sha256 = self.sizes[place], self.digests[32 * place : 32 * place + 32].hex().encode()
            seal.update(b'%b%b:[%d,"%b"]' % (comma, name, n_bytes, sha256))
            yield b'%b\n  %b: [\n   %d,\n   "%b"\n  ]' % (comma, name, n_bytes, sha256)
            comma = b","
        seal.update(b"}}")
        yield b'%b},\n "%b": "%b"\n}' % (b"\n " if self.names else b"", SEAL.encode(), seal.hexdigest().encode())

    @classmethod
    def from_bytes(cls, raw: bytes) -> Listing | None:
        """Read back what ``to_bytes`` gave, in order of names; None if these are not the very bytes that it gives."""
        files, start = cls(), 0
        for found in _ENTRY.finditer(raw):
            try:
                files.append(json.loads(found[1]), int(found[2]), bytes.fromhex(found[3].decode()))
            except (ValueError, OverflowError):
                return None
        for piece in files._pieces():
            if not raw.startswith(piece, start):
                return None
            start += len(piece)
        return files if start == len(raw) else None


def _facts_of(content: Iterable[bytes]) -> tuple[int, bytes]:
    n_bytes, sha256 = 0, hashlib.sha256()
    for piece in content:
        n_bytes += len(piece)
        sha256.update(piece)
    return n_bytes, sha256.digest()


_ENTRY = re.compile(rb'\n  ("(?:[^"\\\n]|\\.)*"): \[\n   (\d+),\n   "([0-9a-f]{64})"\n  \]')


def folder_problems(folder: Folder, below: str) -> Iterator[str]:
    """Yield what is wrong with a sealed folder: files that are missing, altered, or not of it."""
    where = f"{folder}/{below}/{MANIFEST}"
    try:
        files = Listing.from_bytes(folder.read(f"{below}/{MANIFEST}"))
    except OSError as error:
        yield str(error)
        return
    if files is None:
        problems = list(document_problems(folder, f"{below}/{MANIFEST}"))
        yield from problems or [f"{where}: sealed, but no list of files"]
        return
    for place, name in enumerate(files.names):
        key = f"{below}/{name}"
        try:
            n_bytes, sha256 = _facts_of(folder.pieces(key))
        except OSError as error:
            yield f"{folder}/{key}: cannot be read ({type(error).__name__}), expected {files.sizes[place]} bytes"
            continue
        if not files.is_of(place, n_bytes, sha256):
            yield f"{folder}/{key}: {n_bytes} bytes that differ from the {files.sizes[place]} that were written"
    for key, _ in folder.files(below):
        name = key.removeprefix(f"{below}/")
        place = bisect_left(files.names, name)
        if files.names[place : place + 1] != [name] and name != MANIFEST:
            yield f"{folder}/{key}: does not belong here"
