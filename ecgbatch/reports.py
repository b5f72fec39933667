"""Reports: for every record a JSON and a page, for the archive a cohort page and tables; what is written where."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import xarray as xr
from markupsafe import Markup, escape

from ecgbatch import __version__, headers, paper, scoring
from ecgbatch.runs import read_run
from ecgbatch.signals import archive_facts
from ecgbatch.terms import (
    BEAT_FLAGS,
    DECISION,
    LABEL,
    LEAD_FLAGS,
    MISSING_SAMPLE,
    NOTICE,
    SEX,
    STATUS,
    UNSCORABLE_BEAT,
    words_of_mask,
)
from storage import open_once

SCHEMA_VERSION = 1
"""Of record.json and cohort.json: ``docs/schema/``."""

SCOPE = (
    "The probability tells recordings of patients with myocardial infarction, acute or old, from recordings of healthy controls. "
    "Other heart disease often scores as infarction; a low score does not exclude infarction."
)

LEAD_WORDS = {
    "missing": "absent",
    "flat": "flat line, not used",
    "clipped": "clipped",
    "noisy": "noise",
    "wander": "baseline wander",
    "powerline": "mains hum",
    "implausible_amplitude": "implausible amplitude",
    "lead_sum": "contradicts the other limb leads",
    "unverified": "checksum not verifiable",
    "not_millivolts": "amplitude normalised, not millivolts",
    "suspected_swap": "electrodes possibly swapped",
    "gaps": "samples missing",
}
"""What the page says for each of ``terms.LEAD_FLAGS``."""

DECISION_WORDS = {
    "mi_indicated": "Pattern of myocardial infarction indicated",
    "mi_not_indicated": "Pattern of myocardial infarction not indicated",
    "indeterminate": "Indeterminate: too close to the threshold to call",
    "not_scorable": "Not scorable",
}

_ADVICE = {
    "NO_BEATS": "Look at the leads: if all are flat or noise, record again. If beats are visible, please report the record.",
    "TOO_FEW_BEATS": "Record again, longer or with less movement; check the electrodes.",
    "LEADS_MISSING": "Fetch the missing signal files, or record the missing leads again; then run the archive again.",
    "PATIENT_TRAINED_ON": "A score of this record would flatter the model. Use a model that never saw this patient.",
    "CHECKSUM_MISMATCH": "Fetch the signal file again: it is altered, or belongs to another header.",
    "DAT_TRUNCATED": "Fetch the signal file again: the copy is incomplete.",
    "DAT_MISSING": "Fetch the signal file that the header names.",
    "DAT_EMPTY": "Fetch the signal file again: the copy is empty.",
}
"""What an operator can do about the commonest reasons; all are in docs/reason-codes.md."""

_MOST_BEATS = 256  # for the median beat: more change nothing that can be seen, and cost time
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


def record_report(
    scores: xr.Dataset,
    signals: xr.Dataset | None,
    beats: xr.Dataset | None,
    *,
    model: Mapping[str, Any],
    run: str,
    created: str,
    archive: str = "",
    is_synthetic: bool = False,
) -> dict[str, Any]:
    """Gather everything that the report of one record says.

    Parameters
    ----------
    scores
        One row of a scores store (``scoring.SCORES``), without its ``record`` dimension.
    signals
        The record's row of its signals store, with dimension ``lead`` only (``signal`` is not needed), or None.
    beats
        ``r_sample`` and ``beat_flags`` of the record's beats, in order, or None where there are none.
    model
        Contents of model.json; ``digest``, ``name``, ``operating_point``, ``members`` and ``training`` are used.
    run, created
        Digest of the score plan; ISO time that the caller read from its clock.
    archive
        Name that a reader knows the archive by.
    is_synthetic
        Whether the page must call its data synthetic.

    Returns
    -------
    dict
        JSON types only, unknown is None; ``docs/schema/record.json`` describes it.

    """
    row = _plain_row(scores)
    source = {} if signals is None else _plain_row(signals)
    decision = _word(DECISION, row["decision"])
    leads = {} if signals is None else _leads(signals)
    fs, n_samples = source.get("sampling_frequency_hz"), source.get("n_samples")
    report: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "notice": NOTICE,
        "archive": archive,
        "is_synthetic": is_synthetic,
        "record_name": row["record_name"],
        "patient_id": row["patient_id"],
        "patient_unknown": bool(source.get("patient_unknown", 0)),
        "status": _word(STATUS, row["status"]),
        "reason": row["reason"] or source.get("reason", ""),
        "reason_detail": source.get("status_detail", ""),
        "warnings": source.get("warnings", "").split(),
        "decision": decision,
        "decision_words": DECISION_WORDS[decision],
        "mi_probability": row["mi_probability"],
        "interval": _interval(row),
        "operating_point": _operating_point(model, row["threshold"]),
        "n_beats_detected": row["n_beats_detected"],
        "n_beats_scored": row["n_beats_scored"],
        "beat_agreement": row["beat_agreement"],
        "heart_rate_bpm": row["heart_rate_bpm"],
        "leads": leads,
        "n_leads_usable": sum(not {"missing", "flat"} & set(flags) for flags in leads.values()),
        "sampling_frequency_hz": fs or None,
        "n_samples": n_samples,
        "duration_s": _float(n_samples / fs) if fs and n_samples else None,
        "age_years": row["age_years"],
        "sex": _word(SEX, row["sex"]),
        "label": _word(LABEL, row["label"]),
        "label_rule": source.get("label_rule", ""),
        "diagnosis": source.get("diagnosis", ""),
        "infarct_location": source.get("infarct_location", ""),
        "infarct_age": source.get("infarct_age", ""),
        "model": {**_model_names(model), "n_members_used": row["n_members_used"]},
        "beats": _beats(beats, fs),
    }
    report["excerpt"] = _excerpt(report) if source and source["status"] != STATUS["set_aside"] else None
    report["provenance"] = {
        "source_digest": source.get("source_digest", ""),
        "signals_store": row["signals_store"],
        "beats_store": row["beats_store"],
        "ecgbatch_version": __version__,
        "run": run,
        "created": created,
        "report_digest": _report_digest(report, source.get("source_digest", ""), row),
    }
    return report


def record_page(
    report: Mapping[str, Any],
    *,
    excerpt: paper.Excerpt | None = None,
    quartiles: np.ndarray | None = None,
    sample_time_s: np.ndarray | None = None,
    is_millivolts: bool = True,
) -> str:
    """Return a record's page: one HTML file that holds everything, without a script, on A4 landscape when printed.

    Parameters
    ----------
    report
        From ``record_report``: every number on the page is one of its values.
    excerpt
        The signal to put on paper, the span of ``report["excerpt"]``; None leaves the drawing out and says so.
    quartiles : (3, lead, sample) float, mV, with ``sample_time_s`` : (sample,) float, s
        From ``beat_quartiles``; leads in the order of ``excerpt``. None leaves the median beats out.
    is_millivolts
        False where the beats were normalised when cut.

    """
    beats = report["beats"]
    probability = np.array([np.nan if value is None else value for value in beats["probability"]], float)
    time_s = np.array(beats["time_s"], float)
    drawings: dict[str, Any] = {"grid": paper.grid_patterns()}
    if excerpt is not None:
        drawings["ecg"] = paper.ecg_paper(excerpt, time_s, probability)
        if quartiles is not None and sample_time_s is not None:
            drawings["median_beats"] = paper.median_beats(
                quartiles, excerpt.leads, excerpt.lead_flags, sample_time_s, is_millivolts=is_millivolts
            )
            drawings["beats_are_fast"] = paper.beat_speed(sample_time_s) > paper.MM_PER_S
            drawings["beats_are_millivolts"] = is_millivolts and excerpt.is_millivolts
    if time_s.size and report["duration_s"]:
        threshold = report["operating_point"]["threshold"] if report["mi_probability"] is not None else None
        drawings["beat_strip"] = paper.beat_strip(time_s, probability, duration_s=report["duration_s"], threshold=threshold)
    if report["mi_probability"] is not None and report["operating_point"]["threshold"] is not None:
        drawings["scale"] = paper.probability_scale(
            report["mi_probability"], report["interval"], report["operating_point"]["threshold"]
        )
    why, advice = explain_reason(report["reason"], is_scored=report["mi_probability"] is not None)
    words = {"lead": LEAD_WORDS, "warning": headers.WARNINGS, "scope": SCOPE, "why": why, "advice": advice}
    return page("record.html", report=report, drawings=drawings, words=words)


def beat_quartiles(waveform: np.ndarray, beat_flags: np.ndarray) -> np.ndarray:
    """Return lower quartile, median and upper quartile over the scorable beats, sample by sample.

    Parameters
    ----------
    waveform : (beat, lead, sample) int16, 1 uV a step
        All beats of one record; ``terms.MISSING_SAMPLE`` is missing. Of more than 256 scorable beats, 256 evenly spread count.
    beat_flags : (beat,) uint16
        ``terms.BEAT_FLAGS``; beats with a bit of ``terms.UNSCORABLE_BEAT`` do not count.

    Returns
    -------
    (3, lead, sample) float32, mV
        NaN throughout without a scorable beat, and where a lead misses a sample in more than half of them.

    """
    scorable = np.flatnonzero((beat_flags & UNSCORABLE_BEAT) == 0)
    if not scorable.size:
        return np.full((3, *waveform.shape[1:]), np.nan, np.float32)
    if scorable.size > _MOST_BEATS:
        scorable = scorable[np.linspace(0, scorable.size - 1, _MOST_BEATS).round().astype(int)]
    values = np.sort(waveform[scorable], axis=0)
    n_missing = (values == MISSING_SAMPLE).sum(axis=0)  # missing sorts first
    n_known = values.shape[0] - n_missing
    rank = np.rint(np.multiply.outer(np.array([0.25, 0.5, 0.75]), n_known - 1)).astype(int) + n_missing
    chosen = np.take_along_axis(values, np.clip(rank, 0, values.shape[0] - 1), axis=0).astype(np.float32) / np.float32(1000.0)
    return np.where(n_missing * 2 > values.shape[0], np.float32(np.nan), chosen)


def explain_reason(code: str, *, is_scored: bool) -> tuple[str, str]:
    """Return, in words, why a record has no score (or, scored, is only partial), and what to do about it."""
    meanings = (headers.REASONS, scoring.REASONS) if is_scored else (scoring.REASONS, headers.REASONS)
    why = meanings[0].get(code) or meanings[1].get(code, "")
    advice = _ADVICE.get(code, "" if is_scored else "See docs/reason-codes.md for this code; then run the archive again.")
    return why, advice if code else ""


def page(template: str, **content: Any) -> str:
    """Render a template: text is escaped, an unknown name is an error, control characters show as a replacement character."""
    environment, style, _ = _environment()
    policy = f"default-src 'none'; style-src 'sha256-{_csp_digest(style)}'; base-uri 'none'; form-action 'none'"
    return environment.get_template(template).render(style=Markup(style), policy=policy, version=__version__, **content)  # noqa: S704 - our own file


@cache
def _environment() -> tuple[jinja2.Environment, str, str]:
    """Return the template engine, the style sheet, and a digest of everything that shapes a page."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ecgbatch"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible,
    )
    environment.filters["number"] = number
    folder = Path(__file__).parent / "templates"
    style = folder.joinpath("style.css").read_text(encoding="utf-8")
    shapes = [path.read_bytes() for path in (*sorted(folder.iterdir()), Path(__file__), Path(paper.__file__)) if path.is_file()]
    return environment, style, hashlib.sha256(b"".join(shapes)).hexdigest()


