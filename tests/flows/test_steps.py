"""Steps are plain calls where no server of Prefect is named, flow runs where one is: the same bytes either way."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ecgbatch.synthetic.archive import ArchiveShape, write_archive
from flows import plain, steps
from flows.plain import as_flow_runs, without_prefect
from flows.steps import Step, flow, is_prefects_run, task
from storage import StoreError

COMMAND = [sys.executable, "-c", "from ecgbatch.cli import main; main()"]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    write_archive(tmp_path / "archive", ArchiveShape(n_records=3, duration_s=6.0, sampling_frequency_hz=250.0))
    return tmp_path / "archive"


def ecgbatch(home: Path, *arguments: str | Path, **settings: str) -> dict[str, Any]:
    """Return the JSON of a command in a process of its own, with a home and a folder of its own."""
    home.mkdir(exist_ok=True)
    known = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")}
    # what is compiled stays where it is: another home has none
    cache = {"XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))}
    done = subprocess.run(
        [*COMMAND, *map(str, arguments), "--json"],
        env=known | cache | {"HOME": str(home)} | settings,
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def pages(work: Path) -> dict[str, str]:
    """Return reports and tables but for when they were written; the cohort's pages also say how long the stages took.

    The manifest has the digests of all of them, times included.
    """
    created = re.compile(r"20\d\d-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\+00:00| UTC)?")
    own = [path for path in sorted((work / "reports").rglob("*")) if path.is_file()]
    texts = {
        path: repr(pq.read_table(path).to_pylist()) if path.suffix == ".parquet" else path.read_text()
        for path in own
        if not path.name.startswith(("cohort", "manifest"))
    }
    return {str(path.relative_to(work)): created.sub("then", text) for path, text in texts.items()}


def without_times(record: Any) -> Any:
    """Return a run's record without what says when, how long and in which process."""
    if isinstance(record, dict):
        when = ("seconds", "created", "last_run", "seal", "log")
        return {name: without_times(value) for name, value in record.items() if name not in when}
    return [without_times(value) for value in record] if isinstance(record, list) else record


def test_a_run_with_and_without_prefect_leaves_the_same_bytes(archive: Path, tmp_path: Path) -> None:
    runs = {}
    for name, options in (("plain", []), ("by-prefect", ["--prefect"])):
        work = tmp_path / name
        if runs:  # pseudonyms, and the days that dates are moved by, are each workspace's own
            work.mkdir()
            shutil.copy(tmp_path / "plain" / "pseudonyms.key", work)
        runs[name] = ecgbatch(tmp_path / f"home of {name}", "run", archive, work, *options)
    alone, by_prefect = tmp_path / "plain", tmp_path / "by-prefect"
    assert runs["plain"]["run"] == runs["by-prefect"]["run"]
    assert runs["plain"]["counts"] == runs["by-prefect"]["counts"]
    for room in ("signals", "beats", "measurements", "scores"):
        assert digests(alone / room) == digests(by_prefect / room) != {}
    assert pages(alone) == pages(by_prefect) != {}
    records = [[json.loads(path.read_text()) for path in sorted((work / "runs").glob("*.json"))] for work in (alone, by_prefect)]
    assert json.dumps(without_times(records[0])).replace("/plain", "/by-prefect") == json.dumps(without_times(records[1]))
    assert not (tmp_path / "home of plain" / ".prefect").exists(), "unasked"
    assert (tmp_path / "home of by-prefect" / ".prefect").exists()


IMPORTED = """
import contextlib, io, sys
from ecgbatch.cli import main
def imported(): print(*sorted({"prefect", "torch", "sklearn"} & set(sys.modules)), sep=",")
archive, work = sys.argv[1:]
name = open(archive + "/RECORDS").readline().strip()
for command in (["run", archive, work, "--json"], ["report", work, "--pages", "all"], ["report", work, "--record", name]):
    with contextlib.redirect_stdout(io.StringIO()) as said:
        try: main([*command])
        except SystemExit as error: assert not error.code, said.getvalue()
imported()
import flows.schedule, flows.serving
imported()
"""


