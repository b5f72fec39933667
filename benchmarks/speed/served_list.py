"""How fast, and in how much memory, ``ecgbatch serve`` searches, filters and sorts a list of many records; beside DuckDB."""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import resource
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from ecgbatch.reports.tables import COLUMNS
from storage import folder_at

ROWS_OF_GROUP = 65_536  # as reports write them

ASKED: dict[str, tuple[dict[str, str], str]] = {
    "first page": ({}, "order by needs_look_rank"),
    "filter": (
        {"decision": "mi_indicated", "sex": "female"},
        "where decision='mi_indicated' and sex='female' order by needs_look_rank",
    ),
    "range": ({"mi_probability": "0.4..0.6"}, "where mi_probability between 0.4 and 0.6 order by needs_look_rank"),
    "search": ({"q": "s77777"}, "where record_name ilike '%s77777%' or patient_id ilike '%s77777%' order by needs_look_rank"),
    "sort by number": ({"sort": "-qrs_ms"}, "order by qrs_ms desc nulls last, needs_look_rank"),
    "sort by name": ({"sort": "record_name"}, "order by record_name"),
    "sort by word": ({"sort": "label"}, "order by label, needs_look_rank"),
}
"""Name to what an address asks, and the same for DuckDB."""


def write_table(path: Path, n_records: int) -> None:
    """Write a table as large as a run of so many records has; values are random."""
    random = np.random.default_rng(1)
    words = {
        "decision": ["mi_indicated", "mi_not_indicated", "indeterminate", "not_scorable"],
        "label": ["mi", "control", "other", "unknown"],
        "sex": ["female", "male", "unknown"],
        "quality": ["good", "remarks", "not_usable"],
        "needs_look": ["mi_indicated", "contradicted", "nothing"],
    }
    numbers = {"mi_probability", "probability_low", "probability_high", "age_years", "heart_rate_bpm", "qrs_ms", "st_largest_mv"}
    numbers |= {"qtc_fridericia_ms", "axis_qrs_deg"}
    rank = random.permutation(n_records) + 1

    def column(name: str, rows: range) -> Any:
        n = len(rows)
        if name == "record_name":
            return pa.array([f"patient{k // 2:06d}/s{k:07d}_re" for k in rows])
        if name == "patient_id":
            return pa.array([f"patient{k // 2:06d}" for k in rows])
        if name == "report":
            return pa.array([f"records/patient{k // 2:06d}__s{k:07d}_re.html" for k in rows])
        if name == "needs_look_rank":
            return pa.array(rank[rows.start : rows.stop])
        if name in words:
            return pa.array(np.array(words[name])[random.integers(0, len(words[name]), n)])
        if name.startswith("n_"):
            return pa.array(random.integers(0, 15, n).astype(np.int32))
        if name in numbers:
            return pa.array(random.random(n).astype(np.float32), mask=random.random(n) < 0.05)
        return pa.array(np.where(random.random(n) < 0.1, "noisy", "").astype(object), pa.string())

    path.parent.mkdir(parents=True)
    writer = None
    for start in range(0, n_records, ROWS_OF_GROUP):
        rows = range(start, min(start + ROWS_OF_GROUP, n_records))
        table = pa.table({name: column(name, rows) for name in COLUMNS})
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def timed(call: Callable[[], Any]) -> str:
    """Return the seconds of a call, and those that it kept processors busy: beside other work the latter are the truer."""
    started, busy = perf_counter(), process_time()
    call()
    return f"{perf_counter() - started:.3f} s ({process_time() - busy:.3f} of processors)"


def rss_mb() -> float:
    """Return the memory of this process, MB."""
    return psutil.Process().memory_info().rss / 1e6


def of_ours(work: Path, run: str) -> None:
    """Print what the server's own list takes."""
    from ecgbatch.serving.listing import ROWS, Choice, Listed

    before = rss_mb()
    started = perf_counter()
    listed = Listed(folder_at(work), run)
    print(f"held in memory: opened once in {perf_counter() - started:.2f} s, {rss_mb() - before:.0f} MB more")
    for name, (asked, _) in ASKED.items():
        choice = Choice.of(asked, listed.names)

        def page(choice: Choice = choice) -> None:
            listed.rows(listed.places(choice)[:ROWS])

        print(f"  {name}: {timed(page)}, again {timed(page)}")
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(f"  process: {rss_mb():.0f} MB, at most {most:.0f} MB")


def ask(connection: Any, *queries: str) -> None:
    """Ask DuckDB, and take all rows."""
    for query in queries:
        connection.execute(query).fetchall()


def of_duckdb(path: Path) -> None:
    """Print what DuckDB takes on the file itself."""
    import duckdb

    before = rss_mb()
    connection = duckdb.connect()
    for name, (_, clause) in ASKED.items():
        order = f"select record_name, patient_id, decision, mi_probability, qrs_ms, label from '{path}' {clause} limit 100"
        count = f"select count(*) from '{path}' {clause.split('order by')[0]}"
        print(f"  {name}: {timed(partial(ask, connection, order, count))}")
    print(f"  {rss_mb() - before:.0f} MB more")


def apart(measure: Callable[..., None], *arguments: Any) -> None:
    """Measure in a process of its own, whose memory nothing else has used."""
    process = multiprocessing.get_context("spawn").Process(target=measure, args=arguments)
    process.start()
    process.join()


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = "a" * 20
        path = Path(folder) / "reports" / run / "scores.parquet"
        write_table(path, asked.records)
        print(f"{asked.records:,} records, {path.stat().st_size / 1e6:.0f} MB of Parquet")
        apart(of_ours, Path(folder), run)
        if importlib.util.find_spec("duckdb"):
            print("DuckDB on the file:")
            apart(of_duckdb, path)
        else:
            print("DuckDB: not installed")


if __name__ == "__main__":
    main()
