"""The formats of hospital devices, each whole file one record: which file is which, and who reads it."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from ecgbatch.formats.aecg import ROOT as AECG_ROOT
from ecgbatch.formats.aecg import parse_aecg
from ecgbatch.formats.device_record import DeviceRecord
from ecgbatch.formats.files import first_bytes
from ecgbatch.formats.header import UnreadableRecord
from ecgbatch.formats.muse import ROOT as MUSE_ROOT
from ecgbatch.formats.muse import parse_muse
from ecgbatch.formats.scp import HEAD_BYTES as SCP_HEAD_BYTES
from ecgbatch.formats.scp import OTHER_SUFFIX as OTHER_SCP_SUFFIX
from ecgbatch.formats.scp import SUFFIX as SCP_SUFFIX
from ecgbatch.formats.scp import is_scp, parse_scp
from ecgbatch.formats.sierra import ROOT as SIERRA_ROOT
from ecgbatch.formats.sierra import parse_sierra
from ecgbatch.formats.xml_tree import Element, parse_xml, root_name

XML_SUFFIX = ".xml"
_HEAD_BYTES = 1 << 16
"""Comments may stand before an XML file's root; no device writes more of them."""


_KEPT_BYTES = 1 << 22
"""Of a file that is kept decoded until the next: an ECG of ten seconds has 30 to 500 kB."""


class _Kind(NamedTuple):
    """Files of one suffix."""

    looks_right: Callable[[bytes], bool]
    """Of a file's first ``head_bytes``."""
    parse: Callable[[bytes], DeviceRecord]
    head_bytes: int


_XML_FORMATS: MappingProxyType[str, Callable[[Element], DeviceRecord]] = MappingProxyType(
    {MUSE_ROOT: parse_muse, AECG_ROOT: parse_aecg, SIERRA_ROOT: parse_sierra}
)
"""By the root's name without its namespace."""


def is_device_file(path: str) -> bool:
    """Tell by its first bytes whether a file with a suffix of ``DEVICE_SUFFIXES`` is an ECG of one of these formats.

    Other programs write XML too: such a file is no record. One that cannot be opened is taken for a record, which then says why.
    """
    kind = next((kind for suffix, kind in _FORMATS.items() if path.lower().endswith(suffix)), None)
    if kind is None:
        return False
    try:
        return kind.looks_right(first_bytes(path, kind.head_bytes))
    except UnreadableRecord:
        return True


def parse_device(suffix: str, content: bytes) -> DeviceRecord:
    """Read the file of a hospital device.

    Parameters
    ----------
    suffix
        One of ``DEVICE_SUFFIXES``.
    content
        The whole file, at most ``device_record.MAX_DEVICE_BYTES``.

    Raises
    ------
    UnreadableRecord
        The only exception, whatever the bytes are.

    """
    return parsed_lately(suffix, content) if len(content) <= _KEPT_BYTES else _FORMATS[suffix].parse(content)


@lru_cache(maxsize=2)  # what was inspected is read next: the same bytes are not decoded twice
def parsed_lately(suffix: str, content: bytes) -> DeviceRecord:
    """Read a file as ``parse_device`` does, and keep the last ones."""
    return _FORMATS[suffix].parse(content)


def suffix_of(name: str) -> str:
    """Return which of ``DEVICE_SUFFIXES`` a name has; empty if none."""
    return next((suffix for suffix in DEVICE_SUFFIXES if name.lower().endswith(suffix)), "")


def _parse_xml(content: bytes) -> DeviceRecord:
    root = parse_xml(content)
    parse = _XML_FORMATS.get(root.name)
    if parse is None:
        known = ", ".join(_XML_FORMATS)
        raise UnreadableRecord("FMT_UNSUPPORTED", f"the XML file's root is none of an ECG that is read: {known}")
    return parse(root)


def _is_xml_ecg(head: bytes) -> bool:
    return root_name(head) in _XML_FORMATS


_FORMATS = MappingProxyType(
    {
        XML_SUFFIX: _Kind(_is_xml_ecg, _parse_xml, _HEAD_BYTES),
        SCP_SUFFIX: _Kind(lambda _: True, parse_scp, 0),  # nothing else has this suffix: a damaged one is to be told of
        OTHER_SCP_SUFFIX: _Kind(is_scp, parse_scp, SCP_HEAD_BYTES),
    }
)
DEVICE_SUFFIXES = tuple(_FORMATS)
"""In lower case."""
