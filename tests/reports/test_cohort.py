"""The cohort's curves, subgroups and drift; and its page with 50,000 records."""

from __future__ import annotations

import csv
import json
import time
import tracemalloc
from base64 import b64decode
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from ecgbatch.figures import drift
from ecgbatch.figures.curves import curve_bands, subgroups
from ecgbatch.figures.thresholds import roc_curve
from ecgbatch.model.files import shipped_model
from ecgbatch.reports import cohort, cohort_page, pages, tables, worklist
from ecgbatch.reports.operating_point import model_summary
from ecgbatch.reports.words import STATEMENT_NAMES
from ecgbatch.scores.table import SCORES
from ecgbatch.terms import DECISION, LABEL, LEAD_FLAGS, QUALITY, SEX, STATEMENTS
from storage import TEXT, folder_at


def many_scores(n: int, *, seed: int = 0, labelled: bool = True) -> xr.Dataset:
    """Scores of ``n`` records of about ``0.6 n`` patients, as a scores store has them."""
    random = np.random.default_rng(seed)
    patient = np.sort(random.integers(0, max(2, round(0.6 * n)), n))
    mi = (patient % 3 == 0).astype(np.int8)
    logit = np.where(mi, 1.5, -1.5) + random.normal(0, 1.5, n)
    probability = (1 / (1 + np.exp(-logit))).astype(np.float32)
    unscored = random.random(n) < 0.04
    probability[unscored] = np.nan
    half = np.float32(0.05)
    low, high = np.maximum(probability - half, 0), np.minimum(probability + half, 1)
    called = np.where(probability >= 0.5, DECISION["mi_indicated"], DECISION["mi_not_indicated"])
    called = np.where((low <= 0.5) & (high >= 0.5), DECISION["indeterminate"], called)
    columns = {
        "record_name": np.array([f"patient{p:05d}/s{k:05d}_re" for k, p in enumerate(patient)], TEXT),
        "patient_id": np.array([f"patient{p:05d}" for p in patient], TEXT),
        "signals_store": np.full(n, "0" * 20, TEXT),
        "beats_store": np.full(n, "1" * 20, TEXT),
        "signals_row": np.arange(n),
        "beats_row": np.arange(n),
        "reason": np.where(unscored, "DAT_TRUNCATED", "").astype(TEXT),
        "status": np.where(unscored, 2, 0).astype(np.int8),
        "label": np.where(mi, LABEL["mi"], LABEL["control"]).astype(np.int8) * labelled,
        "mi": mi if labelled else np.full(n, -1, np.int8),
        "age_years": np.where(random.random(n) < 0.1, np.nan, random.integers(18, 90, n)).astype(np.float32),
        "sex": random.integers(0, 3, n).astype(np.int8),
        "mi_probability": probability,
        "probability_low": low,
        "probability_high": high,
        "threshold": np.where(unscored, np.nan, 0.5).astype(np.float32),
        "n_beats_detected": random.integers(8, 15, n).astype(np.int32),
        "n_beats_scored": random.integers(6, 9, n).astype(np.int32),
        "beat_agreement": np.where(unscored, np.nan, 1).astype(np.float32),
        "heart_rate_bpm": random.normal(72, 12, n).clip(35, 180).astype(np.float32),
        "n_members_used": np.full(n, 5, np.int16),
        "novelty": random.random(n).astype(np.float32),
        "score_flags": np.zeros(n, np.uint8),
        "decision": np.where(unscored, DECISION["not_scorable"], called).astype(np.int8),
    }
    assert set(columns) <= set(SCORES.variables)
    return xr.Dataset({name: ("record", values) for name, values in columns.items()})


