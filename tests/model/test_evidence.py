"""Evidence: taking a part of a beat away moves the score by what is stored, and it is the weights that say which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from ecgbatch.model.definition import Calibration, Member, Model, OperatingPoint, Preprocessing
from ecgbatch.model.evidence import SEGMENTS, evidence, occluded, segment_samples
from ecgbatch.model.files import load_model, shipped_model
from ecgbatch.model.members import Medians, median_beat_logits, medians_of
from ecgbatch.model.network import BeatNet
from ecgbatch.model.probability import rule_for

BEATS = {"method": "robust", "sampling_frequency_hz": 125.0, "before_s": 0.25, "after_s": 0.45}


def beats(seed: int = 0, n_beats: int = 7, n_leads: int = 12) -> np.ndarray:
    random = np.random.default_rng(seed)
    time_s = (np.arange(88) - 31) / 125
    shapes = [
        np.exp(-(((time_s - centre) / width) ** 2)) for centre, width in ((-0.16, 0.03), (0, 0.02), (0.1, 0.04), (0.28, 0.06))
    ]
    mean = random.normal(0, 1, (n_leads, 4)) @ np.array(shapes) * 3
    return (mean + random.normal(0, 0.1, (n_beats, n_leads, 88))).astype(np.float32)


def record_evidence(model: Model, indices: tuple[int, ...], waveform: np.ndarray) -> np.ndarray:
    return evidence(model, indices, medians_of(model, [waveform]))[0]


def of_single(model: Model, some: Sequence[np.ndarray]) -> Medians:
    """Records of one beat each."""
    return medians_of(model, [beat[None].astype(np.float32) for beat in some])


@pytest.fixture(scope="module")
def shipped() -> Model:
    return load_model(shipped_model())


def test_segments_cover_the_window_and_none_twice():
    cover = np.zeros(88, int)
    for samples in segment_samples(BEATS, 88).values():
        cover[samples] += 1
    assert (cover == 1).all()


def test_beats_that_begin_at_r_have_no_p_wave_and_half_a_qrs():
    found = segment_samples({"method": "kachuee", "sampling_frequency_hz": 125.0}, 187)
    assert found["P"].stop <= found["P"].start
    assert (found["QRS"].start, found["T"].stop) == (0, 56)


def test_occlusion_changes_one_segment_of_one_lead_and_joins_its_ends():
    beat = beats()[0]
    segments = list(segment_samples(BEATS, 88).values())
    copies = occluded(beat, segments)
    for lead in range(12):
        for number, segment in enumerate(segments):
            changed = copies[lead, number] != beat
            assert changed[lead, segment].mean() > 0.9
            changed[lead, segment] = False
            assert not changed.any()
    assert np.abs(np.diff(copies[0, 1, 0, segments[1]], 2)).max() < 1e-5  # straight


def test_stored_evidence_is_the_fall_of_the_records_logit(shipped):
    waveform = beats()
    shown = record_evidence(shipped, (0,), waveform)
    beat = np.median(waveform, axis=0)
    without = beat.copy()
    samples = segment_samples(shipped.beats, shipped.n_samples)["ST"]
    without[7, samples] = shipped.novelty["mean"][7, samples]
    before, after = median_beat_logits(shipped, (0,), of_single(shipped, [beat, without]))
    slope = rule_for(shipped, (0,))[0].slope
    assert shown[7, list(SEGMENTS).index("ST")] == pytest.approx(slope * (before - after), abs=1e-4)


def test_a_lead_that_is_not_there_has_no_evidence(shipped):
    waveform = beats()
    waveform[:, 3] = 0
    shown = record_evidence(shipped, (0, 1), waveform)
    assert np.isnan(shown[3]).all()
    assert np.isfinite(np.delete(shown, 3, axis=0)).all()


def test_other_weights_name_other_parts(shipped):
    """Sanity check of Adebayo and others 2018 (arXiv:1810.03292): a picture that random weights give too explains nothing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        weights = {name: tensor.numpy() for name, tensor in BeatNet(12, 88, 3).state_dict().items()}
    draw = np.random.default_rng(1)
    first = shipped.members[0]
    figure, value = first.trees["figure"].copy(), first.trees["value"].copy()
    is_leaf = figure < 0
    figure[~is_leaf], value[is_leaf] = draw.permutation(figure[~is_leaf]), draw.permutation(value[is_leaf])
    random = replace(shipped, members=(replace(first, weights=weights, trees={**first.trees, "figure": figure, "value": value}),))
    ours, theirs = (
        np.concatenate([record_evidence(model, (0,), beats(seed)).ravel() for seed in range(5)]) for model in (shipped, random)
    )
    assert abs(np.corrcoef(ours, theirs)[0, 1]) < 0.5


def test_taking_away_what_evidence_names_moves_the_score_more_than_taking_away_the_rest(shipped):
    segments = list(segment_samples(shipped.beats, shipped.n_samples).values())
    named, others = [], []
    for seed in range(6):
        waveform = beats(seed)
        shown = record_evidence(shipped, (0, 1, 2), waveform)
        order = np.argsort(-np.abs(shown).ravel())
        beat = np.median(waveform, axis=0).astype(np.float32)
        base = median_beat_logits(shipped, (0, 1, 2), of_single(shipped, [beat]))[0]
        for places, moves in ((order[:1], named), (order[-6:], others)):
            for place in places:
                lead, segment = divmod(int(place), len(segments))
                without = occluded(beat, [segments[segment]], shipped.novelty["mean"])[lead]
                moved = median_beat_logits(shipped, (0, 1, 2), of_single(shipped, without))[0]
                moves.append(abs(moved - base))
    assert min(named) > 3 * float(np.median(others))


def test_a_model_of_one_lead_explains_itself_too():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        weights = {name: tensor.numpy() for name, tensor in BeatNet(1, 88).state_dict().items()}
    member = Member("a", 0, weights, (), 0.5, Calibration())
    model = Model((member,), "k", BEATS, ("II",), 88, Preprocessing(), OperatingPoint(0.5, {}, {}, ""), Calibration(), {}, {}, {})
    assert record_evidence(model, (0,), beats(n_leads=1)).shape == (1, 4)


def test_a_records_evidence_does_not_depend_on_its_neighbours(shipped):
    together = evidence(shipped, (0, 1), medians_of(shipped, [beats(seed) for seed in range(3)]))
    np.testing.assert_array_equal(together[2], record_evidence(shipped, (0, 1), beats(2)))
