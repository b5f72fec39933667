"""Every folder of ``data/cases`` from the command line, as an operator meets it: what is stored, and what is scored on what."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
from typing import Any

import numpy as np
import pytest

from ecgbatch.cli.process import main
from ecgbatch.terms import LEADS, MISSING_SAMPLE

TWELVE, EIGHT = list(LEADS[:12]), ["I", "II", *LEADS[6:12]]
_OF_RECORD = {
    "dicom-channels/a": {"holter.dcm": (500.0, 5000, ["Channel_1", "Channel_2", "Channel_3"])},
    "dicom-class/a": {"cathlab.dcm": (500.0, 5000, TWELVE)},
    "dicom-groups/a": {"rest_and_rhythm.dcm": (500.0, 5000, TWELVE)},
    "dicom-values/a": {"long_number.dcm": (500.0, 5000, TWELVE)},
    "edf-odd-channel/a": {"marker_min_is_max.edf": (250.0, 2500, ["I", "II"])},
    "edf-patients/a": {f"r{n}.edf": (250.0, 2500, ["I", "II"]) for n in range(1, 5)},
    "edf-slow-ecg/a": {"psg.edf": (256.0, 15360, ["ECG"])},
    "eight-leads/eight": dict.fromkeys(("r03543", "r13902"), (250.0, 2500, EIGHT)),
    "eight-leads/twelve": dict.fromkeys(("r03543", "r13902"), (250.0, 2500, TWELVE)),
    "extra-signal-lines/a": {"x": (500.0, 5000, ["I", "II"])},
    "folder-patients/files": {
        f"p1000/p{who}/s{study}/{study}": (500.0, 5000, TWELVE)
        for who, study in (("10000001", "40000001"), ("10000001", "40000002"), ("10000002", "40000003"))
    },
    "layout-length-zero/a-layout": {"m": (125.0, 3000, ["II", "ABP", "V"])},
    "lead-names/dialect": dict.fromkeys(("r04011", "r05869"), (250.0, 2500, TWELVE)),
    "lead-names/standard": dict.fromkeys(("r04011", "r05869"), (250.0, 2500, TWELVE)),
    "low-rate/a-62.5Hz-1lead": dict.fromkeys(("good0", "good1", "good2"), (500.0, 5000, TWELVE)) | {"slow": (62.5, 1250, ["I"])},
    "other-signals-vote/a": {"icu": (125.0, 7500, ["II", "CVP", "PAP"])},
    "same-name/a": {"h00": (128.0, 7680, ["ECG", "ECG_#2"])},
    "samples-a-frame/a-icu": {"icu": (250.0, 10000, ["II", "aVR", "V"])},
    "segment-gains/a": {"m": (125.0, 3000, ["II", "ABP", "V"])},
}
"""Of each record: samples a second, samples, leads."""
_LEAD_II = {
    "layout-length-zero/a-layout": ("a-layout_truth_mv_II.npy", 0.501 / 100, 500),
    "samples-a-frame/a-icu": ("a_truth_mv_II_250Hz.npy", 0.0006, 0),
    "segment-gains/a": ("a_truth_mv_II.npy", 0.501 / 53 + 0.5 / (8 * 86), 500),
}
"""The file of lead II's millivolts, how far they may be off (half a step of what is stored), and how many samples are missing."""
_N_PATIENTS = {"edf-patients/a": 4, "folder-patients/files": 2}


def said(*arguments: object) -> dict[str, Any]:
    """Run a command; return what it prints. It must say that all is well."""
    out, umask, on_term = io.StringIO(), os.umask(0o077), signal.getsignal(signal.SIGTERM)
    try:
        with contextlib.redirect_stdout(out), pytest.raises(SystemExit) as ended:
            main([*map(str, arguments), "--json"])
    finally:  # a command sets them for its process
        os.umask(umask)
        signal.signal(signal.SIGTERM, on_term)
    assert not ended.value.code, arguments
    return json.loads(out.getvalue())


def test_every_case_is_here(test_data):
    there = {f"{path.parent.name}/{path.name}" for path in (test_data / "cases").glob("*/*") if path.is_dir()}
    assert there == set(_OF_RECORD)


@pytest.mark.parametrize("case", _OF_RECORD)
def test_a_case_is_inspected_and_converted_right(case, test_data, tmp_path):
    from ecgbatch.signals.lookup import current_records, signals_path
    from storage import open_store

    if case.startswith("dicom"):
        pytest.importorskip("pydicom")
    archive, expected = test_data / "cases" / case, _OF_RECORD[case]
    found = said("inspect", archive, "--read-data")
    assert (found["n_records"], found["n_ok"], found["n_set_aside"]) == (len(expected), len(expected), {})
    assert found["n_patients"] == _N_PATIENTS.get(case, found["n_patients"])
    said("convert", archive, tmp_path)
    records = current_records(str(tmp_path), ("record_name", "sampling_frequency_hz", "n_samples"))
    for row, name in enumerate(records["record_name"].values.tolist()):
        fs, n_samples, leads = expected[name]
        assert records["sampling_frequency_hz"].values[row] == fs
        assert records["n_samples"].values[row] == n_samples
        store = open_store(signals_path(str(tmp_path), records["signals_store"].values[row]))
        is_there = store["lead_flags"].values[records["signals_row"].values[row]] & 1 == 0
        assert [lead for lead, there in zip(store["lead"].values.tolist(), is_there, strict=True) if there] == leads
        if case in _LEAD_II:
            file, step, n_missing = _LEAD_II[case]
            truth = np.load(archive.parent / file)
            millivolts = _millivolts(store, int(records["signals_row"].values[row]), "II", n_samples)
            assert (millivolts.shape, np.isnan(millivolts).sum()) == (truth.shape, n_missing)
            assert np.nanmax(np.abs(millivolts - truth)) < step


def _millivolts(store, row, lead, n_samples):
    place = store["lead"].values.tolist().index(lead)
    stored = store["signal"][row, place, :n_samples].values.astype(float)
    stored[stored == MISSING_SAMPLE] = np.nan
    return (stored - store["baseline"].values[row, place]) / store["adc_gain"].values[row, place]
