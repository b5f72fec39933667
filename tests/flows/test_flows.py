"""Engines have the shape of the built-in map; flows retry infrastructure and nothing else."""

from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import active_children
from pathlib import Path
from threading import Timer
from types import ModuleType

import psutil
import pytest
from distributed import Client

from benchmarks.reliability.engines import cluster
from flows.cluster import (
    LARGEST_PARCEL,
    LOOK_AHEAD,
    PARCEL_S,
    PARCELS_PER_THREAD,
    engine,
    processes,
    processes_ahead,
    usable_processors,
)
from flows.train import training_ahead

ROOT = Path(__file__).parents[2]


def square(number: int) -> int:
    return number * number


def whoami(_: int) -> int:
    return os.getpid()


def test_threads_return_every_result_as_it_is_ready():
    with engine(workers=3) as on_engine:
        assert sorted(on_engine(square, range(50))) == [n * n for n in range(50)]


def test_threads_work_at_the_same_time():
    barrier = threading.Barrier(2, timeout=20)
    with engine(workers=2) as on_engine:
        assert len(list(on_engine(lambda _: barrier.wait(), range(2)))) == 2


def test_first_result_arrives_before_the_last_task_has_begun():
    begun = []

    def work(number: int) -> int:
        begun.append(number)
        time.sleep(0.02)
        return number

    with engine(workers=1) as on_engine:
        results = iter(on_engine(work, range(20)))
        next(results)
        assert len(begun) < 20
        assert len(list(results)) == 19


def test_error_of_a_task_reaches_the_caller():
    def fail(number: int) -> int:
        if number == 3:
            raise OSError("disk gone")
        return number

    with engine(workers=2) as on_engine, pytest.raises(OSError, match="disk gone"):
        list(on_engine(fail, range(10)))


def test_no_task_is_no_result():
    with engine() as on_engine:
        assert list(on_engine(square, [])) == []
    assert usable_processors() >= 1


def test_work_on_threads_leaves_no_thread_pool_behind_however_often():
    def n_pools() -> int:
        gc.collect()
        return sum(type(one) is ThreadPoolExecutor for one in gc.get_objects())  # to ask what an object is may wake it

    with engine(workers=2) as on_engine:
        before = n_pools()
        for _ in range(5):
            list(on_engine(square, range(4)))
        assert n_pools() == before


def test_processes_are_others_than_this_one():
    with processes(workers=1) as on_processes:
        assert os.getpid() not in set(on_processes(whoami, range(2)))


def note_beginning():
    os.environ["BEGAN"] = "yes"


def who_began(_):
    return os.getpid(), os.environ.get("BEGAN")


def test_processes_that_began_ahead_are_taken_once_and_end_with_their_work():
    with processes_ahead(None, 1, 5, note_beginning):
        (early,) = children()
        with processes(workers=1) as on_processes:
            assert set(on_processes(who_began, range(2))) == {(early, "yes")}
        assert not children()
        with processes(workers=1) as on_processes:  # the stage is tried again
            assert {began for _, began in on_processes(who_began, range(2))} == {None}


def children():
    return [process.pid for process in active_children()]


def test_processes_that_began_ahead_end_where_nothing_takes_them():
    def refuse():
        with processes_ahead(None, 3, 2, note_beginning):
            assert len(children()) == 2
            raise ValueError("no such archive")

    with pytest.raises(ValueError, match="no such archive"):
        refuse()
    for process in active_children():
        process.join(20)
    assert not children()


def test_a_workspace_with_a_model_begins_no_training_ahead(tmp_path):
    (tmp_path / "models" / "one").mkdir(parents=True)
    with training_ahead(str(tmp_path), None, 1):
        assert not children()


def test_cluster_bounds_what_is_in_flight_and_returns_everything(dask_address):
    taken = []

    def tasks():
        for number in range(400):
            taken.append(number)
            yield number

    with engine(dask_address) as on_engine:
        results = iter(on_engine(abs, tasks()))
        first = [next(results) for _ in range(3)]
        assert len(taken) <= 2 * (LOOK_AHEAD + PARCELS_PER_THREAD * LARGEST_PARCEL)
        assert sorted(first + list(results)) == list(range(400))


def test_short_tasks_travel_to_a_cluster_together_and_long_ones_alone(dask_address, monkeypatch):
    sent, submit = [], Client.submit

    def noted(self, run, parcel, **options):
        sent.append(len(pickle.loads(parcel)[1][0]))
        return submit(self, run, parcel, **options)

    monkeypatch.setattr(Client, "submit", noted)
    with engine(dask_address) as on_engine:
        assert sorted(on_engine(abs, range(200))) == list(range(200))
        assert max(sent) == LARGEST_PARCEL
        assert sent[-1] == 1
        sent.clear()
        assert list(on_engine(time.sleep, [PARCEL_S] * 12)) == [None] * 12
        assert set(sent) == {1}


def test_cluster_answers_on_loopback_only_and_its_files_are_their_owners_alone(dask_address, tmp_path):
    family = psutil.Process().children(recursive=True)
    dask = [one for one in family if "dask" in one.cmdline() and one.is_running()]
    assert len(dask) >= 3
    assert {c.laddr.ip for one in dask for c in one.net_connections("inet") if c.status == psutil.CONN_LISTEN} == {"127.0.0.1"}
    with engine(dask_address) as on_engine:
        list(on_engine(os.mkdir, [str(tmp_path / "made")]))
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o700


def test_error_of_a_task_on_a_cluster_reaches_the_caller(dask_address):
    with engine(dask_address) as on_engine, pytest.raises(ValueError, match="could not convert"):
        list(on_engine(float, ["1", "x"]))


