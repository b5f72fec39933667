"""Rows of published stores in new ones: signals, and with them all that was made of them. Nothing is computed anew.

A store is named by its plan, so what is published never changes: rows are copied, bit for bit, into stores of other names, and
what pointed to the old ones is made to point to these. Peaks, beats and measurements get the very plan that their stage would
make of the new signals, so that a later run finds its work done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ecgbatch.archive.remembered import remember_moved
from ecgbatch.beats.record import BeatSettings
from ecgbatch.beats.stage import plan_beats, plan_peaks
from ecgbatch.measurements.stage import SAID_OF_ERASED, plan_measurements
from ecgbatch.scores.earlier import PLACE
from ecgbatch.scores.table import plan_rows
from ecgbatch.signals.lookup import ARCHIVE_FILE, LEFT_OUT, NOT_TAKEN, archive_facts, records_at, signals_path
from ecgbatch.signals.shard import produce_signals
from ecgbatch.terms import LEAD_FLAGS, MISSING_SAMPLE, STATUS
from ecgbatch.workspace.runs import read_run, stated_reports
from storage import (
    FAILED,
    TEXT,
    CorruptStore,
    Map,
    Origin,
    Plan,
    Schema,
    Shard,
    UnfinishedStore,
    build,
    copied,
    failed_rows,
    folder_at,
    list_stores,
    make_plan,
    open_once,
    open_store,
    planned_like,
    remove_store,
    schema_of,
    sealed,
)
from storage.plan import canonical_json
from storage.reading import read_root

OnProgress = Callable[[str, int, int], None]
Array = np.ndarray[Any, Any]

OF_SIGNALS = ("peaks", "beats", "measurements")
"""The kinds that are made of one signals store each, in their order."""


@dataclass(frozen=True)
class Batch:
    """Rows that shall make one signals store.

    Parameters
    ----------
    stores
        Digests of signals stores of one schema, one set of leads and one version.
    store, row : (record,) int64
        Index into ``stores``, and row there.
    is_erased : (record,) bool
        Rows that stay, so that the others keep their numbers, and say nothing any more.

    """

    stores: tuple[str, ...]
    store: Array
    row: Array
    is_erased: Array


@dataclass
class Moved:
    """Which stores stand for which now."""

    replaced: dict[str, str] = field(default_factory=dict)
    """Key of a store to that of the one that has its rows; empty where nothing of it is left."""
    rows: dict[str, Array] = field(default_factory=dict)
    """Digest of an old signals store to the new row of each of its rows, -1 where it is erased."""

    def stand(self, kind: str, old: Iterable[str], new: str) -> None:
        """Let a store, or none where that is empty, stand for others of its kind."""
        self.replaced |= {f"{kind}/{digest}.zarr": f"{kind}/{new}.zarr" if new else "" for digest in old}

    def digest(self, kind: str, digest: str) -> str:
        """Return the digest of the store that has the rows of this one; the same if they have not moved."""
        key = f"{kind}/{digest}.zarr"
        return Path(self.replaced[key]).stem if key in self.replaced else digest

    def places(self, stores: Iterable[str], rows: Iterable[int]) -> Iterator[tuple[str, int] | None]:
        """Yield where each row of a signals store is now; None where it is erased."""
        for store, row in zip(stores, rows, strict=True):
            moved = self.rows.get(store)
            now = row if moved is None else int(moved[row])
            yield None if now < 0 else (self.digest("signals", store), now)


def move(
    work: str,
    batches: Iterable[Batch],
    *,
    abandoned: Iterable[str] = (),
    map: Map = map,
    on_progress: OnProgress | None = None,
) -> Moved:
    """Publish the new signals stores, and all that was made of them; nothing is removed and nothing points there yet.

    Parameters
    ----------
    abandoned
        Digests of signals stores (``abandoned_by_compaction``) that go with all that was made of them: none of their rows moves.

    """
    moved = Moved()
    for digest in abandoned:
        moved.replaced[f"signals/{digest}.zarr"] = ""
        moved.rows[digest] = np.full(open_once(signals_path(work, digest)).sizes["record"], -1, np.int64)
    for batch in batches:
        new = _move_signals(work, batch, map, on_progress)
        for number, old in enumerate(batch.stores):
            here = (batch.store == number) & ~batch.is_erased
            moved.rows[old] = np.full(open_once(signals_path(work, old)).sizes["record"], -1, np.int64)
            moved.rows[old][batch.row[here]] = np.flatnonzero(here)
            moved.replaced[f"signals/{old}.zarr"] = f"signals/{new}.zarr" if new else ""
        _move_beats(work, batch, new, moved, map, on_progress)
    move_scores(work, moved, map=map, on_progress=on_progress)
    return moved


def abandoned_by_compaction(work: str) -> list[str]:
    """Return the signals stores that a compaction made which was cut off: the stores that they were made of are there still.

    Every row of theirs is there twice, and nothing points to them. What an erasure makes is of one store, so it is none of these.
    """
    signals = {root["digest"]: root["settings"].get("made_from", ()) for root in roots(work, "signals")}
    try:
        in_use = set(archive_facts(work)["stores"])
    except UnfinishedStore:
        in_use = set()
    return [
        digest
        for digest, made_from in signals.items()
        if len(made_from) > 1 and digest not in in_use and not signals.keys().isdisjoint(made_from)
    ]


def move_scores(work: str, moved: Moved, *, map: Map = map, on_progress: OnProgress | None = None) -> None:
    """Publish the scores of every run anew that has a row which has moved, and add them to ``moved``."""
    for path in list_stores(work, "scores"):
        _move_scores(work, path, moved, map, on_progress)


def left_over(work: str, moved: Moved) -> dict[str, str]:
    """Return what was made of signals that have moved and could not be moved along: it goes without a successor."""
    return {
        f"{kind}/{root['digest']}.zarr": ""
        for kind in OF_SIGNALS
        for root in roots(work, kind)
        if f"{kind}/{root['digest']}.zarr" not in moved.replaced and root["settings"]["signals"] in moved.rows
    }


def _build(work: str, plan: Plan, origin: Origin, map: Map, on_progress: OnProgress | None) -> str:
    produce = partial(copied, origin=origin, schema=plan.schema, sizes=plan.sizes)
    progress = partial(on_progress, plan.schema.name) if on_progress else None
    return Path(build(work, plan, produce, map=map, on_progress=progress)).stem


def _move_signals(work: str, batch: Batch, map: Map, on_progress: OnProgress | None) -> str:
    if batch.is_erased.all():
        return ""
    stores = [open_once(signals_path(work, digest)) for digest in batch.stores]
    first, schema = stores[0], schema_of(stores[0])
    columns = _columns(stores, batch, schema, _SAID_OF_ERASED)
    inputs = xr.Dataset({name: (schema.variables[name].dims, values) for name, values in columns.items()})
    fixed = {name: (variable.dims, first[name].values) for name, variable in schema.fixed().items()}
    sizes = {"record": len(batch.row), "lead": first.sizes["lead"], "sample": max(store.sizes["sample"] for store in stores)}
    settings = dict(first.attrs["settings"]) | {"made_from": list(batch.stores)}
    is_same_cut = len(stores) == 1
    plan = make_plan(
        schema,
        sizes=sizes,
        inputs=inputs.assign(fixed),
        settings=settings,
        versions=first.attrs["versions"],
        shard_rows=first.attrs["plan"]["shard_rows"] if is_same_cut else None,
    )
    return _build(work, plan, _origin(work, "signals", batch.stores, batch, columns), map, on_progress)


_SAID_OF_ERASED: Mapping[str, Any] = {
    "status": STATUS["set_aside"],
    "reason": "ERASED",
    "lead_flags": LEAD_FLAGS["missing"],
    "mi": -1,
    "sampling_frequency_hz": 0.0,  # as of every record whose header says nothing
}
"""What the row of an erased record says; all else is what means missing."""


def planned_again(work: str, digest: str) -> Plan | None:
    """Return the plan of a signals store that was made of others, from its own columns; None if it was not, or these are damaged.

    That the plan has the store's digest proves that the columns are those that were written.
    """
    try:
        store = open_store(signals_path(work, digest))
        settings, schema = store.attrs["settings"], schema_of(store)
        if "made_from" not in settings:
            return None
        inputs = {name: store[name].variable.load() for name in (schema.columns() | schema.fixed())}
        shard_rows = store.attrs["plan"]["shard_rows"]
        versions, sizes = store.attrs["versions"], {str(dim): size for dim, size in store.sizes.items()}
        plan = make_plan(
            schema, sizes=sizes, inputs=xr.Dataset(inputs), settings=settings, versions=versions, shard_rows=shard_rows
        )
    except Exception:  # whatever a damaged store makes a reader raise
        return None
    return plan if plan.digest == digest else None


def produce_again(shard: Shard, rows: xr.Dataset, *, archive: str, leads: tuple[str, ...], n_samples: int) -> xr.Dataset:
    """Read the samples of a remade store's rows from the archive again; all else of the rows is known.

    Raises
    ------
    CorruptStore
        If a record's files are no longer those that the row was made of.

    """
    usable = np.flatnonzero(rows["status"].values != STATUS["set_aside"])
    signal = np.full((shard.stop - shard.start, len(leads), n_samples), MISSING_SAMPLE, np.int16)
    if usable.size:
        mine = rows.isel(record=usable)
        found = produce_signals(Shard(0, 0, usable.size), mine, archive=archive, leads=leads, n_samples=n_samples)
        if (found["source_digest"].values != mine["source_digest"].values).any():
            raise CorruptStore(f"rows {shard.start} to {shard.stop}: the archive's files are no longer those that were stored")
        signal[usable] = found["signal"].values
    return rows.assign(signal=(("record", "lead", "sample"), signal)).drop_vars("lead", errors="ignore")


def _columns(stores: list[xr.Dataset], batch: Batch, schema: Schema, of_erased: Mapping[str, Any]) -> dict[str, Array]:
    """Return all small columns of a batch's rows; what an erased row says, where that is not what means missing, is given."""
    columns = {name: _column(stores, batch, name) for name in schema.columns()}
    for name, values in columns.items():
        values[batch.is_erased] = of_erased.get(name, schema.variables[name].fill_value)
    return columns


