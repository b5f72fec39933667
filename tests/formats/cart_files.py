"""What carts of each format say of an ECG, put into files that ``device_files`` and ``scp_files`` write."""

from __future__ import annotations

import struct

from tests.formats.device_files import Leads, aecg, muse, sierra
from tests.formats.scp_files import assembled, scp


def with_cart(content: bytes, told: str, before: str = "</RestingECG>", encoding: str = "latin-1") -> bytes:
    """Return an XML file with elements put in before a tag, the last of its name."""
    head, tag, rest = content.decode(encoding).rpartition(before)
    return f"{head}{told}{tag}{rest}".encode(encoding)


def annotation(code: str, value: str, inner: str = "") -> str:
    """Return an annotation of HL7 aECG."""
    return f'<component><annotation><code code="{code}"/><value {value}/>{inner}</annotation></component>'


NUMBERS_OF_MUSE = """<VentricularRate>69</VentricularRate><PRInterval>180</PRInterval><QRSDuration>56</QRSDuration>
<QTInterval>388</QTInterval><QTCorrected>416</QTCorrected><QTcFrederica>406</QTcFrederica><PAxis>76</PAxis><RAxis>-64</RAxis>
<TAxis>270</TAxis>"""


def scp_parts(*, rate: int = 69, formula: int = 1, state: int = 0, text: bytes = b"Sinus rhythm\0") -> dict[int, bytes]:
    """Return the sections 7, 8 and 11 of an SCP-ECG file."""
    block = struct.pack("<HHHHHhhh", 100, 202, 248, 368, 668, 44, -61, 999)
    measured = struct.pack("<BBHH", 1, 1, 870, 29999) + block + bytes(10) + struct.pack("<H", 2) + b"\0\0"
    measured += struct.pack("<HHHBH", rate, 29999, 443, formula, 0)
    when = bytes([state]) + bytes(7)
    words = when + b"\2" + b"".join(struct.pack("<BH", n, len(one)) + one for n, one in enumerate((text, b"of Zaphod\0"), 1))
    coded = when + b"\1" + struct.pack("<BH", 1, 11) + b"\1NORM\0PVC2\0"
    return {7: measured, 8: words, 11: coded}


def sections_of(content: bytes) -> dict[int, bytes]:
    """Return the sections of an SCP-ECG file but for section 0, by number."""
    at, parts = 6 + struct.unpack_from("<I", content, 10)[0], {}
    while at < len(content):
        number, length = struct.unpack_from("<HI", content, at + 2)
        parts[number] = content[at + 16 : at + length]
        at += length
    return parts


def muse_with_cart(leads: Leads) -> bytes:
    """Return MUSE XML with measurements and a diagnosis."""
    statement = "<DiagnosisStatement><StmtFlag>ENDSLINE</StmtFlag><StmtText>Sinus rhythm</StmtText></DiagnosisStatement>"
    told = f"<RestingECGMeasurements>{NUMBERS_OF_MUSE}</RestingECGMeasurements><OriginalDiagnosis>{statement}</OriginalDiagnosis>"
    return with_cart(muse(leads), told)


def sierra_with_cart(leads: Leads) -> bytes:
    """Return Sierra XML 1.03 with an interpretation."""
    told = """<interpretations><interpretation><interpretationmeasurements><heartrate>84</heartrate><meanprint>144</meanprint>
<qrsfrontaxis>-61</qrsfrontaxis></interpretationmeasurements><severity code="AB">- ABNORMAL ECG -</severity>
<statement><statementcode>SR</statementcode><leftstatement>SINUS RHYTHM</leftstatement></statement></interpretation>
</interpretations>"""
    return with_cart(sierra(leads, version="1.03"), told, "<waveforms>", "utf-8")


def aecg_with_cart(leads: Leads) -> bytes:
    """Return HL7 aECG with annotations of the whole series and of a beat."""
    numbers = annotation("MDC_ECG_TIME_PD_PR", 'value="148" unit="ms"')
    numbers += annotation("MDC_ECG_ANGLE_QRS_FRONT", 'value="9" unit="deg"')
    rhythm = annotation("MDC_ECG_RHY", 'code="MDC_ECG_RHY_SINUS_RHY" codeSystem="2.16.840.1.113883.6.24"')
    beat = annotation("MDC_ECG_BEAT", "", annotation("MDC_ECG_TIME_PD_QT", 'value="400" unit="ms"'))
    told = f"<subjectOf><annotationSet>{numbers}{rhythm}{beat}</annotationSet></subjectOf>"
    return with_cart(aecg(leads), told, "</series>", "utf-8")


def scp_with_cart(leads: Leads) -> bytes:
    """Return SCP-ECG with the sections 7, 8 and 11."""
    return assembled(sections_of(scp(leads)) | scp_parts())
