"""Train a model on the prepared store."""

from __future__ import annotations

from typing import Any

from prefect import flow, task
from prefect.artifacts import create_table_artifact

from ecgbatch.training.recipes import train_workspace
from ecgbatch.workspace.runs import Timing
from flows.cluster import processes
from flows.prepare import RETRIED, OnProgress, shown


@task(**RETRIED)
def train_members(
    work: str,
    recipe: str,
    out: str | None,
    dask: str | None,
    workers: int | None,
    on_progress: OnProgress | None,
) -> str:
    """Train every member, a process each, from its last checkpoint on."""
    with processes(dask, workers, sees=[work]) as on_processes:
        return train_workspace(work, recipe=recipe, out=out, map=on_processes, on_progress=shown(on_progress, "train"))


@flow(name="train-model", validate_parameters=False)
def train_model(
    work: str,
    *,
    recipe: str = "ecgbatch",
    out: str | None = None,
    dask: str | None = None,
    workers: int | None = None,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Train a model on the labelled records of a workspace; return its folder and the seconds it took.

    Parameters
    ----------
    work
        A workspace with signals and beats.
    recipe
        Name of a recipe of ``ecgbatch.training.recipes``.
    out
        Folder of the model; default ``WORK/models/<digest>``.
    dask, workers
        Address of a Dask scheduler, or processes on this machine.

    """
    timing = Timing()
    with timing.stage("train"):
        folder = train_members(work, recipe, out, dask, workers, on_progress)
    create_table_artifact([{"model": folder}], key="model", description=f"Model trained on {work}")
    return {"model": folder, "seconds": timing.seconds}
