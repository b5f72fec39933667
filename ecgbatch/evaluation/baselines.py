"""What any model must beat: simple rules and regressions, by the same folds of patients; and what shortcuts alone reach."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ecgbatch.beats.lookup import current_beats
from ecgbatch.model.files import load_model
from ecgbatch.model.preparation import median_beat
from ecgbatch.model.random_kernels import draw_kernels, kernel_features
from ecgbatch.model.splits import assign_folds
from ecgbatch.scores.shard import heart_rate_bpm, prepared_beats
from ecgbatch.scores.stored_beats import read_record_beats
from ecgbatch.signals.lookup import signals_path
from ecgbatch.terms import MISSING_SAMPLE, SEX
from ecgbatch.training.data import GROUPS
from storage import open_store

Array = NDArray[Any]

N_KERNELS = 1500
"""Of the baseline: more than a member of a model has."""

N_COMPONENTS = 20
"""Principal components of the median beat, over all leads together."""

STRENGTH = {"median beat, PCA": 0.1, "random kernels": 1e-3}
"""Inverse ridge penalty of each regression (scikit-learn's C), as found on PTB-XL patients; 1 for a few columns."""

NOISE_BAND_S = 0.02
"""Noise is what a mean over one mains period takes away."""

EXCERPT_S = 10.0
"""Of a record's samples, this much is read for noise and offset: records of any length are judged by as much."""


@dataclass(frozen=True)
class Records:
    """What baselines see of the labelled records of a workspace.

    ``median`` (record, lead, sample) float32 prepared, ``beats`` (beat, lead, sample) float32: at most ``beats_a_record`` each,
    ``beat_record`` (beat,) their record; ``group`` (record,) 0 control, 1 MI, 2 other heart disease; ``columns`` name to (record,
    column) float, NaN unknown.
    """

    patient_id: tuple[str, ...]
    record_name: tuple[str, ...]
    group: Array
    median: Array
    beats: Array
    beat_record: Array
    columns: Mapping[str, Array]

    @property
    def mi(self) -> Array:
        """1 where it is MI, else 0, (record,): what baselines learn."""
        return np.asarray(self.group == 1, np.int64)

    @property
    def mi_or_control(self) -> Array:
        """1 MI, 0 control, -1 other heart disease, (record,): what sensitivity and specificity are of."""
        return np.where(self.group == 2, -1, self.group)

    def only(self, is_kept: Array) -> Records:
        """Return some of the records."""
        place = np.cumsum(is_kept) - 1
        own = is_kept[self.beat_record]
        return Records(
            tuple(np.array(self.patient_id, object)[is_kept].tolist()),
            tuple(np.array(self.record_name, object)[is_kept].tolist()),
            self.group[is_kept],
            self.median[is_kept],
            self.beats[own],
            place[self.beat_record[own]],
            {name: values[is_kept] for name, values in self.columns.items()},
        )


def read_records(work: str, model_folder: str, *, beats_a_record: int = 8, with_signals: bool = True) -> Records:
    """Read the labelled records of a workspace that have scorable beats, as a model's preprocessing prepares them.

    Parameters
    ----------
    work
        With beats cut as the model wants them.
    model_folder
        Its leads and preprocessing are used, not its weights.
    with_signals
        Also measure noise and offset, which takes a look at every record's samples.

    """
    model = load_model(model_folder)
    rows = current_beats(work, model.beats)
    rows = rows.isel(record=np.flatnonzero(np.isin(rows["label"].values, GROUPS)))
    medians, beats, rate, kept = [], [], [], []
    for place, record in enumerate(read_record_beats(rows, Path(work), model)):
        if record is None or not record.is_scorable.any():
            continue
        waveform = prepared_beats(model, record)
        medians.append(median_beat(waveform))
        beats.append(waveform[:beats_a_record])
        rate.append(heart_rate_bpm(record.rr_previous_s))
        kept.append(place)
    rows = rows.isel(record=kept)
    columns = {"heart rate": np.array(rate)[:, None], "age and sex": _age_and_sex(rows), "record length": _length_s(rows)}
    columns |= {"year of recording": _year(rows)}
    columns |= dict(zip(("noise", "DC offset"), _noise_and_offset(work, rows), strict=True)) if with_signals else {}
    shape = (len(model.leads), model.n_samples)
    return Records(
        tuple(rows["patient_id"].values.tolist()),
        tuple(rows["record_name"].values.tolist()),
        np.searchsorted(GROUPS, rows["label"].values).astype(np.int64),
        np.array(medians, np.float32).reshape(-1, *shape),
        np.concatenate(beats) if beats else np.zeros((0, *shape), np.float32),
        np.repeat(np.arange(len(beats)), [len(some) for some in beats]),
        columns,
    )


def _age_and_sex(rows: xr.Dataset) -> Array:
    sex = rows["sex"].values
    return np.stack([rows["age_years"].values.astype(float), np.where(sex == SEX["unknown"], np.nan, sex == SEX["male"])], axis=1)


def _length_s(rows: xr.Dataset) -> Array:
    return np.asarray((rows["n_samples"].values / rows["sampling_frequency_hz"].values)[:, None])


def _year(rows: xr.Dataset) -> Array:
    year = rows["recording_year"].values.astype(float)[:, None]
    return np.where(year < 0, np.nan, year)


def _noise_and_offset(work: str, rows: xr.Dataset) -> tuple[Array, Array]:
    """Return the log noise and the offset (record, 1) in each record's first seconds, mean over its leads, in ADC units."""
    noise, offset = np.full((rows.sizes["record"], 1), np.nan), np.full((rows.sizes["record"], 1), np.nan)
    names, places = rows["signals_store"].values.tolist(), rows["signals_row"].values
    for name in sorted(set(names)):
        store = open_store(signals_path(work, name))
        for row in [row for row, other in enumerate(names) if other == name]:
            rate = float(rows["sampling_frequency_hz"].values[row])
            length = min(int(rows["n_samples"].values[row]), int(EXCERPT_S * rate))
            signal = store["signal"].isel(record=int(places[row]), sample=slice(0, length)).values
            signal = signal[(signal != MISSING_SAMPLE).all(axis=1)].astype(float)
            width = max(2, round(NOISE_BAND_S * rate))
            if len(signal) and length > width:
                total = np.concatenate([np.zeros((len(signal), 1)), signal.cumsum(axis=1)], axis=1)
                smooth = (total[:, width:] - total[:, :-width]) / width
                rest = signal[:, width // 2 : width // 2 + smooth.shape[1]] - smooth
                noise[row], offset[row] = np.log(rest.std() + 1e-3), signal.mean()
    return noise, offset


def baselines(records: Records) -> dict[str, Array]:
    """Return each baseline's features (record, feature): nothing for the majority, columns, median beats, random kernels."""
    flat = records.median.reshape(len(records.mi), -1)
    kernels = draw_kernels(N_KERNELS, records.median.shape[1], 1)
    return {
        "majority": np.zeros((len(records.mi), 0)),
        "heart rate": records.columns["heart rate"],
        "age and sex": records.columns["age and sex"],
        "median beat, PCA": flat,
        "random kernels": kernel_features(kernels, records.median),
    }


def shortcuts(records: Records) -> dict[str, Array]:
    """Return the features that a model should not be able to live on: what is not the shape of the beat."""
    names = ("record length", "year of recording", "age and sex", "heart rate", "noise", "DC offset")
    return {name: records.columns[name] for name in names if name in records.columns}


def fitted(name: str, features: Array, mi: Array, weight: Array) -> Callable[[Array], Array]:
    """Fit a baseline and return its rule: features to probabilities of MI; unknown values take their column's mean."""
    share = float(np.average(mi, weights=weight))
    if not features.shape[1] or not np.isfinite(features).any():
        return lambda others: np.full(len(others), share)
    from sklearn.decomposition import PCA
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    steps: list[Any] = [SimpleImputer(add_indicator=True, keep_empty_features=True)]
    if name == "median beat, PCA":
        steps.append(PCA(min(N_COMPONENTS, *features.shape), svd_solver="full"))
    rule = make_pipeline(*steps, StandardScaler(), LogisticRegression(C=STRENGTH.get(name, 1.0), max_iter=2000))
    rule.fit(features, mi, logisticregression__sample_weight=weight)
    return lambda others: np.asarray(rule.predict_proba(others)[:, 1])


def patient_weight(patient_id: Any) -> Array:
    """Return (record,) weights that sum to 1 for every patient."""
    index, n_records = np.unique([str(name) for name in patient_id], return_inverse=True, return_counts=True)[1:]
    return np.asarray(1.0 / n_records[index])


def out_of_fold(name: str, features: Array, records: Records, *, n_folds: int, key: str) -> Array:
    """Return a baseline's probabilities (record,) from folds by patient; NaN where a training part has one class only."""
    probability = np.full(len(records.mi), np.nan)
    weight = patient_weight(records.patient_id)
    if not features.shape[1]:  # the majority ranks nobody; shares that differ between folds would seem to
        return np.full(len(records.mi), np.average(records.mi, weights=weight))
    for train, test in folds(records, n_folds, key):
        if np.unique(records.mi[train]).size == 2:
            probability[test] = fitted(name, features[train], records.mi[train], weight[train])(features[test])
    return probability


def folds(records: Records, n_folds: int, key: str) -> Iterator[tuple[Array, Array]]:
    """Yield (training, test) masks, by patient, as a training with this key deals them."""
    labels = [GROUPS[group] for group in records.group]
    fold = assign_folds(records.patient_id, labels, n_folds, key)
    for number in range(n_folds):
        yield fold != number, fold == number
