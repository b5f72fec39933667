"""Codecs measured on stored chunks: ratio, encoding and decoding speed; and what reading and writing of whole shards costs.

    python -m benchmarks.speed.codecs DATA [--markdown FILE]

prints the tables of docs/adr/0004 and 0015. ``DATA`` is a folder with collections of WFDB records (``ptb``, ``ptbxl``,
``mitdb-ds1``); synthetic records of PTB's shape are measured beside them. One thread; rounds go through all codecs in turn, and
medians are shown. Zarr with ``zarrs`` (Rust) is measured where that is installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr
import zarr.storage
from numcodecs import LZ4, Blosc, Delta, Zstd

from ecgbatch.signals.stage import convert_archive
from ecgbatch.synthetic.archive import ArchiveShape, write_archive
from storage import list_stores, open_store
from storage.shards import Layout, encode_shard, layout_of

Array = np.ndarray[Any, Any]
COLLECTIONS = ("ptb", "ptbxl", "mitdb-ds1")
MOST_BYTES = 40_000_000
"""Of samples from each collection, spread over its records."""


class Codec(NamedTuple):
    """Steps from an array to bytes, first to last."""

    name: str
    steps: tuple[Any, ...]

    def encode(self, values: Array) -> Any:
        """Return the bytes of a chunk."""
        found: Any = values
        for step in self.steps:
            found = step.encode(found)
        return found

    def decode(self, raw: Any) -> Array:
        """Return a chunk's values, flat."""
        for step in reversed(self.steps):
            raw = step.decode(raw)
        return np.frombuffer(raw, np.int16)


DELTA = Delta("<i2")
CODECS = (
    Codec("zstd 1", (Zstd(1),)),
    Codec("zstd 3", (Zstd(3),)),
    Codec("lz4", (LZ4(),)),
    Codec("blosc lz4 5, bitshuffle", (Blosc("lz4", 5, Blosc.BITSHUFFLE, typesize=2),)),
    Codec("blosc lz4 5, shuffle", (Blosc("lz4", 5, Blosc.SHUFFLE, typesize=2),)),
    Codec("blosc zstd 1, bitshuffle", (Blosc("zstd", 1, Blosc.BITSHUFFLE, typesize=2),)),
    Codec("blosc zstd 3, bitshuffle", (Blosc("zstd", 3, Blosc.BITSHUFFLE, typesize=2),)),
    Codec("delta + blosc lz4 5, bitshuffle", (DELTA, Blosc("lz4", 5, Blosc.BITSHUFFLE, typesize=2))),
    Codec("delta + blosc zstd 1, bitshuffle", (DELTA, Blosc("zstd", 1, Blosc.BITSHUFFLE, typesize=2))),
)
CHOSEN = "blosc lz4 5, bitshuffle"


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.codecs", description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with collections of records")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds whose medians are shown (default 5)")
    parser.add_argument("--markdown", type=Path, help="also write the tables to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ecgbatch-codecs-") as folder:
        stores = {name: store_of(options.data / name, Path(folder) / name) for name in COLLECTIONS}
        write_archive(Path(folder) / "archive", ArchiveShape(n_records=24, duration_s=115.2), seed=1)
        stores["synthetic"] = store_of(Path(folder) / "archive", Path(folder) / "synthetic")
        text = "\n".join(chain(codec_table(stores, options.rounds), [""], shard_table(stores["synthetic"], options.rounds)))
    print(text)
    if options.markdown:
        options.markdown.write_text(text + "\n")


def store_of(archive: Path, work: Path) -> Path:
    """Convert an archive; return its largest signals store."""
    convert_archive(str(archive), str(work))
    return max((Path(path) for path in list_stores(work, "signals")), key=lambda path: open_store(path)["signal"].size)


def layout(store: Path) -> Layout:
    """Return how a store's signals are cut."""
    found = layout_of((store / "signal" / "zarr.json").read_bytes())
    assert found is not None
    return found


