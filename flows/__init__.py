"""When and where the stages run: Prefect flows and Dask engines.

What comes in are places, a model and an engine's address, as plain values that Prefect can keep; what goes out is what the stages
left in the workspace, and counts. The command line takes ``engine`` and ``processes`` of ``cluster``, ``run_archive`` of
``score``, ``check_times`` and ``serve_nightly`` of ``schedule``, ``prefect_server`` and ``guard_own_server`` of ``server``.
Deployments name ``schedule.nightly``, so that name stays.

Prefect is told before it is imported: no telemetry (this handles clinical data, and without a network it only logs
errors), loopback past any proxy, and enough time for its own server to start on a small machine (20 s by default; a first start
takes 17-24 s).
"""

import os

from ecgbatch.settings import loopback_past_proxies

loopback_past_proxies()
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
os.environ.setdefault("PREFECT_SERVER_LOGGING_LEVEL", "ERROR")
