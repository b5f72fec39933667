"""The cohort report: what a run says of the archive as a whole, as JSON and page, and the scores as tables."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ecgbatch import __version__
from ecgbatch.figures import drift
from ecgbatch.figures.by_patient import N_RESAMPLES, evaluate_scores, indeterminate_flags
from ecgbatch.figures.curves import AGE_BANDS, REMARKABLE, curve_bands, subgroups
from ecgbatch.figures.drift import MOST_NAMED
from ecgbatch.measurements.quantities import QUANTITIES
from ecgbatch.reports import charts, pages, record, svg
from ecgbatch.reports.files import json_lines, put_if_changed, utf8
from ecgbatch.reports.serial import COMPARED, NO_CHANGES, ORDINARY
from ecgbatch.scores.stage import REASONS, SCORES
from ecgbatch.terms import DECISION, INDETERMINATE_KINDS, LABEL, LEAD_FLAGS, NOTICE, SCORE_FLAGS, SEX, STATUS
from storage import TEXT, Folder
from storage.heap import give_back

N_BINS = 20
"""Of the distribution of probabilities."""

MOST_ROWS = 500
"""Records written out in a list; the page's script shows the others of its table a page at a time."""

_MOST_DIAGNOSES = 20
_MOST_CELLS = 10_000_000  # resamples times patients: keeps the figures of 50,000 records within seconds
_ROWS_AT_A_TIME = 4096  # of a table, as Python values
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

Facts = Mapping[str, NDArray[Any]]
"""What the cohort's reports say of each record beside its scores: the columns of ``FACTS``, (record,) each, in their order."""

FACTS: Mapping[str, Any] = {
    "slug": TEXT,
    "lead_flags": np.dtype(np.int64),
    "patient_unknown": np.dtype(np.int8),
    "reason_detail": TEXT,
    "diagnosis": TEXT,
    "infarct_location": TEXT,
    "infarct_age": TEXT,
    "duration_s": np.dtype(np.float64),
    "n_leads_usable": np.dtype(np.int32),
    "recording_year": np.dtype(np.int32),
}
"""Types of ``Facts``: file name of its pages, ``terms.LEAD_FLAGS`` that any lead has, and the rest as the record's JSON says it;
a length unknown is NaN, a year unknown -1. Arrays, since a dict a record would take six kilobytes of each."""

MEASURED: Mapping[str, str] = {"measured_heart_rate_bpm" if name == "heart_rate_bpm" else name: name for name in QUANTITIES}
"""Columns of measurements and the quantity in each; the rate has another name, since that of the whole record has its own."""
MEASURED_FACTS: Mapping[str, Any] = dict.fromkeys(MEASURED, np.dtype(np.float32))
"""Types of further ``Facts``, NaN where unknown; left out, they are of none."""

COLUMNS: Mapping[str, str] = {
    "record_name": "path of the header below the archive, without .hea",
    "patient_id": "patient identifier",
    "patient_unknown": "1 where the archive names no patient and the record stands for itself",
    "status": "ok, partial (scored, some leads missing) or set_aside (not scored)",
    "reason": "code of why it is set aside or partial",
    "decision": "mi_indicated, mi_not_indicated, indeterminate or not_scorable",
    "mi_probability": "probability of myocardial infarction; empty where not scored",
    "probability_low": "lower end of its 95 % interval; with one member used, of its range over beats",
    "probability_high": "upper end of its 95 % interval; with one member used, of its range over beats",
    "threshold": "operating point applied to this record",
    "n_beats_detected": "R peaks found",
    "n_beats_scored": "beats scored",
    "beat_agreement": "share of scored beats on the decision's side of the threshold",
    "heart_rate_bpm": "median heart rate, per minute",
    "n_members_used": "members of the model that never saw this patient",
    "n_leads_usable": "leads neither absent nor flat",
    "duration_s": "length of the recording, in seconds",
    "label": "reference label: mi, control, other or unknown",
    "mi": "1 infarction, 0 healthy control, -1 other or unknown",
    "age_years": "age; 90 means 90 or older",
    "sex": "female, male or unknown",
    "diagnosis": "diagnosis stated by the archive",
    "infarct_location": "place of the infarction stated by the archive",
    "signals_store": "digest of the signals store that holds the record",
    "signals_row": "its row there",
    "beats_store": "digest of the beats store that holds its beats; empty where there is none",
    "beats_row": "its row there",
    "report": "path of the record's page, from the folder of this table",
    "abnormal_probability": "probability of any heart disease, infarction or another; empty where not scored or not known",
    "indeterminate_because": "why it is indeterminate: electrodes_exchanged, unlike_training, close_to_threshold",
    "exchange": "electrodes that were probably exchanged: LA-RA or RA-LL; empty: none seem, or which is unclear",
    "probability_put_back": "probability of infarction with those leads put back, for information; empty where none is named",
    "measurements_store": "digest of the store that holds its measurements, in row beats_row; empty where there is none",
    **{
        column: f"{QUANTITIES[name].meaning}; {QUANTITIES[name].unit}, of the ten seconds on paper; empty where it has no value"
        for column, name in MEASURED.items()
    },
}
"""Columns of scores.parquet and scores.csv, in order; names and meanings stay, new ones are added at the end."""

