"""Reports: for every record a JSON and a page, for the archive a cohort page and tables; what is written where."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
import xarray as xr

from ecgbatch.reports.lead_columns import LeadValues
from ecgbatch.reports.operating_point import model_summary
from ecgbatch.reports.record import Edition
from ecgbatch.reports.record_files import Job, check_extras, write_records
from ecgbatch.reports.serial import Beside, Series, series_of
from ecgbatch.reports.sources import store_path
from ecgbatch.scores.stage import with_own_status
from ecgbatch.signals.stage import LEFT_OUT, NOT_TAKEN, archive_facts
from ecgbatch.terms import MODEL_NAME_DIGITS
from ecgbatch.workspace.privacy import PSEUDONYMOUS, Pseudonyms, without_order, workspace_pseudonyms, write_pseudonyms
from ecgbatch.workspace.runs import earlier_run, read_run
from storage import TEXT, Folder, StoreError, folder_at, forget_columns, load_columns, open_once, seal_folder
from storage.heap import give_back, hold_little

COUNTS = ("n_records", "n_patients", "n_scored", "n_set_aside", "n_not_scorable", "not_scorable_reasons", "decisions")
"""Fields of the cohort's JSON that a run's result, its record and ``last-run.json`` repeat."""

_MOST_RECORDS_PER_TASK = 64

_LEAST_TASKS = 4  # so that two cores share even 40 records

_LONGEST_SLUG = 120  # bytes; with suffix and extension far below the 255 of common file systems

_WINDOWS_NAMES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def record_slugs(record_names: Iterable[str]) -> dict[str, str]:
    """Return the file name (without extension) of each record's report.

    ``/`` becomes ``__``, everything but letters, digits, ``.``, ``_`` and ``-`` becomes ``_``, and so does a leading dot.
    Records whose names would meet in one file, on a file system that ignores case too, all get a digest of their name
    appended, so a slug does not depend on the order of the records; so do names too long or reserved on Windows.
    """
    names = list(dict.fromkeys(map(str, record_names)))
    plain = {name: re.sub(r"^\.", "_", re.sub(r"[^A-Za-z0-9._-]", "_", name.replace("/", "__"))) or "_" for name in names}
    count = Counter(slug.casefold() for slug in plain.values())
    slugs = {}
    for name, slug in plain.items():
        unsafe = count[slug.casefold()] > 1 or len(slug) > _LONGEST_SLUG or _WINDOWS_NAMES.fullmatch(slug)
        suffix = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:10]
        slugs[name] = f"{slug[:_LONGEST_SLUG]}-{suffix}" if unsafe else slug
    return slugs


def write_reports(
    work: str,
    run: str,
    edition: Edition,
    *,
    extras: Sequence[str] = (),
    pseudonyms: Pseudonyms | None = None,
    map: Callable[..., Iterable[Any]] = map,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write all reports of a run below ``work/reports/<run>``.

    Every file appears whole or not at all. A record's report that is already there, or is in the latest run's folder with the
    same content, is not made again: it stays, or is linked, and keeps the run and time of its making.

    Parameters
    ----------
    work
        Workspace; the signals and beats stores that the scores name are read from it.
    run
        Name of the published ``scores/<run>.zarr``.
    edition
        What every report says alike, but for what the scores store tells.
    extras
        Of ``EXTRAS``: further forms to write beside each record's page.
    pseudonyms
        Names to show in place of those of records and patients. Such reports lie in ``work/reports/<run>-pseudonymous``, and
        compare nothing with an earlier run: that one shows names.
    map
        Shape of the built-in ``map``; results may come in any order.
    progress
        Called with the number of records done and of all records.

    Returns
    -------
    dict
        ``run`` (the folder's name), ``folder``, ``cohort_html``, ``cohort_json``, ``scores_parquet``, ``scores_csv`` (paths),
        ``n_records``, ``n_written``, ``n_linked``, ``n_kept`` and ``n_failed``.

    """
    check_extras(extras)
    hold_little()
    folder, shown = folder_at(work), f"{run}{PSEUDONYMOUS}" if pseudonyms else run
    edition = replace(edition, run=shown)
    job = Job(str(work), run, folder.pointed("reports/latest"), tuple(extras), edition, pseudonyms)
    paths, made = _write_files(folder, job, map, progress)
    give_back()  # before a list of all files, which takes as much as the tables did
    seal_folder(folder, f"reports/{shown}")
    counts = {f"n_{word}": made[word] for word in ("written", "linked", "kept", "failed")}
    return {"run": shown, "folder": f"{folder}/reports/{shown}", **paths, "n_records": made.total(), **counts}


def _write_files(
    folder: Folder, job: Job, map: Callable[..., Iterable[Any]], progress: Callable[[int, int], None] | None
) -> tuple[dict[str, str], Counter[str]]:
    """Write the records' reports, then the cohort's; return the cohort's paths, and how many records' came to be in which way."""
    from ecgbatch.reports import cohort

    started = perf_counter()
    scores = with_own_status(load_columns(store_path(folder, "scores", job.scores_run)))
    edition = replace(job.edition, segments_s=scores.attrs["settings"].get("segments_s"))
    if job.pseudonyms:
        write_pseudonyms(job.work, job.pseudonyms, scores)
        scores = job.pseudonyms.scores(scores)
    slugs = _slugs_of(scores["record_name"].values)
    series = series_of(job.work, scores, slugs)
    facts, made = _write_every_record(replace(job, edition=edition), scores, slugs, series, map, progress)
    forget_columns()
    spent = {**edition.seconds, "record reports": perf_counter() - started}
    earlier = "" if job.pseudonyms else earlier_run(job.work, job.scores_run)
    measured = {name: scores[name].values for name in ("measurements_store", "beats_row") if "measurements_store" in scores}
    if job.pseudonyms:
        _, measured = without_order(scores, measured)  # while there are rows: pseudonymous scores name none
        scores, facts = without_order(scores, facts)
    leads = LeadValues(folder, *measured.values()) if measured else None
    stated = {name: getattr(edition, name) for name in ("model", "run", "created", "archive", "is_synthetic")}
    stated |= {"largest_changes": series.changes(), "n_not_taken": _not_taken(job.work), "n_left_out": _left_out(job.work)}
    return cohort.write_cohort(folder, scores, facts, stated, leads=leads, earlier=earlier, seconds=spent), made


