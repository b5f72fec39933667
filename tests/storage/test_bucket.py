"""Workspaces and archives in an object store: the same bytes and promises as on a disk, whatever the network does."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest
from obstore.exceptions import BaseError

from benchmarks.reliability.faulty_s3 import KINDS, FaultyProxy
from ecgbatch.synthetic.archive import ArchiveShape, write_archive
from storage import bucket, build, folder_at, list_stores, open_store, verify_store
from tests.commands import result_of
from tests.storage.test_storage import plan_of, produce, tree_digest

moto_server = pytest.importorskip("moto.server")
COMMAND = [str(Path(sys.executable).with_name("ecgbatch"))]


@pytest.fixture(scope="module")
def s3_port():
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield server.get_host_and_port()[1]
    finally:
        server.stop()


@pytest.fixture
def s3(s3_port, monkeypatch):
    """Environment of a fresh bucket ``ecg`` behind a flawless endpoint; yields the server's port."""
    import urllib.request

    endpoint = f"http://127.0.0.1:{s3_port}"
    request = urllib.request.Request(f"{endpoint}/moto-api/reset", method="POST")
    urllib.request.urlopen(request).close()
    use(monkeypatch, endpoint)
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/ecg", method="PUT")).close()
    return s3_port


def use(monkeypatch, endpoint: str) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    bucket._store.cache_clear()
    sys.modules["storage.build"]._layout.cache_clear()  # of the endpoint before


def objects(address: str) -> dict[str, bytes]:
    folder = folder_at(address)
    return {key: folder.read(key) for key, _ in folder.files()}


def test_store_in_a_bucket_has_the_bytes_of_one_on_a_disk(s3, tmp_path):
    local = Path(build(str(tmp_path), plan_of(), produce))
    store = build("s3://ecg/work", plan_of(), produce)
    wanted = {path.relative_to(local).as_posix(): path.read_bytes() for path in local.rglob("*") if path.is_file()}
    assert objects(store) == wanted
    assert open_store(store)["name"].values[3] == "row 3 äß"
    assert list_stores("s3://ecg/work", "traces") == [store]
    assert verify_store(store, read_data=True) == []
    assert list(folder_at("s3://ecg/work").files(".build")) == []


def test_damage_in_a_bucket_is_found(s3):
    store = build("s3://ecg/work", plan_of(), produce)
    folder_at(store).delete("trace/c/2/0")
    assert "missing" in verify_store(store)[0]


def test_interrupted_build_in_a_bucket_goes_on(s3):
    made = []

    def failing(shard, rows):
        if shard.index == 3:
            raise OSError("gone")
        return produce(shard, rows)

    def counting(shard, rows):
        made.append(shard.index)
        return produce(shard, rows)

    with pytest.raises(OSError, match="gone"):
        build("s3://ecg/work", plan_of(), failing)
    assert list_stores("s3://ecg/work", "traces") == []
    store = build("s3://ecg/work", plan_of(), counting)
    assert made == [3, 4, 5]
    assert verify_store(store, read_data=True) == []


def test_conditional_put_has_one_winner_and_knows_its_own_write(s3):
    folder = folder_at("s3://ecg/work")
    assert folder.put_if_absent("x", b"first")
    assert not folder.put_if_absent("x", b"second")
    assert folder.put_if_absent("x", b"first")
    assert folder.read("x") == b"first"


SLOW_KINDS = ("timeout",)
"""Of ``KINDS``: each fault lasts."""

assert set(SLOW_KINDS) < set(KINDS)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in SLOW_KINDS])
def test_each_fault_alone_is_ridden_out(s3, monkeypatch, tmp_path, kind):
    check_fault_is_ridden_out(s3, monkeypatch, tmp_path, kind)


def check_fault_is_ridden_out(s3, monkeypatch, tmp_path, kind):
    monkeypatch.setattr(bucket, "TIMEOUT_S", 2)
    proxy = FaultyProxy(s3, share=0.1, seed=3, kinds=(kind,))
    with proxy.running() as endpoint:
        use(monkeypatch, endpoint)
        store = build("s3://ecg/work", plan_of(9), produce)
        assert objects(store) == {key: (Path(tmp_path) / key).read_bytes() for key in undisturbed(tmp_path)}
    assert proxy.done[kind] > 0


def test_listing_that_is_cut_while_a_store_is_opened_is_asked_for_again(s3, monkeypatch):
    store = build("s3://ecg/work", plan_of(), produce)
    proxy = FaultyProxy(s3, share=0.3, seed=4, kinds=("cut",))
    with proxy.running() as endpoint:
        use(monkeypatch, endpoint)
        for _ in range(6):
            assert open_store(store).sizes["row"] > 0
    assert proxy.done["cut"] > 3


def undisturbed(tmp_path: Path) -> list[str]:
    store = Path(build(str(tmp_path / "w"), plan_of(9), produce))
    names = list(tree_digest(store))
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((store / name).read_bytes())
    return names


def test_store_that_never_answers_is_an_error_with_its_address(s3, monkeypatch):
    monkeypatch.setattr(bucket, "MOST_TRIES", 2)
    monkeypatch.setattr(bucket, "LONGEST_PAUSE_S", 0.1)
    with FaultyProxy(s3, share=1.0, seed=1, kinds=("503",)).running() as endpoint:
        use(monkeypatch, endpoint)
        with pytest.raises(
            OSError, match=r"s3://ecg/work/x: answer 503 Service Unavailable; no better answer in 2 tries.*goes on where"
        ):
            folder_at("s3://ecg/work").read("x")


