"""Patients into folds: by a keyed digest of the patient, balanced by label, never the same patient twice."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from ecgbatch.terms import LABEL

_LABEL_PRIORITY = (LABEL["mi"], LABEL["control"], LABEL["other"], LABEL["unknown"])


def patient_digest(patient_id: str, key: str) -> str:
    """Return the keyed BLAKE2b digest (32 hex digits) by which a model remembers a patient.

    A pseudonym, not anonymity: who has the key and a patient's identifier can recognise the patient, and that is the
    purpose, since a model must know whom it was trained on.

    Parameters
    ----------
    patient_id
        As in the stores.
    key
        Any text of at most 64 UTF-8 bytes (BLAKE2b's longest key). Other keys give unrelated digests and folds.

    Raises
    ------
    ValueError
        If ``patient_id`` or ``key`` is empty, or the key is too long.

    """
    secret = key.encode()
    if not patient_id or not 1 <= len(secret) <= hashlib.blake2b.MAX_KEY_SIZE:
        raise ValueError(
            f"a patient digest needs a patient_id and a key of 1 to {hashlib.blake2b.MAX_KEY_SIZE} bytes, found "
            f"patient_id {patient_id!r} and a key of {len(secret)} bytes; records without a known patient carry their own name"
        )
    return hashlib.blake2b(patient_id.encode(), key=secret, digest_size=16, person=b"ecgbatch").hexdigest()


def record_digest(
    waveform: np.ndarray, is_scorable: np.ndarray, *, store_leads: Sequence[str], leads: Sequence[str], key: str
) -> str:
    """Return the keyed digest (32 hex digits) of a record's beats: the same recording is known under any patient's name.

    Parameters
    ----------
    waveform : (beat, lead, sample) int16, stored steps
        Its beats as the beats store holds them; exact integers, so that every machine gets the same digest.
    is_scorable : (beat,) bool
        The beats that count.
    store_leads, leads
        Names of the leads of ``waveform``; those that the model uses, in its order: others leave no trace.
    key
        As in ``patient_digest``.

    """
    column = {str(name): index for index, name in enumerate(store_leads)}
    own = waveform[np.asarray(is_scorable, bool)][:, [column[lead] for lead in leads if lead in column]]
    digest = hashlib.blake2b(key=key.encode(), digest_size=16, person=b"ecgbatch record")
    digest.update(np.ascontiguousarray(own, np.int16).tobytes())
    return digest.hexdigest()


def patient_labels(patient_id: Sequence[str], label: Sequence[int]) -> dict[str, int]:
    """Return one label a patient: the first of mi, control, other, unknown that any of the patient's records has.

    Parameters
    ----------
    patient_id, label : (record,)
        Identifiers and codes of ``terms.LABEL``, in the same order.

    Raises
    ------
    ValueError
        If the two differ in length or a label is not a code of ``terms.LABEL``.

    """
    if len(patient_id) != len(label):
        raise ValueError(f"patient_id and label must have one entry a record, found {len(patient_id)} and {len(label)}")
    unknown = sorted({int(code) for code in label} - set(_LABEL_PRIORITY))
    if unknown:
        raise ValueError(f"labels must be codes of terms.LABEL {dict(LABEL)}, found {unknown}")
    labels: dict[str, int] = {}
    for patient, code in zip(map(str, patient_id), map(int, label), strict=True):
        labels[patient] = min(code, labels.get(patient, code), key=_LABEL_PRIORITY.index)
    return labels


def assign_folds(patient_id: Sequence[str], label: Sequence[int], n_folds: int, key: str) -> np.ndarray:
    """Assign every record to the fold of its patient.

    Patients are sorted by label (``patient_labels``) and, within a label, by their keyed digest, then dealt to the
    folds in turn; a label continues where the one before stopped. So folds differ by at most one patient a label
    and by at most one patient in all, and depend neither on the records' order nor on how many a patient has.

    Parameters
    ----------
    patient_id, label : (record,)
        Identifiers and codes of ``terms.LABEL``, in the same order.
    n_folds
        At least 2.
    key
        Of ``patient_digest``; another key deals otherwise.

    Returns
    -------
    (record,) int64
        Fold of each record, 0 to ``n_folds - 1``.

    Raises
    ------
    ValueError
        If ``n_folds`` is below 2, or as ``patient_digest`` and ``patient_labels`` do.

    """
    if n_folds < 2:
        raise ValueError(f"n_folds must be at least 2 (train on one part, test on another), found {n_folds}")
    labels = patient_labels(patient_id, label)
    fold_of = {patient: place % n_folds for place, patient in enumerate(_dealing_order(labels, key))}
    return np.array([fold_of[str(patient)] for patient in patient_id], dtype=np.int64)


def _dealing_order(labels: Mapping[str, int], key: str) -> list[str]:
    return sorted(labels, key=lambda patient: (_LABEL_PRIORITY.index(labels[patient]), patient_digest(patient, key), patient))
