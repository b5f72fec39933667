"""Days of recording: true only as differences within a patient; no date leaves the archive."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from ecgbatch.archive.listing import list_archive
from ecgbatch.archive.remembered import CACHE_FILE
from ecgbatch.formats.dicom import parse_dicom
from ecgbatch.formats.edf import parse_edf
from ecgbatch.signals.lookup import current_records
from ecgbatch.signals.stage import convert_archive
from ecgbatch.workspace.privacy import KEY_FILE, MOST_DAYS_APART, Pseudonyms, days_apart, workspace_pseudonyms
from storage import TEXT, list_stores, open_store
from tests.formats.dicom_files import ecg, encoded, group, waves
from tests.formats.test_bad_inputs import GOOD
from tests.formats.test_edf import GOOD as EDF
from tests.formats.test_edf import edf
from tests.workspace.test_privacy import columns_of, texts_of

DATES = {"patient001/a": "07/08/1990", "patient001/b": "19/08/1990", "patient002/c": "07/08/1990", "patient002/d": "n/a"}


def archive_of(folder: Path, dates: dict[str, str]) -> str:
    for name, day in dates.items():
        where, _, stem = name.rpartition("/")
        replace(GOOD, name=stem, comments=[f"ECG date: {day}"]).write(folder / where)
    return str(folder)


def days_of(work: str) -> dict[str, int]:
    records = current_records(work, ["record_name", "acquired_day"])
    return dict(zip(records["record_name"].values.tolist(), records["acquired_day"].values.tolist(), strict=True))


def apart(days: dict[str, int], then: str, now: str) -> float:
    return float(days_apart(np.int64(days[then]), np.int64(days[now])))


def test_days_of_a_patient_can_be_compared_those_of_two_and_of_two_workspaces_cannot(tmp_path):
    archive = archive_of(tmp_path / "archive", DATES)
    for work in ("one", "two"):
        convert_archive(archive, str(tmp_path / work))
    days = days_of(str(tmp_path / "one"))
    assert apart(days, "patient001/a", "patient001/b") == 12
    assert apart(days, "patient001/b", "patient001/a") == -12
    assert days["patient002/d"] == -1
    assert np.isnan(apart(days, "patient002/c", "patient002/d"))
    assert np.isnan(apart(days, "patient001/a", "patient002/c")), "one date, two patients"
    other = days_of(str(tmp_path / "two"))
    assert abs(other["patient001/a"] - days["patient001/a"]) > MOST_DAYS_APART
    assert apart(other, "patient001/a", "patient001/b") == 12


def test_every_night_and_every_worker_moves_a_patients_days_alike(tmp_path):
    work, archive = str(tmp_path / "w"), tmp_path / "archive"
    convert_archive(archive_of(archive, {"patient001/a": "07/08/1990"}), work)
    first = days_of(work)["patient001/a"]
    archive_of(archive, {"patient001/b": "31/12/1991"})
    convert_archive(str(archive), work, map=lambda function, tasks: reversed([function(task) for task in tasks]))
    days = days_of(work)
    assert days["patient001/a"] == first
    assert apart(days, "patient001/a", "patient001/b") == (date(1991, 12, 31) - date(1990, 8, 7)).days
    assert len(list_stores(work, "signals")) == 2


def test_a_key_that_was_lost_makes_an_order_unknown_and_never_a_wrong_one(tmp_path):
    work, archive = str(tmp_path / "w"), tmp_path / "archive"
    convert_archive(archive_of(archive, {"patient001/a": "07/08/1990"}), work)
    (tmp_path / "w" / KEY_FILE).unlink()
    convert_archive(archive_of(archive, {"patient001/b": "19/08/1990"}), work)
    assert np.isnan(apart(days_of(work), "patient001/a", "patient001/b"))


def test_neither_date_nor_its_number_nor_the_key_is_in_the_workspaces_stores_and_documents(tmp_path):
    work = tmp_path / "w"
    convert_archive(archive_of(tmp_path / "archive", DATES), str(work))
    key = (work / KEY_FILE).read_text()
    (work / KEY_FILE).unlink()
    text = texts_of(work) + columns_of(work)
    for secret in ("07/08", "1990-08", "19/08", str(date(1990, 8, 7).toordinal()), key, bytes.fromhex(key).decode("latin-1")):
        assert secret not in text
    looked = pq.read_table(work / CACHE_FILE)
    (store,) = (open_store(path) for path in list_stores(work, "signals"))
    true = {date(1990, 8, 7).toordinal(), date(1990, 8, 19).toordinal()}
    assert all(true.isdisjoint(looked.column(name).to_pylist()) for name in looked.column_names)
    for name, variable in store.variables.items():
        if variable.dtype.kind in "iuf" and variable.ndim == 1:
            assert true.isdisjoint(variable.values.tolist()), name
    assert "days" not in repr(store.attrs["settings"])


def test_moved_days_are_spread_evenly_and_the_key_is_in_no_repr():
    pseudonyms = Pseudonyms(b"k" * 32)
    moved = np.array([pseudonyms.day(f"patient{number:04}", 726_000) for number in range(2000)], float) / 2.0**48
    assert 0.48 < moved.mean() < 0.52
    assert moved.min() < 0.01
    assert moved.max() > 0.99
    assert "k" * 4 not in repr(pseudonyms)


def test_no_day_is_told_of_an_unknown_patient_nor_without_a_workspace(tmp_path):
    archive = archive_of(tmp_path / "archive", {"a": "07/08/1990", "patient001/b": "07/08/1990"})
    assert list_archive(archive)["acquired_day"].values.tolist() == [-1, -1]
    moved = list_archive(archive, pseudonyms=workspace_pseudonyms(tmp_path))["acquired_day"].values
    assert ((moved >= 0) == [False, True]).all()


@pytest.mark.parametrize(
    ("comment", "line", "is_known"),
    [
        ("07/08/1990", "", True),
        ("n/a", "07/08/1990", True),
        ("07/08/1990", "07/08/1990", True),
        ("07/08/1990", "08/08/1990", False),
        ("1991", "08/08/1990", False),
        ("07/08/1890", "", False),
        ("n/a", "07/08/1890", False),
    ],
)
def test_a_day_in_doubt_is_unknown(tmp_path, comment, line, is_known):
    header = tmp_path / "patient001" / f"{GOOD.name}.hea"
    replace(GOOD, comments=[f"ECG date: {comment}"]).write(tmp_path / "patient001")
    first, _, rest = header.read_text().partition("\n")
    header.write_text(f"{first} 10:11:12 {line}\n{rest}" if line else f"{first}\n{rest}")
    day = list_archive(tmp_path, pseudonyms=Pseudonyms(b"k" * 32))["acquired_day"].values
    assert (day >= 0).tolist() == [is_known]


def test_edf_and_dicom_state_days_too_and_what_took_a_date_out_states_none():
    whole = edf(*EDF)
    assert parse_edf(whole).header.recording_day == date(2002, 3, 2).toordinal()
    for text, year in (("02.03.85", 1985), ("02.03.99", 1999), ("02.03.84", 2084)):
        assert parse_edf(whole.replace(b"02.03.02", text.encode())).header.recording_day == date(year, 3, 2).toordinal()
    for text in ("01.01.85", "31.02.02", "02/03/02", "xx.xx.xx"):
        assert parse_edf(whole.replace(b"02.03.02", text.encode())).header.recording_day == -1
    one = partial(group, ("I", "II"), waves(2, 500))
    assert parse_dicom(encoded(ecg(one()))).header.recording_day == date(2002, 3, 2).toordinal()
    for text in ("", "2002", "20020231101112"):
        dataset = ecg(one())
        dataset.AcquisitionDateTime = text
        assert parse_dicom(encoded(dataset)).header.recording_day == -1, text


def test_a_store_of_an_earlier_version_knows_no_day_and_grows_on(tmp_path, monkeypatch):
    from ecgbatch.signals import table

    work, archive = str(tmp_path / "w"), tmp_path / "archive"
    without = {name: variable for name, variable in table.SIGNALS.variables.items() if name != "acquired_day"}
    with monkeypatch.context() as earlier:
        earlier.setattr(table, "SIGNALS", replace(table.SIGNALS, variables=without))
        convert_archive(archive_of(archive, {"patient001/a": "07/08/1990"}), work)
    done = convert_archive(archive_of(archive, {"patient001/b": "19/08/1990"}), work)
    assert (done.n_new, done.n_records, done.superseded) == (1, 2, ())
    days = days_of(work)
    assert days["patient001/a"] == -1
    assert days["patient001/b"] > 0
    assert np.array(list(days), TEXT).tolist() == ["patient001/a", "patient001/b"]
