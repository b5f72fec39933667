"""Signals: the archive's records as chunked int16 stores, one row a record, nothing lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from ecgbatch import __version__
from ecgbatch.archive.listing import each, list_archive
from ecgbatch.archive.remembered import LOOK_COLUMNS, Place, remember
from ecgbatch.archive.sums import with_sums
from ecgbatch.archive.untaken import Untaken, find_untaken
from ecgbatch.archive.watch import Look, look_at, settle_changes
from ecgbatch.formats.header import UnreadableRecord, step
from ecgbatch.formats.inspection import Inspection, inspect_record, inspect_records
from ecgbatch.formats.records import read_samples, source_digest
from ecgbatch.signals.own_archive import place_of, refuse_another
from ecgbatch.signals.quality import lead_flags, warm_up
from ecgbatch.terms import LABEL, LEAD_FLAGS, MISSING_SAMPLE, SEX, STATUS, STEP_FAILED, lead_order
from ecgbatch.workspace.erased import N_ERASURES, VIEW_FILE, Erased, erased_list
from ecgbatch.workspace.privacy import workspace_pseudonyms
from storage import (
    TEXT,
    CorruptStore,
    Map,
    Plan,
    Schema,
    Shard,
    StoreError,
    UnfinishedStore,
    Variable,
    build,
    folder_at,
    list_stores,
    make_plan,
    open_store,
    sealed,
    unsealed,
)

SIGNALS = Schema(
    name="signals",
    version=1,
    row_dim="record",
    title="ECG signals, one row a record, in ADC units exactly as recorded",
    variables={
        "signal": Variable(
            ("record", "lead", "sample"),
            "int16",
            "ECG signal in ADC units",
            "adu",
            MISSING_SAMPLE,
            bulk=True,
            inner_chunk=(None, 131072),
        ),
        "lead": Variable(("lead",), "string", "lead name", ""),
        "record_name": Variable(("record",), "string", "path of the header below the archive, without .hea", ""),
        "fingerprint": Variable(
            ("record",), "string", "SHA-256 of name, file sizes, header and label: what makes a record new", ""
        ),
        "patient_id": Variable(("record",), "string", "patient identifier", ""),
        "patient_unknown": Variable(("record",), "int8", "1 where patient_id is the record itself", "1", low=0, high=1),
        "n_samples": Variable(("record",), "int64", "samples per lead", "1", low=0),
        "sampling_frequency_hz": Variable(("record",), "float64", "sampling frequency", "Hz", low=0),
        "status": Variable(("record",), "int8", "whether the record can be used", "1", flags=STATUS),
        "reason": Variable(("record",), "string", "reason code where status is not ok; see docs/reason-codes.md", ""),
        "status_detail": Variable(("record",), "string", "what was expected and found", ""),
        "warnings": Variable(("record",), "string", "warning codes, separated by spaces", ""),
        "source_digest": Variable(("record",), "string", "SHA-256 of header and signal files", ""),
        "label": Variable(("record",), "int8", "reference label", "1", flags=LABEL),
        "label_rule": Variable(("record",), "string", "the rule or table that gave the label", ""),
        "mi": Variable(
            ("record",), "int8", "myocardial infarction: 1 yes, 0 healthy control, -1 other or unknown", "1", low=-1, high=1
        ),
        "diagnosis": Variable(("record",), "string", "reason for admission as the header states it", ""),
        "infarct_location": Variable(("record",), "string", "localisation of the infarction", ""),
        "infarct_age": Variable(("record",), "string", "acute, former or empty", ""),
        "age_years": Variable(("record",), "float32", "age; 90 means 90 or older", "year", low=0, high=90),
        "sex": Variable(("record",), "int8", "sex", "1", flags=SEX),
        "recording_year": Variable(
            ("record",), "int16", "year of recording; -1 where unknown; no store holds a finer date that is true", "1", -1
        ),
        "acquired_day": Variable(
            ("record",),
            "int64",
            "day of recording, moved by a number of days that is the patient's and secret: only days of one patient can be "
            "compared; -1 where date or patient is unknown",
            "day",
            -1,
        ),
        "adc_gain": Variable(("record", "lead"), "float64", "ADC units per millivolt", "adu mV-1"),
        "baseline": Variable(("record", "lead"), "int32", "ADC value of 0 mV", "adu"),
        "checksum": Variable(("record", "lead"), "int32", "sum of all samples modulo 65536", "1", low=0, high=65535),
        "lead_flags": Variable(("record", "lead"), "uint16", "quality of the lead", "1", flags=LEAD_FLAGS, is_mask=True),
    },
)


COMMENTS = Variable(("record",), "string", "comment lines of the header; only in stores made with --keep-comments", "")
"""Beside ``SIGNALS``'s variables where comments were asked for: by default no store holds them."""
CART = Variable(
    ("record",), "string", "what the electrocardiograph itself said, as JSON; only in stores of a file that states some of it", ""
)
"""Beside ``SIGNALS``'s variables where some record has it, so that stores of other formats are what they were."""
_OPTIONAL = {"comments": COMMENTS, "cart": CART}

