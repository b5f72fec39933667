"""Measurements: known durations, axes and levels are found, and what cannot be had reliably is not stated."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from ecgbatch.measurements.deflections import q_r_s
from ecgbatch.measurements.quantities import LEAD_QUANTITIES, QUANTITIES, REASON_WORDS, REASONS
from ecgbatch.measurements.record import Excerpt, measure_record, measure_records
from ecgbatch.terms import BEAT_FLAGS, LEAD_FLAGS, LEADS, SEX, STATEMENTS, words_of_mask

TWELVE = LEADS[:12]
FRONTAL = {"I": (1, 0), "II": (0.5, 3**0.5 / 2), "III": (-0.5, 3**0.5 / 2), "aVR": (-0.75, -(3**0.5) / 4)}
FRONTAL |= {"aVL": (0.75, -(3**0.5) / 4), "aVF": (0, 0.75)}
CHEST = np.array([-0.4, -0.2, 0.6, 1.0, 1.1, 0.8])
LONGER_MS = 10
"""What QRS is measured longer than the corners of lines drawn: of twelve cardiologists' onsets that scatter about one moment, the
second earliest lies before it (docs/measurements.md)."""


def ecg(
    *,
    fs=500.0,
    rr_s=0.8,
    qrs_s=(-0.040, 0.052),
    p_mv=0.1,
    st_mv=0.0,
    t_mv=0.3,
    t_end_s=0.36,
    axis_deg=50.0,
    axis_t_deg=40.0,
    noise_mv=0.004,
    jitter_s=0.0,
    seed=0,
):
    """Return ten seconds of twelve leads in mV, and R: beats of straight lines, so every boundary is where it is said to be."""
    random = np.random.default_rng(seed)
    time = np.arange(round(10 * fs)) / fs
    r_s = np.arange(0.6, 9.6, rr_s)
    r_s += random.uniform(-jitter_s, jitter_s, r_s.size)
    onset, j = qrs_s

    def line(knots, levels):
        return sum(np.interp(time - r, knots, levels, left=0, right=0) for r in r_s)

    def direction(deg):
        x, y = np.cos(np.radians(deg)), np.sin(np.radians(deg))
        return np.concatenate([[a * x + b * y for a, b in FRONTAL.values()], CHEST])[:, None]

    signal = direction(axis_deg) * line([onset, onset * 0.6, 0, j * 0.6, j], [0, -0.08, 1.0, -0.15, 0])
    signal += direction(55) * line([-0.18, -0.14, -0.10], [0, p_mv, 0])
    signal += direction(axis_t_deg) * line([j + 0.09, t_end_s - 0.08, t_end_s], [0, t_mv, 0])
    signal += line([j - 0.008, j, t_end_s - 0.08, t_end_s], [0, st_mv, st_mv, 0])
    signal += noise_mv * random.standard_normal(signal.shape)
    return signal.astype(np.float32), np.rint(r_s * fs).astype(int)


def measured(signal, r, fs=500.0, *, leads=TWELVE, lead_flags=None, beat_flags=None, **whose):
    flags = np.zeros(r.size, int) if beat_flags is None else beat_flags
    lead_flags = [0] * len(leads) if lead_flags is None else lead_flags
    return measure_record(Excerpt(signal, leads, lead_flags, fs, r, flags, **whose))


def numbers(found):
    return dict(zip(QUANTITIES, found.value.tolist(), strict=True))


def reasons(found):
    words = {code: word for word, code in REASONS.items()}
    return {name: words[code] for name, code in zip(QUANTITIES, found.reason.tolist(), strict=True)}


def of_lead(found, lead, name):
    return float(found.lead_value[list(LEAD_QUANTITIES).index(name), TWELVE.index(lead)])


@pytest.mark.parametrize("fs", [250.0, 360.0, 500.0, 1000.0])
@pytest.mark.parametrize("qrs_s", [(-0.036, 0.044), (-0.045, 0.060), (-0.060, 0.084)])
def test_intervals_are_found_at_any_rate(fs, qrs_s):
    found = numbers(measured(*ecg(fs=fs, qrs_s=qrs_s), fs))
    assert found["qrs_ms"] == pytest.approx(1000 * (qrs_s[1] - qrs_s[0]) + LONGER_MS, abs=12)
    assert found["qt_ms"] == pytest.approx(1000 * (0.36 - qrs_s[0]), abs=18)
    assert found["pr_ms"] == pytest.approx(1000 * (0.18 + qrs_s[0]), abs=10)
    assert found["p_ms"] == pytest.approx(80, abs=15)
    assert found["heart_rate_bpm"] == pytest.approx(75, abs=0.2)
    assert found["qtc_bazett_ms"] == pytest.approx(found["qt_ms"] / 0.8**0.5, abs=1)
    assert found["qtc_fridericia_ms"] == pytest.approx(found["qt_ms"] / 0.8 ** (1 / 3), abs=1)


@pytest.mark.parametrize("axis_deg", [-150, -100, -60, -20, 0, 30, 75, 90, 120, 170])
def test_axes_lie_within_five_degrees_of_what_they_are(axis_deg):
    found = numbers(measured(*ecg(axis_deg=axis_deg, axis_t_deg=axis_deg / 2)))
    turn = (found["axis_qrs_deg"] - axis_deg + 180) % 360 - 180
    assert abs(turn) <= 5
    assert found["axis_t_deg"] == pytest.approx(axis_deg / 2, abs=5)
    assert found["axis_p_deg"] == pytest.approx(55, abs=5)


def test_axes_need_millivolts_and_electrodes_where_they_belong():
    signal, r = ecg()
    for flag, word in (("not_millivolts", "not_millivolts"), ("suspected_swap", "electrodes_exchanged")):
        found = reasons(measured(signal, r, lead_flags=[LEAD_FLAGS[flag]] * 12))
        assert {found[name] for name in ("axis_p_deg", "axis_qrs_deg", "axis_t_deg")} == {word}
        assert found["qrs_ms"] == "measured"
    chest = measured(signal[6:], r, leads=TWELVE[6:])
    assert reasons(chest)["axis_qrs_deg"] == "too_few_leads"


@pytest.mark.parametrize("st_mv", [-0.15, 0.0, 0.2])
def test_st_levels_are_over_the_line_before_qrs(st_mv):
    found = measured(*ecg(st_mv=st_mv))
    for lead in TWELVE:
        assert of_lead(found, lead, "st_60_mv") == pytest.approx(st_mv, abs=0.04), lead
    assert of_lead(found, "V4", "r_mv") == pytest.approx(1.0, abs=0.05)
    assert of_lead(found, "V4", "q_mv") == pytest.approx(-0.08, abs=0.02)
    assert of_lead(found, "V4", "q_duration_ms") == pytest.approx(19, abs=8)


def test_waves_of_a_complex_by_their_signs():
    line = np.interp(np.arange(60), [0, 10, 20, 30, 40, 50, 59], [0, -0.2, 0, 1.0, 0, -0.4, 0])
    lines = np.stack([line, -np.abs(line), np.full(60, 0.01), line]).astype(np.float32)
    found = q_r_s(lines, np.array([0, 0, 0, 20]), 60, np.full(4, 0.03, np.float32), 3.0, 2.0)
    assert found[0].tolist() == [pytest.approx(40, abs=3), pytest.approx(-0.2), pytest.approx(1.0), pytest.approx(-0.4)]
    assert found[1].tolist() == [120.0, pytest.approx(-1.0), 0.0, 0.0]  # no positive wave: all Q
    assert not found[2].any()
    assert found[3].tolist() == [0.0, 0.0, pytest.approx(1.0), pytest.approx(-0.4)]  # begins behind what was Q


def test_records_measured_together_are_as_if_each_were_alone():
    """Whatever the others are: of more leads, of another rate, with nothing to measure."""
    random = np.random.default_rng(4)
    excerpts = []
    for number in range(7):
        signal, r = ecg(p_mv=0.1 * (number != 3), axis_deg=20.0 * number)
        places = np.sort(random.permutation(12)[: 12 - number % 3])
        signal, fs = (signal[:, ::2], 250.0) if number == 5 else (signal, 500.0)
        chosen = r[: 2 if number == 6 else None] // (2 if number == 5 else 1)
        names = [TWELVE[place] for place in places]
        excerpts.append(Excerpt(signal[places], names, [0] * len(names), fs, chosen, np.zeros(chosen.size, int)))
    for together, alone in zip(measure_records(excerpts), map(measure_record, excerpts), strict=True):
        for one, other in zip(together, alone, strict=True):
            np.testing.assert_array_equal(one, other)


def test_shapes_without_millivolts_keep_durations_and_lose_amplitudes():
    signal, r = ecg()
    scaled = signal * np.linspace(0.2, 6, 12)[:, None].astype(np.float32)
    plain, found = measured(signal, r), measured(scaled, r, lead_flags=[LEAD_FLAGS["not_millivolts"]] * 12)
    for name in ("p_ms", "pr_ms", "qrs_ms", "qt_ms"):
        assert numbers(found)[name] == pytest.approx(numbers(plain)[name], abs=2)
    assert set(found.lead_reason.tolist()) == {REASONS["not_millivolts"]}
    amplitudes = [k for k, name in enumerate(LEAD_QUANTITIES) if name != "q_duration_ms"]
    assert np.isnan(found.lead_value[amplitudes]).all()


def test_a_lead_that_is_missing_or_noisy_moves_nothing():
    signal, r = ecg()
    plain = numbers(measured(signal, r))
    signal[3], signal[5] = np.nan, np.random.default_rng(0).standard_normal(signal.shape[1])
    flags = [{3: LEAD_FLAGS["missing"], 5: LEAD_FLAGS["noisy"]}.get(lead, 0) for lead in range(12)]
    found = measured(signal, r, lead_flags=flags)
    assert numbers(found)["qrs_ms"] == pytest.approx(plain["qrs_ms"], abs=6)
    assert found.lead_reason.tolist()[3] == REASONS["absent"]
    assert found.lead_reason.tolist()[5] == REASONS["noisy"]


@pytest.mark.parametrize(
    ("change", "word"),
    [({"fs": 100.0}, "low_rate"), ({"rr_s": 5.0}, "too_few_beats")],
)
def test_what_cannot_be_measured_says_why(change, word):
    found = reasons(measured(*ecg(**change), change.get("fs", 500.0)))
    assert {found[name] for name in QUANTITIES if name.startswith(("p_", "pr", "q"))} == {word}


def test_pure_noise_gives_no_interval():
    random = np.random.default_rng(3)
    for _ in range(5):
        signal = random.standard_normal((12, 5000)).astype(np.float32)
        found = measured(signal, np.arange(300, 4700, 400))
        assert np.isnan(numbers(found)["qrs_ms"])
        assert np.isnan(numbers(found)["pr_ms"])
        assert found.statements & ~sum(STATEMENTS[word] for word in ("rate_slow", "rate_fast", "irregular_without_p")) == 0


def test_no_beat_and_no_sample_are_no_error():
    nothing = np.empty(0, int)
    found = measured(np.zeros((1, 0), np.float32), nothing, leads=("II",))
    assert set(reasons(found).values()) <= {"no_beats", "too_few_beats", "no_lead"}
    assert np.isnan(found.value).all()


def test_beats_of_another_shape_do_not_count():
    signal, r = ecg(seed=1)
    wide, _ = ecg(qrs_s=(-0.08, 0.1), axis_deg=-120, seed=1)
    plain = numbers(measured(signal, r))
    for beat in (2, 6):
        here = slice(r[beat] - 150, r[beat] + 200)
        signal[:, here] = wide[:, here]
    flags = np.zeros(r.size, int)
    flags[[2, 6]] = BEAT_FLAGS["aberrant"]
    found = measured(signal, r, beat_flags=flags)
    assert found.n_beats == r.size - 2
    assert numbers(found)["qrs_ms"] == pytest.approx(plain["qrs_ms"], abs=4)


def test_without_p_there_is_no_pr_and_irregular_beats_say_so():
    random = np.random.default_rng(5)
    signal, r = ecg(p_mv=0.0, jitter_s=0.15, seed=2)
    time = np.arange(signal.shape[1]) / 500
    waves = sum(0.05 * np.sin(2 * np.pi * f * time + random.uniform(0, 6)) for f in (5.3, 6.1, 7.2))
    found = measured(signal + np.float32(waves), r)
    assert reasons(found)["pr_ms"] == "no_p"
    assert reasons(found)["axis_p_deg"] == "no_p"
    assert "irregular_without_p" in words_of_mask(found.statements, STATEMENTS)
    regular = measured(*ecg())
    assert not {"irregular", "irregular_without_p"} & set(words_of_mask(regular.statements, STATEMENTS))


def test_every_reason_has_words_and_its_own_code():
    assert set(REASON_WORDS) == set(REASONS)
    assert len(set(REASONS.values())) == len(REASONS)


def test_statements_follow_the_limits():
    def said(**change):
        whose = {name: change.pop(name) for name in ("age_years", "sex") if name in change}
        return words_of_mask(measured(*ecg(**change), **whose).statements, STATEMENTS)

    assert {"qrs_wide", "rate_fast"} <= set(said(qrs_s=(-0.07, 0.09), rr_s=0.55, t_end_s=0.3))
    assert "axis_left" in said(axis_deg=-60)
    assert "axis_right" in said(axis_deg=120)
    high = {"st_mv": 0.22}
    assert "st_elevation" in said(**high, sex=SEX["female"], age_years=60)
    assert "st_elevation" not in said()
    assert "low_voltage" not in said()


def test_real_records_measure_as_hearts_do(test_data, tmp_path):
    """PTB: nearly every stretch of every record gets its intervals, each physiological, and three stretches of one agree."""
    from ecgbatch.beats.lookup import current_beats, extract_beats
    from ecgbatch.beats.record import BeatSettings
    from ecgbatch.signals.lookup import signals_path
    from ecgbatch.signals.stage import convert_archive
    from storage import folder_at, open_store

    archive = tmp_path / "ptb"
    for name in (test_data / "ptb" / "RECORDS").read_text().split()[:8]:
        (archive / name).parent.mkdir(parents=True, exist_ok=True)
        for path in (test_data / "ptb" / name).parent.glob(f"{name.split('/')[-1]}.*"):
            shutil.copy(path, (archive / name).parent)
    work = str(tmp_path / "work")
    convert_archive(str(archive), work)
    extract_beats(work, BeatSettings())
    spread, n_known, n_asked = [], 0, 0
    table = current_beats(work, BeatSettings().document(), ["record_name"])
    for row in range(table.sizes["record"]):
        one = table.isel(record=row)
        record = open_store(signals_path(work, str(one["signals_store"].values))).isel(record=int(one["signals_row"]))
        beats = open_store(folder_at(work).path(f"beats/{one['beats_store'].values}.zarr"))
        own = beats["record_index"].values == int(one["beats_row"])
        r, flags = beats["r_sample"].values[own], beats["beat_flags"].values[own]
        signal = (record["signal"].values - record["baseline"].values[:, None]) / record["adc_gain"].values[:, None]
        fs, leads = float(record["sampling_frequency_hz"]), record["lead"].values.tolist()
        qrs = []
        for start in (0, 10_000, 20_000):
            inside = (r >= start) & (r < start + 10_000)
            part = signal[:, start : start + 10_000].astype(np.float32)
            lead_flags = record["lead_flags"].values.tolist()
            found = numbers(measured(part, r[inside] - start, fs, leads=leads, lead_flags=lead_flags, beat_flags=flags[inside]))
            n_asked += 4
            n_known += sum(np.isfinite(found[name]) for name in ("p_ms", "pr_ms", "qrs_ms", "qt_ms"))
            qrs.append(found["qrs_ms"])
            assert not (found["qrs_ms"] < 75)
            assert not (found["qrs_ms"] > 150)
        spread.append(np.ptp(qrs))
    assert n_known >= 0.9 * n_asked
    assert np.median(spread) <= 4
