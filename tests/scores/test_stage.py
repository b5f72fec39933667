"""Scoring: every rule for a score and for none, intervals, and the same bytes on every engine."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import ecgbatch.scores.table
from ecgbatch.beats.stage import BEATS
from ecgbatch.evaluation.audit import groups
from ecgbatch.figures.of_scores import evaluate_scores, indeterminate_kinds
from ecgbatch.model.definition import DEFAULT_LEADS, Calibration, Member, Model, OperatingPoint, Preprocessing
from ecgbatch.model.electrodes import put_back
from ecgbatch.model.files import save_model
from ecgbatch.model.inference import beat_logits, pack
from ecgbatch.model.members import abnormal_logits, member_probabilities
from ecgbatch.model.network import BeatNet
from ecgbatch.model.preparation import prepare_waveforms
from ecgbatch.model.probability import record_probability, rule_for
from ecgbatch.model.splits import patient_digest
from ecgbatch.scores.decision import decide, probability_interval, score_record
from ecgbatch.scores.scorable import MIN_SCORABLE_BEATS, REASONS, min_usable_leads, with_own_status
from ecgbatch.scores.shard import heart_rate_bpm, prepared_beats, score_shard
from ecgbatch.scores.stage import score_records
from ecgbatch.scores.stored_beats import RecordBeats
from ecgbatch.scores.table import SCORES, plan_scores
from ecgbatch.signals.table import SIGNALS
from ecgbatch.terms import (
    BEAT_FLAGS,
    DECISION,
    INDETERMINATE_KINDS,
    LABEL,
    LEAD_FLAGS,
    SCORE_FLAGS,
    STATUS,
    words_of_mask,
)
from storage import TEXT, build, make_plan, open_store, verify_store

LEADS = ("I", "II", "V2")
N_SAMPLES = 88
KEY = "key of a test"
FIGURE = {"value": 0.9, "low": 0.8, "high": 1.0, "n_patients": 20}


def _member(number: int, seen: tuple[str, ...]) -> Member:
    with torch.random.fork_rng():
        torch.manual_seed(number)
        network = BeatNet(len(LEADS), N_SAMPLES)
    weights = {name: tensor.numpy().copy() for name, tensor in network.state_dict().items()}
    weights["output.weight"] *= 8  # random networks say 0.5 to everything: make them disagree
    digests = tuple(patient_digest(patient, KEY) for patient in seen)
    return Member(f"fold{number}", number, weights, digests, 0.3 + 0.1 * number, Calibration(1.0 + number, 0.1 * number))


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(
        members=tuple(_member(number, seen) for number, seen in enumerate([("known", "half"), ("known", "half"), ("known",)])),
        patient_key=KEY,
        beats={"method": "robust"},
        leads=LEADS,
        n_samples=N_SAMPLES,
        preprocessing=Preprocessing(),
        operating_point=OperatingPoint(0.5, FIGURE, FIGURE, "validation patients of a test"),
        calibration=Calibration(2.0, 0.25),
        figures={"auroc": FIGURE},
        training={"recipe": "test"},
        versions={},
    )


def _beats(seed: int, n_beats: int, *, leads: tuple[str, ...] = LEADS, flags: tuple[int, ...] = ()) -> RecordBeats:
    random = np.random.default_rng(seed)
    shape = random.normal(0, 400, (1, len(leads), N_SAMPLES))
    waveform = (shape + random.normal(0, 200, (n_beats, len(leads), N_SAMPLES))).astype(np.int16)
    beat_flags = np.zeros(n_beats, np.uint16)
    beat_flags[: len(flags)] = flags
    rr = np.r_[np.nan, random.normal(0.8, 0.02, max(0, n_beats - 1))][:n_beats].astype(np.float32)
    return RecordBeats(waveform, beat_flags, rr, leads, np.ones(len(leads), bool))


def _rows(n_records: int, **columns: Any) -> xr.Dataset:
    text = {
        "record_name": [f"r{row:03d}" for row in range(n_records)],
        "patient_id": [f"p{row:03d}" for row in range(n_records)],
        "signals_store": ["s0"] * n_records,
        "beats_store": ["b0"] * n_records,
        "reason": [""] * n_records,
    }
    number = {
        "signals_row": np.arange(n_records),
        "beats_row": np.arange(n_records),
        "status": np.zeros(n_records, np.int8),
        "label": np.full(n_records, LABEL["control"], np.int8),
        "mi": np.zeros(n_records, np.int8),
        "age_years": np.full(n_records, 50, np.float32),
        "sex": np.zeros(n_records, np.int8),
        "n_beats": np.full(n_records, 12, np.int32),
    }
    for name, values in columns.items():
        (text if name in text else number)[name] = values
    variables = {name: np.array(values, dtype=TEXT) for name, values in text.items()} | number
    return xr.Dataset({name: ("record", np.asarray(values)) for name, values in variables.items()})


def _word(block: xr.Dataset, row: int) -> str:
    return next(word for word, code in DECISION.items() if code == block["decision"].values[row])


def _only(model: Model, record: RecordBeats | None, **columns: Any) -> xr.Dataset:
    return score_shard(_rows(1, **{name: [value] for name, value in columns.items()}), model, [record])


def test_a_block_fits_its_schema_and_scores_every_usable_record(model: Model) -> None:
    records = [_beats(row, 6 + row) for row in range(5)]
    block = score_shard(_rows(5), model, records, n_beats=20)
    SCORES.check(block, {"record": 5, "beat": 20, "lead": 3, "segment": 4}, 5, "test")
    assert np.isfinite(block["mi_probability"].values).all()
    assert block["n_beats_scored"].values.tolist() == [6, 7, 8, 9, 10]
    assert np.isnan(block["beat_probability"].values).sum(axis=1).tolist() == [14, 13, 12, 11, 10]
    assert (block["n_members_used"].values == 3).all()
    assert (block["probability_low"] <= block["mi_probability"]).all()
    assert (block["mi_probability"] <= block["probability_high"]).all()


def test_a_record_is_scored_as_the_model_says(model: Model) -> None:
    record = _beats(3, 9, flags=(BEAT_FLAGS["edge"], 0, BEAT_FLAGS["noisy"]))
    block = _only(model, record)
    waveform = prepare_waveforms(record.waveform, record.is_scorable, store_leads=LEADS, leads=LEADS)[record.is_scorable]
    calibration, threshold = rule_for(model, (0, 1, 2))
    expected = record_probability(member_probabilities(model, (0, 1, 2), waveform), calibration)
    assert block["mi_probability"].values[0] == pytest.approx(expected, abs=1e-6)
    assert block["threshold"].values[0] == pytest.approx(threshold)
    assert np.isnan(block["beat_probability"].values[0, [0, 2]]).all()
    assert (block["n_beats_detected"].values[0], block["n_beats_scored"].values[0]) == (9, 7)


def test_the_records_logit_is_the_mean_of_its_beats_logits(model: Model) -> None:
    block = _only(model, _beats(4, 15))
    beats = block["beat_probability"].values[0].astype(np.float64)
    mean = np.mean(np.log(beats / (1 - beats)))
    assert block["mi_probability"].values[0] == pytest.approx(1 / (1 + np.exp(-mean)), abs=1e-5)


def test_members_that_saw_the_patient_do_not_score_it(model: Model) -> None:
    record = _beats(5, 10)
    block = _only(model, record, patient_id="half")
    alone = replace(model, members=(replace(model.members[2], seen=()), *model.members[:2]))
    calibration, threshold = rule_for(alone, (0,))
    waveform = prepare_waveforms(record.waveform, record.is_scorable, store_leads=LEADS, leads=LEADS)
    assert block["n_members_used"].values[0] == 1
    assert block["threshold"].values[0] == pytest.approx(model.members[2].threshold) == pytest.approx(threshold)
    expected = record_probability(member_probabilities(alone, (0,), waveform), calibration)
    assert block["mi_probability"].values[0] == pytest.approx(expected, abs=1e-6)


def _assert_not_scored(block: xr.Dataset, reason: str, status: str = "ok") -> None:
    assert _word(block, 0) == "not_scorable"
    assert block["reason"].values[0] == reason
    assert block["status"].values[0] == STATUS[status]  # that of its files: it was read
    for name in ("mi_probability", "probability_low", "probability_high", "threshold", "beat_agreement"):
        assert np.isnan(block[name].values[0])
    assert np.isnan(block["beat_probability"].values).all()
    assert block["n_beats_scored"].values[0] == 0


def test_a_patient_that_every_member_saw_is_not_scored(model: Model) -> None:
    block = _only(model, _beats(1, 10), patient_id="known")
    _assert_not_scored(block, "PATIENT_TRAINED_ON")
    assert block["n_members_used"].values[0] == 0
    assert block["n_beats_detected"].values[0] == 10


def test_a_record_set_aside_keeps_its_own_reason(model: Model) -> None:
    _assert_not_scored(_only(model, None, status=STATUS["set_aside"], reason="DAT_TRUNCATED"), "DAT_TRUNCATED", "set_aside")


def test_stores_before_version_4_called_set_aside_what_could_be_read() -> None:
    reason = ["DAT_TRUNCATED", "NO_BEATS", "LEADS_MISSING", "LEADS_MISSING", ""]
    status = [STATUS[word] for word in ("set_aside", "set_aside", "set_aside", "partial", "ok")]
    old = xr.Dataset({"reason": ("record", np.array(reason, TEXT)), "status": ("record", np.array(status, np.int8))})
    now = with_own_status(old)
    words = {code: word for word, code in STATUS.items()}
    assert [words[code] for code in now["status"].values] == ["set_aside", "ok", "partial", "partial", "ok"]
    xr.testing.assert_identical(with_own_status(now), now)


@pytest.mark.parametrize("record", [None, _beats(0, 0)])
def test_no_beats_is_a_reason(model: Model, record: RecordBeats | None) -> None:
    block = _only(model, record)
    _assert_not_scored(block, "NO_BEATS")
    assert np.isnan(block["heart_rate_bpm"].values[0])


def test_too_few_usable_beats_is_a_reason(model: Model) -> None:
    n_bad = 8
    block = _only(model, _beats(2, n_bad + MIN_SCORABLE_BEATS - 1, flags=(BEAT_FLAGS["clipped"],) * n_bad))
    _assert_not_scored(block, "TOO_FEW_BEATS")
    assert block["heart_rate_bpm"].values[0] == pytest.approx(75, abs=3)
    enough = _only(model, _beats(2, n_bad + MIN_SCORABLE_BEATS, flags=(BEAT_FLAGS["clipped"],) * n_bad))
    assert enough["n_beats_scored"].values[0] == MIN_SCORABLE_BEATS


def test_ectopic_and_aberrant_beats_are_scored(model: Model) -> None:
    block = _only(model, _beats(2, 6, flags=(BEAT_FLAGS["ectopic"], BEAT_FLAGS["aberrant"])))
    assert block["n_beats_scored"].values[0] == 6


def test_fewer_than_two_thirds_of_the_models_leads_is_a_reason(model: Model) -> None:
    two = _only(model, replace(_beats(6, 9), is_usable=np.array([True, True, False])))
    assert np.isfinite(two["mi_probability"].values[0])
    _assert_not_scored(_only(model, replace(_beats(6, 9), is_usable=np.array([True, False, False]))), "LEADS_MISSING")
    _assert_not_scored(_only(model, _beats(6, 9, leads=("I", "V5", "Vx"))), "LEADS_MISSING")


@pytest.mark.parametrize(("n_leads", "needed"), [(1, 1), (2, 2), (3, 2), (8, 6), (12, 8), (15, 10)])
def test_min_usable_leads(n_leads: int, needed: int) -> None:
    assert min_usable_leads(n_leads) == needed


def test_partial_records_are_scored_and_keep_their_reason(model: Model) -> None:
    block = _only(model, _beats(7, 9), status=STATUS["partial"], reason="XYZ_MISSING")
    assert np.isfinite(block["mi_probability"].values[0])
    assert (block["reason"].values[0], block["status"].values[0]) == ("XYZ_MISSING", STATUS["partial"])


def test_leads_that_the_model_does_not_use_do_not_matter(model: Model) -> None:
    record = _beats(8, 9)
    extra = np.concatenate([np.full((9, 2, N_SAMPLES), 77, np.int16), record.waveform], axis=1)
    wide = replace(record, waveform=extra, leads=("Vx", "Vy", *LEADS), is_usable=np.array([False, True, True, True, True]))
    assert _only(model, wide)["mi_probability"].values[0] == _only(model, record)["mi_probability"].values[0]


def test_neighbours_and_order_leave_no_trace(model: Model) -> None:
    records = [_beats(row, 5 + 7 * row) for row in range(6)]
    rows = _rows(6, patient_id=["a", "half", "b", "known", "c", "half"])
    together = score_shard(rows, model, records, n_beats=50)
    backwards = score_shard(rows.isel(record=slice(None, None, -1)), model, records[::-1], n_beats=50)
    xr.testing.assert_identical(together, backwards.isel(record=slice(None, None, -1)))
    for row in range(6):
        alone = score_shard(rows.isel(record=[row]), model, [records[row]], n_beats=50)
        xr.testing.assert_identical(together.isel(record=[row]), alone)


def test_decision_is_indeterminate_exactly_where_the_interval_holds_the_threshold() -> None:
    assert decide(0.7, 0.6, 0.8, 0.5) == DECISION["mi_indicated"]
    assert decide(0.3, 0.2, 0.4, 0.5) == DECISION["mi_not_indicated"]
    assert decide(0.52, 0.49, 0.6, 0.5) == DECISION["indeterminate"]
    assert decide(0.6, 0.5, 0.7, 0.5) == DECISION["indeterminate"]


def test_decisions_can_be_checked_from_the_stored_numbers(model: Model) -> None:
    block = score_shard(_rows(40), model, [_beats(row, 8) for row in range(40)])
    low, high, cut = (block[name].values for name in ("probability_low", "probability_high", "threshold"))
    p = block["mi_probability"].values
    expected = np.where((low <= cut) & (cut <= high), DECISION["indeterminate"], np.where(p > cut, 1, 0))
    np.testing.assert_array_equal(block["decision"].values, expected)
    beats = block["beat_probability"].values
    agreement = np.mean((beats >= cut[:, None]) == (p >= cut)[:, None], axis=1)
    np.testing.assert_allclose(block["beat_agreement"].values, agreement, rtol=1e-6)


def test_heart_rate_is_from_the_median_interval() -> None:
    assert heart_rate_bpm(np.array([np.nan, 0.8, 0.8, 0.3, 1.6, 0.8], np.float32)) == pytest.approx(75)
    assert np.isnan(heart_rate_bpm(np.array([np.nan], np.float32)))
    assert np.isnan(heart_rate_bpm(np.zeros(0, np.float32)))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.integers(1, 60), st.floats(0.1, 3), st.floats(-2, 2), st.integers(0, 2**32 - 1))
def test_the_interval_lies_between_the_extreme_beats_and_is_deterministic(
    n_members: int, n_beats: int, slope: float, intercept: float, seed: int
) -> None:
    logit = np.random.default_rng(seed).normal(0, 2, (n_members, n_beats))
    calibration = Calibration(slope, intercept)
    low, high = probability_interval(logit, calibration, "r1", n_draws=200)
    assert (low, high) == probability_interval(logit, calibration, "r1", n_draws=200)
    extremes = 1 / (1 + np.exp(-(slope * np.array([logit.min(), logit.max()]) + intercept)))
    assert extremes[0] - 1e-9 <= low <= high <= extremes[1] + 1e-9


def test_the_interval_narrows_with_beats_and_widens_with_members_that_disagree() -> None:
    def width(logit: np.ndarray) -> float:
        low, high = probability_interval(logit, Calibration(), "r1")
        return high - low

    random = np.random.default_rng(0)
    few, many = random.normal(0, 1, (1, 10)), random.normal(0, 1, (1, 1000))
    assert width(many) < width(few) / 3
    apart = np.array([[-2.0], [0.0], [2.0]]) + random.normal(0, 0.1, (3, 200))
    assert width(apart) > 0.5 > 10 * width(apart - apart.mean(axis=1, keepdims=True))


def test_beats_that_follow_each_other_alike_widen_the_interval() -> None:
    random = np.random.default_rng(1)
    breaths = np.repeat(random.normal(0, 1, 40), 5)[None]
    shuffled = random.permutation(breaths[0])[None]
    wide, narrow = (np.subtract(*probability_interval(x, Calibration(), "r1")[::-1]) for x in (breaths, shuffled))
    assert wide > 1.5 * narrow


# Below: through real stores, on several engines.


def _write_stores(work: Path, records: list[RecordBeats | None]) -> xr.Dataset:
    """Publish a signals and a beats store that hold these records; return the records' table."""
    present = [record for record in records if record is not None]
    counts = np.array([0 if record is None else len(record.beat_flags) for record in records], np.int32)
    n_records, n_beats = len(records), int(counts.sum())
    rows = _rows(n_records, n_beats=counts, patient_id=[("half", "known", f"p{row}")[min(row, 2)] for row in range(n_records)])
    empty = {
        name: np.zeros((n_records, *[{"lead": len(LEADS), "sample": 4}[dim] for dim in v.dims[1:]]), v.numpy_dtype)
        for name, v in (SIGNALS.bulk() | SIGNALS.columns()).items()
    }
    empty["lead_flags"][2] = LEAD_FLAGS["noisy"]
    empty["lead_flags"][3, :2] = LEAD_FLAGS["flat"]
    signals = _publish(work, SIGNALS, {"lead": np.array(LEADS, TEXT)}, empty, {"sample": 4, "lead": len(LEADS)}, {"n": 0})
    sizes = {"record": n_records, "lead": len(LEADS), "sample": N_SAMPLES}
    fixed = {name: np.zeros(sizes[v.dims[0]], v.numpy_dtype) for name, v in BEATS.fixed().items()}
    fixed |= {"lead": np.array(LEADS, TEXT), "n_beats": counts, "first_beat": (np.cumsum(counts) - counts).astype(np.int64)}
    columns = {name: np.zeros(n_beats, v.numpy_dtype) for name, v in BEATS.columns().items()}
    columns["waveform"] = np.concatenate([record.waveform for record in present])
    columns["beat_flags"] = np.concatenate([record.beat_flags for record in present])
    columns["rr_previous_s"] = np.concatenate([record.rr_previous_s for record in present])
    beats = _publish(work, BEATS, fixed, columns, sizes, {"method": "robust"})
    rows["signals_store"].values[:], rows["beats_store"].values[:] = signals, beats
    return rows


