"""What a program reads of a workspace is what is current in it, whatever happened to it before."""

from __future__ import annotations

import json
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import ecgbatch
from ecgbatch.api import blocks
from ecgbatch.beats.lookup import current_beats
from ecgbatch.beats.record import BeatSettings
from ecgbatch.synthetic.heart_vector import ADC_GAIN
from ecgbatch.terms import LEADS, UNSCORABLE_BEAT
from ecgbatch.training.data import open_prepared, prepare_training
from ecgbatch.training.recipes import current_rows
from ecgbatch.training.settings import TrainSettings
from ecgbatch.upkeep.erase import erase_patient
from storage import UnfinishedStore, list_stores, open_store
from tests.api.conftest import FLAT, GAP


@pytest.fixture(scope="module")
def workspace(nights) -> ecgbatch.Workspace:
    return ecgbatch.open_workspace(nights.work)


def in_file(nights, name: str) -> np.ndarray:
    """Return what the record's own .dat holds, (lead, sample) mV."""
    steps = np.fromfile((nights.archive / name).with_suffix(".dat"), "<i2").reshape(-1, 12).T
    return np.where(steps == -32768, np.nan, steps / np.float32(ADC_GAIN)).astype(np.float32)


def names_in_archive(nights) -> set[str]:
    return {path.relative_to(nights.archive).with_suffix("").as_posix() for path in nights.archive.rglob("*.hea")}


def test_records_are_those_of_the_archive_each_once_with_words_for_codes(nights, workspace):
    records = workspace.records
    assert set(records.index) == names_in_archive(nights)
    assert records.index.is_unique
    assert len(list_stores(nights.work, "signals")) >= 3
    rates = records.groupby("sampling_frequency_hz", observed=True)["n_samples"].max()
    assert rates.to_dict() == {250.0: 1500, 1000.0: 8000}
    assert (records.loc[list(nights.short), "n_leads"] == 12).all()
    broken = records.loc[nights.broken]
    assert (broken["status"], broken["quality"]) == ("set_aside", "not_usable")
    assert broken["reason"]
    assert set(records["label"]) == {"mi", "control", "other"}
    assert (records["mi"] == records["label"].map({"mi": 1, "control": 0, "other": -1}).astype(int)).all()
    faulty = records.loc[nights.faulty]
    assert "aVR:flat" in faulty["flags_by_lead"]
    assert faulty["n_leads_usable"] <= faulty["n_leads"] - 2
    assert set(records["patient_id"]) == {Path(name).parent.name for name in records.index}


def test_signals_of_every_record_are_the_files_in_millivolts(nights, workspace):
    usable = workspace.records.index[workspace.records["status"] != "set_aside"]
    assert len(usable) >= 14
    for name in usable:
        found = workspace.signals(name)
        assert (found.dtype, found.dims) == (np.float32, ("lead", "sample"))
        np.testing.assert_allclose(found.sel(lead=list(LEADS[:12])).values, in_file(nights, name), atol=1e-6)
        assert found.attrs["sampling_frequency_hz"] == workspace.records.loc[name, "sampling_frequency_hz"]
        assert found["time_s"].values[-1] == (found.sizes["sample"] - 1) / found.attrs["sampling_frequency_hz"]


def test_missing_samples_are_nan_and_leads_say_what_is_wrong_with_them(nights, workspace):
    found = workspace.signals(nights.faulty)
    assert np.isnan(found.sel(lead=GAP).values).nonzero()[0].tolist() == list(range(100))
    assert "flat" in str(found.sel(lead=FLAT)["lead_flags"].values)
    assert not np.isnan(found.sel(lead="V1").values).any()


def test_parts_of_a_signal_are_those_of_the_whole(nights, workspace):
    lazy, whole = workspace.signals(nights.changed), workspace.signals(nights.changed).values
    assert not lazy.variable._in_memory
    np.testing.assert_array_equal(lazy[2, 100:300:7].values, whole[2, 100:300:7])
    np.testing.assert_array_equal(lazy[[5, 0], 300:100:-3].values, whole[[5, 0], 300:100:-3])
    np.testing.assert_array_equal(lazy.isel(sample=[9, 3, 3]).values, whole[:, [9, 3, 3]])
    assert lazy[:, 5:5].shape == (15, 0)


def test_a_name_that_is_none_is_answered_with_the_nearest(nights, workspace):
    with pytest.raises(ValueError, match=f"none named '{nights.faulty[:-1]}'.*nearest names: .*{nights.faulty}"):
        workspace.signals(nights.faulty[:-1])
    with pytest.raises(ValueError, match=r"expected names of records.*nor 1 others"):
        workspace.beats([nights.faulty, "nobody/1", "nobody/2"])


def test_a_record_that_is_set_aside_says_why(nights, workspace):
    reason = workspace.records.loc[nights.broken, "reason"]
    with pytest.raises(ValueError, match=f"{nights.broken} has no samples: it is set aside, reason {reason}"):
        workspace.signals(nights.broken)


