"""Scores: from beat probabilities to a decision about each record, or a reason why there is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import xarray as xr

from ecgbatch import __version__
from ecgbatch.beats.lookup import current_beats
from ecgbatch.measurements.lookup import current_measurements, measure_workspace
from ecgbatch.model.definition import Model
from ecgbatch.model.files import load_model, save_model
from ecgbatch.scores.earlier import find_earlier, known_rows, with_known
from ecgbatch.scores.shard import score_shard
from ecgbatch.scores.stored_beats import RecordBeats, read_record_beats
from ecgbatch.scores.table import INPUTS, LABELS, plan_scores
from ecgbatch.signals.table import SIGNALS
from ecgbatch.terms import MODEL_NAME_DIGITS
from storage import NOT_OF_A_ROW, TEXT, Map, Plan, Progress, RowsFailed, Shard, build_around, noting, row_key


def score_records(
    work: str | Path,
    records: xr.Dataset,
    model_folder: str | Path,
    *,
    settings: Mapping[str, Any] | None = None,
    map: Map = map,
    on_progress: Progress | None = None,
) -> str:
    """Score records and publish ``work/scores/<run>.zarr``; return its path.

    Parameters
    ----------
    work
        Workspace with the signals and beats stores that ``records`` name.
    records, settings
        As in ``plan_scores``.
    model_folder
        As ``save_model`` left it; every worker reads it.
    map, on_progress
        As in ``storage.build``.

    """
    model = _model(str(model_folder))
    plan = plan_scores(records, model, settings=settings)
    job = Scoring(
        work=str(work),
        model_folder=str(model_folder),
        n_beats=plan.sizes["beat"],
        precision=plan.settings["inference"]["name"],
        earlier=find_earlier(str(work), plan),
    )

    def plan_for(beside: Mapping[str, Any]) -> Plan:
        return plan_scores(records, model, settings=dict(settings or {}) | dict(beside)) if beside else plan

    produce = partial(produce_scores, job=job)
    return build_around(str(work), plan_for, produce, version=__version__, map=map, on_progress=on_progress)


@dataclass(frozen=True)
class Scoring:
    """What every shard of a store of scores is made with; picklable, for any engine."""

    work: str
    model_folder: str
    n_beats: int
    """Length of the store's dimension ``beat``."""
    precision: str = "float32"
    """As in ``score_shard``; the plan states it."""
    earlier: str = ""
    """Path of a store of scores by the same model, settings and versions (``earlier.find_earlier``), or nothing."""


def produce_scores(
    _shard: Shard, rows: xr.Dataset, *, job: Scoring, skip: Mapping[str, str] = MappingProxyType({})
) -> xr.Dataset:
    """Score the records of one shard; those that an earlier store of scores has are taken from there.

    A record's numbers depend on that record, the model and the versions only: not on its neighbours, on the order of the
    shards or on who makes them.

    Parameters
    ----------
    rows
        The plan's inputs for these records.
    skip
        Records (``storage.row_key``) that get no score, for their content makes scoring fail, and the type of exception.

    Returns
    -------
    xarray.Dataset
        Every variable of ``SCORES``.

    Raises
    ------
    RowsFailed
        If the content of other records makes it fail.

    """
    known = known_rows(job.earlier, rows)
    fresh, model = rows.isel(record=np.flatnonzero(known < 0)), _model(job.model_folder)
    records = list(read_record_beats(fresh, Path(job.work), model))
    if skip:
        fresh = _with_failed(fresh, skip)
        names = fresh["record_name"].values.tolist()
        records = [None if row_key(name) in skip else record for name, record in zip(names, records, strict=True)]
    block = _scored(fresh, records, partial(score_shard, model=model, n_beats=job.n_beats, precision=job.precision))
    return block if (known < 0).all() else with_known(block, job.earlier, known, job.n_beats)


@lru_cache(maxsize=2)
def _model(folder: str) -> Model:
    """Return a model, read once a process: in a bucket it has no times by which ``load_model`` could tell that it is the same."""
    return load_model(folder)


def _scored(rows: xr.Dataset, records: Sequence[RecordBeats | None], score: Callable[..., xr.Dataset]) -> xr.Dataset:
    """Score records together; where that fails, one by one tells whose content it is."""
    try:
        return score(rows, records=records)
    except NOT_OF_A_ROW:
        raise
    except Exception:
        failed: dict[str, str] = {}
        for row, name in enumerate(rows["record_name"].values.tolist()):
            with noting(failed, name):
                score(rows.isel(record=[row]), records=records[row : row + 1])
        if not failed:
            raise
        raise RowsFailed(failed) from None


def _with_failed(rows: xr.Dataset, skip: Mapping[str, str]) -> xr.Dataset:
    names = rows["record_name"].values.tolist()
    told = rows["failed"].values.tolist() if "failed" in rows else [""] * len(names)
    kinds = [skip.get(row_key(name), "") for name in names]
    failed = [one or (f"scores:{kind}" if kind else "") for one, kind in zip(told, kinds, strict=True)]
    return rows.assign(failed=("record", np.array(failed, TEXT)))


def score_workspace(
    work: str, model_folder: str, *, map: Map = map, on_progress: Callable[[str, int, int], None] | None = None
) -> str:
    """Score every record now in the archive; return the run's name, which is the digest of the score plan.

    What is not measured yet is measured first. The model is kept in ``WORK/models/<digest>``, so that the run can be reported on
    when the original is gone.

    Parameters
    ----------
    work
        Workspace with beats cut as the model wants them.
    model_folder
        As ``save_model`` left it.
    map, on_progress
        As in ``storage.build``; ``on_progress`` is called with the stage's name too.

    """
    model = _model(str(model_folder))
    kept = save_model(model, Path(work) / "models" / model.digest[:MODEL_NAME_DIGITS])
    measure_workspace(work, model.beats, map=map, on_progress=on_progress)
    columns = [name for name in (*INPUTS, *LABELS) if name in SIGNALS.variables]
    records = current_measurements(work, current_beats(work, model.beats, columns))
    progress = partial(on_progress, "score") if on_progress else None
    return Path(score_records(work, records, kept, map=map, on_progress=progress)).stem
