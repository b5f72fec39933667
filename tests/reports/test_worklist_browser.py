"""The cohort page's list in a real browser: filters, address, order, CSV, neighbours on a record's page, paper."""

from __future__ import annotations

import threading
from base64 import b64decode
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ecgbatch.reports import tables
from ecgbatch.reports.cohort import write_cohort
from ecgbatch.reports.record_page import Drawn, record_page
from ecgbatch.terms import DECISION, LABEL, QUALITY, SCORE_FLAGS, STATUS
from storage import TEXT, folder_at
from tests.chromium import chromium
from tests.reports import test_pages_browser
from tests.reports.test_cohort import OPTIONS, facts_of, many_scores
from tests.reports.test_pages_browser import open_page
from tests.reports.test_safety import a_report

pytestmark = test_pages_browser.pytestmark
N = 130


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


def of_every_kind() -> tuple[Any, dict[str, np.ndarray]]:
    """Scores and facts with some of each decision, kind, label and quality, and text that a CSV must not leave bare."""
    scores = many_scores(N, seed=4)
    facts, k = facts_of(scores), np.arange(N)
    names = ("decision", "score_flags", "status", "label", "mi", "reason")
    decision, flags, status, label, mi, reason = (scores[name].values.copy() for name in names)
    open_ = decision == DECISION["indeterminate"]
    decision[(k % 17 == 3) & (decision < 2)] = DECISION["indeterminate"]
    flags[open_] = SCORE_FLAGS["close_to_threshold"]
    flags[(decision == DECISION["indeterminate"]) & ~open_] = SCORE_FLAGS["unlike_training"]
    flags[(decision == DECISION["indeterminate"]) & (k % 2 == 0)] |= SCORE_FLAGS["electrodes_exchanged"]
    label[k % 9 == 0], mi[k % 9 == 0] = LABEL["other"], -1
    unscored = decision == DECISION["not_scorable"]
    read = unscored & (np.cumsum(unscored) > 1)
    status[read], reason[read] = STATUS["ok"], "NO_BEATS"
    status[(k % 13 == 0) & ~unscored], reason[(k % 13 == 0) & ~unscored] = STATUS["partial"], "LEADS_MISSING"
    facts["quality"][status == STATUS["set_aside"]] = QUALITY["not_usable"]
    facts["patient_unknown"][5] = 1
    facts["diagnosis"][6:9] = ['=SUM(1)"', "a, b\r\nc", "\u202e&<b>"]
    exchange = np.where(flags & SCORE_FLAGS["electrodes_exchanged"] > 0, "LA-RA", "").astype(TEXT)
    changed = {"decision": decision, "score_flags": flags, "status": status, "label": label, "mi": mi, "reason": reason}
    tiny = scores["mi_probability"].values.copy()
    tiny[np.flatnonzero(np.isfinite(tiny))[:2]] = [np.float32(1.5e-5), 0]
    changed |= {"exchange": exchange, "mi_probability": tiny, "n_members_used": np.where(k % 5 == 0, 4, 5).astype(np.int16)}
    facts["qrs_ms"] = np.where(k % 4 == 0, np.nan, 80.0 + k % 60).astype(np.float32)
    return scores.assign({name: ("record", values) for name, values in changed.items()}), facts


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> SimpleNamespace:
    """A run's folder: the cohort's page, and a page for each record."""
    folder = tmp_path_factory.mktemp("site")
    scores, facts = of_every_kind()
    paths = write_cohort(folder_at(folder), scores, facts, OPTIONS)
    table = tables.Table(scores, facts)
    page = Path(paths["cohort_html"])
    (page.parent / "records").mkdir()
    text = record_page(a_report(), Drawn())
    for slug in facts["slug"]:
        (page.parent / "records" / f"{slug}.html").write_text(text)
    names = scores["record_name"].values[table.order].tolist()
    return SimpleNamespace(page=page, table=table, names=names, csv=Path(paths["scores_csv"]))


@pytest.fixture(scope="module")
def server(site) -> Iterator[str]:
    handler = partial(SimpleHTTPRequestHandler, directory=str(site.page.parent))
    handler.func.log_message = lambda *_: None
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()


def shown(browser: Any) -> list[str]:
    return browser.execute_script(
        "return [...document.querySelectorAll('#records tbody tr td:first-child')].map(e => e.textContent)"
    )


def n_chosen(browser: Any) -> int:
    return int(browser.execute_script("return document.getElementById('said').textContent").split(" of ")[0])


def choose(browser: Any, name: str, value: str) -> None:
    act = "const s = document.getElementById(arguments[0]); s.value = arguments[1]; s.dispatchEvent(new Event(arguments[2]));"
    browser.execute_script(act, name, value, "input" if name == "search" else "change")


