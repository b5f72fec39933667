"""Records: files of any format in, one Dataset of samples out that is exactly what was recorded, or a reason why not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ecgbatch.formats.devices import DEVICE_SUFFIXES, parse_device, suffix_of
from ecgbatch.formats.dicom import SUFFIX as DICOM_SUFFIX
from ecgbatch.formats.dicom import missing_as_ours, parse_dicom
from ecgbatch.formats.edf import SUFFIX as EDF_SUFFIX
from ecgbatch.formats.edf import parse_edf
from ecgbatch.formats.edf_gaps import on_one_grid, starts_of
from ecgbatch.formats.header import SignalLine, UnreadableRecord
from ecgbatch.formats.inspection import Inspection, SignalFile, inspect_record
from ecgbatch.formats.samples import (
    PLAIN_FORMATS,
    Found,
    Samples,
    as_int16,
    check_checksums,
    check_initial_values,
    empty_samples,
    finish_leads,
    put,
    sum_16,
    take_usual,
)
from ecgbatch.formats.signal_files import BLOCK_SAMPLES, changed, digest_file, fill, hash_bytes, opened, whole_file
from ecgbatch.formats.wfdb_signal import DTYPES, decode_frames
from ecgbatch.terms import LEAD_FLAGS, MISSING_SAMPLE, STATUS
from storage import STRONG, TEXT, Hasher

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
        Attributes: record_name, sampling_frequency_hz, n_samples, comments, source_digest (of header and signal files in
        header order, with its algorithm's name), status (0 ok, 1 partial), reason, status_detail, warnings.

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


def read_samples(inspection: Inspection, block: NDArray[np.int16] | None = None, *, algorithm: str = STRONG) -> Samples:
    """Read the samples of a record that was inspected, as ``read_record`` does, into arrays.

    Parameters
    ----------
    inspection
        Of ``inspect_record``; a file that has changed since is refused.
    block
        (lead, at least n_samples) int16, C-contiguous: where the samples go, in the order of ``inspection.leads``. After an error
        it holds anything. Default: a new one.
    algorithm
        Of the digest of its files (``storage.digests``).

    Raises
    ------
    UnreadableRecord
        With a code of ``REASONS``.

    """
    if inspection.status == STATUS["set_aside"] or inspection.header is None:
        raise UnreadableRecord(inspection.reason, inspection.status_detail, inspection.record_name)
    samples = empty_samples(inspection, block)
    digest = _header_digest(inspection, algorithm)
    try:
        _reader(inspection)(inspection, samples, digest)
    except UnreadableRecord as error:
        raise UnreadableRecord(error.code, error.detail, inspection.record_name) from None
    samples.source_digest = digest.text()
    samples.warnings.update(inspection.warnings)
    return samples


def source_digest(archive: str | Path, record_name: str, *, algorithm: str = STRONG) -> str:
    """Return the digest of the files of a record that cannot be used, so that the very files can be recognised.

    Returns
    -------
    str
        Of the header and of every signal file that can be read, in header order, with the name of its algorithm
        (``storage.digests``), as ``read_record`` gives it for a record that can be used; empty where not even the header can be
        read, or where the files are larger than ``_MOST_DIGESTED_BYTES`` together.

    """
    inspection = inspect_record(archive, record_name)
    if not inspection.header_bytes or inspection.n_bytes > _MOST_DIGESTED_BYTES:
        return ""
    digest = _header_digest(inspection, algorithm)
    for part in [inspection, *(segment for _, segment in inspection.segments if segment is not None)]:
        digest.update(part.header_bytes if part is not inspection else b"")
        for file in part.files:
            digest_file(file, digest)
    return digest.text()


def _header_digest(inspection: Inspection, algorithm: str) -> Hasher:
    """Begin a record's digest with its header's bytes; a record that is one file has it in there."""
    digest = Hasher(algorithm)
    digest.update(b"" if inspection.suffix else inspection.header_bytes)
    return digest


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


def _read_files(inspection: Inspection, samples: Samples, digest: Hasher) -> None:
    header = inspection.header
    assert header is not None
    row_of = {lead: row for row, lead in enumerate(inspection.leads)}
    found: list[Found] = []
    for file in inspection.files:
        lines = [header.signals[i] for i in file.signals]
        kept = [line.samples_per_frame == header.frame_samples for line in lines]
        rows = [row_of[line.lead] if keep else -1 for line, keep in zip(lines, kept, strict=True)] if file.n_bytes >= 0 else []
        if rows and not any(kept):
            with opened(file) as source:
                hash_bytes(source, file.n_bytes, digest)
        elif rows and file.fmt in PLAIN_FORMATS and header.frame_samples == 1 and all(kept):
            found += _copy_plain(samples, rows, lines, file, digest)
        elif rows:
            found += _decode_and_copy(samples, rows, lines, file, digest, samples.n_samples // header.frame_samples)
    if not found:
        return  # as nearly always, by ``take_usual``
    finish_leads(samples, found)
    check_checksums(samples, found)
    check_initial_values(samples, found)


def _copy_plain(samples: Samples, rows: list[int], lines: list[SignalLine], file: SignalFile, digest: Hasher) -> list[Found]:
    """Copy a file of 16-bit samples into rows, block by block: each block is hashed and sorted while it is in the cache."""
    from ecgbatch.formats.sample_kernels import deal

    n_frames, into = samples.n_samples, np.array(rows)
    block = np.empty((min(n_frames, max(1, BLOCK_SAMPLES // len(rows))), len(rows)), DTYPES[file.fmt])
    totals, lowest = np.zeros(len(rows), np.int64), np.full(len(rows), 32767, np.int64)
    with opened(file) as source:
        hash_bytes(source, file.byte_offset, digest)
        for first in range(0, n_frames, len(block)):
            frames = block[: n_frames - first]
            fill(source, frames, file)
            digest.update(frames)
            values = (frames ^ 0x8000).view(np.int16) if file.fmt == 160 else frames.astype(np.int16, copy=False)
            deal(values, into, samples.block, first, totals, lowest)
        hash_bytes(source, file.n_bytes - file.byte_offset - 2 * n_frames * len(rows), digest)
    if take_usual(samples, into, lines, totals, lowest):
        return []
    told = zip(lines, rows, samples.block[into, 0].tolist(), (totals % 65536).tolist(), lowest.tolist(), strict=True)
    return [Found(*lead) for lead in told]


def _decode_and_copy(
    samples: Samples, rows: list[int], lines: list[SignalLine], file: SignalFile, digest: Hasher, n_frames: int
) -> list[Found]:
    """Decode any other format, or several samples a frame, as a whole; put each lead's samples into its row (-1: it has none)."""
    content = np.empty(file.n_bytes, np.uint8)
    with opened(file) as source:
        fill(source, content, file)
    digest.update(content)
    frames = decode_frames(content, file, lines, n_frames)
    found, first = [], 0
    for line, row in zip(lines, rows, strict=True):
        values = frames[:, first : first + line.samples_per_frame]
        first += line.samples_per_frame
        if row >= 0:
            found.append(Found(line, row, int(values[0, 0]), int(values.sum(dtype=np.int64)) % 65536))
            samples.signal[row] = as_int16(values.reshape(-1), line)
    return found


