"""Beats: windows exactly where R is, flags that say why, the paper's seven steps to the letter, and stages on the storage."""

from __future__ import annotations

import json
import warnings
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.signal
import xarray as xr
from scipy.signal import butter, freqz, resample_poly, sosfiltfilt

from ecgbatch import cli
from ecgbatch.beats import windows
from ecgbatch.beats.kachuee import kachuee_beats, kachuee_r_peaks, resample_lead
from ecgbatch.beats.lookup import current_beats, export_annotations, extract_beats
from ecgbatch.beats.record import CUTOFF_HZ, HALF_WIDTH_S, HIGH_PASS_HZ, Beats, BeatSettings, RPeaks, beat_windows, detect_r_peaks
from ecgbatch.beats.rhythm import is_plausible, rhythm, rr_previous_s
from ecgbatch.beats.stage import plan_beats, plan_peaks, produce_beats, produce_peaks
from ecgbatch.cli.exit_codes import USAGE
from ecgbatch.formats.records import read_record
from ecgbatch.formats.wfdb_annotation import BEAT_SYMBOLS, decode, encode_beats
from ecgbatch.signals.stage import convert_archive
from ecgbatch.signals.table import SIGNALS
from ecgbatch.terms import BEAT_FLAGS, LABEL, LEAD_FLAGS, MISSING_SAMPLE, STATUS
from storage import TEXT, Shard, UnfinishedStore, build, make_plan, open_store

GAIN = 2000.0


def flagged(found: Beats | RPeaks, word: str) -> list[int]:
    return np.flatnonzero(found.beat_flags & BEAT_FLAGS[word]).tolist()


def heart(fs: float, r_time_s: np.ndarray, duration_s: float, n_leads: int = 2, seed: int = 0) -> np.ndarray:
    """Return (lead, sample) int16 of narrow QRS and T waves at known times."""
    random = np.random.default_rng(seed)
    time_s = np.arange(round(duration_s * fs)) / fs
    ecg = np.zeros(time_s.size)
    for r_s in r_time_s:
        ecg += np.exp(-0.5 * ((time_s - r_s) / 0.012) ** 2) + 0.2 * np.exp(-0.5 * ((time_s - r_s - 0.28) / 0.05) ** 2)
    scale = np.linspace(1.0, 0.5, n_leads)[:, None]
    return np.rint((scale * ecg + 0.005 * random.standard_normal((n_leads, time_s.size))) * GAIN).astype(np.int16)


def cut(signal: np.ndarray, r_sample: np.ndarray, fs: float, **more: Any) -> Beats:
    flags = np.zeros(len(r_sample), np.uint16)
    peaks = RPeaks(r_sample, flags, 0)
    return beat_windows(signal, peaks, adc_gain=np.full(len(signal), GAIN), sampling_frequency_hz=fs, **more)


@pytest.mark.parametrize("n_leads", [1, 2, 12])
def test_one_lead_or_many_ask_for_the_same_machine_code(n_leads: int) -> None:
    assert windows.groups_of(np.ones((1, n_leads), bool)).leads.flags.c_contiguous


def baseline(signal: np.ndarray, design: windows.HighPass) -> np.ndarray:
    """The baseline of the first lead, (block,)."""
    curve, pad = windows.baselines(signal[None], signal.shape[1], windows.groups_of(np.ones((1, 1), bool)), design)
    return curve[0, pad : curve.shape[1] - pad, 0]


R_TIME_S = np.arange(0.7, 19.4, 0.8)


