"""One shard of signals: records read, every sample as stored, and what is wrong with their leads."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import numpy as np
import xarray as xr

from ecgbatch.formats.header import UnreadableRecord, step
from ecgbatch.formats.inspection import Inspection, inspect_record, inspect_records
from ecgbatch.formats.records import read_samples, source_digest
from ecgbatch.signals.quality import lead_flags
from ecgbatch.signals.table import schema_of
from ecgbatch.terms import LEAD_FLAGS, MISSING_SAMPLE, STATUS, STEP_FAILED
from storage import Plan, Shard, algorithm_of


def produce_signals(shard: Shard, rows: xr.Dataset, *, archive: str, leads: tuple[str, ...], n_samples: int) -> xr.Dataset:
    """Read the records of one shard, every sample as stored; a record that cannot be read becomes a row with a reason.

    Parameters
    ----------
    rows
        Their rows of the archive's listing; where they say the ``source_digest`` of a record that is read again, its new one is
        by the same algorithm.
    archive, leads, n_samples
        Where they lie, and the store's lead and sample dimensions.

    Returns
    -------
    xarray.Dataset
        ``SIGNALS`` without the ``lead`` names, and ``comments`` and ``cart`` if ``rows`` has them.

    """
    n_rows = shard.stop - shard.start
    shape = {"record": n_rows, "lead": len(leads), "sample": n_samples}
    schema = schema_of(rows)
    columns = {
        name: np.full([shape[dim] for dim in variable.dims], variable.fill_value, dtype=variable.numpy_dtype)
        for name, variable in (schema.bulk() | schema.columns()).items()
    }
    columns["lead_flags"][:] = LEAD_FLAGS["missing"]
    for name in columns.keys() & set(rows.variables):
        columns[name][:] = rows[name].values
    known = columns["source_digest"].tolist()
    columns["source_digest"][:] = ""
    wanted = [row for row in range(n_rows) if columns["status"][row] != STATUS["set_aside"]]
    names = columns["record_name"].tolist()
    for row, inspection in zip(wanted, inspect_records(archive, [names[row] for row in wanted]), strict=True):
        try:
            _fill_row(columns, row, inspection, leads, algorithm_of(known[row]))
        except UnreadableRecord as error:
            columns["signal"][row] = MISSING_SAMPLE
            columns["status"][row] = STATUS["set_aside"]
            columns["reason"][row], columns["status_detail"][row] = error.code, error.detail
    is_read = set(wanted)
    for row in np.flatnonzero(columns["status"] == STATUS["set_aside"]).tolist():
        columns["source_digest"][row] = source_digest(archive, names[row], algorithm=algorithm_of(known[row]))
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
        return error.code == reason and source_digest(archive, name, algorithm=algorithm_of(digest)) == digest
    return False


def _fill_row(
    columns: dict[str, np.ndarray[Any, Any]], row: int, inspection: Inspection, leads: tuple[str, ...], algorithm: str
) -> None:
    """Read one record into its row: samples, gains, checksums, flags, and what reading it has told."""
    if not set(inspection.leads) <= set(leads) or inspection.n_samples > columns["signal"].shape[2]:
        raise UnreadableRecord("CHANGED_WHILE_READING", "the header has changed since it was listed; run again when it is whole")
    target = _target(leads, inspection.leads)
    with step("reading"):
        if isinstance(target, slice):
            record = read_samples(inspection, columns["signal"][row, target], algorithm=algorithm)
        else:
            record = read_samples(inspection, algorithm=algorithm)
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


def producer(plan: Plan, archive: str) -> Callable[[Shard, xr.Dataset], xr.Dataset]:
    """Return the function that makes a shard of ``plan``: picklable, for any engine."""
    leads = tuple(plan.inputs["lead"].values.tolist())
    return partial(produce_signals, archive=archive, leads=leads, n_samples=plan.sizes["sample"])