def test_where_nothing_is_converted_it_says_what_to_run(tmp_path):
    with pytest.raises(UnfinishedStore, match="run `ecgbatch convert ARCHIVE"):
        ecgbatch.open_workspace(tmp_path / "nothing")
    with pytest.raises(ValueError, match="address of another kind"):
        ecgbatch.open_workspace("gs://bucket/work")
    with pytest.raises(AttributeError, match="public names: open_workspace"):
        ecgbatch.open_workspaces  # noqa: B018


def stored_beats(work: str) -> dict[str, tuple[list[str], np.ndarray, np.ndarray, np.ndarray]]:
    """Return leads, waveform in steps, R peaks and flags of every record, read store by store."""
    table, found = current_beats(work, BeatSettings().document()), {}
    for name, digest, row in zip(
        *(table[one].values.tolist() for one in ("record_name", "beats_store", "beats_row")), strict=True
    ):
        store = open_store(f"{work}/beats/{digest}.zarr")
        first = int(store["first_beat"][row])
        rows = slice(first, first + int(store["n_beats"][row]))
        own = (store[one][rows].values for one in ("waveform", "r_sample", "beat_flags"))
        found[name] = (store["lead"].values.tolist(), *own)
    return found


def rows_of(beats: xr.Dataset, name: str) -> slice:
    place = beats["record"].values.tolist().index(name)
    first = int(beats["first_beat"][place])
    return slice(first, first + int(beats["n_beats"][place]))


@pytest.mark.parametrize("only_scorable", [True, False])
def test_beats_of_all_nights_are_those_of_the_stores_in_millivolts(nights, workspace, only_scorable):
    beats, n_seen = workspace.beats(only_scorable=only_scorable), 0
    assert not beats["waveform"].variable._in_memory
    assert tuple(beats["lead"].values) == LEADS
    assert set(beats["record"].values) == set(workspace.records.index)
    for name, (leads, steps, r_sample, flags) in stored_beats(nights.work).items():
        chosen = np.flatnonzero((flags & UNSCORABLE_BEAT) == 0) if only_scorable else np.arange(flags.size)
        own = beats.isel(beat=rows_of(beats, name))
        np.testing.assert_array_equal(own["r_sample"].values, r_sample[chosen])
        np.testing.assert_array_equal(own["beat_flags"].values, flags[chosen])
        known = [lead for lead in leads if lead in LEADS]
        expected = np.where(steps == -32768, np.nan, steps / np.float32(1000))[chosen][:, [leads.index(lead) for lead in known]]
        if name == nights.faulty:
            expected[:, known.index(FLAT)] = np.nan
        np.testing.assert_allclose(own["waveform"].sel(lead=known).values, expected, atol=1e-6)
        n_seen += chosen.size
    assert beats.sizes["beat"] == n_seen > 80


def test_leads_that_a_record_lacks_are_nan_in_its_beats(nights, workspace):
    frank = workspace.beats(list(nights.short), leads=["Vz", "II"])["waveform"].values
    assert frank.shape[0] > 5
    assert np.isnan(frank[:, 0]).all()
    assert not np.isnan(frank[:, 1]).any()
    with pytest.raises(ValueError, match=r"expected leads that some record here has .*found V9"):
        workspace.beats(leads=["II", "V9"])


def test_parts_of_beats_are_those_of_the_whole(workspace):
    lazy, whole = workspace.beats()["waveform"], workspace.beats()["waveform"].values
    last = whole.shape[0] - 1
    np.testing.assert_array_equal(lazy[[last, 0, 40, 40]].values, whole[[last, 0, 40, 40]])
    np.testing.assert_array_equal(lazy[last, ::-2, 5:9].values, whole[last, ::-2, 5:9])
    np.testing.assert_array_equal(lazy.isel(beat=slice(70, 3, -9), sample=[4, 1]).values, whole[70:3:-9][:, :, [4, 1]])


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_batches_are_all_beats_once_in_order_whatever_is_held(workspace, monkeypatch, batch):
    beats, held = workspace.beats(), []
    of_beats = blocks._of_beats
    monkeypatch.setattr(blocks, "POOL_BYTES", 200_000)
    monkeypatch.setattr(blocks, "_of_beats", lambda of, places: held.append(places.size) or of_beats(of, places))
    found = list(workspace.iter_beats(batch))
    assert max(one.sizes["beat"] for one in found) <= batch
    assert max(held) * 4 * 15 * 88 <= max(200_000, batch * 4 * 15 * 88)
    whole = xr.concat(found, "beat")
    np.testing.assert_array_equal(whole["waveform"].values, beats["waveform"].values)
    np.testing.assert_array_equal(whole["record_name"].values, beats["record"].values[beats["record_index"].values])
    label = workspace.records["mi"].to_dict()
    assert [label[name] for name in whole["record_name"].values] == whole["mi"].values.tolist()


def test_batches_of_none_are_refused(workspace):
    with pytest.raises(ValueError, match="at least 1 beat, found 0"):
        next(workspace.iter_beats(0))
    with pytest.raises(ValueError, match="must be 'robust' or 'kachuee', found 'best'"):
        workspace.beats(method="best")
    with pytest.raises(UnfinishedStore, match=r"run `ecgbatch beats .* --method kachuee`"):
        workspace.beats(method="kachuee")


