"""Train a model on the prepared store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ecgbatch.training.settings import TrainSettings
from ecgbatch.workspace.runs import Timing
from flows.cluster import processes, processes_ahead
from flows.plain import OnProgress
from flows.steps import flow, keep_table, shown, task
from storage import folder_at


@task
def train_members(
    work: str,
    recipe: str,
    out: str | None,
    dask: str | None,
    workers: int | None,
    on_progress: OnProgress | None,
) -> str:
    """Train every member, a process each, from its last checkpoint on."""
    from ecgbatch.training.recipes import train_workspace  # PyTorch, which nobody needs who scores

    with processes(dask, workers, sees=[work]) as on_processes:
        return train_workspace(work, recipe=recipe, out=out, map=on_processes, on_progress=shown(on_progress, "train"))


@contextmanager
def training_ahead(work: str, dask: str | None, workers: int | None) -> Iterator[None]:
    """Let the processes that will train begin now, if the workspace has no model yet, which might be the very one."""
    if folder_at(work).children("models"):
        yield
        return
    with processes_ahead(dask, workers, TrainSettings.n_folds, _load_training):
        yield


def _load_training() -> None:
    """Load what training needs: PyTorch, its optimisers and scikit-learn take seconds of each process."""
    from ecgbatch.training.member import load_libraries

    load_libraries()


@flow(name="train-model")
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
    keep_table([{"model": folder}], key="model", description=f"Model trained on {work}")
    return {"model": folder, "seconds": timing.seconds}
