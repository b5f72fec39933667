"""GE MUSE's resting ECG XML (``RestingECG``): base64 samples of eight leads, the other four as GE defines them by these."""

from __future__ import annotations

import zlib

import numpy as np

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


def parse_muse(root: Element) -> DeviceRecord:
    """Read the longest rhythm waveform; median beats are no record, and are left out.

    Samples that carry a CRC (``LeadDataCRC32``, that of zlib over the decoded bytes) must agree with it. ``-32768`` is a missing
    sample, as everywhere.

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
    leads = list(rhythm.all("LeadData"))
    waves = most_common_length([_wave(lead, warnings) for lead in leads], warnings)
    is_verified = bool(leads) and all(_checksum(lead) for lead in leads)
    return device_record(_rate(rhythm), waves, _patient(root), warnings, is_verified=is_verified)


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
    return scaled(lead, np.frombuffer(content, "<i2").astype(np.int64), step, unit, -zero * step, warnings)


def _patient(root: Element) -> Patient:
    person, test = root.first("PatientDemographics"), root.first("TestDemographics")
    day = day_of(test.told("AcquisitionDate"), _DATE)
    years = person.told("PatientAge")
    unit = _AGE_UNITS.get(person.told("AgeUnits").upper())
    age = float(years) * unit if years.isdecimal() and len(years) < 4 and unit is not None else None
    if age is None:
        age = age_at(day_of(person.told("DateofBirth"), _DATE), day)
    return Patient(identified(person.told("PatientID")), age, person.told("Gender"), day)
