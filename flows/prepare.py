"""Convert an archive and cut its beats."""

from __future__ import annotations

from typing import Any

from ecgbatch.archive.watch import LookOptions
from ecgbatch.beats.lookup import extract_beats
from ecgbatch.beats.record import BeatSettings
from ecgbatch.signals.stage import convert_archive
from ecgbatch.workspace.runs import Timing
from flows.cluster import convert_engine, engine
from flows.plain import OnProgress
from flows.steps import flow, keep_table, shown, task
from storage import cached_mirror, is_address


@task
def convert(
    archive: str,
    work: str,
    options: LookOptions,
    dask: str | None,
    workers: int | None,
    on_progress: OnProgress | None,
) -> Any:
    """Convert what is new or has changed; of an archive in an object store, by way of its copy here, brought up to date first."""
    place = str(cached_mirror(archive)) if is_address(archive) else archive
    with convert_engine(dask, workers, sees=[place, work]) as on_engine:
        return convert_archive(place, work, options, map=on_engine, on_progress=shown(on_progress, "convert"))


@task
def beats(work: str, settings: dict[str, Any], dask: str | None, workers: int | None, on_progress: OnProgress | None) -> Any:
    """Find R peaks and cut windows, in parallel on Dask."""
    with engine(dask, workers, sees=[work]) as on_engine:
        return extract_beats(work, BeatSettings(**settings), map=on_engine, on_progress=shown(on_progress, "beats"))


@flow(name="prepare-archive")
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
    archive, work
        As ``convert_archive`` takes them.
    labels, keep_comments, rehash, settle_s
        As in ``archive.watch.LookOptions``.
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
        options = LookOptions(labels=labels, keep_comments=keep_comments, rehash=rehash, settle_s=settle_s)
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
    keep_table([counts], key="prepared", description=f"Prepared from {archive}")
    return {**counts, "set_aside_reasons": conversion.set_aside, "seconds": timing.seconds}
