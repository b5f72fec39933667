"""SCP-ECG (EN 1064, versions 1.3 to 3.0): sections, CRCs, patient and leads; their samples are decoded by ``scp_samples``."""

from __future__ import annotations

import struct
from binascii import crc_hqx
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgbatch.formats.cart import told_by
from ecgbatch.formats.device_record import (
    MAX_DEVICE_SAMPLES,
    DeviceRecord,
    Patient,
    Wave,
    age_at,
    device_record,
    identified,
    narrow,
    scaled,
)
from ecgbatch.formats.header import MAX_SIGNALS, UnreadableRecord, day_number
from ecgbatch.formats.scp_cart import CART_SECTIONS, tell
from ecgbatch.formats.scp_samples import LeadSpan, Stored, decoded
from ecgbatch.terms import MISSING_SAMPLE

SUFFIX, OTHER_SUFFIX = ".scp", ".ecg"
HEAD_BYTES = 22
_MARK = b"SCPECG"
"""In the last six bytes of the header of section 0, which is the first."""
_NEEDED = (0, 3, 6)
_NAMES = MappingProxyType(
    {1: "I", 2: "II", **{n + 2: f"V{n}" for n in range(1, 8)}, **{n + 8: f"V{n}R" for n in range(2, 8)}}
    | {16: "Vx", 17: "Vy", 18: "Vz", 19: "CC5", 20: "CM5", 61: "III", 62: "aVR", 63: "aVL", 64: "aVF", 65: "-aVR"}
    | {66: "V8", 67: "V9", 68: "V8R", 69: "V9R"}
)
"""Lead by its number in section 3: EN 1064, table of lead identification."""
_YEARS_PER_UNIT = MappingProxyType({1: 1.0, 2: 1 / 12, 3: 1 / 52.1775, 4: 1 / 365.2425, 5: 1 / 8765.82})
"""Of an age: years, months, weeks, days, hours."""
_SEXES = MappingProxyType({1: "M", 2: "F"})


class _Sections(NamedTuple):
    data: dict[int, bytes]
    """By number: what follows the section's header of 16 bytes; sections of no length are not there."""
    warnings: set[str]
    is_verified: bool
    is_whole: bool
    """Whether the file's own CRC is right."""


def is_scp(head: bytes) -> bool:
    """Tell by a file's first ``HEAD_BYTES`` whether it is SCP-ECG: other programs write ``.ecg`` files too."""
    return head[16:22] == _MARK


def parse_scp(content: bytes) -> DeviceRecord:
    """Read the rhythm data (section 6) of the leads of section 3; reference beats count only where they were subtracted.

    The file's CRC, or that of every section that is used, must be right. A CRC of 0 was not computed: such samples are
    unverified.

    Raises
    ------
    UnreadableRecord
        The only exception, whatever the bytes are.

    """
    try:
        sections = _sections(content)
        spans, is_subtracted = _spans(sections.data[3])
        stored = Stored.of(sections.data, is_subtracted=is_subtracted)
        first, last = min(span.first for span in spans), max(span.last for span in spans)
        n_samples = last - first + 1
        if n_samples * len(spans) > MAX_DEVICE_SAMPLES:
            raise UnreadableRecord("TOO_LONG", f"{len(spans)} leads of {n_samples} samples stated")
        waves = [
            _wave(span, _placed(span, samples, first, n_samples), stored.nanovolts, sections.warnings)
            for span, samples in zip(spans, decoded(stored, spans), strict=True)
        ]
        patient = _patient(sections.data.get(1, b""))
    except struct.error:
        raise UnreadableRecord("HEADER_TRUNCATED", "a section ends early; export the file again") from None
    cart = told_by(lambda told: tell(_beside(content, sections), told))
    return device_record(stored.fs, waves, patient, sections.warnings, is_verified=sections.is_verified, cart=cart)


def _sections(content: bytes) -> _Sections:
    if len(content) < 6 + 16:
        raise UnreadableRecord("HEADER_TRUNCATED", f"{len(content)} bytes; an SCP-ECG file has more")
    crc, size = struct.unpack_from("<HI", content)
    if size > len(content):
        raise UnreadableRecord("DAT_TRUNCATED", f"expected {size} bytes, found {len(content)}; fetch it again")
    if size < 6 + 16:
        raise UnreadableRecord("HEADER_SYNTAX", "the file's stated size is that of no SCP-ECG file; is it another format?")
    is_whole = crc_hqx(content[2:size], 0xFFFF) == crc
    found, unverified = {}, False
    for number, length, start in _pointers(content, size):
        if length <= 16 or number > 6 or number in found:
            continue
        section = content[start : start + length]
        stated, own_number, own_length = struct.unpack_from("<HHI", section)
        if own_number != number or not 16 <= own_length <= length:
            raise UnreadableRecord("HEADER_SYNTAX", f"section {number} is not where section 0 says")
        if not is_whole and stated and crc_hqx(section[2:own_length], 0xFFFF) != stated:
            raise UnreadableRecord("CHECKSUM_MISMATCH", f"section {number} and its CRC differ; fetch the file again")
        unverified |= not is_whole and not stated
        found[number] = section[16:own_length]
    missing = [number for number in _NEEDED if number not in found]
    if missing:
        code = "NSIG_ZERO" if 0 in found else "HEADER_SYNTAX"
        raise UnreadableRecord(code, f"the file has no section {missing[-1]}: no leads or no rhythm data in it")
    warnings = {"DAT_TRAILING_BYTES"} if size < len(content) else set()
    return _Sections(found, warnings, not unverified, is_whole)


