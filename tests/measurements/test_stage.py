"""Measurements of a workspace: a row a record, the same bytes on any engine and after any stop, and what cannot be says why."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from ecgbatch import cli
from ecgbatch.beats.lookup import current_beats, extract_beats
from ecgbatch.beats.record import BeatSettings
from ecgbatch.cli.exit_codes import OK, SET_ASIDE
from ecgbatch.measurements import stage
from ecgbatch.measurements.document import document
from ecgbatch.measurements.lookup import current_measurements, measure_workspace
from ecgbatch.measurements.quantities import LEAD_QUANTITIES, QUANTITIES, REASON_WORDS, REASONS
from ecgbatch.measurements.record import nothing_measured
from ecgbatch.measurements.stage import MEASUREMENTS, SHARD_SIGNAL_BYTES, measured_of, plan_measurements
from ecgbatch.signals.lookup import signals_path
from ecgbatch.signals.stage import convert_archive
from ecgbatch.synthetic.archive import ArchiveShape, write_archive
from ecgbatch.terms import STATUS
from ecgbatch.upkeep.upgrades import made_again
from flows.cluster import engine
from storage import StoreError, UnfinishedStore, list_stores, open_store, schema_of, verify_store
from tests.storage.test_storage import tree_digest

SETTINGS = BeatSettings()
MEASURE = partial(measure_workspace, beat_settings=SETTINGS.document())


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """A workspace with beats of six records of 14 s; one is broken, one lacks leads."""
    top = tmp_path_factory.mktemp("measured")
    archive, work = top / "archive", top / "work"
    write_archive(archive, ArchiveShape(n_records=6, duration_s=14.0, sampling_frequency_hz=500.0), seed=4)
    names = (archive / "RECORDS").read_text().split()
    data = archive / f"{names[1]}.dat"
    data.write_bytes(data.read_bytes()[:-7])
    (archive / f"{names[3]}.xyz").unlink()
    convert_archive(str(archive), str(work))
    extract_beats(str(work), SETTINGS)
    return work


@pytest.fixture(scope="module")
def measured(prepared, tmp_path_factory) -> Path:
    work = Path(shutil.copytree(prepared, tmp_path_factory.mktemp("whole") / "w"))
    MEASURE(str(work))
    return work


@pytest.fixture
def work(prepared, tmp_path) -> Path:
    return Path(shutil.copytree(prepared, tmp_path / "w"))


@pytest.fixture
def small_shards(monkeypatch):
    """Six shards, each of one record."""
    monkeypatch.setattr(stage, "SHARD_SIGNAL_BYTES", SHARD_SIGNAL_BYTES // 1000)


def store_of(work: Path):
    (path,) = list_stores(work, "measurements")
    return open_store(path).load()


def test_every_record_has_a_row_and_each_value_or_a_reason(measured):
    store = store_of(measured)
    (signals,) = list_stores(measured, "signals")
    signals = open_store(signals)
    for name in ("record_name", "patient_id", "status"):
        assert store[name].values.tolist() == signals[name].values.tolist()
    for name, quantity in QUANTITIES.items():
        np.testing.assert_array_equal(np.isfinite(store[name].values), store[f"{name}_reason"].values == REASONS["measured"])
        assert store[name].attrs["units"] == quantity.unit
    usable = store["status"].values != STATUS["set_aside"]
    assert np.isfinite(store["qrs_ms"].values[usable]).all()
    assert (store["n_beats_measured"].values[usable] > 5).all()
    assert (store["excerpt_length_s"].values[usable] == 10).all()
    assert np.isfinite(store["st_60_mv"].values[usable][:, :12]).all()
    assert verify_store(list_stores(measured, "measurements")[0], read_data=True) == []


def test_a_record_set_aside_has_a_row_that_says_nothing(measured):
    store = store_of(measured)
    (row,) = np.flatnonzero(store["status"].values == STATUS["set_aside"]).tolist()
    assert {int(store[f"{name}_reason"].values[row]) for name in QUANTITIES} == {REASONS["absent"]}
    assert np.isnan([store[name].values[row] for name in (*QUANTITIES, "excerpt_start_s", "irregularity")]).all()
    assert np.isnan([store[name].values[row] for name in LEAD_QUANTITIES]).all()
    partial_row = store["lead_reason"].values[np.flatnonzero(store["status"].values == STATUS["partial"])[0]]
    assert (partial_row[-3:] == REASONS["absent"]).all()
    assert (partial_row[:12] == 0).all()


def test_what_is_measured_comes_back_from_its_row(measured):
    store = store_of(measured)
    row = {name: variable.values[0] for name, variable in store.variables.items() if variable.dims[0] == "record"}
    found = measured_of(row)
    told = document(found, store["lead"].values.tolist())
    for name, quantity in QUANTITIES.items():
        assert told[name] == {
            "value": None if np.isnan(row[name]) else float(str(row[name])),
            "reason": REASON_WORDS[next(word for word, code in REASONS.items() if code == row[f"{name}_reason"])],
        }
        assert np.isnan(row[name]) or round(told[name]["value"], quantity.digits) == told[name]["value"]
    assert told["st_60_mv"]["V2"]["value"] == told["leads"]["V2"]["st_60_mv"] == float(str(row["st_60_mv"][7]))


def test_any_engine_gives_the_same_bytes(measured, work, dask_address, small_shards):
    MEASURE(str(work))
    wanted = tree_digest(work / "measurements")
    assert schema_of(store_of(work)) == MEASUREMENTS
    with engine(dask_address) as cluster, engine(workers=2) as threads:
        for map_ in (cluster, threads):
            shutil.rmtree(work / "measurements")
            MEASURE(str(work), map=map_)
            assert tree_digest(work / "measurements") == wanted
    whole = store_of(measured)
    assert whole.identical(store_of(work).assign_attrs(whole.attrs)), "the cut changes no number"


def test_a_measuring_that_was_stopped_goes_on_to_the_same_bytes(work, small_shards, monkeypatch):
    MEASURE(str(work))
    wanted = tree_digest(work / "measurements")
    shutil.rmtree(work / "measurements")
    n_done = []

    def stopped(function, tasks):
        for task in tasks:
            if len(n_done) == 3:
                raise KeyboardInterrupt
            n_done.append(function(task))
            yield n_done[-1]

    with pytest.raises(KeyboardInterrupt):
        MEASURE(str(work), map=stopped)
    assert list_stores(work, "measurements") == []
    again = []
    MEASURE(str(work), map=lambda function, tasks: [again.append(task[0].index) or function(task) for task in tasks])
    assert tree_digest(work / "measurements") == wanted
    assert len(again) == 3
    MEASURE(str(work), map=lambda *_: pytest.fail("all is done"))


def test_a_long_record_is_read_around_its_excerpt_alone_with_the_same_numbers(measured, work, monkeypatch):
    monkeypatch.setattr(stage, "_CHUNK_SAMPLES", 1000)
    MEASURE(str(work))
    assert tree_digest(work / "measurements") == tree_digest(measured / "measurements")


def test_a_bug_in_measuring_stops_the_stage_and_names_the_shard(work, monkeypatch):
    def broken(*_args, **_options):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(stage, "_block", broken)  # of all rows: what one record breaks is its own reason
    with pytest.raises(StoreError, match=r"measurements shard 0 .*ZeroDivisionError: a bug"):
        MEASURE(str(work))
    assert list_stores(work, "measurements") == []


def test_another_version_of_measuring_makes_another_store_and_says_so_before(measured, tmp_path, monkeypatch):
    work = str(shutil.copytree(measured, tmp_path / "w"))
    records = current_beats(work, SETTINGS.document(), ["status"])
    before = current_measurements(work, records)
    assert made_again(work, measure=True) == {}
    monkeypatch.setattr(stage, "VERSION", stage.VERSION + 1)
    again = made_again(work, measure=True)["measurements"]
    assert again == {"n": 1, "because": [f"version {stage.VERSION - 1} -> {stage.VERSION}"]}
    with pytest.raises(UnfinishedStore, match="run `ecgbatch measure"):
        current_measurements(work, records)
    MEASURE(work)
    now = current_measurements(work, records)
    assert set(now["measurements_store"].values).isdisjoint(before["measurements_store"].values)
    assert len(list_stores(work, "measurements")) == 2
    assert made_again(work, measure=True) == {}


def test_a_plan_names_the_stores_that_it_is_of(measured):
    store, beats = store_of(measured), open_store(list_stores(measured, "beats")[0])
    signals = open_store(signals_path(str(measured), store.attrs["settings"]["signals"]))
    assert plan_measurements(signals, beats).digest == store.attrs["digest"]
    assert store.attrs["settings"]["beats"] == beats.attrs["digest"]


def test_the_command_measures_and_its_dry_run_writes_nothing(work, capsys):
    for options, is_there in ((["--dry-run"], False), ([], True)):
        with pytest.raises(SystemExit) as ended:
            cli.main(["measure", str(work), "--workers", "1", "--json", *options])
        assert ended.value.code == (SET_ASIDE if is_there else OK)
        assert bool(list_stores(work, "measurements")) is is_there
        told = capsys.readouterr().out
        assert ('"n_with_qrs": 5' in told) is is_there
        assert ('"measure"' in told) is not is_there


def test_nothing_measured_has_the_shape_of_a_row():
    nothing = nothing_measured(3, "no_beats")
    told = document(nothing, ("I", "II", "V1"))
    assert {told[name]["reason"] for name in QUANTITIES} == {REASON_WORDS["no_beats"]} == {told["leads"]["II"]["reason"]}
