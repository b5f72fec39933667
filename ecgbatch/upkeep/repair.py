"""Make what is damaged again, as far as the archive still allows, to the same digest."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from ecgbatch.archive.watch import LookOptions
from ecgbatch.reports.chosen_pages import stated_mode
from ecgbatch.terms import MODEL_NAME_DIGITS
from ecgbatch.upkeep.status import METRICS_FILE, last_run, metrics
from ecgbatch.upkeep.verify import LATEST, Item, problems_of, reports_to_show
from ecgbatch.workspace.erased import ERASED_FILE
from ecgbatch.workspace.privacy import PSEUDONYMOUS
from ecgbatch.workspace.runs import read_run, write_run
from storage import CorruptStore, Folder, Map, StoreError, build, folder_at, open_store

DAMAGED = ".build/damaged"
"""Where a repair puts aside what it makes anew."""


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
    from ecgbatch.beats.lookup import extract_beats
    from ecgbatch.beats.record import BeatSettings
    from ecgbatch.measurements.lookup import measure_workspace
    from ecgbatch.signals.stage import convert_archive
    from ecgbatch.upkeep.moves import planned_again, produce_again

    folder = folder_at(work)
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
    _signals_again(work, archive, lost - set(remade), labels=labels, map=map)
    convert_archive(archive, work, LookOptions(labels=labels), map=map, on_progress=on_progress)
    for settings in _beat_settings(models):
        extract_beats(work, BeatSettings(**settings), map=map, on_progress=on_progress)
        if any(key.startswith("measurements/") for key in lost):
            measure_workspace(work, settings, map=map, on_progress=on_progress)
    _runs_again(work, archive, lost, models, map=map, on_progress=on_progress)
    _pointed_again(folder, shown)
    if METRICS_FILE in lost and "metrics" in (ended := last_run(work)):
        folder.put(METRICS_FILE, metrics(ended))
    whole = {key for item in items for key in [item[1]] if folder.exists_below(key) and not _still(work, item)}
    if whole == lost:
        folder.delete(DAMAGED)
    lasting = {item[1] for item in damaged if item[0] in _NOT_MADE and _still(work, item)}
    return sorted(lasting.union(key for sort, key in items if key not in whole and sort != "build"))


def _signals_again(work: str, archive: str, lost: set[str], *, labels: str | None, map: Map) -> None:
    """Make lost signals stores one by one: together the archive's records would make one other store."""
    from ecgbatch.signals.shard import producer
    from ecgbatch.signals.stage import plan_again

    for key in sorted(lost):
        if key.startswith("signals/") and (plan := plan_again(archive, work, Path(key).stem, labels=labels)):
            build(work, plan, producer(plan, archive), map=map)


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
    from ecgbatch.model.files import shipped_model
    from ecgbatch.reports.writing import report_workspace
    from ecgbatch.scores.stage import score_workspace

    folder = folder_at(work)
    runs = {Path(key).stem for key in lost if key.startswith(("runs/", "reports/", "scores/"))}
    for model in [*models, str(shipped_model())] if runs else ():
        run = score_workspace(work, model, map=map, on_progress=on_progress)
        if run in runs:
            if not read_run(work, run):
                write_run(work, run, {"archive": archive, "model": model})
            report_workspace(work, run, pages=_mode(folder, run), map=map, on_progress=on_progress)
            runs.discard(run)
        if not runs:
            break
    for name in sorted(runs):
        run = name.removesuffix(PSEUDONYMOUS)
        if f"reports/{name}" in lost and read_run(work, run) and folder.exists(f"scores/{run}.zarr/zarr.json"):
            is_pseudonymous = name != run
            report_workspace(work, run, pages=_mode(folder, name), pseudonymise=is_pseudonymous, map=map, on_progress=on_progress)


def _mode(folder: Folder, run: str) -> str | None:
    """Return which records had a page, in reports that are there or were put aside."""
    return stated_mode(folder, f"reports/{run}") or stated_mode(folder, f"{DAMAGED}/reports-{run}")


def _models_again(folder: Folder, lost: set[str]) -> None:
    """Copy lost models that ship with the package back."""
    from ecgbatch.model.files import load_model, save_model, shipped_model

    for path in sorted(shipped_model().parent.glob("*/model.json")) if any(key.startswith("models/") for key in lost) else ():
        model = load_model(path.parent)
        key = f"models/{model.digest[:MODEL_NAME_DIGITS]}"
        if key in lost:
            save_model(model, folder.path(key))


def _pointed_again(folder: Folder, shown: str) -> None:
    """Let the latest reports be those of the last run that has any, with names or without as they were."""
    newest = reports_to_show(folder)
    is_newest = shown.removesuffix(PSEUDONYMOUS) == newest.removesuffix(PSEUDONYMOUS)
    found = shown if is_newest and folder.exists_below(f"reports/{shown}") else newest
    if found and folder.pointed(LATEST) != found:
        folder.point(LATEST, found)


def _refuse_without_list(work: str, damaged: list[Item]) -> None:
    """Refuse to read an archive again while it is not known whom the workspace must not hold."""
    folder = folder_at(work)
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


_NOT_MADE = frozenset({"log", "earlier store", "reviews"})
"""Sorts of what no repair makes: logs and readers' verdicts must come from a copy; what is said of an earlier store is about its
successor."""


def _still(work: str, item: Item) -> list[str]:
    return problems_of(item, work=work, read_data=True)


def _models_of(folder: Folder, lost: set[str]) -> list[str]:
    """Return the workspace's undamaged models."""
    names = [name for name in folder.children("models") if not name.startswith(".")]
    return [str(folder.path(f"models/{name}")) for name in names if f"models/{name}" not in lost]


def _beat_settings(models: list[str]) -> list[dict[str, Any]]:
    """Return the beat settings that were in use here: those of the models, else the usual."""
    from ecgbatch.model.files import load_model

    found = [dict(load_model(model).beats) for model in models]
    return [json.loads(text) for text in dict.fromkeys(json.dumps(one, sort_keys=True) for one in found)] or [{}]
