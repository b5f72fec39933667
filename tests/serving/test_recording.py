"""The viewer's data: tiles are the store's samples, no extreme is lost, missing stays missing, and bad addresses are refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Thread

import httpx
import numpy as np
import pytest

from benchmarks.speed.viewer import places, served, viewer_app
from ecgbatch.beats.lookup import extract_beats
from ecgbatch.beats.record import BeatSettings
from ecgbatch.serving.filters import FILTERS, filters_for
from ecgbatch.serving.recording import (
    Kept,
    Place,
    describe,
    draw_median_beats,
    place_of,
    read_beats,
    read_recording,
    read_samples,
)
from ecgbatch.serving.tiles import STRIDES, TILE_BINS, TILE_SAMPLES, NoSuchTile, extremes, levels_of, read_tile
from ecgbatch.signals.stage import convert_archive
from ecgbatch.terms import BEAT_FLAGS, LEADS, MISSING_SAMPLE
from storage import open_store
from tests.reports.report_runs import LEAD
from tests.serving.viewer_runs import BASELINE, GAIN, converted, heart, write_wfdb
from tests.storage.test_bucket import s3, s3_port  # noqa: F401 - fixtures

FS = 500.0
N_LONG = 300_001  # ten minutes and a sample: three blocks of the store, the last tile of each level is not full


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> str:
    """Ten minutes of twelve leads, with a gap in V2 and one spike in V5; and a short record."""
    long = heart(N_LONG, FS)
    long[100_000:140_000, 7] = MISSING_SAMPLE
    long[222_222, 10] = 20_000
    return converted(tmp_path_factory.mktemp("viewer"), {"long": (long, FS), "short": (heart(1000, 100.0), 100.0)})


@pytest.fixture(scope="module")
def long(work):
    return read_recording(places(work)["long"])


@pytest.fixture(scope="module")
def stored(work, long) -> np.ndarray:
    store = open_store(Path(work) / "signals" / f"{long.place.signals_store}.zarr")
    return store["signal"].variable[long.place.signals_row].values[:, :N_LONG]


def whole_level(recording, level: int, **options) -> np.ndarray:
    kept = Kept()
    return np.concatenate([read_tile(recording, level, k, kept, **options) for k in range(n_tiles(recording, level))], axis=1)


def n_tiles(recording, level: int) -> int:
    return levels_of(recording.n_samples)[level].n_tiles


def test_tiles_of_level_0_are_the_samples_of_the_store(long, stored):
    assert stored.shape == (12, N_LONG)
    assert (whole_level(long, 0) == stored).all()


@pytest.mark.parametrize("level", range(1, len(STRIDES)))
def test_every_level_holds_the_extremes_of_every_bin_and_missing_where_all_is_missing(long, stored, level):
    stride = STRIDES[level]
    found = whole_level(long, level)
    assert found.shape == (12, -(-N_LONG // stride), 2)
    wanted = np.ma.masked_equal(np.pad(stored, ((0, 0), (0, -N_LONG % stride)), constant_values=MISSING_SAMPLE), MISSING_SAMPLE)
    bins = wanted.reshape(12, -1, stride)
    assert (found[..., 0] == bins.min(axis=2).filled(MISSING_SAMPLE)).all()
    assert (found[..., 1] == bins.max(axis=2).filled(MISSING_SAMPLE)).all()
    assert found[10, 222_222 // stride, 1] == 20_000
    assert (found[7, 120_000 // stride] == MISSING_SAMPLE).all()
    assert (found[6] != MISSING_SAMPLE).all()


def test_a_tile_is_made_of_few_samples_and_the_coarsest_level_fits_on_a_screen():
    assert [level.n_tiles for level in levels_of(900_000)] == [220, 220, 55, 14, 4, 1]
    for n_samples in (1, 4096, 900_000, 256_000_000):
        levels = levels_of(n_samples)
        assert all(level.stride * level.n_bins <= 1_048_576 for level in levels)
        assert all((level.n_tiles - 1) * level.stride * level.n_bins < n_samples for level in levels)
        assert all(level.n_tiles * level.stride * level.n_bins >= n_samples for level in levels)
    assert levels_of(0) == []


def test_extremes_of_a_bin_that_is_missing_in_part_are_those_of_the_rest():
    steps = np.array([[5, MISSING_SAMPLE, -7, 2, MISSING_SAMPLE, MISSING_SAMPLE, MISSING_SAMPLE, MISSING_SAMPLE, 3]], np.int16)
    assert extremes(steps, 4).tolist() == [[[-7, 5], [MISSING_SAMPLE, MISSING_SAMPLE], [3, 3]]]


def test_samples_across_blocks_are_those_of_the_store_and_are_cut_to_the_record(long, stored):
    for first, stop in ((131_000, 131_200), (0, 300_001), (262_143, 262_145), (-5, 10), (300_000, 400_000)):
        found = read_samples(long, first, stop, Kept())
        assert (found == stored[:, max(first, 0) : stop]).all()
    assert read_samples(long, 10, 10, Kept()).shape == (12, 0)


@pytest.mark.parametrize(
    ("level", "number", "name"),
    [(-1, 0, "none"), (6, 0, "none"), (0, 74, "none"), (0, -1, "none"), (0, 10**30, "none"), (0, 0, "sharpen"), (0, 0, "../x")],
)
def test_tiles_that_do_not_exist_are_refused(long, level, number, name):
    with pytest.raises(NoSuchTile, match=r"no (tile|filter)"):
        read_tile(long, level, number, Kept(), filter_name=name)


def test_kept_blocks_stay_below_their_bytes_and_are_made_once_for_all_who_ask():
    kept, made = Kept(1000), []

    def make(number: int) -> np.ndarray:
        made.append(number)
        return np.zeros(200, np.int16)

    askers = [Thread(target=lambda: kept.get(0, lambda: make(0))) for _ in range(8)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert made == [0]
    for number in (1, 2):
        kept.get(number, lambda number=number: make(number))
    kept.get(2, lambda: make(2))
    assert made == [0, 1, 2]
    kept.get(0, lambda: make(0))  # 400 bytes each: the first had to go
    assert made == [0, 1, 2, 0]


@pytest.mark.parametrize("name", [name for name in FILTERS if name != "none"])
def test_filters_take_wander_out_shift_nothing_and_do_not_depend_on_the_tile(tmp_path, name):
    time_s = np.arange(60_000) / FS
    from_r = (time_s % 1.0) - 0.5
    waves = np.exp(-0.5 * (from_r / 0.02) ** 2)
    clean = np.repeat((waves * GAIN + BASELINE)[:, None], 12, axis=1)
    signal = clean + 0.8 * GAIN * np.sin(2 * np.pi * 0.1 * time_s)[:, None]
    signal[20_000:21_000, 3] = MISSING_SAMPLE
    work = converted(tmp_path, {"wander": (np.rint(signal).astype(np.int16), FS)})
    recording = read_recording(places(work)["wander"])
    found = whole_level(recording, 0, filter_name=name)
    missing = np.zeros(60_000, bool)
    missing[20_000:21_000] = True
    assert (found[3] == MISSING_SAMPLE).tolist() == missing.tolist()
    middle = slice(30_000, 50_000)
    level = np.median(found[0, middle])
    assert np.abs(found[0, middle] - level - (clean[middle, 0] - BASELINE)).max() < 0.12 * GAIN
    beats = found[0, 30_000:50_000].reshape(40, 500)
    assert set(beats.argmax(axis=1).tolist()) <= {249, 250, 251}
    whole = read_tile(recording, 2, 3, Kept(), filter_name=name)[0]
    assert (whole == extremes(found[:, 3 * 16 * 1024 :], 16)[0, : whole.shape[0]]).all()


def test_a_slow_recording_has_no_filter_at_40_hz(work):
    assert list(filters_for(500.0)) == ["none", "wander", "monitor"]
    assert list(filters_for(100.0)) == ["none", "wander"]
    with pytest.raises(NoSuchTile, match="no filter"):
        read_tile(read_recording(places(work)["short"]), 0, 0, Kept(), filter_name="monitor")


def test_what_a_viewer_is_told_of_leads_whose_units_are_unknown(tmp_path):
    write_wfdb(tmp_path / "archive", "odd", heart(5000, FS), fs=FS, units="NU")
    work = str(tmp_path / "work")
    convert_archive(str(tmp_path / "archive"), work)
    (place,) = places(work).values()
    told = describe(read_recording(place))
    assert [lead["name"] for lead in told["leads"]] == list(LEADS[:12])
    assert {lead["gain"] for lead in told["leads"]} == {None}
    assert all("not millivolts" in " ".join(lead["remarks"]) for lead in told["leads"])


@contextmanager
def client_of(found: str | dict[str, Place]) -> Iterator[httpx.Client]:
    """Ask a server of these places, or of a workspace's."""
    app = viewer_app(places(found) if isinstance(found, str) else found)
    with served(app) as address, httpx.Client(base_url=address, trust_env=False, timeout=180) as client:
        yield client


