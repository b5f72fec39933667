"""Philips Sierra XML: XLI code, residues of the limb leads, both versions, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ecgbatch.formats.device_kernels import lzw_10
from ecgbatch.formats.header import UnreadableRecord, patient_of
from ecgbatch.formats.inspection import inspect_record
from ecgbatch.formats.records import in_millivolts, read_record
from tests.formats.device_files import EIGHT, TWELVE, ecg, lzw, sierra

NAME = "r.xml"


def put(folder: Path, content: bytes) -> Path:
    (folder / NAME).write_bytes(content)
    return folder


@pytest.mark.parametrize("version", ["1.03", "1.04"])
@pytest.mark.parametrize("is_compressed", [True, False])
def test_twelve_leads_are_as_written_in_both_versions_coded_or_plain(tmp_path: Path, version: str, is_compressed: bool) -> None:
    truth = ecg(TWELVE, n=5000, fs=500)
    record = read_record(put(tmp_path, sierra(truth, 500, version=version, is_compressed=is_compressed)), NAME)
    assert tuple(record["lead"].values) == TWELVE
    assert (record.attrs["sampling_frequency_hz"], record.attrs["n_samples"]) == (500, 5000)
    for lead, values in zip(record["lead"].values.tolist(), record["signal"].values, strict=True):
        np.testing.assert_array_equal(values, truth[lead])
    assert (record["adc_gain"].values == 200).all()


def test_eight_named_leads_are_no_residues(tmp_path: Path) -> None:
    truth = ecg(EIGHT)
    record = read_record(put(tmp_path, sierra(truth)), NAME)
    assert record.attrs["warnings"] == ["CHECKSUM_UNVERIFIED", "LEADS_DERIVED"]
    np.testing.assert_array_equal(record["signal"].values[2], truth["II"] - truth["I"])


@pytest.mark.parametrize("seed", range(20))
def test_lzw_gives_back_any_bytes_long_and_repeated_ones_too(seed: int) -> None:
    rng = np.random.default_rng(seed)
    content = rng.integers(0, rng.choice([2, 5, 256]), rng.integers(1, 20_000), dtype=np.uint8)
    content[: content.size // 3] = 7
    out = np.zeros(content.size + 4, np.uint8)
    n = lzw_10(np.frombuffer(lzw(content.tobytes()), np.uint8), out)
    assert content.size <= n <= content.size + 1
    np.testing.assert_array_equal(out[: content.size], content)


def test_channels_that_are_allocated_and_not_valid_may_be_left_out(tmp_path: Path) -> None:
    valid = "allocated>16</numberchannelsallocated><numberchannelsvalid>12</numberchannelsvalid>"
    record = read_record(put(tmp_path, GOOD.replace("allocated>12</numberchannelsallocated>", valid).encode()), NAME)
    assert tuple(record["lead"].values) == TWELVE


def test_a_file_saved_as_utf_8_that_still_says_utf_16_is_read(tmp_path: Path) -> None:
    content = sierra(ecg(TWELVE, n=500)).decode("utf-16")
    for text in (content, "\ufeff" + content, "\n" + content):
        assert inspect_record(put(tmp_path, text.encode()), NAME).reason == ""


def test_age_sex_patient_and_day_are_kept_and_no_name(tmp_path: Path) -> None:
    header = inspect_record(put(tmp_path, sierra(ecg())), NAME).header
    assert header is not None
    assert header.comments == ("Age: 58", "Sex: F")
    assert header.patient == patient_of("MRN4711")
    assert header.recording_day == 728743
    assert "Canary" not in repr(header)
    born = inspect_record(put(tmp_path, sierra(ecg(), age="<dateofbirth>1938-03-26</dateofbirth>")), NAME).header
    assert born is not None
    assert born.comments == ("Age: 57", "Sex: F")


GOOD = sierra(ecg(TWELVE, n=500), version="1.03").decode()
REFUSED: dict[str, tuple[str, str]] = {
    "another version": (GOOD.replace("1.03", "2.00"), "FMT_UNSUPPORTED"),
    "no waveforms": (GOOD[: GOOD.index("<waveforms>")] + "</restingecgdata>", "NSIG_ZERO"),
    "another compression": (GOOD.replace("XLI", "XLX"), "FMT_UNSUPPORTED"),
    "another code": (GOOD.replace('"Base64"', '"Hex"'), "FMT_UNSUPPORTED"),
    "longer": (GOOD.replace('"2000"', '"2004"'), "DAT_TRUNCATED"),
    "shorter": (GOOD.replace('"2000"', '"1992"'), "DAT_TOO_LONG"),
    "without end": (GOOD.replace('"2000"', '"99999999999"'), "LENGTH_INVALID"),
    "no length": (GOOD.replace('"2000"', '"x"'), "LENGTH_INVALID"),
    "rate": (GOOD.replace("<samplingrate>250<", "<samplingrate>0<"), "LENGTH_INVALID"),
    "gain": (GOOD.replace("<signalresolution>5<", "<signalresolution>0<"), "GAIN_INVALID"),
    "more leads": (GOOD.replace("allocated>12<", "allocated>13<"), "DAT_TRUNCATED"),
    "leads of another kind": (GOOD.replace("STD-12", "EASI"), "LEADS_UNNAMED"),
    "no base64": (GOOD.replace("</parsedwaveforms>", "*</parsedwaveforms>"), "DECODER_FAILED"),
    "cut": (GOOD[: len(GOOD) // 2], "HEADER_TRUNCATED"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_whole_sierra_file_is_refused_with_its_reason(tmp_path: Path, what: str) -> None:
    content, code = REFUSED[what]
    found = inspect_record(put(tmp_path, content.encode()), NAME)
    assert found.reason == code, found.status_detail
    assert "Canary" not in found.status_detail
    with pytest.raises(UnreadableRecord) as caught:
        read_record(tmp_path, NAME)
    assert caught.value.code == code


@pytest.mark.parametrize("name", ["129DYPRG.XML", "3191723_ZZDEMOPTONLY_1-04_orig.xml"])
def test_real_sierra_files_have_twelve_leads_that_obey_einthoven(test_data: Path, name: str) -> None:
    record = read_record(test_data / "formats/philips-sierra", name)
    assert tuple(record["lead"].values) == TWELVE
    assert (record.attrs["sampling_frequency_hz"], record.attrs["n_samples"]) == (500, 5500)
    rows = dict(zip(record["lead"].values.tolist(), record["signal"].values[:, :5000].astype(int), strict=True))
    one, two, three = rows["I"], rows["II"], rows["III"]
    assert np.abs(two - one - three).max() <= 2
    for lead, values in {"aVR": -(one + two) / 2, "aVL": (one - three) / 2, "aVF": (two + three) / 2}.items():
        assert np.abs(rows[lead] - values).max() <= 2, lead
    assert (record["signal"].values[:, 5375:5425] == 200).all()  # the device's pulse of 1 mV, in the second after the ECG
    assert 0.5 < np.ptp(in_millivolts(record).values[1, :5000]) < 4
