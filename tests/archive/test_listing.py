"""Which records an archive holds, and one row for each of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecgbatch.archive import listing as listing_room
from ecgbatch.archive.finding import find_records
from ecgbatch.archive.listing import list_archive, summarise
from ecgbatch.signals.table import SIGNALS
from ecgbatch.synthetic.archive import ArchiveShape, Truth, write_archive
from ecgbatch.terms import LABEL, LEADS, STATUS
from tests.formats.wfdb_files import simple


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Truth]:
    folder = tmp_path_factory.mktemp("synthetic")
    truth = write_archive(
        folder, ArchiveShape(n_records=12, duration_s=2.0, sampling_frequency_hz=250.0, other_share=0.2), seed=3
    )
    return folder, truth


@pytest.fixture
def changeable(synthetic: tuple[Path, Truth], tmp_path: Path) -> Path:
    return Path(shutil.copytree(synthetic[0], tmp_path / "archive"))


def backwards(function: Callable[[Any], Any], tasks: Iterable[Any]) -> Iterator[Any]:
    with ThreadPoolExecutor(2) as pool:
        yield from reversed(list(pool.map(function, list(tasks))))


def headers(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.hea").write_text("")


def test_every_listed_record_is_found_once_in_the_lists_order(tmp_path: Path) -> None:
    headers(tmp_path, "b", "a", "unlisted")
    (tmp_path / "RECORDS").write_bytes(b"\xef\xbb\xbfb\r\na\r\n\r\nb\r\n  missing \r\n../etc/passwd\r\nhttp://x/y\r\nn\xe4me\r\n")
    names = find_records(tmp_path)
    assert names == ["b", "a", "missing", "../etc/passwd", "http://x/y", "n\\xe4me"]
    listing = list_archive(tmp_path)
    assert listing["record_name"].values.tolist() == names
    reasons = ["HEADER_EMPTY", "HEADER_EMPTY", "LISTED_MISSING", "PATH_ESCAPE", "REMOTE_NAME", "PATH_ESCAPE"]
    assert listing["reason"].values.tolist() == reasons


def test_listed_folders_stand_for_their_records(tmp_path: Path) -> None:
    headers(tmp_path, "p1/x", "p1/unlisted", "p2/z", "p2/deep/y", "plain")
    (tmp_path / "p1" / "RECORDS").write_text("x\n../plain\n")
    (tmp_path / "RECORDS").write_text("p1\nplain\np2/\nempty/\np1/\n../outside/\n")
    assert find_records(tmp_path) == ["p1/x", "p1/../plain", "plain", "p2/deep/y", "p2/z", "empty/", "../outside/"]


def test_lists_that_contain_themselves_end(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "again").symlink_to(tmp_path / "p")
    (tmp_path / "p" / "RECORDS").write_text("again\nx\n")
    (tmp_path / "RECORDS").write_text("p/\n./\n")
    assert find_records(tmp_path) == ["p/again", "p/x", "./"]


def test_lists_that_name_each_other_are_followed_once(tmp_path: Path) -> None:
    """Eight folders that all list all: 8! paths, or 10^8 with a list that says the same ten times."""
    names = "abcdefgh"
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "RECORDS").write_text("".join(f"{other}/\n" for other in names) + "r\n")
        for other in names:
            (tmp_path / name / other).symlink_to(f"../{other}")
    (tmp_path / "RECORDS").write_text("".join(f"{name}/\n" for name in names) * 10)
    found = find_records(tmp_path)
    assert len(found) == len(set(found)) < 100
    assert sum(name.endswith("/r") for name in found) == len(names)


def test_list_outside_the_archive_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("password\n")
    (tmp_path / "archive" / "p").mkdir(parents=True)
    (tmp_path / "archive" / "RECORDS").write_text("p\n")
    (tmp_path / "archive" / "p" / "RECORDS").symlink_to(tmp_path / "secret")
    assert find_records(tmp_path / "archive") == ["p"]


def test_without_a_list_all_headers_are_found_sorted(tmp_path: Path) -> None:
    headers(tmp_path, "b/2", "b/1", "a", "b/c/3")
    (tmp_path / "b" / "1.dat").write_bytes(b"")
    assert find_records(tmp_path) == ["a", "b/1", "b/2", "b/c/3"]


def test_header_names_that_are_no_text_keep_a_row(tmp_path: Path) -> None:
    headers(tmp_path, "good")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff.hea")).write_text("")
    listing = list_archive(tmp_path)
    assert listing["record_name"].values.tolist() == ["bad\\udcff", "good"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, r"expected WFDB records.*neither RECORDS nor any \*.hea"), ("\n\n", "a RECORDS file that lists none")],
)
def test_archive_without_records_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "RECORDS").write_text(content)
    with pytest.raises(ValueError, match=message):
        find_records(tmp_path)


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a folder of WFDB records"):
        find_records(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "RECORDS")
    with pytest.raises(ValueError, match=r"RECORDS: expected a list of record names.*pipe"):
        find_records(tmp_path)


def test_listing_tells_what_the_archive_was_made_of(synthetic: tuple[Path, Truth]) -> None:
    folder, truth = synthetic
    listing = list_archive(folder)
    assert listing["record_name"].values.tolist() == [record.record_name for record in truth.records]
    assert listing["patient_id"].values.tolist() == [record.patient_id for record in truth.records]
    assert listing["label"].values.tolist() == [LABEL[record.label] for record in truth.records]
    assert listing["infarct_location"].values.tolist() == [record.infarct_location for record in truth.records]
    mi = {"mi": 1, "control": 0}
    assert listing["mi"].values.tolist() == [mi.get(record.label, -1) for record in truth.records]
    assert set(listing["leads"].values.tolist()) == {" ".join(LEADS)}
    assert listing.attrs == {"labels_unmatched": 0}


def test_listing_has_the_types_of_the_signals_schema(synthetic: tuple[Path, Truth]) -> None:
    listing = list_archive(synthetic[0])
    columns = {name for name, variable in SIGNALS.columns().items() if variable.dims == ("record",)}
    assert columns - set(listing.data_vars) == {"source_digest"}
    for name in columns & set(listing.data_vars):
        assert listing[name].dtype == SIGNALS.variables[name].numpy_dtype, name
    assert set(listing.data_vars) - columns == {"leads", "n_bytes", "files", "cart"}


def test_engine_order_and_chunks_do_not_matter(synthetic: tuple[Path, Truth], monkeypatch: pytest.MonkeyPatch) -> None:
    expected = list_archive(synthetic[0])
    monkeypatch.setattr(listing_room, "CHUNK_RECORDS", 5)
    assert list_archive(synthetic[0], map=backwards).identical(expected)


def test_label_table_wins_over_paths_and_comments(synthetic: tuple[Path, Truth], tmp_path: Path) -> None:
    folder, truth = synthetic
    before = list_archive(folder)
    names = [record.record_name for record in truth.records]
    labels = tmp_path / "mine.csv"
    labels.write_text(f"record,patient_id,label\n{names[0]},P-7,other\n{names[1]},,\nelsewhere,p,mi\n")
    listing = list_archive(folder, labels=labels)
    assert listing["label"].values.tolist()[:2] == [LABEL["other"], LABEL["unknown"]]
    assert listing["mi"].values.tolist()[:2] == [-1, -1]
    assert listing["patient_id"].values.tolist()[:2] == ["P-7", truth.records[1].patient_id]
    assert listing["label_rule"].values.tolist()[:3] == ["labels:mine.csv"] * 2 + ["ptb:reason_for_admission"]
    assert listing.attrs == {"labels_unmatched": 1}
    same = (listing["fingerprint"].values == before["fingerprint"].values).tolist()
    assert same == [False, False] + [True] * 10


def test_patient_that_nothing_tells_is_the_record_itself(changeable: Path) -> None:
    (changeable / "RECORDS").unlink()
    header = sorted(changeable.rglob("*.hea"))[0]
    for file in header.parent.glob(f"{header.stem}.*"):
        file.rename(changeable / file.name)
    listing = list_archive(changeable)
    row = listing["record_name"].values.tolist().index(header.stem)
    assert listing["patient_id"].values[row] == header.stem
    assert listing["patient_unknown"].values.tolist().count(1) == listing["patient_unknown"].values[row] == 1


def test_fingerprint_follows_content_and_not_the_archives_place(synthetic: tuple[Path, Truth], changeable: Path) -> None:
    expected = list_archive(synthetic[0])
    assert list_archive(changeable).identical(expected)
    names = expected["record_name"].values.tolist()
    with (changeable / f"{names[0]}.dat").open("ab") as file:
        file.write(b"\0")
    with (changeable / f"{names[1]}.hea").open("a") as file:
        file.write("# later\n")
    (changeable / f"{names[2]}.xyz").unlink()
    same = (list_archive(changeable)["fingerprint"].values == expected["fingerprint"].values).tolist()
    assert same == [False] * 3 + [True] * 9


def test_same_samples_under_two_names_are_two_rows_and_a_warning(tmp_path: Path) -> None:
    record = simple(300)
    record.write(tmp_path / "a")
    replace(record, name="s", leads=[replace(lead, file="s.dat", fmt=32) for lead in record.leads]).write(tmp_path / "b")
    simple(300, seed=50).write(tmp_path / "c")
    listing = list_archive(tmp_path, read_data=True)
    assert listing["warnings"].values.tolist() == ["SAME_CONTENT", "SAME_CONTENT", ""]
    assert listing["status"].values.tolist() == [0, 0, 0]


def test_records_of_one_patient_that_contradict_each_other_are_named(tmp_path: Path) -> None:
    for seed, reason in enumerate(("Myocardial infarction", "Healthy control", "n/a")):
        replace(simple(300, seed=10 * seed), comments=[f"Reason for admission: {reason}"]).write(
            tmp_path / "patient001" / str(seed)
        )
    replace(simple(300, seed=90), comments=["Reason for admission: Healthy control"]).write(tmp_path / "patient002")
    listing = list_archive(tmp_path)
    assert listing["warnings"].values.tolist() == ["LABELS_CONFLICT"] * 3 + [""]
    assert listing["label"].values.tolist() == [LABEL["mi"], LABEL["control"], LABEL["unknown"], LABEL["control"]]
    assert summarise(listing)["patients_in_conflict"] == ["patient001"]


def test_cut_header_does_not_change_a_diagnosis(changeable: Path) -> None:
    name = find_records(changeable)[0]
    header = changeable / f"{name}.hea"
    start = header.read_text().partition("# Reason")[0]
    for ending, word in (("My", "unknown"), ("Myocardial infarction", "mi"), ("Hypertrophy\n", "other")):
        header.write_text(f"{start}# Reason for admission: {ending}")
        assert list_archive(changeable)["label"].values[0] == LABEL[word]


def test_reading_the_data_finds_what_headers_cannot_tell(changeable: Path) -> None:
    names = find_records(changeable)
    path = changeable / f"{names[4]}.dat"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    (changeable / f"{names[5]}.xyz").unlink()
    (changeable / f"{names[6]}.hea").unlink()
    assert list_archive(changeable)["reason"].values[4] == ""
    listing = list_archive(changeable, read_data=True)
    assert listing["reason"].values.tolist()[4:7] == ["CHECKSUM_MISMATCH", "LEADS_MISSING", "LISTED_MISSING"]
    assert listing["status"].values.tolist()[3:7] == [STATUS[word] for word in ("ok", "set_aside", "partial", "set_aside")]
    assert "checksum" in listing["status_detail"].values[4]
    summary = summarise(listing)
    assert summary["n_set_aside"] == {"CHECKSUM_MISMATCH": 1, "LISTED_MISSING": 1}
    assert (summary["n_records"], summary["n_ok"], summary["n_partial"]) == (12, 9, 1)
    assert [problem["record"] for problem in summary["problems"]] == [names[4], names[6], names[5]]
    assert summary["leads"]["I"] == 10
    assert summary["leads"]["Vx"] == 9


def test_summary_counts_everything_in_plain_numbers(synthetic: tuple[Path, Truth]) -> None:
    folder, truth = synthetic
    summary = summarise(list_archive(folder))
    assert json.loads(json.dumps(summary)) == summary
    assert summary["n_patients"] == len({record.patient_id for record in truth.records})
    assert summary["n_set_aside"] == {}
    assert summary["sampling_frequencies_hz"] == {"250": 12}
    assert summary["duration_hours"] == pytest.approx(12 * 2 / 3600, abs=1e-3)
    assert sum(summary["labels"].values()) == 12


def test_summary_of_an_archive_without_a_usable_record(tmp_path: Path) -> None:
    headers(tmp_path, "a")
    summary = summarise(list_archive(tmp_path))
    assert (summary["n_set_aside"], summary["duration_hours"], summary["leads"]) == ({"HEADER_EMPTY": 1}, 0.0, {})


def test_ptb_excerpt_is_listed_as_published(test_data: Path) -> None:
    listing = list_archive(test_data / "ptb", read_data=True)
    summary = summarise(listing)
    assert summary["labels"] == {"control": 21, "mi": 18, "other": 1}
    assert (summary["n_records"], summary["n_patients"], summary["n_partial"], summary["n_set_aside"]) == (40, 30, 4, {})
    is_mi = listing["mi"].values == 1
    assert all(listing["infarct_location"].values[is_mi].tolist())
    assert np.isfinite(listing["age_years"].values[is_mi]).all()


def test_ptbxl_excerpt_is_labelled_by_its_table(test_data: Path) -> None:
    summary = summarise(list_archive(test_data / "ptbxl", labels=test_data / "ptbxl" / "labels.csv", map=backwards))
    assert (summary["n_records"], summary["labels"]) == (492, {"control": 340, "mi": 152})
    assert (summary["n_patients_unknown"], summary["labels_unmatched"], summary["n_set_aside"]) == (0, 0, {})


def test_mitbih_excerpt_has_unknown_patients_and_labels(test_data: Path) -> None:
    summary = summarise(list_archive(test_data / "mitdb-ds1"))
    assert (summary["n_records"], summary["n_patients_unknown"], summary["labels"]) == (22, 22, {"unknown": 22})


def test_import_leaves_wfdb_alone() -> None:
    code = "import sys, ecgbatch.archive.listing; sys.exit('wfdb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