def facts_of(scores: xr.Dataset) -> dict[str, np.ndarray]:
    is_mi, k = scores["mi"].values == 1, np.arange(scores.sizes["record"])
    facts = {
        "slug": [name.replace("/", "__") for name in scores["record_name"].values],
        "patient_unknown": k * 0,
        "reason_detail": np.where(scores["status"].values, "expected 120000 bytes, found 119991", ""),
        "diagnosis": np.where(is_mi, "Myocardial infarction", "Healthy control"),
        "infarct_location": np.where(is_mi, np.array(["anterior", "inferior", ""])[k % 3], ""),
        "infarct_age": np.where(is_mi, "acute", ""),
        "recording_year": np.where(k % 5, 1991 + 3 * (k % 4), -1),
        "duration_s": np.full(k.size, 10.0),
        "n_leads_usable": np.full(k.size, 12),
        "n_leads_scored": np.where(np.isfinite(scores["mi_probability"].values), 12, 0),
        "leads_derived": np.full(k.size, ""),
        "leads_unknown": np.full(k.size, ""),
        "lead_flags": np.where(k % 7 == 0, LEAD_FLAGS["noisy"], 0),
        "flags_by_lead": np.where(k % 7 == 0, "V1:noisy", ""),
        "quality": np.where(k % 7 == 0, QUALITY["remarks"], QUALITY["good"]),
        "warnings": np.where(k % 11 == 0, "SUM_DIFFERS", ""),
        "cart_numbers": np.full(k.size, ""),
        "cart_statements": np.full(k.size, ""),
    }
    unmeasured = tables.measured_facts(None)
    facts |= {name: np.full(k.size, np.nan if value is None else value) for name, value in unmeasured.items()}
    return {name: np.array(facts[name], dtype) for name, dtype in tables.FACTS.items()}


OPTIONS = {
    "model": {
        "name": "m",
        "digest": "d",
        "n_members": 5,
        "operating_point": {"threshold": 0.5, "chosen_on": "nobody"},
        "prevalence": 0.3,
        "reference": None,
    },
    "run": "r" * 20,
    "created": "2026-01-01T00:00:00+00:00",
    "archive": "many",
    "is_synthetic": True,
}


def test_bands_hold_their_curves_and_narrow_with_more_patients():
    widths = []
    for n in (150, 3000):
        scores = many_scores(n)
        bands = curve_bands(scores)
        roc = roc_curve(*(scores[name].values for name in ("mi_probability", "mi", "patient_id")))
        at = np.interp(bands["roc_band"]["false_positive_rate"], roc["false_positive_rate"], roc["sensitivity"])
        low, high = np.array(bands["roc_band"]["low"]), np.array(bands["roc_band"]["high"])
        assert ((low <= at + 0.02) & (at <= high + 0.02)).mean() > 0.95
        widths.append(float((high - low).mean()))
        for name in ("decision", "predictive_value"):
            curve = bands[name]
            for key in ("value",) if name == "decision" else ("ppv", "npv"):
                low, high = (curve["low"], curve["high"]) if key == "value" else (curve[f"{key}_low"], curve[f"{key}_high"])
                inside = (np.array(low) <= np.array(curve[key]) + 0.02) & (np.array(curve[key]) <= np.array(high) + 0.02)
                assert inside.mean() > 0.9, (name, key)
    assert widths[1] < widths[0] / 2


def test_net_benefit_is_that_of_acting_on_everybody_where_the_threshold_is_nought():
    scores = many_scores(600)
    curve = curve_bands(scores, n_resamples=20)["decision"]
    assert curve["value"][0] == pytest.approx(curve["treat_all"][0], abs=0.01)
    assert max(curve["value"]) <= 1 / 3 + 0.05
    assert curve["value"][-1] >= -0.05


def test_predictive_values_follow_bayes():
    scores = many_scores(900)
    curve = curve_bands(scores, n_resamples=50)["predictive_value"]
    assert curve["ppv"] == sorted(curve["ppv"])
    assert curve["npv"] == sorted(curve["npv"], reverse=True)


def test_curves_without_both_classes_are_empty():
    bands = curve_bands(many_scores(50, labelled=False))
    assert all(values == [] for curve in bands.values() for values in curve.values())


def test_subgroups_count_patients_and_say_which_are_small():
    scores = many_scores(400)
    found = subgroups(scores, facts_of(scores))
    by_name = {(group["kind"], group["name"]): group for group in found}
    sexes = [by_name["sex", word] for word in SEX]
    labelled = np.isfinite(scores["mi_probability"].values)
    assert sum(group["n_records"] for group in sexes) == labelled.sum()
    anterior, quality = by_name["localisation", "anterior"], by_name["quality", "a remark on some lead"]
    assert anterior["n_control"] >= by_name["sex", "male"]["n_control"]
    assert quality["auroc"]["low"] <= quality["auroc"]["value"] <= quality["auroc"]["high"]
    periods = [group["name"] for group in found if group["kind"] == "period"]
    assert periods == ["1990 to 1994", "1995 to 1999", "2000 to 2004", "unknown"]
    assert sum(by_name["period", name]["n_records"] for name in periods) == labelled.sum()
    assert all(group["is_small"] == (min(group["n_mi"], group["n_control"]) < 20) for group in found)


