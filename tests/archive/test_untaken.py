"""What was not taken is counted: files that look like ECGs by their first bytes and are no record, looked at once a file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ecgbatch.archive import untaken
from ecgbatch.archive.finding import LINK_OUT, find_records, search, summarise_left_out
from ecgbatch.archive.untaken import find_untaken, kind_of, summarise_untaken
from ecgbatch.cli.output import print_result
from ecgbatch.signals.lookup import archive_facts
from ecgbatch.signals.stage import convert_archive

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


def test_hidden_and_system_folders_are_left_out_and_counted(tmp_path):
    archive, work = tmp_path / "a", str(tmp_path / "w")
    for folder in ("p1", ".snapshot/night/p1", ".Trash-1000/files", "lost+found", "@eaDir", "__MACOSX/p1"):
        (archive / folder).mkdir(parents=True)
        put_record(archive / folder, "r")
    (archive / "p1" / "._r.hea").write_bytes(b"\0\5\26\7")
    (archive / "p1" / "._IM0001").write_bytes(b"\0\5\26\7")
    (archive / "lost+found").chmod(0o000)
    found = search(archive)
    (archive / "lost+found").chmod(0o700)
    assert found.names == ["p1/r"]
    told = summarise_left_out(found.left_out)
    assert told["n_left_out"] == {"hidden or system folder": 5, "hidden file": 1}
    assert {one["path"] for one in told["left_out"]} == {
        *(".Trash-1000", ".snapshot", "@eaDir", "__MACOSX", "lost+found", "p1/._r.hea")
    }
    convert_archive(str(archive), work)
    assert archive_facts(work)["records"] == ["p1/r"]
    assert len(archive_facts(work)["left_out"]) == 6


def test_linked_folders_are_searched_inside_the_archive_and_named_outside(tmp_path):
    archive = tmp_path / "a"
    for folder in (archive / "p1", archive / ".store/p2", tmp_path / "elsewhere/p3"):
        folder.mkdir(parents=True)
        put_record(folder, "r")
    (archive / "p2").symlink_to(archive / ".store/p2", target_is_directory=True)
    (archive / "p3").symlink_to(tmp_path / "elsewhere/p3", target_is_directory=True)
    (archive / "again").symlink_to("p1", target_is_directory=True)
    (archive / "p1" / "loop").symlink_to(archive, target_is_directory=True)
    (archive / ".store/p2/back").symlink_to(archive / "p1", target_is_directory=True)
    found = search(archive)
    assert found.names == ["p1/r", "p2/r"]
    reasons = {one.path: one.reason for one in found.left_out}
    assert reasons.pop(".store") == "hidden or system folder"
    assert "outside the archive" in reasons.pop("p3")
    assert set(reasons) == {"again", "p1/loop", "p2/back"}
    assert all("under its own name" in reason for reason in reasons.values())
    convert_archive(str(archive), str(tmp_path / "w"))
    assert archive_facts(str(tmp_path / "w"))["records"] == ["p1/r", "p2/r"]


def test_an_archive_of_links_that_lead_out_says_so(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "p1").mkdir()
    put_record(tmp_path / "p1", "r")
    (tmp_path / "a/p1").symlink_to(tmp_path / "p1", target_is_directory=True)
    with pytest.raises(ValueError, match="not searched: 'p1', linked folder outside the archive"):
        find_records(tmp_path / "a")


def test_folders_that_were_not_searched_are_said_by_every_command_that_looked(tmp_path, capsys):
    """Patients behind a link to elsewhere were missing from a run that ended with 0 and said nothing."""
    from ecgbatch.cli import main

    archive, work = tmp_path / "a", tmp_path / "w"
    for folder in (archive / "p1", tmp_path / "elsewhere"):
        folder.mkdir(parents=True)
        put_record(folder, "r")
    (archive / "p2").symlink_to(tmp_path / "elsewhere")
    said = {}
    for command in (["convert", archive, work], ["status", work]):
        with pytest.raises(SystemExit) as ended:
            main([*map(str, command), "--json"])
        assert not ended.value.code
        said[command[0]] = json.loads(capsys.readouterr().out)["n_left_out"]
    assert said["convert"] == said["status"] == {LINK_OUT: 1}
    counts = dict.fromkeys(("n_records", "n_patients", "n_scored", "n_not_scorable"), 1)
    counts |= {"n_set_aside": {}, "decisions": {}, "not_scorable_reasons": {}}
    print_result({"counts": counts, "seconds": {}, "cohort": "", "n_left_out": said["status"]}, as_json=False)
    assert f"no record was looked for in: 1 {LINK_OUT} (ecgbatch inspect names them)" in capsys.readouterr().out
