"""A workspace as a whole: one writer at a time, damage is found wherever it is, what died is cleared away."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgbatch import cli
from ecgbatch.beats.lookup import extract_beats
from ecgbatch.model.definition import ModelError
from ecgbatch.model.files import load_model, shipped_model
from ecgbatch.reports.writing import report_workspace
from ecgbatch.scores.stage import score_workspace
from ecgbatch.signals.lookup import archive_facts
from ecgbatch.signals.stage import convert_archive
from ecgbatch.synthetic.archive import ArchiveShape, write_archive
from ecgbatch.upkeep import verify
from ecgbatch.upkeep.garbage import collect_garbage, leftovers
from ecgbatch.upkeep.repair import _pointed_again, _runs_again, repair
from ecgbatch.upkeep.verify import items_of, problems_of, verify_workspace
from ecgbatch.workspace.runs import latest_run, log_file, name_log, put_log, write_run
from storage import (
    CorruptStore,
    LockedWorkspace,
    folder_at,
    folder_problems,
    lock,
    only_writer,
    open_store,
    seal_folder,
    sealed,
    unsealed,
)
from storage.sealed import Listing
from tests.commands import result_of


@pytest.fixture(scope="session")
def reported(tmp_path_factory) -> tuple[Path, Path]:
    """An archive, and a workspace that every stage has gone through."""
    top = tmp_path_factory.mktemp("upkeep")
    archive, work = top / "archive", top / "work"
    write_archive(archive, ArchiveShape(n_records=4, duration_s=10.0), seed=5)
    before = os.umask(0o077)
    try:
        run_stages(archive, work)
    finally:
        os.umask(before)
    return archive, work


def run_stages(archive: Path, work: Path) -> str:
    from ecgbatch.beats.record import BeatSettings

    convert_archive(str(archive), str(work))
    extract_beats(str(work), BeatSettings(**load_model(shipped_model()).beats))
    run = score_workspace(str(work), str(shipped_model()))
    write_run(str(work), run, {"archive": str(archive), "counts": {}})
    report_workspace(str(work), run)
    return run


def files_of(work: Path) -> list[Path]:
    """Every file that a workspace vouches for to the last byte: all but the cache of the archive's listing."""
    return [
        path
        for path in sorted(work.rglob("*"))
        if path.is_file()
        and not path.is_symlink()
        and path.name not in ("archive.parquet",)
        and "latest" not in path.relative_to(work).parts
    ]


def damage(path: Path, files: list[Path], random: np.random.Generator) -> str:
    """Damage a file in one of four ways; return which."""
    content = path.read_bytes()
    kind = ["flip", "truncate", "delete", "swap"][int(random.integers(4))]
    others = [one for one in files if one.parent == path.parent and one.read_bytes() != content]
    if kind == "swap" and others:
        path.write_bytes(others[int(random.integers(len(others)))].read_bytes())
    elif kind == "delete":
        path.unlink()
    elif kind == "truncate" and content:
        path.write_bytes(content[: int(random.integers(len(content)))])
    else:
        flipped = bytearray(content)
        flipped[int(random.integers(len(flipped)))] ^= 1 << int(random.integers(8))
        path.write_bytes(flipped)
        kind = "flip"
    return kind


def missed_damages(work: Path, n: int, seed: int) -> list[str]:
    """Damage a workspace ``n`` times, one file at a time; return what ``verify`` did not find."""
    random = np.random.default_rng(seed)
    files = files_of(work)
    missed = []
    for number in range(n):
        path = files[int(random.integers(len(files)))]
        content = path.read_bytes()
        kind = damage(path, files, random)
        try:
            found = bool(verify_workspace(str(work)))
        except ValueError:
            found = True
        if not found:
            missed.append(f"{number}: {kind} of {path.relative_to(work)}")
        path.write_bytes(content)
    return missed


def test_verify_of_a_whole_workspace_finds_nothing(reported):
    _, work = reported
    assert verify_workspace(str(work)) == {}
    sorts = {sort for sort, _ in items_of(str(work))}
    assert sorts == {"document", "log", "look", "store", "model", "reports", "pointer"}


