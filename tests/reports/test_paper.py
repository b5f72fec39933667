"""The ECG on paper: true to scale, no wave through another lead, every rest of a recording shown; each choice said in words."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from ecgbatch.reports import excerpts, record, svg, words
from ecgbatch.reports.course import UNUSUAL, columns, course_lines, course_of, is_cut_off
from ecgbatch.reports.ecg_paper import ecg_paper, sheet_words
from ecgbatch.reports.excerpts import Excerpt, headline_rate, plan_strips, rhythm_lead
from ecgbatch.reports.layout import OWN_MM, SHARED_MM, Sheet, lay_out
from ecgbatch.reports.median_beats import median_beats
from ecgbatch.reports.probabilities import beat_strip
from ecgbatch.terms import LEAD_FLAGS, LEADS, MISSING_SAMPLE, STATUS

FS = 500.0
NONE = np.empty(0)


def twelve(*, limb_mv: float = 1.0, chest_up_mv: float = 1.0, chest_down_mv: float = 0.5, seconds: float = 10.0) -> Excerpt:
    """Twelve leads with a spike up and one down each second, 0.1 s apart."""
    signal = np.zeros((12, round(seconds * FS)), np.float32)
    signal[:6, 400::500] = limb_mv
    signal[6:, 400::500] = chest_up_mv
    signal[6:, 450::500] = -chest_down_mv
    return Excerpt(signal, LEADS[:12], (0,) * 12, 0.0, FS)


def spans(sheet: Sheet) -> list[tuple[str, float, float, float, float]]:
    """Lead, left and right edge, top and bottom of the trace of each panel, mm from the sheet's corner."""
    found, top = [], 0.0
    for row in sheet.rows:
        base = top + row.above_mm
        for panel in row.panels:
            high, low = base - np.nanmax(panel.y_mm), base - np.nanmin(panel.y_mm)
            found.append((panel.lead, panel.left_mm, panel.left_mm + panel.width_mm, float(high), float(low)))
        top += row.height_mm
    return found


def collisions(sheet: Sheet) -> list[tuple[str, str]]:
    boxes = spans(sheet)
    return [
        (a[0], b[0])
        for k, a in enumerate(boxes)
        for b in boxes[k + 1 :]
        if a[1] < b[2] - 1e-9 and b[1] < a[2] - 1e-9 and a[3] < b[4] and b[3] < a[4]
    ]


def points_of(drawing: str) -> list[np.ndarray]:
    """Absolute points of every path."""
    found = []
    for data in re.findall(r'<path[^>]* ?d="([^"]+)"', drawing):
        points, x, y = [], 0.0, 0.0
        for command, text in re.findall(r"([MmLlHhVv])([^MmLlHhVvZz]*)", data):
            numbers = [float(value) for value in re.findall(r"-?\d+(?:\.\d+)?", text)]
            pairs = {"H": [(n, None) for n in numbers], "V": [(None, n) for n in numbers]}
            for new_x, new_y in pairs.get(command.upper(), list(zip(numbers[::2], numbers[1::2], strict=False))):
                origin_x, origin_y = (x, y) if command.islower() else (0.0, 0.0)
                x = x if new_x is None else origin_x + new_x
                y = y if new_y is None else origin_y + new_y
                points.append((x, y))
        found.append(np.array(points))
    return found


def test_one_millivolt_is_ten_millimetres_and_one_second_twenty_five():
    fs, leads = 500.0, ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
    signal = np.zeros((12, 5000), np.float32)
    signal[1, 1000:1100] = 1.0  # lead II: 1 mV from second 2.0 to 2.2
    excerpt = Excerpt(signal, leads, (0,) * 12, 0.0, fs)
    drawing = str(ecg_paper(excerpt, np.array([2.0]), np.array([0.5])))
    width, height = (float(value) for value in re.search(r'width="([\d.]+)mm" height="([\d.]+)mm"', drawing).groups())
    box = [float(value) for value in re.search(r'viewBox="0 0 (\d+) (\d+)"', drawing).groups()]
    assert box == [width * svg.UNITS_PER_MM, height * svg.UNITS_PER_MM]
    strip = max(points_of("".join(re.findall(r'<path class="trace"[^>]*>', drawing))), key=lambda points: np.ptp(points[:, 0]))
    assert np.ptp(strip[:, 0]) == pytest.approx(10 * 25 * svg.UNITS_PER_MM, rel=0.002)
    assert np.ptp(strip[:, 1]) == 10 * svg.UNITS_PER_MM
    high = strip[strip[:, 1] == strip[:, 1].min(), 0]
    assert np.ptp(high) == pytest.approx(0.2 * 25 * svg.UNITS_PER_MM, abs=0.1 * svg.UNITS_PER_MM)


