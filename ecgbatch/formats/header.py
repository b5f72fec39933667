"""What a header says, whatever the file's format: its signals, its record, and the codes of what may be wrong with it."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import NamedTuple

from ecgbatch.formats.cart import NOTHING, Cart
from ecgbatch.formats.leads import (
    CONTROL,
    by_company,
    canonical_lead,
    is_ecg,
    is_known,
    samples_a_frame,
    told_apart,
    which_decide_rate,
)
from ecgbatch.terms import STEP_FAILED
from storage import NOT_OF_A_ROW

__all__ = [  # readers of all formats need the names of leads beside what is here
    "CONTROL",
    "DEFAULT_GAIN",
    "FS_RANGE_HZ",
    "GAIN_RANGE",
    "MAX_SIGNALS",
    "MILLIVOLTS_PER_UNIT",
    "REASONS",
    "WARNINGS",
    "Header",
    "SignalLine",
    "UnreadableRecord",
    "at_one_rate",
    "canonical_lead",
    "check_leads",
    "day_number",
    "gains_made_positive",
    "kept_signals",
    "left_out",
    "named_apart",
    "patient_of",
    "step",
]

REASONS = MappingProxyType(
    {
        "BAD_RECORD_NAME": "the record's name cannot be used safely",
        "PATH_ESCAPE": "the record's name leaves the archive",
        "REMOTE_NAME": "the record's name is an address, not a file",
        "LISTED_MISSING": "RECORDS lists it, its header is not there",
        "COMPRESSED_UNSUPPORTED": "only a gzip-compressed copy of the file is there",
        "NOT_REGULAR_FILE": "a folder, pipe, socket or device instead of a file",
        "SYMLINK_ESCAPE": "a link that leaves the archive, or a loop of links",
        "UNREADABLE_FILE": "the operating system refuses to read the file",
        "CHANGED_WHILE_READING": "the file changed between inspection and reading",
        "HEADER_TOO_BIG": "the header file is larger than any header",
        "HEADER_LIMIT": "the header states or holds more than any ECG has",
        "LINE_TOO_LONG": "a line is longer than any header line",
        "HEADER_EMPTY": "the header has no record line",
        "HEADER_ENCODING": "the header is not text in UTF-8 or Latin-1",
        "HEADER_SYNTAX": "a line does not follow the grammar of header(5)",
        "HEADER_TRUNCATED": "the header ends in the middle",
        "NSIG_ZERO": "the header states no signals",
        "NSIG_MISMATCH": "the header states another number of signals than it describes",
        "FS_INVALID": "the sampling frequency is absent or impossible",
        "LENGTH_INVALID": "the number of samples is zero or not a number",
        "LENGTH_UNVERIFIABLE": "no length is stated and no checksum can confirm the one inferred",
        "TOO_LONG": "more samples than the files could hold or a machine could read",
        "GAIN_INVALID": "the gain is zero, not a number or impossible",
        "BASELINE_INVALID": "the baseline does not fit 32 bits",
        "BAD_FILE_NAME": "a signal file's name leaves the folder or cannot be used safely",
        "FMT_UNSUPPORTED": "a format, or a form of one, that is not read",
        "FMT_MIXED": "one signal file is described with two formats or offsets",
        "FILES_INTERLEAVED": "signals of one file are not listed together",
        "LEADS_UNNAMED": "a lead without a name",
        "LEADS_CONTRADICT": "a lead's code and its name are those of two leads",
        "LEADS_DUPLICATE": "two leads with one name",
        "LEADS_MISSING": "a signal file other than the first is missing; the other leads are used",
        "DAT_MISSING": "the first signal file is missing",
        "DAT_EMPTY": "a signal file is empty",
        "DAT_TRUNCATED": "a signal file is shorter than the header requires",
        "DAT_TOO_LONG": "a signal file is longer than its header can explain",
        "GZIP_CONTENT": "a signal file is gzip-compressed inside",
        "CHECKSUM_MISMATCH": "the samples are not those that the header's checksum was made of",
        "INIT_MISMATCH": "the first samples are not those that the header states",
        "RANGE": "a sample does not fit 16 bits",
        "DECODER_FAILED": "the signal file cannot be decoded",
        "DECODER_LIMIT": "decoding exceeded its time or memory",
        "EXTRA_MISSING": "the library that reads this kind of file is not installed",
        "SEGMENT_MISSING": "a segment's header or signals cannot be used",
        "SEGMENT_CYCLE": "a record that contains itself",
        "SEGMENT_LIMIT": "segments inside segments, or more than any record has",
        "SEGMENT_MISMATCH": "segments that do not fit each other or the record",
        "XML_UNSAFE": "an XML file with a document type or entities of its own",
        STEP_FAILED: "a step failed on this record's content: a fault of ecgbatch; no other record is affected",
        "ERASED": "the patient was erased from this workspace: the row is empty",
    }
)
"""Code to meaning. What an operator can do about each: ``docs/reason-codes.md``. Codes are never renamed or reused."""

WARNINGS = MappingProxyType(
    {
        "BASELINE_ROUNDED": "an EDF or DICOM lead's zero lies between two ADC values; the nearer one is stored",
        "CART_LEFT_OUT": "some of the cart's own numbers or statements cannot be: they are left out, the ECG is whole",
        "CASE_MISMATCH": "a file name differs from the header's in upper and lower case",
        "CHANNEL_LEFT_OUT": "a signal whose scale or length cannot be is left out; the detail says which",
        "CHECKSUM_UNVERIFIED": "the header has no valid checksum for some or all leads",
        "DAT_TRAILING_BYTES": "a file is longer than its header requires; the rest is ignored",
        "DATE_UNPARSED": "the start time or date cannot be read; it is not used",
        "FRAMES_AVERAGED": "several samples a frame were averaged to the frame rate; only in stores of earlier versions",
        "GAIN_DEFAULTED": "the header states no gain; 200 adu per mV assumed, amplitude not to be trusted",
        "GAIN_NEGATIVE": "a lead's gain is negative: its samples were turned over, the gain is stored positive",
        "GROUPS_LEFT_OUT": "groups, series or leads of another rate, length or origin are left out",
        "GAPS": "some samples are missing",
        "HEADER_BOM": "the header begins with a byte order mark",
        "HEADER_CONTROL_CHARS": "control characters were removed from comments or lead names",
        "HEADER_NO_FINAL_NEWLINE": "the header does not end with a newline: comments may be cut",
        "INIT_DIFFERS": "a few leads begin with another sample than the header states",
        "LEADS_IN_TURN": "leads were recorded one after the other: each is missing where another was recorded, no line is flat",
        "LEADS_NUMBERED": "signals of one name are told apart by numbers",
        "LEADS_UNKNOWN": "a signal's name is none that is known: if it is a standard lead, it is not taken for it",
        "LABELS_CONFLICT": "records of this patient have different labels",
        "LEADS_DERIVED": "III, aVR, aVL, aVF are not in the file: computed from I and II, as its format defines them",
        "LENGTH_INFERRED": "the number of samples was inferred from the file size and confirmed by checksums",
        "NON_ASCII": "the header is not pure ASCII",
        "OTHER_RATES_LEFT_OUT": "signals of another rate than the record's leads are left out",
        "RECORD_NAME_MISMATCH": "the header names another record than its file name",
        "SAME_CONTENT": "another record of the archive seems to hold the same samples",
        "SKEW_APPLIED": "leads were shifted by the skew that the header states",
        "SUM_DIFFERS": "a file is not the one that the archive's SHA256SUMS.txt lists",
        "SCALES_JOINED": "segments of one lead have different scales; their samples were brought to one",
        "SIGNALS_IGNORED": "the header describes more signals than it states; those beyond are not the record's",
        "UNITS_UNKNOWN": "a lead's units are not volts; its amplitude is not in mV",
    }
)
"""Code to meaning: remarks about a record that is used all the same."""

MAX_SIGNALS = 256
FS_RANGE_HZ = (10.0, 20_000.0)
"""Below, no QRS complex survives; above, no ECG recorder exists, and a length was read as a rate."""
GAIN_RANGE = (1e-2, 1e8)
"""adu per mV: one step of 100 mV to one of 10 pV."""
DEFAULT_GAIN = 200.0
"""adu per mV where none is stated: header(5), DEFGAIN of wfdb.h."""

MILLIVOLTS_PER_UNIT = MappingProxyType({"v": 1e3, "mv": 1.0, "uv": 1e-3, "µv": 1e-3, "μv": 1e-3, "nv": 1e-6})
"""By unit in lower case."""


class UnreadableRecord(ValueError):
    """A record that cannot be used: a stable ``code`` of ``REASONS``, a ``detail`` for people, and its name."""

    def __init__(self, code: str, detail: str, record_name: str = "") -> None:
        assert code in REASONS, code
        super().__init__(f"{record_name}: {code}: {detail}")
        self.code, self.detail, self.record_name = code, detail, record_name

    def __reduce__(self) -> tuple[type[UnreadableRecord], tuple[str, str, str]]:
        return (UnreadableRecord, (self.code, self.detail, self.record_name))


@contextmanager
def step(name: str) -> Iterator[None]:
    """Run a step on one record: what its content raises becomes ``UnreadableRecord`` with the code ``STEP_FAILED``.

    Exceptions that say nothing of the record (``storage.NOT_OF_A_ROW``) and refusals pass as they are.
    """
    try:
        yield
    except (UnreadableRecord, *NOT_OF_A_ROW):
        raise
    except Exception as error:
        detail = f"{name}: {type(error).__name__}; please report it; the record is tried again by the next version"
        raise UnreadableRecord(STEP_FAILED, detail) from error


class SignalLine(NamedTuple):
    """One signal specification line."""

    file_name: str
    fmt: int
    samples_per_frame: int
    skew: int
    byte_offset: int
    adc_gain: float
    """adu per mV (adu per unit where the units are not volts)."""
    baseline: int
    is_millivolts: bool
    initial_value: int | None
    checksum: int | None
    """Sum of the raw samples modulo 65536, 0-65535; None where the header states none."""
    lead: str
    is_turned: bool = False
    """Whether the gain is negative: the samples are turned over when they are read, ``adc_gain`` is positive here."""


class SignalColumns(NamedTuple):
    """The fields of many ``SignalLine``s, each a tuple: what is asked of all signals of a record is asked at once."""

    file_name: tuple[str, ...]
    fmt: tuple[int, ...]
    samples_per_frame: tuple[int, ...]
    skew: tuple[int, ...]
    byte_offset: tuple[int, ...]
    adc_gain: tuple[float, ...]
    baseline: tuple[int, ...]
    is_millivolts: tuple[bool, ...]
    initial_value: tuple[int | None, ...]
    checksum: tuple[int | None, ...]
    lead: tuple[str, ...]
    is_turned: tuple[bool, ...]


def columns_of(lines: Sequence[SignalLine]) -> SignalColumns:
    """Return the columns of signal lines, each as long as there are lines."""
    return SignalColumns._make(zip(*lines, strict=True) if lines else [()] * len(SignalColumns._fields))


def gains_made_positive(lines: list[SignalLine], warnings: set[str]) -> list[SignalLine]:
    """Return signals of which those of a negative gain have a positive one, and samples that are to be turned over."""
    if all(line.adc_gain > 0 for line in lines):
        return lines  # nearly always
    if any(line.adc_gain < 0 and line.baseline == -(2**31) for line in lines):
        raise UnreadableRecord("BASELINE_INVALID", "a baseline does not fit 32 bits when its lead is turned over")
    warnings.add("GAIN_NEGATIVE")
    return [
        line._replace(adc_gain=-line.adc_gain, baseline=-line.baseline, is_turned=True) if line.adc_gain < 0 else line
        for line in lines
    ]


class Header(NamedTuple):
    """A header that follows the grammar."""

    name: str
    sampling_frequency_hz: float
    n_samples: int | None
    signals: tuple[SignalLine, ...]
    n_signals: int
    segments: tuple[tuple[str, int], ...]
    comments: tuple[str, ...]
    warnings: tuple[str, ...]
    patient: str = ""
    """A name for the patient, where the file itself identifies one (EDF+, DICOM): a digest."""
    recording_year: int = -1
    """Of the record line's date; -1 where it has none. Day and month are not kept."""
    recording_day: int = -1
    """Of the date that the file states (``day_number``); it goes no further than the listing, which moves it
    (``workspace.privacy``)."""
    frame_samples: int = 1
    """Samples that a frame has of the record's leads; ``sampling_frequency_hz`` counts them, ``n_samples`` counts frames."""
    cart: Cart = NOTHING
    """What the electrocardiograph itself said of the ECG, where the file's format has a place for it."""


