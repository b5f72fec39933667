"""The paper's network, the files of a model, and the one definition of a record's probability."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.speed import naive
from ecgbatch.model.definition import DEFAULT_LEADS, Calibration, Member, Model, ModelError, OperatingPoint, Preprocessing
from ecgbatch.model.files import load_model, save_model, shipped_model
from ecgbatch.model.members import member_probabilities, members_for
from ecgbatch.model.network import SCORING_BATCH, BeatNet
from ecgbatch.model.preparation import check_beats, prepare_waveforms
from ecgbatch.model.probability import mean_beat_logit, record_probability, rule_for
from ecgbatch.model.splits import patient_digest
from ecgbatch.terms import MISSING_SAMPLE

FIGURE = {"value": 0.9, "low": 0.8, "high": 0.95, "n_patients": 20}
BEATS = {"method": "robust", "sampling_frequency_hz": 125.0}


def _member(fold: int, seen: list[str], threshold: float = 0.5) -> Member:
    torch.manual_seed(fold)
    weights = {name: tensor.numpy().copy() for name, tensor in BeatNet(12, 88).state_dict().items()}
    digests = tuple(sorted(patient_digest(patient, "key") for patient in seen))
    return Member(f"fold{fold}-seed0", fold, weights, digests, threshold, Calibration(1.0 + fold, 0.1 * fold))


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(
        members=(_member(0, ["b", "c"], 0.4), _member(1, ["a", "c"], 0.6), _member(2, ["a", "b", "c"], 0.7)),
        patient_key="key",
        beats=BEATS,
        leads=DEFAULT_LEADS,
        n_samples=88,
        preprocessing=Preprocessing(),
        operating_point=OperatingPoint(0.55, FIGURE, FIGURE, "validation patients"),
        calibration=Calibration(1.2, -0.3),
        figures={"auroc": FIGURE, "calibration_slope": FIGURE | {"high": None, "note": "unbounded"}},
        training={"recipe": "ecgbatch", "seed": 1},
        versions={"torch": "2"},
    )


@pytest.fixture
def folder(model: Model, tmp_path: Path) -> Path:
    return save_model(model, tmp_path / "models" / "m")


def _prepared(n_beats: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n_beats, 12, 88), np.float32)


def test_the_papers_network_has_its_54914_parameters() -> None:
    assert sum(weight.numel() for weight in BeatNet(1, 187, 2).parameters()) == 54_914


@pytest.mark.parametrize("n_samples", [187, 88])
@pytest.mark.parametrize(("n_leads", "n_classes"), [(1, 2), (12, 2), (15, 5)])
def test_any_leads_and_both_lengths_flatten_to_64(n_leads: int, n_samples: int, n_classes: int) -> None:
    network = BeatNet(n_leads, n_samples, n_classes)
    assert network.hidden1.in_features == 64
    assert network(torch.zeros(3, n_leads, n_samples)).shape == (3, n_classes)


@pytest.mark.parametrize(("n_leads", "n_samples"), [(1, 187), (12, 88), (2, 9)])
def test_the_network_is_the_papers_written_down_plainly_and_so_are_its_gradients(n_leads: int, n_samples: int) -> None:
    torch.manual_seed(1)
    network, plain = BeatNet(n_leads, n_samples), naive.plain_network(n_leads, n_samples)
    plain.load_state_dict(network.state_dict())
    waveform = torch.randn(7, n_leads, n_samples)
    found = []
    for one in (network, plain):
        logits = one(waveform)
        torch.nn.functional.cross_entropy(logits, torch.arange(7) % 2).backward()  # type: ignore[no-untyped-call]
        found.append([logits.detach(), *(weight.grad for weight in one.parameters())])
    for ours, its in zip(*found, strict=True):
        torch.testing.assert_close(ours, its, rtol=1e-4, atol=1e-6)


def test_save_then_load_gives_the_same_model(model: Model, folder: Path) -> None:
    loaded = load_model(folder)
    assert loaded.digest == model.digest
    assert json.loads((folder / "model.json").read_text())["digest"] == model.digest
    assert loaded.members[1].calibration == model.members[1].calibration
    np.testing.assert_array_equal(
        member_probabilities(loaded, [0, 1, 2], _prepared(5)), member_probabilities(model, [0, 1, 2], _prepared(5))
    )
    assert sorted(path.name for path in folder.parent.iterdir()) == ["m"]


def test_the_model_card_says_what_it_is_not_for(model: Model, folder: Path) -> None:
    card = (folder / "MODEL_CARD.md").read_text()
    assert "Not a medical device" in card
    assert model.digest in card
    assert "0.900 [0.800, 0.950], 20 patients" in card
    assert "unbounded" in card


def test_the_same_model_may_be_saved_twice_another_never(model: Model, folder: Path) -> None:
    before = (folder / "model.json").stat().st_mtime_ns
    save_model(model, folder)
    assert (folder / "model.json").stat().st_mtime_ns == before
    with pytest.raises(ModelError, match="published models never change"):
        save_model(replace(model, calibration=Calibration(2.0, 0.0)), folder)


def test_altered_weights_are_refused(folder: Path) -> None:
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-5] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match="altered or damaged"):
        load_model(folder)


def test_altered_json_is_refused(folder: Path) -> None:
    text = (folder / "model.json").read_text()
    (folder / "model.json").write_text(text.replace('"threshold": 0.55', '"threshold": 0.05'))
    with pytest.raises(ModelError, match="altered or damaged"):
        load_model(folder)


def test_a_pickle_renamed_is_refused(model: Model, folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(pickle.dumps({"weights": 1}))
    with pytest.raises(ModelError, match="not a safetensors file"):
        load_model(folder)
    torch.save(BeatNet().state_dict(), folder / "model.safetensors")
    with pytest.raises(ModelError, match="not a safetensors file"):
        load_model(folder)


def test_an_incomplete_or_newer_model_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="expected a model"):
        load_model(tmp_path / "nowhere")
    newer = shutil.copytree(folder, tmp_path / "newer")
    text = (newer / "model.json").read_text()
    (newer / "model.json").write_text(text.replace('"schema_version": 1', '"schema_version": 99'))
    with pytest.raises(ModelError, match="schema_version 1 to 3"):
        load_model(newer)


def test_a_failed_save_leaves_nothing(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("ecgbatch.model.files.write_synced", full)
    with pytest.raises(OSError, match="no space"):
        save_model(model, tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_members_that_saw_a_patient_never_score_it(model: Model) -> None:
    assert members_for(model, "a") == (0,)
    assert members_for(model, "b") == (1,)
    assert members_for(model, "c") == ()
    assert members_for(model, "new") == (0, 1, 2)


def test_out_of_fold_records_get_their_members_own_rule(model: Model) -> None:
    assert rule_for(model, (0, 1, 2)) == (Calibration(1.2, -0.3), 0.55)
    assert rule_for(model, (1,)) == (Calibration(2.0, 0.1), 0.6)
    calibration, threshold = rule_for(model, (0, 1))
    assert (calibration.slope, threshold) == (1.5, 0.5)
    with pytest.raises(ValueError, match="no member is left"):
        rule_for(model, ())


def test_beats_cut_otherwise_are_refused(model: Model) -> None:
    check_beats(model, BEATS | {"archive": "any"}, "beats/x.zarr")
    with pytest.raises(ValueError, match=r"beats/x\.zarr.*method 'kachuee' instead of 'robust'"):
        check_beats(model, BEATS | {"method": "kachuee"}, "beats/x.zarr")


def test_a_beats_probability_does_not_depend_on_its_neighbours(model: Model) -> None:
    beats = _prepared(2 * SCORING_BATCH + 7)
    together = member_probabilities(model, [0], beats)
    alone = np.concatenate([member_probabilities(model, [0], beats[row : row + 1])[0] for row in range(0, len(beats), 9)])
    np.testing.assert_array_equal(together[0, ::9], alone)


def test_wrong_input_shapes_are_refused(model: Model) -> None:
    with pytest.raises(ValueError, match="12 leads, 88 samples"):
        member_probabilities(model, [0], np.zeros((1, 11, 88), np.float32))
    with pytest.raises(ValueError, match="waveform must be int16"):
        prepare_waveforms(np.zeros((1, 1, 8)), np.ones(1, bool), store_leads=["I"])


def test_preparing_forgets_gain_and_offset_but_not_shape() -> None:
    random = np.random.default_rng(0)
    steps = random.integers(-300, 300, (6, 2, 88)).astype(np.int16)
    scorable = np.array([True] * 5 + [False])
    a = prepare_waveforms(steps, scorable, store_leads=["I", "II"], leads=("I", "II"))
    b = prepare_waveforms(steps * np.int16(3) + np.int16(500), scorable, store_leads=["I", "II"], leads=("I", "II"))
    np.testing.assert_allclose(a, b, atol=1e-5)
    np.testing.assert_allclose(a[:5].mean(axis=(0, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(a[:5].std(axis=(0, 2)), 1, atol=1e-5)


def test_missing_flat_and_unusable_leads_are_zeros_and_names_decide_the_order() -> None:
    steps = np.random.default_rng(0).integers(-300, 300, (4, 4, 10)).astype(np.int16)
    steps[:, 1] = 7
    steps[:, 3, :3] = MISSING_SAMPLE
    prepared = prepare_waveforms(
        steps,
        np.ones(4, bool),
        store_leads=["V1", "II", "I", "V2"],
        leads=("I", "II", "III", "V1", "V2"),
        is_usable=np.array([False, True, True, True]),
    )
    assert prepared.shape == (4, 5, 10)
    assert prepared[:, 0].any()
    assert not prepared[:, 1:4].any()
    assert not prepared[:, 4, :3].any()
    assert prepared[:, 4, 3:].all()


def test_an_artefact_is_clipped_and_a_record_without_scorable_beats_is_zeros() -> None:
    steps = np.ones((3, 1, 500), np.int16) * np.arange(500, dtype=np.int16) % np.int16(7)
    steps[0, 0, 0] = 32000
    assert prepare_waveforms(steps, np.ones(3, bool), store_leads=["I"], leads=("I",)).max() == 8.0
    assert not prepare_waveforms(steps, np.zeros(3, bool), store_leads=["I"], leads=("I",)).any()


def test_scaled_preprocessing_keeps_the_papers_unit_range() -> None:
    steps = np.array([[[0, 8192, 16384, MISSING_SAMPLE]]], np.int16)
    prepared = prepare_waveforms(
        steps, np.ones(1, bool), store_leads=["II"], leads=("II",), preprocessing=Preprocessing(kind="scaled")
    )
    np.testing.assert_array_equal(prepared, np.array([[[0, 0.5, 1, 0]]], np.float32))
    with pytest.raises(ValueError, match="z_score"):
        Preprocessing(kind="minmax")


def test_a_records_probability_is_its_calibrated_mean_beat_logit() -> None:
    beats = np.array([[0.9, 0.8], [0.6, 0.3]])
    logit = np.mean(np.log(beats / (1 - beats)))
    assert mean_beat_logit(beats) == pytest.approx(logit)
    assert record_probability(beats, Calibration(2.0, -1.0)) == pytest.approx(1 / (1 + np.exp(-(2 * logit - 1))))
    assert np.isfinite(mean_beat_logit(np.array([[0.0, 1.0]], np.float32)))
    with pytest.raises(ValueError, match="some NaN"):
        mean_beat_logit(np.array([[0.5, np.nan]]))
    with pytest.raises(ValueError, match="shape"):
        record_probability(np.empty((1, 0)), Calibration())


@pytest.mark.parametrize("name", ["mi-12-leads", "mi-lead-ii"])
def test_a_shipped_model_loads_and_says_what_it_is_made_of(name: str) -> None:
    folder = shipped_model(name)
    model = load_model(folder)
    assert sum(file.stat().st_size for file in folder.parent.glob("mi-*/model.safetensors")) < 10_000_000
    assert model.abnormal is not None
    assert {member.threshold for member in model.members} == {model.operating_point.threshold}  # one scale, one threshold
    assert len(members_for(model, "nobody it has ever seen")) == len(model.members)
    card = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    for words in ("ODC-By", "CC BY 4.0", "Not for diagnosis", "## Limits", "other heart disease", "[", model.digest):
        assert words in card
    assert not any("patient0" in file.read_text(encoding="utf-8") for file in folder.glob("*.[jm][sd]*"))


def test_a_shipped_model_never_scores_a_patient_with_a_member_that_saw_them() -> None:
    model = load_model(shipped_model())
    assert len(members_for(model, "patient104")) == 3  # a PTB control: in each deal the fold that held this patient out


def test_a_shipped_model_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(ModelError, match="mi-12-leads"):
        shipped_model("mi-999-leads")
