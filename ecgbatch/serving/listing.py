"""The list of a run's records: searched, filtered and sorted here, from the table that its reports wrote.

The columns that a list shows are held in memory, words as numbers: ninety bytes a record, so that a million stay below a hundred
megabytes and any order of them is there within half a second (``benchmarks/speed/served_list.py``; docs/adr/0029).
"""

from __future__ import annotations

import math
import re
import tempfile
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from threading import Lock
from typing import Any, BinaryIO
from urllib.parse import urlencode

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ecgbatch.reports.worklist import LIST, ORDER, Shown
from storage import Folder, is_address

FILE = "scores.parquet"
"""Of a run's reports: a row a record."""

ROWS = 100
"""Of a page of the list."""

NAMES = ("record_name", "patient_id")
"""What a search looks in."""

RANK = "needs_look_rank"

HIDDEN = frozenset(
    {
        "needs_look", "since_last_run", "decision", "indeterminate_because", "mi_probability", "probability_low",
        "probability_high", "disagreement", "label", "exchange", "reason", "n_beats_scored", "n_beats_detected",
    }
)  # fmt: skip
"""Columns that tell the score, what follows from it, or the reference label: left out of a blind reading's list."""

REVIEWED = {
    "": "all records",
    "open": "not yet reviewed by me",
    "mine": "reviewed by me",
    "any": "reviewed by somebody",
    "conflict": "readers differ",
}
"""The filter by reviews, and its words."""

_MOST_SEARCHED = 200  # characters
_KEPT_ORDERS = 8
_RANGE = re.compile(r"(-?[\d.]*)\.\.(-?[\d.]*)")

Places = NDArray[np.int32]


@dataclass(frozen=True)
class Choice:
    """Which records are listed, and in which order; it stands in the address.

    ``filters``: of columns, as the cohort's page has them: a word, ``unknown``, or a range ``low..high``. ``sort``: a column,
    with ``-`` before it falling; empty: the order of reading. ``reviewed``: a key of ``REVIEWED``.
    """

    search: str = ""
    filters: tuple[tuple[str, str], ...] = ()
    sort: str = ""
    reviewed: str = ""

    @classmethod
    def of(cls, asked: Mapping[str, str], names: Collection[str]) -> Choice:
        """Return what an address asks of a list of these columns; what is not one of them is passed over."""
        filters = [(name, asked[name][:_MOST_SEARCHED]) for name in names if asked.get(name)]
        for name in names:
            low, high = (_number(asked.get(f"{name}-{end}", "")) for end in ("from", "to"))
            if low or high:
                filters = [one for one in filters if one[0] != name] + [(name, f"{low}..{high}")]
        sort = asked.get("sort", "")
        reviewed = asked.get("reviewed", "")
        return cls(
            asked.get("q", "").strip()[:_MOST_SEARCHED],
            tuple(filters),
            sort if sort.removeprefix("-") in names else "",
            reviewed if reviewed in REVIEWED else "",
        )

    def address(self, **more: Any) -> str:
        """Return the choice as the query of an address, with more where given; empty if nothing is chosen."""
        said = {"q": self.search, **dict(self.filters), "sort": self.sort, "reviewed": self.reviewed, **more}
        return urlencode({name: value for name, value in said.items() if value not in ("", None)})

    def sorted_by(self, name: str) -> Choice:
        """Return the choice in the order of a column: rising, falling where it rises already, then that of reading."""
        return replace(self, sort={name: f"-{name}", f"-{name}": ""}.get(self.sort, name))


def _number(text: str) -> str:
    return text if re.fullmatch(r"-?\d+(\.\d*)?|", text) else ""


@dataclass(frozen=True)
class Words:
    """A column of few distinct words: ``of``, in order, and each record's place there, (record,)."""

    of: Sequence[str]
    code: NDArray[np.integer[Any]]

    def fits(self, wanted: str, *, is_one_of_several: bool) -> NDArray[np.bool_]:
        """Return which records have a word, (record,); of several in a cell, among them."""
        wanted = "" if wanted == "unknown" and "unknown" not in self.of else wanted
        holds = [wanted in (text.split(" ") if is_one_of_several and wanted else (text,)) for text in self.of]
        return np.array(holds, bool)[self.code] if holds else np.zeros(self.code.size, bool)