def _column(stores: list[xr.Dataset], batch: Batch, name: str) -> Array:
    found = [store[name].values for store in stores]
    ends = np.cumsum([0, *(len(values) for values in found)])
    joined: Array = np.concatenate(found)[ends[batch.store] + batch.row]
    return joined


def _origin(work: str, kind: str, digests: Iterable[str], batch: Batch, given: Mapping[str, Array]) -> Origin:
    paths = tuple(str(folder_at(work).path(f"{kind}/{digest}.zarr")) for digest in digests)
    return Origin(paths, np.where(batch.is_erased, -1, batch.store), batch.row, given)


def _move_beats(work: str, batch: Batch, new: str, moved: Moved, map: Map, on_progress: OnProgress | None) -> None:
    """Move the peaks, beats and measurements that every store of a batch has; what only some have is left to the stage."""
    for peaks in made_alike(work, "peaks", batch.stores):
        new_peaks = _move_peaks(work, batch, new, peaks, map, on_progress) if new else ""
        moved.stand("peaks", peaks, new_peaks)
        for beats in made_alike(work, "beats", batch.stores, peaks=peaks):
            new_beats = _move_windows(work, batch, (new, new_peaks), beats, map, on_progress) if new_peaks else ""
            moved.stand("beats", beats, new_beats)
            for measured in made_alike(work, "measurements", batch.stores, beats=beats):
                new_measured = _move_measurements(work, batch, (new, new_beats), measured, map, on_progress) if new_beats else ""
                moved.stand("measurements", measured, new_measured)


