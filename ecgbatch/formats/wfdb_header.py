"""WFDB headers read strictly: the whole grammar of header(5), anchored, with a stable code for each refusal."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

from ecgbatch.formats.header import (
    DEFAULT_GAIN,
    FS_RANGE_HZ,
    GAIN_RANGE,
    MAX_SIGNALS,
    MILLIVOLTS_PER_UNIT,
    Header,
    SignalLine,
    UnreadableRecord,
    day_number,
    gains_made_positive,
    named_apart,
)
from ecgbatch.formats.leads import CONTROL, canonical_lead

MAX_HEADER_BYTES = 1 << 20
"""PTB's longest header is 4 kB; a record of 256 signals with long comments stays far below."""
MAX_LINES = 20_000
MAX_LINE_CHARACTERS = 4096
"""header(5) allows 255; published comments are longer."""
MAX_SEGMENTS = 10_000
MAX_FRAME_SAMPLES = 4096
FORMATS = frozenset({8, 16, 24, 32, 61, 80, 160, 212, 310, 311, 508, 516, 524})
"""Formats of signal(5)."""
NULL_FILE = "~"
"""The file name of a layout segment's signals: header(5)."""

_RECORD_NAME = re.compile(r"([-\w]{1,128})(?:/(\d{1,9}))?", re.ASCII)
_FLOAT = r"(?:\d{1,12}(?:\.\d{0,12})?|\.\d{1,12})"
_RATE = re.compile(rf"({_FLOAT})(?:/{_FLOAT}(?:\(-?{_FLOAT}\))?)?", re.ASCII)
_COUNT = re.compile(r"\d{1,18}", re.ASCII)
_TIME = re.compile(r"(?:(?:(\d{1,2}):)?([0-5]?\d):)?[0-5]?\d(?:\.\d{1,9})?", re.ASCII)
_DATE = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})", re.ASCII)
_SEGMENT = re.compile(r"([-\w]{1,128}|~)[ \t]+(\d{1,18})[ \t]*", re.ASCII)
_FILE_NAME = re.compile(r"(?![-.]{1,2}\s)(?!~[^\s])([^\s/\\:]{1,255})", re.ASCII)
_FORMAT = re.compile(r"(\d{1,4})(?:x(\d{1,18}))?(?::(\d{1,18}))?(?:\+(\d{1,18}))?", re.ASCII)
_GAIN = re.compile(rf"([-+]?{_FLOAT}(?:[eE][-+]?\d{{1,3}})?)(?:\(([-+]?\d{{1,12}})\))?(?:/(\S{{1,32}}))?", re.ASCII)
_SIGNAL = re.compile(
    rf"[ \t]*{_FILE_NAME.pattern}[ \t]+{_FORMAT.pattern}"
    rf"(?:[ \t]+{_GAIN.pattern}(?:[ \t]+(\d{{1,3}})(?:[ \t]+([-+]?\d{{1,10}})(?:[ \t]+([-+]?\d{{1,10}})"
    r"(?:[ \t]+([-+]?\d{1,5})(?:[ \t]+(\d{1,10})(?:[ \t]+(\S.*))?)?)?)?)?)?)?[ \t]*",
    re.ASCII,
)
_BINARY_MARKS = (b"\xff\xfe", b"\xfe\xff", b"\x1f\x8b")
"""UTF-16 in either order, gzip."""
_PLAIN_BYTES = bytes(range(0x20, 0x7F)) + b"\t\n"
_BLANKS = re.compile(r"[ \t]+")
_USUAL_LINE = re.compile(
    r"^(\w[\w.-]{0,127}) (\S+ \S+ \S+ \S+) ([-+]?\d{1,10}) ([-+]?\d{1,5}) (\S+) (\S.*)$", re.ASCII | re.MULTILINE
)
"""A signal line with all fields, one blank between them; no record line has as many."""
_USUAL_HEADER = re.compile(r"(\w[^\n]*)\n((?:\w[^\n]*\n)+)((?:(?:#[^\n]*)?\n)*)", re.ASCII)
"""A record line, signal lines, comments; nothing between them."""
_PRIVATE = re.compile(r"[^\W\d_]{4}|\d[-/.]\d+[-/.]\d|\s|\d{6}")
"""Four letters in a row, something like a date, several words, or a number as long as a date or an identifier."""
_LINE_END = re.compile(r"\r\n|\n|\r")


