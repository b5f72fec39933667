"""Records: files of any format in, one Dataset of samples out that is exactly what was recorded, or a reason why not."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ecgbatch.formats.devices import DEVICE_SUFFIXES, parse_device, suffix_of
from ecgbatch.formats.dicom import SUFFIX as DICOM_SUFFIX
from ecgbatch.formats.dicom import missing_as_ours, parse_dicom
from ecgbatch.formats.edf import SUFFIX as EDF_SUFFIX
from ecgbatch.formats.edf import parse_edf
from ecgbatch.formats.edf_gaps import on_one_grid, starts_of
from ecgbatch.formats.files import open_regular
from ecgbatch.formats.header import SignalLine, UnreadableRecord
from ecgbatch.formats.inspection import FLAC_FORMATS, Inspection, SignalFile, inspect_record
from ecgbatch.formats.wfdb_signal import DTYPES, decode_frames
from ecgbatch.terms import LEAD_FLAGS, MISSING_SAMPLE, STATUS
from storage import TEXT

_PLAIN_FORMATS = frozenset({16, 61, 160})
_SENTINELS = MappingProxyType(
    dict.fromkeys((16, 61, 160, 516), MISSING_SAMPLE)
    | {24: -(2**23), 32: -(2**31), 80: -128, 212: -2048, 310: -512, 311: -512, 508: -128, 524: -(2**23)}
)
"""Missing sample of each format; format 8 has none: signal(5), as in wfdb 4.3."""
_BLOCK_SAMPLES = 1 << 17
"""256 KiB: stays in a core's second-level cache while it is read, hashed and sorted."""
_MOST_DIGESTED_BYTES = 1 << 30
"""Of a record that is set aside: a second or two. No file of an archive may hold up the others."""


def read_record(archive: str | Path, record_name: str) -> xr.Dataset:
    """Read one record: every sample as stored, checked against the header's checksums and initial values.

    Parameters
    ----------
    archive
        Folder of the archive; nothing outside it is read.
    record_name
        Path of the header below it, without ``.hea``.

    Returns
    -------
    <xarray.Dataset>
        Dimensions: (lead, sample)
          signal      (lead, sample) int16    adu; -32768 where a sample is missing, whatever the format's own mark is
          lead        (lead)         text     canonical names and order (``terms.LEADS``), others by name; no index
          adc_gain    (lead)         float64  adu per mV (adu per unit where flagged ``not_millivolts``)
          baseline    (lead)         int32    adu at 0 mV
          checksum    (lead)         int32    sum of ``signal`` modulo 65536; the header's own where no sample was replaced
          lead_flags  (lead)         uint16   ``terms.LEAD_FLAGS``: unverified, not_millivolts, gaps
        Attributes: record_name, sampling_frequency_hz, n_samples, comments, source_digest (SHA-256 of header and signal
        files in header order), status (0 ok, 1 partial), reason, status_detail, warnings.

    Notes
    -----
    Every lead has its own rate, whatever its samples a frame (as ``wfdb.rdrecord(smooth_frames=False)`` gives it); leads of
    another rate than the record's are left out. Skew is undone by shifting.

    Raises
    ------
    UnreadableRecord
        With a code of ``REASONS``: nothing wrong gets in, not even one sample.

    """
    inspection = inspect_record(archive, record_name)
    return _as_dataset(inspection, read_samples(inspection))


def read_samples(inspection: Inspection, block: NDArray[np.int16] | None = None) -> Samples:
    """Read the samples of a record that was inspected, as ``read_record`` does, into arrays.

    Parameters
    ----------
    inspection
        Of ``inspect_record``; a file that has changed since is refused.
    block
        (lead, at least n_samples) int16, C-contiguous: where the samples go, in the order of ``inspection.leads``. After an error
        it holds anything. Default: a new one.

    Raises
    ------
    UnreadableRecord
        With a code of ``REASONS``.

    """
    if inspection.status == STATUS["set_aside"] or inspection.header is None:
        raise UnreadableRecord(inspection.reason, inspection.status_detail, inspection.record_name)
    samples = _empty(inspection, block)
    digest = hashlib.sha256(b"" if inspection.suffix else inspection.header_bytes)
    try:
        _reader(inspection)(inspection, samples, digest)
    except UnreadableRecord as error:
        raise UnreadableRecord(error.code, error.detail, inspection.record_name) from None
    samples.source_digest = digest.hexdigest()
    samples.warnings.update(inspection.warnings)
    return samples


