"""Keeping a workspace whole: verify all that it holds, rebuild what the archive still allows, clear away what died."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ecgbatch.compacted import COMPACTED_FILE, compacted, compaction_problems, stands_for
from ecgbatch.erased import ERASED_FILE, N_ERASURES, unended
from ecgbatch.heap import hold_little
from ecgbatch.privacy import PSEUDONYMOUS
from ecgbatch.runs import log_problems, read_run, runs_by_time, write_run
from ecgbatch.status import LAST_RUN_FILE, METRICS_FILE, last_run, last_run_problems, metrics
from ecgbatch.terms import MODEL_NAME_DIGITS
from ecgbatch.watch import CACHE_FILE, cache_problems
from storage import (
    PARTIAL,
    CorruptStore,
    Folder,
    Map,
    StoreError,
    build,
    document_problems,
    folder_problems,
    load_columns,
    open_store,
    unsealed,
    verify_build,
    verify_store,
)
from storage.reading import read_root

KINDS = ("signals", "peaks", "beats", "scores")
"""The stores of a workspace."""

DAMAGED = ".build/damaged"
"""Where a repair puts aside what it makes anew."""

LATEST = "reports/latest"
"""Leads to the reports that were written last."""

Item = tuple[str, str]
"""What is verified at a time: its sort, and its key below the workspace."""


def items_of(work: str) -> list[Item]:
    """Return everything that ``problems_of`` can check in a workspace: what is there, and what other documents say is there."""
    folder = Folder(work)
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
            reports |= {stated.get("reports", run)} if "counts" in stated else set()
    moves: dict[str, Any] = {"replaced": {}, "stores": {}}
    with suppress(OSError, StoreError):
        moves = compacted(work)
    standing = (stands_for(moves, f"scores/{run.removesuffix(PSEUDONYMOUS)}.zarr") for run in reports)
    runs |= {Path(key).stem for key in standing}
    stores |= {f"scores/{run}.zarr" for run in runs}
    models |= set(_models_named(folder, stores))
    stores |= set(_inputs_named(folder, stores))
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
        *(("last run", key) for key in last),
        *(("pointer", key) for key in [LATEST] if folder.pointed(key)),
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
            settings = read_root(Folder(folder.path(key)))["settings"]
            yield from (f"{name}/{settings[name]}.zarr" for name in ("signals", "peaks") if settings.get(name))
            store = load_columns(folder.path(key), ("signals_store", "beats_store"))
            for name, digests in store.items():
                kind = str(name).removesuffix("_store")
                yield from (f"{kind}/{digest}.zarr" for digest in np.unique(digests.values).tolist() if digest)


def _models_named(folder: Folder, stores: Iterable[str]) -> Iterator[str]:
    """Yield the models that published scores were made with."""
    for key in stores:
        with suppress(Exception):  # as above
            if key.startswith("scores/"):
                digest = read_root(Folder(folder.path(key)))["settings"]["model"]["digest"]
                yield f"models/{digest[:MODEL_NAME_DIGITS]}"


def problems_of(item: Item, *, work: str, read_data: bool) -> list[str]:
    """Return what is wrong with one item of ``items_of``, a sentence each."""
    sort, key = item
    folder = Folder(work)
    look: dict[str, Callable[[], Iterable[str]]] = {
        "document": lambda: list(document_problems(folder, key)) or _document_problems(work, key),
        "log": lambda: log_problems(work, Path(key).stem),
        "look": lambda: cache_problems(work),
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
    return _other_run(Folder(work), key, Path(key).stem) if key.startswith("runs/") else []


def _other_run(folder: Folder, key: str, run: str) -> list[str]:
    """Return that a whole document is in another's place, if it names another run."""
    named = json.loads(folder.read(key)).get("run", run)
    return [] if named == run else [f"{folder}/{key}: names the run {named}: a document in another's place"]


def _pointer_problems(folder: Folder, key: str) -> list[str]:
    name = folder.pointed(key)
    if folder.exists_below(f"reports/{name}"):
        return []
    return [f"{folder}/{key}: leads to {name}, where no reports are; ecgbatch report {folder} sets it anew"]


def _unended(work: str) -> list[str]:
    n = unended(work)
    told = (
        f"{work}/{ERASED_FILE}: {n} erasures were begun and have not ended: some stores may still hold the patient; run the same"
    )
    return [f"{told} `ecgbatch erase {work} --patient ID` again"] if n else []


def _model_problems(folder: Folder, key: str) -> list[str]:
    from ecgbatch.model import ModelError, load_model

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
    from ecgbatch.signals import verify_checksums

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


