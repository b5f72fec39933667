"""Archives: which records a folder holds, and one row for each of them, whatever is wrong with it."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from ecgbatch.archive.clinical import YEARS, Clinical, Labels, label_table, read_clinical
from ecgbatch.archive.finding import find_records, storable
from ecgbatch.formats.cart import as_text, free_text
from ecgbatch.formats.header import Header, UnreadableRecord, columns_of, step
from ecgbatch.formats.inspection import Inspection, has_checksums, inspect_records
from ecgbatch.formats.leads import is_known
from ecgbatch.formats.records import read_record
from ecgbatch.formats.wfdb_header import NULL_FILE
from ecgbatch.terms import LABEL, STATUS
from ecgbatch.workspace.privacy import Pseudonyms
from storage import TEXT, Map

CHUNK_RECORDS = 256
"""Records of one task: a fraction of a second of headers, or minutes of samples with ``read_data``."""
N_PROBLEMS = 20
"""Problems that ``summarise`` spells out."""
_PATIENT = re.compile(r"patient\d+", re.ASCII)
_MIMIC_PATIENT, _MIMIC_STUDY = re.compile(r"p(\d{8})", re.ASCII), re.compile(r"s\d{8}", re.ASCII)
"""MIMIC-IV-ECG: ``files/p1000/p10000001/s40000001/40000001``; the folder of a patient is known by the study's inside it."""
_SUBJECT = re.compile(r"<?subject(?:_id|[ _]id)?>?\s*[:=]\s*(?=\w*\d)(\w{1,32})", re.ASCII | re.IGNORECASE)
"""A header's comment that names the patient: MIMIC-IV-ECG's ``<subject_id>: 10000001``."""
_LABEL_WORD = {value: word for word, value in LABEL.items()}

_Known = tuple[str, int] | None
"""Of a record: patient identifier and label of the label table."""
_Task = tuple[int, list[str], list[_Known]]
_Columns = dict[str, np.ndarray[Any, Any]]


class _Row(NamedTuple):
    """One record's row; the fields are the listing's variables, in its order."""

    record_name: str
    fingerprint: str
    patient_id: str
    patient_unknown: int
    n_samples: int
    sampling_frequency_hz: float
    status: int
    reason: str
    status_detail: str
    warnings: str
    leads: str
    label: int
    label_rule: str
    mi: int
    diagnosis: str
    infarct_location: str
    infarct_age: str
    age_years: float
    sex: int
    recording_year: int
    acquired_day: int
    n_bytes: int
    files: str
    cart: str
    comments: str
    content_key: bytes
    """Equal where records hold the same samples, as far as headers tell; zero where they tell nothing. Not in the listing."""


LISTING_COLUMNS = tuple(name for name in _Row._fields if name != "content_key")
"""Of ``list_archive``'s table, all on dimension ``record``; ``comments`` only where they are kept::

    record_name, fingerprint, patient_id  text     SHA-256 of name, file names and sizes, header, patient and label
    patient_unknown        int8     1 where ``patient_id`` is the record's own name
    n_samples              int64    per lead
    sampling_frequency_hz  float64  0 where the header does not tell
    status                 int8     ``terms.STATUS``
    reason, status_detail, warnings, leads  text   codes and canonical lead names are separated by spaces
    label                  int8     ``terms.LABEL``
    label_rule             text
    mi                     int8     1, 0 (healthy control) or -1
    diagnosis, infarct_location, infarct_age  text
    age_years              float32  NaN where unknown
    sex                    int8     ``terms.SEX``
    recording_year         int16    of the ECG's date in comments or record line; -1 where unknown
    acquired_day           int64    of the ECG's date, moved (``Pseudonyms.day``); -1 where date or patient is unknown
    n_bytes                int64    of header and signal files
    files                  text     their paths below the archive, one a line; empty where they cannot be told
    cart                   text     what the electrocardiograph itself said (``formats.cart.as_text``); empty where nothing
    comments               text     of the header, and the cart's free text, one a line; only with ``keep_comments``
"""

