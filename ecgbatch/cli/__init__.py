"""The command line: what a user types, in; what was done, printed, and an exit code, out.

Commands read their arguments (``options``), call stages or flows, and print (``output``); ``commands`` lists them, ``process``
runs one and turns signals and errors into words (``errors``) and exit codes (``exit_codes``). This wing stands above everything
and alone calls ``flows``; what a command does not need is not imported, so that help is there at once.
"""

from ecgbatch.cli.commands import app
from ecgbatch.cli.process import main

__all__ = ["app", "main"]
