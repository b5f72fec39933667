"""SCP-ECG files with truth known, written by EN 1064; no code is shared with the reader."""

from __future__ import annotations

import struct
from binascii import crc_hqx
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from tests.formats.device_files import Leads
from tests.formats.wfdb_files import Samples

NUMBERS = {"I": 1, "II": 2, "V1": 3, "V2": 4, "V3": 5, "V4": 6, "V5": 7, "V6": 8, "III": 61, "aVR": 62, "aVL": 63, "aVF": 64}

Table = Sequence[tuple[str, int, int | None]]
"""Codes: prefix as bits, bits of a number after it (-1: change to the table of that number), its number."""

DEFAULT: Table = (
    ("0", 0, 0),
    *((f"{'1' * n}0{sign}", 0, n if sign == 0 else -n) for n in range(1, 9) for sign in (0, 1)),
    ("1111111110", 8, None),
    ("1111111111", 16, None),
)
OWN: Sequence[Table] = (
    (("00", 0, 0), ("010", 0, 1), ("011", 0, -1), ("10", 4, None), ("110", -1, 2), ("111111111111111", 16, None)),
    (("1", 8, None), ("01", -1, 1), ("00000000000000", 16, None)),
)
"""Two tables, from each of which one can change to the other; numbers of 16 bits have prefixes of 15 and 14."""

PATIENT = {
    0: b"Canary\0",
    1: b"Zaphod\0",
    2: b"MRN4711\0",
    5: struct.pack("<HBB", 1938, 3, 25),
    8: b"\2",
    25: struct.pack("<HBB", 1996, 3, 25),
}


def crc(content: bytes) -> int:
    """Return the CRC of EN 1064: x^16 + x^12 + x^5 + 1, all ones at the start."""
    if len(content) > 100_000:
        return crc_hqx(content, 0xFFFF)
    value = 0xFFFF
    for byte in content:
        value ^= byte << 8
        for _ in range(8):
            value = ((value << 1) ^ (0x1021 if value & 0x8000 else 0)) & 0xFFFF
    return value


def scp(
    leads: Leads,
    fs: int = 250,
    *,
    microvolts: float = 5.0,
    differences: int = 2,
    tables: Sequence[Table] | None = (DEFAULT,),
    starts: Mapping[str, int] | None = None,
    beats: Sequence[tuple[int, int, int, int]] = (),
    areas: Sequence[tuple[int, int]] = (),
    reference: Leads | None = None,
    fiducial: int = 1,
    decimation: int = 1,
    patient: Mapping[int, bytes] = PATIENT,
    version: int = 20,
) -> bytes:
    """Return an SCP-ECG file.

    ``tables`` None: no Huffman code. ``beats`` (kind, first, fiducial, last) count from 1, as ``starts`` of leads; of those of
    kind 0 the reference beat is subtracted. ``areas`` are protected; outside them ``decimation`` samples become their mean.
    """
    starts = {name: (starts or {}).get(name, 1) for name in leads}
    interval, nanovolts = round(1e6 / fs), round(1000 * microvolts)
    told = struct.pack("<BB", len(leads), (1 if reference else 0) | 4 | (len(leads) & 31) << 3)
    for name, values in leads.items():
        told += struct.pack("<IIB", starts[name], starts[name] + len(values) - 1, NUMBERS[name])
    residues = {
        name: _subtracted(values, starts[name], reference and reference[name], beats, fiducial) for name, values in leads.items()
    }
    kept = {name: _decimated(values, starts[name], areas, decimation) for name, values in residues.items()}
    parts = {1: b"".join(struct.pack("<BH", tag, len(field)) + field for tag, field in patient.items()) + b"\xff\0\0"}
    if tables is not None:
        parts[2] = struct.pack("<H", 19999) if list(tables) == [DEFAULT] else _table_section(tables)
    parts[3] = told
    if beats or areas:
        length_ms = round(1000 * len(next(iter(reference.values()))) / fs) if reference else 0
        parts[4] = struct.pack("<HHH", length_ms, fiducial, len(beats)) + b"".join(struct.pack("<HIII", *beat) for beat in beats)
        parts[4] += b"".join(struct.pack("<II", *area) for area in areas)
    if reference or decimation > 1:
        parts[5] = _coded(reference or leads, nanovolts, interval, differences, 0, tables)
    parts[6] = _coded(kept, nanovolts, interval * decimation, differences, decimation > 1, tables)
    return assembled(parts, version)


