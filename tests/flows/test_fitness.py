"""A Dask worker that has other code, or does not see the files, refuses: it says nothing of any record and makes nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from distributed import Client

from benchmarks.reliability.engines import Cluster, cluster
from ecgbatch.synthetic.archive import ArchiveShape, write_archive
from flows.cluster import engine
from flows.fitness import OtherCode, UnseenPlace, admit, made_by, passport, refusal
from tests.commands import said_by

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def dask() -> Iterator[Cluster]:
    """A scheduler without workers; those of each test come and go."""
    with cluster(0) as started:
        yield started


@contextmanager
def with_worker(dask: Cluster, python: list[str], name: str = "odd", **environment: str) -> Iterator[None]:
    """Add a worker with an environment of its own; wait until the scheduler has it, and in the end until it has it no more."""
    words = ["-m", "dask", "worker", dask.address, "--nthreads", "1", "--no-nanny", "--host", "127.0.0.1", "--name", name]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    started = subprocess.Popen([*python, *words], env=os.environ | environment, cwd="/", **quiet)
    with Client(dask.address, set_as_default=False) as client:
        try:
            wait_until(lambda: name in names_of(client))
            yield
        finally:
            started.kill()
            started.wait()
            wait_until(lambda: name not in names_of(client))


def names_of(client: Client) -> set[str]:
    return {one["name"] for one in client.scheduler_info(n_workers=-1)["workers"].values()}


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def altered(path: Path) -> None:
    """Add one byte, which says nothing: another digest all the same."""
    path.write_text(path.read_text() + "\n")


@pytest.fixture
def archive(tmp_path) -> Path:
    write_archive(tmp_path / "archive", ArchiveShape(n_records=2, duration_s=10.0), seed=8)
    return tmp_path / "archive"


def test_worker_with_other_code_refuses_and_is_named(tmp_path, archive, dask):
    other = tmp_path / "other"
    for package in ("ecgbatch", "flows", "storage"):
        shutil.copytree(ROOT / package, other / package, ignore=shutil.ignore_patterns("__pycache__"))
    altered(other / "ecgbatch" / "terms.py")
    with with_worker(dask, [sys.executable], PYTHONPATH=str(other)):
        code, _, said = said_by("convert", archive, tmp_path / "work", "--dask", dask.address)
    assert code == 1
    assert "has another ecgbatch than this command: code" in said
    assert "tcp://127.0.0.1" in said
    assert "Traceback" not in said
    assert not list(tmp_path.glob("work/signals/*.zarr"))


def test_worker_without_ecgbatch_is_named_with_what_it_lacks(tmp_path, archive, dask):
    """Without the files that put folders on the path, an interpreter knows its libraries and not what is installed from here."""
    start = f"import runpy, sys; sys.path.append({sysconfig.get_path('purelib')!r}); sys.argv = ['dask', *sys.argv[3:]]; "
    bare = [sys.executable, "-S", "-c", f"{start}runpy.run_module('dask', run_name='__main__', alter_sys=True)"]
    with with_worker(dask, bare, PYTHONPATH=""):
        code, _, said = said_by("convert", archive, tmp_path / "work", "--dask", dask.address)
    assert code == 1
    assert "has no ecgbatch (not there: ecgbatch, flows" in said
    assert "Traceback" not in said


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs a mount of its own: root and unshare")
@pytest.mark.parametrize("hidden", ["archive", "work"])
def test_worker_that_does_not_see_a_folder_is_an_error_and_no_verdict_on_records(tmp_path, archive, dask, hidden):
    """The folder is there for the worker too, and empty, as an unmounted place is."""
    (tmp_path / "work").mkdir()
    apart = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs none {tmp_path / hidden} && exec "$0" "$@"', sys.executable]
    probe = subprocess.run([*apart, "-c", ""], check=False, capture_output=True)
    if probe.returncode:
        pytest.skip("no mounts here")
    with with_worker(dask, [sys.executable], "even"):
        with with_worker(dask, apart):
            code, _, said = said_by("convert", archive, tmp_path / "work", "--dask", dask.address)
        assert code == 1
        assert f"does not see {tmp_path / hidden} as this machine does" in said
        assert "Traceback" not in said
        code, _, said = said_by("convert", archive, tmp_path / "work", "--dask", dask.address)
    assert code == 0, said  # nothing was remembered against any record


def test_worker_that_comes_later_is_asked_too(tmp_path, dask):
    with engine(dask.address, sees=[tmp_path]) as on_cluster:
        results = iter(on_cluster(abs, range(3)))
        other = tmp_path / "other"
        for package in ("ecgbatch", "flows", "storage"):
            shutil.copytree(ROOT / package, other / package, ignore=shutil.ignore_patterns("__pycache__"))
        altered(other / "storage" / "plan.py")
        with with_worker(dask, [sys.executable], PYTHONPATH=str(other)), pytest.raises(OtherCode, match="another ecgbatch"):
            list(results)


def test_places_are_told_apart_by_their_files(tmp_path):
    (tmp_path / "a.hea").write_text("x")
    wanted = passport([str(tmp_path)])
    admit(wanted, "w")
    refusal.cache_clear()
    (tmp_path / "a.hea").write_text("xy")
    with pytest.raises(UnseenPlace, match=r"a.hea has 2 bytes, expected 1.*Mount it there"):
        admit(wanted, "w")
    refusal.cache_clear()
    (tmp_path / "a.hea").unlink()
    with pytest.raises(UnseenPlace, match=r"a.hea is not there"):
        admit(wanted, "w")
    assert dict(made_by())["code"]
