"""Samples of SCP-ECG (EN 1064, annex C): Huffman codes, differences, decimation between beats, reference beats added back."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgbatch.formats.header import UnreadableRecord

_DEFAULT_TABLE = 19999
_DEFAULT_CODES = (
    (1, 1, 1, 0, 0),
    *((n + 2, n + 2, 1, sign * n, 2**n - 1 + (2 ** (n + 1) if sign < 0 else 0)) for n in range(1, 9) for sign in (1, -1)),
    (10, 18, 1, 0, 0x1FF),
    (10, 26, 1, 0, 0x3FF),
)
"""0 is ``0``; n up to 8 is n ones, 0 and the sign; then 8 or 16 bits of the number itself. Codes are stored first bit lowest."""
_MAX_TABLES, _MAX_CODES = 64, 256
_LOOKUP_BITS = 12
_MAX_REST_BITS = 64
"""Of a lead's code after its last sample: filling up to a byte, a word or a block."""
_MAX_LEAD_BEATS = 100_000
"""Beats in section 4 times leads: two hours of twelve leads."""
_DECIMATION = 4
"""EN 1064: the rate outside protected areas, where the reference beat's does not tell it."""


class LeadSpan(NamedTuple):
    """A lead of section 3: its name, first and last sample, counted from 1 (some devices: 0) at the full rate."""

    lead: str
    first: int
    last: int


class _Coded(NamedTuple):
    """Sections 5 and 6: a reference beat's or the rhythm's samples as they are stored."""

    nanovolts: int
    interval_us: int
    n_differences: int
    is_bimodal: bool
    leads: list[bytes]

    @classmethod
    def of(cls, section: bytes) -> _Coded:
        """Read a section; lengths of leads, then leads, as many as the section is long enough for."""
        nanovolts, interval, n_differences, bimodal = struct.unpack_from("<HHBB", section)
        if not nanovolts:
            raise UnreadableRecord("GAIN_INVALID", "an amplitude of 0 nV a step")
        if not interval:
            raise UnreadableRecord("FS_INVALID", "a sample interval of 0 us")
        if n_differences > 2:
            raise UnreadableRecord("FMT_UNSUPPORTED", f"samples coded in way {n_differences}; expected 0, 1 or 2 differences")
        return cls(nanovolts, interval, n_differences, bimodal == 1, [section[6:]])

    def divided(self, n_leads: int) -> _Coded:
        """Return the same with each lead's own bytes."""
        (content,) = self.leads
        lengths = struct.unpack_from(f"<{n_leads}H", content)
        starts = [2 * n_leads + sum(lengths[:i]) for i in range(n_leads)]
        if starts[-1] + lengths[-1] > len(content):
            raise UnreadableRecord("DAT_TRUNCATED", f"leads of {sum(lengths)} bytes in a section of {len(content)}")
        return self._replace(leads=[content[start : start + n] for start, n in zip(starts, lengths, strict=True)])


class _Beat(NamedTuple):
    """A QRS complex of section 4 (samples counted as in section 3)."""

    kind: int
    first: int
    fiducial: int
    last: int


class _Beats(NamedTuple):
    reference_ms: int
    """Length of the reference beat."""
    fiducial: int
    """Of the reference beat: its sample, from 1."""
    beats: list[_Beat]
    protected: list[tuple[int, int]]
    """First and last sample at the full rate."""

    @classmethod
    def of(cls, section: bytes) -> _Beats:
        """Read section 4."""
        length_ms, fiducial, n_beats = struct.unpack_from("<HHH", section)
        beats = [_Beat(*struct.unpack_from("<HIII", section, 6 + 14 * i)) for i in range(n_beats)]
        first = 6 + 14 * n_beats
        has_areas = len(section) >= first + 8 * n_beats
        areas = [struct.unpack_from("<II", section, first + 8 * i) for i in range(n_beats if has_areas else 0)]
        return cls(length_ms, fiducial, beats, [(a, b) for a, b in areas if 0 < a <= b])


class Tables(NamedTuple):
    """Huffman tables, as the kernel reads them."""

    codes: NDArray[np.int64]
    """(table, code, 5) prefix bits, all bits, 1 where it is a number and not a change of table, number, code."""
    known: NDArray[np.int64]
    prefixes: NDArray[np.int64]

    @classmethod
    def of(cls, codes: NDArray[np.int64]) -> Tables:
        """Look up what the next bits begin with, once for all leads."""
        from ecgbatch.formats.device_kernels import looked_up

        return cls(codes, *looked_up(codes, _LOOKUP_BITS))


