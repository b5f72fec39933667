"""What was not taken is counted: files that look like ECGs by their first bytes and are no record, looked at once a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ecgbatch.archive import untaken
from ecgbatch.archive.finding import find_records, search
from ecgbatch.archive.untaken import find_untaken, kind_of, summarise_untaken
from ecgbatch.signals.stage import archive_facts, convert_archive

DICOM = bytes(128) + b"DICM" + bytes(100)
EDF = b"0       " + b" " * 248


def put_record(folder: Path, name: str) -> None:
    values = np.arange(500, dtype="<i2")
    (folder / f"{name}.dat").write_bytes(values.tobytes())
    (folder / f"{name}.hea").write_text(
        f"{name} 1 250 500\\n{name}.dat 16 200/mV 16 0 0 {int(values.sum()) % 65536} 0 II\\n".replace("\\n", "\n")
    )


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (DICOM, "DICOM"),
        (EDF, "EDF"),
        (bytes(16) + b"SCPECG" + bytes(20), "SCP-ECG"),
        (b'<?xml version="1.0"?>\n<RestingECG>', "GE MUSE XML"),
        ('<?xml version="1.0" encoding="UTF-16"?><restingecgdata xmlns="x">'.encode("utf-16"), "Philips XML"),
        (b"<AnnotatedECG xmlns='urn:hl7-org:v3'>", "HL7 aECG"),
        (b"<html>", ""),
        (b"", ""),
    ],
)
def test_kinds_are_known_by_first_bytes(content, kind):
    assert kind_of(content) == kind


def test_what_looks_like_an_ecg_and_was_not_taken_is_named_with_the_reason_and_looked_at_once(tmp_path, monkeypatch):
    archive, work = tmp_path / "a", str(tmp_path / "w")
    (archive / "in").mkdir(parents=True)
    put_record(archive, "r")
    (archive / "in" / "IM0001").write_bytes(DICOM)
    (archive / "x.bdf").write_bytes(b"\xffBIOSEMI" + bytes(300))
    (archive / "notes").write_bytes(b"nothing")
    (archive / "._r.hea").write_bytes(b"\0\5\26\7")
    assert find_records(archive) == ["r"]  # what macOS writes beside files is no record
    told = summarise_untaken(find_untaken(search(archive).beside))
    assert told["n_not_taken"] == {"DICOM": 1, "BDF": 1}
    assert told["not_taken"][0] == {
        "file": "in/IM0001",
        "kind": "DICOM",
        "reason": "its name does not end with .dcm: rename it",
    } or (told["not_taken"][1]["file"] == "in/IM0001")
    convert_archive(str(archive), work)
    assert {one[0]: one[3] for one in archive_facts(work)["not_taken"]} == {"in/IM0001": "DICOM", "x.bdf": "BDF", "notes": ""}

    def opened(*_arguments):
        raise AssertionError("opened again")

    monkeypatch.setattr(untaken, "first_bytes", opened)
    convert_archive(str(archive), work)


def test_an_archive_without_a_record_says_what_it_holds(tmp_path):
    (tmp_path / "IM0001").write_bytes(DICOM)
    with pytest.raises(ValueError, match=r"1 file\(s\) that look like DICOM \('IM0001': its name does not end with \.dcm"):
        find_records(tmp_path)
