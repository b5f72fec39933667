"""What can be said about a record before a single sample is read: names, files, sizes, arithmetic."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from ecgbatch.formats.device_record import MAX_DEVICE_BYTES
from ecgbatch.formats.devices import DEVICE_SUFFIXES, parse_device, suffix_of
from ecgbatch.formats.dicom import HEAD_BYTES, MAX_DICOM_BYTES, is_waveform_file, parse_dicom
from ecgbatch.formats.dicom import SUFFIX as DICOM_SUFFIX
from ecgbatch.formats.edf import MAX_EDF_HEADER_BYTES, parse_edf
from ecgbatch.formats.edf import SUFFIX as EDF_SUFFIX
from ecgbatch.formats.edf_gaps import with_gaps
from ecgbatch.formats.files import check_record_name, first_bytes, folder_below, is_there, locate, read_file
from ecgbatch.formats.header import Header, SignalLine, UnreadableRecord, at_one_rate, columns_of, kept_signals, left_out, step
from ecgbatch.formats.wfdb_header import MAX_HEADER_BYTES, NULL_FILE, parse_header
from ecgbatch.terms import STATUS, lead_order

MAX_RECORD_SAMPLES = 1 << 31
"""Samples of all leads together: 4 GiB as int16; 24 h of 15 leads at 1000 Hz have 1.3e9."""
FREE_SAMPLES, SAMPLES_PER_BYTE = 1 << 26, 64
"""Compressed files and gaps may promise ``FREE_SAMPLES``, or this many samples for each byte that is there."""
MAX_EXTRA_BYTES = 1 << 26
"""Bytes of a signal file before and after its samples: more is another file, or a sparse one without end."""
SUFFIXES = (EDF_SUFFIX, DICOM_SUFFIX, *DEVICE_SUFFIXES)
"""Of records that are one file, header and samples together; they keep their suffix in the record's name. DICOM may have none."""
FLAC_FORMATS = frozenset({508, 516, 524})
_BITS = {8: 8, 16: 16, 24: 24, 32: 32, 61: 16, 80: 8, 160: 16, 212: 12}


class SignalFile(NamedTuple):
    """One signal file of a record as the header describes it and as the disk has it."""

    name: str
    path: str
    n_bytes: int
    """-1 where the file is missing."""
    mtime_ns: int
    fmt: int
    byte_offset: int
    signals: tuple[int, ...]
    """Numbers of its signal lines, 0-based."""


class Inspection(NamedTuple):
    """Everything known about a record without its samples; ``status`` 2 (set aside) has a reason and a detail."""

    record_name: str
    header: Header | None
    header_bytes: bytes
    files: tuple[SignalFile, ...]
    segments: tuple[tuple[int, Inspection | None], ...]
    """Of a multi-segment record: samples and inspection of each segment; None is a gap."""
    n_samples: int
    n_bytes: int
    leads: tuple[str, ...]
    """Readable leads in canonical order."""
    status: int
    reason: str
    status_detail: str
    warnings: tuple[str, ...]
    suffix: str = ""
    """Which of ``SUFFIXES`` a record is that is one file, by its name or its content; empty for WFDB's."""


def inspect_record(archive: str | Path, record_name: str) -> Inspection:
    """Judge a record by its name, its header and the sizes of its files; no sample is read.

    Parameters
    ----------
    archive
        The archive's folder: no file outside it is opened, whatever names and links say.
    record_name
        Path of the header below it, without ``.hea``.

    Returns
    -------
    Inspection
        Whatever is wrong is in ``status``, ``reason`` and ``status_detail``: this function raises for no input.

    """
    return _inspect(os.path.realpath(archive), record_name, {}, is_segment=False)


def inspect_records(archive: str | Path, record_names: Iterable[str]) -> Iterator[Inspection]:
    """Judge many records as ``inspect_record`` judges one; where the archive and its folders lie is resolved once."""
    root, folders = os.path.realpath(archive), dict[str, str]()
    for record_name in record_names:
        yield _inspect(root, record_name, folders, is_segment=False)


def _inspect(root: str, record_name: str, folders: dict[str, str], *, is_segment: bool) -> Inspection:
    known = _Known(suffix=_suffix(record_name))
    try:
        with step("header"):
            check_record_name(record_name)
            _inspect_into(known, root, record_name, folders, is_segment=is_segment)
            return _judged(record_name, known)
    except UnreadableRecord as error:
        return _inspection(record_name, known, (), STATUS["set_aside"], error.code, error.detail)


