"""The table of beats of 187 columns: what is written is what is stored, and what is read is what was written."""

from __future__ import annotations

import json
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pytest

from ecgbatch import cli
from ecgbatch.beats.record import KACHUEE_STEP
from ecgbatch.beats.table import read_beat_table
from ecgbatch.signals.lookup import current_records
from ecgbatch.synthetic.archive import ArchiveShape, write_archive
from ecgbatch.terms import LABEL
from storage import list_stores, open_store

ROW = ",".join(["0.5"] * 187)


def command(*arguments: str | Path) -> dict[str, object]:
    with pytest.raises(SystemExit), redirect_stdout(StringIO()) as out:
        cli.main([*map(str, arguments), "--workers", "1", "--json"])
    printed: dict[str, object] = json.loads(out.getvalue())
    return printed


def test_beats_come_back_from_the_table_as_they_are_stored(tmp_path: Path) -> None:
    write_archive(
        tmp_path / "a", ArchiveShape(n_records=4, duration_s=21.0, sampling_frequency_hz=250.0, other_share=0.25), seed=3
    )
    work, table = tmp_path / "w", tmp_path / "beats.csv"
    command("convert", tmp_path / "a", work)
    said = command("beats", work, "--method", "kachuee", "--csv", table)
    (path,) = list_stores(str(work), "beats")
    beats, records = open_store(path).load(), current_records(str(work))
    expected, labels = [], []
    for row in records["signals_row"].values.tolist():
        label = int(beats["label"].values[row]) if "label" in beats else int(records["label"].values[row])
        first, n = int(beats["first_beat"].values[row]), int(beats["n_beats"].values[row])
        if label in {LABEL["mi"], LABEL["control"]}:
            expected.append(beats["waveform"].values[first : first + n, beats["lead"].values.tolist().index("II")])
            labels += [int(label == LABEL["mi"])] * n
    read = read_beat_table(table)
    np.testing.assert_array_equal(np.rint(read["waveform"].values / KACHUEE_STEP), np.concatenate(expected))
    assert read["label"].values.tolist() == labels
    assert said["n_beats_in_table"] == len(labels) > 0


def test_published_spelling_is_read_with_and_without_labels(tmp_path: Path) -> None:
    row = ",".join(["1.000000000000000000e+00", *["9.003241658210754395e-01"] * 186])
    (tmp_path / "t.csv").write_text(f"{row},0.000000000000000000e+00\r\n{row},4\n\n")
    read = read_beat_table(tmp_path / "t.csv")
    assert read.sizes == {"beat": 2, "sample": 187}
    assert read["label"].values.tolist() == [0, 4]
    assert read["waveform"].values[1, 1] == np.float32(0.9003241658210754)
    (tmp_path / "t.csv").write_text(row)
    assert read_beat_table(tmp_path / "t.csv")["label"].values.tolist() == [-1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a row a beat, found none"),
        ("0,1\n", "line 1: expected 187 or one more columns, found 2"),
        (f"{ROW}\n{ROW},1\n", "line 2: expected 187 columns, found 188"),
        (f"{ROW},1,1\n", "line 1: expected 187 or one more columns, found 189"),
        (f"{ROW},5\n", "line 1: expected a label from 0 to 4"),
        (f"{ROW},0.5\n", "line 1: expected a label from 0 to 4"),
        (f"{ROW.replace('0.5', '1.5', 1)},1\n", "line 1: expected values from 0 to 1, found 1.5 in column 1"),
        (f"{ROW.replace('0.5', 'nan', 1)}\n", "found nan in column 1"),
        (f"{ROW.replace('0.5', '', 1)}\n", "expected numbers separated by commas"),
        (f"{ROW.replace(',', ';')}\n", "expected numbers separated by commas"),
        ("time,lead\n", "expected numbers separated by commas"),
        ("ü\n", "expected numbers separated by commas"),
        ("0," * 100_000, "expected numbers|expected 187"),
    ],
)
def test_what_is_no_table_of_beats_is_refused_by_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ValueError, match=rf"t\.csv.*({message})"):
        read_beat_table(tmp_path / "t.csv")


def test_table_that_is_not_there_or_is_a_folder_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(ValueError, match="expected a table of beats"):
            read_beat_table(path)