class Stored(NamedTuple):
    """All that a file holds of samples."""

    rhythm: _Coded
    reference: _Coded | None
    beats: _Beats | None
    tables: Tables | None
    """None where samples are plain 16-bit numbers."""
    is_subtracted: bool

    @classmethod
    def of(cls, sections: Mapping[int, bytes], *, is_subtracted: bool) -> Stored:
        """Read sections 2, 4, 5 and 6."""
        rhythm = _Coded.of(sections[6])
        beats = _Beats.of(sections[4]) if 4 in sections and (is_subtracted or rhythm.is_bimodal) else None
        needs_reference = is_subtracted and beats is not None and any(beat.kind == 0 for beat in beats.beats)
        if (is_subtracted or rhythm.is_bimodal) and beats is None:
            raise UnreadableRecord("DECODER_FAILED", "reference beats or decimation, and no section 4 that says where")
        if needs_reference and 5 not in sections:
            raise UnreadableRecord("DECODER_FAILED", "reference beats were subtracted, and no section 5 holds them")
        reference = _Coded.of(sections[5]) if 5 in sections and (needs_reference or rhythm.is_bimodal) else None
        return cls(rhythm, reference, beats, _tables(sections.get(2, b"")), needs_reference)

    @property
    def nanovolts(self) -> int:
        """Of a step."""
        return self.rhythm.nanovolts

    @property
    def decimation(self) -> int:
        """Samples that one stored number stands for outside protected areas."""
        if not self.rhythm.is_bimodal:
            return 1
        own, full = self.rhythm.interval_us, self.reference.interval_us if self.reference else 0
        if not full or own == full:
            return _DECIMATION
        if own % full or own // full > _DECIMATION:
            raise UnreadableRecord("FMT_UNSUPPORTED", f"sample intervals of {own} and {full} us do not fit each other")
        return own // full

    @property
    def fs(self) -> float:
        """Samples a second at the full rate, which section 3 counts in: the reference beat's where the rhythm is decimated."""
        is_told = self.rhythm.is_bimodal and self.reference is not None
        return 1e6 / (self.reference.interval_us if is_told and self.reference else self.rhythm.interval_us)


