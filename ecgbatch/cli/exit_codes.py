"""Exit codes of the command line."""

from __future__ import annotations

OK, FAILED, USAGE, SET_ASIDE = 0, 1, 2, 3
"""Fine; failed; wrong usage; done, but some of this command's records are set aside."""

STOPPED, TERMINATED = 130, 143
"""Of a command that was stopped, by Ctrl-C and by SIGTERM."""

STOPPED_MESSAGE = "ecgbatch: stopped; the same command goes on where this one was"
