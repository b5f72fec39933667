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
from numpy.typing import NDArray

from ecgbatch import __version__
from ecgbatch.formats.header import REASONS as RECORD_REASONS
from ecgbatch.formats.header import WARNINGS
from ecgbatch.measurements import intervals
from ecgbatch.model.evidence import EVIDENCE_RULE
from ecgbatch.reports import ecg_paper
from ecgbatch.reports.pages import page
from ecgbatch.reports.shape import shape_digest
from ecgbatch.scores.stage import REASONS as SCORE_REASONS
from ecgbatch.terms import (
    BEAT_FLAGS,
    DECISION,
    FAULTY_LEAD,
    INDETERMINATE_KINDS,
    LABEL,
    LEAD_FLAGS,
    MISSING_SAMPLE,
    NOTICE,
    SCORE_FLAGS,
    SEX,
    STATUS,
    UNSCORABLE_BEAT,
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
}
"""What an operator can do about the commonest reasons; all are in docs/reason-codes.md."""

N_EXTREME_BEATS = 3
"""Most and least MI-like beats that a page names."""

_MOST_BEATS = 256  # for the median beat: more change nothing that can be seen, and cost time

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
) -> dict[str, Any]:
    """Gather everything that the report of one record says, but for its measurements (``add_measurements``).

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
        "n_leads_usable": sum(not FAULTS & set(lead) for lead in leads.values()),
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
    }
    if source.get("comments"):
        report["comments"] = source["comments"].split("\n")
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


def add_measurements(report: dict[str, Any], excerpt: ecg_paper.Excerpt, beats: Beats | None) -> None:
    """Measure the excerpt that is put on paper; the report's digest does not change, since they follow from what it names."""
    r_sample, flags = (np.empty(0, np.int64),) * 2 if beats is None else (beats.r_sample, beats.flags)
    here = r_sample - round(excerpt.start_s * excerpt.sampling_frequency_hz)
    inside = (here >= 0) & (here < excerpt.signal.shape[1])
    report["measurements"] = intervals.measure(
        excerpt.signal,
        excerpt.leads,
        excerpt.lead_flags,
        sampling_frequency_hz=excerpt.sampling_frequency_hz,
        r_sample=here[inside],
        beat_flags=flags[inside],
    )


