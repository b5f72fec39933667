"""The receipt says who made a shard, the store says it of all: version and code, nothing of machine or hour."""

from __future__ import annotations

from pathlib import Path

import pytest

from ecgbatch.upkeep.verify import made_by_others
from storage import build, open_store, other_makers, this_maker, verify_store
from storage.maker import makers_of
from storage.receipts import Receipt
from tests.storage.test_storage import plan_of, produce

OTHER = {"ecgbatch": "0.1.0", "code": "0123456789abcdef"}


def until(last: int):
    def stopped(shard, rows):
        if shard.index == last:
            raise OSError
        return produce(shard, rows)

    return stopped


def begin(folder: Path, last: int) -> None:
    with pytest.raises(OSError):  # noqa: PT011
        build(str(folder), plan_of(), until(last))


def test_a_store_says_who_made_it_and_the_same_code_gives_the_same_bytes(tmp_path):
    begin(tmp_path / "stopped", 3)
    first, again = build(str(tmp_path / "stopped"), plan_of(), produce), build(str(tmp_path / "whole"), plan_of(), produce)
    assert Path(first, "zarr.json").read_bytes() == Path(again, "zarr.json").read_bytes()
    made_by = open_store(first).attrs["made_by"]
    assert made_by == {"published": this_maker(), "shards": [{"by": this_maker(), "from": 0, "to": 5}]}
    assert set(this_maker()) == {"ecgbatch", "code"}
    assert other_makers(open_store(first).attrs) == []


def test_shards_of_other_code_are_named_and_the_store_verifies(tmp_path, monkeypatch):
    monkeypatch.setitem(build.__globals__, "this_maker", lambda: OTHER)
    begin(tmp_path, 2)
    monkeypatch.undo()
    store = build(str(tmp_path), plan_of(), produce)
    assert verify_store(store, read_data=True) == []
    assert other_makers(open_store(store).attrs) == [{"by": OTHER, "from": 0, "to": 1}]


def test_receipts_that_name_nobody_are_taken_and_said_to(tmp_path):
    begin(tmp_path, 5)
    for path in (tmp_path / ".build").rglob("0000000[34].json"):
        told = Receipt.from_bytes(path.read_bytes())
        assert told.made_by == this_maker()
        path.write_bytes(Receipt(told.plan_digest, told.shard, told.files, told.content, told.columns).to_bytes())
    store = build(str(tmp_path), plan_of(), produce)
    assert verify_store(store, read_data=True) == []
    assert other_makers(open_store(store).attrs) == [{"by": {}, "from": 3, "to": 4}]


def test_neighbours_of_one_maker_are_one_span_and_a_store_without_shards_has_none():
    shards = [(0, OTHER), (1, OTHER), (2, this_maker()), (3, OTHER)]
    spans = makers_of(shards, this_maker())["shards"]
    assert [(span["by"] == OTHER, span["from"], span["to"]) for span in spans] == [(True, 0, 1), (False, 2, 2), (True, 3, 3)]
    assert makers_of([], this_maker())["shards"] == []
    assert other_makers({}) == []  # of an earlier version


def test_verify_says_which_shards_another_made(tmp_path, monkeypatch):
    from dataclasses import replace

    from storage.plan import Plan

    plan: Plan = plan_of()
    signals = replace(plan, schema=replace(plan.schema, name="signals"))
    monkeypatch.setitem(build.__globals__, "this_maker", lambda: OTHER)
    with pytest.raises(OSError):  # noqa: PT011
        build(str(tmp_path), signals, until(1))
    monkeypatch.undo()
    build(str(tmp_path), signals, produce)
    (said,) = made_by_others(str(tmp_path))
    assert "shards 0 to 0 were made by ecgbatch 0.1.0 (code 0123456789abcdef), the store was published by ecgbatch" in said
