"""What a cluster costs and gains: the scheduler's memory over many shards, and the beats stage on one and two worker processes.

python -m benchmarks.scale memory [--shards 20000]
python -m benchmarks.scale beats ARCHIVE [--records 500] [--rounds 3]
"""

from __future__ import annotations

import argparse
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from ecgbatch.beats import BeatSettings, extract_beats
from ecgbatch.signals import convert_archive
from flows.cluster import engine


@contextmanager
def cluster(n_workers: int) -> Iterator[tuple[str, psutil.Process]]:
    """Yield the address of a scheduler on loopback with so many workers of one thread, and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    dask, quiet = [sys.executable, "-m", "dask"], {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    scheduler = [*dask, "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard", "--no-show"]
    worker = [*dask, "worker", address, "--host", "127.0.0.1", "--nthreads", "1", "--no-nanny", "--no-dashboard"]
    with ExitStack() as stack:
        started = []
        for command in [scheduler, *[worker] * n_workers]:
            process = stack.enter_context(subprocess.Popen(command, **quiet))
            stack.callback(process.kill)
            started.append(process)
        wait_for_workers(address, n_workers)
        yield address, psutil.Process(started[0].pid)


def wait_for_workers(address: str, n_workers: int) -> None:
    """Wait until a cluster has all of its workers."""
    from distributed import Client

    with Client(address, timeout=60) as client:
        client.wait_for_workers(n_workers, timeout=60)


def simulated_shard(index: int) -> int:
    """Stand for a shard: what goes to a worker and back is as small as a receipt's number."""
    return index


def measure_memory(n_shards: int) -> None:
    """Print the scheduler's resident memory over a build of so many shards."""
    with cluster(2) as (address, scheduler), engine(address) as on_engine:
        start, at = time.perf_counter(), {}
        for done, _ in enumerate(on_engine(simulated_shard, range(n_shards)), 1):
            if done % max(1, n_shards // 10) == 0:
                at[done] = scheduler.memory_info().rss / 1e6
        seconds = time.perf_counter() - start
    for done, megabytes in at.items():
        print(f"{done:>8} shards  scheduler {megabytes:7.1f} MB")
    first, last = next(iter(at.values())), list(at.values())[-1]
    print(f"{n_shards} shards in {seconds:.1f} s, {1e3 * seconds / n_shards:.2f} ms each; after a tenth {last - first:+.1f} MB")


def copies(source: Path, folder: Path, n_records: int) -> None:
    """Make an archive of so many records out of those of ``source``, under names of their own."""
    names = (source / "RECORDS").read_text().split()
    listed = []
    for number in range(n_records):
        name = names[number % len(names)]
        target = folder / f"copy{number:04d}" / name
        target.parent.mkdir(parents=True)
        for path in (source / name).parent.glob(f"{Path(name).name}.*"):
            shutil.copyfile(path, target.parent / path.name)
        listed.append(target.relative_to(folder).as_posix())
    (folder / "RECORDS").write_text("\n".join(listed) + "\n")


def measure_beats(source: Path, n_records: int, rounds: int) -> None:
    """Print the seconds of peaks and beats with one and with two worker processes, interleaved, and the ratio of medians."""
    seconds: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as place:
        archive, work = Path(place, "archive"), Path(place, "work")
        copies(source, archive, n_records)
        convert_archive(str(archive), str(work))
        for _ in range(rounds):
            for n_workers in (1, 2):
                for kind in ("peaks", "beats"):
                    shutil.rmtree(work / kind, ignore_errors=True)
                with cluster(n_workers) as (address, _), engine(address) as on_engine:
                    list(on_engine(warm, range(2 * n_workers)))
                    start = time.perf_counter()
                    extract_beats(str(work), BeatSettings(), map=on_engine)
                    seconds[n_workers].append(time.perf_counter() - start)
                print(f"{n_workers} workers: {seconds[n_workers][-1]:.2f} s (load {psutil.getloadavg()[0]:.1f})", flush=True)
    one, two = (statistics.median(seconds[n]) for n in (1, 2))
    print(f"{n_records} records: {one:.2f} s with one worker, {two:.2f} s with two: {one / two:.2f} times")


def warm(_: int) -> None:
    """Load the kernels, so that what is measured is work."""
    from ecgbatch.beats import warm_up

    warm_up(None)
    time.sleep(0.2)


def main() -> None:
    """Run one of the two measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    memory = kinds.add_parser("memory")
    memory.add_argument("--shards", type=int, default=20_000)
    beats = kinds.add_parser("beats")
    beats.add_argument("archive", type=Path)
    beats.add_argument("--records", type=int, default=500)
    beats.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.kind == "memory":
        measure_memory(options.shards)
    else:
        measure_beats(options.archive, options.records, options.rounds)


if __name__ == "__main__":
    main()
