"""What a command has still to do: the records that a stage has not seen, or that this installation makes otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from ecgbatch.signals.lookup import current_records
from ecgbatch.upkeep.upgrades import Made, made_by, made_of, roots_of
from storage import TEXT, UnfinishedStore, folder_at, list_stores, load_columns
from storage.plan import with_own_versions

SIZES = ("n_samples", "sampling_frequency_hz")
"""Of a record: what the time that a stage takes on it follows from."""


def stored_records(work: str) -> xr.Dataset:
    """Return name, sizes and place of every record now in the workspace; none where nothing was converted."""
    try:
        return current_records(work, ("record_name", *SIZES))
    except UnfinishedStore:
        nothing = {name: ("record", np.empty(0, TEXT)) for name in ("record_name", "signals_store")}
        return xr.Dataset(nothing | {name: ("record", np.empty(0)) for name in (*SIZES, "signals_row")})


def pending(
    work: str, records: xr.Dataset, new: xr.Dataset, *, beats: Mapping[str, Any] | None = None, model: str | None = None
) -> dict[str, xr.Dataset]:
    """Return the records that each of the stages ``beats``, ``measure`` and ``score`` has still to work on.

    Parameters
    ----------
    records
        Those that are stored and stay: of ``stored_records``.
    new
        Those that are converted first, with ``SIZES``; every stage works on them.
    beats
        Fields of ``BeatSettings``.
    model
        Folder of the model that scores; without one everything is still to be scored.

    Returns
    -------
    dict
        Stage to a table with ``SIZES`` (record).

    """
    stores = records["signals_store"].values
    is_cut = np.isin(stores, sorted(_cut(work, beats or {})))
    is_measured = is_cut & np.isin(stores, sorted(_measured(work, beats or {})))
    scored = set() if model is None else _scored(work, model)
    places = zip(stores.tolist(), records["signals_row"].values.tolist(), strict=True)
    is_scored = is_measured & np.array([place in scored for place in places], dtype=bool)
    done = {"beats": is_cut, "measure": is_measured, "score": is_scored}
    return {stage: together(records.isel(record=np.flatnonzero(~is_done)), new) for stage, is_done in done.items()}


def together(*tables: xr.Dataset) -> xr.Dataset:
    """Return the sizes of the records of several tables."""
    return xr.Dataset({name: ("record", np.concatenate([table[name].values for table in tables])) for name in SIZES})


def _cut(work: str, settings: Mapping[str, Any]) -> set[str]:
    """Return the signals stores whose peaks and beats are as this installation makes them with these settings."""
    if not list_stores(work, "beats"):  # kernels, a second of imports, are not imported to say so
        return set()
    from ecgbatch.beats.record import BeatSettings
    from ecgbatch.beats.stage import BEATS, PEAKS, stage_settings, stage_versions

    own = stage_settings(xr.Dataset(), BeatSettings(**settings))
    made = (made_by(own, with_own_versions(stage_versions()), schema) for schema in (PEAKS, BEATS))
    return set.intersection(
        *(_signals_of(roots_of(work, schema.name), how) for schema, how in zip((PEAKS, BEATS), made, strict=True))
    )


def _measured(work: str, settings: Mapping[str, Any]) -> set[str]:
    """Return the signals stores whose beats, cut with these settings, are measured as this installation measures."""
    if not list_stores(work, "measurements"):
        return set()
    from ecgbatch.beats.record import BeatSettings
    from ecgbatch.measurements.stage import MEASUREMENTS, measure_settings, measure_versions

    asked = BeatSettings(**settings).document()
    cut = {
        root["digest"]
        for root in roots_of(work, "beats")
        if all(root["settings"].get(name) == value for name, value in asked.items())
    }
    made = made_by(measure_settings("", ""), with_own_versions(measure_versions()), MEASUREMENTS)
    return _signals_of((root for root in roots_of(work, MEASUREMENTS.name) if root["settings"]["beats"] in cut), made)


def _scored(work: str, folder: str) -> set[tuple[str, int]]:
    """Return the places of the records that some run has scored by this very model as this installation scores."""
    if not list_stores(work, "scores"):
        return set()
    from ecgbatch.model.files import load_model
    from ecgbatch.scores.table import SCORES, score_settings, score_versions

    made = made_by(score_settings(load_model(folder)), with_own_versions(score_versions()), SCORES)
    found: set[tuple[str, int]] = set()
    for root in roots_of(work, SCORES.name):
        if made_of(root) == made:
            columns = load_columns(folder_at(work).path(f"{SCORES.name}/{root['digest']}.zarr"), ("signals_store", "signals_row"))
            found.update(zip(columns["signals_store"].values.tolist(), columns["signals_row"].values.tolist(), strict=True))
    return found


def _signals_of(roots: Iterable[Mapping[str, Any]], made: Made) -> set[str]:
    return {root["settings"]["signals"] for root in roots if made_of(root) == made}