@pytest.mark.parametrize("name", ["mi-12-leads", "mi-lead-ii"])
def test_scores_are_compared_with_those_of_the_shipped_models_training(name, tmp_path):
    scores = many_scores(400)
    now = drift.distributions(scores, facts_of(scores))
    stated = json.loads((shipped_model(name) / "model.json").read_text())
    found = drift.drift(folder_at(tmp_path), "", model_summary(stated), now)
    assert found["training"]["reason"] == ""
    assert found["training"]["variables"]["mi_probability"]["n_then"] == stated["training"]["n_records"] > 1800
    of_itself = drift.drift(folder_at(tmp_path), "", model_summary(stated), now, is_training=True)
    assert of_itself["training"]["variables"] == {}
    assert "own training" in of_itself["training"]["reason"]


def test_drift_is_nil_against_itself_and_large_against_another():
    scores = many_scores(2000)
    now = drift.distributions(scores, facts_of(scores))
    same = drift.compare(now, now)
    assert all(row["psi"] == 0 and row["verdict"] == "stable" for row in same.values())
    shifted = scores.assign(mi_probability=1 - scores["mi_probability"])
    moved = drift.compare(now, drift.distributions(shifted, facts_of(scores)))
    assert moved["mi_probability"]["verdict"] == "large"
    assert moved["heart_rate_bpm"]["verdict"] == "stable"
    few = many_scores(60)
    assert drift.compare(now, drift.distributions(few, facts_of(few)))["heart_rate_bpm"]["verdict"] == "few records"


def test_what_is_new_changed_and_gone_since_the_last_run(tmp_path):
    from ecgbatch.workspace.runs import write_run
    from tests.reports.report_runs import run_made_in

    ran = run_made_in(tmp_path)
    first = ran.cohort
    assert first["since_last_run"] is None
    assert first["drift"]["last_run"]["reason"] == "there is no earlier run"
    archive = tmp_path / "archive"
    kept = [name for name in ran.names if name != ran.names[0]]
    header = archive / f"{ran.names[2]}.hea"
    header.write_text(header.read_text().replace("# Additional diagnoses: n/a", "# Additional diagnoses: none"))
    mended = archive / f"{ran.broken}.dat"
    mended.write_bytes(mended.read_bytes() + bytes(7))
    for kind in ("hea", "dat", "xyz"):
        source = archive / f"{ran.names[4]}.{kind}"
        copy = archive / f"{ran.names[4]}b.{kind}"
        copy.write_bytes(source.read_bytes().replace(source.stem.encode(), copy.stem.encode()))
    (archive / "RECORDS").write_text("".join(f"{name}\n" for name in [*kept, f"{ran.names[4]}b"]))
    from ecgbatch.beats.lookup import extract_beats
    from ecgbatch.beats.record import BeatSettings
    from ecgbatch.reports.writing import report_workspace
    from ecgbatch.scores.stage import score_workspace
    from ecgbatch.signals.stage import convert_archive

    convert_archive(str(archive), ran.work)
    extract_beats(ran.work, BeatSettings())
    time.sleep(1.1)  # runs are told apart by the second of their making
    run = score_workspace(ran.work, str(tmp_path / "model"))
    write_run(ran.work, run, {})
    said = report_workspace(ran.work, run)
    found = json.loads((Path(said["reports"]) / "cohort.json").read_text())["since_last_run"]
    assert found["run"] == ran.run
    assert found["new"] == [f"{ran.names[4]}b"]
    assert found["gone"] == [ran.names[0]]
    assert sorted(found["changed"]) == sorted([ran.names[2], ran.broken])
    assert found["n_same"] == len(ran.names) - 3
    with (Path(said["reports"]) / "scores.csv").open(newline="") as file:
        since = {row["record_name"]: row["since_last_run"] for row in csv.DictReader(file)}
    assert [name for name, words in since.items() if words == "new"] == found["new"]
    assert [name for name, words in since.items() if "changed" in words] == found["changed"]
    decided = [moved["record_name"] for moved in found["decisions_changed"]]
    assert [name for name, words in since.items() if "decided_otherwise" in words] == decided
    page = (Path(said["reports"]) / "cohort.html").read_text()
    assert f"Beside run <code>{ran.run}</code>" in page


