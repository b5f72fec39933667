"""Years of nights in few stores: what many small stores hold is copied into one of each kind, and proved to be the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ecgbatch.signals.lookup import archive_facts, signals_path
from ecgbatch.terms import STATUS
from ecgbatch.upkeep.moves import (
    OF_SIGNALS,
    Batch,
    Moved,
    OnProgress,
    left_over,
    likeness,
    move,
    move_scores,
    point_to,
    remove_replaced,
    roots,
)
from ecgbatch.upkeep.verify import KINDS
from ecgbatch.workspace.compacted import COMPACTED_FILE, compacted, proof_of, stands_for
from ecgbatch.workspace.erased import unended
from storage import Map, UnfinishedStore, folder_at, list_stores, open_once, sealed


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


def _finish(work: str, document: dict[str, Any], map: Map, on_progress: OnProgress | None) -> dict[str, Any]:
    """Write down what stands for what, let everything point there, and remove the earlier stores."""
    pending = document["pending"]
    moved = Moved(dict(pending["replaced"]), {digest: np.array(rows, np.int64) for digest, rows in pending["rows"].items()})
    move_scores(work, moved, map=map, on_progress=on_progress)  # of runs since it was cut off
    moved.replaced |= left_over(work, moved)
    document = _with_move(work, document, moved)
    folder_at(work).put(COMPACTED_FILE, sealed(document))
    point_to(work, moved, keep_reports=True)
    remove_replaced(work, moved.replaced)
    document |= {"pending": {}, "ended": datetime.now(UTC).isoformat(timespec="seconds")}
    folder_at(work).put(COMPACTED_FILE, sealed(document))
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
        folder_at(work).put(COMPACTED_FILE, sealed(document | said))


def _batches(work: str) -> Iterator[Batch]:
    """Yield the sets of two and more signals stores that can be one."""
    made: dict[str, list[bytes]] = {}
    for kind in OF_SIGNALS:
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
            stores[key] = proof_of(work, key, rows)
    return {
        "replaced": dict(document["replaced"]) | moved.replaced,
        "stores": stores,
        "pending": {"replaced": moved.replaced, "rows": rows},
        "ended": "",
    }
