"""What is typed wrong is said at once, with exit code 2, and nothing is done; what cannot be undone is asked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ecgbatch import __version__, cli
from ecgbatch.cli.exit_codes import FAILED, OK, USAGE
from ecgbatch.signals.stage import convert_archive
from ecgbatch.synthetic.archive import ArchiveShape, write_archive
from tests.cli.test_end_to_end import COMMAND


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("usage") / "archive"
    write_archive(folder, ArchiveShape(n_records=4, duration_s=10.0), seed=2)
    return folder


def said(capsys, *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        cli.main([str(one) for one in arguments])
    told = capsys.readouterr()
    return int(ended.value.code or 0), told.out, told.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--method", "foo"], "robust or kachuee"),
        (["--method", "kachuee"], "mi-12-leads was trained on beats cut by robust"),
        (["--recipe", "kachuee"], "goes with --train"),
        (["--train", "--recipe", "foo"], "one of ecgbatch, ecgbatch-lead-ii, kachuee"),
        (["--model", "mi-13-leads"], "mi-12-leads, mi-lead-ii"),
    ],
)
def test_a_wrong_option_of_run_ends_with_2_names_the_choices_and_does_nothing(archive, tmp_path, capsys, options, words):
    code, _, error = said(capsys, "run", archive, tmp_path / "w", *options)
    assert code == USAGE
    assert words in error
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize("place", ["", " ", " s3://bucket/x", "gs://bucket/x", "S3A:bucket"])
@pytest.mark.parametrize("which", [0, 1])
def test_a_place_that_is_none_is_refused_and_no_folder_is_made(archive, tmp_path, capsys, monkeypatch, place, which):
    """An empty one is a variable of a script that was not set: it would be the folder where the script is called."""
    monkeypatch.chdir(tmp_path)
    places: list[object] = [archive, tmp_path / "w"]
    places[which] = place
    code, _, error = said(capsys, "run", *places)
    assert code == USAGE
    assert "expected a folder or s3://bucket/prefix" in error
    assert list(tmp_path.iterdir()) == []


def test_a_shipped_model_is_known_by_its_name(archive, tmp_path, capsys):
    code, out, _ = said(capsys, "run", archive, tmp_path / "w", "--model", "mi-lead-ii", "--dry-run", "--json")
    assert code == OK
    assert json.loads(out)


def test_a_label_table_of_another_archive_is_wrong_usage_and_one_that_matches_some_is_counted(archive, tmp_path, capsys):
    name = (archive / "RECORDS").read_text().split()[0]
    table = tmp_path / "labels.csv"
    table.write_text("record,patient_id,label\nelsewhere/100,p1,mi\n")
    code, _, error = said(capsys, "convert", archive, tmp_path / "w", "--labels", table)
    assert code == USAGE
    assert "elsewhere/100" in error
    assert name in error
    table.write_text(f"record,patient_id,label\nelsewhere/100,p1,mi\n{name},p2,mi\n")
    code, out, _ = said(capsys, "convert", archive, tmp_path / "w", "--labels", table, "--json")
    assert code == OK
    assert json.loads(out)["labels"] == {"matched": 1, "unmatched": 1}


def test_erase_asks_and_a_dry_run_of_it_changes_nothing(archive, tmp_path, capsys, monkeypatch):
    work = tmp_path / "w"
    convert_archive(str(archive), str(work))
    name = (archive / "RECORDS").read_text().split()[0]
    who = name.split("/")[0]
    before = sorted(path for path in work.rglob("*"))
    code, out, _ = said(capsys, "erase", work, "--patient", who, "--dry-run", "--json")
    assert code == OK
    assert name in json.loads(out)["records"]
    code, _, error = said(capsys, "erase", work, "--patient", who)
    assert code == USAGE
    assert "--yes" in error
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.confirm", refuse)
    code, _, _ = said(capsys, "erase", work, "--patient", who)
    assert code != OK
    assert sorted(path for path in work.rglob("*")) == before
    code, out, _ = said(capsys, "erase", work, "--patient", who, "--yes", "--json")
    assert code == OK
    assert json.loads(out)["n_records"] >= 1


def refuse(question: str, **_: object) -> None:
    """Answer no, as somebody at a terminal may."""
    import typer

    assert "for good" in question
    raise typer.Abort


def test_the_version_is_said(capsys):
    code, out, _ = said(capsys, "--version")
    assert (code, out) == (OK, f"ecgbatch {__version__}\n")


def test_the_package_is_a_command_too(tmp_path):
    command = [sys.executable, "-m", "ecgbatch", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (OK, f"ecgbatch {__version__}\n", "")


@pytest.mark.parametrize("which", [0, 1])
def test_a_place_whose_name_is_no_text_is_refused_in_words_and_nothing_is_begun(archive, tmp_path, capsys, which):
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/lat\xfc"))
    places: list[Path] = [archive, tmp_path / "w"]
    places[which] = odd
    code, _, error = said(capsys, "run", *places)
    assert code == USAGE
    assert "expected a path that is UTF-8" in error
    assert "lat\\udcfc" in error
    assert not (tmp_path / "w").exists()
    assert not odd.exists()


def process_of(*arguments: object, here: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    known = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **environment}
    known |= {name: value for name, value in os.environ.items() if name in ("PYTHONPATH", "XDG_CACHE_HOME")}
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, cwd=here, env=known, capture_output=True, text=True, check=False, timeout=120)


def test_letters_that_the_locale_does_not_know_are_printed_as_codes(archive, tmp_path):
    work = tmp_path / "work"
    convert_archive(str(Path(shutil.copytree(archive, tmp_path / "ü"))), str(work))
    done = process_of("status", work, here=tmp_path, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert done.returncode == OK, done.stderr
    assert "\\xfc" in done.stdout


def test_a_folder_that_goes_under_the_command_is_said(archive, tmp_path):
    here = tmp_path / "here"
    here.mkdir()
    script = f"cd '{here}' && rmdir '{here}' && exec \"$@\""
    command = ["sh", "-c", script, "sh", *COMMAND, "inspect", "../archive"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == FAILED
    assert "The folder in which this command was called is gone" in done.stderr
    assert "Traceback" not in done.stderr
