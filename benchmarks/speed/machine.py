"""What this machine is, and what it can do at best: write and fsync, read, multiply."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from flows.cluster import usable_processors

_MIB = 1 << 20


def description() -> dict[str, str]:
    """Return what the figures depend on; no names of hosts, no paths."""
    flags: set[str] = set()
    name = platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        flags = set(next((line for line in lines if line.startswith("flags")), "").split())
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processors": f"{usable_processors()} of {name}, with {', '.join(flag for flag in wanted if flag in flags) or 'no AVX2'}",
        "memory": f"{memory:.0f} GiB",
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "Python": platform.python_version(),
        "versions": ", ".join(f"{name} {found}" for name in PACKAGES if (found := _version(name))),
    }


PACKAGES = ("numpy", "scipy", "numba", "torch", "wfdb", "zarr", "neurokit2", "sleepecg")


def _version(name: str) -> str:
    try:
        return version(name).split("+")[0]
    except PackageNotFoundError:
        return ""


def load() -> float:
    """Return the load of the last minute."""
    return os.getloadavg()[0]


def seconds_to_write(folder: Path, sizes: Sequence[int]) -> float:
    """Return the seconds to write and fsync files of these sizes, of bytes that do not compress, one after another."""
    noise = np.random.default_rng(0).integers(0, 256, 16 * _MIB, dtype=np.uint8).tobytes()
    folder.mkdir(parents=True, exist_ok=True)
    begun = time.perf_counter()
    for number, size in enumerate(sizes):
        with (folder / f"{number}").open("wb") as file:
            for start in range(0, size, len(noise)):
                file.write(noise[: min(len(noise), size - start)])
            file.flush()
            os.fsync(file.fileno())
    return time.perf_counter() - begun


def seconds_to_read(paths: Sequence[Path]) -> float:
    """Return the seconds to read these files, which the page cache holds, on all processors."""
    begun = time.perf_counter()
    with ThreadPoolExecutor(usable_processors()) as pool:
        list(pool.map(_read, paths))
    return time.perf_counter() - begun


def _read(path: Path) -> None:
    buffer = bytearray(4 * _MIB)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def multiplications_a_second(kind: str) -> float:
    """Return the operations a second of a matrix product of 1536 x 1536 in float32 or bfloat16, on all processors, best of 5."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(usable_processors())
    a, b = (torch.randn(1536, 1536).to(getattr(torch, kind)) for _ in range(2))
    best = float("inf")
    for _ in range(6):
        begun = time.perf_counter()
        torch.mm(a, b)
        best = min(best, time.perf_counter() - begun)
    torch.set_num_threads(before)
    return 2 * 1536**3 / best


def files_below(folder: Path) -> list[Path]:
    """Return all files below a folder."""
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]
