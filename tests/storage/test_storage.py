"""The storage floor: stores are complete or absent, the same bytes on every engine, and damage is found."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import (
    TEXT,
    CorruptStore,
    Folder,
    ForeignStore,
    Plan,
    Schema,
    SchemaError,
    Shard,
    StoreError,
    UnfinishedStore,
    Variable,
    build,
    list_stores,
    make_plan,
    open_store,
    schema_of,
    verify_store,
)
from storage.shards import layout_of

TRACES = Schema(
    name="traces",
    version=1,
    row_dim="row",
    title="A small store for tests",
    variables={
        "trace": Variable(("row", "time"), "int16", "a trace", "adu", -1, bulk=True, inner_chunk=(100,)),
        "name": Variable(("row",), "string", "its name", ""),
        "level": Variable(("row",), "float64", "its level", "1", low=0, high=1),
        "kind": Variable(("row",), "int8", "its kind", "1", flags={"even": 0, "odd": 1}),
        "channel": Variable(("channel",), "string", "known beforehand", ""),
    },
)


def plan_of(n_rows: int = 23, *, seed: int = 1, shard_rows: int = 4) -> Plan:
    inputs = xr.Dataset(
        {"channel": ("channel", np.array(["a", "b"], dtype=TEXT)), "offset": ("row", np.arange(n_rows) * seed)},
    )
    sizes = {"row": n_rows, "time": 250, "channel": 2}
    return make_plan(TRACES, sizes=sizes, inputs=inputs, settings={"seed": seed}, shard_rows=shard_rows)


def produce(shard: Shard, rows: xr.Dataset) -> xr.Dataset:
    number = np.arange(shard.start, shard.stop)
    trace = ((np.arange(250)[None, :] * 7 + rows["offset"].values[:, None]) % 1000).astype(np.int16)
    return xr.Dataset(
        {
            "trace": (("row", "time"), trace),
            "name": ("row", np.array([f"row {n} äß" for n in number], dtype=TEXT)),
            "level": ("row", np.where(number % 5 == 0, np.nan, number / 1000)),
            "kind": ("row", (number % 2).astype(np.int8)),
        }
    )


def tree_digest(folder: str | Path) -> dict[str, str]:
    top = Path(folder)
    return {str(p.relative_to(top)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(top.rglob("*")) if p.is_file()}


def test_published_store_holds_what_was_produced(tmp_path):
    store = build(str(tmp_path), plan_of(), produce)
    assert store == str(tmp_path / "traces" / f"{plan_of().digest}.zarr")
    found = open_store(store)
    wanted = produce(Shard(0, 0, 23), plan_of().rows(Shard(0, 0, 23)))
    for name in wanted:
        np.testing.assert_array_equal(found[name].values, wanted[name].values)
    assert found["channel"].values.tolist() == ["a", "b"]
    assert found["kind"].attrs["flag_meanings"] == "even odd"
    assert found.attrs["settings"] == {"seed": 1}
    assert list_stores(tmp_path, "traces") == [store]
    assert not (tmp_path / ".build" / f"traces-{plan_of().digest}").exists()


def test_store_opens_with_plain_xarray_without_a_warning(tmp_path):
    store = build(str(tmp_path), plan_of(), produce)
    assert xr.open_zarr(store, consolidated=False)["trace"].dtype == np.int16


def test_crc32c_is_last_in_every_codec_chain(tmp_path):
    store = Path(build(str(tmp_path), plan_of(), produce))
    for document in store.rglob("zarr.json"):
        codecs = json.loads(document.read_text()).get("codecs")
        if codecs and codecs[0]["name"] == "sharding_indexed":
            inner = codecs[0]["configuration"]
            assert inner["codecs"][-1]["name"] == "crc32c"
            assert inner["index_codecs"][-1]["name"] == "crc32c"
        elif codecs:
            assert codecs[-1]["name"] == "crc32c"


@settings(deadline=None)  # a busy machine is no bug
@given(n_rows=st.integers(1, 5000), wanted=st.integers(1, 3000))
def test_shards_cover_rows_exactly_once_and_hold_whole_chunks(n_rows, wanted):
    plan = plan_of(n_rows, shard_rows=wanted)
    rows = [row for i in range(plan.n_shards) for row in range(plan.shard(i).start, plan.shard(i).stop)]
    assert rows == list(range(n_rows))
    shard_shape, chunk_shape = plan.chunks(TRACES.variables["trace"])
    assert all(outer % inner == 0 for outer, inner in zip(shard_shape, chunk_shape, strict=True))


def test_three_engines_and_any_order_give_the_same_bytes(tmp_path):
    plain = tree_digest(build(str(tmp_path / "map"), plan_of(), produce))
    with ThreadPoolExecutor(3) as pool:
        threads = tree_digest(
            build(str(tmp_path / "threads"), plan_of(), produce, map=lambda f, xs: pool.map(f, reversed(list(xs))))
        )
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        processes = tree_digest(build(str(tmp_path / "processes"), plan_of(), produce, map=pool.map))
    assert plain == threads == processes


def test_finished_store_is_not_built_again(tmp_path):
    build(str(tmp_path), plan_of(), produce)

    def never(shard, rows):
        raise AssertionError("work redone")

    build(str(tmp_path), plan_of(), never)


def test_resume_does_only_what_no_receipt_covers_and_gives_identical_bytes(tmp_path):
    undisturbed = tree_digest(build(str(tmp_path / "undisturbed"), plan_of(), produce))
    made = []

    def failing(shard, rows):
        if shard.index == 3:
            raise OSError("disk gone")
        made.append(shard.index)
        return produce(shard, rows)

    with pytest.raises(OSError, match="disk gone"):
        build(str(tmp_path / "w"), plan_of(), failing)
    assert list_stores(tmp_path / "w", "traces") == []
    assert not list((tmp_path / "w").glob("*/*.zarr"))
    first = list(made)

    def counting(shard, rows):
        made.append(shard.index)
        return produce(shard, rows)

    resumed = build(str(tmp_path / "w"), plan_of(), counting)
    assert first == [0, 1, 2]
    assert made == [0, 1, 2, 3, 4, 5]
    assert tree_digest(resumed) == undisturbed


def test_folder_that_cannot_be_listed_while_publishing_ends_the_build_and_is_not_taken_for_empty(tmp_path, monkeypatch):
    undisturbed, listed = tree_digest(build(str(tmp_path / "undisturbed"), plan_of(), produce)), os.scandir
    n_met = 0
    for name in ("name", "receipts"):

        def fail(path, name=name):
            nonlocal n_met
            if os.fspath(path).endswith(f".zarr/{name}"):
                n_met += 1
                raise OSError(errno.EIO, "input/output error", os.fspath(path))
            return listed(path)

        with monkeypatch.context() as patched:
            patched.setattr(os, "scandir", fail)
            with pytest.raises(OSError, match="input/output error"):
                build(str(tmp_path / "w"), plan_of(), produce)
        assert list_stores(tmp_path / "w", "traces") == []
    assert n_met == 2
    assert tree_digest(build(str(tmp_path / "w"), plan_of(), produce)) == undisturbed


def test_torn_receipt_counts_as_no_receipt(tmp_path):
    def stop_at_last(shard, rows):
        if shard.index == 5:
            raise OSError
        return produce(shard, rows)

    with pytest.raises(OSError):  # noqa: PT011
        build(str(tmp_path), plan_of(), stop_at_last)
    receipt = next((tmp_path / ".build").rglob("00000002.json"))
    receipt.write_bytes(receipt.read_bytes()[:-20])
    made = []

    def counting(shard, rows):
        made.append(shard.index)
        return produce(shard, rows)

    build(str(tmp_path), plan_of(), counting)
    assert made == [2, 5]


def test_engine_that_drops_shards_leaves_no_store(tmp_path):
    def forgetful(function, tasks):
        return [function(task) for task in list(tasks)[1:]]

    with pytest.raises(UnfinishedStore, match="1 of 6 shards missing: 0"):
        build(str(tmp_path), plan_of(), produce, map=forgetful)
    with pytest.raises(UnfinishedStore, match="no finished store"):
        open_store(tmp_path / "traces" / f"{plan_of().digest}.zarr")


def test_bug_in_a_stage_names_its_shard(tmp_path):
    def broken(shard, rows):
        raise ZeroDivisionError("oh")

    with pytest.raises(StoreError, match=r"traces shard 0 \(rows 0 to 4\): ZeroDivisionError"):
        build(str(tmp_path), plan_of(), broken)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda b: b.drop_vars("level"), "lacks"),
        (lambda b: b.assign(extra=("row", np.zeros(b.sizes["row"]))), "does not know"),
        (lambda b: b.assign(trace=b["trace"].astype("int32")), "must be int16"),
        (lambda b: b.assign(level=b["level"] + 7), "must lie in"),
        (lambda b: b.assign(kind=(b["kind"] + 5).astype("int8")), "undefined flags"),
        (lambda b: b.isel(row=slice(1, None)), "must be"),
    ],
)
def test_block_that_does_not_fit_its_schema_is_refused(tmp_path, change, words):
    with pytest.raises(SchemaError, match=words):
        build(str(tmp_path), plan_of(), lambda shard, rows: change(produce(shard, rows)))


def test_plan_without_a_fixed_variable_is_refused():
    with pytest.raises(SchemaError, match="channel"):
        make_plan(TRACES, sizes={"row": 3, "time": 5, "channel": 2}, inputs=xr.Dataset(), settings={})


def test_plans_digest_depends_on_inputs_and_settings_only():
    assert plan_of().digest == plan_of().digest
    assert plan_of(seed=2).digest != plan_of().digest
    assert plan_of().without_inputs().digest == plan_of().digest


def test_leftovers_of_dead_writers_do_not_reach_the_store(tmp_path):
    def leave_partial(shard, rows):
        folder = next(tmp_path.glob(".build/*/*.zarr/trace"))
        (folder / f"x{shard.index}.partial").write_bytes(b"torn")
        return produce(shard, rows)

    store = build(str(tmp_path), plan_of(), leave_partial)
    assert not list(Path(store).rglob("*.partial"))
    assert verify_store(store, read_data=True) == []


def damage(store: Path, kind: str) -> None:
    shard = store / "trace" / "c" / "2" / "0"
    column = store / "level" / "c" / "0"
    content = bytearray(shard.read_bytes())
    if kind == "missing chunk":
        shard.unlink()
    elif kind == "flipped bit":
        content[len(content) // 2] ^= 4
        shard.write_bytes(content)
    elif kind == "truncated":
        shard.write_bytes(content[:-1])
    elif kind == "foreign file":
        (store / "trace" / "c" / "99").write_bytes(b"hello")
    elif kind == "flipped bit in a column":
        column.write_bytes(bytes([column.read_bytes()[0] ^ 1]) + column.read_bytes()[1:])
    elif kind == "missing column":
        column.unlink()
    elif kind == "altered root":
        root = store / "zarr.json"
        root.write_text(root.read_text().replace('"seed": 1', '"seed": 3', 1))
    elif kind == "altered array document":
        document = store / "trace" / "zarr.json"
        document.write_text(document.read_text().replace("adu", "uV "))
    elif kind == "swapped shards":
        other = store / "trace" / "c" / "3" / "0"
        other_content = other.read_bytes()
        other.write_bytes(content)
        shard.write_bytes(other_content)
    elif kind == "altered receipts":
        file = next((store / "receipts" / "trace_file_bytes" / "c").iterdir())
        file.write_bytes(file.read_bytes()[:-1] + b"\x00")


@pytest.mark.parametrize(
    "kind",
    [
        "missing chunk",
        "flipped bit",
        "truncated",
        "foreign file",
        "flipped bit in a column",
        "missing column",
        "altered root",
        "altered array document",
        "swapped shards",
        "altered receipts",
    ],
)
def test_verify_finds_damage(tmp_path, kind):
    store = build(str(tmp_path), plan_of(), produce)
    assert verify_store(store, read_data=True) == []
    damage(Path(store), kind)
    assert verify_store(store, read_data=True)


def test_verify_finds_every_one_of_many_random_flips(tmp_path):
    store = Path(build(str(tmp_path), plan_of(), produce))
    files = [path for path in sorted(store.rglob("*")) if path.is_file()]
    random = np.random.default_rng(0)
    for _ in range(60):
        path = files[random.integers(len(files))]
        content = path.read_bytes()
        flipped = bytearray(content)
        flipped[random.integers(len(flipped))] ^= 1 << int(random.integers(8))
        path.write_bytes(flipped)
        assert verify_store(store, read_data=True), f"flip in {path} not found"
        path.write_bytes(content)
    assert verify_store(store, read_data=True) == []


def test_store_in_anothers_place_is_found(tmp_path):
    store = Path(build(str(tmp_path), plan_of(), produce))
    moved = store.rename(store.with_name("0123456789abcdef0123.zarr"))
    assert "another's place" in verify_store(moved)[0]


def test_foreign_zarr_group_is_refused(tmp_path):
    xr.Dataset({"x": ("y", [1])}).to_zarr(tmp_path / "x.zarr", zarr_format=3, consolidated=False)
    with pytest.raises(ForeignStore, match="not one that"):
        open_store(tmp_path / "x.zarr")


@pytest.mark.parametrize("has_links", [True, False])
def test_every_file_and_folder_of_a_store_was_brought_onto_the_disk(tmp_path, monkeypatch, has_links):
    synced, fsync, link = set(), os.fsync, os.link

    def noted(descriptor):
        synced.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def refusing(source, target):
        if not has_links and str(target).endswith(".partial"):
            raise OSError(errno.EPERM, "no hard links here")
        link(source, target)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(os, "link", refusing)
    path = Path(build(str(tmp_path), plan_of(), produce))
    assert len([*path.rglob("*")]) > 20
    assert [found for found in [path, path.parent, *path.rglob("*")] if found.stat().st_ino not in synced] == []


def test_disk_that_lies_is_caught_by_reading_back(tmp_path, monkeypatch):
    read = Folder.read
    monkeypatch.setattr(Folder, "read", lambda self, key: read(self, key)[::-1] if "/c/" in key else read(self, key))
    with pytest.raises(CorruptStore, match="does not read back"):
        build(str(tmp_path), plan_of(), produce)


def test_bytes_that_no_chunk_holds_are_caught_by_reading_back(tmp_path, monkeypatch):
    """Put between the chunks and their index they leave every place, checksum and value as it was."""
    read = Folder.read

    def longer(self, key):
        content = read(self, key)
        if "/c/" not in key:
            return content
        layout = layout_of(read(self, f"{key.partition('/c/')[0]}/zarr.json"))
        index = 16 * math.prod(layout.chunks) + 4
        return content[:-index] + b"more" + content[-index:]

    monkeypatch.setattr(Folder, "read", longer)
    with pytest.raises(CorruptStore, match="does not read back"):
        build(str(tmp_path), plan_of(), produce)


def test_codec_that_lies_is_caught_by_reading_back(tmp_path, monkeypatch):
    honest = sys.modules["storage.build"].encode_shard
    monkeypatch.setattr(sys.modules["storage.build"], "encode_shard", lambda layout, values: honest(layout, values + 1))
    with pytest.raises(CorruptStore, match="does not read back"):
        build(str(tmp_path), plan_of(), produce)


def test_two_writers_of_one_plan_end_in_one_store(tmp_path):
    undisturbed = tree_digest(build(str(tmp_path / "undisturbed"), plan_of(), produce))
    work = str(tmp_path / "w")

    def interrupting(shard, rows):
        if shard.index == 2:
            build(work, plan_of(), produce)
        return produce(shard, rows)

    store = build(work, plan_of(), interrupting)
    assert tree_digest(store) == undisturbed
    assert not list(Path(work, ".build").iterdir())


@pytest.mark.parametrize("error", [FileNotFoundError, FileExistsError, PermissionError])
def test_only_what_a_second_writer_can_cause_is_taken_for_one(tmp_path, error):
    work = str(tmp_path / "w")

    def overtaken(shard, rows):
        build(work, plan_of(), produce)
        raise error(str(shard.index))

    if error is PermissionError:
        with pytest.raises(PermissionError):
            build(work, plan_of(), overtaken)
    assert tree_digest(build(work, plan_of(), overtaken)) == tree_digest(build(str(tmp_path / "whole"), plan_of(), produce))


@pytest.mark.parametrize("frozen_at", ["link", "write", "sync", "put_if_absent", "publish"])
def test_writer_that_froze_while_publishing_reaches_no_byte_of_what_another_published(tmp_path, monkeypatch, frozen_at):
    work = str(tmp_path / "w")
    undisturbed = tree_digest(build(str(tmp_path / "undisturbed"), plan_of(), produce))
    verb, publishing, seen = getattr(Folder, frozen_at), [], []

    def freeze(folder, key, *rest, **named):
        if publishing and not seen:
            seen.append(key)
            assert tree_digest(build(work, plan_of(), produce)) == undisturbed
        return verb(folder, key, *rest, **named)

    own_place = Folder.own_place
    monkeypatch.setattr(Folder, "own_place", lambda folder, key: publishing.append(key) or own_place(folder, key))
    monkeypatch.setattr(Folder, frozen_at, freeze)
    assert tree_digest(build(work, plan_of(), produce)) == undisturbed
    assert seen


SLOW_BUILD = textwrap.dedent(
    """
    import sys, time
    from tests.storage.test_storage import plan_of, produce
    from storage import build
    def slow(shard, rows):
        time.sleep(0.05)
        return produce(shard, rows)
    print("started", flush=True)
    build(sys.argv[1], plan_of(80), slow)
    """
)


@pytest.mark.parametrize("delay_s", [0.0, 0.15, 0.4, 0.8])
def test_resume_after_kill_gives_identical_bytes(tmp_path, delay_s):
    undisturbed = tree_digest(build(str(tmp_path / "undisturbed"), plan_of(80), produce))
    command = [sys.executable, "-c", SLOW_BUILD, str(tmp_path / "w")]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(delay_s)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    for store in (tmp_path / "w").glob("*/*.zarr"):
        assert verify_store(store, read_data=True) == []
    assert tree_digest(build(str(tmp_path / "w"), plan_of(80), produce)) == undisturbed


def test_store_of_no_rows_is_a_store(tmp_path):
    store = build(str(tmp_path), plan_of(0), produce)
    assert open_store(store)["trace"].shape == (0, 250)
    assert verify_store(store, read_data=True) == []


def test_progress_counts_shards(tmp_path):
    seen = []
    build(str(tmp_path), plan_of(), partial(produce), on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(n, 6) for n in range(7)]


def test_a_store_of_small_columns_alone_is_built_proved_and_says_what_its_rows_are(tmp_path):
    columns = {name: variable for name, variable in TRACES.variables.items() if not variable.bulk}
    schema = replace(TRACES, name="notes", variables=columns)
    whole = plan_of()
    plan = make_plan(schema, sizes=whole.sizes, inputs=whole.inputs, settings={}, shard_rows=4)
    assert (plan.document["row_dim"], "row_dim" in whole.document) == ("row", False), "what is there already keeps its digest"
    path = build(str(tmp_path), plan, lambda shard, rows: produce(shard, rows).drop_vars("trace"))
    store = open_store(path)
    assert store["name"].values.tolist() == [f"row {n} äß" for n in range(23)]
    assert schema_of(store) == schema
    assert verify_store(path, read_data=True) == []
    (Path(path) / "level" / "c" / "0").write_bytes(b"")
    assert len(verify_store(path)) == 1
