"""What of ``test_cohort`` takes long."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ecgbatch.reports import cohort
from storage import folder_at
from tests.reports.test_cohort import OPTIONS, facts_of, many_scores

pytestmark = pytest.mark.slow


@pytest.mark.skipif(not shutil.which("chromedriver"), reason="no chromedriver on PATH: install chromium-driver")
def test_fifty_thousand_records_are_usable_in_a_browser(tmp_path):
    """Opened, searched, sorted, filtered, put on paper, saved; times printed, none asserted (docs/reports.md states ours)."""
    from selenium import webdriver

    from tests.chromium import CHROMIUM, DRIVER, FLAGS

    scores = many_scores(50_000)
    paths = cohort.write_cohort(folder_at(tmp_path), scores, facts_of(scores), OPTIONS)
    assert Path(paths["cohort_html"]).stat().st_size < 7_000_000
    found = json.loads(Path(paths["cohort_json"]).read_text())
    assert found["n_records"] == 50_000 == sum(found["decisions"].values())
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'chromium'}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=str(DRIVER)))
    try:
        timed, times = "const t = performance.timing; return (t.loadEventEnd - t.navigationStart) / 1000", []
        for _ in range(5):
            driver.get(Path(paths["cohort_html"]).as_uri())
            times.append(driver.execute_script(timed))
        assert driver.execute_script("return document.getElementById('count').textContent") == "1 to 100 of 50000 records"
        act = "const t = performance.now(); {} return (performance.now() - t) / 1000"
        search = "const s = document.getElementById('search'); s.value = '{}'; s.dispatchEvent(new Event('input'));"
        spent = {"search": driver.execute_script(act.format(search.format("s49999")))}
        assert driver.execute_script("return document.querySelectorAll('#records tbody tr').length") == 1
        driver.execute_script(search.format(""))
        spent["sort"] = driver.execute_script(act.format("document.querySelector('button[data-key=mi_probability]').click();"))
        choose = "const s = document.getElementById('f-label'); s.value = 'mi'; s.dispatchEvent(new Event('change'));"
        spent["filter"] = driver.execute_script(act.format(choose))
        n_mi = found["labels"]["mi"]
        assert driver.execute_script("return document.getElementById('count').textContent") == f"1 to 100 of {n_mi} records"
        driver.execute_script("location.hash = ''")
        spent["rows for paper"] = driver.execute_script(act.format("window.dispatchEvent(new Event('beforeprint'));"))
        assert driver.execute_script("return document.querySelectorAll('#records tbody tr').length") == 50_000
        driver.execute_script("window.dispatchEvent(new Event('afterprint'))")
        driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
        spent["CSV"] = driver.execute_script(act.format("document.getElementById('csv').click();"))
        told = ", ".join(f"{what} {seconds:.3f} s" for what, seconds in spent.items())
        print(f"\nload {np.median(times):.2f} s (at most {max(times):.2f}), {told}")
    finally:
        driver.quit()