def is_layout(content: bytes) -> bool:
    """Return whether a header is a layout: names and gains of a multi-segment record's signals, which has no file of samples."""
    lines = [line for line in content.splitlines() if line.strip() and not line.lstrip().startswith(b"#")]
    return len(lines) > 1 and all(line.lstrip().startswith(f"{NULL_FILE} ".encode()) for line in lines[1:])


def parse_header(content: bytes, record_name: str) -> Header:
    """Parse a header file: the whole grammar, nothing ignored, nothing guessed.

    Parameters
    ----------
    content
        The bytes of the file: UTF-8 or Latin-1, with or without a byte order mark, lines ended by LF, CRLF or CR.
    record_name
        Name below the archive; only its last part is compared with the name that the header states.

    Returns
    -------
    Header
        Gains in adu per mV, checksums modulo 65536, leads by their canonical names (``canonical_lead``).

    Raises
    ------
    UnreadableRecord
        The only exception, whatever the bytes are. Its code says which rule was broken, its detail where.

    """
    try:
        return _parse(content, record_name)
    except UnreadableRecord as error:
        raise UnreadableRecord(error.code, error.detail, record_name) from None


def _parse(content: bytes, record_name: str) -> Header:
    warnings: set[str] = set()
    text = _decoded(content, warnings)
    is_plain = not content.translate(None, _PLAIN_BYTES)  # nearly every header: ASCII, lines that end with LF
    usual = _USUAL_HEADER.fullmatch(text) if is_plain and len(text) <= MAX_LINE_CHARACTERS else None
    if usual and (header := _usual_header(usual, record_name, warnings)):
        return header
    lines = [line for line in (text.split("\n") if is_plain else _LINE_END.split(text)) if line.strip(" \t")]
    if len(max(lines, key=len, default="")) > MAX_LINE_CHARACTERS:
        raise UnreadableRecord("LINE_TOO_LONG", f"a line of over {MAX_LINE_CHARACTERS} characters; header(5) allows 255")
    if not is_plain and CONTROL.search(text):
        warnings.add("HEADER_CONTROL_CHARS")
    remarks = [line for line in lines if line.lstrip(" \t").startswith("#")]
    described = [line for line in lines if not line.lstrip(" \t").startswith("#")] if remarks else lines
    if not described:
        raise UnreadableRecord("HEADER_EMPTY", "expected a record line, found none; fetch the header again")
    comments = tuple(map(_comment, remarks))
    if not text.endswith(("\n", "\r")):
        warnings.add("HEADER_NO_FINAL_NEWLINE")
    record_line, *rest = described
    name, n_segments, n_signals, fields = _record_line(record_line, warnings)
    if n_segments is None and len(rest) > n_signals > 0 and all(map(_SIGNAL.fullmatch, rest[n_signals:])):
        rest = rest[:n_signals]  # header(5): what follows is not the record's
        warnings.add("SIGNALS_IGNORED")
    _check_counts(n_segments, n_signals, len(rest), "HEADER_NO_FINAL_NEWLINE" in warnings)
    is_layout = bool(rest) and n_segments is None and all(line.lstrip(" \t").startswith(f"{NULL_FILE} ") for line in rest)
    fs, n_samples = _rate(fields), _length(fields, is_layout=is_layout)
    segments = tuple(_segment_line(line, number) for number, line in enumerate(rest, 1)) if n_segments is not None else ()
    signals = [_parsed_line(line, number, warnings) for number, line in enumerate(rest, 1)] if n_segments is None else []
    most = max((signal.samples_per_frame for signal in signals), default=MAX_FRAME_SAMPLES)
    if fs * most < FS_RANGE_HZ[0]:
        raise _wrong_rate(fields)
    by_name = named_apart(gains_made_positive(signals, warnings), warnings) if signals else ()
    return _header((name, fs, n_samples, by_name, n_signals, segments, comments), record_name, fields, warnings)


_UNSAID = tuple(Header._field_defaults.values())
"""What of a header a WFDB file has no place for, and the day of recording, before it is read."""


def _header(described: tuple[Any, ...], record_name: str, fields: list[str], warnings: set[str]) -> Header:
    """Return the header of which ``described`` has the first fields; ``fields`` are those of the record line."""
    if described[0] != record_name.rpartition("/")[2]:
        warnings.add("RECORD_NAME_MISMATCH")
    header = Header._make((*described, tuple(sorted(warnings)), *_UNSAID))
    day = _day(fields[3]) if len(fields) > 3 else -1
    year = int(fields[3].rpartition("/")[2]) if day > 0 else -1
    return header._replace(recording_year=year, recording_day=day) if day > 0 else header


