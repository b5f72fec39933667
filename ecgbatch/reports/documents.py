"""All records' reports as data: ``records.parquet``, a row a record, its whole JSON beside the columns by which one finds it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ecgbatch.reports.record import SCHEMA_VERSION, Edition
from ecgbatch.terms import NOTICE
from storage import Folder

FILE = "records.parquet"
"""In the folder of a run's reports."""

COLUMNS: Mapping[str, str] = {
    "record_name": "path of the header below the archive, without .hea",
    "patient_id": "patient identifier",
    "status": "of its files: ok, partial (some leads missing) or set_aside (they cannot be used)",
    "reason": "code of why it is set aside, not scorable or partial",
    "decision": "mi_indicated, mi_not_indicated, indeterminate or not_scorable (set aside, or too few beats or leads)",
    "label": "reference label: mi, control, other or unknown",
    "mi_probability": "probability of myocardial infarction; null where not scored",
    "report": "path of the record's page, from the folder of this table; empty where none was made",
    "report_digest": "digest of what the report shows: equal digests show the same",
    "json": "the record's whole report under record.json of docs/schema: the very text of its JSON file, where there is one",
}
"""Columns of ``records.parquet``, in order."""

_ROWS_OF_GROUP = 1024  # held at once: about ten megabytes of JSON

Document = tuple[Any, ...]
"""A row of ``records.parquet``: the values of ``COLUMNS``."""


def document_row(report: Mapping[str, Any], text: str, slug: str) -> Document:
    """Return a record's row: its report, that report's JSON, and the file name of its page, empty where there is none."""
    found = {
        **{name: report.get(name) for name in COLUMNS},
        "label": report.get("label", "unknown"),
        "report": f"records/{slug}.html" if slug else "",
        "report_digest": report["provenance"]["report_digest"],
        "json": text,
    }
    return tuple(_utf8(found[name]) for name in COLUMNS)


class RecordsFile:
    """``records.parquet`` while it is written: blocks of rows may come in any order, and are written in that of their numbers."""

    def __init__(self, writer: Any) -> None:
        self._writer, self._next = writer, 0
        self._early: dict[int, Sequence[Document]] = {}
        self._rows: list[Document] = []

    def add(self, number: int, rows: Sequence[Document]) -> None:
        """Add the block of this number; one that comes before its turn waits for it."""
        self._early[number] = rows
        while self._next in self._early:
            self._rows += self._early.pop(self._next)
            self._next += 1
            if len(self._rows) >= _ROWS_OF_GROUP:
                self.flush()

    def flush(self) -> None:
        """Write the rows that are held."""
        import pyarrow as pa

        if self._rows:
            schema = self._writer.schema
            columns = zip(zip(*self._rows, strict=True), schema.types, strict=True)
            self._writer.write_table(pa.Table.from_arrays([pa.array(*column) for column in columns], schema=schema))
            self._rows = []
            pa.default_memory_pool().release_unused()


@contextmanager
def records_file(folder: Folder, edition: Edition) -> Iterator[RecordsFile]:
    """Yield the ``records.parquet`` of an edition's run to write into; it is there whole when all blocks are, or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    stated = {
        "run": edition.run,
        "model": edition.model["digest"],
        "created": edition.created,
        "notice": NOTICE,
        "archive": _utf8(edition.archive),
        "is_synthetic": str(bool(edition.is_synthetic)).lower(),
        "schema_version": str(SCHEMA_VERSION),
    }
    fields = [
        pa.field(name, pa.float32() if name == "mi_probability" else pa.string(), metadata={"description": words})
        for name, words in COLUMNS.items()
    ]
    with folder.stream(f"reports/{edition.run}/{FILE}") as file:
        plain = [name for name in COLUMNS if name != "json"]
        with pq.ParquetWriter(file, pa.schema(fields, metadata=stated), compression="zstd", use_dictionary=plain) as writer:
            rows = RecordsFile(writer)
            yield rows
            rows.flush()


def _utf8(value: Any) -> Any:
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
