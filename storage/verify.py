"""Verify a published store against itself: seal, plan, documents, files, digests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from storage.arrays import group_document, open_array, read_rows
from storage.digests import algorithm_of
from storage.errors import StoreError
from storage.folder import Folder
from storage.location import folder_at
from storage.plan import canonical_json
from storage.reading import fits_seal, read_root
from storage.receipts import RECEIPTS, Receipt, WrittenFile, is_as_written, proved_digest
from storage.schema import digest_array

Proof = dict[str, np.ndarray[Any, Any]]


def verify_store(path: str | Path, *, read_data: bool = False) -> list[str]:
    """Return what is wrong with a store, a sentence each; an empty list means that nothing is.

    Without ``read_data``: the root document against its seal and the plan's digest, every expected file and its size,
    foreign files, and the bytes of everything but the shards. With it, also every byte and decoded value of the shards.
    """
    folder = folder_at(path)
    try:
        attributes = read_root(folder)
    except StoreError as error:
        return [str(error)]
    problems = list(_root_problems(folder, attributes))
    if problems:
        return problems
    problems = list(_small_problems(folder, attributes["files"]))
    if any(f"/{RECEIPTS}/" in problem for problem in problems):
        return problems
    return problems + list(_bulk_problems(folder, attributes, read_data))


def _root_problems(folder: Folder, attributes: dict[str, Any]) -> Iterator[str]:
    if not fits_seal(attributes) or folder.read("zarr.json") != group_document(attributes):
        yield f"{folder}/zarr.json: altered: its attributes do not fit their seal"
        return
    name = folder.root.name.removesuffix(".zarr")
    if not hashlib.sha256(canonical_json(attributes["plan"])).hexdigest()[:20] == attributes["digest"] == name:
        yield f"{folder}: the plan has digest {attributes['digest']}, but the folder is named {name}: a store in another's place"


def _small_problems(folder: Folder, files: dict[str, list[Any]]) -> Iterator[str]:
    for key, (n_bytes, digest) in files.items():
        try:
            found = folder.read(key)
        except OSError as error:
            yield f"{folder}/{key}: cannot be read ({type(error).__name__}), expected {n_bytes} bytes"
            continue
        if not is_as_written(found, WrittenFile(n_bytes, digest)):
            yield f"{folder}/{key}: {len(found)} bytes that differ from the {n_bytes} that were written"


def _bulk_problems(folder: Folder, attributes: dict[str, Any], read_data: bool) -> Iterator[str]:
    plan = attributes["plan"]
    bulk = [name for name, variable in plan["variables"].items() if variable["bulk"]]
    proof = {name: _whole(folder, RECEIPTS, name) for name in folder.children(RECEIPTS) if name != "zarr.json"}
    expected = {key: n_bytes for name in bulk for key, n_bytes in _shard_sizes(plan, name, proof) if n_bytes}
    found = dict(folder.files())
    for key, n_bytes in expected.items():
        if found.get(key) != n_bytes:
            yield f"{folder}/{key}: {f'{found[key]} bytes' if key in found else 'missing'}, expected {n_bytes} bytes"
    for key in sorted(found.keys() - expected.keys() - attributes["files"].keys() - {"zarr.json"}):
        yield f"{folder}/{key}: does not belong to this store"
    for name in bulk if read_data else ():
        try:
            array = open_array(folder, "", name, read_only=True)
        except Exception as error:
            yield f"{folder}/{name}: cannot be opened: {type(error).__name__}: {error}"
            continue
        for index, (key, _) in enumerate(_shard_sizes(plan, name, proof)):
            if found.get(key, 0) == expected.get(key, 0):
                yield from _shard_problems(folder, array, plan["shard_rows"], (name, index, key), proof)


def _shard_sizes(plan: dict[str, Any], name: str, proof: Proof) -> Iterator[tuple[str, int]]:
    zeros = "/0" * (len(plan["variables"][name]["dims"]) - 1)
    for index, n_bytes in enumerate(proof[f"{name}_file_bytes"].tolist()):
        yield f"{name}/c/{index}{zeros}", n_bytes


def _whole(folder: Folder, prefix: str, name: str) -> np.ndarray[Any, Any]:
    return np.asarray(open_array(folder, prefix, name, read_only=True)[...])


def _shard_problems(folder: Folder, array: Any, shard_rows: int, shard: tuple[str, int, str], proof: Proof) -> Iterator[str]:
    """Compare one shard's bytes with the file's digest, then its decoded values with the content's."""
    name, index, key = shard
    stated = WrittenFile(int(proof[f"{name}_file_bytes"][index]), proved_digest(proof, f"{name}_file", index))
    if folder.exists(key) and not is_as_written(folder.read(key), stated):
        yield f"{folder}/{key}: bytes differ from those that were written"
        return
    try:
        wanted = proved_digest(proof, f"{name}_content", index)
        values = read_rows(array, index * shard_rows, min((index + 1) * shard_rows, array.shape[0]))
        found = digest_array(values, algorithm_of(wanted))
    except Exception as error:
        yield f"{folder}/{key}: cannot be decoded: {type(error).__name__}: {error}"
        return
    if found != wanted:
        yield f"{folder}/{key}: decoded content differs from what was written"


def verify_build(path: str | Path) -> list[str]:
    """Return what is wrong with the unfinished build at ``WORK/.build/<schema>-<digest>``: its plan, receipts and files."""
    folder = folder_at(path)
    digest = folder.root.name.rpartition("-")[2]
    try:
        plan = folder.read("plan.json")
    except OSError:
        return []  # nothing was acknowledged yet
    if hashlib.sha256(plan).hexdigest()[:20] != digest:
        return [f"{folder}/plan.json: altered: it does not have the digest {digest}; remove that folder and run again"]
    problems = []
    for name in folder.children("receipts"):
        found = _receipt_problem(folder, digest, name)
        problems += [f"{folder}/receipts/{name}: {found}; remove the receipt and run again"] if found else []
    return problems


def _receipt_problem(folder: Folder, digest: str, name: str) -> str:
    try:
        receipt = Receipt.from_bytes(folder.read(f"receipts/{name}"))
        wrong = [key for key, file in receipt.files.items() if not is_as_written(folder.read(f"{digest}.zarr/{key}"), file)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    if (receipt.plan_digest, f"{receipt.shard.index:08d}.json") != (digest, name):
        return "it is of another shard or plan"
    return f"{wrong[0]} is not as it was written" if wrong else ""
