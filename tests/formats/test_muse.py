"""GE MUSE XML: eight stored leads and the four that follow from them, CRCs, what is refused and what is left out."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from ecgbatch.formats.header import UnreadableRecord, patient_of
from ecgbatch.formats.inspection import inspect_record
from ecgbatch.formats.records import in_millivolts, read_record
from ecgbatch.terms import LEAD_FLAGS
from tests.formats.device_files import TWELVE, ecg, muse

NAME = "r.xml"


def put(folder: Path, content: bytes) -> Path:
    (folder / NAME).write_bytes(content)
    return folder


def test_eight_stored_leads_give_twelve_the_four_exact_to_half_a_step(tmp_path: Path) -> None:
    truth = ecg()
    record = read_record(put(tmp_path, muse(truth, median=ecg(n=300))), NAME)
    millivolts = dict(zip(record["lead"].values.tolist(), in_millivolts(record).values, strict=True))
    assert tuple(millivolts) == TWELVE
    assert (record.attrs["sampling_frequency_hz"], record.attrs["n_samples"]) == (250, 2500)
    for lead, values in truth.items():
        np.testing.assert_allclose(millivolts[lead], values * 0.005, atol=1e-6)
    one, two = 0.005 * truth["I"], 0.005 * truth["II"]
    for lead, values in {"III": two - one, "aVR": -(one + two) / 2, "aVL": one - two / 2, "aVF": two - one / 2}.items():
        np.testing.assert_allclose(millivolts[lead], values, atol=1e-6)
    assert record.attrs["warnings"] == ["LEADS_DERIVED"]


def test_twelve_stored_leads_are_taken_as_they_are(tmp_path: Path) -> None:
    truth = {name.upper(): values for name, values in ecg(TWELVE).items()}
    record = read_record(put(tmp_path, muse(truth)), NAME)
    assert tuple(record["lead"].values) == TWELVE
    for lead, values in zip(record["lead"].values.tolist(), record["signal"].values, strict=True):
        np.testing.assert_array_equal(values, truth[lead.upper()])
    assert record.attrs["warnings"] == []
    assert not (record["lead_flags"].values & LEAD_FLAGS["unverified"]).any()


def test_age_sex_patient_and_day_are_kept_and_no_name(tmp_path: Path) -> None:
    header = inspect_record(put(tmp_path, muse(ecg())), NAME).header
    assert header is not None
    assert header.comments == ("Age: 58", "Sex: F")
    assert header.patient == patient_of("MRN4711")
    assert header.recording_day == 728743
    assert "Canary" not in repr(header)
    born = "<DateofBirth>03-26-1938</DateofBirth>"
    told = inspect_record(put(tmp_path, muse(ecg(), patient=born)), NAME).header
    assert told is not None
    assert told.comments == ("Age: 57",)
    assert told.patient == ""


def test_samples_without_crc_are_unverified(tmp_path: Path) -> None:
    record = read_record(put(tmp_path, muse(ecg(), crc=False)), NAME)
    assert (record["lead_flags"].values & LEAD_FLAGS["unverified"]).all()
    assert record.attrs["warnings"] == ["CHECKSUM_UNVERIFIED", "LEADS_DERIVED"]
    zero = re.sub(rb"CRC32>\d+<", b"CRC32>0<", muse(ecg()))
    assert "CHECKSUM_UNVERIFIED" in read_record(put(tmp_path, zero), NAME).attrs["warnings"]


GOOD = muse(ecg(n=500))
REFUSED: dict[str, tuple[bytes, str]] = {
    "one sample altered": (
        muse({"I": ecg(n=500)["I"] + 1}).replace(b"<LeadDataCRC32>", b"<LeadDataCRC32>1"),
        "CHECKSUM_MISMATCH",
    ),
    "median alone": (muse(ecg(n=300), kind="Median"), "NSIG_ZERO"),
    "no waveform": (b"<RestingECG></RestingECG>", "NSIG_ZERO"),
    "no lead": (muse({}), "NSIG_ZERO"),
    "fewer samples": (GOOD.replace(b"Total>500<", b"Total>501<"), "DAT_TRUNCATED"),
    "more samples": (GOOD.replace(b"Total>500<", b"Total>499<"), "DAT_TOO_LONG"),
    "no base64": (GOOD.replace(b"<WaveFormData>", b"<WaveFormData>*"), "DECODER_FAILED"),
    "rate": (GOOD.replace(b"<SampleBase>250<", b"<SampleBase>0<"), "FS_INVALID"),
    "rate no number": (GOOD.replace(b"<SampleBase>250<", b"<SampleBase>fast<"), "FS_INVALID"),
    "gain": (GOOD.replace(b"UnitsPerBit>5<", b"UnitsPerBit>0<"), "GAIN_INVALID"),
    "two of a name": (GOOD.replace(b"<LeadID>II<", b"<LeadID>I<"), "LEADS_DUPLICATE"),
    "unnamed": (GOOD.replace(b"<LeadID>II<", b"<LeadID><"), "LEADS_UNNAMED"),
    "shifted": (GOOD.replace(b"TimeOffset>0<", b"TimeOffset>9<", 1), "FMT_UNSUPPORTED"),
    "cut": (GOOD[:2000], "HEADER_TRUNCATED"),
    "entities": (
        GOOD.replace(b'"restecg.dtd"', b'"restecg.dtd" [<!ENTITY a "b">]'),
        "XML_UNSAFE",
    ),
    "entity used": (GOOD.replace(b"MRN4711", b"&a;"), "XML_UNSAFE"),
    "not closed": (GOOD.replace(b"</PatientID>", b""), "HEADER_SYNTAX"),
    "derived beyond 16 bits": (muse({name: values * 0 + 30000 for name, values in ecg(n=500).items()}), "RANGE"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_whole_muse_file_is_refused_with_its_reason(tmp_path: Path, what: str) -> None:
    content, code = REFUSED[what]
    found = inspect_record(put(tmp_path, content), NAME)
    assert (found.reason, found.leads) == (code, ()), found.status_detail
    assert "Canary" not in found.status_detail
    with pytest.raises(UnreadableRecord) as caught:
        read_record(tmp_path, NAME)
    assert caught.value.code == code


def test_leads_of_another_length_are_left_out_and_said(tmp_path: Path) -> None:
    truth = dict(ecg(n=500))
    truth["V6"] = truth["V6"][:100]
    record = read_record(put(tmp_path, muse(truth)), NAME)
    assert "V6" not in record["lead"].values
    assert "GROUPS_LEFT_OUT" in record.attrs["warnings"]


def test_missing_samples_of_i_and_ii_are_missing_in_what_follows(tmp_path: Path) -> None:
    truth = dict(ecg(n=500))
    truth["II"] = np.where(np.arange(500) == 7, -32768, truth["II"])
    record = read_record(put(tmp_path, muse(truth)), NAME)
    gaps = dict(zip(record["lead"].values.tolist(), record["signal"].values, strict=True))
    assert all(gaps[lead][7] == -32768 for lead in ("II", "III", "aVR", "aVL", "aVF"))
    assert gaps["I"][7] != -32768
    assert "GAPS" in record.attrs["warnings"]


def test_real_muse_file_has_twelve_leads_at_its_rate_verified(test_data: Path) -> None:
    record = read_record(test_data / "formats/ge-muse-xml", "MUSE_20080710_165457_96000.xml")
    assert tuple(record["lead"].values) == TWELVE
    assert (record.attrs["sampling_frequency_hz"], record.attrs["n_samples"]) == (250, 2500)
    assert record.attrs["warnings"] == ["LEADS_DERIVED"]
    millivolts = in_millivolts(record).values
    assert 0.5 < np.ptp(millivolts[1]) < 3  # II: QRS of an adult's ECG
