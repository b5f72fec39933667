"""Beats of a workspace: found, cut, looked up, and handed out as annotation files.

Two methods. ``robust``, the default, finds R peaks on all usable leads and cuts windows of microvolts around them
(``record``); a reference's annotations (``formats.wfdb_annotation``) may take the place of detection. ``kachuee`` is the
extraction of Kachuee, Fazeli and Sarrafzadeh 2018.
docs/beat-detection.md has methods, decisions and measured accuracy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ecgbatch import __version__
from ecgbatch.beats.record import BeatSettings
from ecgbatch.beats.stage import plan_beats, plan_peaks, produce_beats, produce_peaks
from ecgbatch.beats.warm import warm_up
from ecgbatch.formats.wfdb_annotation import EXTENSION, encode_beats
from ecgbatch.signals.lookup import current_records, signals_path
from ecgbatch.terms import LEAD_FLAGS, STATUS, UNUSABLE_LEAD
from storage import (
    TEXT,
    Map,
    Plan,
    UnfinishedStore,
    build_around,
    failed_rows,
    folder_at,
    list_stores,
    open_once,
    open_store,
    preference,
    row_key,
)
from storage.reading import read_root


@dataclass(frozen=True)
class Extraction:
    """What ``extract_beats`` did."""

    stores: tuple[str, ...]
    n_records: int
    n_beats: int
    n_without_beats: int
    without_reference: dict[str, str] = field(default_factory=dict)
    """Records that have no reference beats, and why; empty where beats are detected."""
    n_failed: int = 0
    """Records whose content made detection or cutting fail: ``current_beats`` says which, and how."""


def extract_beats(
    work: str,
    settings: BeatSettings,
    *,
    archive: str | Path | None = None,
    map: Map = map,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Extraction:
    """Find the R peaks and cut the beats of every signals store that holds a record now in the archive.

    Parameters
    ----------
    work
        A workspace with signals.
    settings
        Method and window.
    archive
        Where the annotation files of ``settings.reference`` lie; only with one.
    map
        Engine; the bytes do not depend on it.
    on_progress
        Called with the stage's name, shards done and shards in all.

    """
    digests = sorted(set(current_records(work, ["status"])["signals_store"].values.tolist()))
    stores, n_records, n_beats, n_without, n_failed = [], 0, 0, 0, 0
    without_reference: dict[str, str] = {}
    is_compiled = settings.method == "kachuee"
    for number, digest in enumerate(digests, 1):
        mark = "" if len(digests) == 1 else f" {number}/{len(digests)}"
        progress = [partial(on_progress, stage + mark) if on_progress else None for stage in ("R peaks", "beats")]
        signals_at = signals_path(work, digest)
        signals = open_store(signals_at)
        find = partial(produce_peaks, signals_at=signals_at, settings=settings, archive=archive)
        plan_p = partial(_plan_peaks, signals, settings, archive)
        if not is_compiled and not _is_published(work, plan_p({})):
            warm_up(partial(on_progress, "compiling, once") if on_progress else None)
            is_compiled = True
        peaks_at = build_around(work, plan_p, find, version=__version__, map=map, on_progress=progress[0])
        peaks = open_store(peaks_at)
        without_reference |= peaks.attrs["settings"].get("without_reference", {})
        cut = partial(produce_beats, signals_at=signals_at, peaks_at=peaks_at, settings=settings)
        plan_b = partial(_plan_beats, signals, peaks, settings)
        stores.append(build_around(work, plan_b, cut, version=__version__, map=map, on_progress=progress[1]))
        n_failed += sum(len(failed_rows(open_store(path).attrs["settings"])) for path in (peaks_at, stores[-1]))
        counts = peaks["n_beats"].values
        n_records, n_beats, n_without = n_records + counts.size, n_beats + int(counts.sum()), n_without + int((counts == 0).sum())
    return Extraction(tuple(stores), n_records, n_beats, n_without, without_reference, n_failed)


def _plan_peaks(signals: xr.Dataset, settings: BeatSettings, archive: str | Path | None, beside: Mapping[str, Any]) -> Plan:
    return plan_peaks(signals, settings, archive, beside=beside)


def _plan_beats(signals: xr.Dataset, peaks: xr.Dataset, settings: BeatSettings, beside: Mapping[str, Any]) -> Plan:
    return plan_beats(signals, peaks, settings, beside=beside)


def _is_published(work: str, plan: Plan) -> bool:
    return any(Path(path).stem == plan.digest for path in list_stores(work, plan.schema.name))


ANNOTATIONS_FOLDER = "annotations"
"""Below the workspace: where annotation files go unless another folder is named."""


def export_annotations(work: str, settings: BeatSettings, folder: str | Path | None = None) -> int:
    """Write a WFDB annotation file ``<record>.qrs`` for every record that is not set aside; return how many.

    Parameters
    ----------
    work
        A workspace with beats cut with ``settings``.
    folder
        Default: ``annotations`` below the workspace. Records' own folders are kept; files there are replaced.

    """
    records = current_beats(work, settings.document())
    target = folder_at(folder or Path(work) / ANNOTATIONS_FOLDER)
    stores = {digest: open_store(folder_at(work).path(f"beats/{digest}.zarr")) for digest in set(records["beats_store"].values)}
    columns = {digest: [beats[name].values for name in _EXPORTED] for digest, beats in stores.items()}
    usable = np.flatnonzero(records["status"].values != STATUS["set_aside"])
    for place in usable.tolist():
        record = records.isel(record=place)
        first_beat, n_beats, r_sample, flags = columns[str(record["beats_store"].values)]
        row = int(record["beats_row"])
        rows = slice(int(first_beat[row]), int(first_beat[row]) + int(n_beats[row]))
        fs = float(record["sampling_frequency_hz"])
        target.put(f"{record['record_name'].values}.{EXTENSION}", encode_beats(r_sample[rows], flags[rows], fs))
    return len(usable)


_EXPORTED = ("first_beat", "n_beats", "r_sample", "beat_flags")


def current_beats(work: str, settings: Mapping[str, Any], columns: Sequence[str] | None = None) -> xr.Dataset:
    """Return ``signals.stage.current_records`` joined with the beats that were cut with ``settings``.

    Parameters
    ----------
    settings
        What a beats store's settings must hold, for instance ``model.beats``.
    columns
        As in ``signals.stage.current_records``.

    Returns
    -------
    xarray.Dataset
        The records' table, plus ``beats_store`` (digest; empty where there is none), ``beats_row`` and ``n_beats``. Only where
        some record's content made detection or cutting fail, ``failed`` too: ``peaks:ValueError`` or the like, or empty.

    Raises
    ------
    UnfinishedStore
        If a record's signals store has no such beats yet.

    """
    records = current_records(work, columns)
    stores: dict[str, xr.Dataset] = {}
    for path in list_stores(work, "beats"):
        beats = open_store(path)
        wanted = {"reference": None} | dict(settings)  # beats that were detected have none
        own = beats.attrs["settings"]
        if all(own.get(name) == value for name, value in wanted.items()):
            other = stores.setdefault(own["signals"], beats)
            if _rank(own) >= _rank(other.attrs["settings"]):
                stores[own["signals"]] = beats
    digests, rows = records["signals_store"].values, records["signals_row"].values
    missing = sorted(set(digests.tolist()) - stores.keys())
    if missing:
        option = "" if settings.get("method", "robust") == "robust" else f" --method {settings['method']}"
        raise UnfinishedStore(
            f"{work}: no beats cut with {dict(settings)} for signals {', '.join(missing)}; run `ecgbatch beats {work}{option}`"
        )
    names, n_beats = np.empty(rows.size, dtype=TEXT), np.zeros(rows.size, np.int32)
    for digest, beats in stores.items():
        here = np.flatnonzero(digests == digest)
        names[here] = beats.attrs["digest"]
        n_beats[here] = beats["n_beats"].values[rows[here]]
    found = records.assign(beats_store=("record", names), beats_row=("record", rows.copy()), n_beats=("record", n_beats))
    failed = {digest: _failed(work, beats.attrs["settings"]) for digest, beats in stores.items()}
    if not any(failed[digest] for digest in set(digests.tolist())):
        return found
    name_of = (records if "record_name" in records else current_records(work, ["record_name"]))["record_name"]
    told = zip(digests.tolist(), name_of.values.tolist(), strict=True)
    why = [failed[digest].get(row_key(name), "") for digest, name in told]
    return found.assign(failed=("record", np.array(why, TEXT)))


def _rank(settings: Mapping[str, Any]) -> tuple[int, int]:
    """Order stores of the same signals: around no row, then as this version makes them."""
    return preference(settings, __version__), sum(name in settings for name in ("derived", "not_ecg", "without_vote"))


def _failed(work: str, settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the records that a beats store, or the peaks that it was cut at, was made around: step and type of exception."""
    peaks = folder_at(work).path(f"peaks/{settings['peaks']}.zarr")
    told = read_root(folder_at(peaks))["settings"] if folder_at(peaks).exists("zarr.json") else {}
    steps = {"peaks": failed_rows(told), "beats": failed_rows(settings)}
    return {key: f"{step}:{kind}" for step, kinds in steps.items() for key, kind in kinds.items()}


