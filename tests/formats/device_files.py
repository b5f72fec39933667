"""Files of hospital devices with truth known, written by the formats' descriptions; no code is shared with their readers."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from tests.formats.wfdb_files import Lead, Record, Samples

EIGHT = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
TWELVE = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
Leads = Mapping[str, Samples]


def ecg(leads: Sequence[str] = EIGHT, n: int = 2500, fs: float = 250.0, *, microvolts: float = 5.0, seed: int = 0) -> Leads:
    """Return leads (sample) of beats with noise, as integers of ``microvolts`` each; limb leads obey Einthoven's law."""
    rng = np.random.default_rng(seed)
    t = np.arange(n) / fs
    phase = t % 0.85
    shape = sum(
        height * np.exp(-0.5 * ((phase - at) / width) ** 2)
        for at, width, height in ((0.2, 0.025, 0.12), (0.36, 0.012, 1.0), (0.39, 0.012, -0.25), (0.62, 0.045, 0.3))
    )
    size = {"I": 0.6, "II": 1.0, "V1": -0.7, "V2": -0.5, "V3": 0.4, "V4": 1.2, "V5": 1.1, "V6": 0.8}
    stored = {
        name: np.round(1000 * (size[name] * shape + 0.01 * rng.normal(size=n)) / microvolts).astype(np.int64) for name in EIGHT
    }
    one, two = stored["I"], stored["II"]
    four = {"III": two - one, "aVR": -((one + two) // 2), "aVL": one - two // 2, "aVF": two - one // 2}
    return {name: (stored | four)[name] for name in leads}


def as_wfdb(leads: Leads, fs: float, microvolts: float) -> Record:
    """Return the same leads as a WFDB record ``r``."""
    gain = f"{1000 / microvolts:g}"
    return Record([Lead(name, values[:, None], gain=gain) for name, values in leads.items()], fs=f"{fs:g}")


MUSE_PATIENT = """<PatientID>MRN4711</PatientID><PatientAge>58</PatientAge><AgeUnits>YEARS</AgeUnits>
<DateofBirth>03-25-1938</DateofBirth>
<Gender>FEMALE</Gender><PatientLastName>Canary</PatientLastName><PatientFirstName>Zaphod</PatientFirstName>"""


def muse(
    leads: Leads,
    fs: int = 250,
    *,
    kind: str = "Rhythm",
    step: str = "5",
    crc: bool = True,
    median: Leads | None = None,
    doctype: str = '<!DOCTYPE RestingECG SYSTEM "restecg.dtd">',
    patient: str = MUSE_PATIENT,
) -> bytes:
    """Return GE MUSE XML; a median waveform stands before the rhythm, as MUSE writes it."""
    waveforms = [*([("Median", median)] if median else []), (kind, leads)]
    body = "\n".join(_muse_waveform(name, each, fs, step, crc) for name, each in waveforms)
    return f"""<?xml version="1.0" encoding="ISO-8859-1"?>
{doctype}
<RestingECG>
<PatientDemographics>{patient}</PatientDemographics>
<TestDemographics><DataType>RESTING</DataType><AcquisitionTime>11:18:00</AcquisitionTime>
<AcquisitionDate>03-25-1996</AcquisitionDate></TestDemographics>
<Diagnosis><DiagnosisStatement><StmtText>Sinus rhythm of Canary</StmtText></DiagnosisStatement></Diagnosis>
{body}
</RestingECG>
""".encode("latin-1")


def _muse_waveform(kind: str, leads: Leads, fs: int, step: str, crc: bool) -> str:
    parts = []
    for name, values in leads.items():
        content = values.astype("<i2").tobytes()
        text = base64.encodebytes(content).decode()
        told = f"<LeadDataCRC32>{zlib.crc32(content)}</LeadDataCRC32>" if crc else ""
        parts.append(f"""<LeadData><LeadByteCountTotal>{len(content)}</LeadByteCountTotal><LeadTimeOffset>0</LeadTimeOffset>
<LeadSampleCountTotal>{len(values)}</LeadSampleCountTotal><LeadAmplitudeUnitsPerBit>{step}</LeadAmplitudeUnitsPerBit>
<LeadAmplitudeUnits>MICROVOLTS</LeadAmplitudeUnits><LeadID>{name}</LeadID><LeadOffsetFirstSample>0</LeadOffsetFirstSample>
<FirstSampleBaseline>0</FirstSampleBaseline><LeadSampleSize>2</LeadSampleSize><LeadOff>FALSE</LeadOff>{told}
<WaveFormData>{text}</WaveFormData></LeadData>""")
    return f"""<Waveform><WaveformType>{kind}</WaveformType><NumberofLeads>{len(leads)}</NumberofLeads>
<SampleBase>{fs}</SampleBase><SampleExponent>0</SampleExponent>{"".join(parts)}</Waveform>"""


AECG_PATIENT = """<id root="1.2.3" extension="MRN4711"/><subjectDemographicPerson><name>Canary Zaphod</name>
<administrativeGenderCode code="F"/><birthTime value="19380325"/></subjectDemographicPerson>"""


def aecg(
    *sets: Leads,
    starts_s: Sequence[float] = (0.0,),
    fs: int = 250,
    step: str = "5",
    origin: str = "0",
    unit: str = "uV",
    absolute: bool = True,
    patient: str = AECG_PATIENT,
    extra: str = "",
) -> bytes:
    """Return an annotated ECG: each of ``sets`` a sequence set that starts so many seconds after the first."""
    parts = []
    for leads, start in zip(sets, starts_s, strict=True):
        head = f"199603251118{start:06.3f}" if absolute else f"{start:g}"
        code = "TIME_ABSOLUTE" if absolute else "TIME_RELATIVE"
        grid = f'<head value="{head}"/><increment value="{1 / fs}" unit="s"/>'
        time = f'<code code="{code}"/><value xsi:type="GLIST_TS">{grid}</value>'
        digits = [
            f'<code code="MDC_ECG_LEAD_{name.upper()}"/><value xsi:type="SLIST_PQ"><origin value="{origin}" unit="{unit}"/>'
            f'<scale value="{step}" unit="{unit}"/><digits> {" ".join(map(str, values.tolist()))}\n </digits></value>'
            for name, values in leads.items()
        ]
        sequences = "".join(f"<component><sequence>{text}</sequence></component>" for text in (time, *digits))
        parts.append(f"<component><sequenceSet>{sequences}</sequenceSet></component>")
    derived = parts[0].replace("<digits> ", "<digits>9 9 9 ")
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<AnnotatedECG xmlns="urn:hl7-org:v3" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
<componentOf><timepointEvent><componentOf><subjectAssignment><subject><trialSubject>{patient}</trialSubject></subject>
</subjectAssignment></componentOf></timepointEvent></componentOf>
<component><series><code code="RHYTHM"/><effectiveTime><low value="19960325111800"/></effectiveTime>
{"".join(parts)}
<derivation><derivedSeries><code code="REPRESENTATIVE_BEAT"/>{derived}</derivedSeries></derivation>
</series></component>{extra}
</AnnotatedECG>
""".encode()


def sierra(
    leads: Leads,
    fs: int = 250,
    *,
    version: str = "1.04",
    step: str = "5",
    is_compressed: bool = True,
    age: str = "<years>58</years>",
) -> bytes:
    """Return Philips Sierra XML: 1.03 names no leads, 1.04 is UTF-16; leads are XLI-coded or plain."""
    residues = _residues(leads) if is_compressed and set(TWELVE) <= set(leads) else dict(leads)
    content = b"".join(map(_xli if is_compressed else _plain, residues.values()))
    text = base64.encodebytes(content).decode()
    n = len(next(iter(leads.values())))
    common = f'dataencoding="Base64" durationperchannel="{round(1000 * n / fs)}"'
    told = {
        "1.03": f'compressflag="{is_compressed}" {"compressmethod=" + chr(34) + "XLI" + chr(34) if is_compressed else ""}',
        "1.04": f'{"compression=" + chr(34) + "XLI" + chr(34) if is_compressed else ""} numberofleads="{len(leads)}"'
        f' leadlabels="{" ".join(leads)}" samplespersecond="{fs}" resolution="{step}"',
    }[version]
    name = {"1.03": "signalresolution", "1.04": "resolution"}[version]
    encoding = {"1.03": "UTF-8", "1.04": "utf-16"}[version]
    return f"""<?xml version="1.0" encoding="{encoding}"?>
<restingecgdata xmlns="http://www3.medical.philips.com">
<documentinfo><documenttype>SierraECG</documenttype><documentversion>{version}</documentversion></documentinfo>
<dataacquisition date="1996-03-25" time="11:18:00"><signalcharacteristics><samplingrate>{fs}</samplingrate>
<{name}>{step}</{name}><acquisitiontype>STD-12</acquisitiontype><bitspersample>16</bitspersample>
<numberchannelsallocated>{len(leads)}</numberchannelsallocated></signalcharacteristics></dataacquisition>
<patient><generalpatientdata><patientid>MRN4711</patientid><name><lastname>Canary</lastname></name>
<age>{age}</age><sex>Female</sex></generalpatientdata></patient>
<waveforms><parsedwaveforms {common} {told}>{text}</parsedwaveforms>
<repbeats><repbeat leadname="I"><waveform duration="1200">AAAA</waveform></repbeat></repbeats></waveforms>
</restingecgdata>
""".encode(encoding)


def _plain(values: Samples) -> bytes:
    return values.astype("<i2").tobytes()


def _residues(leads: Leads) -> Leads:
    one, two, three = leads["I"], leads["II"], leads["III"]
    told = {
        "III": two - one - three,
        "aVR": np.floor(-1 * np.floor((one + two) / 2)).astype(np.int64) - leads["aVR"],
        "aVL": np.floor((one - three) / 2).astype(np.int64) - leads["aVL"],
        "aVF": np.floor((two + three) / 2).astype(np.int64) - leads["aVF"],
    }
    return {name: told.get(name, values) for name, values in leads.items()}


def _xli(values: Samples) -> bytes:
    """Return a lead's head and code."""
    curve = -(values[2:] - 2 * values[1:-1] + values[:-2])
    stored = np.concatenate([values[:2], curve[1:] + 64, [64]]).astype(">i2").view(np.uint8).reshape(-1, 2)
    code = lzw(stored.T.tobytes())
    return len(code).to_bytes(4, "little") + b"\0\0" + int(curve[0]).to_bytes(2, "little", signed=True) + code


def lzw(content: bytes) -> bytes:
    """Return LZW codes of 10 bits, zeros up to a byte at the end."""
    known = {bytes([value]): value for value in range(256)}
    codes, word = [], b""
    for value in content:
        if (longer := word + bytes([value])) in known:
            word = longer
            continue
        codes.append(known[word])
        if len(known) < 1023:
            known[longer] = len(known)
        word = bytes([value])
    bits = "".join(f"{code:010b}" for code in [*codes, known[word]])
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")
