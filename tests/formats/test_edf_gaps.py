"""EDF+D: without interruptions as EDF+C, with them as gaps of their length; what does not tell its times is refused."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import edfio
import numpy as np
import pytest

from ecgbatch.formats import edf_gaps
from ecgbatch.formats.header import REASONS, WARNINGS, UnreadableRecord
from ecgbatch.formats.inspection import inspect_record
from ecgbatch.formats.records import read_record, read_samples
from ecgbatch.terms import LEAD_FLAGS, MISSING_SAMPLE, STATUS
from tests.formats.test_edf import GOOD, Signal, edf, lead

RATE = 250


def times(onsets: Sequence[str]) -> Signal:
    """Return annotations that tell when each data record began."""
    texts = [f"+{onset}\x14\x14\0".encode().ljust(60, b"\0") for onset in onsets]
    samples = np.stack([np.frombuffer(text, "<i2") for text in texts])
    return Signal("EDF Annotations", samples, "", ("-1", "1"), ("-32768", "32767"))


def interrupted(onsets: Sequence[str], *leads: Signal, **fields: str) -> bytes:
    return edf(*(leads or GOOD), times(onsets), reserved="EDF+D", **fields)


def put(folder: Path, content: bytes) -> Path:
    (folder / "r.edf").write_bytes(content)
    return folder


@pytest.mark.parametrize("first", ["0", "0.0000", "17.5", "86399.25"])
def test_without_interruptions_it_is_what_edf_plus_c_is(tmp_path: Path, first: str) -> None:
    onsets = [f"{float(first) + k:g}" for k in range(4)]
    record = read_record(put(tmp_path, interrupted(onsets)), "r.edf")
    (tmp_path / "c.edf").write_bytes(edf(*GOOD, times(onsets), reserved="EDF+C"))
    same = read_record(tmp_path, "c.edf")
    np.testing.assert_array_equal(record["signal"].values, same["signal"].values)
    for name in ("lead", "adc_gain", "baseline", "checksum", "lead_flags"):
        np.testing.assert_array_equal(record[name].values, same[name].values)
    assert (record.attrs["n_samples"], record.attrs["warnings"]) == (1000, same.attrs["warnings"])


def test_interruptions_are_gaps_of_their_length(tmp_path: Path) -> None:
    folder = put(tmp_path, interrupted(["5", "6", "9.5", "10.5"]))
    record = read_record(folder, "r.edf")
    assert record.attrs["n_samples"] == inspect_record(folder, "r.edf").n_samples == round(6.5 * RATE)
    assert "GAPS" in record.attrs["warnings"]
    assert (record["lead_flags"].values & LEAD_FLAGS["gaps"]).all()
    by_lead = dict(zip(record["lead"].values.tolist(), record["signal"].values, strict=True))
    for name, written in zip(("II", "V1", "I"), GOOD, strict=True):
        signal = by_lead[name]
        np.testing.assert_array_equal(signal[: 2 * RATE], written.samples[:2].reshape(-1))
        assert (signal[2 * RATE : round(4.5 * RATE)] == MISSING_SAMPLE).all()
        np.testing.assert_array_equal(signal[round(4.5 * RATE) :], written.samples[2:].reshape(-1))


@pytest.mark.parametrize("late_s", [0.001, 0.004, -0.004])
def test_times_a_sample_off_are_no_interruption(tmp_path: Path, late_s: float) -> None:
    record = read_record(put(tmp_path, interrupted(["0", f"{1 + late_s:g}", "2", "3"])), "r.edf")
    assert record.attrs["n_samples"] == 1000
    assert "GAPS" not in record.attrs["warnings"]


@pytest.mark.parametrize(
    ("onsets", "words"),
    [
        (["0", "1", "1.5", "3"], "data record 3 begins before the one before it ends"),
        (["0", "-4", "2", "3"], "data record 2 does not tell"),
        (["3", "2", "1", "0"], "data record 2 begins before"),
        (["x", "1", "2", "3"], "data record 1 does not tell when it began"),
        (["0", "1", "2", ""], "data record 4 does not tell"),
    ],
)
def test_times_that_cannot_be_are_refused_and_said(tmp_path: Path, onsets: list[str], words: str) -> None:
    found = inspect_record(put(tmp_path, interrupted(onsets)), "r.edf")
    assert (found.status, found.reason) == (STATUS["set_aside"], "FMT_UNSUPPORTED")
    assert words in found.status_detail
    with pytest.raises(UnreadableRecord):
        read_record(tmp_path, "r.edf")


def test_a_gap_that_would_fill_the_memory_is_refused_before_it_does(tmp_path: Path) -> None:
    found = inspect_record(put(tmp_path, interrupted(["0", "1", "2", "99999999"])), "r.edf")
    assert found.reason == "TOO_LONG"
    assert "interruptions included" in found.status_detail


def test_more_data_records_than_any_recording_has_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edf_gaps, "MAX_RECORDS", 3)
    assert inspect_record(put(tmp_path, interrupted(["0", "1", "2", "3"])), "r.edf").reason == "HEADER_LIMIT"


def test_times_changed_after_the_inspection_are_no_longer_the_record(tmp_path: Path) -> None:
    content = interrupted(["0", "1", "2", "3"])
    found = inspect_record(put(tmp_path, content), "r.edf")
    (file,) = found.files
    (tmp_path / "r.edf").write_bytes(content.replace(b"+3\x14", b"+7\x14"))

    os.utime(tmp_path / "r.edf", ns=(file.mtime_ns, file.mtime_ns))

    with pytest.raises(UnreadableRecord, match="CHANGED_WHILE_READING"):
        read_samples(found)


def test_a_file_that_edfio_writes_and_marks_as_discontinuous_is_read(tmp_path: Path) -> None:
    signal = edfio.EdfSignal(np.sin(np.arange(1000) / 20), 250, label="ECG II", physical_dimension="mV")
    written = edfio.Edf([signal], annotations=[edfio.EdfAnnotation(0.5, None, "start")])
    written.write(tmp_path / "r.edf")
    content = (tmp_path / "r.edf").read_bytes()
    assert content[192:197] == b"EDF+C"
    (tmp_path / "d.edf").write_bytes(content[:192] + b"EDF+D" + content[197:])
    plain, same = (read_record(tmp_path, name) for name in ("r.edf", "d.edf"))
    np.testing.assert_array_equal(plain["signal"].values, same["signal"].values)


def test_mutants_of_its_times_never_raise_and_are_told_before_reading(tmp_path: Path) -> None:
    content, rng = interrupted(["0", "1", "4", "5.5"], replace(lead("II", 5))), np.random.default_rng(7)
    places = [at for at in range(len(content)) if content[at : at + 2] == b"\x14\x14"]
    for _ in range(200):
        mutant = bytearray(content)
        for _ in range(int(rng.integers(1, 4))):
            mutant[int(rng.choice(places)) + int(rng.integers(-4, 3))] = int(rng.choice([*b"0123456789+-.", 0, 20, 255]))
        (tmp_path / "r.edf").write_bytes(mutant)
        found, code = inspect_record(tmp_path, "r.edf"), ""
        try:
            assert set(read_record(tmp_path, "r.edf").attrs["warnings"]) <= WARNINGS.keys()
        except UnreadableRecord as error:
            code = error.code
        assert found.reason == code
        assert code in REASONS or found.status == STATUS["ok"]
