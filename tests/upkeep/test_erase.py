"""One patient goes from a workspace, entirely; nobody else notices, and no later run brings the patient back."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from ecgbatch.archive.watch import LookOptions
from ecgbatch.beats.lookup import current_beats, export_annotations, extract_beats
from ecgbatch.beats.record import BeatSettings
from ecgbatch.measurements.lookup import measure_workspace
from ecgbatch.model.files import load_model, shipped_model
from ecgbatch.model.members import members_for
from ecgbatch.reports.writing import report_workspace
from ecgbatch.scores.stage import score_workspace
from ecgbatch.signals.lookup import current_records
from ecgbatch.signals.stage import convert_archive
from ecgbatch.synthetic.archive import ArchiveShape, write_archive
from ecgbatch.terms import STATUS
from ecgbatch.upkeep.erase import erase_patient
from ecgbatch.upkeep.repair import repair
from ecgbatch.upkeep.status import status
from ecgbatch.upkeep.verify import KINDS, verify_workspace
from ecgbatch.workspace.erased import ERASED_FILE, erased_list
from ecgbatch.workspace.privacy import workspace_pseudonyms, write_pseudonyms
from ecgbatch.workspace.runs import latest_run, write_run
from storage import CorruptStore, Folder, folder_at, list_stores, open_store
from tests.storage.test_storage import tree_digest

WHO = "patient002"
SETTINGS = BeatSettings(**load_model(shipped_model()).beats)


@pytest.fixture(scope="module")
def two_nights(tmp_path_factory) -> tuple[Path, Path]:
    """An archive, and a workspace that took it in two nights, the second without anything new of the patient."""
    top = tmp_path_factory.mktemp("erase")
    archive, work = top / "archive", top / "work"
    write_archive(archive, ArchiveShape(n_records=8, duration_s=10.0), seed=5)
    names = (archive / "RECORDS").read_text().split()
    later = [name for name in names if name.startswith("patient003")]
    before = os.umask(0o077)
    try:
        night(archive, work, [name for name in names if name not in later])
        night(archive, work, names)
        export_annotations(str(work), SETTINGS)
        write_pseudonyms(work, workspace_pseudonyms(str(work)), current_records(str(work)))
        folder = folder_at(work)
        log = f"runs/{latest_run(str(work))}.log"
        folder.put(log, b"convert: started\n" + names[4].encode() + b": read again\nconvert: 1 s\n")
        folder.put("last-run.json", json.dumps({"outcome": "failed", "error": f"OSError: {names[4]}.dat"}).encode())
    finally:
        os.umask(before)
    return archive, work


def night(archive: Path, work: Path, names: list[str], *, rehash: bool = False) -> str:
    (archive / "RECORDS").write_text("\n".join(names) + "\n")
    aside = [folder for folder in archive.glob("patient*") if not any(name.startswith(folder.name) for name in names)]
    for folder in aside:
        folder.rename(archive.parent / folder.name)
    convert_archive(str(archive), str(work), LookOptions(rehash=rehash))
    for folder in aside:
        (archive.parent / folder.name).rename(folder)
    extract_beats(str(work), SETTINGS)
    run = score_workspace(str(work), str(shipped_model()))
    write_run(str(work), run, {"archive": str(archive), "counts": {}})
    report_workspace(str(work), run)
    return run


@pytest.fixture
def work(two_nights, tmp_path) -> Path:
    return Path(shutil.copytree(two_nights[1], tmp_path / "w", symlinks=True))


@pytest.fixture(scope="module")
def once_erased(two_nights, tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    """The workspace without the patient, and what the erasure said."""
    work = Path(shutil.copytree(two_nights[1], tmp_path_factory.mktemp("erased") / "w", symlinks=True))
    return work, erase_patient(str(work), WHO)


@pytest.fixture
def erased(once_erased, tmp_path) -> Path:
    return Path(shutil.copytree(once_erased[0], tmp_path / "e", symlinks=True))


def measured_anew_alike(work: Path) -> None:
    """Remove the measurements, measure again, and find stores of the same names and content."""
    before = {Path(path).name: open_store(path).attrs["content_digests"] for path in list_stores(work, "measurements")}
    shutil.rmtree(work / "measurements")
    measure_workspace(str(work), SETTINGS.document())
    assert before
    assert {Path(path).name: open_store(path).attrs["content_digests"] for path in list_stores(work, "measurements")} == before


def records_of(work: Path, who: str = WHO) -> list[str]:
    records = current_records(str(work), ["record_name", "patient_id"])
    return records["record_name"].values[records["patient_id"].values == who].tolist()


def decoded(work: Path) -> Iterator[tuple[str, np.ndarray]]:
    for kind in KINDS:
        for path in list_stores(work, kind):
            yield from ((f"{path}/{name}", values.values) for name, values in open_store(path).variables.items())


def whole(work: Path) -> dict[str, bytes]:
    """Return all that two erasures of one patient must have alike: stores and view."""
    return {key: folder_at(work).read(key) for kind in (*KINDS, "archive.json") for key, _ in folder_at(work).files(kind)} | {
        "archive.json": folder_at(work).read("archive.json")
    }


def scores_by_record(work: Path, run: str) -> dict[str, list[bytes]]:
    scores = open_store(work / "scores" / f"{run}.zarr")
    numbers = [name for name in scores.variables if "record" in scores[name].dims and scores[name].dtype.kind in "fiu"]
    numbers = sorted(set(numbers) - {"signals_row", "beats_row"})
    length = scores["n_beats_detected"].values
    columns = {name: scores[name].values for name in numbers}
    rows = [
        [
            (values[row][: length[row]] if "beat" in scores[name].dims else values[row]).tobytes()
            for name, values in columns.items()
        ]
        for row in range(scores.sizes["record"])
    ]
    return dict(zip(scores["record_name"].values.tolist(), rows, strict=True))


def test_nothing_of_an_erased_patient_is_left(two_nights, once_erased):
    work = two_nights[1]
    names = records_of(work)
    assert len(names) == 4
    place = current_records(str(work), ["record_name"])
    at = place["record_name"].values.tolist().index(names[1])
    store = open_store(work / "signals" / f"{place['signals_store'].values[at]}.zarr")
    row = int(place["signals_row"].values[at])
    samples, digest = store["signal"][row].values, str(store["source_digest"].values[row])
    shard = next(work.glob(f"signals/{place['signals_store'].values[at]}.zarr/signal/c/0/*/*"))
    piece = shard.read_bytes()[row * shard.stat().st_size // store.sizes["record"] :][:64]
    assert any(WHO.encode() in path.read_bytes() for path in work.rglob("*") if path.is_file())

    work, told = once_erased
    marks = [WHO.encode(), digest.encode(), piece, *(name.rpartition("/")[2].encode() for name in names)]
    for path in work.rglob("*"):
        assert not any(mark in path.name.encode() for mark in marks), path
        if path.is_file():
            content = path.read_bytes()
            assert not any(mark in content for mark in marks), path
    texts, n_signals = 0, 0
    for where, values in decoded(work):
        if values.dtype.kind == "T":
            texts += 1
            assert not any(WHO in text or digest in text for text in values.ravel().tolist()), where
        if where.endswith("/signal"):
            n_signals += 1
            assert not any((one[:, : samples.shape[1]] == samples).all() for one in values), where
    assert (texts > 10, n_signals) == (True, 2)
    assert verify_workspace(str(work)) == {}
    assert told["n_records"] == 4
    assert told["ended"]


def test_everybody_else_keeps_every_bit_and_later_runs_compute_nothing(two_nights, once_erased, erased):
    archive, work = two_nights
    names = set(records_of(work))
    run = latest_run(str(work))
    before = scores_by_record(work, run)
    untouched = [path for path in list_stores(work, "signals") if not (open_store(path)["patient_id"].values == WHO).any()]
    assert len(untouched) == 1

    work, new = erased, Path(once_erased[1]["replaced"][f"scores/{run}.zarr"]).stem
    assert latest_run(str(work)) == new
    after = scores_by_record(work, new)
    assert after.keys() == before.keys() - names
    assert all(after[name] == before[name] for name in after)
    assert all(tree_digest(work / "signals" / Path(path).name) == tree_digest(Path(path)) for path in untouched)
    stores = whole(work)
    done = convert_archive(str(archive), str(work))
    assert (done.n_new, done.n_records, done.n_erased, done.gone) == (0, 4, 4, ())
    extract_beats(str(work), SETTINGS)
    assert score_workspace(str(work), str(shipped_model())) == new
    now = whole(work)
    assert now.keys() == stores.keys()
    assert [key for key in now if now[key] != stores[key]] == ["archive.json"], "which counts who is left out"
    assert status(str(work))["n_erased"] == 4
    assert current_beats(str(work), SETTINGS.document()).sizes["record"] == 4


def test_measurements_say_nothing_of_an_erased_patient_and_are_those_that_measuring_would_make(two_nights, erased):
    named = [open_store(path)["record_name"].values.tolist() for path in list_stores(two_nights[1], "measurements")]
    for path in list_stores(erased, "measurements"):
        store = open_store(path)
        gone = store["record_name"].values == ""
        assert (store["status"].values[gone] == STATUS["set_aside"]).all()
        assert all(np.isnan(store[name].values[gone]).all() for name in store.variables if store[name].dtype.kind == "f")
        assert not set(store["record_name"].values.tolist()) & set(records_of(two_nights[1]))
    assert sum(map(len, named)) == 8
    measured_anew_alike(erased)


def test_an_archive_without_the_patient_goes_on_as_it_was(two_nights, erased, tmp_path):
    archive, work = Path(shutil.copytree(two_nights[0], tmp_path / "archive")), erased
    convert_archive(str(archive), str(work), LookOptions(rehash=True))  # a copy: at another place
    stores = whole(work)
    del stores["archive.json"]  # it counts who is left out: now nobody
    shutil.rmtree(archive / WHO)
    names = [name for name in (archive / "RECORDS").read_text().split() if not name.startswith(WHO)]
    (archive / "RECORDS").write_text("\n".join(names) + "\n")
    done = convert_archive(str(archive), str(work))
    assert (done.n_new, done.n_records, done.n_erased, done.set_aside) == (0, 4, 0, {})
    assert {name: content for name, content in whole(work).items() if name != "archive.json"} == stores


def test_a_new_recording_of_an_erased_patient_is_left_out_and_counted(two_nights, erased, tmp_path):
    archive, work = Path(shutil.copytree(two_nights[0], tmp_path / "archive")), erased
    header = next((archive / "patient003").glob("*.hea"))
    for path in header.parent.glob(f"{header.stem}.*"):
        text = path.read_bytes().replace(header.stem.encode(), b"again") if path.suffix == ".hea" else path.read_bytes()
        (archive / WHO / path.with_stem("again").name).write_bytes(text)
    with (archive / "RECORDS").open("a") as listed:
        listed.write(f"{WHO}/again\n")
    done = convert_archive(str(archive), str(work), LookOptions(rehash=True))
    assert (done.n_new, done.n_erased) == (0, 5)
    assert WHO.encode() not in (work / "archive.json").read_bytes() + (work / "archive.parquet").read_bytes()


def test_the_record_says_what_was_done_and_names_nobody(two_nights, erased):
    run, work = latest_run(str(two_nights[1])), erased
    (erasure,) = erased_list(work).erasures
    assert f"scores/{run}.zarr" in erasure["replaced"]
    assert all((work / new / "zarr.json").is_file() for new in erasure["replaced"].values())
    assert not any((work / old).exists() for old in erasure["replaced"])
    model = load_model(shipped_model())
    knew = len(members_for(model, WHO)) < len(model.members)
    assert erasure["models"] == ([f"models/{model.digest[:20]}"] if knew else [])
    assert erasure["n_removed"] == {"annotation files": 4, "report folders": 2, "lines of logs": 1}
    assert erased_list(work).has_patient(WHO)
    assert not erased_list(work).has_patient("patient003")
    again = erase_patient(str(work), WHO)
    assert again["ended"] == erasure["ended"]


@pytest.mark.parametrize("is_old_copy", [False, True])
def test_a_list_of_erasures_that_is_lost_is_missed_and_nobody_comes_back(two_nights, erased, is_old_copy):
    archive, work = two_nights[0], erased
    first, kept = (work / ERASED_FILE).read_bytes(), whole(work)
    if is_old_copy:
        erase_patient(str(work), "patient003")
        kept, newest = whole(work), (work / ERASED_FILE).read_bytes()
        (work / ERASED_FILE).write_bytes(first)
    else:
        newest = first
        (work / ERASED_FILE).unlink()
    found = verify_workspace(str(work), read_data=False)
    assert list(found) == [("document", ERASED_FILE)]
    for writer in (lambda: convert_archive(str(archive), str(work)), lambda: repair(str(work), str(archive), found)):
        with pytest.raises(CorruptStore, match=r"come back|bring erased patients back"):
            writer()
    assert whole(work) == kept
    (work / ERASED_FILE).write_bytes(newest)
    assert verify_workspace(str(work), read_data=False) == {}
    assert convert_archive(str(archive), str(work)).n_new == 0


def test_a_repair_without_list_and_view_sees_by_the_stores_that_somebody_was_erased(two_nights, erased):
    for name in (ERASED_FILE, "archive.json"):
        (erased / name).unlink()
    before = tree_digest(erased)
    with pytest.raises(CorruptStore, match="bring erased patients back"):
        repair(str(erased), str(two_nights[0]), verify_workspace(str(erased), read_data=False))
    assert tree_digest(erased) == before


def test_from_its_first_step_on_an_erasure_is_missed_when_its_list_is_lost(work, monkeypatch):
    assert killed_at(3, partial(erase_patient, str(work), WHO), monkeypatch), "the list, the view, then stores"
    (work / ERASED_FILE).unlink()
    assert list(verify_workspace(str(work), read_data=False)) == [("document", ERASED_FILE)]


def test_an_erasure_does_not_end_while_something_cannot_be_removed(work, monkeypatch):
    delete = Folder.delete

    def failing(folder, key):
        if not (key.startswith("signals/") and key.endswith(".zarr")):
            delete(folder, key)

    with monkeypatch.context() as patched:
        patched.setattr(Folder, "delete", failing)
        with pytest.raises(OSError, match="cannot be removed"):
            erase_patient(str(work), WHO)
    assert "not ended" in str(verify_workspace(str(work), read_data=False))
    erase_patient(str(work), WHO)
    assert verify_workspace(str(work)) == {}


def test_an_unknown_patient_changes_nothing(work):
    before = tree_digest(work)
    with pytest.raises(ValueError, match="no record of patient 'nobody'"):
        erase_patient(str(work), "nobody")
    assert tree_digest(work) == before


VERBS = ("put", "put_if_absent", "delete", "publish", "point", "put_aside", "replace", "link")


class Killed(BaseException):
    """The process ends here."""


def killed_at(number: int, command: Callable[[], Any], monkeypatch) -> bool:
    """Run a command and stop before the ``number``-th change of the workspace; tell whether there were so many."""
    n_changes = 0

    def counted(verb):
        def change(self, *arguments, **named):
            nonlocal n_changes
            n_changes += 1
            if n_changes >= number:
                raise Killed
            return verb(self, *arguments, **named)

        return change

    with monkeypatch.context() as patched:
        for name in VERBS:
            patched.setattr(Folder, name, counted(getattr(Folder, name)))
        try:
            command()
        except Killed:
            return True
    return False


def ends_well(work: Path, wanted: dict[str, bytes]) -> None:
    assert "not ended" in str(verify_workspace(str(work), read_data=False)) or not (work / ERASED_FILE).exists()
    erase_patient(str(work), WHO)
    assert whole(work) == wanted
    assert verify_workspace(str(work)) == {}
    left = [path for path in work.rglob("*") if path.is_file() and WHO.encode() in path.read_bytes()]
    assert left == []


def test_an_erasure_that_is_cut_off_ends_with_the_same_command(two_nights, once_erased, tmp_path, monkeypatch):
    wanted = whole(once_erased[0])
    cut = Path(shutil.copytree(two_nights[1], tmp_path / "cut", symlinks=True))
    assert killed_at(100, partial(erase_patient, str(cut), WHO), monkeypatch)
    ends_well(cut, wanted)


def test_a_file_beside_the_records_of_who_is_erased_is_named_nowhere(two_nights, erased, tmp_path):
    archive, work = Path(shutil.copytree(two_nights[0], tmp_path / "archive")), erased
    (archive / WHO / "export.bin").write_bytes(b"\0" * 128 + b"DICM")
    (archive / "other.bin").write_bytes(b"\0" * 128 + b"DICM")
    convert_archive(str(archive), str(work), LookOptions(rehash=True))
    view = (work / "archive.json").read_bytes()
    assert b"other.bin" in view
    assert WHO.encode() not in view


def test_reports_as_data_hold_nothing_of_who_is_erased(two_nights, erased):
    before, after = (
        [pq.read_table(path) for path in Path(work).glob("reports/*/records.parquet")] for work in (two_nights[1], erased)
    )
    assert after
    held = [[WHO in name for name in table.column("record_name").to_pylist()] for table in before]
    assert any(map(any, held))
    for table in after:
        assert table.num_rows > 0
        assert not any(WHO in value for row in table.to_pylist() for value in row.values() if isinstance(value, str))
