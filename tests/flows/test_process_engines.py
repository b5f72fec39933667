"""Engines of processes: few tasks stay here, many go to processes, and results and files are the same."""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from ecgbatch.upkeep.owned import THREADS_OF_A_LIBRARY, one_thread_for_products
from flows.cluster import (
    LEAST_TO_CONVERT,
    LEAST_TO_MEASURE,
    LEAST_TO_REPORT,
    convert_engine,
    engine,
    measure_engine,
    report_engine,
)

ENGINES = [(report_engine, LEAST_TO_REPORT), (measure_engine, LEAST_TO_MEASURE), (convert_engine, LEAST_TO_CONVERT)]


def written(folder: Path, number: int) -> tuple[int, int]:
    """Write a file and return its number, and the process."""
    (folder / str(number)).write_text("a patient's")
    return number, os.getpid()


@pytest.mark.parametrize(("engine", "least"), ENGINES)
def test_many_tasks_go_to_processes_and_their_files_are_the_owners_alone(engine, least, tmp_path):
    with engine(workers=2) as run:
        found = list(run(partial(written, tmp_path), range(least + 3)))
    assert sorted(number for number, _ in found) == list(range(least + 3))
    assert os.getpid() not in {pid for _, pid in found}
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


@pytest.mark.parametrize(("engine", "least"), ENGINES)
def test_few_tasks_and_those_of_one_processor_stay_here(engine, least, tmp_path):
    with engine(workers=2) as few, engine(workers=1) as one:
        found = [*few(partial(written, tmp_path), range(least - 1)), *one(partial(written, tmp_path), range(least + 3))]
    assert {pid for _, pid in found} == {os.getpid()}
    assert len(found) == 2 * least + 2


def test_a_stage_that_asks_twice_has_the_same_processes(tmp_path):
    with convert_engine(workers=2) as run:
        first, second = ({pid for _, pid in run(partial(written, tmp_path), range(LEAST_TO_CONVERT))} for _ in range(2))
    assert os.getpid() not in first | second
    assert len(first | second) <= 2


def test_how_many_records_are_listed_decides_where_their_shards_are_made(tmp_path):
    with convert_engine(workers=2) as few, convert_engine(workers=2) as many:
        of_few = [*few(partial(written, tmp_path), range(2)), *few(partial(written, tmp_path), range(2 * LEAST_TO_CONVERT))]
        of_many = [*many(partial(written, tmp_path), range(LEAST_TO_CONVERT)), *many(partial(written, tmp_path), range(2))]
    assert {pid for _, pid in of_few} == {os.getpid()}
    assert os.getpid() not in {pid for _, pid in of_many}


def threads_of_blas(_task: int) -> set[int]:
    """Return how many threads the libraries of products use in this process."""
    np.linalg.inv(np.eye(3))
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_each_process_has_one_thread_for_products(monkeypatch):
    for name in THREADS_OF_A_LIBRARY:
        monkeypatch.delenv(name, raising=False)
    with report_engine(workers=2) as run:
        found = list(run(threads_of_blas, range(LEAST_TO_REPORT)))
    assert found == [{1}] * LEAST_TO_REPORT


def test_each_thread_has_one_thread_for_products_and_afterwards_they_have_theirs_again(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with threadpool_limits(2, user_api="blas"):
        with engine(workers=2) as run:
            assert list(run(threads_of_blas, range(3))) == [{1}] * 3
        assert threads_of_blas(0) == {2}
        monkeypatch.setenv("OMP_NUM_THREADS", "3")  # what the user says holds
        with engine(workers=2) as run:
            assert list(run(threads_of_blas, range(3))) == [{3}] * 3


def test_threads_of_products_come_back_in_whatever_order_those_who_share_them_end(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with threadpool_limits(2, user_api="blas"):
        first, second = ExitStack(), ExitStack()
        first.enter_context(one_thread_for_products())
        second.enter_context(one_thread_for_products())
        first.close()
        assert threads_of_blas(0) == {1}  # the second is at work
        second.close()
        assert threads_of_blas(0) == {2}
