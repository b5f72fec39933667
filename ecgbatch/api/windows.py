"""The beats of a workspace as one lazy dataset, over all its beats stores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ecgbatch.api.lazy import BeatRows, OfBeats, Windows, lazily
from ecgbatch.beats.lookup import current_beats, leads_of_signals
from ecgbatch.beats.record import BeatSettings
from ecgbatch.beats.stage import BEATS
from ecgbatch.terms import UNSCORABLE_BEAT, lead_order
from ecgbatch.training.data import BEAT_SETTINGS
from storage import folder_at, open_once

_FACTS = ("record_name", "patient_id", "label", "mi")


@dataclass(frozen=True)
class Choice:
    """Which beats of a workspace: of which records and leads (None: all), how they were found, whether those alone that count."""

    records: tuple[str, ...] | None = None
    leads: tuple[str, ...] | None = None
    method: str = "robust"
    only_scorable: bool = True


def beats_table(work: str, method: str) -> xr.Dataset:
    """Return which records there are now and where their beats of a method lie, (record,), in the order of the stores."""
    table = current_beats(work, what_is_seen(method), _FACTS)
    order = np.lexsort((table["beats_row"].values, np.unique(table["beats_store"].values, return_inverse=True)[1]))
    return table.isel(record=order)


def what_is_seen(method: str) -> dict[str, Any]:
    """Return the settings of beats that change what they look like; of an earlier version's beats those alone are asked."""
    settings = _settings(method).document()
    return {name: settings[name] for name in BEAT_SETTINGS}


def _settings(method: str) -> BeatSettings:
    return BeatSettings(method=method)  # type: ignore[arg-type]  # it refuses what is none


def beats_of(work: str, table: xr.Dataset, choice: Choice) -> xr.Dataset:
    """Return the beats of a workspace whose ``beats_table`` this is; as ``Workspace.beats`` says."""
    settings = _settings(choice.method)
    leads = _checked_leads(work, table, choice.leads)
    if choice.records is not None:
        table = table.isel(record=np.isin(table["record_name"].values.astype(object), list(choice.records)))
    stores = sorted(set(table["beats_store"].values.tolist()))
    parts, counts, flags = [], [], []
    for name in stores:
        part, n_beats, own_flags = _chosen(work, name, table, leads, choice.only_scorable, settings)
        parts.append(part)
        counts.append(n_beats)
        flags.append(own_flags)
    return _dataset(table, parts, _joined(counts, np.int64), _joined(flags, np.uint16), leads, settings)


def _joined(parts: Sequence[NDArray[Any]], dtype: Any) -> NDArray[Any]:
    return np.concatenate([np.empty(0, dtype), *parts]).astype(dtype)


def _leads_of(work: str, name: str) -> list[str]:
    return [str(lead) for lead in open_once(_path(work, name), ("lead",))["lead"].values]


def _path(work: str, name: str) -> str:
    return str(folder_at(work).path(f"beats/{name}.zarr"))


def _checked_leads(work: str, table: xr.Dataset, leads: Sequence[str] | None) -> Sequence[str]:
    """Return the leads that are wanted: all that any record has, unless some are named."""
    known = {lead for name in set(table["beats_store"].values.tolist()) for lead in _leads_of(work, name)} - {"none"}
    unknown = [] if leads is None else [lead for lead in leads if lead not in known]
    if unknown:
        raise ValueError(
            f"{work}: expected leads that some record here has ({', '.join(lead_order(known))}), found {', '.join(unknown)}"
        )
    return lead_order(known) if leads is None else leads


def _chosen(
    work: str, name: str, table: xr.Dataset, leads: Sequence[str], only_scorable: bool, settings: BeatSettings
) -> tuple[BeatRows, NDArray[Any], NDArray[Any]]:
    """Return the chosen beats of a store, how many each of its chosen records has, (record,), and their flags, (beat,)."""
    mine = table.isel(record=np.flatnonzero(table["beats_store"].values == name))
    store, places = open_once(_path(work, name), ("lead", "first_beat", "n_beats")), mine["beats_row"].values
    n_beats = store["n_beats"].values[places].astype(np.int64)
    end = np.cumsum(n_beats)
    record = np.repeat(np.arange(places.size, dtype=np.int32), n_beats)
    rows = np.repeat(store["first_beat"].values[places] - (end - n_beats), n_beats) + np.arange(record.size)
    flags = store["beat_flags"].variable[:].values[rows]
    if only_scorable:
        counts = np.flatnonzero((flags & UNSCORABLE_BEAT) == 0)
        rows, record, flags = rows[counts], record[counts], flags[counts]
    own = _leads_of(work, name)
    columns = np.array([own.index(lead) if lead in own else -1 for lead in leads], np.int64)
    usable = leads_of_signals(work, mine, leads)[0]
    if "lead_flags" in store:  # of leads that were made of I and II
        is_derived = store["lead_flags"].variable[:].values[places] != 0
        usable[:, columns >= 0] |= is_derived[:, columns[columns >= 0]]
    step = settings.waveform_step * (1.0 if settings.method == "kachuee" else 0.001)
    n_kept = np.bincount(record, minlength=places.size).astype(np.int64)
    return BeatRows(_path(work, name), rows, record, columns, ~usable, step), n_kept, flags


def _dataset(
    table: xr.Dataset,
    parts: Sequence[BeatRows],
    n_beats: NDArray[Any],
    flags: NDArray[Any],
    leads: Sequence[str],
    settings: BeatSettings,
) -> xr.Dataset:
    units = "1" if settings.method == "kachuee" else "mV"
    told = {name: BEATS.variables[name].attributes() for name in BEATS.variables}
    windows = Windows(parts, len(leads), settings.n_samples)
    of_record = {name: ("record", _plain(table[name].values), told[name]) for name in ("patient_id", "label", "mi")}
    end = np.cumsum(n_beats)
    return xr.Dataset(
        {
            "waveform": lazily(("beat", "lead", "sample"), windows, {"long_name": "beat window", "units": units}),
            "r_sample": lazily(("beat",), OfBeats(parts, "r_sample", np.int32), told["r_sample"]),
            "rr_previous_s": lazily(("beat",), OfBeats(parts, "rr_previous_s", np.float32), told["rr_previous_s"]),
            "beat_flags": ("beat", flags, told["beat_flags"]),
            "record_index": ("beat", np.repeat(np.arange(n_beats.size), n_beats), {"long_name": "place on dimension record"}),
            **of_record,
            "first_beat": ("record", end - n_beats),
            "n_beats": ("record", n_beats, told["n_beats"]),
        },
        {
            "record": ("record", _plain(table["record_name"].values)),
            "lead": ("lead", np.array(leads, object)),
            "sample_time_s": ("sample", settings.sample_time_s(), told["sample_time_s"]),
        },
        {"method": settings.method, "sampling_frequency_hz": settings.sampling_frequency_hz},
    )


def _plain(values: NDArray[Any]) -> NDArray[Any]:
    """Return text as Python's, which indexes of xarray take."""
    return values.astype(object) if values.dtype.kind == "T" else values