_NUMBERS = {
    "patient_unknown": "int8",
    "n_samples": "int64",
    "sampling_frequency_hz": "float64",
    "status": "int8",
    "label": "int8",
    "mi": "int8",
    "age_years": "float32",
    "sex": "int8",
    "recording_year": "int16",
    "acquired_day": "int64",
    "n_bytes": "int64",
    "content_key": "V16",
}
"""Variables that are not text, and their types."""


def list_archive(
    archive: str | Path,
    *,
    labels: str | Path | Labels | None = None,
    read_data: bool = False,
    keep_comments: bool = False,
    names: Sequence[str] | None = None,
    pseudonyms: Pseudonyms | None = None,
    map: Map = map,
) -> xr.Dataset:
    """List an archive: one row for every record found, in ``find_records``'s order, nothing left out.

    Parameters
    ----------
    archive
        Folder of WFDB records.
    labels
        Label table (``clinical.read_labels``), or one that was read: its patients and labels win over paths and header comments.
    read_data
        Read every sample too: checksums, formats and ranges are judged as a conversion would.
    keep_comments
        Give the headers' comment lines too.
    names
        Only these records; default all that ``find_records`` finds.
    pseudonyms
        Of the workspace that the listing is for: they move the days of recording. Without them no day is told.
    map
        Engine for the records, in tasks of ``CHUNK_RECORDS``; results may come in any order.

    Returns
    -------
    xarray.Dataset
        ``LISTING_COLUMNS`` on dimension ``record``.
        Attributes: labels_unmatched, the number of records of the label table that the archive does not have.

    Raises
    ------
    ValueError
        By ``find_records`` and ``read_labels``: no record found, or a label table that is not one.

    """
    names = find_records(archive) if names is None else list(names)
    told = labels if labels is None or isinstance(labels, Labels) else label_table(labels, frozenset(names))
    table, rule = (told.entries, told.rule) if told is not None else ({}, "")
    tasks = [
        (first, names[first : first + CHUNK_RECORDS], [table.get(name) for name in names[first : first + CHUNK_RECORDS]])
        for first in range(0, len(names), CHUNK_RECORDS)
    ]
    list_chunk = partial(
        _list_chunk, archive=str(archive), rule=rule, read_data=read_data, keep_comments=keep_comments, pseudonyms=pseudonyms
    )
    columns = {name: np.zeros(len(names), _type_of(name)) for name in _fields(keep_comments)}
    for first, part in map(list_chunk, tasks):  # each to its place at once: parts that are joined are held twice
        for name, values in part.items():
            columns[name][first : first + len(values)] = values
    _compare(columns)
    variables = {name: ("record", values) for name, values in columns.items() if name != "content_key"}
    return xr.Dataset(variables, attrs={"labels_unmatched": len(table.keys() - set(names))})


def _fields(keep_comments: bool) -> list[str]:
    return [name for name in _Row._fields if keep_comments or name != "comments"]


def _type_of(name: str) -> Any:
    return _NUMBERS.get(name, TEXT)


def _as_columns(rows: list[_Row], keep_comments: bool) -> _Columns:
    """Return rows as arrays: a tenth of the memory that they take one by one."""
    columns = dict(zip(_Row._fields, zip(*rows, strict=True), strict=True))
    return {name: np.array(columns[name], dtype=_type_of(name)) for name in _fields(keep_comments)}


def _compare(columns: _Columns) -> None:
    """Add the warnings that only all records together give: equal samples, a patient's labels that differ."""
    keys = Counter[bytes]()
    for key in each(columns["content_key"]):
        keys[key] += 1
    labels: dict[str, set[int]] = {}
    for patient, label in zip(each(columns["patient_id"]), each(columns["label"]), strict=True):
        if label != LABEL["unknown"]:
            labels.setdefault(patient, set()).add(label)
    known = zip(each(columns["content_key"]), each(columns["patient_id"]), strict=True)
    for row, (key, patient) in enumerate(known):
        told = {"SAME_CONTENT"} if key != _NO_KEY and keys[key] > 1 else set()
        told |= {"LABELS_CONFLICT"} if len(labels.get(patient, ())) > 1 else set()
        if told:
            columns["warnings"][row] = " ".join(sorted({*columns["warnings"][row].split(), *told}))


