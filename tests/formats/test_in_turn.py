"""Leads that a DICOM file holds one after the other: missing outside their part, whether the file pads them or not; said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from ecgbatch.formats.dicom_groups import parts_in_turn
from ecgbatch.formats.records import in_millivolts, read_record
from ecgbatch.signals.quality import lead_flags
from ecgbatch.terms import LEAD_FLAGS
from tests.formats import dicom_files
from tests.formats.device_files import TWELVE, Leads, ecg

FS, N = 500, 5000
PARTS = [(TWELVE[3 * k : 3 * k + 3], slice(k * N // 4, (k + 1) * N // 4)) for k in range(4)]


@pytest.fixture(scope="module")
def leads() -> Leads:
    return ecg(TWELVE, n=N, fs=FS, microvolts=0.5)


def written(folder: Path, groups: Sequence[tuple[Mapping[str, np.ndarray], int]]) -> Path:
    """Write groups of leads, each with the time at which it begins in ms, as ``r.dcm``."""
    made = []
    for columns, offset_ms in groups:
        group = dicom_files.group(tuple(columns), np.stack(list(columns.values()), axis=1), rate=str(FS))
        group.MultiplexGroupTimeOffset = str(offset_ms)
        made.append(group)
    (folder / "r.dcm").write_bytes(dicom_files.encoded(dicom_files.ecg(*made)))
    return folder


def padded(values: np.ndarray, part: slice, with_: int = 0) -> np.ndarray:
    whole = np.full(len(values), with_, values.dtype)
    whole[part] = values[part]
    return whole


@pytest.mark.parametrize("value", [0, -7, 2000])
def test_padded_leads_are_what_groups_one_after_the_other_are(tmp_path: Path, leads: Leads, value: int) -> None:
    for name in ("turns", "padded"):
        (tmp_path / name).mkdir()
    turns = [({lead: leads[lead][part] for lead in names}, 1000 * part.start // FS) for names, part in PARTS]
    long = [({lead: padded(leads[lead], part, value) for lead in names}, 0) for names, part in PARTS]
    one = read_record(written(tmp_path / "turns", turns), "r.dcm")
    other = read_record(written(tmp_path / "padded", long), "r.dcm")
    assert tuple(one["lead"].values) == tuple(other["lead"].values) == TWELVE
    shown, same = in_millivolts(one).values, in_millivolts(other).values
    assert (np.isnan(shown) == np.isnan(same)).mean() > 0.998  # a sample beside a part may be the padding's number
    np.testing.assert_allclose(same[np.isfinite(shown) & np.isfinite(same)], shown[np.isfinite(shown) & np.isfinite(same)])
    for record in (one, other):
        assert {"LEADS_IN_TURN", "GAPS"} <= set(record.attrs["warnings"])
        signal = np.ascontiguousarray(record["signal"].values)
        scale = record["adc_gain"].values, record["baseline"].values
        flags = lead_flags(signal, *scale, FS, TWELVE, N)
        assert not (flags & LEAD_FLAGS["flat"]).any()
        assert (record["lead_flags"].values & LEAD_FLAGS["gaps"]).all()


def test_a_rhythm_strip_of_all_the_time_stays_whole(tmp_path: Path, leads: Leads) -> None:
    long = [({lead: padded(leads[lead], part) for lead in names if lead != "II"}, 0) for names, part in PARTS]
    record = read_record(written(tmp_path, [({"II": leads["II"]}, 0), *long]), "r.dcm")
    assert "LEADS_IN_TURN" in record.attrs["warnings"]
    has_gaps = dict(zip(record["lead"].values.tolist(), (record["lead_flags"].values & LEAD_FLAGS["gaps"]) > 0, strict=True))
    assert [lead for lead, gaps in has_gaps.items() if not gaps] == ["II"]


@pytest.mark.parametrize("off", [("V1",), ("V1", "V2", "V3"), TWELVE])
def test_leads_that_are_off_for_a_time_stay_as_they_are(tmp_path: Path, leads: Leads, off: tuple[str, ...]) -> None:
    columns = {lead: padded(values, slice(0, 2000)) if lead in off else values for lead, values in leads.items()}
    record = read_record(written(tmp_path, [(columns, 0)]), "r.dcm")
    assert not {"LEADS_IN_TURN", "GAPS"} & set(record.attrs["warnings"])
    for lead, values in zip(record["lead"].values.tolist(), record["signal"].values, strict=True):
        np.testing.assert_array_equal(values, columns[lead])


def test_parts_that_do_not_follow_each_other_or_do_not_fill_the_time_are_none() -> None:
    wave = np.arange(1000) % 97 + 1
    apart = [padded(wave, slice(0, 300)), padded(wave, slice(600, 900))]
    across = [padded(wave, slice(0, 700)), padded(wave, slice(300, 1000))]
    fills = [padded(wave, slice(0, 500)), padded(wave, slice(500, 1000))]
    assert parts_in_turn(apart) == parts_in_turn(across) == parts_in_turn([wave * 0, wave * 0]) == [None, None]
    assert parts_in_turn(fills) == [slice(0, 500), slice(500, 1000)]
    assert parts_in_turn([*fills, wave]) == [slice(0, 500), slice(500, 1000), None]
    assert parts_in_turn([*fills, wave, wave, wave]) == [None] * 5  # most leads are whole: two electrodes were off
