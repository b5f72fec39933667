"""EDF and EDF+C headers read strictly: which bytes of the file are which lead, and at what scale."""

from __future__ import annotations

import re
from typing import NamedTuple

from ecgbatch.formats.header import (
    FS_RANGE_HZ,
    GAIN_RANGE,
    MAX_SIGNALS,
    MILLIVOLTS_PER_UNIT,
    Header,
    SignalLine,
    UnreadableRecord,
    canonical_lead,
    check_leads,
    day_number,
    patient_of,
)
from ecgbatch.terms import LEADS

SUFFIX = ".edf"
MAX_EDF_HEADER_BYTES = 256 * (1 + MAX_SIGNALS)
_GENERAL = (8, 80, 80, 8, 8, 8, 44, 8, 8, 4)
"""Bytes of version, patient, recording, date, time, header bytes, reserved, data records, their duration, signals: EDF, 1992."""
_OF_SIGNAL = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)
"""Bytes of label, transducer, unit, physical and digital minimum and maximum, filter, samples a data record, reserved."""
_ANNOTATIONS = "EDF Annotations"
_NUMBER = re.compile(r"[-+]?(?:\d{1,8}(?:\.\d{0,7})?|\.\d{1,7})(?:[eE][-+]?\d{1,2})?", re.ASCII)
_DATE = re.compile(r"(\d\d)\.(\d\d)\.(\d\d)", re.ASCII)
_NO_DATE = "01.01.85"
"""The first date that EDF can state: what takes a date out of a file writes this one."""
_INTEGER = re.compile(r"[-+]?\d{1,8}", re.ASCII)


class EdfHeader(NamedTuple):
    """An EDF header as a WFDB one, and where each lead lies in a data record."""

    header: Header
    """``n_samples`` of each lead; format 16; ``samples_per_frame`` is the lead's samples in a data record."""
    first_samples: tuple[int, ...]
    """Of each lead of ``header``, the place of its first sample in a data record."""
    n_records: int
    record_samples: int
    n_header_bytes: int


def parse_edf(content: bytes) -> EdfHeader:
    """Parse the header of an EDF or EDF+C file.

    Leads of one rate make a record: the rate of most leads with a standard name, else the highest. Signals of another rate
    are left out (warning ``OTHER_RATES_LEFT_OUT``), and so are annotations. Patient, recording and time are not kept, but
    for EDF+'s sex and a digest of its patient code; of the date, ``recording_day``.

    Parameters
    ----------
    content
        The file's first ``MAX_EDF_HEADER_BYTES``, or all of it where it is shorter.

    Raises
    ------
    UnreadableRecord
        The only exception, whatever the bytes are.

    """
    general = _cut(content[:256], _GENERAL)
    if len(content) < 256 or general[0] != "0":
        raise UnreadableRecord("HEADER_SYNTAX", "expected an EDF header of 256 bytes that begins with 0; is it another format?")
    if general[6].startswith("EDF+D"):
        raise UnreadableRecord("FMT_UNSUPPORTED", "EDF+D, a recording with interruptions; export it as EDF+C or as several files")
    n_signals, n_header_bytes = _integer(general[9], "number of signals"), _integer(general[5], "header bytes")
    if not 1 <= n_signals <= MAX_SIGNALS:
        raise UnreadableRecord("HEADER_LIMIT" if n_signals > 0 else "NSIG_ZERO", f"{n_signals} signals stated")
    if n_header_bytes != 256 * (1 + n_signals) or len(content) < n_header_bytes:
        raise UnreadableRecord("HEADER_TRUNCATED", f"expected {256 * (1 + n_signals)} bytes of header, found another number")
    n_records, duration = _integer(general[7], "data records"), _number(general[8], "duration of a data record")
    if n_records < 1:
        raise UnreadableRecord("LENGTH_INVALID", f"{n_records} data records stated; was the recording closed?")
    columns = _columns(content[256:n_header_bytes], n_signals)
    counts = [_integer(text, "samples a data record") for text in columns[8]]
    if min(counts) < 1 or max(counts) > 1 << 22:
        raise UnreadableRecord("HEADER_LIMIT", "a signal of no samples, or of more than any data record has")
    kept, warnings = _kept(columns[0], counts)
    fs = counts[kept[0]] / duration if duration > 0 else 0.0
    if not FS_RANGE_HZ[0] <= fs <= FS_RANGE_HZ[1]:
        raise UnreadableRecord("FS_INVALID", f"{counts[kept[0]]} samples in {duration:g} s; expected {FS_RANGE_HZ} Hz")
    lines = tuple(_line([column[i] for column in columns], counts[i], n_header_bytes, warnings) for i in kept)
    check_leads([line.lead for line in lines])
    comments, patient = _patient(general[1]) if general[6].startswith("EDF+") else ((), "")
    described_by = ("", fs, n_records * counts[kept[0]], lines, len(lines), (), comments, tuple(sorted(warnings)))
    header = Header(*described_by, patient, recording_day=_day(general[3]))
    return EdfHeader(header, tuple(sum(counts[:i]) for i in kept), n_records, sum(counts), n_header_bytes)


