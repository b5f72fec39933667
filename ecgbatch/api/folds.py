"""Patients dealt to folds, as training deals them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from ecgbatch.model.splits import assign_folds, patient_labels
from ecgbatch.terms import LABEL
from ecgbatch.training.settings import TrainSettings


def dealt(records: pd.DataFrame, beats: xr.Dataset, n: int, seed: int) -> pd.Series:
    """Return the fold of each record of ``records``; as ``Workspace.folds`` says.

    Parameters
    ----------
    beats
        From ``windows.beats_of``: the scorable beats of all records. Those of method ``kachuee`` are learnt from MI and controls
        alone.

    """
    groups = [LABEL["control"], LABEL["mi"]] + ([] if beats.attrs["method"] == "kachuee" else [LABEL["other"]])
    chosen = np.flatnonzero((beats["n_beats"].values > 0) & np.isin(beats["label"].values, groups))
    patient, label = beats["patient_id"].values[chosen].tolist(), beats["label"].values[chosen].tolist()
    of_patient = list(patient_labels(patient, label).values())
    n_mi, n_control = of_patient.count(LABEL["mi"]), of_patient.count(LABEL["control"])
    if not 2 <= n <= min(n_mi, n_control):
        raise ValueError(
            "folds need at least 2 of them and, with scorable beats, a patient with label mi and one with label control in each: "
            f"found {n} folds, {n_mi} and {n_control} such patients. Ask for fewer folds, or give more labels (--labels)"
        )
    fold_of = dict(zip(patient, assign_folds(patient, label, n, TrainSettings(seed=seed).patient_key).tolist(), strict=True))
    folds = [fold_of.get(one, -1) for one in records["patient_id"].tolist()]
    return pd.Series(np.array(folds, np.int64), index=records.index, name="fold")
