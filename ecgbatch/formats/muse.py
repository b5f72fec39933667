"""GE MUSE's resting ECG XML (``RestingECG``): base64 samples of eight leads, the other four as GE defines them by these."""

from __future__ import annotations

import re
import zlib
from types import MappingProxyType

import numpy as np

from ecgbatch.formats.cart import Told, told_by
from ecgbatch.formats.device_record import (
    MAX_DEVICE_SAMPLES,
    DeviceRecord,
    Patient,
    Wave,
    age_at,
    day_of,
    device_record,
    from_base64,
    identified,
    most_common_length,
    number,
    scaled,
    whole,
)
from ecgbatch.formats.header import UnreadableRecord, canonical_lead
from ecgbatch.formats.xml_tree import Element

ROOT = "RestingECG"
_UNITS = {"MICROVOLTS": "uV", "MILLIVOLTS": "mV", "NANOVOLTS": "nV", "VOLTS": "V"}
_DATE = r"(?P<month>\d{1,2})-(?P<day>\d{1,2})-(?P<year>\d{4})"
_AGE_UNITS = {"": 1.0, "YEARS": 1.0, "MONTHS": 1 / 12, "WEEKS": 1 / 52.1775, "DAYS": 1 / 365.2425, "HOURS": 1 / 8765.82}

_MEASURED = MappingProxyType(
    {"VentricularRate": "heart_rate_bpm", "AtrialRate": "atrial_rate_bpm", "PRInterval": "pr_ms", "QRSDuration": "qrs_ms"}
    | {"QTInterval": "qt_ms", "QTCorrected": "qtc_ms", "PAxis": "axis_p_deg", "RAxis": "axis_qrs_deg", "TAxis": "axis_t_deg"}
    | dict.fromkeys(("QTcFrederica", "QTcFredericia", "QTcFridericia"), "qtc_fridericia_ms")
)
"""Elements of MUSE's measurements; it spells Fridericia its own way."""
_NUMBERED = re.compile(r"Statement Text ?\((\d{1,5})\)", re.ASCII)
"""A statement by its number in the library of GE's program (12SL): where a cart's words were not exported."""


def parse_muse(root: Element) -> DeviceRecord:
    """Read the longest rhythm waveform; median beats are no record, and are left out.

    Samples that carry a CRC (``LeadDataCRC32``, that of zlib over the decoded bytes) must agree with it. ``-32768`` is a missing
    sample, as everywhere. A lead that is named and has no samples is left out (``CHANNEL_LEFT_OUT``).

    Raises
    ------
    UnreadableRecord
        The only exception, whatever the file holds.

    """
    warnings: set[str] = set()
    rhythms = [wave for wave in root.all("Waveform") if wave.told("WaveformType").lower() != "median"]
    if not rhythms:
        raise UnreadableRecord("NSIG_ZERO", "the file holds no rhythm waveform; median beats alone are not read")
    rhythm = max(rhythms, key=_n_samples)
    warnings.update({"GROUPS_LEFT_OUT"} if len(rhythms) > 1 else ())
    listed = list(rhythm.all("LeadData"))
    leads = [lead for lead in listed if lead.told("WaveFormData")]
    empty = [canonical_lead(lead.told("LeadID")) for lead in listed if not lead.told("WaveFormData")]
    if empty and leads:
        warnings.add("CHANNEL_LEFT_OUT")
    waves = most_common_length([_wave(lead, warnings) for lead in leads], warnings)
    is_verified = bool(leads) and all(_checksum(lead) for lead in leads)
    cart = told_by(lambda told: _tell(root, told))
    record = device_record(_rate(rhythm), waves, _patient(root), warnings, is_verified=is_verified, cart=cart)
    return record._replace(left_out=f"left out, for the file holds nothing of them: {' '.join(empty)}"[:300] if empty else "")


def _n_samples(waveform: Element) -> int:
    counts = [lead.told("LeadSampleCountTotal") for lead in waveform.all("LeadData")]
    return max((int(count) for count in counts if count.isdecimal() and len(count) < 12), default=0)


def _rate(waveform: Element) -> float:
    base = number(waveform.told("SampleBase"), "SampleBase", "FS_INVALID")
    exponent = waveform.told("SampleExponent") or "0"
    return base * 10.0 ** max(-9, min(9, whole(exponent, "SampleExponent", "FS_INVALID")))


