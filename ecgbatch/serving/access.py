"""Who may look: tokens that become sessions, or a name that a proxy vouches for. Nothing here has heard of HTTP's library."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock

COOKIE = "ecgbatch"
"""Name of the session's cookie."""

SESSION_S = 12 * 3600
"""A session ends so long after its last request: a working day and its night."""

PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
"""After a wrong token an address waits, twice as long each time."""

_TOKEN_BYTES = 32
_MOST_PAUSING = 10_000  # addresses remembered as waiting
_MOST_NAME = 100
_READER = re.compile(r"[^\x00-\x1f\x7f]+")


class NotAdmitted(Exception):
    """Whoever asks may not look; ``seconds``: until another token may be tried, 0 where waiting does not help."""

    def __init__(self, words: str, seconds: float = 0.0) -> None:
        super().__init__(words)
        self.seconds = seconds


@dataclass(frozen=True)
class Reader:
    """Who is looking: a name, and what the forms of this session carry so that no other site's page can send one."""

    name: str
    form_key: str


@dataclass
class _Session:
    name: str
    last: float


def checked_reader(name: str) -> str:
    """Return a reader's name.

    Raises
    ------
    ValueError
        If it is empty, long, or has control characters.

    """
    plain = name.strip()
    if not plain or len(plain) > _MOST_NAME or not _READER.fullmatch(plain):
        raise ValueError(
            f"expected a reader's name of 1 to {_MOST_NAME} characters without control characters, found {name[:120]!r}"
        )
    return plain


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


@dataclass
class Doorkeeper:
    """Tokens that were handed out and not used yet, sessions that they became, and addresses that wait after a wrong one.

    All of it is memory of this process: a server that starts again prints new addresses, and who looked signs in anew.
    """

    clock: Callable[[], float] = time.monotonic
    _tokens: dict[bytes, str] = field(default_factory=dict)
    _sessions: dict[bytes, _Session] = field(default_factory=dict)
    _pauses: dict[str, tuple[int, float]] = field(default_factory=dict)
    _key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False)

    def invite(self, reader: str) -> str:
        """Return a token for a reader: who brings it first gets a session under that name, and then it is void."""
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        with self._lock:
            self._tokens[_digest(token)] = checked_reader(reader)
        return token

    def exchange(self, token: str, address: str) -> str:
        """Return a new session's secret for a token that was not used yet.

        Raises
        ------
        NotAdmitted
            If there is no such token, or this address must wait since it brought wrong ones; a right one does not help then.

        """
        now, brought = self.clock(), _digest(token)
        with self._lock:
            n_wrong, until = self._pauses.get(address, (0, 0.0))
            if now < until:
                raise NotAdmitted("too many wrong tokens from here", until - now)
            found = [known for known in self._tokens if hmac.compare_digest(known, brought)]  # all of them: no early end
            if not found:
                pause = min(LONGEST_PAUSE_S, PAUSE_S * 2 ** min(n_wrong, 10))
                if len(self._pauses) >= _MOST_PAUSING:
                    self._pauses = {who: one for who, one in self._pauses.items() if one[1] > now}
                self._pauses[address] = (n_wrong + 1, now + pause)
                raise NotAdmitted("this address was used already, or is not whole", pause)
            self._pauses.pop(address, None)
            secret = secrets.token_urlsafe(_TOKEN_BYTES)
            self._sessions[_digest(secret)] = _Session(self._tokens.pop(found[0]), now)
            return secret

    def reader_of(self, secret: str) -> Reader | None:
        """Return who has a session; None where it has ended or never was."""
        now, brought = self.clock(), _digest(secret)
        with self._lock:
            self._sessions = {key: one for key, one in self._sessions.items() if now - one.last < SESSION_S}
            found = [key for key in self._sessions if hmac.compare_digest(key, brought)]
            if not found:
                return None
            session = self._sessions[found[0]]
            session.last = now
            return Reader(session.name, self.form_key(found[0].hex()))

    def leave(self, secret: str) -> None:
        """End a session."""
        with self._lock:
            self._sessions.pop(_digest(secret), None)

    def form_key(self, whose: str) -> str:
        """Return what the forms of a session, or of a reader whom a proxy names, carry."""
        return hmac.digest(self._key, whose.encode("utf-8", "surrogateescape"), "sha256").hex()


@dataclass(frozen=True)
class Proxy:
    """A proxy that has asked who is there: the header in which it names the reader, and the addresses that it comes from."""

    header: str
    addresses: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]

    @classmethod
    def of(cls, header: str, addresses: Sequence[str]) -> Proxy:
        """Return a proxy of a header and addresses (``10.0.0.7`` or ``10.0.0.0/24``); ``ValueError`` where one is none."""
        if not re.fullmatch(r"[A-Za-z0-9-]{1,100}", header):
            raise ValueError(f"--reader-header {header!r}: expected the name of an HTTP header, as X-Forwarded-User")
        if not addresses:
            raise ValueError(
                "--reader-header goes with --trusted-proxy ADDRESS: from anybody else the header would prove nothing"
            )
        return cls(header.lower(), [ipaddress.ip_network(one) for one in addresses])

    def reader_of(self, address: str, headers: Sequence[str], keeper: Doorkeeper) -> Reader:
        """Return whom the proxy names.

        Raises
        ------
        NotAdmitted
            If the request does not come from the proxy, or does not name one reader.

        """
        try:
            here = ipaddress.ip_address(address)
        except ValueError:
            raise NotAdmitted("only the proxy may ask") from None
        here = getattr(here, "ipv4_mapped", None) or here
        if not any(here in one for one in self.addresses):
            raise NotAdmitted("only the proxy may ask")
        if len(headers) != 1:
            raise NotAdmitted("the proxy names no reader, or several")
        try:
            name = checked_reader(headers[0])
        except ValueError:
            raise NotAdmitted("the proxy's name for the reader is none") from None
        return Reader(name, keeper.form_key(f"proxy {name}"))


def cookie_of(headers: Sequence[str]) -> str:
    """Return the session's secret of a request's Cookie headers; empty where there is none, or more than one."""
    parts = [part.strip().partition("=") for header in headers for part in header.split(";")]
    found = [value for name, _, value in parts if name == COOKIE]
    return found[0] if len(found) == 1 else ""


def hosts_of(port: int, names: Sequence[str]) -> frozenset[str]:
    """Return the values of a Host header that are this server: loopback at its port, and names that were stated."""
    loopback = {f"{host}:{port}" for host in ("127.0.0.1", "localhost", "[::1]")}
    return frozenset(loopback | {name.lower() for name in names})


def is_own_origin(headers: Mapping[str, str], hosts: frozenset[str]) -> bool:
    """Tell whether what changes something was sent by a page of this server: by its Origin, and by what the browser says."""
    origin = headers.get("origin", "").lower()
    scheme, _, host = origin.partition("://")
    if scheme not in ("http", "https") or host not in hosts or host != headers.get("host", "").lower():
        return False
    return headers.get("sec-fetch-site", "same-origin") == "same-origin"
