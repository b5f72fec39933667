"""The report of one record: everything that it says, as JSON and as a page."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from markupsafe import Markup
from numpy.typing import NDArray

from ecgbatch import __version__
from ecgbatch.formats.header import REASONS as RECORD_REASONS
from ecgbatch.formats.header import WARNINGS
from ecgbatch.formats.leads import which_are_ecgs
from ecgbatch.measurements.record import VERSION as METHOD_VERSION
from ecgbatch.model.evidence import EVIDENCE_RULE
from ecgbatch.reports import excerpts
from ecgbatch.reports.cautions import cautions
from ecgbatch.reports.course import Course, course_lines, is_cut_off
from ecgbatch.reports.ecg_paper import ecg_paper, sheet_words
from ecgbatch.reports.excerpts import Excerpt
from ecgbatch.reports.grid import grid_patterns
from ecgbatch.reports.layout import MM_PER_S, SHARED_MM, Sheet, lay_out
from ecgbatch.reports.measured import measured_words
from ecgbatch.reports.median_beats import beat_speed, median_beats
from ecgbatch.reports.pages import page
from ecgbatch.reports.probabilities import beat_strip, probability_scale
from ecgbatch.reports.serial import NONE, Serial, serial_words
from ecgbatch.reports.shape import shape_digest
from ecgbatch.scores.stage import REASONS as SCORE_REASONS
from ecgbatch.terms import (
    BEAT_FLAGS,
    DECISION,
    FAULTY_LEAD,
    INDETERMINATE_KINDS,
    LABEL,
    LEAD_FLAGS,
    NOTICE,
    SCORE_FLAGS,
    SEX,
    STATUS,
    STEP_FAILED,
    words_of_mask,
)

SCHEMA_VERSION = 4
"""Of record.json and cohort.json: ``docs/schema/``. 2: measurements, evidence, prevalence, extreme beats, flags of the score.
3: any heart disease, kinds of indeterminate, exchanged electrodes, figures against other heart disease.
4: set aside is said of files that cannot be used alone, and a lead is usable that has no fault."""

STATED_PREVALENCE = 0.08
"""Share of infarction for which pages say what a decision means: emergency departments find 6 to 10 % among those whom they
record for chest pain (three Swedish hospitals, 145,656 ECGs: European Heart Journal Digital Health, ztaf125)."""

SCOPE = (
    "The probability is of myocardial infarction, acute or old, against healthy hearts and other heart disease. It tells "
    "infarction from a healthy heart well, from other heart disease only in part; a low score does not exclude infarction."
)
"""What a score says, by a model that learnt from other heart disease too."""

NARROW_SCOPE = (
    "The probability tells recordings of patients with myocardial infarction, acute or old, from recordings of healthy controls. "
    "Other heart disease often scores as infarction; a low score does not exclude infarction."
)
"""By a model that knows infarction and health alone."""

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

FAULTS = frozenset(words_of_mask(FAULTY_LEAD, LEAD_FLAGS))
"""Of a lead: with any of them it is not usable in the words of pages and tables."""

DECISION_WORDS = {
    "mi_indicated": "Pattern of myocardial infarction indicated",
    "mi_not_indicated": "Pattern of myocardial infarction not indicated",
    "indeterminate": "Indeterminate",
    "not_scorable": "Not scorable",
}

KIND_WORDS = {
    "electrodes_exchanged": "Indeterminate: limb electrodes seem exchanged",
    "unlike_training": "Indeterminate: unlike anything the model was trained on",
    "close_to_threshold": "Indeterminate: too close to the threshold to call",
}
"""For each of ``terms.INDETERMINATE_KINDS``: what is said where that is the first reason."""

EXCHANGE_WORDS = {"LA-RA": "left arm and right arm", "RA-LL": "right arm and left leg"}
"""For each of ``model.electrodes.EXCHANGES``."""

_ADVICE = {
    "NO_BEATS": "Look at the leads: if all are flat or noise, record again. If beats are visible, please report the record.",
    "TOO_FEW_BEATS": "Record again, longer or with less movement; check the electrodes.",
    "LEADS_MISSING": "Fetch the missing signal files, or record the missing leads again; then run the archive again.",
    "PATIENT_TRAINED_ON": "A score of this record would flatter the model. Use a model that never saw this patient.",
    "CHECKSUM_MISMATCH": "Fetch the signal file again: it is altered, or belongs to another header.",
    "DAT_TRUNCATED": "Fetch the signal file again: the copy is incomplete.",
    "DAT_MISSING": "Fetch the signal file that the header names.",
    "DAT_EMPTY": "Fetch the signal file again: the copy is empty.",
    STEP_FAILED: "Report it with the record, if it may be shown. The next version of ecgbatch tries the record again.",
}
"""What an operator can do about the commonest reasons; all are in docs/reason-codes.md."""

N_EXTREME_BEATS = 3
"""Most and least MI-like beats that a page names."""

Row = Mapping[str, Any]
"""A record's row of a store, from ``plain_rows``."""