_NOBODY = frozenset(
    (
        *("anon", "anonym", "anonymous", "anonymized", "anonymised", "anonymisiert", "anonyme", "anonimo", "anonymus"),
        *("deidentified", "removed", "redacted", "hidden", "blank", "empty", "none", "null", "nil", "na", "notavailable"),
        *("unknown", "unk", "unbekannt", "inconnu", "desconocido", "desconhecido", "sconosciuto", "onbekend", "okänd", "nn"),
        *(
            "noid",
            "nopatientid",
            "patient",
            "patientid",
            "patientname",
            "subject",
            "test",
            "testpatient",
            "dummy",
            "default",
            "demo",
        ),
    )
)
"""What stands where a number of a patient was taken out or never was: all who have it would be one patient."""


def patient_of(identifier: str) -> str:
    """Return a name for the patient that a file's own identifier stands for; empty without one.

    A digest: records of one patient stay together, and the hospital's number is not stored. (Numbers can be tried out: this
    keeps them from being read, not from being guessed by who knows them all.)
    """
    identifier = identifier.strip()
    if "".join(filter(str.isalnum, identifier.casefold())) in _NOBODY:
        return ""
    return f"p-{hashlib.sha256(identifier.encode()).hexdigest()[:16]}" if identifier.strip("xX0-_. ") else ""


