"""Recordings of one patient beside one another: order, what has changed, and whose pages a new recording makes again."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import numpy as np
import pytest
import xarray as xr

from ecgbatch.beats.lookup import extract_beats
from ecgbatch.beats.record import BeatSettings
from ecgbatch.reports import serial, writing
from ecgbatch.reports.excerpts import Excerpt
from ecgbatch.reports.median_beats import beat_quartiles
from ecgbatch.reports.overlay import MedianBeat, OtherBeats, overlay
from ecgbatch.reports.record_page import Drawn
from ecgbatch.reports.serial import Beside, Series, Source, series_of
from ecgbatch.reports.sources import store_path
from ecgbatch.reports.writing import report_workspace
from ecgbatch.scores.stage import score_workspace
from ecgbatch.signals import table as signals_table
from ecgbatch.signals.stage import convert_archive
from ecgbatch.synthetic.archive import ArchiveShape, write_archive
from ecgbatch.terms import DECISION, LEAD_FLAGS, LEADS
from ecgbatch.upkeep.erase import erase_patient
from ecgbatch.workspace.runs import write_run
from storage import TEXT, Plan, Schema, Shard, Variable, build, folder_at, make_plan, open_store
from tests.reports.report_runs import untrained_model
from tests.reports.test_reports import Page, numbers_of
from tests.workspace.test_privacy import columns_of, texts_of

ROOT = Path(__file__).resolve().parents[2]
WHO = "patient002"
DATES = ["01/10/1990", "04/10/1990", "04/10/1990", "29/09/1991"]
"""Of the patient's four recordings, in order of their names."""


def series(days: list[int], *, patient: list[int] | None = None, names: list[str] | None = None, **values: list[float]) -> Series:
    """Gather recordings of one patient as ``series_of`` does, from days and names alone."""
    n = len(days)
    patient_of, name_of = np.array(patient or [0] * n), np.array(names or [f"r{k:03}" for k in range(n)], TEXT)
    order = np.lexsort((np.unique(name_of, return_inverse=True)[1], np.array(days), np.array(days) < 0, patient_of))
    places = {name: np.array([name] * n, TEXT) for name in ("signals_store", "beats_store")}
    places |= {name: np.arange(n) for name in ("signals_row", "beats_row")}
    table = {"record_name": name_of, "decision": np.full(n, DECISION["mi_indicated"], np.int8), **places}
    known = {name: np.full((n, len(LEADS)) if name in serial.OF_LEADS else n, np.nan, np.float32) for name in serial.COMPARED}
    known |= {name: np.array(value, np.float32) for name, value in values.items()}
    place = np.full(n, -1, np.int32)
    place[order] = np.arange(n)
    return Series(
        order,
        patient_of[order],
        np.array(days, np.int64)[order],
        {name: value[order] for name, value in known.items()},
        table,
        name_of,
        place,
    )


def names_of(told: serial.Serial) -> list[str]:
    return [entry["record_name"] for entry in told.entries]


def drawn_of(told: serial.Serial) -> str:
    return next(entry["record_name"] for entry in told.entries if entry["is_drawn"])


def test_others_are_in_order_of_days_then_names_and_those_of_no_day_last():
    told = series([105, 100, -1, 100, 130], names=["e", "c", "a", "b", "d"]).of(0)
    assert names_of(told) == ["b", "c", "d", "a"]
    assert [entry["days_from_this"] for entry in told.entries] == [-5, -5, 25, None]
    assert drawn_of(told) == "c", "the one before"
    assert told.source.beats_row == 1


def test_the_first_recording_is_drawn_with_the_next_and_of_unknown_order_with_the_nearest_name():
    assert drawn_of(series([100, 107, 103]).of(0)) == "r002"
    told = series([-1, -1, -1]).of(2)
    assert [entry["days_from_this"] for entry in told.entries] == [None, None]
    assert drawn_of(told) == "r001"


def test_of_hundreds_the_nearest_few_are_shown_and_all_are_counted():
    days = [10 * number for number in range(300)]
    many = series(days)
    told = many.of(150)
    assert told.n_others == 299
    assert len(told.entries) == serial.MOST_SHOWN
    assert names_of(told) == [f"r{k}" for k in (147, 148, 149, 151, 152, 153)]
    assert names_of(many.of(0)) == [f"r00{k}" for k in range(1, 7)]
    crowd = series([0, *[100] * 10]).of(1)
    assert "r000" in names_of(crowd), "the one before is shown, however many are nearer"
    assert drawn_of(crowd) == "r000"


def test_days_moved_by_two_keys_are_of_unknown_order():
    told = series([5, 2**40]).of(1)
    assert told.entries[0]["days_from_this"] is None
    assert series([5, 2**40]).changes()["n_pairs"] == 0


