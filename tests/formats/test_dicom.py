"""DICOM ECGs: the same record as from WFDB, every sample as pydicom reads it, and what cannot be read is refused."""

from __future__ import annotations

import os
import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from blake3 import blake3
from pydicom.dataset import Dataset

from ecgbatch.archive.finding import find_records
from ecgbatch.archive.listing import list_archive
from ecgbatch.formats import dicom
from ecgbatch.formats.dicom import parse_dicom
from ecgbatch.formats.header import REASONS, WARNINGS, UnreadableRecord, patient_of
from ecgbatch.formats.inspection import inspect_record
from ecgbatch.formats.records import in_millivolts, read_record
from ecgbatch.signals.stage import convert_archive
from ecgbatch.terms import LEAD_FLAGS, MISSING_SAMPLE, SEX, STATUS
from storage import open_store
from tests.formats.dicom_files import ecg, encoded, group, waves
from tests.formats.wfdb_files import Lead, Record

LEADS = ("II", "I", "V1")
TRUTH = waves(3)
CONTENT = encoded(ecg(group(LEADS, TRUTH)))
IMPLICIT, DEFLATED, JPEG, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.2"


def put(folder: Path, content: bytes, name: str = "r.dcm") -> Path:
    (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", IMPLICIT])
def test_every_sample_and_millivolt_is_the_one_written(tmp_path: Path, syntax: str) -> None:
    content = encoded(ecg(group(LEADS, TRUTH)), syntax)
    record = read_record(put(tmp_path, content), "r.dcm")
    assert record["lead"].values.tolist() == ["I", "II", "V1"]
    np.testing.assert_array_equal(record["signal"].values, TRUTH[:, [1, 0, 2]].T)
    np.testing.assert_allclose(in_millivolts(record).values, TRUTH[:, [1, 0, 2]].T / 2000, rtol=1e-6)
    assert record.attrs["source_digest"] == f"blake3:{blake3(content).hexdigest()}"
    assert record.attrs["warnings"] == ["CHECKSUM_UNVERIFIED"]
    assert (record["lead_flags"].values == LEAD_FLAGS["unverified"]).all()


def test_a_real_recording_gives_pydicoms_microvolts(tmp_path: Path) -> None:
    """The 12-lead ECG that pydicom brings along: a rhythm of 10 s, and a median beat that is left out."""
    path = Path(pydicom.examples.get_path("waveform"))
    record = read_record(put(tmp_path, path.read_bytes()), "r.dcm")
    assert record["lead"].values.tolist() == ["I", "II", "III", "aVR", "aVL", "aVF", *(f"V{n}" for n in range(1, 7))]
    microvolts = pydicom.dcmread(path).waveform_array(0)
    np.testing.assert_allclose(1000 * in_millivolts(record).values, microvolts.T, atol=1e-3)
    assert record.attrs["warnings"] == ["CHECKSUM_UNVERIFIED", "GROUPS_LEFT_OUT"]
    assert record.attrs["sampling_frequency_hz"] == 1000


def test_same_signal_as_dicom_and_as_wfdb_is_stored_alike(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    put(tmp_path / "a", CONTENT)
    Record([Lead(name, TRUTH[:, [i]], gain="2000") for i, name in enumerate(LEADS)]).write(tmp_path / "b")
    stored = []
    for name in ("a", "b"):
        (digest,) = convert_archive(str(tmp_path / name), str(tmp_path / f"w{name}")).stores
        stored.append(open_store(str(tmp_path / f"w{name}" / "signals" / f"{digest}.zarr")).load())
    for key in ("signal", "lead", "adc_gain", "baseline", "checksum", "n_samples", "sampling_frequency_hz", "status"):
        np.testing.assert_array_equal(stored[0][key].values, stored[1][key].values, err_msg=key)
    assert (stored[0]["age_years"].values.item(), stored[0]["sex"].values.item()) == (54, SEX["female"])


def test_files_of_one_patient_are_one_patients_and_no_identifier_is_kept(tmp_path: Path) -> None:
    other = ecg(group(LEADS, waves(3, seed=5)))
    put(tmp_path, CONTENT, "a.dcm")
    put(tmp_path, encoded(other), "b.DCM")
    other.PatientID = "MRN4712"
    put(tmp_path, encoded(other), "c.dcm")
    other.PatientID = "  "
    put(tmp_path, encoded(other), "d.dcm")
    assert find_records(tmp_path) == ["a.dcm", "b.DCM", "c.dcm", "d.dcm"]
    listing = list_archive(tmp_path, read_data=True)
    patients = listing["patient_id"].values.tolist()
    assert patients[0] == patients[1] != patients[2]
    assert (patients[3], listing["patient_unknown"].values.tolist()) == ("d.dcm", [0, 0, 0, 1])
    convert_archive(str(tmp_path), str(tmp_path / "w"))
    stored = b"".join(path.read_bytes() for path in (tmp_path / "w").rglob("*") if path.is_file()) + repr(listing).encode()
    for secret in (b"Canary", b"Zaphod", b"MRN47", b"19500101", b"20020302"):
        assert secret not in stored


def test_groups_of_one_length_and_rate_are_one_record_and_others_are_left_out(tmp_path: Path) -> None:
    more, fast, derived = waves(2, seed=7), waves(1, 1000, seed=9), waves(1, seed=11)
    groups = [
        group(["V6"], derived, WaveformOriginality="DERIVED"),
        group(LEADS, TRUTH),
        group(["V2", "aVR"], more),
        group(["III"], fast[:400]),
        group(["V6"], derived, rate="500"),
        group(["V6"], derived, MultiplexGroupTimeOffset="5000"),
    ]
    record = read_record(put(tmp_path, encoded(ecg(*groups))), "r.dcm")
    assert record["lead"].values.tolist() == ["I", "II", "aVR", "V1", "V2"]
    np.testing.assert_array_equal(record["signal"].values[[2, 4]], more[:, [1, 0]].T)
    assert "GROUPS_LEFT_OUT" in record.attrs["warnings"]


@pytest.mark.parametrize(("dtype", "width"), [("i1", 8), ("u1", 8), ("<u2", 15), ("<i4", 16), ("<u4", 15)])
def test_all_sample_types_that_fit_are_read(tmp_path: Path, dtype: str, width: int) -> None:
    truth = waves(3, 301, width) + (2 ** (width - 1) if dtype[-2] == "u" else 0)
    record = read_record(put(tmp_path, encoded(ecg(group(LEADS, truth, dtype=dtype)))), "r.dcm")
    np.testing.assert_array_equal(record["signal"].values, truth[:, [1, 0, 2]].T)


def test_padding_and_the_lowest_sample_are_missing(tmp_path: Path) -> None:
    truth = TRUTH.copy()
    truth[3, 0], truth[4, 0] = 9999, MISSING_SAMPLE
    content = encoded(ecg(group(LEADS, truth, WaveformPaddingValue=(9999).to_bytes(2, "little"))))
    record = read_record(put(tmp_path, content), "r.dcm")
    assert np.flatnonzero(record["signal"].values[1] == MISSING_SAMPLE).tolist() == [3, 4]
    assert record["lead_flags"].values[1] & LEAD_FLAGS["gaps"]


def test_other_codes_units_and_zeros_are_understood(tmp_path: Path) -> None:
    item = group(["Vx", "V2", "II"], TRUTH)
    one, two, three = item.ChannelDefinitionSequence
    one.ChannelSourceSequence[0].CodeValue, one.ChannelBaseline = "2:16", "50"
    two.ChannelSensitivity, two.ChannelSensitivityUnitsSequence[0].CodeValue = "0.001", "mV"
    two.ChannelSourceSequence[0].CodeValue, two.ChannelSourceSequence[0].CodeMeaning = "LOCAL", "Lead V2 (Wilson)"
    three.ChannelSensitivityUnitsSequence[0].CodeValue, three.ChannelSensitivityCorrectionFactor = "mm[Hg]", "2"
    record = read_record(put(tmp_path, encoded(ecg(item))), "r.dcm")
    assert record["lead"].values.tolist() == ["II", "V2", "Vx"]
    assert record["adc_gain"].values.tolist() == [1, 1000, 2000]
    assert record["baseline"].values.tolist() == [0, 0, -100]
    assert record["lead_flags"].values.tolist() == [768, 256, 256]


def change(path: str, value: Any) -> bytes:
    """Return the good file with one value of the group, or of its first channel, replaced; None takes it out."""
    item = group(LEADS, TRUTH)
    *parts, keyword = path.split(".")
    place: Dataset = item
    for part in parts:
        place = getattr(place, part)[0]
    if value is None:
        delattr(place, keyword)
    else:
        with pydicom.config.disable_value_validation():
            setattr(place, keyword, value)
    with pydicom.config.disable_value_validation():
        return encoded(ecg(item))


C = "ChannelDefinitionSequence."
SOURCE, UNIT = f"{C}ChannelSourceSequence.", f"{C}ChannelSensitivityUnitsSequence."
AT = CONTENT.index(b"\x00\x54\x10\x10OW")
"""Where the element of the samples begins."""


def syntax(uid: str) -> bytes:
    """Return the good file saying that it is in another transfer syntax, though its length stays."""
    return CONTENT.replace(b"1.2.840.10008.1.2.1\0", uid.encode().ljust(20, b"\0"))


BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "HEADER_SYNTAX"),
    "preamble only": (CONTENT[:132], "FMT_UNSUPPORTED"),
    "no preamble": (CONTENT[128:], "HEADER_SYNTAX"),
    "gzip": (b"\x1f\x8b" + CONTENT, "HEADER_SYNTAX"),
    "deflated": (encoded(ecg(group(LEADS, TRUTH)), DEFLATED), "FMT_UNSUPPORTED"),
    "JPEG": (encoded(ecg(group(LEADS, TRUTH)), JPEG), "FMT_UNSUPPORTED"),
    "big endian": (syntax(BIG), "FMT_UNSUPPORTED"),
    "says implicit": (syntax(IMPLICIT), "HEADER_SYNTAX"),
    "no syntax": (CONTENT.replace(b"\x02\0\x10\0UI", b"\x02\0\x14\0UI"), "FMT_UNSUPPORTED"),
    "cut in the samples": (CONTENT[:-100], "DAT_TRUNCATED"),
    "cut by a byte": (CONTENT[:-1], "DAT_TRUNCATED"),
    "cut before the samples": (CONTENT[:AT], "DAT_TRUNCATED"),
    "cut in the header": (CONTENT[:400], "DAT_TRUNCATED"),
    "more bytes": (CONTENT + b"\0" * 4, "DAT_TRUNCATED"),
    "twice": (CONTENT + CONTENT[300:], "HEADER_SYNTAX"),
    "zeros after": (CONTENT + b"\0" * 100, "HEADER_SYNTAX"),
    "length of samples": (CONTENT[: AT + 8] + (10).to_bytes(4, "little") + CONTENT[AT + 12 :], "HEADER_SYNTAX"),
    "length beyond": (CONTENT[: AT + 8] + (1 << 30).to_bytes(4, "little") + CONTENT[AT + 12 :], "DAT_TRUNCATED"),
    "odd length": (CONTENT[: AT + 8] + (2999).to_bytes(4, "little") + CONTENT[AT + 12 :], "HEADER_SYNTAX"),
    "encapsulated samples": (CONTENT[: AT + 8] + b"\xff" * 4 + CONTENT[AT + 12 :], "FMT_UNSUPPORTED"),
    "no such type": (CONTENT[: AT + 4] + b"ZZ" + CONTENT[AT + 6 :], "HEADER_SYNTAX"),
    "elements out of order": (CONTENT.replace(b"\x10\0\x40\0CS", b"\x10\0\x10\0CS"), "HEADER_SYNTAX"),
    "no waveform": (encoded(ecg()), "NSIG_ZERO"),
    "derived only": (change("WaveformOriginality", "DERIVED"), "NSIG_ZERO"),
    "no origin": (change("WaveformOriginality", None), "NSIG_ZERO"),
    "no samples": (change("WaveformData", None), "DAT_TRUNCATED"),
    "no channels": (change("NumberOfWaveformChannels", 0), "NSIG_ZERO"),
    "channels missing": (change("NumberOfWaveformChannels", None), "HEADER_SYNTAX"),
    "four channels": (change("NumberOfWaveformChannels", 4), "NSIG_MISMATCH"),
    "many channels": (change("NumberOfWaveformChannels", 60000), "HEADER_LIMIT"),
    "no definitions": (change("ChannelDefinitionSequence", None), "NSIG_MISMATCH"),
    "length 0": (change("NumberOfWaveformSamples", 0), "LENGTH_INVALID"),
    "length missing": (change("NumberOfWaveformSamples", None), "HEADER_SYNTAX"),
    "length + 1": (change("NumberOfWaveformSamples", 501), "DAT_TRUNCATED"),
    "length - 1": (change("NumberOfWaveformSamples", 499), "DAT_TOO_LONG"),
    "length of a bomb": (change("NumberOfWaveformSamples", 2**32 - 1), "DAT_TRUNCATED"),
    "rate 0": (change("SamplingFrequency", "0"), "FS_INVALID"),
    "rate missing": (change("SamplingFrequency", None), "FS_INVALID"),
    "rate negative": (change("SamplingFrequency", "-250"), "FS_INVALID"),
    "rate beyond": (change("SamplingFrequency", "1e9"), "FS_INVALID"),
    "two rates": (change("SamplingFrequency", ["250", "500"]), "FS_INVALID"),
    "12 bits": (change("WaveformBitsAllocated", 12), "FMT_UNSUPPORTED"),
    "8 bits": (change("WaveformBitsAllocated", 8), "FMT_UNSUPPORTED"),
    "mu law": (change("WaveformSampleInterpretation", "MB"), "FMT_UNSUPPORTED"),
    "32 bits": (encoded(ecg(group(LEADS, TRUTH + 40000, dtype="<i4"))), "RANGE"),
    "16 bits without sign, the lowest of which is a gap": (
        encoded(ecg(group(LEADS, np.where(TRUTH > 0, 60000, 0), dtype="<u2"))),
        "GAPS",
    ),
    "gain 0": (change(f"{C}ChannelSensitivity", "0"), "GAIN_INVALID"),
    "gain beyond": (change(f"{C}ChannelSensitivity", "1e-30"), "GAIN_INVALID"),
    "gain empty": (change(f"{C}ChannelSensitivity", ""), "GAIN_INVALID"),
    "correction 0": (change(f"{C}ChannelSensitivityCorrectionFactor", "0"), "GAIN_INVALID"),
    "zero beyond": (change(f"{C}ChannelBaseline", "1e15"), "BASELINE_INVALID"),
    "shifted": (change(f"{C}ChannelSampleSkew", "3"), "FMT_UNSUPPORTED"),
    "shifted in time": (change(f"{C}ChannelTimeSkew", "0.001"), "FMT_UNSUPPORTED"),
    "no lead": (change(f"{C}ChannelSourceSequence", None), "LEADS_UNNAMED"),
    "another's code": (change(f"{SOURCE}CodeValue", "5.6.3-9-1"), "LEADS_CONTRADICT"),
    "another's name": (change(f"{SOURCE}CodeMeaning", "Lead I"), "LEADS_CONTRADICT"),
    "two of one name": (encoded(ecg(group(("I", "II", "II"), TRUTH))), "LEADS_DUPLICATE"),
    "two of one name in two groups": (encoded(ecg(group(LEADS, TRUTH), group(["II"], TRUTH[:, :1]))), "LEADS_DUPLICATE"),
    "no gain": (change(f"{C}ChannelSensitivity", None), "GAIN_DEFAULTED"),
    "no unit": (change(f"{C}ChannelSensitivityUnitsSequence", None), "UNITS_UNKNOWN"),
    "unknown unit": (change(f"{UNIT}CodeValue", "Pa"), "UNITS_UNKNOWN"),
    "zero between": (change(f"{C}ChannelBaseline", "0.2"), "BASELINE_ROUNDED"),
    "no skew, no zero": (change(f"{C}ChannelBaseline", None), "CHECKSUM_UNVERIFIED"),
}


