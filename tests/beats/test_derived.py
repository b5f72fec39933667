"""Leads that follow from I and II: eight leads give what twelve give, and nothing is derived where scales are not one."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from ecgbatch.beats.derived import OF_I_II, derived_leads, with_derived
from ecgbatch.beats.lookup import extract_beats
from ecgbatch.beats.record import BeatSettings
from ecgbatch.model.files import shipped_model
from ecgbatch.scores.stage import score_workspace
from ecgbatch.scores.table import scores_path
from ecgbatch.signals.stage import convert_archive
from ecgbatch.terms import LEAD_FLAGS, LEADS, MISSING_SAMPLE
from storage import open_store

TWELVE = LEADS[:12]
EIGHT = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")


def signals(leads, flags=None, gain=None, warnings="") -> xr.Dataset:
    """One record of a signals store."""
    columns = {"lead_flags": np.zeros(len(leads), np.uint16) if flags is None else flags}
    columns["adc_gain"] = np.full(len(leads), 200.0) if gain is None else gain
    rows = {name: (("record", "lead"), values[None]) for name, values in columns.items()}
    return xr.Dataset(rows | {"lead": ("lead", list(leads)), "warnings": ("record", [warnings])})


def test_the_four_are_derived_and_twelve_leads_stay_as_they_are():
    leads, is_derived = derived_leads(signals(EIGHT))
    assert leads == list(TWELVE)
    assert [lead for lead, derived in zip(leads, is_derived[0], strict=True) if derived] == ["III", "aVR", "aVL", "aVF"]
    leads, is_derived = derived_leads(signals(TWELVE))
    assert leads == list(TWELVE)
    assert not is_derived.any()
    flags = np.zeros(12, np.uint16)
    flags[3] = LEAD_FLAGS["missing"]
    assert np.flatnonzero(derived_leads(signals(TWELVE, flags))[1][0]).tolist() == [3]


@pytest.mark.parametrize("word", ["missing", "flat", "not_millivolts"])
def test_nothing_is_derived_where_one_or_two_is_absent_or_on_a_scale_of_its_own(word):
    flags = np.zeros(8, np.uint16)
    flags[1] = LEAD_FLAGS[word]
    assert not derived_leads(signals(EIGHT, flags))[1].any()


def test_counts_of_one_converter_are_on_one_scale():
    flags = np.full(8, LEAD_FLAGS["not_millivolts"], np.uint16)
    assert derived_leads(signals(EIGHT, flags, warnings="GAIN_DEFAULTED"))[1].sum() == 4
    assert not derived_leads(signals(EIGHT, flags, warnings="UNITS_UNKNOWN"))[1].any()
    assert not derived_leads(signals(EIGHT, flags, np.arange(8.0) + 1, "GAIN_DEFAULTED"))[1].any()


def test_windows_are_sums_of_those_of_one_and_two_and_missing_where_either_is():
    one, two = np.array([100, -50, MISSING_SAMPLE, 7]), np.array([40, 31, 5, MISSING_SAMPLE])
    leads = ["I", "II", *OF_I_II]
    found = with_derived(np.stack([one, two])[None].astype(np.int16), ["I", "II"], leads, np.array([0, 0, 1, 1, 1, 1], bool))[0]
    assert found[:, 0].tolist() == [100, 40, -60, -70, 80, -10]
    assert found[:, 1].tolist() == [-50, 31, 81, 10, -66, 56]
    assert (found[2:, 2:] == MISSING_SAMPLE).all()


def test_eight_leads_give_what_twelve_give(test_data, tmp_path):
    told = {}
    for kind in ("eight", "twelve"):
        work = str(tmp_path / kind)
        convert_archive(str(test_data / "cases/eight-leads" / kind), work)
        (beats_at,) = extract_beats(work, BeatSettings()).stores
        beats = open_store(beats_at)
        assert ("lead_flags" in beats, "derived" in beats.attrs["settings"]) == (kind == "eight", kind == "eight")
        assert beats["lead"].values.tolist() == list(TWELVE)
        scores = open_store(scores_path(work, score_workspace(work, str(shipped_model()))))
        told[kind] = scores["mi_probability"].values, scores["decision"].values.tolist()
    np.testing.assert_allclose(told["eight"][0], told["twelve"][0], atol=0.02)
    assert told["eight"][1] == told["twelve"][1]
