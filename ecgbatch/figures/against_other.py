"""MI beside other heart disease: figures by patient, and a threshold that spares those with another disease."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ecgbatch.figures.by_patient import Figure, patient_figures
from ecgbatch.figures.patients import by_patient

MOST_OTHER_CALLED = 0.15
"""Share of patients with other heart disease that a threshold may call MI where such patients help to choose it: at a tenth of
patients with MI and a half with other disease, then about half of those called have MI."""


def threshold_sparing(probability: npt.ArrayLike, group: npt.ArrayLike, patient_id: npt.ArrayLike) -> float:
    """Choose the lowest operating point that calls at most ``MOST_OTHER_CALLED`` of the patients with other heart disease MI.

    Half-way between neighbouring distinct probabilities, as ``choose_threshold``. Use it on validation patients only.

    Parameters
    ----------
    probability, patient_id : (record,)
        As in ``by_patient``.
    group : (record,) int
        0 control, 1 MI, 2 other heart disease.

    """
    everyone = by_patient(probability, np.isin(group, (0, 1, 2)).astype(np.int64), patient_id).probability
    other = np.sort(by_patient(probability, np.where(np.asarray(group) == 2, 0, -1), patient_id).probability)
    distinct = np.unique(everyone)
    candidate = np.concatenate([[distinct[0] / 2], (distinct[1:] + distinct[:-1]) / 2, [(distinct[-1] + 1) / 2]])
    n_called = other.size - np.searchsorted(other, candidate)
    few = np.flatnonzero(n_called <= MOST_OTHER_CALLED * other.size)
    return float(candidate[few[0]]) if few.size else 1.0  # too many of them are certain: nothing lies above


def figures_against_other(
    probability: npt.ArrayLike, group: npt.ArrayLike, patient_id: npt.ArrayLike, *, threshold: npt.ArrayLike = 0.5
) -> dict[str, Figure]:
    """Return ``auroc_against_other`` and ``specificity_against_other``: MI patients beside those with other heart disease.

    As in ``patient_figures``, with ``group`` (record,) 0 control, 1 MI, 2 other; nothing where no record is of group 2. A patient
    with records of both counts as MI.
    """
    labels = np.asarray(group)
    if not (labels == 2).any():
        return {}
    mi = np.select([labels == 1, labels == 2], [1, 0], -1)
    found = patient_figures(probability, mi, patient_id, threshold=threshold, names=("auroc", "specificity"))
    return {f"{name}_against_other": figure for name, figure in found.items()}