def test_default_settings_are_88_samples_with_r_at_31() -> None:
    settings = BeatSettings()
    assert (settings.n_samples, settings.r_index, settings.waveform_units) == (88, 31, "uV")
    assert settings.sample_time_s()[31] == 0
    assert settings.sample_time_s().dtype == np.float32
    paper = BeatSettings(method="kachuee")
    assert (paper.n_samples, paper.r_index, paper.waveform_step) == (187, 0, 1 / 16384)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"method": "xqrs"}, "'robust' or 'kachuee', found 'xqrs'"),
        ({"sampling_frequency_hz": 250.0}, r"125.0 Hz, found 250.0 Hz"),
        ({"before_s": -1.0}, r"before_s must lie in \[0, 10\]"),
        ({"reference": "../atr"}, r"extension of annotation files.*found '\.\./atr' with 'robust'"),
        ({"reference": "atr", "method": "kachuee"}, "found 'atr' with 'kachuee'"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        BeatSettings(**wrong)


@pytest.mark.parametrize("fs", [250.0, 257.0, 360.0, 500.0, 1000.0, 10000.0])
def test_windows_are_the_filtered_signal_at_exact_times(fs: float) -> None:
    """A window equals ``resample_poly`` with the same taps, started so that R falls on the 125 Hz grid, less the baseline."""
    from ecgbatch.beats.resampling import full_taps, resampler

    signal = heart(fs, R_TIME_S, 20.0, n_leads=1)
    r_sample = np.rint(R_TIME_S * fs).astype(np.int64)[5:8]
    found = cut(signal, r_sample, fs)
    design = resampler(fs, CUTOFF_HZ, HALF_WIDTH_S)
    curve = baseline(signal, windows.high_pass(fs, HIGH_PASS_HZ))
    block = windows.high_pass(fs, HIGH_PASS_HZ).block
    base = np.interp(np.arange(signal.shape[1]), (np.arange(len(curve)) + 0.5) * block - 0.5, curve)
    for beat, r in enumerate(r_sample):
        start = int(r) % design.down  # from here R falls on the 125 Hz grid
        grid = resample_poly(signal[0, start:] / 1.0, design.up, design.down, window=full_taps(design), padtype="edge")
        at = (int(r) - start) * design.up // design.down
        assert (int(r) - start) * design.up % design.down == 0
        offset = np.arange(-31, 57)
        assert at > 60
        times = int(r) + offset * fs / 125.0
        expected = (grid[at + offset] - np.interp(times, np.arange(signal.shape[1]), base)) * 1000 / GAIN
        assert np.abs(found.waveform[beat, 0] - expected).max() < 1.0


def test_baseline_removal_is_a_zero_phase_butterworth_high_pass() -> None:
    fs = 500.0
    time_s = np.arange(20000) / fs
    for hz in (0.1, 0.25, 0.5, 1.0, 4.0):
        wave = np.rint(5000 * np.sin(2 * np.pi * hz * time_s)).astype(np.int16)
        curve = baseline(wave[None], windows.high_pass(fs, 0.5))
        left = wave - np.interp(np.arange(20000), (np.arange(len(curve)) + 0.5) * 20 - 0.5, curve)
        expected = sosfiltfilt(butter(2, 0.5, "high", fs=fs, output="sos"), wave)
        middle = slice(6000, 14000)
        assert np.abs(left[middle] - expected[middle]).max() < 60


def test_low_pass_holds_what_the_documentation_says() -> None:
    from ecgbatch.beats.resampling import full_taps, resampler

    for fs in (360.0, 1000.0):
        design = resampler(fs, CUTOFF_HZ, HALF_WIDTH_S)
        hz, response = freqz(full_taps(design), worN=np.arange(0, 500, 0.5), fs=fs * design.up)
        level = 20 * np.log10(np.abs(response) + 1e-9)
        assert np.abs(level[hz <= 30]).max() < 0.1
        assert level[np.isclose(hz, 40.0)] > -3.5
        assert level[(hz >= 60) & (hz < 180)].max() < -45


def test_r_lies_at_sample_31_of_every_window_at_any_sub_sample_position() -> None:
    r_time_s = np.arange(0.7, 19.4, 0.8071)
    found = cut(heart(1000.0, r_time_s, 20.0, n_leads=1), np.rint(r_time_s * 1000).astype(np.int64), 1000.0)
    assert set(found.waveform[:, 0].argmax(axis=1)) == {31}
    peaks = found.waveform[:, 0, 31].astype(float)
    assert peaks.std() < 0.02 * peaks.mean()
    assert 850 < peaks.mean() < 1000


def test_a_window_that_leaves_the_record_is_filled_and_flagged_edge() -> None:
    r_sample = np.array([100, 700, 4900])
    found = cut(heart(250.0, R_TIME_S, 20.0), r_sample, 250.0)
    assert flagged(found, "edge") == [2]
    assert np.all(found.waveform[2, :, -6:] == MISSING_SAMPLE)
    assert np.all(found.waveform[:2] != MISSING_SAMPLE)
    early = cut(heart(250.0, R_TIME_S, 20.0), np.array([10]), 250.0)
    assert np.all(early.waveform[0, :, :26] == MISSING_SAMPLE)
    assert np.all(early.waveform[0, :, 26:] != MISSING_SAMPLE)


def test_a_missing_lead_is_fill_and_no_flag() -> None:
    found = cut(heart(250.0, R_TIME_S, 20.0), np.array([700, 900]), 250.0, present=np.array([True, False]))
    assert np.all(found.waveform[:, 1] == MISSING_SAMPLE)
    assert not found.beat_flags.any()


def test_a_gap_is_fill_and_flagged_edge() -> None:
    signal = heart(250.0, R_TIME_S, 20.0)
    signal[1, 720:730] = MISSING_SAMPLE
    found = cut(signal, np.array([500, 700]), 250.0)
    assert flagged(found, "edge") == [1]
    assert np.any(found.waveform[1, 1] == MISSING_SAMPLE)
    assert np.all(found.waveform[1, 0] != MISSING_SAMPLE)


def test_values_beyond_int16_microvolts_are_held() -> None:
    signal = np.zeros((1, 5000), np.int16)
    signal[0, 2450:2550] = 32000
    peaks = RPeaks(np.array([2500]), np.zeros(1, np.uint16), 0)
    found = beat_windows(signal, peaks, adc_gain=np.array([200.0]), sampling_frequency_hz=250.0)
    assert found.waveform.max() == 32767


def test_clipping_is_flagged_where_it_happens() -> None:
    signal = heart(1000.0, R_TIME_S, 20.0, n_leads=1)
    top = round(R_TIME_S[4] * 1000)
    signal[0, top - 15 : top + 15] = 3000
    found = cut(signal, np.rint(R_TIME_S * 1000).astype(np.int64), 1000.0)
    assert flagged(found, "clipped") == [4]


def test_a_beat_of_another_shape_is_aberrant() -> None:
    signal = heart(500.0, R_TIME_S, 20.0)
    wide = round(R_TIME_S[7] * 500)
    width = np.arange(-100, 100) / 500
    signal[:, wide - 100 : wide + 100] = np.rint(-1.5 * GAIN * np.exp(-0.5 * (width / 0.05) ** 2)).astype(np.int16)
    found = cut(signal, np.rint(R_TIME_S * 500).astype(np.int64), 500.0)
    assert flagged(found, "aberrant") == [7]


def test_windows_refuse_r_samples_out_of_order() -> None:
    with pytest.raises(ValueError, match="must increase within 0 to 4999"):
        cut(heart(250.0, R_TIME_S, 20.0), np.array([500, 500]), 250.0)
    with pytest.raises(ValueError, match="must increase within"):
        cut(heart(250.0, R_TIME_S, 20.0), np.array([500, 5000]), 250.0)


def test_intervals_are_seconds_and_the_first_is_unknown() -> None:
    found = rr_previous_s(np.array([100, 350, 500]), 250.0)
    assert np.isnan(found[0])
    np.testing.assert_allclose(found[1:], [1.0, 0.6])
    assert len(rr_previous_s(np.zeros(0, int), 250.0)) == 0


def test_rhythm_counts_normal_intervals_only() -> None:
    r_sample = np.cumsum([100, *[200] * 4, 100, 300, *[210] * 4])  # one premature beat and its pause
    flags = np.zeros(11, np.uint16)
    flags[5] = BEAT_FLAGS["ectopic"]
    flags[10] = BEAT_FLAGS["edge"]
    found = rhythm(r_sample, flags, 250.0)
    assert found.heart_rate_bpm == pytest.approx(60 / np.median(np.diff(r_sample) / 250))
    assert found.rr_spread_s == pytest.approx(np.std([0.8] * 4 + [0.84] * 4, ddof=1))
    assert (found.n_normal_intervals, found.n_beats, found.n_ectopic, found.n_aberrant) == (8, 11, 1, 0)
    assert found.usable_share == pytest.approx(10 / 11)


def test_rhythm_of_too_few_beats_is_unknown_and_noisy_beats_say_nothing() -> None:
    nothing = rhythm(np.zeros(0, np.int32), np.zeros(0, np.uint16), 250.0)
    assert np.isnan([nothing.heart_rate_bpm, nothing.rr_spread_s, nothing.usable_share]).all()
    few = rhythm(np.array([100, 300, 500]), np.zeros(3, np.uint16), 250.0)
    assert few.heart_rate_bpm == 75
    assert np.isnan(few.rr_spread_s)
    noisy = rhythm(np.array([100, 300, 500]), np.full(3, BEAT_FLAGS["noisy"], np.uint16), 250.0)
    assert np.isnan(noisy.heart_rate_bpm)
    assert noisy.usable_share == 0


def seven_steps(leads_125: dict[int, np.ndarray], reference: int) -> tuple[list[int], list[dict[int, np.ndarray]], list[bool]]:
    """Read Kachuee et al. 2018 plainly: places at 125 Hz, the parts of each lead, and whether a part was cut at 187."""
    places, parts, cuts = [], [], []
    for start in range(0, len(leads_125[reference]) - 1249, 1250):
        window = {}
        for lead, samples in leads_125.items():
            values = [float(v) for v in samples[start : start + 1250]]
            low, high = min(values), max(values)
            window[lead] = [(v - low) / (high - low) if high > low else 0.0 for v in values]
        x = window[reference]
        maxima = []
        for i in range(1, 1249):
            after = i + 1
            while after < 1249 and x[after] == x[i]:
                after += 1
            if x[i] > x[i - 1] and x[after] < x[i]:
                maxima.append(i)
        peaks = [i for i in maxima if x[i] > 0.9]
        if len(peaks) < 2:
            continue
        intervals = sorted(b - a for a, b in pairwise(peaks))
        middle = len(intervals) // 2
        period = intervals[middle] if len(intervals) % 2 else (intervals[middle - 1] + intervals[middle]) / 2
        length = int(1.2 * period)
        for peak in peaks:
            part = {}
            for lead, values in window.items():
                piece = values[peak : peak + min(length, 187)]
                part[lead] = np.array(piece + [0.0] * (187 - len(piece)))
            places.append(start + peak)
            parts.append(part)
            cuts.append(length > 187)
    return places, parts, cuts


def assert_equals_seven_steps(signal: np.ndarray, gain: np.ndarray, baseline: np.ndarray, fs: float, leads: list[str]) -> int:
    facts = {"adc_gain": gain, "baseline": baseline, "sampling_frequency_hz": fs}
    found = kachuee_beats(signal, leads=leads, **facts)
    at_125 = {lead: resample_lead(signal[lead], gain[lead], baseline[lead], fs) for lead in range(len(signal))}
    places, parts, cuts = seven_steps(at_125, leads.index("II") if "II" in leads else 0)
    np.testing.assert_array_equal(found.r_sample, np.rint(np.array(places) * fs / 125))
    assert ((found.beat_flags & BEAT_FLAGS["cut"]) > 0).tolist() == cuts
    peaks = kachuee_r_peaks(signal, leads=leads, **facts)
    np.testing.assert_array_equal(peaks.r_sample, found.r_sample)
    np.testing.assert_array_equal(peaks.beat_flags, found.beat_flags)
    for beat, part in enumerate(parts):
        for lead, expected in part.items():
            np.testing.assert_array_equal(found.waveform[beat, lead], np.rint(expected * 16384))
    return len(places)


@pytest.mark.parametrize(("fs", "rr_s"), [(1000.0, 0.8), (360.0, 0.61), (250.0, 1.4), (125.0, 1.0)])
def test_kachuee_beats_equal_a_plain_reading_of_the_seven_steps(fs: float, rr_s: float) -> None:
    signal = heart(fs, np.arange(0.5, 33.0, rr_s), 34.0, n_leads=3)
    n_beats = assert_equals_seven_steps(signal, np.full(3, GAIN), np.zeros(3), fs, ["I", "II", "III"])
    assert n_beats > 10


@pytest.mark.parametrize("fs", [1000, 500, 250])
@pytest.mark.parametrize("n_samples", [1, 79, 80, 5001, 12_345])
def test_the_papers_rate_is_reached_by_scipys_sums_to_the_last_bit(fs: int, n_samples: int) -> None:
    steps = np.random.default_rng(n_samples).integers(-30, 31, n_samples).cumsum().astype(np.int16)
    expected = scipy.signal.resample_poly((steps.astype(np.float64) - 13.0) / 983.7, 1, fs // 125, padtype="edge")
    np.testing.assert_array_equal(resample_lead(steps, 983.7, 13, fs), expected)


def test_kachuee_flags_what_it_cuts_and_what_leaves_the_window() -> None:
    signal = heart(250.0, np.arange(0.5, 19.9, 1.4), 20.0)
    found = kachuee_beats(signal, adc_gain=np.full(2, GAIN), baseline=np.zeros(2), sampling_frequency_hz=250.0, leads=["I", "II"])
    assert len(flagged(found, "cut")) == len(found.r_sample)
    last_s = found.r_sample[flagged(found, "edge")] / 250 % 10
    assert np.all(last_s > 10 - 187 / 125)


def test_kachuee_without_lead_ii_uses_the_first_that_is_there() -> None:
    signal = heart(250.0, R_TIME_S, 20.0, n_leads=3)
    facts = {"adc_gain": np.full(3, GAIN), "baseline": np.zeros(3), "sampling_frequency_hz": 250.0}
    absent = kachuee_beats(signal, leads=["I", "II", "III"], present=np.array([False, False, True]), **facts)
    alone = kachuee_beats(signal[2:], leads=["III"], **{k: v[2:] if isinstance(v, np.ndarray) else v for k, v in facts.items()})
    np.testing.assert_array_equal(absent.r_sample, alone.r_sample)
    assert np.all(absent.waveform[:, :2] == MISSING_SAMPLE)


def test_kachuee_gives_no_beats_in_a_record_under_ten_seconds_and_none_in_a_flat_one() -> None:
    facts = {"adc_gain": np.full(1, GAIN), "baseline": np.zeros(1), "sampling_frequency_hz": 250.0, "leads": ["II"]}
    assert len(kachuee_beats(heart(250.0, R_TIME_S, 9.9, n_leads=1), **facts).r_sample) == 0
    assert len(kachuee_beats(np.zeros((1, 5000), np.int16), **facts).r_sample) == 0


def test_floor_of_1_2_t_is_the_same_in_floats_and_in_whole_numbers() -> None:
    for doubled in range(2, 2500):
        assert int(1.2 * (doubled / 2)) == 12 * doubled // 20


def signals_inputs(n: int, leads: list[str], n_samples: list[int], fs: list[float], status: list[int]) -> xr.Dataset:
    """Return fixed and per-record variables of a small signals store."""
    names = np.array([f"r{i}" for i in range(n)], dtype=TEXT)
    empty = np.array([""] * n, dtype=TEXT)
    data: dict[str, Any] = {
        "lead": ("lead", np.array(leads, dtype=TEXT)),
        "n_samples": ("record", np.array(n_samples, np.int64)),
        "sampling_frequency_hz": ("record", np.array(fs)),
        "status": ("record", np.array(status, np.int8)),
        "label": ("record", np.full(n, LABEL["control"], np.int8)),
        "mi": ("record", np.zeros(n, np.int8)),
        "record_name": ("record", names),
        "patient_id": ("record", names),
    }
    for name, variable in SIGNALS.variables.items():
        if name not in data and variable.dims == ("record",):
            data[name] = ("record", empty if variable.dtype == "string" else np.zeros(n, variable.numpy_dtype))
    return xr.Dataset(data)


LEADS = ["I", "II", "V1"]


def produce_signals(shard: Shard, rows: xr.Dataset, *, n_samples: int) -> xr.Dataset:
    """Make records of known beats; record 2 is set aside, record 3 lacks a lead, record 4 is flat."""
    n = shard.stop - shard.start
    signal = np.full((n, 3, n_samples), MISSING_SAMPLE, np.int16)
    flags = np.zeros((n, 3), np.uint16)
    for row in range(n):
        index, length, fs = shard.start + row, int(rows["n_samples"][row]), float(rows["sampling_frequency_hz"][row])
        r_time_s = np.arange(0.6, length / fs - 0.3, 0.6 + 0.1 * (index % 4))
        signal[row, :, :length] = heart(fs, r_time_s, length / fs, n_leads=3, seed=index)
        if index == 3:
            signal[row, 1], flags[row, 1] = MISSING_SAMPLE, LEAD_FLAGS["missing"]
        if index == 4:
            signal[row, :, :length], flags[row] = 0, LEAD_FLAGS["flat"]
    made: dict[str, Any] = {
        "signal": (("record", "lead", "sample"), signal),
        "adc_gain": (("record", "lead"), np.full((n, 3), GAIN)),
        "baseline": (("record", "lead"), np.zeros((n, 3), np.int32)),
        "checksum": (("record", "lead"), np.zeros((n, 3), np.int32)),
        "lead_flags": (("record", "lead"), flags),
    }
    columns = {name: rows[name] for name in SIGNALS.columns() if name not in made}
    return xr.Dataset(made | {name: ("record", values.values) for name, values in columns.items()})


@pytest.fixture(scope="module")
def signals_at(tmp_path_factory: pytest.TempPathFactory) -> str:
    status = [STATUS["ok"]] * 7
    status[2], status[3] = STATUS["set_aside"], STATUS["partial"]
    fs = [250.0, 500.0, 250.0, 250.0, 250.0, 360.0, 1000.0]
    n_samples = [3000, 6000, 3000, 2900, 3000, 4000, 12000]
    inputs = signals_inputs(7, LEADS, n_samples, fs, status)
    sizes = {"record": 7, "lead": 3, "sample": 12000}
    plan = make_plan(SIGNALS, sizes=sizes, inputs=inputs, settings={"test": "beats"}, shard_rows=2)
    work = tmp_path_factory.mktemp("work")
    return build(str(work), plan, partial(produce_signals, n_samples=12000))


def build_beats(work: Path, signals_at: str, settings: BeatSettings, engine: Any = map) -> tuple[xr.Dataset, xr.Dataset, Path]:
    signals = open_store(signals_at)
    find = partial(produce_peaks, signals_at=signals_at, settings=settings)
    peaks_at = build(str(work), plan_peaks(signals, settings), find, map=engine)
    peaks = open_store(peaks_at)
    cut_shard = partial(produce_beats, signals_at=signals_at, peaks_at=peaks_at, settings=settings)
    found_at = build(str(work), plan_beats(signals, peaks, settings), cut_shard, map=engine)
    return peaks, open_store(found_at), Path(found_at)


@pytest.mark.parametrize("method", ["robust", "kachuee"])
def test_stages_give_every_record_its_rows(signals_at: str, tmp_path: Path, method: Any) -> None:
    settings = BeatSettings(method=method)
    peaks, found, _ = build_beats(tmp_path, signals_at, settings)
    n_beats = peaks["n_beats"].values
    assert n_beats[2] == n_beats[4] == 0
    assert np.all(n_beats[[0, 1, 3, 5, 6]] > 7)
    assert found.sizes["beat"] == n_beats.sum()
    np.testing.assert_array_equal(found["first_beat"].values, np.concatenate([[0], np.cumsum(n_beats)[:-1]]))
    np.testing.assert_array_equal(found["record_index"].values, np.repeat(np.arange(7), n_beats))
    assert found.sizes["sample"] == settings.n_samples
    assert found.attrs["settings"]["waveform_units"] == settings.waveform_units
    for record in (0, 3, 6):
        rows = slice(int(found["first_beat"][record]), int(found["first_beat"][record]) + int(n_beats[record]))
        np.testing.assert_array_equal(found["r_sample"].values[rows], peaks["r_sample"].values[record, : n_beats[record]])
        assert np.isnan(found["rr_previous_s"].values[rows][0])
        assert np.all(found["rr_previous_s"].values[rows][1:] > 0)
    missing = found["waveform"].values[found["record_index"].values == 3, 1]
    assert np.all(missing == MISSING_SAMPLE)


def test_a_record_that_two_shards_share_gives_the_same_rows(signals_at: str, tmp_path: Path) -> None:
    settings = BeatSettings()
    _, found, path = build_beats(tmp_path, signals_at, settings)
    peaks_at = str(next((path.parents[1] / "peaks").glob("*.zarr")))
    whole = found.load()
    n = found.sizes["beat"]
    for cuts in ([0, n], [0, 7, 20, 21, n], [*range(0, n, 5), n]):
        parts = [
            produce_beats(Shard(i, a, b), xr.Dataset(), signals_at=signals_at, peaks_at=peaks_at, settings=settings)
            for i, (a, b) in enumerate(pairwise(cuts))
        ]
        joined = xr.concat(parts, "beat")
        for name in joined.variables:
            np.testing.assert_array_equal(joined[name].values, whole[name].values)


def test_threads_give_the_same_bytes(signals_at: str, tmp_path: Path) -> None:
    settings = BeatSettings()
    _, _, one = build_beats(tmp_path / "one", signals_at, settings)
    with ThreadPoolExecutor(4) as pool:
        _, _, many = build_beats(tmp_path / "many", signals_at, settings, pool.map)
    files = sorted(p.relative_to(one) for p in one.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(many) for p in many.rglob("*") if p.is_file())
    assert all((one / name).read_bytes() == (many / name).read_bytes() for name in files)


def annotated_archive(folder: Path) -> Path:
    """Write annotation files beside where the records of ``signals_at`` would lie; record 1's breaks off, 4 and 6 have none."""
    for name, r_sample in (("r0", [300, 500, 700]), ("r1", [900]), ("r2", [100]), ("r3", [1, 400, 2899]), ("r5", [700, 5000])):
        content = encode_beats(np.array(r_sample), np.zeros(len(r_sample), np.uint16), 360.0 if name == "r5" else 250.0)
        (folder / f"{name}.atr").write_bytes(content[: -2 if name == "r1" else None])
    return folder


def test_reference_annotations_take_the_place_of_detection(signals_at: str, tmp_path: Path) -> None:
    archive, signals = annotated_archive(tmp_path), open_store(signals_at)
    settings = BeatSettings(reference="atr")
    plan = plan_peaks(signals, settings, archive)
    find = partial(produce_peaks, signals_at=signals_at, settings=settings, archive=archive)
    peaks_at = build(str(tmp_path), plan, find)
    peaks = open_store(peaks_at)
    assert peaks["n_beats"].values.tolist() == [3, 0, 0, 3, 0, 1, 0]  # r2 is set aside; 5000 lies beyond the end of r5
    assert peaks["r_sample"].values[0, :3].tolist() == [300, 500, 700]
    assert not peaks["n_leads_used"].values.any()
    without = peaks.attrs["settings"]["without_reference"]
    assert sorted(without) == ["r1", "r4", "r6"]
    assert "breaks off" in without["r1"]
    assert peaks.attrs["settings"]["reference"] == "atr"
    cut_shard = partial(produce_beats, signals_at=signals_at, peaks_at=peaks_at, settings=settings)
    found = open_store(build(str(tmp_path), plan_beats(signals, peaks, settings), cut_shard))
    assert found["r_sample"].values.tolist() == [300, 500, 700, 1, 400, 2899, 700]
    assert np.flatnonzero(found["beat_flags"].values & BEAT_FLAGS["edge"]).tolist() == [3, 5]


def test_other_annotations_make_another_store_and_a_change_meanwhile_stops(signals_at: str, tmp_path: Path) -> None:
    archive, signals = annotated_archive(tmp_path), open_store(signals_at)
    settings = BeatSettings(reference="atr")
    plan = plan_peaks(signals, settings, archive)
    assert plan.digest != plan_peaks(signals, BeatSettings()).digest
    (archive / "r0.atr").write_bytes(encode_beats(np.array([301]), np.zeros(1, np.uint16), 250.0))
    assert plan.digest != plan_peaks(signals, settings, archive).digest
    find = partial(produce_peaks, signals_at=signals_at, settings=settings, archive=archive)
    with pytest.raises(OSError, match=r"r0\.atr changed while its beats were read"):
        build(str(tmp_path), plan, find)


def test_a_reference_needs_an_archive_and_an_archive_a_reference(signals_at: str, tmp_path: Path) -> None:
    signals = open_store(signals_at)
    for settings, archive in ((BeatSettings(reference="atr"), None), (BeatSettings(), tmp_path)):
        with pytest.raises(ValueError, match="both an extension and an archive"):
            plan_peaks(signals, settings, archive)


def test_settings_of_detection_do_not_name_a_reference() -> None:
    assert "reference" not in BeatSettings().document()
    assert BeatSettings(reference="atr").document()["reference"] == "atr"


@pytest.fixture(scope="module")
def ds1_work(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a small archive of real annotated records, and its workspace with signals."""
    archive, work = tmp_path_factory.mktemp("ds1"), tmp_path_factory.mktemp("ds1-work")
    for name in ("101", "119"):
        for suffix in ("hea", "dat", "atr"):
            (archive / f"{name}.{suffix}").write_bytes((test_data / "mitdb-ds1" / f"{name}.{suffix}").read_bytes())
    (archive / "119.atr").unlink()
    convert_archive(str(archive), str(work))
    return archive, work


def test_a_workspace_keeps_detected_and_annotated_beats_apart(ds1_work: tuple[Path, Path]) -> None:
    archive, work = ds1_work
    reference = BeatSettings(reference="atr")
    annotated = extract_beats(str(work), reference, archive=archive)
    assert list(annotated.without_reference) == ["119"]
    with pytest.raises(UnfinishedStore, match="no beats cut with"):
        current_beats(str(work), BeatSettings().document())
    seen: list[tuple[str, int, int]] = []
    detected = extract_beats(str(work), BeatSettings(), on_progress=lambda *step: seen.append(step))
    assert {stage for stage, _, _ in seen} <= {"compiling, once", "R peaks", "beats"}
    n_detected = current_beats(str(work), BeatSettings().document())["n_beats"].values
    n_annotated = current_beats(str(work), reference.document())["n_beats"].values
    assert n_detected.sum() == detected.n_beats
    assert n_annotated.tolist() == [1865, 0]
    assert n_detected.tolist() == pytest.approx([1865, 1987], abs=5)


def test_exported_annotations_are_read_by_wfdb_as_the_store_has_them(ds1_work: tuple[Path, Path], tmp_path: Path) -> None:
    import wfdb

    _, work = ds1_work
    settings = BeatSettings()
    extract_beats(str(work), settings)
    assert export_annotations(str(work), settings) == export_annotations(str(work), settings, tmp_path) == 2
    records = current_beats(str(work), settings.document())
    store = open_store(work / "beats" / f"{records['beats_store'].values[0]}.zarr")
    for row, name in enumerate(("101", "119")):
        found = wfdb.rdann(str(work / "annotations" / name), "qrs")
        mine = store["record_index"].values == row
        np.testing.assert_array_equal(found.sample, store["r_sample"].values[mine])
        np.testing.assert_array_equal(found.subtype, store["beat_flags"].values[mine])
        assert (set(found.symbol), found.fs) == ({"N"}, 360)
        assert (tmp_path / f"{name}.qrs").read_bytes() == (work / "annotations" / f"{name}.qrs").read_bytes()


def command(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        cli.main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return int(end.value.code or 0), said.out, said.err


def test_command_beats_takes_a_reference_and_writes_annotation_files(
    ds1_work: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive, work = ds1_work
    options = ("--workers", 1, "--json", "--reference", "atr", "--archive", archive, "--annotations-out", tmp_path)
    code, out, _ = command(capsys, "beats", work, *options)
    said = json.loads(out)
    assert (code, said["n_beats"], said["n_annotation_files"]) == (0, 1865, 2)
    assert list(said["without_reference"]) == ["119"]
    whole = decode((archive / "101.atr").read_bytes())
    beat_samples = whole.sample[np.isin(whole.symbol, sorted(BEAT_SYMBOLS))]
    np.testing.assert_array_equal(decode((tmp_path / "101.qrs").read_bytes()).sample, beat_samples)
    assert len(decode((tmp_path / "119.qrs").read_bytes()).sample) == 0


def test_command_beats_refuses_a_reference_without_an_archive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, error = command(capsys, "beats", tmp_path, "--reference", "atr")
    assert code == USAGE
    assert "--reference and --archive go together" in error


def read_real(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, list[str]]:
    """Return a real record's leads, gains, baselines, rate and lead names."""
    record = read_record(str(path.parent), path.name)
    names = [str(name) for name in record["lead"].values]
    fs = float(record.attrs["sampling_frequency_hz"])
    return record["signal"].values, record["adc_gain"].values, record["baseline"].values, fs, names


def real_records(test_data: Path, folder: str, every: int) -> list[Path]:
    names = (test_data / folder / "RECORDS").read_text().split()
    return [test_data / folder / name for name in names[::every]]


def check_real_record(path: Path) -> None:
    signal, gain, baseline, fs, _ = read_real(path)
    facts = {"adc_gain": gain, "baseline": baseline, "sampling_frequency_hz": fs}
    found = detect_r_peaks(signal, **facts)
    assert is_plausible(found.r_sample, fs, signal.shape[1]), path
    for lead in range(len(signal)):
        without = detect_r_peaks(signal, usable=np.arange(len(signal)) != lead, **facts)
        assert abs(len(without.r_sample) - len(found.r_sample)) <= 1, (path, lead)


@pytest.mark.parametrize(("folder", "every"), [("ptb", 8), ("ptbxl", 60)])
def test_real_records_keep_their_count_when_any_lead_is_removed(test_data: Path, folder: str, every: int) -> None:
    for path in real_records(test_data, folder, every):
        check_real_record(path)


def check_kachuee_plainly(path: Path, leads: int | None = None) -> None:
    """Compare with samples that wfdb reads and SciPy resamples: nothing of the reading below is ecgbatch's."""
    signal, gain, baseline, fs, names = read_real(path)
    record = wfdb_as_stored(path)
    order = [[name.upper() for name in record.sig_name].index(name.upper()) for name in names][:leads]
    ratio = Fraction(125) / Fraction(fs)
    at_125 = {}
    for lead, column in enumerate(order):
        millivolts = (record.d_signal[:, column].astype(np.float64) - record.baseline[column]) / record.adc_gain[column]
        at_125[lead] = resample_poly(millivolts, ratio.numerator, ratio.denominator, padtype="edge")
    found = kachuee_beats(
        signal[:leads], leads=names[:leads], adc_gain=gain[:leads], baseline=baseline[:leads], sampling_frequency_hz=fs
    )
    places, parts, cuts = seven_steps(at_125, names.index("II") if "II" in names[:leads] else 0)
    np.testing.assert_array_equal(found.r_sample, np.rint(np.array(places) * fs / 125), err_msg=path.name)
    assert ((found.beat_flags & BEAT_FLAGS["cut"]) > 0).tolist() == cuts
    for beat, part in enumerate(parts):
        for lead, expected in part.items():
            np.testing.assert_array_equal(found.waveform[beat, lead], np.rint(expected * 16384), err_msg=path.name)


def wfdb_as_stored(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # wfdb 4.3 uses what pandas has deprecated
        import wfdb

        record = wfdb.rdheader(str(path))
        there = [name for name, file in zip(record.sig_name, record.file_name, strict=True) if (path.parent / file).exists()]
        return wfdb.rdrecord(str(path), physical=False, channel_names=there)


def test_kachuee_equals_the_plain_reading_on_real_records(test_data: Path) -> None:
    for path in (*real_records(test_data, "ptb", 20), *real_records(test_data, "ptbxl", 120)):
        check_kachuee_plainly(path, 3)
    check_kachuee_plainly(test_data / "mitdb-ds1" / "119")
