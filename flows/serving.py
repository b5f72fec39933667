"""A schedule that is served until it is told to stop, and then ends in an orderly way: its night too, within seconds."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from prefect.exceptions import TerminationSignal
from prefect.runner import Runner

from ecgbatch.settings import load_settings
from flows.notify import notify

log = logging.getLogger("ecgbatch")

LAST_S = 3.0
"""Seconds that are left, after those the settings give, to whoever did not stop."""

AWAY_S = 120.0
"""Seconds without an answer of Prefect's server after which somebody is told: no night is started until it is back."""


def serve_until_stopped(deployment: Any) -> None:
    """Serve a deployment; at a signal stop the night at work, wait for it, and return to the caller by raising.

    Prefect's own ``serve`` leaves its loop in the middle: a traceback on the screen, a night without anybody to wait for it.

    Raises
    ------
    KeyboardInterrupt, TerminationSignal
        What stopped it, once everything has ended.
    OSError
        If Prefect's server refuses to be asked.

    """
    runner = _Runner(pause_on_shutdown=True)
    handled = [signal.SIGINT, *([signal.SIGHUP] if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN else [])]
    try:
        runner.add_deployment(deployment)
        before = {number: signal.signal(number, runner.handle_signal) for number in handled}
        try:
            asyncio.run(runner.serve())
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    except (httpx.HTTPError, RuntimeError) as error:  # a loop of Prefect's that gave up is a RuntimeError
        said = str(error).strip().splitlines()
        message = f"the schedule has ended, Prefect's server failed it: {said[0] if said else type(error).__name__}"
        notify("failed", message, {"deployment": str(deployment.name)})
        raise OSError(f"{message}. No night comes until the same command is started again") from None
    if runner.told == signal.SIGINT:
        raise KeyboardInterrupt
    if runner.told is not None:
        raise TerminationSignal(signal=runner.told)


def _in_one_line(record: logging.LogRecord) -> bool:
    """Leave a lost connection's traceback out of the log: that the server is away is said by us."""
    record.exc_info = record.exc_text = None
    return True


def _with_our_packages(starter_for: Callable[[Any], Any], run: Any) -> Any:
    """Return what starts a night's process: Prefect's own way, by way of ``flows.night``."""
    starter = starter_for(run)
    starter._command = shlex.join([sys.executable, "-P", str(Path(__file__).with_name("night.py"))])
    return starter


class _Runner(Runner):
    """Prefect's runner, with an end of its own."""

    told: int | None = None
    wake: Callable[[], Any] | None = None
    away_since: float | None = None
    is_told = False

    async def __aenter__(self) -> _Runner:
        """Begin as Prefect's, whose loops end after a few unanswered calls; ours wait."""
        # Prefect's is below one folder of TMPDIR that is the first user's who served anything on this machine.
        self._tmp_dir = Path(tempfile.mkdtemp(prefix="ecgbatch-runner-"))
        await super().__aenter__()
        poller, observer = self._scheduled_run_poller, self._cancelling_observer
        poller._get_and_submit_flow_runs = self._patient(poller._get_and_submit_flow_runs)
        observer._check_for_cancelled_flow_runs = self._patient(observer._check_for_cancelled_flow_runs)
        observer.logger.addFilter(_in_one_line)
        ended = observer._handle_polling_task_done
        # It asks a task that was cancelled, as at the end of a schedule without a server, for its error: a traceback of asyncio.
        observer._handle_polling_task_done = lambda task: None if task.cancelled() else ended(task)
        poller._resolve_starter = partial(_with_our_packages, poller._resolve_starter)
        return self

    def _patient(self, ask: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        """Return a call to the server that waits for one which does not answer, and tells if that lasts."""

        async def asked(*arguments: Any) -> None:
            try:
                await ask(*arguments)
            except (httpx.TransportError, httpx.HTTPStatusError) as error:
                if isinstance(error, httpx.HTTPStatusError) and error.response.status_code < httpx.codes.INTERNAL_SERVER_ERROR:
                    raise
                await self._is_away(error)
            else:
                if self.away_since is not None:
                    log.warning("Prefect's server answers again after %.0f s", time.monotonic() - self.away_since)
                self.away_since, self.is_told = None, False

        return asked

    async def _is_away(self, error: Exception) -> None:
        now = time.monotonic()
        if self.away_since is None:
            self.away_since = now
            log.warning("Prefect's server does not answer (%s); it is waited for", type(error).__name__)
        if now - self.away_since >= AWAY_S and not self.is_told:
            self.is_told = True
            message = f"Prefect's server has not answered for {now - self.away_since:.0f} s: no night starts until it is back"
            await asyncio.to_thread(notify, "server", message, {"server": os.environ.get("PREFECT_API_URL", "")})

    async def _pause_schedules(self) -> None:
        """Pause as Prefect's runner does; a server that does not answer keeps nobody from ending."""
        try:
            await super()._pause_schedules()
        except httpx.HTTPError as error:
            log.warning("the schedule could not be paused on the server (%s): its nights are late until it is served", error)

    async def serve(self) -> None:
        """Poll and run until a signal comes; then stop what is at work, by force when its time is up."""
        stop = asyncio.Event()
        self.wake = partial(asyncio.get_running_loop().call_soon_threadsafe, stop.set)
        if self.told is not None:
            return None
        served = asyncio.create_task(self.start())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({served, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if self.told is None:
            stopping.cancel()
            return await served  # it failed
        within_s = load_settings().stop_within_s
        last = threading.Timer(within_s + LAST_S, os._exit, (128 + self.told,))
        last.daemon = True
        last.start()
        log.info("told to stop: the night at work, if there is one, ends within %g s", within_s)
        ending = asyncio.create_task(self._end(served))
        _, late = await asyncio.wait({ending}, timeout=within_s)
        for task in (*late, served):
            task.cancel()
        await asyncio.gather(ending, served, return_exceptions=True)
        last.cancel()
        return None

    async def _end(self, served: asyncio.Task[None]) -> None:
        while not (self.started or served.done()):
            await asyncio.sleep(0.05)
        if not served.done():
            await self.astop()
            await served

    def handle_signal(self, number: int, _frame: Any = None) -> None:
        """Remember the signal and wake ``serve``; a second one changes nothing."""
        if self.told is None:
            self.told = number
            if self.wake is not None:
                self.wake()

    def handle_sigterm(self, *_: Any, **__: Any) -> None:
        """Take the place of Prefect's own, which ``start`` installs."""
        self.handle_signal(signal.SIGTERM)
