"""Who may look, and what a server refuses: tokens, hosts, origins, forms of others, paths, proxies."""

from __future__ import annotations

import logging
import re
import socket
import threading
import time
from pathlib import Path

import pytest
import uvicorn

from ecgbatch.serving.access import LONGEST_PAUSE_S, SESSION_S, Doorkeeper, NotAdmitted, Proxy, checked_reader
from ecgbatch.serving.server import Place, check_place, serve
from ecgbatch.serving.shelf import Shelf
from storage import folder_at
from tests.serving.served import HOME, PORT, Clock, Served, form_of, send


@pytest.fixture
def served(ran) -> Served:
    return Served(ran.work)


@pytest.fixture
def key(ran) -> str:
    return f"{ran.run}-0"


PAGES = ("/", "/run/{run}", "/run/{run}/cohort.html", "/run/{run}/scores.csv", "/record/{key}", "/record/{key}.json", "/nothing")


def test_nothing_is_shown_without_a_session(served, ran, key):
    stranger = served.stranger()
    for page in PAGES:
        answer = stranger.get(page.format(run=ran.run, key=key))
        assert answer.status_code == 401, page
        assert not any(name in answer.text for name in (*ran.names, "patient"))
    assert stranger.get("/healthz").text == "ok\n"


def test_an_address_opens_once_and_leaves_a_cookie_that_no_script_and_no_other_site_gets(served):
    token = served.keeper.invite("Ann")
    answer = served.stranger().get("/enter", params={"token": token})
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert token not in cookie
    again = served.stranger().get("/enter", params={"token": token})
    assert again.status_code == 429
    assert "set-cookie" not in again.headers


def test_a_reader_who_loads_the_address_again_stays_in_and_one_who_leaves_is_out(served):
    reader = served.reader()
    assert reader.get("/enter", params={"token": "used up"}).status_code == 200
    field = re.search(r'action="/leave"><input type="hidden" name="form_key" value="(\w+)"', reader.get("/").text)
    assert reader.post("/leave", data={"form_key": "0" * 64}, headers={"origin": HOME}).status_code == 403
    kept = reader.cookies["ecgbatch"]
    assert reader.post("/leave", data={"form_key": field[1]}, headers={"origin": HOME}).status_code == 200
    assert served.stranger(cookie=f"ecgbatch={kept}").get("/").status_code == 401


def test_a_session_ends_when_nobody_uses_it():
    clock = Clock()
    keeper = Doorkeeper(clock=clock)
    secret = keeper.exchange(keeper.invite("Ann"), "127.0.0.1")
    clock.now += SESSION_S - 1
    assert keeper.reader_of(secret).name == "Ann"
    clock.now += SESSION_S - 1
    assert keeper.reader_of(secret) is not None
    clock.now += SESSION_S
    assert keeper.reader_of(secret) is None


def test_after_wrong_tokens_an_address_waits_ever_longer_and_a_right_one_does_not_help_it():
    clock = Clock()
    keeper = Doorkeeper(clock=clock)
    right, pauses = keeper.invite("Ann"), []
    for _ in range(12):
        with pytest.raises(NotAdmitted, match="used already") as refused:
            keeper.exchange("wrong", "10.0.0.9")
        pauses.append(refused.value.seconds)
        clock.now += refused.value.seconds / 2
        with pytest.raises(NotAdmitted, match="too many"):
            keeper.exchange(right, "10.0.0.9")
        clock.now += refused.value.seconds / 2
    assert pauses[:4] == [1, 2, 4, 8]
    assert pauses[-1] == LONGEST_PAUSE_S
    with pytest.raises(NotAdmitted):
        keeper.exchange("wrong", "10.0.0.9")
    assert keeper.exchange(right, "10.0.0.10")  # another address does not wait for that one


def test_a_wrong_token_is_told_when_to_try_again(served):
    answer = served.stranger().get("/enter", params={"token": "x" * 43})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")


@pytest.mark.parametrize(
    "host", ["evil.example", f"evil.example:{PORT}", "127.0.0.1", "127.0.0.1:1", f"127.0.0.1:{PORT}.evil.example", ""]
)
def test_a_host_that_is_not_this_server_is_refused_even_with_a_session(served, host):
    """A name of another site that leads here (DNS rebinding) gets nothing."""
    reader = served.reader()
    assert reader.get("/", headers={"host": host}).status_code == 421
    assert reader.get("/", headers={"host": f"localhost:{PORT}"}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "null"},
        {"origin": "https://evil.example"},
        {"origin": f"http://localhost:{PORT}"},
        {"origin": f"{HOME}.evil.example"},
        {"origin": f"file://127.0.0.1:{PORT}"},
        {"origin": HOME, "sec-fetch-site": "cross-site"},
        {"origin": HOME, "sec-fetch-site": "same-site"},
    ],
)
def test_a_form_of_another_site_writes_nothing(work, ran, key, headers):
    reader = Served(work).reader()
    fields = form_of(reader.get(f"/record/{key}").text) | {"opinion": "agree"}
    answer = reader.post(f"/record/{key}/review", data=fields, headers=headers)
    assert answer.status_code == 403
    assert folder_at(work).children("reviews") == []