def test_cluster_of_another_version_is_told_from_a_bug(dask_address, monkeypatch):
    """Its scheduler finds no module of that name: what a room that has moved looks like from where it has not."""
    later = ModuleType("ecgbatch.later")
    exec("def double(number): return 2 * number", vars(later))
    monkeypatch.setitem(sys.modules, "ecgbatch.later", later)
    with (
        engine(dask_address) as on_engine,
        pytest.raises(ValueError, match=r"another ecgbatch.*No module named 'ecgbatch.later'.*start them anew"),
    ):
        list(on_engine(later.double, [1]))


def test_cluster_that_is_not_there_is_an_error_not_a_hang(monkeypatch):
    import flows.cluster

    monkeypatch.setattr(flows.cluster, "CONNECT_S", 1)
    with pytest.raises(OSError, match=r"127\.0\.0\.1"), engine("tcp://127.0.0.1:9"):
        pass


@pytest.mark.parametrize("address", ["tcp://192.0.2.1:8786", "192.0.2.1:8786", "tcp://scheduler:8786", "ws://[2001:db8::1]:80"])
def test_scheduler_elsewhere_without_tls_is_refused_unless_allowed(address, monkeypatch):
    import flows.cluster

    with pytest.raises(ValueError, match="expected tls://"), engine(address):
        pass
    monkeypatch.setattr(flows.cluster, "_refuse_remote", lambda _: pytest.fail("asked although it is allowed"))
    monkeypatch.setattr(flows.cluster, "CONNECT_S", 0.2)
    monkeypatch.setenv("ECGBATCH_DASK_WITHOUT_TLS", "true")
    with pytest.raises(OSError, match=r"Timed out|connect"), engine("tcp://192.0.2.1:8786"):
        pass


@pytest.mark.parametrize(("error", "is_retried"), [(OSError("gone"), True), (ValueError("bug"), False), (None, False)])
def test_only_infrastructure_errors_are_retried(error, is_retried):
    from flows.by_prefect import is_infrastructure

    class State:
        def result(self):
            if error is not None:
                raise error

    assert is_infrastructure(None, None, State()) is is_retried


def test_prefect_is_told_to_be_silent_before_it_is_imported():
    import flows  # noqa: F401

    assert os.environ["DO_NOT_TRACK"] == "1"
    assert os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert int(os.environ["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"]) >= 60


def test_two_clusters_at_a_time_each_answer_their_own_caller(dask_address, monkeypatch):
    import distributed

    late = []

    def noted(*arguments, of=distributed.wait, **options):
        try:
            return of(*arguments, **options)
        except TimeoutError:
            late.append(arguments)
            raise

    monkeypatch.setattr(distributed, "wait", noted)
    with engine(dask_address) as first, engine(dask_address) as second:
        assert sorted(first(abs, range(9))) == sorted(second(abs, range(9))) == list(range(9))
    assert late == []


def test_scheduler_that_dies_under_waiting_tasks_is_an_error_that_says_how_to_go_on():
    with cluster(0) as dask, engine(dask.address) as on_cluster:
        Timer(1, dask.scheduler.kill).start()
        with pytest.raises(OSError, match=GONE):
            list(on_cluster(abs, range(3)))


GONE = r"the Dask scheduler tcp://127.0.0.1:\d+ is gone or does not answer .* goes on where this one was"


def test_scheduler_that_dies_while_results_are_taken_is_the_same_error(monkeypatch):
    """Its client closes itself meanwhile, and then raises an exception of another kind."""
    monkeypatch.setenv("ECGBATCH_WAIT_FOR_WORKERS_S", "1")
    with cluster(1) as dask, Client(dask.address, set_as_default=False) as ours:
        ours.wait_for_workers(1, timeout=60)
        with engine(dask.address) as on_cluster:
            results = iter(on_cluster(abs, range(200)))
            assert next(results) == 0
            dask.scheduler.kill()
            time.sleep(3)
            with pytest.raises(OSError, match=GONE):
                list(results)


def test_scheduler_that_is_not_there_is_the_same_error(monkeypatch):
    monkeypatch.setenv("ECGBATCH_WAIT_FOR_WORKERS_S", "1")
    with pytest.raises(OSError, match=GONE), engine("tcp://127.0.0.1:9"):
        pass


def test_task_that_workers_die_of_is_an_error_not_a_traceback(monkeypatch):
    monkeypatch.setattr("flows.cluster.MOST_SENT", 1)
    once = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"}
    with (
        cluster(1, once) as dask,
        engine(dask.address) as on_cluster,
        pytest.raises(OSError, match="died of the same task"),
    ):
        list(on_cluster(os._exit, [1]))


def test_what_registered_deployments_name_is_still_there():
    """A served schedule names the module, one in a work pool the file; its parameters are kept by Prefect as they were."""
    script = (
        "import sys; from prefect.flows import load_flow_from_entrypoint as load\n"
        "for flow in map(load, sys.argv[1:]): print(flow.name, *sorted(flow.parameters.properties))"
    )
    command = [sys.executable, "-c", script, "flows.schedule.nightly", "flows/schedule.py:nightly"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(said) == 2
    for each in said:
        assert set(each.split()) >= {"nightly", "archive", "dask", "labels", "model", "settle_s", "work", "workers"}


def test_shipped_models_lie_where_schedules_have_named_them():
    assert {path.parent.name for path in (ROOT / "ecgbatch" / "weights").glob("*/model.json")} == {"mi-12-leads", "mi-lead-ii"}