def made_alike(work: str, kind: str, signals: tuple[str, ...], **made_of: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return the sets of stores of a kind that were made by the same settings and versions, one of each signals store, in order.

    ``made_of`` names further stores that they must be made of, by their kind.
    """
    found: dict[bytes, dict[str, str]] = {}
    for root in roots(work, kind):
        settings = root["settings"]
        if settings["signals"] in signals and all(settings[name] in digests for name, digests in made_of.items()):
            found.setdefault(likeness(root), {})[settings["signals"]] = root["digest"]
    return [tuple(made[digest] for digest in signals) for made in found.values() if made.keys() == set(signals)]


def roots(work: str, kind: str) -> Iterator[dict[str, Any]]:
    """Yield the root attributes of every published store of a kind."""
    return (read_root(folder_at(path)) for path in list_stores(work, kind))


def likeness(root: Mapping[str, Any]) -> bytes:
    """Return what stores have in common that differ in their input only: variables, versions and settings."""
    apart = ("signals", "peaks", "beats", "without_reference", "made_from", FAILED)
    own = {name: value for name, value in root["settings"].items() if name not in apart}
    return canonical_json([root["plan"]["variables"], root["versions"], own])


def _move_peaks(work: str, batch: Batch, new: str, old: tuple[str, ...], map: Map, on_progress: OnProgress | None) -> str:
    signals, first = open_store(signals_path(work, new)), _store(work, "peaks", old[0])
    settings = dict(first.attrs["settings"]) | {"signals": new}
    if "without_reference" in settings:
        told: dict[str, str] = {}
        for digest in old:
            told |= _store(work, "peaks", digest).attrs["settings"]["without_reference"]
        settings["without_reference"] = {name: told[name] for name in signals["record_name"].values.tolist() if name in told}
    stores = [_store(work, "peaks", digest) for digest in old]
    plan = _planned_around(plan_peaks(signals, replace(_beat_settings(settings), reference="")), stores, settings)
    return _build(work, plan, _origin(work, "peaks", old, batch, {}), map, on_progress)


def _planned_around(plan: Plan, stores: list[xr.Dataset], settings: dict[str, Any]) -> Plan:
    """Return ``planned_like``'s plan, around the rows that any of the stores was made around."""
    told = [store.attrs["settings"][FAILED] for store in stores if FAILED in store.attrs["settings"]]
    plain = planned_like(plan, stores[0], {name: value for name, value in settings.items() if name != FAILED})
    if not told:
        return plain
    rows = {key: kind for store in stores for key, kind in failed_rows(store.attrs["settings"]).items()}
    versions = {one["version"] for one in told}
    version = versions.pop() if len(versions) == 1 else ""  # of several: tried again
    around = {FAILED: {"of": plain.digest, "version": version, "rows": dict(sorted(rows.items()))}}
    return planned_like(plan, stores[0], dict(plain.settings) | around)


def _move_windows(
    work: str, batch: Batch, new: tuple[str, str], old: tuple[str, ...], map: Map, on_progress: OnProgress | None
) -> str:
    signals, peaks = open_store(signals_path(work, new[0])), _store(work, "peaks", new[1])
    stores = [_store(work, "beats", digest) for digest in old]
    settings = dict(stores[0].attrs["settings"]) | {"signals": new[0], "peaks": new[1]}
    plan = _planned_around(plan_beats(signals, peaks, _beat_settings(settings)), stores, settings)
    n_beats, first_beat = peaks["n_beats"].values.astype(np.int64), _column(stores, batch, "first_beat")
    end = np.cumsum(n_beats)
    rows = np.repeat(first_beat - (end - n_beats), n_beats) + np.arange(int(n_beats.sum()))
    given = {"record_index": np.repeat(np.arange(len(n_beats)), n_beats)}
    paths = tuple(str(folder_at(work).path(f"beats/{digest}.zarr")) for digest in old)
    return _build(work, plan, Origin(paths, np.repeat(batch.store, n_beats), rows, given), map, on_progress)


def _move_measurements(
    work: str, batch: Batch, new: tuple[str, str], old: tuple[str, ...], map: Map, on_progress: OnProgress | None
) -> str:
    signals, beats = open_store(signals_path(work, new[0])), _store(work, "beats", new[1])
    stores = [_store(work, "measurements", digest) for digest in old]
    settings = dict(stores[0].attrs["settings"]) | {"signals": new[0], "beats": new[1]}
    plan = _planned_around(plan_measurements(signals, beats), stores, settings)
    columns = _columns(stores, batch, plan.schema, SAID_OF_ERASED)
    return _build(work, plan, _origin(work, "measurements", old, batch, columns), map, on_progress)


def _store(work: str, kind: str, digest: str) -> xr.Dataset:
    return open_once(folder_at(work).path(f"{kind}/{digest}.zarr"))


def _beat_settings(settings: Mapping[str, Any]) -> BeatSettings:
    names = ("method", "sampling_frequency_hz", "before_s", "after_s", "reference")
    return BeatSettings(**{name: settings[name] for name in names if name in settings})


def _move_scores(work: str, path: str, moved: Moved, map: Map, on_progress: OnProgress | None) -> None:
    """Publish a run's scores anew where any of its rows has moved: the same numbers, the new places, without what is erased."""
    store = open_once(path)
    named = store["signals_store"].values.tolist()
    if moved.rows.keys().isdisjoint(named):
        return
    places = list(moved.places(named, store["signals_row"].values.tolist()))
    kept = np.array([row for row, place in enumerate(places) if place is not None], dtype=np.int64)
    old = f"scores/{Path(path).name}"
    moved.replaced[old] = ""
    if not kept.size:
        return
    now = [place for place in places if place is not None]
    beats_before = store["beats_store"].values[kept].tolist()
    beats = [moved.digest("beats", digest) if digest else "" for digest in beats_before]
    n_beats = np.zeros(kept.size, np.int32)
    for digest in set(beats) - {""}:
        here = [place for place, other in enumerate(beats) if other == digest]
        n_beats[here] = _store(work, "beats", digest)["n_beats"].values[[now[place][1] for place in here]]
    rows = np.array([row for _, row in now], dtype=np.int64)
    records = records_at(work, {"stores": [digest for digest, _ in now], "rows": rows})
    facts = {"beats_store": np.array(beats, dtype=TEXT), "beats_row": rows, "n_beats": n_beats}
    if "measurements_store" in store:  # schemas 1 to 3 have none
        measured = [moved.digest("measurements", digest) for digest in store["measurements_store"].values[kept].tolist()]
        facts |= {"measurements_store": np.array(measured, dtype=TEXT)}
    records = records.assign({name: ("record", values) for name, values in facts.items()})
    settings = store.attrs["settings"]
    leads = store["lead"].values.tolist() if "lead" in store.variables else []  # schema 1 has none
    plan = planned_like(plan_rows(records, leads, settings), store, settings)
    given = {name: records[name].values for name in PLACE if name in store}
    origin = Origin((path,), np.zeros(kept.size, np.int64), kept, given)
    moved.replaced[old] = f"scores/{_build(work, plan, origin, map, on_progress)}.zarr"


def point_to(work: str, moved: Moved, forget: Callable[[str], bool] = lambda _: False, *, keep_reports: bool = False) -> None:
    """Let the archive's view, what the last look remembers, and the runs' own records name the new stores; safe to repeat.

    Parameters
    ----------
    forget
        Tells whether a record of this name is to be left out wherever it is named.
    keep_reports
        Whether the reports of runs stay as they are, under the names that the runs had.

    """
    folder = folder_at(work)
    try:
        facts = archive_facts(work)
    except UnfinishedStore:
        facts = {}
    if facts:
        view = zip(facts["records"], moved.places(facts["stores"], facts["rows"]), strict=True)
        kept = [(name, place) for name, place in view if place is not None and not forget(name)]
        facts |= {"records": [name for name, _ in kept]}
        facts |= {"stores": [store for _, (store, _) in kept], "rows": [row for _, (_, row) in kept]}
        facts |= {word: [name for name in facts.get(word, []) if not forget(name)] for word in ("waiting", "gone")}
        for word in (NOT_TAKEN, LEFT_OUT):  # may lie in the folder of who is erased; the next look finds what is left
            facts.pop(word, None)
        folder.put(ARCHIVE_FILE, sealed(facts))
    remember_moved(work, moved.places, forget)
    for old, new in moved.replaced.items():
        if old.startswith("scores/"):
            _rename_run(work, Path(old).stem, Path(new).stem if new else "", keep_reports)


OF_REPORTS = ("counts", "reported", "reports")
"""What a run's record says of reports: they are of the store of scores that is no more."""


def _rename_run(work: str, old: str, new: str, keep_reports: bool) -> None:
    folder, stated = folder_at(work), read_run(work, old)
    if stated and new and not read_run(work, new):
        kept = {name: value for name, value in stated.items() if name not in OF_REPORTS}
        if keep_reports and "counts" in stated:
            kept |= {"counts": stated["counts"], "reports": stated_reports(old, stated)}
        folder.put(f"runs/{new}.json", sealed(kept | {"run": new, "made_from": old}))
        folder.put_aside(f"runs/{old}.log", f"runs/{new}.log")
    for end in ("json", "log"):
        folder.delete(f"runs/{old}.{end}")


def remove_replaced(work: str, replaced: Mapping[str, str]) -> None:
    """Remove the stores that others stand for now, what is made from others before these, and what is no whole store."""
    folder = folder_at(work)
    order = ("scores", *OF_SIGNALS[::-1], "signals")
    for key in sorted(replaced, key=lambda key: order.index(key.partition("/")[0])):
        if key != replaced[key]:
            remove_store(folder, key)
    for kind in order:
        for name in folder.children(kind):
            if not folder.exists(f"{kind}/{name}/zarr.json"):
                folder.delete(f"{kind}/{name}")  # half removed, or (in a bucket) never finished
        if folder.children(kind):
            folder.sync((), below=kind)
