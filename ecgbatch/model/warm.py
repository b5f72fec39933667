"""Have all machine code of scoring made, or loaded: networks, random kernels, wave figures and trees."""

from __future__ import annotations

import numpy as np

from ecgbatch.model.files import load_model, shipped_model
from ecgbatch.model.inference import PRECISIONS, beat_logits, changed_logits, pack
from ecgbatch.model.random_kernels import draw_kernels, kernel_features, replaced_features
from ecgbatch.model.trees import class_scores
from ecgbatch.model.waves import wave_figures


def warm_up() -> None:
    """Call each kernel of this wing as scoring and training do."""
    model = load_model(shipped_model())
    n_leads, n_samples = len(model.leads), model.n_samples
    beat = np.zeros((1, n_leads, n_samples), np.float32)
    beat[..., n_samples // 3] = 1
    packed = pack(model.members[0].weights)
    for precision in PRECISIONS:
        beat_logits(packed, beat, precision)
    changed_logits(packed, beat[0], beat, np.array([[0, n_samples]]))
    kernels = draw_kernels(100, n_leads, seed=0)
    kernel_features(kernels, beat)
    replaced_features(kernels, beat[0], np.ones((n_leads, 1, n_samples), np.float32))
    class_scores(model.members[0].trees, wave_figures(beat, n_samples // 3))
