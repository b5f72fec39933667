"""A record's files: its JSON, its page and further forms, written, linked from the run before, or kept."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from markupsafe import Markup

from ecgbatch.reports.documents import Document, document_row
from ecgbatch.reports.failed import failed_files, failed_report
from ecgbatch.reports.files import json_lines, utf8
from ecgbatch.reports.overlay import OtherBeats, beside
from ecgbatch.reports.record import Beats, Edition, add_measurements, add_scale, record_report
from ecgbatch.reports.record_page import Drawn, record_page
from ecgbatch.reports.rows import Row, plain_rows
from ecgbatch.reports.serial import Serial
from ecgbatch.reports.sources import Sources, store_path
from ecgbatch.scores.scorable import with_own_status
from ecgbatch.workspace.privacy import Pseudonyms
from storage import NOT_OF_A_ROW, Folder, folder_at, open_once, read_columns

EXTRAS = ("pdf", "fhir")
"""Further forms of a record's report, on request: one A4 page; a FHIR bundle."""

ENDS = (".html", ".fhir.json", ".json", ".pdf")
"""Of the files of a record."""


@dataclass(frozen=True)
class Job:
    """What every worker needs to know to write record reports; ``earlier`` is the run whose pages may be linked."""

    work: str
    scores_run: str
    earlier: str
    extras: tuple[str, ...]
    edition: Edition
    pseudonyms: Pseudonyms | None
    place: str = ""
    """A folder for the files, instead of the workspace's reports."""


class Written(NamedTuple):
    """What a task gives: its rows, how each record's report came to be, their ``tables.FACTS``, and their ``documents``."""

    rows: np.ndarray
    done: list[str]
    facts: dict[str, np.ndarray]
    documents: list[Document]


def check_extras(extras: Sequence[str]) -> None:
    """Fail before anything is written where a library that an extra form needs is not installed."""
    if "pdf" in extras:
        from ecgbatch.reports import pdf

        pdf.check_installed()
    if "fhir" in extras:
        from ecgbatch.reports import fhir

        fhir.check_installed()


def write_records(job: Job, task: tuple[np.ndarray, Sequence[str], Iterable[Serial]]) -> Written:
    """Make the reports of one task's records; those with a file name get a page and further files, the others a row alone."""
    from ecgbatch.reports.tables import FACTS, lead_facts, listed_facts, measured_facts

    numbers, slugs, others = task
    others = list(others)
    folder = folder_at(job.work)
    scores = scores_of(store_path(folder, "scores", job.scores_run), numbers)
    rows = plain_rows(scores)
    sources = Sources(folder, rows)
    if job.pseudonyms:
        rows = plain_rows(job.pseudonyms.scores(scores))
    near = OtherBeats(folder, (other.source for slug, other in zip(slugs, others, strict=True) if slug and other.source))
    done, documents = [], []
    facts: dict[str, list[Any]] = {name: [] for name in FACTS if name != "slug"}
    for place, (slug, row, serial) in enumerate(zip(slugs, rows, others, strict=True)):
        signals = sources.row("signals", place)
        shown = job.pseudonyms.signals(signals) if job.pseudonyms else signals
        report, text, made = _one_record(job, folder, sources, near, _One(place, slug, row, shown, serial))
        done.append(made)
        documents.append(document_row(report, text, slug))
        known = report | {"recording_year": signals.get("recording_year", -1) if signals else -1}
        known |= listed_facts(report)
        leads, flags = (signals["lead"].tolist(), signals["lead_flags"]) if signals else ((), np.empty(0, np.int64))
        known |= lead_facts(leads, flags, is_set_aside=report["status"] == "set_aside")
        known |= measured_facts(sources.row("measurements", place))
        for name, values in facts.items():
            values.append(np.nan if known[name] is None else known[name])
    return Written(numbers, done, {name: np.array(values, FACTS[name]) for name, values in facts.items()}, documents)


class _One(NamedTuple):
    """One record of a task: its place there, file name, row of scores, row of signals as shown, and its patient's others."""

    place: int
    slug: str
    row: Row
    shown: Row | None
    serial: Serial


