"""The viewer in a real browser: half an hour opened, moved through, measured; by mouse, keys, fingers; on a desk and a phone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.speed.viewer import places, served, viewer_app
from ecgbatch.terms import MISSING_SAMPLE
from tests.chromium import CHROMIUM, DRIVER, chromium
from tests.serving.viewer_runs import BASELINE, GAIN, PULSE_HZ, converted, heart, pulses

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no chromium and chromedriver on PATH: install chromium-driver"),
]

SIZES = {"desktop": (1280, 800, False), "tablet": (820, 1180, True), "phone": (390, 844, True)}
PX_PER_MM = 96 / 25.4
HALF_HOUR_S = 1800.0


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[SimpleNamespace]:
    """A server of half an hour of twelve leads, of a minute of pulses (1 mV, 0.2 s, each second), and of one with a gap."""
    gap = heart(20_000, 500.0, seed=2)
    gap[1000:3000, 1] = MISSING_SAMPLE
    records = {
        "half-hour": (heart(900_000, 500.0), 500.0),
        "pulse": (pulses(30_000), PULSE_HZ),
        "gap": (gap, 500.0),
    }
    work = converted(tmp_path_factory.mktemp("viewer"), records)
    with served(viewer_app(places(work))) as address:
        yield SimpleNamespace(address=address, work=work)


def open_viewer(browser: Any, site: SimpleNamespace, key: str, size: str = "desktop", place: str = "") -> None:
    width, height, is_mobile = SIZES[size]
    media = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_mobile}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", media)
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": is_mobile})
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get("about:blank")
    browser.get(f"{site.address}/record/{key}/ecg{place}")
    wait_for(browser, "return document.documentElement.dataset.painted")


def wait_for(browser: Any, script: str, *arguments: Any) -> Any:
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 30, 0.05).until(lambda driver: driver.execute_script(script, *arguments))


def said(browser: Any) -> str:
    return browser.execute_script("return document.getElementById('said').textContent")


def wait_said(browser: Any, words: str) -> None:
    wait_for(browser, "return document.getElementById('said').textContent.includes(arguments[0])", words)


def press(browser: Any, *keys: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By

    ecg = browser.find_element(By.ID, "ecg")
    browser.execute_script("arguments[0].focus()", ecg)
    ActionChains(browser).send_keys(*keys).perform()


def ink(browser: Any, x: float, y: float, width: float, height: float) -> int:
    """Return how many pixels of a piece of the paper are as dark as a trace."""
    return browser.execute_script(
        "const c = document.getElementById('paper'), d = c.getContext('2d').getImageData(...arguments).data; let n = 0;"
        "for (let i = 0; i < d.length; i += 4) if (d[i] < 140 && d[i + 1] < 140 && d[i + 2] < 140) n += 1; return n;",
        *(round(value) for value in (x, y, width, height)),
    )


def test_half_an_hour_opens_and_is_panned_to_its_end_by_keys(browser, site):
    from selenium.webdriver.common.keys import Keys

    open_viewer(browser, site, "half-hour")
    wait_said(browser, "0:00.0 to 0:")
    assert "of 30:00: 25 mm/s, 10 mm/mV, no filter" in said(browser)
    assert ink(browser, 60, 60, 1000, 500) > 3000
    press(browser, Keys.PAGE_DOWN)
    wait_said(browser, "0:11.")
    press(browser, Keys.END)
    wait_said(browser, "29:47.4 to 30:00.0 of 30:00")
    wait_for(browser, "return location.hash.startsWith('#t=1787.')")
    assert ink(browser, 60, 60, 1000, 500) > 3000
    assert browser.execute_script("return document.getElementById('course').getAttribute('aria-valuetext')").endswith("30:00.0")
    press(browser, "0")
    wait_said(browser, "0:00 to 30:00 of 30:00")
    press(browser, "5", Keys.HOME, Keys.ARROW_UP)
    wait_said(browser, "50 mm/s, 20 mm/mV")
    press(browser, "f")
    wait_said(browser, "baseline filter 0.5 Hz")
    press(browser, "f")
    wait_said(browser, "filter 0.5-40 Hz")
    assert no_complaint(browser)


def no_complaint(browser: Any) -> bool:
    logged = [entry for entry in browser.get_log("browser") if "getImageData" not in entry["message"]]  # that was this test
    assert logged == []
    return browser.execute_script("return document.getElementById('trouble').hidden")


def test_nothing_is_asked_of_another_site_and_no_tile_twice(browser, site):
    open_viewer(browser, site, "half-hour", place="#t=600&speed=25")
    wait_said(browser, "10:00.0 to ")
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert {url.split("/record")[0].split("/static")[0] for url in asked if not url.startswith(("about:", "data:"))} == {
        site.address
    }
    tiles = [url for url in asked if "/tiles/" in url]
    assert len(tiles) == len(set(tiles)) >= 3


@pytest.mark.parametrize("size", SIZES)
def test_paper_is_true_to_scale(browser, site, size):
    """A pulse of 1 mV is 10 mm high and one a second 25 mm from the next, as far as pixels go; a ruler's 100 mm are that long."""
    open_viewer(browser, site, "pulse", size)
    browser.execute_script(
        "for (const b of document.querySelectorAll('#lead-boxes input')) if (b.dataset.lead !== '0') b.click();"
    )
    wait_for(browser, "return document.querySelectorAll('#lead-boxes input:checked').length === 1")
    wait_for(browser, "return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))")
    rows, columns = browser.execute_script(
        "const c = document.getElementById('paper'), x0 = Math.ceil(arguments[0]), w = c.width - x0, h = c.height - 20;"
        "const d = c.getContext('2d').getImageData(x0, 0, w, h).data, rows = Array(h).fill(0);"
        "const isDark = (x, y) => d[4 * (y * w + x)] < 165 && d[4 * (y * w + x) + 1] < 165;"
        "for (let y = 30; y < h; y += 1) for (let x = 2; x < w; x += 1) rows[y] += isDark(x, y);"
        "const top = rows.findIndex((n) => n > 0.1 * Math.max(...rows));"
        "return [rows, Array.from({length: w}, (_, x) => x).filter((x) => isDark(x, top) || isDark(x, top + 1))];",
        left_px(browser),
    )
    line, top = int(np.argmax(rows)), int(np.flatnonzero(np.array(rows) > 0.1 * max(rows))[0])
    assert line - top == pytest.approx(10 * PX_PER_MM, abs=1.5)
    rises = np.array(columns)[np.flatnonzero(np.diff(columns, prepend=-99) > 5)]
    assert np.diff(rises) == pytest.approx(25 * PX_PER_MM, abs=1.5)
    assert rises[0] == pytest.approx(0.5 * 25 * PX_PER_MM, abs=2)
    scale = browser.execute_script("return document.getElementById('ruler').style.width")
    assert float(scale.removesuffix("px")) == pytest.approx(100 * PX_PER_MM)