def test_every_damage_of_a_workspace_is_found(reported, tmp_path):
    work = Path(shutil.copytree(reported[1], tmp_path / "w", symlinks=True))
    assert missed_damages(work, 12, seed=1) == []
    assert verify_workspace(str(work)) == {}


def test_a_log_that_was_altered_is_found_and_one_that_grew_is_not(reported, tmp_path):
    work = str(shutil.copytree(reported[1], tmp_path / "w", symlinks=True))
    run = latest_run(work)
    put_log(work, run, b"convert: started\nconvert: 1 s\n")
    assert verify_workspace(work, read_data=False) == {}
    log = Path(work, "runs", f"{run}.log")
    log.write_bytes(log.read_bytes() + b"beats: started\n")
    assert verify_workspace(work, read_data=False) == {}
    log.write_bytes(log.read_bytes().replace(b"1 s", b"2 s"))
    assert list(verify_workspace(work, read_data=False)) == [("log", f"runs/{run}.log")]
    log.unlink()
    assert list(verify_workspace(work, read_data=False)) == [("log", f"runs/{run}.log")]
    assert repair(work, str(reported[0]), [("log", f"runs/{run}.log")]) == [f"runs/{run}.log"], "no archive has it"


def test_a_flipped_bit_of_the_last_look_is_found_and_changes_nothing(reported, tmp_path):
    from ecgbatch.archive.remembered import CACHE_FILE, cache_problems, read_cache

    work = tmp_path / "w"
    work.mkdir()
    content = (reported[1] / CACHE_FILE).read_bytes()
    (work / CACHE_FILE).write_bytes(content)
    assert cache_problems(str(work)) == []
    whole = {name: values.tolist() for name, values in read_cache(str(work)).items()}
    random, n_found = np.random.default_rng(1), 0
    for _ in range(100):
        flipped = bytearray(content)
        flipped[int(random.integers(len(flipped)))] ^= 1 << int(random.integers(8))
        (work / CACHE_FILE).write_bytes(flipped)
        found = bool(cache_problems(str(work)))
        n_found += found
        read = {name: values.tolist() for name, values in read_cache(str(work)).items()}
        assert read in ({}, whole), "nothing altered is used"
    assert n_found == 100, "each bit of it is under its seal"


def test_what_dead_runs_left_is_counted(tmp_path):
    assert leftovers(str(tmp_path)) == {"n_unfinished": 0, "n_files": 0, "n_bytes": 0}
    folder = folder_at(tmp_path)
    folder.put(".build/signals-0/plan.json", b"12345")
    folder.put(".build/log-1.log", b"123")
    folder.put(".build/lock", b"{}")
    assert leftovers(str(tmp_path)) == {"n_unfinished": 1, "n_files": 2, "n_bytes": 8}


@pytest.mark.parametrize("gone", ["signals", "peaks", "beats", "measurements", "scores", "reports/*"])
def test_store_or_report_that_is_gone_as_a_whole_is_missed(reported, tmp_path, gone):
    work = Path(shutil.copytree(reported[1], tmp_path / "w", symlinks=True))
    for path in work.glob(gone if "/" in gone else f"{gone}/*"):
        if not path.is_symlink():
            shutil.rmtree(path)
    assert verify_workspace(str(work))


def test_repair_makes_the_same_bytes_again(reported, tmp_path):
    archive, whole = reported
    work = Path(shutil.copytree(whole, tmp_path / "w", symlinks=True))
    wanted = {path.relative_to(work): path.read_bytes() for path in work.glob("*/*.zarr/**/*") if path.is_file()}
    shutil.rmtree(next(work.glob("peaks/*.zarr")))
    for pattern in (
        "signals/*.zarr/signal/c/0/0/0",
        "beats/*.zarr/lead/zarr.json",
        "measurements/*.zarr/qrs_ms/c/0",
        "scores/*.zarr/zarr.json",
        "reports/*/records/*.html",
    ):
        path = next(path for path in sorted(work.glob(pattern)) if "latest" not in path.parts)
        path.write_bytes(path.read_bytes()[:-3])
    found = verify_workspace(str(work))
    assert len(found) == 6
    assert repair(str(work), str(archive), found) == []
    assert verify_workspace(str(work)) == {}
    assert wanted == {path.relative_to(work): path.read_bytes() for path in work.glob("*/*.zarr/**/*") if path.is_file()}


