"""Years of nights in few stores: what many small stores hold is copied into one of each kind, and proved to be the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ecgbatch.erased import unended
from ecgbatch.moves import Batch, Moved, OnProgress, left_over, likeness, move, move_scores, point_to, remove_replaced, roots
from ecgbatch.signals import archive_facts, signals_path
from ecgbatch.terms import STATUS
from storage import Folder, Map, UnfinishedStore, list_stores, open_once, sealed, unsealed
from storage.arrays import open_array
from storage.reading import read_root
from storage.receipts import RECEIPTS
from storage.schema import digest_array

COMPACTED_FILE = "compacted.json"
"""Below the workspace, sealed: which store has the rows of which earlier one, and the digests that its content had there."""

KINDS = ("signals", "peaks", "beats", "scores")

MADE_ANEW = frozenset({"record_index", "first_beat", "signals_store", "signals_row", "beats_store", "beats_row"})
"""Columns that say where something is: they follow from the rows, and no digest of an earlier store is asked of them."""


def compact(work: str, *, map: Map = map, on_progress: OnProgress | None = None) -> dict[str, Any]:
    """Copy stores of the same kind, leads, rate, length class and settings into one; the caller holds the workspace's lock.

    Every row of every store is kept, superseded ones too, those now in the archive first and in its order. Nothing is computed
    anew, and a later run finds all its work done. Cut off anywhere, the same call goes on. Reports stay as they are.

    Returns
    -------
    dict
        ``n_stores`` {kind: [before, after]}, and ``n_replaced``, how many stores now stand in others.

    """
    before = {kind: len(list_stores(work, kind)) for kind in KINDS}
    document = compacted(work)
    if document["pending"]:
        document = _finish(work, document, map, on_progress)
    if unended(work):
        raise ValueError(f"{work}: an erasure has not ended; run `ecgbatch erase {work} --patient ID` again first")
    batches = list(_batches(work))
    if batches:
        moved = move(work, batches, map=map, on_progress=on_progress)
        _drop_abandoned(work, moved)
        rows = {digest: places.tolist() for digest, places in moved.rows.items()}
        document |= {"pending": {"replaced": moved.replaced, "rows": rows}}
        document = _finish(work, document, map, on_progress)
    after = {kind: [before[kind], len(list_stores(work, kind))] for kind in KINDS}
    return {"n_stores": after, "n_replaced": len(document["replaced"])}


def compacted(work: str | Path) -> dict[str, Any]:
    """Return what compactions said: ``replaced`` {store: store}, ``stores`` {earlier store: proof}, ``pending`` and ``ended``."""
    version = Folder(work).version(COMPACTED_FILE)
    return dict(_compacted(str(work), version)) if version else {"replaced": {}, "stores": {}, "pending": {}, "ended": ""}


@lru_cache(maxsize=2)
def _compacted(work: str, _version: str) -> dict[str, Any]:
    return unsealed(Folder(work).read(COMPACTED_FILE), f"{work}/{COMPACTED_FILE}")


def stands_for(document: Mapping[str, Any], key: str) -> str:
    """Return the store that has the rows of this one now."""
    while key in document["replaced"]:
        key = document["replaced"][key]
    return key


def _finish(work: str, document: dict[str, Any], map: Map, on_progress: OnProgress | None) -> dict[str, Any]:
    """Write down what stands for what, let everything point there, and remove the earlier stores."""
    pending = document["pending"]
    moved = Moved(dict(pending["replaced"]), {digest: np.array(rows, np.int64) for digest, rows in pending["rows"].items()})
    move_scores(work, moved, map=map, on_progress=on_progress)  # of runs since it was cut off
    moved.replaced |= left_over(work, moved)
    document = _with_move(work, document, moved)
    Folder(work).put(COMPACTED_FILE, sealed(document))
    point_to(work, moved, keep_reports=True)
    remove_replaced(work, moved.replaced)
    document |= {"pending": {}, "ended": datetime.now(UTC).isoformat(timespec="seconds")}
    Folder(work).put(COMPACTED_FILE, sealed(document))
    return document


def _drop_abandoned(work: str, moved: Moved) -> None:
    """Let go what a compaction made that was cut off, of which this one makes another since a night came between."""
    in_use = {*archive_facts(work)["stores"], *(Path(key).stem for key in moved.replaced.values())}
    for root in roots(work, "signals"):
        if root["digest"] not in in_use and not moved.rows.keys().isdisjoint(root["settings"].get("made_from", ())):
            moved.replaced[f"signals/{root['digest']}.zarr"] = ""
            moved.rows[root["digest"]] = np.full(root["plan"]["sizes"]["record"], -1, np.int64)


def forget_proofs(work: str, replaced: Mapping[str, str]) -> None:
    """Take out what earlier stores were, where an erasure has emptied rows of those that stand for them."""
    document = compacted(work)
    kept = {
        key: proof
        for key, proof in document["stores"].items()
        if stands_for(document, key) not in {*replaced, *replaced.values()}
    }
    if document["stores"]:
        said = {"stores": kept, "replaced": dict(document["replaced"]) | dict(replaced)}
        Folder(work).put(COMPACTED_FILE, sealed(document | said))


def _batches(work: str) -> Iterator[Batch]:
    """Yield the sets of two and more signals stores that can be one."""
    made: dict[str, list[bytes]] = {}
    for kind in ("peaks", "beats"):
        for root in roots(work, kind):
            made.setdefault(root["settings"]["signals"], []).append(kind.encode() + likeness(root))
    alike: dict[tuple[Any, ...], list[str]] = {}
    signals = {root["digest"]: root for root in roots(work, "signals")}
    for root in signals.values():
        if not signals.keys().isdisjoint(root["settings"].get("made_from", ())):
            continue  # made by a compaction that was cut off: it holds rows of the others
        key = (likeness(root), *_shape(work, root["digest"]), *sorted(made.get(root["digest"], [])))
        alike.setdefault(key, []).append(root["digest"])
    try:
        facts = archive_facts(work)
    except UnfinishedStore:
        return
    order = {place: number for number, place in enumerate(zip(facts["stores"], facts["rows"], strict=True))}
    for digests in alike.values():
        if len(digests) > 1:
            yield _batch(work, tuple(digests), order)


def _shape(work: str, digest: str) -> tuple[Any, ...]:
    """Return what rows of one store have in common: leads, rate and length class of those that can be used."""
    store = open_once(signals_path(work, digest))
    usable = np.flatnonzero(store["status"].values != STATUS["set_aside"])
    rate = float(store["sampling_frequency_hz"].values[usable[0]]) if usable.size else 0.0
    return tuple(store["lead"].values.tolist()), rate, int(store.sizes["sample"] - 1).bit_length()


def _batch(work: str, digests: tuple[str, ...], order: Mapping[tuple[str, int], int]) -> Batch:
    places = [(digest, row) for digest in digests for row in range(open_once(signals_path(work, digest)).sizes["record"])]
    places.sort(key=lambda place: order.get(place, len(order)))
    number = {digest: number for number, digest in enumerate(digests)}
    store, row = np.array([(number[digest], row) for digest, row in places], dtype=np.int64).reshape(-1, 2).T
    return Batch(digests, store, row, np.zeros(len(places), bool))


def _with_move(work: str, document: Mapping[str, Any], moved: Moved) -> dict[str, Any]:
    """Return what compactions say with one more: proofs of the stores that go, and where the rows of earlier ones are now."""
    rows = {digest: places.tolist() for digest, places in moved.rows.items()}
    stores = dict(document["stores"])
    for key, proof in stores.items():
        there = moved.rows.get(Path(stands_for(document, f"signals/{proof['signals']}.zarr")).stem)
        if there is not None and key not in moved.replaced:
            stores[key] = proof | {"rows": there[proof["rows"]].tolist()}
    for key, new in moved.replaced.items():
        if new and key not in stores:
            stores[key] = _proof(work, key, rows)
    return {
        "replaced": dict(document["replaced"]) | moved.replaced,
        "stores": stores,
        "pending": {"replaced": moved.replaced, "rows": rows},
        "ended": "",
    }


def _proof(work: str, key: str, rows: Mapping[str, list[int]]) -> dict[str, Any]:
    """Return what a store's own root and receipts say of its content, and where its rows go."""
    folder = Folder(Folder(work).path(key))
    root = read_root(folder)
    plan = root["plan"]
    bulk = [name for name, variable in plan["variables"].items() if variable["bulk"]]
    shards = {name: open_array(folder, RECEIPTS, f"{name}_content_sha256", read_only=True)[...] for name in bulk}
    signals = root["digest"] if key.startswith("signals/") else root["settings"].get("signals", "")
    return {
        "signals": signals,
        "rows": rows.get(signals, []),
        "sizes": plan["sizes"],
        "shard_rows": plan["shard_rows"],
        "columns": {
            name: digest for name, digest in root["content_digests"].items() if name in plan["variables"] and name not in bulk
        },
        "shards": {name: [bytes(row).hex() for row in np.asarray(digests)] for name, digests in shards.items()},
    }