def source_digest(archive: str | Path, record_name: str) -> str:
    """Return the digest of the files of a record that cannot be used, so that the very files can be recognised.

    Returns
    -------
    str
        SHA-256 of the header and of every signal file that can be read, in header order, as ``read_record`` gives it for a
        record that can be used; empty where not even the header can be read, or where the files are larger than
        ``_MOST_DIGESTED_BYTES`` together.

    """
    inspection = inspect_record(archive, record_name)
    if not inspection.header_bytes or inspection.n_bytes > _MOST_DIGESTED_BYTES:
        return ""
    digest = hashlib.sha256(b"" if inspection.suffix else inspection.header_bytes)
    for part in [inspection, *(segment for _, segment in inspection.segments if segment is not None)]:
        digest.update(part.header_bytes if part is not inspection else b"")
        for file in part.files:
            _digest_file(file, digest)
    return digest.hexdigest()


def _digest_file(file: SignalFile, digest: Any) -> None:
    try:
        descriptor, _ = open_regular(file.path)
        with FileIO(descriptor, "rb") as source:
            _hash_bytes(source, file.n_bytes, digest)
    except (UnreadableRecord, OSError):
        return


def in_millivolts(record: xr.Dataset) -> xr.DataArray:
    """Return the signal in millivolts: the only place where gain is applied to whole records.

    Parameters
    ----------
    record
        ``signal`` (lead, sample) int16 adu, ``adc_gain`` (lead) adu per mV, ``baseline`` (lead) adu.

    Returns
    -------
    (lead, sample) float32, mV
        ``(signal - baseline) / adc_gain``; NaN where a sample is missing. Leads flagged ``not_millivolts`` keep their own unit.

    """
    signal = record["signal"].values
    values = (signal - record["baseline"].values[:, None].astype(np.float64)) / record["adc_gain"].values[:, None]
    values[signal == MISSING_SAMPLE] = np.nan
    coords = xr.Coordinates({"lead": record["lead"].variable}, indexes={})
    attributes = {"units": "mV", "long_name": "ECG", "sampling_frequency_hz": record.attrs.get("sampling_frequency_hz")}
    return xr.DataArray(values.astype(np.float32), dims=("lead", "sample"), coords=coords, attrs=attributes)


@dataclass
class Samples:
    """A record's samples and what reading them has told; rows are the leads in canonical order."""

    block: NDArray[np.int16]
    """(lead, at least n_samples), C-contiguous."""
    n_samples: int
    adc_gain: NDArray[np.float64]
    baseline: NDArray[np.int32]
    checksum: NDArray[np.int32]
    lead_flags: NDArray[np.uint16]
    warnings: set[str] = field(default_factory=set)
    source_digest: str = ""

    @property
    def signal(self) -> NDArray[np.int16]:
        """The samples (lead, sample) alone."""
        return self.block[:, : self.n_samples]


def _as_dataset(inspection: Inspection, samples: Samples) -> xr.Dataset:
    assert inspection.header is not None
    leads = np.array(inspection.leads, TEXT)
    by_lead = ("lead",)
    variables = {
        "signal": xr.Variable(("lead", "sample"), samples.signal, {"units": "adu"}),
        "adc_gain": xr.Variable(by_lead, samples.adc_gain, {"units": "adu mV-1"}),
        "baseline": xr.Variable(by_lead, samples.baseline, {"units": "adu"}),
        "checksum": xr.Variable(by_lead, samples.checksum),
        "lead_flags": xr.Variable(by_lead, samples.lead_flags),
    }
    attributes = {
        "record_name": inspection.record_name,
        "sampling_frequency_hz": inspection.header.sampling_frequency_hz,
        "n_samples": inspection.n_samples,
        "comments": list(inspection.header.comments),
        "source_digest": samples.source_digest,
        "status": inspection.status,
        "reason": inspection.reason,
        "status_detail": inspection.status_detail,
        "warnings": sorted(samples.warnings),
    }
    # Without an index on lead: building one takes three times as long as everything else in this function.
    return xr.Dataset(variables, xr.Coordinates({"lead": xr.Variable(by_lead, leads)}, indexes={}), attributes)


