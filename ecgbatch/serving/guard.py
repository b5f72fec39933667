"""What stands before every request: which host it means, who asks, from where a form comes; and the headers of every answer."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response

from ecgbatch.serving.access import Doorkeeper, NotAdmitted, Proxy, Reader, cookie_of, is_own_origin

log = logging.getLogger("ecgbatch")

POLICY = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; "
POLICY += "form-action 'self'; frame-ancestors 'none'"
"""What a page of this server may load and do, unless it says its own: nothing of another, no script in its text, in no frame."""

HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}
"""Of every answer that does not say its own."""

READER: ContextVar[Reader | None] = ContextVar("reader", default=None)
"""Who asks what is being answered."""

OPEN = frozenset({"/enter", "/healthz"})
"""Answered without a session: where a token is brought, and whether the server lives. Style and scripts are too: ``/static/``."""

MOST_BYTES = 65_536
"""Of a request's body."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass
class Guard:
    """The application behind its guard; ``hosts`` are the names that it answers to."""

    app: App
    keeper: Doorkeeper
    hosts: frozenset[str]
    proxy: Proxy | None = None
    headers: dict[str, str] = field(default_factory=lambda: dict(HEADERS))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return

        async def with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                said = MutableHeaders(raw=message["headers"])
                for name, value in self.headers.items():
                    said.setdefault(name, value)
                if "server" in said:
                    del said["server"]
            await send(message)

        try:
            refused = self._refused(scope)
            await (refused or self.app)(scope, receive, with_headers)
        except Exception as error:  # its words and traceback may name a patient
            log.error("serve: a request failed: %s", type(error).__name__)  # noqa: TRY400
            await PlainTextResponse("This request failed; the server goes on.\n", 500)(scope, receive, with_headers)

    def _refused(self, scope: Scope) -> Response | None:
        """Return why a request is not answered, or None; who asks stands in ``READER`` then."""
        headers, path, method = Headers(scope=scope), scope["path"], scope["method"]
        READER.set(None)
        if path == "/healthz":
            return None
        if headers.get("host", "").lower() not in self.hosts or len(headers.getlist("host")) != 1:
            return PlainTextResponse("This server has another name.\n", 421)
        if method not in ("GET", "HEAD", "POST"):
            return PlainTextResponse("Only GET and POST are answered here.\n", 405, {"allow": "GET, HEAD, POST"})
        refused = self._refused_form(headers) if method == "POST" else None
        if refused is not None or path.startswith("/static/"):
            return refused
        return self._asked_by(scope, headers, is_open=path in OPEN)

    def _refused_form(self, headers: Headers) -> Response | None:
        length = headers.get("content-length", "")
        if not length.isdigit() or int(length) > MOST_BYTES:
            return PlainTextResponse("The form is too long, or does not say how long it is.\n", 413)
        if not is_own_origin(headers, self.hosts):
            return PlainTextResponse("A form must come from a page of this server.\n", 403)
        return None

    def _asked_by(self, scope: Scope, headers: Headers, *, is_open: bool) -> Response | None:
        if self.proxy is not None:
            address = (scope.get("client") or ("", 0))[0]
            try:
                READER.set(self.proxy.reader_of(address, headers.getlist(self.proxy.header), self.keeper))
            except NotAdmitted as error:
                return PlainTextResponse(f"{error}\n", 403)
            return None
        READER.set(self.keeper.reader_of(cookie_of(headers.getlist("cookie"))))
        if is_open or READER.get() is not None:
            return None
        words = "No session: open the address that the server printed for you. Each opens once; a new server prints new ones."
        return PlainTextResponse(f"{words}\n", 401)
