"""The synthetic archive: readable by WFDB, true to its lead sums and its truth, the same bytes from the same seed."""

from __future__ import annotations

import csv
import hashlib
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from ecgbatch.synthetic.archive import (
    SYNTHETIC_NOTE,
    ArchiveShape,
    Truth,
    plan_records,
    plan_records_like,
    synthetic_record,
    write_archive,
)
from ecgbatch.synthetic.heart_vector import Case, compute_leads
from ecgbatch.terms import LABEL, LEADS

with warnings.catch_warnings():  # wfdb 4.3.1 uses an argument that pandas 3.1 deprecates
    warnings.simplefilter("ignore")
    import wfdb

DIAGNOSES = ("Healthy control", "Myocardial infarction", "Bundle branch block", "Hypertrophy", "Dysrhythmia", "Cardiomyopathy")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Truth]:
    folder = tmp_path_factory.mktemp("synthetic")
    return folder, write_archive(folder, ArchiveShape(n_records=12, duration_s=10.0), seed=3)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_wfdb_reads_what_was_computed(tmp_path: Path) -> None:
    truth = write_archive(tmp_path, ArchiveShape(n_records=3, duration_s=5.0), seed=8)
    for plan, record in zip(plan_records(3, 5000, seed=8), truth.records, strict=True):
        case = Case(plan.diagnosis, plan.infarct_location, plan.acute_infarction != "no", plan.record_number)
        signal, r_sample, _ = compute_leads(
            case, seed=8, patient_number=plan.patient_number, n_samples=5000, sampling_frequency_hz=1000.0, n_leads=15
        )
        read = wfdb.rdrecord(str(tmp_path / record.record_name), physical=False)
        np.testing.assert_array_equal(read.d_signal.T, signal)
        np.testing.assert_array_equal(record.r_sample, r_sample)


def test_header_agrees_with_the_samples(archive: tuple[Path, Truth]) -> None:
    folder, truth = archive
    assert (folder / "RECORDS").read_text().split() == [record.record_name for record in truth.records]
    for record in truth.records:
        read = wfdb.rdrecord(str(folder / record.record_name), physical=False)
        assert [name.lower() for name in read.sig_name] == [lead.lower() for lead in LEADS]
        assert (read.sig_len, read.fs, set(read.adc_gain), set(read.units)) == (record.n_samples, 1000, {2000.0}, {"mV"})
        assert [checksum % 65536 for checksum in read.checksum] == [
            int(lead.sum()) % 65536 for lead in read.d_signal.T.astype(int)
        ]
        assert read.init_value == list(read.d_signal[0])
        assert SYNTHETIC_NOTE in read.comments
        assert f"Reason for admission: {record.diagnosis}" in read.comments


@pytest.mark.parametrize("diagnosis", DIAGNOSES)
def test_lead_sums_hold_within_rounding(diagnosis: str) -> None:
    signal, _ = synthetic_record(diagnosis=diagnosis, seed=5, duration_s=10.0)
    one, two, three, right, left, foot = signal[:6].astype(np.int64)
    assert np.abs(two - one - three).max() <= 1
    assert np.abs(2 * right + one + two).max() <= 2  # each within 1 adu of -(I + II) / 2
    assert np.abs(2 * left - 2 * one + two).max() <= 3
    assert np.abs(2 * foot - 2 * two + one).max() <= 3


@pytest.mark.parametrize("diagnosis", DIAGNOSES)
@pytest.mark.parametrize("rate_hz", [250.0, 1000.0])
def test_true_r_peaks_are_where_the_heart_vector_is_longest(diagnosis: str, rate_hz: float) -> None:
    signal, truth = synthetic_record(diagnosis=diagnosis, seed=11, duration_s=30.0, sampling_frequency_hz=rate_hz)
    frank = signal[12:].astype(np.float64)
    half, before = round(0.06 * rate_hz), round(0.11 * rate_hz)
    peaks = [r for r in truth.r_sample if before <= r < truth.n_samples - half]
    windows = np.stack([frank[:, r - half : r + half + 1] for r in peaks])
    windows -= np.stack([frank[:, r - before] for r in peaks])[:, :, None]  # wander
    found = np.argmax(np.linalg.norm(windows, axis=1), axis=1) - half
    assert len(peaks) > 20
    assert np.mean(np.abs(found) <= 0.010 * rate_hz) > 0.97
    assert np.abs(np.median(found)) <= 0.002 * rate_hz


def test_beats_are_as_many_as_the_heart_rate_says() -> None:
    for seed in range(20):
        _, truth = synthetic_record(seed=seed, duration_s=30.0)
        interval_s = np.diff(truth.r_sample) / truth.sampling_frequency_hz
        assert 0.55 < np.median(interval_s) < 1.15
        assert interval_s.min() > 0.3
        assert abs(len(truth.r_sample) - 30.0 / interval_s.mean()) < 2


def test_ectopic_beats_come_early_and_a_pause_follows() -> None:
    records = [synthetic_record(diagnosis="Dysrhythmia", seed=seed, duration_s=60.0)[1] for seed in range(6)]
    ectopic = [record for record in records if record.is_ectopic.any()]
    assert ectopic
    for record in ectopic:
        interval = np.diff(record.r_sample)
        early = np.flatnonzero(record.is_ectopic[1:-1])
        assert np.all(interval[early] < 0.8 * np.median(interval))
        assert np.all(interval[early + 1] > 1.15 * np.median(interval))