def test_what_scores_and_reports_needs_no_pytorch_and_prefect_only_for_nights(archive: Path, tmp_path: Path) -> None:
    known = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")}
    command = [sys.executable, "-c", IMPORTED, str(archive), str(tmp_path / "work")]
    done = subprocess.run(
        command, env=known | {"PREFECT_HOME": str(tmp_path)}, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.split("\n") == ["", "prefect", ""], done.stderr


def failing(n_times: int, error: Exception) -> tuple[Any, list[int]]:
    calls: list[int] = []

    def stage(value: int) -> int:
        calls.append(value)
        if len(calls) <= n_times:
            raise error
        return 2 * value

    return stage, calls


@pytest.mark.parametrize("kind", ["alone", "prefect"])
def test_a_task_is_tried_again_for_the_operating_systems_errors_only(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the task is Prefect's own, called without a run of Prefect's."""
    monkeypatch.setattr(plain, "WAITS_S", (0, 0))
    if kind == "prefect":
        import prefect  # noqa: F401
    else:
        monkeypatch.delitem(sys.modules, "prefect", raising=False)
    for n_times, error, expected in ((2, OSError("gone"), 3), (3, OSError("gone"), 3), (1, ValueError("bug"), 1)):
        stage, calls = failing(n_times, error)
        step = task(stage)
        assert isinstance(step, Step) == (kind == "alone")
        with without_prefect():
            assert not is_prefects_run()
            if n_times < 3 and isinstance(error, OSError):
                assert step(21) == 42
            else:
                with pytest.raises(type(error), match=str(error)):
                    step(21)
        assert len(calls) == expected


def test_an_error_of_a_store_is_the_operating_systems_only_where_it_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "WAITS_S", (0, 0))
    stage, calls = failing(1, StoreError("damaged"))
    with without_prefect(), pytest.raises(StoreError):
        task(stage)(1)
    assert len(calls) == 1


def test_steps_made_without_prefect_are_its_flow_runs_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    import prefect

    monkeypatch.delitem(sys.modules, "prefect")
    step = flow(name="made before")(is_prefects_run)
    monkeypatch.setitem(sys.modules, "prefect", prefect)
    assert isinstance(step, Step)
    assert not step()
    made = []
    monkeypatch.setattr(steps, "_prefects", lambda kind, function, name: made.append((kind, name)) or function)
    with as_flow_runs():
        step()
    assert made == [("flow", "made before")]


def test_flows_are_prefects_own_where_prefect_is_imported_first() -> None:
    import prefect

    step = flow(name="own")(lambda value: value)
    assert isinstance(step, prefect.Flow)
    with without_prefect():
        assert step(3) == 3
    script = "import prefect\nfrom flows import prepare, score, train\n" + "".join(
        f"assert isinstance({name}, prefect.{kind}), {name!r}\n"
        for kind, names in {
            "Flow": ("prepare.prepare_archive", "train.train_model", "score.score_archive", "score.run_archive"),
            "Task": ("prepare.convert", "prepare.beats", "train.train_members", "score.measure", "score.score", "score.report"),
        }.items()
        for name in names
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(
    ("file", "text", "is_named"),
    [
        ("profiles.toml", 'active = "own"\n[profiles.own]\nPREFECT_API_URL = "http://127.0.0.1:9/api"\n', True),
        (
            "profiles.toml",
            'active = "own"\n[profiles.own]\n[profiles.other]\nPREFECT_API_URL = "http://127.0.0.1:9/api"\n',
            False,
        ),
        (".env", "PREFECT_API_URL=http://127.0.0.1:9/api\n", True),
        ("prefect.toml", '[api]\nurl = "http://127.0.0.1:9/api"\n', True),
        ("pyproject.toml", '[tool.prefect.api]\nurl = "http://127.0.0.1:9/api"\n', True),
        ("pyproject.toml", '[project]\nname = "x"\n', False),
        ("other.toml", "", False),
    ],
)
def test_a_server_is_named_where_prefect_would_find_it(tmp_path: Path, file: str, text: str, is_named: bool) -> None:
    (tmp_path / file).write_text(text)
    known = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")}
    script = "from flows.chosen import is_server_named; print(is_server_named())"
    settings = known | {"PREFECT_HOME": str(tmp_path), "PREFECT_PROFILES_PATH": str(tmp_path / "profiles.toml")}
    done = subprocess.run([sys.executable, "-c", script], env=settings, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(is_named)