@pytest.mark.parametrize("case", BAD)
def test_each_bad_file_has_its_verdict(tmp_path: Path, case: str) -> None:
    content, code = BAD[case]
    put(tmp_path, content)
    found = inspect_record(tmp_path, "r.dcm")
    if code in WARNINGS:
        assert found.status == STATUS["ok"], found.status_detail
        assert code in read_record(tmp_path, "r.dcm").attrs["warnings"]
        return
    assert code == "RANGE" or (found.reason, found.leads) == (code, ()), found.status_detail
    with pytest.raises(UnreadableRecord) as caught:
        read_record(tmp_path, "r.dcm")
    assert caught.value.code == code
    assert "Canary" not in str(caught.value)


def nested(levels: int) -> bytes:
    dataset = Dataset()
    for _ in range(levels):
        outer = Dataset()
        outer.ReferencedStudySequence = [dataset]
        outer["ReferencedStudySequence"].is_undefined_length = True
        dataset = outer
    whole = ecg(group(LEADS, TRUTH))
    whole.update(dataset)
    return encoded(whole)


BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "elements": (lambda: syntax(IMPLICIT)[: CONTENT.index(b"\x08\0\x16\0UI")] + _empty_elements(2_000_000), "HEADER_LIMIT"),
    "zeros": (lambda: syntax(IMPLICIT)[: CONTENT.index(b"\x08\0\x16\0UI")] + b"\0" * 30_000_000, "HEADER_SYNTAX"),
    "depth": (lambda: nested(100), "HEADER_LIMIT"),
    "samples": (lambda: change("NumberOfWaveformSamples", 2**32 - 1), "DAT_TRUNCATED"),
}


