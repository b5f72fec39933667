"""Kin of the device formats' samples: what other carts, countries and converters write, each by a writer of its own."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy as np
import pytest

from ecgbatch.formats.inspection import inspect_record
from ecgbatch.formats.records import in_millivolts, read_record
from ecgbatch.terms import STATUS
from tests.formats.device_files import EIGHT, TWELVE, Leads, aecg, ecg, muse, sierra
from tests.formats.dicom_files import ecg as dicom_ecg
from tests.formats.dicom_files import encoded, group, waves
from tests.formats.scp_files import DEFAULT, NUMBERS, OWN, assembled, scp

TRUTH = ecg(TWELVE)


def check(folder: Path, name: str, content: bytes, truth: Leads, *, millivolts: float = 0.005, fs: float = 250) -> list[str]:
    """Read a file and compare each lead of ``truth``, in steps of ``millivolts``; return the record's warnings."""
    (folder / name).write_bytes(content)
    found = inspect_record(folder, name)
    assert (found.status, found.reason) == (STATUS["ok"], "")
    record = read_record(folder, name)
    assert record.attrs["sampling_frequency_hz"] == pytest.approx(fs)
    read = dict(zip(record["lead"].values.tolist(), in_millivolts(record).values, strict=True))
    for lead, values in truth.items():
        np.testing.assert_allclose(read[lead], values * millivolts, atol=1e-6, err_msg=lead)
    return list(record.attrs["warnings"])


def without(content: bytes, *elements: str) -> bytes:
    """Return XML without elements of some names."""
    return re.sub(rb"<(%s)>[^<]*</\1>" % "|".join(elements).encode(), b"", content)


@pytest.mark.parametrize("encoding", ["windows-1252", "EUC-KR", "GB2312", "Shift_JIS", "big5", "ISO-8859-15"])
def test_names_in_any_countrys_characters_cost_no_record(tmp_path: Path, encoding: str) -> None:
    name = {"EUC-KR": "김", "GB2312": "王", "Shift_JIS": "山田", "big5": "陳"}.get(encoding, "Müller")
    text = muse(TRUTH).decode("latin-1").replace("ISO-8859-1", encoding).replace("Canary", name)
    assert check(tmp_path, "r.xml", text.encode(encoding), TRUTH) == []
    found = inspect_record(tmp_path, "r.xml")
    assert name not in repr(found.header)


def test_entities_are_refused_in_characters_of_several_bytes_too(tmp_path: Path) -> None:
    text = '<?xml version="1.0" encoding="GBK"?><!DOCTYPE RestingECG [<!ENTITY a "b">]><RestingECG>&a;</RestingECG>'
    (tmp_path / "r.xml").write_bytes(text.encode("gbk"))
    assert inspect_record(tmp_path, "r.xml").reason == "XML_UNSAFE"
    wide = text.replace("GBK", "utf-16")
    for encoding in ("utf-16", "utf-16-be", "utf-16-le"):
        mark = "" if encoding == "utf-16" else "\ufeff"
        (tmp_path / "r.xml").write_bytes((mark + wide).encode(encoding))
        assert inspect_record(tmp_path, "r.xml").reason == "XML_UNSAFE"
    (tmp_path / "r.xml").write_bytes(text.replace("GBK", "cp037").replace("<?xml", "<?xml", 1).encode("latin-1"))
    assert inspect_record(tmp_path, "r.xml").status == STATUS["set_aside"]


def test_muse_of_few_elements_is_read(tmp_path: Path) -> None:
    simple = without(
        muse(TRUTH, crc=False, kind=""), "WaveformType", "SampleExponent", "LeadTimeOffset", "LeadOff", "FirstSampleBaseline",
        "LeadByteCountTotal", "LeadOffsetFirstSample",
    )  # fmt: skip
    assert check(tmp_path, "r.xml", simple, TRUTH) == ["CHECKSUM_UNVERIFIED"]


