"""The command line: what a user types, in; what was done, printed, and an exit code, out.

Commands read their arguments (``options``), call stages or flows, and print (``output``); ``commands`` lists them, ``process``
runs one and turns signals and errors into words (``errors``) and exit codes (``exit_codes``). This wing stands above everything
and alone calls ``flows``; what a command does not need is not imported, so that help is there at once.
"""

from __future__ import annotations

import sys
from typing import Any

from ecgbatch.cli.exit_codes import STOPPED, STOPPED_MESSAGE

__all__ = ["app", "main"]


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit (``process.main``), which is imported here: Ctrl-C may come in that half second too."""
    try:
        from ecgbatch.cli.process import main as run
    except KeyboardInterrupt:
        print(STOPPED_MESSAGE, file=sys.stderr)
        sys.exit(STOPPED)
    run(arguments)


def __getattr__(name: str) -> Any:
    """Return ``app``, imported now."""
    if name != "app":
        raise AttributeError(f"module 'ecgbatch.cli' has no attribute {name!r}")
    from ecgbatch.cli.commands import app

    return app
