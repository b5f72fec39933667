"""The evaluation: what it says follows from the scores, compares fairly, and shows a leak where there is one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecgbatch.beats.lookup import current_beats, extract_beats
from ecgbatch.beats.record import BeatSettings
from ecgbatch.evaluation import audit
from ecgbatch.evaluation.baselines import Records, baselines, folds, out_of_fold
from ecgbatch.figures.by_patient import paired_difference, patient_figures
from ecgbatch.model.files import shipped_model
from ecgbatch.signals.stage import convert_archive
from ecgbatch.synthetic.archive import ArchiveShape, write_archive
from ecgbatch.terms import DECISION
from ecgbatch.training import data, recipes


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("audit")
    write_archive(folder / "archive", ArchiveShape(n_records=16, duration_s=12.0), seed=4)
    convert_archive(str(folder / "archive"), str(folder / "W"))
    extract_beats(str(folder / "W"), BeatSettings())
    return str(folder / "W")


@pytest.fixture(scope="module")
def found(work: str) -> dict[str, Any]:
    model = str(shipped_model("mi-lead-ii"))
    return audit.evaluate_workspace(work, model, against=model, with_baselines=True, with_audit=True)


def test_the_evaluation_is_json_and_states_its_parts(found: dict[str, Any]) -> None:
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert {"ppv", "npv", "ece", "recalibrated", "subgroups", "other_diagnoses", "indeterminate_band"} < set(found)
    assert found["against"]["auroc"]["difference"]["value"] == 0.0
    assert {"sex", "age", "infarction", "period", "quality"} <= {group["kind"] for group in found["subgroups"]}
    assert found["audit"]["shortcuts"]["year of recording"] == "not known here"
    assert set(found["audit"]["shortcuts"]) == {
        "record length",
        "year of recording",
        "age and sex",
        "heart rate",
        "noise",
        "DC offset",
    }


def test_every_baseline_is_compared_on_the_same_patients(found: dict[str, Any]) -> None:
    for figures in found["baselines"].values():
        compared = figures["model_minus_it"]["auroc"]
        assert compared["second"] == pytest.approx(figures["auroc"]["value"])
        assert compared["difference"]["n_patients"] == figures["auroc"]["n_patients"]
    assert found["baselines"]["majority"]["auroc"]["value"] == 0.5


def test_the_band_counts_every_labelled_record_once(found: dict[str, Any]) -> None:
    band = found["indeterminate_band"]
    assert band["n_indeterminate"] <= found["decisions"]["indeterminate"]
    assert band["n_records"] == found["n_records_evaluated"]
    assert sum(found["other_diagnoses"]["decisions"].values()) == found["other_diagnoses"]["n_records"]
    assert set(found["other_diagnoses"]["decisions"]) == set(DECISION)


def _records(n_patients: int = 40, beats_each: int = 6) -> Records:
    """Hearts as different as fingerprints and labels without any sign: only who has seen the patient can know."""
    random = np.random.default_rng(0)
    hearts = random.normal(0, 1, (n_patients, 1, 2, 88)).astype(np.float32)
    beats = (hearts + random.normal(0, 0.2, (n_patients, beats_each, 2, 88))).astype(np.float32)
    patients = tuple(f"p{number}" for number in range(n_patients))
    columns = {"heart rate": random.normal(70, 5, (n_patients, 1)), "age and sex": np.full((n_patients, 2), np.nan)}
    medians, beat_record = np.median(beats, axis=1), np.repeat(np.arange(n_patients), beats_each)
    return Records(patients, patients, np.arange(n_patients) % 2, medians, beats.reshape(-1, 2, 88), beat_record, columns)


def test_beats_split_at_random_leak_and_patients_apart_do_not() -> None:
    wrong, right = audit.leak(_records(), 5, "key").values()
    assert wrong["value"] == 1.0
    assert right["value"] < 0.75


def test_no_patient_is_in_training_and_test() -> None:
    records = _records()
    for train, test in folds(records, 5, "key"):
        assert not (train & test).any()
        assert (train | test).all()


def test_a_baseline_learns_what_is_there_and_nothing_where_nothing_is() -> None:
    records = _records(60)
    told = records.mi[:, None] + np.random.default_rng(1).normal(0, 0.3, (60, 1))
    auroc = {
        name: patient_figures(
            out_of_fold(name, features, records, n_folds=5, key="key"), records.mi, records.patient_id, names=("auroc",)
        )["auroc"]["value"]
        for name, features in {"heart rate": told, "age and sex": records.columns["age and sex"]}.items()
    }
    assert auroc["heart rate"] > 0.95
    assert auroc["age and sex"] < 0.7
    assert set(baselines(records)) == {"majority", "heart rate", "age and sex", "median beat, PCA", "random kernels"}


def test_a_paired_difference_is_narrower_than_two_intervals_apart() -> None:
    random = np.random.default_rng(3)
    mi = np.arange(200) % 2
    first = 1 / (1 + np.exp(-(1.2 * mi + random.normal(0, 1, 200))))
    second = np.clip(first + random.normal(0, 0.02, 200), 0, 1)
    names = [f"p{number // 2}" for number in range(200)]
    mi = np.array([number // 2 % 2 for number in range(200)])
    paired = paired_difference(first, second, mi, names)["auroc"]
    alone = patient_figures(first, mi, names)["auroc"]
    width = paired["difference"]["high"] - paired["difference"]["low"]
    assert width < 0.5 * (alone["high"] - alone["low"])
    assert paired["difference"]["value"] == pytest.approx(paired["first"] - paired["second"])
    assert paired["first"] == pytest.approx(alone["value"])


def test_a_difference_needs_both_classes() -> None:
    assert paired_difference([0.5], [0.4], [1], ["a"])["auroc"]["difference"]["value"] is None


def test_predictive_values_and_calibration_error_of_a_known_table() -> None:
    p, mi = np.repeat([0.05, 0.95], 50), np.r_[np.repeat(0, 45), np.repeat(1, 5), np.repeat(1, 40), np.repeat(0, 10)]
    figures = patient_figures(p, mi, [f"p{n}" for n in range(100)], names=("ppv", "npv", "ece"))
    assert figures["ppv"]["value"] == pytest.approx(0.8)
    assert figures["npv"]["value"] == pytest.approx(0.9)
    assert figures["ece"]["value"] == pytest.approx(0.5 * 0.05 + 0.5 * 0.15)
    assert figures["ppv"]["n_patients"] == 50


def test_training_anew_tests_patients_out_of_fold(work: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    settings, beats = recipes.RECIPES["ecgbatch-lead-ii"]
    quick = replace(settings, epochs=1, min_steps=4, n_kernels=16)
    monkeypatch.setattr(recipes, "RECIPES", {"quick": (quick, beats)})
    done = audit.repeated(work, [work], audit.Repeats("quick", 2, 2), map_training=map)
    assert done["is_out_of_fold"]
    assert len(done["repeats"]) == 2
    assert done["repeats"][0]["auroc"]["n_patients"] == done["repeats"][1]["auroc"]["n_patients"] > 4
    assert done["mean"]["auroc"]["lowest"] <= done["mean"]["auroc"]["mean"] <= done["mean"]["auroc"]["highest"]
    leaking = audit.repeated(work, [work], audit.Repeats("quick", 2, 1, by_beat=True), map_training=map)
    assert leaking["unit"].startswith("beats: LEAKS")
    assert leaking["goes_on_from"] == "random weights"
    assert leaking["repeats"][0]["auroc"]["n_patients"] > 5 * done["repeats"][0]["auroc"]["n_patients"]


def test_beats_dealt_at_random_are_read_in_blocks_of_any_size(work: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, beats = recipes.RECIPES["ecgbatch-lead-ii"]
    rows = recipes.current_rows(current_beats(work, beats))
    stores = {f"{work}/beats/{digest}.zarr": chosen for digest, chosen in rows.items()}
    assert len(list(data.single_beats(stores))) == 1
    at_once, _ = data.prepare_training(data.single_beats(stores), settings, tmp_path)
    monkeypatch.setattr(data, "BLOCK_BYTES", 50_000)
    assert len(list(data.single_beats(stores))) > 2
    in_blocks, _ = data.prepare_training(data.single_beats(stores), settings, tmp_path)
    assert in_blocks == at_once  # a folder is named by the digest of what it holds