def test_files_have_changed_where_digests_of_one_kind_differ_else_where_samples_do():
    """An earlier version's digest says nothing beside one of today: it would have called every record changed."""
    same, other = b"12 leads, these sums", b"12 leads, other sums"
    before = [("aa", same), ("aa", same), ("aa", same), ("blake3:aa", same), ("blake3:aa", same), ("", b"")]
    now = [
        ("aa", same),
        ("blake3:bb", same),
        ("blake3:bb", other),
        ("blake3:aa", other),
        ("blake3:bb", same),
        ("blake3:aa", same),
    ]
    assert drift._are_other_files(before, now).tolist() == [False, False, True, False, True, True]
    leads, columns = ["I", "II", "V1"], [9, [5, 6, 7], [1.0, 2.0, 3.0], [0, 0, 0], [0, 0, LEAD_FLAGS["missing"]]]
    swapped = ["II", "I"], [9, [6, 5], [2.0, 1.0], [0, 0], [0, 0]]
    assert drift._said_of_samples(leads, columns) == drift._said_of_samples(*swapped)
    assert drift._said_of_samples(leads, columns) != drift._said_of_samples(leads, [9, [5, 8, 7], *columns[2:]])


def test_the_list_has_a_name_for_every_statement():
    assert set(STATEMENT_NAMES) == set(STATEMENTS)
    assert STATEMENT_NAMES["qtc_very_long"] == "QTc very long"


def page_of(scores: xr.Dataset, *, of: xr.Dataset | None = None) -> str:
    """The page of these scores; its figures are of others where those would take long."""
    figures = scores if of is None else of
    found = cohort.cohort_report(tables.Table(figures, facts_of(figures)), OPTIONS) | {
        "since_last_run": None,
        "timing": {"seconds": {}, "records_per_second": {}},
    }
    nothing = {"reason": "", "variables": {}, "n_unlike": 0, "n_measured": 0}
    found["drift"] = {"last_run": nothing | {"run": ""}, "training": nothing}
    return cohort_page.cohort_page(found, tables.Table(scores, facts_of(scores))).decode()


def data_of(page: str) -> dict[str, Any]:
    return json.loads(page.partition('id="data">')[2].partition("</script>")[0])


def decoded(column: dict[str, Any], n: int) -> list[Any]:
    """A column of the page's data as the page's script reads it."""
    if "f4" in column:
        return tables.known(np.frombuffer(b64decode(column["f4"]), "<f4"))
    if "i4" in column:
        return np.frombuffer(b64decode(column["i4"]), "<i4").tolist()
    if "all" in column:
        return column["all"]
    signs = {sign: place for place, sign in enumerate(worklist._SIGNS)}
    width = 2 if len(column["of"]) > 64 else 1
    pieces = [column["code"][width * k : width * (k + 1)] for k in range(n)]
    return [column["of"][sum(signs[sign] * 64 ** (width - 1 - k) for k, sign in enumerate(piece))] for piece in pieces]


def test_page_of_fifty_thousand_records_is_under_seven_megabytes_and_holds_each_column_of_the_table():
    few, many = many_scores(500), many_scores(50_000)
    page = page_of(many, of=few)
    assert len(page.encode()) < 7_000_000
    data, table = data_of(page), tables.Table(many, facts_of(many))
    assert data["csv"] == list(tables.COLUMNS)
    for name in ("record_name", "mi_probability", "heart_rate_bpm", "decision", "age_years", "flags_by_lead", "signals_row"):
        assert decoded(data[f"={name}"], 50_000) == table.column(name, table.order), name


def test_tables_of_a_cohort_hold_little_more_than_their_bytes():
    """As lists of Python values they took two kilobytes a record beside them."""
    most = {}
    for n in (5000, 10_000):
        scores = many_scores(n)
        facts = facts_of(scores)
        makers = {
            "csv": lambda scores=scores, facts=facts: tables.csv_table(tables.Table(scores, facts)),
            "page": lambda scores=scores, facts=facts: list(pages.data_block(worklist.data(tables.Table(scores, facts)))),
        }
        for name, make in makers.items():
            tracemalloc.start()
            try:
                content = make()
                held = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            most[name, n] = held - sum(map(len, content)) if name == "page" else held - len(content)
    growth = {name: (most[name, 10_000] - most[name, 5000]) / 5000 for name in makers}
    print(growth)
    assert max(growth.values()) < 400
