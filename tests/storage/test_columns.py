"""Small columns read by rows are those that Zarr reads; what is damaged is refused; what is kept does not grow with the store."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, current_thread

import numpy as np
import pytest
import xarray as xr
import zarr

from storage import TEXT, CorruptStore, build, folder_at, forget_columns, load_columns, make_plan, open_store, read_columns
from storage import reading as reading_module
from storage.columns import column_rows
from storage.schema import Schema, Variable

SCHEMA = Schema(
    name="things",
    version=1,
    row_dim="record",
    title="Things",
    variables={
        "signal": Variable(("record", "sample"), "int16", "samples", "1", bulk=True, inner_chunk=(None,)),
        "sample": Variable(("sample",), "string", "name of the sample", ""),
        "record_name": Variable(("record",), "string", "name", ""),
        "gain": Variable(("record", "sample"), "float64", "gain", "1"),
        "n_beats": Variable(("record",), "int32", "beats", "1", low=0),
        "is_nothing": Variable(("record",), "string", "always empty", ""),
    },
)


def things(work: Path, n_records: int) -> str:
    """Publish a store of so many records with names of one to nine bytes a letter."""
    names = np.array(["aé漢🫀"[k % 4] * (k % 9) + str(k) for k in range(n_records)], TEXT)
    rows = xr.Dataset({"record_name": ("record", names), "sample": ("sample", np.array(["x", "y", "ü"], TEXT))})
    plan = make_plan(
        SCHEMA, sizes={"record": n_records, "sample": 3}, inputs=rows, settings={}, versions={}, shard_rows=max(1, n_records // 2)
    )

    def produce(shard, here):
        k = np.arange(shard.start, shard.stop)
        return xr.Dataset(
            {
                "signal": (("record", "sample"), np.zeros((k.size, 3), np.int16)),
                "record_name": here["record_name"],
                "gain": (("record", "sample"), np.where(k[:, None] % 5, k[:, None] / [1, 3, 7], np.nan)),
                "n_beats": ("record", k.astype(np.int32)),
                "is_nothing": ("record", np.full(k.size, "", TEXT)),
            }
        )

    return build(str(work), plan, produce)


def assert_same(found: xr.Dataset, wanted: xr.Dataset) -> None:
    assert set(found.variables) == set(wanted.variables) - {"signal"}
    for name, variable in found.variables.items():
        assert variable.dims == wanted[name].dims
        assert variable.dtype == wanted[name].dtype
        assert variable.attrs == wanted[name].attrs
        assert variable.values.tolist() == wanted[name].values.tolist() or name == "gain"
    np.testing.assert_array_equal(found["gain"].values, wanted["gain"].values)


@pytest.mark.parametrize("chunk_rows", [7, 64, 65_536])
def test_rows_of_columns_are_those_that_zarr_reads(tmp_path, monkeypatch, chunk_rows):
    monkeypatch.setattr("storage.arrays.COLUMN_ROWS", chunk_rows)
    monkeypatch.setattr(reading_module, "BLOCK_ROWS", 10)
    forget_columns()
    path = things(tmp_path, 150)
    stored = open_store(path).load()
    assert_same(load_columns(path), stored)
    for rows in ([0], [149], list(range(5, 64)), [140, 3, 77, 3, 12, 0, 149], []):
        wanted = stored.isel(record=rows)
        assert_same(read_columns(path, np.array(rows, np.int64)), wanted)
    few = read_columns(path, np.arange(3), ("n_beats", "not there"))
    assert set(few.variables) == {"n_beats"}
    folder = folder_at(path)
    for start, stop in ((0, 1), (6, 8), (63, 65), (149, 150), (20, 20), (140, 999)):
        for name in ("record_name", "gain", "n_beats", "is_nothing"):
            np.testing.assert_array_equal(
                column_rows(folder, name, stored.attrs["files"], start, stop), stored[name].values[start:stop]
            )


def test_columns_written_otherwise_are_left_to_zarr(tmp_path):
    group = zarr.open_group(tmp_path, mode="w", zarr_format=3)
    group.create_array("plain", data=np.arange(5), chunks=(2,))
    group.create_array("cut", data=np.zeros((4, 4)), chunks=(2, 2), compressors=None)
    folder = folder_at(tmp_path)
    files = {key: [size, hashlib.sha256(folder.read(key)).hexdigest()] for key, size in folder.files()}
    assert column_rows(folder, "cut", files, 0, 4) is None
    found = column_rows(folder, "plain", files, 1, 4)
    assert found is None or found.tolist() == [1, 2, 3]


@pytest.mark.parametrize("name", ["record_name", "gain"])
def test_damaged_column_is_refused(tmp_path, name):
    path = things(tmp_path, 20)
    key = f"{name}/c/0" + ("/0" if name == "gain" else "")
    content = bytearray(folder_at(path).read(key))
    content[len(content) // 2] ^= 1
    (Path(path) / key).write_bytes(content)
    with pytest.raises(CorruptStore, match="not the bytes"):
        load_columns(path)
    (Path(path) / key).write_bytes(b"")
    with pytest.raises(CorruptStore, match="not the bytes"):
        load_columns(path)
    (Path(path) / key).unlink()
    with pytest.raises(CorruptStore, match="missing"):
        load_columns(path)


def test_threads_that_prove_a_column_at_the_same_time_all_read_it(tmp_path, monkeypatch):
    store = open_store(things(tmp_path, 40))
    honest, met, is_proved = reading_module.read_proved, Event(), Event()

    def read_proved(folder, key, files):
        if current_thread().name.startswith("slow"):
            met.set()
            assert is_proved.wait(10)
        return honest(folder, key, files)

    monkeypatch.setattr(reading_module, "read_proved", read_proved)
    with ThreadPoolExecutor(1, thread_name_prefix="slow") as pool:
        slow = pool.submit(lambda: store["n_beats"][0:9].values)
        assert met.wait(10)
        np.testing.assert_array_equal(store["n_beats"][0:9].values, np.arange(9))
        is_proved.set()
        np.testing.assert_array_equal(slow.result(), np.arange(9))