def test_what_lies_in_anothers_place_is_found(reported, tmp_path):
    work = Path(shutil.copytree(reported[1], tmp_path / "w", symlinks=True))
    run, other = latest_run(str(work)), "0123456789abcdef0123"
    (model,) = (path.name for path in (work / "models").iterdir())
    for sort, key in (("document", f"runs/{run}.json"), ("reports", f"reports/{run}"), ("model", f"models/{model}")):
        place = f"{key.split('/')[0]}/{other}{Path(key).suffix}"
        assert problems_of((sort, key), work=str(work), read_data=True) == []
        (work / key).rename(work / place)
        assert "in another's place" in problems_of((sort, place), work=str(work), read_data=True)[0]
    (work / f"reports/{other}").rename(work / f"reports/{run}")
    assert {("model", f"models/{model}"), ("model", f"models/{other}")} <= verify_workspace(str(work)).keys()


def test_model_that_scored_is_missed_and_one_that_ships_comes_back(reported, tmp_path):
    archive, whole = reported
    work = Path(shutil.copytree(whole, tmp_path / "w", symlinks=True))
    wanted = {path.relative_to(work): path.read_bytes() for path in work.glob("models/*/*")}
    (model,) = (work / "models").iterdir()
    text = (model / "model.json").read_text()
    (model / "model.json").write_text(text.replace('"threshold": 0.', '"threshold": 0.1', 1))
    with pytest.raises(ModelError, match="altered or damaged"):
        report_workspace(str(work), latest_run(str(work)))
    shutil.rmtree(model)
    found = verify_workspace(str(work), read_data=False)
    assert list(found) == [("model", f"models/{model.name}")]
    assert repair(str(work), str(archive), found) == []
    assert {path.relative_to(work): path.read_bytes() for path in work.glob("models/*/*")} == wanted


def test_stores_of_two_nights_that_are_both_lost_come_back_as_two(reported, tmp_path):
    archive, work = tmp_path / "archive", tmp_path / "work"
    shutil.copytree(reported[0], archive)
    names = (archive / "RECORDS").read_text().split()
    for n in (2, 4):
        (archive / "RECORDS").write_text("\n".join(names[:n]) + "\n")
        for name in names[n:]:
            (archive / f"{name}.hea").rename(archive / f"{name}.later")
        convert_archive(str(archive), str(work))
        for name in names[n:]:
            (archive / f"{name}.later").rename(archive / f"{name}.hea")
    wanted = {path.relative_to(work): path.read_bytes() for path in work.glob("signals/**/*") if path.is_file()}
    places = sorted(work.glob("signals/*.zarr"))
    assert len(places) == 2
    for source, target in ((places[0], work / "aside"), (places[1], places[0]), (work / "aside", places[1])):
        source.rename(target)
    found = verify_workspace(str(work))
    assert len(found) == 2
    assert repair(str(work), str(archive), found) == []
    assert {path.relative_to(work): path.read_bytes() for path in work.glob("signals/**/*") if path.is_file()} == wanted