def test_a_form_without_this_sessions_key_writes_nothing(work, key):
    served = Served(work)
    ann, ben = served.reader("Ann"), served.reader("Ben")
    hers = form_of(ann.get(f"/record/{key}").text)
    for fields in ({}, {"form_key": ""}, {"form_key": "ä\x00"}, hers):
        answer = ben.post(f"/record/{key}/review", data=fields | {"opinion": "agree"}, headers={"origin": HOME})
        assert answer.status_code == 403
    long = "x" * 70_000
    assert ben.post(f"/record/{key}/review", data={"note": long}, headers={"origin": HOME}).status_code == 413
    assert folder_at(work).children("reviews") == []


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_other_methods_are_refused(served, method):
    assert served.reader().request(method, "/").status_code == 405


ATTACKS = (
    "/run/..%2f..%2fetc",
    "/run/../../etc/passwd",
    "/run/%2e%2e/scores.csv",
    "/run/latest",
    "/run/{run}/..%2f..%2fpseudonyms.key",
    "/run/{run}/pseudonyms.key",
    "/run/{run}/manifest.json",
    "/run/{run}/records/..%2f..%2f..%2fpseudonyms.html",
    "/record/{run}-99999",
    "/record/{run}--1",
    "/record/..%2f..%2fpseudonyms-0",
    "/record/{run}-0%00",
    "/static/..%2fapplication.py",
    "/static/%2e%2e%2ftemplates%2flist.html",
    "/docs",
    "/openapi.json",
)


@pytest.mark.parametrize("path", ATTACKS)
def test_no_path_of_an_address_reaches_the_disk(work, ran, path, monkeypatch):
    secret = "0123456789abcdef" * 4
    (work / "pseudonyms.key").write_text(secret)
    touched: list[str] = []
    read = type(folder_at(work)).read
    monkeypatch.setattr(type(folder_at(work)), "read", lambda self, key: touched.append(key) or read(self, key))
    answer = Served(work).reader().get(path.format(run=ran.run))
    assert answer.status_code in (404, 303)
    assert secret not in answer.text
    assert not [key for key in touched if ".." in key or "pseudonyms" in key]


def test_every_answer_states_the_policy_and_a_reports_page_keeps_its_own(served, ran, key):
    reader = served.reader()
    for page in PAGES:
        headers = reader.get(page.format(run=ran.run, key=key)).headers
        assert headers["content-security-policy"].startswith("default-src 'none'; ")
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "server" not in headers
    own = reader.get(f"/record/{key}")
    stated = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', own.text)[1].replace("&#39;", "'")
    assert own.headers["content-security-policy"] == f"{stated}; frame-ancestors 'none'"
    assert "'sha256-" in stated
    text = reader.get(f"/run/{ran.run}").text
    assert not re.search(r"<script(?![^>]* src=)|<style| on\w+=", text)


def test_what_a_header_of_the_archive_says_is_text_on_every_page(served, ran):
    reader = served.reader()
    for page in (f"/run/{ran.run}", *(f"/record/{ran.run}-{place}" for place in range(10))):
        text = reader.get(page).text
        assert "<script>alert" not in text
        assert "<img src=x" not in text
        assert "<svg/onload" not in text


def test_a_proxy_names_the_reader_and_only_from_its_address(ran, key):
    proxy = Proxy.of("X-Forwarded-User", ["10.0.0.0/24", "fd00::7"])
    served = Served(ran.work, proxy=proxy, names=["ecg.example"])
    named = {"x-forwarded-user": "Dr. Miller"}
    assert "Dr. Miller" in served.stranger("10.0.0.7", host="ecg.example", **named).get("/").text
    assert served.stranger("fd00::7", host="ecg.example", **named).get("/").status_code == 200
    for address in ("10.0.1.7", "127.0.0.1", "testclient"):
        assert served.stranger(address, host="ecg.example", **named).get("/").status_code == 403
    for wrong in ({}, {"x-forwarded-user": ""}, {"x-forwarded-user": "x" * 101}):
        assert served.stranger("10.0.0.7", host="ecg.example", **wrong).get("/").status_code == 403
    twice = served.stranger("10.0.0.7", host="ecg.example").get(
        "/", headers=[("x-forwarded-user", "a"), ("x-forwarded-user", "b")]
    )
    assert twice.status_code == 403


