"""Training: patient-wise folds, one independent member a fold, exact resume, thresholds from patients held out."""

from __future__ import annotations

from builtins import map as _map
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ecgbatch.model.definition import Model
from ecgbatch.model.files import save_model, write_synced
from ecgbatch.model.preparation import check_beats
from ecgbatch.training.assembly import assemble
from ecgbatch.training.data import Source, open_prepared, prepare_training
from ecgbatch.training.member import Outcome, Task, train_member
from ecgbatch.training.settings import TrainSettings


def train(
    source: Source,
    settings: TrainSettings | None = None,
    *,
    start: Model | None = None,
    trunk: str | Path | None = None,
    checkpoints: str | Path,
    map: Callable[..., Iterable[Outcome]] = _map,
    progress: Callable[[int, int], None] | None = None,
) -> Model:
    """Train a model: one member a fold and seed, each blind to the patients of its fold.

    Member k never sees the patients of fold k. It is validated on those of fold k+1 and trained on the rest; the last
    epoch's weights are kept, so validation patients serve only to calibrate and to choose thresholds. Whatever is applied
    to a patient of fold k out of fold (member k's calibration and threshold) was chosen on patients outside fold k.

    Parameters
    ----------
    source
        Paths of beats stores cut with one setting (as a mapping: to the rows, records, that may train),
        beats in memory, or blocks of them.
    settings
        Default ``TrainSettings()``.
    start
        Model to go on from (fine-tuning), the one whose digest ``settings.start`` is (see ``recipes.settings_from``).
        Members count its patients as seen; those of ``source`` among them get no out-of-fold score.
    trunk
        Folder of the network whose digest ``settings.trunk`` is.
    checkpoints
        Folder for the prepared beats and the members' checkpoints, under a digest of both; seen by every process of
        ``map``. Calling again with the same source and settings goes on where the last call stopped.
    map
        Shape of the built-in ``map``; results may come in any order, and do not depend on it.
    progress
        Called with (members done, members in all).

    Returns
    -------
    Model
        The same for the same beats and settings on the same processor type, versions and thread count (one).

    Raises
    ------
    ValueError
        If fewer than two patients of either class have scorable beats, or the stores' beats were cut differently.

    """
    settings = settings or TrainSettings()
    if settings.start != ("" if start is None else start.digest):
        raise ValueError(f"settings go on from model {settings.start or 'none'!r}, found {start and start.digest!r}")
    folder, beats = prepare_training(source, settings, Path(checkpoints))
    _lay_beside(folder, beats, start, trunk)
    prepared = open_prepared(folder, settings)
    tasks = plan_members(prepared.folds[0], settings)
    outcomes: list[Outcome] = []
    for outcome in map(partial(train_member, str(folder), settings), tasks):
        outcomes.append(outcome)
        if progress is not None:
            progress(len(outcomes), len(tasks))
    return assemble(sorted(outcomes, key=lambda outcome: outcome.task.name), prepared, beats, settings, start)


def _lay_beside(folder: Path, beats: Mapping[str, Any], start: Model | None, trunk: str | Path | None) -> None:
    """Write what members go on from beside the prepared beats, where every process finds it; a model only if it fits them."""
    if trunk is not None:
        (folder / "trunk").mkdir(exist_ok=True)
        for name in ("trunk.safetensors", "arrhythmia.json"):
            write_synced(folder / "trunk" / name, (Path(trunk) / name).read_bytes())
    if start is not None:
        check_beats(start, beats, "the beats to train on")
        save_model(start, folder / "start")


def plan_members(fold: np.ndarray, settings: TrainSettings) -> list[Task]:
    """Return the members to train; with two folds the test fold validates, since nothing else would be left to train on."""
    n_folds = int(fold.max()) + 1
    step = 1 if settings.holds_out_validation and n_folds > 2 else 0
    return [Task(k, (k + step) % n_folds, replica) for k in range(n_folds) for replica in range(settings.n_seeds)]