@pytest.mark.parametrize("damage", ["chunk gone", "chunk of another column", "array document of another column", "root", "store"])
def test_nothing_damaged_is_read_as_if_it_were_data(reported, tmp_path, damage):
    work = Path(shutil.copytree(reported[1], tmp_path / "w", symlinks=True))
    store = next(work.glob("beats/*.zarr"))
    assert open_store(store)["n_beats"].values.sum() > 0
    if damage == "chunk gone":
        (store / "n_beats" / "c" / "0").unlink()
    elif damage == "chunk of another column":
        shutil.copy(store / "first_beat" / "c" / "0", store / "n_beats" / "c" / "0")
    elif damage == "array document of another column":
        shutil.copy(store / "first_beat" / "zarr.json", store / "n_beats" / "zarr.json")
    elif damage == "root":
        root = (store / "zarr.json").read_text()
        (store / "zarr.json").write_text(root.replace('"zarr": "', '"zarr": "1', 1))
        assert (store / "zarr.json").read_text() != root
    else:
        store = store.rename(store.with_name("0123456789abcdef0123.zarr"))
    with pytest.raises(CorruptStore, match=r"verify --repair"):
        _ = open_store(store)["n_beats"].values


def test_pipe_in_a_files_place_is_found_and_not_waited_for(reported, tmp_path):
    work = Path(shutil.copytree(reported[1], tmp_path / "w", symlinks=True))
    for key in (f"reports/{latest_run(str(work))}/scores.csv", "archive.json"):
        (work / key).unlink()
        os.mkfifo(work / key)
        with pytest.raises(OSError, match="regular file"):
            folder_at(work).read(key)
    assert len(verify_workspace(str(work), read_data=False)) >= 2


def test_link_to_reports_that_are_gone_is_found_and_set_anew(reported, tmp_path):
    archive, whole = reported
    work = Path(shutil.copytree(whole, tmp_path / "w", symlinks=True))
    folder_at(work).point("reports/latest", "gone")
    found = verify_workspace(str(work), read_data=False)
    assert list(found) == [("pointer", "reports/latest")]
    assert repair(str(work), str(archive), found) == []
    assert folder_at(work).pointed("reports/latest") == latest_run(str(work))


def test_link_to_reports_of_an_older_run_is_found_and_set_anew(reported, tmp_path):
    _, whole = reported
    work = Path(shutil.copytree(whole, tmp_path / "w", symlinks=True))
    newest, older = latest_run(str(work)), "0123456789abcdef0123"
    document = json.loads((work / "runs" / f"{newest}.json").read_text())
    document |= {"run": older, "last_run": "2020-01-01T00:00:00+00:00"}
    folder_at(work).put(f"runs/{older}.json", sealed({k: v for k, v in document.items() if k not in ("seal", "log")}))
    (work / "reports" / older).mkdir()
    (work / "reports" / older / "cohort.html").write_text("")
    assert problems_of(("pointer", "reports/latest"), work=str(work), read_data=False) == []
    folder_at(work).point("reports/latest", older)
    (said,) = problems_of(("pointer", "reports/latest"), work=str(work), read_data=False)
    assert f"leads to {older}, and {newest} is newer" in said
    _pointed_again(folder_at(work), older)
    assert folder_at(work).pointed("reports/latest") == newest


def test_removed_link_to_the_latest_reports_is_found_and_set_anew(reported, tmp_path):
    archive, whole = reported
    work = Path(shutil.copytree(whole, tmp_path / "w", symlinks=True))
    newest = latest_run(str(work))
    (work / "reports" / "latest").unlink()
    found = verify_workspace(str(work), read_data=False)
    assert list(found) == [("pointer", "reports/latest")]
    assert (
        f"missing, expected it to lead to {newest}; ecgbatch report {work} sets it anew" in found["pointer", "reports/latest"][0]
    )
    assert repair(str(work), str(archive), found) == []
    assert folder_at(work).pointed("reports/latest") == newest
    (work / "reports" / "latest").unlink()
    (work / "reports" / newest).rename(work / "reports" / f"{newest}-pseudonymous")
    assert ("pointer", "reports/latest") not in items_of(str(work)), "a copy for others never leads"


