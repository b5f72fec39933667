"""Signals: the archive's records as chunked int16 stores, one row a record, nothing lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from ecgbatch.archive.listing import each, list_archive
from ecgbatch.archive.sums import with_sums
from ecgbatch.archive.watch import LookOptions, look_at, settle_changes
from ecgbatch.signals.known import failed_before, known_row, known_rows
from ecgbatch.signals.lookup import archive_facts
from ecgbatch.signals.own_archive import refuse_another
from ecgbatch.signals.quality import warm_up
from ecgbatch.signals.shard import producer
from ecgbatch.signals.table import plan_signals, rows_of
from ecgbatch.signals.view import Conversion, earlier_view, publish
from ecgbatch.workspace.privacy import workspace_pseudonyms
from storage import Map, Plan, StoreError, build, list_stores


def convert_archive(
    archive: str,
    work: str,
    options: LookOptions = LookOptions(),
    *,
    map: Map = map,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Conversion:
    """Convert every record of the archive that is new or has changed; open no other.

    What has not moved since the last run (``archive.watch.look_at``: names, sizes, times) is not read again. Of what has moved,
    the fingerprint (name, sizes, header, label) and then the content decide.

    Parameters
    ----------
    archive, work
        Folder of WFDB records; workspace.
    options
        How to look at the archive.
    map
        Engine for listing and reading.
    on_progress
        Called with the stage's name, shards done and shards in all.

    Raises
    ------
    OtherArchive
        If the workspace holds the records of an archive at another place.

    """
    if not options.rehash:
        refuse_another(archive, work, earlier_view(work))
    look = look_at(archive, work, options, map=map)
    published = {Path(path).stem for path in list_stores(work, "signals")}
    places = look.places
    if not look.is_remembered:
        again = failed_before(work)
        places = {name: place for name, place in look.places.items() if place[0] in published and place not in again}
    known = known_rows(work) if len(places) < look.listing.sizes["record"] else {}
    listing = settle_changes(archive, look, {key: row.source_digest for key, row in known.items()}, map=map)
    told = zip(*(each(listing[column].values) for column in ("record_name", "fingerprint", "reason")), strict=True)
    unplaced = [(row, name, known_row(known, key, reason)) for row, (name, key, reason) in enumerate(told) if name not in places]
    places |= {name: stored.place for _, name, stored in unplaced if stored is not None}
    new = with_sums(archive, rows_of(listing, [row for row, _, stored in unplaced if stored is None]), map=map)
    del unplaced, known
    n_bytes = 0
    for plan in _built(archive, work, plan_signals(new), map, on_progress):
        n_bytes += plan.row_bytes * plan.n_rows
        places |= {name: (plan.digest, row) for row, name in enumerate(each(plan.inputs["record_name"].values))}
    return publish(archive, work, look, listing, places, n_new=new.sizes["record"], n_bytes=n_bytes)


def _built(
    archive: str, work: str, plans: list[Plan], map: Map, on_progress: Callable[[str, int, int], None] | None
) -> Iterator[Plan]:
    """Build the stores of these plans; yield each when it is published."""
    if plans:
        warm_up(partial(on_progress, "compiling, once") if on_progress else None)
    for number, plan in enumerate(plans, 1):
        stage = "signals" if len(plans) == 1 else f"signals {number}/{len(plans)}"
        build(work, plan, producer(plan, archive), map=map, on_progress=partial(on_progress, stage) if on_progress else None)
        yield plan


def plan_again(archive: str, work: str, digest: str, *, labels: str | None = None, map: Map = map) -> Plan | None:
    """Return the plan of a signals store that was lost, from the archive and the workspace's list of where its records lie.

    None where that list does not name each of its rows (a record that has changed since has another place), or where the archive
    no longer gives the same plan: then its records can only be converted as new.
    """
    try:
        facts = archive_facts(work)
    except (OSError, StoreError):
        return None
    places = zip(facts["stores"], facts["rows"], facts["records"], strict=True)
    name_of = {row: name for store, row, name in places if store == digest}
    if not name_of or sorted(name_of) != list(range(len(name_of))):
        return None
    names = [name_of[row] for row in range(len(name_of))]
    pseudonyms = workspace_pseudonyms(work)
    for keep_comments in (False, True):
        listing = list_archive(archive, labels=labels, keep_comments=keep_comments, names=names, pseudonyms=pseudonyms, map=map)
        listing = with_sums(archive, listing, map=map)
        for known in (listing, listing.drop_vars("cart", errors="ignore")):  # an earlier version's store lacks it
            plans = plan_signals(known)
            if [plan.digest for plan in plans] == [digest]:
                return plans[0]
    return None