def _usual_header(usual: re.Match[str], record_name: str, warnings: set[str]) -> Header | None:
    """Return a header as nearly all are, one line for each signal with all of its fields; None where it is another."""
    record_line, lines, remarks = usual.groups()
    name, n_segments, n_signals, fields = _record_line(record_line, warnings)
    if n_segments is not None or n_signals != lines.count("\n") or n_signals > MAX_SIGNALS:
        return None
    signals = _usual_signals(lines, warnings)
    if signals is None:
        return None
    fs, n_samples = _rate(fields), _length(fields, is_layout=False)
    if fs < FS_RANGE_HZ[0]:
        return None
    comments = tuple([line.lstrip("#").strip() for line in remarks.split("\n") if line])
    return _header((name, fs, n_samples, signals, n_signals, (), comments), record_name, fields, warnings)


def _decoded(content: bytes, warnings: set[str]) -> str:
    if len(content) > MAX_HEADER_BYTES:
        raise UnreadableRecord("HEADER_TOO_BIG", f"{len(content)} bytes; a header has at most {MAX_HEADER_BYTES}")
    if content.startswith(b"\xef\xbb\xbf"):
        content = content[3:]
        warnings.add("HEADER_BOM")
    if content.startswith(_BINARY_MARKS) or 8 * content[:64].count(0) > len(content[:64]):
        raise UnreadableRecord("HEADER_ENCODING", "expected text in UTF-8 or Latin-1, found UTF-16 or binary; convert the header")
    if content.count(b"\n") + content.count(b"\r") > MAX_LINES:
        raise UnreadableRecord("HEADER_LIMIT", f"more than {MAX_LINES} lines")
    if content.isascii():
        return content.decode("ascii")
    warnings.add("NON_ASCII")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _comment(line: str) -> str:
    return CONTROL.sub("", line).strip(" \t").lstrip("#").strip()


def _record_line(line: str, warnings: set[str]) -> tuple[str, int | None, int, list[str]]:
    if CONTROL.search(line):
        raise UnreadableRecord("HEADER_SYNTAX", "control characters in the record line")
    name, *fields = _BLANKS.split(line.strip(" \t"))
    match = _RECORD_NAME.fullmatch(name)
    if match is None:
        raise UnreadableRecord(
            "BAD_RECORD_NAME", f"the header names its record {_shown(name)}; letters, digits, _ and - are allowed"
        )
    if not fields or not _COUNT.fullmatch(fields[0]):
        raise UnreadableRecord("HEADER_SYNTAX", f"expected 'name n_signals rate n_samples', found {len(fields) + 1} fields")
    if len(fields) > 5:
        raise UnreadableRecord("HEADER_SYNTAX", f"record line: {len(fields) - 5} unexpected fields after the date")
    time, date = (fields[3:] + ["0", "1/1/2000"][max(0, len(fields) - 3) :])[:2]
    if not _is_time(time) or _day(date) < 0:
        warnings.add("DATE_UNPARSED")
    return match[1], None if match[2] is None else int(match[2]), int(fields[0]), fields[1:]


def _shown(field: str) -> str:
    """Quote a wrong field for people, unless it could be a name, a date or a remark: details are shown in reports."""
    return f"text of {len(field)} characters" if len(field) > 24 or _PRIVATE.search(field) else repr(field)


def _is_time(text: str) -> bool:
    match = _TIME.fullmatch(text)
    return match is not None and int(match[1] or 0) < 24


def _day(text: str) -> int:
    """Return the number of the day that a date of header(5) names, DD/MM/YYYY; -1 where it names none."""
    match = _DATE.fullmatch(text)
    return -1 if match is None else day_number(int(match[3]), int(match[2]), int(match[1]))