def test_leads_that_are_not_millivolts_get_no_millivolt_scale():
    signal = np.tile(np.sin(np.arange(2500) / 20).astype(np.float32) * 40, (12, 1))
    excerpt = Excerpt(signal, LEADS[:12], (LEAD_FLAGS["not_millivolts"],) * 12, 0.0, 250.0)
    drawing = str(ecg_paper(excerpt, NONE, NONE))
    assert "amplitude normalised" in drawing
    assert "25 mm/s" in drawing
    for millivolts in ("10 mm/mV", 'class="pulse"', "url(#paper)", "0.1 mV"):
        assert millivolts not in drawing
    traces = re.findall(r'class="trace"[^>]* d="[^"]+"', drawing)
    heights = [np.ptp(points_of(f"<path {trace}")[0][:, 1]) / svg.UNITS_PER_MM for trace in traces]
    assert len(heights) == 13
    assert max(heights) < 16  # 80 mV would have been 800 mm


def test_lead_that_is_missing_is_drawn_as_absent_and_the_rhythm_strip_takes_v1():
    flags = tuple(LEAD_FLAGS["missing"] if lead == "II" else 0 for lead in LEADS[:12])
    excerpt = Excerpt(np.zeros((12, 2500), np.float32), LEADS[:12], flags, 0.0, 250.0)
    drawing = str(ecg_paper(excerpt, NONE, NONE))
    assert "II absent" in drawing
    assert "R peaks marked above lead V1 (" in drawing


def test_thinned_trace_stays_within_a_fifth_of_the_lines_width_and_keeps_gaps():
    x = np.arange(4000, dtype=float)
    y = 400 * np.sin(x / 37) + 3 * np.random.default_rng(1).standard_normal(4000)
    y[1000:1010] = np.nan
    path = svg.path(x, y)
    assert path.count("M") == 2
    runs = points_of(f'<path d="{path}"')[0]
    drawn = np.interp(x, runs[:, 0], runs[:, 1])
    known = np.isfinite(y)
    assert np.abs(drawn - y)[known].max() < 4 * 0.05 * svg.UNITS_PER_MM + 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_path_spells_every_step_of_its_line(dtype):
    random = np.random.default_rng(3)
    y = np.cumsum(random.normal(0, 900, 400)).astype(dtype)
    y[[7, 8, 300, 399]] = np.nan
    y[350] = 1e6  # a step that no table holds
    x = np.arange(y.size).astype(dtype) * dtype(37.5)
    path = svg.path(x, y, thin_mm=-1.0)
    pieces = [slice(0, 7), slice(9, 300), slice(301, 399)]
    expected = []
    for piece in pieces:
        points = np.rint(np.column_stack([x[piece], y[piece]])).astype(int)
        steps = " ".join(str(step) for step in np.diff(points, axis=0).ravel().tolist())
        expected.append(f"M{points[0, 0]} {points[0, 1]}l{steps}".replace(" -", "-"))  # a sign parts numbers too
    assert path == "".join(expected)
    assert svg.path(x[:1], y[:1]) == f"M{round(float(x[0]))} {round(float(y[0]))}h0".replace(" -", "-")
    assert svg.path(x[7:9], y[7:9]) == ""


@pytest.mark.parametrize(
    ("down_mv", "gains", "limit"),
    [(0.5, (10, 10), SHARED_MM), (2.8, (10, 10), OWN_MM), (5.5, (10, 5), OWN_MM), (9.0, (10, 2.5), OWN_MM)],
)
def test_deep_s_waves_of_the_chest_leads_never_run_through_the_next_row(down_mv, gains, limit):
    sheet = lay_out(twelve(chest_down_mv=down_mv))
    assert (sheet.limb_mm_per_mv, sheet.chest_mm_per_mv) == gains
    assert sheet.is_apart
    assert sheet.height_mm <= limit
    assert collisions(sheet) == []
    assert all(top >= 0 and bottom <= sheet.height_mm for *_, top, bottom in spans(sheet))
    assert ("Chest leads are drawn at" in " ".join(sheet_words(sheet))) is (gains[1] != 10)
    assert ("apart as the waves need" in " ".join(sheet_words(sheet))) is (down_mv == 2.8 or gains[1] != 10)


