"""What a run is told, in one piece: the command line builds it and checks it, flows pass it on, each stage takes its part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from inspect import signature
from typing import Any


@dataclass(frozen=True)
class RunOptions:
    """All that a run is told, as plain values that Prefect can keep.

    To add one: a field here, the parameter of that name of ``flows.score.run_archive`` (deployments keep their parameters as
    plain JSON) and of the flow or stage that wants it, the option of the command.
    """

    archive: str
    work: str
    model: str | None = None
    """Folder of the model; None: one is trained by ``recipe``."""
    labels: str | None = None
    rehash: bool = False
    settle_s: float = 0.0
    settings: dict[str, Any] | None = None
    """Fields of ``BeatSettings``; None: the robust method."""
    recipe: str = "ecgbatch"
    keep_comments: bool = False
    pseudonymise: bool = False
    reports: dict[str, Any] | None = None
    """``pages`` and ``extras`` of ``ecgbatch.reports.writing.report_workspace``; None: pages by number, no further form."""
    dask: str | None = None
    workers: int | None = None

    def document(self) -> dict[str, Any]:
        """Return the options as a flow's parameters."""
        return asdict(self)

    def part_of(self, stage: Callable[..., Any]) -> dict[str, Any]:
        """Return those options that are parameters of a stage or a flow, by name."""
        return {name: value for name, value in asdict(self).items() if name in signature(getattr(stage, "fn", stage)).parameters}
