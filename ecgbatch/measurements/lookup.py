"""Measurements of a workspace: made where they are missing, and looked up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ecgbatch import __version__
from ecgbatch.beats.lookup import current_beats
from ecgbatch.measurements.stage import (
    MEASUREMENTS,
    measure_settings,
    measure_versions,
    plan_measurements,
    produce_measurements,
)
from ecgbatch.signals.lookup import signals_path
from storage import (
    FAILED,
    TEXT,
    Map,
    UnfinishedStore,
    build_around,
    folder_at,
    list_stores,
    load_columns,
    open_store,
    preference,
)
from storage.plan import canonical_json, with_own_versions
from storage.reading import read_root


@dataclass(frozen=True)
class Measuring:
    """What ``measure_workspace`` did: paths of the stores, and how many records have a QRS duration, of how many."""

    stores: tuple[str, ...]
    n_records: int
    n_measured: int


def measure_workspace(
    work: str,
    beat_settings: Mapping[str, Any],
    *,
    map: Map = map,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Measuring:
    """Measure the records of every beats store that holds one now in the archive, as far as that is not done.

    Parameters
    ----------
    beat_settings
        As in ``beats.lookup.current_beats``: of which beats.
    map
        Engine; the bytes do not depend on it.
    on_progress
        Called with the stage's name, shards done and shards in all.

    Raises
    ------
    UnfinishedStore
        If a record's signals store has no such beats yet.

    """
    table = current_beats(work, beat_settings, ["status"])
    pairs = sorted(set(zip(table["beats_store"].values.tolist(), table["signals_store"].values.tolist(), strict=True)))
    known = _published(work)
    stores = []
    for number, (beats, signals) in enumerate(pairs, 1):
        stage = "measure" if len(pairs) == 1 else f"measure {number}/{len(pairs)}"
        progress = partial(on_progress, stage) if on_progress else None
        stores.append(known.get(beats) or _measure(work, signals, beats, map, progress))
    has_qrs = [np.isfinite(load_columns(path, ("qrs_ms",))["qrs_ms"].values) for path in stores]
    return Measuring(tuple(stores), sum(one.size for one in has_qrs), int(sum(one.sum() for one in has_qrs)))


def _measure(work: str, signals: str, beats: str, map: Map, on_progress: Callable[[int, int], None] | None) -> str:
    signals_at, beats_at = signals_path(work, signals), str(folder_at(work).path(f"beats/{beats}.zarr"))
    plan_for = partial(plan_measurements, open_store(signals_at), open_store(beats_at))
    produce = partial(produce_measurements, signals_at=signals_at, beats_at=beats_at)
    return build_around(work, plan_for, produce, version=__version__, map=map, on_progress=on_progress)


def _published(work: str) -> dict[str, str]:
    """Return the paths of the measurements that are as this installation makes them, by the digest of their beats store."""
    variables = canonical_json({name: asdict(variable) for name, variable in MEASUREMENTS.variables.items()})
    versions, found, best = with_own_versions(measure_versions()), dict[str, str](), dict[str, int]()
    for path in list_stores(work, MEASUREMENTS.name):
        root = read_root(folder_at(path))
        settings = root["settings"]
        own = {name: value for name, value in settings.items() if name != FAILED}
        is_same = root["versions"] == versions and own == measure_settings(settings["signals"], settings["beats"])
        beats, rank = str(settings["beats"]), preference(settings, __version__)  # 0: to be tried again
        if is_same and canonical_json(root["plan"]["variables"]) == variables and rank > best.get(beats, 0):
            found[beats], best[beats] = path, rank
    return found


def current_measurements(work: str, records: xr.Dataset) -> xr.Dataset:
    """Return ``beats.lookup.current_beats``'s table with ``measurements_store`` (digest); the row there is ``beats_row``.

    Raises
    ------
    UnfinishedStore
        If a record's beats store is not measured yet as this installation measures.

    """
    found = {beats: Path(path).stem for beats, path in _published(work).items()}
    beats = records["beats_store"].values.tolist()
    missing = sorted(set(beats) - found.keys())
    if missing:
        raise UnfinishedStore(f"{work}: no measurements of beats {', '.join(missing)}; run `ecgbatch measure {work}`")
    digests = np.array([found[digest] for digest in beats], TEXT)
    return records.assign(measurements_store=("record", digests))
