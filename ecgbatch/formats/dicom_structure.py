"""The structure of a DICOM file, walked within limits before anybody reads a value: data elements, sequences, their ends."""

from __future__ import annotations

import struct
from typing import NamedTuple

from ecgbatch.formats.header import UnreadableRecord

MAX_ELEMENTS, MAX_DEPTH = 50_000, 16
"""A 12-lead ECG has about 600 data elements, 4 sequences deep; pydicom takes a second for the first limit."""
EXPLICIT, _IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
_ECG_CLASSES = frozenset(f"1.2.840.10008.5.1.4.1.1.9.1.{kind}" for kind in (1, 2, 3, 4))
"""SOP classes 12-lead ECG, general ECG, ambulatory ECG, general 32-bit ECG waveform storage: DICOM PS3.4, B.5."""
_LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_SHORT = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
"""Value representations with a length of four and of two bytes: PS3.5, 7.1.2."""
_HEAD = struct.Struct("<HH2sH")
"""Of a data element: group and number, then its type and a short length; without types, the length has the four bytes."""
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_SEQUENCES = frozenset({0x54000100, 0x003A0200, 0x003A0208, 0x003A0211})
"""Waveform, channel definition, channel source, channel sensitivity units: walked where the file does not name its types."""


def meta(content: bytes) -> tuple[int, str, bool]:
    """Return where the data set begins, its transfer syntax, and whether its storage class is one of ECGs."""
    if content[128:132] != b"DICM":
        raise UnreadableRecord("HEADER_SYNTAX", "expected DICM after 128 bytes; is it another format?")
    first, syntax, sop_class = 132, "", ""
    while content[first : first + 2] == b"\2\0":
        tag, vr, value, end = element(content, first, len(content), is_explicit=True)
        if vr in {b"SQ"} or value < 0:
            raise UnreadableRecord("HEADER_SYNTAX", "a sequence in the file meta information")
        text = content[value:end].rstrip(b"\0 ").decode("ascii", "replace")
        syntax, sop_class = (text if tag == 0x00020010 else syntax), (text if tag == 0x00020002 else sop_class)
        first = end
    if syntax not in {EXPLICIT, _IMPLICIT}:
        raise UnreadableRecord("FMT_UNSUPPORTED", "a compressed, big endian or unknown transfer syntax; export it uncompressed")
    return first, syntax, sop_class in _ECG_CLASSES


def element(content: bytes, first: int, stop: int, *, is_explicit: bool) -> tuple[int, bytes, int, int]:
    """Return tag, type (empty where it is not stated), start and end of the value (start < 0: of undefined length)."""
    if stop - first < 8:
        raise UnreadableRecord("DAT_TRUNCATED", f"byte {first}: the file ends inside a data element; fetch it again")
    group, number, vr, length = _HEAD.unpack_from(content, first)
    tag, start = group << 16 | number, first + 8
    if is_explicit and group != 0xFFFE:
        if vr in _LONG:
            start = first + 12
            length = int.from_bytes(content[first + 8 : first + 12], "little")
        elif vr not in _SHORT:
            raise UnreadableRecord("HEADER_SYNTAX", f"byte {first}: a data element of no known type")
    else:
        length = int.from_bytes(vr, "little") | length << 16
        vr = b""
    if length == _UNDEFINED:
        return tag, vr, -start, start
    if length % 2:
        raise UnreadableRecord("HEADER_SYNTAX", f"byte {first}: a data element of odd length")
    if length > stop - start:
        raise UnreadableRecord(
            "DAT_TRUNCATED", f"byte {first}: expected {length} bytes, found {max(0, stop - start)}; fetch it again"
        )
    return tag, vr, start, start + length


class _Level(NamedTuple):
    """A data set, or the items of a sequence, that the walk is inside of."""

    stop: int
    """Its last byte; the enclosing one's where it ends with a delimiter."""
    is_items: bool
    is_delimited: bool
    is_explicit: bool


def walk(content: bytes, first: int, *, is_explicit: bool) -> None:
    """Refuse a data set that is cut, nested or divided beyond the limits, or whose elements are out of order."""
    levels, last_tags = [_Level(len(content), False, False, is_explicit)], [-1]
    for _ in range(MAX_ELEMENTS):
        while first >= levels[-1].stop and not levels[-1].is_delimited:
            if len(levels) == 1:
                return
            levels.pop()
            last_tags.pop()
        level = levels[-1]
        tag, vr, start, end = element(content, first, level.stop, is_explicit=level.is_explicit)
        if tag in {_ITEM_END, _SEQUENCE_END}:
            if not level.is_delimited or level.is_items != (tag == _SEQUENCE_END) or start < 0:
                raise UnreadableRecord("HEADER_SYNTAX", f"byte {first}: an end of nothing that began")
            levels.pop()
            last_tags.pop()
            first = end
            continue
        if level.is_items != (tag == _ITEM):
            raise UnreadableRecord(
                "HEADER_SYNTAX", f"byte {first}: expected an item of a sequence, or a data element, not the other"
            )
        if not level.is_items:
            if tag <= last_tags[-1]:
                raise UnreadableRecord("HEADER_SYNTAX", f"byte {first}: data elements out of order, or one twice")
            last_tags[-1] = tag
        is_sequence = tag == _ITEM or vr == b"SQ" or start < 0 or (not vr and tag in _SEQUENCES)
        if not is_sequence:
            first = end
            continue
        if start < 0 and vr and vr not in {b"SQ", b"UN"}:
            raise UnreadableRecord("FMT_UNSUPPORTED", "encapsulated data; export the file uncompressed")
        if len(levels) > MAX_DEPTH:
            raise UnreadableRecord("HEADER_LIMIT", f"sequences more than {MAX_DEPTH} deep")
        # PS3.5, 6.2.2: what is unknown and has no length is a sequence without stated types.
        levels.append(_Level(level.stop if start < 0 else end, tag != _ITEM, start < 0, level.is_explicit and vr != b"UN"))
        last_tags.append(-1)
        first = abs(start)
    raise UnreadableRecord("HEADER_LIMIT", f"more than {MAX_ELEMENTS} data elements")