def record_page(
    report: Mapping[str, Any],
    *,
    excerpt: ecg_paper.Excerpt | None = None,
    quartiles: np.ndarray | None = None,
    sample_time_s: np.ndarray | None = None,
    is_millivolts: bool = True,
) -> str:
    """Return a record's page: one HTML file that holds everything, on A4 landscape when printed.

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
    beats, evidence = report["beats"], report["evidence"]
    probability = np.array([np.nan if value is None else value for value in beats["probability"]], float)
    time_s = np.array(beats["time_s"], float)
    threshold = report["operating_point"]["threshold"] if report["mi_probability"] is not None else None
    drawings: dict[str, Any] = {"grid": ecg_paper.grid_patterns() if excerpt is not None else ""}
    if excerpt is not None:
        rows = ecg_paper.layout(excerpt)
        drawings["ecg"] = ecg_paper.ecg_paper(excerpt, time_s, probability, threshold=threshold, rows=rows)
        drawings["ecg_is_tall"] = ecg_paper.is_tall(rows)
        if quartiles is not None and sample_time_s is not None:
            drawings["median_beats"] = ecg_paper.median_beats(
                quartiles, excerpt.leads, excerpt.lead_flags, sample_time_s, is_millivolts=is_millivolts, evidence=evidence
            )
            drawings["beats_are_fast"] = ecg_paper.beat_speed(sample_time_s) > ecg_paper.MM_PER_S
            drawings["beats_are_millivolts"] = is_millivolts and excerpt.is_millivolts
    if time_s.size and report["duration_s"]:
        drawings["beat_strip"] = ecg_paper.beat_strip(time_s, probability, duration_s=report["duration_s"], threshold=threshold)
    if threshold is not None:
        drawings["scale"] = ecg_paper.probability_scale(report["mi_probability"], report["interval"], threshold)
    measured = intervals.in_words(report["measurements"]) if report["measurements"] else []
    return page("record.html", script="record.js", report=report, drawings=drawings, words=_page_words(report), measured=measured)


def _page_words(report: Mapping[str, Any]) -> dict[str, Any]:
    why, advice = explain_reason(report["reason"], is_scored=report["mi_probability"] is not None)
    flags = [set(lead) for lead in report["leads"].values()]
    shared = [flag for flag in LEAD_WORDS if len(flags) > 1 and all(flag in lead for lead in flags)]
    st = (report["measurements"] or {"st_60_mv": {}})["st_60_mv"].values()
    reasons = {found["reason"] for found in st}
    no_st = reasons.pop() if len(reasons) == 1 and all(found["value"] is None for found in st) else ""
    return {
        "lead": LEAD_WORDS,
        "shared": shared,
        "shared_fault": bool(FAULTS & set(shared)),
        "no_st": no_st,
        "warning": WARNINGS,
        "exchange": EXCHANGE_WORDS,
        "why": why,
        "advice": advice,
    }


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
    meanings = (RECORD_REASONS, SCORE_REASONS) if is_scored else (SCORE_REASONS, RECORD_REASONS)
    why = meanings[0].get(code) or meanings[1].get(code, "")
    advice = _ADVICE.get(code, "" if is_scored else "See docs/reason-codes.md for this code; then run the archive again.")
    return why, advice if code else ""


def excerpt_of(steps: np.ndarray, source: Row, *, start_s: float) -> ecg_paper.Excerpt:
    """Turn stored samples into the excerpt that is put on paper.

    Parameters
    ----------
    steps : (lead, sample) int16, adu
        Of the signals store; ``terms.MISSING_SAMPLE`` becomes NaN.
    source
        The record's row: ``lead``, ``lead_flags``, ``adc_gain``, ``baseline``, ``sampling_frequency_hz``.
    start_s
        Time of the first sample.

    """
    gain = np.where(source["adc_gain"] > 0, source["adc_gain"], np.nan)[:, None].astype(np.float32)
    millivolts = (steps - source["baseline"][:, None].astype(np.float32)) / gain
    if (missing := steps == MISSING_SAMPLE).any():
        millivolts[missing] = np.nan
    leads, flags = source["lead"].tolist(), source["lead_flags"].tolist()
    return ecg_paper.Excerpt(millivolts, tuple(leads), tuple(flags), start_s, float(source["sampling_frequency_hz"]))


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


def _excerpt(report: Mapping[str, Any]) -> dict[str, float] | None:
    """Return start and length of the ten seconds to put on paper: those with most usable beats, the earliest of equals."""
    duration_s, beats = report["duration_s"], report["beats"]
    if not duration_s:
        return None
    length_s = min(ecg_paper.EXCERPT_S, duration_s)
    starts = np.arange(int(duration_s - length_s) + 1, dtype=float)
    unusable = {word for word, bit in BEAT_FLAGS.items() if bit & UNSCORABLE_BEAT}
    worth = np.array([-2 if unusable.intersection(flags) else 1 for flags in beats["flags"]], int)
    total = np.concatenate([[0], worth.cumsum()])
    time_s = np.array(beats["time_s"], float)
    inside = total[np.searchsorted(time_s, starts + length_s)] - total[np.searchsorted(time_s, starts)]
    return {"start_s": float(starts[int(inside.argmax())]), "length_s": length_s}


def _report_digest(report: Mapping[str, Any], source_digest: str, row: Row) -> str:
    """Return a digest of what the page shows: reports that agree in it differ in run and time of making only."""
    stores = [source_digest, row["signals_store"], row["beats_store"], __version__, shape_digest()]
    return hashlib.sha256(json.dumps([report, stores], sort_keys=True).encode()).hexdigest()