_WORDS = {"status": STATUS, "decision": DECISION, "label": LABEL, "sex": SEX}


def write_cohort(
    folder: Folder,
    scores: xr.Dataset,
    facts: Facts,
    options: Mapping[str, Any],
    *,
    earlier: str = "",
    seconds: Mapping[str, float] | None = None,
) -> dict[str, str]:
    """Write the cohort's JSON and page, and the scores as Parquet and CSV.

    Parameters
    ----------
    folder
        The workspace.
    scores
        Variables of ``scores.stage.SCORES`` on dimension ``record``, without ``beat_probability``.
    facts
        Of the records, in their order.
    options
        ``model`` (``record.model_summary``), ``run``, ``created``, ``archive``, ``is_synthetic``; ``largest_changes`` from
        ``serial.Series.changes``, if any.
    earlier
        Name of the run before, if any: what is new, changed, gone, and how distributions moved.
    seconds
        Of the run's stages; a page made again keeps those of its first making.

    Returns
    -------
    dict
        Paths ``cohort_html``, ``cohort_json``, ``scores_parquet``, ``scores_csv``.

    """
    found = {
        "since_last_run": drift.since_last_run(folder, earlier, scores),
        "timing": _timing(folder, options["run"], scores.sizes["record"], seconds or {}),
    }
    cohort = cohort_report(scores, facts, options) | found
    is_training = cohort["n_records_of_training"] > cohort["n_scored"] / 2
    cohort["drift"] = drift.drift(folder, earlier, options["model"], cohort["distributions"], is_training=is_training)
    below = f"reports/{options['run']}"
    files: dict[str, tuple[str, Callable[[], bytes]]] = {
        "cohort_json": ("cohort.json", lambda: utf8(json_lines(cohort))),
        "scores_csv": ("scores.csv", lambda: csv_table(scores, facts)),
        "scores_parquet": ("scores.parquet", lambda: parquet_table(scores, facts, options)),
        "cohort_html": ("cohort.html", lambda: cohort_page(cohort, scores, facts)),
    }
    for name, content in files.values():  # one after the other: of many records each is large
        give_back()
        put_if_changed(folder, f"{below}/{name}", content())
    return {key: f"{folder}/{below}/{name}" for key, (name, _) in files.items()}


