"""Random kernels and a logistic regression on a record's median beat: no gradient through a network, seconds to train.

After Dempster, Petitjean and Webb 2020 (ROCKET, doi:10.1007/s10618-020-00701-z): convolutions with random weights, of each its
largest value and the share of samples above 0. Measured here by patient (docs/model.md) it is as good as the network, and the
two together are better than either.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgbatch.kernels import kernel
from ecgbatch.model import vectors
from ecgbatch.model.vectors import LANES, LENGTH, answer

Array = NDArray[Any]

EMITTED_BY = (vectors.__file__,)
"""Files whose change makes the kernels anew (``machine_code``), beside this one."""

DILATIONS = (1, 2, 4, 8)
"""Steps between a kernel's samples: at 125 Hz and nine of them from 64 to 512 ms, a QRS to nearly the whole window."""

Kernels = Mapping[str, NDArray[np.float32]]
"""``weight<dilation>`` (kernel, lead, sample) and ``bias<dilation>`` (kernel,), for each of ``DILATIONS``."""

_LBFGS_STEPS = 200
_ROWS = 512
"""Rows of features that are weighed together: some megabytes."""


def draw_kernels(n_kernels: int, n_leads: int, seed: int) -> dict[str, NDArray[np.float32]]:
    """Draw kernels: normal weights of mean 0 on a random set of leads (log-uniform size), bias uniform in [-1, 1].

    Parameters
    ----------
    n_kernels
        In all; an equal share for each of ``DILATIONS``, rounded up.
    n_leads
        Leads of the beats that they will see.
    seed
        The same seed gives the same kernels with one version of numpy; a model keeps its kernels.

    """
    random = np.random.default_rng((seed, n_kernels, n_leads))
    kernels: dict[str, NDArray[np.float32]] = {}
    each = -(-n_kernels // len(DILATIONS))
    for dilation in DILATIONS:
        weight = random.standard_normal((each, n_leads, LENGTH))
        weight -= weight.mean(axis=2, keepdims=True)
        n_used = np.floor(2 ** random.uniform(0, np.log2(n_leads + 1), each)).astype(int).clip(1, n_leads)
        rank = random.random((each, n_leads)).argsort(axis=1).argsort(axis=1)
        weight *= (rank < n_used[:, None])[:, :, None]
        kernels[f"weight{dilation}"] = weight.astype(np.float32)
        kernels[f"bias{dilation}"] = random.uniform(-1, 1, each).astype(np.float32)
    return kernels


def kernel_features(kernels: Kernels, beats: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (beat, 2 x kernels) float32 features of prepared beats (beat, lead, sample): share above 0, largest value.

    A beat's features depend on that beat only, to the last bit and on every processor.
    """
    found = [features_at(_plain(beats), *_at(kernels, step, beats.shape[1]), step) for step in DILATIONS]
    return np.concatenate(found, axis=1)


def replaced_features(kernels: Kernels, beat: NDArray[np.float32], replaced: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the features of copies of a beat in each of which one lead is another: the very numbers of ``kernel_features``.

    A twentieth of the work: a kernel answers lead by lead, and only those that look at the lead that changed answer anew.

    Parameters
    ----------
    beat : (lead, sample) float32, prepared
    replaced : (lead, copy, sample) float32
        What takes that lead's place in each copy.

    Returns
    -------
    (lead, copy, 2 x kernels) float32

    """
    found = [replaced_at(_plain(beat), _plain(replaced), *_at(kernels, step, len(beat)), step) for step in DILATIONS]
    return np.concatenate(found, axis=2)


def _at(kernels: Kernels, dilation: int, n_leads: int) -> tuple[Array, Array]:
    """Return weights and biases of one dilation; ValueError where they are not for so many leads: machine code does not ask."""
    weight, bias = _plain(kernels[f"weight{dilation}"]), _plain(kernels[f"bias{dilation}"])
    if weight.shape != (len(bias), n_leads, LENGTH):
        raise ValueError(f"kernels of {n_leads} leads and {LENGTH} samples are needed for these beats, found {weight.shape}")
    return weight, bias


def _plain(array: Array) -> Array:
    """Return an array of the one kind that the kernels are compiled for."""
    return np.require(array, np.float32, ("C", "W"))


@kernel
def features_at(beats: Array, weight: Array, bias: Array, dilation: int) -> Array:
    """Return the features (beat, 2 x kernel) of the kernels of one dilation."""
    n_kernels, n_leads = weight.shape[:2]
    n_samples, edge = beats.shape[2], dilation * (LENGTH // 2)
    found = np.empty((beats.shape[0], 2 * n_kernels), np.float32)
    bits = found.view(np.int32)
    padded, total = np.zeros((n_leads, n_samples + 2 * edge + LANES), np.float32), np.empty(n_samples + LANES, np.float32)
    used, none = leads_used(weight), np.zeros(1, np.int64)
    for i in range(beats.shape[0]):
        padded[:, edge : edge + n_samples] = beats[i]
        for k in range(n_kernels):
            total[:] = bias[k]
            summary = 0
            for lead in range(n_leads):
                if used[k, lead]:
                    summary = answer(total, padded[lead], dilation, weight[k, lead], total, none, 0, n_samples, total)
            found[i, k], bits[i, n_kernels + k] = counted(summary, n_samples)
    return found


@kernel
def replaced_at(beat: Array, replaced: Array, weight: Array, bias: Array, dilation: int) -> Array:
    """Return the features (lead, copy, 2 x kernel) of the kernels of one dilation: sums in the order of ``features_at``."""
    n_kernels, n_leads = weight.shape[:2]
    n_copies, n_samples = replaced.shape[1:]
    edge, room = dilation * (LENGTH // 2), n_samples + LANES
    found = np.empty((n_leads, n_copies, 2 * n_kernels), np.float32)
    bits = found.view(np.int32)
    padded = np.zeros((n_leads, room + 2 * edge), np.float32)
    instead = np.zeros((n_leads, n_copies, room + 2 * edge), np.float32)
    padded[:, edge : edge + n_samples] = beat
    instead[:, :, edge : edge + n_samples] = replaced
    answers, before = np.empty((n_leads, room), np.float32), np.empty((n_leads + 1, room), np.float32)
    each = answers.ravel()
    nothing, total = np.zeros(room, np.float32), np.empty(room, np.float32)
    used, none, later = leads_used(weight), np.zeros(1, np.int64), np.empty(n_leads, np.int64)
    for k in range(n_kernels):
        before[0] = bias[k]
        summary, n_used = 0, 0
        for lead in range(n_leads):
            if used[k, lead]:
                later[n_used] = lead * room
                n_used += 1
                answer(nothing, padded[lead], dilation, weight[k, lead], nothing, none, 0, n_samples, answers[lead])
                summary = answer(
                    before[lead], padded[lead], dilation, weight[k, lead], nothing, none, 0, n_samples, before[lead + 1]
                )
            else:
                before[lead + 1] = before[lead]
        share, largest = counted(summary, n_samples)
        found[:, :, k], bits[:, :, n_kernels + k] = share, largest
        for own in range(n_used):
            lead = later[own] // room
            for copy in range(n_copies):
                summary = answer(
                    before[lead], instead[lead, copy], dilation, weight[k, lead],
                    each, later[own + 1 :], n_used - own - 1, n_samples, total,
                )  # fmt: skip
                found[lead, copy, k], bits[lead, copy, n_kernels + k] = counted(summary, n_samples)
    return found


@kernel
def leads_used(weight: Array) -> Array:
    """Return (kernel, lead) bool: which leads a kernel looks at, one at least."""
    used = np.zeros(weight.shape[:2], np.bool_)
    for k in range(weight.shape[0]):
        for lead in range(weight.shape[1]):
            for tap in range(LENGTH):
                used[k, lead] |= weight[k, lead, tap] != 0
        used[k, 0] |= not used[k].any()
    return used


@kernel
def counted(summary: int, n: int) -> Any:
    """Return the share of ``n`` samples above 0, float32, and the bits of the largest value, from what ``answer`` returns.

    As whole numbers, negative ones turned over, floats have the same order.
    """
    largest = np.int32(summary & 0xFFFFFFFF)
    return np.float32((summary >> 32) / n), largest ^ ((largest >> np.int32(31)) & np.int32(0x7FFFFFFF))


def fit_regression(
    features: NDArray[np.float32],
    target: NDArray[np.floating],
    weight: NDArray[np.floating],
    *,
    penalty: float,
    start: Mapping[str, NDArray[np.float64]] | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Fit a ridge logistic regression to soft labels: mean loss + ``penalty`` |w|^2 / 2, w in SD of the features.

    Parameters
    ----------
    features : (row, feature) float32
    target : (row,) float
        Probability of MI, 0 to 1.
    weight : (row,) float
        Need not sum to 1.
    penalty
        On squared weights.
    start
        An earlier regression on the same features: the penalty then is on the distance from it (fine-tuning).

    Returns
    -------
    dict
        ``coefficient`` (feature,), ``intercept`` (1,), float64; the same bits on one processor type and torch version.

    """
    import torch  # who only scores needs none of it

    share = np.asarray(weight, np.float64) / np.sum(weight)
    mean = share @ features.astype(np.float64)
    sd = np.sqrt(share @ (features.astype(np.float64) - mean) ** 2)
    sd = np.where(sd > 1e-6, sd, np.inf)  # a feature that does not vary gets no weight
    x = torch.from_numpy((features - mean) / sd)
    y, w = torch.from_numpy(np.asarray(target, np.float64)), torch.from_numpy(share)
    origin = np.zeros(features.shape[1] + 1)
    if start is not None:
        scale = np.where(np.isfinite(sd), sd, 0.0)
        origin[:-1] = start["coefficient"] * scale
        origin[-1] = start["intercept"][0] + start["coefficient"] @ mean
    first = torch.from_numpy(origin)
    beta = first.clone().requires_grad_()
    solver = torch.optim.LBFGS([beta], max_iter=_LBFGS_STEPS, tolerance_grad=1e-7, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        solver.zero_grad()
        logit = x @ beta[:-1] + beta[-1]
        value = w @ torch.nn.functional.binary_cross_entropy_with_logits(logit, y, reduction="none")
        value = value + 0.5 * penalty * (beta - first)[:-1].square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    solver.step(loss)  # type: ignore[no-untyped-call]
    found = beta.detach().numpy()
    coefficient = found[:-1] / sd
    return {"coefficient": coefficient, "intercept": np.array([found[-1] - coefficient @ mean])}


def regression_logit(regression: Mapping[str, NDArray[np.float64]], features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the logit (beat,) float64 of each row of features; summed row by row, so neighbours leave no trace."""
    coefficient = regression["coefficient"].astype(np.float64)
    rows = np.split(features, range(_ROWS, len(features), _ROWS))
    return np.concatenate([(some * coefficient).sum(axis=1) for some in rows]) + float(regression["intercept"][0])
