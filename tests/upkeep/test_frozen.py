"""Stores of earlier versions are still read, verified, moved and gone on with; what an upgrade makes again is said before."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from ecgbatch import cli
from ecgbatch.archive.watch import LookOptions
from ecgbatch.beats.record import BeatSettings
from ecgbatch.measurements.lookup import measure_workspace
from ecgbatch.measurements.quantities import QUANTITIES
from ecgbatch.model.files import load_model, shipped_model
from ecgbatch.reports.operating_point import model_summary
from ecgbatch.reports.record import Edition
from ecgbatch.reports.writing import write_reports
from ecgbatch.scores.table import SCORES
from ecgbatch.signals.lookup import current_records
from ecgbatch.signals.stage import convert_archive
from ecgbatch.upkeep import upgrades
from ecgbatch.upkeep.compact import KINDS
from ecgbatch.upkeep.erase import erase_patient
from ecgbatch.upkeep.upgrades import made_again, sentences
from ecgbatch.workspace.runs import latest_run
from storage import algorithm_of, list_stores, open_store, verify_store
from tests.storage.test_storage import tree_digest

FROZEN = Path(__file__).parents[1] / "frozen" / "workspaces.tar.xz"
VERSIONS = {"545c7d7": 1, "5ab64ce": 2}
"""Commit, and its schema version of scores."""
SETTINGS = dict(load_model(shipped_model()).beats)


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory) -> Path:
    top = tmp_path_factory.mktemp("frozen")
    with tarfile.open(FROZEN) as packed:
        packed.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.4 brought it; the archive is our own
        packed.extractall(top)
    return top


@pytest.fixture(params=VERSIONS)
def work(request, unpacked, tmp_path) -> Path:
    return Path(shutil.copytree(unpacked / request.param, tmp_path / request.param))


def scores_of(work: Path) -> dict[str, float]:
    scores = open_store(work / "scores" / f"{latest_run(str(work))}.zarr")
    return dict(zip(scores["record_name"].values.tolist(), scores["mi_probability"].values.tolist(), strict=True))


def test_every_store_of_an_earlier_version_is_read_and_proves_itself(work):
    for kind in (kind for kind in KINDS if kind != "measurements"):  # which came later
        (path,) = list_stores(work, kind)
        assert verify_store(path, read_data=True) == []
        store = open_store(path)
        assert all(store[name].values.shape == store[name].shape for name in store.variables)
    assert store.attrs["schema_version"] == VERSIONS[work.name] <= SCORES.version
    assert np.isfinite(list(scores_of(work).values())).all()
    records = current_records(str(work))
    assert records.sizes["record"] == 5
    assert (records["recording_year"].values == -1).all()


def test_an_earlier_versions_workspace_goes_on_without_converting_anew(unpacked, work):
    done = convert_archive(str(unpacked / "archive"), str(work))
    assert (done.n_records, done.n_new, done.superseded) == (5, 0, ())


def test_content_is_compared_by_the_algorithm_of_the_earlier_version(unpacked, work, tmp_path):
    """Digests of another kind always differ: every record would seem changed, and be converted and scored again."""
    archive = Path(shutil.copytree(unpacked / "archive", tmp_path / "archive"))
    done = convert_archive(str(archive), str(work), LookOptions(rehash=True))
    assert (done.n_records, done.n_new, done.superseded) == (5, 0, ())
    before = current_records(str(work))
    assert {algorithm_of(digest) for digest in before["source_digest"].values.tolist()} == {"sha256"}
    name = before["record_name"].values.tolist()[1]
    signal = archive / f"{name}.dat"
    signal.write_bytes(signal.read_bytes()[:-2] + b"\x01\x00")
    done = convert_archive(str(archive), str(work), LookOptions(rehash=True))
    assert (done.n_new, done.superseded) == (1, (name,))
    assert convert_archive(str(archive), str(work), LookOptions(rehash=True)).n_new == 0


def test_an_earlier_versions_scores_are_reported_with_what_a_store_would_say_of_their_measurements(work, tmp_path):
    run = latest_run(str(work))
    before = tree_digest(work / "scores" / f"{run}.zarr")
    model = {"name": "earlier", "digest": open_store(list_stores(work, "scores")[0]).attrs["settings"]["model"]["digest"]}
    told = write_reports(str(work), run, Edition(model_summary(model), "", "synthetic"))
    documents = [json.loads(path.read_text()) for path in sorted(Path(told["folder"], "records").glob("*.json"))]
    measured = open_store(measure_workspace(str(work), SETTINGS).stores[0])
    names = measured["record_name"].values.tolist()
    for report in documents:
        assert report["provenance"]["measurements_store"] == ""
        for name in QUANTITIES:
            known, value = report["measurements"][name]["value"], measured[name].values[names.index(report["record_name"])]
            assert np.array_equal(np.float32(np.nan if known is None else known), value, equal_nan=True)
    assert len(documents) == 5
    assert tree_digest(work / "scores" / f"{run}.zarr") == before


def test_a_patient_is_erased_from_an_earlier_versions_workspace(work):
    before = scores_of(work)
    erase_patient(str(work), "patient001")
    assert [verify_store(path, read_data=True) for kind in KINDS for path in list_stores(work, kind)] == [[]] * 4
    assert open_store(list_stores(work, "scores")[0]).attrs["schema_version"] == VERSIONS[work.name]
    name = "patient002/s0005syn"
    assert scores_of(work) == {name: before[name]}


def test_what_an_upgrade_makes_again_is_said_with_its_reason(unpacked, work):
    again = made_again(str(work), beats=SETTINGS, archive=True)
    assert again.get("headers", {"n": 5})["n"] == 5
    if work.name == "545c7d7":  # before the beat rules were fitted anew
        assert (again["peaks"]["n"], again["beats"]["n"]) == (1, 1)
        assert "rules differs" in again["peaks"]["because"]
        assert any("1 store(s) of peaks will be built again because" in one for one in sentences(again))
    convert_archive(str(unpacked / "archive"), str(work))
    assert "headers" not in made_again(str(work), archive=True), "once is enough"


def test_what_will_be_made_again_is_what_the_stage_then_makes(unpacked, work):
    from ecgbatch.beats.lookup import extract_beats

    archive = str(unpacked / "archive")
    convert_archive(archive, str(work))
    again, before = made_again(str(work), beats=SETTINGS), set(list_stores(work, "peaks"))
    extract_beats(str(work), BeatSettings(**SETTINGS))
    assert len(set(list_stores(work, "peaks")) - before) == again.get("peaks", {"n": 0})["n"]
    assert made_again(str(work), beats=SETTINGS) == {}


def test_the_dry_run_says_what_is_made_again(unpacked, work, monkeypatch, capsys):
    monkeypatch.setattr("ecgbatch.beats.stage.stage_versions", lambda: {"scipy": "99"})
    with pytest.raises(SystemExit):
        cli.main(["beats", str(work), "--dry-run", "--json"])
    told = capsys.readouterr()
    assert "1 store(s) of peaks will be built again because" in told.err
    assert "scipy" in told.err
    assert '"made_again"' in told.out


def test_scores_of_the_same_model_are_said_to_be_made_again_if_their_settings_changed(work, monkeypatch):
    (path,) = list_stores(work, "scores")
    settings = open_store(path).attrs["settings"]

    class Same:
        digest = settings["model"]["digest"]

    monkeypatch.setattr("ecgbatch.model.files.load_model", lambda _: Same())
    monkeypatch.setattr("ecgbatch.scores.table.score_settings", lambda _: settings | {"min_scorable_beats": 5})
    because = upgrades.made_again(str(work), model="any")["scores"]
    assert because["n"] == 5
    assert "min_scorable_beats 3 -> 5" in because["because"]
