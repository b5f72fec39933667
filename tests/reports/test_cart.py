"""The cart's own numbers and statements from the file to the reports: beside ours, and no free text unless it is asked for."""

from __future__ import annotations

import csv
import json
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from ecgbatch import cli
from ecgbatch.model.files import shipped_model
from ecgbatch.reports.cart import cart_document, cart_facts, cart_line, cart_words, compared
from storage import list_stores, open_store
from tests.formats.cart_files import with_cart
from tests.formats.device_files import as_wfdb, ecg, muse

TOLD = """<RestingECGMeasurements><VentricularRate>72</VentricularRate><PRInterval>Zaphod</PRInterval><QTInterval>400</QTInterval>
<RAxis>-170</RAxis></RestingECGMeasurements><Diagnosis><DiagnosisStatement><StmtFlag>ENDSLINE</StmtFlag>
<StmtText>Anterior infarct, age undetermined</StmtText></DiagnosisStatement><DiagnosisStatement>
<StmtText>Compared with Mr Zaphod's of May</StmtText></DiagnosisStatement></Diagnosis>"""


def command(*arguments: str | Path) -> dict[str, Any]:
    with pytest.raises(SystemExit) as ended, redirect_stdout(StringIO()) as out:
        cli.main([*map(str, arguments), "--workers", "1", "--json"])
    assert ended.value.code == 0
    printed: dict[str, Any] = json.loads(out.getvalue())
    return printed