def test_an_infarction_lowers_r_of_its_wall_on_average() -> None:
    def r_of_v3(diagnosis: str, seed: int) -> float:
        signal, truth = synthetic_record(diagnosis=diagnosis, infarct_location="anterior", seed=seed, duration_s=8.0)
        return float(np.median([np.ptp(signal[8, max(r - 40, 0) : r + 5]) for r in truth.r_sample if 40 <= r < 7900]))

    healthy = np.array([r_of_v3("Healthy control", seed) for seed in range(25)])
    infarct = np.array([r_of_v3("Myocardial infarction", seed) for seed in range(25)])
    assert np.median(infarct) < 0.85 * np.median(healthy)
    assert infarct.max() > healthy.min()  # the classes overlap


def test_same_seed_same_bytes_on_any_engine(tmp_path: Path) -> None:
    shape = ArchiveShape(n_records=6, duration_s=4.0)
    write_archive(tmp_path / "plain", shape, seed=4)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        spawned = write_archive(tmp_path / "spawn", shape, seed=4, map=pool.map)
    backwards = write_archive(
        tmp_path / "back", shape, seed=4, map=lambda work, plans: [work(plan) for plan in reversed(list(plans))]
    )
    assert digests(tmp_path / "plain") == digests(tmp_path / "spawn") == digests(tmp_path / "back")
    assert [r.record_name for r in spawned.records] == [r.record_name for r in backwards.records]
    other = write_archive(tmp_path / "other", ArchiveShape(n_records=6, duration_s=4.0), seed=5)
    assert other.records[0].r_sample.tolist() != spawned.records[0].r_sample.tolist()


def test_writing_again_changes_nothing_and_another_archive_is_refused(tmp_path: Path) -> None:
    write_archive(tmp_path, ArchiveShape(n_records=2, duration_s=2.0))
    before = digests(tmp_path)
    write_archive(tmp_path, ArchiveShape(n_records=2, duration_s=2.0))
    assert digests(tmp_path) == before
    with pytest.raises(ValueError, match=r"expected an empty folder.*choose a new folder"):
        write_archive(tmp_path, ArchiveShape(n_records=2, duration_s=2.0), seed=1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep me")
    with pytest.raises(ValueError, match="found other files"):
        write_archive(tmp_path / "mine", ArchiveShape(n_records=2, duration_s=2.0))


def test_labels_and_shares_are_as_asked(archive: tuple[Path, Truth]) -> None:
    assert {record.label for record in archive[1].records} <= set(LABEL)
    plans = plan_records(400, 1000, seed=1)
    label_of = {plan.patient_id: plan.label for plan in plans}
    counts = [sum(plan.patient_id == patient for plan in plans) for patient in label_of]
    assert len(plans) == 400
    assert set(counts) == {1, 2, 3, 4}
    assert sum(label == "mi" for label in label_of.values()) == round(0.5 * len(label_of))
    assert sum(label == "other" for label in label_of.values()) == round(0.1 * len(label_of))
    assert all(bool(plan.infarct_location) == (plan.label == "mi") for plan in plans)
    assert len({plan.record_name for plan in plans}) == 400


def test_twelve_leads_have_no_xyz_file_and_equal_the_first_of_fifteen(tmp_path: Path) -> None:
    truth = write_archive(tmp_path, ArchiveShape(n_records=1, duration_s=3.0, n_leads=12, sampling_frequency_hz=500.0))
    assert not list(tmp_path.rglob("*.xyz"))
    read = wfdb.rdrecord(str(tmp_path / truth.records[0].record_name), physical=False)
    assert read.d_signal.shape == (1500, 12)
    twelve, _ = synthetic_record(n_leads=12, duration_s=3.0)
    fifteen, _ = synthetic_record(n_leads=15, duration_s=3.0)
    np.testing.assert_array_equal(twelve, fifteen[:12])


def test_table_of_another_archive_gives_its_shape(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text(
        "patient,sig_len,age,sex,reason,acute_loc,former_loc\n"
        "patient001,3000,81.0,female,Myocardial infarction,infero-latera,no\n"
        "patient001,2000,81.0,female,Myocardial infarction,no,anterior\n"
        "patient002,2500,,,n/a,,\n"
    )
    truth = write_archive(tmp_path / "archive", like=table)
    assert [record.n_samples for record in truth.records] == [3000, 2000, 2500]
    assert [record.infarct_location for record in truth.records] == ["infero-latera", "anterior", ""]
    assert [record.label for record in truth.records] == ["mi", "mi", "unknown"]
    table.write_text("patient,sig_len,age,sex,reason,acute_loc,former_loc\npatient001,many,81,female,Healthy control,no,no\n")
    with pytest.raises(ValueError, match=r"line 2: expected a number of samples.*'many'"):
        plan_records_like(table)
    table.write_text("patient,age\npatient001,81\n")
    with pytest.raises(ValueError, match=r"expected columns.*are not there"):
        plan_records_like(table)


def test_the_whole_ptb_database_can_be_imitated(test_data: Path) -> None:
    table = test_data / "ptb_records.csv"
    plans = plan_records_like(table)
    with table.open(newline="") as rows:
        lengths = [int(row["sig_len"]) for row in csv.DictReader(rows)]
    assert [plan.n_samples for plan in plans] == lengths
    assert len({plan.patient_id for plan in plans}) == 290
    assert sum(plan.label == "mi" for plan in plans) == 368
    assert sum(plan.label == "control" for plan in plans) == 80


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"n_leads": 8}, "expected 12 or 15"),
        ({"sampling_frequency_hz": 10.0}, "expected 100 to 10000 Hz"),
        ({"duration_s": 0.1}, "expected 1 s to one day"),
        ({"mi_share": 0.8, "other_share": 0.3}, "shares of at most 1 together"),
    ],
)
def test_impossible_settings_are_refused(tmp_path: Path, settings: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        write_archive(tmp_path / "archive", ArchiveShape(**settings))
    assert not (tmp_path / "archive").exists()