def assembled(parts: Mapping[int, bytes], version: int = 20) -> bytes:
    """Return a file of sections, section 0 made for them, with every CRC."""
    sections = {}
    for number, content in parts.items():
        sections[number] = _section(number, content + b"\0" * (len(content) % 2), version)
    length, at, pointers = 16 + 10 * 12, 7 + 16 + 10 * 12, b""
    for number in range(1, 12):
        n = len(sections.get(number, b""))
        pointers += struct.pack("<HII", number, n, at if n else 0)
        at += n
    first = _section(0, struct.pack("<HII", 0, length, 7) + pointers, version, b"SCPECG")
    body = struct.pack("<I", at - 1) + first + b"".join(sections[number] for number in sorted(sections))
    return struct.pack("<H", crc(body)) + body


def repaired(content: bytes) -> bytes:
    """Return an altered file with the file's size and CRC made right."""
    body = struct.pack("<I", len(content)) + content[6:]
    return struct.pack("<H", crc(body)) + body


def _section(number: int, content: bytes, version: int, mark: bytes = bytes(6)) -> bytes:
    body = struct.pack("<HIBB", number, 16 + len(content), version, version) + mark + content
    return struct.pack("<H", crc(body)) + body


def _subtracted(
    values: Samples, start: int, reference: Samples | None, beats: Sequence[tuple[int, int, int, int]], fiducial: int
) -> Samples:
    rest = values.copy()
    for kind, first, middle, last in beats if reference is not None else ():
        for sample in range(first, last + 1):
            place, own = sample - middle + fiducial - 1, sample - start
            if kind == 0 and reference is not None and 0 <= place < len(reference) and 0 <= own < len(rest):
                rest[own] -= reference[place]
    return rest


def _decimated(values: Samples, start: int, areas: Sequence[tuple[int, int]], step: int) -> Samples:
    kept, at = [], 0
    while at < len(values):
        area = next(((a, b) for a, b in areas if a <= at + start <= b), None)
        if area or step == 1:
            kept.append(int(values[at]))
            at += 1
            continue
        end = min([at + step, len(values), *(a - start for a, _ in areas if a - start > at)])
        kept.append(round(float(np.mean(values[at:end]))))
        at = end
    return np.array(kept, np.int64)


def _coded(
    leads: Leads, nanovolts: int, interval: int, differences: int, bimodal: bool | int, tables: Sequence[Table] | None
) -> bytes:
    codes = [_code(values, differences, tables) for values in leads.values()]
    codes = [code + b"\0" * (len(code) % 2) for code in codes]
    head = struct.pack("<HHBB", nanovolts, interval, differences, int(bimodal))
    return head + b"".join(struct.pack("<H", len(code)) for code in codes) + b"".join(codes)


def _code(values: Samples, differences: int, tables: Sequence[Table] | None) -> bytes:
    stored = values.tolist()
    if differences == 1:
        stored = stored[:1] + [b - a for a, b in pairwise(stored)]
    elif differences == 2:
        stored = stored[:2] + [c - 2 * b + a for a, b, c in zip(stored, stored[1:], stored[2:], strict=False)]
    if tables is None:
        return struct.pack(f"<{len(stored)}h", *stored)
    bits, table = [], 0
    for place, number in enumerate(stored):
        if len(tables) > 1 and place % 50 == 49:  # change tables now and then
            prefix, _, other = next(code for code in tables[table] if code[1] == -1)
            bits.append(prefix)
            table = (other or 1) - 1
        bits.append(_bits(number, tables[table]))
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big") if text else b""


def _bits(number: int, table: Table) -> str:
    exact = next((prefix for prefix, extra, value in table if extra == 0 and value == number), None)
    if exact is not None:
        return exact
    prefix, extra = min(
        ((p, e) for p, e, _ in table if e > 0 and -(1 << (e - 1)) <= number < 1 << (e - 1)), key=lambda code: code[1]
    )
    return prefix + format(number % (1 << extra), f"0{extra}b")


def _table_section(tables: Sequence[Table]) -> bytes:
    content = struct.pack("<H", len(tables))
    for table in tables:
        content += struct.pack("<H", len(table))
        for prefix, extra, value in table:
            total = len(prefix) + max(0, extra)
            content += struct.pack("<BBBhI", len(prefix), total, int(extra >= 0), value or 0, int(prefix[::-1], 2))
    return content