def day_number(year: int, month: int, day: int) -> int:
    """Return a date as a count of days (1 January of year 1 is 1); -1 where the calendar has no such date."""
    try:
        return datetime.date(year, month, day).toordinal()
    except ValueError:
        return -1


def kept_signals(header: Header) -> tuple[int, ...]:
    """Return the numbers of the signals that make the record: those of its rate; the others are left out."""
    return tuple(i for i, line in enumerate(header.signals) if line.samples_per_frame == header.frame_samples)


def left_out(header: Header) -> str:
    """Return, for people, which ECG leads are left out because their rate is another; empty where none is."""
    if set(columns_of(header.signals).samples_per_frame) == {header.frame_samples}:
        return ""  # nearly every record
    frames_hz = header.sampling_frequency_hz / header.frame_samples
    others = [line for line in header.signals if line.samples_per_frame != header.frame_samples]
    named = [
        f"{line.lead} ({line.samples_per_frame * frames_hz:g} Hz)" for line in others if is_ecg(line.lead, line.is_millivolts)
    ]
    return f"left out, at another rate than {header.sampling_frequency_hz:g} Hz: {', '.join(named)}" if named else ""


def at_one_rate(header: Header, frame_samples: int = 0) -> Header:
    """Return a header, as its file states it in frames, as a record at one rate: ``leads.samples_a_frame``, or the given one."""
    lines = header.signals
    if frame_samples in {0, 1} and not set(columns_of(lines).samples_per_frame) - {1}:
        return header  # nearly every record
    counts = [line.samples_per_frame for line in lines]
    deciding = which_decide_rate([line.lead for line in lines], [line.is_millivolts for line in lines])
    count = frame_samples or samples_a_frame(counts, deciding)
    fs = header.sampling_frequency_hz * count
    if not FS_RANGE_HZ[0] <= fs <= FS_RANGE_HZ[1]:
        raise UnreadableRecord("FS_INVALID", f"{count} samples a frame make {fs:g} Hz; expected {FS_RANGE_HZ}")
    warnings = {*header.warnings, *({"OTHER_RATES_LEFT_OUT"} if set(counts) - {count} else ())}
    return header._replace(sampling_frequency_hz=fs, frame_samples=count, warnings=tuple(sorted(warnings)))


def named_apart(lines: list[SignalLine], warnings: set[str]) -> tuple[SignalLine, ...]:
    """Return signals whose names differ; refuse some without a name, and two that claim to be one standard lead."""
    names = by_company([line.lead for line in lines])
    lines = [line if line.lead == name else line._replace(lead=name) for line, name in zip(lines, names, strict=True)]
    if len(set(names)) < len(names):
        apart = told_apart(names)
        check_leads(apart)
        warnings.add("LEADS_NUMBERED")
        lines = [line._replace(lead=name) for line, name in zip(lines, apart, strict=True)]
    check_leads([line.lead for line in lines])
    if not all(map(is_known, names)):
        warnings.add("LEADS_UNKNOWN")
    return tuple(lines)


def check_leads(leads: list[str]) -> None:
    """Refuse leads without a name, and two of one name."""
    if "" in leads:
        raise UnreadableRecord("LEADS_UNNAMED", f"signal line {leads.index('') + 1} names no lead; add the name to the header")
    if len(set(leads)) < len(leads):
        doubles = sorted({lead for lead in leads if leads.count(lead) > 1})
        raise UnreadableRecord("LEADS_DUPLICATE", f"named more than once: {', '.join(doubles)}; correct the header")