class Listed:
    """The records of one run: what a list shows of each. Rows have the numbers of the table's rows."""

    def __init__(self, folder: Folder, run: str, *, blind: bool = False) -> None:
        self.run, self.is_blind = run, blind
        with opened(folder, f"reports/{run}/{FILE}") as file:
            there = set(pq.ParquetFile(file).schema_arrow.names)
            shown = [one for one in LIST if one.name in there and not (blind and one.name in HIDDEN)]
            beside = [name for one in shown for name in (*one.beside, *(one.then or ())[:1]) if name in there]
            names = dict.fromkeys([one.name for one in shown] + [name for name in beside if not (blind and name in HIDDEN)])
            columns = {name: _column(file, name) for name in [*names, *NAMES, RANK] if name in there}
        self._rank = columns.pop(RANK, None)
        self.columns: Mapping[str, Any] = columns
        self.n_records = len(columns["record_name"])
        self.shown = [one for one in shown if self._says_something(one)]
        self._orders: OrderedDict[Any, Places] = OrderedDict()
        self._lock = Lock()
        self._ranks: dict[str, NDArray[np.int32]] = {}
        self._is_lower = {name: pc.all(pc.equal(pc.utf8_lower(columns[name]), columns[name])).as_py() for name in NAMES}
        for name in NAMES:
            self._rank_of(name)  # now: of a million names in no order it takes a second
        pa.default_memory_pool().release_unused()

    def _says_something(self, one: Shown) -> bool:
        """Tell whether a column is known of any record: measurements that were not made are not shown."""
        column = self.columns[one.name]
        return bool(np.isfinite(column).any()) if isinstance(column, np.ndarray) and column.dtype.kind == "f" else True

    @property
    def names(self) -> list[str]:
        """Return the columns that can be filtered or sorted by."""
        return [one.name for one in self.shown]

    @cached_property
    def reading_order(self) -> Places:
        """Return the places of all records in the order of reading; blind, in that of their names, which tells nothing."""
        if self._rank is None or self.is_blind:
            return np.argsort(self._rank_of("record_name")).astype(np.int32)
        order = np.empty(self.n_records, np.int32)
        order[self._rank - 1] = np.arange(self.n_records, dtype=np.int32)
        return order

    def places(self, choice: Choice, names: Collection[str] | None = None, *, version: Any = None) -> Places:
        """Return the places of the chosen records, in order.

        Parameters
        ----------
        choice
            As ``Choice.of`` gives it.
        names
            Records to which ``choice.reviewed`` limits the list; of ``open`` those that are left out.
        version
            What changes when ``names`` do: an order that was made is kept for the next page, and the next record.

        """
        key = (choice, version)
        with self._lock:
            if key in self._orders:
                self._orders.move_to_end(key)
                return self._orders[key]
        found = self._sorted(self._fitting(choice, names), choice.sort)
        with self._lock:
            self._orders[key] = found
            while len(self._orders) > _KEPT_ORDERS:
                self._orders.popitem(last=False)
        return found

    def _fitting(self, choice: Choice, names: Collection[str] | None) -> Places:
        fits = np.ones(self.n_records, bool)
        for name, wanted in choice.filters:
            fits &= self._fits(name, wanted)
        if choice.reviewed and names is not None:
            value_set = pa.array(sorted(names), pa.string())
            is_named = np.asarray(pc.is_in(self.columns["record_name"], value_set=value_set))
            fits &= ~is_named if choice.reviewed == "open" else is_named
        if choice.search:
            fits &= self._found(choice.search.lower())
        return self.reading_order if fits.all() else self.reading_order[fits[self.reading_order]]

    def _found(self, wanted: str) -> NDArray[np.bool_]:
        """Return which records have a text, in small letters, in their name or their patient's, (record,)."""
        found = np.zeros(self.n_records, bool)
        for name in NAMES:
            # Lowered only where it must be: Arrow's own search without case takes seven times as long as one with it.
            text = self.columns[name] if self._is_lower[name] or wanted == wanted.upper() else pc.utf8_lower(self.columns[name])
            found |= np.asarray(pc.match_substring(text, wanted))
        return found

    def _fits(self, name: str, wanted: str) -> NDArray[np.bool_]:
        """Return which records a filter lets through, (record,)."""
        column, one = self.columns[name], next(one for one in self.shown if one.name == name)
        if isinstance(column, Words):
            return column.fits(wanted, is_one_of_several=one.filter == "words")
        if not isinstance(column, np.ndarray):
            return np.asarray(pc.equal(column, wanted))
        if wanted == "unknown":
            return ~np.isfinite(column)
        found = _RANGE.fullmatch(wanted)
        low, high = (
            (_float(text, else_) for text, else_ in zip(found.groups(), (-math.inf, math.inf), strict=True)) if found else (1, 0)
        )
        return np.asarray((column >= np.float32(low)) & (column <= np.float32(high)))

    def _sorted(self, places: Places, sort: str) -> Places:
        """Return places in the order of a column, unknown last; of equal values in the order they had."""
        if not sort:
            return places
        falls, name = sort.startswith("-"), sort.removeprefix("-")
        column = self.columns[name]
        if isinstance(column, Words):
            key = column.code[places].astype(np.int64)
            is_last = np.array([text == "" for text in column.of], bool)[column.code[places]]
        elif isinstance(column, np.ndarray):
            key = _in_order(column[places])
            is_last = ~np.isfinite(column[places]) if column.dtype.kind == "f" else np.zeros(places.size, bool)
        else:
            key, is_last = self._rank_of(name)[places].astype(np.int64), np.zeros(places.size, bool)
        key = np.where(is_last, 2**31 - 1, -key if falls else key)
        # One sort of whole numbers, key above and place so far below: five times as fast as a stable sort of the key alone.
        found: Places = places[np.sort((key << 32) + np.arange(places.size)) & 0xFFFFFFFF]
        return found

    def _rank_of(self, name: str) -> NDArray[np.int32]:
        """Return the place of each record in the order of its name, or of its patient's, (record,)."""
        if name not in self._ranks:
            text = self.columns[name]
            is_sorted = len(text) < 2 or pc.all(pc.less_equal(text[:-1], text[1:])).as_py()  # as archives are listed
            order = np.arange(len(text)) if is_sorted else np.asarray(pc.sort_indices(text))
            rank = np.empty(order.size, np.int32)
            rank[order] = np.arange(order.size, dtype=np.int32)
            self._ranks[name] = rank
        return self._ranks[name]

    def rows(self, places: Places) -> list[dict[str, Any]]:
        """Return what is shown of some records, a dict each: unknown numbers are None, unknown words empty."""
        found = {name: _values(column, places) for name, column in self.columns.items()}
        return [dict(zip(found, values, strict=True)) for values in zip(*found.values(), strict=True)]

    def of_patient(self, place: int) -> list[int]:
        """Return the places of all recordings of a record's patient, that record's first."""
        patients = self.columns["patient_id"]
        others = np.flatnonzero(np.asarray(pc.equal(patients, patients[place]))).tolist()
        return [place, *(other for other in others if other != place)]