def test_halved_chest_leads_are_announced_at_each_and_their_pulse_is_half_as_high():
    excerpt = twelve(chest_down_mv=5.5)
    drawing = str(ecg_paper(excerpt, NONE, NONE))
    assert len(re.findall(">5 mm/mV<", drawing)) == 6
    assert "limb leads 10 mm/mV, chest leads 5 mm/mV" in drawing
    pulses = [points_of(f"<path {pulse}")[0] for pulse in re.findall(r'class="pulse"( d="[^"]+")', drawing)]
    heights = [sorted({round(float(y), 1) for y in (pulse[0, 1] - pulse[:, 1]) / svg.UNITS_PER_MM}) for pulse in pulses]
    assert heights == [[0, 5, 10]] * 3 + [[0, 10]]  # limb and chest leads in three rows; the rhythm strip is lead II
    chest, limb = (np.ptp(points_of(f"<path{path}")[0][:, 1]) / svg.UNITS_PER_MM for path in traces_of(drawing, "V3", "II"))
    assert chest == pytest.approx(6.5 * 5, abs=0.1)
    assert limb == pytest.approx(10, abs=0.1)


def traces_of(drawing: str, *leads: str) -> list[str]:
    return [re.search(rf'class="trace" data-lead="{lead}"( d="[^"]+")', drawing)[1] for lead in leads]


@pytest.mark.parametrize(("limb_mv", "gains"), [(5.0, (10, 5)), (9.0, (10, 2.5))])
def test_waves_that_no_gain_tames_overlap_and_are_never_cut_off_by_the_sheet(limb_mv, gains):
    sheet = lay_out(twelve(limb_mv=limb_mv, chest_up_mv=7.0, chest_down_mv=7.0))
    assert (sheet.limb_mm_per_mv, sheet.chest_mm_per_mv) == gains
    assert not sheet.is_apart
    assert sheet.is_whole
    assert "reach into neighbouring rows" in " ".join(sheet_words(sheet))
    assert sheet.height_mm <= OWN_MM
    assert all(top >= 0 and bottom <= sheet.height_mm for *_, top, bottom in spans(sheet))


def test_every_lead_of_a_short_recording_has_a_quarter_of_it():
    sheet = lay_out(twelve(seconds=6.0))
    assert all(panel.y_mm.size == 6.0 * FS / 4 for row in sheet.rows[:3] for panel in row.panels)
    assert sheet.rows[3].panels[0].width_mm == 6.0 * 25


def test_marks_stand_above_the_rhythm_lead_wherever_its_strip_is():
    excerpt = Excerpt(np.zeros((2, 5000), np.float32), ("MLII", "V5"), (0, 0), 0.0, FS)
    rows = lay_out(excerpt).rows
    assert [(row.panels[0].lead, row.is_rhythm) for row in rows] == [("MLII", True), ("V5", False)]


@pytest.mark.parametrize(
    ("leads", "unusable", "expected", "why"),
    [
        (("I", "II", "V1"), {}, "II", ""),
        (("I", "II", "V1"), {"II": "missing"}, "V1", "in place of lead II, which this recording does not have"),
        (("I", "II", "V1"), {"II": "flat"}, "V1", "in place of lead II, which is a flat line"),
        (("V5", "MLII"), {}, "MLII", "a modified lead II: the recording has no lead II"),
        (("X",), {}, "X", "in place of lead II, which this recording does not have"),
        (("II",), {"II": "flat"}, "", ""),
    ],
)
def test_rhythm_strip_is_lead_ii_or_says_which_and_why(leads, unusable, expected, why):
    flags = [LEAD_FLAGS[unusable[lead]] if lead in unusable else 0 for lead in leads]
    assert rhythm_lead(leads, flags) == (expected, why)


