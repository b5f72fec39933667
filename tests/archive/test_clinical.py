"""Age, sex, diagnosis and label: from header comments as published, and from label tables."""

from __future__ import annotations

import csv
import math
from dataclasses import astuple
from datetime import date
from pathlib import Path

import pytest

from ecgbatch.archive.clinical import (
    CHALLENGE_RULE,
    PTB_RULE,
    PTBXL_RULE,
    Clinical,
    label_rule,
    normalise_location,
    read_clinical,
    read_labels,
)
from ecgbatch.formats.wfdb_header import parse_header
from ecgbatch.terms import LABEL, SEX


def ptb(reason: str, acute: str = "no", former: str = "no", age: str = "81", sex: str = "female") -> Clinical:
    return read_clinical(
        [
            f"age: {age}",
            f"sex: {sex}",
            "ECG date: 01/10/1990",
            "Diagnose:",
            f"Reason for admission: {reason}",
            f"Acute infarction (localization): {acute}",
            f"Former infarction (localization): {former}",
            "Infarction date (acute): 29-Sep-90",
        ]
    )


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        ("Myocardial infarction", "mi"),
        (" myocardial  INFARCTION ", "mi"),
        ("Healthy control", "control"),
        ("Unstable angina", "other"),
        ("Heart failure (NYHA 2)", "other"),
        ("n/a", "unknown"),
        ("", "unknown"),
    ],
)
def test_reason_for_admission_alone_decides_the_label(reason: str, word: str) -> None:
    clinical = ptb(reason)
    assert clinical.label == LABEL[word]
    assert clinical.label_rule == PTB_RULE
    assert clinical.diagnosis.strip() == ("" if word == "unknown" else reason.strip())


@pytest.mark.parametrize(
    ("dates", "year", "day"),
    [
        (["01/10/1990"], 1990, (10, 1)),
        (["1.10.1990"], 1990, (10, 1)),
        (["29-Sep-1990"], 1990, (9, 29)),
        (["1990-10-01"], 1990, (10, 1)),
        (["1990"], 1990, None),
        (["01/25/1990"], 1990, None),
        (["12-Hex-1990"], 1990, None),
        (["01/10/1990", "05/12/1990"], 1990, None),
        (["01/10/1990", "01.10.1990"], 1990, (10, 1)),
        (["01/10/1990", "01/10/1991"], -1, None),
        (["29-Sep-90"], -1, None),
        (["01/10/1190"], -1, None),
        (["01/10/1990 Dr. Canary"], -1, None),
        (["n/a"], -1, None),
        ([], -1, None),
    ],
)
def test_of_a_date_year_and_day_are_read_and_none_in_doubt(dates: list[str], year: int, day: tuple[int, int] | None) -> None:
    clinical = read_clinical([f"ECG date: {date}" for date in dates] + ["Infarction date (acute): 29-Sep-1989"])
    expected = Clinical(recording_year=year, recording_day=date(year, *day).toordinal() if day else -1)
    assert astuple(clinical) == astuple(expected)  # from Python 3.13 on dataclasses with the same NaN are not equal


def test_nothing_said_is_unknown_and_no_rule_is_claimed() -> None:
    for comments in ([], ["Diapres"], ["Additional diagnoses: Myocardial infarction"]):
        clinical = read_clinical(comments)
        assert math.isnan(clinical.age_years)
        assert (clinical.sex, clinical.label, clinical.label_rule, clinical.diagnosis) == (0, LABEL["unknown"], "", "")


def test_reasons_that_differ_are_no_reason() -> None:
    comments = ["Reason for admission: Healthy control", "Reason for admission: Myocardial infarction"]
    clinical = read_clinical(comments)
    assert clinical.label == LABEL["unknown"]
    assert clinical.diagnosis == "Healthy control; Myocardial infarction"


@pytest.mark.parametrize(
    ("text", "location"),
    [
        ("infero-latera", "infero-lateral"),
        ("infero-poster-lateral", "infero-postero-lateral"),
        ("antero-septo-lateral", "antero-septo-lateral"),
        ("Antero - Septal ?", "antero-septal"),
        ("inferior (1+2)", "inferior"),
        ("anterior (1), anterior (2)", "anterior"),
        ("infero-posterior (1), inferior (2)", "infero-posterior, inferior"),
        ("right ventricle", "right ventricle"),
        ("no", ""),
        ("n/a", ""),
        ("unknown", ""),
        ("", ""),
    ],
)
def test_localisations_have_one_spelling(text: str, location: str) -> None:
    assert normalise_location(text) == location
    assert normalise_location(location) == location