def number(value: float | None, digits: int = 3, unknown: str = "unknown") -> Markup:
    """Return a number as the page shows it, with its exact value beside it for machines (an HTML ``data`` element)."""
    if value is None:
        return escape(unknown)
    return Markup(f'<data value="{json.dumps(value)}">{value:.{digits}f}</data>')  # noqa: S704 - digits only


def _visible(value: Any) -> Any:
    return paper.visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _csp_digest(text: str) -> str:
    return b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _plain_row(row: xr.Dataset) -> dict[str, Any]:
    """Return the scalars of a Dataset as Python values; NaN is None, float32 keeps its shortest decimal form."""
    values: dict[str, Any] = {}
    for name, variable in row.variables.items():
        if variable.ndim == 0:
            value: Any = variable.values[()]
            plain = value if isinstance(value, str) else value.item()
            values[str(name)] = _float(value) if variable.dtype.kind == "f" else plain
    return values


def _float(value: Any) -> float | None:
    return float(str(value)) if math.isfinite(value) else None


def _word(flags: Mapping[str, int], value: int) -> str:
    return next(word for word, number_ in flags.items() if number_ == value)


def _leads(signals: xr.Dataset) -> dict[str, list[str]]:
    names, masks = signals["lead"].values.tolist(), signals["lead_flags"].values.tolist()
    return {name: words_of_mask(mask, LEAD_FLAGS) for name, mask in zip(names, masks, strict=True)}


