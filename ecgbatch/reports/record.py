"""The report of one record: everything that it says, gathered as JSON."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgbatch import __version__
from ecgbatch.formats.leads import is_known, which_are_ecgs
from ecgbatch.measurements.record import VERSION as METHOD_VERSION
from ecgbatch.model.evidence import EVIDENCE_RULE
from ecgbatch.reports import excerpts
from ecgbatch.reports.cart import cart_document, compared
from ecgbatch.reports.cautions import cautions
from ecgbatch.reports.course import Course
from ecgbatch.reports.files import json_lines, json_text, lines_of
from ecgbatch.reports.layout import Sheet
from ecgbatch.reports.operating_point import at_prevalence, operating_point
from ecgbatch.reports.rows import Row, plain_float
from ecgbatch.reports.serial import NONE, Serial
from ecgbatch.reports.shape import shape_digest
from ecgbatch.reports.words import DECISION_WORDS, FAULTS, KIND_WORDS, scope
from ecgbatch.terms import (
    BEAT_FLAGS,
    DECISION,
    INDETERMINATE_KINDS,
    LABEL,
    LEAD_FLAGS,
    NOTICE,
    SCORE_FLAGS,
    SEX,
    STATUS,
    UNUSABLE_LEAD,
    words_of_mask,
)

SCHEMA_VERSION = 4
"""Of record.json and cohort.json: ``docs/schema/``. 2: measurements, evidence, prevalence, extreme beats, flags of the score.
3: any heart disease, kinds of indeterminate, exchanged electrodes, figures against other heart disease.
4: set aside is said of files that cannot be used alone, and a lead is usable that has no fault."""

N_EXTREME_BEATS = 3
"""Most and least MI-like beats that a page names."""


@dataclass(frozen=True)
class Beats:
    """The beats of one record: ``r_sample``, ``flags`` (``terms.BEAT_FLAGS``) and ``probability`` (NaN: not scored), (beat,).

    ``derived``: its leads that were computed of I and II when beats were cut.
    """

    r_sample: NDArray[np.int64]
    flags: NDArray[np.integer[Any]]
    probability: NDArray[np.floating[Any]]
    derived: tuple[str, ...] = ()


@dataclass(frozen=True)
class Edition:
    """What all reports of one run say alike.

    ``model``: from ``operating_point.model_summary``. ``created``: ISO time that the caller read from its clock. ``archive``: the
    name that a reader knows it by. ``is_synthetic``: whether every page must call its data synthetic. ``seconds``: of the
    run's stages so far. ``pages``: which records get a page and a JSON file, of ``chosen_pages.MODES``; None: as is set, or as
    follows from their number. Of the run itself, and told by its scores store: ``run``, the name of the reports' folder, and
    ``segments_s``, start and end of each segment of the evidence.
    """

    model: Mapping[str, Any]
    created: str
    archive: str
    is_synthetic: bool = False
    seconds: Mapping[str, float] = field(default_factory=dict)
    pages: str | None = None
    run: str = ""
    segments_s: Mapping[str, Sequence[float]] | None = None


class Report(dict[str, Any]):
    """What the report of a record says: JSON types only, unknown is None; ``docs/schema/record.json`` describes it."""

    said: Mapping[str, str]
    """``files.lines_of`` it, but for ``OPEN``: spelled for the digest, which must be known before anything is measured."""


OPEN = ("measurements", "cart", "cautions", "rate", "excerpt", "strips", "provenance")
"""What measuring and drawing a record still change; the digest names what that follows from."""


def record_report(row: Row, source: Row | None, beats: Beats | None, edition: Edition, serial: Serial = NONE) -> Report:
    """Gather everything that the report of one record says, but for its measurements (``measurements.document``).

    Parameters
    ----------
    row
        Of a scores store.
    source
        Of its signals store, or None.
    beats
        The record's beats in order, or None where there are none.
    edition
        Of the run.
    serial
        What there is to say of the patient's other recordings.

    """
    source, model = source or {}, edition.model
    fs = source.get("sampling_frequency_hz")
    report: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "notice": NOTICE,
        "scope": scope(model),
        "archive": edition.archive,
        "is_synthetic": edition.is_synthetic,
        **_identity(row, source),
        **_decision(row, model),
        **_recording(row, source),
        **_leads_scored(row, source, beats),
        **_patient(row, source),
        "model": {**{name: model[name] for name in ("name", "digest", "n_members")}, "n_members_used": row["n_members_used"]}
        | {"n_leads": len(row.get("lead", ()))},
        "evidence": _evidence(row, edition.segments_s),
        "extreme_beats": _extreme_beats(beats, fs),
        "beats": _beats(beats, fs),
        "measurements": None,
        "cart": cart_document(source.get("cart", "")),
        "cautions": [],
        "n_other_recordings": serial.n_others,
        "serial": serial.entries,
    }
    if source.get("comments"):
        report["comments"] = source["comments"].split("\n")
    report["excerpt"] = excerpts.choose_excerpt(report, source, beats)
    report["strips"] = excerpts.plan_strips(report)
    report["rate"] = excerpts.headline_rate(report)
    lines = lines_of(report)
    report["provenance"] = _provenance(json_lines(report, lines), row, source.get("source_digest", ""), edition)
    found = Report(report)
    found.said = {key: line for key, line in lines.items() if key not in OPEN}
    return found


def _identity(row: Row, source: Row) -> dict[str, Any]:
    """Return which record of whom it is, and whether it could be read."""
    return {
        "record_name": row["record_name"],
        "patient_id": row["patient_id"],
        "patient_unknown": bool(source.get("patient_unknown", 0)),
        "status": _word(STATUS, row["status"]),
        "reason": row["reason"] or source.get("reason", ""),
        "reason_detail": source.get("status_detail", ""),
        "warnings": source.get("warnings", "").split(),
    }


def _decision(row: Row, model: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the model says, how sure it is, and what is to be known of the score."""
    decision = _word(DECISION, row["decision"])
    flags = words_of_mask(int(row.get("score_flags", 0)), SCORE_FLAGS)
    because = _because(decision, flags)
    return {
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
        "operating_point": operating_point(model, row["threshold"]),
        "at_prevalence": at_prevalence(model, row["mi_probability"]),
    }