def test_a_proxys_reader_writes_under_the_proxys_name_and_a_token_opens_nothing_there(work, key):
    served = Served(work, proxy=Proxy.of("x-user", ["10.0.0.7"]), names=["ecg.example"])
    browser = served.stranger("10.0.0.7", **{"host": "ecg.example", "x-user": "Ann"})
    fields = form_of(browser.get(f"/record/{key}").text) | {"opinion": "agree"}
    answer = browser.post(f"/record/{key}/review", data=fields, headers={"origin": "https://ecg.example"})
    assert answer.status_code == 303
    (name,) = folder_at(work).children("reviews")
    assert b'"reader": "Ann"' in folder_at(work).read(f"reviews/{name}")
    assert served.stranger(host="ecg.example").get("/enter", params={"token": served.keeper.invite("Ben")}).status_code == 403


@pytest.mark.parametrize(
    ("header", "addresses", "words"),
    [("x user", ["10.0.0.7"], "name of an HTTP header"), ("x-user", [], "--trusted-proxy"), ("x-user", ["nowhere"], "nowhere")],
)
def test_a_proxy_that_proves_nothing_is_refused(header, addresses, words):
    with pytest.raises(ValueError, match=words):
        Proxy.of(header, addresses)


def test_an_address_that_others_reach_needs_a_proxy():
    check_place(Place("127.0.0.1"), None)
    check_place(Place("::1"), None)
    check_place(Place("0.0.0.0"), Proxy.of("x-user", ["10.0.0.7"]))
    for address, words in (("0.0.0.0", "no TLS"), ("192.168.1.5", "no TLS"), ("localhost", "IP address")):
        with pytest.raises(ValueError, match=words):
            check_place(Place(address), None)


def test_a_place_without_a_workspace_is_refused_before_anything_is_printed(tmp_path):
    printed: list[str] = []
    with pytest.raises(ValueError, match="expected a workspace, found nothing there"):
        serve(str(tmp_path / "typo"), Place(), say=printed.append)
    assert printed == []
    assert not (tmp_path / "typo").exists()


@pytest.mark.parametrize("name", ["", "  ", "x" * 101, "a\nb", "a\x7fb"])
def test_a_reader_has_a_name_that_can_be_shown(name):
    with pytest.raises(ValueError, match="reader's name"):
        checked_reader(name)


def test_a_read_only_server_takes_no_reviews(work, key):
    served = Served(work, read_only=True)
    reader = served.reader()
    page = reader.get(f"/record/{key}").text
    assert 'id="verdict"' not in page
    fields = {"form_key": re.search(r'name="form_key" value="(\w+)"', reader.get("/").text)[1], "opinion": "agree"}
    assert reader.post(f"/record/{key}/review", data=fields, headers={"origin": HOME}).status_code == 403
    assert folder_at(work).children("reviews") == []


def test_logs_hold_no_patient_and_no_token(work, ran, key, caplog, monkeypatch):
    caplog.set_level(logging.DEBUG)
    served = Served(work)
    token = served.keeper.invite("Ann")
    served.stranger().get("/enter", params={"token": token})
    served.stranger().get("/enter", params={"token": token})
    served.clock.now += 60
    reader = served.reader()
    send(reader, key, opinion="agree", note="seen by Ann")
    name = ran.names[0]

    def failing(*_arguments, **_named):
        raise RuntimeError(f"{name} cannot be drawn")

    monkeypatch.setattr("ecgbatch.serving.site.Site.record_page", failing)
    assert reader.get(f"/record/{key}").status_code == 500
    ours = "\n".join(record.getMessage() + str(record.exc_info or "") for record in caplog.records if record.name == "ecgbatch")
    assert "RuntimeError" in ours
    assert not [word for word in (token, *ran.names, "patient", "Ann") if word in ours]


def test_looking_writes_nothing(work, ran, key):
    def whole() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in sorted(Path(work).rglob("*")) if path.is_file()}

    before, reader = whole(), Served(work).reader()
    for page in (*PAGES, "/run/{run}?q=patient&sort=-age_years", "/run/{run}?reviewed=open"):
        reader.get(page.format(run=ran.run, key=key))
    assert whole() == before


def test_the_end_waits_for_a_thread_that_reads_ahead(tmp_path, monkeypatch):
    """One that comes back from C++ to an interpreter that is gone would abort it, as it did after one SIGTERM in twelve."""
    (tmp_path / "reports").mkdir()
    begun, ended = threading.Event(), threading.Event()

    def look_ahead(_shelf: Shelf) -> None:
        begun.set()
        time.sleep(0.3)
        ended.set()

    async def stopped(_server: uvicorn.Server, _sockets: list[socket.socket]) -> None:
        begun.wait(10)
        raise KeyboardInterrupt

    monkeypatch.setattr(Shelf, "look_ahead", look_ahead)
    monkeypatch.setattr(uvicorn.Server, "serve", stopped)
    with pytest.raises(KeyboardInterrupt):
        serve(str(tmp_path), Place(), say=lambda _line: None)
    assert ended.is_set()