def measured(browser: Any) -> tuple[float, float]:
    reading = browser.execute_script("const r = document.getElementById('reading'); return [r.dataset.ms, r.dataset.mv];")
    return float(reading[0]), float(reading[1])


def wait_for_samples(browser: Any) -> None:
    """Wait until the samples that calipers snap to are here: a screen needs fewer."""
    wait_for(browser, "return performance.getEntriesByType('resource').some((e) => e.name.includes('/none/0/') && e.responseEnd)")
    wait_for(browser, "return new Promise((done) => setTimeout(() => requestAnimationFrame(() => done(true)), 200))")


def drag(browser: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Drag with the mouse from one place on the ECG to another."""
    for kind, (x, y), buttons in (("mousePressed", start, 1), ("mouseMoved", end, 1), ("mouseReleased", end, 0)):
        event = {"type": kind, "x": x, "y": y, "button": "left", "buttons": buttons, "clickCount": 1}
        browser.execute_cdp_cmd("Input.dispatchMouseEvent", event)


def pulse_places(browser: Any) -> tuple[float, float, float, float]:
    """Return on the screen: x of the first second's foot (0.3 s) and of the top (0.6 s); y of lead I's line and of its top."""
    box = browser.execute_script("const b = document.getElementById('ecg').getBoundingClientRect(); return [b.left, b.top];")
    dark = browser.execute_script(
        "const c = document.getElementById('paper'), x0 = arguments[0], found = [];"
        "for (const x of [x0 + 28, x0 + 57]) { const d = c.getContext('2d').getImageData(Math.round(x), 27, 1, 300).data;"
        "for (let y = 0; y < d.length / 4; y += 1) if (d[4 * y] < 165 && d[4 * y + 1] < 165) { found.push(y + 27); break; } }"
        "return found;",
        left_px(browser),
    )
    left = left_px(browser)
    return box[0] + left + 0.3 * 25 * PX_PER_MM, box[0] + left + 0.6 * 25 * PX_PER_MM, box[1] + dark[0], box[1] + dark[1]


def left_px(browser: Any) -> float:
    width = browser.execute_script("return document.getElementById('ecg').getBoundingClientRect().width")
    return round((8 if width < 600 else 13) * PX_PER_MM)


def test_calipers_find_the_known_pulse_by_mouse(browser, site):
    """1 mV and 1 s to one per cent: from the line to the next second's top, then from top to top."""
    open_viewer(browser, site, "pulse")
    press(browser, "c")
    wait_for_samples(browser)
    x_foot, x_top, y_line, y_top = pulse_places(browser)
    drag(browser, (x_foot, y_line), (x_foot + 25 * PX_PER_MM, y_line + 1))
    ms, mv = measured(browser)
    assert ms == pytest.approx(1000, rel=0.01)
    assert mv == pytest.approx(0, abs=0.01)
    drag(browser, (x_foot + 50, y_line + 60), (x_foot + 60, y_line + 61))  # elsewhere: a new measure begins
    drag(browser, (x_foot, y_line), (x_top, y_top))
    ms, mv = measured(browser)
    assert mv == pytest.approx(1.0, rel=0.01)
    assert ms == pytest.approx(300, abs=12)
    assert "mV (lead I, from 0:00." in browser.execute_script("return document.getElementById('reading').textContent")


def test_calipers_find_the_known_pulse_by_keys_alone(browser, site):
    from selenium.webdriver.common.keys import Keys

    open_viewer(browser, site, "pulse", place="#t=2&speed=25&gain=20")
    press(browser, "c", Keys.ARROW_RIGHT)
    wait_for_samples(browser)
    ms, _ = measured(browser)
    assert ms == pytest.approx(1000, rel=0.02)
    press(browser, Keys.ARROW_LEFT, "s", "x", "s")  # both points a second apart, onto the trace
    ms, mv = measured(browser)
    assert ms == pytest.approx(1000, rel=0.01)
    assert mv == pytest.approx(0, abs=0.001)
    for _ in range(100):  # up to a pulse, wherever the points are
        press(browser, Keys.ARROW_RIGHT, "s")
        ms, mv = measured(browser)
        if abs(mv) > 0.5:
            break
    assert abs(mv) == pytest.approx(1.0, rel=0.01)
    assert "kept" not in said(browser)
    press(browser, Keys.ESCAPE)
    assert browser.execute_script("return document.getElementById('calipers').getAttribute('aria-pressed')") == "false"
    assert measured(browser) == (ms, mv)
    assert no_complaint(browser)


def test_a_finger_pans_two_fingers_zoom_and_calipers_follow_a_finger(browser, site):
    open_viewer(browser, site, "half-hour", "phone", place="#t=60")
    wait_said(browser, "1:00.0 to ")
    touch(browser, [[(300, 400)], [(250, 401)], [(150, 402)]])
    wait_said(browser, f"1:0{150 / 25 / PX_PER_MM:.1f} to ")
    touch(browser, [[(150, 400), (250, 400)], [(100, 400), (300, 400)], [(50, 400), (350, 400)]])
    wait_for(browser, "return Number(location.hash.match(/speed=([0-9.]+)/)[1]) > 60")
    browser.execute_script("document.getElementById('calipers').click()")
    touch(browser, [[(120, 420)], [(160, 430)], [(220, 440)]])
    ms, _ = measured(browser)
    speed = float(browser.execute_script("return location.hash.match(/speed=([0-9.]+)/)[1]"))
    assert ms == pytest.approx(100 / speed / PX_PER_MM * 1000, rel=0.15)
    assert no_complaint(browser)


def touch(browser: Any, steps: list[list[tuple[float, float]]]) -> None:
    """Put fingers down, move them, lift them."""
    for number, points in enumerate(steps):
        kind = "touchMove" if number else "touchStart"
        fingers = [{"x": x, "y": y, "id": finger} for finger, (x, y) in enumerate(points)]
        browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})
    browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def test_missing_samples_are_a_gap(browser, site):
    """Lead II alone, and its samples from 2 to 6 s are missing: no ink there, and much beside."""
    open_viewer(browser, site, "gap")
    browser.execute_script("document.querySelector('[data-leads=rhythm]').click()")
    wait_for(browser, "return document.querySelectorAll('#lead-boxes input:checked').length === 1")
    wait_said(browser, "0:00.0 to ")
    left, per_s = left_px(browser), 25 * PX_PER_MM
    wait_for(browser, "return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))")
    assert ink(browser, left + 2 * per_s + 4, 30, 4 * per_s - 8, 450) == 0
    assert ink(browser, left + 6 * per_s + 4, 30, 4 * per_s, 450) > 300