def _in_order(values: NDArray[Any]) -> NDArray[np.int64]:
    """Return whole numbers of 32 bits in the order of numbers, (record,)."""
    if values.dtype.kind != "f":
        return values.astype(np.int64)
    bits = np.where(values == 0, np.float32(0), values).astype(np.float32).view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


def _float(text: str, otherwise: float) -> float:
    try:
        return float(text) if text else otherwise
    except ValueError:
        return math.nan


def _values(column: Any, places: Places) -> list[Any]:
    if isinstance(column, Words):
        return [column.of[code] for code in column.code[places].tolist()]
    if not isinstance(column, np.ndarray):
        return list(column.take(pa.array(places)).to_pylist())
    values = column[places]
    if values.dtype.kind != "f":
        return list(values.tolist())
    return [float(str(value)) if np.isfinite(value) else None for value in values]


@contextmanager
def opened(folder: Folder, key: str) -> Iterator[BinaryIO]:
    """Yield a file of the workspace to read anywhere; of one in a bucket, a copy without a name on this machine's disk."""
    if not is_address(str(folder)):
        with folder.path(key).open("rb") as file:
            yield file
        return
    with tempfile.TemporaryFile() as copy:
        for piece in folder.pieces(key):
            copy.write(piece)
        copy.seek(0)
        yield copy


def _column(file: BinaryIO, name: str) -> Any:
    """Return a column: text with many values as Arrow's array, with few as ``Words``, numbers as numpy's."""
    if name in NAMES:
        joined = pq.ParquetFile(file).read([name]).column(0).combine_chunks()
        return joined.chunk(0) if isinstance(joined, pa.ChunkedArray) else joined
    reader = pq.ParquetFile(file, read_dictionary=[name])
    kind = reader.schema_arrow.field(name).type
    if pa.types.is_dictionary(kind):
        column = reader.read([name]).column(0).unify_dictionaries()
        return _words(column, name)
    groups = [reader.read_row_group(number, [name]).column(0).to_numpy() for number in range(reader.num_row_groups)]
    whole = np.concatenate(groups) if groups else np.empty(0, np.float32)
    if pa.types.is_floating(kind):
        return whole.astype(np.float32)
    return whole.astype(np.int32) if whole.dtype.kind in "iu" else whole.astype(np.float32)


def _words(column: Any, name: str) -> Words:
    found = column.chunk(0).dictionary.to_pylist() if column.num_chunks else []
    first = list(ORDER.get(name, ()))
    of = sorted({*found, ""}, key=lambda text: (text not in first, first.index(text) if text in first else 0, text == "", text))
    new = np.array([of.index(text) for text in found] + [of.index("")], np.int32)
    codes = [new[np.asarray(pc.fill_null(chunk.indices, len(found)))] for chunk in column.chunks]
    code = np.concatenate(codes) if codes else np.empty(0, np.int32)
    return Words(of, code.astype(np.int16) if len(of) < 2**15 else code)