def test_differences_are_this_recording_less_the_other_and_of_leads_the_largest():
    st = np.full((2, len(LEADS)), np.nan)
    st[:, :3] = [[0.0, 0.1, 0.2], [0.1, -0.2, 0.25]]
    two = series([0, 12], mi_probability=[0.2, 0.75], heart_rate_bpm=[60.0, 72.4], qrs_ms=[90.0, np.nan], st_60_mv=st.tolist())
    (entry,) = two.of(1).entries
    assert entry["differences"] == {
        "mi_probability": 0.55,
        "heart_rate_bpm": 12.0,
        "qrs_ms": None,
        "qtc_fridericia_ms": None,
        "st_60_mv": -0.3,
        "t_mv": None,
    }
    assert entry["leads"] == {"st_60_mv": "II", "t_mv": ""}
    assert (entry["mi_probability"], entry["qrs_ms"]) == (0.2, 90.0)
    (back,) = two.of(0).entries
    assert back["differences"]["st_60_mv"] == 0.3


def test_largest_changes_are_of_pairs_that_follow_one_another_in_one_patient():
    rates = [60.0, 90.0, 61.0, 10.0, 12.0, 200.0]
    found = series([0, 5, 9, 0, 4, -1], patient=[0, 0, 0, 1, 1, 1], heart_rate_bpm=rates).changes()
    assert (found["n_patients"], found["n_pairs"], found["n_undated"]) == (2, 3, 1)
    told = [
        (one["record_name"], one["earlier_record_name"], one["days"], one["change"]) for one in found["changes"]["heart_rate_bpm"]
    ]
    assert told == [("r001", "r000", 5, 30.0), ("r002", "r001", 4, -29.0), ("r004", "r003", 4, 2.0)]
    assert found["changes"]["t_mv"] == []


def test_what_is_ordinary_is_said_with_the_numbers_measured():
    for words in (
        "95 of 100",
        "4/min",
        "QRS 3 ms",
        "QTc (Fridericia) 10 ms",
        "ST at J+60 0.08 mV",
        "T 0.18 mV",
        "probability 0.034",
    ):
        assert words in serial.ORDINARY


def test_only_what_a_tasks_records_say_travels_to_another_machine():
    many = series(list(range(5000)))
    task = Beside(many, np.array([7, 8]))
    packed = pickle.dumps(task)
    assert pickle.loads(packed) == list(task)
    assert len(packed) < 20_000 < len(pickle.dumps(many))


def beat(leads: tuple[str, ...], height: float) -> MedianBeat:
    level = np.zeros((len(leads), 66), np.float32)
    level[:, 25] = height
    return MedianBeat(leads, level, np.arange(66) / 100 - 0.25)


def test_median_beats_are_drawn_over_one_another_at_one_scale_of_shared_leads_in_millivolts_alone():
    flags = (0, LEAD_FLAGS["not_millivolts"], 0)
    mine = beat(("I", "II", "V1"), 1.0)
    excerpt = Excerpt(np.zeros((3, 1000), np.float32), tuple(mine.leads), flags, 0.0, 100.0)
    drawn = Drawn(excerpt, quartiles=np.stack([mine.level] * 3), sample_time_s=mine.time_s)
    drawings = dict(overlay(drawn, beat(("V1", "II"), 2.0)))
    assert list(drawings) == ["V1"]
    paths = re.findall(r'd="M\d+ (\d+)l([^"]+)" fill="none" stroke="([^"]+)"', drawings["V1"])
    tops = {colour: min(np.cumsum([int(step) for step in re.findall(r"-?\d+", steps)[1::2]])) for _, steps, colour in paths}
    assert tops == {"#c76b00": -2 * 400, "#111": -400}, "40 units to the millimetre, 10 mm to the millivolt"
    assert overlay(drawn, None) == []
    assert overlay(replace(drawn, is_millivolts=False), mine) == []


@pytest.fixture(scope="module")
def nights(tmp_path_factory) -> SimpleNamespace:
    """Two nights of one archive: the second brings one more recording of the patient."""
    top = tmp_path_factory.mktemp("serial")
    archive, work = top / "archive", str(top / "work")
    write_archive(archive, ArchiveShape(n_records=8, duration_s=8.0, sampling_frequency_hz=250.0), seed=5)
    names = (archive / "RECORDS").read_text().split()
    theirs = sorted(name for name in names if name.startswith(WHO))
    assert len(theirs) == len(DATES)
    for name, day in zip(theirs, DATES, strict=True):
        header = archive / f"{name}.hea"
        header.write_text(header.read_text().replace("ECG date: n/a", f"ECG date: {day}"))
    model = untrained_model(top / "model")
    first = night(archive, work, model, [name for name in names if name != theirs[1]])
    second = night(archive, work, model, names)
    return SimpleNamespace(archive=archive, work=work, model=model, names=names, theirs=theirs, said=(first, second))


