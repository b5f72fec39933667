"""Measurements: known durations are found, and what cannot be had reliably is not stated."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from ecgbatch.measurements.intervals import FEWEST_BEATS, measure
from ecgbatch.terms import BEAT_FLAGS, LEAD_FLAGS, LEADS

TWELVE = LEADS[:12]
SIZES = np.array([0.6, 1.0, 0.4, -0.8, 0.2, 0.7, -0.5, 0.8, 1.2, 1.5, 1.3, 0.9])


def ecg(
    *,
    fs: float = 1000.0,
    rr_s: float = 0.8,
    qrs_s: tuple[float, float] = (-0.040, 0.052),
    st_mv: float = 0.0,
    t_end_s: float = 0.36,
    t_mv: float = 0.4,
    noise_mv: float = 0.0,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Ten seconds of twelve leads with a beat of straight lines, so that every boundary is where it is said to be."""
    r = np.arange(round(0.5 * fs), round(9.7 * fs), round(rr_s * fs))
    onset, j = qrs_s
    knots = [-0.40, -0.18, -0.14, -0.10, onset, onset / 2, 0.0, j * 0.6, j, j + 0.09, t_end_s - 0.08, t_end_s, 0.60]
    levels = np.array([0, 0, 0.1, 0, 0, -0.15, 1.0, -0.3, st_mv, st_mv, t_mv, 0, 0])
    signal = np.zeros((12, round(10 * fs)))
    time = np.arange(signal.shape[1]) / fs
    for beat in r:
        here = np.abs(time - beat / fs) < 0.6
        shape = np.interp(time[here] - beat / fs, knots, levels, left=0, right=0)
        signal[:, here] += SIZES[:, None] * shape
    signal += noise_mv * np.random.default_rng(seed).standard_normal(signal.shape)
    return signal, r


def measured(signal, r, fs=1000.0, *, lead_flags=(0,) * 12, beat_flags=None):
    flags = np.zeros(r.size, int) if beat_flags is None else beat_flags
    return measure(signal, TWELVE, lead_flags, sampling_frequency_hz=fs, r_sample=r, beat_flags=flags)


@pytest.mark.parametrize("fs", [250.0, 500.0, 1000.0])
@pytest.mark.parametrize("qrs_s", [(-0.036, 0.044), (-0.045, 0.060), (-0.060, 0.084)])
def test_qrs_and_qt_are_found_to_ten_and_fifteen_milliseconds(fs, qrs_s):
    found = measured(*ecg(fs=fs, qrs_s=qrs_s, noise_mv=0.004), fs)
    assert found["qrs_ms"]["value"] == pytest.approx(1000 * (qrs_s[1] - qrs_s[0]), abs=10), found["qrs_ms"]
    assert found["qt_ms"]["value"] == pytest.approx(1000 * (0.36 - qrs_s[0]), abs=15), found["qt_ms"]
    assert found["heart_rate_bpm"]["value"] == pytest.approx(75, abs=0.1)
    assert found["qtc_bazett_ms"]["value"] == pytest.approx(found["qt_ms"]["value"] / 0.8**0.5, abs=0.2)
    assert found["qtc_fridericia_ms"]["value"] == pytest.approx(found["qt_ms"]["value"] / 0.8 ** (1 / 3), abs=0.2)


@pytest.mark.parametrize("st_mv", [-0.15, 0.0, 0.2])
def test_st_level_is_read_sixty_milliseconds_after_the_j_point_of_every_lead(st_mv):
    found = measured(*ecg(st_mv=st_mv, noise_mv=0.003))
    for lead, size in zip(TWELVE, SIZES, strict=True):
        assert found["st_60_mv"][lead]["value"] == pytest.approx(st_mv * size, abs=0.02), lead


def test_leads_not_in_millivolts_keep_durations_and_lose_st():
    flags = (LEAD_FLAGS["not_millivolts"],) * 12
    found = measured(*ecg(), lead_flags=flags)
    assert found["qrs_ms"]["value"] == pytest.approx(92, abs=10)
    assert {entry["reason"] for entry in found["st_60_mv"].values()} == {"not in millivolts"}
    assert all(entry["value"] is None for entry in found["st_60_mv"].values())


def test_lead_that_is_missing_noisy_or_clipped_has_no_st_and_moves_nothing():
    signal, r = ecg()
    signal[3], signal[5, 2000:2600] = np.nan, 3.0
    flags = tuple({3: LEAD_FLAGS["missing"], 5: LEAD_FLAGS["clipped"]}.get(lead, 0) for lead in range(12))
    found = measured(signal, r, lead_flags=flags)
    assert found["qrs_ms"]["value"] == pytest.approx(92, abs=10)
    assert found["st_60_mv"]["aVR"] == {"value": None, "reason": "absent"}
    assert found["st_60_mv"]["aVF"]["value"] is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fs": 100.0}, "100 Hz"),
        ({"noise_mv": 0.35}, "quiet line|not believed|disagree"),
        ({"rr_s": 3.5}, "are needed"),
    ],
)
def test_what_cannot_be_measured_reliably_says_why(change, words):
    found = measured(*ecg(**change), change.get("fs", 1000.0))
    for name in ("qrs_ms", "qt_ms", "qtc_bazett_ms", "qtc_fridericia_ms"):
        assert found[name]["value"] is None
        assert re.search(words, found[name]["reason"]), found[name]


def test_flat_t_wave_gives_no_qt_but_a_qrs():
    found = measured(*ecg(t_mv=0.02))
    assert found["qt_ms"]["value"] is None
    assert "T wave" in found["qt_ms"]["reason"]
    assert found["qrs_ms"]["value"] is not None


def test_ectopic_and_noisy_beats_do_not_count():
    signal, r = ecg()
    flags = np.full(r.size, BEAT_FLAGS["ectopic"])
    flags[: FEWEST_BEATS - 1] = 0
    found = measured(signal, r, beat_flags=flags)
    assert found["n_beats"] == FEWEST_BEATS - 1
    assert "are needed" in found["qrs_ms"]["reason"]


def test_no_beat_and_no_sample_are_no_error():
    nothing = np.empty(0, int)
    found = measure(np.zeros((1, 0)), ("II",), (0,), sampling_frequency_hz=500.0, r_sample=nothing, beat_flags=nothing)
    assert found["heart_rate_bpm"]["value"] is None
    assert found["st_60_mv"]["II"]["value"] is None


def test_real_records_measure_within_what_hearts_do(test_data):
    """PTB: every value that is stated is physiological, and most records get one."""
    import wfdb
    from scipy.signal import find_peaks

    names = (test_data / "ptb" / "RECORDS").read_text().split()[:8]
    qrs, qt = [], []
    for name in names:
        record = wfdb.rdrecord(str(Path(test_data) / "ptb" / name), sampto=10_000, channels=list(range(12)))
        signal = record.p_signal.T
        speed = np.abs(signal[:, 8:] - signal[:, :-8]).sum(axis=0)
        r = find_peaks(speed, distance=400, height=0.5 * np.quantile(speed, 0.995))[0] + 4
        found = measured(signal, r, float(record.fs))
        qrs.append(found["qrs_ms"]["value"])
        qt.append(found["qtc_fridericia_ms"]["value"])
    known_qrs, known_qt = ([value for value in values if value is not None] for values in (qrs, qt))
    assert len(known_qrs) >= 6
    assert len(known_qt) >= 4
    assert 75 <= np.median(known_qrs) <= 115
    assert 370 <= np.median(known_qt) <= 460