def _publish(
    work: Path, schema: Any, fixed: dict[str, Any], columns: dict[str, Any], sizes: dict[str, int], stated: dict[str, Any]
) -> str:
    n_rows = len(next(iter(columns.values())))
    inputs = xr.Dataset({name: (schema.variables[name].dims, values) for name, values in fixed.items()})
    plan = make_plan(schema, sizes=sizes | {schema.row_dim: n_rows}, inputs=inputs, settings=stated)

    def produce(shard: Any, rows: xr.Dataset) -> xr.Dataset:
        part = slice(shard.start, shard.stop)
        return xr.Dataset({name: (schema.variables[name].dims, values[part]) for name, values in columns.items()})

    return Path(build(str(work), plan, produce)).stem


@pytest.fixture
def archive(tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, xr.Dataset, list[RecordBeats | None]]:
    monkeypatch.setattr(ecgbatch.scores.table, "BEATS_A_SHARD", 150)  # several shards of few beats
    records = [_beats(row, 20 + 5 * row) if row != 4 else None for row in range(10)]
    save_model(model, tmp_path / "model")
    return tmp_path, _write_stores(tmp_path / "W", records), records


def _files(store: str) -> dict[str, bytes]:
    return {str(path.relative_to(store)): path.read_bytes() for path in sorted(Path(store).rglob("*")) if path.is_file()}


