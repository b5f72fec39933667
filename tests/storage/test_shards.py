"""Shards by our own hand: Zarr's bytes exactly, Zarr's values exactly, and no damaged byte read as data."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
import zarr.storage
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numcodecs.blosc import Blosc
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

from storage import CorruptStore, build, open_store
from storage.shards import Layout, decode_rows, encode_shard, layout_of
from tests.storage.test_storage import plan_of, produce


def zarr_array(store, shape, chunk, n_chunks, dtype, fill, compressors=None):
    shard = tuple(length * n for length, n in zip(chunk, n_chunks, strict=True))
    codecs = compressors or [
        BloscCodec(typesize=np.dtype(dtype).itemsize, cname="lz4", clevel=5, shuffle="bitshuffle", blocksize=0),
        Crc32cCodec(),
    ]
    return zarr.create_array(
        store, shape=shape, chunks=chunk, shards=shard, dtype=dtype, fill_value=fill, compressors=codecs, zarr_format=3
    )


def stored(store, key: str) -> bytes:
    found = asyncio.run(store.get(key, zarr.core.buffer.default_buffer_prototype()))
    return b"" if found is None else found.to_bytes()


@st.composite
def arrays(draw):
    """Shape, chunk, chunks in a shard, type, fill and values; whole stretches are fill, as in a store of records."""
    n_dims = draw(st.integers(1, 3))
    chunk = tuple(draw(st.integers(1, 4)) for _ in range(n_dims))
    rest = tuple(draw(st.integers(1, 9)) for _ in range(n_dims - 1))
    n_chunks = (draw(st.integers(1, 5)), *(-(-length // part) for length, part in zip(rest, chunk[1:], strict=True)))
    shape = (draw(st.integers(1, 40)), *rest)
    dtype = draw(st.sampled_from(["int8", "int16", "uint16", "int32", "int64", "float32", "float64"]))
    fill = draw(st.sampled_from([0, 7, -0.0, np.nan, np.inf] if dtype.startswith("float") else [0, 7]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    values = rng.integers(0, 100, shape).astype(dtype)
    values[rng.random(shape[0]) < draw(st.sampled_from([0.0, 0.5, 1.0]))] = fill
    return shape, chunk, n_chunks, dtype, np.dtype(dtype).type(fill), values


@settings(deadline=None)
@given(arrays())
def test_shards_are_zarrs_to_the_byte_and_read_back(case):
    shape, chunk, n_chunks, dtype, fill, values = case
    store = zarr.storage.MemoryStore()
    array = zarr_array(store, shape, chunk, n_chunks, dtype, fill)
    array[...] = values
    layout = layout_of(stored(store, "zarr.json"))
    n_rows = layout.shard[0]
    for index in range(-(-shape[0] // n_rows)):
        rows = values[index * n_rows : (index + 1) * n_rows]
        raw = b"".join(encode_shard(layout, rows))
        assert raw == stored(store, f"c/{index}" + "/0" * (len(shape) - 1))
        if raw:
            found = np.empty_like(rows)
            box = tuple(slice(0, length) for length in shape[1:])
            numbers = index * n_rows + np.arange(len(rows))
            decode_rows(layout, partial(piece, raw), index * n_rows, numbers, box, found, "here")
            assert found.tobytes() == rows.tobytes()


def piece(raw: bytes, start: int, n_bytes: int) -> bytes:
    start = start if start >= 0 else len(raw) + start
    return raw[start : start + n_bytes]


def keys(length: int):
    whole = st.integers(-length, length - 1)
    return st.one_of(
        whole,
        st.slices(length).filter(lambda part: len(range(*part.indices(length)))),  # xarray fails on 0:0:-1
        st.just(slice(2, 2)),
        st.lists(whole, max_size=6).map(lambda numbers: np.array(numbers, dtype=np.int64)),
        st.lists(st.booleans(), min_size=length, max_size=length).map(np.array),
    )


@pytest.fixture(scope="module")
def same_store(tmp_path_factory):
    path = build(str(tmp_path_factory.mktemp("shards")), plan_of(), produce)
    return open_store(path)["trace"], xr.open_zarr(path, consolidated=False, chunks=None, decode_cf=False)["trace"]


@settings(deadline=None)
@given(rows=keys(23), samples=keys(250))
@example(rows=np.array([13, 13, 15]), samples=slice(2, 2))  # as many rows as lie between the first and the last, and not those
def test_any_selection_is_the_one_that_zarr_reads(same_store, rows, samples):
    ours, zarrs = same_store
    selections = [(rows,), (rows, samples), (slice(None), samples)]
    for selection in selections:
        found, wanted = ours[selection], zarrs[selection]
        assert (found.dims, found.dtype) == (wanted.dims, wanted.dtype)
        np.testing.assert_array_equal(found.values, wanted.values)


def test_a_row_asked_for_twice_is_not_taken_for_its_neighbour():
    """Of chunks of three rows, decoded straight into their place where all three are wanted."""
    layout = Layout((6, 5), (6, 5), (3, 5), np.int16(-1), Blosc("lz4", 5, Blosc.NOSHUFFLE))
    values = np.arange(30, dtype=np.int16).reshape(6, 5)
    content = b"".join(encode_shard(layout, values))

    def read(start: int, n_bytes: int) -> bytes:
        return content[start % len(content) :][:n_bytes]

    for rows in ([0, 1, 2], [0, 0, 2], [0, 2, 2], [3, 3, 3, 5], [1, 1, 3, 4, 5]):
        out = np.empty((len(rows), 5), np.int16)
        decode_rows(layout, read, 0, np.array(rows), (slice(0, 5),), out, "here")
        np.testing.assert_array_equal(out, values[rows])


def test_selections_follow_one_another_as_in_xarray(same_store):
    ours, zarrs = same_store
    for one in (ours, zarrs):
        assert one.isel(row=[3, 2, 9]).isel(time=slice(10, 3, -2))[1:].shape == (2, 4)
    together = {name: xr.DataArray([1, 7, 20], dims="place") for name in ("row", "time")}
    np.testing.assert_array_equal(ours.isel(together).values, zarrs.isel(together).values)


def test_bulk_values_are_decoded_without_zarrs_event_loop(tmp_path, monkeypatch):
    opened = open_store(build(str(tmp_path), plan_of(), produce))

    def refuse(waiting, *_, **__):
        waiting.close()
        raise AssertionError("through Zarr's event loop")

    monkeypatch.setattr("zarr.core.array.sync", refuse)
    assert opened["trace"][3:9].values.shape == (6, 250)
    with pytest.raises(AssertionError, match="event loop"):
        opened["level"].load()


def test_every_flipped_byte_of_a_shard_is_refused_or_beside_what_is_read(tmp_path):
    path = Path(build(str(tmp_path), plan_of(), produce))
    shard = path / "trace" / "c" / "1" / "0"
    raw = shard.read_bytes()
    wanted = open_store(path)["trace"][4:8].values
    for place in range(0, len(raw), 7):
        shard.write_bytes(raw[:place] + bytes([raw[place] ^ 0x40]) + raw[place + 1 :])
        with pytest.raises(CorruptStore, match=r"c/1/0: .*checksum"):
            open_store(path)["trace"][4:8].load()
    for length in (0, 3, 50, len(raw) - 1):
        shard.write_bytes(raw[:length])
        with pytest.raises(CorruptStore, match="checksum"):
            open_store(path)["trace"][4:8].load()
    shard.write_bytes(raw)
    np.testing.assert_array_equal(open_store(path)["trace"][4:8].values, wanted)


def test_a_shard_that_is_gone_is_not_read_as_fill(tmp_path):
    path = Path(build(str(tmp_path), plan_of(), produce))
    (path / "trace" / "c" / "1" / "0").unlink()
    assert open_store(path)["trace"][:4].values.shape == (4, 250)
    with pytest.raises(CorruptStore, match=r"c/1/0: missing"):
        open_store(path)["trace"][:5].load()


def test_a_shard_of_fill_alone_has_no_file_and_reads_as_fill(tmp_path):
    def nothing_in_one(shard, rows):
        block = produce(shard, rows)
        block["trace"][...] = -1 if shard.index == 1 else 5
        return block

    path = Path(build(str(tmp_path), plan_of(), nothing_in_one))
    assert not (path / "trace" / "c" / "1" / "0").exists()
    assert set(open_store(path)["trace"][4:8].values.ravel().tolist()) == {-1}


@pytest.mark.parametrize("codecs", [[ZstdCodec(), Crc32cCodec()], [BloscCodec(typesize=2)]])
def test_layouts_of_other_codecs_are_left_to_zarr(codecs):
    store = zarr.storage.MemoryStore()
    zarr_array(store, (10, 6), (2, 3), (2, 2), "int16", 0, codecs)
    assert layout_of(stored(store, "zarr.json")) is None


def test_layouts_of_big_endian_numbers_and_text_are_left_to_zarr():
    store = zarr.storage.MemoryStore()
    zarr_array(store, (10, 6), (2, 3), (2, 2), "int16", 0)
    document = json.loads(stored(store, "zarr.json"))
    inner = document["codecs"][0]["configuration"]["codecs"]
    assert layout_of(json.dumps(document | {"data_type": "string"}).encode()) is None
    inner[0]["configuration"]["endian"] = "big"
    assert layout_of(json.dumps(document).encode()) is None