def a_report(duration_s: float, *, beats_s: Any = (), start_s: float = 0.0) -> dict[str, Any]:
    fs = 1000.0
    r_sample = np.rint(np.asarray(beats_s, float) * fs).astype(int)
    beats = record.Beats(r_sample, np.zeros(r_sample.size, int), np.full(r_sample.size, np.nan))
    source = {"status": STATUS["ok"], "sampling_frequency_hz": fs, "n_samples": round(duration_s * fs)}
    report = {"duration_s": duration_s, "leads": {"II": []}, "heart_rate_bpm": 64.0, "measurements": None}
    return report | {"excerpt": excerpts.choose_excerpt(report, source, beats)}


@pytest.mark.parametrize(
    ("duration_s", "line_s", "n_lines", "is_whole"),
    [
        (10.5, None, 0, True),
        (12, 20, 1, True),
        (40, 20, 2, True),
        (120.012, 20, 6, True),
        (300, 50, 6, True),
        (1805.6, 60, 31, True),
        (86_400, 60, 30, False),
    ],
)
def test_strips_show_the_rest_of_a_recording_up_to_half_an_hour(duration_s, line_s, n_lines, is_whole):
    report = a_report(float(duration_s), beats_s=np.arange(0.5, duration_s, 0.9))
    strips = plan_strips(report)
    if line_s is None:
        assert strips is None
        return
    assert (strips["line_s"], strips["n_lines"], strips["is_whole"]) == (line_s, n_lines, is_whole)
    assert strips["start_s"] <= report["excerpt"]["start_s"] < strips["end_s"]
    assert strips["end_s"] == (duration_s if is_whole else 1800)


def test_strips_of_a_day_are_those_around_the_excerpt():
    beats = np.concatenate([np.arange(0.5, 86_400, 2.0), 50_000 + np.arange(0.2, 10, 0.5)])
    report = a_report(86_400.0, beats_s=np.sort(beats))
    strips = plan_strips(report)
    assert report["excerpt"]["start_s"] == pytest.approx(50_000, abs=1)
    assert strips["start_s"] < 50_000 < strips["end_s"] == strips["start_s"] + 1800


def test_reason_for_the_seconds_on_paper_is_said():
    assert a_report(8.0)["excerpt"]["why"] == "the whole recording"
    assert "no beat was found" in a_report(40.0)["excerpt"]["why"]
    even = a_report(40.0, beats_s=np.arange(0.5, 40))["excerpt"]
    assert (even["start_s"], even["why"]) == (0.0, "the ten seconds with most usable beats, the first of several")
    late = a_report(40.0, beats_s=[1, 21.1, 22, 30.9])["excerpt"]
    assert (late["start_s"], late["end_s"], late["why"]) == (21.0, 31.0, "the ten seconds with most usable beats")


@pytest.mark.parametrize(
    ("here", "whole", "other"), [(72.0, 70.0, None), (95.0, 64.0, 64.0), (50.0, 54.9, None), (66.0, None, None)]
)
def test_one_rate_is_stated_and_the_other_only_where_it_differs_markedly(here, whole, other):
    report = a_report(40.0) | {"heart_rate_bpm": whole, "measurements": {"heart_rate_bpm": {"value": here}}}
    rate = headline_rate(report)
    assert (rate["bpm"], rate["of"], rate["other_bpm"]) == (here, "excerpt", other)
    assert rate["meaning"] == "median of the ten seconds on paper"
    unmeasured = headline_rate(report | {"measurements": None})
    assert (unmeasured["bpm"], unmeasured["of"], unmeasured["other_bpm"]) == (whole, "recording", None)


def test_remark_that_holds_for_all_leads_is_said_once():
    leads = {lead: ["not_millivolts"] for lead in LEADS[:12]} | {"Vx": ["missing"]}
    leads["V2"] = ["noisy", "not_millivolts"]
    shared, particular = words.lead_remarks(leads)
    assert shared == ["amplitude normalised, not millivolts"]
    assert particular == {"absent": ["Vx"], "noise": ["V2"]}
    assert words.lead_remarks({"I": [], "II": []}) == ([], {})