def cohort_report(scores: xr.Dataset, facts: Facts, options: Mapping[str, Any]) -> dict[str, Any]:
    """Gather everything that the cohort page says; JSON types only, ``docs/schema/cohort.json`` describes it.

    Counts are of records unless their name says patients. Figures are by patient (``figures.by_patient.patient_figures``).
    """
    is_scored = np.isfinite(scores["mi_probability"].values)
    n_records = is_scored.size
    unscored = Counter(scores["reason"].values[~is_scored].tolist())
    n_unreadable = sum(count for reason, count in unscored.items() if reason not in REASONS)
    decision, label = scores["decision"].values, scores["label"].values
    evaluation = evaluate_scores(scores, n_resamples=max(200, min(N_RESAMPLES, _MOST_CELLS // max(1, n_records))))
    evaluation["curves"] |= curve_bands(scores)
    patient = np.unique(scores["patient_id"].values, return_inverse=True)[1]
    remarks = {word: int(np.count_nonzero(facts["lead_flags"] & bit)) for word, bit in LEAD_FLAGS.items()}
    return {
        "schema_version": record.SCHEMA_VERSION,
        "notice": NOTICE,
        **{name: options[name] for name in ("archive", "is_synthetic", "run", "created")},
        "ecgbatch_version": __version__,
        "model": dict(options["model"]),
        **evaluation,
        "scope": record.scope(options["model"]),
        "n_records_of_training": _n_of_training(scores, options["model"]),
        "n_patients_unknown": int(np.count_nonzero(facts["patient_unknown"])),
        "n_readable": n_records - n_unreadable,
        "n_partial": int((scores["status"].values == STATUS["partial"]).sum()),
        "n_missed_mi_records": int(((label == LABEL["mi"]) & (decision == DECISION["mi_not_indicated"])).sum()),
        "n_false_alarm_records": int(((label == LABEL["control"]) & (decision == DECISION["mi_indicated"])).sum()),
        "thresholds": _range(scores["threshold"].values[is_scored]),
        "participants": {word: _participants(scores, patient, label == value) for word, value in LABEL.items()}
        | {"all": _participants(scores, patient, np.ones(label.shape, bool))},
        "diagnoses": _diagnoses(facts["diagnosis"]),
        "histogram": _histogram(scores, is_scored),
        "groups": _groups(scores, facts),
        "lead_remarks": {word: count for word, count in sorted(remarks.items()) if count},
        "subgroups": subgroups(scores, facts),
        "distributions": drift.distributions(scores, facts),
        "largest_changes": dict(options.get("largest_changes") or NO_CHANGES),
    }


def _n_of_training(scores: xr.Dataset, model: Mapping[str, Any]) -> int:
    """Return how many scored records are of patients (or are recordings) that some member of the model was trained on."""
    used = scores["n_members_used"].values[np.isfinite(scores["mi_probability"].values)]
    return int((used < model["n_members"]).sum()) if model["n_members"] else 0


def _timing(folder: Folder, run: str, n_records: int, seconds: Mapping[str, float]) -> dict[str, Any]:
    """Return the seconds of each stage and records a second; those that this run's report holds already stay."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        kept: dict[str, Any] = json.loads(folder.read(f"reports/{run}/cohort.json"))["timing"]
        return kept
    stages = {name: round(float(value), 2) for name, value in seconds.items()}
    rate = {name: round(n_records / value, 1) if value > 0 else None for name, value in stages.items()}
    return {"seconds": stages, "records_per_second": rate}


def _groups(scores: xr.Dataset, facts: Facts) -> list[dict[str, Any]]:
    """Describe who is in it: records by sex and age band, with their heart rate, leads and quality."""
    age, sex = scores["age_years"].values.astype(float), scores["sex"].values
    groups = [("all", "all records", np.ones(age.shape, bool))]
    groups += [("sex", word, sex == value) for word, value in SEX.items()]
    groups += [("age", name, (age >= low) & (age < high)) for low, high, name in AGE_BANDS] + [
        ("age", "unknown", ~np.isfinite(age))
    ]
    rate, leads = scores["heart_rate_bpm"].values, facts["n_leads_usable"].astype(float)
    has_remark = facts["lead_flags"] & REMARKABLE != 0
    scored = np.isfinite(scores["mi_probability"].values)
    return [
        {
            "kind": kind,
            "name": name,
            "n_records": int(chosen.sum()),
            "n_scored": int((chosen & scored).sum()),
            "heart_rate_bpm": _quartiles(rate[chosen]),
            "n_leads_usable": _quartiles(leads[chosen]),
            "n_with_remark": int((chosen & has_remark).sum()),
        }
        for kind, name, chosen in groups
        if chosen.any()
    ]


def _quartiles(values: np.ndarray) -> dict[str, float | None]:
    known = values[np.isfinite(values)].astype(float)
    found = np.quantile(known, (0.25, 0.5, 0.75)).round(3).tolist() if known.size else [None] * 3
    return dict(zip(("lower_quartile", "median", "upper_quartile"), found, strict=True))


def score_columns(scores: xr.Dataset, facts: Facts, chosen: Any = slice(None)) -> dict[str, list[Any]]:
    """Return ``COLUMNS`` of the chosen records (a slice, or their places) as Python values: unknown is None, flags are words."""
    return {name: _column(name, scores, facts, chosen) for name in COLUMNS}


def _column(name: str, scores: xr.Dataset, facts: Facts, chosen: Any = slice(None)) -> list[Any]:
    if name == "report":
        return [f"records/{slug}.html" for slug in facts["slug"][chosen].tolist()]
    if name == "indeterminate_because":
        return _because(scores, chosen)
    if name in _WORDS:
        words = {value: word for word, value in _WORDS[name].items()}
        return [words[value] for value in scores[name].values[chosen].tolist()]
    if name not in scores and name not in facts:  # of an earlier version's store
        is_text = name not in MEASURED and SCORES.variables[name].dtype == "string"
        return ["" if is_text else None] * len(facts["slug"][chosen])
    return _known((scores[name].values if name in scores else facts[name])[chosen])


def _because(scores: xr.Dataset, chosen: Any) -> list[str]:
    """Return the kinds of indeterminate that the chosen records are, a space between; nothing for others."""
    flags = indeterminate_flags(scores)[chosen].tolist()
    words = {mask: " ".join(kind for kind in INDETERMINATE_KINDS if mask & SCORE_FLAGS[kind]) for mask in set(flags)}
    return [words[mask] for mask in flags]


def _records(scores: xr.Dataset, facts: Facts, chosen: Any) -> list[dict[str, Any]]:
    """Return ``COLUMNS`` of the chosen records, a dict each."""
    columns = score_columns(scores, facts, chosen)
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def csv_table(scores: xr.Dataset, facts: Facts) -> bytes:
    """Return the table as CSV in UTF-8; text that a spreadsheet would take for a formula gets an apostrophe in front."""
    out = io.BytesIO()
    out.write(utf8(csv_lines([name] for name in COLUMNS)))
    for start in range(0, scores.sizes["record"], _ROWS_AT_A_TIME):
        columns = score_columns(scores, facts, slice(start, start + _ROWS_AT_A_TIME))
        out.write(utf8(csv_lines(columns.values())))
    return out.getvalue()


def csv_lines(columns: Iterable[Sequence[Any]]) -> str:
    """Return columns of Python values as lines of CSV."""
    return "".join(",".join(map(_cell, row)) + "\n" for row in zip(*columns, strict=True))


def parquet_table(scores: xr.Dataset, facts: Facts, options: Mapping[str, Any]) -> bytes:
    """Return the table as a Parquet file; every column carries its meaning, the file names run, model and notice."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    fields, arrays = [], []
    for name, meaning in COLUMNS.items():
        kind = _arrow_type(pa, name)
        arrays.append(pa.array(map(_utf8, _column(name, scores, facts)), type=kind, size=scores.sizes["record"]))
        fields.append(pa.field(name, kind, metadata={"description": meaning}))
    stated = {"run": options["run"], "model": options["model"]["digest"], "created": options["created"], "notice": NOTICE}
    stated |= {"archive": _utf8(options["archive"]), "is_synthetic": str(bool(options["is_synthetic"])).lower()}
    out = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=stated)), out)
    del arrays
    pa.default_memory_pool().release_unused()
    return out.getvalue()


