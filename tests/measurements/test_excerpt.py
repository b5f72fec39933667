"""Which ten seconds are measured and put on paper, and their samples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgbatch.measurements.excerpt import EXCERPT_S, Span, choose_excerpt, in_millivolts
from ecgbatch.terms import BEAT_FLAGS, MISSING_SAMPLE, UNSCORABLE_BEAT


def by_trying_each(r_sample, beat_flags, fs: float, n_samples: int) -> Span:
    """Every whole second that ten seconds can begin at, one by one."""
    duration_s = n_samples / fs
    length_s = min(EXCERPT_S, duration_s)
    worth = {}
    for start in range(int(duration_s - length_s) + 1):
        inside = [start <= round(r / fs, 4) < start + length_s for r in r_sample]
        worth[start] = sum(-2 if flags & UNSCORABLE_BEAT else 1 for here, flags in zip(inside, beat_flags, strict=True) if here)
    return Span(float(max(worth, key=lambda start: (worth[start], -start))), length_s)


@given(
    n_samples=st.integers(1, 9000),
    fs=st.sampled_from([100.0, 250.0, 257.3]),
    beats=st.lists(st.tuples(st.integers(0, 8999), st.sampled_from([0, *BEAT_FLAGS.values()])), max_size=40),
)
def test_the_excerpt_holds_most_usable_beats_and_is_the_earliest_of_equals(n_samples, fs, beats):
    beats = sorted(dict(beat for beat in beats if beat[0] < n_samples).items())
    r_sample, flags = (np.array([beat[part] for beat in beats], np.int64) for part in (0, 1))
    found = choose_excerpt(r_sample, flags.astype(np.uint16), sampling_frequency_hz=fs, n_samples=n_samples)
    assert found == by_trying_each(r_sample.tolist(), flags.tolist(), fs, n_samples)
    part = found.samples(fs, n_samples)
    assert 0 <= part.start <= part.stop <= n_samples


@pytest.mark.parametrize(("fs", "n_samples"), [(0.0, 100), (250.0, 0)])
def test_a_record_without_samples_or_rate_has_no_excerpt(fs, n_samples):
    nothing = np.empty(0, np.int64)
    assert choose_excerpt(nothing, nothing, sampling_frequency_hz=fs, n_samples=n_samples) is None


def test_a_record_without_beats_is_shown_from_its_start():
    nothing = np.empty(0, np.int64)
    assert choose_excerpt(nothing, nothing, sampling_frequency_hz=250.0, n_samples=10_000) == (0.0, 10.0)


def test_samples_become_millivolts_and_what_is_missing_stays_so():
    steps = np.array([[0, 100, MISSING_SAMPLE], [10, 10, 10], [1, 2, 3]], np.int16)
    found = in_millivolts(steps, np.array([200.0, 100.0, 0.0]), np.array([100, 10, 0]))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.array([[-0.5, 0, np.nan], [0, 0, 0], [np.nan] * 3], np.float32))
