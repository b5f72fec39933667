"""F4, F5: disks that are full, and disks whose power is cut."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.reliability.bench import Bench, Cases, contents, digest_of

IMAGE_BYTES = 128 << 20


def full_disks(bench: Bench, count: int, folder: Path) -> Cases:
    """Convert onto ``count`` disks from almost nothing to almost enough, then make room."""
    work = folder / "disk"
    work.mkdir()
    needed = sum(path.stat().st_blocks * 512 for path in bench.before("beats").rglob("*"))
    for number in range(1, count + 1):
        size = max(needed * number // count // 4096, 2) * 4096
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(work)], check=True)
        try:
            ended = subprocess.run(bench.command("convert", work), capture_output=True, text=True, check=False)
            wrong = ["a traceback"] if "Traceback" in ended.stderr else []
            if ended.returncode and not re.search(r"[Nn]o space|[Dd]isk|room", ended.stderr):
                wrong.append(f"no word about room: {ended.stderr.strip()[-200:]}")
            subprocess.run(["mount", "-o", "remount,size=1g", str(work)], check=True)
            yield f"{size} bytes", ended.returncode != 0, wrong + bench.problems("convert", work)
        finally:
            subprocess.run(["umount", str(work)], check=True)


def power_cuts(bench: Bench, count: int, seed: int, folder: Path) -> Cases:
    """Stop a stage at a random instant, copy the disk as it is beneath the kernel's memory, and go on from the copy.

    The workspace lies on an ext4 file system in an image, with its journal as usual. What was acknowledged when the stage was
    stopped must be on the copy before anything is run again: stores that were published, receipts that were put, and all of it
    if the stage had ended. One thread, so that whatever is written after a receipt tells that the receipt was acknowledged.
    """
    draw = random.Random(seed)
    image, after = folder / "disk.img", folder / "after.img"
    for number in range(count):
        stage = bench.stages[number % 4]
        subprocess.run(["truncate", "-s", str(IMAGE_BYTES), str(image)], check=True)
        subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
        instant = draw.uniform(0.4, 1.0) * bench.seconds[stage]
        with mounted(image, folder / "disk") as disk:
            work = Path(shutil.copytree(bench.before(stage), disk / "work", symlinks=True))
            os.sync()
            with stopped_after(bench, stage, work, instant) as process:
                promised = contents(work) if process.returncode is not None else acknowledged(work)
                subprocess.run(["cp", "--sparse=always", str(image), str(after)], check=True)
        with mounted(after, folder / "disk") as disk:
            there = everything(disk / "work")
            wrong = [f"{name} was acknowledged and is lost" for name in promised if there.get(name) != promised[name]]
            name = f"{stage} {number} at {instant:.2f} s, {len(promised)} files acknowledged"
            yield name, process.returncode < 0, wrong[:2] + bench.problems(stage, disk / "work")


@contextmanager
def stopped_after(bench: Bench, stage: str, work: Path, instant: float) -> Iterator[subprocess.Popen[bytes]]:
    """Begin a stage on one thread and stop it at an instant, unless it has ended; kill it in the end."""
    command, environment = bench.command(stage, work), os.environ | {"ECGBATCH_WORKERS": "1"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, env=environment, start_new_session=True, **quiet)
    began = time.monotonic()
    try:
        process.wait(instant)
        bench.lasted(stage, began)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGSTOP)
    try:
        yield process
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def acknowledged(work: Path) -> dict[str, str]:
    """Return path to digest of the files that a stopped stage had acknowledged: of published stores, and receipts with theirs."""
    building = {path.name.rpartition("-")[2] for path in work.glob(".build/*-*")}
    kept = everything(work)
    found = {}
    for name, digest in kept.items():
        store = next((part for part in Path(name).parts if part.endswith(".zarr")), "")
        # While its folder below .build is there, a store may be on its way to its place.
        if store and not name.startswith(".build/") and store.removesuffix(".zarr") not in building:
            found[name] = digest
    newest = max((path.stat().st_mtime_ns for path in work.rglob("*") if path.is_file() and path.name != "lock"), default=0)
    for path in work.glob(".build/*/receipts/*.json"):
        if path.stat().st_mtime_ns < newest:
            found[str(path.relative_to(work))] = kept[path.relative_to(work).as_posix()]
            kind, _, plan = path.parents[1].name.rpartition("-")
            unfinished = path.parents[1] / f"{plan}.zarr"  # gone as soon as it is published, the receipts a moment later
            store = unfinished.relative_to(work) if unfinished.is_dir() else Path(kind, unfinished.name)
            for key, (_, digest) in json.loads(path.read_bytes())["receipt"]["files"].items():
                found[f"{store}/{key}"] = digest
    return found


def everything(work: Path) -> dict[str, str]:
    """Return path to digest of every file; of reports, as ``contents`` has it, the names only."""
    kept = {path: path.relative_to(work).as_posix() for path in work.rglob("*") if path.is_file() and not path.is_symlink()}
    found = {name: digest_of(path) for path, name in kept.items()}
    return found | {name: "there" for name in found if name.startswith("reports/")}


@contextmanager
def mounted(image: Path, at: Path) -> Iterator[Path]:
    """Mount an image; mounting a copy of a disk that was in use plays its journal back."""
    at.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(at)], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", str(at)], check=True)
