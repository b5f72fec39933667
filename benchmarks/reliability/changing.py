"""F11, F16: clocks that are wrong or jump, and archives that change while they are read."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import threading
import time
from pathlib import Path

from benchmarks.reliability.bench import PROGRAM, Bench, Cases, run, unverified
from ecgbatch.formats.records import source_digest
from ecgbatch.signals.lookup import current_records
from ecgbatch.terms import STATUS
from storage import list_stores, open_store

OFFSETS = ("+1d", "-1d", "+10y", "-10y")
FAKED = {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1"}
"""The wall clock alone; times of files are as the disk has them, so they seem to be of another age."""


def wrong_clocks(bench: Bench, folder: Path) -> Cases:
    """Run stages by clocks that are wrong by a day or ten years, and that jump a day meanwhile.

    Not two writers: libfaketime 0.9.10 answers Python's sleep with an error, and who waits for another writer sleeps.
    """
    if shutil.which("faketime") is None:
        raise SystemExit("F11 needs the program faketime: apt-get install faketime")
    for stage in bench.stages[:4]:
        for offset in OFFSETS:
            work = bench.copied(stage, folder)
            ended = run(["faketime", "-f", offset, *bench.command(stage, work)], FAKED)
            wrong = [f"exit {ended.returncode}: {ended.stderr.strip()[-200:]}"] if ended.returncode else []
            yield f"{stage} {offset}", True, wrong + bench.problems(stage, work)
            shutil.rmtree(work)
        for offset in OFFSETS[:2]:
            work, clock = bench.copied(stage, folder), folder / "clock"
            clock.write_text("+0\n")
            # An empty format leaves the time to the file, which is read again at every call.
            environment = os.environ | FAKED | {"FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1"}
            environment |= {"LD_PRELOAD": _library()}
            process = subprocess.Popen(
                bench.command(stage, work), env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
            )
            time.sleep(0.6 * bench.seconds[stage])
            is_in_time = process.poll() is None
            clock.write_text(f"{offset}\n")
            said = process.communicate()[1].decode(errors="replace")
            wrong = [f"exit {process.returncode}: {said.strip()[-200:]}"] if process.returncode else []
            yield f"{stage}, a jump of {offset}", is_in_time, wrong + bench.problems(stage, work)
            shutil.rmtree(work)


def _library() -> str:
    """Return the library that the program faketime loads."""
    done = subprocess.run(["faketime", "-f", "+0", "printenv", "LD_PRELOAD"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def changing_archives(bench: Bench, count: int, seed: int, folder: Path) -> Cases:
    """Write records anew, half by half, while they are converted; then leave them alone and convert again.

    Of the first run every stored record must be one of the two versions, whole; the second run must have what is there.
    """
    names = (bench.archive / "RECORDS").read_text().split()
    versions = [bench.archive, _others(bench.archive, names, folder / "others")]
    known = {name: [source_digest(str(version), name) for version in versions] for name in names}
    for number in range(count):
        archive, work = folder / "changing", folder / "work"
        shutil.copytree(bench.archive, archive)
        over, there = threading.Event(), dict.fromkeys(names, 0)
        draw = random.Random(seed + number)
        writing = threading.Thread(target=_rewrite, args=(archive, versions, there, draw, over))
        writing.start()
        ended = run([PROGRAM, "convert", str(archive), str(work)])
        over.set()
        writing.join()
        wrong = [f"exit {ended.returncode}: {ended.stderr.strip()[-200:]}"] if ended.returncode not in {0, 3} else []
        rows, n_aside = 0, 0
        for path in list_stores(str(work), "signals"):
            store = open_store(path)
            for name, digest, status in zip(
                *(store[key].values for key in ("record_name", "source_digest", "status")), strict=True
            ):
                rows, n_aside = rows + 1, n_aside + (status == STATUS["set_aside"])
                if status != STATUS["set_aside"] and digest not in known[name]:
                    wrong.append(f"{name}: stored from files that were never together")
        again = run([PROGRAM, "convert", str(archive), str(work)])
        wrong += [f"again: exit {again.returncode}: {again.stderr.strip()[-200:]}"] if again.returncode else []
        records = current_records(str(work))
        found = dict(zip(records["record_name"].values.tolist(), records["source_digest"].values.tolist(), strict=True))
        wrong += [f"{name} is not what is there" for name in names if found.get(name) != known[name][there[name]]]
        yield f"{number}: {rows} rows, {n_aside} set aside at first", sum(there.values()) > 0, wrong[:3] + unverified(work)
        shutil.rmtree(archive)
        shutil.rmtree(work)


def _others(archive: Path, names: list[str], other: Path) -> Path:
    """Return a folder in which every record has the content of the next one."""
    for name, source in zip(names, [*names[1:], names[0]], strict=True):
        (other / name).parent.mkdir(parents=True, exist_ok=True)
        for suffix in (".hea", ".dat", ".xyz"):
            content = (archive / f"{source}{suffix}").read_bytes()
            if suffix == ".hea":
                content = content.replace(Path(source).name.encode(), Path(name).name.encode())
            (other / f"{name}{suffix}").write_bytes(content)
    return other


def _rewrite(archive: Path, versions: list[Path], there: dict[str, int], draw: random.Random, over: threading.Event) -> None:
    """Let records become their other version, a file after the other, each in two halves, until it is over."""
    while not over.is_set():
        name = draw.choice(sorted(there))
        there[name] = 1 - there[name]
        for suffix in (".hea", ".dat", ".xyz"):
            content = (versions[there[name]] / f"{name}{suffix}").read_bytes()
            with (archive / f"{name}{suffix}").open("wb", buffering=0) as file:
                file.write(content[: len(content) // 2])
                time.sleep(draw.uniform(0, 0.03))
                file.write(content[len(content) // 2 :])
        time.sleep(draw.uniform(0, 0.2))
