"""A schedule that is served until it is told to stop, and then ends in an orderly way: its night too, within seconds."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from prefect.exceptions import TerminationSignal
from prefect.runner import Runner

from ecgbatch.settings import load_settings

log = logging.getLogger("ecgbatch")

LAST_S = 3.0
"""Seconds that are left, after those the settings give, to whoever did not stop."""


def serve_until_stopped(deployment: Any) -> None:
    """Serve a deployment; at SIGTERM or Ctrl-C stop the night that is at work, wait for it, and return to the caller by raising.

    Prefect's own ``serve`` leaves its loop in the middle: a traceback on the screen, a night without anybody to wait for it.

    Raises
    ------
    KeyboardInterrupt, TerminationSignal
        What stopped it, once everything has ended.

    """
    runner = _Runner(pause_on_shutdown=True)
    runner.add_deployment(deployment)
    before = signal.signal(signal.SIGINT, runner.handle_signal)
    try:
        asyncio.run(runner.serve())
    finally:
        signal.signal(signal.SIGINT, before)
    if runner.told == signal.SIGINT:
        raise KeyboardInterrupt
    if runner.told is not None:
        raise TerminationSignal(signal=runner.told)


class _Runner(Runner):
    """Prefect's runner, with an end of its own."""

    told: int | None = None
    wake: Callable[[], Any] | None = None

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
