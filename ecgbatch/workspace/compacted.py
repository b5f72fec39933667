"""What compactions have said: which store has the rows of which earlier one, and the proof that its content is the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from storage import algorithm_of, folder_at, open_once, unsealed
from storage.arrays import open_array
from storage.reading import read_root
from storage.receipts import RECEIPTS, proved_digest
from storage.schema import digest_array

COMPACTED_FILE = "compacted.json"
"""Below the workspace, sealed: which store has the rows of which earlier one, and the digests that its content had there."""

MADE_ANEW = frozenset(
    {"record_index", "first_beat", "signals_store", "signals_row", "beats_store", "beats_row", "measurements_store"}
)
"""Columns that say where something is: they follow from the rows, and no digest of an earlier store is asked of them."""


def compacted(work: str | Path) -> dict[str, Any]:
    """Return what compactions said: ``replaced`` {store: store}, ``stores`` {earlier store: proof}, ``pending`` and ``ended``."""
    version = folder_at(work).version(COMPACTED_FILE)
    return dict(_compacted(str(work), version)) if version else {"replaced": {}, "stores": {}, "pending": {}, "ended": ""}


@lru_cache(maxsize=2)
def _compacted(work: str, _version: str) -> dict[str, Any]:
    return unsealed(folder_at(work).read(COMPACTED_FILE), f"{work}/{COMPACTED_FILE}")


def stands_for(document: Mapping[str, Any], key: str) -> str:
    """Return the store that has the rows of this one now."""
    while key in document["replaced"]:
        key = document["replaced"][key]
    return key


def proof_of(work: str, key: str, rows: Mapping[str, list[int]]) -> dict[str, Any]:
    """Return what a store's own root and receipts say of its content, and where its rows go."""
    folder = folder_at(folder_at(work).path(key))
    root = read_root(folder)
    plan = root["plan"]
    bulk = [name for name, variable in plan["variables"].items() if variable["bulk"]]
    proof = {
        name: np.asarray(open_array(folder, RECEIPTS, name, read_only=True)[...])
        for name in folder.children(RECEIPTS)
        if name != "zarr.json"
    }
    n_shards = {name: len(proof[f"{name}_file_bytes"]) for name in bulk}
    signals = root["digest"] if key.startswith("signals/") else root["settings"].get("signals", "")
    return {
        "signals": signals,
        "rows": rows.get(signals, []),
        "sizes": plan["sizes"],
        "shard_rows": plan["shard_rows"],
        "columns": {
            name: digest for name, digest in root["content_digests"].items() if name in plan["variables"] and name not in bulk
        },
        "shards": {name: [proved_digest(proof, f"{name}_content", shard) for shard in range(n)] for name, n in n_shards.items()},
    }


def compaction_problems(work: str, key: str) -> Iterator[str]:
    """Yield what of an earlier store's content is not, to the digest, in the one that has its rows now."""
    document = compacted(work)
    proof, now = document["stores"][key], stands_for(document, key)
    where = f"{work}/{now}: of the earlier {key}"
    store = open_once(folder_at(work).path(now))
    kind = key.partition("/")[0]
    n_rows = proof["sizes"]["beat" if kind == "beats" else "record"]
    records = np.arange(n_rows) if kind == "scores" else np.array(proof["rows"], np.int64)
    rows = _beats_of(store, records) if kind == "beats" else records
    for name, digest in proof["columns"].items():
        if name in MADE_ANEW:
            continue
        variable = store[name].variable
        on = {"beat": rows, "record": records}.get(str(variable.dims[0]), slice(None))
        if digest_array(variable.values[_box(on, variable, proof["sizes"])], algorithm_of(digest)) != digest:
            yield f"{where}: {name} differs"
    for name, digests in proof["shards"].items():
        variable = store[name].variable
        for number, digest in enumerate(digests):
            part = rows[number * proof["shard_rows"] : (number + 1) * proof["shard_rows"]]
            if digest_array(variable[_box(part, variable, proof["sizes"])].values, algorithm_of(digest)) != digest:
                yield f"{where}: {name}, its shard {number}, differs"


def _box(rows: Any, variable: xr.Variable, sizes: Mapping[str, int]) -> tuple[Any, ...]:
    """Return the index of rows of a variable as wide as an earlier store had it."""
    return (rows, *(slice(0, sizes[str(dim)]) for dim in variable.dims[1:]))


def _beats_of(store: xr.Dataset, records: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the rows of some records' beats, in the records' order."""
    first, n_beats = store["first_beat"].values[records], store["n_beats"].values[records].astype(np.int64)
    end = np.cumsum(n_beats)
    return np.repeat(first - (end - n_beats), n_beats) + np.arange(int(n_beats.sum()))
