"""F12: a workspace in an object store, behind a proxy that fails in the ways networks and object stores do."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.reliability.bench import Bench, Cases, contents, different, run, unverified
from benchmarks.reliability.faulty_s3 import FaultyProxy
from storage import folder_at


def faulty_stores(bench: Bench, count: int, seed: int, folder: Path) -> Cases:
    """Run convert, beats and score in a bucket while one request in ten goes wrong; every command must end well by itself.

    moto's server speaks the protocol of S3; each case has a workspace and a proxy of its own. Twelve seconds of silence and more
    (the client's own limit is 20) are not tried: the proxy that does not answer hangs up after three.
    """
    with moto() as (port, access):
        for number in range(count):
            stage, work, copy = bench.stages[number % 4], f"s3://ecg/work-{number}", folder / "copy"
            os.environ |= access
            bucket = folder_at(work)
            for path in sorted(path for path in bench.before(stage).rglob("*") if path.is_file()):
                bucket.put(path.relative_to(bench.before(stage)).as_posix(), path.read_bytes())
            proxy = FaultyProxy(port, share=0.1, seed=seed + number)
            command = [part.replace(str(folder / "work"), work) for part in bench.command(stage, folder / "work")]
            with proxy.running() as endpoint:
                environment = {**access, "AWS_ENDPOINT_URL": endpoint, "XDG_CACHE_HOME": str(folder / "cache")}
                ended = run(command, environment)
                wrong = [f"exit {ended.returncode}: {ended.stderr.strip()[-200:]}"] if ended.returncode else []
                wrong += ["a traceback"] if "Traceback" in ended.stderr else []
            for key, _ in bucket.files():
                (copy / key).parent.mkdir(parents=True, exist_ok=True)
                (copy / key).write_bytes(bucket.read(key))
            wrong += different(contents(copy), bench.wanted(stage))
            wrong += unverified(copy)
            faults = {kind: n for kind, n in proxy.done.items() if kind != "none"}
            yield f"{stage} {number}: {proxy.done.total()} requests, {faults}", bool(faults), wrong
            shutil.rmtree(copy)


@contextmanager
def moto() -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the port of an S3 server on loopback with a bucket ``ecg``, and what a client must have in its environment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).parent / "moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    access = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/ecg", method="PUT")).close()
        yield port, {**access, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
    finally:
        server.kill()
        server.wait()
