"""HL7 annotated ECG (``AnnotatedECG``, FDA): sequences of digits with origin and scale, on one grid of time with their gaps."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np

from ecgbatch.formats.aecg_cart import tell
from ecgbatch.formats.cart import told_by
from ecgbatch.formats.device_record import (
    MAX_DEVICE_SAMPLES,
    DeviceRecord,
    Patient,
    Wave,
    age_at,
    day_of,
    device_record,
    identified,
    narrow,
    number,
    numbers_of_text,
    scaled,
)
from ecgbatch.formats.header import UnreadableRecord, canonical_lead
from ecgbatch.formats.xml_tree import Element
from ecgbatch.terms import MISSING_SAMPLE

ROOT = "AnnotatedECG"
_SECONDS = {"": 1.0, "s": 1.0, "ms": 1e-3, "us": 1e-6}
_TIME = re.compile(r"(\d{4})(\d{2})(\d{2})(\d{2})?(\d{2})?(\d{2})?(?:\.(\d{1,9}))?(?:[-+]\d{4})?", re.ASCII)
_REPORTED_AGE = "21612-7"
"""LOINC, as in the FDA's example; its unit ``a`` is a year (UCUM)."""
_EPOCH = datetime(1900, 1, 1, tzinfo=UTC)


class _Set(NamedTuple):
    """One sequence set: leads that were sampled together."""

    interval_s: float
    start_s: float
    """Of the first sample: since 1900, or since a start of its own where times are relative."""
    is_absolute: bool
    waves: list[Wave]


def parse_aecg(root: Element) -> DeviceRecord:
    """Read the rhythm series of most samples; derived series (representative beats) are left out.

    A series may have several sequence sets: leads recorded one after the other, or interrupted. They are put on one grid from
    the first sample to the last, ``MISSING_SAMPLE`` between them. Sets of another rate than most samples have, and further
    series, are left out (warning ``GROUPS_LEFT_OUT``).

    Raises
    ------
    UnreadableRecord
        The only exception, whatever the file holds.

    """
    warnings: set[str] = set()
    series = [each for each in root.all("component", "series") if each.value("code", name="code").upper() in {"RHYTHM", ""}]
    parts = [[_set(each, warnings) for each in one.all("component", "sequenceSet")] for one in series]
    sizes = [sum(wave.samples.size for part in sets for wave in part.waves) for sets in parts]
    if not any(sizes):
        raise UnreadableRecord("NSIG_ZERO", "the file holds no rhythm series with a lead; representative beats are not read")
    chosen = sizes.index(max(sizes))
    warnings.update({"GROUPS_LEFT_OUT"} if sum(map(bool, sizes)) > 1 else ())
    sets = [part for part in parts[chosen] if part.waves]
    interval = _interval(sets)
    kept = [part for part in sets if part.interval_s == interval and part.is_absolute == sets[0].is_absolute]
    warnings.update({"GROUPS_LEFT_OUT"} if len(kept) < len(sets) else ())
    day = _day(root, series[chosen])
    cart = told_by(lambda told: tell(series[chosen], told))
    return device_record(float(f"{1 / interval:.9g}"), _joined(kept, interval), _patient(root, day), warnings, cart=cart)


def _interval(sets: list[_Set]) -> float:
    samples: dict[float, int] = {}
    for part in sets:
        samples[part.interval_s] = samples.get(part.interval_s, 0) + sum(wave.samples.size for wave in part.waves)
    return max(samples, key=lambda interval: (samples[interval], -interval))


def _set(sequences: Element, warnings: set[str]) -> _Set:
    times, waves = [], []
    for sequence in sequences.all("component", "sequence"):
        code, value = sequence.value("code", name="code"), sequence.first("value")
        if code in {"TIME_ABSOLUTE", "TIME_RELATIVE"}:
            times.append((code == "TIME_ABSOLUTE", value))
        else:
            waves.append(_wave(code, value, warnings))
    if not waves:
        return _Set(0.0, 0.0, False, [])
    kinds = [is_absolute for is_absolute, _ in times]
    if not kinds or len(set(kinds)) < len(kinds):
        raise UnreadableRecord("FS_INVALID", f"a sequence set with {len(times)} sequences of time; expected one")
    is_absolute, value = max(times, key=lambda time: time[0])  # one may tell the time of day, another that since the start
    step = value.value("increment", name="value")
    interval = number(step, "time increment", "FS_INVALID") * _SECONDS.get(value.value("increment", name="unit"), 0.0)
    if not 1e-6 < interval < 1:
        raise UnreadableRecord("FS_INVALID", "the time increment is none of an ECG, or its unit none of time")
    return _Set(interval, _start(value, is_absolute=is_absolute), is_absolute, waves)


