"""The server's process: its port, the addresses that it prints, its end."""

from __future__ import annotations

import asyncio
import getpass
import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import quote

import uvicorn

from ecgbatch.serving.access import Doorkeeper, Proxy, hosts_of
from ecgbatch.serving.application import Rules, application
from ecgbatch.serving.guard import Guard
from ecgbatch.serving.shelf import Shelf
from storage import folder_at

_END_S = 5  # an answer under way has so long when the server stops
_LAST_S = 20  # and what threads read for nobody any more
_READERS = ("ecgbatch-ahead", "AnyIO worker thread")  # the other name is that of the threads that answer
_WAITING = 128  # connections that may wait to be taken


@dataclass(frozen=True)
class Place:
    """Where a server listens: an address of this machine, a port (0: any free one), and further names that it answers to."""

    address: str = "127.0.0.1"
    port: int = 0
    names: Sequence[str] = ()


def serve(
    work: str,
    place: Place,
    *,
    readers: Sequence[str] = (),
    proxy: Proxy | None = None,
    blind: bool = False,
    read_only: bool = False,
    say: Callable[[str], None] = print,
) -> None:
    """Serve a workspace until the process is told to stop.

    Parameters
    ----------
    work
        Workspace; it is read, and reviews are added to it.
    place
        Where to listen.
    readers
        Names to print an address for, which opens once; by default that of the user who runs this. None behind a proxy.
    proxy
        Whoever it names may look; without it the address must be one of loopback.
    blind, read_only
        Scores are hidden until the verdict; no verdict is taken.
    say
        Gets the lines that are printed when the server answers.

    Raises
    ------
    ValueError
        If there is no workspace, or others could reach the server without a proxy that has asked who they are.

    """
    check_place(place, proxy)
    if not folder_at(work).children():
        raise ValueError(f"{work}: expected a workspace, found nothing there; ecgbatch run ARCHIVE WORK makes one")
    keeper = Doorkeeper()
    with closing(_listening(place)) as listener:
        port = listener.getsockname()[1]
        rules = Rules(keeper, hosts_of(port, place.names), proxy, read_only)
        shelf = Shelf(work, blind=blind)
        if proxy is None:
            host = f"[{place.address}]" if ":" in place.address else place.address
            for name in readers or (_user(),):
                say(f"{name}: http://{host}:{port}/enter?token={quote(keeper.invite(name))}")
        else:
            say(f"on port {port}, for readers whom the proxy names")
        threading.Thread(target=shelf.look_ahead, name=_READERS[0], daemon=True).start()
        try:
            # A signal ends it, and then reaches the command's own handlers.
            asyncio.run(_server(application(shelf, rules)).serve([listener]))
        finally:
            _let_readers_end()


def _server(answers: Guard) -> uvicorn.Server:
    config = uvicorn.Config(
        answers,
        log_config=None,  # uvicorn's own log has addresses, and an address may be a token
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=_END_S,
    )
    return uvicorn.Server(config)


def _let_readers_end() -> None:
    """Wait a while for threads that read: one that comes back from C++ to an interpreter that is gone aborts it."""
    patience = time.monotonic() + _LAST_S
    for thread in threading.enumerate():
        if thread.name in _READERS:
            thread.join(max(0.0, patience - time.monotonic()))


def check_place(place: Place, proxy: Proxy | None) -> None:
    """Refuse an address that others reach, unless a proxy asks who they are: ``ValueError``."""
    try:
        is_loopback = ipaddress.ip_address(place.address).is_loopback
    except ValueError:
        raise ValueError(f"--address {place.address!r}: expected an IP address of this machine, as 127.0.0.1") from None
    if not is_loopback and proxy is None:
        raise ValueError(
            f"--address {place.address}: others reach it, and this server has no TLS: keep 127.0.0.1, or put a proxy before it "
            "that asks who they are, and state it: --reader-header NAME --trusted-proxy ADDRESS"
        )


def _listening(place: Place) -> socket.socket:
    family = socket.AF_INET6 if ":" in place.address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((place.address, place.port))
        listener.listen(_WAITING)  # before its address is printed: whoever follows that at once waits, and is not refused
    except OSError as error:
        listener.close()
        raise OSError(
            error.errno, f"{place.address}:{place.port} cannot be listened on: {error.strerror}; name another --port"
        ) from None
    return listener


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "reader"
