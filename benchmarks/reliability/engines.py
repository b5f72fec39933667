"""F6, F7, F8: a Dask cluster whose workers are killed, whose scheduler is gone, and records that would take workers with them."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from benchmarks.reliability.bench import PROGRAM, Bench, Cases, run, unverified
from ecgbatch.signals.lookup import current_records
from ecgbatch.terms import STATUS

MOST_S = 300.0
"""A command that lasts longer hangs."""
WAIT_S = 10
"""Seconds that a cluster may be without workers, of the setting."""
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


CALM = {
    "DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL": "500ms",
    "DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__INTERVAL": "5s",
    "DASK_DISTRIBUTED__WORKER__MEMORY__MONITOR_INTERVAL": "5s",
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "false",
}
"""Of three processes that wait, a fiftieth of a processor rather than a tenth: they look at themselves for plots nobody sees."""


class Cluster:
    """A scheduler and workers of one thread, each a process, on loopback."""

    def __init__(self, n_workers: int, environment: dict[str, str] | None = None) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address, self.environment = f"tcp://127.0.0.1:{self.port}", CALM | os.environ | (environment or {})
        self.scheduler = self._start("scheduler", "--port", str(self.port), "--no-show")
        self._wait()
        self.n_started = 0
        self.workers = [self.worker() for _ in range(n_workers)]

    def _wait(self) -> None:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        raise TimeoutError(f"no Dask scheduler on port {self.port} within 60 s")

    def _start(self, *words: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "dask", *words, "--host", "127.0.0.1", "--dashboard-address=127.0.0.1:0"]
        # Elsewhere, since ``python -m`` puts the present folder, which may be ours, before what PYTHONPATH names.
        return subprocess.Popen(command, env=self.environment, cwd="/", **QUIET)

    def worker(self) -> subprocess.Popen[bytes]:
        """Start a worker, named by how many there were before."""
        self.n_started += 1
        words = ("--nthreads", "1", "--no-nanny", "--death-timeout", "30", "--name", f"w{self.n_started}")
        return self._start("worker", self.address, *words)

    def replace(self, number: int, while_running: subprocess.Popen[bytes]) -> None:
        """Kill a worker and start another; return when that has come, or what it is for has ended."""
        from distributed import Client

        self.workers[number].kill()
        self.workers[number].wait()
        self.workers[number] = self.worker()
        with Client(self.address, set_as_default=False) as client:
            began = time.monotonic()
            while while_running.poll() is None and time.monotonic() - began < MOST_S:
                workers = client.scheduler_info(n_workers=-1)["workers"].values()
                if f"w{self.n_started}" in {worker["name"] for worker in workers}:
                    return
                time.sleep(0.2)

    def end(self) -> None:
        """Kill all that is left."""
        for process in [*self.workers, self.scheduler]:
            process.kill()
            process.wait()


@contextmanager
def cluster(n_workers: int = 2, environment: dict[str, str] | None = None) -> Iterator[Cluster]:
    """Yield a cluster, and end it."""
    made = Cluster(n_workers, environment)
    try:
        yield made
    finally:
        made.end()


def killed_workers(bench: Bench, count: int, seed: int, folder: Path) -> Cases:
    """Kill one of two workers 2 to 5 s after the last one's successor has come, while a stage runs on them. It must end well.

    By the clock alone, on a busy machine, workers died sooner than they could start, and none ever worked.
    """
    draw = random.Random(seed)
    for number in range(count):
        stage, killed = bench.stages[number % 4], 0
        work = bench.copied(stage, folder)
        with cluster() as dask:
            process = _started(bench, stage, work, dask, folder)
            began = time.monotonic()
            while process.poll() is None and time.monotonic() - began < MOST_S:
                try:
                    process.wait(draw.uniform(2, 5))
                except subprocess.TimeoutExpired:
                    dask.replace(draw.randrange(2), process)
                    killed += 1
            wrong = _ended(process, folder, may_fail=False)
        name = f"{stage} {number}: {killed} workers killed in {time.monotonic() - began:.0f} s"
        yield name, killed > 0, wrong + bench.problems(stage, work)
        shutil.rmtree(work)


def lost_clusters(bench: Bench, count: int, seed: int, folder: Path) -> Cases:
    """Kill the scheduler, or every worker, while a stage runs: it must say so in time, and go on elsewhere."""
    draw = random.Random(seed)
    for number in range(count):
        stage, is_scheduler = bench.stages[number % 4], number // 4 % 2 == 0
        work = bench.copied(stage, folder)
        with cluster() as dask:
            process = _started(bench, stage, work, dask, folder)
            instant = draw.uniform(0.5, 1.0) * bench.seconds[stage]
            try:
                process.wait(instant)
            except subprocess.TimeoutExpired:
                for gone in [dask.scheduler] if is_scheduler else dask.workers:
                    gone.kill()
            began = time.monotonic()
            with suppress(subprocess.TimeoutExpired):
                process.wait(MOST_S)
            lasted = time.monotonic() - began
            wrong = _ended(process, folder, may_fail=True)
        wrong += [f"ended {lasted:.0f} s after its {'scheduler' if is_scheduler else 'workers'}"] if lasted > 60 + WAIT_S else []
        name = (
            f"{stage} {number}: {'scheduler' if is_scheduler else 'workers'} lost at {instant:.1f} s, ended {lasted:.0f} s later"
        )
        yield name, process.returncode != 0, wrong + bench.problems(stage, work)
        shutil.rmtree(work)


def _started(bench: Bench, stage: str, work: Path, dask: Cluster, folder: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {"ECGBATCH_WAIT_FOR_WORKERS_S": str(WAIT_S)}
    command = [*bench.command(stage, work), "--dask", dask.address]
    with (folder / "said").open("wb") as said:
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=said, start_new_session=True)


def _ended(process: subprocess.Popen[bytes], folder: Path, *, may_fail: bool) -> list[str]:
    """Return what is wrong with how a command ended; one that has not is killed."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return ["it hung"]
    said = (folder / "said").read_text(errors="replace")
    wrong = ["a traceback"] if "Traceback" in said and "ecgbatch:" not in said.rsplit("Traceback", 1)[1] else []
    return wrong + ([f"exit {process.returncode}: {said.strip()[-200:]}"] if process.returncode and not may_fail else [])