@dataclass
class _Known:
    """What an inspection has found so far: a refusal keeps it, so that a change of the files is noticed."""

    header: Header | None = None
    header_bytes: bytes = b""
    n_bytes: int = 0
    n_samples: int = 0
    files: tuple[SignalFile, ...] = ()
    segments: tuple[tuple[int, Inspection | None], ...] = ()
    warnings: set[str] = field(default_factory=set)
    left_out: str = ""
    """What of the file is not taken, for people."""
    suffix: str = ""


def _inspect_into(known: _Known, root: str, record_name: str, folders: dict[str, str], *, is_segment: bool) -> None:
    parent, _, base = record_name.rpartition("/")
    folder = folders.get(parent) or folders.setdefault(parent, folder_below(root, parent))
    if known.suffix:
        _INSPECTORS[known.suffix](known, *_single_file(known, root, folder, base))
        return
    try:
        known.header_bytes = read_file(root, folder, f"{base}.hea", MAX_HEADER_BYTES, "HEADER_TOO_BIG", known.warnings)
    except UnreadableRecord:
        if is_segment or not _is_bare_dicom(root, folder, base):
            raise
        known.suffix = DICOM_SUFFIX
        _inspect_dicom(known, *_single_file(known, root, folder, base))
        return
    known.n_bytes = len(known.header_bytes)
    header = known.header = parse_header(known.header_bytes, record_name)
    known.warnings.update(header.warnings)
    if header.segments and is_segment:
        raise UnreadableRecord("SEGMENT_LIMIT", "a segment that is itself a multi-segment record; one level is read")
    if header.segments:
        known.segments = _inspect_segments(root, record_name, folders, header)
        unique = {segment.record_name: segment.n_bytes for _, segment in known.segments if segment}
        known.n_bytes += sum(unique.values())
        n_frames = _judge_segments(header, known.segments, known.n_bytes)
        _take_one_rate(known, header)
        known.n_samples = n_frames * known.header.frame_samples
        return
    if is_segment and all(signal.file_name == NULL_FILE for signal in header.signals):
        return  # a layout: names and gains of leads, no samples
    known.files = _find_files(root, folder, header, known.warnings)
    known.n_bytes += sum(max(0, file.n_bytes) for file in known.files)
    n_frames = _judge_files(header, known.files, folder, known.warnings)
    if not is_segment:  # a segment's rate is its record's
        header = known.header = at_one_rate(header)
        known.warnings.update(header.warnings)
        known.left_out = left_out(header)
    known.n_samples = n_frames * header.frame_samples


def _suffix(record_name: str) -> str:
    return next((suffix for suffix in SUFFIXES if record_name.lower().endswith(suffix)), "")


def _is_bare_dicom(root: str, folder: str, name: str) -> bool:
    """Tell whether a record without a header is a DICOM file whose name has no suffix."""
    try:
        found = locate(root, folder, name, set())
        return found is not None and is_waveform_file(first_bytes(found[0], HEAD_BYTES))
    except UnreadableRecord:
        return False


def _single_file(known: _Known, root: str, folder: str, name: str) -> tuple[str, str]:
    found = locate(root, folder, name, known.warnings)
    if found is None:
        raise UnreadableRecord("LISTED_MISSING", f"{name[:80]} is not there; fetch it or take it off the list")
    path, known.n_bytes, mtime = found
    known.files = (SignalFile(name, path, known.n_bytes, mtime, 16, 0, ()),)
    return name, path


def _inspect_dicom(known: _Known, name: str, path: str) -> None:
    """Read the whole file: its structure says where samples are only at the end of the walk."""
    if known.n_bytes > MAX_DICOM_BYTES:
        known.header_bytes = first_bytes(path, 256)
        raise UnreadableRecord(
            "TOO_LONG", f"{name}: {known.n_bytes} bytes; at most {MAX_DICOM_BYTES} are read; export it in parts"
        )
    content = first_bytes(path, known.n_bytes)
    known.header_bytes = hashlib.sha256(content).digest()  # stands for the header: what makes the record new
    record = parse_dicom(content)
    known.header, known.n_samples = record.header, record.header.n_samples or 0
    known.warnings.update(record.header.warnings)
    known.left_out = record.left_out