def test_scores_through_stores_equal_scores_in_memory(
    archive: tuple[Path, xr.Dataset, list[RecordBeats | None]], model: Model
) -> None:
    folder, rows, records = archive
    path = score_records(folder / "W", rows, folder / "model")
    store = open_store(path)
    flat = replace(records[3], is_usable=np.array([False, False, True]))  # type: ignore[type-var]
    expected = score_shard(rows, model, [*records[:3], flat, *records[4:]], n_beats=store.sizes["beat"])
    for name in SCORES.bulk() | SCORES.columns():
        np.testing.assert_array_equal(store[name].values, expected[name].values, err_msg=name)
    reasons = dict(zip(store["record_name"].values.tolist(), store["reason"].values.tolist(), strict=True))
    assert {name: reason for name, reason in reasons.items() if reason} == {
        "r001": "PATIENT_TRAINED_ON",
        "r003": "LEADS_MISSING",
        "r004": "NO_BEATS",
    }
    assert store.attrs["settings"]["model"]["digest"] == model.digest
    assert store.attrs["settings"]["operating_point"]["chosen_on"] == "validation patients of a test"
    assert verify_store(path, read_data=True) == []


def _reversed_map(function: Callable[[Any], Any], tasks: Iterable[Any]) -> list[Any]:
    return [function(task) for task in reversed(list(tasks))]