def names_where(site: SimpleNamespace, **wanted: str) -> list[str]:
    rows = site.table.rows(site.table.order)
    return [row["record_name"] for row in rows if all(row[name] == value for name, value in wanted.items())]


def wait_for(browser: Any, claim: str) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 10, poll_frequency=0.02).until(lambda driver: driver.execute_script(f"return Boolean({claim})"))


def test_every_number_of_records_leads_to_as_many_records(browser, site):
    open_page(browser, site.page, "desktop")
    links = browser.execute_script(
        "return [...document.querySelectorAll('main a[href^=\"#\"]')].map(e => [e.getAttribute('href'), e.textContent])"
    )
    assert len(links) > 40
    for hash_, text in ((hash_, text) for hash_, text in links if text.isdigit()):
        browser.execute_script("location.hash = arguments[0]", hash_)
        wait_for(browser, f"document.getElementById('said').textContent.startsWith('{text} of ')")
        assert n_chosen(browser) == int(text), hash_
    said = " ".join(hash_ for hash_, _ in links)
    for words in ("missed_mi", "false_alarm", "other_called", "close_to_threshold", "unlike_training", "electrodes_exchanged"):
        assert words in said
    for words in (
        "status=set_aside",
        "reason=NO_BEATS",
        "status=partial",
        "quality=remarks",
        "n_members_used=0..4",
        "lead_flags",
    ):
        assert words in said


def test_list_stands_in_the_order_of_reading_and_the_page_says_it(browser, site):
    open_page(browser, site.page, "desktop")
    assert shown(browser) == site.names[:100]
    browser.find_element("id", "next").click()
    assert shown(browser) == site.names[100:]
    assert "1. a pattern of infarction is indicated" in browser.find_element("tag name", "main").text


def test_filters_stand_in_the_address_which_can_be_sent_and_gone_back_on(browser, site):
    open_page(browser, site.page, "desktop")
    choose(browser, "f-label", "mi")
    choose(browser, "f-decision", "mi_not_indicated")
    missed = names_where(site, label="mi", decision="mi_not_indicated")
    assert 0 < len(missed) < 100
    assert shown(browser) == missed
    sent = browser.current_url
    assert sent.endswith("#label=mi&decision=mi_not_indicated")
    browser.back()
    wait_for(browser, "location.hash === '#label=mi'")
    wait_for(browser, "document.getElementById('f-decision').value === ''")
    assert n_chosen(browser) == len(names_where(site, label="mi"))
    browser.get("about:blank")
    browser.get(sent)
    assert shown(browser) == missed
    assert browser.execute_script("return document.getElementById('f-label').value") == "mi"
    choose(browser, "search", missed[0].upper())
    assert shown(browser) == [missed[0]]
    choose(browser, "search", "")
    choose(browser, "f-mi_probability-from", "0.2")
    choose(browser, "f-mi_probability-to", "0.3")
    known = dict(zip(site.table.scores["record_name"].values, site.table.scores["mi_probability"].values, strict=True))
    assert shown(browser) == [name for name in missed if 0.2 <= known[name] <= 0.3]
    browser.execute_script("location.hash = '#decision=nonsense&no_such=1&__proto__=x'")
    wait_for(browser, "document.getElementById('count').textContent === 'no record fits'")


def test_columns_sort_both_ways_unknown_last_and_one_that_is_not_measured_is_not_there(browser, site):
    open_page(browser, site.page, "desktop")
    heads = [cell.text for cell in browser.find_elements("css selector", "#records th")]
    assert "QRS ms" in heads
    assert "QTc ms" not in heads
    assert browser.find_elements("id", "f-exchange") != []
    assert browser.find_elements("id", "f-since_last_run") == []  # says nothing of any record
    values = dict(zip(site.table.scores["record_name"].values.tolist(), site.table.facts["qrs_ms"].tolist(), strict=True))
    for falls in (False, True):
        browser.find_element("css selector", "button[data-key=qrs_ms]").click()
        found = [values[name] for name in shown(browser)]
        assert found == sorted(found, reverse=falls)
        assert browser.execute_script("return document.querySelector('[aria-sort]').textContent") == "QRS ms"
    choose(browser, "f-qrs_ms-from", "130")
    assert set(shown(browser)) == {name for name, value in values.items() if value >= 130}