POISONS = (
    "os.kill(os.getpid(), 11)",
    "os.abort()",
    "held = [bytearray(1 << 28) for _ in iter(int, 1)]",
    "[0 for _ in iter(int, 1)]",
)
"""What a decoder does at a planted record: a segmentation fault, an abort, memory without end, a loop without end."""


def poison(count: int, seed: int, folder: Path) -> Cases:
    """Convert ``count`` records of FLAC of which four make their decoder fail, on two Dask workers.

    The decoder runs as always, in a process of its own with limits; in a copy of the package it first looks for a mark.
    """
    planted, archive, work = folder / "planted", folder / "flac", folder / "work"
    for name in ("ecgbatch", "flows", "storage"):
        shutil.copytree(Path(__file__).parents[2] / name, planted / name)
    child = planted / "ecgbatch" / "formats" / "wfdb_child.py"
    text, found = child.read_text(), "    warnings.simplefilter"
    assert found in text
    assert "sys.stdin.buffer.read()" in text
    lines = ["    import os", "    content = sys.stdin.buffer.read()"]
    lines += [f"    if b'POISON{number}' in content:\n        {what}" for number, what in enumerate(POISONS)]
    text = text.replace("sys.stdin.buffer.read()", "content").replace(found, "\n".join([*lines, found]), 1)
    child.write_text(text)
    names = _flac_archive(archive, count, seed)
    poisoned = dict(zip(random.Random(seed).sample(names, len(POISONS)), range(len(POISONS)), strict=True))
    for name, number in poisoned.items():
        with (archive / f"{name}.dat").open("ab") as file:
            file.write(f"POISON{number}".encode())
    environment = {"PYTHONPATH": str(planted)}
    with cluster(2, environment) as dask:
        ended = run([PROGRAM, "convert", str(archive), str(work), "--dask", dask.address], environment)
        is_alive = [worker.poll() is None for worker in dask.workers]
    yield "exit", True, [] if ended.returncode == 3 else [f"expected 3, found {ended.returncode}: {ended.stderr[-200:]}"]
    yield "workers", True, [] if all(is_alive) else ["a Dask worker was lost"]
    yield "verify", True, unverified(work)
    records = current_records(str(work))
    reasons = dict(zip(records["record_name"].values.tolist(), records["reason"].values.tolist(), strict=True))
    aside = set(records["record_name"].values[records["status"].values == STATUS["set_aside"]].tolist())
    for name in names:
        if name in poisoned:
            is_right = name in aside and reasons[name].startswith("DECODER_")
            yield f"{name}: {POISONS[poisoned[name]]}", True, [] if is_right else [f"reason {reasons.get(name)!r}"]
        else:
            yield (
                name,
                False,
                [f"set aside with the poisoned: {reasons.get(name)}"] if name in aside or name not in reasons else [],
            )


def _flac_archive(archive: Path, count: int, seed: int) -> list[str]:
    """Write records of three leads, 5 s at 250 Hz, each a FLAC file with its header, checksums and all."""
    import soundfile

    archive.mkdir(parents=True)
    draw, names = np.random.default_rng(seed), [f"f{number:03d}" for number in range(count)]
    for name in names:
        frames = np.cumsum(draw.integers(-20, 21, (1250, 3)), axis=0).astype(np.int16)
        soundfile.write(archive / f"{name}.dat", frames, 96000, format="FLAC", subtype="PCM_16")
        sums = [(int(column.sum()) + 32768) % 65536 - 32768 for column in frames.T.astype(int)]
        lines = [f"{name}.dat 516 200 16 0 {frames[0, i]} {sums[i]} 0 {lead}" for i, lead in enumerate(("I", "II", "V1"))]
        (archive / f"{name}.hea").write_text("\n".join([f"{name} 3 250 1250", *lines, ""]))
    return names
