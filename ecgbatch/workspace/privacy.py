"""Privacy: names and days that lead back to records, patients and dates only with a key that stays in the workspace."""

from __future__ import annotations

import csv
import hmac
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from storage import TEXT, folder_at

KEY_FILE = "pseudonyms.key"
"""Below the workspace, made once, readable by its owner only. Who has it can find a name by trying all names, and a date."""

TABLE_FILE = "pseudonyms.csv"
"""Below the workspace: record name, patient and their pseudonyms, so that whoever holds the workspace finds a record again."""

PSEUDONYMOUS = "-pseudonymous"
"""What the name of a run's reports ends with where pseudonyms stand for names; the others have the run's own name."""

DAYS_MOVED = 1 << 48
"""Days of recording are moved by less than this, evenly: what a day was cannot be told without the key, and days moved by two
keys lie further apart than ``MOST_DAYS_APART`` but once in two billion."""

MOST_DAYS_APART = 200 * 366
"""Of two days of one patient: dates from 1900 to 2100 are believed (``archive.clinical.YEARS``)."""

ROWS = ("signals_row", "beats_row")
"""Columns of scores that number records in the archive's order."""

_KEY_BYTES = 32
_DIGITS = 16
"""Of a pseudonym: 64 bits; two of a million names meet with a chance of 3e-8."""


@dataclass(frozen=True)
class Pseudonyms:
    """Names of records and patients replaced by keyed digests (HMAC-SHA-256), days moved by one: the same in every run of one
    workspace.
    """

    key: bytes = field(repr=False)
    """It travels with tasks, whose repr engines log."""

    def record(self, record_name: str) -> str:
        """Return a record's pseudonym."""
        return f"r-{self._digest('record', record_name)}"

    def patient(self, patient_id: str) -> str:
        """Return a patient's pseudonym: records of one patient stay together."""
        return f"p-{self._digest('patient', patient_id)}"

    def day(self, patient_id: str, day: int) -> int:
        """Return a day, counted from any date, moved by this patient's own number of days; -1, unknown, stays."""
        digest = hmac.digest(self.key, f"day {patient_id}".encode("utf-8", "surrogatepass"), "sha256")
        return -1 if day < 0 else day + int.from_bytes(digest[:8]) % DAYS_MOVED

    def scores(self, scores: xr.Dataset) -> xr.Dataset:
        """Return rows of a scores store under their pseudonyms."""
        names = [self.record(name) for name in scores["record_name"].values.tolist()]
        people = [self.patient(name) for name in scores["patient_id"].values.tolist()]
        return scores.assign(record_name=("record", np.array(names, TEXT)), patient_id=("record", np.array(people, TEXT)))

    def signals(self, row: Mapping[str, Any] | None) -> dict[str, Any] | None:
        """Return a row of a signals store without what may hold a name: details name files, comments anything."""
        return None if row is None else {**row, "record_name": "", "patient_id": "", "status_detail": "", "comments": ""}

    def _digest(self, kind: str, name: str) -> str:
        return hmac.digest(self.key, f"{kind} {name}".encode("utf-8", "surrogatepass"), "sha256").hex()[:_DIGITS]


def without_order(scores: xr.Dataset, facts: Mapping[str, np.ndarray]) -> tuple[xr.Dataset, dict[str, np.ndarray]]:
    """Return pseudonymous scores and what is known beside them, (record,) each, sorted by pseudonym and without numbers of rows.

    An archive's order is one of names, and often of time: whoever has the archive could count and find who a pseudonym is.
    """
    order = np.argsort(scores["record_name"].values, kind="stable")
    kept = scores.drop_vars([name for name in ROWS if name in scores]).isel(record=order)
    return kept, {name: values[order] for name, values in facts.items()}


def workspace_pseudonyms(work: str | Path) -> Pseudonyms:
    """Return the pseudonyms of a workspace; its key is made where there is none.

    Raises
    ------
    ValueError
        If the key file holds something else than a key: with another key every name would change.

    """
    folder = folder_at(work)
    if not folder.exists(KEY_FILE):
        folder.put_if_absent(KEY_FILE, secrets.token_hex(_KEY_BYTES).encode())
    try:
        key = bytes.fromhex(folder.read(KEY_FILE).decode("ascii"))
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise ValueError(
            f"{KEY_FILE}: expected {_KEY_BYTES} bytes in hexadecimal; put the file back, or delete it: then all "
            "are renamed, and the order of earlier recordings and later ones of a patient is unknown"
        )
    return Pseudonyms(key)


def days_apart(then: np.ndarray[Any, Any], now: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the days from one recording of a patient to another; NaN where a day is unknown, or was moved by another key."""
    days = now.astype(np.int64) - then
    return np.where((then >= 0) & (now >= 0) & (np.abs(days) <= MOST_DAYS_APART), days.astype(np.float64), np.nan)


def write_pseudonyms(work: str | Path, pseudonyms: Pseudonyms, scores: xr.Dataset) -> None:
    """Write ``TABLE_FILE``: what each pseudonym stands for. It stays in the workspace and is no report."""
    pairs = zip(scores["record_name"].values.tolist(), scores["patient_id"].values.tolist(), strict=True)
    rows: Iterable[tuple[str, str, str, str]] = (
        (name, pseudonyms.record(name), patient, pseudonyms.patient(patient)) for name, patient in pairs
    )
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("record_name", "record_pseudonym", "patient_id", "patient_pseudonym"))
    writer.writerows(rows)
    folder_at(work).put(TABLE_FILE, text.getvalue().encode("utf-8", "backslashreplace"))
