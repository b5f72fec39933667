"""Records are worked on in blocks: a record's beats are those it has alone, and what its content breaks stays its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecgbatch.beats import shard as of_shard
from ecgbatch.beats.blocks import BLOCK_BEATS, BLOCK_SAMPLES, cut_blocks
from ecgbatch.beats.lookup import current_beats, extract_beats
from ecgbatch.beats.record import NO_PEAKS, BeatSettings, beat_windows, detect_r_peaks
from ecgbatch.beats.shard import Signals, cut_beats, find_peaks
from ecgbatch.signals.stage import convert_archive
from ecgbatch.synthetic.archive import ArchiveShape, write_archive
from ecgbatch.terms import LEAD_FLAGS
from storage import open_store

FS, N = 250.0, 2500
LEADS = ("I", "II", "V1")


def shard_of(n_records: int) -> Signals:
    """Records that differ in all that a block may hold: noise, gaps, flat leads, leads that do not vote, no gain, padding."""
    random = np.random.default_rng(4)
    time_s = np.arange(N + 300) / FS
    samples = np.full((n_records, len(LEADS), N + 300), -32768, np.int16)
    flags = np.zeros((n_records, len(LEADS)), np.uint16)
    gain = np.full((n_records, len(LEADS)), 1000.0, np.float32)
    for row in range(n_records):
        beat = np.exp(-0.5 * ((time_s % (0.6 + 0.05 * row) - 0.3) / 0.012) ** 2)
        own = beat * np.array([[1.0], [-0.7], [0.5]]) + (0.02 + 0.03 * (row % 4)) * random.standard_normal((3, time_s.size))
        samples[row, :, :N] = np.rint(1000 * own + 40 * row)[:, :N]
    samples[1, 0, 700:760] = -32768
    samples[2, 1, :N] = samples[2, 1, :N].clip(None, 900)
    flags[3, 0] = LEAD_FLAGS["noisy"]
    flags[4] = LEAD_FLAGS["missing"]
    flags[5, 2] = LEAD_FLAGS["missing"]
    gain[6, 1] = 0
    facts = {
        "n_samples": np.full(n_records, N),
        "sampling_frequency_hz": np.full(n_records, FS),
        "adc_gain": gain,
        "baseline": np.tile(np.arange(n_records)[:, None] * 40, (1, 3)),
        "lead_flags": flags,
    }
    return Signals(samples, facts, LEADS)


def test_a_records_beats_in_a_block_are_those_it_has_alone() -> None:
    signals = shard_of(9)
    rows = list(range(9))
    found = find_peaks(signals, rows)
    windows = cut_beats(signals, rows, found, BeatSettings())
    assert {len(own.r_sample) > 5 for row, own in enumerate(found) if row != 4} == {True}
    assert found[4] is NO_PEAKS
    for row, (peaks, beats) in enumerate(zip(found, windows, strict=True)):
        facts: dict[str, Any] = {"sampling_frequency_hz": FS, "n_samples": N, "adc_gain": signals.facts["adc_gain"][row]}
        flags = signals.facts["lead_flags"][row]
        voting = flags == 0
        named = 1 if voting[1] else None
        own = detect_r_peaks(
            signals.samples[row], baseline=signals.facts["baseline"][row], usable=voting, reference=named, **facts
        )
        np.testing.assert_array_equal(peaks.r_sample, own.r_sample)
        np.testing.assert_array_equal(peaks.beat_flags, own.beat_flags)
        assert peaks.n_leads_used == own.n_leads_used
        cut = beat_windows(signals.samples[row], own, present=(flags & LEAD_FLAGS["missing"]) == 0, **facts)
        for name, values in cut._asdict().items():
            np.testing.assert_array_equal(getattr(beats, name), values, err_msg=f"{row} {name}")


def test_blocks_are_neighbours_of_one_kind_and_bounded_by_samples_and_beats() -> None:
    half = BLOCK_SAMPLES // 2
    assert list(cut_blocks([0, 1, 2], "aaa", [half] * 3)) == [[0, 1], [2]]
    assert list(cut_blocks([0, 1, 2], "aba", [1] * 3)) == [[0], [1], [2]]
    assert list(cut_blocks([0, 2, 3], "abaa", [1] * 4)) == [[0, 2, 3]]
    assert list(cut_blocks([0, 1], "aa", [10 * half, 10 * half])) == [[0], [1]]  # long records stay alone
    assert list(cut_blocks([0, 1, 2], "aaa", [1] * 3, [BLOCK_BEATS, 1, 1])) == [[0], [1, 2]]
    assert list(cut_blocks([], "", [])) == []


@pytest.mark.parametrize(("step", "function"), [("peaks", "detect_each"), ("beats", "windows_each")])
def test_a_record_that_breaks_its_block_alone_gets_a_reason_and_the_others_their_beats(
    step: str, function: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_archive(tmp_path / "archive", ArchiveShape(n_records=6, duration_s=10.0, sampling_frequency_hz=500.0, n_leads=12))
    beats = {}
    for work in ("whole", "planted"):
        convert_archive(str(tmp_path / "archive"), str(tmp_path / work))
        if work == "planted":
            marked = open_store(next((tmp_path / work / "signals").glob("*.zarr")))["signal"][2].values
            real, sizes = getattr(of_shard, function), []

            def planted(records: Any, *others: Any, real: Any = real, sizes: list[int] = sizes, marked: Any = marked) -> Any:
                sizes.append(len(records.use))
                if any((own == marked).all() for own in records.signal):
                    raise ZeroDivisionError("planted")
                return real(records, *others)

            monkeypatch.setattr(of_shard, function, planted)
        extract_beats(str(tmp_path / work), BeatSettings())
        monkeypatch.undo()
        beats[work] = open_store(next((tmp_path / work / "beats").glob("*.zarr")))
    assert max(sizes) > 1
    assert sizes.count(1) >= max(sizes)
    table = current_beats(str(tmp_path / "planted"), BeatSettings().document())
    assert table["failed"].values.tolist() == ["", "", f"{step}:ZeroDivisionError", "", "", ""]
    for name in ("waveform", "r_sample", "beat_flags"):
        others = [beats[work][name].values[beats[work]["record_index"].values != 2] for work in beats]
        np.testing.assert_array_equal(*others)
