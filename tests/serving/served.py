"""A workspace behind a server, as a browser meets it, for the tests that look at it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from ecgbatch.serving.access import Doorkeeper, Proxy, hosts_of
from ecgbatch.serving.application import Rules, application
from ecgbatch.serving.shelf import Shelf

PORT = 8417
HOME = f"http://127.0.0.1:{PORT}"


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Browser:
    """A browser in a few words: it keeps cookies, follows nothing, and says what it is told to say."""

    def __init__(self, app: Any, address: str, headers: dict[str, str]) -> None:
        transport = httpx.ASGITransport(app=app, client=(address, 50000), raise_app_exceptions=False)
        self._client = httpx.AsyncClient(transport=transport, base_url=HOME, headers=headers, trust_env=False)
        self.cookies = self._client.cookies

    def request(self, method: str, path: str, **said: Any) -> httpx.Response:
        return asyncio.run(self._client.request(method, path, **said))

    def get(self, path: str, **said: Any) -> httpx.Response:
        return self.request("GET", path, **said)

    def post(self, path: str, **said: Any) -> httpx.Response:
        return self.request("POST", path, **said)


class Served:
    """A server, and browsers that come to it."""

    def __init__(self, work: str | Path, *, proxy: Proxy | None = None, names: Sequence[str] = (), **told: bool) -> None:
        self.clock = Clock()
        self.keeper = Doorkeeper(clock=self.clock)
        rules = Rules(self.keeper, hosts_of(PORT, names), proxy, told.get("read_only", False))
        self.app = application(Shelf(str(work), blind=told.get("blind", False)), rules)

    def stranger(self, address: str = "127.0.0.1", **headers: str) -> Browser:
        """Return a browser that has no session."""
        return Browser(self.app, address, headers)

    def reader(self, name: str = "Ann") -> Browser:
        """Return a browser in which a reader has opened an address that was printed."""
        browser = self.stranger()
        assert browser.get("/enter", params={"token": self.keeper.invite(name)}).status_code == 200
        return browser


def form_of(page: str) -> dict[str, str]:
    """Return the hidden fields of the form for a verdict."""
    form = page[page.index('id="verdict"') :]
    return dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', form))


def send(browser: Browser, key: str, **fields: str) -> Any:
    """Fill in the form on a record's page, and send it as the page would."""
    page = browser.get(f"/record/{key}")
    assert page.status_code == 200, page.text[:300]
    return browser.post(f"/record/{key}/review", data=form_of(page.text) | fields, headers={"origin": HOME})


def keys_on(page: str) -> list[str]:
    """Return the keys of the records that a list shows, in order."""
    return re.findall(r'class="record" href="/record/([^"?]+)', page)


def names_on(page: str) -> list[str]:
    """Return the names of the records that a list shows, in order."""
    return re.findall(r'class="record" href="[^"]+"><bdi>([^<]*)</bdi>', page)
