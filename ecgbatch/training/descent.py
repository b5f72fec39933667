"""A network while it learns: its optimiser, the running mean of its weights, and checkpoints that resume exactly."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save as save_tensors

from ecgbatch import __version__
from ecgbatch.model.definition import Member
from ecgbatch.model.files import write_synced
from ecgbatch.model.network import BeatNet
from ecgbatch.training.data import Prepared
from ecgbatch.training.settings import TrainSettings


def load_optimiser() -> None:
    """Load what PyTorch loads with its first optimiser: its compiler, which none of ours uses; seconds of a process."""
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])


def _freeze(network: BeatNet, trunk: Mapping[str, np.ndarray]) -> None:
    """Take over the convolutions of another network of one lead, and let them be."""
    for name, parameter in network.named_parameters():
        if name.split(".")[0] in ("first", "inner", "outer"):
            with torch.no_grad():
                parameter.copy_(torch.from_numpy(np.array(trunk[name])))
            parameter.requires_grad_(False)


class Descent:
    """What a checkpoint holds: network, running mean of its weights, optimiser, steps done."""

    def __init__(
        self,
        prepared: Prepared,
        settings: TrainSettings,
        name: str,
        start: Member | None,
        trunk: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self.settings = settings
        self.steps = 0
        n_leads, n_samples = prepared.waveform.shape[1:]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int.from_bytes(hashlib.sha256(f"{settings.seed} {name}".encode()).digest()[:7], "big"))
            self.network = BeatNet(n_leads, n_samples, prepared.n_classes)
        if start is not None:
            self.network.load_state_dict({name: torch.from_numpy(np.array(w)) for name, w in start.weights.items()})
        if trunk:
            _freeze(self.network, trunk)
        self.mean = BeatNet(n_leads, n_samples, prepared.n_classes)
        self.mean.load_state_dict(self.network.state_dict())
        learning = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        self.optimiser = torch.optim.Adam(learning, settings.learning_rate, settings.betas, fused=True)

    def step(self, waveform: np.ndarray, target: np.ndarray, done: float) -> None:
        """Descend once, at the schedule's rate for this share of the training, and update the running mean.

        Of beats (beat, lead, sample) float32 and their blended labels (beat, class) float32.
        """
        settings = self.settings
        loss = torch.nn.functional.cross_entropy(self.network(torch.from_numpy(waveform)), torch.from_numpy(target))
        decay = settings.decay ** (self.steps // settings.decay_steps)
        if settings.cosine:
            decay = 0.5 * (1 + math.cos(math.pi * done))
        for group in self.optimiser.param_groups:
            group["lr"] = settings.learning_rate * decay
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.steps += 1
        keep = min(settings.averaging, self.steps / (self.steps + 10))  # short memory at first: forget the random start
        with torch.no_grad():
            for mean, weight in zip(self.mean.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(weight, 1.0 - keep)

    def averaged(self) -> BeatNet:
        """Return the network to keep: the running mean, or the last weights where ``averaging`` is 0."""
        return self.mean.eval()

    def save(self, path: Path, epochs_done: int) -> None:
        """Write a checkpoint aside and rename it."""
        tensors = {f"network/{name}": tensor for name, tensor in self.network.state_dict().items()}
        tensors |= {f"mean/{name}": tensor for name, tensor in self.mean.state_dict().items()}
        for number, state in dict(self.optimiser.state_dict()["state"]).items():
            tensors |= {f"adam/{number}/{name}": tensor for name, tensor in state.items()}
        position = {"epochs_done": epochs_done, "steps": self.steps}
        aside = path.with_suffix(".partial")
        write_synced(aside, save_tensors(tensors, metadata={"position": json.dumps(position)}))
        aside.replace(path)

    def restore(self, path: Path) -> int:
        """Read a checkpoint if there is one; return the epochs it has done."""
        if not path.exists():
            return 0
        with safe_open(path, framework="pt") as file:
            position = json.loads(file.metadata()["position"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
        for prefix, network in (("network/", self.network), ("mean/", self.mean)):
            network.load_state_dict({n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)})
        adam = self.optimiser.state_dict()
        for name in [name for name in tensors if name.startswith("adam/")]:
            _, number, entry = name.split("/")
            adam["state"].setdefault(int(number), {})[entry] = tensors[name]
        self.optimiser.load_state_dict(adam)
        self.steps = position["steps"]
        return int(position["epochs_done"])


def versions() -> dict[str, str]:
    """Return the versions that a model's bits depend on."""
    return {"ecgbatch": __version__, "torch": torch.__version__.split("+")[0], "numpy": np.__version__}
