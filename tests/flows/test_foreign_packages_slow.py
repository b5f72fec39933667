"""What of ``test_foreign_packages`` takes long: processes of a command, Dask's and Prefect's workers."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from benchmarks.reliability.engines import cluster
from ecgbatch.own_packages import ROOT
from flows.cluster import engine
from flows.fitness import OtherCode
from tests.commands import said_by
from tests.flows import test_foreign_packages
from tests.flows.test_fitness import with_worker
from tests.flows.test_foreign_packages import importing_theirs, path_with, python

pytestmark = pytest.mark.slow

theirs, archive = test_foreign_packages.theirs, test_foreign_packages.archive
"""Fixtures of both."""


PROCESSES = """
from ecgbatch.own_packages import ours_first
if __name__ == "__main__":
    ours_first()
    from flows.cluster import processes
    from inspect import getfile
    from storage import Plan
    with processes(workers=1) as run:
        print(*run(getfile, [Plan]))
"""


def test_processes_of_a_command_take_ours_too(theirs):
    (theirs / "train.py").write_text(PROCESSES)
    done = subprocess.run(
        [sys.executable, "train.py"], cwd=theirs, env=os.environ | path_with(), capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == str(ROOT / "storage" / "plan.py"), done.stderr


def test_dask_workers_take_ours_also_one_that_comes_later(theirs, archive, tmp_path):
    with cluster(0) as dask, with_worker(dask, [sys.executable], **path_with(theirs)):
        code, _, said = said_by("convert", archive, tmp_path / "work", "--dask", dask.address)
        assert code == 0, said
    with cluster(0) as dask, engine(dask.address) as on_cluster:
        results = iter(on_cluster(abs, range(-3, 0)))
        with with_worker(dask, [sys.executable], **path_with(theirs)):
            assert sorted(results) == [1, 2, 3]


def test_dask_worker_that_has_theirs_already_is_named(theirs, archive, tmp_path):
    importing_theirs(theirs, "storage")
    with cluster(0) as dask, with_worker(dask, [sys.executable], **path_with(theirs)):
        code, _, said = said_by("convert", archive, tmp_path / "work", "--dask", dask.address)
    assert code == 1
    assert f"found another: {theirs / 'storage.py'}" in said
    assert "the Dask worker tcp://127.0.0.1" in said
    assert "Traceback" not in said
    with cluster(0) as dask, engine(dask.address) as on_cluster:
        results = iter(on_cluster(abs, range(3)))
        with with_worker(dask, [sys.executable], **path_with(theirs)), pytest.raises(OtherCode, match="found another"):
            list(results)


LOADED = """
import sys
from prefect.flows import load_flow_from_entrypoint
flow = load_flow_from_entrypoint(sys.argv[1])
import flows, storage
print(flow.name, flows.__file__, storage.__file__)
"""


@pytest.mark.parametrize("where", ["working folder", "PYTHONPATH"])
def test_worker_of_prefect_takes_ours(where, theirs, tmp_path):
    """As a process of a work pool loads what ``deploy/prefect.yaml`` names; its own folder is the working folder."""
    cwd, environment = (theirs, path_with()) if where == "working folder" else (tmp_path, path_with(theirs))
    home = {"PREFECT_HOME": str(tmp_path / "prefect")}
    done = python(LOADED, f"{ROOT}/flows/schedule.py:nightly", cwd=cwd, **environment, **home)
    assert done.stdout.split() == ["nightly", str(ROOT / "flows" / "__init__.py"), str(ROOT / "storage" / "__init__.py")], done
