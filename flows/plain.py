"""A step called without Prefect: a call, and for a task the tries that Prefect would make."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

OnProgress = Callable[[str, int, int], None]

TRIES, WAITS_S = 3, (1, 10)
"""Of a task, and the seconds between. Receipts know what is done, so a further try goes on where the failed one stopped."""

_is_prefects: ContextVar[bool | None] = ContextVar("is_prefects", default=None)
"""Whether calls are flow runs and task runs of Prefect's; None: nobody has said, so what was made for Prefect is Prefect's."""


def plain_call(kind: str, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call a step's function without Prefect: a task is tried again as Prefect would, a flow is not."""
    if kind == "flow":
        return function(*arguments, **options)
    from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_chain, wait_fixed

    waits = wait_chain(*map(wait_fixed, WAITS_S))
    tries = Retrying(stop=stop_after_attempt(TRIES), wait=waits, retry=retry_if_exception_type(OSError), reraise=True)
    return tries(function, *arguments, **options)


@contextmanager
def without_prefect() -> Iterator[None]:
    """Have every step that is called inside be a plain call, though Prefect may be imported."""
    token = _is_prefects.set(False)
    try:
        yield
    finally:
        _is_prefects.reset(token)


@contextmanager
def as_flow_runs() -> Iterator[None]:
    """Have every step that is called inside be run by Prefect, though it may have been made without it."""
    token = _is_prefects.set(True)
    try:
        yield
    finally:
        _is_prefects.reset(token)


def is_plain() -> bool:
    """Tell whether steps are called inside ``without_prefect``."""
    return _is_prefects.get() is False


def is_asked_for() -> bool:
    """Tell whether steps are called inside ``as_flow_runs``."""
    return _is_prefects.get() is True