def _inspect_edf(known: _Known, name: str, path: str) -> None:
    content = first_bytes(path, MAX_EDF_HEADER_BYTES)
    known.header_bytes = content[:256]
    edf = parse_edf(content)
    known.header_bytes, known.header = content[: edf.n_header_bytes], edf.header
    known.warnings.update(edf.header.warnings)
    known.left_out = edf.left_out
    expected = edf.n_header_bytes + 2 * edf.n_records * edf.record_samples
    if known.n_bytes < expected:
        raise UnreadableRecord("DAT_TRUNCATED", f"{name}: expected {expected} bytes, found {known.n_bytes}; fetch it again")
    if edf.n_records * edf.record_samples > MAX_RECORD_SAMPLES:
        raise UnreadableRecord("TOO_LONG", f"more than {MAX_RECORD_SAMPLES} samples; split the record")
    if known.n_bytes > expected:
        detail = f"{name}: expected {expected} bytes, found {known.n_bytes}: without checksums the header may be the wrong part"
        raise UnreadableRecord("DAT_TOO_LONG", detail)
    if edf.onset_sample >= 0:
        known.header = with_gaps(edf, path).header
        n_total = (known.header.n_samples or 0) * len(known.header.signals)
        if n_total > min(MAX_RECORD_SAMPLES, max(FREE_SAMPLES, SAMPLES_PER_BYTE * known.n_bytes)):
            raise UnreadableRecord("TOO_LONG", f"{n_total} samples, interruptions included, in {known.n_bytes} bytes; split it")
    known.n_samples = known.header.n_samples or 0


def _inspect_device(known: _Known, name: str, path: str) -> None:
    """Read the whole file, as ``_inspect_dicom``: samples are coded, and only decoding tells whether they are all there."""
    if known.n_bytes > MAX_DEVICE_BYTES:
        known.header_bytes = first_bytes(path, 256)
        raise UnreadableRecord("TOO_LONG", f"{name}: {known.n_bytes} bytes; at most {MAX_DEVICE_BYTES} are read of such a file")
    content = first_bytes(path, known.n_bytes)
    known.header_bytes = hashlib.sha256(content).digest()
    record = parse_device(suffix_of(name), content)
    known.header, known.left_out = record.header, record.left_out
    known.n_samples = known.header.n_samples or 0
    known.warnings.update(known.header.warnings)


_INSPECTORS = MappingProxyType(
    {EDF_SUFFIX: _inspect_edf, DICOM_SUFFIX: _inspect_dicom, **dict.fromkeys(DEVICE_SUFFIXES, _inspect_device)}
)
"""By suffix: what judges a record that is one file. ``records._READERS`` has what reads it."""


def _judged(record_name: str, known: _Known) -> Inspection:
    header, files = known.header, known.files
    assert header is not None
    missing = {i for file in files if file.n_bytes < 0 for i in file.signals}
    if not missing and not known.segments:  # nearly every record
        told = columns_of(header.signals)
        is_one_rate = set(told.samples_per_frame) == {header.frame_samples}
        leads_kept = told.lead if is_one_rate else tuple([told.lead[i] for i in kept_signals(header)])
        return _inspection(record_name, known, _ordered(leads_kept), STATUS["ok"], "", known.left_out)
    kept = [header.signals[i].lead for i in kept_signals(header) if i not in missing]
    leads = set(kept)
    for segment in (segment for _, segment in known.segments if segment):
        leads.update(segment.leads)
        known.warnings.update(segment.warnings)
    if not missing:
        return _inspection(record_name, known, tuple(lead_order(leads)), STATUS["ok"], "", known.left_out)
    names = " ".join(lead_order({header.signals[i].lead for i in missing}))
    absent = ", ".join(file.name for file in files if file.n_bytes < 0)
    detail = f"missing leads {names}: {absent} is not there"
    return _inspection(record_name, known, tuple(lead_order(leads)), STATUS["partial"], "LEADS_MISSING", detail)


