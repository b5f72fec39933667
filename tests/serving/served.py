"""A workspace behind a server, as a browser meets it, for the tests that look at it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from ecgbatch.serving.access import Doorkeeper, Proxy, hosts_of
from ecgbatch.serving.application import Rules, application

PORT = 8417
HOME = f"http://127.0.0.1:{PORT}"


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Served:
    """A server, and browsers that come to it."""

    def __init__(self, work: str | Path, *, proxy: Proxy | None = None, names: Sequence[str] = (), **rules: bool) -> None:
        self.clock = Clock()
        self.keeper = Doorkeeper(clock=self.clock)
        self.app = application(str(work), Rules(self.keeper, hosts_of(PORT, names), proxy, **rules))

    def stranger(self, address: str = "127.0.0.1", **headers: str) -> TestClient:
        """Return a browser that has no session."""
        return TestClient(self.app, base_url=HOME, client=(address, 50000), headers=headers, follow_redirects=False)

    def reader(self, name: str = "Ann") -> TestClient:
        """Return a browser in which a reader has opened an address that was printed."""
        browser = self.stranger()
        assert browser.get("/enter", params={"token": self.keeper.invite(name)}).status_code == 200
        return browser


def form_of(page: str) -> dict[str, str]:
    """Return the hidden fields of the form for a verdict."""
    form = page[page.index('id="verdict"') :]
    return dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', form))


def send(browser: TestClient, key: str, **fields: str) -> Any:
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
