"""Evidence: which part of which lead of a record's median beat moves its score, by taking that part away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from ecgbatch.model.definition import Model
    from ecgbatch.model.members import Medians

SEGMENTS: Mapping[str, tuple[float, float]] = {
    "P": (-0.25, -0.06),
    "QRS": (-0.06, 0.06),
    "ST": (0.06, 0.16),
    "T": (0.16, 0.45),
}
"""Name to start and end in seconds from R. Fixed, not delineated: a QRS of up to 120 ms is within normal limits (Surawicz and
others 2009), ST to J + 100 ms; at fast rates or with a broad QRS the parts run into each other. P holds the PR segment too."""

EVIDENCE_MEMBERS = 3
"""At most this many of the members that score a record also explain it: 49 passes each, of one beat each."""

EVIDENCE_RULE = (
    "fall of the record's logit when one segment (P, QRS, ST, T: fixed times from R) of one lead of its median beat is replaced "
    "by that of the average beat of training (by a straight line where a model holds none), mean over at most "
    f"{EVIDENCE_MEMBERS} of its members; positive speaks for MI. It says what moved this model's number, not what the heart has"
)
"""What ``evidence`` means; kept in every scores store. The average beat, because a straight line is itself abnormal (it makes a
healthy QRS look infarcted) and follows a raised ST segment instead of taking it away."""

Float = npt.NDArray[np.float32]


def segment_samples(beats: Mapping[str, Any], n_samples: int) -> dict[str, slice]:
    """Return the samples of each segment in a window cut with these settings; empty where the window does not reach it.

    Parameters
    ----------
    beats
        Settings of a beats store: ``method``, ``sampling_frequency_hz``, ``before_s`` (``kachuee`` beats begin at R).
    n_samples
        Samples of the window.

    """
    rate = float(beats.get("sampling_frequency_hz", 125.0))
    r_index = 0 if beats.get("method") == "kachuee" else int(float(beats.get("before_s", 0.25)) * rate)
    found = {}
    for name, bounds in SEGMENTS.items():
        start, stop = (min(max(r_index + round(bound * rate), 0), n_samples) for bound in bounds)
        found[name] = slice(start, n_samples if name == "T" and beats.get("method") != "kachuee" else stop)
    return found


def occluded(beat: Float, segments: Sequence[slice], usual: Float | None = None) -> Float:
    """Return copies of a beat, each with one segment of one lead replaced.

    Parameters
    ----------
    beat : (lead, sample) float32, prepared
    segments : (segment,) slices of samples
        An empty one leaves its copy as it is.
    usual : (lead, sample) float32
        Takes the segment's place; None: a straight line between the segment's neighbours.

    Returns
    -------
    (lead, segment, lead, sample) float32

    """
    n_leads, n_samples = beat.shape
    copies = np.broadcast_to(beat, (n_leads, len(segments), n_leads, n_samples)).copy()
    for number, segment in enumerate(segments):
        if segment.stop > segment.start:
            instead = _lines(beat, segment) if usual is None else usual[:, segment]
            for lead in range(n_leads):
                copies[lead, number, lead, segment] = instead[lead]
    return copies


def _lines(beat: Float, segment: slice) -> Float:
    """Return (lead, sample of the segment) straight lines between the samples beside it."""
    left, right = max(segment.start - 1, 0), min(segment.stop, beat.shape[1] - 1)
    share = np.linspace(0, 1, right - left + 1, dtype=np.float32)[segment.start - left :][: segment.stop - segment.start]
    return np.asarray(beat[:, left, None] + share * (beat[:, right] - beat[:, left])[:, None])


def evidence(model: Model, indices: Sequence[int], medians: Medians) -> Float:
    """Return how much each segment of each lead speaks for MI, record by record: ``EVIDENCE_RULE``.

    Parameters
    ----------
    model
        Of beats with a known place of R.
    indices
        Members that score these records, at least one.
    medians
        Of each record's scored beats; a lead of zeros is missing.

    Returns
    -------
    (record, lead, segment) float32
        In logits of the calibrated probability; NaN for leads that the record lacks and segments that the window lacks. A
        record's numbers do not depend on the others.

    """
    from ecgbatch.model.members import Medians, median_beat_logits
    from ecgbatch.model.probability import rule_for

    beats = medians.beats
    segments = list(segment_samples(model.beats, model.n_samples).values())
    explain = [indices[place] for place in np.linspace(0, len(indices) - 1, min(len(indices), EVIDENCE_MEMBERS)).astype(int)]
    usual = model.novelty.get("mean")
    changed = np.stack([occluded(beat, segments, usual) for beat in beats])  # (record, lead, segment, lead, sample)
    copies = np.concatenate([beats[:, None], changed.reshape(len(beats), -1, *beats.shape[1:])], axis=1)
    each = Medians(copies.reshape(-1, *beats.shape[1:]), _features(model, medians, changed))
    spans = np.array([(segment.start, segment.stop) for _ in model.leads for segment in segments])
    logits = median_beat_logits(model, explain, each, spans).reshape(len(beats), -1)
    fall = (logits[:, :1] - logits[:, 1:]).reshape(*beats.shape[:2], len(segments)) * rule_for(model, indices)[0].slope
    fall[~beats.any(axis=2)] = np.nan
    fall[:, :, [segment.stop <= segment.start for segment in segments]] = np.nan
    return np.asarray(fall, np.float32)


def _features(model: Model, medians: Medians, changed: Float) -> Float | None:
    """Return what the model's random kernels make of each beat and its changed copies, (record x (1 + copies), feature)."""
    from ecgbatch.model.random_kernels import replaced_features

    if medians.features is None:
        return None
    leads = range(changed.shape[1])
    found = np.empty((len(changed), 1 + len(leads) * changed.shape[2], medians.features.shape[1]), np.float32)
    found[:, 0] = medians.features
    for row, (beat, copies) in enumerate(zip(medians.beats, changed, strict=True)):
        replaced = np.stack([copies[lead, :, lead] for lead in leads])
        found[row, 1:] = replaced_features(model.kernels, beat, replaced).reshape(found.shape[1] - 1, -1)
    return found.reshape(-1, found.shape[2])