def _one_record(job: Job, folder: Folder, sources: Sources, others: OtherBeats, one: _One) -> tuple[dict[str, Any], str, str]:
    """Make the report of one record; return what it says, its JSON, and how it came to be."""
    try:
        return _write_record(job, folder, sources, others, one)
    except NOT_OF_A_ROW:
        raise
    except Exception as error:  # one record's content: its report says so, all others are made
        kind = type(error).__name__
        report = failed_report(one.row, one.shown, kind, job.edition)
        for what, content in failed_files(report, kind) if one.slug else ():
            _put(job, folder, one.slug, what, content)
        return report, json_lines(report), "failed"


def _write_record(job: Job, folder: Folder, sources: Sources, others: OtherBeats, one: _One) -> tuple[dict[str, Any], str, str]:
    beats = sources.beats(one.place)
    report = record_report(one.row, one.shown, beats, job.edition, one.serial)
    if one.slug and not job.place and (kept := _reuse(folder, job, one.slug, report["provenance"]["report_digest"])):
        return report, *kept
    drawn = draw(report, sources, one.place, beats, has_page=bool(one.slug))
    text = json_lines(report, report.said)
    if not one.slug:
        return report, text, "without"
    over = beside(drawn, others, one.serial.source)
    for kind, content in _contents(report, drawn, over, job):
        _put(job, folder, one.slug, kind, content)
    _put(job, folder, one.slug, "json", utf8(text))  # last: it vouches for the others
    return report, text, "written"


def draw(report: dict[str, Any], sources: Sources, place: int, beats: Beats | None, *, has_page: bool = True) -> Drawn:
    """Return what a record's page draws, and add to its report what is measured where it is drawn, and at which scale."""
    drawn = sources.drawn(place, report, has_page=has_page)
    if drawn.excerpt is not None:
        add_measurements(report, sources.measurements(place, drawn.excerpt, beats))
        add_scale(report, drawn.sheet, drawn.course)
    return drawn


def _put(job: Job, folder: Folder, slug: str, kind: str, content: bytes) -> None:
    if job.place:
        folder_at(job.place).put(f"{slug}.{kind}", content)
    else:
        folder.replace(_key(job.edition.run, slug, kind), content)


def scores_of(path: str, rows: np.ndarray) -> xr.Dataset:
    """Return rows of a scores store whole."""
    columns, store = with_own_status(read_columns(path, rows)), open_once(path, ())
    bulk = [name for name in ("beat_probability", "evidence") if name in store.variables]
    return columns.assign({name: store[name].isel(record=rows).variable.load() for name in bulk})


def _contents(
    report: Mapping[str, Any], drawn: Drawn, over: Sequence[tuple[str, Markup]], job: Job
) -> Iterable[tuple[str, bytes]]:
    """Yield kind and content of each file of a record's report, but for its JSON."""
    yield "html", utf8(record_page(report, drawn, over, is_alone=bool(job.place)))
    if "pdf" in job.extras:
        from ecgbatch.reports import pdf

        yield "pdf", pdf.record_pdf(report, excerpt=drawn.excerpt)
    if "fhir" in job.extras:
        from ecgbatch.reports import fhir

        yield "fhir.json", fhir.record_bundle(report)


def _key(run: str, slug: str, kind: str) -> str:
    return f"reports/{run}/records/{slug}.{kind}"


def _reuse(folder: Folder, job: Job, slug: str, report_digest: str) -> tuple[str, str] | None:
    """Keep a report of the same content that is there, or link the latest run's; return its JSON and which, or None."""
    kinds = ("html", *(extra if extra == "pdf" else "fhir.json" for extra in job.extras), "json")
    for run, word in ((job.edition.run, "kept"), (job.earlier, "linked")):
        if not run or (word == "linked" and run == job.edition.run):
            continue
        try:
            text = folder.read(_key(run, slug, "json")).decode()
            found = json.loads(text)["provenance"]["report_digest"]
            is_whole = all(folder.exists(_key(run, slug, kind)) for kind in kinds)
            is_whole = is_whole and folder.read(_key(run, slug, "html")).endswith(b"</html>")
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if found != report_digest or not is_whole:
            continue
        if word == "linked":
            for kind in kinds:
                folder.link(_key(run, slug, kind), _key(job.edition.run, slug, kind))
        return text, word
    return None
