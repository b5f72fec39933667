"""A model: what it is made of, and the document and tensors that say it, from which its digest follows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ecgbatch.model.novelty import Reference
from ecgbatch.model.random_kernels import Kernels
from ecgbatch.model.trees import Trees
from ecgbatch.model.waves import VERSION as WAVES_VERSION
from ecgbatch.terms import LEADS, NOTICE
from storage.schema import digest_array

if TYPE_CHECKING:
    from ecgbatch.model.inference import Packed

SCHEMA_VERSION = 3

READABLE_VERSIONS = (1, 2, 3)
"""Version 1 had neither random kernels nor a novelty reference, version 2 neither trees nor a third class."""

DEFAULT_LEADS = LEADS[:12]
"""The standard twelve leads; a lead that a store lacks enters as zeros."""


class ModelError(ValueError):
    """A model's folder that cannot be trusted or used: not safetensors, altered, incomplete, of another version."""


@dataclass(frozen=True)
class Preprocessing:
    """From stored steps to the network's input.

    ``z_score``: per record and lead, minus the mean and over the SD of the record's scorable beats, so neither gain,
    units nor a database's amplitude normalisation matters. ``scaled``: times ``scale`` (the paper's [0, 1] beats).
    """

    kind: str = "z_score"
    clip: float = 8.0
    sd_floor: float = 1.0
    """In stored steps (1 uV): a lead that varies less over a record is flat and enters as zeros."""
    scale: float = 1.0 / 16384

    def __post_init__(self) -> None:
        if self.kind not in ("z_score", "scaled"):
            raise ValueError(f"preprocessing kind must be 'z_score' or 'scaled', found {self.kind!r}")


@dataclass(frozen=True)
class Calibration:
    """Platt's rule: probability = sigmoid(slope x mean beat logit + intercept)."""

    slope: float = 1.0
    intercept: float = 0.0


@dataclass(frozen=True)
class OperatingPoint:
    """Threshold on a record's calibrated probability, and what it reached on the patients that chose it."""

    threshold: float
    sensitivity: Mapping[str, float]
    specificity: Mapping[str, float]
    chosen_on: str
    specificity_against_other: Mapping[str, float] | None = None
    """Share of patients with other heart disease that it does not call MI; None where a model knows no third class."""


@dataclass(frozen=True)
class Member:
    """One trained network with its trees on wave figures and its regression on random kernels (empty: none), and their use.

    ``seen`` holds the digests of all patients that it trained or was validated on, and of their records' content.
    ``calibration`` was chosen without any patient of its own test ``fold``, for out-of-fold scores; ``threshold`` is the model's
    one threshold (of models of version 1 and 2 chosen as the calibration was).
    """

    name: str
    fold: int
    weights: Mapping[str, np.ndarray] = field(repr=False)
    seen: tuple[str, ...] = field(repr=False)
    threshold: float
    calibration: Calibration
    regression: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)
    trees: Trees = field(default_factory=dict, repr=False)

    @cached_property
    def known(self) -> frozenset[str]:
        """What ``seen`` holds: asked of every record, so not as a list."""
        return frozenset(self.seen)

    @cached_property
    def packed(self) -> Packed:
        """The network's weights as the kernel reads them."""
        from ecgbatch.model.inference import pack  # numba is not loaded by who only reads a model

        return pack(self.weights)