def _check_counts(n_segments: int | None, n_signals: int, n_lines: int, cut: bool) -> None:
    if n_signals == 0:
        raise UnreadableRecord("NSIG_ZERO", "the record line states 0 signals")
    if n_signals > MAX_SIGNALS:
        raise UnreadableRecord("HEADER_LIMIT", f"{n_signals} signals stated; at most {MAX_SIGNALS} are read")
    if n_segments is not None and not 1 <= n_segments <= MAX_SEGMENTS:
        raise UnreadableRecord("SEGMENT_LIMIT", f"{n_segments} segments stated; 1 to {MAX_SEGMENTS} are read")
    expected = n_signals if n_segments is None else n_segments
    if n_lines < expected and cut:
        raise UnreadableRecord("HEADER_TRUNCATED", f"{n_lines} of {expected} lines, no final newline; fetch the header again")
    if n_lines != expected:
        code = "NSIG_MISMATCH" if n_segments is None else "SEGMENT_MISMATCH"
        raise UnreadableRecord(code, f"the record line states {expected} signals or segments, {n_lines} lines follow")


def _rate(fields: list[str]) -> float:
    match = _RATE.fullmatch(fields[0]) if fields else None
    if match is None or float(match[1]) > FS_RANGE_HZ[1]:
        raise _wrong_rate(fields)
    return float(match[1])


def _wrong_rate(fields: list[str]) -> UnreadableRecord:
    low, high = FS_RANGE_HZ
    found = _shown(fields[0]) if fields else "none"
    return UnreadableRecord("FS_INVALID", f"expected a sampling frequency of {low:g} to {high:g} Hz, found {found}")


def _length(fields: list[str], *, is_layout: bool) -> int | None:
    if len(fields) < 2:
        return None
    if is_layout and fields[1] == "0":
        return None
    if not _COUNT.fullmatch(fields[1]) or int(fields[1]) == 0:
        raise UnreadableRecord("LENGTH_INVALID", f"expected a number of samples, found {_shown(fields[1])}")
    return int(fields[1])


def _segment_line(line: str, number: int) -> tuple[str, int]:
    match = _SEGMENT.fullmatch(line.strip(" \t"))
    if match is None:
        raise UnreadableRecord("HEADER_SYNTAX", f"segment line {number}: expected 'name n_samples', found {_shown(line)}")
    return match[1], int(match[2])


def _usual_signals(text: str, warnings: set[str]) -> tuple[SignalLine, ...] | None:
    """Return the signals of lines that have all fields; None where some line has not, or a signal is refused.

    Headers of an archive differ in names, initial values and checksums: what they share is looked up, not parsed again.
    """
    found = _USUAL_LINE.findall(text)
    if len(found) != text.count("\n"):
        return None
    names, middles, initials, checksums, blocks, descriptions = zip(*found, strict=True)
    shared = _shared(middles, blocks, descriptions)
    if shared is None:
        return None
    columns, remarks = shared
    warnings.update(remarks)
    own = (map(int, initials), [int(checksum) % 65536 for checksum in checksums])
    return tuple(map(_signal_line, zip(names, *columns[:7], *own, *columns[7:], strict=True)))


_signal_line: Callable[[tuple[Any, ...]], SignalLine] = partial(tuple.__new__, SignalLine)
"""``SignalLine._make`` without its look at the length: a third of the time of a header's signals."""


@lru_cache(maxsize=256)
def _shared(
    middles: tuple[str, ...], blocks: tuple[str, ...], descriptions: tuple[str, ...]
) -> tuple[tuple[tuple[Any, ...], ...], frozenset[str]] | None:
    """Return the columns of ``SignalLine`` that are the same in all headers with these fields, and the warnings they give.

    None where a line of them is refused: such headers are parsed line by line, which says what is wrong.
    """
    warnings: set[str] = set()
    try:
        lines = [
            _parsed_line(f"f {middle} 0 0 {block} {description}", 0, warnings)
            for middle, block, description in zip(middles, blocks, descriptions, strict=True)
        ]
        signals = named_apart(gains_made_positive(lines, warnings), warnings)
    except UnreadableRecord:
        return None
    columns = tuple(zip(*signals, strict=True))
    return (*columns[1:8], *columns[10:]), frozenset(warnings)


def _parsed_line(line: str, number: int, warnings: set[str]) -> SignalLine:
    match = _SIGNAL.fullmatch(line)
    if match is None:
        raise _what_is_wrong(line, number)
    name, initial, checksum, description = match.group(1, 11, 12, 14)
    if "HEADER_CONTROL_CHARS" in warnings and CONTROL.search(line, 0, match.start(14) if description else len(line)):
        raise UnreadableRecord("HEADER_SYNTAX", f"signal line {number}: control characters")
    try:
        fields, warning = _fields(match.group(2, 3, 4, 5, 6, 7, 8, 10), is_null=name == NULL_FILE)
    except UnreadableRecord as error:
        raise UnreadableRecord(error.code, f"signal line {number}: {error.detail}") from None
    if warning:
        warnings.add(warning)
    first = None if initial is None else int(initial)
    total = None if checksum is None else int(checksum) % 65536
    return SignalLine(name, *fields, first, total, canonical_lead(description or ""))


