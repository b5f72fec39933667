"""Lines as the text of paths: read back they are the points that were given, and no byte is written beyond their room."""

from __future__ import annotations

import re

import numpy as np
import pytest

from ecgbatch.reports import svg
from ecgbatch.reports.path_kernels import FARTHEST, MOST_BYTES, quartiles_of, spans_of, spell_lines, spell_traces

NO_POINT_LEFT_OUT = -1.0


def points_of(path: str) -> list[list[tuple[int, int]]]:
    """Read the pieces of a path, relative steps and all, as points."""
    found = []
    for piece in re.findall(r"M[^MZ]*", path):
        numbers = [int(number) for number in re.findall(r"-?\d+", piece.removesuffix("h0"))]
        steps = np.array(numbers).reshape(-1, 2)
        found.append([(int(x), int(y)) for x, y in np.cumsum(steps, axis=0)])
    return found


def whole(x: np.ndarray, y: np.ndarray) -> list[tuple[int, int]]:
    return [(int(np.rint(a)), int(np.rint(b))) for a, b in zip(x, y, strict=True)]


@pytest.mark.parametrize("seed", range(5))
def test_a_line_read_back_is_its_points_broken_where_one_is_unknown(seed):
    random = np.random.default_rng(seed)
    x, y = np.arange(200.0) * random.uniform(0.3, 40), random.normal(scale=10.0 ** random.integers(0, 8), size=200)
    y[random.random(200) < 0.2] = np.nan
    known = np.flatnonzero(np.isfinite(y))
    runs = np.split(known, np.flatnonzero(np.diff(known) > 1) + 1)
    assert points_of(svg.path(x, y, thin_mm=NO_POINT_LEFT_OUT)) == [whole(x[run], y[run]) for run in runs]
    (joined,) = svg.paths(x, y, (0, 200), svg.JOINED, thin_mm=NO_POINT_LEFT_OUT)
    assert points_of(joined) == [whole(x[known], y[known])]


def test_an_area_goes_there_and_back_and_is_closed():
    x, there, back = np.arange(5.0), np.array([0, 3, np.nan, 3, 0.0]), np.array([0, -7, -9, -7, 0.0])
    both = np.concatenate([x, x]), np.concatenate([there, back])
    area, nothing = svg.paths(np.tile(both[0], 2), np.concatenate([both[1], np.full(10, np.nan)]), range(0, 21, 5), svg.AREAS)
    assert area.endswith("Z")
    assert points_of(area)[0] == [(0, 0), (1, 3), (3, 3), (4, 0), (4, 0), (3, -7), (2, -9), (1, -7), (0, 0)]
    assert nothing == ""


def test_thinning_drops_what_lies_on_a_line_and_no_peak():
    x = np.arange(101.0)
    assert points_of(svg.path(x, 2 * x))[0][:: len(svg.thinned(x, x)[0]) - 1] == [(0, 0), (100, 200)]
    spike = np.where(x == 50, 500.0, 0.0)
    assert (50, 500) in points_of(svg.path(x, spike))[0]
    assert len(svg.thinned(x, spike)[0]) < 20


@pytest.mark.parametrize("height", [1e6, 1e10, 1e18, 5e18, 1e300])
def test_points_however_far_are_written_within_their_room_and_at_the_farthest_that_is_drawn(height):
    n = 1000
    x, y = np.arange(n) * 1e12, np.where(np.arange(n) % 2, height, -height)
    room, guard = MOST_BYTES * (n + 2), 64
    out, end = np.full(room + 64 * n, guard, np.uint8), np.zeros(1, np.int64)
    spell_lines(x, y, np.array([0, n]), 0, NO_POINT_LEFT_OUT, out, end)
    assert end[0] <= room
    assert (out[end[0] :] == guard).all()
    (points,) = points_of(out[: end[0]].tobytes().decode("ascii"))
    assert len(points) == n
    assert points[-1] == (FARTHEST, min(height, FARTHEST))


@pytest.mark.parametrize("n_beats", [1, 2, 31, 200])
def test_quartiles_are_those_of_the_beats_that_are_known(n_beats):
    random = np.random.default_rng(n_beats)
    missing, ranks = -32768, np.array([0.25, 0.5, 0.75])
    waveform = random.integers(-50, 50, (n_beats, 2, 40)).astype(np.int16)
    waveform[random.random(waveform.shape) < 0.4] = missing
    used = np.flatnonzero(random.random(n_beats) < 0.9)
    found = np.full((3, 2, 40), np.nan, np.float32)
    quartiles_of(waveform, used, ranks, missing, found)
    for lead in range(2):
        for sample in range(40):
            known = np.sort([value for value in waveform[used, lead, sample] if value != missing])
            enough = len(known) and 2 * (len(used) - len(known)) <= len(used)
            expected = [known[round(rank * (len(known) - 1))] for rank in ranks] if enough else [np.nan] * 3
            np.testing.assert_array_equal(found[:, lead, sample], expected)


def test_spans_tell_the_upper_median_and_the_ends_of_what_is_known():
    random = np.random.default_rng(3)
    signal = random.normal(size=(2, 500)).astype(np.float32)
    signal[random.random(signal.shape) < 0.3] = np.nan
    signal[1, 100:110] = np.nan
    lead, span = np.array([0, 1, 1]), np.array([[3, 500], [0, 251], [100, 110]])
    found = np.empty((3, 3))
    spans_of(signal, lead, span, found)
    for row, (first, last) in enumerate(span[:2]):
        known = np.sort(signal[lead[row], first:last][np.isfinite(signal[lead[row], first:last])])
        np.testing.assert_array_equal(found[row], [known[len(known) // 2], known[-1], known[0]])
    assert np.isnan(found[2]).all()


@pytest.mark.parametrize("seed", range(4))
def test_traces_of_leads_are_where_paper_speed_gain_and_baseline_put_their_samples(seed):
    random = np.random.default_rng(seed)
    signal = random.normal(size=(3, 120)).astype(np.float32)
    signal[random.random(signal.shape) < 0.1] = np.nan
    lead, span = np.array([2, 0, 2]), np.array([[0, 50], [40, 120], [100, 101]])
    scale = random.uniform(0.5, 20.0, size=(3, 3))  # mV on the baseline, mm to the mV, baseline in mm
    first_mm, step_mm, units = 10.0, 0.05, 100.0
    out, end = np.empty(MOST_BYTES * 400, np.uint8), np.empty(3, np.int64)
    no_point_left_out = np.array([units, -1.0])
    spell_traces(signal, lead, span, scale, np.array([first_mm, step_mm]), no_point_left_out, out, end)
    starts = [0, *end[:-1].tolist()]
    for path, (begin, stop) in enumerate(zip(starts, end.tolist(), strict=True)):
        level, mm_per_mv, baseline_mm = scale[path]
        samples = np.arange(*span[path])
        x = (first_mm + samples * step_mm) * units
        y = (baseline_mm - (signal[lead[path], samples].astype(float) - level) * mm_per_mv) * units
        known = np.flatnonzero(np.isfinite(y))
        runs = np.split(known, np.flatnonzero(np.diff(known) > 1) + 1) if known.size else []
        assert points_of(out[begin:stop].tobytes().decode("ascii")) == [whole(x[run], y[run]) for run in runs]
