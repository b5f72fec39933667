"""What a cluster costs and gains, and what a night costs that finds nothing new.

python -m benchmarks.speed.scale memory [--shards 20000]                     the scheduler's memory over many shards
python -m benchmarks.speed.scale beats ARCHIVE [--records 500] [--rounds 3]  beats on one and two worker processes of one thread
python -m benchmarks.speed.scale nights [--records 10000]                    three nights on an unchanged archive
"""

from __future__ import annotations

import argparse
import json
import os
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

from benchmarks.speed.stages import link_records
from ecgbatch.beats.lookup import extract_beats
from ecgbatch.beats.record import BeatSettings
from ecgbatch.signals.stage import convert_archive
from ecgbatch.upkeep.status import last_run
from flows.cluster import engine

ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "BLOSC_NTHREADS"), "1"
)
"""A worker of one thread has one thread: else a library's own pool gives the second processor to a single worker."""

LEAN = {"DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False", "DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL": "500ms"}
"""As in deploy/: without Dask's profiler, which looks at every worker a hundred times a second."""


@contextmanager
def cluster(n_workers: int) -> Iterator[tuple[str, psutil.Process]]:
    """Yield the address of a scheduler on loopback with so many workers of one thread, and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    dask, quiet = [sys.executable, "-m", "dask"], {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    page = ["--no-dashboard", "--dashboard-address=127.0.0.1:0"]  # the first alone would answer by HTTP on every address
    scheduler = [*dask, "scheduler", "--host", "127.0.0.1", "--port", str(port), *page, "--no-show"]
    worker = [*dask, "worker", address, "--host", "127.0.0.1", "--nthreads", "1", "--no-nanny", *page]
    with ExitStack() as stack:
        started = []
        for command in [scheduler, *[worker] * n_workers]:
            process = stack.enter_context(subprocess.Popen(command, env=os.environ | ONE_THREAD | LEAN, **quiet))
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
        shutil.rmtree(archive)
        warm(0)  # the client's kernels: once a process, whatever the number of workers
        for _ in range(rounds):
            for n_workers in (1, 2):
                for kind in ("peaks", "beats"):
                    shutil.rmtree(work / kind, ignore_errors=True)
                os.sync()  # what the round before wrote is not this one's to bring to the disk
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
    from ecgbatch.beats.warm import warm_up

    warm_up(None)
    time.sleep(0.2)


NIGHT = """
import atexit, json, os, pathlib, sys
root, out, opened = os.path.realpath(sys.argv[1]) + "/", pathlib.Path(sys.argv[2]), set()
def note(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)) and os.fsdecode(arguments[0]).startswith(root):
        opened.add(os.fsdecode(arguments[0])[len(root):])
sys.addaudithook(note)
atexit.register(lambda: out.write_text(json.dumps(sorted(opened))))
from ecgbatch.cli import main
main(sys.argv[3:])
"""
"""A command that tells which files below its archive it opened."""


def night(archive: Path, work: Path) -> tuple[float, float, list[str]]:
    """Run everything; return the command's seconds, those of the run in it (Prefect had started), and the files opened."""
    start, opened = time.perf_counter(), work.with_suffix(".opened")
    command = [sys.executable, "-c", NIGHT, str(archive), str(opened), "run", str(archive), str(work), "--json"]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    if done.returncode not in (0, 3):
        raise RuntimeError(f"{' '.join(command[3:])}: exit {done.returncode}")
    return time.perf_counter() - start, last_run(str(work))["seconds_in_all"], json.loads(opened.read_text())


def measure_nights(n_records: int) -> None:
    """Print what a first night costs, and three more on the same archive."""
    with tempfile.TemporaryDirectory() as place:
        archive, work = Path(place, "archive"), Path(place, "work")
        link_records(Path(place, "unique"), archive, n_records)
        for number in range(4):
            whole, own, opened = night(archive, work)
            told = f"{len(opened)} files opened" if len(opened) > 5 else f"opened: {', '.join(opened)}"
            load = psutil.getloadavg()[0]
            print(f"night {number}: {own:.2f} s of {whole:.1f} s with Prefect's start; {told} (load {load:.1f})", flush=True)


def main() -> None:
    """Run one of the measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    memory = kinds.add_parser("memory")
    memory.add_argument("--shards", type=int, default=20_000)
    beats = kinds.add_parser("beats")
    beats.add_argument("archive", type=Path)
    beats.add_argument("--records", type=int, default=500)
    beats.add_argument("--rounds", type=int, default=3)
    nights = kinds.add_parser("nights")
    nights.add_argument("--records", type=int, default=10_000)
    options = parser.parse_args()
    if options.kind == "memory":
        measure_memory(options.shards)
    elif options.kind == "nights":
        measure_nights(options.records)
    else:
        measure_beats(options.archive, options.records, options.rounds)


if __name__ == "__main__":
    main()
