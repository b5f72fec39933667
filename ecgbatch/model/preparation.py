"""From stored beats to the network's input: whether a model takes them, in which steps, and their median."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ecgbatch.model.definition import DEFAULT_LEADS, Model, Preprocessing
from ecgbatch.terms import MISSING_SAMPLE


def check_beats(model: Model, settings: Mapping[str, Any], where: str) -> None:
    """Refuse a beats store whose beats were cut otherwise than those the model was trained on.

    Parameters
    ----------
    model
        The model that is to score.
    settings
        The beats store's settings; those not in ``model.beats`` do not matter.
    where
        Names the store in the message.

    Raises
    ------
    ValueError
        Naming every setting that differs.

    """
    wrong = [
        f"{name} {settings.get(name)!r} instead of {value!r}"
        for name, value in model.beats.items()
        if settings.get(name) != value
    ]
    if wrong:
        raise ValueError(
            f"{where}: the model cannot score these beats: {'; '.join(wrong)}. Cut beats with the model's settings "
            "(ecgbatch beats) or train a model on these."
        )


def prepare_waveforms(
    waveform: np.ndarray,
    is_scorable: np.ndarray,
    *,
    store_leads: Sequence[str],
    leads: Sequence[str] = DEFAULT_LEADS,
    preprocessing: Preprocessing | None = None,
    is_usable: np.ndarray | None = None,
) -> np.ndarray:
    """Turn the beats of one record into the network's input.

    Parameters
    ----------
    waveform : (beat, lead, sample) int16, stored steps
        All beats of one record, as in the beats store; ``terms.MISSING_SAMPLE`` is missing.
    is_scorable : (beat,) bool
        Beats that count for the record's mean and SD (those without a bit of ``terms.UNSCORABLE_BEAT``).
    store_leads : (lead,) text
        Names of the leads in ``waveform``.
    leads
        Names of the leads that the network wants, in its order.
    preprocessing
        Default ``Preprocessing()``.
    is_usable : (lead,) bool, in the order of ``store_leads``
        False: the lead enters as zeros. Default: all; a lead that is missing or flat in the record is found here.

    Returns
    -------
    (beat, len(leads), sample) float32
        Every beat, scorable or not, in order, within +-``clip``; missing samples and leads are zeros.

    Raises
    ------
    ValueError
        If shapes disagree or the array is not int16: another type would silently carry another unit.

    """
    if waveform.dtype != np.int16 or waveform.ndim != 3 or waveform.shape[:2] != (len(is_scorable), len(store_leads)):
        raise ValueError(
            f"waveform must be int16 (beat {len(is_scorable)}, lead {len(store_leads)}, sample), "
            f"found {waveform.dtype} {waveform.shape}"
        )
    preprocessing = preprocessing or Preprocessing()
    column = {name: index for index, name in enumerate(map(str, store_leads)) if is_usable is None or is_usable[index]}
    prepared = np.zeros((waveform.shape[0], len(leads), waveform.shape[2]), np.float32)
    present = [(place, column[lead]) for place, lead in enumerate(leads) if lead in column]
    if present and np.any(is_scorable):
        places, columns = map(list, zip(*present, strict=True))
        prepared[:, places] = _normalised(waveform[:, columns], np.asarray(is_scorable, bool), preprocessing)
    return prepared


def _normalised(steps: np.ndarray, is_scorable: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    is_known = steps != MISSING_SAMPLE
    values = np.where(is_known, steps, 0).astype(np.float32)
    if preprocessing.kind == "scaled":
        return np.asarray(np.clip(values * np.float32(preprocessing.scale), -preprocessing.clip, preprocessing.clip))
    counted = is_known[is_scorable]
    n = np.maximum(counted.sum(axis=(0, 2), dtype=np.int64), 1)
    mean = values[is_scorable].sum(axis=(0, 2), dtype=np.float64) / n  # (lead,)
    centred = np.where(is_known, values - mean[:, None].astype(np.float32), np.float32(0))
    sd = np.sqrt(np.square(centred[is_scorable], dtype=np.float64).sum(axis=(0, 2)) / n)
    factor = np.where(sd >= preprocessing.sd_floor, 1.0 / np.maximum(sd, preprocessing.sd_floor), 0.0)
    return np.asarray(np.clip(centred * factor[:, None].astype(np.float32), -preprocessing.clip, preprocessing.clip))


def median_beat(waveform: np.ndarray) -> np.ndarray:
    """Return the median (lead, sample) float32 of a record's prepared, scored beats (beat, lead, sample)."""
    return np.asarray(np.median(waveform, axis=0), np.float32)
