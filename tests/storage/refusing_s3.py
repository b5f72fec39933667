"""An S3 service that refuses, or does less than it is asked: in front of a true one, which gets what is passed on."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REFUSALS = {
    "expired": (400, "ExpiredToken", "The provided token has expired. " + "It was of a session that is over, x" * 12),
    "skewed": (403, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large."),
}


@contextmanager
def refusing(port: int, how: str) -> Iterator[str]:
    """Yield the address of a service that ``refuses`` or ``ignores`` If-None-Match, or refuses all in a way of ``REFUSALS``."""

    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            is_conditional = self.headers.get("If-None-Match") is not None
            if how in REFUSALS:
                return self.refuse(*REFUSALS[how])
            if how == "refuses" and is_conditional:
                return self.refuse(501, "NotImplemented", "A header you provided implies functionality that is not implemented")
            headers = {name: value for name, value in self.headers.items() if name.lower() not in ("if-none-match", "connection")}
            headers.setdefault("Content-Type", "application/octet-stream")  # else it would be a form, and eaten
            address = f"http://127.0.0.1:{port}{self.path}"
            request = urllib.request.Request(address, data=body or None, headers=headers, method=self.command)
            try:
                with urllib.request.urlopen(request) as answer:
                    return self.give(answer.status, dict(answer.headers), answer.read())
            except urllib.error.HTTPError as error:
                return self.give(error.code, dict(error.headers), error.read())

        do_PUT = do_HEAD = do_POST = do_DELETE = do_GET  # noqa: N815 - the library asks for them

        def refuse(self, status: int, code: str, message: str) -> None:
            document = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
            self.give(status, {}, document.encode())

        def give(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in ("content-length", "connection", "transfer-encoding", "date", "server"):
                    self.send_header(name, value)
            n_bytes = headers.get("Content-Length", headers.get("content-length", "0")) if self.command == "HEAD" else len(body)
            self.send_header("Content-Length", str(n_bytes))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
