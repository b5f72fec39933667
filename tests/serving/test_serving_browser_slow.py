"""The server in a real browser: the whole way by keys, at three sizes, without an error, a foreign request or a barrier."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from ecgbatch.serving.access import Doorkeeper, hosts_of
from ecgbatch.serving.application import Rules, application
from ecgbatch.serving.server import Place, _listening
from ecgbatch.serving.shelf import Shelf
from ecgbatch.workspace.reviews import read_reviews
from tests.chromium import CHROMIUM, DRIVER, chromium

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no chromium and chromedriver on PATH: install chromium-driver"),
]
SIZES = {"desktop": (1366, 900), "tablet": (820, 1100), "phone": (390, 844)}


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


@pytest.fixture
def served(work, request) -> Iterator[tuple[str, Doorkeeper]]:
    """A server on a free port of loopback: where it is, and who lets readers in."""
    with _listening(Place()) as listener:
        port, keeper = listener.getsockname()[1], Doorkeeper()
        shelf = Shelf(str(work), blind=getattr(request, "param", False))
        config = uvicorn.Config(
            application(shelf, Rules(keeper, hosts_of(port, ()))), log_config=None, access_log=False, lifespan="off", ws="none"
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield f"http://127.0.0.1:{port}", keeper
        server.should_exit = True
        thread.join(30)


def enter(browser: Any, served: tuple[str, Doorkeeper], size: str = "desktop") -> str:
    home, keeper = served
    width, height = SIZES[size]
    media = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == "phone"}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", media)
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(f"{home}/enter?token={keeper.invite('Ann')}")
    wait_for(browser, "location.pathname === '/' && document.querySelector('h1')")
    return home


def wait_for(browser: Any, claim: str) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 30, poll_frequency=0.05).until(lambda driver: driver.execute_script(f"return Boolean({claim})"))


def press(browser: Any, *keys: str) -> None:
    from selenium.webdriver import ActionChains

    ActionChains(browser).send_keys(*keys).perform()


def loaded(browser: Any, key: str) -> None:
    wait_for(browser, f"location.pathname === '/record/{key}' && document.readyState === 'complete'")


@pytest.mark.parametrize("size", SIZES)
def test_every_page_fits_logs_nothing_asks_nobody_else_and_has_no_barrier(browser, served, ran, size):
    from axe_core_python.selenium import Axe

    home = enter(browser, served, size)
    many = f"/run/{ran.run}?decision=mi_indicated&sort=-mi_probability"
    for page in ("/", f"/run/{ran.run}", many, f"/record/{ran.run}-0", f"/record/{ran.run}-1", "/nothing"):
        browser.get(home + page)
        wide = browser.execute_script("return [document.documentElement.clientWidth, document.documentElement.scrollWidth]")
        assert wide[1] <= wide[0], page
        said = [(rule["id"], [node["html"][:120] for node in rule["nodes"][:3]]) for rule in Axe().run(browser)["violations"]]
        assert said == [], page
    assert [line for line in browser.get_log("browser") if "404" not in line["message"]] == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"}
    assert len(asked) > 5
    assert [url for url in asked if not url.startswith((home, "data:"))] == []


def test_the_whole_way_by_keys(browser, served, work, ran):
    from selenium.webdriver.common.keys import Keys

    home = enter(browser, served)
    browser.get(f"{home}/run/{ran.run}")
    keys = browser.execute_script("return [...document.querySelectorAll('a.record')].map(e => e.pathname.split('/').pop())")
    press(browser, Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ENTER)
    loaded(browser, keys[1])
    press(browser, Keys.ARROW_RIGHT)
    loaded(browser, keys[2])
    press(browser, Keys.ARROW_LEFT)
    loaded(browser, keys[1])
    browser.find_element("css selector", "#verdict input[type=radio]").send_keys("d")
    assert browser.execute_script("return document.activeElement.value") == "disagree"
    press(browser, Keys.ENTER)
    loaded(browser, keys[2])
    assert "The verdict is kept." in browser.find_element("css selector", ".bar").text
    browser.find_element("css selector", "#verdict input[type=radio]").send_keys("a")
    note = browser.find_element("css selector", "#verdict textarea")
    note.send_keys("adc\n← →")  # letters of a note choose nothing
    assert browser.execute_script("return document.querySelector('#verdict input:checked').value") == "agree"
    browser.find_element("css selector", "#verdict button:not(.first)").click()
    wait_for(browser, "location.search.includes('kept=1') && document.querySelector('.verdicts')")
    assert [(one.opinion, one.note) for one in read_reviews(str(work))] == [("disagree", ""), ("agree", "adc\n← →")]
    browser.find_element("css selector", "a[rel=up]").click()
    wait_for(browser, "document.getElementById('q')")
    press(browser, "/")
    press(browser, "zzz", Keys.ENTER)
    wait_for(browser, "document.getElementById('said').textContent.startsWith('0 of 10')")


def test_filters_apply_when_chosen_and_stand_in_a_short_address(browser, served, ran):
    home = enter(browser, served)
    browser.get(f"{home}/run/{ran.run}")
    n_open = sum(record["decision"] == "mi_indicated" for record in ran.records.values())
    choose = "const s = document.querySelector('[name=decision]'); s.value = 'mi_indicated';"
    browser.execute_script(f"{choose} s.dispatchEvent(new Event('change', {{bubbles: true}}))")
    wait_for(browser, f"document.getElementById('said').textContent.startsWith('{n_open} of 10')")
    assert browser.current_url == f"{home}/run/{ran.run}?decision=mi_indicated"


@pytest.mark.parametrize("served", [True], indirect=True)
def test_blind_the_page_tells_the_score_only_after_the_verdict(browser, served, work, ran):
    from axe_core_python.selenium import Axe

    home = enter(browser, served)
    row = next(k for k, name in enumerate(ran.scores["record_name"].values) if ran.records[name]["mi_probability"] is not None)
    probability = f"{ran.records[ran.scores['record_name'].values[row]]['mi_probability']:.3f}"
    browser.get(f"{home}/record/{ran.run}-{row}")
    assert probability not in browser.page_source
    assert [rule["id"] for rule in Axe().run(browser)["violations"]] == []
    browser.find_element("css selector", "#verdict input[type=radio]").send_keys("i")
    browser.find_element("css selector", "#verdict button:not(.first)").click()
    wait_for(browser, "document.querySelector('.verdicts')")
    assert probability in browser.page_source
    assert read_reviews(str(work))[0].is_blind