def _checksum(data: Element) -> str:
    """Return a lead's CRC; empty where it is 0: it was not computed, or taken out with names and numbers."""
    return data.told("LeadDataCRC32").strip("0") and data.told("LeadDataCRC32")


def _wave(data: Element, warnings: set[str]) -> Wave:
    lead = canonical_lead(data.told("LeadID"))
    content = from_base64(data.told("WaveFormData"), f"lead {lead}")
    if whole(data.told("LeadSampleSize") or "2", "LeadSampleSize") != 2:
        raise UnreadableRecord("FMT_UNSUPPORTED", f"lead {lead}: samples of another size than 2 bytes")
    stated = data.told("LeadSampleCountTotal")
    n_samples = whole(stated, "LeadSampleCountTotal", "LENGTH_INVALID") if stated else len(content) // 2
    if not 1 <= n_samples <= MAX_DEVICE_SAMPLES:
        raise UnreadableRecord("LENGTH_INVALID", f"lead {lead}: {n_samples} samples stated")
    if len(content) != 2 * n_samples:
        code = "DAT_TRUNCATED" if len(content) < 2 * n_samples else "DAT_TOO_LONG"
        raise UnreadableRecord(code, f"lead {lead}: expected {2 * n_samples} bytes of samples, found {len(content)}")
    checksum = _checksum(data)
    if checksum and whole(checksum, "LeadDataCRC32") % 2**32 != zlib.crc32(content):
        raise UnreadableRecord("CHECKSUM_MISMATCH", f"lead {lead}: samples and LeadDataCRC32 differ; export the file again")
    if not all(data.told(name) in {"", "0"} for name in ("LeadTimeOffset", "LeadOffsetFirstSample")):
        raise UnreadableRecord("FMT_UNSUPPORTED", f"lead {lead} is shifted in time; export it with aligned leads")
    step = number(data.told("LeadAmplitudeUnitsPerBit"), "LeadAmplitudeUnitsPerBit", "GAIN_INVALID")
    unit = _UNITS.get(data.told("LeadAmplitudeUnits").upper(), data.told("LeadAmplitudeUnits"))
    zero = number(data.told("FirstSampleBaseline") or "0", "FirstSampleBaseline", "BASELINE_INVALID")
    return scaled(lead, np.frombuffer(content, "<i2"), step, unit, -zero * step, warnings)


def _patient(root: Element) -> Patient:
    person, test = root.first("PatientDemographics"), root.first("TestDemographics")
    day = day_of(test.told("AcquisitionDate"), _DATE)
    years = person.told("PatientAge")
    unit = _AGE_UNITS.get(person.told("AgeUnits").upper())
    age = float(years) * unit if years.isdecimal() and len(years) < 4 and unit is not None else None
    if age is None:
        age = age_at(day_of(person.told("DateofBirth"), _DATE), day)
    return Patient(identified(person.told("PatientID")), age, person.told("Gender"), day)


def _tell(root: Element, told: Told) -> None:
    """Tell what the cart said: the original numbers and statements, before anybody edited them, where the file has both."""
    measured = next(root.all("OriginalRestingECGMeasurements"), None) or root.first("RestingECGMeasurements")
    for element in measured.children:
        if element.name in _MEASURED:
            told.number(_MEASURED[element.name], element.text)
    diagnosis = next(root.all("OriginalDiagnosis"), None) or root.first("Diagnosis")
    line, is_inserted = "", False
    for statement in diagnosis.all("DiagnosisStatement"):
        flags = {flag.text.strip().upper() for flag in statement.all("StmtFlag")}
        line, is_inserted = f"{line} {statement.told('StmtText')}", is_inserted or "USERINSERT" in flags
        if "ENDSLINE" in flags:
            _tell_line(line, told, is_inserted=is_inserted)
            line, is_inserted = "", False
    _tell_line(line, told, is_inserted=is_inserted)


def _tell_line(line: str, told: Told, *, is_inserted: bool) -> None:
    """Tell a line of the diagnosis; one that a person inserted is free text, whatever it says."""
    number_ = _NUMBERED.fullmatch(line.strip())
    if is_inserted:
        told.free(line)
    elif number_:
        told.statement(number_[1], "GE 12SL")
    else:
        told.words(line)
