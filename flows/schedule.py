"""Every night: a served deployment that runs what is new, one run a workspace at a time, and tells when one needs attention."""

from __future__ import annotations

from ecgbatch.own_packages import ours_first

ours_first()  # before anything else of ours: a worker of Prefect's runs this file by its path, in whatever folder it was started

import logging
import os
from contextlib import ExitStack
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate
from prefect.client.schemas.schedules import CronSchedule
from prefect.concurrency.sync import concurrency
from prefect.deployments.runner import EntrypointType
from prefect.runtime import flow_run
from prefect.states import Completed
from pydantic import ValidationError

from ecgbatch.model.files import load_model, shipped_model
from ecgbatch.scores.table import scores_path
from ecgbatch.settings import load_settings
from ecgbatch.upkeep.findings import drift_since
from ecgbatch.upkeep.status import last_run
from ecgbatch.workspace.runs import runs_by_time
from flows.notify import is_first_to_tell, notify
from flows.score import run_archive
from flows.server import workspace_name
from flows.serving import serve_until_stopped
from storage import open_once

log = logging.getLogger("ecgbatch")

LEASE_S = 60.0
"""A run holds its workspace's slot by a lease that it renews; a killed run's slot is free again after this many seconds."""

OVERLAP_S = 5.0
"""A run that finds the one before still at work gives up after this many seconds: the next one does what both would have."""


def tell_failure(flow: Any, flow_run: Any, state: Any) -> None:
    """Say that a night failed, was killed or cancelled, or took too long; Prefect calls this in whatever process notices,
    and more than one may: of a pool's night its supervisor, its worker, and the night itself. The first one tells.

    The engine of a night gives the arguments by place, a runner or worker that finds the night dead by name: the names are
    Prefect's.
    """
    message = f"{flow.name} {flow_run.name} {state.name.lower()}: {str(state.message or 'no message').splitlines()[0][:300]}"
    work = (flow_run.parameters or {}).get("work", "")
    if is_first_to_tell(work, str(flow_run.id)):
        notify("failed", message, {"work": work, "flow_run": str(flow_run.id)})


TOLD: dict[str, Any] = {"on_failure": [tell_failure], "on_crashed": [tell_failure], "on_cancellation": [tell_failure]}
"""A night that took too long is a failed one to Prefect, with a name of its own."""


@flow(name="nightly", validate_parameters=False, **TOLD)
def nightly(
    archive: str,
    work: str,
    *,
    model: str | None = None,
    labels: str | None = None,
    settle_s: float = 60.0,
    pseudonymise: bool = False,
    reports: dict[str, Any] | None = None,
    dask: str | None = None,
    workers: int | None = None,
) -> Any:
    """Run what is new in an archive, unless a later run has done it already or another is still at work.

    Parameters
    ----------
    archive, work, model, labels, dask, workers
        As ``ecgbatch run`` takes them.
    settle_s
        A record with a file changed less than this many seconds ago waits for the next night.
    pseudonymise, reports
        As ``flows.score.score_archive`` takes them: names replaced, which pages, which further forms.

    Returns
    -------
    dict, or a state named Skipped
        The counts of the run.

    """
    os.umask(0o077)  # recordings of patients: what a night writes is its owner's alone, whoever started its process
    due = flow_run.scheduled_start_time
    if is_covered(work, due):
        return Completed(name="Skipped", message=f"due {due:%Y-%m-%d %H:%M}, and a run that began later has ended well")
    try:
        slot = take_slot(work)
    except TimeoutError:
        return Completed(name="Skipped", message="another run of this workspace is still at work; the next one does what is left")
    with slot:
        options = {"labels": labels, "dask": dask, "workers": workers, "pseudonymise": pseudonymise, "reports": reports}
        return _night(archive, work, model or str(shipped_model()), settle_s, options)


def take_slot(work: str) -> ExitStack:
    """Take the workspace's one slot; what is returned gives it back when it is left.

    A server that was killed forgets who held a slot, and would never give it away again. So a slot that nobody on this machine
    can hold (the last run of the workspace has ended, or its process is gone) is freed, and asked for once more.

    Raises
    ------
    TimeoutError
        If another run is at work.

    """
    name = make_limit(work)
    with ExitStack() as stack:
        try:
            stack.enter_context(_slot(name))
        except TimeoutError:
            if last_run(work).get("outcome") == "running":
                raise
            log.warning("the slot of %s was held by a run that has ended; it is free again", name)
            make_limit(work, active_slots=0)
            stack.enter_context(_slot(name))
        return stack.pop_all()


