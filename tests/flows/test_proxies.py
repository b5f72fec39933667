"""Calls to this machine go past every proxy that an environment may name, and one that nothing can use is one sentence."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest

from ecgbatch.cli.errors import is_users
from ecgbatch.settings import LOOPBACK, loopback_past_proxies
from flows.doctor import BAD, examine_night
from flows.server import PROXIES, check_proxies

CLOSED = "http://127.0.0.1:9"


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def here() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture
def named(monkeypatch) -> Any:
    def set_to(**environment: str) -> None:
        for name in PROXIES:
            for spelled in (name, name.upper()):
                monkeypatch.setenv(spelled, "")
                monkeypatch.delenv(spelled)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        loopback_past_proxies()

    return set_to


@pytest.mark.parametrize(
    "environment",
    [
        {"http_proxy": CLOSED},
        {"HTTP_PROXY": CLOSED, "HTTPS_PROXY": CLOSED},
        {"all_proxy": "socks5://127.0.0.1:9"},
        {"ALL_PROXY": "socks5h://127.0.0.1:9"},
        {"http_proxy": "127.0.0.1:9"},
        {"http_proxy": CLOSED, "no_proxy": "localhost,127.0.0.1,[::1]"},
        {"http_proxy": CLOSED, "no_proxy": "[::1]:8080; .local;10.0.0.0/8 *.corp"},
        {"http_proxy": CLOSED, "NO_PROXY": "fe80::/10,a:b:c,*:*,localhost:*"},
        {"http_proxy": CLOSED, "no_proxy": "http://x:80/y"},
        {"http_proxy": CLOSED, "no_proxy": "*"},
    ],
)
def test_calls_to_this_machine_go_past_proxies(here, named, environment):
    named(**environment)
    assert httpx.get(here).status_code == 204
    check_proxies()


def test_hosts_that_were_named_stay_named(named):
    named(http_proxy=CLOSED, no_proxy="a.corp, [fd00::1] ;.b.corp,10.0.0.0/8,c.corp:8443", NO_PROXY="d.corp")
    hosts = ["a.corp", "fd00::1", ".b.corp", "10.0.0.0/8", "c.corp:8443", "d.corp", *LOOPBACK]
    assert os.environ["no_proxy"].split(",") == os.environ["NO_PROXY"].split(",") == hosts


@pytest.mark.parametrize("proxy", ["socks4://me:secret@127.0.0.1:9", "ftp://127.0.0.1:9", "http://127.0.0.1:port"])
def test_proxy_that_nothing_can_use_is_one_sentence_without_its_password(named, proxy):
    named(HTTP_PROXY=proxy)
    with pytest.raises(ValueError, match=r"HTTP_PROXY.*expected proxies as http://host:port or socks5") as said:
        check_proxies()
    assert "secret" not in str(said.value)
    (found,) = (one for one in examine_night(None, None, schedules=False) if one.of == "proxies")
    assert found.state == BAD
    assert "secret" not in found.sentence()


@pytest.mark.parametrize("error", [httpx.InvalidURL("Invalid port"), httpx.ConnectTimeout("timed out")])
def test_errors_of_addresses_are_a_users(error):
    assert is_users(error)
