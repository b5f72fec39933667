"""Recipes: from workspaces and the name of a recipe, or a model to go on from, to a trained model in its folder."""

from __future__ import annotations

import hashlib
import json
import shutil
from builtins import map as _map
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import xarray as xr

from ecgbatch.beats.lookup import current_beats
from ecgbatch.model.definition import Model, Preprocessing
from ecgbatch.model.files import load_model, save_model
from ecgbatch.terms import MODEL_NAME_DIGITS
from ecgbatch.training.arrhythmia import load_trunk
from ecgbatch.training.data import single_beats
from ecgbatch.training.descent import versions
from ecgbatch.training.fit import train
from ecgbatch.training.member import Outcome
from ecgbatch.training.settings import TrainSettings
from storage import cache_folder, folder_at, is_address

RECIPES: Mapping[str, tuple[TrainSettings, Mapping[str, Any]]] = {
    "ecgbatch": (TrainSettings(), {"method": "robust"}),
    "ecgbatch-lead-ii": (
        TrainSettings(recipe="ecgbatch-lead-ii", leads=("II",), lead_dropout=0.0, n_trees=0, n_kernels=2048),
        {"method": "robust"},
    ),
    "kachuee": (
        TrainSettings(
            recipe="kachuee",
            leads=("II",),
            preprocessing=Preprocessing(kind="scaled"),
            epochs=30,
            min_steps=0,
            cosine=False,
            augmentation=False,
            holds_out_validation=True,
            n_classes=2,
            n_trees=0,
        ),
        {"method": "kachuee"},
    ),
}
"""Name to training settings and the beat settings that they want."""


@dataclass(frozen=True)
class Training:
    """How a model is trained: by which recipe, and what differs from it."""

    recipe: str = "ecgbatch"
    """A name of ``RECIPES``."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Settings that differ from the recipe's."""
    by_beat: bool = False
    """Deal single beats to the folds, as the paper did, instead of patients: to show what the leak is worth, never to use."""
    start: str | None = None
    """Folder of a model to fine-tune; its leads, preprocessing and beats take the recipe's place. Or of what
    ``arrhythmia.train_arrhythmia`` left: recipe ``kachuee`` takes its convolutions over, frozen."""


