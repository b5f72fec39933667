"""The cohort report: what a run says of the archive as a whole, as JSON; with the page and the tables it is written here."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ecgbatch import __version__
from ecgbatch.figures import drift
from ecgbatch.figures.curves import AGE_BANDS, REMARKABLE, curve_bands, subgroups
from ecgbatch.figures.of_scores import evaluate_scores
from ecgbatch.figures.resampling import N_RESAMPLES
from ecgbatch.reports import charts, record, triage
from ecgbatch.reports.chosen_pages import Pages
from ecgbatch.reports.cohort_page import cohort_page
from ecgbatch.reports.files import json_lines, put_if_changed, utf8
from ecgbatch.reports.lead_columns import LeadValues
from ecgbatch.reports.serial import NO_CHANGES
from ecgbatch.reports.tables import Facts, Table, csv_table, known, parquet_table
from ecgbatch.reports.words import scope
from ecgbatch.terms import LABEL, LEAD_FLAGS, NOTICE, QUALITY, SEX, STATUS
from storage import Folder
from storage.heap import give_back

N_BINS = 20
"""Of the distribution of probabilities."""

_MOST_DIAGNOSES = 20
_MOST_CELLS = 10_000_000  # resamples times patients: keeps the figures of 50,000 records within seconds


def write_cohort(
    folder: Folder,
    scores: xr.Dataset,
    facts: Facts,
    options: Mapping[str, Any],
    *,
    leads: LeadValues | None = None,
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
        ``model`` (``operating_point.model_summary``), ``run``, ``created``, ``archive``, ``is_synthetic``, ``pages`` (as
        ``chosen_pages.Pages``; all without it), ``reviews`` (``reviewed.reviewed``); ``largest_changes`` from
        ``serial.Series.changes``, if any.
    leads
        Of the records, in their order: what of their leads the Parquet table has.
    earlier
        Name of the run before, if any: what is new, changed, gone, and how distributions moved.
    seconds
        Of the run's stages; a page made again keeps those of its first making.

    Returns
    -------
    dict
        Paths ``cohort_html``, ``cohort_json``, ``scores_parquet``, ``scores_csv``.

    """
    since = drift.since_last_run(folder, earlier, scores)
    found = {
        "since_last_run": since.document(scores) if since else None,
        "timing": _timing(folder, options["run"], scores.sizes["record"], seconds or {}),
    }
    table = Table(scores, {**facts, "since_last_run": since.changes} if since else facts)
    cohort = cohort_report(table, options) | found
    is_training = cohort["n_records_of_training"] > cohort["n_scored"] / 2
    cohort["drift"] = drift.drift(folder, earlier, options["model"], cohort["distributions"], is_training=is_training)
    below = f"reports/{options['run']}"
    files: dict[str, tuple[str, Callable[[], bytes]]] = {
        "cohort_json": ("cohort.json", lambda: utf8(json_lines(cohort))),
        "scores_csv": ("scores.csv", lambda: csv_table(table)),
        "scores_parquet": ("scores.parquet", lambda: parquet_table(table, options, leads)),
        "cohort_html": ("cohort.html", lambda: cohort_page(cohort, table)),
    }
    for name, content in files.values():  # one after the other: of many records each is large
        give_back()
        put_if_changed(folder, f"{below}/{name}", content())
    return {key: f"{folder}/{below}/{name}" for key, (name, _) in files.items()}


def cohort_report(table: Table, options: Mapping[str, Any]) -> dict[str, Any]:
    """Gather everything that the cohort page says; JSON types only, ``docs/schema/cohort.json`` describes it.

    Counts are of records unless their name says patients. Figures are by patient (``figures.by_patient.patient_figures``).
    """
    scores, facts = table.scores, table.facts
    is_scored = np.isfinite(scores["mi_probability"].values)
    n_records, label = is_scored.size, scores["label"].values
    evaluation = evaluate_scores(scores, n_resamples=max(200, min(N_RESAMPLES, _MOST_CELLS // max(1, n_records))))
    evaluation["curves"] |= curve_bands(scores)
    patient = np.unique(scores["patient_id"].values, return_inverse=True)[1]
    remarks = {word: _n_with(facts["lead_flags"], bit) for word, bit in LEAD_FLAGS.items()}
    return {
        "schema_version": record.SCHEMA_VERSION,
        "notice": NOTICE,
        **{name: options[name] for name in ("archive", "is_synthetic", "run", "created")},
        "ecgbatch_version": __version__,
        "model": dict(options["model"]),
        **evaluation,
        "scope": scope(options["model"]),
        "n_records_of_training": _n_of_training(scores, options["model"]),
        "n_patients_unknown": int(np.count_nonzero(facts["patient_unknown"])),
        "n_readable": n_records - sum(evaluation["n_set_aside"].values()),
        "n_partial": int(((scores["status"].values == STATUS["partial"]) & is_scored).sum()),
        **{f"n_{name}_records": _n_with(table.disagreement, bit) for name, bit in triage.DISAGREEMENTS.items()},
        "needs_look": {word: int((table.group == place).sum()) for place, word in enumerate(triage.NEEDS_LOOK)},
        "quality": {word: int((facts["quality"] == code).sum()) for word, code in QUALITY.items()},
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
        "n_not_taken": dict(options.get("n_not_taken") or {}),
        "pages": dict(options.get("pages") or Pages("all", n_records, n_records)._asdict()),
        "n_left_out": dict(options.get("n_left_out") or {}),
        "reviews": options.get("reviews"),
    }


def _n_with(masks: NDArray[np.int64], bit: int) -> int:
    return int(np.count_nonzero(masks & bit))


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
    finite = values[np.isfinite(values)].astype(float)
    found = np.quantile(finite, (0.25, 0.5, 0.75)).round(3).tolist() if finite.size else [None] * 3
    return dict(zip(("lower_quartile", "median", "upper_quartile"), found, strict=True))


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
    ages = _medians(who[np.isfinite(age)], age[np.isfinite(age)])
    quartiles = np.quantile(ages, (0.25, 0.5, 0.75)).tolist() if ages.size else [None] * 3
    return {
        "n_records": int(chosen.sum()),
        "n_patients": n_patients,
        "sex": {word: count.get(word, n_patients - sum(count.values())) for word in SEX},
        "age_years": dict(zip(("lower_quartile", "median", "upper_quartile"), quartiles, strict=True))
        | {"n_patients": ages.size},
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
    found = known(values)
    return {"low": min(found, default=None), "high": max(found, default=None)}