def _interval(row: Mapping[str, Any]) -> list[float] | None:
    low, high = row["probability_low"], row["probability_high"]
    return None if low is None or high is None else [low, high]


def _operating_point(model: Mapping[str, Any], threshold: float | None) -> dict[str, Any]:
    """Return the threshold applied to this record, and what the model's operating point reached where it was chosen."""
    chosen = model.get("operating_point") or {}
    point: dict[str, Any] = {"threshold": chosen.get("threshold") if threshold is None else threshold}
    for name in ("sensitivity", "specificity"):
        found = chosen.get(name)
        figure = found if isinstance(found, Mapping) else {"value": found}
        point[name] = figure.get("value")
        point[f"{name}_interval"] = [figure["low"], figure["high"]] if "low" in figure else None
        point[f"{name}_n_patients"] = figure.get("n_patients")
    return point | {"chosen_on": str(chosen.get("chosen_on", ""))}


def _model_names(model: Mapping[str, Any]) -> dict[str, Any]:
    recipe = (model.get("training") or {}).get("recipe", "unnamed")
    n_members = model.get("n_members") or len(model.get("members") or ())
    return {
        "name": str(model.get("name") or f"{recipe}, {n_members} members"),
        "digest": str(model.get("digest", "")),
        "n_members": n_members,
    }


