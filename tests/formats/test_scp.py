"""SCP-ECG: every way in which samples may be coded, CRCs, leads, and what is refused."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecgbatch.archive.finding import find_records
from ecgbatch.formats.header import UnreadableRecord, patient_of
from ecgbatch.formats.inspection import inspect_record
from ecgbatch.formats.records import in_millivolts, read_record
from ecgbatch.terms import LEAD_FLAGS, MISSING_SAMPLE
from tests.formats.device_files import EIGHT, TWELVE, ecg
from tests.formats.scp_files import DEFAULT, OWN, PATIENT, assembled, crc, repaired, scp

NAME = "r.scp"


def put(folder: Path, content: bytes) -> Path:
    (folder / NAME).write_bytes(content)
    return folder


def rows(folder: Path) -> dict[str, np.ndarray]:
    record = read_record(folder, NAME)
    return dict(zip(record["lead"].values.tolist(), record["signal"].values.astype(np.int64), strict=True))


@pytest.mark.parametrize("differences", [0, 1, 2])
@pytest.mark.parametrize("tables", [None, (DEFAULT,), OWN], ids=["plain", "default", "own"])
@pytest.mark.parametrize("version", [13, 20, 30])
def test_samples_are_as_written_whatever_their_code(tmp_path: Path, differences: int, tables: Any, version: int) -> None:
    truth = ecg(TWELVE, n=1001)
    truth["V1"][100], truth["V1"][101], truth["V2"][7] = 5_000, -5_000, 8_000
    put(tmp_path, scp(truth, differences=differences, tables=tables, version=version))
    for lead, values in rows(tmp_path).items():
        np.testing.assert_array_equal(values, truth[lead])


def test_eight_leads_give_twelve_verified_by_the_files_crc(tmp_path: Path) -> None:
    record = read_record(put(tmp_path, scp(ecg(EIGHT))), NAME)
    assert tuple(record["lead"].values) == TWELVE
    assert record.attrs["warnings"] == ["LEADS_DERIVED"]
    assert (record["adc_gain"].values[:2] == 200).all()


BEATS = [(0, first + 60, first + 90, first + 140) for first in (0, 212, 425, 637, 850)]


@pytest.mark.parametrize("differences", [1, 2])
def test_reference_beats_are_added_back_where_they_were_subtracted(tmp_path: Path, differences: int) -> None:
    truth = ecg(TWELVE, n=1000)
    reference = {lead: values[59:139].copy() for lead, values in truth.items()}
    beats = [*BEATS[:3], (1, *BEATS[3][1:]), (0, 950, 995, 1040)]
    put(tmp_path, scp(truth, differences=differences, reference=reference, beats=beats, fiducial=31))
    for lead, values in rows(tmp_path).items():
        np.testing.assert_array_equal(values, truth[lead])


@pytest.mark.parametrize("is_subtracted", [False, True])
def test_decimated_samples_are_exact_in_protected_areas_and_close_between(tmp_path: Path, is_subtracted: bool) -> None:
    truth = ecg(TWELVE, n=1000)
    smooth = {lead: np.round(np.convolve(values, np.ones(9) / 9, "same")).astype(np.int64) for lead, values in truth.items()}
    areas = [(first + 13, last - 15) for _, first, _, last in BEATS]
    inside = np.zeros(1000, bool)
    for first, last in areas:
        inside[first - 1 : last] = True
    truth = {lead: np.where(inside, truth[lead], smooth[lead]) for lead in TWELVE}
    reference = {lead: values[59:139].copy() for lead, values in truth.items()} if is_subtracted else None
    put(tmp_path, scp(truth, reference=reference, beats=BEATS, areas=areas, fiducial=31, decimation=4))
    record = read_record(tmp_path, NAME)
    assert (record.attrs["sampling_frequency_hz"], record.attrs["n_samples"]) == (250, 1000)
    for lead, values in rows(tmp_path).items():
        np.testing.assert_array_equal(values[inside], truth[lead][inside])
        assert np.abs(values - truth[lead])[~inside].mean() < 2
        assert np.abs(values - truth[lead])[~inside].max() < 20  # where smoothed samples meet those that are not


def test_leads_of_other_times_lie_on_one_grid(tmp_path: Path) -> None:
    truth = {lead: values[:300] for lead, values in ecg(["I", "II"], n=300).items()}
    found = rows(put(tmp_path, scp(truth, starts={"I": 1, "II": 301})))
    np.testing.assert_array_equal(found["I"][:300], truth["I"])
    np.testing.assert_array_equal(found["II"][300:], truth["II"])
    assert (found["I"][300:] == MISSING_SAMPLE).all()
    assert (found["II"][:300] == MISSING_SAMPLE).all()


def test_age_sex_patient_and_day_are_kept_and_no_name(tmp_path: Path) -> None:
    header = inspect_record(put(tmp_path, scp(ecg())), NAME).header
    assert header is not None
    assert header.comments == ("Age: 58", "Sex: F")
    assert header.patient == patient_of("MRN4711")
    assert header.recording_day == 728743
    assert "Canary" not in repr(header)
    aged = inspect_record(put(tmp_path, scp(ecg(), patient={**PATIENT, 4: struct.pack("<HB", 30, 2), 8: b"\1"})), NAME).header
    assert aged is not None
    assert aged.comments == ("Age: 2", "Sex: M")
    none = inspect_record(put(tmp_path, scp(ecg(), patient={})), NAME).header
    assert none is not None
    assert (none.comments, none.patient, none.recording_day) == ((), "", -1)


GOOD = scp(ecg(n=300))
SECTION = {number: struct.unpack_from("<II", GOOD, 24 + 10 * number) for number in range(7)}
"""Length and place (from 1) of each section."""


def altered(number: int, at: int, field: bytes, *, repair: bool = True) -> bytes:
    """Return the good file with bytes of a section (after its header of 16) replaced."""
    first = SECTION[number][1] - 1 + 16 + at
    content = GOOD[:first] + field + GOOD[first + len(field) :]
    return repaired(content) if repair else content


def parts(**changed: bytes) -> bytes:
    sections = {number: GOOD[at - 1 + 16 : at - 1 + length] for number, (length, at) in SECTION.items() if number and length}
    sections |= {int(name[1:]): content for name, content in changed.items()}
    return assembled({number: content for number, content in sections.items() if content})


REFUSED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "HEADER_TRUNCATED"),
    "cut": (GOOD[:-100], "DAT_TRUNCATED"),
    "another format": (b"\0" * 1000, "HEADER_SYNTAX"),
    "a sample altered": (altered(6, 100, b"\x55", repair=False), "CHECKSUM_MISMATCH"),
    "no leads": (parts(_3=b"\0\4"), "NSIG_ZERO"),
    "no section 3": (parts(_3=b""), "NSIG_ZERO"),
    "no section 6": (parts(_6=b""), "NSIG_ZERO"),
    "a section cut": (parts(_3=b"\x08\x44\1"), "HEADER_TRUNCATED"),
    "no amplitude": (altered(6, 0, b"\0\0"), "GAIN_INVALID"),
    "no interval": (altered(6, 2, b"\0\0"), "FS_INVALID"),
    "a rate of none": (altered(6, 2, b"\1\0"), "FS_INVALID"),
    "differences of differences": (altered(6, 4, b"\3"), "FMT_UNSUPPORTED"),
    "decimated, not said where": (altered(6, 5, b"\1"), "DECODER_FAILED"),
    "subtracted, not said where": (altered(3, 1, b"\x45"), "DECODER_FAILED"),
    "more samples": (altered(3, 6, struct.pack("<I", 3000)), "DAT_TRUNCATED"),
    "samples without end": (altered(3, 6, b"\xff\xff\xff\xff"), "TOO_LONG"),
    "fewer samples": (altered(3, 6, struct.pack("<I", 100)), "DAT_TOO_LONG"),
    "last before first": (altered(3, 2, struct.pack("<I", 5000)), "LENGTH_INVALID"),
    "two leads of a name": (altered(3, 2 + 9 + 8, b"\1"), "LEADS_DUPLICATE"),
    "tables without end": (altered(2, 0, b"\xff\xff"), "HEADER_LIMIT"),
    "a table that is not there": (altered(2, 0, b"\1\0"), "HEADER_TRUNCATED"),
    "codes of no table": (parts(_2=struct.pack("<HHBBBhI", 1, 1, 8, 8, 1, 0, 0xFF)), "DECODER_FAILED"),
    "a change to no table": (parts(_2=struct.pack("<HHBBBhI", 1, 1, 1, 1, 0, 9, 0)), "HEADER_SYNTAX"),
    "a code of no bits": (parts(_2=struct.pack("<HHBBBhI", 1, 1, 0, 0, 1, 0, 0)), "HEADER_SYNTAX"),
    "tables that only change": (parts(_2=struct.pack("<HHBBBhIBBBhI", 1, 2, 1, 1, 0, 1, 0, 1, 1, 0, 1, 1)), "DAT_TRUNCATED"),
    "beyond 16 bits": (scp({"I": np.full(300, 20_000).cumsum() % 50_000}, differences=1), "RANGE"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_whole_scp_file_is_refused_with_its_reason(tmp_path: Path, what: str) -> None:
    content, code = REFUSED[what]
    found = inspect_record(put(tmp_path, content), NAME)
    assert found.reason == code, found.status_detail
    assert "Canary" not in found.status_detail
    with pytest.raises(UnreadableRecord) as caught:
        read_record(tmp_path, NAME)
    assert caught.value.code == code


def test_crcs_of_sections_count_where_the_files_is_wrong_and_none_is_said(tmp_path: Path) -> None:
    record = read_record(put(tmp_path, b"\0\0" + GOOD[2:]), NAME)
    assert not (record["lead_flags"].values & LEAD_FLAGS["unverified"]).any()
    content = bytearray(b"\0\0" + GOOD[2:])
    for _, at in SECTION.values():
        content[at - 1 : at + 1] = b"\0\0" if at else content[at - 1 : at + 1]
    record = read_record(put(tmp_path, bytes(content)), NAME)
    assert (record["lead_flags"].values & LEAD_FLAGS["unverified"]).all()
    assert "CHECKSUM_UNVERIFIED" in record.attrs["warnings"]


def test_files_called_ecg_are_records_where_they_are_scp(tmp_path: Path) -> None:
    (tmp_path / "a.ecg").write_bytes(GOOD)
    (tmp_path / "b.ecg").write_bytes(b"ISHNE1.0" + bytes(1000))
    (tmp_path / "c.scp").write_bytes(b"")
    assert find_records(tmp_path) == ["a.ecg", "c.scp"]
    assert inspect_record(tmp_path, "a.ecg").reason == ""


def test_crc_of_the_writer_is_that_of_the_real_file(test_data: Path) -> None:
    content = (test_data / "formats/scp-ecg/Example.scp").read_bytes()
    assert crc(content[2:]) == int.from_bytes(content[:2], "little")


def test_real_scp_file_holds_the_ecg_that_the_fdas_aecg_example_holds(test_data: Path) -> None:
    ours = read_record(test_data / "formats/scp-ecg", "Example.scp")
    same = read_record(test_data / "formats/hl7-aecg", "subject1_0.xml")
    assert tuple(ours["lead"].values) == tuple(same["lead"].values) == TWELVE
    assert ours.attrs["sampling_frequency_hz"] == same.attrs["sampling_frequency_hz"] == 500
    np.testing.assert_array_equal(ours["signal"].values, same["signal"].values)
    np.testing.assert_array_equal(in_millivolts(ours).values, in_millivolts(same).values)
    assert ours.attrs["warnings"] == []
