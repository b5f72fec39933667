"""DICOM waveform ECGs read strictly: the file's structure is walked first, within limits, then pydicom reads the values."""

from __future__ import annotations

import hashlib
import re
import threading
import warnings as warnings_of_python
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from io import BytesIO
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgbatch.formats.cart import told_by, warnings_of
from ecgbatch.formats.dicom_cart import tell
from ecgbatch.formats.dicom_groups import Group, groups_in_turn, leads_of, left_out_words, parts_in_turn
from ecgbatch.formats.dicom_structure import EXPLICIT, element, meta, walk
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
    patient_of,
)
from ecgbatch.formats.leads import canonical_lead
from ecgbatch.terms import LEADS, MISSING_SAMPLE

SUFFIX = ".dcm"
MAX_DICOM_BYTES = 1 << 26
"""64 MiB: 46 minutes of 12 leads at 1000 Hz. pydicom holds about three times the file."""
_KEPT_BYTES = 1 << 22
"""Of a file that is kept parsed until the next: an ECG of ten seconds has 150 to 300 kB."""
MAX_JOINED_SAMPLES = 1 << 26
"""Of all leads of groups one after the other: as many as inspection lets a gap promise."""
_WAVEFORMS = "1.2.840.10008.5.1.4.1.1.9."
"""What the SOP classes of all waveform storage begin with."""
HEAD_BYTES = 1024
"""Of a file: its storage class is told within the first hundreds of bytes."""
_DTYPES = MappingProxyType(
    {(8, "SB"): "i1", (8, "UB"): "u1", (16, "SS"): "<i2", (16, "US"): "<u2", (32, "SL"): "<i4", (32, "UL"): "<u4"}
)
"""Bits allocated and sample interpretation: PS3.3, C.10.9.1.5. Companded samples (MB, AB) are for voices."""
_LEAD_NUMBERS = MappingProxyType(
    {1: "I", 2: "II", **{n + 2: f"V{n}" for n in range(1, 8)}, **{n + 8: f"V{n}R" for n in range(2, 8)}}
    | {16: "Vx", 17: "Vy", 18: "Vz", 61: "III", 62: "aVR", 63: "aVL", 64: "aVF", 65: "-aVR", 66: "V8", 67: "V9"}
)
"""Of SCP-ECG (5.6.3-9-n) and of ISO/IEEE 11073 (MDC, 2:n): DICOM PS3.16, CID 3001."""
_STANDARD_LEADS = frozenset(LEADS)
_LEAD_CODE = re.compile(r"(?:5\.6\.3-9-|2:)(\d{1,3})", re.ASCII)
_NUMBER = re.compile(r"[-+]?(?:\d{1,20}(?:\.\d{0,40})?|\.\d{1,40})(?:[eE][-+]?\d{1,3})?", re.ASCII)
"""PS3.5 allows 16 characters; exporters write the 20 of a double."""
_PADDED_S = 0.5
"""So long a run of a value that the ECG passes through is padding, or no ECG either: noise moves any lead within less."""
_WIDE_MISSING = -(2**31)
"""What means missing in samples that were widened to have room for such a mark."""
_UNSPECIFIED = re.compile(r"\s*(?:un(?:specified|known|defined|configured)|other)\b", re.IGNORECASE)
"""Meaning of a source that tells no lead (SCP-ECG's code 0): the channel's label does."""
_DATE = re.compile(r"(\d{4})-?(\d{2})-?(\d{2})", re.ASCII)
_AGE = re.compile(r"(\d{3})Y", re.ASCII)
_STRICT = threading.Lock()
"""pydicom's strictness is one setting for all threads: whoever reads holds this, so that no verdict depends on the others."""


def is_waveform_file(head: bytes) -> bool:
    """Tell by a file's first ``HEAD_BYTES`` whether it is DICOM of a waveform's storage class, whatever its name."""
    if head[128:132] != b"DICM":
        return False
    first = 132
    try:
        while head[first : first + 2] == b"\2\0":
            tag, _, value, end = element(head, first, len(head), is_explicit=True)
            if tag == 0x00020002 and value > 0:
                return head[value:end].startswith(_WAVEFORMS.encode())
            first = end
    except UnreadableRecord:
        pass
    return False


class DicomRecord(NamedTuple):
    """A DICOM ECG as a WFDB header, and its samples."""

    header: Header
    signals: tuple[NDArray[Any], ...]
    """Of each line of ``header``: (sample) integers as stored; padding is ``padding``."""
    padding: tuple[int | None, ...]
    """Of each line, the value that means missing; None where the file states none."""
    content_digest: bytes
    left_out: str = ""
    """Groups that are not taken, for people."""