def _recording(row: Row, source: Row) -> dict[str, Any]:
    """Return how long and how good the recording is: its beats, leads and samples."""
    leads = _leads(source)
    fs, n_samples = source.get("sampling_frequency_hz"), source.get("n_samples")
    return {
        "n_beats_detected": row["n_beats_detected"],
        "n_beats_scored": row["n_beats_scored"],
        "beat_agreement": row["beat_agreement"],
        "heart_rate_bpm": row["heart_rate_bpm"],
        "leads": leads,
        "n_leads_usable": sum(not FAULTS & set(leads[name]) for name in _ecg_leads(leads)),
        "sampling_frequency_hz": fs or None,
        "n_samples": n_samples,
        "duration_s": plain_float(n_samples / fs) if fs and n_samples else None,
    }


def _leads_scored(row: Row, source: Row, beats: Beats | None) -> dict[str, Any]:
    """Return on which of the model's leads the score stands, which of them were derived, and whose names tell nothing."""
    present = {
        name: mask
        for name, mask in zip(source["lead"].tolist(), source["lead_flags"].tolist(), strict=True)
        if not mask & LEAD_FLAGS["missing"]
    } if source else {}  # fmt: skip
    derived = set(beats.derived) if beats else set()
    usable = {name for name, mask in present.items() if not mask & UNUSABLE_LEAD} | derived
    scored = [lead for lead in map(str, row.get("lead", ())) if lead in usable and row["mi_probability"] is not None]
    return {
        "leads_scored": scored,
        "leads_derived": [lead for lead in scored if lead in derived],
        "leads_unknown": [name for name in present if not is_known(name)],
    }


def _patient(row: Row, source: Row) -> dict[str, Any]:
    """Return what the archive says of the patient."""
    return {
        "age_years": row["age_years"],
        "sex": _word(SEX, row["sex"]),
        "label": _word(LABEL, row["label"]),
        "label_rule": source.get("label_rule", ""),
        "diagnosis": source.get("diagnosis", ""),
        "infarct_location": source.get("infarct_location", ""),
        "infarct_age": source.get("infarct_age", ""),
    }