def test_columns_keep_every_spike_however_many_samples_share_one():
    values = np.zeros(60_000)
    values[12_345], values[54_321] = 3.0, -2.0
    values[100:200] = np.nan
    low, high = columns(values, 60.0, 1020)
    assert (np.nanargmax(high), np.nanargmin(low)) == (12_345 // 60, 54_321 // 60)
    assert (np.nanmax(high), np.nanmin(low)) == (3.0, -2.0)
    assert np.isnan(high[1000:]).all()
    assert np.isfinite(high[:1000]).sum() == 999  # 120 to 179 are missing


def course_source(steps: np.ndarray, fs: float) -> dict[str, Any]:
    n_leads = len(steps)
    known = {"lead": np.array(["II", "V1"][:n_leads]), "lead_flags": np.zeros(n_leads, int), "sampling_frequency_hz": fs}
    return known | {"adc_gain": np.full(n_leads, 1000.0), "baseline": np.zeros(n_leads, int)}


@pytest.mark.parametrize(("duration_s", "fs"), [(40.0, 1000.0), (115.2, 100.0), (1805.6, 360.0)])
def test_strips_mark_time_every_beat_and_the_excerpt_and_stay_small(duration_s, fs):
    random = np.random.default_rng(1)
    steps = random.normal(0, 15, (1, round(duration_s * fs))).astype(np.int16)
    beats_s = np.arange(0.5, duration_s, 0.8)
    steps[0, np.rint(beats_s * fs).astype(int)] += 1200
    steps[0, 50:60] = MISSING_SAMPLE
    report = a_report(duration_s, beats_s=beats_s)
    beats = {"time_s": beats_s.tolist(), "flags": [[] for _ in beats_s]}
    beats["flags"][3] = [sorted(UNUSUAL)[0]]
    plan = plan_strips(report)
    course = course_of(steps, course_source(steps, fs), plan)
    lines = [str(line) for line in course_lines(course, plan, report["excerpt"], beats)]
    assert len(lines) == plan["n_lines"]
    ticks = sum(mark.count("M") for line in lines for mark in re.findall(r'class="beats" d="([^"]+)"', line))
    assert ticks == beats_s.size - 1
    assert sum(line.count('class="unusual"') for line in lines) == 1
    assert sum(line.count("#ffe27a") for line in lines) == 1
    assert 'aria-label="lead II from 0:00 to' in lines[0]
    assert sum(map(len, lines)) < 220_000
    assert not is_cut_off(course)
    trace = points_of(re.search(r'<path class="course"[^>]*>', lines[-1])[0])[0]
    heights = -(trace[:, 1] - np.median(trace[:, 1])) / 10 / course.mm_per_mv
    assert heights.max() == pytest.approx(1.2, abs=0.1)


def test_strip_with_a_wandering_baseline_is_levelled_so_that_its_waves_stay_large():
    steps = (4000 * np.sin(np.arange(40_000) / 3000)).astype(np.int16)[None]
    steps[0, 500::800] += 1000
    plan = plan_strips(a_report(40.0))
    course = course_of(steps, course_source(steps, 1000.0), plan)
    assert course.is_levelled
    assert course.mm_per_mv == 10
    assert np.nanmax(course.high) == pytest.approx(1.0, abs=0.25)


def test_strip_whose_waves_are_cut_off_says_so():
    steps = np.zeros((1, 40_000), np.int16)
    steps[0, 20_000:20_050] = 30_000
    plan = plan_strips(a_report(40.0))
    course = course_of(steps, course_source(steps, 1000.0), plan)
    assert is_cut_off(course)


def test_beats_of_a_day_take_no_more_room_than_those_of_an_hour():
    time_s = np.arange(0, 86_400, 0.8)
    random = np.random.default_rng(2)
    scored = str(beat_strip(time_s, random.uniform(0.4, 0.6, time_s.size), duration_s=86_400.0))
    unscored = str(beat_strip(time_s, np.full(time_s.size, np.nan), duration_s=86_400.0))
    assert len(scored) < 200_000
    assert len(unscored) < 40_000
    assert "24 h" in scored


def test_median_beats_leave_absent_leads_out_and_name_a_smaller_gain():
    quartiles = np.zeros((3, 3, 66), np.float32)
    quartiles[:, 0, 30] = 6.0
    quartiles[:, 2] = np.nan
    drawn = median_beats(quartiles, ("V1", "V2", "V3"), (0, 0, LEAD_FLAGS["missing"]), np.arange(66) / 100 - 0.3)
    assert [(lead, remark) for lead, remark, _ in drawn] == [("V1", "5 mm/mV"), ("V2", "5 mm/mV")]