def test_acute_infarction_comes_before_former() -> None:
    mi = "Myocardial infarction"
    both = ptb(mi, "inferior", "anterior")
    assert (both.infarct_location, both.infarct_age) == ("inferior", "acute")
    former = ptb(mi, "no", "anterior (1), inferior (2)")
    assert (former.infarct_location, former.infarct_age) == ("anterior, inferior", "former")
    unknown = ptb(mi, "unknown", "unknown")
    assert (unknown.infarct_location, unknown.infarct_age) == ("", "")


@pytest.mark.parametrize(
    ("text", "years"),
    [
        *[("81", 81), ("0", 0), ("54.5", 54.5), ("62 years", 62), ("90", 90), ("101", 90), (">89", 90), ("300", 90)],
        *[(text, None) for text in ("n/a", "-1", "999", "<1", "1e3", "12345", "unknown", "6 months", "3 d", "")],
    ],
)
def test_age_is_years_up_to_90_or_unknown(text: str, years: float | None) -> None:
    age = ptb("n/a", age=text).age_years
    assert math.isnan(age) if years is None else age == years


@pytest.mark.parametrize(
    ("comment", "age", "sex"),
    [
        ("75 F 1011 654 x1", 75, "female"),
        ("23 M 2546 N/A x1", 23, "male"),
        ("-1 M 1085 1629 x1", None, "male"),
        ("Age: 62  Sex: M", 62, "male"),
        ("<age>: 30", 30, "unknown"),
        ("75 F", None, "unknown"),
        ("gestational age: 3", None, "unknown"),
    ],
)
def test_other_databases_tell_age_and_sex(comment: str, age: float | None, sex: str) -> None:
    clinical = read_clinical([comment, "Digoxin"])
    assert math.isnan(clinical.age_years) if age is None else clinical.age_years == age
    assert clinical.sex == SEX[sex]
    assert clinical.label == LABEL["unknown"]


def test_whole_ptb_table_reads_as_labels_and_known_walls(test_data: Path) -> None:
    with (test_data / "ptb_records.csv").open() as lines:
        table = [ptb(row["reason"], row["acute_loc"], row["former_loc"], row["age"], row["sex"]) for row in csv.DictReader(lines)]
    words = [clinical.label for clinical in table]
    assert [words.count(LABEL[word]) for word in ("mi", "control", "other", "unknown")] == [368, 80, 74, 27]
    walls = {place for clinical in table for place in clinical.infarct_location.split(", ")}
    last_parts = {place.rpartition("-")[2] for place in walls - {""}}
    assert last_parts == {"anterior", "inferior", "posterior", "lateral", "septal"}
    assert all(clinical.infarct_location for clinical in table if clinical.label == LABEL["mi"])
    assert sum(clinical.sex == SEX["male"] for clinical in table) == 391


def test_real_headers_tell_age_and_sex(test_data: Path) -> None:
    headers = sorted((test_data / "mitdb-ds1").glob("*.hea"))
    people = [read_clinical(parse_header(header.read_bytes(), header.stem).comments) for header in headers]
    assert len(people) == 22
    assert all(person.sex != SEX["unknown"] for person in people)
    assert sum(not math.isnan(person.age_years) for person in people) >= 20