class _Channel(NamedTuple):
    line: SignalLine
    samples: NDArray[Any]
    padding: int | None


def parse_dicom(content: bytes) -> DicomRecord:
    """Read a DICOM file of an ECG storage class, explicit or implicit little endian, not compressed.

    The storage class does not matter, the leads do: of any class but the ECGs' a standard lead at least is asked for. The
    original multiplex groups of one rate, length and time offset that have most standard leads make the record, of equals the
    longest; groups one after the other (4 x 3 leads) do where that gives more leads, each missing where it was not recorded.
    Other groups (median beats, a rhythm strip, other rates) are left out (warning ``GROUPS_LEFT_OUT``). Names and
    times are not kept; of annotations, what the device said of the whole recording (``header.cart``); of the patient, age, sex
    and a digest of the identifier; of the date ``recording_day``.

    Parameters
    ----------
    content
        The whole file, at most ``MAX_DICOM_BYTES``.

    Raises
    ------
    UnreadableRecord
        The only exception, whatever the bytes are.

    """
    return parsed_lately(content) if len(content) <= _KEPT_BYTES else _parsed(content)


@lru_cache(maxsize=2)  # what was inspected is read next: the same bytes are not parsed twice
def parsed_lately(content: bytes) -> DicomRecord:
    """Read a file as ``parse_dicom`` does, and keep the last ones."""
    return _parsed(content)


def _parsed(content: bytes) -> DicomRecord:
    start, syntax, is_ecg_class = meta(content)
    walk(content, start, is_explicit=syntax == EXPLICIT)
    try:
        from pydicom import config, dcmread  # optional, and 0.1 s to import
    except ImportError:
        detail = "reading DICOM needs pydicom: pip install 'ecgbatch[dicom]', then run again"
        raise UnreadableRecord("EXTRA_MISSING", detail) from None
    try:
        with _STRICT, config.strict_reading():
            return _record(dcmread(BytesIO(content)), content, is_ecg_class=is_ecg_class)
    except UnreadableRecord:
        raise
    except Exception:  # a value that breaks its type's rules: what this room uses it checks itself, the rest is not the ECG's
        return _read_leniently(config, dcmread, content, is_ecg_class=is_ecg_class)


def _read_leniently(config: Any, dcmread: Any, content: bytes, *, is_ecg_class: bool) -> DicomRecord:
    try:
        with _STRICT, _leniently(config):
            return _record(dcmread(BytesIO(content)), content, is_ecg_class=is_ecg_class)
    except UnreadableRecord:
        raise
    except Exception as error:  # pydicom raises whatever its parts raise; the kind tells more than its text, which may be private
        raise UnreadableRecord("DECODER_FAILED", f"DICOM: {type(error).__name__} at reading; export the file again") from None


@contextmanager
def _leniently(config: Any) -> Iterator[None]:
    """Let pydicom take values that break their type's rules; whoever reads so holds ``_STRICT``."""
    mode = config.settings.reading_validation_mode
    config.settings.reading_validation_mode = config.IGNORE
    try:
        with warnings_of_python.catch_warnings():
            warnings_of_python.simplefilter("ignore")
            yield
    finally:
        config.settings.reading_validation_mode = mode


def _record(dataset: Any, content: bytes, *, is_ecg_class: bool) -> DicomRecord:
    groups = [
        group for group in dataset.get("WaveformSequence", None) or () if str(group.get("WaveformOriginality", "")) == "ORIGINAL"
    ]
    if not groups:
        if not is_ecg_class:
            raise UnreadableRecord("FMT_UNSUPPORTED", "the file holds no waveform; it is no ECG")
        raise UnreadableRecord("NSIG_ZERO", "the file holds no original waveform")
    named = [_named(group) for group in groups]
    described = [one.described for one in named]
    chosen = max(described, key=lambda one: (len(leads_of(described, one)), one.n_samples))
    if not leads_of(described, chosen) and not is_ecg_class:
        raise UnreadableRecord("FMT_UNSUPPORTED", "none of the file's waveforms is a standard lead of an ECG")
    warnings: set[str] = set()
    in_turn = groups_in_turn(described, chosen)
    kept = [row for row, one in enumerate(described) if row in in_turn or (not in_turn and one[1:] == chosen[1:])]
    if len(kept) < len(dataset.WaveformSequence):
        warnings.add("GROUPS_LEFT_OUT")
    n_samples = chosen.n_samples
    if in_turn:
        n_samples, channels = _joined([named[row] for row in kept], warnings)
    else:
        channels = [channel for row in kept for channel in _channels(named[row], warnings)]
        parts = parts_in_turn([channel.samples for channel in channels])
        in_turn = [row for row, part in enumerate(parts) if part is not None]
        channels = [_within(channel, part) for channel, part in zip(channels, parts, strict=True)]
    warnings |= {"LEADS_IN_TURN"} if in_turn else set()
    if len(channels) > MAX_SIGNALS:
        raise UnreadableRecord("HEADER_LIMIT", f"{len(channels)} channels; at most {MAX_SIGNALS} are read")
    cart = told_by(lambda told: tell(dataset, told))
    warnings |= warnings_of(cart)
    lines = named_apart(gains_made_positive([channel.line for channel in channels], warnings), warnings)
    described_by = ("", chosen.fs, n_samples, lines, len(lines), (), _comments(dataset), tuple(sorted(warnings)))
    header = Header(*described_by, _patient(dataset), recording_day=_day(dataset), cart=cart)
    signals, padding = tuple(each.samples for each in channels), tuple(each.padding for each in channels)
    return DicomRecord(header, signals, padding, hashlib.sha256(content).digest(), left_out_words(described, kept))