def _patient(text: str) -> tuple[tuple[str, ...], str]:
    """Return sex as a comment, and a name for the patient: EDF+ has code, sex, date of birth and name, X where not known."""
    code, sex, *_ = [*text.split(" "), "", ""]
    return ((f"Sex: {sex}",) if sex in {"F", "M"} else ()), patient_of(code)


def _day(text: str) -> int:
    """Return the day of a start date, dd.mm.yy: years 85 to 99 are of the last century. 1 January 1985 stands for none."""
    match = _DATE.fullmatch(text)
    if match is None or text == _NO_DATE:
        return -1
    year = int(match[3])
    return day_number(year + (1900 if year >= 85 else 2000), int(match[2]), int(match[1]))


def _kept(labels: list[str], counts: list[int]) -> tuple[list[int], set[str]]:
    signals = [i for i, label in enumerate(labels) if label != _ANNOTATIONS]
    if not signals:
        raise UnreadableRecord("NSIG_ZERO", "the file holds annotations only")
    standard = [counts[i] for i in signals if canonical_lead(labels[i]) in LEADS]
    count = max(sorted(set(standard), reverse=True), key=standard.count) if standard else max(counts[i] for i in signals)
    kept = [i for i in signals if counts[i] == count]
    return kept, {"OTHER_RATES_LEFT_OUT"} if len(kept) < len(signals) else set()


def _line(fields: list[str], count: int, offset: int, warnings: set[str]) -> SignalLine:
    """Return a signal as a WFDB signal line: gain and baseline from the two scales."""
    label, _, unit, *limits = fields[:7]
    low, high = (_number(text, "physical limit") for text in limits[:2])
    lowest, highest = (_integer(text, "digital limit") for text in limits[2:])
    if not (high > low and highest > lowest):
        raise UnreadableRecord("GAIN_INVALID", f"lead {canonical_lead(label)}: its limits are equal or turn the signal over")
    per_unit = (highest - lowest) / (high - low)
    exact = lowest - low * per_unit
    millivolts = MILLIVOLTS_PER_UNIT.get(unit.lower())
    gain = float(f"{per_unit / (millivolts or 1.0):.12g}")  # limits have 8 characters: what lies beyond is binary rounding
    if not GAIN_RANGE[0] <= gain <= GAIN_RANGE[1]:
        raise UnreadableRecord("GAIN_INVALID", f"lead {canonical_lead(label)}: {gain:g} adu per mV; expected {GAIN_RANGE}")
    if not -(2**31) <= round(exact) < 2**31:
        raise UnreadableRecord("BASELINE_INVALID", f"lead {canonical_lead(label)}: its zero does not fit 32 bits")
    if abs(exact - round(exact)) > 1e-3:
        warnings.add("BASELINE_ROUNDED")
    if millivolts is None:
        warnings.add("UNITS_UNKNOWN")
    return SignalLine("", 16, count, 0, offset, gain, round(exact), millivolts is not None, None, None, canonical_lead(label))


def _columns(content: bytes, n_signals: int) -> list[list[str]]:
    blocks = _cut(content, tuple(n * n_signals for n in _OF_SIGNAL), strip=False)
    return [[block[i : i + n].strip() for i in range(0, len(block), n)] for n, block in zip(_OF_SIGNAL, blocks, strict=True)]


def _cut(content: bytes, widths: tuple[int, ...], *, strip: bool = True) -> list[str]:
    text, first, fields = content.decode("latin-1"), 0, []
    for width in widths:
        field = text[first : first + width]
        fields.append(field.strip() if strip else field)
        first += width
    return fields


def _integer(text: str, what: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise UnreadableRecord("HEADER_SYNTAX", f"EDF header: expected a whole number as {what}")
    return int(text)


def _number(text: str, what: str) -> float:
    if not _NUMBER.fullmatch(text):
        raise UnreadableRecord("HEADER_SYNTAX", f"EDF header: expected a number as {what}")
    return float(text)