def test_folds_are_those_of_training(nights, workspace, tmp_path):
    table = current_beats(nights.work, {"method": "robust"})
    stores = {f"{nights.work}/beats/{digest}.zarr": rows for digest, rows in current_rows(table).items()}
    for n, seed in ((2, 2018), (2, 7)):
        settings = TrainSettings(n_folds=n, seed=seed)
        prepared = open_prepared(prepare_training(stores, settings, tmp_path)[0], settings)
        trained = dict(zip(prepared.patient_id, prepared.folds[0].tolist(), strict=True))
        folds = workspace.folds(n, seed)
        assert {workspace.records.loc[name, "patient_id"]: fold for name, fold in folds.items() if fold >= 0} == trained
        assert set(folds[folds >= 0]) == set(range(n))
        assert folds[nights.broken] == trained.get(workspace.records.loc[nights.broken, "patient_id"], -1)
    with pytest.raises(ValueError, match=r"found 40 folds, \d and \d such patients"):
        workspace.folds(40)


def test_scores_and_measurements_are_joined_by_name(nights, workspace):
    scores, measurements = workspace.scores, workspace.measurements
    store = open_store(list_stores(nights.work, "scores")[0])
    expected = dict(zip(store["record_name"].values.tolist(), store["mi_probability"].values.tolist(), strict=True))
    assert scores["mi_probability"].to_dict() == pytest.approx(expected, nan_ok=True)
    assert set(scores.index) == set(measurements.index) == set(workspace.records.index)
    assert scores.loc[nights.broken, "decision"] == "not_scorable"
    assert scores.attrs["run"] == store.attrs["digest"]
    assert measurements.loc[list(nights.short), "qrs_ms"].between(60, 200).all()
    assert np.isnan(measurements.loc[nights.broken, "qrs_ms"])
    assert measurements.loc[nights.broken, "qrs_ms_reason"] != "measured"
    assert np.isnan(measurements.loc[nights.faulty, f"r_mv_{FLAT}"])
    assert np.isfinite(measurements.loc[nights.faulty, "r_mv_V5"])


def same(first: ecgbatch.Workspace, second: ecgbatch.Workspace, names: list[str]) -> None:
    """Compare all that two workspaces say of some records, but for where it lies."""
    for table in ("records", "scores", "measurements"):
        mine, other = (getattr(one, table).loc[names] for one in (first, second))
        places = [name for name in mine if name.endswith(("_store", "_row"))]
        pd.testing.assert_frame_equal(mine.drop(columns=places), other.drop(columns=places))
    beats = [one.beats().load() for one in (first, second)]
    for name in names:
        mine, other = (one["waveform"].values[rows_of(one, name)] for one in beats)
        np.testing.assert_array_equal(mine, other)
        if first.records.loc[name, "status"] != "set_aside":
            xr.testing.assert_identical(first.signals(name), second.signals(name))


def test_an_erased_patient_is_in_nothing(workspace, copied):
    who = workspace.records.loc[copied.changed, "patient_id"]
    erase_patient(copied.work, who)
    opened, others = ecgbatch.open_workspace(copied.work), workspace.records.index[workspace.records["patient_id"] != who]
    assert opened.records.index.tolist() == others.tolist()
    same(workspace, opened, others.tolist())
    assert who not in opened.beats()["patient_id"].values
    with pytest.raises(ValueError, match="none named"):
        opened.signals(copied.changed)


def test_a_workspace_travels_to_another_process(workspace):
    assert len(workspace.records) > 0
    travelled = pickle.loads(pickle.dumps(workspace))
    assert len(pickle.dumps(workspace)) < 1000
    pd.testing.assert_frame_equal(travelled.records, workspace.records)


def test_the_view_by_which_plain_xarray_finds_records_is_what_is_said_to_be(nights, workspace):
    view = json.loads(Path(nights.work, "archive.json").read_text())
    assert dict(zip(view["records"], view["stores"], strict=True)) == workspace.records["signals_store"].to_dict()
    assert dict(zip(view["records"], view["rows"], strict=True)) == workspace.records["signals_row"].to_dict()


@pytest.mark.parametrize("commit", ["545c7d7", "5ab64ce"])
def test_workspaces_of_earlier_versions_are_read(tmp_path, commit):
    with tarfile.open(Path(__file__).parents[1] / "frozen" / "workspaces.tar.xz") as frozen:
        frozen.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.4 brought it; the archive is our own
        frozen.extractall(tmp_path, [one for one in frozen if one.name.removeprefix("./").startswith(commit)])
    workspace = ecgbatch.open_workspace(tmp_path / commit)
    assert (workspace.records["n_samples"] == 600).all()
    assert (workspace.records["recording_year"] == -1).all()
    assert np.isfinite(workspace.signals(workspace.records.index[0]).values).all()
    assert workspace.scores.index.tolist() == workspace.records.index.tolist()
    beats = workspace.beats()
    assert beats.sizes["beat"] > 20
    assert 0.3 < float(abs(beats["waveform"]).max()) < 5, "millivolts"