def cohort_page(cohort: Mapping[str, Any], scores: xr.Dataset, facts: Facts) -> bytes:
    """Return the cohort's page: one HTML file in UTF-8; its one script, which sorts and searches the table, is its own.

    Parameters
    ----------
    cohort
        From ``cohort_report``, with ``since_last_run``, ``drift`` and ``timing``.
    scores, facts
        As in ``write_cohort``.

    """
    unscored = np.flatnonzero(~np.isfinite(scores["mi_probability"].values))[:MOST_NAMED]
    details = facts["reason_detail"][unscored].tolist()
    set_aside = [row | {"detail": detail} for row, detail in zip(_records(scores, facts, unscored), details, strict=True)]
    why = {code: record.explain_reason(code, is_scored=False)[0] or "no reason stated" for code in cohort["n_set_aside"]}
    steps = {"unreadable": lambda code: code not in REASONS, "unscored": lambda code: code in REASONS}
    pieces = pages.pieces(
        "cohort.html",
        script="cohort.js",
        cohort=cohort,
        drawings=_drawings(cohort),
        records=_records(scores, facts, slice(0, MOST_ROWS)),
        table=pages.data_block(_table(scores, facts)),
        set_aside=set_aside,
        wrong=_records(scores, facts, worst_errors(scores)),
        link_of=_links(cohort["since_last_run"], scores, facts),
        most_rows=MOST_ROWS,
        most_named=MOST_NAMED,
        lost={step: _lost(cohort["n_set_aside"], is_here) for step, is_here in steps.items()},
        stated_prevalence=record.STATED_PREVALENCE,
        words={
            "why": why,
            "kind": record.KIND_WORDS,
            "label": charts.LABEL_WORDS,
            "decision": record.DECISION_WORDS,
            "lead": record.LEAD_WORDS,
            "variable": drift.WORDS,
            "quantity": COMPARED,
            "ordinary": ORDINARY,
        },
    )
    out = io.BytesIO()
    for piece in pieces:
        out.write(utf8(piece))
    return out.getvalue()