def _write_every_record(
    job: Job,
    scores: xr.Dataset,
    slugs: np.ndarray,
    series: Series,
    map: Callable[..., Iterable[Any]],
    progress: Callable[[int, int], None] | None,
) -> tuple[dict[str, np.ndarray], Counter[str]]:
    """Write the records' reports, some to a task; return their ``tables.FACTS``, and how many came to be in which way."""
    from ecgbatch.reports import tables

    n_records = scores.sizes["record"]
    length = min(_MOST_RECORDS_PER_TASK, max(1, -(-n_records // _LEAST_TASKS)))
    order = _in_order_of_stores(scores)
    rows_of = [order[start : start + length] for start in range(0, n_records, length)]
    facts = {name: np.zeros(n_records, dtype) for name, dtype in tables.FACTS.items() if name != "slug"} | {"slug": slugs}
    made = Counter[str]()
    tasks = ((rows, slugs[rows].tolist(), Beside(series, rows)) for rows in rows_of)
    for rows, done, found in map(partial(write_records, job), tasks):
        made.update(done)
        for name, values in found.items():
            facts[name][rows] = values
        if progress is not None:
            progress(made.total(), n_records)
    return facts, made


def _not_taken(work: str) -> dict[str, dict[str, int]]:
    """Return how many files of the archive look like an ECG and were not taken, by kind and reason."""
    try:
        found = archive_facts(work).get(NOT_TAKEN, ())
    except StoreError:
        return {}
    counts: dict[str, dict[str, int]] = {}
    for _, _, _, kind, reason in found:
        if kind:
            own = counts.setdefault(kind, {})
            own[reason] = own.get(reason, 0) + 1
    return counts


def _left_out(work: str) -> dict[str, int]:
    """Return in how many folders, links and hidden files of the archive no record was looked for, by reason."""
    try:
        return dict(Counter(reason for _, reason in archive_facts(work).get(LEFT_OUT, ())))
    except StoreError:
        return {}


def _in_order_of_stores(scores: xr.Dataset) -> np.ndarray:
    """Return the records' places as their samples lie in their stores: what neighbours share is then read once."""
    stores = np.unique(scores["signals_store"].values, return_inverse=True)[1]
    return np.lexsort((scores["signals_row"].values, stores))


def _slugs_of(names: np.ndarray) -> np.ndarray:
    """Return the file name of each record's report, (record,) text."""
    slugs = record_slugs(names)
    return np.array([slugs[name] for name in names], TEXT)


def report_workspace(
    work: str,
    run: str,
    *,
    extras: Sequence[str] = (),
    pseudonymise: bool = False,
    leads: bool = True,
    map: Callable[..., Iterable[Any]] = map,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Write all reports of a run and let ``work/reports/latest`` point there; return their paths and the cohort's counts.

    Parameters
    ----------
    work, run
        Workspace; name of a run that ``workspace.runs.write_run`` has recorded.
    pseudonymise
        Show no name of a record or patient, but keyed digests of them (``workspace.privacy.Pseudonyms``).
    leads
        Whether ``latest`` is to point to these reports: not where they are a copy for others beside those of the house.
    extras, map, on_progress
        As in ``write_reports``; ``on_progress`` is called with the stage's name too.

    Returns
    -------
    dict
        ``cohort`` (the page's path), ``reports`` (the folder), and ``counts`` as the cohort's JSON has them.

    """
    from ecgbatch.model.definition import ModelError
    from ecgbatch.model.files import load_model

    folder = folder_at(work)
    digest = open_once(store_path(folder, "scores", run), ()).attrs["settings"]["model"]["digest"]
    kept = f"models/{digest[:MODEL_NAME_DIGITS]}"
    if load_model(folder.path(kept)).digest != digest:  # it tells what the pages say of thresholds and training
        raise ModelError(
            f"{folder}/{kept}: another model than the one that scored; copy it back, or see ecgbatch verify --repair"
        )
    archive = {name: value for name, value in archive_facts(work).items() if name in ("archive", "is_synthetic")}
    stated, model = read_run(work, run), model_summary(json.loads(folder.read(f"{kept}/model.json")))
    edition = Edition(model, stated.get("created", ""), **archive, seconds=stated.get("seconds") or {})
    summary = write_reports(
        work,
        run,
        edition,
        extras=extras,
        pseudonyms=workspace_pseudonyms(work) if pseudonymise else None,
        map=map,
        progress=partial(on_progress, "report") if on_progress else None,
    )
    if leads:
        folder.point("reports/latest", summary["run"])
    cohort = json.loads(folder.read(f"reports/{summary['run']}/cohort.json"))
    counts = {name: cohort[name] for name in COUNTS}
    return {"cohort": summary["cohort_html"], "reports": summary["folder"], "counts": counts}
