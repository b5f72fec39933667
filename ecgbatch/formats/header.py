"""What a header says, whatever the file's format: its signals, its record, and the codes of what may be wrong with it."""

from __future__ import annotations

import datetime
import hashlib
import re
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from ecgbatch.terms import LEADS

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
        "GAIN_INVALID": "the gain is negative, not a number or impossible",
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
        "ERASED": "the patient was erased from this workspace: the row is empty",
    }
)
"""Code to meaning. What an operator can do about each: ``docs/reason-codes.md``. Codes are never renamed or reused."""

WARNINGS = MappingProxyType(
    {
        "BASELINE_ROUNDED": "an EDF or DICOM lead's zero lies between two ADC values; the nearer one is stored",
        "CASE_MISMATCH": "a file name differs from the header's in upper and lower case",
        "CHECKSUM_UNVERIFIED": "the header has no valid checksum for some or all leads",
        "DAT_TRAILING_BYTES": "a file is longer than its header requires; the rest is ignored",
        "DATE_UNPARSED": "the start time or date cannot be read; it is not used",
        "FRAMES_AVERAGED": "several samples a frame were averaged to the frame rate",
        "GAIN_DEFAULTED": "the header states no gain; 200 adu per mV assumed, amplitude not to be trusted",
        "GROUPS_LEFT_OUT": "groups, series or leads of another rate, length or origin are left out",
        "GAPS": "some samples are missing",
        "HEADER_BOM": "the header begins with a byte order mark",
        "HEADER_CONTROL_CHARS": "control characters were removed from comments or lead names",
        "HEADER_NO_FINAL_NEWLINE": "the header does not end with a newline: comments may be cut",
        "INIT_DIFFERS": "a few leads begin with another sample than the header states",
        "LABELS_CONFLICT": "records of this patient have different labels",
        "LEADS_DERIVED": "III, aVR, aVL, aVF are not in the file: computed from I and II, as its format defines them",
        "LENGTH_INFERRED": "the number of samples was inferred from the file size and confirmed by checksums",
        "NON_ASCII": "the header is not pure ASCII",
        "OTHER_RATES_LEFT_OUT": "an EDF file's signals of another rate than its leads are left out",
        "RECORD_NAME_MISMATCH": "the header names another record than its file name",
        "SAME_CONTENT": "another record of the archive seems to hold the same samples",
        "SKEW_APPLIED": "leads were shifted by the skew that the header states",
        "SUM_DIFFERS": "a file is not the one that the archive's SHA256SUMS.txt lists",
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

CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
"""Control characters, line separators, and what turns or hides other characters: ``II`` must not look like another lead."""
_LEAD = re.compile(rf"(?:ecg[ _-]?)?(?:lead[ _-]?)?({'|'.join(LEADS)})(?:[ _-]?\(?ecg\)?)?", re.IGNORECASE | re.ASCII)
_LEAD_NAMES = MappingProxyType({lead.lower(): lead for lead in LEADS})


class UnreadableRecord(ValueError):
    """A record that cannot be used: a stable ``code`` of ``REASONS``, a ``detail`` for people, and its name."""

    def __init__(self, code: str, detail: str, record_name: str = "") -> None:
        assert code in REASONS, code
        super().__init__(f"{record_name}: {code}: {detail}")
        self.code, self.detail, self.record_name = code, detail, record_name

    def __reduce__(self) -> tuple[type[UnreadableRecord], tuple[str, str, str]]:
        return (UnreadableRecord, (self.code, self.detail, self.record_name))


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


@lru_cache(maxsize=1024)
def canonical_lead(description: str) -> str:
    """Return the lead's name: one of ``LEADS`` whatever its case or a ``Lead``/``ECG`` around it, others as they are.

    ``MLII`` stays ``MLII``: a modified limb lead is another lead than II. White space becomes ``_``.
    """
    name = CONTROL.sub("", description).strip()
    match = _LEAD.fullmatch(name)
    return _LEAD_NAMES[match[1].lower()] if match else "_".join(name.split())[:64]


def patient_of(identifier: str) -> str:
    """Return a name for the patient that a file's own identifier stands for; empty without one.

    A digest: records of one patient stay together, and the hospital's number is not stored. (Numbers can be tried out: this
    keeps them from being read, not from being guessed by who knows them all.)
    """
    identifier = identifier.strip()
    return f"p-{hashlib.sha256(identifier.encode()).hexdigest()[:16]}" if identifier.strip("xX0-_. ") else ""


def day_number(year: int, month: int, day: int) -> int:
    """Return a date as a count of days (1 January of year 1 is 1); -1 where the calendar has no such date."""
    try:
        return datetime.date(year, month, day).toordinal()
    except ValueError:
        return -1


def check_leads(leads: list[str]) -> None:
    """Refuse leads without a name, and two of one name."""
    if "" in leads:
        raise UnreadableRecord("LEADS_UNNAMED", f"signal line {leads.index('') + 1} names no lead; add the name to the header")
    if len(set(leads)) < len(leads):
        doubles = sorted({lead for lead in leads if leads.count(lead) > 1})
        raise UnreadableRecord("LEADS_DUPLICATE", f"named more than once: {', '.join(doubles)}; correct the header")