def texts_of(folder: Path) -> str:
    return "\n".join(path.read_bytes().decode("latin-1") for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One ECG thrice: as MUSE XML with what the cart said and without, and as WFDB, which has no place for it."""
    folder = tmp_path_factory.mktemp("carts") / "archive"
    leads = ecg(n=2500)
    as_wfdb(leads, 250, 5).write(folder)
    empty = "<Diagnosis><DiagnosisStatement><StmtText>Sinus rhythm of Canary</StmtText></DiagnosisStatement></Diagnosis>"
    content = muse(leads).replace(empty.encode(), b"")
    (folder / "m.xml").write_bytes(with_cart(content, TOLD))
    (folder / "n.xml").write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def work(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("carts-work") / "work"
    command("convert", archive, folder)
    command("beats", folder)
    command("score", folder, "--model", shipped_model())
    return folder


def test_reports_show_the_carts_beside_ours_and_no_free_text(work: Path) -> None:
    reports = Path(command("report", work, "--fhir", "--pdf", "--pages", "all")["cohort"]).parent
    files = [path for path in (reports / "records").glob("*.json") if ".fhir" not in path.name]
    records = {json.loads(path.read_text())["record_name"]: path for path in files}
    report = json.loads(records["m.xml"].read_text())
    rate = report["cart"]["numbers"]["heart_rate_bpm"]
    assert rate["value"] == 72
    assert rate["ours"] == report["measurements"]["heart_rate_bpm"]["value"] == pytest.approx(60 / 0.85, abs=0.5)
    assert rate["difference"] == pytest.approx(72 - rate["ours"], abs=1e-3)
    assert report["cart"]["left_out"] == ["pr_ms"]
    said = "anterior infarct, age undetermined"
    assert report["cart"]["statements"] == [{"code": said, "system": "phrase", "words": said}]
    assert (report["label"], report["label_rule"], report["diagnosis"]) == ("unknown", "", "")  # an infarct is no label here
    assert "comments" not in report
    assert "CART_LEFT_OUT" in report["warnings"]
    other = json.loads(records["n.xml"].read_text())
    assert other["cart"] is None
    assert other["mi_probability"] == report["mi_probability"]
    assert other["decision"] == report["decision"]
    page, plain = (records[name].with_suffix(".html").read_text() for name in ("m.xml", "r"))
    assert "The cart's own" in page
    assert "Anterior infarct, age undetermined" in page
    assert "The cart's own" not in plain
    bundle = json.loads(records["m.xml"].with_suffix(".fhir.json").read_text())
    devices = [entry["resource"].get("device", {}).get("display") for entry in bundle["entry"]]
    assert devices.count("the electrocardiograph that recorded the ECG") == 4
    with (reports / "scores.csv").open(newline="") as file:
        rows = {row["record_name"]: row for row in csv.DictReader(file)}
    assert rows["m.xml"]["cart_numbers"] == "heart_rate_bpm:72;qt_ms:400;axis_qrs_deg:-170"
    assert rows["m.xml"]["cart_statements"] == said
    assert (rows["r"]["cart_numbers"], rows["r"]["cart_statements"]) == ("", "")
    whole = {row["record_name"]: json.loads(row["json"]) for row in pq.read_table(reports / "records.parquet").to_pylist()}
    assert whole["m.xml"]["cart"] == report["cart"]
    assert "Zaphod" not in texts_of(work)


def test_pseudonymous_reports_have_codes_and_numbers_and_no_text(archive: Path, tmp_path: Path) -> None:
    work = tmp_path / "kept"
    command("convert", archive, work, "--keep-comments")
    comments = {}
    for path in list_stores(str(work), "signals"):
        store = open_store(path)
        comments |= dict(zip(store["record_name"].values.tolist(), store["comments"].values.tolist(), strict=True))
    assert comments["m.xml"].split("\n")[-1] == "The cart's: Compared with Mr Zaphod's of May"
    command("beats", work)
    command("score", work, "--model", shipped_model())
    plain = Path(command("report", work, "--pages", "all")["cohort"]).parent
    assert "Compared with Mr Zaphod" in texts_of(plain)
    hidden = Path(command("report", work, "--pseudonymise", "--pages", "all")["cohort"]).parent
    assert "Zaphod" not in texts_of(hidden)
    assert "anterior infarct" in texts_of(hidden)


def test_stores_in_which_no_record_has_it_lack_the_column(work: Path, tmp_path: Path) -> None:
    (store,) = (open_store(path) for path in list_stores(str(work), "signals"))
    assert dict(zip(store["record_name"].values.tolist(), (store["cart"].values != "").tolist(), strict=True)) == {
        "m.xml": True,
        "n.xml": False,
        "r": False,
    }
    as_wfdb(ecg(n=2500), 250, 5).write(tmp_path / "plain")
    command("convert", tmp_path / "plain", tmp_path / "w")
    (plain,) = (open_store(path) for path in list_stores(str(tmp_path / "w"), "signals"))
    assert "cart" not in plain


def test_differences_of_axes_go_the_shorter_way_round() -> None:
    text = '{"numbers":{"axis_qrs_deg":-170,"qtc_ms":400,"pr_ms":150},"statements":[],"left_out":[]}'
    measured = {"axis_qrs_deg": {"value": 170.0}, "pr_ms": {"value": None}}
    cart = compared(cart_document(text), measured)
    assert cart is not None
    assert cart["numbers"]["axis_qrs_deg"] == {"value": -170, "ours": 170.0, "difference": 20.0}
    assert cart["numbers"]["qtc_ms"] == {"value": 400, "ours": None, "difference": None}  # by which formula is not known
    assert cart["numbers"]["pr_ms"]["difference"] is None
    words = cart_words(cart)
    assert words is not None
    assert [row.title for row in words["rows"]] == ["QRS axis", "QTc, formula not named", "PR"]
    assert "QRS axis -170 °" in cart_line(cart)
    assert cart_line(cart, most=20).endswith("QRS axis -170 °; 2 more on the HTML page.")


def test_nothing_stated_is_nothing_shown() -> None:
    assert cart_document("") is None
    assert compared(None, {}) is None
    assert cart_words(None) is None
    assert cart_line(None) == ""
    assert cart_facts({}) == {"cart_numbers": "", "cart_statements": ""}


def test_records_named_alike_in_both_forms_have_equal_samples(work: Path) -> None:
    signals = [open_store(path) for path in list_stores(str(work), "signals")]
    rows = [(store["record_name"].values.tolist(), store["signal"].values[:, 0]) for store in signals]
    by_name = {name: values for names, lead in rows for name, values in zip(names, lead, strict=True)}
    np.testing.assert_array_equal(by_name["m.xml"], by_name["r"])
