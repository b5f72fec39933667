"""Folds are by patient, balanced by label, and depend on nothing but patients and key."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgbatch.model.splits import assign_folds, patient_digest, patient_labels
from ecgbatch.terms import LABEL

RECORDS = st.lists(st.tuples(st.sampled_from("abcdefghijklmn"), st.sampled_from(sorted(LABEL.values()))), min_size=1, max_size=60)


def _folds(records: list[tuple[str, int]], n_folds: int, key: str = "k") -> np.ndarray:
    return assign_folds([patient for patient, _ in records], [label for _, label in records], n_folds, key)


@given(RECORDS, st.integers(2, 7))
def test_same_patient_never_in_two_folds(records: list[tuple[str, int]], n_folds: int) -> None:
    fold = _folds(records, n_folds)
    for patient in {patient for patient, _ in records}:
        assert len({int(f) for f, (p, _) in zip(fold, records, strict=True) if p == patient}) == 1
    assert fold.min() >= 0
    assert fold.max() < n_folds


@given(RECORDS, st.integers(2, 7))
def test_folds_differ_by_at_most_one_patient_a_label_and_in_all(records: list[tuple[str, int]], n_folds: int) -> None:
    labels = patient_labels([p for p, _ in records], [label for _, label in records])
    fold_of = dict(zip([p for p, _ in records], _folds(records, n_folds).tolist(), strict=True))
    for group in (*LABEL.values(), None):
        members = [fold_of[p] for p, label in labels.items() if group in (None, label)]
        counts = np.bincount(members, minlength=n_folds)
        assert counts.max() - counts.min() <= 1


@given(RECORDS, st.randoms())
def test_folds_do_not_depend_on_the_order_of_records(records: list[tuple[str, int]], random) -> None:
    shuffled = records.copy()
    random.shuffle(shuffled)
    fold_of = dict(zip([p for p, _ in records], _folds(records, 3).tolist(), strict=True))
    again = dict(zip([p for p, _ in shuffled], _folds(shuffled, 3).tolist(), strict=True))
    assert fold_of == again


def test_another_key_deals_otherwise() -> None:
    patients = [f"patient{number:03d}" for number in range(60)]
    a, b = (assign_folds(patients, [1] * 60, 5, key) for key in ("one", "two"))
    assert (a != b).any()


def test_a_patient_is_mi_if_any_record_is() -> None:
    labels = patient_labels(["a", "a", "b", "b", "c"], [1, 2, 3, 1, 0])
    assert labels == {"a": LABEL["mi"], "b": LABEL["control"], "c": LABEL["unknown"]}


def test_digest_is_keyed_and_stable() -> None:
    digest = patient_digest("patient001", "key")
    assert digest == "f7eb01253f95d2f79cd1654e66915c61"  # folds of published models rest on it
    assert digest == patient_digest("patient001", "key")
    assert digest != patient_digest("patient001", "another")
    assert "patient001" not in digest


@pytest.mark.parametrize(("patient", "key"), [("", "k"), ("p", ""), ("p", "x" * 65)])
def test_digest_refuses_what_would_not_identify(patient: str, key: str) -> None:
    with pytest.raises(ValueError, match="needs a patient_id and a key"):
        patient_digest(patient, key)


def test_too_few_folds_and_wrong_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="n_folds must be at least 2"):
        assign_folds(["a"], [1], 1, "k")
    with pytest.raises(ValueError, match=r"terms\.LABEL"):
        assign_folds(["a"], [9], 2, "k")
    with pytest.raises(ValueError, match="one entry a record"):
        assign_folds(["a"], [1, 2], 2, "k")
