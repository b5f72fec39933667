"""What the archive is now: which rows stand for its records, what has changed since, what was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xarray as xr

from ecgbatch.archive.listing import each
from ecgbatch.archive.remembered import Place, remember
from ecgbatch.archive.untaken import Untaken, find_untaken
from ecgbatch.archive.watch import Look
from ecgbatch.signals.known import MAY_PASS, to_forget
from ecgbatch.signals.lookup import ARCHIVE_FILE, LEFT_OUT, NOT_TAKEN, archive_facts, records_at
from ecgbatch.signals.own_archive import place_of
from ecgbatch.terms import STATUS
from ecgbatch.workspace.erased import N_ERASURES, Erased, erased_list
from storage import UnfinishedStore, folder_at, sealed

_MOST_REMEMBERED = 10_000
"""Files that are no ECGs which are remembered, so that no later look opens them: others are opened again."""


@dataclass(frozen=True)
class Conversion:
    """What ``convert_archive`` found and did."""

    stores: tuple[str, ...]
    n_records: int
    n_new: int
    n_bytes: int
    set_aside: dict[str, int]
    superseded: tuple[str, ...] = ()
    """Records that have changed since the last conversion: another row stands for them now."""
    gone: tuple[str, ...] = ()
    """Records that a conversion has seen and the archive no longer has."""
    waiting: tuple[str, ...] = ()
    """Records whose files are still being written; the next run takes them."""
    n_erased: int = 0
    """Records that the archive has and that are left out: their patient was erased from the workspace (``ecgbatch erase``)."""
    labels: Mapping[str, int] = field(default_factory=dict)
    """Of the label table: how many of its records the archive has (``matched``), and how many not; empty without one, or where
    nothing in the archive moved."""


def publish(
    archive: str, work: str, look: Look, listing: xr.Dataset, places: dict[str, Place], *, n_new: int, n_bytes: int
) -> Conversion:
    """Put the archive's current view, and what the next look needs; say what has changed since the last one."""
    earlier = earlier_view(work)
    places_before = zip(earlier["stores"], earlier["rows"], strict=True)
    before: dict[str, Place] = {}
    current = places
    if not look.is_remembered:  # else nothing is superseded, no file is forgotten, and the listing is on the disk
        before = dict(zip(earlier["records"], places_before, strict=True))
        # A stored record that is being written anew stays what it was until it is whole.
        current = {name: places.get(name) or before[name] for name in look.names if name in places or name in before}
    erased = erased_list(work)
    gone = sorted(set(earlier["records"]).union(earlier.get("gone", [])).difference(look.names))
    gone = [name for name in gone if not erased.has_record(name)]
    document = {
        "archive": Path(archive).resolve().name,
        "place": place_of(archive),
        "is_synthetic": (Path(archive) / "SYNTHETIC.txt").is_file(),
        "records": list(current),
        "stores": [digest for digest, _ in current.values()],
        "rows": [row for _, row in current.values()],
        "waiting": list(look.waiting),
        "gone": gone,
    } | ({"n_erased": look.n_erased} if look.n_erased else {})
    document |= {N_ERASURES: len(erased.erasures)} if erased else {}
    document |= _not_records(look, earlier, erased)
    if document != earlier:
        folder_at(work).put(ARCHIVE_FILE, sealed(document))
    del earlier
    records = records_at(work, document, ("reason", "status"))
    if not look.is_remembered:
        reasons = zip(current, each(records["reason"].values), strict=True)
        passing = {name: reason for name, reason in reasons if reason in MAY_PASS}
        remember(work, listing, look.key, places, forget=to_forget(listing, passing))
    bad = records["reason"].values[records["status"].values == STATUS["set_aside"]].tolist()
    return Conversion(
        stores=tuple(sorted({digest for digest, _ in current.values()})),
        n_records=len(current),
        n_new=n_new,
        n_bytes=n_bytes,
        set_aside=dict(Counter(bad)),
        superseded=tuple(name for name in current if name in before and current[name] != before[name]),
        gone=tuple(gone),
        waiting=look.waiting,
        n_erased=look.n_erased,
        labels=look.labels,
    )


def _not_records(look: Look, earlier: Mapping[str, Any], erased: Erased) -> dict[str, Any]:
    """Return what else was found: files that are no record's, and what was left out of the search; nothing of who was erased."""
    remembered = (Untaken(*one) for one in earlier.get(NOT_TAKEN, ()))
    untaken = find_untaken(look.found.beside, look.found.one_file, remembered)
    if erased:
        untaken = [one for one in untaken if not _names_erased(one.path, erased)]
    kept = [one for one in untaken if one.kind] + [one for one in untaken if not one.kind][:_MOST_REMEMBERED]
    aside = [list(one) for one in look.found.left_out if not (erased and _names_erased(one.path, erased))]
    told = {NOT_TAKEN: [list(one) for one in kept], LEFT_OUT: sorted(aside)[:_MOST_REMEMBERED]}
    return {name: entries for name, entries in told.items() if entries}


def _names_erased(path: str, erased: Erased) -> bool:
    """Whether a file's path below the archive names an erased patient or record, by a folder or by its own name."""
    stem = path.rsplit(".", 1)[0]
    return erased.has_record(stem) or erased.has_record(path) or any(map(erased.has_patient, (*path.split("/"), stem)))


def earlier_view(work: str) -> dict[str, Any]:
    """Return ``lookup.archive_facts``, of no record where nothing was converted yet."""
    try:
        return archive_facts(work)
    except UnfinishedStore:
        return {"records": [], "stores": [], "rows": []}