def train_workspace(
    work: str,
    *,
    recipe: str = "ecgbatch",
    start: str | None = None,
    out: str | None = None,
    map: Callable[..., Iterable[Outcome]] = _map,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> str:
    """Train on the labelled records of a workspace; return the model's folder: ``train_workspaces`` of one."""
    return train_workspaces([work], Training(recipe, start=start), out=out, map=map, on_progress=on_progress)


def train_workspaces(
    works: Sequence[str],
    training: Training,
    *,
    out: str | None = None,
    map: Callable[..., Iterable[Outcome]] = _map,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> str:
    """Train on the labelled records of workspaces together; return the model's folder.

    Parameters
    ----------
    works
        Workspaces with beats cut as the recipe wants them, at least one. Checkpoints lie in the first; of one in an object
        store, in the user's cache (``$XDG_CACHE_HOME/ecgbatch``), since members map the prepared beats into memory.
    training
        How.
    out
        Folder of the model. Default ``WORK/models/<digest>``; a model of the same beats and settings is not trained again.
    map, on_progress
        As in ``train``; ``on_progress`` is called with the stage's name too.

    Raises
    ------
    ValueError
        If there is no such recipe, or too few labelled patients.

    """
    if training.recipe not in RECIPES:
        raise ValueError(f"recipe must be one of {', '.join(RECIPES)}, found {training.recipe!r}")
    course = _course(training.recipe, training.start)
    settings, by_beat = replace(course.settings, **dict(training.changes)), training.by_beat
    current, stores = _current_stores(works, course.beats)
    stated = [current, asdict(settings), versions(), by_beat]
    source = hashlib.sha256(json.dumps(stated, sort_keys=True).encode()).hexdigest()
    home = works[0]
    if out is None and (found := _find_model(home, source)):
        return found
    checkpoints = (cache_folder() if is_address(home) else Path(home) / ".build") / f"train-{source[:20]}"
    progress = partial(on_progress, "train") if on_progress else None
    data = single_beats(stores) if by_beat else stores
    model = train(data, settings, start=course.model, trunk=course.trunk, checkpoints=checkpoints, map=map, progress=progress)
    limits = {"limits": ["LEAKS: beats of one patient on both sides of every split; its figures mean nothing"]} if by_beat else {}
    model = replace(model, training={**model.training, "source": source, **limits})
    folder = save_model(model, out or Path(home) / "models" / model.digest[:MODEL_NAME_DIGITS])
    shutil.rmtree(checkpoints, ignore_errors=True)
    return str(folder)


@dataclass(frozen=True)
class _Course:
    """What a training does: its settings, those its beats are cut with, and the model or the network that it goes on from."""

    settings: TrainSettings
    beats: Mapping[str, Any]
    model: Model | None = None
    trunk: str | Path | None = None


def _course(recipe: str, start: str | Path | None) -> _Course:
    """Return a recipe's course, or a model's fine-tuning, or that of a network of arrhythmia which ``kachuee`` takes over."""
    settings, beats = RECIPES[recipe]
    if start is None:
        return _Course(settings, beats)
    if not (Path(start) / "arrhythmia.json").is_file():
        model = load_model(start)
        return _Course(settings_from(model), dict(model.beats), model=model)
    if settings.leads != ("II",) or beats["method"] != "kachuee":
        raise ValueError(f"{start}: a network of arrhythmia is taken over by --recipe kachuee only, found recipe {recipe!r}")
    transferred = replace(settings, recipe=f"{settings.recipe}, transferred", trunk=load_trunk(start)[0])
    return _Course(transferred, beats, trunk=start)


def _current_stores(works: Sequence[str], beats: Mapping[str, Any]) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """Return the rows that may train of each beats store of the workspaces, by its digest and by its path; each store once."""
    current: dict[str, list[int]] = {}
    stores: dict[str, list[int]] = {}
    for work in works:
        for digest, rows in current_rows(current_beats(work, beats)).items():
            if digest not in current:
                stores[str(Path(work) / "beats" / f"{digest}.zarr")] = current.setdefault(digest, rows)
    return current, stores


def current_rows(records: xr.Dataset) -> dict[str, list[int]]:
    """Return the rows of each beats store that stand for a record now in the archive; superseded and gone ones are left out."""
    rows: dict[str, list[int]] = {}
    for digest, row in zip(records["beats_store"].values.tolist(), records["beats_row"].values.tolist(), strict=True):
        rows.setdefault(digest, []).append(int(row))
    return {digest: sorted(rows[digest]) for digest in sorted(rows)}


def settings_from(start: Model) -> TrainSettings:
    """Return the settings that fine-tune a model: its own input, kernels and patients' key.

    A fifth of the rate and a third of the steps of a training from random weights: what was learnt on many patients is moved,
    not overwritten.
    """
    return TrainSettings(
        recipe=f"{start.training.get('recipe', 'unnamed')}, fine-tuned",
        leads=start.leads,
        preprocessing=start.preprocessing,
        augmentation=bool(start.training.get("augmentation", True)),
        lead_dropout=float(start.training.get("lead_dropout", 0.0)),
        n_classes=len(start.members[0].weights["output.bias"]),
        n_trees=int(start.training.get("n_trees", 0)),
        n_kernels=sum(len(values) for name, values in start.kernels.items() if name.startswith("bias")),
        start=start.digest,
        key=start.patient_key,
        learning_rate=2e-4,
        epochs=4,
        min_steps=100,
    )


def _find_model(work: str, source: str) -> str | None:
    """Return the workspace's model that was trained on this very source."""
    folder = folder_at(work)
    for name in sorted(folder.children("models")):
        if not folder.exists(f"models/{name}/model.json"):
            continue
        if json.loads(folder.read(f"models/{name}/model.json")).get("training", {}).get("source") == source:
            return str(Path(work) / "models" / name)
    return None
