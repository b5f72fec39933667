"""Where shards are made: Dask's threads on this machine, or a Dask cluster behind an address."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import islice
from multiprocessing import get_context
from queue import SimpleQueue
from threading import Thread
from time import monotonic
from typing import Any

from storage.build import Map

SHARDS_PER_THREAD = 3
"""Shards in flight per thread of a cluster: enough to hide the way there, few enough to bound its memory."""

WAIT_FOR_WORKERS_S = 60
"""A cluster without a worker for this long is an error, not a hang (Dask itself would wait for ever)."""

ASK_FOR_WORKERS_S = 5
"""How often a silent cluster is asked whether it has workers."""


@contextmanager
def engine(address: str | None = None, workers: int | None = None) -> Iterator[Map]:
    """Yield something with the shape of the built-in ``map``; results come as they are ready, in any order.

    Parameters
    ----------
    address
        Of a Dask scheduler (``tcp://host:port``, ``tls://host:port``). ``None``: threads of this process.
    workers
        Threads of this process; default the processors that it may use. Ignored with an address.

    """
    if address is None:
        yield partial(_map_on_threads, workers or usable_processors())
        return
    from distributed import Client

    with Client(address, timeout=WAIT_FOR_WORKERS_S) as client:
        client.wait_for_workers(1, timeout=WAIT_FOR_WORKERS_S)
        yield partial(_map_on_cluster, client)


@contextmanager
def processes(address: str | None = None, workers: int | None = None) -> Iterator[Map]:
    """Yield a ``map`` whose tasks have a process each: for training, whose random state and threads are a process's own."""
    if address is not None:
        with engine(address) as on_cluster:
            yield on_cluster
        return
    with ProcessPoolExecutor(workers or usable_processors(), mp_context=get_context("spawn")) as pool:
        yield pool.map


def usable_processors() -> int:
    """Return how many processors this process may run on."""
    return len(os.sched_getaffinity(0))


def _map_on_threads(n_threads: int, function: Callable[[Any], Any], tasks: Iterable[Any]) -> Iterator[Any]:
    """Run tasks on Dask's threaded scheduler and yield each result when it is there."""
    import dask

    finished: SimpleQueue[tuple[str, Any]] = SimpleQueue()

    def run(index: int) -> None:
        finished.put(("result", function(waiting[index])))

    def compute() -> None:
        try:
            dask.compute(*lazy, scheduler="threads", num_workers=n_threads)
            finished.put(("end", None))
        except BaseException as error:
            finished.put(("error", error))

    waiting = list(tasks)
    lazy = [dask.delayed(run, pure=False)(index) for index in range(len(waiting))]
    thread = Thread(target=compute, name="ecgbatch-dask", daemon=True)
    thread.start()
    while (answer := finished.get())[0] == "result":
        yield answer[1]
    thread.join()
    if answer[0] == "error":
        raise answer[1]


def _map_on_cluster(client: Any, function: Callable[[Any], Any], tasks: Iterable[Any]) -> Iterator[Any]:
    """Keep a bounded number of tasks in flight on a cluster and yield results as they arrive."""
    from distributed import wait

    queue = iter(tasks)
    submit = partial(client.submit, function, pure=False)
    n_in_flight = SHARDS_PER_THREAD * max(1, sum(client.nthreads().values()))
    running = {submit(task) for task in islice(queue, n_in_flight)}
    last_seen = monotonic()
    while running:
        try:
            done, running = wait(running, timeout=ASK_FOR_WORKERS_S, return_when="FIRST_COMPLETED")
        except TimeoutError:
            last_seen = monotonic() if client.nthreads() else last_seen
            if monotonic() - last_seen > WAIT_FOR_WORKERS_S:
                raise OSError(
                    f"the Dask cluster has had no worker for {WAIT_FOR_WORKERS_S} s; start some, then run again"
                ) from None
            continue
        last_seen = monotonic()
        running |= {submit(task) for task in islice(queue, len(done))}
        for future in done:
            yield future.result()
