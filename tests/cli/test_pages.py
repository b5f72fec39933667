"""Which records have a page is said to the command line, and one page is made when somebody asks for it."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ecgbatch.cli import main
from ecgbatch.synthetic.archive import ArchiveShape, write_archive


def test_a_run_without_pages_has_all_reports_and_makes_one_page_when_asked(tmp_path: Path, capsys) -> None:
    def ecgbatch(*arguments: str) -> int:
        with pytest.raises(SystemExit) as ended:
            main([*arguments])
        return int(ended.value.code or 0)

    write_archive(tmp_path / "archive", ArchiveShape(n_records=2, duration_s=6.0, sampling_frequency_hz=250.0))
    work = str(tmp_path / "work")
    assert ecgbatch("run", str(tmp_path / "archive"), work, "--pages", "none", "--json") == 0
    folder = Path(json.loads(capsys.readouterr().out)["reports"])
    assert not list(folder.glob("records/*"))
    rows = pq.read_table(folder / "records.parquet").to_pylist()
    name = rows[0]["record_name"]
    assert ecgbatch("report", work, "--record", name, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert json.loads(Path(said["json"]).read_text()) == json.loads(rows[0]["json"])
    assert name in Path(said["page"]).read_text()
    assert ecgbatch("verify", work, "--json") == 0
    capsys.readouterr()
    assert ecgbatch("report", work, "--record", "nobody") == 1
    assert "found none named 'nobody'" in capsys.readouterr().err
    assert ecgbatch("run", str(tmp_path / "archive"), work, "--pages", "some") == 2