@dataclass(frozen=True)
class Model:
    """A set of members with everything that scoring needs.

    ``beats`` holds the settings that a beats store must have to be scored (``check_beats``); ``n_samples`` and
    ``leads`` the network's input; ``patient_key`` the key of ``patient_digest``; ``figures`` out-of-fold figures,
    each {value, low, high, n_patients}; ``training`` and ``versions`` how it came about. Of ``training``, the model card
    shows ``data`` and ``limits`` (lists of text) and ``evaluations`` (title to figures) as sections of their own.
    ``kernels`` are the random kernels that all members' regressions share, ``novelty`` the reference of ``novelty.novelty``;
    both may be empty. ``abnormal`` calibrates the logit of any heart disease against none; None where a model knows no third
    class.
    """

    members: tuple[Member, ...]
    patient_key: str
    beats: Mapping[str, Any]
    leads: tuple[str, ...]
    n_samples: int
    preprocessing: Preprocessing
    operating_point: OperatingPoint
    calibration: Calibration
    figures: Mapping[str, Any]
    training: Mapping[str, Any]
    versions: Mapping[str, str]
    kernels: Kernels = field(default_factory=dict, repr=False)
    novelty: Reference = field(default_factory=dict, repr=False)
    abnormal: Calibration | None = None

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) over the weights and the canonical JSON of everything else."""
        return digest_of(tensors_of(self), plain(stated_of(self)))

    @property
    def name(self) -> str:
        """Recipe and number of members, as reports show it."""
        return f"{self.training.get('recipe', 'unnamed')}, {len(self.members)} members"


def tensors_of(model: Model) -> dict[str, np.ndarray]:
    """Return all arrays of a model by ``group/name``, as model.safetensors has them."""
    groups = {"kernels": model.kernels, "novelty": model.novelty}
    for member in model.members:
        groups |= {
            member.name: member.weights,
            f"{member.name}.regression": member.regression,
            f"{member.name}.trees": member.trees,
        }
    return {
        f"{group}/{name}": np.ascontiguousarray(array) for group, found in groups.items() for name, array in sorted(found.items())
    }


def _group(tensors: Mapping[str, np.ndarray], group: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(f"{group}/"): array for name, array in tensors.items() if name.startswith(f"{group}/")}


def stated_of(model: Model) -> dict[str, Any]:
    """Return everything but the weights; what an earlier version could say is said as that version, so that its digest stays."""
    is_new = model.abnormal is not None or any(member.trees for member in model.members)
    version = SCHEMA_VERSION if is_new else 2 if model.kernels or model.novelty else 1
    apart = ("members", "kernels", "novelty", *(() if is_new else ("abnormal",)))
    content: dict[str, Any] = {f.name: getattr(model, f.name) for f in fields(model) if f.name not in apart}
    if is_new:
        content |= {"abnormal": model.abnormal and asdict(model.abnormal), "wave_figures": WAVES_VERSION}
    for name in ("preprocessing", "operating_point", "calibration"):
        content[name] = asdict(content[name])
    if not is_new:
        del content["operating_point"]["specificity_against_other"]
    content["members"] = [
        {"name": m.name, "fold": m.fold, "seen": list(m.seen), "threshold": m.threshold, "calibration": asdict(m.calibration)}
        for m in model.members
    ]
    return content | {"schema_version": version, "notice": NOTICE}


def plain(stated: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is stated as JSON values, as model.json has it."""
    plain: dict[str, Any] = json.loads(json.dumps(stated, allow_nan=False))
    return plain


def digest_of(tensors: Mapping[str, np.ndarray], document: Mapping[str, Any]) -> str:
    """Return the SHA-256 (hex) of a model's tensors and of what it states, in their canonical form."""
    digest = hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode())
    for name in sorted(tensors):
        digest.update(f"{name}={digest_array(tensors[name])};".encode())
    return digest.hexdigest()


def model_of(document: Mapping[str, Any], tensors: Mapping[str, np.ndarray], folder: Path) -> Model:
    """Return the model that a document and tensors say; ``folder`` names them in messages.

    Raises
    ------
    ModelError
        If an entry is missing or misnamed, or its trees ask for wave figures of another version.

    """
    if document.get("wave_figures", WAVES_VERSION) != WAVES_VERSION:
        raise ModelError(
            f"{folder}: its trees ask for wave figures of version {document['wave_figures']}, this version has {WAVES_VERSION}; "
            "use the ecgbatch that wrote it, or train it again"
        )
    try:
        members = tuple(
            Member(
                name=m["name"],
                fold=m["fold"],
                weights=_group(tensors, m["name"]),
                regression=_group(tensors, f"{m['name']}.regression"),
                trees=_group(tensors, f"{m['name']}.trees"),
                seen=tuple(m["seen"]),
                threshold=m["threshold"],
                calibration=Calibration(**m["calibration"]),
            )
            for m in document["members"]
        )
        return Model(
            members=members,
            preprocessing=Preprocessing(**document["preprocessing"]),
            operating_point=OperatingPoint(**document["operating_point"]),
            calibration=Calibration(**document["calibration"]),
            leads=tuple(document["leads"]),
            kernels=_group(tensors, "kernels"),
            novelty=_group(tensors, "novelty"),
            abnormal=Calibration(**document["abnormal"]) if document.get("abnormal") else None,
            **{name: document[name] for name in ("patient_key", "beats", "n_samples", "figures", "training", "versions")},
        )
    except (KeyError, TypeError) as error:
        raise ModelError(f"{folder}: model.json lacks or misnames an entry ({error}); use the ecgbatch that wrote it") from error
