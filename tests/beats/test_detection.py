"""R peaks: found at any rate, polarity and number of leads, placed the same way, and never against what leads say."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import resample_poly

from benchmarks.accuracy import beat_detection
from ecgbatch.beats import candidates, filtering, record, resampling
from ecgbatch.terms import BEAT_FLAGS

GAIN = 1000.0
"""ADC units per mV of the pulse trains below."""


def pulse_train(
    fs: float, r_time_s: np.ndarray, duration_s: float, *, n_leads: int = 1, noise_mv: float = 0.01, seed: int = 0
) -> np.ndarray:
    """Return (lead, sample) int16: P, R, S and T as Gaussians around each R time, wander and a little noise."""
    random = np.random.default_rng(seed)
    time_s = np.arange(round(duration_s * fs)) / fs
    waves = ((0.12, -0.17, 0.025), (1.0, 0.0, 0.010), (-0.2, 0.03, 0.010), (0.25, 0.28, 0.06))
    ecg = np.zeros(time_s.size)
    for r_s in r_time_s:
        for amplitude, at_s, width_s in waves:
            ecg += amplitude * np.exp(-0.5 * ((time_s - r_s - at_s) / width_s) ** 2)
    scale = np.linspace(1.0, 0.4, n_leads)[:, None]
    wander = 0.3 * np.sin(2 * np.pi * 0.25 * time_s)
    return np.rint((scale * ecg + wander + noise_mv * random.standard_normal((n_leads, time_s.size))) * GAIN).astype(np.int16)


def detect(signal: np.ndarray, fs: float, **more: Any) -> record.RPeaks:
    n_leads = len(signal)
    return record.detect_r_peaks(
        signal, adc_gain=np.full(n_leads, GAIN), baseline=np.zeros(n_leads), sampling_frequency_hz=fs, **more
    )


def regular(duration_s: float, rr_s: float = 0.8) -> np.ndarray:
    return np.arange(0.5, duration_s - 0.4, rr_s)


@pytest.mark.parametrize("fs", [100.0, 125.0, 250.0, 257.0, 360.0, 500.0, 1000.0, 10000.0])
def test_r_is_found_and_placed_without_bias_at_any_rate(fs: float) -> None:
    r_time_s = regular(20.0, 0.813)
    found = detect(pulse_train(fs, r_time_s, 20.0), fs)
    assert len(found.r_sample) == len(r_time_s)
    error_s = found.r_sample / fs - r_time_s
    assert np.abs(error_s).max() < 0.004 + 0.5 / fs
    assert abs(error_s.mean()) < 0.002 + 0.25 / fs
    assert not found.beat_flags.any()


def test_polarity_does_not_matter() -> None:
    signal = pulse_train(500.0, regular(20.0), 20.0)
    np.testing.assert_array_equal(detect(signal, 500.0).r_sample, detect(-signal, 500.0).r_sample)


def test_gain_and_offset_do_not_matter() -> None:
    signal = pulse_train(250.0, regular(20.0), 20.0)
    usual = detect(signal, 250.0)
    shifted = record.detect_r_peaks(
        (signal + 500).astype(np.int16), adc_gain=np.array([GAIN * 2]), baseline=np.array([500]), sampling_frequency_hz=250.0
    )
    np.testing.assert_array_equal(usual.r_sample, shifted.r_sample)


def test_any_lead_can_be_removed() -> None:
    signal = pulse_train(250.0, regular(15.0), 15.0, n_leads=5, noise_mv=0.03)
    n_beats = len(detect(signal, 250.0).r_sample)
    for lead in range(5):
        usable = np.arange(5) != lead
        found = detect(signal, 250.0, usable=usable)
        assert (len(found.r_sample), found.n_leads_used) == (n_beats, 4)


def test_a_masked_lead_does_not_vote() -> None:
    r_time_s = regular(15.0)
    signal = np.concatenate([pulse_train(250.0, r_time_s, 15.0), pulse_train(250.0, r_time_s[::2] + 0.35, 15.0) * 3])
    alone = detect(signal[:1], 250.0)
    masked = detect(signal, 250.0, usable=np.array([True, False]))
    np.testing.assert_array_equal(alone.r_sample, masked.r_sample)
    assert masked.n_leads_used == 1


def test_a_lead_of_noise_is_outvoted() -> None:
    r_time_s = regular(30.0)
    noise = np.random.default_rng(1).normal(0, 800, (1, 7500)).astype(np.int16)
    signal = np.concatenate([noise, pulse_train(250.0, r_time_s, 30.0, n_leads=2)])
    found = detect(signal, 250.0, reference=1)
    assert len(found.r_sample) == len(r_time_s)
    assert np.abs(found.r_sample / 250.0 - r_time_s).max() < 0.02


def test_tall_t_waves_are_not_beats() -> None:
    r_time_s = regular(20.0, 0.9)
    time_s = np.arange(5000) / 250.0
    t_waves = sum(900 * np.exp(-0.5 * ((time_s - r - 0.3) / 0.05) ** 2) for r in r_time_s)
    signal = (pulse_train(250.0, r_time_s, 20.0) + t_waves).astype(np.int16)
    assert len(detect(signal, 250.0).r_sample) == len(r_time_s)


def test_premature_beats_are_found_and_flagged_ectopic() -> None:
    r_time_s = np.delete(regular(30.0), 15)
    r_time_s = np.sort(np.append(r_time_s, r_time_s[14] + 0.5))
    found = detect(pulse_train(250.0, r_time_s, 30.0), 250.0)
    assert len(found.r_sample) == len(r_time_s)
    assert np.flatnonzero(found.beat_flags & BEAT_FLAGS["ectopic"]).tolist() == [15]


def test_a_pause_is_neither_filled_with_beats_nor_are_its_sides_lost() -> None:
    for stop_s, resume_s, end_s in ((8.0, 13.0, 22.5), (3.0, 7.2, 10.0), (5.0, 8.5, 10.0), (1.5, 5.0, 10.0)):
        r_time_s = np.concatenate([np.arange(0.5, stop_s, 0.8), np.arange(resume_s, end_s - 0.3, 0.8)])
        assert len(detect(pulse_train(250.0, r_time_s, end_s), 250.0).r_sample) == len(r_time_s)


@pytest.mark.parametrize("noise_mv", [0.005, 0.03, 0.1])
@pytest.mark.parametrize(("stop_s", "resume_s", "n_leads"), [(20.0, 50.0, 1), (30.0, 40.0, 3)])
def test_a_heart_that_stands_still_has_no_beats_that_count(noise_mv: float, stop_s: float, resume_s: float, n_leads: int) -> None:
    r_time_s = np.concatenate([np.arange(0.5, stop_s, 0.8), np.arange(resume_s, 59.7, 0.8)])
    found = detect(pulse_train(250.0, r_time_s, 60.0, n_leads=n_leads, noise_mv=noise_mv), 250.0)
    still = (found.r_sample / 250.0 > stop_s + 0.5) & (found.r_sample / 250.0 < resume_s - 0.3)
    assert np.count_nonzero(~still) == len(r_time_s)
    assert not np.any(still & ((found.beat_flags & BEAT_FLAGS["noisy"]) == 0))


@pytest.mark.parametrize("rate_bpm", [30, 45, 150, 200])
def test_slow_and_fast_hearts_keep_their_rate(rate_bpm: int) -> None:
    r_time_s = regular(40.0, 60 / rate_bpm)
    found = detect(pulse_train(250.0, r_time_s, 40.0), 250.0)
    assert len(found.r_sample) == len(r_time_s)
    assert not np.any(found.beat_flags & BEAT_FLAGS["noisy"])


def test_gaps_are_bridged() -> None:
    r_time_s = regular(20.0)
    signal = pulse_train(250.0, r_time_s, 20.0)
    signal[0, 1010:1090] = -32768
    found = detect(signal, 250.0)
    lost = (r_time_s > 1010 / 250) & (r_time_s < 1090 / 250)
    assert len(found.r_sample) == np.count_nonzero(~lost)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("all missing", lambda: np.full((2, 5000), -32768, np.int16)),
        ("constant", lambda: np.full((2, 5000), 123, np.int16)),
        ("empty", lambda: np.zeros((2, 0), np.int16)),
        ("one sample", lambda: np.ones((2, 1), np.int16)),
        ("a few microvolts", lambda: np.random.default_rng(0).integers(-3, 4, (2, 5000)).astype(np.int16)),
    ],
)
def test_no_beats_is_an_answer(name: str, make: Callable[[], np.ndarray]) -> None:
    found = detect(make(), 250.0)
    assert (found.r_sample.dtype, found.beat_flags.dtype) == (np.int32, np.uint16)
    assert len(found.r_sample) == len(found.beat_flags) == 0


def test_no_usable_lead_gives_no_beats() -> None:
    signal = pulse_train(250.0, regular(10.0), 10.0)
    assert detect(signal, 250.0, usable=np.array([False])) == (pytest.approx([]), pytest.approx([]), 0)


@pytest.mark.parametrize("n_leads", [1, 12])
def test_noise_alone_gives_next_to_no_beats_that_count(n_leads: int) -> None:
    white = np.random.default_rng(2).normal(0, 400, (n_leads, 15000))
    slow = np.cumsum(white, axis=1) * 0.1
    for noise in (white, slow - np.linspace(0, 1, 15000) * slow[:, -1:]):
        found = detect(np.clip(noise, -32000, 32000).astype(np.int16), 250.0)
        assert np.count_nonzero((found.beat_flags & BEAT_FLAGS["noisy"]) == 0) <= 3


def test_an_implausible_rate_is_flagged() -> None:
    found = detect(pulse_train(250.0, np.array([5.0, 15.0]), 20.0), 250.0)
    assert np.all(found.beat_flags & BEAT_FLAGS["noisy"])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), fs=st.sampled_from([125.0, 250.0, 360.0]), n_leads=st.integers(1, 3))
def test_r_samples_increase_inside_the_record_at_least_200_ms_apart(seed: int, fs: float, n_leads: int) -> None:
    random = np.random.default_rng(seed)
    r_time_s = np.cumsum(random.uniform(0.25, 1.4, 12))
    signal = pulse_train(fs, r_time_s, 10.0, n_leads=n_leads, noise_mv=random.uniform(0, 0.4), seed=seed)
    found = detect(signal, fs)
    interval_s = np.diff(found.r_sample) / fs
    assert np.all(interval_s > 0.2 - 1.5 / fs)
    assert np.all((found.r_sample >= 0) & (found.r_sample < signal.shape[1]))
    np.testing.assert_array_equal(found.r_sample, detect(signal, fs).r_sample)


def test_a_long_record_is_searched_in_pieces_and_loses_no_beat_at_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    r_time_s = regular(300.0, 0.813)
    signal = pulse_train(257.0, r_time_s, 300.0)
    whole = detect(signal, 257.0)
    monkeypatch.setattr(record, "PIECE_S", 60.123)
    monkeypatch.setattr(record, "OVERLAP_S", 20.0)
    cut = detect(signal, 257.0)
    assert len(cut.r_sample) == len(whole.r_sample) == len(r_time_s)
    assert np.abs(cut.r_sample - whole.r_sample).max() <= 1


@given(n=st.integers(1, 10**9), fs=st.sampled_from([250.0, 360.0, 1000.0]))
def test_pieces_cover_a_record_once_in_order(n: int, fs: float) -> None:
    cut = record.pieces(n, fs)
    assert (cut[0][2], cut[-1][3]) == (0, n)
    assert all(before[3] == after[2] for before, after in pairwise(cut))
    assert all(0 <= first <= begin < end <= stop <= n and stop - first <= 3780 * fs for first, stop, begin, end in cut)


def test_samples_beyond_the_record_are_not_read() -> None:
    signal = pulse_train(250.0, regular(20.0), 20.0)
    padded = np.concatenate([signal, pulse_train(250.0, regular(20.0, 0.4), 20.0)], axis=1)
    np.testing.assert_array_equal(detect(signal, 250.0).r_sample, detect(padded, 250.0, n_samples=5000).r_sample)


@pytest.mark.parametrize("fs", [100.0, 250.0, 257.0, 360.0, 500.0, 1000.0, 10000.0])
def test_resampling_equals_resample_poly_with_the_same_taps(fs: float) -> None:
    lead = np.random.default_rng(3).integers(-20000, 20000, 4003).astype(np.int16)
    for cutoff_hz, half_width_s in ((record.CUTOFF_HZ, record.HALF_WIDTH_S), (62.5, 0.024)):
        design = resampling.resampler(fs, cutoff_hz, half_width_s)
        window = resampling.full_taps(design)
        expected = resample_poly((lead - 7) / GAIN, design.up, design.down, window=window, padtype="edge")
        sums = np.empty(-(-len(expected) // filtering.AT_ONCE) * filtering.AT_ONCE, np.int32)
        filtering.resampled_sums(lead, *filtering.settings_of(design), sums)
        assert np.abs((sums[: len(expected)] / filtering.TAP_ONE - 7) / GAIN - expected).max() < 0.001 / 50


@pytest.mark.parametrize("fs", [250.0, 500.0, 1000.0, 10000.0])
@pytest.mark.parametrize("before", [0, 31, 400])
def test_sums_side_by_side_are_the_sums_made_alone(fs: float, before: int) -> None:
    """Windows anywhere, over the ends of the record too, at even and odd samples, near each other and far apart."""
    random = np.random.default_rng(4)
    signal = random.integers(-32767, 32768, (3, 90_001)).astype(np.int16)
    signal[0, :50], signal[1, 100:200] = 32767, -32767
    r_sample = np.unique(np.concatenate([[0, 1, 5, 90_000], random.integers(0, 90_001, 40)])).astype(np.int64)
    design = resampling.resampler(fs, record.CUTOFF_HZ, record.HALF_WIDTH_S)
    assert design.pairs.shape[1] == design.reach + 1
    alone, side_by_side = (np.empty((len(r_sample), 2, 2 * filtering.AT_ONCE), np.int32) for _ in range(2))
    for total, pairs in ((alone, design.pairs[:, :0]), (side_by_side, design.pairs)):
        settings = filtering.settings_of(design._replace(pairs=pairs))
        filtering.window_sums(signal, 90_001, np.array([0, 2]), r_sample, before, *settings, total)
    np.testing.assert_array_equal(side_by_side, alone)


def test_trees_asked_side_by_side_answer_as_one_by_one() -> None:
    """At their edges and where a figure is unknown too."""
    trees, random = candidates.fitted_trees(), np.random.default_rng(6)
    figures = random.normal(0.0, 2.0, (300, candidates.N_FIGURES)).astype(np.float32)
    for figure in np.unique(trees.figure[trees.figure >= 0]):
        figures[:200, figure] = random.choice(trees.value[trees.figure == figure], 200)
    figures[:9, 3] = np.nan
    expected = []
    for own in figures:
        total = trees.start
        for root in trees.root:
            node = root
            while trees.figure[node] >= 0:
                node = (trees.left if own[trees.figure[node]] <= trees.value[node] else trees.right)[node]
            total += float(trees.value[node])
        expected.append(candidates.CERTAIN if candidates.is_plain(own) else total)
    np.testing.assert_array_equal(candidates.log_odds(figures, *candidates.scorer(trees)), expected)


def test_a_tree_of_too_many_leaves_is_refused() -> None:
    """Twenty splits in a chain have 21 leaves; forty have 41."""
    for n, is_refused in ((20, False), (40, True)):
        figure = np.array([0] * n + [-1] * (n + 1), np.int8)
        left = np.array([n + i for i in range(n)] + [0] * (n + 1), np.int32)
        right = np.array([*range(1, n), 2 * n] + [0] * (n + 1), np.int32)
        chain = candidates.Trees(figure, np.zeros(2 * n + 1, np.float32), left, right, np.zeros(1, np.int32), 0.0)
        if is_refused:
            with pytest.raises(ValueError, match="tree 0 has 41 leaves, expected at most 32"):
                candidates.scorer(chain)
        else:
            assert candidates.scorer(chain).first.tolist() == [0, n]


SUMS = """
import hashlib, numpy as np; from ecgbatch.beats import filtering, kachuee, resampling
lead = np.random.default_rng(5).integers(-32768, 32768, 20_001).astype(np.int16)
design = resampling.resampler(1000.0, 43.0, 0.08); sums = np.empty(30 * filtering.AT_ONCE, np.int32)
filtering.resampled_sums(lead, *filtering.settings_of(design), sums)
doubles = np.empty(2501); kachuee.decimate(lead, 1000.0, 3.0, kachuee.low_pass(8), 8, doubles)
digest = hashlib.sha256(sums.tobytes() + doubles.tobytes()).hexdigest()
"""


def sums_elsewhere(cache: Path, processor: str, features: str) -> list[str]:
    """Return the digest of sums by what is compiled for another processor, and whether that has VNNI's and SSE2's products."""
    shown = "code = str(filtering.resampled_sums.inspect_asm()); print(digest, 'vpdpwssd' in code, 'vpmaddwd' in code)"
    other = {"NUMBA_CACHE_DIR": str(cache), "NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": features}
    command = [sys.executable, "-c", SUMS + shown]
    return subprocess.run(command, env=os.environ | other, capture_output=True, text=True, check=True).stdout.split()


def sums_here() -> str:
    """Return the digest of the same sums by what is compiled for this machine."""
    found: dict[str, str] = {}
    exec(SUMS, found)
    return found["digest"]


def test_sums_are_the_same_on_processors_with_fewer_instructions(tmp_path: Path) -> None:
    """What is compiled for this machine, and for one with AVX2 but no VNNI."""
    assert sums_elsewhere(tmp_path, "haswell", "+avx2,+fma,+avx,+sse4.2") == [sums_here(), "False", "True"]


def test_errors_say_what_was_found() -> None:
    signal = pulse_train(250.0, regular(5.0), 5.0)
    with pytest.raises(ValueError, match=r"int16.*found \(1, 1250\) float64"):
        detect(signal.astype(np.float64), 250.0)
    with pytest.raises(ValueError, match=r"\[50, 100000\] Hz, found 20"):
        detect(signal, 20.0)
    with pytest.raises(ValueError, match="n_samples must lie in"):
        detect(signal, 250.0, n_samples=2000)
    with pytest.raises(ValueError, match="1 leads need as many gains"):
        record.detect_r_peaks(signal, adc_gain=np.ones(2), baseline=np.ones(2), sampling_frequency_hz=250.0)


def test_evaluation_pairs_beats_as_ec57_asks() -> None:
    reference = np.array([1000, 2000, 3000, 4000])
    detected = np.array([990, 1010, 2050, 3100, 5000])
    assert beat_detection.pair_beats(reference, detected, 54) == [(0, 0), (1, 2)]


def test_one_lead_of_a_real_record_finds_its_beats(test_data: Path) -> None:
    rows = [beat_detection.evaluate_record(test_data, name, leads=(0,)) for name in ("101", "119", "209")]
    total = beat_detection.total(rows)
    assert min(total.sensitivity, total.positive_predictivity) > 99.7
    assert total.error_ms < 5


@pytest.mark.parametrize("leads", [(0,), (0, 1)])
def test_noise_stress_reaches_its_goal(test_data: Path, leads: tuple[int, ...]) -> None:
    assert beat_detection.evaluate_noise_stress(test_data, leads=leads).f1 >= 75


def spikes(fs: float, duration_s: float, at_s: np.ndarray, size_mv: float) -> np.ndarray:
    """Return pacing spikes, 1 ms wide or one sample, in ADC units."""
    signal = np.zeros(round(duration_s * fs))
    for second in at_s:
        first = round(second * fs)
        signal[first : first + max(1, round(0.001 * fs))] += size_mv * GAIN
    return signal


@pytest.mark.parametrize("fs", [250.0, 500.0, 1000.0])
@pytest.mark.parametrize("size_mv", [1.0, 3.0, -5.0])
def test_pacing_spikes_are_not_beats(fs: float, size_mv: float) -> None:
    r_time_s = regular(30.0)
    signal = pulse_train(fs, r_time_s, 30.0) + spikes(fs, 30.0, r_time_s - 0.15, size_mv)
    found = detect(np.rint(signal).astype(np.int16), fs).r_sample / fs
    assert len(found) == len(r_time_s)
    assert np.abs(found - r_time_s).max() < 0.16


def test_a_lead_that_is_lost_on_the_way_takes_no_beats_with_it() -> None:
    r_time_s = regular(60.0)
    signal = pulse_train(250.0, r_time_s, 60.0, n_leads=2)
    signal[0, 5000:10000] = signal[0, 5000]
    signal[1, 11000:] = np.random.default_rng(4).normal(0, 900, 4000).astype(np.int16)
    found = detect(signal, 250.0).r_sample / 250.0
    assert len(found) == len(r_time_s)
    assert np.abs(found - r_time_s).max() < 0.03


@pytest.mark.parametrize("share", [0.03, 0.1])
def test_low_amplitude_keeps_its_beats_while_the_recorder_resolves_them(share: float) -> None:
    r_time_s = regular(30.0)
    tall = pulse_train(250.0, r_time_s, 30.0, noise_mv=0.0)
    low = np.rint(tall * share + np.random.default_rng(5).normal(0, 2, tall.shape)).astype(np.int16)
    assert len(detect(low, 250.0).r_sample) == len(r_time_s)


def test_amplitude_that_falls_to_a_quarter_keeps_its_beats() -> None:
    r_time_s = regular(60.0)
    fading = pulse_train(250.0, r_time_s, 60.0) * np.where(np.arange(15000) < 7500, 1.0, 0.25)
    assert len(detect(np.rint(fading).astype(np.int16), 250.0).r_sample) == len(r_time_s)


@pytest.mark.parametrize("early_size", [0.7, 1.0, 2.0])
def test_bigeminy_keeps_every_beat_and_flags_the_early_ones_by_timing_and_shape(early_size: float) -> None:
    own_s = np.arange(0.6, 59.0, 1.6)
    early_s = own_s[:-1] + 0.6
    time_s = np.arange(15000) / 250.0
    wide = np.zeros(15000)
    for r in early_s:  # a broad negative QRS and its T wave
        t_wave, qrs = np.exp(-0.5 * ((time_s - r - 0.3) / 0.07) ** 2), np.exp(-0.5 * ((time_s - r) / 0.02) ** 2)
        wide += early_size * 1400 * (0.5 * t_wave - qrs)
    signal = np.rint(pulse_train(250.0, own_s, 60.0) + wide).astype(np.int16)
    found = detect(signal, 250.0)
    is_early = np.isin(np.arange(len(found.r_sample)), np.searchsorted(np.sort(np.concatenate([own_s, early_s])), early_s))
    assert len(found.r_sample) == len(own_s) + len(early_s)
    cut = record.beat_windows(signal, found, adc_gain=np.array([GAIN]), sampling_frequency_hz=250.0)
    inside = (cut.beat_flags & BEAT_FLAGS["edge"]) == 0
    for flag in ("ectopic", "aberrant"):
        np.testing.assert_array_equal((cut.beat_flags & BEAT_FLAGS[flag] > 0)[inside], is_early[inside], err_msg=flag)


def test_baseline_jumps_are_not_beats() -> None:
    r_time_s = regular(60.0)
    signal = pulse_train(250.0, r_time_s, 60.0).astype(np.int64)
    jumps_s = np.array([10.13, 25.51, 41.9])
    for second, height in zip(jumps_s, (3000, -5000, 1500), strict=True):
        signal[0, round(second * 250) :] += height
    found = detect(np.clip(signal, -32767, 32767).astype(np.int16), 250.0).r_sample / 250.0
    far = np.abs(r_time_s[:, None] - jumps_s).min(axis=1) > 0.3
    assert all(np.abs(found - r).min() < 0.02 for r in r_time_s[far])
    assert abs(len(found) - len(r_time_s)) <= len(jumps_s)


def test_leads_agree_on_a_beat_and_not_on_an_artefact_of_one() -> None:
    weight, typical = np.full((2, 1), 0.5, np.float32), np.array([[1.0], [0.5]], np.float32)
    beat, artefact = np.zeros((2, 50), np.float32), np.zeros((2, 50), np.float32)
    beat[:, 25] = 0.8, 0.4
    artefact[:, 25] = 5.0, 0.05
    assert candidates.agreement(beat, weight, typical, 0, 27) == pytest.approx(0, abs=1e-6)
    mean, root = 0.5 * (5.0 + 0.1), 0.5 * (5.0**0.5 + 0.1**0.5)
    assert candidates.agreement(artefact, weight, typical, 0, 27) == pytest.approx(np.log(root**2 / mean), abs=1e-6)
    assert candidates.agreement(artefact[:1], weight[:1], typical[:1], 0, 27) == pytest.approx(0, abs=1e-6)
    assert candidates.agreement(artefact, weight, typical, 0, 40) == pytest.approx(np.log(0.05))  # nothing near
