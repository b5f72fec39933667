"""Reports in a real browser: true to scale, nothing cut off, no error, no request that leaves the file, readable by all."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from storage import open_store
from tests.chromium import CHROMIUM, DRIVER, chromium
from tests.reports.report_runs import long_record_page, reported_run

pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no chromium and chromedriver on PATH: install chromium-driver")

PX_PER_MM = 96 / 25.4
"""CSS pixels: 96 to the inch, whatever the screen."""

SIZES = {"desktop": (1280, False), "phone": (390, False), "print": (1062, True)}
"""Width in CSS pixels, and whether the print style applies; 1062 is what A4 landscape leaves between its margins."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> SimpleNamespace:
    found = reported_run(tmp_path_factory.mktemp("browser"))
    found.long = long_record_page(tmp_path_factory.mktemp("long"))
    return found


def pages(ran: SimpleNamespace) -> dict[str, Path]:
    good = next(name for name in ran.names if name not in (ran.broken, ran.partial, ran.evil))
    records = {"good": good, "partial": ran.partial, "set aside": ran.broken, "attacking": ran.evil}
    found = {kind: ran.folder / "records" / f"{ran.slugs[name]}.html" for kind, name in records.items()}
    return {"cohort": ran.folder / "cohort.html", "long": ran.long, **found}


KINDS = ("cohort", "good", "long", "partial", "set aside", "attacking")


def open_page(browser: Any, path: Path, size: str) -> None:
    width, is_print = SIZES[size]
    media = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", media)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print" if is_print else "screen"})
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(path.as_uri())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_page_fits_logs_nothing_and_asks_for_nothing(browser, ran, kind, size):
    path = pages(ran)[kind]
    open_page(browser, path, size)
    wide = browser.execute_script(
        "const w = document.documentElement.clientWidth;"
        "return [w, document.documentElement.scrollWidth, [...document.querySelectorAll('main *:not(svg *)')].filter(e =>"
        "e.getBoundingClientRect().right > w + 1 && !e.closest('.sheet, .table')).map(e => e.outerHTML.slice(0, 90))]"
    )
    assert wide[1] <= wide[0], wide
    assert wide[2] == []
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"}
    assert asked == {path.as_uri()}


@pytest.mark.parametrize("size", ["desktop", "phone"])
@pytest.mark.parametrize("kind", KINDS)
def test_axe_finds_nothing_to_mend(browser, ran, kind, size):
    from axe_core_python.selenium import Axe

    open_page(browser, pages(ran)[kind], size)
    found = Axe().run(browser)
    said = [(rule["id"], rule["help"], [node["html"][:120] for node in rule["nodes"][:3]]) for rule in found["violations"]]
    assert said == []
    passed = {rule["id"] for rule in found["passes"]}
    assert {"color-contrast", "heading-order", "page-has-heading-one", "document-title", "html-has-lang"} <= passed


@pytest.mark.parametrize("size", SIZES)
def test_one_millivolt_is_ten_millimetres_and_one_second_twenty_five_on_the_page(browser, ran, size):
    """Measured on what the browser lays out, against the samples in the store; to one per cent."""
    path = pages(ran)["good"]
    report = json.loads(path.with_suffix(".json").read_text())
    open_page(browser, path, size)
    measured = browser.execute_script(
        "const on = e => { const b = e.getBBox(), m = e.getScreenCTM(); return [b.width * m.a, b.height * m.d, m.b, m.c]; };"
        "const strips = [...document.querySelectorAll('path.trace[data-lead=\"II\"]')];"
        "return [on(strips[strips.length - 1]), on(document.querySelector('path.pulse'))];"
    )
    store = open_store(Path(ran.work) / "signals" / f"{report['provenance']['signals_store']}.zarr")
    row = store["record_name"].values.tolist().index(report["record_name"])
    lead = store["lead"].values.tolist().index("II")
    fs, n_samples = report["sampling_frequency_hz"], report["n_samples"]
    first = round(report["excerpt"]["start_s"] * fs)
    steps = store["signal"][row, lead, first : min(first + round(10 * fs), n_samples)].values.astype(float)
    millivolts = np.ptp(steps) / store["adc_gain"].values[row, lead]
    (width, height, *skew), pulse = measured
    assert skew == [0, 0]
    assert height == pytest.approx(millivolts * 10 * PX_PER_MM, rel=0.01)
    assert width == pytest.approx((steps.size - 1) / fs * 25 * PX_PER_MM, rel=0.01)
    assert pulse[1] == pytest.approx(10 * PX_PER_MM, rel=0.01)
    assert pulse[0] == pytest.approx(8 * PX_PER_MM, rel=0.01)  # 1.5 mm, 0.2 s, 1.5 mm
    for words in ("25 mm/s", "10 mm/mV"):
        assert words in path.read_text()


def test_record_prints_on_two_landscape_pages_of_a4_and_one_for_other_recordings(browser, ran):
    from pypdf import PdfReader

    path = pages(ran)["good"]
    report = json.loads(path.with_suffix(".json").read_text())
    open_page(browser, path, "print")
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True, "printBackground": True})
    reader = PdfReader(BytesIO(b64decode(printed["data"])))
    assert len(reader.pages) <= 2 + bool(report["serial"])
    box = reader.pages[0].mediabox
    assert (float(box.width), float(box.height)) == pytest.approx((297 / 25.4 * 72, 210 / 25.4 * 72), abs=1)
    text = " ".join(" ".join(page.extract_text() for page in reader.pages).split())
    assert report["decision_words"] in text
    assert f"{report['mi_probability']:.3f}" in text
    assert report["notice"] in text


def test_ecg_prints_whole_on_one_sheet_and_the_strips_of_the_rest_on_the_next(browser, ran):
    from pypdf import PdfReader

    report = json.loads(ran.long.with_suffix(".json").read_text())
    assert report["strips"]["n_lines"] == 3
    open_page(browser, ran.long, "print")
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True, "printBackground": True})
    pages_of_words = [" ".join(page.extract_text().split()) for page in PdfReader(BytesIO(b64decode(printed["data"]))).pages]
    assert len(pages_of_words) <= 3
    (sheet,) = [words for words in pages_of_words if "R peaks marked above lead II" in words]
    for words in ("aVR", "V6", "25 mm/s", report["record_name"], report["decision_words"]):
        assert words in sheet
    (after,) = [words for words in pages_of_words if "0:25" in words]
    assert "The whole recording: lead II" in after