def compaction_problems(work: str, key: str) -> Iterator[str]:
    """Yield what of an earlier store's content is not, to the digest, in the one that has its rows now."""
    document = compacted(work)
    proof, now = document["stores"][key], stands_for(document, key)
    where = f"{work}/{now}: of the earlier {key}"
    store = open_once(Folder(work).path(now))
    kind = key.partition("/")[0]
    n_rows = proof["sizes"]["beat" if kind == "beats" else "record"]
    records = np.arange(n_rows) if kind == "scores" else np.array(proof["rows"], np.int64)
    rows = _beats_of(store, records) if kind == "beats" else records
    for name, digest in proof["columns"].items():
        if name in MADE_ANEW:
            continue
        variable = store[name].variable
        on = {"beat": rows, "record": records}.get(str(variable.dims[0]), slice(None))
        if digest_array(variable.values[_box(on, variable, proof["sizes"])]) != digest:
            yield f"{where}: {name} differs"
    for name, digests in proof["shards"].items():
        variable = store[name].variable
        for number, digest in enumerate(digests):
            part = rows[number * proof["shard_rows"] : (number + 1) * proof["shard_rows"]]
            if digest_array(variable[_box(part, variable, proof["sizes"])].values) != digest:
                yield f"{where}: {name}, its shard {number}, differs"


def _box(rows: Any, variable: xr.Variable, sizes: Mapping[str, int]) -> tuple[Any, ...]:
    """Return the index of rows of a variable as wide as an earlier store had it."""
    return (rows, *(slice(0, sizes[str(dim)]) for dim in variable.dims[1:]))


def _beats_of(store: xr.Dataset, records: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the rows of some records' beats, in the records' order."""
    first, n_beats = store["first_beat"].values[records], store["n_beats"].values[records].astype(np.int64)
    end = np.cumsum(n_beats)
    return np.repeat(first - (end - n_beats), n_beats) + np.arange(int(n_beats.sum()))
