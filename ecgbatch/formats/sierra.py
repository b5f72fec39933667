"""Philips Sierra XML 1.03 and 1.04 (``restingecgdata``): leads in XLI (LZW of second differences), four of them residues."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgbatch.formats.cart import Told, told_by
from ecgbatch.formats.device_record import (
    MAX_DEVICE_SAMPLES,
    DeviceRecord,
    Patient,
    age_at,
    day_of,
    device_record,
    from_base64,
    identified,
    narrow,
    number,
    numbers_of_text,
    scaled,
    whole,
)
from ecgbatch.formats.header import MAX_SIGNALS, UnreadableRecord, canonical_lead
from ecgbatch.formats.xml_tree import Element

ROOT = "restingecgdata"
_VERSIONS = ("1.03", "1.04")
_STANDARD = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
"""Order of the channels where the file names none: version 1.03 with an acquisition type of ten electrodes."""
_TEN_ELECTRODES = frozenset({"STD-12", "10-WIRE"})
_LIMB = _STANDARD[:6]
_MEASURED = MappingProxyType(
    {"heartrate": "heart_rate_bpm", "meanventrate": "heart_rate_bpm", "atrialrate": "atrial_rate_bpm", "rrint": "rr_ms"}
    | {"pdur": "p_ms", "print": "pr_ms", "meanprint": "pr_ms", "qrsdur": "qrs_ms", "meanqrsdur": "qrs_ms"}
    | {"qtint": "qt_ms", "meanqtint": "qt_ms", "meanqtc": "qtc_ms", "qtcb": "qtc_bazett_ms", "qtcf": "qtc_fridericia_ms"}
    | {"pfrontaxis": "axis_p_deg", "qrsfrontaxis": "axis_qrs_deg", "tfrontaxis": "axis_t_deg"}
)
"""Elements of the measurements of an interpretation, and of those of all leads together."""
_INTERPRETATION = ("interpretations", "interpretation")
_OF_ALL_LEADS = (("measurements", "globalmeasurements"), ("internalmeasurements", "crossleadmeasurements"))
_PADDING = 3
"""Bytes that zeros after the last code, up to a word of 32 bits, may decode to where no code ends the lead."""


def parse_sierra(root: Element) -> DeviceRecord:
    """Read the rhythm waveforms (``parsedwaveforms``), coded, plain or as text; representative beats are left out.

    XLI, as the format's description has it (the wiki of sierra-ecg-tools): of each lead 8 bytes (length of its code, 2 bytes of
    no known meaning, the first second difference), then LZW codes of 10 bits whose bytes are the upper, then the lower halves of
    16-bit numbers: two samples, then each second difference but the first, plus 64. Of III, aVR, aVL and aVF the file holds by
    how much they differ from what I and II tell, halves rounded down.

    Raises
    ------
    UnreadableRecord
        The only exception, whatever the file holds.

    """
    version = root.told("documentinfo", "documentversion")
    if not version.startswith(_VERSIONS):
        raise UnreadableRecord("FMT_UNSUPPORTED", f"a version of Sierra XML that is not read; known are {', '.join(_VERSIONS)}")
    data, signal = root.first("waveforms", "parsedwaveforms"), root.first("dataacquisition", "signalcharacteristics")
    if not data.text.strip():
        raise UnreadableRecord("NSIG_ZERO", "the file holds no waveforms")
    leads = _leads(data, signal)
    fs = number(data.attributes.get("samplespersecond") or signal.told("samplingrate"), "samplingrate", "FS_INVALID")
    samples = _samples(data, signal, leads, fs)
    leads = leads[: len(samples)]
    step = number(_resolution(data, signal), "resolution", "GAIN_INVALID")
    warnings: set[str] = set()
    waves = [scaled(lead, narrow(values), step, "uV", 0.0, warnings) for lead, values in zip(leads, samples, strict=True)]
    return device_record(fs, waves, _patient(root), warnings, cart=told_by(lambda told: _tell(root, told)))


def _resolution(data: Element, signal: Element) -> str:
    """Return microvolts a step: version 1.04 calls resolution what 1.03 calls signal resolution."""
    return data.attributes.get("resolution") or signal.told("resolution") or signal.told("signalresolution")


def _leads(data: Element, signal: Element) -> list[str]:
    named = data.attributes.get("leadlabels", "").split()
    count = data.attributes.get("numberofleads") or signal.told("numberchannelsallocated") or str(len(named) or 12)
    n_leads = whole(count, "number of leads", "NSIG_MISMATCH")
    if not 1 <= n_leads <= MAX_SIGNALS:
        raise UnreadableRecord("HEADER_LIMIT" if n_leads > 0 else "NSIG_ZERO", f"{n_leads} leads stated")
    if not named and signal.told("acquisitiontype") not in _TEN_ELECTRODES:
        raise UnreadableRecord("LEADS_UNNAMED", "the file names no leads, and is none of ten electrodes")
    known = [canonical_lead(name) for name in named or _STANDARD]
    return [*known, *(f"Channel-{place}" for place in range(len(known) + 1, n_leads + 1))][:n_leads]


def _samples(data: Element, signal: Element, leads: list[str], fs: float) -> list[NDArray[Any]]:
    kind = data.attributes
    code = kind.get("dataencoding", "Base64").lower()
    if code not in {"base64", "plain"} or signal.told("bitspersample") not in {"", "16"}:
        raise UnreadableRecord("FMT_UNSUPPORTED", "samples in another code than base64 or text, or of another size than 16 bits")
    duration = number(kind.get("durationperchannel", "0"), "durationperchannel", "LENGTH_INVALID")
    n_samples = round(duration / 1000 * fs)
    if not 2 <= n_samples <= MAX_DEVICE_SAMPLES // len(leads):
        raise UnreadableRecord("LENGTH_INVALID", f"{duration:g} ms of each lead stated")
    if code == "plain":  # whatever is said of compression: tools that unpack a file leave that as it was
        return _in_text(data.text, len(leads), n_samples)
    content = np.frombuffer(from_base64(data.text, "parsedwaveforms"), np.uint8)
    method = kind.get("compression") or kind.get("compressmethod") or ""
    if method in {"", "Uncompressed", "None"} or kind.get("compressflag") == "False":
        return _plain(content, len(leads), n_samples)
    if method != "XLI":
        raise UnreadableRecord("FMT_UNSUPPORTED", "samples in another compression than XLI; export the file uncompressed")
    samples = _decompressed(content, len(leads), n_samples)
    n_valid = signal.told("numberchannelsvalid")
    if len(samples) < (int(n_valid) if n_valid.isdecimal() and len(n_valid) < 4 else len(leads)):
        raise UnreadableRecord("DAT_TRUNCATED", f"expected {len(leads)} channels, found {len(samples)}; export the file again")
    leads = leads[: len(samples)]
    return _completed(dict(zip(leads, samples, strict=True))) if len(set(leads)) == len(leads) else samples


def _in_text(text: str, n_leads: int, n_samples: int) -> list[NDArray[Any]]:
    """Return leads whose samples are whole numbers in text, one lead after the other; no lead is a residue."""
    values = narrow(numbers_of_text(text, "parsedwaveforms"))
    if values.size != n_leads * n_samples:
        code = "DAT_TRUNCATED" if values.size < n_leads * n_samples else "DAT_TOO_LONG"
        raise UnreadableRecord(code, f"expected {n_leads * n_samples} samples, found {values.size}")
    return list(values.reshape(n_leads, n_samples))


def _plain(content: NDArray[np.uint8], n_leads: int, n_samples: int) -> list[NDArray[Any]]:
    if content.size != 2 * n_leads * n_samples:
        code = "DAT_TRUNCATED" if content.size < 2 * n_leads * n_samples else "DAT_TOO_LONG"
        raise UnreadableRecord(code, f"expected {2 * n_leads * n_samples} bytes of samples, found {content.size}")
    return list(content.view("<i2").reshape(n_leads, n_samples))


def _decompressed(content: NDArray[np.uint8], n_leads: int, n_samples: int) -> list[NDArray[Any]]:
    from ecgbatch.formats.device_kernels import lzw_10, second_differences

    first = 0
    signals: list[NDArray[Any]] = []
    for number_ in range(1, n_leads + 1):
        if first == content.size and signals:
            break  # channels may be allocated that hold nothing
        head = content[first : first + 8].tobytes()
        length = int.from_bytes(head[:4], "little")
        if len(head) < 8 or length > content.size - first - 8:
            raise UnreadableRecord("DAT_TRUNCATED", f"channel {number_}: its samples end early; export the file again")
        halves = np.zeros(2 * n_samples + _PADDING + 1, np.uint8)
        n_bytes = lzw_10(content[first + 8 : first + 8 + length], halves)
        if not 2 * n_samples <= n_bytes <= 2 * n_samples + _PADDING:
            code = "DECODER_FAILED" if n_bytes < 0 else "DAT_TRUNCATED" if n_bytes < 2 * n_samples else "DAT_TOO_LONG"
            raise UnreadableRecord(code, f"channel {number_}: expected {2 * n_samples} bytes, found {max(0, n_bytes)} or more")
        values = (halves[:n_samples].astype(np.int16) << 8) | halves[n_samples : 2 * n_samples]
        signals.append(second_differences(values, int.from_bytes(head[6:], "little", signed=True)))
        first += 8 + length
    return signals


def _completed(by_lead: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """Return the leads, III and the augmented ones made of their residues and of I and II."""
    if set(_LIMB) <= set(by_lead):
        one, two = by_lead["I"].astype(np.int64), by_lead["II"].astype(np.int64)
        three = two - one - by_lead["III"]
        by_lead |= {
            "III": three,
            "aVR": -((one + two) // 2) - by_lead["aVR"],
            "aVL": (one - three) // 2 - by_lead["aVL"],
            "aVF": (two + three) // 2 - by_lead["aVF"],
        }
    return list(by_lead.values())


def _patient(root: Element) -> Patient:
    person = root.first("patient", "generalpatientdata")
    day = day_of(root.value("dataacquisition", name="date"))
    years = person.told("age", "years")
    age = float(years) if years.isdecimal() and len(years) < 4 else age_at(day_of(person.told("age", "dateofbirth")), day)
    identifier = person.told("patientid") or person.told("uniquepatientid") or person.told("MRN")
    return Patient(identified(identifier), age, person.told("sex"), day)


def _tell(root: Element, told: Told) -> None:
    """Tell what the cart said: its first interpretation, but for what a person has edited there."""
    interpretation = root.first(*_INTERPRETATION)
    of_interpretation = (interpretation.first(name) for name in ("globalmeasurements", "interpretationmeasurements"))
    for measured in (*of_interpretation, *(root.first(*path) for path in _OF_ALL_LEADS)):
        for element in measured.children if not _is_edited(measured) else ():
            if element.name in _MEASURED and not _is_edited(element):
                told.number(_MEASURED[element.name], "" if element.text.strip() == "Failed" else element.text)
    severity = interpretation.first("severity")
    if severity.attributes.get("code", "").strip():
        told.statement(severity.attributes["code"], "Philips severity", severity.text)
    for statement in interpretation.all("statement"):
        code, words = statement.told("statementcode"), statement.told("leftstatement")
        if _is_edited(statement):
            told.free(words)
        else:
            told.statement(code, "Philips", words)
        told.free(statement.told("rightstatement"))


def _is_edited(element: Element) -> bool:
    return element.attributes.get("editedflag", "").strip().lower() == "true"
