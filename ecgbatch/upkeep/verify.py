"""Verify all that a workspace holds: each thing against itself, and against what the others say of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ecgbatch.archive.remembered import CACHE_FILE, cache_problems
from ecgbatch.terms import MODEL_NAME_DIGITS
from ecgbatch.upkeep.status import LAST_RUN_FILE, METRICS_FILE, last_run, last_run_problems
from ecgbatch.workspace.compacted import COMPACTED_FILE, compacted, compaction_problems, stands_for
from ecgbatch.workspace.erased import ERASED_FILE, N_ERASURES, unended
from ecgbatch.workspace.privacy import PSEUDONYMOUS
from ecgbatch.workspace.reviews import REVIEWS, review_problems
from ecgbatch.workspace.runs import log_problems, read_run, runs_by_time, stated_reports
from storage import (
    Folder,
    Map,
    StoreError,
    document_problems,
    folder_at,
    folder_problems,
    list_stores,
    load_columns,
    other_makers,
    unsealed,
    verify_build,
    verify_store,
)
from storage.heap import hold_little
from storage.reading import read_root

KINDS = ("signals", "peaks", "beats", "measurements", "scores")
"""The stores of a workspace."""

LATEST = "reports/latest"
"""Leads to the reports that were written last."""

Item = tuple[str, str]
"""What is verified at a time: its sort, and its key below the workspace."""


def items_of(work: str) -> list[Item]:
    """Return everything that ``problems_of`` can check in a workspace: what is there, and what other documents say is there."""
    folder = folder_at(work)
    stores = {f"{kind}/{name}" for kind in KINDS for name in folder.children(kind) if name.endswith(".zarr")}
    models = {f"models/{name}" for name in folder.children("models") if not name.startswith(".")}
    runs = {name.removesuffix(".json") for name in folder.children("runs") if name.endswith(".json")}
    reports = {name for name in folder.children("reports") if name != "latest" and not name.startswith(".")}
    has_erased = folder.exists(ERASED_FILE)
    with suppress(OSError, StoreError, KeyError):
        facts = unsealed(folder.read("archive.json"), work)
        stores |= {f"signals/{digest}.zarr" for digest in facts["stores"]}
        has_erased = has_erased or bool(facts.get("n_erased") or facts.get(N_ERASURES))
    for run in runs:
        with suppress(OSError, StoreError):
            stated = unsealed(folder.read(f"runs/{run}.json"), work)
            stores.add(f"scores/{run}.zarr")
            reports |= {stated_reports(run, stated)} - {""}
    moves: dict[str, Any] = {"replaced": {}, "stores": {}}
    with suppress(OSError, StoreError):
        moves = compacted(work)
    standing = (stands_for(moves, f"scores/{run.removesuffix(PSEUDONYMOUS)}.zarr") for run in reports)
    runs |= {Path(key).stem for key in standing}
    stores |= {f"scores/{run}.zarr" for run in runs}
    models |= set(_models_named(folder, stores))
    stores |= set(_inputs_named(folder, stores))
    stores |= set(_inputs_named(folder, {key for key in stores if key.startswith("measurements/")}))
    stores |= set(_inputs_named(folder, {key for key in stores if key.startswith("beats/")}))
    last = [key for key in (LAST_RUN_FILE, METRICS_FILE) if folder.exists_below(key)]
    if last == [LAST_RUN_FILE] and "metrics" in last_run(work):
        last.append(METRICS_FILE)
    documents = {"archive.json"} if stores else set()
    documents |= {f"runs/{run}.json" for run in runs} | ({ERASED_FILE} if has_erased else set())
    documents |= {COMPACTED_FILE} if folder.exists(COMPACTED_FILE) else set()
    builds = {f".build/{name}" for name in folder.children(".build") if folder.exists(f".build/{name}/plan.json")}
    return [
        *(("document", key) for key in sorted(documents)),
        *(("log", f"runs/{run}.log") for run in sorted(runs)),
        *(("look", key) for key in [CACHE_FILE] if folder.exists(key)),
        *(("reviews", key) for key in [REVIEWS] if folder.children(key)),
        *(("last run", key) for key in last),
        *(("pointer", key) for key in [LATEST] if folder.pointed(key) or reports_to_show(folder)),
        *(("store", key) for key in sorted(stores)),
        *(("model", key) for key in sorted(models)),
        *(("reports", f"reports/{run}") for run in sorted(reports)),
        *(("build", key) for key in sorted(builds)),
        *(("earlier store", key) for key in sorted(moves["stores"])),
    ]


def _inputs_named(folder: Folder, stores: Iterable[str]) -> Iterator[str]:
    """Yield the stores that published stores say they were made from."""
    for key in stores:
        with suppress(Exception):  # whatever is wrong with the store is found when it is verified itself
            settings = read_root(folder_at(folder.path(key)))["settings"]
            yield from (f"{name}/{settings[name]}.zarr" for name in ("signals", "peaks", "beats") if settings.get(name))
            store = load_columns(folder.path(key), ("signals_store", "beats_store", "measurements_store"))
            for name, digests in store.items():
                kind = str(name).removesuffix("_store")
                yield from (f"{kind}/{digest}.zarr" for digest in np.unique(digests.values).tolist() if digest)


def _models_named(folder: Folder, stores: Iterable[str]) -> Iterator[str]:
    """Yield the models that published scores were made with."""
    for key in stores:
        with suppress(Exception):  # as above
            if key.startswith("scores/"):
                digest = read_root(folder_at(folder.path(key)))["settings"]["model"]["digest"]
                yield f"models/{digest[:MODEL_NAME_DIGITS]}"


def problems_of(item: Item, *, work: str, read_data: bool) -> list[str]:
    """Return what is wrong with one item of ``items_of``, a sentence each."""
    sort, key = item
    folder = folder_at(work)
    look: dict[str, Callable[[], Iterable[str]]] = {
        "document": lambda: list(document_problems(folder, key)) or _document_problems(work, key),
        "log": lambda: log_problems(work, Path(key).stem),
        "look": lambda: cache_problems(work),
        "reviews": lambda: review_problems(work),
        "earlier store": lambda: compaction_problems(work, key) if read_data else [],
        "last run": lambda: last_run_problems(work, key),
        "pointer": lambda: _pointer_problems(folder, key),
        "reports": lambda: list(folder_problems(folder, key)) or _other_run(folder, f"{key}/cohort.json", Path(key).name),
        "model": lambda: _model_problems(folder, key) or folder_problems(folder, key),
        "build": lambda: verify_build(folder.path(key)) if read_data else [],
        "store": lambda: _store_problems(folder, key, read_data),
    }
    try:
        return list(look[sort]())
    except (OSError, ValueError, StoreError) as error:
        return [f"{folder}/{key}: cannot be read: {type(error).__name__}: {error}"]


def _document_problems(work: str, key: str) -> list[str]:
    if key == ERASED_FILE:
        return _unended(work)
    return _other_run(folder_at(work), key, Path(key).stem) if key.startswith("runs/") else []


def _other_run(folder: Folder, key: str, run: str) -> list[str]:
    """Return that a whole document is in another's place, if it names another run."""
    named = json.loads(folder.read(key)).get("run", run)
    return [] if named == run else [f"{folder}/{key}: names the run {named}: a document in another's place"]