def _slot(name: str) -> Any:
    return concurrency(name, timeout_seconds=OVERLAP_S, lease_duration=LEASE_S, strict=True, raise_on_lease_renewal_failure=False)


def is_covered(work: str, due: datetime | None) -> bool:
    """Tell whether a run that was due then need not be made any more: one that began after it has ended well."""
    last = last_run(work)
    return due is not None and last.get("outcome") == "ok" and datetime.fromisoformat(last["started"]) > due


def _night(archive: str, work: str, model: str, settle_s: float, options: dict[str, Any]) -> dict[str, Any]:
    earlier = next(iter(runs_by_time(work)), None)
    beats = dict(load_model(model).beats)
    done = run_archive(archive, work, model=model, settle_s=settle_s, settings=beats, **options)
    counts, prepared = done["counts"], done["prepared"]
    told = {name: prepared[name] for name in ("records", "new_records", "superseded", "gone", "waiting", "set_aside")}
    told |= {"scored": counts["n_scored"], "run": done["run"], "work": work}
    scores = open_once(scores_path(work, done["run"]))
    drift = drift_since(work, scores, None if earlier == done["run"] else earlier)
    create_markdown_artifact(_page(told, done["cohort"], drift.document()), key="night", description="What this night did")
    _attend(told, drift)
    return told


def _page(told: dict[str, Any], cohort: str, drift: dict[str, Any]) -> str:
    rows = [f"| {name.replace('_', ' ')} | {value} |" for name, value in told.items()]
    rows += [f"| drift: {name} | {value} |" for name, value in drift.items()]
    return "\n".join(["| | |", "|---|---|", *rows, "", f"Cohort report: `{cohort}`"])


def _attend(told: dict[str, Any], drift: Any) -> None:
    """Tell whoever must know of many records set aside, and of scores unlike the earlier ones."""
    settings = load_settings()
    if told["records"] and told["set_aside"] / told["records"] > settings.set_aside_threshold:
        notify("set_aside", f"{told['set_aside']} of {told['records']} records are set aside", told, settings)
    if drift.is_beyond(settings.drift_threshold):
        message = f"scores of {drift.n_new} new records differ from those of {drift.n_earlier} earlier ones: {drift.distance:.2f}"
        notify("drift", message, told | {"drift": drift.document()}, settings)


def make_limit(work: str, active_slots: int | None = None) -> str:
    """Create the limit of one run at a time for a workspace, if it is not there; return its name.

    Parameters
    ----------
    active_slots
        Say that so many slots are taken, whatever the server believes.

    """
    name = workspace_name(work)
    with get_client(sync_client=True) as client:
        client.upsert_global_concurrency_limit_by_name(name, 1)
        if active_slots is not None:
            client.update_global_concurrency_limit(name, GlobalConcurrencyLimitUpdate(active_slots=active_slots))
    return name


def check_times(cron: str, timezone: str) -> None:
    """Refuse a cron line or a time zone that is none, in one line.

    Raises
    ------
    ValueError
        With what was expected and found.

    """
    try:
        ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"--timezone {timezone!r}: expected a zone's name, as UTC or Europe/Vienna; found none") from None
    try:
        CronSchedule(cron=cron, timezone=timezone)
    except ValidationError:
        raise ValueError(
            f"--cron {cron!r}: expected five fields (minute, hour, day of month, month, day of week), as '0 2 * * *'; found none"
        ) from None


def serve_nightly(archive: str, work: str, *, cron: str, timezone: str = "UTC", **parameters: Any) -> None:
    """Make the deployment and serve it until the process is told to stop; every run is a process of its own.

    Parameters
    ----------
    cron, timezone
        When: five fields, and the clock that they mean.
    parameters
        Of ``nightly``.

    Raises
    ------
    ValueError
        If ``cron`` or ``timezone`` is none.
    KeyboardInterrupt, TerminationSignal
        What stopped it (``serve_until_stopped``).

    """
    from prefect.schedules import Cron

    check_times(cron, timezone)
    name = make_limit(work)
    deployment = nightly.to_deployment(
        name=name,
        schedule=Cron(cron, timezone=timezone),
        parameters={"archive": archive, "work": work, **parameters},
        description=f"Scores what is new in {archive}",
        tags=["ecgbatch"],
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    log.info("serving nightly/%s, %s %s", name, cron, timezone)
    serve_until_stopped(deployment)
