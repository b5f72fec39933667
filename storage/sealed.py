"""Documents that carry their own digest, and folders that carry a list of their files' digests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from storage.errors import CorruptStore
from storage.location import PARTIAL, Folder
from storage.plan import canonical_json
from storage.receipts import WrittenFile, written_file

SEAL = "seal"
MANIFEST = "manifest.json"


def sealed(document: Mapping[str, Any]) -> bytes:
    """Return a document as JSON with its seal: the SHA-256 of all the rest."""
    rest = json.loads(json.dumps({key: value for key, value in document.items() if key != SEAL}))
    return json.dumps({**rest, SEAL: _seal(rest)}, indent=1, sort_keys=True, ensure_ascii=False).encode()


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
        if raw != sealed(unsealed(raw, where)):
            yield f"{where}: altered, or of an earlier version that had no seal"
    except (CorruptStore, OSError) as error:
        yield str(error)


def _seal(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(document)).hexdigest()


def seal_folder(folder: Folder, below: str) -> None:
    """Bring every file of a folder onto the disk and write the list of their digests, last, as ``manifest.json``."""
    start = f"{below}/" if below else ""
    keys = [key for key, _ in folder.files(below) if key != f"{start}{MANIFEST}"]
    for key in [key for key in keys if key.endswith(PARTIAL)]:
        folder.delete(key)
        keys.remove(key)
    found = ((key, written_file(folder.read(key))) for key in keys)
    content = sealed({"files": {key.removeprefix(start): [file.n_bytes, file.sha256] for key, file in found}})
    try:
        if folder.read(f"{start}{MANIFEST}") == content:
            return
    except OSError:
        pass
    folder.settle(keys, below)
    folder.put(f"{start}{MANIFEST}", content)


def folder_problems(folder: Folder, below: str) -> Iterator[str]:
    """Yield what is wrong with a sealed folder: files that are missing, altered, or not of it."""
    problems = list(document_problems(folder, f"{below}/{MANIFEST}"))
    if problems:
        yield from problems
        return
    files = {
        f"{below}/{name}": WrittenFile(*file)
        for name, file in unsealed(folder.read(f"{below}/{MANIFEST}"), f"{folder}/{below}/{MANIFEST}")["files"].items()
    }
    there = {key for key, _ in folder.files(below)}
    for key, file in files.items():
        try:
            content = folder.read(key)
        except OSError as error:
            yield f"{folder}/{key}: cannot be read ({type(error).__name__}), expected {file.n_bytes} bytes"
            continue
        if written_file(content) != file:
            yield f"{folder}/{key}: {len(content)} bytes that differ from the {file.n_bytes} that were written"
    for key in sorted(there - files.keys() - {f"{below}/{MANIFEST}"}):
        yield f"{folder}/{key}: does not belong here"
