"""The stores of signals: what they hold of each record, and their plans."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import xarray as xr

from ecgbatch import __version__
from ecgbatch.archive.listing import each
from ecgbatch.archive.remembered import LOOK_COLUMNS
from ecgbatch.terms import LABEL, LEAD_FLAGS, MISSING_SAMPLE, SEX, STATUS, lead_order
from storage import TEXT, Plan, Schema, Variable, installed_version, make_plan

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
        "source_digest": Variable(
            ("record",), "string", "digest of header and signal files, behind the name of its algorithm; SHA-256 without one", ""
        ),
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


CONVERSION = {"algorithm": 1}
"""Settings of the signals stores. Raise the number when the content of a store would change."""


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
        plans.append(_plan_batch(rows_of(listing, [row for row, key in enumerate(batch_of) if key == batch])))
    return plans


def rows_of(listing: xr.Dataset, rows: list[int]) -> xr.Dataset:
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
    versions = {"ecgbatch": __version__, "wfdb": installed_version("wfdb")}
    return make_plan(schema_of(rows), sizes=sizes, inputs=inputs, settings=CONVERSION, versions=versions)


def schema_of(rows: xr.Dataset) -> Schema:
    """Return the schema of a store of these rows: with comments where they were asked for, with what carts said where any did."""
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