def night(archive: Path, work: str, model: str, names: list[str]) -> dict[str, Any]:
    (archive / "RECORDS").write_text("\n".join(names) + "\n")
    convert_archive(str(archive), work)
    extract_beats(work, BeatSettings())
    run = score_workspace(work, model)
    write_run(work, run, {})
    real, wrote = writing.write_reports, {}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(writing, "write_reports", lambda *given, **named: wrote.setdefault("counts", real(*given, **named)))
        said = report_workspace(work, run)
    return wrote["counts"] | {"folder": Path(said["reports"]), "run": run}


def documents(folder: Path) -> dict[str, dict]:
    found = [json.loads(path.read_text()) for path in (folder / "records").glob("*.json")]
    return {document["record_name"]: document for document in found}


def test_a_new_recording_remakes_the_pages_of_its_patient_only(nights):
    first, second = nights.said
    assert (first["n_written"], first["n_linked"]) == (7, 0)
    assert (second["n_written"], second["n_linked"], second["n_kept"]) == (4, 4, 0)
    again = night(nights.archive, nights.work, nights.model, nights.names)
    assert (again["n_written"], again["n_linked"], again["n_kept"]) == (0, 0, 8)


def test_a_recording_that_cannot_be_read_is_told_to_its_neighbour_alone(nights, monkeypatch):
    folder = folder_at(nights.work)
    scores = open_store(store_path(folder, "scores", nights.said[1]["run"]))
    columns = (scores[name].values.tolist() for name in Source._fields)
    sources = [Source(*each) for each in zip(*columns, strict=True)][-3:]
    (store,) = {source.beats_store for source in sources}
    whole = OtherBeats(folder, sources)
    levels = [whole.of(source).level for source in sources]
    beats = open_store(store_path(folder, "beats", store))
    first = int(beats["first_beat"][sources[0].beats_row])
    torn, real = beats["waveform"][first].values, beat_quartiles

    def quartiles(waveform: np.ndarray, flags: np.ndarray) -> Any:
        if np.array_equal(waveform[0], torn):
            raise OSError("torn")
        return real(waveform, flags)

    monkeypatch.setattr("ecgbatch.reports.overlay.beat_quartiles", quartiles)
    near = OtherBeats(folder, sources)
    np.testing.assert_array_equal(near.of(sources[1]).level, levels[1])
    with pytest.raises(OSError, match="torn"):
        near.of(sources[0])
    np.testing.assert_array_equal(near.of(sources[2]).level, levels[2])


def test_pages_and_json_tell_others_in_order_with_links_and_no_date(nights):
    folder = nights.said[1]["folder"]
    found, (a, b, c, d) = documents(folder), nights.theirs
    told = {name: [(one["record_name"], one["days_from_this"]) for one in found[name]["serial"]] for name in nights.theirs}
    assert told[a] == [(b, 3), (c, 3), (d, 363)]
    assert told[c] == [(a, -3), (b, 0), (d, 360)]
    assert told[d] == [(a, -363), (b, -360), (c, -360)]
    for name, report in found.items():
        page = Page((folder / "records" / f"{name.replace('/', '__')}.html").read_text())
        links = {attributes.get("href") for tag, attributes in page.tags if tag == "a"}
        assert {one["report"] for one in report["serial"]} <= links
        assert report["n_other_recordings"] == len(report["serial"])
        assert all((folder / "records" / one["report"]).is_file() for one in report["serial"])
        known = numbers_of(report)
        assert {value for value, _ in page.values} <= known | {100 * value for value in known}
    page = Page((folder / "records" / f"{c.replace('/', '__')}.html").read_text())
    for words in ("3 days before", "the same day", "360 days after", "Other recordings of this patient: 3"):
        assert words in page.text
    assert [tag for tag, attributes in page.tags if "this recording dark" in (attributes.get("aria-label") or "")]
    years = ("1990", "1991", "/10/", "29/09")
    for path in folder.rglob("*"):
        if path.suffix in (".html", ".json", ".csv"):
            words = re.sub(r"<svg.*?</svg>|[0-9a-f]{20,}|\d\.\d+", "", path.read_text(), flags=re.S)
            assert not [year for year in years if year in words and path.parent.name == "records"], path


