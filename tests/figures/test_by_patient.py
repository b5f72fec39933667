"""Figures by patient: equal to reference implementations, blind to order, with intervals that cover."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score
from sklearn.metrics import roc_curve as sklearn_roc_curve

from ecgbatch.figures.by_patient import ALL_FIGURES, FIGURES, paired_difference, patient_figures
from ecgbatch.figures.calibration import fit_platt
from ecgbatch.figures.of_scores import evaluate_scores
from ecgbatch.figures.patients import by_patient
from ecgbatch.figures.resampling import wilson_interval
from ecgbatch.figures.thresholds import calibration_curve, choose_threshold, precision_recall_curve, roc_curve
from ecgbatch.terms import DECISION, LABEL


def _cohort(
    n_patients: int, seed: int, *, separation: float = 1.5, share_mi: float = 0.4
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return probability, mi and patient_id of records, one to four a patient, labels equal within a patient."""
    random = np.random.default_rng(seed)
    mi = random.random(n_patients) < share_mi
    mi[:2] = True, False
    n_records = random.integers(1, 5, n_patients)
    patient = np.repeat(np.arange(n_patients), n_records)
    level = random.normal(size=n_patients) + separation * (mi - 0.5)
    logit = level[patient] + random.normal(0, 0.4, patient.size)
    return 1 / (1 + np.exp(-logit)), mi[patient].astype(int), np.char.add("p", patient.astype(str))