def decoded(stored: Stored, spans: Sequence[LeadSpan]) -> Iterator[NDArray[np.int64]]:
    """Yield the samples of each lead, from its first to its last."""
    rhythm = stored.rhythm.divided(len(spans))
    if stored.beats and len(stored.beats.beats) * len(spans) > _MAX_LEAD_BEATS:
        raise UnreadableRecord("HEADER_LIMIT", f"{len(stored.beats.beats)} beats in section 4, more than an hour has")
    reference = stored.reference.divided(len(spans)) if stored.reference and stored.is_subtracted else None
    for number, span in enumerate(spans):
        n_samples = span.last - span.first + 1
        zones = _zones(stored, span) if stored.decimation > 1 else [(n_samples, 1)]
        n_stored = sum(-(-n // step) for n, step in zones)
        values = _numbers(rhythm.leads[number], n_stored, stored, rhythm.n_differences, span.lead)
        samples = _expanded(values, zones) if stored.decimation > 1 else values
        if reference is not None and stored.beats is not None:
            _add_beats(samples, span, _whole_beat(reference, number, stored, span.lead), stored.beats)
        yield samples


def _numbers(content: bytes, n: int | None, stored: Stored, n_differences: int, lead: str) -> NDArray[np.int64]:
    """Return the ``n`` numbers of a lead (None: all that there are), differences added up."""
    limit = 8 * len(content) if stored.tables is not None else len(content) // 2
    if n is not None and n > limit:
        raise UnreadableRecord("DAT_TRUNCATED", f"lead {lead}: {n} samples stated, and {len(content)} bytes of them there")
    if stored.tables is None:
        if n is not None and len(content) > 2 * n + _MAX_REST_BITS // 8:
            raise UnreadableRecord("DAT_TOO_LONG", f"lead {lead}: expected {2 * n} bytes, found {len(content)}")
        values = np.frombuffer(content, "<i2", limit if n is None else n).astype(np.int64)
    else:
        values = _huffman(content, limit if n is None else n, stored.tables, lead, is_exact=n is not None)
    if n_differences:
        from ecgbatch.formats.device_kernels import add_up

        add_up(values, n_differences)
    return values


def _zones(stored: Stored, span: LeadSpan) -> list[tuple[int, int]]:
    """Return stretches of a lead: how many samples, and how many of them share a stored number (1 in protected areas)."""
    assert stored.beats is not None
    zones, at = [], span.first
    for area in sorted(stored.beats.protected):
        first, last = max(area[0], at), min(area[1], span.last)
        if first > last:
            continue
        zones += [(first - at, stored.decimation), (last - first + 1, 1)]
        at = last + 1
    zones.append((span.last + 1 - at, stored.decimation))
    return [zone for zone in zones if zone[0]]


def _expanded(values: NDArray[np.int64], zones: list[tuple[int, int]]) -> NDArray[np.int64]:
    """Return every sample: between numbers that are means of several samples, those on the line from middle to middle."""
    parts, at = [], 0
    for n, step in zones:
        own = values[at : at + -(-n // step)]
        at += own.size
        if step > 1:
            ends = np.minimum(np.arange(step, step * (own.size + 1), step), n)
            middles = (np.arange(own.size) * step + ends - 1) / 2
            own = np.round(np.interp(np.arange(n), middles, own)).astype(np.int64)
        parts.append(own)
    return np.concatenate(parts)


def _whole_beat(reference: _Coded, number: int, stored: Stored, lead: str) -> NDArray[np.int64]:
    """Return the reference beat of a lead in steps of the rhythm."""
    assert stored.beats is not None
    if round(1e6 / stored.fs) != reference.interval_us:
        raise UnreadableRecord("FMT_UNSUPPORTED", "the reference beat and the rhythm have two rates")
    n_samples = round(1000 * stored.beats.reference_ms / reference.interval_us)
    values = _numbers(reference.leads[number], None, stored, reference.n_differences, lead)[:n_samples]
    return np.round(values * (reference.nanovolts / stored.nanovolts)).astype(np.int64)


def _add_beats(samples: NDArray[np.int64], span: LeadSpan, reference: NDArray[np.int64], beats: _Beats) -> None:
    """Add the reference beat where it was subtracted: its fiducial sample to that of each beat of its kind (0)."""
    for beat in beats.beats:
        if beat.kind:
            continue
        shift = beat.fiducial - (beats.fiducial - 1)  # sample number of the reference beat's first sample
        first, last = max(beat.first, span.first, shift), min(beat.last, span.last, shift + reference.size - 1)
        if first <= last:
            samples[first - span.first : last - span.first + 1] += reference[first - shift : last - shift + 1]


def _huffman(content: bytes, n: int, tables: Tables, lead: str, *, is_exact: bool) -> NDArray[np.int64]:
    from ecgbatch.formats.device_kernels import huffman

    out = np.empty(n, np.int64)
    count, n_bits = huffman(np.frombuffer(content, np.uint8), *tables, _LOOKUP_BITS, out)
    if count < 0:
        raise UnreadableRecord("DECODER_FAILED", f"lead {lead}: a Huffman code that its tables do not have")
    if is_exact and count < n:
        raise UnreadableRecord("DAT_TRUNCATED", f"lead {lead}: expected {n} samples, found {count}; fetch it again")
    if is_exact and 8 * len(content) - n_bits > _MAX_REST_BITS:
        raise UnreadableRecord("DAT_TOO_LONG", f"lead {lead}: more code than for the {n} samples that section 3 states")
    return out[:count]


def _tables(section: bytes) -> Tables | None:
    """Return the Huffman tables of section 2, filled up with codes that never occur; None where there are none."""
    if len(section) < 2:
        return None
    (n_tables,) = struct.unpack_from("<H", section)
    if n_tables in {0, _DEFAULT_TABLE}:
        return _default_tables() if n_tables else None
    if n_tables > _MAX_TABLES:
        raise UnreadableRecord("HEADER_LIMIT", f"{n_tables} Huffman tables; at most {_MAX_TABLES} are read")
    at, lists = 2, []
    for _ in range(n_tables):
        (n_codes,) = struct.unpack_from("<H", section, at)
        if n_codes > _MAX_CODES:
            raise UnreadableRecord("HEADER_LIMIT", f"{n_codes} Huffman codes in a table; at most {_MAX_CODES} are read")
        lists.append([struct.unpack_from("<BBBhI", section, at + 2 + 9 * i) for i in range(n_codes)])
        at += 2 + 9 * n_codes
    for prefix, total, is_number, value, _ in (code for codes in lists for code in codes):
        if not (1 <= prefix <= 32 and prefix <= total <= prefix + 16) or not (is_number or 1 <= value <= n_tables):
            raise UnreadableRecord("HEADER_SYNTAX", "a Huffman code of no length, or one that changes to no table")
    tables = np.zeros((n_tables, max(1, *map(len, lists)), 5), np.int64)
    for number, codes in enumerate(lists):
        tables[number, : len(codes)] = np.array(codes, np.int64).reshape(-1, 5)
    return Tables.of(tables)


@cache
def _default_tables() -> Tables:
    return Tables.of(np.array([_DEFAULT_CODES], np.int64))
