"""Steps as Prefect's own flows and tasks: ``steps`` makes them here where Prefect is imported."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

from prefect import Flow, Task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE

from flows.plain import TRIES, WAITS_S, OnProgress, is_plain, plain_call


class StepFlow(Flow[..., Any]):
    """A flow of Prefect's; inside ``plain.without_prefect`` a call is a plain one."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Run the flow, or call its function."""
        return plain_call("flow", self.fn, *arguments, **options) if is_plain() else super().__call__(*arguments, **options)


class StepTask(Task[..., Any]):
    """A task of Prefect's; inside ``plain.without_prefect`` a call is a plain one."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Run the task, or call its function."""
        return plain_call("task", self.fn, *arguments, **options) if is_plain() else super().__call__(*arguments, **options)


def make(kind: str, function: Callable[..., Any], name: str | None) -> StepFlow | StepTask:
    """Return a function as Prefect's flow or task."""
    if kind == "flow":
        return StepFlow(function, name=name, validate_parameters=False)
    return StepTask(
        function,
        retries=TRIES - 1,
        retry_delay_seconds=list(map(float, WAITS_S)),
        retry_condition_fn=is_infrastructure,
        cache_policy=NO_CACHE,
        persist_result=False,
    )


def is_infrastructure(_task: Any, _run: Any, state: Any) -> bool:
    """Retry what a disk or a network does to us; data problems are rows, and bugs stay bugs."""
    try:
        state.result()
    except OSError:
        return True
    except Exception:
        return False
    return False


UPDATE_EVERY_S = 5.0
"""A progress artifact is a call to Prefect's server (20 ms): seldom enough to cost nothing."""


def with_artifact(on_progress: OnProgress | None, key: str) -> OnProgress:
    """Return an ``on_progress`` that also keeps a progress artifact in Prefect up to date."""
    artifact = create_progress_artifact(0.0, key=key, description=f"Shards of {key} done")
    shown_at = [monotonic()]

    def show(stage: str, done: int, total: int) -> None:
        if on_progress:
            on_progress(stage, done, total)
        if monotonic() - shown_at[0] > UPDATE_EVERY_S or done == total:
            shown_at[0] = monotonic()
            update_progress_artifact(artifact, progress=100.0 * done / max(total, 1))  # type: ignore[arg-type]

    return show