def _one_row_a_patient(p: np.ndarray, mi: np.ndarray, who: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    names = np.unique(who)
    return np.array([p[who == name].mean() for name in names]), np.array([mi[who == name].max() for name in names])


@st.composite
def cohorts(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Small cohorts with ties, any imbalance and both classes."""
    n_patients = draw(st.integers(2, 25))
    label = [1, 0, *draw(st.lists(st.integers(0, 1), min_size=n_patients - 2, max_size=n_patients - 2))]
    rows = draw(st.lists(st.integers(0, n_patients - 1), max_size=20))
    patient = np.r_[np.arange(n_patients), np.array(rows, dtype=int)]
    p = np.array(draw(st.lists(st.integers(0, 20), min_size=patient.size, max_size=patient.size))) / 20
    return p, np.array(label)[patient], np.char.add("p", patient.astype(str))


@settings(max_examples=80, deadline=None)
@given(cohorts(), st.floats(0.05, 0.95))
def test_figures_equal_sklearns_and_intervals_hold_the_value(cohort: Any, threshold: float) -> None:
    figures = patient_figures(*cohort, threshold=threshold, n_resamples=50)
    p, mi = _one_row_a_patient(*cohort)
    p = p.round(12)  # as by_patient does: equal means may differ in the last bit
    assert figures["brier"]["value"] == pytest.approx(brier_score_loss(mi, p))
    assert figures["auroc"]["value"] == pytest.approx(roc_auc_score(mi, p), abs=1e-9)
    assert figures["auprc"]["value"] == pytest.approx(average_precision_score(mi, p), abs=1e-9)
    for name, figure in figures.items():
        if figure["value"] is None:
            assert name == "calibration_slope"
            assert "no finite value" in figure["note"]
        else:
            assert figure["low"] is None or figure["low"] <= figure["value"]
            assert figure["high"] is None or figure["value"] <= figure["high"]


@settings(max_examples=30, deadline=None)
@given(cohorts(), st.randoms(use_true_random=False))
def test_order_and_names_of_records_leave_no_trace(cohort: Any, random: Any) -> None:
    p, mi, who = cohort
    order = list(range(p.size))
    random.shuffle(order)
    expected = patient_figures(p, mi, who, n_resamples=40)
    assert patient_figures(p[order], mi[order], who[order], n_resamples=40) == expected
    assert patient_figures(p, mi, np.char.add("x", who), n_resamples=40) == expected


@settings(max_examples=30, deadline=None)
@given(cohorts())
def test_records_without_score_or_label_change_nothing(cohort: Any) -> None:
    p, mi, who = cohort
    more = (np.r_[p, np.nan, 0.7, np.nan], np.r_[mi, 1, -1, -1], [*who, who[0], "other", "nobody"])
    assert patient_figures(*more, n_resamples=20) == patient_figures(p, mi, who, n_resamples=20)


@settings(max_examples=40, deadline=None)
@given(cohorts())
def test_threshold_reaches_the_largest_youden_index_of_any_cut(cohort: Any) -> None:
    cut = choose_threshold(*cohort)
    patients = by_patient(*cohort)

    def youden(at: float) -> float:
        called = patients.probability >= at
        return float(called[patients.mi].mean() - called[~patients.mi].mean())

    best = max(youden(at) for at in [*patients.probability, 2.0])
    assert youden(cut) == pytest.approx(best)
    assert 0 <= cut <= 1
    assert all(
        youden(at) < best - 1e-12 for at in patients.probability if at < cut - 1e-12 and (patients.probability < cut).any()
    )


def test_of_equally_good_thresholds_the_lowest_wins() -> None:
    p, mi = np.array([0.1, 0.3, 0.5, 0.7]), np.array([0, 1, 0, 1])
    assert choose_threshold(p, mi, np.arange(4)) == pytest.approx(0.2)


def test_threshold_lies_half_way_between_separated_classes() -> None:
    assert choose_threshold([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1], list("abcd")) == pytest.approx(0.5)


def test_threshold_needs_both_classes() -> None:
    with pytest.raises(ValueError, match="expected MI patients and controls, found 2 MI of 2"):
        choose_threshold([0.1, 0.2], [1, 1], ["a", "b"])


def test_sensitivity_uses_each_patients_own_threshold() -> None:
    p, mi = np.array([0.4, 0.4, 0.6, 0.6]), np.array([1, 1, 0, 0])
    figures = patient_figures(p, mi, list("abcd"), threshold=[0.3, 0.5, 0.5, 0.7])
    assert (figures["sensitivity"]["value"], figures["specificity"]["value"]) == (0.5, 0.5)
    assert (figures["sensitivity"]["n_patients"], figures["auroc"]["n_patients"]) == (2, 4)


def test_a_proportion_of_one_gets_wilsons_interval() -> None:
    figures = patient_figures([0.1, 0.2, 0.8, 0.9, 0.95], [0, 0, 1, 1, 1], list("abcde"))
    assert figures["sensitivity"]["value"] == 1
    assert figures["sensitivity"]["low"] == pytest.approx(wilson_interval(3, 3)[0])
    assert "Wilson" in figures["sensitivity"]["note"]
    assert "too few patients" in figures["auroc"]["note"]


def test_separated_classes_have_no_calibration_slope() -> None:
    figure = patient_figures([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1], list("abcd"))["calibration_slope"]
    assert figure["value"] is None
    assert "a cut separates" in figure["note"]


def test_one_class_gives_none_with_a_reason() -> None:
    figures = patient_figures([0.1, 0.2, 0.8], [1, 1, 1], list("abc"))
    for name in ("auroc", "auprc", "calibration_slope", "calibration_intercept"):
        assert figures[name]["value"] is None
        assert "only one class" in figures[name]["note"]
    assert figures["specificity"]["note"] == "no control patient"
    assert figures["sensitivity"]["value"] == pytest.approx(1 / 3)
    assert figures["accuracy"]["value"] == pytest.approx(1 / 3)


def test_nobody_labelled_gives_none_with_a_reason() -> None:
    figures = patient_figures([0.1, np.nan], [-1, 1], ["a", "b"])
    assert all(figures[name] == {"value": None, "low": None, "high": None, "n_patients": 0, "note": figures[name]["note"]}
               for name in FIGURES)  # fmt: skip


def test_equal_probabilities_have_auroc_one_half() -> None:
    figures = patient_figures([0.5] * 6, [0, 1, 0, 1, 0, 1], list("abcdef"))
    assert figures["auroc"]["value"] == 0.5
    assert "same probability" in figures["calibration_slope"]["note"]


def test_recalibration_equals_an_unpenalised_logistic_regression() -> None:
    p, mi, who = _cohort(300, 3)
    mean, label = _one_row_a_patient(p, mi, who)
    logit = np.log(mean / (1 - mean))
    figures = patient_figures(p, mi, who, n_resamples=10)
    fit = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(logit[:, None], label)
    assert figures["calibration_slope"]["value"] == pytest.approx(fit.coef_[0, 0], rel=1e-4)
    shift = figures["calibration_intercept"]["value"]
    assert np.mean(1 / (1 + np.exp(-(logit + shift)))) == pytest.approx(label.mean(), abs=1e-9)


def test_well_calibrated_probabilities_have_slope_one_and_intercept_zero() -> None:
    random = np.random.default_rng(5)
    p = random.beta(1, 2, 20_000)
    figures = patient_figures(p, random.random(p.size) < p, np.arange(p.size), n_resamples=50)
    assert figures["calibration_slope"]["value"] == pytest.approx(1, abs=0.05)
    assert figures["calibration_intercept"]["value"] == pytest.approx(0, abs=0.05)


def test_bootstrap_agrees_with_a_plain_loop() -> None:
    p, mi, who = _cohort(60, 7)
    mean, label = _one_row_a_patient(p, mi, who)
    random = np.random.default_rng(0)
    groups = [np.flatnonzero(label == 1), np.flatnonzero(label == 0)]
    drawn = [[mean[random.choice(group, group.size)] for group in groups] for _ in range(2000)]
    expected = np.quantile([(sick[:, None] > well).mean() for sick, well in drawn], [0.025, 0.975])
    figure = patient_figures(p, mi, who, n_resamples=2000)["auroc"]
    assert [figure["low"], figure["high"]] == pytest.approx(expected, abs=0.01)


def test_figures_asked_for_alone_are_what_they_are_among_all() -> None:
    p, mi, who = _cohort(80, seed=3)
    everything = patient_figures(p, mi, who, names=ALL_FIGURES, n_resamples=50)
    assert set(everything) == set(ALL_FIGURES)
    for name in ALL_FIGURES:
        assert patient_figures(p, mi, who, names=(name,), n_resamples=50) == {name: everything[name]}


def test_a_patient_with_both_labels_counts_as_mi_and_is_counted() -> None:
    patients = by_patient([0.2, 0.6, 0.3], [0, 1, 0], ["a", "a", "b"])
    assert patients.mi.tolist() == [False, True]
    assert patients.probability.tolist() == pytest.approx([0.3, 0.4])
    assert patients.is_mixed.tolist() == [False, True]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.5, 1.2], [0, 1], ["a", "b"]), r"expected probabilities in \[0, 1\], found 0.5 to 1.2"),
        (([0.5], [0, 1], ["a", "b"]), "one probability, label and patient a record"),
        (([0.5, 0.2], ["mi", "control"], ["a", "b"]), "labels as numbers, 1 MI and 0 control, found 'mi'"),
        ((pd.Series([0.2, 0.5], ["x", "y"]), pd.Series([1, 0], ["y", "x"]), ["a", "b"]), "Join them to one table first"),
        (([0.2, 0.5], pd.Series([1, 0], ["y", "x"]), pd.Series(["b", "a"])), "Join them to one table first"),
    ],
)
def test_wrong_input_is_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        patient_figures(*arguments)
    with pytest.raises(ValueError, match=message):
        paired_difference([0.5, 0.1][: len(arguments[0])], *arguments)


def test_pairs_of_pandas_columns_are_of_the_same_records() -> None:
    table = pd.DataFrame({"p": [0.9, 0.1, 0.3], "mi": [1, 0, np.nan], "who": ["a", "b", "c"]}, ["x", "y", "z"])
    assert patient_figures(table["p"], table["mi"], table["who"])["auroc"]["n_patients"] == 2  # whose label is NaN is unknown
    with pytest.raises(ValueError, match="indexes differ"):
        paired_difference(table["p"], table["p"][::-1], table["mi"], table["who"])


def test_roc_curve_equals_sklearns() -> None:
    p, mi, who = _cohort(80, 2)
    mean, label = _one_row_a_patient(p, mi, who)
    fpr, tpr, _ = sklearn_roc_curve(label, mean, drop_intermediate=False)
    curve = roc_curve(p, mi, who)
    np.testing.assert_allclose(curve["false_positive_rate"], fpr)
    np.testing.assert_allclose(curve["sensitivity"], tpr)
    assert curve["threshold"][0] is None
    area = np.trapezoid(curve["sensitivity"], curve["false_positive_rate"])
    assert area == pytest.approx(patient_figures(p, mi, who, n_resamples=1)["auroc"]["value"])


def test_precision_recall_curve_ends_at_the_prevalence() -> None:
    curve = precision_recall_curve(*_cohort(80, 2))
    assert curve["recall"][-1] == 1
    assert curve["precision"][-1] == pytest.approx(by_patient(*_cohort(80, 2)).mi.mean())


def test_curves_are_empty_with_one_class() -> None:
    assert roc_curve([0.2], [1], ["a"])["sensitivity"] == []
    assert precision_recall_curve([0.2], [1], ["a"])["recall"] == []
    assert calibration_curve([np.nan], [1], ["a"])["observed"] == []


@settings(max_examples=40, deadline=None)
@given(cohorts(), st.integers(1, 12))
def test_calibration_bins_hold_every_patient_once(cohort: Any, n_bins: int) -> None:
    curve = calibration_curve(*cohort, n_bins=n_bins)
    assert sum(curve["n_patients"]) == by_patient(*cohort).n_patients
    assert len(curve["n_patients"]) <= n_bins
    assert curve["predicted"] == sorted(curve["predicted"])
    assert all(low <= seen <= high for low, seen, high in zip(curve["low"], curve["observed"], curve["high"], strict=True))


def test_wilson_interval_known_value() -> None:
    assert wilson_interval(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)  # statsmodels, method="wilson"
    with pytest.raises(ValueError, match="0 <= n_events <= n"):
        wilson_interval(1, 0)


def test_platt_recovers_slope_and_intercept() -> None:
    random = np.random.default_rng(1)
    logit = random.normal(0, 2, 20_000)
    mi = random.random(logit.size) < 1 / (1 + np.exp(-(0.5 * logit - 1)))
    assert fit_platt(logit, mi) == pytest.approx((0.5, -1), abs=0.05)


def test_platt_is_finite_for_separated_classes_and_never_turns_the_ranking() -> None:
    slope, intercept = fit_platt([-3, -2, 2, 3], [0, 0, 1, 1])
    assert 0 < slope < 10
    assert abs(intercept) < 1e-6
    assert fit_platt([-3, -2, 2, 3], [1, 1, 0, 0]) == pytest.approx((0, 0))
    assert fit_platt([1, 1, 1], [1, 1, 0])[0] == 0


def test_platt_weights_count_patients_once() -> None:
    logit, mi = np.array([-1.0, 0.5, 2.0, 2.5]), np.array([0, 1, 0, 1])
    doubled = fit_platt(np.repeat(logit, 2), np.repeat(mi, 2), weight=np.full(8, 0.5))
    assert doubled == pytest.approx(fit_platt(logit, mi))


@pytest.mark.parametrize(
    ("logit", "mi", "message"), [([1, np.inf], [0, 1], "finite logits"), ([1, 2], [1, 1], "found one class")]
)
def test_platt_refuses_what_it_cannot_fit(logit: Any, mi: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_platt(logit, mi)


def _scores() -> xr.Dataset:
    text = np.dtypes.StringDType()
    columns = {
        "mi_probability": np.array([0.9, 0.8, 0.2, np.nan, 0.6, 0.3], np.float32),
        "threshold": np.array([0.5, 0.5, 0.5, np.nan, 0.5, 0.5], np.float32),
        "mi": np.array([1, 1, 0, 0, -1, 0], np.int8),
        "label": np.array([LABEL[word] for word in ("mi", "mi", "control", "control", "other", "control")], np.int8),
        "patient_id": np.array(["a", "a", "b", "c", "d", "e"], text),
        "decision": np.array([1, 1, 0, 3, 1, 2], np.int8),
        "reason": np.array(["", "XYZ_MISSING", "", "NO_BEATS", "", ""], text),
        "status": np.zeros(6, np.int8),
    }
    return xr.Dataset({name: ("record", values) for name, values in columns.items()})


def test_evaluate_scores_states_every_denominator_and_is_json() -> None:
    result = evaluate_scores(_scores(), n_resamples=20)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    counts = {name: result[name] for name in result if name.startswith("n_")}
    assert counts == {
        "n_records": 6,
        "n_patients": 5,
        "n_scored": 5,
        "n_patients_scored": 4,
        "n_labelled": 5,
        "n_records_evaluated": 4,
        "n_patients_evaluated": 3,
        "n_patients_mixed": 0,
        "n_set_aside": {},
        "n_not_scorable": 1,
    }
    assert result["not_scorable_reasons"] == {"NO_BEATS": 1}
    assert result["decisions"] == dict(zip(DECISION, [1, 3, 1, 1], strict=True))
    assert result["labels"] == {"unknown": 0, "control": 3, "mi": 2, "other": 1}
    assert result["confusion"] == {"true_mi": 1, "missed_mi": 0, "true_control": 2, "false_alarm": 0}
    assert result["auroc"]["value"] == 1


def test_a_thousand_resamples_of_ten_thousand_patients_take_seconds() -> None:
    cohort = _cohort(2_000, 4)
    patient_figures(*cohort, n_resamples=2)
    start = time.perf_counter()
    patient_figures(*cohort, n_resamples=200)
    assert time.perf_counter() - start < 3  # 0.1 s alone on one core; loaded machines are slower