def _beats(beats: xr.Dataset | None, fs: float | None) -> dict[str, list[Any]]:
    if beats is None or not fs:
        return {"r_sample": [], "time_s": [], "probability": [], "flags": []}
    r_sample = beats["r_sample"].values
    probability = beats["beat_probability"].values if "beat_probability" in beats else np.full(r_sample.size, np.nan)
    masks = beats["beat_flags"].values.tolist()
    return {
        "r_sample": r_sample.tolist(),
        "time_s": np.round(r_sample / fs, 4).tolist(),
        "probability": [_float(value) for value in probability],
        "flags": [words_of_mask(mask, BEAT_FLAGS) for mask in masks],
    }


def _excerpt(report: Mapping[str, Any]) -> dict[str, float] | None:
    """Return start and length of the ten seconds to put on paper: those with most usable beats, the earliest of equals."""
    duration_s, beats = report["duration_s"], report["beats"]
    if not duration_s:
        return None
    length_s = min(paper.EXCERPT_S, duration_s)
    starts = np.arange(int(duration_s - length_s) + 1, dtype=float)
    unusable = {word for word, bit in BEAT_FLAGS.items() if bit & UNSCORABLE_BEAT}
    worth = np.array([-2 if unusable & set(flags) else 1 for flags in beats["flags"]], int)
    total = np.concatenate([[0], worth.cumsum()])
    time_s = np.array(beats["time_s"], float)
    inside = total[np.searchsorted(time_s, starts + length_s)] - total[np.searchsorted(time_s, starts)]
    return {"start_s": float(starts[int(inside.argmax())]), "length_s": length_s}


