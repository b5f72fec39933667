"""Where shards are made: Dask's threads on this machine, or a Dask cluster behind an address."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from ipaddress import ip_address
from itertools import chain, islice
from multiprocessing import active_children, get_context
from pathlib import Path
from queue import SimpleQueue
from signal import SIG_BLOCK, SIG_SETMASK, SIGINT, pthread_sigmask
from threading import Thread
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from ecgbatch.own_packages import ForeignPackage, OtherRooms, call_with_ours
from ecgbatch.settings import Settings, load_settings
from ecgbatch.upkeep.owned import begin_owned, one_thread_for_products
from flows.fitness import OtherCode, Passport, admit, examine, passport
from storage import Map

PARCELS_PER_THREAD = 3
"""Parcels of tasks in flight per thread of a cluster: enough to hide the way there, few enough to bound its memory."""

PARCEL_S = 0.25
"""Short tasks travel together until they last this long: the way there and back costs 10 ms of client and scheduler each time."""

LARGEST_PARCEL = 8
"""Tasks: what a worker that dies takes with it at most, times what is in flight."""

LOOK_AHEAD = 16
"""Tasks per thread that are taken before they are sent, so that parcels grow smaller towards the end and no worker waits."""

MOST_SENT = 3
"""How often a parcel is sent whose workers die: each time Dask gives it to four workers one after the other."""

ASK_FOR_WORKERS_S = 5
"""How often a cluster is asked how many workers it has: they come and go, and a silent cluster may have none left."""


ASK_WHILE_NONE_S = 0.5
"""The same while there is none: a worker without ecgbatch ends at its first task, and must be asked before."""


@dataclass
class Engine:
    """Something with the shape of the built-in ``map``; results come as they are ready, in any order."""

    run: Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]
    memory: Callable[[], int | None]
    workers: Callable[[], int] = lambda: 1  # of a cluster: how many it has now

    def __call__(self, function: Callable[[Any], Any], tasks: Iterable[Any]) -> Iterator[Any]:
        """Apply ``function`` to every task."""
        return self.run(function, tasks)

    @property
    def memory_bytes_per_task(self) -> int | None:
        """Bytes that one task may use, so that a plan that needs more is refused before it begins; None where unknown."""
        return self.memory()


@contextmanager
def engine(address: str | None = None, workers: int | None = None, *, sees: Iterable[Any] = ()) -> Iterator[Engine]:
    """Yield an engine.

    Parameters
    ----------
    address
        Of a Dask scheduler (``tls://host:port`` with the certificates that the settings name; ``tcp://`` on this machine). It may
        have no workers yet: an adaptive cluster starts them when it sees tasks. ``None``: threads of this process.
    workers
        Threads of this process; default the processors that it may use. Ignored with an address.
    sees
        Places that tasks read or write. Of those in folders it is made sure that each worker sees them as this process does.

    Raises
    ------
    OSError
        If there is no scheduler, or while tasks wait it has no worker for as long as ``wait_for_workers_s`` says.
    ValueError
        If ``tls://`` lacks its certificates, if the address is another machine's without TLS, or if a worker has no ecgbatch, or
        another than this one (``fitness``).

    """
    settings = load_settings(dask=address, workers=workers)
    address = settings.dask
    if address is None:
        n_threads = settings.workers or usable_processors()
        yield Engine(partial(_map_on_threads, n_threads), lambda: _memory_here() // n_threads)
        return
    import dask
    from distributed import Client

    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # what it logs of a lost scheduler, it raises too
    security = _security(settings) if address.startswith("tls://") else None
    if security is None and not settings.dask_without_tls:
        _refuse_remote(address)
    seldom = dask.config.set({"distributed.admin.tick.interval": "500ms"})  # fifty times a second by default, for a plot
    with ExitStack() as connected:
        connected.enter_context(seldom)
        with _lost_scheduler_in_words(address):
            client = Client(address, timeout=min(CONNECT_S, settings.wait_for_workers_s), security=security)
            connected.enter_context(client)
            wanted = passport([str(place) for place in sees if Path(place).is_dir()])
            examine(client, wanted, list(client.nthreads()))
        yield Engine(
            partial(_map_or_say, client, wanted, settings.wait_for_workers_s),
            partial(_memory_of, client),
            lambda: len(client.nthreads()),
        )


CONNECT_S = 60
"""Seconds to reach a scheduler."""


def _refuse_remote(address: str) -> None:
    """Refuse a scheduler elsewhere without TLS: Dask's messages are pickles, so whoever can speak to it can run any code."""
    host = urlsplit(address if "://" in address else f"tcp://{address}").hostname or ""
    try:
        is_here = ip_address(host).is_loopback
    except ValueError:
        is_here = host == "localhost"
    if not is_here:
        raise ValueError(
            f"Dask scheduler {address}: expected tls:// for a scheduler on another machine, found no encryption. Start it with "
            "certificates (deploy/make_secrets.sh makes them), or set ECGBATCH_DASK_WITHOUT_TLS=true on a network you trust"
        )


def _security(settings: Settings) -> Any:
    """Return what a ``tls://`` cluster needs of us: both sides show a certificate of one authority."""
    from distributed.security import Security

    files = {name: getattr(settings, name) for name in ("tls_ca_file", "tls_cert", "tls_key")}
    missing = [name for name, path in files.items() if path is None or not path.is_file()]
    if missing:
        raise ValueError(
            "a tls:// cluster needs the settings tls_ca_file, tls_cert and tls_key (PEM files); "
            f"not there: {', '.join(missing)}. Set ECGBATCH_TLS_CA_FILE and so on, or the file that `ecgbatch config` names"
        )
    return Security(
        tls_ca_file=str(files["tls_ca_file"]),
        tls_client_cert=str(files["tls_cert"]),
        tls_client_key=str(files["tls_key"]),
        require_encryption=True,
    )


def _memory_here() -> int:
    """Return the memory that this process may use: the machine's, or its control group's."""
    from distributed.system import MEMORY_LIMIT

    return int(MEMORY_LIMIT)


def _memory_of(client: Any) -> int | None:
    """Return the memory of a thread of a cluster's smallest worker; None where there is no worker, or none with a limit."""
    with _lost_scheduler_in_words(client.scheduler.address):
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
    limits = [worker["memory_limit"] // worker["nthreads"] for worker in workers if worker["memory_limit"]]
    return min(limits, default=None)


@contextmanager
def processes(address: str | None = None, workers: int | None = None, *, sees: Iterable[Any] = ()) -> Iterator[Map]:
    """Yield a ``map`` whose tasks have a process each: for training, whose random state and threads are a process's own.

    Within ``processes_ahead`` they are those that have begun; they end with the block.
    """
    settings = load_settings(dask=address, workers=workers)
    if settings.dask is not None:
        with engine(settings.dask, sees=sees) as on_cluster:
            yield on_cluster
    elif _ahead:
        pool = _ahead.pop()
        yield pool.map
        pool.shutdown()
    else:
        with _pool(settings.workers or usable_processors()) as pool:
            yield pool.map


_ahead: list[ProcessPoolExecutor] = []


@contextmanager
def processes_ahead(address: str | None, workers: int | None, n_tasks: int, begin: Callable[[], None]) -> Iterator[None]:
    """Start what the next ``processes`` will want for so many tasks, each with ``begin``: libraries load while other stages run.

    Nothing is started where there is a cluster.
    """
    settings = load_settings(dask=address, workers=workers)
    if settings.dask is not None:
        yield
        return
    n_processes = settings.workers or usable_processors()
    with _pool(n_processes, begin) as pool:
        for _ in range(min(n_processes, n_tasks)):
            pool.submit(os.getpid)  # none is ready yet, so each starts one
        _ahead.append(pool)
        try:
            yield
        finally:
            _ahead.clear()


@contextmanager
def _pool(n_processes: int, begin: Callable[[], None] | None = None) -> Iterator[ProcessPoolExecutor]:
    """Yield processes that end with the work, and at once when it is stopped."""
    before = set(active_children())
    with _Deaf(n_processes, get_context("spawn"), initializer=partial(_begin, begin)) as pool:
        try:
            yield pool
        except BaseException:
            # A stop does not wait for an epoch or a page: members go on from their checkpoints, pages are kept.
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(active_children()) - before:
                process.terminate()
            raise


class _Deaf(ProcessPoolExecutor):
    """Processes that do not hear Ctrl-C, which a terminal sends to all: the one that started them does, and ends them.

    They begin so: while they load libraries each would answer with a traceback.
    """

    def submit(self, *task: Any, **options: Any) -> Future[Any]:
        """Submit a task; where that starts a process, it inherits the signal blocked."""
        heard = pthread_sigmask(SIG_BLOCK, {SIGINT})
        try:
            return super().submit(*task, **options)
        finally:
            pthread_sigmask(SIG_SETMASK, heard)


def _begin(begin: Callable[[], None] | None) -> None:
    begin_owned()
    if begin is not None:
        begin()


LEAST_TO_REPORT, LEAST_TO_MEASURE, LEAST_TO_CONVERT = 16, 4, 64
"""Tasks (of 64 records; of a shard; of 256 records) from which reports, measurements and signals are made in processes: each
takes a second or two to begin. Of 5,000 records of ten seconds two processes convert 0.88 of what two threads do in that time."""


@contextmanager
def report_engine(address: str | None = None, workers: int | None = None, *, sees: Iterable[Any] = ()) -> Iterator[Map]:
    """Yield an engine for reports, which are Python more than NumPy: threads would wait for one another.

    On a cluster it is that of ``engine``; here a process a processor where there is enough to do, else this process.
    """
    with _process_engine(address, workers, sees, LEAST_TO_REPORT, lambda _n, function, tasks: map(function, tasks)) as chosen:
        yield chosen


@contextmanager
def measure_engine(address: str | None = None, workers: int | None = None, *, sees: Iterable[Any] = ()) -> Iterator[Map]:
    """Yield an engine for measuring, which is half Python: as ``report_engine``, but on threads where there is little to do."""
    with _process_engine(address, workers, sees, LEAST_TO_MEASURE, _map_on_threads) as chosen:
        yield chosen


@contextmanager
def convert_engine(address: str | None = None, workers: int | None = None, *, sees: Iterable[Any] = ()) -> Iterator[Map]:
    """Yield an engine for converting many records, of which headers and files, more than half, are Python: as ``measure_engine``.

    It begins with the archive's list, 256 records a task: how many these are decides for its shards too. A few long records make
    as many shards, but these are hashed, compressed and judged by machine code, which holds no lock.
    """
    with _process_engine(address, workers, sees, LEAST_TO_CONVERT, _map_on_threads, decides_once=True) as chosen:
        yield chosen


Few = Callable[[int, Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
"""How few tasks are run: given processors, a function and tasks."""


@contextmanager
def _process_engine(
    address: str | None, workers: int | None, sees: Iterable[Any], least: int, few: Few, *, decides_once: bool = False
) -> Iterator[Map]:
    settings = load_settings(dask=address, workers=workers)
    if settings.dask is not None:
        with engine(settings.dask, sees=sees) as on_cluster:
            yield on_cluster
        return
    n_processes = settings.workers or usable_processors()
    with ExitStack() as until_the_end:  # a stage asks its engine several times: the processes are started once
        pool = cache(lambda: until_the_end.enter_context(_pool(n_processes)))
        decided: list[bool] = []

        def run(function: Callable[[Any], Any], tasks: Iterable[Any]) -> Iterator[Any]:
            queue = iter(tasks)
            first = list(islice(queue, least))
            if not (decides_once and decided):
                decided[:] = [n_processes > 1 and len(first) == least]
            if decided[0]:
                yield from _map_in_processes(pool(), n_processes, function, chain(first, queue))
            else:
                yield from few(n_processes, function, chain(first, queue))

        yield Engine(run, lambda: _memory_here() // n_processes)


def _map_in_processes(
    pool: ProcessPoolExecutor, n_processes: int, function: Callable[[Any], Any], tasks: Iterable[Any]
) -> Iterator[Any]:
    """Yield results in order; a bounded number of tasks is taken ahead, however many there are."""
    queue = iter(tasks)
    running: deque[Any] = deque()
    while True:
        for task in islice(queue, PARCELS_PER_THREAD * n_processes - len(running)):
            running.append(pool.submit(_privately, function, [task]))
        if not running:
            return
        yield running.popleft().result()[0]


def usable_processors() -> int:
    """Return how many processors this process may run on."""
    return len(os.sched_getaffinity(0))


def _map_on_threads(n_threads: int, function: Callable[[Any], Any], tasks: Iterable[Any]) -> Iterator[Any]:
    """Run tasks on Dask's threaded scheduler and yield each result when it is there.

    The threads are of a pool of our own, which ends with the work: one that Dask makes for a thread that calls it is registered
    with ``atexit`` and so kept, with all of its locks, as long as the process lives (dask 2026.8; ninety objects a call).
    """
    import dask
    from dask.threaded import get  # by name, "threads" would import all of distributed to ask for a client

    finished: SimpleQueue[tuple[str, Any]] = SimpleQueue()

    def run(index: int) -> None:
        finished.put(("result", function(waiting[index])))

    def compute() -> None:
        try:
            with ThreadPoolExecutor(n_threads, thread_name_prefix="ecgbatch") as pool:
                dask.compute(*lazy, scheduler=get, pool=pool)
            finished.put(("end", None))
        except BaseException as error:
            finished.put(("error", error))

    waiting = list(tasks)
    lazy = [dask.delayed(run, pure=False)(index) for index in range(len(waiting))]
    thread = Thread(target=compute, name="ecgbatch-dask", daemon=True)
    with one_thread_for_products():  # said here: OpenBLAS does not always take it from a thread that was just started
        thread.start()
        while (answer := finished.get())[0] == "result":
            yield answer[1]
        thread.join()
    if answer[0] == "error":
        raise answer[1]


def _privately(function: Callable[[Any], Any], parcel: list[Any]) -> list[Any]:
    """Run tasks in a process of ours; its files, recordings of patients, are its owner's alone, however it was started."""
    os.umask(0o077)
    return [function(task) for task in parcel]


def _on_worker(wanted: Passport, function: Callable[[Any], Any], parcel: list[Any]) -> tuple[list[Any], float]:
    """Run tasks on a cluster's worker that matches; return their results and the seconds that each took on average."""
    from distributed import get_worker

    admit(wanted, get_worker().address)
    start = monotonic()
    results = _privately(function, parcel)
    return results, (monotonic() - start) / len(parcel)


@contextmanager
def _lost_scheduler_in_words(address: str) -> Iterator[None]:
    """Say what to do about a scheduler that does not answer, or no more."""
    from distributed.client import ClosedClientError
    from distributed.comm import CommClosedError

    lost = (CancelledError, CommClosedError, ClosedClientError)  # the last: no scheduler came back while results were taken
    try:
        yield
    except (OSError, *lost) as error:
        if not isinstance(error, lost) and "Timed out trying to connect" not in str(error):
            raise  # a task's own
        why = type(error).__name__ if isinstance(error, lost) else error
        raise OSError(
            f"the Dask scheduler {address} is gone or does not answer ({why}); start it, or leave --dask out, and run the same "
            "command again: it goes on where this one was"
        ) from error


def _map_or_say(
    client: Any, wanted: Passport, wait_for_workers_s: float, function: Callable[[Any], Any], tasks: Iterable[Any]
) -> Iterator[Any]:
    """Run tasks on a cluster; a scheduler that is gone or of another version is an error, with a word about what to do."""
    try:
        with _lost_scheduler_in_words(client.scheduler.address):
            yield from _map_on_cluster(client, wanted, wait_for_workers_s, function, tasks)
    except RuntimeError as error:
        if "deserialization of the task graph" not in str(error):
            raise
        raise ValueError(
            f"the Dask scheduler {client.scheduler.address} has another ecgbatch than this command ({error.__cause__}); install "
            "the same for scheduler and workers, start them anew, then run the same command again"
        ) from error
    except OtherRooms as error:
        raise ValueError(
            f"a Dask worker of {client.scheduler.address} has another ecgbatch than this command ({error}); install the same for "
            "scheduler and workers, start them anew, then run the same command again"
        ) from error
    except ForeignPackage as error:  # of a worker that came a moment ago
        raise OtherCode(f"a Dask worker: {error}; then start it again") from error


def _threads(client: Any, wanted: Passport, known: set[str]) -> int:
    """Return how many threads a cluster has now; workers that are not ``known`` yet must match what is wanted."""
    there: dict[str, int] = client.nthreads()
    if came := set(there) - known:
        examine(client, wanted, sorted(came))
        known.update(came)
    return sum(there.values())


def _map_on_cluster(
    client: Any, wanted: Passport, wait_for_workers_s: float, function: Callable[[Any], Any], tasks: Iterable[Any]
) -> Iterator[Any]:
    """Keep a bounded number of tasks in flight on a cluster, however many workers it has, and yield results as they arrive."""
    from distributed import KilledWorker, wait
    from distributed.protocol.pickle import dumps

    queue, ready, most = iter(tasks), deque[Any](), 1
    running: set[Any] = set()
    sent: dict[Any, tuple[list[Any], int]] = {}

    def send(parcel: list[Any], times: int = 1) -> None:
        future = client.submit(call_with_ours, dumps((partial(_on_worker, wanted, function), (parcel,))), pure=False)
        running.add(future)
        sent[future] = parcel, times

    known: set[str] = set()
    n_threads, asked, last_seen = _threads(client, wanted, known), monotonic(), monotonic()
    while True:
        places = max(1, n_threads)
        while len(running) < PARCELS_PER_THREAD * places:
            ready.extend(islice(queue, LOOK_AHEAD * places - len(ready)))
            if not ready:
                break
            n_together = max(1, min(most, len(ready) // (2 * places)))
            send([ready.popleft() for _ in range(n_together)])
        if not running:
            return
        done: set[Any] = set()
        with suppress(TimeoutError), client.as_current():  # ``wait`` asks whatever client is current
            patience = ASK_FOR_WORKERS_S if n_threads else ASK_WHILE_NONE_S
            done, running = wait(running, timeout=patience, return_when="FIRST_COMPLETED")
        if not done or monotonic() - asked > ASK_FOR_WORKERS_S:
            n_threads, asked = _threads(client, wanted, known), monotonic()
        last_seen = monotonic() if done or n_threads else last_seen
        if monotonic() - last_seen > wait_for_workers_s:
            raise OSError(
                f"the Dask cluster has had no worker for {wait_for_workers_s:g} s; start some, then run again (a queue that is "
                "slower: setting wait_for_workers_s; workers with another ecgbatch end at their first task, as their logs "
                "say)"
            )
        for future in done:
            parcel, times = sent.pop(future)
            try:
                results, seconds = future.result()
            except KilledWorker as error:
                if times == MOST_SENT:
                    raise OSError(
                        f"Dask workers died of the same task {times} times over; look at their logs (memory?), then run the same "
                        "command again: it goes on where this one was"
                    ) from error
                for task in parcel:  # each for itself: one of them may be what the workers die of
                    send([task], times + 1)
                continue
            most = min(LARGEST_PARCEL, max(1, int(PARCEL_S / max(seconds, 1e-6))))
            yield from results