@pytest.mark.parametrize(
    ("step", "unit"), [("0.005", "MILLIVOLTS"), ("5000", "NANOVOLTS"), ("5", "microvolts"), ("0.000005", "VOLTS")]
)
def test_muse_states_its_step_in_any_volts(tmp_path: Path, step: str, unit: str) -> None:
    content = muse(TRUTH, step=step).replace(b"MICROVOLTS", unit.encode())
    assert check(tmp_path, "r.xml", content, TRUTH) == []


def test_a_negative_step_turns_a_muse_leads_samples(tmp_path: Path) -> None:
    turned = {lead: -values for lead, values in TRUTH.items()}
    assert check(tmp_path, "r.xml", muse(turned, step="-5"), TRUTH) == ["GAIN_NEGATIVE"]


@pytest.mark.parametrize("gone", [("V6",), ("V1", "V2", "V3"), ("III", "aVR", "aVL", "aVF")])
def test_muse_leads_that_are_named_and_empty_are_left_out_and_said(tmp_path: Path, gone: tuple[str, ...]) -> None:
    content = muse(TRUTH)
    for lead in gone:
        content = re.sub(
            rb"(<LeadID>%s</LeadID>.*?)<LeadDataCRC32>\d+</LeadDataCRC32>\s*<WaveFormData>[^<]*</WaveFormData>" % lead.encode(),
            rb"\1<WaveFormData/>",
            content,
            flags=re.DOTALL,
        )
    rest = {lead: values for lead, values in TRUTH.items() if lead not in gone}
    assert "CHANNEL_LEFT_OUT" in check(tmp_path, "r.xml", content, rest)
    assert " ".join(gone) in inspect_record(tmp_path, "r.xml").status_detail
    (tmp_path / "r.xml").write_bytes(
        re.sub(rb"<WaveFormData>[^<]*</WaveFormData>", b"<WaveFormData></WaveFormData>", muse(TRUTH))
    )
    assert inspect_record(tmp_path, "r.xml").reason == "NSIG_ZERO"


def test_muse_of_fifteen_leads_at_a_thousand_hertz(tmp_path: Path) -> None:
    more = TRUTH | {"V3R": TRUTH["V1"] + 3, "V4R": TRUTH["V1"] - 3, "V7": TRUTH["V6"] + 1}
    assert check(tmp_path, "r.xml", muse(more, fs=1000), more, fs=1000) == []


@pytest.mark.parametrize("is_said", ["True", "False"])
@pytest.mark.parametrize("per_line", [25, 2500])
def test_sierra_whose_samples_are_text_is_read_whatever_it_says_of_compression(
    tmp_path: Path, is_said: str, per_line: int
) -> None:
    content = sierra(TRUTH, version="1.03").decode()
    words = [str(value) for values in TRUTH.values() for value in values.tolist()]
    text = "\n".join(" ".join(words[i : i + per_line]) for i in range(0, len(words), per_line))
    content = re.sub(r'dataencoding="Base64"', 'dataencoding="Plain"', content)
    content = re.sub(r"(<parsedwaveforms [^>]*>)[^<]*", rf"\g<1>{text}\n", content).replace(
        'compressflag="True"', f'compressflag="{is_said}"'
    )
    assert check(tmp_path, "r.xml", content.encode(), TRUTH) == ["CHECKSUM_UNVERIFIED"]
    (tmp_path / "r.xml").write_bytes(content.replace(f" {words[-1]}\n", "\n").encode())
    assert inspect_record(tmp_path, "r.xml").reason == "DAT_TRUNCATED"


@pytest.mark.parametrize("version", ["1.03", "1.04"])
@pytest.mark.parametrize("fs", [250, 500, 1000])
def test_sierra_at_any_rate(tmp_path: Path, version: str, fs: int) -> None:
    assert check(tmp_path, "r.xml", sierra(TRUTH, fs, version=version), TRUTH, fs=fs) == ["CHECKSUM_UNVERIFIED"]


def test_sierra_of_sixteen_leads_has_residues_of_the_four_alone(tmp_path: Path) -> None:
    more = TRUTH | {"V3R": TRUTH["V1"] + 3, "V4R": TRUTH["V1"] - 3, "V7": TRUTH["V6"] + 1, "V8": TRUTH["V6"] - 1}
    assert check(tmp_path, "r.xml", sierra(more), more) == ["CHECKSUM_UNVERIFIED"]