def test_any_engine_gives_the_same_bytes(archive: tuple[Path, xr.Dataset, list[RecordBeats | None]], tmp_path: Path) -> None:
    folder, rows, _ = archive
    assert plan_scores(rows, _load(folder)).n_shards > 2
    expected = _files(score_records(folder / "W", rows, folder / "model"))
    spawn = multiprocessing.get_context("spawn")
    with ThreadPoolExecutor(3) as threads, ProcessPoolExecutor(1, mp_context=spawn) as processes:
        for name, engine in {"backwards": _reversed_map, "threads": threads.map, "processes": processes.map}.items():
            other = tmp_path / name
            other.mkdir()
            (other / "signals").symlink_to(folder / "W" / "signals")
            (other / "beats").symlink_to(folder / "W" / "beats")
            assert _files(score_records(other, rows, folder / "model", map=engine)) == expected, name


def _load(folder: Path) -> Model:
    from ecgbatch.model.files import load_model

    return load_model(folder / "model")


def test_beats_cut_otherwise_are_refused(archive: tuple[Path, xr.Dataset, list[RecordBeats | None]], model: Model) -> None:
    folder, rows, _ = archive
    save_model(replace(model, beats={"method": "kachuee"}), folder / "other")
    with pytest.raises(Exception, match="cannot score these beats: method 'robust' instead of 'kachuee'"):
        score_records(folder / "W", rows, folder / "other")