def _empty_elements(n: int) -> bytes:
    tags = np.arange(n, dtype="<u4") + 0x00090000
    return np.stack([tags >> 16, tags & 0xFFFF, tags * 0, tags * 0], axis=1).astype("<u2").tobytes()


@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_are_refused_in_little_time_and_memory(tmp_path: Path, bomb: str) -> None:
    make, code = BOMBS[bomb]
    put(tmp_path, make())
    inspect_record(tmp_path, "r.dcm")
    started = time.process_time()
    assert inspect_record(tmp_path, "r.dcm").reason == code
    assert time.process_time() - started < 1
    tracemalloc.start()
    inspect_record(tmp_path, "r.dcm")
    assert tracemalloc.get_traced_memory()[1] < 100e6
    tracemalloc.stop()


def test_file_of_a_terabyte_is_refused_unread(tmp_path: Path) -> None:
    os.truncate(put(tmp_path, CONTENT) / "r.dcm", 1 << 40)
    assert inspect_record(tmp_path, "r.dcm").reason == "TOO_LONG"


def test_without_pydicom_a_file_is_set_aside_with_the_way_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    found = inspect_record(put(tmp_path, CONTENT), "r.dcm")
    assert found.reason == "EXTRA_MISSING"
    assert "pip install 'ecgbatch[dicom]'" in found.status_detail