@dataclass(frozen=True)
class Beats:
    """The beats of one record: ``r_sample``, ``flags`` (``terms.BEAT_FLAGS``) and ``probability`` (NaN: not scored), (beat,)."""

    r_sample: NDArray[np.int64]
    flags: NDArray[np.integer[Any]]
    probability: NDArray[np.floating[Any]]


def plain_rows(dataset: xr.Dataset) -> list[dict[str, Any]]:
    """Return each row of the small columns of a store as Python values.

    Parameters
    ----------
    dataset
        Variables on ``record`` alone give a scalar (NaN is None, float32 keeps its shortest decimal form); those on further
        dimensions give the row's array, those without ``record`` the whole array, one for all rows.

    """
    columns: dict[str, list[Any]] = {}
    n_rows = dataset.sizes["record"]
    for name, variable in dataset.variables.items():
        values = variable.values
        if variable.dims == ("record",):
            columns[str(name)] = [_float(value) for value in values] if values.dtype.kind == "f" else values.tolist()
        else:
            columns[str(name)] = list(values) if "record" in variable.dims else [values] * n_rows
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def record_report(
    row: Row,
    source: Row | None,
    beats: Beats | None,
    *,
    model: Mapping[str, Any],
    run: str,
    created: str,
    archive: str = "",
    is_synthetic: bool = False,
    segments_s: Mapping[str, Sequence[float]] | None = None,
    serial: Serial = NONE,
) -> dict[str, Any]:
    """Gather everything that the report of one record says, but for its measurements (``measurements.document``).

    Parameters
    ----------
    row
        Of a scores store.
    source
        Of its signals store, or None.
    beats
        The record's beats in order, or None where there are none.
    model
        From ``model_summary``.
    run, created
        Digest of the score plan; ISO time that the caller read from its clock.
    archive
        Name that a reader knows the archive by.
    is_synthetic
        Whether the page must call its data synthetic.
    segments_s
        Start and end of each segment of the evidence, from the scores store's settings.
    serial
        What there is to say of the patient's other recordings.

    Returns
    -------
    dict
        JSON types only, unknown is None; ``docs/schema/record.json`` describes it.

    """
    source = source or {}
    decision = _word(DECISION, row["decision"])
    flags = words_of_mask(int(row.get("score_flags", 0)), SCORE_FLAGS)
    because = _because(decision, flags)
    leads = _leads(source)
    fs, n_samples = source.get("sampling_frequency_hz"), source.get("n_samples")
    report: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "notice": NOTICE,
        "scope": scope(model),
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
        "decision_words": KIND_WORDS[because[0]] if because else DECISION_WORDS[decision],
        "indeterminate_because": because,
        "mi_probability": row["mi_probability"],
        "abnormal_probability": row.get("abnormal_probability"),
        "exchange": row.get("exchange", ""),
        "probability_put_back": row.get("probability_put_back"),
        "interval": _interval(row),
        "score_flags": flags,
        "novelty": row.get("novelty"),
        "operating_point": _operating_point(model, row["threshold"]),
        "at_prevalence": at_prevalence(model, row["mi_probability"]),
        "n_beats_detected": row["n_beats_detected"],
        "n_beats_scored": row["n_beats_scored"],
        "beat_agreement": row["beat_agreement"],
        "heart_rate_bpm": row["heart_rate_bpm"],
        "leads": leads,
        "n_leads_usable": sum(not FAULTS & set(leads[name]) for name in _ecg_leads(leads)),
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
        "model": {**{name: model[name] for name in ("name", "digest", "n_members")}, "n_members_used": row["n_members_used"]},
        "evidence": _evidence(row, segments_s),
        "extreme_beats": _extreme_beats(beats, fs),
        "beats": _beats(beats, fs),
        "measurements": None,
        "cautions": [],
        "n_other_recordings": serial.n_others,
        "serial": serial.entries,
    }
    if source.get("comments"):
        report["comments"] = source["comments"].split("\n")
    report["excerpt"] = excerpts.choose_excerpt(report, source, beats)
    report["strips"] = excerpts.plan_strips(report)
    report["rate"] = excerpts.headline_rate(report)
    report["provenance"] = {
        "source_digest": source.get("source_digest", ""),
        "signals_store": row["signals_store"],
        "beats_store": row["beats_store"],
        "measurements_store": row.get("measurements_store", ""),
        "ecgbatch_version": __version__,
        "run": run,
        "created": created,
        "report_digest": _report_digest(report, source.get("source_digest", ""), row),
    }
    return report