def test_workspace_whose_runs_hide_names_is_whole_and_its_latest_is_missed_too(reported, tmp_path):
    archive, _ = reported
    work = tmp_path / "w"
    result_of("run", archive, work, "--pseudonymise")
    assert verify_workspace(str(work), read_data=False) == {}
    name = f"{latest_run(str(work))}-pseudonymous"
    assert ("reports", f"reports/{name}") in items_of(str(work))
    (work / "reports" / "latest").unlink()
    found = verify_workspace(str(work), read_data=False)
    assert "--repair ARCHIVE sets it anew" in found.pop(("pointer", "reports/latest"))[0]
    assert found == {}
    _pointed_again(folder_at(work), "")
    assert folder_at(work).pointed("reports/latest") == name


def test_report_for_others_or_of_an_older_run_leaves_latest_where_it_is(reported, tmp_path):
    _, whole = reported
    work = Path(shutil.copytree(whole, tmp_path / "w", symlinks=True))
    newest = folder_at(work).pointed("reports/latest")
    result_of("report", work, "--pseudonymise")
    assert (work / "reports" / f"{newest}-pseudonymous" / "cohort.html").is_file()
    assert folder_at(work).pointed("reports/latest") == newest


def test_report_in_an_earlier_runs_place_comes_back_from_its_scores(reported, tmp_path):
    archive, whole = reported
    work = Path(shutil.copytree(whole, tmp_path / "w", symlinks=True))
    run = latest_run(str(work))
    (archive_view := folder_at(work)).put("archive.json", sealed(_without_last(archive_view.read("archive.json"))))
    later = score_workspace(str(work), str(shipped_model()))
    write_run(str(work), later, {"archive": str(archive), "counts": {}, "last_run": "9999"})
    report_workspace(str(work), later)
    wanted = {path.name: path.read_bytes() for path in work.glob(f"reports/{run}/records/*")}
    shutil.rmtree(work / "reports" / run)
    _runs_again(str(work), str(archive), {f"reports/{run}"}, [], map=map, on_progress=None)
    assert {path.name: path.read_bytes() for path in work.glob(f"reports/{run}/records/*")} == wanted


def _without_last(raw: bytes) -> dict:
    stated = unsealed(raw, "archive.json")
    return stated | {name: stated[name][:-1] for name in ("records", "stores", "rows")}


def test_list_of_records_that_names_none_is_refused(tmp_path):
    folder_at(tmp_path).put("archive.json", b"{}")
    with pytest.raises(CorruptStore, match="altered"):
        archive_facts(str(tmp_path))


def test_log_of_a_run_that_was_cut_short_goes_into_that_of_the_run_that_went_on(tmp_path):
    left = tmp_path / ".build" / "log-1.log"
    left.parent.mkdir()
    left.write_text("convert: started\n")
    with log_file(str(tmp_path)), (tmp_path / ".build" / "log-2.log").open("w") as living:
        living.write("of another run\n")
        fcntl.flock(living, fcntl.LOCK_EX)
        logging.getLogger("ecgbatch").info("score: started")
        name_log(str(tmp_path), "0123")
    said = (tmp_path / "runs" / "0123.log").read_text()
    assert said.startswith("convert: started\n")
    assert said.endswith("score: started\n")
    assert [path.name for path in left.parent.iterdir()] == ["log-2.log"]


def test_nothing_of_a_workspace_is_readable_by_others(reported):
    _, work = reported
    open_to_others = [path for path in work.rglob("*") if not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) & 0o077]
    assert open_to_others == []