@lru_cache(maxsize=1024)
def _fields(texts: tuple[str | Any, ...], *, is_null: bool) -> tuple[tuple[int, int, int, int, float, int, bool], str]:
    """Return the fields that the lines of an archive share, as ``SignalLine`` has them, and a warning.

    ``texts`` are those of ``_SIGNAL``, None where a line has none.
    """
    fmt, per_frame, skew, offset, gain, baseline, units, zero = texts
    number_of_format, n_per_frame = int(fmt), 1 if per_frame is None else int(per_frame)
    known = number_of_format in FORMATS or (number_of_format == 0 and is_null)
    if not known or fmt != str(number_of_format):
        raise UnreadableRecord("FMT_UNSUPPORTED", f"format {fmt}; WFDB has {sorted(FORMATS)}")
    if not 1 <= n_per_frame <= MAX_FRAME_SAMPLES:
        raise UnreadableRecord("HEADER_LIMIT", f"{n_per_frame} samples a frame; 1 to {MAX_FRAME_SAMPLES} are read")
    level = int(zero or 0) if baseline is None else int(baseline)
    if not -(2**31) <= level < 2**31:
        raise UnreadableRecord("BASELINE_INVALID", f"baseline {level} does not fit 32 bits")
    adc_gain, is_millivolts, warning = _gain(gain, units)
    if adc_gain is None:
        raise UnreadableRecord("GAIN_INVALID", f"gain {gain}/{units or 'mV'}; expected {GAIN_RANGE} adu per mV")
    return (number_of_format, n_per_frame, int(skew or 0), int(offset or 0), adc_gain, level, is_millivolts), warning


def _gain(text: str | None, units: str | None) -> tuple[float | None, bool, str]:
    """Return adu per mV (negative: the lead is turned over; None: impossible), whether units are volts, and a warning."""
    gain = float(text or 0)
    millivolts = MILLIVOLTS_PER_UNIT.get((units or "mV").lower())
    if gain == 0 and not (text or "").strip("+0.eE"):
        return DEFAULT_GAIN, False, "GAIN_DEFAULTED"
    per_millivolt = gain / (millivolts or 1.0)
    is_possible = GAIN_RANGE[0] <= abs(per_millivolt) <= GAIN_RANGE[1]
    return per_millivolt if is_possible else None, millivolts is not None, "" if millivolts else "UNITS_UNKNOWN"


def _what_is_wrong(line: str, number: int) -> UnreadableRecord:
    """Return the error of a signal line that does not match, naming its first wrong field."""
    fields = re.split(r"[ \t]+", line.strip(" \t"), maxsplit=8)
    where = f"signal line {number}"
    if not _FILE_NAME.fullmatch(fields[0] + " ", 0, len(fields[0])) or fields[0] in {"-", ".", "..", "--", "-.", ".-"}:
        return UnreadableRecord(
            "BAD_FILE_NAME", f"{where}: file name {_shown(fields[0])}; expected a name in the header's folder"
        )
    if len(fields) < 2 or not _FORMAT.fullmatch(fields[1]):
        found = _shown(fields[1]) if len(fields) > 1 else "nothing"
        code = "FMT_UNSUPPORTED" if len(fields) > 1 else "HEADER_SYNTAX"
        return UnreadableRecord(code, f"{where}: expected a format, found {found}")
    if len(fields) > 2 and not _GAIN.fullmatch(fields[2]):
        return UnreadableRecord("GAIN_INVALID", f"{where}: expected gain(baseline)/units, found {_shown(fields[2])}")
    names = ("ADC resolution", "ADC zero", "initial value", "checksum", "block size")
    wrong = (
        f"{n}, found {_shown(v)}"
        for n, v in zip(names, fields[3:8], strict=False)
        if not re.fullmatch(r"[-+]?\d{1,10}", v, re.ASCII)
    )
    return UnreadableRecord("HEADER_SYNTAX", f"{where}: expected a number as {next(wrong, 'each field')}")
