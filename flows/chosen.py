"""Whether Prefect runs a command: where the user names a server of Prefect, or asks for one.

This module must not import Prefect before it knows: to import it takes a second, and makes a folder in the user's home.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from flows.plain import as_flow_runs, without_prefect

log = logging.getLogger("ecgbatch")


LOST = ("Failed to reach API at ", "Found incompatible versions: client: ")
"""What Prefect's clients say, as a RuntimeError, of a server that does not answer or is of another major version."""


@dataclass(frozen=True)
class NamedServer:
    """A server of Prefect's that the user names: its address, what it wants of whoever asks, and where it is named."""

    url: str
    auth: str | None
    key: str | None
    named: str


@contextmanager
def prefect_if_wanted(is_asked: bool) -> Iterator[None]:
    """Have the flows that are called inside run by Prefect, or as plain functions.

    Parameters
    ----------
    is_asked
        Whether a flow run of Prefect's is asked for even though no server is named: one is started for this command alone.

    Raises
    ------
    OSError
        If a server that is named does not answer, wants a password, or goes away; if ours cannot be started anywhere.

    """
    named = named_server()
    if named is None and not is_asked:
        with without_prefect():
            yield
        return
    from flows.one_command import server_of_one_command
    from flows.server import ask_server, check_proxies, home_for_prefect

    check_proxies()
    with ExitStack() as stack:
        if named is None:
            stack.enter_context(server_of_one_command(_home()))
        else:
            home_for_prefect()
            ask_server(named.url, named.auth, named.key, named=named.named, without="then this command runs without one")
        _settings_read_anew()
        stack.callback(_settings_read_anew)
        stack.enter_context(as_flow_runs())
        with _lost_server_in_words("its own" if named is None else named.url):
            yield


@contextmanager
def _lost_server_in_words(url: str) -> Iterator[None]:
    """Turn what Prefect raises of a server that goes away in the middle into one sentence."""
    import httpx

    try:
        yield
    except (httpx.HTTPError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(words in str(error) for words in LOST):
            raise
        said = str(error).strip().splitlines()
        raise OSError(
            f"Prefect's server ({url}) failed this run: {said[0] if said else type(error).__name__}. What is done is kept: the "
            "same command goes on where this one was"
        ) from None


def _settings_read_anew() -> None:
    """Have Prefect look at the environment again, if it is imported already."""
    if "prefect" in sys.modules:
        from prefect.context import refresh_global_settings_context

        refresh_global_settings_context()


def is_server_named() -> bool:
    """Tell whether a server is named: in the environment, or by a profile or file that Prefect reads."""
    return named_server() is not None


def named_server() -> NamedServer | None:
    """Return the server that is named: in the environment, or by a profile or file that Prefect reads; None if none is.

    Raises
    ------
    ValueError
        If Prefect cannot read what is set, or there is no profile of the name in ``PREFECT_PROFILE``.

    """
    if "PREFECT_API_URL" in os.environ:
        url, own = os.environ["PREFECT_API_URL"], os.environ
        named = "PREFECT_API_URL in the environment"
        return NamedServer(url, own.get("PREFECT_API_AUTH_STRING"), own.get("PREFECT_API_KEY"), named) if url else None
    said = {path: path.read_text(errors="replace").upper() for path in _files() if _is_readable_file(path)}
    speaking = [
        str(path) for path, text in said.items() if path.name == "prefect.toml" or "API_URL" in text or "TOOL.PREFECT" in text
    ]
    if "PREFECT_PROFILE" not in os.environ and not speaking:
        return None
    from flows.server import home_for_prefect

    home_for_prefect()
    from prefect.settings import get_current_settings, load_profiles  # a profile that is not the active one names nothing

    profile, profiles = os.environ.get("PREFECT_PROFILE"), load_profiles()
    if profile is not None and profile not in profiles.names:
        raise ValueError(
            f"PREFECT_PROFILE={profile}: expected a profile of {get_current_settings().profiles_path}, which has "
            f"{', '.join(sorted(profiles.names))}; found none of that name. Name one of these, or unset PREFECT_PROFILE"
        )
    api = get_current_settings().api
    if not api.url:
        return None
    auth, key = (None if one is None else one.get_secret_value() for one in (api.auth_string, api.key))
    return NamedServer(api.url, auth, key, f"Prefect's settings: {' or '.join(speaking) or 'the active profile'}")


def _home() -> Path | None:
    """Return the folder that Prefect would keep its state in; None for a user without one."""
    try:
        return Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect")
    except RuntimeError:
        return None


def _files() -> list[Path]:
    """Return the files that Prefect reads: those in this folder, and the user's profiles."""
    home = _home()
    profiles = os.environ.get("PREFECT_PROFILES_PATH") or (None if home is None else home / "profiles.toml")
    return [Path(".env"), Path("prefect.toml"), Path("pyproject.toml"), *([] if profiles is None else [Path(profiles)])]


def _is_readable_file(path: Path) -> bool:
    try:
        return path.is_file() and os.access(path, os.R_OK)
    except OSError:  # in a folder of another's
        return False