def _reader(inspection: Inspection) -> Callable[[Inspection, Samples, Hasher], None]:
    if inspection.suffix:
        return _READERS[inspection.suffix]
    return _read_segments if inspection.segments else _read_files


def _read_edf(inspection: Inspection, samples: Samples, digest: Hasher) -> None:
    """Read an EDF file: data records one after the other, in each a stretch of every signal."""
    edf, content = parse_edf(inspection.header_bytes), whole_file(inspection, digest)
    if content[: edf.n_header_bytes].tobytes() != inspection.header_bytes:
        raise changed(inspection.files[0])
    n_bytes = 2 * edf.n_records * edf.record_samples
    frames = content[edf.n_header_bytes : edf.n_header_bytes + n_bytes].view("<i2").reshape(edf.n_records, -1)
    starts = starts_of(edf, frames) if edf.onset_sample >= 0 else None
    for line, first in zip(edf.header.signals, edf.first_samples, strict=True):
        stretches = frames[:, first : first + edf.lead_samples]
        stored = stretches.reshape(-1) if starts is None else on_one_grid(starts, stretches)
        if stored.size != samples.n_samples:
            raise changed(inspection.files[0])
        put(samples, inspection, line, stored)


def _read_dicom(inspection: Inspection, samples: Samples, digest: Hasher) -> None:
    content = whole_file(inspection, digest).tobytes()
    record = parse_dicom(content)
    del content  # up to 64 MiB, of which the samples are a copy
    if record.content_digest != inspection.header_bytes:
        raise changed(inspection.files[0])
    for line, stored, padding in zip(record.header.signals, record.signals, record.padding, strict=True):
        put(samples, inspection, line, missing_as_ours(stored, padding, line.lead))


def _read_device(inspection: Inspection, samples: Samples, digest: Hasher) -> None:
    content = whole_file(inspection, digest).tobytes()
    if hashlib.sha256(content).digest() != inspection.header_bytes:
        raise changed(inspection.files[0])
    record = parse_device(suffix_of(inspection.record_name), content)
    del content
    for line, stored in zip(record.header.signals, record.signals, strict=True):
        put(samples, inspection, line, stored, is_verified=record.is_verified)


_READERS = MappingProxyType({EDF_SUFFIX: _read_edf, DICOM_SUFFIX: _read_dicom, **dict.fromkeys(DEVICE_SUFFIXES, _read_device)})
"""By suffix, as ``inspection._INSPECTORS``."""


def _read_segments(inspection: Inspection, samples: Samples, digest: Hasher) -> None:
    samples.signal.fill(MISSING_SAMPLE)
    row_of = {lead: row for row, lead in enumerate(inspection.leads)}
    first = 0
    pieces: dict[int, list[tuple[slice, float, int]]] = {}
    for n_samples, segment in inspection.segments:
        if segment is not None:
            digest.update(segment.header_bytes)
        if segment is not None and segment.files:
            part = empty_samples(segment)
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
    samples.checksum[:] = [sum_16(row) for row in samples.signal]
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