def _within(channel: _Channel, part: slice | None) -> _Channel:
    """Return a channel whose samples outside its part are missing."""
    if part is None:
        return channel
    gone = missing_as_ours(channel.samples, channel.padding, channel.line.lead) == MISSING_SAMPLE
    whole = np.full(len(channel.samples), _WIDE_MISSING, "<i4")
    whole[part] = np.where(gone, _WIDE_MISSING, channel.samples.astype("<i4"))[part]
    return _Channel(channel.line, whole, _WIDE_MISSING)


def _joined(groups: Sequence[_Named], warnings: set[str]) -> tuple[int, list[_Channel]]:
    """Return length and channels of groups one after the other; of a lead that two have, the longer."""
    described = [one.described for one in groups]
    firsts = [round(one.offset_ms / 1000 * one.fs) for one in described]
    n_samples = max(first + one.n_samples for first, one in zip(firsts, described, strict=True))
    found: dict[str, _Channel] = {}
    for place in sorted(range(len(groups)), key=lambda row: -described[row].n_samples):
        for channel in _channels(groups[place], warnings):
            if channel.line.lead in found:
                warnings.add("GROUPS_LEFT_OUT")
                continue
            if n_samples * (len(found) + 1) > MAX_JOINED_SAMPLES:
                raise UnreadableRecord("TOO_LONG", f"more than {MAX_JOINED_SAMPLES} samples in groups one after the other")
            whole = np.full(n_samples, _WIDE_MISSING, "<i4")
            own = channel.samples.astype("<i4")
            gone = missing_as_ours(channel.samples, channel.padding, channel.line.lead) == MISSING_SAMPLE
            whole[firsts[place] : firsts[place] + len(own)] = np.where(gone, _WIDE_MISSING, own)
            found[channel.line.lead] = _Channel(channel.line, whole, _WIDE_MISSING)
    return n_samples, list(found.values())


def _day(dataset: Any) -> int:
    """Return the day of acquisition; -1 where none is stated, or none that can be read."""
    try:
        text = str(dataset.get("AcquisitionDateTime") or dataset.get("AcquisitionDate") or "")
    except Exception:  # a date that is none is no reason to refuse the record, whatever pydicom raises
        return -1
    match = _DATE.match(text)
    return -1 if match is None else day_number(int(match[1]), int(match[2]), int(match[3]))


class _Named(NamedTuple):
    """A group, its channels' definitions and leads."""

    group: Any
    definitions: list[Any]
    leads: list[str]
    described: Group


def _named(group: Any) -> _Named:
    n_samples = _whole(group, "NumberOfWaveformSamples")
    if n_samples < 1:
        raise UnreadableRecord("LENGTH_INVALID", "a waveform of no samples")
    fs = _number(group, "SamplingFrequency", "FS_INVALID")
    if not FS_RANGE_HZ[0] <= fs <= FS_RANGE_HZ[1]:
        raise UnreadableRecord("FS_INVALID", f"expected a sampling frequency of {FS_RANGE_HZ} Hz, found {fs:g}")
    definitions = list(group.get("ChannelDefinitionSequence", None) or ())
    leads = [_lead(channel) for channel in definitions]
    offset_ms = _number(group, "MultiplexGroupTimeOffset", "HEADER_SYNTAX", 0.0)
    return _Named(group, definitions, leads, Group(frozenset(leads) & _STANDARD_LEADS, n_samples, fs, offset_ms))