def test_gc_removes_what_dead_runs_left_and_keeps_what_a_run_goes_on_with(reported, tmp_path):
    work = Path(shutil.copytree(reported[1], tmp_path / "w", symlinks=True))
    before = {path for path in work.rglob("*") if ".build" not in path.parts}
    digest = next(work.glob("signals/*.zarr")).stem
    for name in (f"signals-{digest}/receipts", "damaged/x", "signals-0123456789abcdef0123/receipts", "train-0123"):
        (work / ".build" / name).mkdir(parents=True)
    (work / ".build" / "signals-0123456789abcdef0123" / "plan.json").write_text("{}")
    (work / ".build" / f"signals-{digest}" / "plan.json").write_text("{}")
    cut_off = work / ".build" / "signals-0123456789abcdef0123" / "0123456789abcdef0123.zarr" / "signal"
    cut_off.mkdir(parents=True)
    for name in ("zarr.json", "zarr.json.17-ab.partial"):
        (cut_off / name).write_text("{}")
    (work / "runs" / "x.json.17-ab.partial").write_text("{")
    (work / "models" / ".m.x.partial").mkdir()
    said = collect_garbage(str(work))
    assert said["kept_unfinished"] == [".build/signals-0123456789abcdef0123", ".build/train-0123"]
    assert {path for path in work.rglob("*") if ".build" not in path.parts} == before
    assert sorted(path.name for path in (work / ".build").iterdir()) == ["signals-0123456789abcdef0123", "train-0123"]
    assert [path.name for path in cut_off.iterdir()] == ["zarr.json"]
    collect_garbage(str(work), unfinished=True)
    assert not list((work / ".build").iterdir())


def test_sealed_document_that_was_altered_is_refused():
    raw = sealed({"records": ["a"], "rows": [1]})
    assert unsealed(raw, "x") == {"records": ["a"], "rows": [1]}
    with pytest.raises(CorruptStore, match="seal"):
        unsealed(raw.replace(b'"a"', b'"b"'), "x")
    with pytest.raises(CorruptStore, match="expected JSON"):
        unsealed(raw[:-5], "x")


ENTRIES = st.dictionaries(st.text(st.characters(codec="utf-8"), min_size=1), st.binary(max_size=4), max_size=8)


@given(ENTRIES)
def test_list_of_files_is_the_sealed_document_and_is_read_back(contents):
    files = Listing()
    for name, content in contents.items():
        files.add(name, [content])
    said = {name: [len(content), hashlib.sha256(content).hexdigest()] for name, content in contents.items()}
    raw = files.to_bytes()
    assert raw == sealed({"files": said})
    found = Listing.from_bytes(raw)
    assert found is not None
    assert found.names == sorted(contents)
    facts = [(len(contents[name]), hashlib.sha256(contents[name]).digest()) for name in found.names]
    assert all(found.is_of(place, *own) for place, own in enumerate(facts))
    assert not any(found.is_of(place, n_bytes + 1, digest) for place, (n_bytes, digest) in enumerate(facts))
    assert not any(found.is_of(place, n_bytes, digest[::-1]) for place, (n_bytes, digest) in enumerate(facts) if n_bytes)


@given(ENTRIES, st.data())
def test_list_of_files_that_was_altered_is_none(contents, data):
    files = Listing()
    for name, content in contents.items():
        files.add(name, [content])
    raw = bytearray(files.to_bytes())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert Listing.from_bytes(bytes(raw)) is None
    assert Listing.from_bytes(files.to_bytes()[:-1]) is None
    assert Listing.from_bytes(files.to_bytes() + b" ") is None


def test_sealed_folder_names_what_is_missing_altered_foreign_or_no_list(tmp_path):
    folder = folder_at(tmp_path)
    for name in ("a.html", "records/b.json", "records/c.json", "z"):
        folder.put(f"r/{name}", name.encode())
    folder.put("r/records/c.json.1-2.partial", b"of a dead run")
    seal_folder(folder, "r")
    assert not list(folder_problems(folder, "r"))
    assert not folder.exists("r/records/c.json.1-2.partial")
    folder.put("r/a.html", b"A.html")
    folder.delete("r/records/b.json")
    folder.put("r/records/b.jsonx", b"")
    found = list(folder_problems(folder, "r"))
    assert [re.sub(r".*/r/", "", problem) for problem in found] == [
        "a.html: 6 bytes that differ from the 6 that were written",
        "records/b.json: cannot be read (FileNotFoundError), expected 14 bytes",
        "records/b.jsonx: does not belong here",
    ]
    folder.put("r/manifest.json", sealed({"files": {"a.html": "no digest"}}))
    assert "sealed, but no list of files" in " ".join(folder_problems(folder, "r"))
    folder.put("r/manifest.json", b"{}")
    assert "altered, or of an earlier version" in " ".join(folder_problems(folder, "r"))
    folder.delete("r/manifest.json")
    assert "No such file" in " ".join(folder_problems(folder, "r"))