LONGEST_ROW_BYTES = 512_000_000
"""Decoded bytes of one record in a store. A worker holds about three times that; a longer record is set aside (TOO_LONG)."""

ARCHIVE_FILE = VIEW_FILE
"""What the archive held when it was last looked at: record names and the rows of the signals stores that hold them."""

NOT_TAKEN = "not_taken"
"""Of that document: files that are no record's and were looked at, as ``archive.untaken.Untaken``."""
LEFT_OUT = "left_out"
"""Of that document: folders, links and hidden files in which no record was looked for, as ``archive.finding.LeftOut``."""

_MOST_REMEMBERED = 10_000
"""Files that are no ECGs which are remembered, so that no later look opens them: others are opened again."""

CONVERSION = {"algorithm": 1}
"""Settings of the signals stores. Raise the number when the content of a store would change."""


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


def plan_signals(listing: xr.Dataset) -> list[Plan]:
    """Plan one store for each batch of records of one rate and length class; no batch, no store.

    Parameters
    ----------
    listing
        ``archive.listing.list_archive``'s table of the records to convert (dimension ``record``).

    Returns
    -------
    list of Plan
        Ordered by rate and length. Records already set aside keep a row, in the largest batch.

    """
    if listing.sizes["record"] == 0:
        return []
    listing = _set_aside_long(listing)
    usable = listing["status"].values != STATUS["set_aside"]
    length_class = np.array([int(n - 1).bit_length() if n else 0 for n in listing["n_samples"].values.tolist()])
    keys = list(zip(listing["sampling_frequency_hz"].values.tolist(), length_class.tolist(), strict=True))
    counted = Counter(key for key, is_usable in zip(keys, usable.tolist(), strict=True) if is_usable)
    largest = max(counted, key=lambda key: (counted[key], key)) if counted else (0.0, 0)
    batch_of = [key if is_usable else largest for key, is_usable in zip(keys, usable.tolist(), strict=True)]
    plans = []
    for batch in sorted(set(batch_of)):
        plans.append(_plan_batch(_rows(listing, [row for row, key in enumerate(batch_of) if key == batch])))
    return plans


def _rows(listing: xr.Dataset, rows: list[int]) -> xr.Dataset:
    """Return rows, in order; the listing itself where it is all of them, for a copy takes half a kilobyte a record."""
    return listing if len(rows) == listing.sizes["record"] else listing.isel(record=rows)


def _plan_batch(rows: xr.Dataset) -> Plan:
    usable = rows["status"].values != STATUS["set_aside"]
    leads = lead_order({lead for names in set(each(rows["leads"].values[usable])) for lead in names.split()}) or ["none"]
    n_samples = int(rows["n_samples"].values[usable].max(initial=1))
    if "cart" in rows and not any(each(rows["cart"].values)):
        rows = rows.drop_vars("cart")
    inputs = rows.drop_vars(LOOK_COLUMNS, errors="ignore").assign(lead=("lead", np.array(leads, dtype=TEXT)))
    sizes = {"record": rows.sizes["record"], "lead": len(leads), "sample": n_samples}
    versions = {"ecgbatch": __version__, "wfdb": version("wfdb")}
    return make_plan(_schema(rows), sizes=sizes, inputs=inputs, settings=CONVERSION, versions=versions)


