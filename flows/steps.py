"""What stands over the functions of this wing: Prefect's flow and task where Prefect is there, nothing of it where it is not.

Prefect takes over a second of processor time to import and writes into the user's home; a server for one command takes ten
seconds more. Where Prefect is imported first, as a deployment and its workers do, these make Prefect's own flows and tasks. Where
it is not, they make ``Step``: a call is a plain call, unless ``as_flow_runs`` or a run of Prefect's is around it. Either way a
task is tried again for what a disk or a network does to us, by one of the two and never by both.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import update_wrapper
from typing import Any, TypeVar, cast

from flows.plain import OnProgress, is_asked_for, is_plain, plain_call

Function = TypeVar("Function", bound=Callable[..., Any])


def flow(*, name: str) -> Callable[[Function], Function]:
    """Make a function that puts tasks in order a flow."""

    def decorate(function: Function) -> Function:
        return cast("Function", _prefects("flow", function, name) if "prefect" in sys.modules else Step("flow", function, name))

    return decorate


def task(function: Function) -> Function:
    """Make a stage a task: tried again where an error of the operating system ended it, never cached nor persisted."""
    return cast("Function", _prefects("task", function) if "prefect" in sys.modules else Step("task", function))


class Step:
    """A flow or a task that was made before Prefect was imported: a function, unless Prefect is to run it."""

    def __init__(self, kind: str, function: Callable[..., Any], name: str | None = None) -> None:
        update_wrapper(self, function)
        self.fn, self._kind, self._name = function, kind, name

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Call the function, as Prefect's step in a run of Prefect's."""
        if is_asked_for() or is_prefects_run():
            return _prefects(self._kind, self.fn, self._name)(*arguments, **options)
        return plain_call(self._kind, self.fn, *arguments, **options)


def _prefects(kind: str, function: Callable[..., Any], name: str | None = None) -> Any:
    from flows.by_prefect import make

    return make(kind, function, name)


def is_prefects_run() -> bool:
    """Tell whether this is called in a flow run or a task run of Prefect's."""
    if is_plain() or "prefect" not in sys.modules:
        return False
    from prefect.context import FlowRunContext, TaskRunContext

    return FlowRunContext.get() is not None or TaskRunContext.get() is not None


def shown(on_progress: OnProgress | None, key: str) -> OnProgress | None:
    """Return an ``on_progress`` that, in a run of Prefect's, also keeps a progress artifact up to date."""
    if not is_prefects_run():
        return on_progress
    from flows.by_prefect import with_artifact

    return with_artifact(on_progress, key)


def keep_table(rows: Sequence[Mapping[str, Any]], key: str, description: str) -> None:
    """Keep a table with the flow run, where there is one."""
    if is_prefects_run():
        from prefect.artifacts import create_table_artifact

        create_table_artifact([dict(row) for row in rows], key=key, description=description)


def keep_link(address: str, key: str, text: str) -> None:
    """Keep a link with the flow run, where there is one."""
    if is_prefects_run():
        from prefect.artifacts import create_link_artifact

        create_link_artifact(address, key=key, link_text=text)