def chunks(store: Path) -> Iterator[Array]:
    """Yield chunks as they are stored, up to ``MOST_BYTES`` of them, spread over the store."""
    cut, signal = layout(store), open_store(store)["signal"]
    rows, *rest = cut.chunk
    places = [(row, at) for row in range(0, cut.shape[0] - rows + 1, rows) for at in range(0, cut.shape[2], rest[1])]
    n_wanted = max(1, MOST_BYTES // (2 * rows * rest[0] * rest[1]))
    for row, at in places[:: max(1, len(places) // n_wanted)]:
        part = signal[row : row + rows, :, at : at + rest[1]].values
        if part.shape[2] == rest[1]:
            yield np.ascontiguousarray(part)


def codec_table(stores: dict[str, Path], rounds: int) -> Iterator[str]:
    """Yield the lines of the codecs' table: for each collection ratio, and megabytes of samples a second in and out."""
    measured: dict[str, dict[str, tuple[float, float, float]]] = {}
    sizes = []
    for name, store in stores.items():
        parts = list(chunks(store))
        n_bytes = sum(part.nbytes for part in parts)
        sizes.append(f"{name}: {n_bytes / 1e6:.0f} MB in chunks of {' x '.join(map(str, parts[0].shape))}")
        seconds: dict[str, list[tuple[float, float]]] = {codec.name: [] for codec in CODECS}
        ratio: dict[str, float] = {}
        for _ in range(rounds):
            for codec in CODECS:
                start = time.perf_counter()
                encoded = [codec.encode(part) for part in parts]
                middle = time.perf_counter()
                decoded = [codec.decode(raw) for raw in encoded]
                seconds[codec.name].append((middle - start, time.perf_counter() - middle))
                assert all((one == part.ravel()).all() for one, part in zip(decoded, parts, strict=True)), codec.name
                ratio[codec.name] = n_bytes / sum(len(memoryview(raw).cast("B")) for raw in encoded)
        measured[name] = {
            codec: (ratio[codec], *(n_bytes / 1e6 / statistics.median(way) for way in zip(*pairs, strict=True)))
            for codec, pairs in seconds.items()
        }
    yield f"Chunks as stored ({'; '.join(sizes)})."
    yield f"One thread, medians of {rounds} interleaved rounds, load {os.getloadavg()[0]:.1f}."
    yield "Each cell: ratio, encoding MB/s, decoding MB/s."
    yield ""
    yield f"| codec | {' | '.join(stores)} |"
    yield "|---|" + "---|" * len(stores)
    for codec in CODECS:
        cells = [f"{ratio:.2f}, {into:.0f}, {out:.0f}" for ratio, into, out in (measured[name][codec.name] for name in stores)]
        mark = "**" if codec.name == CHOSEN else ""
        yield f"| {mark}{codec.name}{mark} | " + " | ".join(cells) + " |"


def shard_table(store: Path, rounds: int) -> Iterator[str]:
    """Yield the lines of the shards' table: processor time to read and write a store's samples, by whose hand."""
    values = open_store(store)["signal"].values
    cut = layout(store)
    ways: dict[str, list[Callable[[], None]]] = {"ours": [partial(_read, store, cut, n) for n in (cut.shard[0], 1)]}
    ways["ours"].append(partial(_encode, cut, values))
    ways["zarr"] = [partial(_read_by_zarr, _opened(store), cut, n) for n in (cut.shard[0], 1)]
    ways["zarr"].append(partial(_write_by_zarr, store, cut, values))
    if importlib.util.find_spec("zarrs"):
        with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline", "threading.max_workers": 1}):
            opened = _opened(store)
        ways["zarrs, one thread"] = [partial(_read_by_zarr, opened, cut, n) for n in (cut.shard[0], 1)]
    seconds: dict[tuple[str, int], list[float]] = {}
    for _ in range(rounds):
        for name, steps in ways.items():
            for number, step in enumerate(steps):
                start = time.process_time()
                step()
                seconds.setdefault((name, number), []).append(time.process_time() - start)
    yield f"{values.nbytes / 1e6:.0f} MB of synthetic records: seconds of processor time, medians of {rounds} interleaved rounds."
    yield ""
    yield "| | read whole shards | read record by record | encode (zarr: and put in memory) |"
    yield "|---|---:|---:|---:|"
    for name in ways:
        found = [seconds.get((name, number)) for number in range(3)]
        yield f"| {name} | " + " | ".join("" if one is None else f"{statistics.median(one):.3f}" for one in found) + " |"


def _opened(store: Path) -> Any:
    return zarr.open_array(zarr.storage.LocalStore(store, read_only=True), path="signal", mode="r", zarr_format=3)


def _read(store: Path, cut: Layout, n_rows: int) -> None:
    signal = open_store(store)["signal"]
    for start in range(0, cut.shape[0], n_rows):
        assert signal[start : start + n_rows].values.size


def _read_by_zarr(array: Any, cut: Layout, n_rows: int) -> None:
    for start in range(0, cut.shape[0], n_rows):
        assert array[start : start + n_rows].size


def _encode(cut: Layout, values: Array) -> None:
    for start in range(0, cut.shape[0], cut.shard[0]):
        assert encode_shard(cut, values[start : start + cut.shard[0]])


def _write_by_zarr(store: Path, cut: Layout, values: Array) -> None:
    memory: Any = zarr.storage.MemoryStore()
    document = (store / "signal" / "zarr.json").read_bytes()
    buffer = zarr.core.buffer.default_buffer_prototype().buffer.from_bytes(document)
    memory._store_dict["zarr.json"] = buffer
    array = zarr.open_array(memory, mode="r+", zarr_format=3)
    for start in range(0, cut.shape[0], cut.shard[0]):
        array[start : start + cut.shard[0]] = values[start : start + cut.shard[0]]


if __name__ == "__main__":
    main()