def _provenance(text: str, row: Row, source_digest: str, edition: Edition) -> dict[str, Any]:
    """Return what the report was made of, when, and the digest of all that it says."""
    return {
        "source_digest": source_digest,
        "signals_store": row["signals_store"],
        "beats_store": row["beats_store"],
        "measurements_store": row.get("measurements_store", ""),
        "ecgbatch_version": __version__,
        "run": edition.run,
        "created": edition.created,
        "report_digest": _report_digest(text, source_digest, row),
    }


def add_measurements(report: dict[str, Any], measurements: Mapping[str, Any]) -> None:
    """State what was measured, and the rate and cautions that follow; the report's digest names what they follow from."""
    report["measurements"] = measurements
    report["cart"] = compared(report["cart"], measurements)
    report["cautions"] = cautions(report)
    report["rate"] = excerpts.headline_rate(report)


def add_scale(report: dict[str, Any], sheet: Sheet, course: Course | None) -> None:
    """State the gains at which the excerpt, and the strips of the rest, are drawn; they follow from what the digest names."""
    report["excerpt"] |= {"limb_mm_per_mv": sheet.limb_mm_per_mv, "chest_mm_per_mv": sheet.chest_mm_per_mv}
    if course is not None:
        gain = course.mm_per_mv if course.is_millivolts else None
        report["strips"] |= {"mm_per_mv": gain, "is_levelled": course.is_levelled}


def _word(flags: Mapping[str, int], value: int) -> str:
    return next(word for word, number_ in flags.items() if number_ == value)


def _ecg_leads(leads: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the leads that were recorded and are ECGs: a pressure or a breath beside them is no lead."""
    names = [name for name, flags in leads.items() if "missing" not in flags]
    are_ecgs = which_are_ecgs(names, ["not_millivolts" not in leads[name] for name in names])
    return [name for name, is_one in zip(names, are_ecgs, strict=True) if is_one]


def _leads(source: Row) -> dict[str, list[str]]:
    if not source:
        return {}
    masks = source["lead_flags"].tolist()
    return {name: words_of_mask(mask, LEAD_FLAGS) for name, mask in zip(source["lead"].tolist(), masks, strict=True)}


def _because(decision: str, flags: Sequence[str]) -> list[str]:
    """Return why a record is indeterminate; of a store that has no such flags, that it is close to the threshold."""
    if decision != "indeterminate":
        return []
    return [kind for kind in INDETERMINATE_KINDS if kind in flags] or ["close_to_threshold"]


def _interval(row: Row) -> list[float] | None:
    low, high = row["probability_low"], row["probability_high"]
    return None if low is None or high is None else [low, high]


def _evidence(row: Row, segments_s: Mapping[str, Sequence[float]] | None) -> dict[str, Any] | None:
    """Return the model's evidence lead by lead and summed; None where the record has none (not scored, or an earlier store)."""
    values = row.get("evidence")
    if values is None or not segments_s or not np.isfinite(values).any():
        return None
    names, leads = row["segment"].tolist(), row["lead"].tolist()
    exact = values.astype(float)
    cells, total = np.round(exact, 4).astype(object), np.nansum(exact, axis=0)
    cells[~np.isfinite(exact)] = None
    return {
        "rule": EVIDENCE_RULE,
        "segments_s": {name: list(segments_s[name]) for name in names if name in segments_s},
        "by_segment": {name: round(float(value), 4) for name, value in zip(names, total, strict=True)},
        "leads": {lead: dict(zip(names, line, strict=True)) for lead, line in zip(leads, cells.tolist(), strict=True)},
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
            {"time_s": round(int(beats.r_sample[k]) / fs, 4), "probability": plain_float(beats.probability[k]), "beat": int(k)}
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
        "probability": [plain_float(value) for value in beats.probability],
        "flags": [words[mask] for mask in beats.flags.tolist()],
    }


def _report_digest(text: str, source_digest: str, row: Row) -> str:
    """Return a digest of what the page shows: reports that agree in it differ in run and time of making only."""
    measured = row.get("measurements_store") or METHOD_VERSION  # which they are, or as what they will be measured
    stores = [source_digest, row["signals_store"], row["beats_store"], measured, __version__, shape_digest()]
    return hashlib.sha256((text + json_text(stores)).encode()).hexdigest()
