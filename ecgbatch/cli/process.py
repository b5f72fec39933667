"""The process of a command: its signals, its exit code, and one message for each error that a user can cause (``errors``)."""

from __future__ import annotations

import os
import signal
import sys
import threading
from io import TextIOWrapper
from typing import Any

import typer

from ecgbatch.cli.commands import app
from ecgbatch.cli.errors import is_usage, is_users, what_to_do
from ecgbatch.cli.exit_codes import FAILED, OK, STOPPED, STOPPED_MESSAGE, TERMINATED, USAGE
from ecgbatch.own_packages import ForeignPackage, ours_first
from ecgbatch.settings import load_settings, loopback_past_proxies


class Terminated(BaseException):
    """SIGTERM or SIGHUP came: what is under way ends as at Ctrl-C.

    Its exception the command line library would take for its own.
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: errors a user can cause become one message, never a traceback."""
    from typer.exceptions import TyperException

    try:
        ours_first()
    except ForeignPackage as error:
        print(f"ecgbatch: {error}", file=sys.stderr)
        sys.exit(FAILED)
    os.umask(0o077)  # recordings of patients: what is written here is its owner's alone
    if os.environ.pop("NUMBA_DISABLE_JIT", "0") != "0":  # some of what kernels do is an instruction of the processor
        print("ecgbatch: NUMBA_DISABLE_JIT is ignored: there is no Python to run in place of what is compiled", file=sys.stderr)
    if threading.current_thread() is threading.main_thread():
        hear_signals()
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.encoding.lower() != "utf-8":
        sys.stdout.reconfigure(errors="backslashreplace")  # a locale that knows no such letter
    loopback_past_proxies()
    command = typer.main.get_command(app)
    try:
        code = command.main(arguments, prog_name="ecgbatch", standalone_mode=False)
        if code == STOPPED:  # at Ctrl-C the command line library says nothing
            print(STOPPED_MESSAGE, file=sys.stderr)
    except TyperException as error:
        print(f"ecgbatch: {error.format_message()} Try 'ecgbatch --help'.", file=sys.stderr)
        code = error.exit_code
    except BaseException as error:
        if is_users(error):
            print(f"ecgbatch: {error}{what_to_do(error)}", file=sys.stderr)
            sys.exit(USAGE if is_usage(error) else FAILED)
        if isinstance(error, MemoryError):
            print(f"ecgbatch: not enough memory here ({error}); fewer --workers take less. Nothing is lost", file=sys.stderr)
            sys.exit(FAILED)
        # Prefect's own word for SIGTERM is a BaseException of its own, and Prefect is not imported for that.
        by_signal = isinstance(error, Terminated) or type(error).__name__ == "TerminationSignal"
        if not (by_signal or isinstance(error, KeyboardInterrupt | typer.Abort)):
            raise
        print(STOPPED_MESSAGE, file=sys.stderr)
        code = TERMINATED if by_signal else STOPPED
    sys.exit(code if isinstance(code, int) else OK)


def hear_signals() -> None:
    """Let SIGTERM and a closed terminal end this process as Ctrl-C does, and let none of them be lost; in the main thread."""
    signal.signal(signal.SIGTERM, _stop_soon)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup asks to be left alone
        signal.signal(signal.SIGHUP, _stop_soon)
    sys.unraisablehook = _raised_again


AGAIN_AFTER_S = 0.05


def _raised_again(lost: sys.UnraisableHookArgs) -> None:
    """Send a signal again whose exception came where none can be raised: in a callback of C code, as LLVM's for what it loads."""
    kind = lost.exc_type
    if not issubclass(kind, KeyboardInterrupt | Terminated):
        sys.__unraisablehook__(lost)
        return
    number = signal.SIGINT if issubclass(kind, KeyboardInterrupt) else signal.SIGTERM
    again = threading.Timer(AGAIN_AFTER_S, os.kill, (os.getpid(), number))
    again.daemon = True
    again.start()


def _stop_soon(_signal: int, _frame: Any) -> None:
    """End the command in an orderly way; if that takes longer than the settings allow, end it anyhow: receipts remain."""
    last = threading.Timer(load_settings().stop_within_s, os._exit, (TERMINATED,))
    last.daemon = True
    last.start()
    raise Terminated
