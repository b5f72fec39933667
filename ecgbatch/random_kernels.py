"""Random kernels and a logistic regression on a record's median beat: no gradient through a network, seconds to train.

After Dempster, Petitjean and Webb 2020 (ROCKET, doi:10.1007/s10618-020-00701-z): convolutions with random weights, of each its
largest value and the share of samples above 0. Measured here by patient (docs/model.md) it is as good as the network, and the
two together are better than either.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

LENGTH = 9
"""Samples of a kernel, the middle one of ROCKET's lengths and MiniRocket's only one."""

DILATIONS = (1, 2, 4, 8)
"""Steps between a kernel's samples: at 125 Hz and nine of them from 64 to 512 ms, a QRS to nearly the whole window."""

Kernels = Mapping[str, NDArray[np.float32]]
"""``weight<dilation>`` (kernel, lead, sample) and ``bias<dilation>`` (kernel,), for each of ``DILATIONS``."""

_BATCH = 64
_LBFGS_STEPS = 200


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

    A beat's features depend on that beat only: every pass has one shape, the last one padded.
    """
    found = []
    with torch.inference_mode():
        for start in range(0, len(beats), _BATCH):
            some = beats[start : start + _BATCH]
            size = _BATCH if len(beats) > 1 else 1
            batch = np.zeros((size, *beats.shape[1:]), np.float32)
            batch[: len(some)] = some
            parts = []
            for dilation in DILATIONS:
                weight, bias = (torch.from_numpy(np.array(kernels[f"{name}{dilation}"])) for name in ("weight", "bias"))
                padding = dilation * (LENGTH // 2)
                answer = torch.nn.functional.conv1d(torch.from_numpy(batch), weight, bias, padding=padding, dilation=dilation)
                largest = answer.amax(dim=2)
                parts += [answer.gt_(0).mean(dim=2), largest]
            found.append(torch.cat(parts, dim=1).numpy()[: len(some)])
    n_features = 2 * sum(len(kernels[f"bias{dilation}"]) for dilation in DILATIONS)
    return np.concatenate(found) if found else np.zeros((0, n_features), np.float32)


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
    return np.array([np.sum(row * coefficient) for row in features.astype(np.float64)]) + float(regression["intercept"][0])
