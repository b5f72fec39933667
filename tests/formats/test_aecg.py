"""HL7 annotated ECG: sets on one grid of time, gaps, scales, what is left out and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ecgbatch.formats.header import UnreadableRecord
from ecgbatch.formats.inspection import inspect_record
from ecgbatch.formats.records import in_millivolts, read_record
from ecgbatch.terms import MISSING_SAMPLE
from tests.formats.device_files import TWELVE, aecg, ecg

NAME = "r.xml"


def put(folder: Path, content: bytes) -> Path:
    (folder / NAME).write_bytes(content)
    return folder


def rows(folder: Path) -> dict[str, np.ndarray]:
    record = read_record(folder, NAME)
    return dict(zip(record["lead"].values.tolist(), record["signal"].values, strict=True))


def test_samples_scale_and_origin_are_those_of_the_file_and_the_median_is_left_out(tmp_path: Path) -> None:
    truth = ecg(TWELVE)
    record = read_record(put(tmp_path, aecg(truth, step="0.0025", origin="0.01", unit="mV")), NAME)
    assert tuple(record["lead"].values) == TWELVE
    for lead, values in zip(record["lead"].values.tolist(), in_millivolts(record).values, strict=True):
        np.testing.assert_allclose(values, 0.01 + 0.0025 * truth[lead], atol=1e-6)
    assert record.attrs["sampling_frequency_hz"] == 250
    assert record.attrs["warnings"] == ["CHECKSUM_UNVERIFIED"]


def test_leads_recorded_one_after_the_other_lie_at_their_times(tmp_path: Path) -> None:
    truth = ecg(TWELVE, n=2500)
    groups = [{lead: truth[lead][i * 625 : (i + 1) * 625] for lead in TWELVE[3 * i : 3 * i + 3]} for i in range(4)]
    found = rows(put(tmp_path, aecg(*groups, starts_s=(0, 2.5, 5, 7.5))))
    for i, lead in enumerate(TWELVE):
        first = i // 3 * 625
        np.testing.assert_array_equal(found[lead][first : first + 625], truth[lead][first : first + 625])
        assert (np.delete(found[lead], np.s_[first : first + 625]) == MISSING_SAMPLE).all()


@pytest.mark.parametrize("absolute", [True, False])
def test_an_interruption_is_a_gap_of_its_length(tmp_path: Path, absolute: bool) -> None:
    truth = ecg(TWELVE, n=2000)
    parts = [{lead: values[:750] for lead, values in truth.items()}, {lead: values[1000:] for lead, values in truth.items()}]
    put(tmp_path, aecg(*parts, starts_s=(0.0, 4.0), absolute=absolute))
    for lead, values in rows(tmp_path).items():
        np.testing.assert_array_equal(values, np.where(np.arange(2000) // 250 == 3, MISSING_SAMPLE, truth[lead]))
    assert "GAPS" in read_record(tmp_path, NAME).attrs["warnings"]


def test_digits_that_are_no_number_are_missing(tmp_path: Path) -> None:
    truth = {name: np.array([1, 77777, 3]) for name in TWELVE}
    found = rows(put(tmp_path, aecg(truth).replace(b"77777", b"NaN")))
    assert all(values.tolist() == [1, MISSING_SAMPLE, 3] for values in found.values())


def test_age_sex_patient_and_day_are_kept_and_no_name(tmp_path: Path) -> None:
    header = inspect_record(put(tmp_path, aecg(ecg())), NAME).header
    assert header is not None
    assert header.comments == ("Age: 58", "Sex: F")
    assert header.recording_day == 728743
    assert header.patient.startswith("p-")
    assert "Canary" not in repr(header)
    other = inspect_record(put(tmp_path, aecg(ecg()).replace(b'root="1.2.3"', b'root="1.2.4"')), NAME).header
    assert other is not None
    assert other.patient not in {"", header.patient}  # a number holds within its trial
    told = '<relatedObservation><code code="21612-7"/><value value="61" unit="a"/></relatedObservation>'
    age = f"<controlVariable>{told}</controlVariable>"
    aged = inspect_record(put(tmp_path, aecg(ecg(), extra=age, patient="")), NAME).header
    assert aged is not None
    assert (aged.comments, aged.patient) == (("Age: 61",), "")


def test_sets_of_another_rate_and_further_series_are_left_out_and_said(tmp_path: Path) -> None:
    truth = ecg(TWELVE, n=1000)
    content = aecg(truth, {"V1": truth["V1"][:50]}, starts_s=(0, 5))
    at = content.rindex(b'<increment value="0.004"', 0, content.index(b"<derivation>"))
    other = content[:at] + content[at:].replace(b"0.004", b"0.002", 1)
    record = read_record(put(tmp_path, other), NAME)
    assert (record.attrs["n_samples"], record.attrs["sampling_frequency_hz"]) == (1000, 250)
    assert "GROUPS_LEFT_OUT" in record.attrs["warnings"]


GOOD = aecg(ecg(n=500))
REFUSED: dict[str, tuple[bytes, str]] = {
    "no series": (b"<AnnotatedECG/>", "NSIG_ZERO"),
    "representative beats alone": (GOOD.replace(b'"RHYTHM"', b'"REPRESENTATIVE_BEAT"'), "NSIG_ZERO"),
    "no digits": (aecg({"I": np.zeros(0, np.int64)}), "NSIG_ZERO"),
    "no time": (GOOD.replace(b"TIME_ABSOLUTE", b"TIME_OTHER"), "GAIN_INVALID"),
    "increment": (GOOD.replace(b'"0.004" unit="s"', b'"0" unit="s"'), "FS_INVALID"),
    "increment's unit": (GOOD.replace(b'"0.004" unit="s"', b'"0.004" unit="mm"'), "FS_INVALID"),
    "scale": (GOOD.replace(b'<scale value="5"', b'<scale value="0"'), "GAIN_INVALID"),
    "scale no number": (GOOD.replace(b'<scale value="5"', b'<scale value="nan"'), "GAIN_INVALID"),
    "two units": (GOOD.replace(b'<origin value="0" unit="uV"', b'<origin value="1" unit="mV"'), "BASELINE_INVALID"),
    "letters in digits": (GOOD.replace(b"<digits> ", b"<digits> x "), "DECODER_FAILED"),
    "fractions in digits": (GOOD.replace(b"<digits> ", b"<digits> 0.5 "), "DECODER_FAILED"),
    "beyond 16 bits": (GOOD.replace(b"<digits> ", b"<digits> 99999 "), "RANGE"),
    "a lead twice": (GOOD.replace(b"LEAD_V2", b"LEAD_V1"), "LEADS_DUPLICATE"),
    "one lead longer": (GOOD.replace(b"<digits> ", b"<digits> 1 ", 1), ""),
    "sets that overlap": (aecg(ecg(n=500), ecg(n=500), starts_s=(0, 1)), "SEGMENT_MISMATCH"),
    "a gap of years": (aecg(ecg(n=500), ecg(n=500), starts_s=(0, 5)).replace(b"19960325111805", b"20060325111805"), "TOO_LONG"),
    "a sign alone": (GOOD.replace(b"<digits> ", b"<digits> - "), "DECODER_FAILED"),
    "numbers that touch": (GOOD.replace(b"<digits> ", b"<digits> 1-2 "), "DECODER_FAILED"),
    "a number of many digits": (GOOD.replace(b"<digits> ", b"<digits> 1" + b"0" * 18 + b" "), "DECODER_FAILED"),
    "cut": (GOOD[:5000], "HEADER_TRUNCATED"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_whole_aecg_is_refused_with_its_reason(tmp_path: Path, what: str) -> None:
    content, code = REFUSED[what]
    found = inspect_record(put(tmp_path, content), NAME)
    assert found.reason == code, found.status_detail
    assert "Canary" not in found.status_detail
    if not code:
        assert "GAPS" in read_record(tmp_path, NAME).attrs["warnings"]
        return
    with pytest.raises(UnreadableRecord) as caught:
        read_record(tmp_path, NAME)
    assert caught.value.code == code


@pytest.mark.parametrize(("name", "fs", "n_samples"), [("hl7aecg_example", 100, 1000), ("subject1_0", 500, 5000)])
def test_real_aecg_have_twelve_leads(test_data: Path, name: str, fs: int, n_samples: int) -> None:
    record = read_record(test_data / "formats/hl7-aecg", f"{name}.xml")
    assert tuple(record["lead"].values) == TWELVE
    assert (record.attrs["sampling_frequency_hz"], record.attrs["n_samples"]) == (fs, n_samples)
    one, two, three = in_millivolts(record).values[:3]
    assert 0.5 < np.ptp(two) < 4
    if name == "subject1_0":  # the other's digits were replaced when it was published: its II is not I + III
        assert np.abs(two - one - three).max() < 1e-6