def _start(value: Element, *, is_absolute: bool) -> float:
    text = value.value("head")
    if is_absolute:
        return _seconds(text)
    return number(text or "0", "time of the first sample") * _SECONDS.get(value.value("head", name="unit"), 1.0)


def _seconds(text: str) -> float:
    """Return the seconds since 1900 of a time stamp, YYYYMMDDhhmmss.fff; its zone does not matter, only differences are used."""
    match = _TIME.fullmatch(text)
    if match is None:
        return 0.0
    try:
        year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
        when = datetime(year, month, day, hour, minute, second, tzinfo=UTC) - _EPOCH
    except ValueError:
        return 0.0
    return when / timedelta(seconds=1) + float(f"0.{match[7] or 0}")


def _wave(code: str, value: Element, warnings: set[str]) -> Wave:
    lead = canonical_lead(code.upper().removeprefix("MDC_ECG_LEAD_"))
    lead = f"V{lead.lower()}" if lead in {"X", "Y", "Z"} else lead
    step, origin = value.first("scale").attributes, value.first("origin").attributes
    unit = step.get("unit", "")
    scale = number(step.get("value", ""), f"scale of lead {lead}", "GAIN_INVALID")
    zero = number(origin.get("value", "0"), f"origin of lead {lead}", "BASELINE_INVALID")
    if zero and origin.get("unit", unit) != unit:
        raise UnreadableRecord("BASELINE_INVALID", f"lead {lead}: origin and scale have two units")
    return scaled(lead, narrow(numbers_of_text(value.told("digits"), f"lead {lead}")), scale, unit, zero, warnings)


def _joined(sets: list[_Set], interval: float) -> list[Wave]:
    """Return leads over the whole time of all sets."""
    first_s = min(part.start_s for part in sets)
    starts = [round((part.start_s - first_s) / interval) for part in sets]
    n_samples = max(start + wave.samples.size for start, part in zip(starts, sets, strict=True) for wave in part.waves)
    leads = list(dict.fromkeys(wave.lead for part in sets for wave in part.waves))
    if n_samples * len(leads) > MAX_DEVICE_SAMPLES:
        raise UnreadableRecord("TOO_LONG", f"{len(leads)} leads of {n_samples} samples, gaps included")
    return [_one_lead(lead, list(zip(starts, sets, strict=True)), n_samples) for lead in leads]


def _one_lead(lead: str, sets: list[tuple[int, _Set]], n_samples: int) -> Wave:
    parts = [(start, wave) for start, part in sets for wave in part.waves if wave.lead == lead]
    if len(parts) == 1 and parts[0][1].samples.size == n_samples:
        return parts[0][1]
    dtype = np.result_type(np.int16, *(wave.samples.dtype for _, wave in parts))
    samples, is_taken = np.full(n_samples, MISSING_SAMPLE, dtype), np.zeros(n_samples, bool)
    for start, wave in parts:
        place = slice(start, start + wave.samples.size)
        if wave[2:] != parts[0][1][2:]:
            raise UnreadableRecord("SEGMENT_MISMATCH", f"lead {lead} changes its scale from one sequence to another")
        if is_taken[place].any():
            code = "LEADS_DUPLICATE" if len(sets) == 1 else "SEGMENT_MISMATCH"
            raise UnreadableRecord(code, f"lead {lead} has two sequences of one time")
        samples[place], is_taken[place] = wave.samples, True
    return parts[0][1]._replace(samples=samples)


def _day(root: Element, series: Element) -> int:
    times: Iterable[str] = (each.value("effectiveTime", name) for each in (series, root) for name in ("low", "center", "high"))
    return next((day for day in map(day_of, times) if day > 0), -1)


def _patient(root: Element, day: int) -> Patient:
    assigned = root.first("componentOf", "timepointEvent", "componentOf", "subjectAssignment", "subject", "trialSubject")
    person = assigned.first("subjectDemographicPerson")
    number_ = assigned.value("id", name="extension")
    identifier = identified(number_, assigned.value("id", name="root")) or identified(person.told("PatientID"))
    age = _reported_age(root)
    if age is None:
        age = age_at(day_of(person.value("birthTime")), day)
    return Patient(identifier, age, person.value("administrativeGenderCode", name="code"), day)


def _reported_age(root: Element) -> float | None:
    for observation in root.all("controlVariable", "relatedObservation"):
        value = observation.first("value").attributes
        if observation.value("code", name="code") == _REPORTED_AGE and value.get("unit") in {"a", "yr", "year", "years"}:
            text = value.get("value", "")
            return float(text) if re.fullmatch(r"\d{1,3}(?:\.\d{1,3})?", text, re.ASCII) else None
    return None