@pytest.mark.parametrize(("step", "unit"), [("5", "uV"), ("0.005", "mV"), ("5000", "nV"), ("5", "µV"), ("5E-6", "V")])
def test_aecg_states_its_scale_in_any_volts(tmp_path: Path, step: str, unit: str) -> None:
    assert check(tmp_path, "r.xml", aecg(TRUTH, step=step, unit=unit), TRUTH) == ["CHECKSUM_UNVERIFIED"]


@pytest.mark.parametrize(("increment", "unit"), [("4", "ms"), ("4000", "us"), ("0.004", "s"), ("4E-3", "s")])
def test_aecg_states_its_increment_in_any_seconds(tmp_path: Path, increment: str, unit: str) -> None:
    content = aecg(TRUTH, absolute=False).replace(
        b'<increment value="0.004" unit="s"/>', f'<increment value="{increment}" unit="{unit}"/>'.encode()
    )
    assert check(tmp_path, "r.xml", content, TRUTH) == ["CHECKSUM_UNVERIFIED"]


def test_aecg_whose_elements_have_a_prefix_is_the_same(tmp_path: Path) -> None:
    content = re.sub(rb"<(/?)(?=[A-Za-z])", rb"<\1hl7:", aecg(TRUTH)).replace(b"xmlns=", b"xmlns:hl7=")
    assert check(tmp_path, "r.xml", content, TRUTH) == ["CHECKSUM_UNVERIFIED"]


def test_aecg_that_tells_both_times_is_read_by_the_time_of_day(tmp_path: Path) -> None:
    first, second = ({lead: values[part] for lead, values in TRUTH.items()} for part in (slice(0, 1000), slice(1000, None)))
    content = aecg(first, second, starts_s=(0, 4.0))
    grid = '<head value="0" unit="s"/><increment value="0.004" unit="s"/>'
    time = f'<code code="TIME_RELATIVE"/><value>{grid}</value>'
    relative = f"<component><sequence>{time}</sequence></component>".encode()
    content = content.replace(b"<component><sequenceSet>", b"<component><sequenceSet>" + relative)
    assert check(tmp_path, "r.xml", content, TRUTH) == ["CHECKSUM_UNVERIFIED"]
    twice = content.replace(b"TIME_ABSOLUTE", b"TIME_RELATIVE")
    (tmp_path / "r.xml").write_bytes(twice)
    assert inspect_record(tmp_path, "r.xml").reason == "FS_INVALID"


@pytest.mark.parametrize("n_leads", [EIGHT, TWELVE])
@pytest.mark.parametrize("tables", [None, (DEFAULT,), OWN], ids=["plain", "default", "own"])
@pytest.mark.parametrize("step", [1, 2, 4])
def test_scp_decimated_with_reference_beats_and_any_table(tmp_path: Path, n_leads, tables, step: int) -> None:
    """Samples are exact in the protected areas, whatever lies between; here everything is protected but the first second."""
    truth = ecg(n_leads, n=1000)
    beats = [(0, 301 + 200 * i, 331 + 200 * i, 370 + 200 * i) for i in range(3)]
    reference = {lead: values[300:370].copy() for lead, values in truth.items()}
    content = scp(
        truth,
        reference=reference,
        beats=beats,
        fiducial=31,
        areas=[(251, 400), (401, 700), (701, 1000)],
        decimation=step,
        tables=tables,
    )
    (tmp_path / "r.scp").write_bytes(content)
    record = read_record(tmp_path, "r.scp")
    assert record.attrs["sampling_frequency_hz"] == 250
    for lead, values in zip(record["lead"].values.tolist(), record["signal"].values, strict=True):
        if lead in truth:
            np.testing.assert_array_equal(values[250:], truth[lead][250:], err_msg=lead)
            assert np.abs(values[:250] - truth[lead][:250]).max() < 60