def test_archive_and_workspace_in_buckets_from_the_command_line(s3, tmp_path, monkeypatch):
    write_archive(tmp_path / "a", ArchiveShape(n_records=3, duration_s=8.0), seed=5)
    archive = folder_at("s3://ecg/archive")
    for path in (tmp_path / "a").rglob("*"):
        if path.is_file():
            archive.put(path.relative_to(tmp_path / "a").as_posix(), path.read_bytes())
    with FaultyProxy(s3, share=0.05, seed=7, kinds=("429", "503", "reset", "lost")).running() as endpoint:
        use(monkeypatch, endpoint)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        assert result_of("convert", "s3://ecg/archive", "s3://ecg/work")["n_new"] == 3
        assert result_of("convert", "s3://ecg/archive", "s3://ecg/work")["n_new"] == 0
        assert result_of("verify", "s3://ecg/work")["n_problems"] == 0
        use(monkeypatch, f"http://127.0.0.1:{s3}")
    assert [Path(path).name for path in list_stores("s3://ecg/work", "signals")] == [local_digest(tmp_path)]


def local_digest(tmp_path: Path) -> str:
    from ecgbatch.signals.stage import convert_archive

    convert_archive(str(tmp_path / "a"), str(tmp_path / "w"))
    return Path(list_stores(tmp_path / "w", "signals")[0]).name


def test_training_and_evaluation_in_a_bucket_give_the_model_of_a_disk(s3, tmp_path, monkeypatch):
    from dataclasses import replace

    from ecgbatch.beats.lookup import extract_beats
    from ecgbatch.beats.record import BeatSettings
    from ecgbatch.evaluation import audit
    from ecgbatch.model.files import load_model
    from ecgbatch.signals.stage import convert_archive
    from ecgbatch.training import recipes

    settings, beats = recipes.RECIPES["ecgbatch-lead-ii"]
    monkeypatch.setattr(recipes, "RECIPES", {"quick": (replace(settings, epochs=1, min_steps=4, n_kernels=8), beats)})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write_archive(tmp_path / "a", ArchiveShape(n_records=12, duration_s=8.0), seed=5)
    found = {}
    for work in ("s3://ecg/work", str(tmp_path / "w")):
        convert_archive(str(tmp_path / "a"), work)
        extract_beats(work, BeatSettings())
        found[work] = audit.repeated(work, [work], audit.Repeats("quick", 2, 1), map_training=map)
        folder = found[work]["repeats"][0]["model"]
        found[work]["digest"] = load_model(folder).digest
        assert audit.repeated(work, [work], audit.Repeats("quick", 2, 1), map_training=no_training)["mean"]
        judged = audit.evaluate_workspace(work, folder)
        assert judged["auroc"]["value"] == found[work]["repeats"][0]["auroc"]["value"]
    there, here = found.values()
    assert there["digest"] == here["digest"]
    assert there["mean"] == here["mean"]
    assert there["is_out_of_fold"]
    assert not (tmp_path / "s3:").exists()  # nothing of a bucket is written to a disk folder of that name


def no_training(*_):
    raise AssertionError("a model of these beats and settings is there already: it must not be trained again")


def test_reports_in_a_bucket_are_found_by_their_address(s3, tmp_path):
    from ecgbatch.beats.lookup import extract_beats
    from ecgbatch.beats.record import BeatSettings
    from ecgbatch.model.files import shipped_model
    from ecgbatch.reports.writing import report_workspace
    from ecgbatch.scores.stage import score_workspace
    from ecgbatch.signals.stage import convert_archive
    from ecgbatch.upkeep.garbage import collect_garbage
    from ecgbatch.workspace.runs import write_run

    work, model = "s3://ecg/work", str(shipped_model())
    write_archive(tmp_path / "a", ArchiveShape(n_records=2, duration_s=10.0), seed=5)
    convert_archive(str(tmp_path / "a"), work)
    extract_beats(work, BeatSettings())
    run = score_workspace(work, model)
    write_run(work, run, {"archive": str(tmp_path / "a"), "model": model})
    made = report_workspace(work, run)
    assert made["cohort"] == f"s3://ecg/work/reports/{run}/cohort.html"
    assert b"<html" in folder_at(work).read(f"reports/{run}/cohort.html")[:500].lower()
    assert folder_at(work).pointed("reports/latest") == run
    assert collect_garbage(work)["removed"] == []
    assert list(folder_at(work).files(f"reports/{run}/records"))


def test_bucket_that_is_not_there_is_said_at_once(s3):
    folder = folder_at("s3://nowhere/w")
    for verb in (
        lambda: folder.children("signals"),
        lambda: folder.put_if_absent(".build/lock", b"{}"),
        lambda: folder.read("a"),
    ):
        with pytest.raises(OSError, match="s3://nowhere: no such bucket"):
            verb()


def test_forbidden_request_is_not_tried_again(s3):
    asked = []

    def forbidden(_store, _key):
        asked.append(1)
        raise BaseError("Generic S3 error: Server returned non-2xx status code: 403 Forbidden: <Error>")

    with pytest.raises(PermissionError, match="AWS_ variables"):
        folder_at("s3://ecg/w")._ask(forbidden, "w")
    assert len(asked) == 1