HOLDER = textwrap.dedent(
    """
    import sys, time
    from storage import only_writer
    with only_writer(sys.argv[1], "convert"):
        print("held", flush=True)
        time.sleep(60)
    """
)


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_second_writer_refuses_and_names_the_first(tmp_path, holder):
    words = f"LOCKED.*convert .process {holder.pid} on "
    with pytest.raises(LockedWorkspace, match=words), only_writer(tmp_path, "beats", wait_s=0.5):
        pass


def test_dead_writer_is_followed_at_once(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with only_writer(tmp_path, "beats", wait_s=0):
        assert json.loads(folder_at(tmp_path).read(lock.LOCK_FILE))["pid"] == os.getpid()
    assert not folder_at(tmp_path).exists(lock.LOCK_FILE)


def test_what_a_dead_writer_was_writing_goes_with_its_lock(tmp_path, holder):
    own, others = f"runs/x.json.{holder.pid}-0a.partial", f"runs/x.json.{os.getpid()}-0a.partial"
    folder = folder_at(tmp_path)
    for key in (own, f"archive.json.{holder.pid}-0b.partial", others, "runs/x.json"):
        folder.put(key, b"{}")
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with only_writer(tmp_path, "score", wait_s=0):
        assert [key for key, _ in folder.files() if not key.startswith(".build/")] == ["runs/x.json", others]


def test_frozen_writer_is_followed_and_leaves_the_lock_to_its_follower(tmp_path, holder, monkeypatch):
    monkeypatch.setattr(lock, "SILENT_S", 1.0)
    os.kill(holder.pid, signal.SIGSTOP)
    with only_writer(tmp_path, "beats", wait_s=30):
        os.kill(holder.pid, signal.SIGCONT)
        time.sleep(2 * lock.BEAT_S)
        assert json.loads(folder_at(tmp_path).read(lock.LOCK_FILE))["pid"] == os.getpid()


def test_process_id_that_was_given_anew_is_not_the_holder(tmp_path):
    stale = {"command": "run", "token": "x", **lock._myself(), "started": "1"}
    folder_at(tmp_path).put(lock.LOCK_FILE, json.dumps(stale).encode())
    with only_writer(tmp_path, "beats", wait_s=0):
        pass


def test_writer_waits_for_the_one_before_it(tmp_path):
    order = []

    def first():
        with only_writer(tmp_path / "w", "convert"):
            held.set()
            time.sleep(0.3)
            order.append("first")
        lock._held.clear()

    held = threading.Event()
    thread = threading.Thread(target=first)
    thread.start()
    held.wait()
    lock._held.clear()  # as another process sees it
    with only_writer(tmp_path / "w", "beats", wait_s=20):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]


def test_want_of_memory_is_one_message(tmp_path, monkeypatch, capsys):
    def hungry(*_args, **_options):
        raise MemoryError("9 GB for an array")

    monkeypatch.setattr(verify, "verify_workspace", hungry)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["verify", str(tmp_path)])
    assert stopped.value.code == 1
    assert "not enough memory here (9 GB for an array)" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "advice"), [(errno.ENOSPC, "make room there"), (errno.EIO, "check the disk")])
def test_disk_that_refuses_says_where_and_what_to_do(tmp_path, monkeypatch, capsys, number, advice):
    write_archive(tmp_path / "archive", ArchiveShape(n_records=1, duration_s=10.0, n_leads=12, sampling_frequency_hz=250.0))

    def fsync(_descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(SystemExit) as ended:
        cli.main(["convert", str(tmp_path / "archive"), str(tmp_path / "work")])
    assert ended.value.code == 1
    told = f"{os.strerror(number)}: '{tmp_path}.*{advice}, then run the same command again"
    assert re.search(told, capsys.readouterr().err)