def _links(since: Mapping[str, Any] | None, scores: xr.Dataset, facts: Facts) -> dict[str, str]:
    """Return the page of each record that is named as new, changed or decided otherwise since the last run."""
    if not since:
        return {}
    named = {*since["new"], *since["changed"], *(moved["record_name"] for moved in since["decisions_changed"])}
    places = [place for place, name in enumerate(scores["record_name"].values) if name in named]
    return dict(zip(*(_column(name, scores, facts, places) for name in ("record_name", "report")), strict=True))


def _drawings(cohort: Mapping[str, Any]) -> dict[str, Any]:
    curves, drawings = cohort["curves"], {}
    if cohort["n_scored"]:
        drawings["histogram"] = charts.probability_histograms(cohort["histogram"], cohort["thresholds"])
    if curves["roc"]["sensitivity"]:
        drawings["roc"] = charts.roc(curves["roc"], cohort["sensitivity"], cohort["specificity"], curves["roc_band"])
        prevalence = cohort["sensitivity"]["n_patients"] / cohort["n_patients_evaluated"]
        drawings["precision_recall"] = charts.precision_recall(
            curves["precision_recall"], curves["precision_recall_band"], prevalence
        )
        drawings["decision"] = charts.decision_curve(curves["decision"])
        drawings["predictive_value"] = charts.predictive_values(curves["predictive_value"], record.STATED_PREVALENCE)
    if curves["calibration"]["predicted"]:
        drawings["calibration"] = charts.calibration(curves["calibration"])
    return drawings


def worst_errors(scores: xr.Dataset) -> NDArray[np.int64]:
    """Return the places of decisions that contradict the label, the surest first; ``MOST_NAMED`` at most."""
    label, decision, wrong = scores["label"].values, scores["decision"].values, []
    for name, called in (("mi", "mi_not_indicated"), ("control", "mi_indicated")):
        places = np.flatnonzero((label == LABEL[name]) & (decision == DECISION[called]))
        for place, probability in zip(places.tolist(), _known(scores["mi_probability"].values[places]), strict=True):
            wrong.append((probability if name == "mi" else 1 - probability, place))
    return np.array([place for _, place in sorted(wrong)[:MOST_NAMED]], np.int64)


def _table(scores: xr.Dataset, facts: Facts) -> Iterator[tuple[str, list[Any]]]:
    """Yield what the page's script shows of every record, column by column; 50,000 records take about 4 MB."""

    def column(name: str) -> list[Any]:
        return _column(name, scores, facts)

    yield "decisions", [word.replace("_", " ") for word in DECISION]
    yield "labels", [charts.LABEL_WORDS[word] for word in LABEL]
    yield "statuses", list(STATUS)
    yield "record", [svg.visible(name) for name in column("record_name")]
    yield "patient", [svg.visible(name) for name in column("patient_id")]
    yield "slug", record_rule(column("record_name"), facts["slug"].tolist())
    for name, words in (("decision", DECISION), ("label", LABEL), ("status", STATUS)):
        place = {value: k for k, value in enumerate(words.values())}
        yield name, [place[value] for value in scores[name].values.tolist()]
    yield "reason", column("reason")
    for short, name in (("p", "mi_probability"), ("low", "probability_low"), ("high", "probability_high")):
        yield short, [None if value is None else float(f"{value:.3f}") for value in column(name)]
    yield "rate", [None if value is None else round(value) for value in column("heart_rate_bpm")]
    yield "scored", column("n_beats_scored")
    yield "found", column("n_beats_detected")


def record_rule(names: Sequence[str], slugs: Sequence[str]) -> list[Any]:
    """Return 0 where a page's file name is its record's name with ``/`` as ``__``, as the script knows, else the file name."""
    return [0 if name.replace("/", "__") == slug else slug for name, slug in zip(names, slugs, strict=True)]