@lru_cache(maxsize=256)
def _ordered(leads: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(lead_order(set(leads)))


def _inspection(record_name: str, known: _Known, leads: tuple[str, ...], status: int, code: str, detail: str) -> Inspection:
    return Inspection(
        record_name=record_name,
        header=known.header,
        header_bytes=known.header_bytes,
        files=known.files,
        segments=known.segments,
        n_samples=known.n_samples,
        n_bytes=known.n_bytes,
        leads=leads,
        status=status,
        reason=code,
        status_detail=detail,
        warnings=tuple(sorted(known.warnings)),
        suffix=known.suffix,
    )


def _find_files(root: str, folder: str, header: Header, warnings: set[str]) -> tuple[SignalFile, ...]:
    files, told = [], columns_of(header.signals)
    is_one_format = len(set(told.fmt)) == len(set(told.byte_offset)) == 1
    for name, signals in _signals_of_files(told.file_name).items():
        first = header.signals[signals[0]]
        if not is_one_format and len({(told.fmt[i], told.byte_offset[i]) for i in signals}) > 1:
            raise UnreadableRecord("FMT_MIXED", f"{name} is described with several formats or byte offsets; correct the header")
        found = None if name == NULL_FILE else locate(root, folder, name, warnings)
        path, size, mtime = found or ("", -1, 0)
        files.append(SignalFile(name, path, size, mtime, first.fmt, first.byte_offset, signals))
    if len(files) > 1 and len({file.path for file in files if file.path}) < sum(1 for file in files if file.path):
        raise UnreadableRecord("FILES_INTERLEAVED", "two of the header's file names are one file")
    return tuple(files)


def _signals_of_files(names: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """Return the numbers of each file's signals, of which ``names`` are; refuse a file whose signals are not together."""
    if len(set(names)) == 1:  # nearly every record
        return {names[0]: tuple(range(len(names)))}
    groups = {name: tuple([i for i, own in enumerate(names) if own == name]) for name in dict.fromkeys(names)}
    for name, signals in groups.items():
        if signals[-1] - signals[0] >= len(signals):
            raise UnreadableRecord("FILES_INTERLEAVED", f"signals of {name} are not listed together")
    return groups


def _judge_files(header: Header, files: tuple[SignalFile, ...], folder: str, warnings: set[str]) -> int:
    if any(file.name == NULL_FILE for file in files):
        raise UnreadableRecord("FMT_UNSUPPORTED", "only segments may have signals without a file (~)")
    if files[0].n_bytes < 0:
        if is_there(f"{folder}/{files[0].name}.gz"):
            raise UnreadableRecord("COMPRESSED_UNSUPPORTED", f"expected {files[0].name}, found {files[0].name}.gz; unpack it")
        raise UnreadableRecord("DAT_MISSING", f"{files[0].name} is not there; fetch it")
    there = [file for file in files if file.n_bytes >= 0]
    for file in there:
        if file.n_bytes == 0:
            raise UnreadableRecord("DAT_EMPTY", f"{file.name} has 0 bytes; fetch it again")
    n_samples = header.n_samples or _inferred_length(header, there, warnings)
    told = columns_of(header.signals)
    n_total = n_samples * sum(told.samples_per_frame)
    for file in there:
        _judge_size(header, file, n_samples, warnings)
    if n_total > MAX_RECORD_SAMPLES:
        raise UnreadableRecord("TOO_LONG", f"{n_total} samples; at most {MAX_RECORD_SAMPLES} are read; split the record")
    if max(told.skew) >= n_samples:
        raise UnreadableRecord("HEADER_LIMIT", f"a skew of {max(told.skew)} in {n_samples} samples")
    return n_samples


def _inferred_length(header: Header, files: list[SignalFile], warnings: set[str]) -> int:
    """Return the frames that the files hold; only checksums can confirm that none is lost."""
    signals = [header.signals[i] for file in files for i in file.signals]
    lengths = set()
    for file in files:
        bits = _BITS.get(file.fmt, 0) * _frame_samples(header, file)
        n_bits = 8 * (file.n_bytes - file.byte_offset)
        lengths.add(n_bits // bits if bits and n_bits % bits < 8 else -1)
    if lengths & {-1, 0} or len(lengths) != 1 or not has_checksums(signals):
        detail = "the header states no number of samples, and files or checksums cannot tell it; add it to the header"
        raise UnreadableRecord("LENGTH_UNVERIFIABLE", detail)
    if lengths == {int(header.sampling_frequency_hz)}:
        raise UnreadableRecord("FS_INVALID", "the record line states either a rate or a length, but not both")
    warnings.add("LENGTH_INFERRED")
    return lengths.pop()


def has_checksums(signals: list[SignalLine]) -> bool:
    """Whether every signal states a checksum and they are not all zero (the old way to say: not computed)."""
    checksums = columns_of(signals).checksum
    return None not in checksums and any(checksums)


def _frame_samples(header: Header, file: SignalFile) -> int:
    told = columns_of(header.signals)
    return sum([told.samples_per_frame[i] for i in file.signals])


def required_bytes(fmt: int, n_samples: int) -> int:
    """Return the bytes that ``n_samples`` take in an uncompressed format: signal(5)."""
    if fmt in {310, 311}:
        whole, rest = divmod(n_samples, 3)
        last = {0: 0, 1: 2, 2: 4} if fmt == 310 else {0: 0, 1: 2, 2: 3}
        return 4 * whole + last[rest]
    return math.ceil(n_samples * _BITS[fmt] / 8)


def _judge_size(header: Header, file: SignalFile, n_samples: int, warnings: set[str]) -> None:
    n_promised = n_samples * _frame_samples(header, file)
    if file.fmt in FLAC_FORMATS:
        if n_promised > max(FREE_SAMPLES, SAMPLES_PER_BYTE * file.n_bytes):
            raise UnreadableRecord("TOO_LONG", f"{file.name}: {n_promised} samples cannot be in {file.n_bytes} bytes")
        _judge_excess(file, 4 * n_promised)
        return
    n_bytes = required_bytes(file.fmt, n_promised)
    expected = file.byte_offset + n_bytes
    if file.n_bytes == expected and file.byte_offset <= MAX_EXTRA_BYTES:
        return
    if _begins_with_gzip(file.path):
        raise UnreadableRecord("GZIP_CONTENT", f"{file.name} is compressed inside; unpack it")
    if file.n_bytes < expected:
        detail = f"{file.name}: expected {expected} bytes, found {file.n_bytes}; fetch it again"
        raise UnreadableRecord("DAT_TRUNCATED", detail)
    _judge_excess(file, n_bytes)
    if file.n_bytes > expected:
        if not has_checksums([header.signals[i] for i in file.signals]):
            detail = f"{file.name}: expected {expected} bytes, found {file.n_bytes}, and no checksums tell which are meant"
            raise UnreadableRecord("DAT_TOO_LONG", detail)
        warnings.add("DAT_TRAILING_BYTES")


def _judge_excess(file: SignalFile, n_bytes: int) -> None:
    if file.n_bytes > n_bytes + MAX_EXTRA_BYTES:
        detail = f"{file.name}: {n_bytes} bytes of samples in a file of {file.n_bytes}; is it the right file?"
        raise UnreadableRecord("DAT_TOO_LONG", detail)


def _begins_with_gzip(path: str) -> bool:
    return first_bytes(path, 2) == b"\x1f\x8b"


def _inspect_segments(
    root: str, record_name: str, folders: dict[str, str], header: Header
) -> tuple[tuple[int, Inspection | None], ...]:
    parent, slash, base = record_name.rpartition("/")
    seen: dict[str, Inspection] = {}
    for name, _ in header.segments:
        if name in {base, header.name}:
            raise UnreadableRecord("SEGMENT_CYCLE", f"segment {name} is the record itself")
        if name != NULL_FILE and name not in seen:
            seen[name] = _inspect(root, f"{parent}{slash}{name}", folders, is_segment=True)
    return tuple((n, seen.get(name)) for name, n in header.segments)


def _judge_segments(header: Header, segments: tuple[tuple[int, Inspection | None], ...], n_bytes: int) -> int:
    lengths = [n for n, _ in segments]
    n_samples = sum(lengths)
    if header.n_samples not in {None, n_samples}:
        raise UnreadableRecord(
            "SEGMENT_MISMATCH", f"segments have {n_samples} samples together, the record line says {header.n_samples}"
        )
    has_layout = lengths[0] == 0 and segments[0][1] is not None
    if 0 in lengths[has_layout:] or n_samples == 0:
        raise UnreadableRecord("SEGMENT_MISMATCH", "only the first segment, a layout, may have no samples")
    n_total = n_samples * header.n_signals
    if n_total > min(MAX_RECORD_SAMPLES, max(FREE_SAMPLES, SAMPLES_PER_BYTE * n_bytes)):
        raise UnreadableRecord("TOO_LONG", f"{n_total} samples stated, {n_bytes} bytes are there")
    for number, (n, segment) in enumerate(segments):
        if segment is not None:
            _judge_segment(header, segment, n, is_layout=has_layout and number == 0)
    if not any(segment is not None and segment.files for _, segment in segments):
        raise UnreadableRecord("SEGMENT_MISMATCH", "no segment has samples; expected one at least")
    _judge_leads(header, [segment for _, segment in segments if segment], has_layout=has_layout)
    _judge_units([segment for _, segment in segments if segment])
    return n_samples


def _take_one_rate(known: _Known, header: Header) -> None:
    """Give a multi-segment record, and its segments, one rate: that of most ECG leads of all of them."""
    parts = [segment.header for _, segment in known.segments if segment is not None and segment.header is not None]
    lines = {line.lead: line for part in parts for line in part.signals}
    whole = at_one_rate(header._replace(signals=tuple(lines.values())))
    known.left_out = left_out(whole)
    known.header, count = whole._replace(signals=()), whole.frame_samples
    known.warnings.update(whole.warnings)
    if count == 1 and all(line.samples_per_frame == 1 for line in lines.values()):
        return
    same: dict[str, Inspection] = {}
    for _, segment in known.segments:
        if segment is not None and segment.header is not None:
            own = at_one_rate(segment.header, count)
            leads = _ordered(tuple(own.signals[i].lead for i in kept_signals(own)))
            same[segment.record_name] = segment._replace(header=own, leads=leads, n_samples=segment.n_samples * count)
    known.segments = tuple((n * count, segment and same[segment.record_name]) for n, segment in known.segments)


def _judge_segment(header: Header, segment: Inspection, n_samples: int, *, is_layout: bool) -> None:
    name = segment.record_name.rpartition("/")[2]
    if segment.status != STATUS["ok"]:
        code = segment.reason if segment.reason in {"SEGMENT_LIMIT", "SEGMENT_CYCLE"} else "SEGMENT_MISSING"
        raise UnreadableRecord(code, f"segment {name}: {segment.reason}: {segment.status_detail}")
    assert segment.header is not None
    if segment.header.sampling_frequency_hz != header.sampling_frequency_hz:
        raise UnreadableRecord("SEGMENT_MISMATCH", f"segment {name} has another sampling frequency than the record")
    if segment.n_samples != n_samples or (not segment.files and not is_layout):
        raise UnreadableRecord("SEGMENT_MISMATCH", f"segment {name}: expected {n_samples} samples, it has {segment.n_samples}")


def _judge_leads(header: Header, segments: list[Inspection], *, has_layout: bool) -> None:
    """Refuse segments whose signals are not those of the record: in a fixed layout all of them, in its order."""
    names = [[signal.lead for signal in segment.header.signals] for segment in segments if segment.header]
    if len(names[0]) != header.n_signals:
        detail = f"the record line states {header.n_signals} signals, segment {segments[0].record_name} has {len(names[0])}"
        raise UnreadableRecord("SEGMENT_MISMATCH", detail)
    for segment, leads in zip(segments, names, strict=True):
        if not (set(leads) <= set(names[0]) if has_layout else leads == names[0]):
            where = "the layout" if has_layout else "the first"
            raise UnreadableRecord("SEGMENT_MISMATCH", f"segment {segment.record_name} has other leads than {where}")


def _judge_units(segments: list[Inspection]) -> None:
    """Refuse segments whose leads cannot share one row: volts in one, something else in another. Scales are brought to one."""
    units: dict[str, tuple[bool, float]] = {}
    for segment in segments:
        assert segment.header is not None
        for signal in segment.header.signals if segment.files else ():
            first = units.setdefault(signal.lead, (signal.is_millivolts, signal.adc_gain))
            if first[0] != signal.is_millivolts or (not first[0] and first[1] != signal.adc_gain):
                raise UnreadableRecord(
                    "SEGMENT_MISMATCH", f"lead {signal.lead} changes its units at a segment, or a gain without volts"
                )
