"""What of ``test_end_to_end`` takes long."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from ecgbatch.synthetic.archive import ArchiveShape, write_archive
from flows.cluster import LEAST_TO_REPORT
from storage import verify_store
from tests.cli import test_end_to_end
from tests.cli.test_end_to_end import COMMAND, ecgbatch, store_digests

pytestmark = pytest.mark.slow

archive, short_training, ran = test_end_to_end.archive, test_end_to_end.short_training, test_end_to_end.ran
"""Fixtures of both."""


def test_demo_makes_a_cohort_page_that_says_synthetic(tmp_path):
    said = ecgbatch("demo", tmp_path / "out")
    assert "ynthetic" in Path(said["cohort"]).read_text()
    assert said["counts"]["n_scored"] == said["counts"]["n_records"] == 60


def test_a_thousand_records_are_measured_and_reported_in_processes(tmp_path):
    shape = ArchiveShape(n_records=64 * LEAST_TO_REPORT, duration_s=6.0, sampling_frequency_hz=250, n_leads=12)
    write_archive(tmp_path / "archive", shape)
    said = ecgbatch("run", tmp_path / "archive", tmp_path / "work", "--pages", "all")
    assert said["counts"]["n_scored"] == said["counts"]["n_records"] == shape.n_records
    assert len(list(Path(said["cohort"]).parent.glob("records/*.html"))) == shape.n_records


@pytest.mark.parametrize(("stage", "delay_s"), [("convert", 1.4), ("convert", 1.8), ("beats", 2.5), ("beats", 3.5)])
def test_kill_and_the_same_command_give_the_same_bytes(archive, ran, tmp_path, stage, delay_s):
    """SIGKILL at some instant of convert or beats; whatever it hit, the same command completes to the same bytes."""
    work, _ = ran
    commands = {"convert": [str(archive), str(tmp_path)], "beats": [str(tmp_path)]}
    if stage == "beats":
        ecgbatch("convert", *commands["convert"])
    process = subprocess.Popen([*COMMAND, stage, *commands[stage]], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    time.sleep(delay_s)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    for store in tmp_path.glob("*/*.zarr"):
        assert verify_store(store, read_data=True) == []
    ecgbatch(stage, *commands[stage])
    made = store_digests(tmp_path)
    assert made == {name: digest for name, digest in store_digests(work).items() if name in made}