def add_measurements(report: dict[str, Any], measurements: Mapping[str, Any]) -> None:
    """State what was measured, and the rate and cautions that follow; the report's digest names what they follow from."""
    report["measurements"] = measurements
    report["cautions"] = cautions(report)
    report["rate"] = excerpts.headline_rate(report)


def add_scale(report: dict[str, Any], sheet: Sheet, course: Course | None) -> None:
    """State the gains at which the excerpt, and the strips of the rest, are drawn; they follow from what the digest names."""
    report["excerpt"] |= {"limb_mm_per_mv": sheet.limb_mm_per_mv, "chest_mm_per_mv": sheet.chest_mm_per_mv}
    if course is not None:
        gain = course.mm_per_mv if course.is_millivolts else None
        report["strips"] |= {"mm_per_mv": gain, "is_levelled": course.is_levelled}


def record_page(
    report: Mapping[str, Any],
    *,
    excerpt: Excerpt | None = None,
    sheet: Sheet | None = None,
    course: Course | None = None,
    quartiles: np.ndarray | None = None,
    sample_time_s: np.ndarray | None = None,
    is_millivolts: bool = True,
    overlay: Sequence[tuple[str, Markup]] = (),
) -> str:
    """Return a record's page: one HTML file that holds everything, on A4 landscape when printed.

    Parameters
    ----------
    report
        From ``record_report``: every number on the page is one of its values.
    excerpt, sheet
        The signal to put on paper, the span of ``report["excerpt"]``; None leaves the drawing out and says so. Laid out by
        ``lay_out``, where the caller has it.
    course
        The whole recording's lead of ``report["strips"]``; None leaves the strips out.
    quartiles : (3, lead, sample) float, mV, with ``sample_time_s`` : (sample,) float, s
        From ``beat_quartiles``; leads in the order of ``excerpt``. None leaves the median beats out.
    is_millivolts
        False where the beats were normalised when cut.
    overlay
        From ``overlay.overlay``: median beats of this recording and of another of the patient's.

    """
    beats, evidence = report["beats"], report["evidence"]
    probability = np.array([np.nan if value is None else value for value in beats["probability"]], float)
    time_s = np.array(beats["time_s"], float)
    threshold = report["operating_point"]["threshold"] if report["mi_probability"] is not None else None
    drawings: dict[str, Any] = {
        "grid": grid_patterns() if excerpt is not None else "",
        "is_on_its_own": False,
        "overlay": overlay,
    }
    if excerpt is not None:
        sheet = lay_out(excerpt) if sheet is None else sheet
        drawings["ecg"] = ecg_paper(excerpt, time_s, probability, threshold=threshold, sheet=sheet)
        drawings["sheet_words"] = sheet_words(sheet)
        drawings["is_on_its_own"] = sheet.height_mm > SHARED_MM - _extra_mm(report)
        drawn = {panel.lead for row in sheet.rows for panel in row.panels}
        drawings["not_on_paper"] = [lead for lead in excerpt.present if lead not in drawn]
        if course is not None:
            drawings["course"] = course_lines(course, report["strips"], report["excerpt"], beats)
            drawings["is_cut_off"], drawings["is_levelled"] = is_cut_off(course), course.is_levelled
        if quartiles is not None and sample_time_s is not None:
            drawings["median_beats"] = median_beats(
                quartiles, excerpt.leads, excerpt.lead_flags, sample_time_s, is_millivolts=is_millivolts, evidence=evidence
            )
            drawings["beats_are_fast"] = beat_speed(sample_time_s) > MM_PER_S
            drawings["beats_are_millivolts"] = is_millivolts and excerpt.is_millivolts
    if np.isfinite(probability).any() and report["duration_s"]:
        drawings["beat_strip"] = beat_strip(time_s, probability, duration_s=report["duration_s"], threshold=threshold)
    if threshold is not None:
        drawings["scale"] = probability_scale(report["mi_probability"], report["interval"], threshold)
    return page("record.html", script="record.js", report=report, drawings=drawings, words=_page_words(report))