def test_scp_leads_of_other_lengths_end_where_they_end(tmp_path: Path) -> None:
    truth = dict(TRUTH)
    truth["V6"] = truth["V6"][:2000]
    (tmp_path / "r.scp").write_bytes(scp(truth))
    record = read_record(tmp_path, "r.scp")
    row = record["signal"].values[record["lead"].values.tolist().index("V6")]
    np.testing.assert_array_equal(row[:2000], truth["V6"])
    assert (row[2000:] == -32768).all()
    assert "GAPS" in record.attrs["warnings"]


def test_scp_that_counts_from_zero_loses_no_sample(tmp_path: Path) -> None:
    assert check(tmp_path, "r.scp", scp(TRUTH, starts=dict.fromkeys(TRUTH, 0)), TRUTH) == []


def test_scp_of_a_reference_beat_alone_is_no_recording(tmp_path: Path) -> None:
    leads = b"".join(struct.pack("<IIB", 1, 100, NUMBERS[lead]) for lead in TWELVE)
    beat = struct.pack("<HHBB", 5000, 4000, 0, 0) + struct.pack("<H", 200) * 12 + bytes(200 * 12)
    (tmp_path / "r.scp").write_bytes(assembled({3: struct.pack("<BB", 12, 4) + leads, 5: beat}))
    assert inspect_record(tmp_path, "r.scp").reason == "NSIG_ZERO"


def test_padding_of_a_value_that_the_ecg_passes_through_takes_no_sample_of_it(tmp_path: Path) -> None:
    """As one published file has it: padding 0, and nothing padded."""
    leads, samples = list(TRUTH), np.stack(list(TRUTH.values()), axis=1)
    padded = samples.copy()
    padded[400:700, 3] = padded[2000:, 5] = 0
    for stored, parts in ((samples, {}), (padded, {"aVR": slice(400, 700), "aVF": slice(2000, None)})):
        item = group(leads, stored, WaveformPaddingValue=b"\0\0")
        item["WaveformPaddingValue"].VR = "OW"
        (tmp_path / "r.dcm").write_bytes(encoded(dicom_ecg(item)))
        record = read_record(tmp_path, "r.dcm")
        assert ("GAPS" in record.attrs["warnings"]) == bool(parts)
        for lead, values in zip(record["lead"].values.tolist(), record["signal"].values, strict=True):
            truth = stored[:, leads.index(lead)].copy()
            truth[parts.get(lead, slice(0, 0))] = -32768
            np.testing.assert_array_equal(values, truth, err_msg=lead)


def test_the_published_dicom_file_holds_the_ecg_of_the_published_scp_file(test_data: Path) -> None:
    dicom, other = (read_record(test_data / "formats", name) for name in ("dicom-12lead/Example.dcm", "scp-ecg/Example.scp"))
    np.testing.assert_array_equal(dicom["signal"].values, other["signal"].values)
    assert "GAPS" not in dicom.attrs["warnings"]


@pytest.mark.parametrize("padding", [None, 0, 65535])
def test_unsigned_samples_of_dicom_around_their_middle_keep_their_millivolts(tmp_path: Path, padding: int | None) -> None:
    leads, samples = ["I", "II", "V1"], waves(3, width=15)
    stored = samples + 32768
    item = group(leads, stored, dtype="<u2")
    if padding is not None:
        stored = stored.copy()
        stored[100:110, 1] = padding
        item = group(leads, stored, dtype="<u2")
        item.WaveformPaddingValue = struct.pack("<H", padding)
        item["WaveformPaddingValue"].VR = "OW"
    for channel in item.ChannelDefinitionSequence:
        channel.ChannelBaseline = str(-32768 * 0.5)
    (tmp_path / "r.dcm").write_bytes(encoded(dicom_ecg(item)))
    record = read_record(tmp_path, "r.dcm")
    truth = np.where(stored == (-1 if padding is None else padding), np.nan, samples * 0.0005).T
    np.testing.assert_allclose(in_millivolts(record).values, truth, atol=1e-6)
    assert ("GAPS" in record.attrs["warnings"]) == (padding is not None)