_AT_ONCE = 4096
_NO_KEY = bytes(16)


def each(values: np.ndarray[Any, Any]) -> Iterator[Any]:
    """Yield an array's values as Python's, few of which are there at a time."""
    for first in range(0, len(values), _AT_ONCE):
        yield from values[first : first + _AT_ONCE].tolist()


def _list_chunk(
    task: _Task, *, archive: str, rule: str, read_data: bool, keep_comments: bool, pseudonyms: Pseudonyms | None
) -> tuple[int, _Columns]:
    """Return a task's first record number and its records' columns."""
    first, names, known = task
    found = inspect_records(archive, names)
    root = os.path.realpath(archive)
    rows = [_whole_row(inspection, entry, rule, root, pseudonyms) for inspection, entry in zip(found, known, strict=True)]
    if keep_comments:
        rows = [row._replace(fingerprint=hashlib.sha256(f"{row.fingerprint} comments".encode()).hexdigest()) for row in rows]
    return first, _as_columns([_read(archive, row) for row in rows] if read_data else rows, keep_comments)


def _whole_row(inspection: Inspection, known: _Known, rule: str, root: str, pseudonyms: Pseudonyms | None) -> _Row:
    """Return ``_row``; of a header whose content makes that fail, the row of a record that is set aside."""
    try:
        with step("listing"):
            return _row(inspection, known, rule, root, pseudonyms)
    except UnreadableRecord as error:
        aside = inspection._replace(header=None, leads=(), status=STATUS["set_aside"], reason=error.code)
        return _row(aside._replace(status_detail=error.detail), known, rule, root, pseudonyms)


def _row(inspection: Inspection, known: _Known, rule: str, root: str, pseudonyms: Pseudonyms | None) -> _Row:
    name, header = inspection.record_name, inspection.header
    clinical = read_clinical(_whole_comments(header)) if header else Clinical()
    label, label_rule = (clinical.label, clinical.label_rule) if known is None else (known[1], rule)
    patient_id = (
        (known[0] if known else "")
        or _named_patient(name, header.comments if header else ())
        or (header.patient if header else "")
    )
    return _Row(
        record_name=name,
        fingerprint=_fingerprint(inspection, patient_id or name, label),
        patient_id=patient_id or name,
        patient_unknown=int(not patient_id),
        n_samples=inspection.n_samples,
        sampling_frequency_hz=header.sampling_frequency_hz if header else 0.0,
        status=inspection.status,
        reason=inspection.reason,
        status_detail=storable(inspection.status_detail),
        warnings=" ".join(inspection.warnings),
        leads=" ".join(inspection.leads),
        label=label,
        label_rule=label_rule,
        mi={LABEL["mi"]: 1, LABEL["control"]: 0}.get(label, -1),
        diagnosis=clinical.diagnosis,
        infarct_location=clinical.infarct_location,
        infarct_age=clinical.infarct_age,
        age_years=clinical.age_years,
        sex=clinical.sex,
        recording_year=_year(clinical, header),
        acquired_day=pseudonyms.day(patient_id, _day(clinical, header)) if pseudonyms and patient_id else -1,
        n_bytes=inspection.n_bytes,
        files="\n".join(_files(inspection, root)),
        cart=as_text(header.cart) if header else "",
        comments=storable("\n".join((*header.comments, *free_text(header.cart)))) if header else "",
        content_key=_content_key(inspection),
    )


def _named_patient(name: str, comments: Sequence[str]) -> str:
    """Return the patient that a record's folders, or else its comments, name; empty where they name none, or two."""
    parts = name.split("/")
    if folder := next((part for part in parts if _PATIENT.fullmatch(part)), ""):
        return folder
    inside = ((one, other) for one, other in pairwise(parts) if _MIMIC_STUDY.fullmatch(other))
    if match := next((found for one, _ in inside if (found := _MIMIC_PATIENT.fullmatch(one))), None):
        return match[1]
    subjects = {match[1] for comment in comments if (match := _SUBJECT.fullmatch(comment.strip()))}
    return subjects.pop() if len(subjects) == 1 else ""


