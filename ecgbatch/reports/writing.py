"""Reports: for every record a JSON and a page, for the archive a cohort page and tables; what is written where."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
import xarray as xr

from ecgbatch.measurements.document import document
from ecgbatch.measurements.excerpt import Span, measure_excerpt
from ecgbatch.measurements.stage import MEASUREMENTS, measured_of
from ecgbatch.reports import record
from ecgbatch.reports.course import course_of
from ecgbatch.reports.excerpts import Excerpt, excerpt_of
from ecgbatch.reports.failed import failed_files, failed_report
from ecgbatch.reports.files import json_lines, utf8
from ecgbatch.reports.layout import lay_out
from ecgbatch.reports.median_beats import beat_quartiles
from ecgbatch.reports.overlay import median_beat, overlay
from ecgbatch.reports.serial import Beside, Serial, series_of
from ecgbatch.scores.stage import with_own_status
from ecgbatch.signals.stage import NOT_TAKEN, archive_facts
from ecgbatch.terms import MODEL_NAME_DIGITS
from ecgbatch.workspace.privacy import PSEUDONYMOUS, Pseudonyms, without_order, workspace_pseudonyms, write_pseudonyms
from ecgbatch.workspace.runs import earlier_run, read_run
from storage import (
    NOT_OF_A_ROW,
    TEXT,
    Folder,
    StoreError,
    folder_at,
    forget_columns,
    load_columns,
    open_once,
    read_columns,
    seal_folder,
)
from storage.heap import give_back, hold_little

EXTRAS = ("pdf", "fhir")
"""Further forms of a record's report, on request: one A4 page; a FHIR bundle."""

COUNTS = ("n_records", "n_patients", "n_scored", "n_set_aside", "n_not_scorable", "not_scorable_reasons", "decisions")
"""Fields of the cohort's JSON that a run's result, its record and ``last-run.json`` repeat."""

_MOST_RECORDS_PER_TASK = 64
_LEAST_TASKS = 4  # so that two cores share even 40 records
_MOST_BYTES = 16_000_000  # of signals held at once by a task
_LONGEST_SLUG = 120  # bytes; with suffix and extension far below the 255 of common file systems
_WINDOWS_NAMES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_COLUMNS: dict[str, tuple[str, ...]] = {
    "signals": (
        "lead",
        "lead_flags",
        "adc_gain",
        "baseline",
        "sampling_frequency_hz",
        "n_samples",
        "status",
        "status_detail",
        "reason",
        "warnings",
        "comments",
        "source_digest",
        "patient_unknown",
        "label_rule",
        "diagnosis",
        "infarct_location",
        "infarct_age",
        "recording_year",
    ),
    "beats": ("lead", "sample_time_s", "first_beat", "n_beats"),
    "measurements": (*MEASUREMENTS.columns(), "lead"),
}  # the small columns that a report is made of: the others would take as much memory again


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


@dataclass(frozen=True)
class _Job:
    """What every worker needs to know to write record reports; ``earlier`` is the run whose pages may be linked."""

    work: str
    scores_run: str
    run: str
    """Of the reports' folder: that of the scores, or its pseudonymous twin."""
    earlier: str
    extras: tuple[str, ...]
    options: Mapping[str, Any]
    pseudonyms: Pseudonyms | None