@pytest.fixture(scope="module")
def client(work) -> Iterator[httpx.Client]:
    with client_of(work) as found:
        yield found


def test_beats_and_probabilities_are_those_of_the_report(ran):
    scores = ran.scores
    for name in ran.names:
        row = scores["record_name"].values.tolist().index(name)
        report = ran.records[name]
        recording = read_recording(place_of(ran.work, ran.run, row, name))
        told, beats = describe(recording), read_beats(recording)
        assert told["status"] == report["status"]
        assert [lead["name"] for lead in told["leads"]] == [
            lead for lead, flags in report["leads"].items() if "missing" not in flags
        ]
        assert [round(sample / 500.0, 4) for sample in beats["r_sample"]] == report["beats"]["time_s"]
        assert beats["probability"] == report["beats"]["probability"]
        assert beats["words"] == {str(bit): word for word, bit in BEAT_FLAGS.items()}
        if report["mi_probability"] is not None:
            assert told["threshold"] == report["operating_point"]["threshold"]
            assert [lead for lead, _, _ in draw_median_beats(recording).drawings][:3] == ["I", "II", "III"]
        hidden = read_recording(place_of(ran.work, ran.run, row, name, is_hidden=True))
        assert set(read_beats(hidden)["probability"]) <= {None}
        assert describe(hidden)["threshold"] is None