def _extra_mm(report: Mapping[str, Any]) -> float:
    """Return how much higher than usual, printed, is what stands above the ECG: warnings, long reasons, the header's comments."""
    warned = {"electrodes_exchanged", "unlike_training"} & set(report["score_flags"])
    return 9.0 * len(warned) + 4.0 * (
        len(report.get("comments", ())) + len(report["warnings"]) + 2 * bool(report["reason_detail"])
    )


def _page_words(report: Mapping[str, Any]) -> dict[str, Any]:
    why, advice = explain_reason(report["reason"], is_scored=report["mi_probability"] is not None)
    shared, particular = lead_remarks(report["leads"])
    return {
        "lead": LEAD_WORDS,
        "series": serial_words(report),
        "shared": shared,
        "particular": particular,
        "has_good_leads": _has_good_leads(report["leads"]),
        "measured": measured_words(report["measurements"]) if report["measurements"] else None,
        "warning": WARNINGS,
        "exchange": EXCHANGE_WORDS,
        "why": why,
        "advice": advice,
    }


def _has_good_leads(leads: Mapping[str, Sequence[str]]) -> bool:
    """Whether some lead has no remark but those that all have, none of which is a fault."""
    present = [set(flags) for flags in leads.values() if "missing" not in flags]
    of_all = set.intersection(*present) if len(present) > 1 else set()
    return not FAULTS & of_all and any(not flags - of_all for flags in present)


def lead_remarks(leads: Mapping[str, Sequence[str]]) -> tuple[list[str], dict[str, list[str]]]:
    """Return what is to be said of the leads, each remark once.

    Parameters
    ----------
    leads
        Name of each lead to its ``terms.LEAD_FLAGS`` in words.

    Returns
    -------
    shared, particular
        Words that hold for every lead that the record has; then, for each other remark, the leads that it holds for.

    """
    present = [set(flags) for flags in leads.values() if "missing" not in flags]
    shared = [flag for flag in LEAD_WORDS if len(present) > 1 and all(flag in flags for flags in present)]
    particular: dict[str, list[str]] = {}
    for flag, words in LEAD_WORDS.items():
        of = [lead for lead, flags in leads.items() if flag in flags]
        if of and flag not in shared:
            particular[words] = of
    return [LEAD_WORDS[flag] for flag in shared], particular


def explain_reason(code: str, *, is_scored: bool) -> tuple[str, str]:
    """Return, in words, why a record has no score (or, scored, is only partial), and what to do about it."""
    meanings = (RECORD_REASONS, SCORE_REASONS) if is_scored else (SCORE_REASONS, RECORD_REASONS)
    code, _, step = code.partition(":")
    why = meanings[0].get(code) or meanings[1].get(code, "")
    why += f" ({step.replace(':', ', ')})" if step else ""
    advice = _ADVICE.get(code, "" if is_scored else "See docs/reason-codes.md for this code; then run the archive again.")
    return why, advice if code else ""


