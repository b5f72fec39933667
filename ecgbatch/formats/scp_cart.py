"""What the cart said of an SCP-ECG file: global measurements (section 7), its diagnosis in words (8) and as codes (11)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

from ecgbatch.formats.cart import Told

CART_SECTIONS = frozenset({7, 8, 11})
_MEASURED, _WORDS, _CODED = 7, 8, 11
_NO_TIME = frozenset({29999, 29998, 19999})
"""Not computed, not found, rejected: EN 1064, section 7, values of times that are none."""
_NO_AXIS = frozenset({999, 29999, 29998, 19999})
_BAZETT = 1
"""Of the formula of QTc; others than Bazett's have no name in ``cart.NUMBERS``."""
_BY_HAND = frozenset({1})
"""Of a section's state: 0 is the original report, 1 confirmed by a person, 2 read over but not confirmed."""
_CODE_STATEMENT, _TEXT_STATEMENT = 1, 2


def tell(sections: Mapping[int, bytes], told: Told) -> None:
    """Tell what the sections hold, as far as each goes: what lies behind a field that is cut is not known."""
    readers = ((_MEASURED, _tell_measured), (_WORDS, _tell_words), (_CODED, _tell_coded))
    for number, read in readers:
        if number in sections:
            try:
                read(sections[number], told)
            except struct.error:
                told.leave_out(f"section {number}")


def _tell_measured(section: bytes, told: Told) -> None:
    n_blocks, n_spikes, rr_ms = struct.unpack_from("<BBH", section)
    _tell_time(told, "rr_ms", rr_ms)
    if n_blocks:
        p_on, p_off, qrs_on, qrs_off, t_off, *axes = struct.unpack_from("<HHHHHhhh", section, 6)
        spans = {"p_ms": (p_on, p_off), "pr_ms": (p_on, qrs_on), "qrs_ms": (qrs_on, qrs_off), "qt_ms": (qrs_on, t_off)}
        for name, (first, last) in spans.items():
            if not {first, last} & _NO_TIME:
                told.number(name, str(last - first))
        for name, axis in zip(("axis_p_deg", "axis_qrs_deg", "axis_t_deg"), axes, strict=True):
            if axis not in _NO_AXIS:
                told.number(name, str(axis))
    at = 6 + 16 * n_blocks + (4 + 6) * n_spikes
    if at + 2 > len(section):
        return  # the older half of the section alone
    (n_complexes,) = struct.unpack_from("<H", section, at)
    at += 2 + n_complexes
    if at + 7 > len(section):
        return
    rate, atrial_rate, qtc_ms, formula = struct.unpack_from("<HHHB", section, at)
    _tell_time(told, "heart_rate_bpm", rate)
    _tell_time(told, "atrial_rate_bpm", atrial_rate)
    _tell_time(told, "qtc_bazett_ms" if formula == _BAZETT else "qtc_ms", qtc_ms)


def _tell_time(told: Told, name: str, value: int) -> None:
    if value not in _NO_TIME:
        told.number(name, str(value))


def _tell_words(section: bytes, told: Told) -> None:
    for text in _statements(section):
        for line in text.split(b"\0"):
            words = line.decode("latin-1")
            if section[0] in _BY_HAND:
                told.free(words)
            else:
                told.words(words)


def _tell_coded(section: bytes, told: Told) -> None:
    for statement in _statements(section):
        kind, parts = statement[:1], [part.decode("latin-1").strip() for part in statement[1:].split(b"\0")]
        for part in filter(None, parts):
            if section[0] in _BY_HAND:
                told.free(part)
            elif kind == bytes([_CODE_STATEMENT]):
                told.statement(part, "SCP-ECG")
            elif kind == bytes([_TEXT_STATEMENT]):
                told.words(part)


def _statements(section: bytes) -> Iterator[bytes]:
    """Yield the statements behind state, date, time and number (9 bytes): each has a number of its own and a length before it."""
    (n_statements,) = struct.unpack_from("<B", section, 8)
    at = 9
    for _ in range(n_statements):
        _, length = struct.unpack_from("<BH", section, at)
        if at + 3 + length > len(section):
            raise struct.error
        yield section[at + 3 : at + 3 + length]
        at += 3 + length