def leads_of_signals(work: str, rows: xr.Dataset, leads: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return which leads of the beats of some records can be used, and whose electrodes seem exchanged, as their signals say.

    Parameters
    ----------
    rows
        Of ``current_beats``: ``signals_store`` and ``signals_row`` on dimension ``record``.
    leads
        Names of the leads of the beats. One that the signals lack is not usable: whoever made it of others says so
        (``lead_flags`` of the beats store).

    Returns
    -------
    (record, lead) bool, (record,) bool

    """
    usable = np.zeros((rows.sizes["record"], len(leads)), dtype=bool)
    exchanged = np.zeros(rows.sizes["record"], dtype=bool)
    names, places = rows["signals_store"].values.tolist(), rows["signals_row"].values
    for name in sorted(set(names)):
        store = open_once(signals_path(work, name), ("lead", "lead_flags"))
        column = {lead: index for index, lead in enumerate(store["lead"].values.tolist())}
        mine = [row for row, other in enumerate(names) if other == name]
        flags = store["lead_flags"].isel(record=places[mine]).values
        exchanged[mine] = (flags & LEAD_FLAGS["suspected_swap"]).any(axis=1)
        for index, lead in enumerate(leads):
            if lead in column:
                usable[mine, index] = (flags[:, column[lead]] & UNUSABLE_LEAD) == 0
    return usable, exchanged