def model_summary(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return what reports say of a model.json: workers need not carry the digests of every patient it saw."""
    training = model.get("training") or {}
    recipe = training.get("recipe", "unnamed")
    n_members = model.get("n_members") or len(model.get("members") or ())
    return {
        "name": str(model.get("name") or f"{recipe}, {n_members} members"),
        "digest": str(model.get("digest", "")),
        "n_members": n_members,
        "knows_other": bool(model.get("knows_other") or model.get("abnormal")),
        "operating_point": model.get("operating_point"),
        "prevalence": training.get("prevalence"),
        "reference": model.get("reference") or training.get("reference"),
    }


def at_prevalence(model: Mapping[str, Any], probability: float | None) -> dict[str, Any] | None:
    """Return what a decision means where ``STATED_PREVALENCE`` of the recordings are of infarction; None where unknown.

    Predictive values by Bayes' rule from sensitivity and specificity at the operating point; their limits put both at their
    unfavourable, then at their favourable, limit. ``ppv`` and ``npv`` are where everybody else is healthy, ``ppv_other`` and
    ``npv_other`` where everybody else has other heart disease (None where the model does not know): real life lies between.
    ``mi_probability`` is the record's, its log odds moved by the difference of
    the two prevalences' (Saerens, Latinne and Decaestecker 2002).
    """
    point = model.get("operating_point") or {}
    sensitivity, specificity = (_figure(point.get(name)) for name in ("sensitivity", "specificity"))
    if sensitivity["value"] is None or specificity["value"] is None:
        return None
    n = (sensitivity["n_patients"] or 0, specificity["n_patients"] or 0)
    own = model.get("prevalence") or (n[0] / sum(n) if sum(n) else None)
    found: dict[str, Any] = {"prevalence": STATED_PREVALENCE, "prevalence_of_model": own}
    against = {"": specificity, "_other": _figure(point.get("specificity_against_other"))}
    for name in ("ppv", "npv"):
        for suffix, own_specificity in against.items():
            ends = {key: _predictive(name, sensitivity[key], own_specificity[key]) for key in ("value", "low", "high")}
            found[f"{name}{suffix}"] = ends
    shifted = None
    if probability is not None and own and 0 < own < 1 and 0 < probability < 1:
        odds = probability / (1 - probability) * (STATED_PREVALENCE / (1 - STATED_PREVALENCE)) / (own / (1 - own))
        shifted = round(odds / (1 + odds), 6)
    return found | {"mi_probability": shifted}


def _predictive(name: str, sensitivity: float | None, specificity: float | None) -> float | None:
    if sensitivity is None or specificity is None:
        return None
    p = STATED_PREVALENCE
    right, wrong = (
        (p * sensitivity, (1 - p) * (1 - specificity)) if name == "ppv" else ((1 - p) * specificity, p * (1 - sensitivity))
    )
    return right / (right + wrong) if right + wrong else None


def _figure(found: Any) -> dict[str, Any]:
    figure = found if isinstance(found, Mapping) else {"value": found}
    return {key: figure.get(key) for key in ("value", "low", "high", "n_patients")}


def _float(value: Any) -> float | None:
    return float(str(value)) if math.isfinite(value) else None


def _word(flags: Mapping[str, int], value: int) -> str:
    return next(word for word, number_ in flags.items() if number_ == value)


def _leads(source: Row) -> dict[str, list[str]]:
    if not source:
        return {}
    masks = source["lead_flags"].tolist()
    return {name: words_of_mask(mask, LEAD_FLAGS) for name, mask in zip(source["lead"].tolist(), masks, strict=True)}


def _ecg_leads(leads: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the leads that were recorded and are ECGs: a pressure or a breath beside them is no lead."""
    names = [name for name, flags in leads.items() if "missing" not in flags]
    are_ecgs = which_are_ecgs(names, ["not_millivolts" not in leads[name] for name in names])
    return [name for name, is_one in zip(names, are_ecgs, strict=True) if is_one]


def scope(model: Mapping[str, Any]) -> str:
    """Return what a score by a model (``model_summary``) says: it learnt from other heart disease, or it did not."""
    return SCOPE if model.get("knows_other") else NARROW_SCOPE


def _because(decision: str, flags: Sequence[str]) -> list[str]:
    """Return why a record is indeterminate; of a store that has no such flags, that it is close to the threshold."""
    if decision != "indeterminate":
        return []
    return [kind for kind in INDETERMINATE_KINDS if kind in flags] or ["close_to_threshold"]


def _interval(row: Row) -> list[float] | None:
    low, high = row["probability_low"], row["probability_high"]
    return None if low is None or high is None else [low, high]


def _operating_point(model: Mapping[str, Any], threshold: float | None) -> dict[str, Any]:
    """Return the threshold applied to this record, and what the model's operating point reached where it was chosen."""
    chosen = model.get("operating_point") or {}
    point: dict[str, Any] = {"threshold": chosen.get("threshold") if threshold is None else threshold}
    for name in ("sensitivity", "specificity", "specificity_against_other"):
        figure = _figure(chosen.get(name))
        point[name] = figure["value"]
        point[f"{name}_interval"] = None if figure["low"] is None else [figure["low"], figure["high"]]
        point[f"{name}_n_patients"] = figure["n_patients"]
    return point | {"chosen_on": str(chosen.get("chosen_on", ""))}


def _evidence(row: Row, segments_s: Mapping[str, Sequence[float]] | None) -> dict[str, Any] | None:
    """Return the model's evidence lead by lead and summed; None where the record has none (not scored, or an earlier store)."""
    values = row.get("evidence")
    if values is None or not segments_s or not np.isfinite(values).any():
        return None
    names, leads = row["segment"].tolist(), row["lead"].tolist()
    cells = [[None if not np.isfinite(cell) else round(float(cell), 4) for cell in line] for line in values]
    total = np.nansum(values.astype(float), axis=0)
    return {
        "rule": EVIDENCE_RULE,
        "segments_s": {name: list(segments_s[name]) for name in names if name in segments_s},
        "by_segment": {name: round(float(value), 4) for name, value in zip(names, total, strict=True)},
        "leads": {lead: dict(zip(names, line, strict=True)) for lead, line in zip(leads, cells, strict=True)},
    }


def _extreme_beats(beats: Beats | None, fs: float | None) -> dict[str, list[dict[str, Any]]]:
    """Return the most and the least MI-like scored beats; no beat is in both lists."""
    if beats is None or not fs:
        return {"most_mi_like": [], "least_mi_like": []}
    scored = np.flatnonzero(np.isfinite(beats.probability))
    order = scored[np.argsort(beats.probability[scored], kind="stable")]
    n = min(N_EXTREME_BEATS, max(1, order.size // 2)) if order.size > 1 else 0
    chosen = {"most_mi_like": order[::-1][:n], "least_mi_like": order[:n]}
    return {
        name: [
            {"time_s": round(int(beats.r_sample[k]) / fs, 4), "probability": _float(beats.probability[k]), "beat": int(k)}
            for k in which
        ]
        for name, which in chosen.items()
    }


def _beats(beats: Beats | None, fs: float | None) -> dict[str, list[Any]]:
    if beats is None or not fs:
        return {"r_sample": [], "time_s": [], "probability": [], "flags": []}
    words = {mask: words_of_mask(mask, BEAT_FLAGS) for mask in set(beats.flags.tolist())}
    return {
        "r_sample": beats.r_sample.tolist(),
        "time_s": np.round(beats.r_sample / fs, 4).tolist(),
        "probability": [_float(value) for value in beats.probability],
        "flags": [words[mask] for mask in beats.flags.tolist()],
    }


def _report_digest(report: Mapping[str, Any], source_digest: str, row: Row) -> str:
    """Return a digest of what the page shows: reports that agree in it differ in run and time of making only."""
    measured = row.get("measurements_store") or METHOD_VERSION  # which they are, or as what they will be measured
    stores = [source_digest, row["signals_store"], row["beats_store"], measured, __version__, shape_digest()]
    return hashlib.sha256(json.dumps([report, stores], sort_keys=True).encode()).hexdigest()
