"""Reports: for every record a JSON and a page, for the archive a cohort page and tables; what is written where."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple, TypedDict, Unpack

import numpy as np
import xarray as xr

from ecgbatch.reports.chosen_pages import Pages, checked_pages, has_page, mode_for, stated_mode
from ecgbatch.reports.documents import FILE, records_file
from ecgbatch.reports.lead_columns import LeadValues
from ecgbatch.reports.operating_point import model_summary
from ecgbatch.reports.record import Edition
from ecgbatch.reports.record_files import ENDS, Job, check_extras, write_records
from ecgbatch.reports.reviewed import OF_SCORES, reviewed
from ecgbatch.reports.serial import Beside, Series, series_of
from ecgbatch.reports.sources import store_path
from ecgbatch.scores.scorable import with_own_status
from ecgbatch.signals.lookup import NOT_TAKEN, archive_facts, left_out_counts
from ecgbatch.terms import MODEL_NAME_DIGITS
from ecgbatch.workspace.privacy import PSEUDONYMOUS, Pseudonyms, without_order, workspace_pseudonyms, write_pseudonyms
from ecgbatch.workspace.runs import earlier_run, read_run
from storage import TEXT, Folder, StoreError, folder_at, forget_columns, load_columns, open_once, seal_again, seal_folder
from storage.heap import give_back, hold_little

COUNTS = ("n_records", "n_patients", "n_scored", "n_set_aside", "n_not_scorable", "not_scorable_reasons", "decisions")
"""Fields of the cohort's JSON that a run's result, its record and ``last-run.json`` repeat."""

_MOST_RECORDS_PER_TASK = 64

_MOST_COMPARED = 20_000  # names, when one that was asked for is none of them

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
        ``n_records``, ``n_written``, ``n_linked``, ``n_kept``, ``n_failed`` and ``n_without`` (a page); ``pages``.

    """
    check_extras(extras)
    checked_pages(edition.pages)
    hold_little()
    folder, shown = folder_at(work), f"{run}{PSEUDONYMOUS}" if pseudonyms else run
    edition = replace(edition, run=shown)
    job = Job(str(work), run, folder.pointed("reports/latest"), tuple(extras), edition, pseudonyms)
    told, made = _write_files(folder, job, map, progress)
    give_back()  # before a list of all files, which takes as much as the tables did
    seal_folder(folder, f"reports/{shown}")
    counts = {f"n_{word}": made[word] for word in ("written", "linked", "kept", "failed", "without")}
    return {"run": shown, "folder": f"{folder}/reports/{shown}", **told, "n_records": made.total(), **counts}


class _Set(NamedTuple):
    """All records of a run as they are shown: scores, file names (of those without a page empty), serial recordings, pages."""

    scores: xr.Dataset
    slugs: np.ndarray
    series: Series
    pages: Pages
    order: np.ndarray
    """In which they are made, and lie in ``records.parquet``."""


def _set_of(folder: Folder, job: Job) -> _Set:
    scores = with_own_status(load_columns(store_path(folder, "scores", job.scores_run)))
    order = _in_order_of_stores(scores)
    if job.pseudonyms:
        write_pseudonyms(job.work, job.pseudonyms, scores)
        scores = job.pseudonyms.scores(scores)
        order = np.argsort(scores["record_name"].values, kind="stable")  # the archive's order would tell who they are
    mode = mode_for(job.edition.pages, scores.sizes["record"])
    is_shown = has_page(scores, mode)
    slugs = np.where(is_shown, _slugs_of(scores["record_name"].values), "")
    counted = Pages(mode, int(is_shown.sum()), is_shown.size)
    return _Set(scores, slugs, series_of(job.work, scores, slugs), counted, order)