def _channels(named: _Named, warnings: set[str]) -> Iterator[_Channel]:
    group, definitions, n_samples = named.group, named.definitions, named.described.n_samples
    n_channels = _whole(group, "NumberOfWaveformChannels")
    if not 1 <= n_channels <= MAX_SIGNALS:
        raise UnreadableRecord("HEADER_LIMIT" if n_channels else "NSIG_ZERO", f"{n_channels} channels stated")
    if len(definitions) != n_channels:
        raise UnreadableRecord("NSIG_MISMATCH", f"{n_channels} channels stated, {len(definitions)} described")
    kind = (_whole(group, "WaveformBitsAllocated"), str(group.get("WaveformSampleInterpretation", "")))
    if kind not in _DTYPES:
        raise UnreadableRecord("FMT_UNSUPPORTED", f"samples of {kind[0]} bits, or their kind; expected one of {sorted(_DTYPES)}")
    dtype = np.dtype(_DTYPES[kind])
    data, expected = bytes(group.get("WaveformData", b"") or b""), n_samples * n_channels * dtype.itemsize
    if len(data) != expected + expected % 2:
        code = "DAT_TRUNCATED" if len(data) < expected else "DAT_TOO_LONG"
        raise UnreadableRecord(code, f"expected {expected} bytes of samples, found {len(data)}; export the file again")
    frames = np.frombuffer(data, dtype, n_samples * n_channels).reshape(n_samples, n_channels)
    mark = bytes(group.get("WaveformPaddingValue", b"") or b"")
    padding = int(np.frombuffer(mark, dtype, 1)[0]) if len(mark) >= dtype.itemsize else None
    least = max(2, round(_PADDED_S * named.described.fs)) if _is_amplitude(padding, frames) else 1
    for number, definition in enumerate(definitions):
        line = _line(definition, named.leads[number], warnings)
        yield _padded(_around_zero(_Channel(line, frames[:, number], padding)), least)


def _is_amplitude(padding: int | None, frames: NDArray[Any]) -> bool:
    """Tell whether the ECG itself passes through the value of padding: some exporters state 0 whether they pad or not."""
    if padding is None:
        return False
    others = frames != padding
    highest, lowest = np.iinfo(frames.dtype).max, np.iinfo(frames.dtype).min
    return bool(frames.min(where=others, initial=highest) < padding < frames.max(where=others, initial=lowest))


def _padded(channel: _Channel, least: int) -> _Channel:
    """Return a channel in which a value of padding counts as missing only where so many samples in a row have it."""
    samples, padding = channel.samples, channel.padding
    if padding is None or least <= 1:
        return channel
    edges = np.flatnonzero(np.diff(samples == padding, prepend=False, append=False))
    runs = [(first, last) for first, last in edges.reshape(-1, 2).tolist() if last - first >= least]
    if not runs:
        return channel._replace(padding=None)
    whole = np.where(missing_as_ours(samples, None, channel.line.lead) == MISSING_SAMPLE, _WIDE_MISSING, samples.astype("<i4"))
    for first, last in runs:
        whole[first:last] = _WIDE_MISSING
    return _Channel(channel.line, whole, _WIDE_MISSING)


def _around_zero(channel: _Channel) -> _Channel:
    """Return a channel of unsigned 16 bits, whose zero lies in their middle, as signed ones: its millivolts are the same."""
    samples, padding = channel.samples, channel.padding
    if samples.dtype != np.dtype("<u2"):
        return channel
    values = samples if padding is None else samples[samples != padding]
    if values.size == 0 or values.max() <= 32767:
        return channel
    middle = 1 << 15
    line = channel.line._replace(baseline=channel.line.baseline - middle)
    return _Channel(line, (samples ^ np.uint16(middle)).view("<i2"), None if padding is None else padding - middle)