def test_a_table_that_lacks_columns_is_refused(model: Model) -> None:
    with pytest.raises(ValueError, match="records lack beats_row, n_beats; join"):
        plan_scores(_rows(2).drop_vars(["beats_row", "n_beats"]), model)


def test_an_archive_without_any_beat_has_a_plan_and_reasons(tmp_path: Path, model: Model) -> None:
    rows = _rows(2, n_beats=np.zeros(2, np.int32), beats_store=["", ""], signals_store=["", ""])
    save_model(model, tmp_path / "model")
    store = open_store(score_records(tmp_path / "W", rows, tmp_path / "model"))
    assert store["reason"].values.tolist() == ["NO_BEATS", "NO_BEATS"]


def test_every_reason_is_explained_in_a_sentence() -> None:
    assert all(code == code.upper() and len(text) > 10 for code, text in REASONS.items())


def test_a_store_of_version_1_is_still_read_and_evaluated(tmp_path: Path) -> None:
    later = {"evidence", "lead", "segment", "novelty", "score_flags", "abnormal_probability", "exchange", "probability_put_back"}
    first = replace(SCORES, version=1, variables={name: v for name, v in SCORES.variables.items() if name not in later})
    columns = {name: np.full((4, 3)[: len(v.dims)], v.fill_value, v.numpy_dtype) for name, v in first.variables.items()}
    columns |= {"mi_probability": np.array([0.9, 0.8, 0.2, 0.1], np.float32), "mi": np.array([1, 1, 0, 0], np.int8)}
    columns |= {"threshold": np.full(4, 0.5, np.float32), "patient_id": np.array(list("abcd"), TEXT)}
    digest = _publish(tmp_path, first, {}, columns, {"beat": 3}, {})
    store = open_store(tmp_path / "scores" / f"{digest}.zarr").load()
    assert store.attrs["schema_version"] == 1
    assert verify_store(tmp_path / "scores" / f"{digest}.zarr", read_data=True) == []
    assert evaluate_scores(store)["auroc"]["value"] == 1.0


