"""A signal ends a command at whatever moment it comes."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

IN_A_CALLBACK = """
import ctypes, signal, sys, time
from ecgbatch.cli.process import Terminated, hear_signals

hear_signals()
callback = ctypes.CFUNCTYPE(None)(lambda: signal.raise_signal(int(sys.argv[1])))
try:
    callback()
    print("lost", flush=True)
    time.sleep(30)
except (KeyboardInterrupt, Terminated) as error:
    print(type(error).__name__)
"""


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGINT, "KeyboardInterrupt"), (signal.SIGTERM, "Terminated"), (signal.SIGHUP, "Terminated")]
)
def test_a_signal_in_a_callback_of_machine_code_is_not_lost(number: signal.Signals, raised: str) -> None:
    command = [sys.executable, "-c", IN_A_CALLBACK, str(int(number))]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    assert done.stdout.split() == ["lost", raised]
    assert not done.stderr