def _line(channel: Any, lead: str, warnings: set[str]) -> SignalLine:
    """Return a channel as a WFDB signal line: gain and baseline from its sensitivity."""
    for keyword in ("ChannelTimeSkew", "ChannelSampleSkew"):
        if _number(channel, keyword, "HEADER_SYNTAX", 0.0):
            raise UnreadableRecord("FMT_UNSUPPORTED", f"lead {lead} is shifted in time; export it with aligned leads")
    if "ChannelSensitivity" not in channel:
        warnings.add("GAIN_DEFAULTED")
        return SignalLine("", 16, 1, 0, 0, DEFAULT_GAIN, 0, False, None, None, lead)
    step = _number(channel, "ChannelSensitivity", "GAIN_INVALID")
    step *= _number(channel, "ChannelSensitivityCorrectionFactor", "GAIN_INVALID", 1.0)
    units = [str(unit.get("CodeValue", "")) for unit in channel.get("ChannelSensitivityUnitsSequence", None) or ()]
    millivolts = MILLIVOLTS_PER_UNIT.get(units[0].lower()) if len(units) == 1 else None
    gain = float(f"{1 / (step * (millivolts or 1.0)):.12g}") if step else 0.0
    if not GAIN_RANGE[0] <= abs(gain) <= GAIN_RANGE[1]:
        raise UnreadableRecord("GAIN_INVALID", f"lead {lead}: {gain:g} adu per mV; expected {GAIN_RANGE}")
    exact = -_number(channel, "ChannelBaseline", "BASELINE_INVALID", 0.0) / step
    if not -(2**31) <= exact < 2**31 - 1:
        raise UnreadableRecord("BASELINE_INVALID", f"lead {lead}: its zero does not fit 32 bits")
    if abs(exact - round(exact)) > 1e-3:
        warnings.add("BASELINE_ROUNDED")
    if millivolts is None:
        warnings.add("UNITS_UNKNOWN")
    return SignalLine("", 16, 1, 0, 0, gain, round(exact), millivolts is not None, None, None, lead)


def _lead(channel: Any) -> str:
    """Return a channel's lead by its code, else by its name; both must agree where both are standard."""
    sources = list(channel.get("ChannelSourceSequence", None) or ())
    code = _LEAD_CODE.fullmatch(str(sources[0].get("CodeValue", ""))) if sources else None
    by_code = _LEAD_NUMBERS.get(int(code[1]), "") if code else ""
    names = [str(source.get("CodeMeaning", "")) for source in sources[:1]] + [str(channel.get("ChannelLabel", "") or "")]
    if names[-1] and len(names) > 1 and _UNSPECIFIED.match(names[0]):
        names = names[1:]
    named = [canonical_lead(re.sub(r"\(.*\)|^MDC_ECG_LEAD_", "", name)) for name in names if name]
    named = ["V" + name.lower() if name in {"X", "Y", "Z"} else name for name in named if name]
    by_name = next((name for name in named if name in LEADS), named[0] if named else "")
    if by_code and by_name in LEADS and by_code != by_name:
        raise UnreadableRecord("LEADS_CONTRADICT", f"a channel with the code of lead {by_code} is named {by_name}")
    return by_code or by_name


def _comments(dataset: Any) -> tuple[str, ...]:
    age = _AGE.fullmatch(str(dataset.get("PatientAge", "") or ""))
    sex = str(dataset.get("PatientSex", "") or "")
    return (*([f"Age: {int(age[1])}"] if age else []), *([f"Sex: {sex}"] if sex in {"F", "M"} else []))


def _patient(dataset: Any) -> str:
    """Return a name for the patient; a number holds within its issuer, where one is stated."""
    number, issuer = (str(dataset.get(keyword, "") or "").strip() for keyword in ("PatientID", "IssuerOfPatientID"))
    return patient_of(f"{issuer} {number}" if issuer else number) if patient_of(number) else ""


def _whole(item: Any, keyword: str) -> int:
    value = item.get(keyword, None)
    if not isinstance(value, int):
        raise UnreadableRecord("HEADER_SYNTAX", f"expected a whole number as {keyword}")
    return int(value)


def _number(item: Any, keyword: str, code: str, default: float | None = None) -> float:
    value = item.get(keyword, None)
    if default is not None and value in {None, ""}:
        return default
    text = str(getattr(value, "original_string", value))
    if not _NUMBER.fullmatch(text.strip()):
        raise UnreadableRecord(code, f"expected a number as {keyword}, found none")
    return float(text)


def missing_as_ours(samples: NDArray[Any], padding: int | None, lead: str) -> NDArray[np.int16]:
    """Return samples as int16, padding as ``terms.MISSING_SAMPLE``.

    Raises
    ------
    UnreadableRecord
        ``RANGE``, where a sample does not fit.

    """
    missing = np.zeros(samples.shape, bool) if padding is None else samples == padding
    if samples.dtype == np.dtype("<i2"):
        missing |= samples == MISSING_SAMPLE  # as everywhere: no ECG is meant by it
    values = samples[~missing]
    if values.size and not -32767 <= int(values.min()) <= int(values.max()) <= 32767:
        detail = f"lead {lead}: samples {values.min()} to {values.max()}; -32767 to 32767 can be stored"
        raise UnreadableRecord("RANGE", detail)
    return np.where(missing, MISSING_SAMPLE, samples).astype(np.int16)
