"""scores.parquet holds the waves of the twelve standard leads, as their stores do, in the order of its own rows."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

from ecgbatch.measurements.quantities import LEAD_QUANTITIES
from ecgbatch.reports import tables
from ecgbatch.reports.lead_columns import LEAD_COLUMNS, LeadValues
from ecgbatch.reports.writing import report_workspace
from ecgbatch.terms import LEADS
from ecgbatch.workspace.privacy import workspace_pseudonyms
from storage import folder_at, open_store
from tests.reports.report_runs import reported_run


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> SimpleNamespace:
    return reported_run(tmp_path_factory.mktemp("lead-columns"))


def assert_as_stored(ran: SimpleNamespace, folder: Path, shown: list[str]) -> None:
    """The table's columns, looked up by the name that it shows of each record, are those of the store."""
    import pyarrow.parquet as pq

    table, n_known = pq.read_table(folder / "scores.parquet"), 0
    row_of = {name: row for row, name in enumerate(table["record_name"].to_pylist())}
    for place, name in enumerate(shown):
        digest, row = str(ran.scores["measurements_store"].values[place]), int(ran.scores["beats_row"].values[place])
        stored = open_store(Path(ran.work, "measurements", f"{digest}.zarr")).isel(record=row)
        leads = stored["lead"].values.tolist()
        for column in LEAD_COLUMNS:
            quantity, lead = column.rsplit("_", 1)
            found = table[column][row_of[name]].as_py()
            expected = float(stored[quantity].values[leads.index(lead)])
            assert found == (None if np.isnan(expected) else expected), (name, column)
            n_known += found is not None
    assert n_known > 50 * len(shown)


def test_columns_are_named_by_quantity_and_lead_and_say_what_they_are(ran):
    import pyarrow as pa
    import pyarrow.parquet as pq

    assert list(LEAD_COLUMNS) == [f"{name}_{lead}" for name in LEAD_QUANTITIES for lead in LEADS[:12]]
    schema = pq.read_schema(ran.folder / "scores.parquet")
    for name, meaning in LEAD_COLUMNS.items():
        assert schema.field(name).type == pa.float32()
        assert schema.field(name).metadata[b"description"].decode() == meaning


def test_values_are_those_of_the_store_that_the_scores_name(ran):
    assert_as_stored(ran, ran.folder, ran.names)


def test_pseudonymous_tables_hold_each_records_own_values_in_their_own_order_and_name_no_row(ran):
    import pyarrow.parquet as pq

    folder = Path(report_workspace(ran.work, ran.run, pseudonymise=True)["reports"])
    shown = [workspace_pseudonyms(ran.work).record(name) for name in ran.names]
    assert sorted(shown) != shown
    assert_as_stored(ran, folder, shown)
    assert set(pq.read_table(folder / "scores.parquet")["beats_row"].to_pylist()) == {None}


def test_rows_are_read_in_groups_and_records_without_measurements_are_null(ran, monkeypatch):
    import io

    import pyarrow.parquet as pq

    monkeypatch.setattr(tables, "_ROWS_OF_GROUP", 3)
    store = ran.scores["measurements_store"].values.copy()
    store[4] = ""
    facts = {"slug": np.array([ran.slugs[name] for name in ran.names])}
    scores = xr.Dataset({"record_name": ran.scores["record_name"]})
    monkeypatch.setattr(tables, "COLUMNS", {"record_name": ""})
    options = {"run": "r", "model": {"digest": "d"}, "created": "", "archive": "a", "is_synthetic": True}
    leads = LeadValues(folder_at(ran.work), store, ran.scores["beats_row"].values)
    file = pq.ParquetFile(io.BytesIO(tables.parquet_table(tables.Table(scores, facts), options, leads)))
    assert file.num_row_groups == 4
    whole = pq.read_table(ran.folder / "scores.parquet")
    for name in LEAD_COLUMNS:
        expected = whole[name].to_pylist()
        expected[4] = None
        assert file.read()[name].to_pylist() == expected
