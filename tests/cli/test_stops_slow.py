"""Stops (Ctrl-C, SIGTERM, a closed terminal) of every command that works on a workspace: one sentence, the right exit code, and
the next one goes on."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pytest

from ecgbatch.cli.exit_codes import OK, STOPPED, STOPPED_MESSAGE, TERMINATED
from ecgbatch.model.files import load_model, shipped_model
from ecgbatch.synthetic.archive import ArchiveShape, write_archive
from ecgbatch.upkeep.verify import verify_workspace
from tests.cli.test_end_to_end import COMMAND

pytestmark = pytest.mark.slow

STAGES = {
    "convert": ["convert", "{archive}", "{work}", "--rehash"],
    "beats": ["beats", "{work}"],
    "measure": ["measure", "{work}"],
    "score": ["score", "{work}", "--model", str(shipped_model())],
    "report": ["report", "{work}"],
    "verify": ["verify", "{work}"],
    "gc": ["gc", "{work}", "--unfinished"],
}
BEFORE = {
    "convert": ("signals", "peaks", "beats", "measurements", "scores"),
    "beats": ("peaks", "beats", "measurements", "scores"),
}
BEFORE |= {"measure": ("measurements", "scores"), "score": ("scores",), "report": ("reports",)}
"""Kinds that a stage is to make anew."""

CODES = {signal.SIGINT: STOPPED, signal.SIGTERM: TERMINATED, signal.SIGKILL: -signal.SIGKILL}
"""Exit code of a command that the signal stopped."""


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("stops") / "archive"
    write_archive(folder, ArchiveShape(n_records=12, duration_s=20.0), seed=5)
    return folder


@pytest.fixture(scope="module")
def whole(archive, tmp_path_factory) -> Path:
    work = tmp_path_factory.mktemp("stops") / "work"
    done = ended(["run", "{archive}", "{work}"], archive, work)
    assert done.returncode == OK, done.stderr
    return work


def spelled(words: list[str], archive: Path, work: Path) -> list[str]:
    return [*COMMAND, *(word.format(archive=archive, work=work) for word in words)]


def ended(words: list[str], archive: Path, work: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(spelled(words, archive, work), capture_output=True, text=True, check=False, timeout=500)


def workspace_before(stage: str, whole: Path, work: Path) -> Path:
    shutil.copytree(whole, work, symlinks=True)
    for kind in BEFORE.get(stage, ()):
        shutil.rmtree(work / kind)
    if stage == "gc":  # what dead runs left
        for number in range(400):
            left = work / ".build" / f"signals-{number:020d}" / "receipts"
            left.mkdir(parents=True)
            (left / "00000000.json").write_text("{}")
            (left / "00000001.json").write_text("{}")
    return work


@contextmanager
def started(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """Start a command in a session of its own; it ends with the test, which would wait for it for good."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True) as running:
        try:
            yield running
        finally:
            running.kill()


def stopped(command: list[str], number: signal.Signals, work: Path, after_s: float) -> tuple[int, str]:
    """Start a command, send the signal so many seconds after it has taken the workspace or begun to read, and return its end."""
    began = time.time()
    with started(command) as running:
        lock = work / ".build" / "lock"
        patience = time.monotonic() + 60
        while running.poll() is None and time.monotonic() < patience and not (lock.exists() and lock.stat().st_mtime >= began):
            if "verify" in command and time.time() - began > 3:
                break  # it takes no lock
            time.sleep(0.02)
        time.sleep(after_s)
        if running.poll() is None:
            os.kill(running.pid, number)
        _, said = running.communicate(timeout=120)
    return running.returncode, said