def _schema(rows: xr.Dataset) -> Schema:
    asked = {name: variable for name, variable in _OPTIONAL.items() if name in rows}
    return replace(SIGNALS, variables={**SIGNALS.variables, **asked}) if asked else SIGNALS


def _set_aside_long(listing: xr.Dataset) -> xr.Dataset:
    n_bytes = np.array(
        [2 * n * len(leads.split()) for n, leads in zip(listing["n_samples"].values, listing["leads"].values, strict=True)]
    )
    too_long = (n_bytes > LONGEST_ROW_BYTES) & (listing["status"].values != STATUS["set_aside"])
    if not too_long.any():
        return listing
    listing = listing.copy(deep=True)
    listing["status"].values[too_long] = STATUS["set_aside"]
    listing["reason"].values[too_long] = "TOO_LONG"
    for row in np.flatnonzero(too_long):
        listing["status_detail"].values[row] = (
            f"{n_bytes[row]} bytes of samples, at most {LONGEST_ROW_BYTES}; cut the record into segments"
        )
    return listing


def produce_signals(shard: Shard, rows: xr.Dataset, *, archive: str, leads: tuple[str, ...], n_samples: int) -> xr.Dataset:
    """Read the records of one shard, every sample as stored; a record that cannot be read becomes a row with a reason.

    Parameters
    ----------
    rows
        Their rows of the archive's listing.
    archive, leads, n_samples
        Where they lie, and the store's lead and sample dimensions.

    Returns
    -------
    xarray.Dataset
        ``SIGNALS`` without the ``lead`` names, and ``comments`` and ``cart`` if ``rows`` has them.

    """
    n_rows = shard.stop - shard.start
    shape = {"record": n_rows, "lead": len(leads), "sample": n_samples}
    schema = _schema(rows)
    columns = {
        name: np.full([shape[dim] for dim in variable.dims], variable.fill_value, dtype=variable.numpy_dtype)
        for name, variable in (schema.bulk() | schema.columns()).items()
    }
    columns["lead_flags"][:] = LEAD_FLAGS["missing"]
    for name in columns.keys() & set(rows.variables):
        columns[name][:] = rows[name].values
    columns["source_digest"][:] = ""
    wanted = [row for row in range(n_rows) if columns["status"][row] != STATUS["set_aside"]]
    names = columns["record_name"].tolist()
    for row, inspection in zip(wanted, inspect_records(archive, [names[row] for row in wanted]), strict=True):
        try:
            _fill_row(columns, row, inspection, leads)
        except UnreadableRecord as error:
            columns["signal"][row] = MISSING_SAMPLE
            columns["status"][row] = STATUS["set_aside"]
            columns["reason"][row], columns["status_detail"][row] = error.code, error.detail
    is_read = set(wanted)
    for row in np.flatnonzero(columns["status"] == STATUS["set_aside"]).tolist():
        columns["source_digest"][row] = source_digest(archive, names[row])
        if columns["reason"][row] == STEP_FAILED:
            continue
        if row in is_read and not _is_still_refused(archive, names[row], columns["reason"][row], columns["source_digest"][row]):
            columns["reason"][row], columns["source_digest"][row] = "CHANGED_WHILE_READING", ""
            columns["status_detail"][row] = "refused, and other files a moment later; run again when it is whole"
    return xr.Dataset({name: (schema.variables[name].dims, values) for name, values in columns.items()})


def _is_still_refused(archive: str, name: str, reason: str, digest: str) -> bool:
    """Tell whether a record that was refused is refused again for the same reason, while its files have the digest taken since.

    Otherwise the digest may be of files that became whole after the refusal, and the next run would take them for refused.
    """
    try:
        read_samples(inspect_record(archive, name))
    except UnreadableRecord as error:
        return error.code == reason and source_digest(archive, name) == digest
    return False


