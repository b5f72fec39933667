"""What it costs that a store proves itself, each step alone and by its library: the floor under ``convert``."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numcodecs.blosc import Blosc

from ecgbatch.formats.records import read_record
from flows.cluster import usable_processors
from storage import Hasher

STEPS = (
    "digest of the files read",
    "digest of the samples",
    "compress",
    "digest of the file written",
    "write and fsync",
    "read back",
    "decompress",
    "compare",
)
"""What a shard of signals cannot do without while a receipt vouches for what was read, what is meant and what lies there."""

CODEC = Blosc("lz4", 5, Blosc.BITSHUFFLE, 0, 2)
"""``storage.arrays`` compresses samples so."""


def floor(archive: Path, names: Sequence[str], folder: Path, *, shard_bytes: int = 32_000_000) -> dict[str, float]:
    """Return the processor seconds a record of each of ``STEPS``, on these records of one shape, shard by shard."""
    spent = dict.fromkeys(STEPS, 0.0)
    held: list[tuple[list[bytes], np.ndarray[Any, Any]]] = []
    for number, name in enumerate(names, 1):
        record = read_record(str(archive), name)
        sources = [path.read_bytes() for path in sorted((archive / name).parent.glob(f"{Path(name).name}.*"))]
        held.append((sources, np.ascontiguousarray(record["signal"].values)))
        if number == len(names) or len(held) * held[0][1].nbytes > shard_bytes:
            _one_shard(held, folder / "shard", spent)
            held = []
    return {step: seconds / len(names) for step, seconds in spent.items()}


def _one_shard(held: list[tuple[list[bytes], np.ndarray[Any, Any]]], path: Path, spent: dict[str, float]) -> None:
    def take(step: str, work: Callable[[], Any]) -> Any:
        begun = time.process_time()
        made = work()
        spent[step] += time.process_time() - begun
        return made

    samples = [values for _, values in held]
    take(STEPS[0], lambda: [_digest(source) for sources, _ in held for source in sources])
    take(STEPS[1], lambda: [_digest(values) for values in samples])
    parts = take(STEPS[2], lambda: [CODEC.encode(values) for values in samples])
    take(STEPS[3], lambda: [_digest(part) for part in parts])
    take(STEPS[4], lambda: _write(path, parts))
    found = take(STEPS[5], path.read_bytes)
    ends = np.cumsum([len(part) for part in parts]).tolist()
    pieces = [memoryview(found)[end - len(part) : end] for part, end in zip(parts, ends, strict=True)]
    room = np.empty_like(samples[0])
    for piece, values in zip(pieces, samples, strict=True):
        take(STEPS[6], lambda piece=piece: CODEC.decode(piece, out=room))
        assert take(STEPS[7], lambda values=values: bool((room == values).all()))
    path.unlink()


def _digest(content: bytes | np.ndarray[Any, Any]) -> str:
    digest = Hasher()
    digest.update(content)
    return digest.text()


def _write(path: Path, parts: list[bytes]) -> None:
    with path.open("wb") as file:
        file.writelines(parts)
        file.flush()
        os.fsync(file.fileno())


def records_a_second(spent: dict[str, float]) -> float:
    """Return how many records a second the steps alone allow on all processors."""
    return usable_processors() / sum(spent.values())


def lines(spent: dict[str, float]) -> list[str]:
    """Return a table of the steps, and what they alone allow."""
    total, processors = sum(spent.values()), usable_processors()
    return [
        "What a store that proves itself cannot do without, each step alone, by its library, processor time:",
        "",
        "| step | ms a record |",
        "|---|---:|",
        *(f"| {step} | {1000 * seconds:.3f} |" for step, seconds in spent.items()),
        f"| **together** | **{1000 * total:.3f}** |",
        "",
        f"With nothing else done (no header parsed, no quality judged, no sample put in its place), {processors} processors "
        f"could do {records_a_second(spent):,.0f} records a second, {1000 * total / processors:.2f} ms each.",
    ]