def test_saved_csv_holds_the_lines_of_scores_csv_of_the_chosen_records(browser, site, tmp_path):
    open_page(browser, site.page, "desktop")
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    head, *rest = site.csv.read_bytes().decode().split("\n")
    lines = dict(zip(site.table.scores["record_name"].values.tolist(), "\n".join(rest).split("\npatient"), strict=True))
    wanted = {name: line if line.startswith("patient") else f"patient{line}".rstrip("\n") for name, line in lines.items()}
    for filters, names, file in (
        ({}, site.names, "scores.csv"),
        ({"f-label": "control"}, names_where(site, label="control"), "scores-chosen.csv"),
    ):
        for name, value in filters.items():
            choose(browser, name, value)
        browser.find_element("id", "csv").click()
        path = tmp_path / file
        for _ in range(500):
            if path.exists():
                break
            threading.Event().wait(0.02)
        assert path.read_bytes().decode() == "\n".join([head, *(wanted[name] for name in names)]) + "\n"


@pytest.mark.parametrize("scheme", ["file", "http"])
def test_neighbours_on_a_records_page_follow_the_list_past_what_the_address_names(browser, site, server, scheme):
    start = site.page.as_uri() if scheme == "file" else f"{server}/cohort.html"
    names = [name for name in site.names if name in set(names_where(site, label="control"))]
    assert len(names) > 40
    slug_of = dict(zip(site.table.scores["record_name"].values, site.table.facts["slug"], strict=True))
    open_page(browser, site.page, "desktop")
    browser.get("about:blank")
    browser.get(f"{start}#label=control")
    browser.find_element("css selector", "#records tbody a").click()

    def is_at(place: int) -> None:
        wait_for(browser, f"document.querySelector('#list span')?.textContent === '{place} of {len(names)} in the list'")
        assert f"/records/{slug_of[names[place - 1]]}.html#" in browser.current_url

    is_at(1)
    assert browser.find_elements("css selector", "#list a[rel=prev]") == []
    browser.find_element("css selector", "#list a[rel=next]").click()
    is_at(2)
    last = int(browser.execute_script("return new URLSearchParams(location.hash.slice(1)).get('names').split(',').length"))
    assert last < len(names)
    there = browser.current_url.replace("at=1&", f"at={last - 1}&")
    there = there.replace(f"{slug_of[names[1]]}.html", f"{slug_of[names[last - 1]]}.html")
    browser.get("about:blank")
    browser.get(there)
    is_at(last)
    for rel, place in (("next", last + 1), ("next", last + 2), ("prev", last + 1)):
        browser.find_element("css selector", f"#list a[rel={rel}]").click()
        is_at(place)
    browser.back()
    is_at(last + 2)
    assert len(browser.current_url) < 3000
    browser.find_element("css selector", "#list a[rel=up]").click()
    wait_for(browser, "document.getElementById('said')")
    assert shown(browser) == names[:100]
    assert browser.execute_script("return document.getElementById('f-label').value") == "control"


def test_a_records_page_without_a_list_or_with_a_forged_one_shows_no_neighbours(browser, site):
    page = next((site.page.parent / "records").glob("*.html")).as_uri()
    whole = "list=x&first=0&at=0&of=2&names=a,b"
    for forged in (
        "",
        whole.replace("names=a,b", "names=../../a,b"),
        whole.replace("at=0", "at=9"),
        whole.replace("a,b", "javascript:x,b"),
    ):
        browser.get("about:blank")
        browser.get(f"{page}#{forged}")
        assert browser.execute_script("return document.getElementById('list').hidden") is True
    browser.get("about:blank")
    browser.get(f"{page}#{whole.replace('list=x', 'list=%3Cimg%20src%3Dx%3E')}")
    links = browser.execute_script("return [...document.querySelectorAll('#list a')].map(e => e.getAttribute('href'))")
    assert links[0].startswith("b.html#")
    assert links[1].startswith("../cohort.html#")
    assert browser.execute_script("return document.querySelectorAll('#list img').length") == 0
    from axe_core_python.selenium import Axe

    assert [rule["id"] for rule in Axe().run(browser)["violations"]] == []


def test_all_rows_of_the_list_are_printed(browser, site):
    from pypdf import PdfReader

    for hash_, names in (("#label=control", names_where(site, label="control")), ("", site.names)):
        open_page(browser, site.page, "print")
        browser.execute_script("location.hash = arguments[0]", hash_)
        printed = browser.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
        text = "".join("".join(page.extract_text().split()) for page in PdfReader(BytesIO(b64decode(printed["data"]))).pages)
        listed = text.partition("Allrecords,intheorderofreading")[2]
        at = [listed.find(name) for name in names]
        assert min(at) > 0
        assert at == sorted(at)
        if hash_:
            assert not [name for name in site.names if name not in set(names) and name in listed]
            assert "Label:healthy" in listed
    assert len(shown(browser)) == 100
