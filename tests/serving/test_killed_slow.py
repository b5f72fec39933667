"""A server that is killed in the middle of verdicts: what it acknowledged is there, whole; nothing else is half there."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from ecgbatch.upkeep.verify import verify_workspace
from ecgbatch.workspace.reviews import read_reviews, review_problems
from tests.serving.served import form_of

pytestmark = pytest.mark.slow
COMMAND = str(Path(sys.executable).with_name("ecgbatch"))


@contextmanager
def serving(work: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """Yield a server's process, and the address that it printed for each reader."""
    program = [sys.executable, "-c", "from ecgbatch.cli import main; main()"]
    process = subprocess.Popen(
        [*program, "serve", str(work), *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        names = [option for option, before in zip(options[1:], options, strict=False) if before == "--invite"]
        printed = dict(process.stdout.readline().strip().split(": ", 1) for _ in names)
        assert list(printed) == names
        yield process, printed
    finally:
        process.kill()
        process.communicate()


def enter(address: str) -> httpx.Client:
    home = address.split("/enter", maxsplit=1)[0]
    browser = httpx.Client(base_url=home, headers={"origin": home}, trust_env=False, timeout=180)
    assert browser.get(address).status_code == 200
    return browser


def read_on(address: str, key: str, who: str, told: list[str], enough: threading.Event) -> None:
    """Send verdict after verdict until the server is gone; ``told`` gets those that it acknowledged."""
    with closing(enter(address)) as browser:
        form = form_of(browser.get(f"/record/{key}").text)
        for k in range(10_000):
            note = f"{who} {k}"
            try:
                answer = browser.post(f"/record/{key}/review", data=form | {"opinion": "agree", "note": note})
            except httpx.TransportError:
                return
            assert answer.status_code == 303, answer.text
            told.append(note)
            if k == 20:
                enough.set()


def test_what_was_acknowledged_before_a_kill_is_kept_whole(work, ran):
    told: list[str] = []
    for number in range(3):
        with serving(work, "--invite", "Ann", "--invite", "Ben") as (process, addresses), ThreadPoolExecutor(2) as pool:
            enough = threading.Event()
            key = f"{ran.run}-2"
            readers = [
                pool.submit(read_on, address, key, f"{name} {number}", told, enough) for name, address in addresses.items()
            ]
            enough.wait(120)
            os.kill(process.pid, signal.SIGKILL)
            for reader in readers:
                reader.result(120)
    kept = [review.note for review in read_reviews(str(work))]
    assert len(told) > 60
    assert set(told) <= set(kept)
    assert len(kept) == len(set(kept))
    assert len(kept) <= len(told) + 6  # at most one a reader and kill that was written and not acknowledged any more
    assert review_problems(str(work)) == []
    assert verify_workspace(str(work)) == {}


def test_a_server_stops_at_sigterm_and_a_taken_port_is_said(work):
    with serving(work, "--invite", "Ann") as (process, addresses):
        port = re.search(r":(\d+)/", addresses["Ann"])[1]
        with serving(work, "--port", port) as (second, _):
            _, said = second.communicate(timeout=180)
            assert second.returncode == 1
            assert "cannot be listened on" in said
            assert "Traceback" not in said
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=180)
        assert process.returncode == 143
        assert "Traceback" not in said
