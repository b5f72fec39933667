"""EDF and EDF+ headers read strictly: which bytes of the file are which lead, and at what scale."""

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
    day_number,
    named_apart,
    patient_of,
)
from ecgbatch.formats.leads import canonical_lead, is_ecg, samples_a_frame, which_decide_rate

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
    """``n_samples`` of each lead; format 16."""
    first_samples: tuple[int, ...]
    """Of each lead of ``header``, the place of its first sample in a data record."""
    lead_samples: int
    """Samples that a data record has of each lead."""
    n_records: int
    record_samples: int
    n_header_bytes: int
    left_out: str
    """Signals that are not taken, and why, for people."""
    onset_sample: int = -1
    """Of EDF+D: where in a data record its first annotations begin, which tell its time; -1 where none is interrupted."""


def parse_edf(content: bytes) -> EdfHeader:
    """Parse the header of an EDF or EDF+ file; of EDF+D the length is that of its data records, without its interruptions.

    Leads of one rate make a record: that of most ECG leads, then the higher. Signals of another rate are left out (warning
    ``OTHER_RATES_LEFT_OUT``), so are annotations, and a signal whose scale cannot be (``CHANNEL_LEFT_OUT``). Patient, recording
    and time are not kept, but for EDF+'s sex and a digest of its patient code; of the date, ``recording_day``.

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
    if min(counts) < 0 or max(counts) > 1 << 22:
        raise UnreadableRecord("HEADER_LIMIT", "a signal of fewer than no samples, or of more than any data record has")
    channels, refused = _channels(columns, counts, n_header_bytes)
    if not channels:
        raise next(iter(refused.values()), UnreadableRecord("NSIG_ZERO", "the file holds annotations only"))
    names, volts = zip(*(_kind(one.line) for one in channels.values()), strict=True)
    count = samples_a_frame([counts[i] for i in channels], which_decide_rate(names, volts))
    fs = count / duration if duration > 0 else 0.0
    if not FS_RANGE_HZ[0] <= fs <= FS_RANGE_HZ[1]:
        raise UnreadableRecord("FS_INVALID", f"{count} samples in {duration:g} s; expected {FS_RANGE_HZ} Hz")
    kept = [i for i in channels if counts[i] == count]
    warnings = {code for i in kept for code in channels[i].warnings}
    warnings |= ({"OTHER_RATES_LEFT_OUT"} if len(kept) < len(channels) else set()) | ({"CHANNEL_LEFT_OUT"} if refused else set())
    lines = named_apart([channels[i].line for i in kept], warnings)
    comments, patient = _patient(general[1]) if general[6].startswith("EDF+") else ((), "")
    described_by = ("", fs, n_records * count, lines, len(lines), (), comments, tuple(sorted(warnings)))
    header = Header(*described_by, patient, recording_day=_day(general[3]))
    places = tuple(sum(counts[:i]) for i in kept)
    said = _left_out(
        [channels[i] for i in channels if i not in kept], [counts[i] / duration for i in channels if i not in kept], refused
    )
    onset = _onset(columns[0], counts) if general[6].startswith("EDF+D") else -1
    return EdfHeader(header, places, count, n_records, sum(counts), n_header_bytes, said, onset)


def _onset(labels: list[str], counts: list[int]) -> int:
    """Return where in a data record the annotations begin that tell its time."""
    if _ANNOTATIONS not in labels:
        detail = "EDF+D without annotations: when its data records began is not known; export it as EDF+C"
        raise UnreadableRecord("FMT_UNSUPPORTED", detail)
    return sum(counts[: labels.index(_ANNOTATIONS)])


class _Channel(NamedTuple):
    line: SignalLine
    warnings: frozenset[str]


def _channels(
    columns: list[list[str]], counts: list[int], offset: int
) -> tuple[dict[int, _Channel], dict[str, UnreadableRecord]]:
    """Return the signals that can be used, by number, and by name what is wrong with the others: each is judged alone."""
    channels: dict[int, _Channel] = {}
    refused: dict[str, UnreadableRecord] = {}
    for i, label in enumerate(columns[0]):
        if label == _ANNOTATIONS:
            continue
        try:
            channels[i] = _channel([column[i] for column in columns], counts[i], offset)
        except UnreadableRecord as error:
            refused[canonical_lead(label) or f"signal {i + 1}"] = error
    return channels, refused


def _left_out(others: list[_Channel], rates_hz: list[float], refused: dict[str, UnreadableRecord]) -> str:
    named = [f"{one.line.lead} ({fs:g} Hz)" for one, fs in zip(others, rates_hz, strict=True) if is_ecg(*_kind(one.line))]
    said = [f"left out, at another rate: {', '.join(named)}"] if named else []
    return "; ".join(said + [f"left out: {error.detail}" for error in refused.values()])[:300]


def _kind(line: SignalLine) -> tuple[str, bool]:
    return line.lead, line.is_millivolts


_BIRTH = re.compile(r"X|\d\d-[A-Z]{3}-\d{4}", re.ASCII | re.IGNORECASE)


def _patient(text: str) -> tuple[tuple[str, ...], str]:
    """Return sex as a comment, and a name for the patient: EDF+ has code, sex, date of birth and name, X where not known.

    A field of another form names nobody: what stands first there ("Subject", "F") may be many patients'.
    """
    code, sex, birth, *rest = [*text.split(), "", "", ""]
    if sex in {"F", "M", "X"} and _BIRTH.fullmatch(birth) and any(rest):
        return ((f"Sex: {sex}",) if sex != "X" else ()), patient_of(code)
    is_without_code = code in {"F", "M"} and _BIRTH.fullmatch(sex)
    return ((f"Sex: {code}",) if is_without_code else ()), ""


def _day(text: str) -> int:
    """Return the day of a start date, dd.mm.yy: years 85 to 99 are of the last century. 1 January 1985 stands for none."""
    match = _DATE.fullmatch(text)
    if match is None or text == _NO_DATE:
        return -1
    year = int(match[3])
    return day_number(year + (1900 if year >= 85 else 2000), int(match[2]), int(match[1]))


def _channel(fields: list[str], count: int, offset: int) -> _Channel:
    """Return a signal as a WFDB signal line: gain and baseline from the two scales."""
    if count < 1:
        raise UnreadableRecord("LENGTH_INVALID", f"{canonical_lead(fields[0])}: a signal of no samples")
    warnings: set[str] = set()
    label, _, unit, *limits = fields[:7]
    low, high = (_number(text, "physical limit") for text in limits[:2])
    lowest, highest = (_integer(text, "digital limit") for text in limits[2:])
    if high == low or highest <= lowest:
        raise UnreadableRecord(
            "GAIN_INVALID", f"lead {canonical_lead(label)}: its limits are equal, or the digital ones reversed"
        )
    per_unit = (highest - lowest) / (high - low)
    exact = lowest - low * per_unit
    if is_turned := per_unit < 0:
        per_unit, exact = -per_unit, -exact
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
    line = SignalLine(
        "", 16, 1, 0, offset, gain, round(exact), millivolts is not None, None, None, canonical_lead(label), is_turned
    )
    return _Channel(line, frozenset(warnings))


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