def _fill_row(columns: dict[str, np.ndarray[Any, Any]], row: int, inspection: Inspection, leads: tuple[str, ...]) -> None:
    """Read one record into its row: samples, gains, checksums, flags, and what reading it has told."""
    if not set(inspection.leads) <= set(leads) or inspection.n_samples > columns["signal"].shape[2]:
        raise UnreadableRecord("CHANGED_WHILE_READING", "the header has changed since it was listed; run again when it is whole")
    target = _target(leads, inspection.leads)
    with step("reading"):
        if isinstance(target, slice):
            record = read_samples(inspection, columns["signal"][row, target])
        else:
            record = read_samples(inspection)
            columns["signal"][row, target, : record.n_samples] = record.signal
    columns["adc_gain"][row, target] = record.adc_gain
    columns["baseline"][row, target] = record.baseline
    columns["checksum"][row, target] = record.checksum
    assert inspection.header is not None
    fs = inspection.header.sampling_frequency_hz
    with step("quality"):
        quality = lead_flags(record.block, record.adc_gain, record.baseline, fs, inspection.leads, record.n_samples)
    columns["lead_flags"][row, target] = record.lead_flags | quality
    columns["n_samples"][row] = record.n_samples
    columns["status"][row], columns["reason"][row] = inspection.status, inspection.reason
    columns["status_detail"][row], columns["source_digest"][row] = inspection.status_detail, record.source_digest
    columns["warnings"][row] = " ".join(sorted({*str(columns["warnings"][row]).split(), *record.warnings}))


@lru_cache(maxsize=256)
def _target(leads: tuple[str, ...], own: tuple[str, ...]) -> Any:
    """Return where a record's own leads lie among a store's: a slice, as nearly always, lets samples go straight there."""
    target = [leads.index(lead) for lead in own]
    return slice(target[0], target[-1] + 1) if target and target == list(range(target[0], target[-1] + 1)) else target