def _checked(item: Item, *, work: str, read_data: bool) -> tuple[Item, list[str]]:
    return item, problems_of(item, work=work, read_data=read_data)


def repair(
    work: str,
    archive: str,
    damaged: Iterable[Item],
    *,
    labels: str | None = None,
    map: Map = map,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> list[str]:
    """Put aside what is damaged and make it again from the archive; return the keys that could not be made again.

    The stages decide by digest what is missing, so what comes back has the name, and with it the bytes, of what was lost;
    unless the archive has changed since. A model that was trained, and a log, cannot be made again: they must come from a copy.

    Raises
    ------
    CorruptStore
        If the list of erased patients is what is damaged or missing: made anew from the archive, the workspace would have them.

    """
    from ecgbatch.beats import BeatSettings, extract_beats
    from ecgbatch.moves import planned_again, produce_again
    from ecgbatch.signals import convert_archive, plan_again, producer

    folder = Folder(work)
    damaged = list(damaged)
    _refuse_without_list(work, damaged)
    items = [(sort, key) for sort, key in damaged if sort not in _NOT_MADE]
    lost = {key for _, key in items}
    models = _models_of(folder, lost)
    remade = {key: plan for _, key in items if key.startswith("signals/") and (plan := planned_again(work, Path(key).stem))}
    shown = folder.pointed(LATEST)
    for _, key in items:
        folder.put_aside(key, f"{DAMAGED}/{key.replace('/', '-').lstrip('.')}")
    _models_again(folder, lost)
    folder.delete("archive.parquet")  # what it remembers of the files may be of what is lost
    for plan in remade.values():
        leads = tuple(plan.inputs["lead"].values.tolist())
        with suppress(StoreError):  # where the archive has changed: its records come back under another name
            build(work, plan, partial(produce_again, archive=archive, leads=leads, n_samples=plan.sizes["sample"]), map=map)
    for key in sorted(lost):  # one by one, where several are lost: together the archive's records would make one other store
        if (
            key.startswith("signals/")
            and key not in remade
            and (plan := plan_again(archive, work, Path(key).stem, labels=labels))
        ):
            build(work, plan, producer(plan, archive), map=map)
    convert_archive(archive, work, labels=labels, map=map, on_progress=on_progress)
    for settings in _beat_settings(models):
        extract_beats(work, BeatSettings(**settings), map=map, on_progress=on_progress)
    _runs_again(work, archive, lost, models, map=map, on_progress=on_progress)
    _pointed_again(folder, shown)
    if METRICS_FILE in lost and "metrics" in (ended := last_run(work)):
        folder.put(METRICS_FILE, metrics(ended))
    whole = {key for item in items for key in [item[1]] if folder.exists_below(key) and not _still(work, item)}
    if whole == lost:
        folder.delete(DAMAGED)
    lasting = {item[1] for item in damaged if item[0] in _NOT_MADE and _still(work, item)}
    return sorted(lasting.union(key for sort, key in items if key not in whole and sort != "build"))


def _runs_again(
    work: str,
    archive: str,
    lost: set[str],
    models: list[str],
    *,
    map: Map,
    on_progress: Callable[[str, int, int], None] | None,
) -> None:
    """Make lost scores, records and reports of runs again: of the present records, and of earlier runs the reports."""
    from ecgbatch.model import shipped_model
    from ecgbatch.reports import report_workspace
    from ecgbatch.scoring import score_workspace

    folder = Folder(work)
    runs = {Path(key).stem for key in lost if key.startswith(("runs/", "reports/", "scores/"))}
    for model in [*models, str(shipped_model())] if runs else ():
        run = score_workspace(work, model, map=map, on_progress=on_progress)
        if run in runs:
            if not read_run(work, run):
                write_run(work, run, {"archive": archive, "model": model})
            report_workspace(work, run, map=map, on_progress=on_progress)
            runs.discard(run)
        if not runs:
            break
    for name in sorted(runs):
        run = name.removesuffix(PSEUDONYMOUS)
        if f"reports/{name}" in lost and read_run(work, run) and folder.exists(f"scores/{run}.zarr/zarr.json"):
            report_workspace(work, run, pseudonymise=name != run, map=map, on_progress=on_progress)


def _models_again(folder: Folder, lost: set[str]) -> None:
    """Copy lost models that ship with the package back."""
    from ecgbatch.model import load_model, save_model, shipped_model

    for path in sorted(shipped_model().parent.glob("*/model.json")) if any(key.startswith("models/") for key in lost) else ():
        model = load_model(path.parent)
        key = f"models/{model.digest[:MODEL_NAME_DIGITS]}"
        if key in lost:
            save_model(model, folder.path(key))


def _pointed_again(folder: Folder, shown: str) -> None:
    """Let the latest reports be those that they were, or of the last run that has any."""
    runs = [f"{run}{end}" for run in runs_by_time(str(folder)) for end in ("", PSEUDONYMOUS)]
    found = next((name for name in [shown, *runs] if name and folder.exists_below(f"reports/{name}")), "")
    if found and folder.pointed(LATEST) != found:
        folder.point(LATEST, found)


def _refuse_without_list(work: str, damaged: list[Item]) -> None:
    """Refuse to read an archive again while it is not known whom the workspace must not hold."""
    folder = Folder(work)
    is_damaged = any(key == ERASED_FILE for _, key in damaged)
    if not is_damaged and not folder.exists(ERASED_FILE):
        for name in folder.children("signals"):
            with suppress(Exception):  # a damaged store says nothing
                is_damaged |= bool((open_store(folder.path(f"signals/{name}"))["reason"].values == "ERASED").any())
    if is_damaged:
        raise CorruptStore(
            f"{work}/{ERASED_FILE}: missing, altered, or an erasure has not ended; a repair would bring erased patients back. "
            "Restore it from a copy, or end the erasure, then repair; nothing was changed"
        )


_NOT_MADE = frozenset({"log", "earlier store"})
"""Sorts of what no repair makes: a log must come from a copy, and what is said of an earlier store is about its successor."""


def _still(work: str, item: Item) -> list[str]:
    return problems_of(item, work=work, read_data=True)


def _models_of(folder: Folder, lost: set[str]) -> list[str]:
    """Return the workspace's undamaged models."""
    names = [name for name in folder.children("models") if not name.startswith(".")]
    return [str(folder.path(f"models/{name}")) for name in names if f"models/{name}" not in lost]


def _beat_settings(models: list[str]) -> list[dict[str, Any]]:
    """Return the beat settings that were in use here: those of the models, else the usual."""
    from ecgbatch.model import load_model

    found = [dict(load_model(model).beats) for model in models]
    return [json.loads(text) for text in dict.fromkeys(json.dumps(one, sort_keys=True) for one in found)] or [{}]


def leftovers(work: str) -> dict[str, int]:
    """Return how many builds are unfinished, and how many files and bytes lie in ``.build``: of those and of dead runs."""
    folder = Folder(work)
    names = [name for name in folder.children(".build") if name != "lock"]
    files = [n_bytes for key, n_bytes in folder.files(".build") if key != ".build/lock"]
    n_builds = sum(folder.exists(f".build/{name}/plan.json") for name in names)
    return {"n_unfinished": n_builds, "n_files": len(files), "n_bytes": sum(files)}


def collect_garbage(work: str, *, unfinished: bool = False) -> dict[str, Any]:
    """Remove what dead runs left behind; the caller holds the workspace's lock.

    That is: files that were being written, builds whose store is published, folders of writers that were cut short, logs without
    a run, and what a repair put aside. Unfinished builds are kept, since the same command goes on with them, unless
    ``unfinished``; so are the checkpoints of a training.

    Returns
    -------
    dict
        ``removed`` (keys), ``n_bytes``, ``kept_unfinished`` (keys of builds that the same command would finish).

    """
    folder = Folder(work)
    published = {name.removesuffix(".zarr") for kind in KINDS for name in folder.children(kind)}
    removed, kept = [], []
    for name in folder.children(".build"):
        key = f".build/{name}"
        digest = name.rpartition("-")[2]
        if name == "lock":
            continue
        is_build = name.startswith("train-") or (folder.exists(f"{key}/plan.json") and digest not in published)
        if is_build and not unfinished:
            kept.append(key)
            removed += [f"{key}/{one}" for one in folder.children(key) if one.endswith(".zarr") and one != f"{digest}.zarr"]
        else:
            removed.append(key)
    removed += [
        key
        for key, _ in folder.files("")
        if key.endswith(PARTIAL) and not any(key.startswith(f"{gone}/") for gone in removed) and ".zarr/" not in key
    ]
    removed += [f"models/{name}" for name in folder.children("models") if name.startswith(".") and name.endswith(PARTIAL)]
    n_bytes = sum(n_bytes for key in removed for _, n_bytes in folder.files(key))
    for key in removed:
        folder.delete(key)
    return {"removed": removed, "n_bytes": n_bytes, "kept_unfinished": kept}