def _year(clinical: Clinical, header: Header | None) -> int:
    """Return the comments' year, else the record line's; -1 where they differ or tell none that can be."""
    told = header.recording_year if header and YEARS[0] <= header.recording_year < YEARS[1] else -1
    known = {clinical.recording_year, told} - {-1}
    return known.pop() if len(known) == 1 else -1


def _day(clinical: Clinical, header: Header | None) -> int:
    """Return the number of the day of the comments' date, else the file's own; -1 where they differ or tell none that can be."""
    known = {clinical.recording_day, header.recording_day if header else -1} - {-1}
    is_one = len(known) == 1 and YEARS[0] <= datetime.date.fromordinal(min(known)).year < YEARS[1]
    years = {clinical.recording_year, header.recording_year if header else -1} - {-1}
    return known.pop() if is_one and len(years) <= 1 else -1


def _content_key(inspection: Inspection) -> bytes:
    header = inspection.header
    if header is None or not header.signals:
        return _NO_KEY
    if not has_checksums(list(header.signals)):
        return hashlib.sha256(inspection.header_bytes).digest()[:16] if inspection.suffix else _NO_KEY
    told = columns_of(header.signals)
    leads = sorted(zip(told.lead, told.initial_value, told.checksum, strict=True))
    return hashlib.sha256(repr((leads, header.sampling_frequency_hz, inspection.n_samples)).encode()).digest()[:16]


def _files(inspection: Inspection, root: str) -> list[str]:
    """Return the paths of a record's files below the archive; none where a name or its spelling leads elsewhere."""
    if "CASE_MISMATCH" in inspection.warnings or inspection.reason in _NO_FILE:
        return []
    paths = []
    for part in [inspection, *(segment for _, segment in inspection.segments if segment is not None)]:
        parent = os.path.dirname(part.record_name)  # noqa: PTH120
        paths.append(part.record_name if part.suffix else f"{part.record_name}.hea")
        paths += [
            _below(file.path, root) if file.path else os.path.join(parent, file.name)  # noqa: PTH118
            for file in part.files
            if file.name != NULL_FILE
        ]
    return [storable(path) for path in dict.fromkeys(paths)]


def _below(path: str, root: str) -> str:
    """Return the path of a file of the archive below it: as ``inspection`` gives them, there is nothing to resolve."""
    return path[len(root) :].lstrip("/")


_NO_FILE = frozenset({"REMOTE_NAME", "PATH_ESCAPE", "BAD_RECORD_NAME", "UNREADABLE_FILE", "CHANGED_WHILE_READING"})
"""Reasons that say nothing of the files themselves, or that may pass without a change of theirs."""


def _whole_comments(header: Header) -> tuple[str, ...]:
    """Leave out a last comment that may be cut (the file does not end with a newline), unless it is a whole diagnosis."""
    last = header.comments[-1:]
    if "HEADER_NO_FINAL_NEWLINE" not in header.warnings or read_clinical(last).label in {LABEL["mi"], LABEL["control"]}:
        return header.comments
    return header.comments[:-1]


def _fingerprint(inspection: Inspection, patient_id: str, label: int) -> str:
    """Return what makes a record new: SHA-256 of its name, files' names and sizes, headers, patient and label."""
    parts = [inspection, *(segment for _, segment in inspection.segments if segment is not None)]
    content = [
        [part.record_name, hashlib.sha256(part.header_bytes).hexdigest(), [[file.name, file.n_bytes] for file in part.files]]
        for part in parts
    ]
    return hashlib.sha256(json.dumps([content, patient_id, label]).encode()).hexdigest()