def _write_files(
    folder: Folder, job: Job, map: Callable[..., Iterable[Any]], progress: Callable[[int, int], None] | None
) -> tuple[dict[str, Any], Counter[str]]:
    """Write the records' reports, then the cohort's; return paths and pages, and how many records' came to be in which way."""
    from ecgbatch.reports import cohort

    started = perf_counter()
    everyone = _set_of(folder, job)
    scores, slugs = everyone.scores, everyone.slugs
    edition = replace(job.edition, segments_s=scores.attrs["settings"].get("segments_s"))
    _clear_pages(folder, edition.run, slugs)
    facts, made = _write_every_record(replace(job, edition=edition), everyone, map, progress)
    forget_columns()
    spent = {**edition.seconds, "record reports": perf_counter() - started}
    earlier = "" if job.pseudonyms else earlier_run(job.work, job.scores_run)
    measured = {name: scores[name].values for name in ("measurements_store", "beats_row") if "measurements_store" in scores}
    if job.pseudonyms:
        _, measured = without_order(scores, measured)  # while there are rows: pseudonymous scores name none
        scores, facts = without_order(scores, facts)
    leads = LeadValues(folder, *measured.values()) if measured else None
    stated = {name: getattr(edition, name) for name in ("model", "run", "created", "archive", "is_synthetic")}
    stated |= {"largest_changes": everyone.series.changes(), "n_not_taken": _not_taken(job.work)}
    own = load_columns(store_path(folder, "scores", job.scores_run), OF_SCORES)  # whatever names are shown
    stated |= {"n_left_out": left_out_counts(job.work), "pages": everyone.pages._asdict()}
    stated |= {"reviews": reviewed(job.work, own, str(job.edition.model["digest"]))}
    paths = cohort.write_cohort(folder, scores, facts, stated, leads=leads, earlier=earlier, seconds=spent)
    return {**paths, "records_parquet": f"{folder}/reports/{edition.run}/{FILE}", "pages": everyone.pages}, made


def _clear_pages(folder: Folder, run: str, slugs: np.ndarray) -> None:
    """Remove the files of records that have no page any more: what lies there is what this report says."""
    kept = set(slugs.tolist())
    for name in folder.children(f"reports/{run}/records"):
        stem = next((name.removesuffix(end) for end in ENDS if name.endswith(end)), name)
        if stem not in kept:
            folder.delete(f"reports/{run}/records/{name}")


