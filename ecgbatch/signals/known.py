"""What the published stores know of a record: whether it is new, and whether to try it again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import xarray as xr

from ecgbatch import __version__
from ecgbatch.archive.listing import each
from ecgbatch.archive.remembered import Place
from ecgbatch.terms import STEP_FAILED
from ecgbatch.workspace.erased import erased_list
from storage import list_stores, open_store

NOT_INSTALLED = "EXTRA_MISSING"
"""The reason that the installation alone gives: once a reader is there, it is new, even where its fingerprint is the same."""
ABSENT = frozenset({"LISTED_MISSING", "DAT_MISSING"})
MAY_PASS = ABSENT | {"UNREADABLE_FILE", "CHANGED_WHILE_READING", NOT_INSTALLED}
"""Reasons to set a record aside that may pass though no file gets another size or time (a mount that was away, a reader that was
not installed): it is tried again in the next run."""


class KnownRow(NamedTuple):
    """What a published store says of a fingerprint."""

    place: Place
    source_digest: str
    reason: str


def known_row(known: Mapping[str, KnownRow], fingerprint: str, reason: str) -> KnownRow | None:
    """Return what the stores say of a listed record; None where it is new, or can be read now that what it lacked is there."""
    row = known.get(fingerprint)
    return None if row is not None and row.reason == NOT_INSTALLED != reason else row


def known_rows(work: str) -> dict[str, KnownRow]:
    """Return what the published stores say of every record they have seen, by fingerprint; first what rests on its files."""
    known: dict[str, KnownRow] = {}
    again = failed_before(work)
    for path in list_stores(work, "signals"):
        signals = open_store(path)
        told = zip(*(signals[name].values.tolist() for name in ("fingerprint", "source_digest", "reason")), strict=True)
        for row, (fingerprint, digest, reason) in enumerate(told):
            place = signals.attrs["digest"], row
            if place not in again and (fingerprint not in known or known[fingerprint].reason == NOT_INSTALLED):
                known[fingerprint] = KnownRow(place, digest, reason)
    return known


def failed_before(work: str) -> set[Place]:
    """Return the rows on whose content a step failed in another version: as if no store had seen them, they are tried again."""
    found: set[Place] = set()
    for path in list_stores(work, "signals"):
        signals = open_store(path)
        if signals.attrs["versions"].get("ecgbatch") != __version__:
            rows = np.flatnonzero(signals["reason"].values == STEP_FAILED).tolist()
            found |= {(signals.attrs["digest"], row) for row in rows}
    return found


def new_records(work: str, listing: xr.Dataset) -> xr.Dataset:
    """Return the rows of an archive's listing that no published store has seen and that belong to nobody who was erased."""
    known, erased = known_rows(work), erased_list(work)
    columns = (listing[name].values.tolist() for name in ("fingerprint", "reason", "record_name", "patient_id"))
    rows = list(zip(*columns, strict=True))
    is_new = [
        known_row(known, key, reason) is None and not (erased.has_record(name) or erased.has_patient(who))
        for key, reason, name, who in rows
    ]
    return listing.isel(record=np.flatnonzero(is_new))


def to_forget(listing: xr.Dataset, passing: Mapping[str, str]) -> set[str]:
    """Return which of these records to look into again: what the look itself missed shows by its time when it comes."""
    if not ABSENT.intersection(passing.values()):  # the rule: no need to walk a million names
        return set(passing)
    names, signatures = each(listing["record_name"].values), each(listing["signature"].values)
    absent = {name for name, signature in zip(names, signatures, strict=True) if name in passing and "-" in signature.split(";")}
    return {name for name, reason in passing.items() if reason not in ABSENT or name not in absent}