def test_strictness_of_pydicom_is_left_as_it_was() -> None:
    before = pydicom.config.settings.reading_validation_mode
    parse_dicom(CONTENT)
    assert pydicom.config.settings.reading_validation_mode == before
    assert not dicom._STRICT.locked()


def test_patients_without_a_number_are_unknown() -> None:
    assert [patient_of(text) for text in ("", "  ", "X", "0000", "x.x")] == [""] * 5
    assert patient_of("47 ") == patient_of("47") != patient_of("48")


def judge_mutants(folder: Path, *, seed: int, n: int) -> None:
    """Write, read and judge mutants: no exception but a refusal, and no sample that was not written."""
    rng = np.random.default_rng(seed)
    truth = {lead.astype(np.int16).tobytes() for lead in TRUTH.T}
    content = bytearray(CONTENT)
    for _ in range(n):
        mutant = deepcopy(content)
        for _ in range(rng.integers(1, 4)):
            at, length = int(rng.integers(0, AT + 12)), int(rng.integers(1, 12))
            kind = rng.integers(0, 5)
            if kind == 0:
                mutant[at] ^= 1 << int(rng.integers(0, 8))
            elif kind == 1:
                mutant[at : at + length] = rng.bytes(length)
            elif kind == 2:
                del mutant[at : at + length]
            elif kind == 3:
                mutant[at:at] = rng.bytes(length)
            else:
                mutant[at] = int(rng.choice(list(b"0123456789.-eISVUx\0\xff")))
        put(folder, bytes(mutant))
        found = inspect_record(folder, "r.dcm")
        if found.status == STATUS["set_aside"]:
            assert found.reason in REASONS
            continue
        with suppress(UnreadableRecord):
            assert {row.tobytes() for row in read_record(folder, "r.dcm")["signal"].values} <= truth