def _empty(inspection: Inspection, block: NDArray[np.int16] | None = None) -> Samples:
    n = len(inspection.leads)
    return Samples(
        np.empty((n, inspection.n_samples), np.int16) if block is None else block,
        inspection.n_samples,
        np.ones(n),
        np.zeros(n, np.int32),
        np.zeros(n, np.int32),
        np.zeros(n, np.uint16),
    )


def _read_files(inspection: Inspection, samples: Samples, digest: Any) -> None:
    header = inspection.header
    assert header is not None
    row_of = {lead: row for row, lead in enumerate(inspection.leads)}
    found: list[_Found] = []
    for file in inspection.files:
        lines = [header.signals[i] for i in file.signals]
        kept = [line.samples_per_frame == header.frame_samples for line in lines]
        rows = [row_of[line.lead] if keep else -1 for line, keep in zip(lines, kept, strict=True)] if file.n_bytes >= 0 else []
        if rows and not any(kept):
            with _opened(file) as source:
                _hash_bytes(source, file.n_bytes, digest)
        elif rows and file.fmt in _PLAIN_FORMATS and header.frame_samples == 1 and all(kept):
            found += _copy_plain(samples, rows, lines, file, digest)
        elif rows:
            found += _decode_and_copy(samples, rows, lines, file, digest, samples.n_samples // header.frame_samples)
    _finish_leads(samples, found)
    _check_checksums(samples, found)
    _check_initial_values(samples, found)


class _Found(NamedTuple):
    """What a file holds of one lead, before anything is replaced or shifted."""

    line: SignalLine
    row: int
    first_value: int
    checksum: int
    lowest: int | None = None
    """None where it is to be looked for once samples are replaced and shifted."""


def _copy_plain(samples: Samples, rows: list[int], lines: list[SignalLine], file: SignalFile, digest: Any) -> list[_Found]:
    """Copy a file of 16-bit samples into rows, block by block: each block is hashed and sorted while it is in the cache."""
    from ecgbatch.formats.sample_kernels import deal

    n_frames, into = samples.n_samples, np.array(rows)
    block = np.empty((min(n_frames, max(1, _BLOCK_SAMPLES // len(rows))), len(rows)), DTYPES[file.fmt])
    totals, lowest = np.zeros(len(rows), np.int64), np.full(len(rows), 32767, np.int64)
    with _opened(file) as source:
        _hash_bytes(source, file.byte_offset, digest)
        for first in range(0, n_frames, len(block)):
            frames = block[: n_frames - first]
            _fill(source, frames, file)
            digest.update(frames)
            values = (frames ^ 0x8000).view(np.int16) if file.fmt == 160 else frames.astype(np.int16, copy=False)
            deal(values, into, samples.block, first, totals, lowest)
        _hash_bytes(source, file.n_bytes - file.byte_offset - 2 * n_frames * len(rows), digest)
    told = zip(lines, rows, samples.block[into, 0].tolist(), (totals % 65536).tolist(), lowest.tolist(), strict=True)
    return [_Found(*lead) for lead in told]


@contextmanager
def _opened(file: SignalFile) -> Iterator[FileIO]:
    """Open a signal file; afterwards refuse what was read if the file is not the one inspected, or changed meanwhile."""
    descriptor, before = open_regular(file.path)
    with FileIO(descriptor, "rb") as source:
        yield source
        after = os.fstat(descriptor)
    if {(found.st_size, found.st_mtime_ns) for found in (before, after)} != {(file.n_bytes, file.mtime_ns)}:
        raise _changed(file)


def _changed(file: SignalFile) -> UnreadableRecord:
    return UnreadableRecord("CHANGED_WHILE_READING", f"{file.name} changed while it was read; run again when it is whole")


def _fill(source: FileIO, values: NDArray[Any], file: SignalFile) -> None:
    place = values.reshape(-1).view(np.uint8).data
    while place:
        try:
            n = source.readinto(place)
        except OSError as error:
            raise UnreadableRecord("UNREADABLE_FILE", f"{file.name}: {error.strerror}") from None
        if not n:
            raise _changed(file)
        place = place[n:]


def _hash_bytes(source: FileIO, n_bytes: int, digest: Any) -> None:
    while n_bytes > 0 and (content := source.read(min(n_bytes, 2 * _BLOCK_SAMPLES))):
        digest.update(content)
        n_bytes -= len(content)


def _decode_and_copy(
    samples: Samples, rows: list[int], lines: list[SignalLine], file: SignalFile, digest: Any, n_frames: int
) -> list[_Found]:
    """Decode any other format, or several samples a frame, as a whole; put each lead's samples into its row (-1: it has none)."""
    content = np.empty(file.n_bytes, np.uint8)
    with _opened(file) as source:
        _fill(source, content, file)
    digest.update(content)
    frames = decode_frames(content, file, lines, n_frames)
    found, first = [], 0
    for line, row in zip(lines, rows, strict=True):
        values = frames[:, first : first + line.samples_per_frame]
        first += line.samples_per_frame
        if row >= 0:
            found.append(_Found(line, row, int(values[0, 0]), int(values.sum(dtype=np.int64)) % 65536))
            samples.signal[row] = _as_int16(values.reshape(-1), line)
    return found


def _finish_leads(samples: Samples, found: list[_Found]) -> None:
    """Fill the columns of many leads: those of nearly all are known by now."""
    rows = [lead.row for lead in found]
    samples.checksum[rows] = [lead.checksum for lead in found]
    samples.adc_gain[rows] = [lead.line.adc_gain for lead in found]
    samples.baseline[rows] = [lead.line.baseline for lead in found]
    for lead in found:
        is_odd = lead.line.skew or lead.line.is_turned or not lead.line.is_millivolts
        if is_odd or lead.lowest in {None, MISSING_SAMPLE}:
            _finish_lead(samples, lead)


def _finish_lead(samples: Samples, found: _Found) -> None:
    """Undo the skew of one lead and fill its other columns."""
    line, row = found.line, found.row
    stored = samples.signal[row]
    if line.is_turned:
        np.negative(stored, out=stored, where=stored != MISSING_SAMPLE)  # what means missing stays: it has no opposite
    if line.skew:
        skew = line.skew * line.samples_per_frame  # header(5) states it in frames
        stored[:-skew] = stored[skew:].copy()
        stored[-skew:] = MISSING_SAMPLE
        samples.warnings.add("SKEW_APPLIED")
    is_raw = line.fmt in _PLAIN_FORMATS and line.samples_per_frame == 1 and not (line.skew or line.is_turned)
    samples.checksum[row] = found.checksum if is_raw else _sum_16(stored)
    samples.adc_gain[row], samples.baseline[row] = line.adc_gain, line.baseline
    if not line.is_millivolts:
        samples.lead_flags[row] |= LEAD_FLAGS["not_millivolts"]
    lowest = stored.min() if found.lowest is None or line.skew or line.is_turned else found.lowest
    if lowest == MISSING_SAMPLE:
        samples.lead_flags[row] |= LEAD_FLAGS["gaps"]
        samples.warnings.add("GAPS")


def _sum_16(values: NDArray[np.int16]) -> int:
    # uint16 arithmetic wraps at 65536: the sum modulo 65536 without widening a single sample.
    return int(np.add.reduce(values.view(np.uint16), dtype=np.uint16))


def _as_int16(values: NDArray[Any], line: SignalLine) -> NDArray[np.int16]:
    """Return a lead's samples, the format's mark of a missing sample replaced by ours."""
    missing = values == _SENTINELS[line.fmt] if line.fmt in _SENTINELS else np.zeros(values.shape, bool)
    lowest, highest = values.min(where=~missing, initial=0), values.max(where=~missing, initial=0)
    if lowest <= MISSING_SAMPLE or highest > 32767:
        raise UnreadableRecord("RANGE", f"lead {line.lead}: samples {lowest} to {highest}; -32767 to 32767 can be stored")
    return np.where(missing, MISSING_SAMPLE, values).astype(np.int16)


def _check_checksums(samples: Samples, found: list[_Found]) -> None:
    stated = [lead.line.checksum for lead in found]
    if any(stated) and stated == [lead.checksum for lead in found]:
        return  # as nearly always
    is_stated = any(stated)
    is_verified = is_stated or all(lead.line.checksum == lead.checksum for lead in found)
    wrong = [lead for lead in found if is_stated and lead.line.checksum not in {None, lead.checksum}]
    if wrong:
        line, total = wrong[0].line, wrong[0].checksum
        detail = (
            f"lead {line.lead} has checksum {total}, the header says {line.checksum}; {len(wrong)} of {len(found)} leads differ"
        )
        raise UnreadableRecord("CHECKSUM_MISMATCH", f"{detail}: {line.file_name} or the header is altered, fetch both again")
    for lead in found:
        if not is_verified or lead.line.checksum is None:
            samples.lead_flags[lead.row] |= LEAD_FLAGS["unverified"]
            samples.warnings.add("CHECKSUM_UNVERIFIED")


def _check_initial_values(samples: Samples, found: list[_Found]) -> None:
    """Compare first samples: weak evidence, but the only one against a format mistaken for another of the same size.

    Not compared where all are zero beside checksums that are all zero (old headers), nor in format 8, whose samples are
    made from them. FLAC and several samples a frame: valid records of PhysioNet disagree, so only a warning.
    """
    if [lead.line.initial_value for lead in found] == [lead.first_value for lead in found]:
        return  # as nearly always
    stated = [lead for lead in found if lead.line.initial_value is not None and lead.line.fmt != 8]
    if not any(lead.line.initial_value or lead.line.checksum for lead in stated):
        return
    wrong = [lead for lead in stated if lead.line.initial_value != lead.first_value]
    strict = [lead for lead in wrong if lead.line.fmt not in FLAC_FORMATS and lead.line.samples_per_frame == 1]
    if 2 * len(strict) > len(stated):
        line, value = strict[0].line, strict[0].first_value
        detail = (
            f"lead {line.lead} begins with {value}, the header says {line.initial_value}; {len(wrong)} of {len(stated)} differ"
        )
        raise UnreadableRecord("INIT_MISMATCH", f"{detail}: is format {line.fmt} right?")
    if wrong:
        samples.warnings.add("INIT_DIFFERS")


def _reader(inspection: Inspection) -> Callable[[Inspection, Samples, Any], None]:
    if inspection.suffix:
        return _READERS[inspection.suffix]
    return _read_segments if inspection.segments else _read_files


def _read_edf(inspection: Inspection, samples: Samples, digest: Any) -> None:
    """Read an EDF file: data records one after the other, in each a stretch of every signal."""
    edf, content = parse_edf(inspection.header_bytes), _whole_file(inspection, digest)
    if content[: edf.n_header_bytes].tobytes() != inspection.header_bytes:
        raise _changed(inspection.files[0])
    n_bytes = 2 * edf.n_records * edf.record_samples
    frames = content[edf.n_header_bytes : edf.n_header_bytes + n_bytes].view("<i2").reshape(edf.n_records, -1)
    starts = starts_of(edf, frames) if edf.onset_sample >= 0 else None
    for line, first in zip(edf.header.signals, edf.first_samples, strict=True):
        stretches = frames[:, first : first + edf.lead_samples]
        stored = stretches.reshape(-1) if starts is None else on_one_grid(starts, stretches)
        if stored.size != samples.n_samples:
            raise _changed(inspection.files[0])
        _put(samples, inspection, line, stored)


def _read_dicom(inspection: Inspection, samples: Samples, digest: Any) -> None:
    content = _whole_file(inspection, digest).tobytes()
    record = parse_dicom(content)
    if record.content_digest != inspection.header_bytes:
        raise _changed(inspection.files[0])
    for line, stored, padding in zip(record.header.signals, record.signals, record.padding, strict=True):
        _put(samples, inspection, line, missing_as_ours(stored, padding, line.lead))


def _read_device(inspection: Inspection, samples: Samples, digest: Any) -> None:
    content = _whole_file(inspection, digest).tobytes()
    if hashlib.sha256(content).digest() != inspection.header_bytes:
        raise _changed(inspection.files[0])
    record = parse_device(suffix_of(inspection.record_name), content)
    for line, stored in zip(record.header.signals, record.signals, strict=True):
        _put(samples, inspection, line, stored, is_verified=record.is_verified)


_READERS = MappingProxyType({EDF_SUFFIX: _read_edf, DICOM_SUFFIX: _read_dicom, **dict.fromkeys(DEVICE_SUFFIXES, _read_device)})
"""By suffix, as ``inspection._INSPECTORS``."""


def _whole_file(inspection: Inspection, digest: Any) -> NDArray[np.uint8]:
    (file,) = inspection.files
    content = np.empty(file.n_bytes, np.uint8)
    with _opened(file) as source:
        _fill(source, content, file)
    digest.update(content)
    return content


def _put(
    samples: Samples, inspection: Inspection, line: SignalLine, stored: NDArray[np.int16], *, is_verified: bool = False
) -> None:
    """Fill the row of a lead of a record that is one file, most of which have no checksums."""
    row = inspection.leads.index(line.lead)
    samples.signal[row] = stored
    _finish_lead(samples, _Found(line, row, 0, _sum_16(samples.signal[row])))
    if not is_verified:
        samples.lead_flags[row] |= LEAD_FLAGS["unverified"]
        samples.warnings.add("CHECKSUM_UNVERIFIED")


def _read_segments(inspection: Inspection, samples: Samples, digest: Any) -> None:
    samples.signal.fill(MISSING_SAMPLE)
    row_of = {lead: row for row, lead in enumerate(inspection.leads)}
    first = 0
    pieces: dict[int, list[tuple[slice, float, int]]] = {}
    for n_samples, segment in inspection.segments:
        if segment is not None:
            digest.update(segment.header_bytes)
        if segment is not None and segment.files:
            part = _empty(segment)
            _read_files(segment, part, digest)
            rows = [row_of[lead] for lead in segment.leads]
            for row, gain, baseline in zip(rows, part.adc_gain.tolist(), part.baseline.tolist(), strict=True):
                pieces.setdefault(row, []).append((slice(first, first + n_samples), gain, baseline))
            samples.signal[rows, first : first + n_samples] = part.signal
            samples.adc_gain[rows], samples.baseline[rows] = part.adc_gain, part.baseline
            samples.lead_flags[rows] |= part.lead_flags
            samples.warnings |= part.warnings
        first += n_samples
    for row, own in pieces.items():
        if len({(gain, baseline) for _, gain, baseline in own}) > 1:
            _join_scales(samples, row, own)
    samples.checksum[:] = [_sum_16(row) for row in samples.signal]
    gaps = samples.signal.min(axis=1) == MISSING_SAMPLE
    samples.lead_flags[gaps] |= LEAD_FLAGS["gaps"]
    samples.warnings.update({"GAPS"} if gaps.any() else ())


FINER = 8
"""Where segments of a lead have different scales, the common gain is so many times the finest: samples are off by a sixteenth of
the finest step at most. Half as many, and so on, where they would not fit 16 bits."""


def _join_scales(samples: Samples, row: int, pieces: list[tuple[slice, float, int]]) -> None:
    """Bring a lead whose segments have different scales (samples, gain, baseline) to one, its baseline 0."""
    stored = samples.signal[row]
    values = np.full(stored.shape, np.nan)
    for part, gain, baseline in pieces:
        values[part] = (stored[part] - float(baseline)) / gain
    is_there = (stored != MISSING_SAMPLE) & np.isfinite(values)
    largest, finest = np.abs(values[is_there]).max(initial=0.0), max(gain for _, gain, _ in pieces)
    gain = next((finest * times for times in (FINER, FINER // 2, FINER // 4, 1) if largest * finest * times <= 32767), 0.0)
    if not gain:
        raise UnreadableRecord("RANGE", "the segments' scales of a lead do not fit 16 bits together")
    stored[is_there] = np.rint(values[is_there] * gain).astype(np.int16)
    samples.adc_gain[row], samples.baseline[row] = gain, 0
    samples.warnings.add("SCALES_JOINED")