def _report_digest(report: Mapping[str, Any], source_digest: str, row: Mapping[str, Any]) -> str:
    """Return a digest of what the page shows: reports that agree in it differ in run and time of making only."""
    stores = [source_digest, row["signals_store"], row["beats_store"], __version__, _environment()[2]]
    return hashlib.sha256(json.dumps([report, stores], sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class _Job:
    """What every worker needs to know to write record reports."""

    work: str
    scores_store: str
    folder: str
    earlier: str
    options: Mapping[str, Any]


def write_reports(
    work: str | Path,
    scores_store: str | Path,
    *,
    model: Mapping[str, Any],
    created: str,
    archive: str,
    is_synthetic: bool = False,
    map: Callable[..., Iterable[Any]] = map,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write all reports of a run below ``work/reports/<run>`` and let ``work/reports/latest`` point there.

    Every file is written aside and renamed. A record's report that is already there, or is in the latest run's folder with
    the same content, is not made again: it stays, or is linked, and keeps the run and time of its making.

    Parameters
    ----------
    work
        Workspace; the signals and beats stores that the scores name are read from it.
    scores_store
        Path of the published ``scores/<run>.zarr``.
    model
        Contents of model.json.
    created
        ISO time for the provenance; nothing here reads a clock.
    archive
        Name that a reader knows the archive by.
    is_synthetic
        Whether every page must call its data synthetic.
    map
        Shape of the built-in ``map``; results may come in any order.
    progress
        Called with the number of records done and of all records.

    Returns
    -------
    dict
        ``folder``, ``cohort_html``, ``cohort_json``, ``scores_parquet``, ``scores_csv`` (paths), ``n_records``, ``n_written``,
        ``n_linked`` and ``n_kept``.

    """
    from ecgbatch import cohort

    run = Path(scores_store).stem
    folder, latest = Path(work) / "reports" / run, Path(work) / "reports" / "latest"
    (folder / "records").mkdir(parents=True, exist_ok=True)
    scores = open_once(scores_store).drop_vars("beat_probability").load()
    names = scores["record_name"].values.tolist()
    slugs = record_slugs(names)
    options = {"model": _model_summary(model), "run": run, "created": created, "archive": archive, "is_synthetic": is_synthetic}
    job = _Job(str(work), str(scores_store), str(folder), str(latest.resolve()) if latest.exists() else "", options)
    length = min(_MOST_RECORDS_PER_TASK, max(1, -(-len(names) // _LEAST_TASKS)))
    tasks = [(start, [slugs[name] for name in names[start : start + length]]) for start in range(0, len(names), length)]
    rows: dict[int, dict[str, Any]] = {}
    for done in map(partial(_write_records, job), tasks):
        rows.update(done)
        if progress is not None:
            progress(len(rows), len(names))
    paths = cohort.write_cohort(folder, scores, [rows[number_] for number_ in range(len(names))], options)
    _point(latest, run)
    made = Counter(row["made"] for row in rows.values())
    counts = {f"n_{word}": made[word] for word in ("written", "linked", "kept")}
    return {"folder": str(folder), **paths, "n_records": len(names), **counts}


def _write_records(job: _Job, task: tuple[int, Sequence[str]]) -> dict[int, dict[str, Any]]:
    """Write the reports of one task's records; return what the cohort page needs to know of each, by row."""
    start, slugs = task
    scores = open_once(job.scores_store).isel(record=slice(start, start + len(slugs))).load()
    sources, columns = _Sources(job.work, scores), scores.drop_vars("beat_probability")
    done = {}
    for place, slug in enumerate(slugs):
        report = record_report(columns.isel(record=place), sources.signals(place), sources.beats(place), **job.options)
        made = _reuse(job, slug, report["provenance"]["report_digest"])
        if not made:
            content = record_page(report, **sources.drawn(place, report))
            write_aside(Path(job.folder) / "records" / f"{slug}.html", content)
            write_aside(Path(job.folder) / "records" / f"{slug}.json", json_lines(report))
            made = "written"
        kept = ("patient_unknown", "reason_detail", "diagnosis", "infarct_location", "duration_s", "n_leads_usable")
        done[start + place] = {"slug": slug, "made": made, **{name: report[name] for name in kept}}
    return done


class _Sources:
    """The rows of signals and beats stores behind some rows of a scores store; what neighbours share is read once."""

    def __init__(self, work: str, scores: xr.Dataset) -> None:
        self._work, self._scores = Path(work), scores
        self._opened: dict[str, xr.Dataset] = {}
        self._rows: dict[tuple[str, int], xr.Dataset] = {}
        self._joined: dict[tuple[str, tuple[str, ...]], tuple[int, xr.Dataset]] = {}

    def _store(self, kind: str, name: str) -> xr.Dataset:
        if name not in self._opened:
            self._opened[name] = open_once(self._work / kind / f"{name}.zarr")
        return self._opened[name]

    def _name(self, kind: str, place: int) -> str:
        return str(self._scores[f"{kind}_store"].values[place])

    def _places(self, kind: str, name: str) -> list[int]:
        return [place for place, found in enumerate(self._scores[f"{kind}_store"].values.tolist()) if found == name]

    def _row(self, kind: str, place: int) -> xr.Dataset | None:
        """Return the small columns of a record's row in its store of this kind."""
        name = self._name(kind, place)
        if not name:
            return None
        if (kind, place) not in self._rows:
            places, store = self._places(kind, name), self._store(kind, name)
            bulk = [n for n, v in store.variables.items() if {"sample", "beat"} & set(v.dims)]
            columns = store.drop_vars(bulk).isel(record=self._scores[f"{kind}_row"].values[places]).load()
            self._rows |= {(kind, other): columns.isel(record=number_) for number_, other in enumerate(places)}
        return self._rows[kind, place]

    def signals(self, place: int) -> xr.Dataset | None:
        """Return the record's row of its signals store, without the signal."""
        return self._row("signals", place)

    def beats(self, place: int) -> xr.Dataset | None:
        """Return R peaks, flags and probabilities of the record's beats."""
        beats = self._of_beats(place, "r_sample", "beat_flags")
        if beats is None:
            return None
        return beats.assign(beat_probability=self._scores["beat_probability"][place, : beats.sizes["beat"]].variable)

    def _of_beats(self, place: int, *names: str) -> xr.Dataset | None:
        """Return variables of the record's beats; records that lie side by side, as they mostly do, are read in one go."""
        row = self._row("beats", place)
        if row is None or not int(row["n_beats"]):
            return None
        store, span = self._store("beats", self._name("beats", place))[list(names)], _span(row)
        key = (self._name("beats", place), names)
        if key not in self._joined:
            spans = [_span(self._rows["beats", other]) for other in self._places("beats", key[0])]
            low, high = min(one.start for one in spans), max(one.stop for one in spans)
            is_joined = high - low <= 2 * sum(one.stop - one.start for one in spans)
            self._joined[key] = (low, store.isel(beat=slice(low, high)).load()) if is_joined else (0, store)
        first, joined = self._joined[key]
        return joined.isel(beat=slice(span.start - first, span.stop - first)).load()

    def drawn(self, place: int, report: Mapping[str, Any]) -> dict[str, Any]:
        """Return what ``record_page`` draws: excerpt, median beats with their times and kind of amplitude."""
        row = self._row("signals", place)
        if report["excerpt"] is None or row is None:
            return {}
        fs, store = report["sampling_frequency_hz"], self._store("signals", self._name("signals", place))
        first = round(report["excerpt"]["start_s"] * fs)
        last = min(first + round(report["excerpt"]["length_s"] * fs), report["n_samples"])
        steps = store["signal"].variable[int(self._scores["signals_row"].values[place]), :, first:last].values
        drawn: dict[str, Any] = {"excerpt": excerpt_of(steps, row, start_s=first / fs)}
        mine = self._of_beats(place, "waveform", "beat_flags")
        if mine is not None:
            store = self._store("beats", self._name("beats", place))
            quartiles = beat_quartiles(mine["waveform"].values, mine["beat_flags"].values)
            drawn["quartiles"] = _in_order(quartiles, store["lead"].values.tolist(), row["lead"].values.tolist())
            drawn["sample_time_s"] = store["sample_time_s"].values
            drawn["is_millivolts"] = store.attrs["settings"].get("method", "robust") != "kachuee"
        return drawn


def excerpt_of(steps: np.ndarray, signals: xr.Dataset, *, start_s: float) -> paper.Excerpt:
    """Turn stored samples into the excerpt that is put on paper.

    Parameters
    ----------
    steps : (lead, sample) int16, adu
        Of the signals store; ``terms.MISSING_SAMPLE`` becomes NaN.
    signals
        The record's row: ``lead``, ``lead_flags``, ``adc_gain``, ``baseline``, ``sampling_frequency_hz``.
    start_s
        Time of the first sample.

    """
    gain = np.where(signals["adc_gain"].values > 0, signals["adc_gain"].values, np.nan)[:, None]
    millivolts = np.where(steps == MISSING_SAMPLE, np.nan, (steps - signals["baseline"].values[:, None].astype(float)) / gain)
    leads, flags = signals["lead"].values.tolist(), signals["lead_flags"].values.tolist()
    return paper.Excerpt(millivolts, tuple(leads), tuple(flags), start_s, float(signals["sampling_frequency_hz"]))


def _span(row: xr.Dataset) -> slice:
    first = int(row["first_beat"])
    return slice(first, first + int(row["n_beats"]))


def _in_order(quartiles: np.ndarray, found: Sequence[str], wanted: Sequence[str]) -> np.ndarray:
    ordered = np.full((3, len(wanted), quartiles.shape[2]), np.nan, np.float32)
    for place, lead in enumerate(wanted):
        if lead in found:
            ordered[:, place] = quartiles[:, list(found).index(lead)]
    return ordered


def _model_summary(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return what reports say of a model: workers need not carry the digests of every patient it saw."""
    return {"operating_point": model.get("operating_point"), **_model_names(model)}


def _reuse(job: _Job, slug: str, report_digest: str) -> str:
    """Keep a report of the same content that is there, or link the latest run's; return which, or nothing."""
    for folder, word in ((job.folder, "kept"), (job.earlier, "linked")):
        page_, data = (Path(folder) / "records" / f"{slug}.{kind}" for kind in ("html", "json"))
        try:
            found = json.loads(data.read_bytes())["provenance"]["report_digest"] if folder else ""
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if found != report_digest or not page_.is_file():
            continue
        if word == "kept":
            return word
        with suppress(OSError):  # a file system without hard links: made anew
            for source in (page_, data):
                aside = Path(job.folder) / "records" / f".{source.name}.{os.getpid()}.partial"
                os.link(source, aside)
                aside.replace(Path(job.folder) / "records" / source.name)
            return word
    return ""


def write_aside(path: Path, content: str | bytes) -> None:
    """Write a file under another name, then rename it: a reader sees all of it or the one before; the same stays."""
    raw = content.encode("utf-8", "replace") if isinstance(content, str) else content
    if path.is_file() and path.read_bytes() == raw:
        return
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    aside.write_bytes(raw)
    aside.replace(path)


def json_lines(document: Mapping[str, Any]) -> str:
    """Return JSON with one line for each top-level key: readable, and ten times faster to write than indented JSON."""
    lines = (f" {json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in document.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _point(link: Path, target: str) -> None:
    aside = link.with_name(f".latest.{os.getpid()}.partial")
    aside.unlink(missing_ok=True)
    aside.symlink_to(target, target_is_directory=True)
    aside.replace(link)


def report_workspace(
    work: str,
    run: str,
    *,
    map: Callable[..., Iterable[Any]] = map,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Write all reports of a run; return their paths and the cohort's counts.

    Parameters
    ----------
    work, run
        Workspace; name of a run that ``runs.write_run`` has recorded.
    map, on_progress
        As in ``write_reports``; ``on_progress`` is called with the stage's name too.

    Returns
    -------
    dict
        ``cohort`` (the page's path), ``reports`` (the folder), and ``counts`` as the cohort's JSON has them.

    """
    scores_store = Path(work) / "scores" / f"{run}.zarr"
    digest = open_once(scores_store).attrs["settings"]["model"]["digest"]
    model = json.loads((Path(work) / "models" / digest[:20] / "model.json").read_bytes())
    archive = archive_facts(work)
    summary = write_reports(
        work,
        scores_store,
        model=model,
        created=read_run(work, run).get("created", ""),
        archive=archive["archive"],
        is_synthetic=archive["is_synthetic"],
        map=map,
        progress=partial(on_progress, "report") if on_progress else None,
    )
    cohort = json.loads(Path(summary["cohort_json"]).read_bytes())
    counts = {name: cohort[name] for name in ("n_records", "n_patients", "n_scored", "n_set_aside", "decisions")}
    return {"cohort": summary["cohort_html"], "reports": summary["folder"], "counts": counts}
