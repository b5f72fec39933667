"""Kin of the inputs in ``data/cases``: polysomnograms whose EEG has other names, rates and scales."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ecgbatch.formats.records import in_millivolts, read_record
from tests.formats.test_cases import write_frames
from tests.formats.test_edf import Signal, edf, lead


@pytest.mark.parametrize("hz", [100, 128, 200, 256])
@pytest.mark.parametrize("eeg", [("EEG Fpz-Cz", "EEG C3-A2", "EOG"), ("C3", "C4", "O1"), ("F3-M2", "C4-M1", "Chin")])
@pytest.mark.parametrize("ecgs", [("ECG",), ("ECG1", "ECG2"), ("EKG1-EKG2",), ("ECG II",)])
def test_the_ecg_decides_the_rate_of_a_polysomnogram_whatever_its_eeg_is_called(tmp_path: Path, hz: int, eeg, ecgs) -> None:
    heart = [lead(name, i, rate=hz) for i, name in enumerate(ecgs)]
    (tmp_path / "r.edf").write_bytes(edf(*[lead(name, 9, rate=512) for name in eeg], *heart, lead("SpO2", 5, rate=1)))
    record = read_record(tmp_path, "r.edf")
    assert record.attrs["sampling_frequency_hz"] == hz
    for row, signal in zip(record["signal"].values, heart, strict=True):
        np.testing.assert_array_equal(row, signal.samples.reshape(-1))


def test_a_waveform_records_known_lead_decides_its_rate_among_unknown_signals_of_volts(tmp_path: Path) -> None:
    fast, slow = np.arange(800).reshape(100, 8), np.arange(200).reshape(100, 2)
    signals = {"C3": (fast, "200/mV"), "C4": (fast, "200/mV"), "II": (slow, "200/mV"), "ABP": (slow[:, :1], "20/mmHg")}
    write_frames(tmp_path, signals, 62.5)
    record = read_record(tmp_path, "x")
    assert (record.attrs["sampling_frequency_hz"], record["lead"].values.tolist()) == (125.0, ["II"])


@pytest.mark.parametrize("unit", ["mV", "uV"])
def test_a_negative_gain_turns_samples_and_not_the_millivolts_that_are_meant(tmp_path: Path, unit: str) -> None:
    limit = "16.3835" if unit == "mV" else "16383.5"
    up = lead("II", 1)
    turned: Signal = replace(up, unit=unit, physical=(limit, f"-{limit}"))
    (tmp_path / "r.edf").write_bytes(edf(turned))
    np.testing.assert_allclose(
        in_millivolts(read_record(tmp_path, "r.edf")).values[0], -up.samples.reshape(-1) * 0.0005, atol=1e-6
    )