def _pointer_problems(folder: Folder, key: str) -> list[str]:
    name, newest = folder.pointed(key), reports_to_show(folder)
    again = f"ecgbatch report {folder}"
    if newest.endswith(PSEUDONYMOUS):  # a report that hides names is for others, and never leads
        again = f"ecgbatch verify {folder} --repair ARCHIVE"
    if not name:
        return [f"{folder}/{key}: missing, expected it to lead to {newest}; {again} sets it anew"] if newest else []
    if not folder.exists_below(f"reports/{name}"):
        return [f"{folder}/{key}: leads to {name}, where no reports are; {again} sets it anew"]
    if newest and name.removesuffix(PSEUDONYMOUS) != newest.removesuffix(PSEUDONYMOUS):
        return [f"{folder}/{key}: leads to {name}, and {newest} is newer; {again} sets it anew"]
    return []


def reports_to_show(folder: Folder) -> str:
    """Return the name of the reports of the run that was made or repeated last, of those that have any; empty if none has.

    Those that the run itself wrote, or those with names: a copy without names beside them is for others.
    """
    try:
        for run in runs_by_time(str(folder)):
            for name in (stated_reports(run, read_run(str(folder), run)), run):
                if name and folder.exists_below(f"reports/{name}"):
                    return name
    except StoreError:
        pass  # a damaged record of a run is said of itself
    return ""