def test_beats_are_in_a_table_that_leads_to_them(browser, site):
    from selenium.webdriver.common.by import By

    open_viewer(browser, site, "half-hour", place="#t=100")
    browser.find_element(By.CSS_SELECTOR, "#beats > summary").click()
    rows = wait_for(browser, "return [...document.querySelectorAll('#beat-rows tr')].map((r) => r.innerText)")
    assert 10 <= len(rows) <= 20
    assert all("not scored" in row for row in rows)
    button = browser.find_element(By.CSS_SELECTOR, "#beat-rows button")
    assert button.get_attribute("aria-label").startswith("Show beat ")
    shown_s = float(button.text.split(":")[1]) + 60 * float(button.text.split(":")[0])
    button.click()
    wait_for(browser, "return document.activeElement.id === 'ecg'")
    wait_for(browser, "return Math.abs(Number(location.hash.match(/t=([0-9.]+)/)[1]) - arguments[0]) < 8", shown_s)


def test_what_could_not_be_loaded_is_said_and_tried_again_by_moving(browser, site):
    open_viewer(browser, site, "half-hour")
    wait_said(browser, "0:00.0 to ")
    offline = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    browser.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    press(browser, "0", "5")
    browser.execute_script("location.hash = '#t=900&speed=25'")
    wait_for(browser, "return document.getElementById('trouble').textContent.includes('could not be loaded')")
    browser.execute_cdp_cmd("Network.emulateNetworkConditions", offline | {"offline": False})
    press(browser, "n")
    wait_for(browser, "return document.getElementById('trouble').hidden")
    assert ink(browser, 60, 60, 1000, 500) > 3000
    browser.get_log("browser")


