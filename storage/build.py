"""Build a store from a plan and a pure function: resumable, checked, and absent until it is complete."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any

import numpy as np
import xarray as xr

from storage.arrays import array_document, group_document, open_array, plain_document, shard_key
from storage.digests import STRONG, digest_bytes, named
from storage.errors import CorruptStore, StoreError, UnfinishedStore
from storage.folder import PARTIAL, Folder
from storage.location import folder_at
from storage.maker import makers_of, this_maker
from storage.plan import Plan, Shard, canonical_json
from storage.receipts import RECEIPTS, Receipt, WrittenFile, columns_of, read_receipt, written_file
from storage.schema import digest_array
from storage.shards import Layout, decode_rows, encode_shard, layout_of

Produce = Callable[[Shard, xr.Dataset], xr.Dataset]
Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
Progress = Callable[[int, int], None]
"""Called with shards done and shards in all."""


def build(work: str, plan: Plan, produce: Produce, *, map: Map = map, on_progress: Progress | None = None) -> str:
    """Build and publish the store of ``plan``; do only what no receipt covers.

    Parameters
    ----------
    work
        The workspace. Unfinished work lives in ``work/.build/<schema>-<digest>/`` and never matches ``work/*/*.zarr``.
    produce
        ``produce(shard, rows) -> Dataset`` with exactly the schema's bulk and column variables; pure and picklable.
        ``rows`` are the plan's inputs for the shard's rows.
    map
        Anything with the shape of the built-in ``map``; results may come in any order. If it says how much memory a task may
        use (``memory_bytes_per_task``), a plan that needs more is refused before anything is written.

    Returns
    -------
    str
        Path of the published store, ``work/<schema>/<digest>.zarr``. If it is there already, nothing is done.

    Raises
    ------
    StoreError
        A shard that needs more memory than a task has.
    SchemaError, CorruptStore, UnfinishedStore
        A block that does not fit, bytes that do not read back, shards that are still missing.

    """
    folder = folder_at(work)
    published = published_key(plan)
    if folder.exists(f"{published}/zarr.json"):
        folder.sync((), below=plan.schema.name)  # whoever published it may not have lived to bring its name to the disk
        return str(folder.path(published))
    _refuse_too_large(plan, map)
    try:
        _build(folder, plan, produce, map, on_progress)
    except (StoreError, FileNotFoundError, FileExistsError):
        # A second writer of the same plan may have published, and cleared away what this one was working in (a folder that goes
        # while it is made anew is the last of the three). A disk that fails is never taken for that: the store may be in its
        # place, and its name not on the disk.
        if not folder.exists(f"{published}/zarr.json"):
            raise
    folder.delete(build_key(plan))
    return str(folder.path(published))


def _build(folder: Folder, plan: Plan, produce: Produce, map: Map, on_progress: Progress | None) -> None:
    _prepare(folder, plan)
    pending = [plan.shard(index) for index in range(plan.n_shards) if _receipt(folder, plan, plan.shard(index)) is None]
    n_done = plan.n_shards - len(pending)
    if on_progress:
        on_progress(n_done, plan.n_shards)
    task = partial(_make_shard, str(folder), plan.without_inputs(), produce)
    for _ in map(task, ((shard, plan.rows(shard)) for shard in pending)):
        n_done += 1
        if on_progress:
            on_progress(n_done, plan.n_shards)
    _publish(folder, plan)


def _refuse_too_large(plan: Plan, map: Map) -> None:
    needed, there = plan.estimate()["memory_bytes_per_worker"], getattr(map, "memory_bytes_per_task", None)
    if there is not None and needed > there:
        raise StoreError(
            f"{plan.schema.name} {plan.digest}: a shard needs {needed / 1e6:.0f} MB and a worker has {there / 1e6:.0f} MB "
            "for each of its threads; use fewer threads (--workers 1) or larger workers"
        )


def published_key(plan: Plan) -> str:
    """Return where a plan's store lies in its workspace once it is published."""
    return f"{plan.schema.name}/{plan.digest}.zarr"


def build_key(plan: Plan) -> str:
    """Return where a plan's unfinished work lies."""
    return f".build/{plan.schema.name}-{plan.digest}"


def _store_key(folder: Folder, plan: Plan) -> str:
    return folder.store_place(f"{build_key(plan)}/{plan.digest}.zarr", published_key(plan))


def _receipt_key(plan: Plan, shard: Shard) -> str:
    return f"{build_key(plan)}/receipts/{shard.index:08d}.json"


def _prepare(folder: Folder, plan: Plan) -> None:
    """Put the plan and the sharded arrays' documents; the root document comes last of all."""
    if not folder.put_if_absent(f"{build_key(plan)}/plan.json", canonical_json(plan.document)):
        found = hashlib.sha256(folder.read(f"{build_key(plan)}/plan.json")).hexdigest()[:20]
        if found != plan.digest:
            raise CorruptStore(f"{folder}/{build_key(plan)}: plan.json has digest {found}, not {plan.digest}; remove that folder")
    for name, variable in plan.schema.bulk().items():
        folder.put_if_absent(f"{_store_key(folder, plan)}/{name}/zarr.json", array_document(plan, variable))
        folder.make_folder(f"{_store_key(folder, plan)}/{name}/c")


def _receipt(folder: Folder, plan: Plan, shard: Shard) -> Receipt | None:
    try:
        raw = folder.read(_receipt_key(plan, shard))
    except FileNotFoundError:
        return None
    return read_receipt(raw, plan, shard)


def _make_shard(root: str, plan: Plan, produce: Produce, task: tuple[Shard, xr.Dataset]) -> int:
    """Make, check, write, read back and acknowledge one shard; runs on any worker, any number of times."""
    shard, rows = task
    folder = folder_at(root)
    where = f"{plan.schema.name} shard {shard.index} (rows {shard.start} to {shard.stop})"
    try:
        block = produce(shard, rows)
    except (StoreError, OSError):
        raise
    except Exception as error:
        raise StoreError(f"{where}: {type(error).__name__}: {error}") from error
    plan.schema.check(block, plan.sizes, shard.stop - shard.start, where)
    files: dict[str, WrittenFile] = {}
    content: dict[str, str] = {}
    for name in plan.schema.bulk():
        values = np.ascontiguousarray(block[name].values)
        files |= _write_block(folder, plan, name, shard, values, where)
        content[name] = digest_array(values, STRONG)
    receipt = Receipt(plan.digest, shard, files, content, columns_of(block, plan), this_maker())
    folder.put(_receipt_key(plan, shard), receipt.to_bytes())
    return shard.index


def _write_block(
    folder: Folder, plan: Plan, name: str, shard: Shard, values: np.ndarray[Any, Any], where: str
) -> dict[str, WrittenFile]:
    """Write one whole shard of one variable, compare what is read back, and describe its file; none where all is fill."""
    store, key = _store_key(folder, plan), shard_key(plan, name, shard.index)
    layout = _layout(str(folder), store, name)
    written = encode_shard(layout, values)
    if not written:
        folder.delete(f"{store}/{key}")
        return {}
    folder.replace(f"{store}/{key}", *written)
    with ThreadPoolExecutor(1, thread_name_prefix="ecgbatch-sync") as aside:  # the disk is busy while this is read back
        synced = aside.submit(folder.sync, [f"{store}/{key}"], below=f"{store}/{name}/c")
        found = folder.read(f"{store}/{key}")
        if len(found) != sum(map(len, written)) or not _reads_back(layout, found, shard, values):
            raise CorruptStore(f"{where}: {name} does not read back as it was written; check the disk, then run again")
        described = written_file(found)
        synced.result()
    return {key: described}


@lru_cache(maxsize=32)
def _layout(root: str, store_key: str, name: str) -> Layout:
    """Return an array's layout, read once a process: its key holds the plan's digest, and so all that its document says."""
    layout = layout_of(folder_at(root).read(f"{store_key}/{name}/zarr.json"))
    assert layout is not None, name
    return layout


def _reads_back(layout: Layout, found: bytes, shard: Shard, values: np.ndarray[Any, Any]) -> bool:
    """Decode a shard's bytes, a row of chunks at a time, and compare each with what was to be written.

    Every byte that decoding looks at is under a checksum: no more of them than were written, and they need no other comparison.
    """
    box = tuple(slice(0, length) for length in values.shape[1:])
    read = partial(_slice, memoryview(found))
    for start in range(0, len(values), layout.chunk[0]):
        rows = np.arange(start, min(start + layout.chunk[0], len(values)))
        decoded = np.empty_like(values[start : start + len(rows)])
        try:
            decode_rows(layout, read, 0, rows, box, decoded, str(shard.index))
        except CorruptStore:
            return False
        if not same_values(decoded, values[start : start + len(rows)]):
            return False
    return True


def _slice(content: memoryview, start: int, n_bytes: int) -> memoryview:
    start = start if start >= 0 else len(content) + start
    return content[start : start + n_bytes]


def same_values(found: np.ndarray[Any, Any], written: np.ndarray[Any, Any]) -> bool:
    """Tell whether two arrays are the same bit for bit (NaN equals NaN)."""
    return found.dtype == written.dtype and found.shape == written.shape and bool((_bits(found) == _bits(written)).all())


def _bits(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return values if values.dtype.kind not in "fc" else np.ascontiguousarray(values).view(f"u{values.dtype.itemsize}")


def _publish(folder: Folder, plan: Plan) -> None:
    """Check that receipts cover the plan, add the small columns, clean, put the root document last, and publish.

    All of this happens in a place of this writer's own (where the location has such places): a writer that froze half-way
    and wakes when another has published can reach no byte of what is published.
    """
    receipts = list(_all_receipts(folder, plan))
    shards = {key: file.n_bytes for receipt in receipts for key, file in receipt.files.items()}
    store = folder.own_place(_store_key(folder, plan))
    for name in plan.schema.bulk():
        folder.link(f"{_store_key(folder, plan)}/{name}/zarr.json", f"{store}/{name}/zarr.json")
    is_linked = {f"{store}/{key}": folder.link(f"{_store_key(folder, plan)}/{key}", f"{store}/{key}") for key in shards}
    content = {name: _write_column(folder, plan, store, name, _joined(plan, receipts, name)) for name in plan.schema.columns()}
    for name in plan.schema.fixed():
        content[name] = _write_column(folder, plan, store, name, np.asarray(plan.inputs[name].values))
    for name, values in proof_of(plan, receipts).items():
        content[f"{RECEIPTS}/{name}"] = _write_plain(folder, f"{store}/{RECEIPTS}", name, values)
    small = _clean(folder, store, {f"{store}/{key}": n_bytes for key, n_bytes in shards.items()}, build_key(plan))
    folder.sync([*small, *(key for key, linked in is_linked.items() if not linked)], below=store, linked=is_linked)
    files = {key.removeprefix(f"{store}/"): written_file(folder.read(key)) for key in small}
    made_by = makers_of(((receipt.shard.index, receipt.made_by) for receipt in receipts), this_maker())
    root = root_document(plan, content, files, made_by)
    if not folder.put_if_absent(f"{store}/zarr.json", root) and folder.read(f"{store}/zarr.json") != root:
        raise CorruptStore(f"{folder}/{store}: another root document is there; see ecgbatch verify --repair")
    folder.publish(store, published_key(plan))


def _joined(plan: Plan, receipts: list[Receipt], name: str) -> np.ndarray[Any, Any]:
    """Return a column of the whole store; a store of no rows has an empty one."""
    variable = plan.schema.variables[name]
    if not receipts:
        return np.empty(plan.shape(variable), variable.numpy_dtype)
    return np.concatenate([receipt.columns[name] for receipt in receipts])


def _all_receipts(folder: Folder, plan: Plan) -> Iterator[Receipt]:
    missing = []
    for index in range(plan.n_shards):
        receipt = _receipt(folder, plan, plan.shard(index))
        if receipt is None:
            missing.append(index)
        else:
            yield receipt
    if missing:
        names = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
        raise UnfinishedStore(
            f"{plan.schema.name} {plan.digest}: {len(missing)} of {plan.n_shards} shards missing: {names}; run it again"
        )


def proof_of(plan: Plan, receipts: list[Receipt]) -> dict[str, np.ndarray[Any, Any]]:
    """Return what receipts say of each bulk variable's shards: content digest, file size and file digest (row = shard)."""
    proof: dict[str, np.ndarray[Any, Any]] = {}
    absent = WrittenFile(0, named(STRONG, bytes(32)))
    for name in plan.schema.bulk():
        files = [receipt.files.get(shard_key(plan, name, receipt.shard.index), absent) for receipt in receipts]
        proof[f"{name}_content_{STRONG}"] = _digest_rows([receipt.content[name] for receipt in receipts])
        proof[f"{name}_file_bytes"] = np.array([file.n_bytes for file in files], dtype=np.int64)
        proof[f"{name}_file_{STRONG}"] = _digest_rows([file.digest for file in files])
    return proof


def _digest_rows(digests: list[str]) -> np.ndarray[Any, Any]:
    return np.frombuffer(b"".join(map(digest_bytes, digests)), dtype=np.uint8).reshape(len(digests), 32).copy()


def root_document(
    plan: Plan, content: dict[str, str], files: dict[str, WrittenFile], made_by: dict[str, Any] | None = None
) -> bytes:
    """Return the bytes of a store's root ``zarr.json``: what it is, what made it, and the digests of all that it holds.

    ``content`` are digests of decoded small arrays (``receipts/`` hold those of the sharded ones), ``files`` describes
    every file but the shards and the root itself; ``made_by`` says whose code made which shards (``maker.makers_of``; none in
    stores of earlier versions); ``seal`` is the digest of all other attributes.
    """
    attributes = {
        "title": plan.schema.title,
        "schema": plan.schema.name,
        "schema_version": plan.schema.version,
        "digest": plan.digest,
        "content_digest": hashlib.sha256(canonical_json(content)).hexdigest(),
        "content_digests": content,
        "files": {key: [file.n_bytes, file.digest] for key, file in sorted(files.items())},
        "settings": plan.document["settings"],
        "versions": plan.document["versions"],
        "plan": plan.document,
    } | ({} if made_by is None else {"made_by": made_by})
    return group_document(attributes | {"seal": hashlib.sha256(canonical_json(attributes)).hexdigest()})


def _write_column(folder: Folder, plan: Plan, store: str, name: str, values: np.ndarray[Any, Any]) -> str:
    variable = plan.schema.variables[name]
    folder.write(f"{store}/{name}/zarr.json", array_document(plan, variable))
    return _write_whole(folder, store, name, values.astype(variable.numpy_dtype, copy=False))


def _write_plain(folder: Folder, prefix: str, name: str, values: np.ndarray[Any, Any]) -> str:
    folder.write(f"{prefix}/zarr.json", group_document({}))
    folder.write(f"{prefix}/{name}/zarr.json", plain_document(values, ("shard", "byte")[: values.ndim], name.replace("_", " ")))
    return _write_whole(folder, prefix, name, values)


def _write_whole(folder: Folder, prefix: str, name: str, values: np.ndarray[Any, Any]) -> str:
    """Write a small array whole, read it back, and return its digest."""
    if values.size:
        array = open_array(folder, prefix, name)
        array[...] = values
        if not same_values(np.asarray(array[...]), values):
            raise CorruptStore(f"{folder}/{prefix}/{name} does not read back as it was written; check the disk, then run again")
    return digest_array(values, STRONG)


def _clean(folder: Folder, store: str, bulk: dict[str, int], building: str) -> list[str]:
    """Remove what dead writers left, check every shard's size, and return the keys of all other files."""
    found = dict(folder.files(store))
    for key in [key for key in found if key.endswith(PARTIAL)]:
        folder.delete(key)
        del found[key]
    found.pop(f"{store}/zarr.json", None)  # of a writer that was cut short, where a place is shared
    wrong = [key for key, n_bytes in bulk.items() if found.get(key) != n_bytes]
    if wrong:
        raise CorruptStore(
            f"{len(wrong)} shards are not as their receipts say, first {wrong[0]}: remove {folder}/{building} and run again"
        )
    return [key for key in found if key not in bulk]
