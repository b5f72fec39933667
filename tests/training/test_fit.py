"""Training: learns, resumes exactly, agrees with itself on any engine, and never leaks a patient."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from ecgbatch.figures.by_patient import patient_figures
from ecgbatch.figures.drift import of_training
from ecgbatch.model import random_kernels
from ecgbatch.model.definition import DEFAULT_LEADS, Model, ModelError
from ecgbatch.model.files import load_model, save_model
from ecgbatch.model.members import member_probabilities as beat_probabilities
from ecgbatch.model.members import members_for
from ecgbatch.model.preparation import prepare_waveforms
from ecgbatch.model.probability import calibrated, record_probability, rule_for, with_prevalence
from ecgbatch.model.splits import patient_digest, record_digest
from ecgbatch.terms import LABEL
from ecgbatch.training import data, draws, recipes
from ecgbatch.training import member as member_room
from ecgbatch.training.data import TrainingBeats, evenly_spread
from ecgbatch.training.descent import Descent
from ecgbatch.training.draws import augment, mixed
from ecgbatch.training.fit import plan_members, train
from ecgbatch.training.member import Task, train_member
from ecgbatch.training.settings import TrainSettings

TINY = TrainSettings(
    epochs=2,
    min_steps=0,
    n_folds=3,
    batch_size=16,
    max_beats_per_record=4,
    augmentation=False,
    holds_out_validation=True,
    n_kernels=8,
    n_trees=3,
)
BEATS = {"method": "robust", "sampling_frequency_hz": 125.0}


def synthetic_beats(n_mi: int = 6, n_control: int = 6, n_records: int = 2, n_beats: int = 6, seed: int = 0) -> TrainingBeats:
    """Beats with a QRS and a T wave; infarction lifts ST in V1-V4. One record in six has no label."""
    random = np.random.default_rng(seed)
    time_s = (np.arange(88) - 31) / 125.0
    qrs, t_wave, st = (np.exp(-(((time_s - centre) / width) ** 2)) for centre, width in ((0, 0.02), (0.28, 0.06), (0.12, 0.06)))
    waveforms, patients, labels = [], [], []
    for patient in range(n_mi + n_control):
        for record in range(n_records):
            mi = int(patient < n_mi)
            gain = random.uniform(0.5, 1.5, (12, 1))
            shape = gain * (qrs + 0.3 * t_wave) + 0.5 * mi * np.isin(np.arange(12), range(6, 10))[:, None] * st
            noise = 0.05 * random.standard_normal((n_beats, 12, 88))
            waveforms.append(np.round(1000 * (shape + noise)).astype(np.int16))
            patients.append(f"patient{patient:03d}")
            labels.append(-1 if record == 1 and patient % 6 == 0 else mi)
    n = np.full(len(labels), n_beats)
    scorable = np.ones(int(n.sum()), bool)
    scorable[::n_beats] = False
    return TrainingBeats(np.concatenate(waveforms), scorable, DEFAULT_LEADS, patients, np.array(labels), n, BEATS)


@pytest.fixture(scope="module")
def beats() -> TrainingBeats:
    return synthetic_beats()


@pytest.fixture(scope="module")
def model(beats: TrainingBeats, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return train(beats, TINY, checkpoints=tmp_path_factory.mktemp("model"))


def test_a_small_set_is_learnt(beats: TrainingBeats, tmp_path: Path) -> None:
    trained = train(beats, replace(TINY, epochs=25), checkpoints=tmp_path)
    assert trained.figures["auroc"]["value"] == 1.0
    assert trained.figures["majority_baseline"]["value"] == 0.5
    assert trained.figures["auroc"]["n_patients"] == 12


def test_no_member_scores_a_patient_that_it_saw(beats: TrainingBeats, model: Model) -> None:
    for patient in set(beats.patient_id):
        (index,) = members_for(model, patient)
        assert patient_digest(patient, model.patient_key) not in model.members[index].seen
    everyone = {patient_digest(patient, model.patient_key) for patient in beats.patient_id}
    assert set().union(*(member.seen for member in model.members)) >= everyone
    assert members_for(model, "somebody else") == (0, 1, 2)


def test_a_members_weights_do_not_know_the_patients_it_scores(beats: TrainingBeats, model: Model, tmp_path: Path) -> None:
    """Destroy the beats of every patient that member 0 has not seen: nothing of it may change."""
    member = model.members[0]
    unseen = [patient_digest(patient, model.patient_key) not in member.seen for patient in beats.patient_id]
    waveform = beats.waveform.copy()
    waveform[np.repeat(unseen, beats.n_beats)] = np.random.default_rng(1).integers(-2000, 2000, (12, 88))
    other = train(replace(beats, waveform=waveform), TINY, checkpoints=tmp_path).members[0]
    assert_same_weights(member.weights, other.weights)


def test_figures_are_those_that_out_of_fold_scoring_gives(beats: TrainingBeats, tmp_path: Path) -> None:
    trained = train(beats, replace(TINY, max_beats_per_record=99), checkpoints=tmp_path)
    stop = np.cumsum(beats.n_beats)
    probability, threshold = np.empty(len(stop)), np.empty(len(stop))
    for record, patient in enumerate(beats.patient_id):
        rows = slice(stop[record] - beats.n_beats[record], stop[record])
        scorable = beats.is_scorable[rows]
        prepared = prepare_waveforms(beats.waveform[rows], scorable, store_leads=beats.lead)[scorable]
        indices = members_for(trained, patient)
        calibration, threshold[record] = rule_for(trained, indices)
        probability[record] = record_probability(beat_probabilities(trained, indices, prepared), calibration)
    assert set(threshold.tolist()) == {trained.operating_point.threshold}  # one scale, one threshold
    free = ("auroc", "auprc", "brier", "calibration_slope")  # the others' thresholds were chosen without the fold that they judge
    expected = patient_figures(probability, beats.mi, beats.patient_id, names=free)
    assert {name: trained.figures[name] for name in free} == expected
    assert trained.training["reference"] == of_training(probability[beats.mi >= 0])


def assert_same_weights(a: Any, b: Any) -> None:
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_two_trainings_with_one_seed_agree_bit_for_bit(beats: TrainingBeats, model: Model, tmp_path: Path) -> None:
    torch.manual_seed(99)
    torch.rand(3)
    again = train(beats, TINY, checkpoints=tmp_path)
    assert again.digest == model.digest
    assert train(beats, replace(TINY, seed=1), checkpoints=tmp_path).digest != model.digest


def test_results_do_not_depend_on_the_engine_or_its_order(beats: TrainingBeats, model: Model, tmp_path: Path) -> None:
    def backwards(function: Callable[[Task], Any], tasks: Iterable[Task]) -> Iterator[Any]:
        yield from map(function, reversed(list(tasks)))

    assert train(beats, TINY, checkpoints=tmp_path / "a", map=backwards).digest == model.digest
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert train(beats, TINY, checkpoints=tmp_path / "b", map=pool.map).digest == model.digest


class KilledError(BaseException):
    """Stands for kill -9: no handler of ours may catch it."""


@pytest.mark.parametrize("killed_after", [1, 2, 4])
def test_a_killed_training_goes_on_and_ends_with_the_same_bits(
    beats: TrainingBeats, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_after: int
) -> None:
    saved, steps = 0, 0
    save, step = Descent.save, Descent.step

    def save_then_die(self: Any, path: Path, epochs_done: int) -> None:
        nonlocal saved
        save(self, path, epochs_done)
        saved += 1

    def step_or_die(self: Any, waveform: np.ndarray, target: np.ndarray, done: float) -> None:
        if saved == killed_after:
            raise KilledError
        step(self, waveform, target, done)

    def counted(self: Any, waveform: np.ndarray, target: np.ndarray, done: float) -> None:
        nonlocal steps
        steps += 1
        step(self, waveform, target, done)

    with monkeypatch.context() as patch:
        patch.setattr(Descent, "save", save_then_die)
        patch.setattr(Descent, "step", step_or_die)
        with pytest.raises(KilledError):
            train(beats, TINY, checkpoints=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Descent, "step", counted)
        assert train(beats, TINY, checkpoints=tmp_path).digest == model.digest
        assert 0 < steps < steps_of_a_whole_training(beats)
        before = steps
        assert train(beats, TINY, checkpoints=tmp_path).digest == model.digest
        assert steps == before  # finished: nothing is trained again


def test_lead_ii_resumes_and_repeats_bit_for_bit(beats: TrainingBeats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lead_ii = replace(TINY, leads=("II",), augmentation=True, lead_dropout=0.0, holds_out_validation=False)
    whole = train(beats, lead_ii, checkpoints=tmp_path / "whole")
    assert train(beats, lead_ii, checkpoints=tmp_path / "again").digest == whole.digest
    save, saved = Descent.save, 0

    def save_then_die(self: Any, path: Path, epochs_done: int) -> None:
        nonlocal saved
        save(self, path, epochs_done)
        saved += 1
        if saved == 3:  # the second member, after its first epoch
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(Descent, "save", save_then_die)
        with pytest.raises(KilledError):
            train(beats, lead_ii, checkpoints=tmp_path / "killed")
    resumed = train(beats, lead_ii, checkpoints=tmp_path / "killed")
    assert resumed.digest == whole.digest
    for one, other in zip(resumed.members, whole.members, strict=True):
        assert_same_weights(one.weights, other.weights)


def steps_of_a_whole_training(beats: TrainingBeats) -> int:
    return 3 * TINY.epochs * (int(beats.is_scorable.sum()) // TINY.batch_size + 1)


def test_validation_patients_count_as_seen_and_two_folds_validate_on_the_test_fold() -> None:
    fold = np.array([0, 1, 2, 0, 1, 2])
    assert [task.validation_fold for task in plan_members(fold, replace(TINY, holds_out_validation=True))] == [1, 2, 0]
    assert [task.validation_fold for task in plan_members(fold, replace(TINY, holds_out_validation=False))] == [0, 1, 2]
    assert [task.validation_fold for task in plan_members(fold % 2, replace(TINY, holds_out_validation=True))] == [0, 1]
    names = [task.name for task in plan_members(fold % 2, replace(TINY, n_seeds=2))]
    assert names == ["fold0-seed0", "fold0-seed1", "fold1-seed0", "fold1-seed1"]


def test_few_patients_mean_fewer_folds(tmp_path: Path) -> None:
    small = synthetic_beats(n_mi=2, n_control=4)
    trained = train(small, replace(TINY, epochs=1), checkpoints=tmp_path)
    assert len(trained.members) == trained.training["n_folds_used"] == 2


def test_several_seeds_a_fold_are_averaged(beats: TrainingBeats, tmp_path: Path) -> None:
    trained = train(beats, replace(TINY, epochs=1, n_seeds=2), checkpoints=tmp_path)
    assert len(trained.members) == 6
    assert len(members_for(trained, beats.patient_id[0])) == 2


@pytest.mark.parametrize(
    ("n_mi", "n_control", "found"), [(0, 4, "found 0 and 4"), (1, 4, "found 1 and 4"), (3, 1, "found 3 and 1")]
)
def test_too_few_patients_of_a_class_are_refused(n_mi: int, n_control: int, found: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"at least 2 patients with label mi and 2 with label control.*{found}"):
        train(synthetic_beats(n_mi, n_control, n_records=1), TINY, checkpoints=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_records_at_all_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="found 0 and 0"):
        train([], TINY, checkpoints=tmp_path)


def test_settings_that_cannot_train_are_refused() -> None:
    with pytest.raises(ValueError, match="n_folds of at least 2"):
        TrainSettings(n_folds=1)
    with pytest.raises(ValueError, match="epochs"):
        TrainSettings(epochs=0)


def test_progress_counts_members(beats: TrainingBeats, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    train(beats, replace(TINY, epochs=1), checkpoints=tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def _store(beats: TrainingBeats) -> xr.Dataset:
    n = beats.n_beats.astype(np.int32)
    return xr.Dataset(
        {
            "waveform": (("beat", "lead", "sample"), beats.waveform),
            "beat_flags": ("beat", np.where(beats.is_scorable, 4, 1).astype(np.uint16)),
            "lead": ("lead", np.array(beats.lead, dtype=np.dtypes.StringDType())),
            "patient_id": ("record", np.array(beats.patient_id, dtype=np.dtypes.StringDType())),
            "mi": ("record", np.where(beats.mi == 2, -1, beats.mi).astype(np.int8)),
            "label": ("record", np.array([LABEL["control"], LABEL["mi"], LABEL["other"], LABEL["unknown"]], np.int8)[beats.mi]),
            "first_beat": ("record", (np.cumsum(n) - n).astype(np.int64)),
            "n_beats": ("record", n),
        },
        attrs={"settings": dict(beats.beats) | {"archive_specific": "ignored"}},
    )


def test_stores_train_the_same_model_as_memory_in_blocks_of_any_size(
    beats: TrainingBeats, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = {"one": _store(beats)}
    monkeypatch.setattr(data, "open_store", stores.__getitem__)
    for block_bytes in (1, 40_000, 64_000_000):
        monkeypatch.setattr(data, "BLOCK_BYTES", block_bytes)
        assert train(["one"], TINY, checkpoints=tmp_path).digest == model.digest


def test_stores_cut_differently_are_refused(beats: TrainingBeats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = replace(beats, beats=BEATS | {"method": "kachuee"})
    stores = {"one": _store(beats), "two": _store(other)}
    monkeypatch.setattr(data, "open_store", stores.__getitem__)
    with pytest.raises(ValueError, match="cut one way"):
        train(["one", "two"], TINY, checkpoints=tmp_path)


def test_batches_are_half_infarction_and_every_patient_as_likely(beats: TrainingBeats, tmp_path: Path) -> None:
    folder, _ = data.prepare_training(beats, TINY, tmp_path)
    prepared = data.open_prepared(folder, TINY)
    batches = draws.Batches(prepared, np.arange(len(prepared.mi)))
    rows, mi = batches.draw(6000, np.random.default_rng(0))
    record = np.searchsorted(prepared.first_beat, rows, side="right") - 1
    np.testing.assert_array_equal(prepared.mi[record], mi)
    assert mi.mean() == 0.5
    counts = np.unique(np.array(prepared.patient_id)[record], return_counts=True)[1]
    assert counts.min() > 0.8 * counts.max()


def test_augmentation_spares_lost_leads_and_may_be_off() -> None:
    waveform = np.random.default_rng(0).standard_normal((4, 12, 88), np.float32)
    waveform[:, 3] = 0
    settings = TrainSettings()
    altered = augment(waveform, settings, np.random.default_rng(1))
    assert altered.dtype == np.float32
    assert altered.shape == waveform.shape
    assert not altered[:, 3].any()
    np.testing.assert_array_equal(altered, augment(waveform, settings, np.random.default_rng(1)))
    np.testing.assert_array_equal(augment(waveform, replace(settings, augmentation=False), np.random.default_rng(1)), waveform)


def test_blended_beats_carry_blended_labels_and_stay_nearer_to_their_own() -> None:
    mi = np.arange(64, dtype=np.int64) % 2
    waveform = np.broadcast_to(mi.astype(np.float32)[:, None, None], (64, 2, 5)).copy()
    blended, target = mixed(waveform, mi, TrainSettings(), np.random.default_rng(3))
    np.testing.assert_allclose(target.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(blended[:, 0, 0], target[:, 1], rtol=1e-6)  # the same share of beat and label
    assert (target[np.arange(64), mi] >= 0.5).all()
    assert 0.6 < target[np.arange(64), mi].mean() < 0.95
    same, sharp = mixed(waveform, mi, TrainSettings(mixup=0), np.random.default_rng(3))
    np.testing.assert_array_equal(same, waveform)
    np.testing.assert_array_equal(sharp, np.eye(2)[mi])


def test_small_archives_get_enough_steps(beats: TrainingBeats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    step = Descent.step

    def noted(self: Any, waveform: np.ndarray, target: np.ndarray, done: float) -> None:
        step(self, waveform, target, done)
        rates.append(self.optimiser.param_groups[0]["lr"])

    monkeypatch.setattr(Descent, "step", noted)
    folder, _ = data.prepare_training(beats, TINY, tmp_path)
    train_member(str(folder), replace(TINY, min_steps=61), Task(0, 1, 0))
    assert len(rates) == 62  # two epochs of 31
    assert rates[0] == pytest.approx(1e-3)
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 1e-5


def test_chosen_beats_are_spread_over_the_record() -> None:
    np.testing.assert_array_equal(evenly_spread(np.arange(5), 9), np.arange(5))
    np.testing.assert_array_equal(evenly_spread(np.arange(0, 101), 5), [0, 25, 50, 75, 100])
    assert len(np.unique(evenly_spread(np.arange(33), 32))) == 32


def test_a_member_can_be_trained_on_its_own(beats: TrainingBeats, model: Model, tmp_path: Path) -> None:
    folder, _ = data.prepare_training(beats, TINY, tmp_path)
    assert_same_weights(train_member(str(folder), TINY, Task(2, 0, 0)).weights, model.members[2].weights)


def _other(beats: TrainingBeats) -> TrainingBeats:
    return replace(beats, patient_id=[f"new{patient}" for patient in beats.patient_id])


def test_fine_tuning_goes_on_from_a_model_and_keeps_what_it_saw(beats: TrainingBeats, model: Model, tmp_path: Path) -> None:
    settings = replace(recipes.settings_from(model), epochs=1, min_steps=0, n_folds=3, max_beats_per_record=4)
    new = _other(synthetic_beats(seed=5))
    tuned = train(new, settings, start=model, checkpoints=tmp_path)
    assert tuned.patient_key == model.patient_key
    assert members_for(tuned, new.patient_id[0]) == (0,) or len(members_for(tuned, new.patient_id[0])) == 1
    for old, member in zip(model.members, tuned.members, strict=True):
        assert set(old.seen) < set(member.seen)
        moved = [np.abs(member.weights[name] - old.weights[name]).max() for name in old.weights]
        assert 0 < max(moved) < 0.1
    assert tuned.training["start"] == model.digest
    assert tuned.training["n_patients_known_before"] == 0


def test_fine_tuning_gives_no_out_of_fold_score_to_patients_that_the_model_saw(
    beats: TrainingBeats, model: Model, tmp_path: Path
) -> None:
    settings = replace(recipes.settings_from(model), epochs=1, min_steps=0, n_folds=3, max_beats_per_record=4)
    other = _other(synthetic_beats(seed=5))
    both = replace(
        other,
        waveform=np.concatenate([beats.waveform, other.waveform]),
        is_scorable=np.concatenate([beats.is_scorable, other.is_scorable]),
        patient_id=[*beats.patient_id, *other.patient_id],
        mi=np.concatenate([beats.mi, other.mi]),
        n_beats=np.concatenate([beats.n_beats, other.n_beats]),
    )
    tuned = train(both, settings, start=model, checkpoints=tmp_path)
    n_known = int(tuned.training["n_patients_known_before"])
    assert n_known > 0
    assert tuned.figures["auroc"]["n_patients"] == 24 - n_known
    for patient in set(beats.patient_id):
        assert len(members_for(tuned, patient)) <= 1


def test_fine_tuning_on_its_own_training_patients_is_refused(beats: TrainingBeats, model: Model, tmp_path: Path) -> None:
    all_seen = replace(
        model, members=tuple(replace(m, seen=tuple(set().union(*(n.seen for n in model.members)))) for m in model.members)
    )
    settings = replace(recipes.settings_from(all_seen), epochs=1, min_steps=0, n_folds=3)
    with pytest.raises(ValueError, match="are its own training data"):
        train(beats, settings, start=all_seen, checkpoints=tmp_path)


def test_a_recording_is_known_under_another_patients_name(beats: TrainingBeats, model: Model) -> None:
    rows = slice(0, int(beats.n_beats[0]))
    content = record_digest(
        beats.waveform[rows], beats.is_scorable[rows], store_leads=beats.lead, leads=model.leads, key=model.patient_key
    )
    assert len(members_for(model, "another name", content)) == 1
    assert len(members_for(model, "another name", "0" * 32)) == 3


def test_a_prevalence_moves_probabilities_and_thresholds_but_no_decision(model: Model) -> None:
    logit = np.linspace(-4, 4, 81)
    for moved in (with_prevalence(model, 0.02), with_prevalence(model, 0.9)):
        for before, after in ((model, moved), *zip(model.members, moved.members, strict=True)):
            cuts = [m.operating_point.threshold if isinstance(m, Model) else m.threshold for m in (before, after)]
            called = [calibrated(logit, m.calibration) >= cut for m, cut in zip((before, after), cuts, strict=True)]
            np.testing.assert_array_equal(*called)
    assert calibrated(0.0, with_prevalence(model, 0.02).calibration) < calibrated(0.0, model.calibration)
    with pytest.raises(ValueError, match="prevalence between 0 and 1"):
        with_prevalence(model, 1.0)


def test_a_large_archive_is_drawn_from_so_that_memory_stays_bounded(
    beats: TrainingBeats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    fit_regression = random_kernels.fit_regression

    def counted(features: np.ndarray, *arguments: Any, **options: Any) -> Any:
        rows.append(len(features))
        return fit_regression(features, *arguments, **options)

    monkeypatch.setattr(member_room, "fit_regression", counted)
    monkeypatch.setattr(member_room, "MOST_ROWS", 30)
    train(beats, replace(TINY, epochs=1, augmentation=True, kernel_copies=2), checkpoints=tmp_path)
    assert rows
    assert max(rows) <= 30
    chosen = draws.some_of(np.arange(100), 10, np.random.default_rng(0))
    assert len(set(chosen.tolist())) == 10
    assert (np.diff(chosen) > 0).all()


def with_other(beats: TrainingBeats, n_other: int, seed: int = 5) -> TrainingBeats:
    """Add patients with another disease: a QRS turned round in every lead."""
    more = synthetic_beats(n_mi=0, n_control=n_other, seed=seed)
    waveform = np.concatenate([beats.waveform, (-more.waveform).astype(np.int16)])
    return TrainingBeats(
        waveform,
        np.concatenate([beats.is_scorable, more.is_scorable]),
        beats.lead,
        [*beats.patient_id, *(f"other{name}" for name in more.patient_id)],
        np.concatenate([beats.mi, np.where(more.mi == 0, 2, more.mi)]),
        np.concatenate([beats.n_beats, more.n_beats]),
        beats.beats,
    )


THREE = replace(TINY, epochs=12, n_kernels=0, n_trees=10, holds_out_validation=False)


def test_other_heart_disease_is_a_class_of_its_own(beats: TrainingBeats, tmp_path: Path) -> None:
    trained = train(with_other(beats, 12), THREE, checkpoints=tmp_path)
    assert trained.training["n_classes_learnt"] == 3
    assert trained.training["n_patients_by_group"] == {"control": 6, "mi": 6, "other": 12}
    assert trained.abnormal is not None
    assert trained.figures["auroc_against_other"]["value"] > 0.95
    assert trained.figures["auroc_against_other"]["n_patients"] == 18
    assert trained.figures["auroc"]["n_patients"] == 12  # infarction and healthy alone
    assert trained.operating_point.specificity_against_other is not None
    folder = save_model(trained, tmp_path / "model")
    assert load_model(folder).digest == trained.digest
    assert "two votes" in (folder / "MODEL_CARD.md").read_text()


def test_a_few_with_other_disease_are_learnt_as_not_infarction(beats: TrainingBeats, tmp_path: Path) -> None:
    trained = train(with_other(beats, 4), THREE, checkpoints=tmp_path)
    assert trained.training["n_classes_learnt"] == 2
    assert trained.abnormal is None
    assert trained.training["n_patients"] == 16
    two = train(with_other(beats, 4), replace(THREE, n_classes=2), checkpoints=tmp_path)
    assert two.training["n_patients"] == 12


def test_every_seed_deals_the_patients_anew(beats: TrainingBeats, tmp_path: Path) -> None:
    trained = train(beats, replace(TINY, n_seeds=3, holds_out_validation=False, n_trees=0), checkpoints=tmp_path)
    assert len(trained.members) == 9
    folds = [members_for(trained, patient) for patient in sorted(set(beats.patient_id))]
    assert {len(indices) for indices in folds} == {3}
    assert len({tuple(trained.members[index].fold for index in indices) for indices in folds}) > 3


def test_trees_that_ask_other_figures_are_refused(beats: TrainingBeats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_model(train(beats, TINY, checkpoints=tmp_path), tmp_path / "model")
    monkeypatch.setattr("ecgbatch.model.definition.WAVES_VERSION", 99)
    with pytest.raises(ModelError, match="wave figures of version 1"):
        load_model(folder)
