"""The network, as published, with any number of leads."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ecgbatch.model.inference import beat_logits, pack, probabilities

CHANNELS, KERNEL, BLOCKS, POOL, POOL_STRIDE, HIDDEN = 32, 5, 5, 5, 2, 32
"""Kachuee, Fazeli and Sarrafzadeh 2018 (arXiv:1805.00794), figure 2."""

SCORING_BATCH = 64
"""Beats a forward pass of torch, where it passes judgement on networks of more classes."""


class BeatNet(torch.nn.Module):
    """Network of Kachuee et al. 2018: 54,914 parameters with one lead and two classes.

    A convolution 32x5; five residual blocks (convolution 32x5, ReLU, convolution 32x5, skip, ReLU, max-pool 5 stride 2);
    fully connected 32, ReLU, 32, ReLU, classes. All convolutions keep the length. A block whose input is shorter than
    the pool keeps it: 187 samples go 92, 44, 20, 8, 2 and 88 samples 42, 19, 8, 2, 2, so both flatten to 64.

    Parameters
    ----------
    n_leads
        Input channels, at least 1.
    n_samples
        Samples a beat, at least 1.
    n_classes
        Outputs; 2 is control, MI.

    """

    def __init__(self, n_leads: int = 1, n_samples: int = 187, n_classes: int = 2) -> None:
        super().__init__()
        length = n_samples
        for _ in range(BLOCKS):
            length = (length - POOL) // POOL_STRIDE + 1 if length >= POOL else length
        self.first = _convolution(n_leads)
        self.inner = torch.nn.ModuleList(_convolution(CHANNELS) for _ in range(BLOCKS))
        self.outer = torch.nn.ModuleList(_convolution(CHANNELS) for _ in range(BLOCKS))
        self.hidden1 = torch.nn.Linear(CHANNELS * length, HIDDEN)
        self.hidden2 = torch.nn.Linear(HIDDEN, HIDDEN)
        self.output = torch.nn.Linear(HIDDEN, n_classes)

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        """Return class logits (beat, class) of prepared waveforms (beat, lead, sample); softmax gives probabilities.

        Beats are taken for pictures one row high with channels last in memory, where torch's convolutions and pools for
        processors are fastest: a step of training takes two thirds of the time.
        """
        x = waveform.unsqueeze(2).to(memory_format=torch.channels_last)
        x = _along(self.first, x)  # (beat, 32, 1, sample)
        for inner, outer in zip(self.inner, self.outer, strict=True):
            x = torch.relu_(_along(outer, torch.relu_(_along(inner, x))).add_(x))
            if x.shape[-1] >= POOL:
                x = torch.nn.functional.max_pool2d(x, (1, POOL), (1, POOL_STRIDE))
        x = torch.relu(self.hidden1(x.flatten(1)))  # (beat, 64) -> (beat, 32)
        logits: torch.Tensor = self.output(torch.relu(self.hidden2(x)))
        return logits


def _convolution(channels: int) -> torch.nn.Conv1d:
    return torch.nn.Conv1d(channels, CHANNELS, KERNEL, padding=KERNEL // 2)


def _along(convolution: Any, picture: torch.Tensor) -> torch.Tensor:
    """Return a convolution along the last axis of (beat, channel, 1, sample)."""
    return torch.nn.functional.conv2d(picture, convolution.weight.unsqueeze(2), convolution.bias, padding=(0, KERNEL // 2))


def train_repeatably() -> None:
    """Have torch train on one thread with kernels that give the same bits each time, in this process.

    Torch would then also fill all memory before use, a tenth of a step; no kernel used here reads what it has not written.
    """
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def network_probabilities(network: torch.nn.Module, waveform: np.ndarray) -> np.ndarray:
    """Return one network's MI probabilities (beat,) float32 of prepared waveforms (beat, lead, sample) float32: scoring's."""
    weights = {name: tensor.detach().cpu().numpy() for name, tensor in network.state_dict().items()}
    return probabilities(beat_logits(pack(weights), waveform))
