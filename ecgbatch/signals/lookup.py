"""Which row of which signals store each record of the archive is now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from ecgbatch.signals.table import SIGNALS
from ecgbatch.terms import LEAD_FLAGS, STATUS
from ecgbatch.workspace.erased import VIEW_FILE
from storage import TEXT, CorruptStore, StoreError, UnfinishedStore, folder_at, open_store, unsealed

ARCHIVE_FILE = VIEW_FILE
"""What the archive held when it was last looked at: record names and the rows of the signals stores that hold them."""


NOT_TAKEN = "not_taken"
"""Of that document: files that are no record's and were looked at, as ``archive.untaken.Untaken``."""


LEFT_OUT = "left_out"
"""Of that document: folders, links and hidden files in which no record was looked for, as ``archive.finding.LeftOut``."""


def left_out_counts(work: str) -> dict[str, int]:
    """Return in how many folders, links and hidden files of the archive no record was looked for, by reason."""
    try:
        return dict(Counter(reason for _, reason in archive_facts(work).get(LEFT_OUT, ())))
    except StoreError:
        return {}


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