def _read(archive: str, row: _Row) -> _Row:
    """Return the row as reading every sample of its record changes it."""
    if row.status == STATUS["set_aside"]:
        return row
    try:
        with step("reading"):
            attrs = read_record(archive, row.record_name).attrs
    except UnreadableRecord as error:
        return row._replace(status=STATUS["set_aside"], reason=error.code, status_detail=storable(error.detail), leads="")
    return row._replace(
        status=attrs["status"],
        reason=attrs["reason"],
        status_detail=attrs["status_detail"],
        warnings=" ".join(sorted({*row.warnings.split(), *attrs["warnings"]})),
        n_samples=attrs["n_samples"],
    )


def summarise(listing: xr.Dataset) -> dict[str, Any]:
    """Count what a listing says, for people and as JSON.

    Parameters
    ----------
    listing
        ``list_archive``'s table.

    Returns
    -------
    dict
        ``n_records``, ``n_patients`` (distinct; of ``n_patients_unknown`` records the patient is the record itself), ``n_ok``,
        ``n_partial``, ``n_set_aside`` {reason: n}, ``warnings`` {code: n}, ``labels`` {word: n}, ``labels_unmatched``,
        ``patients_in_conflict`` (the first ``N_PROBLEMS`` of those whose records have different labels),
        ``leads`` {name: n}, ``leads_unknown`` (those of them whose names are none that is known),
        ``sampling_frequencies_hz`` {rate: n} and ``duration_hours`` of the records that are not set aside,
        and ``problems``: the first ``N_PROBLEMS`` of {record, reason, detail}, records set aside before partial ones.

    """
    status = listing["status"].values
    usable = np.flatnonzero(status != STATUS["set_aside"])
    is_aside, is_partial = status == STATUS["set_aside"], status == STATUS["partial"]
    rates = listing["sampling_frequency_hz"].values[usable]
    seconds = float((listing["n_samples"].values[usable] / rates).sum())
    bad = [*np.flatnonzero(is_aside).tolist(), *np.flatnonzero(is_partial).tolist()][:N_PROBLEMS]
    problems = [[listing[name].values[row] for name in ("record_name", "reason", "status_detail")] for row in bad]
    return {
        "n_records": listing.sizes["record"],
        "n_patients": len(set(listing["patient_id"].values.tolist())),
        "n_patients_unknown": int(listing["patient_unknown"].values.sum()),
        "n_ok": int((status == STATUS["ok"]).sum()),
        "n_partial": int(is_partial.sum()),
        "n_set_aside": _counted(Counter(listing["reason"].values[is_aside].tolist())),
        "warnings": _counted(_words(listing["warnings"].values)),
        "leads": dict(_words(listing["leads"].values[usable])),
        "leads_unknown": {name: n for name, n in _words(listing["leads"].values[usable]).items() if not is_known(name)},
        "sampling_frequencies_hz": {f"{rate:.10g}": n for rate, n in sorted(Counter(rates.tolist()).items())},
        "duration_hours": round(seconds / 3600, 3),
        "labels": _counted(Counter(_LABEL_WORD[label] for label in listing["label"].values.tolist())),
        "patients_in_conflict": _in_conflict(listing)[:N_PROBLEMS],
        "labels_unmatched": int(listing.attrs.get("labels_unmatched", 0)),
        "problems": [dict(zip(("record", "reason", "detail"), problem, strict=True)) for problem in problems],
    }


def _words(texts: np.ndarray[Any, Any]) -> Counter[str]:
    """Count the words of texts, few of which differ."""
    words: Counter[str] = Counter()
    for text, n in Counter(texts.tolist()).items():
        for word in text.split():
            words[word] += n
    return words


def _in_conflict(listing: xr.Dataset) -> list[str]:
    patients = zip(listing["patient_id"].values.tolist(), listing["warnings"].values.tolist(), strict=True)
    return list(dict.fromkeys(patient for patient, codes in patients if "LABELS_CONFLICT" in codes.split()))


def _counted(words: Counter[str]) -> dict[str, int]:
    """Return counts, the most frequent first."""
    return dict(sorted(words.items(), key=lambda word: (-word[1], word[0])))
