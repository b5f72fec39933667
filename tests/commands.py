"""A command of the program in this process: what it proves of a command's work takes a fraction of a process of its own."""

from __future__ import annotations

import json
import os
import signal
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any

import pytest

from ecgbatch import cli

_OWN = (signal.SIGTERM, signal.SIGHUP)
"""Signals that a command takes for itself."""


def said_by(*arguments: object) -> tuple[int, str, str]:
    """Run a command; return its exit code, and what it wrote to the standard output and to the standard error."""
    mask, handlers = os.umask(0o077), [signal.getsignal(number) for number in _OWN]
    try:
        with pytest.raises(SystemExit) as ended, redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as error:
            cli.main([str(argument) for argument in arguments])
    finally:
        os.umask(mask)
        for number, handler in zip(_OWN, handlers, strict=True):
            signal.signal(number, handler)
    return int(ended.value.code or 0), out.getvalue(), error.getvalue()


def result_of(*arguments: object, code: int = 0) -> dict[str, Any]:
    """Run a command with --json, which must end with ``code``; return what it printed."""
    ended, out, error = said_by(*arguments, "--json")
    assert ended == code, error[-2000:] + out[-500:]
    return json.loads(out) if out.strip() else {}
