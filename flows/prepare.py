"""Convert an archive and cut its beats."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_progress_artifact, create_table_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE

from ecgbatch.beats.lookup import extract_beats
from ecgbatch.beats.record import BeatSettings
from ecgbatch.signals.stage import convert_archive
from ecgbatch.workspace.runs import Timing
from flows.cluster import engine
from storage import cached_mirror, is_address

OnProgress = Callable[[str, int, int], None]


def is_infrastructure(_task: Any, _run: Any, state: Any) -> bool:
    """Retry what a disk or a network does to us; data problems are rows, and bugs stay bugs."""
    try:
        state.result()
    except OSError:
        return True
    except Exception:
        return False
    return False


RETRIED: dict[str, Any] = {
    "retries": 2,
    "retry_delay_seconds": [1, 10],
    "retry_condition_fn": is_infrastructure,
    "cache_policy": NO_CACHE,
    "persist_result": False,
}
"""Options of every task: receipts know what is done, so a retry goes on where the failed try stopped."""


UPDATE_EVERY_S = 5.0
"""A progress artifact is a call to Prefect's server (20 ms): seldom enough to cost nothing."""


def shown(on_progress: OnProgress | None, key: str) -> OnProgress:
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


@task(**RETRIED)
def convert(
    archive: str,
    work: str,
    options: dict[str, Any],
    dask: str | None,
    workers: int | None,
    on_progress: OnProgress | None,
) -> Any:
    """Convert what is new or has changed; of an archive in an object store, by way of its copy here, brought up to date first."""
    place = str(cached_mirror(archive)) if is_address(archive) else archive
    with engine(dask, workers, sees=[place, work]) as on_engine:
        return convert_archive(place, work, map=on_engine, on_progress=shown(on_progress, "convert"), **options)


@task(**RETRIED)
def beats(work: str, settings: dict[str, Any], dask: str | None, workers: int | None, on_progress: OnProgress | None) -> Any:
    """Find R peaks and cut windows, in parallel on Dask."""
    with engine(dask, workers, sees=[work]) as on_engine:
        return extract_beats(work, BeatSettings(**settings), map=on_engine, on_progress=shown(on_progress, "beats"))


@flow(name="prepare-archive", validate_parameters=False)
def prepare_archive(
    archive: str,
    work: str,
    *,
    labels: str | None = None,
    keep_comments: bool = False,
    rehash: bool = False,
    settle_s: float = 0.0,
    settings: dict[str, Any] | None = None,
    dask: str | None = None,
    workers: int | None = None,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Convert an archive into signals stores and cut its beats.

    Parameters
    ----------
    archive, work, labels, keep_comments, rehash, settle_s
        As ``convert_archive`` takes them.
    settings
        Fields of ``BeatSettings``; default the robust method.
    dask, workers
        Address of a Dask scheduler, or threads of this process.

    Returns
    -------
    dict
        Counts, and seconds by stage.

    """
    timing = Timing()
    with timing.stage("convert"):
        options = {"labels": labels, "keep_comments": keep_comments, "rehash": rehash, "settle_s": settle_s}
        conversion = convert(archive, work, options, dask, workers, on_progress)
    with timing.stage("beats"):
        extraction = beats(work, settings or {}, dask, workers, on_progress)
    counts = {
        "records": conversion.n_records,
        "new_records": conversion.n_new,
        "superseded": len(conversion.superseded),
        "gone": len(conversion.gone),
        "waiting": len(conversion.waiting),
        "erased": conversion.n_erased,
        "set_aside": sum(conversion.set_aside.values()),
        "beats": extraction.n_beats,
        **{f"labels_{word}": n for word, n in conversion.labels.items()},
    }
    create_table_artifact([counts], key="prepared", description=f"Prepared from {archive}")
    return {**counts, "set_aside_reasons": conversion.set_aside, "seconds": timing.seconds}