def _write_every_record(
    job: Job, everyone: _Set, map: Callable[..., Iterable[Any]], progress: Callable[[int, int], None] | None
) -> tuple[dict[str, np.ndarray], Counter[str]]:
    """Write the records' reports, some to a task; return their ``tables.FACTS``, and how many came to be in which way."""
    from ecgbatch.reports import tables

    slugs, order = everyone.slugs, everyone.order
    n_records = order.size
    length = min(_MOST_RECORDS_PER_TASK, max(1, -(-n_records // _LEAST_TASKS)))
    rows_of = [order[start : start + length] for start in range(0, n_records, length)]
    number_of = {int(rows[0]): number for number, rows in enumerate(rows_of)}
    facts = {name: np.zeros(n_records, dtype) for name, dtype in tables.FACTS.items() if name != "slug"} | {"slug": slugs}
    made = Counter[str]()
    tasks = ((rows, slugs[rows].tolist(), Beside(everyone.series, rows)) for rows in rows_of)
    with records_file(folder_at(job.work), job.edition) as documents:
        for found in map(partial(write_records, job), tasks):
            made.update(found.done)
            for name, values in found.facts.items():
                facts[name][found.rows] = values
            documents.add(number_of[int(found.rows[0])], found.documents)
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


def _in_order_of_stores(scores: xr.Dataset) -> np.ndarray:
    """Return the records' places as their samples lie in their stores: what neighbours share is then read once."""
    stores = np.unique(scores["signals_store"].values, return_inverse=True)[1]
    return np.lexsort((scores["signals_row"].values, stores))


def _slugs_of(names: np.ndarray) -> np.ndarray:
    """Return the file name of each record's report, (record,) text."""
    slugs = record_slugs(names)
    return np.array([slugs[name] for name in names], TEXT)


class Wanted(TypedDict, total=False):
    """What reports of a run may be made with; all of it may be left out.

    ``extras``: as in ``write_reports``. ``pages``: as in ``Edition``. ``pseudonymise``: show no name of a record or patient, but
    keyed digests of them (``workspace.privacy.Pseudonyms``). ``leads``: whether ``latest`` is to point to these reports, as it
    is unless they are a copy for others beside those of the house.
    """

    extras: Sequence[str]
    pages: str | None
    pseudonymise: bool
    leads: bool


def report_workspace(
    work: str,
    run: str,
    *,
    map: Callable[..., Iterable[Any]] = map,
    on_progress: Callable[[str, int, int], None] | None = None,
    **wanted: Unpack[Wanted],
) -> dict[str, Any]:
    """Write all reports of a run and let ``work/reports/latest`` point there; return their paths and the cohort's counts.

    Parameters
    ----------
    work, run
        Workspace; name of a run that ``workspace.runs.write_run`` has recorded.
    map, on_progress
        As in ``write_reports``; ``on_progress`` is called with the stage's name too.
    wanted
        As ``Wanted`` says.

    Returns
    -------
    dict
        ``cohort`` (the page's path), ``reports`` (the folder), ``counts`` as the cohort's JSON has them, and ``pages``: a
        sentence on which records have one.

    """
    folder = folder_at(work)
    summary = write_reports(
        work,
        run,
        replace(edition_of(work, run), pages=wanted.get("pages")),
        extras=wanted.get("extras", ()),
        pseudonyms=workspace_pseudonyms(work) if wanted.get("pseudonymise") else None,
        map=map,
        progress=partial(on_progress, "report") if on_progress else None,
    )
    if wanted.get("leads", True):
        folder.point("reports/latest", summary["run"])
    cohort = json.loads(folder.read(f"reports/{summary['run']}/cohort.json"))
    counts = {name: cohort[name] for name in COUNTS}
    said = summary["pages"].words(work)
    return {"cohort": summary["cohort_html"], "reports": summary["folder"], "counts": counts, "pages": said}


def report_record(
    work: str, run: str, name: str, *, extras: Sequence[str] = (), pseudonymise: bool = False, place: str = ""
) -> dict[str, Any]:
    """Make the page and the JSON of one record, whichever records have one; it says what its row of ``records.parquet`` says.

    Parameters
    ----------
    work, run, extras
        As in ``write_reports``; the run's reports are there, or ``place`` is given.
    name
        Of the record: its own, or where names are replaced the one shown.
    pseudonymise
        Whether names are replaced.
    place
        A folder for the files, instead of the run's reports: such a page leads to no other.

    Returns
    -------
    dict
        ``record`` (its name as shown), ``page`` and ``json`` (paths), and the path of each extra.

    Raises
    ------
    ValueError
        If the run has no record of that name, or no reports to put the page into.

    """
    check_extras(extras)
    folder, shown = folder_at(work), f"{run}{PSEUDONYMOUS}" if pseudonymise else run
    if not place and not folder.exists(f"reports/{shown}/manifest.json"):
        raise ValueError(f"{folder}: the run {run} has no reports to put a page into; `ecgbatch report`, or give --to FOLDER")
    pseudonyms = workspace_pseudonyms(work) if pseudonymise else None
    edition = replace(edition_of(work, run), run=shown, pages=stated_mode(folder, f"reports/{shown}"))
    job = Job(str(work), run, "", tuple(extras), edition, pseudonyms, place)
    everyone = _set_of(folder, job)
    row = _row_of(folder, run, everyone.scores, name)
    names = everyone.scores["record_name"].values
    slug = str(_slugs_of(names)[row])
    job = replace(job, edition=replace(edition, segments_s=everyone.scores.attrs["settings"].get("segments_s")))
    write_records(job, (np.array([row]), [slug], list(Beside(everyone.series, np.array([row])))))
    kinds = {"page": "html", "json": "json"} | {extra: "pdf" if extra == "pdf" else "fhir.json" for extra in extras}
    if not place:
        seal_again(folder, f"reports/{shown}", [f"records/{slug}.{kind}" for kind in kinds.values()])
    below = place or f"{folder}/reports/{shown}/records"
    return {"record": str(names[row])} | {what: f"{below}/{slug}.{kind}" for what, kind in kinds.items()}


def _row_of(folder: Folder, run: str, scores: xr.Dataset, name: str) -> int:
    """Return the place of a record by its own name or the one shown."""
    own = load_columns(store_path(folder, "scores", run), ("record_name",))["record_name"].values
    for names in (own, scores["record_name"].values):
        if (found := np.flatnonzero(names == name)).size:
            return int(found[0])
    near = get_close_matches(name, own.tolist(), 3, 0.5) if own.size <= _MOST_COMPARED else []
    said = f" The nearest names: {', '.join(near)}." if near else ""
    raise ValueError(f"{folder}: expected the name of a record of the run {run}, found none named {name!r}.{said}")


def edition_of(work: str, run: str) -> Edition:
    """Return what every report of a run says alike."""
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
    return Edition(model, stated.get("created", ""), **archive, seconds=stated.get("seconds") or {})