def convert_archive(
    archive: str,
    work: str,
    *,
    labels: str | None = None,
    keep_comments: bool = False,
    rehash: bool = False,
    settle_s: float = 0.0,
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
    labels
        CSV with record, patient_id, label.
    keep_comments
        Store the headers' comment lines too, whatever names and dates they hold.
    rehash, settle_s
        As ``archive.watch.look_at`` takes them; ``rehash`` also takes an archive at another place for this workspace's.
    map
        Engine for listing and reading.
    on_progress
        Called with the stage's name, shards done and shards in all.

    Raises
    ------
    OtherArchive
        If the workspace holds the records of an archive at another place.

    """
    if not rehash:
        refuse_another(archive, work, _earlier_view(work))
    look = look_at(archive, work, labels=labels, keep_comments=keep_comments, rehash=rehash, settle_s=settle_s, map=map)
    published = {Path(path).stem for path in list_stores(work, "signals")}
    places = look.places
    if not look.is_remembered:
        again = _failed_before(work)
        places = {name: place for name, place in look.places.items() if place[0] in published and place not in again}
    known = _known_rows(work) if len(places) < look.listing.sizes["record"] else {}
    listing = settle_changes(archive, look, {key: row.source_digest for key, row in known.items()}, map=map)
    told = zip(*(each(listing[column].values) for column in ("record_name", "fingerprint", "reason")), strict=True)
    unplaced = [(row, name, _known(known, key, reason)) for row, (name, key, reason) in enumerate(told) if name not in places]
    places |= {name: stored.place for _, name, stored in unplaced if stored is not None}
    new = with_sums(archive, _rows(listing, [row for row, _, stored in unplaced if stored is None]), map=map)
    del unplaced, known
    n_bytes = 0
    for plan in _built(archive, work, plan_signals(new), map, on_progress):
        n_bytes += plan.row_bytes * plan.n_rows
        places |= {name: (plan.digest, row) for row, name in enumerate(each(plan.inputs["record_name"].values))}
    return _published(archive, work, look, listing, places, n_new=new.sizes["record"], n_bytes=n_bytes)


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


def _published(
    archive: str, work: str, look: Look, listing: xr.Dataset, places: dict[str, Place], *, n_new: int, n_bytes: int
) -> Conversion:
    """Put the archive's current view, and what the next look needs; say what has changed since the last one."""
    earlier = _earlier_view(work)
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
    remembered = (Untaken(*one) for one in earlier.get(NOT_TAKEN, ()))
    untaken = find_untaken(look.found.beside, look.found.one_file, remembered)
    if erased:
        untaken = [one for one in untaken if not _names_erased(one.path, erased)]
    kept = [one for one in untaken if one.kind] + [one for one in untaken if not one.kind][:_MOST_REMEMBERED]
    document |= {NOT_TAKEN: [list(one) for one in kept]} if kept else {}
    aside = [list(one) for one in look.found.left_out if not (erased and _names_erased(one.path, erased))]
    document |= {LEFT_OUT: sorted(aside)[:_MOST_REMEMBERED]} if aside else {}
    if document != earlier:
        folder_at(work).put(ARCHIVE_FILE, sealed(document))
    del earlier
    records = records_at(work, document, ("reason", "status"))
    if not look.is_remembered:
        reasons = zip(current, each(records["reason"].values), strict=True)
        passing = {name: reason for name, reason in reasons if reason in MAY_PASS}
        remember(work, listing, look.key, places, forget=_to_forget(listing, passing))
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


def _names_erased(path: str, erased: Erased) -> bool:
    """Whether a file's path below the archive names an erased patient or record, by a folder or by its own name."""
    stem = path.rsplit(".", 1)[0]
    return erased.has_record(stem) or erased.has_record(path) or any(map(erased.has_patient, (*path.split("/"), stem)))


def _earlier_view(work: str) -> dict[str, Any]:
    try:
        return archive_facts(work)
    except UnfinishedStore:
        return {"records": [], "stores": [], "rows": []}


def _to_forget(listing: xr.Dataset, passing: Mapping[str, str]) -> set[str]:
    """Return which of these records to look into again: what the look itself missed shows by its time when it comes."""
    if not ABSENT.intersection(passing.values()):  # the rule: no need to walk a million names
        return set(passing)
    names, signatures = each(listing["record_name"].values), each(listing["signature"].values)
    absent = {name for name, signature in zip(names, signatures, strict=True) if name in passing and "-" in signature.split(";")}
    return {name for name, reason in passing.items() if reason not in ABSENT or name not in absent}


NOT_INSTALLED = "EXTRA_MISSING"
"""The reason that the installation alone gives: once a reader is there, it is new, even where its fingerprint is the same."""
ABSENT = frozenset({"LISTED_MISSING", "DAT_MISSING"})
MAY_PASS = ABSENT | {"UNREADABLE_FILE", "CHANGED_WHILE_READING", NOT_INSTALLED}
"""Reasons to set a record aside that may pass though no file gets another size or time (a mount that was away, a reader that was
not installed): it is tried again in the next run."""


def new_records(work: str, listing: xr.Dataset) -> xr.Dataset:
    """Return the rows of an archive's listing that no published store has seen and that belong to nobody who was erased."""
    known, erased = _known_rows(work), erased_list(work)
    columns = (listing[name].values.tolist() for name in ("fingerprint", "reason", "record_name", "patient_id"))
    rows = list(zip(*columns, strict=True))
    is_new = [
        _known(known, key, reason) is None and not (erased.has_record(name) or erased.has_patient(who))
        for key, reason, name, who in rows
    ]
    return listing.isel(record=np.flatnonzero(is_new))


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


def producer(plan: Plan, archive: str) -> Callable[[Shard, xr.Dataset], xr.Dataset]:
    """Return the function that makes a shard of ``plan``: picklable, for any engine."""
    leads = tuple(plan.inputs["lead"].values.tolist())
    return partial(produce_signals, archive=archive, leads=leads, n_samples=plan.sizes["sample"])


class _KnownRow(NamedTuple):
    """What a published store says of a fingerprint."""

    place: Place
    source_digest: str
    reason: str


def _known(known: Mapping[str, _KnownRow], fingerprint: str, reason: str) -> _KnownRow | None:
    """Return what the stores say of a listed record; None where it is new, or can be read now that what it lacked is there."""
    row = known.get(fingerprint)
    return None if row is not None and row.reason == NOT_INSTALLED != reason else row


def _known_rows(work: str) -> dict[str, _KnownRow]:
    """Return what the published stores say of every record they have seen, by fingerprint; first what rests on its files."""
    known: dict[str, _KnownRow] = {}
    again = _failed_before(work)
    for path in list_stores(work, "signals"):
        signals = open_store(path)
        told = zip(*(signals[name].values.tolist() for name in ("fingerprint", "source_digest", "reason")), strict=True)
        for row, (fingerprint, digest, reason) in enumerate(told):
            place = signals.attrs["digest"], row
            if place not in again and (fingerprint not in known or known[fingerprint].reason == NOT_INSTALLED):
                known[fingerprint] = _KnownRow(place, digest, reason)
    return known


def _failed_before(work: str) -> set[Place]:
    """Return the rows on whose content a step failed in another version: as if no store had seen them, they are tried again."""
    found: set[Place] = set()
    for path in list_stores(work, "signals"):
        signals = open_store(path)
        if signals.attrs["versions"].get("ecgbatch") != __version__:
            rows = np.flatnonzero(signals["reason"].values == STEP_FAILED).tolist()
            found |= {(signals.attrs["digest"], row) for row in rows}
    return found


def current_records(work: str, columns: Sequence[str] | None = None) -> xr.Dataset:
    """Return the table of the records now in the archive: columns of their signals rows, and where these are.

    Parameters
    ----------
    columns
        Per-record variables of ``SIGNALS``; default all of them.

    Returns
    -------
    xarray.Dataset
        Dimension ``record``, in the archive's order: the variables asked for, ``signals_store`` (digest)
        and ``signals_row``.

    Raises
    ------
    UnfinishedStore
        If nothing has been converted yet.

    """
    return records_at(work, archive_facts(work), columns)


def records_at(work: str, document: Mapping[str, Any], columns: Sequence[str] | None = None) -> xr.Dataset:
    """Return ``current_records``'s table of the records at ``document``'s ``stores`` and ``rows``."""
    digests, rows = np.array(document["stores"], dtype=TEXT), np.array(document["rows"], dtype=np.int64)
    names = columns or [name for name, variable in SIGNALS.columns().items() if variable.dims == ("record",)]
    table = {name: np.full(rows.size, SIGNALS.variables[name].fill_value, SIGNALS.variables[name].numpy_dtype) for name in names}
    for digest in set(document["stores"]):
        signals = open_store(signals_path(work, digest))
        here = np.flatnonzero(digests == digest)
        for name in names:
            if name in signals:  # an earlier version's store lacks recording_year or acquired_day: unknown there
                table[name][here] = signals[name].values[rows[here]]
    variables = {name: ("record", values) for name, values in table.items()}
    return xr.Dataset(variables | {"signals_store": ("record", digests), "signals_row": ("record", rows)})


def archive_facts(work: str) -> dict[str, Any]:
    """Return what the last conversion said of its archive: ``archive`` (name), ``is_synthetic``, and its records' places.

    Raises
    ------
    UnfinishedStore
        If nothing has been converted yet.
    CorruptStore
        If it is not what was written.

    """
    try:
        facts = unsealed(folder_at(work).read(ARCHIVE_FILE), f"{work}/{ARCHIVE_FILE}")
        if not facts.keys() >= {"archive", "is_synthetic", "records", "stores", "rows"}:
            raise CorruptStore(f"{work}/{ARCHIVE_FILE}: altered: it does not name the records; see ecgbatch verify --repair")
        return facts
    except FileNotFoundError:
        raise UnfinishedStore(f"{work}: nothing is converted here yet; run `ecgbatch convert ARCHIVE {work}` first") from None


def signals_path(work: str, digest: str) -> str:
    """Return the path of a signals store."""
    return str(folder_at(work).path(f"signals/{digest}.zarr"))


def verify_checksums(path: str, *, bytes_at_once: int = 8_000_000) -> list[str]:
    """Compare the sum of every lead's stored samples with the header checksum kept beside them; return what differs."""
    signals = open_store(path)
    known = {name: signals[name].values for name in ("n_samples", "checksum", "lead_flags", "record_name", "status")}
    expected = ((known["lead_flags"] & LEAD_FLAGS["missing"]) == 0) & (known["status"] != STATUS["set_aside"])[:, None]
    n_records, n_leads, n_samples = signals["signal"].shape
    rows_at_once = max(1, bytes_at_once // (2 * n_leads * n_samples))
    problems = []
    for start in range(0, n_records, rows_at_once):
        for row, signal in enumerate(signals["signal"][start : start + rows_at_once].values, start):
            sums = signal[:, : known["n_samples"][row]].sum(axis=1, dtype=np.int64) % 65536
            n_wrong = int((expected[row] & (sums != known["checksum"][row])).sum())
            if n_wrong:
                problems.append(f"{path}: {known['record_name'][row]}: checksums of {n_wrong} leads differ from the header's")
    return problems