def test_a_record_that_is_set_aside_has_a_page_a_reason_and_no_tile(ran):
    key = ran.slugs[ran.broken]
    with client_of(ran.work) as client:
        assert client.get(f"/record/{key}/ecg").status_code == 200
        told = client.get(f"/record/{key}/ecg/meta").json()
        assert (told["status"], told["n_samples"], told["leads"], told["tiles"]["levels"]) == ("set_aside", 0, [], [])
        assert told["why"]
        assert ran.broken not in told["why"]
        assert client.get(f"/record/{key}/ecg/tiles/{told['tiles']['version']}/none/0/0").status_code == 404
        assert client.get(f"/record/{key}/ecg/beats").json()["r_sample"] == []
        assert client.get(f"/record/{key}/ecg/median").status_code == 200


def test_names_from_the_archive_are_text_on_every_page(ran):
    place = replace(places(ran.work)[ran.slugs[ran.evil]], shown_name="<b onclick=x>'\"&")
    with client_of({"evil": place}) as client:
        for page in ("ecg", "ecg/median"):
            answer = client.get(f"/record/evil/{page}")
            assert answer.status_code == 200
            assert "<b onclick" not in answer.text
            assert LEAD not in answer.text
            assert answer.headers["content-security-policy"].startswith(
                "default-src 'none'; script-src 'self'; style-src 'self';"
            )
            assert " style=" not in answer.text
            assert "<script>" not in answer.text
        assert LEAD in [lead["name"] for lead in client.get("/record/evil/ecg/meta").json()["leads"]]