def test_mutated_headers_never_raise_and_give_no_wrong_sample(tmp_path: Path) -> None:
    judge_mutants(tmp_path, seed=0, n=150)


@pytest.mark.parametrize("sop_class", ["1.2.840.10008.5.1.4.1.1.9.2.1", "1.2.840.10008.5.1.4.1.1.2"])
def test_leads_decide_and_not_the_storage_class(sop_class: str, tmp_path: Path) -> None:
    (tmp_path / "ecg.dcm").write_bytes(encoded(ecg(group(LEADS, TRUTH)), sop_class=sop_class))
    assert inspect_record(tmp_path, "ecg.dcm").status == STATUS["ok"]
    pressure = group(["ABP", "CVP"], TRUTH[:, :2])
    (tmp_path / "other.dcm").write_bytes(encoded(ecg(pressure), sop_class=sop_class))
    assert inspect_record(tmp_path, "other.dcm").reason == "FMT_UNSUPPORTED"


def test_groups_one_after_the_other_give_all_their_leads(tmp_path: Path) -> None:
    """4 x 3 leads of 2.5 s, and lead II below them all the time."""
    names = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
    rng = np.random.default_rng(3)
    columns = [rng.integers(-900, 900, (625, 3)) for _ in range(4)]
    strip = rng.integers(-900, 900, (2500, 1))
    parts = [group(names[3 * k : 3 * k + 3], columns[k], MultiplexGroupTimeOffset=str(2500 * k)) for k in range(4)]
    (tmp_path / "r.dcm").write_bytes(encoded(ecg(*parts, group(["II"], strip))))
    record = read_record(tmp_path, "r.dcm")
    assert record["lead"].values.tolist() == list(names)
    assert record.attrs["n_samples"] == 2500
    for row, name in enumerate(names):
        truth = np.full(2500, -32768)
        truth[625 * (row // 3) : 625 * (row // 3 + 1)] = columns[row // 3][:, row % 3]
        np.testing.assert_array_equal(record["signal"].values[row], strip[:, 0] if name == "II" else truth)


@pytest.mark.parametrize(("keyword", "value"), [("ChannelSensitivity", "-0.5"), ("ChannelSensitivityCorrectionFactor", "-1")])
def test_a_negative_sensitivity_turns_the_samples_and_keeps_their_millivolts(keyword: str, value: str, tmp_path: Path) -> None:
    own = group(LEADS, waves(3))
    setattr(own.ChannelDefinitionSequence[1], keyword, value)
    own.ChannelDefinitionSequence[1].ChannelBaseline = "10"
    put(tmp_path, encoded(ecg(own)))
    record = read_record(tmp_path, "r.dcm")
    assert "GAIN_NEGATIVE" in record.attrs["warnings"]
    row = record["lead"].values.tolist().index(LEADS[1])
    expected = waves(3)[:, 1] / -2000 + 0.01
    np.testing.assert_allclose(in_millivolts(record).values[row], expected, atol=1e-6)


def test_minus_avr_is_not_avr_whatever_the_label_says(tmp_path: Path) -> None:
    own = group(LEADS, waves(3))
    source = own.ChannelDefinitionSequence[1].ChannelSourceSequence[0]
    source.CodeValue, source.CodeMeaning = "2:65", "Lead -aVR"
    put(tmp_path, encoded(ecg(own)))
    assert "-aVR" in read_record(tmp_path, "r.dcm")["lead"].values
    source.CodeMeaning = "aVR"
    put(tmp_path, encoded(ecg(own)))
    with pytest.raises(UnreadableRecord, match="LEADS_CONTRADICT"):
        read_record(tmp_path, "r.dcm")


def test_one_number_of_two_issuers_is_two_patients(tmp_path: Path) -> None:
    for name, issuer in (("a.dcm", "North"), ("b.dcm", "South"), ("c.dcm", "North"), ("d.dcm", "")):
        dataset = ecg(group(LEADS, waves(3)))
        dataset.IssuerOfPatientID = issuer
        put(tmp_path, encoded(dataset), name)
    patients = list_archive(tmp_path)["patient_id"].values.tolist()
    assert patients[0] == patients[2]
    assert len(set(patients)) == 3


def test_waveforms_without_a_suffix_are_records_and_images_are_not(tmp_path: Path) -> None:
    (tmp_path / "DICOM").mkdir()
    for name in ("IM0001", "1.2.840.113619.2", "DICOM/00000001"):
        put(tmp_path, CONTENT, name)
    put(tmp_path, encoded(ecg(), sop_class="1.2.840.10008.5.1.4.1.1.2"), "CT0001")
    put(tmp_path, CONTENT, "beside.txt")
    assert find_records(tmp_path) == ["1.2.840.113619.2", "DICOM/00000001", "IM0001"]
    listing = list_archive(tmp_path, read_data=True)
    assert not listing["status"].values.any()
    assert listing["files"].values.tolist() == listing["record_name"].values.tolist()
    convert_archive(str(tmp_path), str(tmp_path / "w"))
    (stored,) = (open_store(str(path)).load() for path in (tmp_path / "w" / "signals").iterdir())
    assert len(set(stored["source_digest"].values.tolist())) == 1
    np.testing.assert_array_equal(stored["signal"].values[0], read_record(tmp_path, "IM0001")["signal"].values)
    (tmp_path / "RECORDS").write_text("IM0001\nnothing\n")
    assert list_archive(tmp_path)["reason"].values.tolist() == ["", "LISTED_MISSING"]
    (tmp_path / "RECORDS").unlink()
    (tmp_path / "IM0001.hea").write_text("IM0001 1 250 1\nIM0001.dat 16 200 16 0 0 0 0 II\n")
    assert list_archive(tmp_path, names=["IM0001"])["reason"].values.tolist() == ["DAT_MISSING"]  # a header goes first
