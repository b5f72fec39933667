"""Annotation files: what we write wfdb reads, what wfdb writes we read, and broken files give reasons instead of beats."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wfdb
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgbatch.formats import wfdb_annotation
from ecgbatch.formats.wfdb_annotation import BEAT_SYMBOLS, UnreadableAnnotations, decode, encode_beats, reference_beats


def read_with_wfdb(path: Path, extension: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # wfdb 4.3 uses what pandas has deprecated
        return wfdb.rdann(str(path), extension)


def test_wfdb_reads_back_samples_symbols_flags_and_rate(tmp_path: Path) -> None:
    r_sample = np.array([0, 3, 1026, 2050, 2_000_000, 2_000_001, 2_147_000_000])
    flags = np.array([1, 0, 8, 63, 0, 4, 2], np.uint16)
    (tmp_path / "r.qrs").write_bytes(encode_beats(r_sample, flags, 257.5))
    found = read_with_wfdb(tmp_path / "r", "qrs")
    np.testing.assert_array_equal(found.sample, r_sample)
    np.testing.assert_array_equal(found.subtype, flags)
    assert found.symbol == ["N"] * 7
    assert found.fs == 257.5


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 100_000), max_size=40), st.integers(0, 5000), st.sampled_from([250, 360.0, 1000, 125.125]))
def test_what_is_written_is_read_back(gaps: list[int], first: int, fs: float) -> None:
    r_sample = first + np.cumsum(np.array(gaps, np.int64))
    flags = (r_sample % 64).astype(np.uint16)
    found = decode(encode_beats(r_sample, flags, fs))
    np.testing.assert_array_equal(found.sample, r_sample)
    np.testing.assert_array_equal(found.subtype, flags)
    assert set(found.symbol.tolist()) <= {"N"}
    assert found.sampling_frequency_hz == fs


def test_what_wfdb_writes_is_read_with_every_field(tmp_path: Path) -> None:
    sample = np.array([5, 900, 3000, 3000 + 70_000, 80_000])
    symbol = ["+", "N", "V", "~", "/"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wfdb.wrann(
            "r", "atr", sample, symbol, subtype=np.array([0, -1, 3, 17, 0]), chan=np.array([0, 1, 1, 0, 0]),
            num=np.array([0, 2, 2, 2, 2]), aux_note=["(AFIB", "", "odd", "four", ""], fs=360, write_dir=str(tmp_path),
        )  # fmt: skip
    found = decode((tmp_path / "r.atr").read_bytes())
    np.testing.assert_array_equal(found.sample, sample)
    np.testing.assert_array_equal(found.subtype, [0, -1, 3, 17, 0])
    assert found.symbol.tolist() == symbol
    assert found.sampling_frequency_hz == 360


def test_the_table_of_symbols_is_wfdbs() -> None:
    from wfdb.io.annotation import ann_labels, is_qrs

    theirs = {label.label_store: label.symbol for label in ann_labels if label.symbol.strip()}
    assert {code: symbol for code, symbol in wfdb_annotation.CODES.items() if symbol != " "} == theirs
    flutter = {"!"}  # a QRS to wfdb; EC57 leaves waves of ventricular flutter out
    assert {theirs[code] for code, is_beat in enumerate(is_qrs) if is_beat and code in theirs} - flutter == BEAT_SYMBOLS


def test_every_reference_of_ds1_is_read_as_wfdb_reads_it(test_data: Path) -> None:
    for name in (test_data / "mitdb-ds1" / "RECORDS").read_text().split():
        path = test_data / "mitdb-ds1" / name
        found, expected = decode(path.with_suffix(".atr").read_bytes()), read_with_wfdb(path, "atr")
        np.testing.assert_array_equal(found.sample, expected.sample)
        assert found.symbol.tolist() == expected.symbol
        np.testing.assert_array_equal(found.subtype, expected.subtype)


def test_a_file_that_breaks_off_is_refused() -> None:
    whole = encode_beats(np.array([100, 90_000]), np.zeros(2, np.uint16), 360.0)
    for length in range(len(whole)):
        with pytest.raises(UnreadableAnnotations, match="breaks off after"):
            decode(whole[: length // 2 * 2 if length < len(whole) - 1 else -2])


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_annotations_or_a_reason(content: bytes) -> None:
    try:
        found = decode(content)
    except UnreadableAnnotations:
        return
    assert len(found.sample) == len(found.symbol) == len(found.subtype)


def test_time_before_the_record_is_refused() -> None:
    back = np.array([59 << 10, 0xFFFF, 0xFFF0, 1 << 10, 0], "<u2").tobytes()
    with pytest.raises(UnreadableAnnotations, match="annotation at sample -16: expected 0 or later"):
        decode(back)


def words(*beats: tuple[int, int]) -> bytes:
    return np.array([*(code << 10 | gap for gap, code in beats), 0], "<u2").tobytes()


FACTS: dict[str, Any] = {"sampling_frequency_hz": 250.0, "n_samples": 5000}


def test_reference_beats_are_beats_of_the_record_each_once(tmp_path: Path) -> None:
    (tmp_path / "r.atr").write_bytes(words((100, 1), (0, 5), (200, 28), (200, 38), (900, 14), (1000, 13), (1000, 12), (1023, 1)))
    (tmp_path / "s.atr").write_bytes(words((1000, 1), (600, 1), (1023, 1), (1023, 1), (1023, 1), (1023, 1)))
    found = reference_beats(tmp_path, "r", "atr", **FACTS)
    np.testing.assert_array_equal(found.r_sample, [100, 500, 2400, 3400, 4423])
    assert (len(found.digest), found.reason) == (64, "")
    np.testing.assert_array_equal(reference_beats(tmp_path, "s", "atr", **FACTS).r_sample, [1000, 1600, 2623, 3646, 4669])


def test_a_reference_at_another_rate_is_converted(tmp_path: Path) -> None:
    (tmp_path / "r.atr").write_bytes(encode_beats(np.array([100, 1001]), np.zeros(2, np.uint16), 500.0))
    np.testing.assert_array_equal(reference_beats(tmp_path, "r", "atr", **FACTS).r_sample, [50, 500])


@pytest.mark.parametrize(
    ("content", "words_of_reason"),
    [
        (None, "r.atr"),
        (b"\x01\x04", "breaks off after 1 annotations"),
        (words((100, 14)), "the file has none"),
        (words(*[(1, 1)] * 101), "101 in the record's time, at most 100 are plausible"),
    ],
)
def test_a_reference_that_cannot_be_used_says_why(tmp_path: Path, content: bytes | None, words_of_reason: str) -> None:
    if content is not None:
        (tmp_path / "r.atr").write_bytes(content)
    found = reference_beats(tmp_path, "r", "atr", **FACTS)
    assert len(found.r_sample) == 0
    assert words_of_reason in found.reason


def test_a_reference_outside_the_archive_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "r.atr").write_bytes(words((100, 1)))
    for name in ("../r", "/r"):
        assert "not a path below the archive" in reference_beats(tmp_path / "a", name, "atr", **FACTS).reason
    (tmp_path / "a" / "r.atr").symlink_to(tmp_path / "r.atr")
    assert len(reference_beats(tmp_path / "a", "r", "atr", **FACTS).r_sample) == 0