def test_label_table_is_read_with_or_without_byte_order_mark(tmp_path: Path) -> None:
    text = "fold,Record,patient_id,label\r\n1,a/b,p1,mi\r\n\r\n2,c,,\r\n3,ü,p2,Control\r\n3,d,p2,other\r\n2,c,,\r\n"
    expected = {"a/b": ("p1", 2), "c": ("", 0), "ü": ("p2", 1), "d": ("p2", 3)}
    for encoding in ("utf-8", "utf-8-sig"):
        (tmp_path / "labels.csv").write_bytes(text.encode(encoding))
        assert read_labels(tmp_path / "labels.csv") == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"record,label\na,mi\n", r"labels.csv, line 1: expected the columns .* found 'record, label': check patient_id"),
        (b"record;patient_id;label\n", "separated by commas"),
        (b"record,patient_id,label,label\n", "once each.*check label"),
        (b"", "line 1: expected the columns .* found an empty file"),
        (b"record,patient_id,label\na,p,sick\n", "line 2: expected label mi, control, other or nothing, found 'sick'"),
        (b"record,patient_id,label\na,p,mi\n ,p,mi\n", "line 3: expected a record name, found an empty field"),
        (b"record,patient_id,label\na,p,mi\nb,p,\na,p,control\n", "line 4: record 'a' was already on line 2"),
        (b"record,patient_id,label\na,mi\n", "line 2: expected 3 fields as in the header, found 2"),
        (b"record,patient_id,label\na,Doe, J,mi\n", "line 2: expected 3 fields as in the header, found 4"),
        (b"record,patient_id,label\na,p,mi\n\xe4,p,mi\n", "line 3: expected text in UTF-8"),
        (b'record,patient_id,label\na,"p"x,mi\n', "line 2: expected CSV"),
    ],
)
def test_label_table_errors_name_file_line_expected_and_found(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_labels(tmp_path / "labels.csv")


@pytest.mark.parametrize(
    ("codes", "word"),
    [
        ("164865005", "mi"),
        ("426783006,164867002", "mi"),
        ("57054005, 164889003", "mi"),
        ("426783006", "control"),
        ("426783006,270492004", "other"),
        ("164861001", "other"),
        ("Unknown", "unknown"),
    ],
)
def test_challenge_headers_are_labelled_by_their_snomed_codes(codes: str, word: str) -> None:
    clinical = read_clinical(["Age: 74", "Sex: Male", f"Dx: {codes}", "Rx: Unknown"])
    assert (clinical.label, clinical.label_rule) == (LABEL[word], CHALLENGE_RULE)
    assert (clinical.age_years, clinical.sex) == (74, SEX["male"])


def test_reason_for_admission_wins_over_codes() -> None:
    clinical = read_clinical(["Dx: 164865005", "Reason for admission: Healthy control"])
    assert (clinical.label, clinical.label_rule) == (LABEL["control"], PTB_RULE)


PTBXL = "ecg_id,patient_id,age,report,scp_codes,filename_lr,filename_hr\n"


@pytest.mark.parametrize(
    ("codes", "word"),
    [
        ("{'NORM': 100.0, 'LVOLT': 0.0, 'SR': 0.0}", "other"),
        ("{'NORM': 80.0, 'SR': 0.0}", "control"),
        ("{'NORM': 100.0}", "control"),
        ("{'IMI': 100.0, 'SR': 0.0}", "mi"),
        ("{'NORM': 80.0, 'ASMI': 50.0}", "mi"),
        ("{'IMI': 35.0, 'NDT': 100.0}", "unknown"),
        ("{'AMI': 0.0}", "unknown"),
        ("{'INJAS': 100.0}", "unknown"),
        ("{'CLBBB': 100.0}", "other"),
        ("{}", "other"),
    ],
)
def test_ptbxl_table_is_labelled_by_its_statements(tmp_path: Path, codes: str, word: str) -> None:
    table = tmp_path / "ptbxl_database.csv"
    table.write_text(f'{PTBXL}1,15709.0,56,"sinus\nrhythm, ok","{codes}",records100/00000/00001_lr,records500/00000/00001_hr\n')
    entry = ("15709", LABEL[word])
    assert label_rule(table) == PTBXL_RULE
    assert read_labels(table) == {"records100/00000/00001_lr": entry}
    names = {"records500/00000/00001_hr", "records500/00000/00002_hr"}
    assert read_labels(table, names) == {"records500/00000/00001_hr": entry}


@pytest.mark.parametrize("codes", ["NORM", "{NORM: 100}", "{'NORM': x}", "__import__('os')", "{'A': 1.0", ""])
def test_statements_that_are_none_are_refused_and_never_run(tmp_path: Path, codes: str) -> None:
    table = tmp_path / "t.csv"
    table.write_text(f'{PTBXL}1,1.0,5,x,"{codes}",a,b\n')
    with pytest.raises(ValueError, match=r"t.csv, line 2: expected scp_codes such as"):
        read_labels(table)


def test_own_table_is_named_as_the_rule(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("record,patient_id,label,scp_codes,filename_lr,filename_hr\na,p,mi,x,y,z\n")
    assert label_rule(tmp_path / "mine.csv") == "labels:mine.csv"
    assert read_labels(tmp_path / "mine.csv") == {"a": ("p", LABEL["mi"])}


def test_label_table_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none.csv: expected a label table .*No such file"):
        read_labels(tmp_path / "none.csv")