def test_the_strip_leads_anywhere(browser, site):
    open_viewer(browser, site, "half-hour")
    box = browser.execute_script(
        "const b = document.getElementById('course').getBoundingClientRect(); return [b.left, b.top, b.width, b.height];"
    )
    middle = (box[0] + box[2] / 2, box[1] + box[3] / 2)
    drag(browser, middle, middle)
    wait_said(browser, "14:5")
    assert ink(browser, 60, 60, 1000, 500) > 3000


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("key", ["half-hour", "gap"])
def test_page_fits_reads_well_and_axe_finds_nothing_to_mend(browser, site, size, key):
    from axe_core_python.selenium import Axe

    open_viewer(browser, site, key, size)
    browser.execute_script("for (const one of document.querySelectorAll('details')) one.open = true;")
    wide = browser.execute_script("return [document.documentElement.clientWidth, document.documentElement.scrollWidth]")
    assert wide[1] <= wide[0]
    found = Axe().run(browser)
    assert [(rule["id"], [node["html"][:120] for node in rule["nodes"][:3]]) for rule in found["violations"]] == []
    passed = {rule["id"] for rule in found["passes"]}
    assert {"color-contrast", "page-has-heading-one", "document-title", "html-has-lang", "label", "button-name"} <= passed
    assert no_complaint(browser)


def test_median_beats_are_drawn_as_in_the_report(browser, site):
    from axe_core_python.selenium import Axe

    open_viewer(browser, site, "half-hour")
    browser.get(f"{site.address}/record/half-hour/ecg/median")
    assert browser.execute_script("return document.querySelectorAll('.medians svg path.median').length") == 12
    assert [rule["id"] for rule in Axe().run(browser)["violations"]] == []
    assert browser.get_log("browser") == []


def test_constants_of_the_pulse_are_what_the_test_says():
    signal = pulses(1000)
    assert np.ptp(signal[:, 0]) == GAIN
    assert signal[:, 0].min() == BASELINE
    assert np.flatnonzero(np.diff(signal[:, 0].astype(int)) > 0).tolist() == [249, 749]