def test_a_record_unlike_training_is_indeterminate_and_flagged(model: Model) -> None:
    probability = np.full((1, 5), 0.99, np.float32)
    near, far = (score_record(model, (0,), probability, "r", novelty=distance) for distance in (0.5, 1.5))
    assert near.decision == DECISION["mi_indicated"]
    assert far.decision == DECISION["indeterminate"]
    assert near.probability == far.probability
    assert (near.flags, far.flags) == (SCORE_FLAGS["one_member"], SCORE_FLAGS["one_member"] | SCORE_FLAGS["unlike_training"])
    assert score_record(model, (0, 1), probability.repeat(2, axis=0), "r").flags == 0


def test_exchanged_electrodes_make_a_record_indeterminate_and_the_score_put_back_stands_beside(model: Model) -> None:
    """Never a plain decision, whatever the score; what the leads in place would give is information."""
    twelve = DEFAULT_LEADS
    plain = _beats(3, 9, leads=twelve)
    wave = np.sin(np.linspace(0, 9, N_SAMPLES))
    limb = {"I": 0.6, "II": 1.0, "III": 0.4, "aVR": -0.8, "aVL": 0.1, "aVF": 0.7}
    steps = np.stack([400 * limb.get(lead, 1.0) * wave for lead in twelve])
    right = replace(plain, waveform=(plain.waveform // 8 + steps[None]).astype(np.int16))
    exchanged = replace(right, waveform=put_back(right.waveform, twelve, "LA-RA"), is_exchanged=True)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        weights = {name: tensor.numpy() for name, tensor in BeatNet(12, N_SAMPLES).state_dict().items()}
    model = replace(model, leads=twelve, members=(replace(model.members[0], weights=weights, seen=()),))
    block = score_shard(_rows(2), model, [right, exchanged])
    assert block["exchange"].values.tolist() == ["", "LA-RA"]
    assert np.isnan(block["probability_put_back"].values[0])
    assert block["probability_put_back"].values[1] == block["mi_probability"].values[0]
    assert block["mi_probability"].values[1] != block["mi_probability"].values[0]
    assert _word(block, 1) == "indeterminate"
    assert block["score_flags"].values[1] & SCORE_FLAGS["electrodes_exchanged"]
    assert not block["score_flags"].values[0] & SCORE_FLAGS["electrodes_exchanged"]


def test_any_heart_disease_has_a_probability_where_the_model_knows_it(model: Model) -> None:
    assert np.isnan(_only(model, _beats(1, 8))["abnormal_probability"].values).all()
    members = tuple(replace(m, weights=m.weights | _three_classes(m.weights)) for m in model.members)
    knows = replace(model, members=members, abnormal=Calibration(1.0, 0.0))
    found = _only(knows, _beats(1, 8))["abnormal_probability"].values[0]
    assert 0 < found < 1
    # With three classes, infarction is part of any heart disease: nothing is more infarcted than it is abnormal.
    median = np.median(prepared_beats(knows, _beats(1, 8)), axis=0)[None].astype(np.float32)
    abnormal = abnormal_logits(knows, (0, 1, 2), median)
    mi = np.stack([beat_logits(pack(m.weights), median) for m in members])
    assert (abnormal > mi).all()


def _three_classes(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([weights[name], weights[name][:1] * 0.5]) for name in ("output.weight", "output.bias")}


def test_every_kind_of_indeterminate_is_flagged_and_counted(model: Model) -> None:
    one = replace(
        model, members=model.members[2:], calibration=Calibration(1.0, 0.0)
    )  # its own rule is the model's: threshold 0.5
    sure, across = np.full((1, 6), 0.99, np.float32), np.array([[0.2, 0.8, 0.3, 0.7, 0.45, 0.6]], np.float32)
    exchanged = score_record(one, (0,), sure, "r", is_exchanged=True)
    unlike = score_record(one, (0,), sure, "r", novelty=1.5)
    close = score_record(one, (0,), across, "r")
    all_three = score_record(one, (0,), across, "r", novelty=1.5, is_exchanged=True)
    plain = score_record(one, (0,), sure, "r")
    assert close.low < close.threshold < close.high
    kinds = [set(words_of_mask(s.flags, SCORE_FLAGS)) - {"one_member"} for s in (exchanged, unlike, close, all_three, plain)]
    assert kinds == [{"electrodes_exchanged"}, {"unlike_training"}, {"close_to_threshold"}, set(INDETERMINATE_KINDS), set()]
    assert [s.decision for s in (exchanged, unlike, close, all_three)] == [DECISION["indeterminate"]] * 4
    assert plain.decision == DECISION["mi_indicated"]
    scored = [exchanged, unlike, close, all_three, plain]
    block = _rows(5).assign(
        decision=("record", np.array([s.decision for s in scored])),
        score_flags=("record", np.array([s.flags for s in scored], np.uint8)),
    )
    assert indeterminate_kinds(block) == {"electrodes_exchanged": 2, "unlike_training": 2, "close_to_threshold": 2}
    # A store of version 2 has neither of the new bits: what is not unlike training was close to the threshold.
    early = block.assign(score_flags=block["score_flags"] & 3)
    assert indeterminate_kinds(early) == {"electrodes_exchanged": 0, "unlike_training": 2, "close_to_threshold": 2}
    assert indeterminate_kinds(block.drop_vars("score_flags")) == {
        "electrodes_exchanged": 0, "unlike_training": 0, "close_to_threshold": 4
    }  # fmt: skip
    assert groups(block)["control"] == {
        "n_records": 5, "mi_not_indicated": 0, "mi_indicated": 1, "indeterminate": 4,
        "indeterminate: electrodes_exchanged": 2, "indeterminate: unlike_training": 2, "indeterminate: close_to_threshold": 2,
    }  # fmt: skip