def test_the_cohort_lists_the_largest_changes_with_links(nights):
    folder = nights.said[1]["folder"]
    cohort = json.loads((folder / "cohort.json").read_text())
    schema = json.loads((ROOT / "docs" / "schema" / "cohort.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(cohort)
    found = cohort["largest_changes"]
    assert found["n_pairs"] == 3
    assert found["changes"]["heart_rate_bpm"]
    page = Page((folder / "cohort.html").read_text())
    links = {attributes.get("href") for tag, attributes in page.tags if tag == "a"}
    for pairs in found["changes"].values():
        assert {one["report"] for one in pairs} <= links
        assert all(one["record_name"] in nights.theirs for one in pairs)
        sizes = [abs(one["change"]) for one in pairs]
        assert sizes == sorted(sizes, reverse=True)


def test_with_pseudonyms_names_days_and_links_are_theirs(nights, tmp_path):
    work = shutil.copytree(nights.work, tmp_path / "w", symlinks=True)
    said = report_workspace(str(work), nights.said[1]["run"], pseudonymise=True)
    found = documents(Path(said["reports"]))
    assert 363 in {one["days_from_this"] for report in found.values() for one in report["serial"]}
    assert all(one["record_name"].startswith("r-") for report in found.values() for one in report["serial"])
    assert WHO not in texts_of(Path(said["reports"]))


def test_an_erased_patient_leaves_neither_days_nor_changes(nights, tmp_path):
    work = Path(shutil.copytree(nights.work, tmp_path / "w", symlinks=True))
    erase_patient(str(work), WHO)
    assert WHO not in texts_of(work) + columns_of(work)
    folder = (work / "reports" / "latest").resolve()
    assert {one["days_from_this"] for report in documents(folder).values() for one in report["serial"]} <= {None}
    days = [day for path in (work / "signals").glob("*.zarr") for day in open_store(path)["acquired_day"].values]
    assert set(map(int, days)) == {-1}
    assert json.loads((folder / "cohort.json").read_text())["largest_changes"]["n_pairs"] == 0


def test_recordings_of_earlier_stores_are_listed_and_their_order_is_said_to_be_unknown(nights, tmp_path, monkeypatch):
    without = {name: variable for name, variable in signals_table.SIGNALS.variables.items() if name != "acquired_day"}
    work = str(tmp_path / "w")
    with monkeypatch.context() as earlier:
        earlier.setattr(signals_table, "SIGNALS", replace(signals_table.SIGNALS, variables=without))
        convert_archive(str(nights.archive), work)
    said = night(nights.archive, work, nights.model, nights.names)
    found = documents(said["folder"])
    (a, *others) = nights.theirs
    assert [(one["record_name"], one["days_from_this"]) for one in found[a]["serial"]] == [(name, None) for name in others]
    text = Page((said["folder"] / "records" / f"{a.replace('/', '__')}.html").read_text()).text
    assert "The order of these recordings is not known" in text


MEASURED = Schema(
    "measurements",
    1,
    "record",
    "as far as series ask",
    {
        "lead": Variable(("lead",), "string", "lead", ""),
        "qrs_ms": Variable(("record",), "float32", "QRS", "ms"),
        "st_60_mv": Variable(("record", "lead"), "float32", "ST", "mV"),
        "none": Variable(("record",), "int8", "nothing", "1", bulk=True),
    },
)


def produce(shard: Shard, _rows: xr.Dataset) -> xr.Dataset:
    rows = np.arange(shard.start, shard.stop)
    level = np.stack([rows * 0.01, rows * 0.1], axis=1).astype(np.float32)
    columns = {"qrs_ms": ("record", (90 + rows).astype(np.float32)), "none": ("record", rows.astype(np.int8))}
    return xr.Dataset(columns | {"st_60_mv": (("record", "lead"), level)})


def test_measurements_are_taken_from_the_store_that_the_scores_name(nights, tmp_path):
    work = str(shutil.copytree(nights.work, tmp_path / "w", symlinks=True))
    scores = open_store(f"{work}/scores/{nights.said[1]['run']}.zarr").load()
    scores = scores.drop_vars("measurements_store", errors="ignore")
    leads = xr.Dataset({"lead": ("lead", np.array(["odd", "V2"], TEXT))})
    plan: Plan = make_plan(MEASURED, sizes={"record": 64, "lead": 2}, inputs=leads, settings={})
    digest = Path(build(work, plan, produce)).stem
    slugs = scores["record_name"].values
    named = np.full(scores.sizes["record"], digest, TEXT)
    found = series_of(work, scores.assign(measurements_store=("record", named)), slugs)
    names, rows = scores["record_name"].values.tolist(), scores["beats_row"].values.tolist()
    a, d = (names.index(name) for name in (nights.theirs[0], nights.theirs[3]))
    entry = found.of(d).entries[0]
    assert entry["record_name"] == nights.theirs[0]
    assert entry["differences"]["qrs_ms"] == rows[d] - rows[a]
    assert entry["differences"]["st_60_mv"] == pytest.approx(0.1 * (rows[d] - rows[a]), abs=1e-9)
    assert entry["leads"]["st_60_mv"] == ("V2" if rows[d] != rows[a] else entry["leads"]["st_60_mv"])
    assert entry["differences"]["t_mv"] is None
    assert series_of(work, scores, slugs).of(d).entries[0]["differences"]["qrs_ms"] is None