def _beside(content: bytes, sections: _Sections) -> dict[int, bytes]:
    """Return the sections of what the cart said, by number: those that are where section 0 says, and whose CRC is right."""
    (size,) = struct.unpack_from("<I", content, 2)
    found: dict[int, bytes] = {}
    for number, length, start in _pointers(content, size):
        section = content[start : start + length] if 6 <= start <= start + length <= size else b""
        if number not in CART_SECTIONS or len(section) <= 16 or number in found:
            continue
        stated, own_number, own_length = struct.unpack_from("<HHI", section)
        is_right = sections.is_whole or not stated or crc_hqx(section[2:own_length], 0xFFFF) == stated
        if own_number == number and 16 <= own_length <= length and is_right:
            found[number] = section[16:own_length]
    return found


def _pointers(content: bytes, size: int) -> list[tuple[int, int, int]]:
    """Return number, length and place of every section."""
    (length,) = struct.unpack_from("<I", content, 6 + 4)
    if not 16 <= length <= min(size - 6, 16 + 10 * 1024):
        raise UnreadableRecord("HEADER_SYNTAX", "section 0 is no list of sections; is it another format?")
    listed = [(number, n, at - 1) for number, n, at in struct.iter_unpack("<HII", content[22 : 22 + (length - 16) // 10 * 10])]
    for number, n, at in listed:
        if n and number <= 6 and not 6 <= at <= at + n <= size:
            raise UnreadableRecord("DAT_TRUNCATED", f"section {number} leaves the file; fetch it again")
    return [(0, length, 6), *(each for each in listed if each[0])]


def _spans(section: bytes) -> tuple[list[LeadSpan], bool]:
    """Return the leads in order, and whether reference beats were subtracted from them."""
    n_leads, flags = struct.unpack_from("<BB", section)
    if not 1 <= n_leads <= MAX_SIGNALS:
        raise UnreadableRecord("NSIG_ZERO", "section 3 states no leads")
    spans = []
    for position in range(n_leads):
        first, last, number = struct.unpack_from("<IIB", section, 2 + 9 * position)
        name = _NAMES.get(number, f"SCP{number}" if number else f"SCP-{position + 1}")
        if not 0 <= first <= last:
            raise UnreadableRecord("LENGTH_INVALID", f"lead {name}: samples {first} to {last} stated")
        spans.append(LeadSpan(name, first, last))
    return spans, bool(flags & 1)


def _placed(span: LeadSpan, samples: NDArray[np.int64], first: int, n_samples: int) -> NDArray[np.int64]:
    """Return a lead on the grid of all leads: they need not have been recorded together."""
    if samples.size == n_samples:
        return samples
    whole = np.full(n_samples, MISSING_SAMPLE, np.int64)
    whole[span.first - first : span.last - first + 1] = samples
    return whole


def _wave(span: LeadSpan, samples: NDArray[np.int64], nanovolts: int, warnings: set[str]) -> Wave:
    return scaled(span.lead, narrow(samples), float(nanovolts), "nV", 0.0, warnings)


def _patient(section: bytes) -> Patient:
    fields = _fields(section)
    day, born = _day(fields.get(25, b"")), _day(fields.get(5, b""))
    age = age_at(born, day)
    if len(told := fields.get(4, b"")) >= 3 and (unit := _YEARS_PER_UNIT.get(told[2])) and told[:2] != b"\0\0":
        age = int.from_bytes(told[:2], "little") * unit
    sex = _SEXES.get(fields.get(8, b"\0")[:1][0] if fields.get(8) else 0, "")
    identifier = fields.get(2, b"").split(b"\0")[0].decode("utf-8", "replace")
    return Patient(identified(identifier), age, sex, day)


def _fields(section: bytes) -> dict[int, bytes]:
    """Return the tagged fields of section 1, the first of each tag; what follows a field that is cut is not known."""
    fields: dict[int, bytes] = {}
    at = 0
    while at + 3 <= len(section) and section[at] != 255:
        end = at + 3 + int.from_bytes(section[at + 1 : at + 3], "little")
        if end > len(section):
            break
        fields.setdefault(section[at], section[at + 3 : end])
        at = end
    return fields


def _day(field: bytes) -> int:
    return day_number(int.from_bytes(field[:2], "little"), field[2], field[3]) if len(field) >= 4 else -1