@pytest.mark.parametrize("number", list(CODES), ids=lambda number: number.name)
@pytest.mark.parametrize("stage", list(STAGES))
def test_a_stopped_command_says_one_sentence_and_the_next_one_goes_on(stage, number, archive, whole, tmp_path):
    after_s = random.Random(f"{stage} {number}").uniform(0.0, 0.6)
    work = workspace_before(stage, whole, tmp_path / "work")
    command = spelled(STAGES[stage], archive, work)
    code, said = stopped(command, number, work, after_s)
    assert code in (OK, CODES[number]), said
    assert "Traceback" not in said
    assert said.count(STOPPED_MESSAGE) == (code in (STOPPED, TERMINATED))
    problems = [problem for each in verify_workspace(str(work)).values() for problem in each] if stage in ("gc", "verify") else []
    assert problems == []
    again = ended(STAGES[stage], archive, work)
    assert again.returncode == OK, again.stderr
    if stage == "gc":
        assert not list((work / ".build").glob("signals-*"))
        return
    last = ended(["run", "{archive}", "{work}"], archive, work)
    assert last.returncode == OK, last.stderr
    assert verify_workspace(str(work)) == {}
    for kind in ("signals", "beats", "scores"):
        assert sorted(path.name for path in (work / kind).iterdir()) == sorted(path.name for path in (whole / kind).iterdir())


INTERRUPTED = """
import sys
class Interrupting:
    def find_spec(name, *_):
        if name == "ecgbatch.cli.process": raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupting)
from ecgbatch.cli import main
main(["--version"])
"""


def test_ctrl_c_while_a_command_still_starts_is_the_same_sentence():
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (STOPPED, f"{STOPPED_MESSAGE}\n")


ENDS = {**CODES, signal.SIGHUP: TERMINATED}


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> Path:
    """A workspace with as many patients as training wants, prepared."""
    top = tmp_path_factory.mktemp("training")
    archive, work = top / "archive", top / "work"
    write_archive(archive, ArchiveShape(n_records=24, duration_s=10.0), seed=5)
    for words in (["convert", "{archive}", "{work}"], ["beats", "{work}"]):
        done = ended(words, archive, work)
        assert done.returncode == OK, done.stderr
    return work


def of_session(leader: int) -> list[psutil.Process]:
    """Return the processes that are left of a session."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def nobody_left(leader: int) -> bool:
    """Wait for what a command started to end, as it does by itself when whoever asked it is gone."""
    patience = time.monotonic() + 60
    while (left := of_session(leader)) and time.monotonic() < patience:
        time.sleep(0.2)
    return not left


def assert_ended_by(number: signal.Signals, running: subprocess.Popen[str], said: str) -> None:
    assert running.returncode == ENDS[number], said
    assert "Traceback" not in said
    assert said.count(STOPPED_MESSAGE) == (number != signal.SIGKILL)
    assert nobody_left(running.pid)


@pytest.mark.parametrize("number", list(ENDS), ids=lambda number: number.name)
def test_a_stopped_training_leaves_no_process_and_no_half_model_and_the_next_one_goes_on(number, labelled, tmp_path):
    work, out = shutil.copytree(labelled, tmp_path / "work", symlinks=True), tmp_path / "model"
    words = ["train", str(work), "--out", str(out)]
    began = time.time()
    with started([*COMMAND, *words]) as running:
        lock = work / ".build" / "lock"
        patience = time.monotonic() + 60
        while running.poll() is None and time.monotonic() < patience and not (lock.exists() and lock.stat().st_mtime >= began):
            time.sleep(0.02)
        time.sleep(random.Random(f"train {number}").uniform(0.0, 12.0))
        os.kill(running.pid, number)
        _, said = running.communicate(timeout=120)
    assert_ended_by(number, running, said)
    assert not out.exists()
    assert verify_workspace(str(work)) == {}
    if number == signal.SIGKILL:  # the one that could leave most behind
        again = ended(words, work, work)
        assert again.returncode == OK, again.stderr
        assert load_model(out).digest


@pytest.mark.parametrize("number", list(ENDS), ids=lambda number: number.name)
def test_a_stopped_server_of_a_workspace_ends_at_once_and_answered_from_its_first_word(number, whole):
    with started([*COMMAND, "serve", str(whole)]) as running:
        address = running.stdout.readline().split()[-1]
        with httpx.Client(trust_env=False, timeout=60) as browser:
            assert browser.get(address).status_code < 400
        os.kill(running.pid, number)
        _, said = running.communicate(timeout=60)
    assert_ended_by(number, running, said)
    assert verify_workspace(str(whole)) == {}
