"""The viewer in a headless browser: when half an hour of twelve leads is first painted, how it pans, what travels.

    python -m benchmarks.speed.viewer [--rounds 5]

Milliseconds are from the request of the page to the first picture of all leads, and frames a second those of
``requestAnimationFrame`` while each frame pans by twelve pixels; both depend on what else the machine does. Beside them stands
the processor time of the page's thread, which does not. Prints; asserts nothing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from benchmarks.speed.chromium import FLAGS
from ecgbatch.beats.lookup import extract_beats
from ecgbatch.beats.record import BeatSettings
from ecgbatch.reports.writing import record_slugs
from ecgbatch.serving import ecg_routes
from ecgbatch.serving.recording import Place
from ecgbatch.signals.stage import convert_archive
from ecgbatch.synthetic.archive import ArchiveShape, write_archive
from storage import list_stores, open_store

VIEWS = {"25 mm/s": "", "50 mm/s": "#speed=50", "5 mm/s": "#speed=5", "1 mm/s": "#speed=1", "whole": "#speed=0.01"}

_PAN = """
const [seconds, by, done] = arguments, ecg = document.getElementById("ecg"), t0 = performance.now();
let frames = 0, last = t0, worst = 0;
requestAnimationFrame(function step(now) {
  frames += 1; worst = Math.max(worst, now - last); last = now;
  ecg.dispatchEvent(new WheelEvent("wheel", { deltaY: by, cancelable: true, bubbles: true }));
  if (now - t0 < seconds * 1000) requestAnimationFrame(step); else done([frames, now - t0, worst]);
});
"""


def places(work: str) -> dict[str, Place]:
    """Return the place of every record of a workspace by a key that may stand in an address."""
    beats = {}
    for path in list_stores(work, "beats"):
        for row, name in enumerate(open_store(path)["record_name"].values.tolist()):
            beats[name] = {"beats_store": Path(path).stem, "beats_row": row}
    scores = {}
    for path in list_stores(work, "scores"):
        for row, name in enumerate(open_store(path)["record_name"].values.tolist()):
            scores[name] = {"scores_run": Path(path).stem, "scores_row": row}
    found = {}
    for path in list_stores(work, "signals"):
        for row, name in enumerate(open_store(path)["record_name"].values.tolist()):
            found[name] = Place(work, Path(path).stem, row, name, **beats.get(name, {}), **scores.get(name, {}))
    slugs = record_slugs(found)
    return {slugs[name]: place for name, place in found.items()}


def viewer_app(found: dict[str, Place]) -> FastAPI:
    """Return an application of nothing but the viewer."""
    app = FastAPI(openapi_url=None)
    app.include_router(ecg_routes.ecg_router(found.get, links=lambda key: [("Report", f"../../report/{key}")]))
    app.mount("/static", StaticFiles(directory=Path(ecg_routes.__file__).parent / "static"))
    return app


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """Serve an application on a free port of loopback; yields its address."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, lifespan="off"))
    thread = Thread(target=server.run, daemon=True)
    thread.start()
    limit = monotonic() + 30
    while not server.started and thread.is_alive() and monotonic() < limit:
        sleep(0.02)
    assert server.started, "the server did not start"
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)


@contextmanager
def browser(folder: Path) -> Iterator[Any]:
    """Start a headless Chromium of 1280 by 800."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for flag in (*FLAGS, f"--user-data-dir={folder}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=str(shutil.which("chromedriver"))))
    media = {"width": 1280, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", media)
    driver.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
    try:
        yield driver
    finally:
        driver.quit()


def processor_s(driver: Any) -> float:
    """Return how long the page's own thread has worked, in seconds of a processor."""
    found = {one["name"]: one["value"] for one in driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]}
    return float(found["TaskDuration"])


def first_paint(driver: Any, address: str) -> tuple[float, float, float]:
    """Return milliseconds to the first picture of all leads, milliseconds of processor, and kilobytes that travelled."""
    driver.execute_cdp_cmd("Network.clearBrowserCache", {})
    driver.get("about:blank")
    before = processor_s(driver)
    driver.get(address)
    while not driver.execute_script("return document.documentElement.dataset.painted"):
        sleep(0.02)
    painted = float(driver.execute_script("return document.documentElement.dataset.painted"))
    n_bytes = driver.execute_script(
        "return [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]"
        ".reduce((sum, one) => sum + one.transferSize, 0)"
    )
    return painted, 1000 * (processor_s(driver) - before), n_bytes / 1000


def panning(driver: Any, address: str, seconds: float = 2.0) -> tuple[float, float, float]:
    """Return frames a second while the view pans, milliseconds of processor a frame, and the longest frame in milliseconds."""
    driver.get("about:blank")
    driver.get(address)
    sleep(1.0)
    before = processor_s(driver)
    frames, took_ms, worst_ms = driver.execute_async_script(_PAN, seconds, 12)
    return 1000 * frames / took_ms, 1000 * (processor_s(driver) - before) / frames, worst_ms


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        archive, work = str(folder / "archive"), str(folder / "work")
        write_archive(archive, ArchiveShape(n_records=1, duration_s=1800.0, sampling_frequency_hz=500.0, n_leads=12), seed=3)
        convert_archive(archive, work)
        extract_beats(work, BeatSettings())
        ((key, _),) = places(work).items()
        print(f"30 min of 12 leads at 500 Hz; {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
        with served(viewer_app(places(work))) as address, browser(folder / "chromium") as driver:
            page = f"{address}/record/{key}/ecg"
            for name, place in VIEWS.items():
                found = [first_paint(driver, page + place) for _ in range(rounds)]
                paint_ms, work_ms, kilobytes = (statistics.median(values) for values in zip(*found, strict=True))
                print(f"{name:8} first paint {paint_ms:5.0f} ms (processor {work_ms:4.0f} ms), {kilobytes:5.0f} kB", end="; ")
                if name != "whole":
                    found = [panning(driver, page + place) for _ in range(rounds)]
                    rate, frame_ms, worst_ms = (statistics.median(values) for values in zip(*found, strict=True))
                    print(f"pan {rate:3.0f} frames/s (processor {frame_ms:4.1f} ms a frame, longest {worst_ms:3.0f} ms)", end="")
                print()
        print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