def test_tiles_travel_as_little_endian_int16_and_are_kept_by_no_browser(client, long, stored):
    version = client.get("/record/long/ecg/meta").json()["tiles"]["version"]
    assert long.place.signals_store in version
    answer = client.get(f"/record/long/ecg/tiles/{version}/none/0/1")
    assert answer.headers["cache-control"] == "no-store"
    found = np.frombuffer(answer.content, "<i2").reshape(12, TILE_SAMPLES)
    assert (found == stored[:, TILE_SAMPLES : 2 * TILE_SAMPLES]).all()
    assert len(client.get(f"/record/long/ecg/tiles/{version}/none/3/0").content) == 12 * TILE_BINS * 2 * 2


@pytest.mark.parametrize(
    "address",
    [
        "long/ecg/tiles/VERSION/none/9/0",
        "long/ecg/tiles/VERSION/none/0/74",
        "long/ecg/tiles/VERSION/none/0/99999999999999999999999",
        "long/ecg/tiles/VERSION/none/0/-1",
        "long/ecg/tiles/VERSION/none/a/0",
        "long/ecg/tiles/VERSION/none/0/0.5",
        "long/ecg/tiles/VERSION/sharpen/0/0",
        "long/ecg/tiles/VERSION/%2e%2e%2fx/0/0",
        "long/ecg/tiles/other/none/0/0",
        "nobody/ecg",
        "nobody/ecg/meta",
        "%2e%2e%2f%2e%2e%2fetc/ecg",
        "..%5c..%5cetc/ecg/beats",
        "%00/ecg/meta",
    ],
)
def test_addresses_of_nothing_are_not_found_and_say_no_path(client, work, address):
    version = client.get("/record/long/ecg/meta").json()["tiles"]["version"]
    answer = client.get(f"/record/{address.replace('VERSION', version)}")
    assert answer.status_code == 404
    assert work not in answer.text
    assert "Traceback" not in answer.text


def test_a_damaged_store_is_said_without_its_path_and_with_it_in_the_log(tmp_path, caplog):
    work = converted(tmp_path, {"one": (heart(5000, FS), FS)})
    (shard,) = Path(work).glob("signals/*.zarr/signal/c/0/0/0")
    with client_of(work) as client:
        version = client.get("/record/one/ecg/meta").json()["tiles"]["version"]
        shard.write_bytes(shard.read_bytes()[:-9])
        answer = client.get(f"/record/one/ecg/tiles/{version}/none/0/0")
    assert answer.status_code == 503
    assert "cannot be read now" in answer.json()["detail"]
    assert work not in answer.text
    assert work in caplog.text


def test_looking_writes_nothing(client, work):
    before = {path: path.stat().st_mtime_ns for path in sorted(Path(work).rglob("*"))}
    told = client.get("/record/long/ecg/meta").json()
    for page in ("ecg", "ecg/median", "ecg/beats", f"ecg/tiles/{told['tiles']['version']}/monitor/5/0"):
        assert client.get(f"/record/long/{page}").status_code == 200
    assert {path: path.stat().st_mtime_ns for path in sorted(Path(work).rglob("*"))} == before
    assert json.dumps(told)


def test_a_workspace_in_a_bucket_is_looked_at_like_one_on_a_disk(s3, tmp_path):  # noqa: F811
    signal = heart(10_000, FS, seed=5)
    write_wfdb(tmp_path / "archive", "far", signal, fs=FS)
    work = "s3://ecg/work"
    convert_archive(str(tmp_path / "archive"), work)
    extract_beats(work, BeatSettings())
    recording = read_recording(places(work)["far"])
    assert (whole_level(recording, 0) == signal.T).all()
    assert (whole_level(recording, 2) == extremes(signal.T, 16)).all()
    assert len(read_beats(recording)["r_sample"]) >= 20
    assert len(draw_median_beats(recording).drawings) == 12
