"""Whether Prefect runs a command: where the user names a server of Prefect, or asks for one.

This module must not import Prefect before it knows: to import it takes a second, and makes a folder in the user's home.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.plain import as_flow_runs, without_prefect

AUTH = ("PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING")


@contextmanager
def prefect_if_wanted(is_asked: bool) -> Iterator[None]:
    """Have the flows that are called inside run by Prefect, or as plain functions.

    Parameters
    ----------
    is_asked
        Whether a flow run of Prefect's is asked for even though no server is named: one is started for this command alone.

    """
    if not is_asked and not is_server_named():
        with without_prefect():
            yield
        return
    guard_own_server()
    with as_flow_runs():
        yield


def is_server_named() -> bool:
    """Tell whether a server is named: in the environment, or by a profile or file that Prefect reads."""
    if "PREFECT_API_URL" in os.environ:
        return bool(os.environ["PREFECT_API_URL"])
    if "PREFECT_PROFILE" not in os.environ and "API_URL" not in _said() and "TOOL.PREFECT" not in _said() and not _own_file():
        return False
    from prefect.settings import get_current_settings  # a profile that is not the active one names nothing

    return bool(get_current_settings().api.url)


def guard_own_server() -> None:
    """Give the server that Prefect starts for one command alone, on loopback, a password that only this process knows.

    Where a server is named, in the environment or by the user's own settings of Prefect, nothing is changed. Call it before
    Prefect is imported.
    """
    if any(name in os.environ for name in ("PREFECT_API_URL", "PREFECT_PROFILE", *AUTH)):
        return
    said = _said()
    if "PREFECT_API_URL" in said or "AUTH_STRING" in said or "TOOL.PREFECT" in said or _own_file():
        return
    os.environ |= dict.fromkeys(AUTH, f"ecgbatch:{secrets.token_urlsafe(24)}")
    os.environ.setdefault(
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS", "http://127.0.0.1"
    )  # no page elsewhere may ask it; all, by default


def _said() -> str:
    """Return, in capitals, what the files say that Prefect reads: the user's profiles, and those in this folder."""
    try:
        home = Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect")
    except RuntimeError:  # an account without a home
        home = Path()
    files = [home / "profiles.toml", Path("prefect.toml"), Path(".env"), Path("pyproject.toml")]
    return "".join(path.read_text(errors="replace") for path in files if path.is_file()).upper()


def _own_file() -> bool:
    return Path("prefect.toml").is_file()