def _lost(n_set_aside: Mapping[str, int], is_here: Callable[[str], bool]) -> dict[str, int]:
    return {code: count for code, count in n_set_aside.items() if is_here(code)}


def _participants(scores: xr.Dataset, patient: NDArray[np.int64], chosen: NDArray[np.bool_]) -> dict[str, Any]:
    """Describe the chosen records: how many, of how many patients, and the patients' sex and age where known.

    ``patient`` (record,) numbers the patients. One of whom both sexes are stated counts as unknown; of several ages the median
    counts.
    """
    who, n_patients = np.unique(patient[chosen], return_inverse=True)[1], np.unique(patient[chosen]).size
    sex, age = scores["sex"].values[chosen], scores["age_years"].values[chosen].astype(float)
    is_stated = {word: np.bincount(who[sex == value], minlength=n_patients) > 0 for word, value in SEX.items() if value}
    n_stated = np.sum(list(is_stated.values()), axis=0)
    count = {word: int(np.count_nonzero(stated & (n_stated == 1))) for word, stated in is_stated.items()}
    known = _medians(who[np.isfinite(age)], age[np.isfinite(age)])
    quartiles = np.quantile(known, (0.25, 0.5, 0.75)).tolist() if known.size else [None] * 3
    return {
        "n_records": int(chosen.sum()),
        "n_patients": n_patients,
        "sex": {word: count.get(word, n_patients - sum(count.values())) for word in SEX},
        "age_years": dict(zip(("lower_quartile", "median", "upper_quartile"), quartiles, strict=True))
        | {"n_patients": known.size},
    }


def _medians(group: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the median of each group's values."""
    order = np.lexsort((values, group))
    first = np.flatnonzero(np.diff(group[order], prepend=-1))
    last = np.append(first[1:], group.size) - 1
    ordered = values[order]
    return np.asarray((ordered[first + (last - first) // 2] + ordered[first + (last - first + 1) // 2]) / 2)


def _diagnoses(diagnosis: NDArray[Any]) -> list[dict[str, Any]]:
    """Return the commonest diagnoses stated, the rest together; ties by name."""
    count = sorted(Counter(iter(diagnosis)).items(), key=lambda entry: (-entry[1], entry[0]))
    named = [{"diagnosis": name, "n_records": n} for name, n in count[:_MOST_DIAGNOSES]]
    rest = sum(n for _, n in count[_MOST_DIAGNOSES:])
    return [*named, {"diagnosis": f"{len(count) - _MOST_DIAGNOSES} others", "n_records": rest}] if rest else named


def _histogram(scores: xr.Dataset, is_scored: np.ndarray) -> dict[str, Any]:
    """Count scored records by probability; labels in the order in which they are drawn."""
    edges = np.linspace(0, 1, N_BINS + 1).round(4)
    probability, label = scores["mi_probability"].values, scores["label"].values
    counts = {
        word: np.histogram(probability[is_scored & (label == LABEL[word])], edges)[0].tolist() for word in charts.LABEL_WORDS
    }
    return {"edges": edges.tolist(), "counts": counts}


def _range(values: np.ndarray) -> dict[str, float | None]:
    known = _known(values)
    return {"low": min(known, default=None), "high": max(known, default=None)}


def _known(values: np.ndarray) -> list[Any]:
    """Return Python values; NaN is None, float32 keeps its shortest decimal form."""
    if values.dtype.kind != "f":
        return list(values.tolist())
    return [float(str(value)) if np.isfinite(value) else None for value in values]


def _cell(value: Any) -> str:
    """Return a cell of RFC 4180; Python's writer leaves a lone carriage return bare, and readers break the row there."""
    text = "" if value is None else str(value)
    text = f"'{text}" if isinstance(value, str) and text.startswith(_FORMULA) else text
    return '"' + text.replace('"', '""') + '"' if set(text) & set('",\r\n') else text


def _utf8(value: Any) -> Any:
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _arrow_type(pa: Any, name: str) -> Any:
    if name in _WORDS or name in ("report", "diagnosis", "infarct_location", "indeterminate_because"):
        return pa.string()
    rows_only = {"patient_unknown": pa.int8(), "n_leads_usable": pa.int32(), "duration_s": pa.float64()}
    rows_only |= dict.fromkeys(MEASURED, pa.float32())
    if name in rows_only:
        return rows_only[name]
    dtype = SCORES.variables[name].dtype
    return pa.string() if dtype == "string" else pa.type_for_alias(dtype)