def _unended(work: str) -> list[str]:
    n = unended(work)
    told = (
        f"{work}/{ERASED_FILE}: {n} erasures were begun and have not ended: some stores may still hold the patient; run the same"
    )
    return [f"{told} `ecgbatch erase {work} --patient ID` again"] if n else []


def _model_problems(folder: Folder, key: str) -> list[str]:
    from ecgbatch.model.definition import ModelError
    from ecgbatch.model.files import load_model

    if not folder.exists_below(key):
        return [f"{folder}/{key}: missing: records were scored with it; copy it back, or see ecgbatch verify --repair"]
    try:
        found = load_model(folder.path(key)).digest[:MODEL_NAME_DIGITS]
    except ModelError as error:
        return [str(error)]
    name = Path(key).name
    is_other = re.fullmatch(rf"[0-9a-f]{{{MODEL_NAME_DIGITS}}}", name) is not None and found != name
    return [f"{folder}/{key}: holds the model {found}: a model in another's place"] if is_other else []


def _store_problems(folder: Folder, key: str, read_data: bool) -> list[str]:
    from ecgbatch.signals.lookup import verify_checksums

    found = verify_store(folder.path(key), read_data=read_data)
    if read_data and not found and key.startswith("signals/"):
        return verify_checksums(str(folder.path(key)))
    return found


def verify_workspace(
    work: str, *, read_data: bool = True, map: Map = map, on_progress: Callable[[str, int, int], None] | None = None
) -> dict[Item, list[str]]:
    """Check all that a workspace holds against itself; return the problems of each damaged item.

    Raises
    ------
    ValueError
        If there is nothing to check.

    """
    hold_little()
    items = items_of(work)
    if not any(sort in ("store", "reports", "build") for sort, _ in items):
        raise ValueError(f"{work}: no published store here; expected signals/, beats/ or scores/ with *.zarr")
    found: dict[Item, list[str]] = {}
    for number, (item, problems) in enumerate(map(partial(_checked, work=work, read_data=read_data), items), 1):
        if problems:
            found[item] = problems
        if on_progress:
            on_progress("verify", number, len(items))
    return found


def made_by_others(work: str) -> list[str]:
    """Return, a sentence each, which shards other code made than published their store: no damage, but worth knowing.

    So it is where a build was begun by one ecgbatch and ended by another of the same version.
    """
    said = []
    for kind in KINDS:
        for path in list_stores(work, kind):
            with suppress(OSError, StoreError):  # what is wrong with a store is said of itself
                root = read_root(folder_at(path))
                for span in other_makers(root):
                    shards = f"{path}: shards {span['from']} to {span['to']}"
                    by, published = _named(span["by"]), _named(root["made_by"]["published"])
                    said.append(f"{shards} were made by {by}, the store was published by {published}")
    return said


def _named(maker: Mapping[str, str]) -> str:
    return f"ecgbatch {maker['ecgbatch']} (code {maker['code']})" if maker else "an ecgbatch that left no name"


def _checked(item: Item, *, work: str, read_data: bool) -> tuple[Item, list[str]]:
    return item, problems_of(item, work=work, read_data=read_data)