def write_reports(
    work: str,
    run: str,
    *,
    model: Mapping[str, Any],
    created: str,
    archive: str,
    is_synthetic: bool = False,
    extras: Sequence[str] = (),
    pseudonyms: Pseudonyms | None = None,
    seconds: Mapping[str, float] | None = None,
    map: Callable[..., Iterable[Any]] = map,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write all reports of a run below ``work/reports/<run>`` and let ``work/reports/latest`` point there.

    Every file appears whole or not at all. A record's report that is already there, or is in the latest run's folder with the
    same content, is not made again: it stays, or is linked, and keeps the run and time of its making.

    Parameters
    ----------
    work
        Workspace; the signals and beats stores that the scores name are read from it.
    run
        Name of the published ``scores/<run>.zarr``.
    model
        Contents of model.json.
    created
        ISO time for the provenance; nothing here reads a clock.
    archive
        Name that a reader knows the archive by.
    is_synthetic
        Whether every page must call its data synthetic.
    extras
        Of ``EXTRAS``: further forms to write beside each record's page.
    pseudonyms
        Names to show in place of those of records and patients. Such reports lie in ``work/reports/<run>-pseudonymous``, and
        compare nothing with an earlier run: that one shows names.
    seconds
        Of the run's stages so far, for the cohort page.
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
    from ecgbatch.reports import cohort, tables

    _check_extras(extras)
    hold_little()
    started = perf_counter()
    folder = folder_at(work)
    scores = with_own_status(load_columns(_store_path(folder, "scores", run)))
    shown = f"{run}{PSEUDONYMOUS}" if pseudonyms else run
    if pseudonyms:
        write_pseudonyms(work, pseudonyms, scores)
        scores = pseudonyms.scores(scores)
    slugs, n_records = _slugs_of(scores["record_name"].values), scores.sizes["record"]
    series = series_of(work, scores, slugs)
    options = {
        "model": record.model_summary(model),
        "run": shown,
        "created": created,
        "archive": archive,
        "is_synthetic": is_synthetic,
        "segments_s": scores.attrs["settings"].get("segments_s"),
    }
    job = _Job(str(work), run, shown, folder.pointed("reports/latest"), tuple(extras), options, pseudonyms)
    length = min(_MOST_RECORDS_PER_TASK, max(1, -(-n_records // _LEAST_TASKS)))
    order = _in_order_of_stores(scores)
    rows_of = [order[start : start + length] for start in range(0, n_records, length)]
    facts = {name: np.zeros(n_records, dtype) for name, dtype in tables.FACTS.items() if name != "slug"} | {"slug": slugs}
    made = Counter[str]()
    for rows, done, found in map(
        partial(_write_records, job), ((rows, slugs[rows].tolist(), Beside(series, rows)) for rows in rows_of)
    ):
        made.update(done)
        for name, values in found.items():
            facts[name][rows] = values
        if progress is not None:
            progress(made.total(), n_records)
    forget_columns()
    spent = {**(seconds or {}), "record reports": perf_counter() - started}
    earlier = "" if pseudonyms else earlier_run(work, run)
    if pseudonyms:
        scores, facts = without_order(scores, facts)
    stated = options | {"largest_changes": series.changes(), "n_not_taken": _not_taken(work)}
    paths = cohort.write_cohort(folder, scores, facts, stated, earlier=earlier, seconds=spent)
    del facts, scores, found, order, rows_of, series  # a list of all files takes as much
    give_back()
    seal_folder(folder, f"reports/{shown}")
    folder.point("reports/latest", shown)
    counts = {f"n_{word}": made[word] for word in ("written", "linked", "kept", "failed")}
    return {"run": shown, "folder": f"{folder}/reports/{shown}", **paths, "n_records": n_records, **counts}


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


def _check_extras(extras: Sequence[str]) -> None:
    """Fail before anything is written where a library that an extra form needs is not installed."""
    if "pdf" in extras:
        from ecgbatch.reports import pdf

        pdf.check_installed()
    if "fhir" in extras:
        from ecgbatch.reports import fhir

        fhir.check_installed()


def _store_path(folder: Folder, kind: str, name: str) -> str:
    return str(folder.path(f"{kind}/{name}.zarr"))


def _write_records(
    job: _Job, task: tuple[np.ndarray, Sequence[str], Iterable[Serial]]
) -> tuple[np.ndarray, list[str], dict[str, np.ndarray]]:
    """Write the reports of one task's records; return their rows, how each came to be, and their ``tables.FACTS``."""
    from ecgbatch.reports.tables import FACTS, lead_facts, measured_facts

    numbers, slugs, others = task
    folder = folder_at(job.work)
    scores = _scores_of(_store_path(folder, "scores", job.scores_run), numbers)
    rows = record.plain_rows(scores)
    sources = _Sources(folder, rows)
    if job.pseudonyms:
        rows = record.plain_rows(job.pseudonyms.scores(scores))
    done: list[str] = []
    facts: dict[str, list[Any]] = {name: [] for name in FACTS if name != "slug"}
    for place, (slug, row, serial) in enumerate(zip(slugs, rows, others, strict=True)):
        signals = sources.row("signals", place)
        shown = job.pseudonyms.signals(signals) if job.pseudonyms else signals
        try:
            report, made = _write_record(job, folder, slug, row, shown, sources, place, serial)
        except NOT_OF_A_ROW:
            raise
        except Exception as error:  # one record's content: its page says so, all others are made
            kind, made = type(error).__name__, "failed"
            report = failed_report(row, shown, kind, job.options)
            for what, content in failed_files(report, kind):
                folder.replace(_key(job.run, slug, what), content)
        done.append(made)
        known = report | {"recording_year": signals.get("recording_year", -1) if signals else -1}
        known["warnings"] = " ".join(report["warnings"])
        leads, flags = (signals["lead"].tolist(), signals["lead_flags"]) if signals else ((), np.empty(0, np.int64))
        known |= lead_facts(leads, flags, is_set_aside=report["status"] == "set_aside")
        known |= measured_facts(sources.row("measurements", place))
        for name, values in facts.items():
            values.append(np.nan if known[name] is None else known[name])
    return numbers, done, {name: np.array(values, FACTS[name]) for name, values in facts.items()}


def _write_record(
    job: _Job,
    folder: Folder,
    slug: str,
    row: record.Row,
    shown: record.Row | None,
    sources: _Sources,
    place: int,
    serial: Serial,
) -> tuple[dict[str, Any], str]:
    """Write the report of one record; return what it says, and how it came to be."""
    beats = sources.beats(place)
    report = record.record_report(row, shown, beats, serial=serial, **job.options)
    made = _reuse(folder, job, slug, report["provenance"]["report_digest"])
    if made:
        return report, made
    drawn = sources.drawn(place, report)
    if "excerpt" in drawn:
        record.add_measurements(report, sources.measurements(place, drawn["excerpt"], beats))
        record.add_scale(report, drawn["sheet"], drawn["course"])
    if serial.source is not None and "quartiles" in drawn:
        drawn["overlay"] = overlay(drawn, median_beat(folder, serial.source))
    for kind, content in _contents(report, drawn, job.extras):
        folder.replace(_key(job.run, slug, kind), content)
    return report, "written"


def _scores_of(path: str, rows: np.ndarray) -> xr.Dataset:
    """Return rows of a scores store whole."""
    columns, store = with_own_status(read_columns(path, rows)), open_once(path, ())
    bulk = [name for name in ("beat_probability", "evidence") if name in store.variables]
    return columns.assign({name: store[name].isel(record=rows).variable.load() for name in bulk})


def _contents(report: Mapping[str, Any], drawn: Mapping[str, Any], extras: Sequence[str]) -> Iterable[tuple[str, bytes]]:
    """Yield kind and content of each file of a record's report; the JSON comes last and vouches for the others."""
    yield "html", utf8(record.record_page(report, **drawn))
    if "pdf" in extras:
        from ecgbatch.reports import pdf

        yield "pdf", pdf.record_pdf(report, excerpt=drawn.get("excerpt"))
    if "fhir" in extras:
        from ecgbatch.reports import fhir

        yield "fhir.json", fhir.record_bundle(report)
    yield "json", utf8(json_lines(report))


def _key(run: str, slug: str, kind: str) -> str:
    return f"reports/{run}/records/{slug}.{kind}"


def _reuse(folder: Folder, job: _Job, slug: str, report_digest: str) -> str:
    """Keep a report of the same content that is there, or link the latest run's; return which, or nothing."""
    kinds = ("html", *(extra if extra == "pdf" else "fhir.json" for extra in job.extras), "json")
    for run, word in ((job.run, "kept"), (job.earlier, "linked")):
        if not run or (word == "linked" and run == job.run):
            continue
        try:
            found = json.loads(folder.read(_key(run, slug, "json")))["provenance"]["report_digest"]
            is_whole = all(folder.exists(_key(run, slug, kind)) for kind in kinds)
            is_whole = is_whole and folder.read(_key(run, slug, "html")).endswith(b"</html>")
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if found != report_digest or not is_whole:
            continue
        if word == "linked":
            for kind in kinds:
                folder.link(_key(run, slug, kind), _key(job.run, slug, kind))
        return word
    return ""


class _Sources:
    """The rows of signals and beats stores behind some rows of a scores store; what neighbours share is read once."""

    def __init__(self, folder: Folder, scores: Sequence[record.Row]) -> None:
        self._folder, self._scores = folder, scores
        self._rows: dict[tuple[str, int], record.Row] = {}
        self._joined: dict[tuple[str, str], tuple[int, np.ndarray] | None] = {}
        self._signals: dict[tuple[str, int], np.ndarray] = {}
        self._stores: dict[tuple[str, str], xr.Dataset] = {}

    def _store(self, kind: str, name: str) -> xr.Dataset:
        if (kind, name) not in self._stores:
            self._stores[kind, name] = open_once(_store_path(self._folder, kind, name), ())
        return self._stores[kind, name]

    def _name(self, kind: str, place: int) -> str:
        return str(self._scores[place].get(f"{kind}_store", ""))  # earlier scores name no measurements

    def _places(self, kind: str, name: str) -> list[int]:
        return [place for place in range(len(self._scores)) if self._name(kind, place) == name]

    def row(self, kind: str, place: int) -> record.Row | None:
        """Return the small columns of a record's row in its store of this kind, or None where it has none."""
        name = self._name(kind, place)
        if not name:
            return None
        if (kind, place) not in self._rows:
            places = self._places(kind, name)
            row_of = "beats_row" if kind == "measurements" else f"{kind}_row"
            rows = np.array([self._scores[other][row_of] for other in places], np.int64)
            columns = read_columns(_store_path(self._folder, kind, name), rows, _COLUMNS[kind])
            self._rows |= {(kind, other): row for other, row in zip(places, record.plain_rows(columns), strict=True)}
        return self._rows[kind, place]

    def beats(self, place: int) -> record.Beats | None:
        """Return R peaks, flags and probabilities of the record's beats."""
        r_sample, flags = self._of_beats(place, "r_sample"), self._of_beats(place, "beat_flags")
        if r_sample is None or flags is None:
            return None
        return record.Beats(r_sample, flags, self._scores[place]["beat_probability"][: r_sample.size])

    def _of_beats(self, place: int, variable: str) -> np.ndarray | None:
        """Return a variable of the record's beats; records that lie side by side, as they mostly do, are read in one go."""
        row, name = self.row("beats", place), self._name("beats", place)
        if row is None or not row["n_beats"]:
            return None
        stored = self._store("beats", name)[variable].variable
        first, last = row["first_beat"], row["first_beat"] + row["n_beats"]
        if (name, variable) not in self._joined:
            self._joined[name, variable] = self._read_together(name, stored)
        joined = self._joined[name, variable]
        return stored[first:last].values if joined is None else joined[1][first - joined[0] : last - joined[0]]

    def _read_together(self, name: str, stored: xr.Variable) -> tuple[int, np.ndarray] | None:
        mine = [self._rows["beats", other] for other in self._places("beats", name)]
        low, high = min(row["first_beat"] for row in mine), max(row["first_beat"] + row["n_beats"] for row in mine)
        return (low, stored[low:high].values) if high - low <= 2 * sum(row["n_beats"] for row in mine) else None

    def measurements(self, place: int, excerpt: Excerpt, beats: record.Beats | None) -> dict[str, Any]:
        """Return what the record's JSON says of its measurements: from their store, or measured here where the scores name none.

        The report's digest was taken before: it names the store, or what they follow from.
        """
        whose = {name: self._scores[place][name] for name in ("age_years", "sex")}
        if row := self.row("measurements", place):
            method = self._store("measurements", self._name("measurements", place)).attrs["settings"]["method"]
            return document(measured_of(row), row["lead"].tolist(), method, **whose)
        fs = excerpt.sampling_frequency_hz
        source = {"lead": excerpt.leads, "lead_flags": excerpt.lead_flags, "sampling_frequency_hz": fs, **whose}
        r_sample, flags = (np.empty(0, np.int64),) * 2 if beats is None else (beats.r_sample, beats.flags)
        found = measure_excerpt(excerpt.signal, source, round(excerpt.start_s * fs), r_sample, flags)
        return document(found, excerpt.leads, **whose)

    def drawn(self, place: int, report: Mapping[str, Any]) -> dict[str, Any]:
        """Return what ``record_page`` draws: excerpt, laid out; course; median beats, their times and kind of amplitude."""
        row = self.row("signals", place)
        if report["excerpt"] is None or row is None:
            return {}
        fs, store = report["sampling_frequency_hz"], self._store("signals", self._name("signals", place))
        start_s, length_s = report["excerpt"]["start_s"], report["excerpt"]["length_s"]
        part, plan = Span(start_s, length_s).samples(fs, report["n_samples"]), report["strips"]
        steps = self._signal(place, store)
        excerpt = excerpt_of(steps[:, part], row, start_s=part.start / fs)
        drawn: dict[str, Any] = {"excerpt": excerpt, "sheet": lay_out(excerpt)}
        drawn["course"] = course_of(steps, row, plan) if plan else None
        waveform, flags = self._of_beats(place, "waveform"), self._of_beats(place, "beat_flags")
        beats = self.row("beats", place)
        if beats is not None and waveform is not None and flags is not None:
            quartiles = beat_quartiles(waveform, flags)
            drawn["quartiles"] = _in_order(quartiles, beats["lead"].tolist(), row["lead"].tolist())
            drawn["sample_time_s"] = beats["sample_time_s"]
            drawn["is_millivolts"] = (
                self._store("beats", self._name("beats", place)).attrs["settings"].get("method", "robust") != "kachuee"
            )
        return drawn

    def _signal(self, place: int, store: xr.Dataset) -> np.ndarray:
        """Return a record's samples, (lead, sample); neighbours that share chunks are read together, as far as memory allows."""
        key = (self._name("signals", place), self._scores[place]["signals_row"])
        if key not in self._signals:
            stored = store["signal"].variable
            most = max(1, _MOST_BYTES // (stored.sizes["lead"] * stored.sizes["sample"] * stored.dtype.itemsize))
            rows = [self._scores[other]["signals_row"] for other in self._places("signals", key[0]) if other >= place][:most]
            n_together = next((k for k, row in enumerate(rows) if row != rows[0] + k), len(rows))
            block = stored[rows[0] : rows[0] + n_together].values
            self._signals = {(key[0], rows[0] + k): block[k] for k in range(n_together)}
        return self._signals[key]


def _in_order(quartiles: np.ndarray, found: Sequence[str], wanted: Sequence[str]) -> np.ndarray:
    ordered = np.full((3, len(wanted), quartiles.shape[2]), np.nan, np.float32)
    for place, lead in enumerate(wanted):
        if lead in found:
            ordered[:, place] = quartiles[:, list(found).index(lead)]
    return ordered


def report_workspace(
    work: str,
    run: str,
    *,
    extras: Sequence[str] = (),
    pseudonymise: bool = False,
    map: Callable[..., Iterable[Any]] = map,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Write all reports of a run; return their paths and the cohort's counts.

    Parameters
    ----------
    work, run
        Workspace; name of a run that ``workspace.runs.write_run`` has recorded.
    pseudonymise
        Show no name of a record or patient, but keyed digests of them (``workspace.privacy.Pseudonyms``).
    extras, map, on_progress
        As in ``write_reports``; ``on_progress`` is called with the stage's name too.

    Returns
    -------
    dict
        ``cohort`` (the page's path), ``reports`` (the folder), and ``counts`` as the cohort's JSON has them.

    """
    from ecgbatch.model.members import ModelError, load_model

    folder = folder_at(work)
    digest = open_once(_store_path(folder, "scores", run), ()).attrs["settings"]["model"]["digest"]
    kept = f"models/{digest[:MODEL_NAME_DIGITS]}"
    if load_model(folder.path(kept)).digest != digest:  # it tells what the pages say of thresholds and training
        raise ModelError(
            f"{folder}/{kept}: another model than the one that scored; copy it back, or see ecgbatch verify --repair"
        )
    archive = {name: value for name, value in archive_facts(work).items() if name in ("archive", "is_synthetic")}
    stated = read_run(work, run)
    summary = write_reports(
        work,
        run,
        model=json.loads(folder.read(f"{kept}/model.json")),
        created=stated.get("created", ""),
        archive=archive["archive"],
        is_synthetic=archive["is_synthetic"],
        extras=extras,
        pseudonyms=workspace_pseudonyms(work) if pseudonymise else None,
        seconds=stated.get("seconds"),
        map=map,
        progress=partial(on_progress, "report") if on_progress else None,
    )
    cohort = json.loads(folder.read(f"reports/{summary['run']}/cohort.json"))
    counts = {name: cohort[name] for name in COUNTS}
    return {"cohort": summary["cohort_html"], "reports": summary["folder"], "counts": counts}
