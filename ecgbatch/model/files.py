"""A model's folder: written whole or not at all, read without executing anything, and those that ship."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path

from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from ecgbatch.model.card import model_card
from ecgbatch.model.definition import (
    READABLE_VERSIONS,
    SCHEMA_VERSION,
    Model,
    ModelError,
    digest_of,
    model_of,
    plain,
    stated_of,
    tensors_of,
)
from storage import folder_at, is_address, seal_folder

SHIPPED = "mi-12-leads"
"""The model that scores where none is named: 12 leads, trained on excerpts of PTB-XL and PTB (its MODEL_CARD.md says how)."""


def shipped_model(name: str = SHIPPED) -> Path:
    """Return the folder of a model that comes with the package; ``load_model`` reads it.

    Parameters
    ----------
    name
        A folder below ``ecgbatch/weights``: ``mi-12-leads`` or ``mi-lead-ii``.

    Raises
    ------
    ModelError
        If there is none of that name; the message names those that there are.

    """
    weights = Path(__file__).parents[1] / "weights"
    found = sorted(folder.parent.name for folder in weights.glob("*/model.json"))
    if name not in found:
        raise ModelError(
            f"no model {name!r} ships with this version, found {', '.join(found) or 'none'} in {weights}; name one of these, "
            "or train one: ecgbatch train"
        )
    return weights / name


def save_model(model: Model, folder: str | Path) -> Path:
    """Write model.safetensors, model.json and MODEL_CARD.md into a new folder, all or nothing.

    Written aside, fsynced, renamed. A folder that already holds this very model is left as it is.

    Returns
    -------
    Path
        ``folder``.

    Raises
    ------
    ModelError
        If ``folder`` holds anything else: a published model never changes.

    """
    folder, place = Path(folder), folder_at(folder)
    if place.exists("model.json") or place.children():
        _check_same(folder, model)
        return folder
    if is_address(folder):
        for name, content in sorted(_files(model).items(), reverse=True):  # model.json, without which there is no model, last
            place.put(name, content)
        seal_folder(place, "")
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    # with the process in its name, whoever follows a dead writer knows it for one's leftover
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.{os.getpid()}-", suffix=".partial", dir=folder.parent))
    try:
        for name, content in _files(model).items():
            write_synced(aside / name, content)
        seal_folder(folder_at(aside), "")
        aside.rename(folder)
        _sync_folder(folder.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def load_model(folder: str | Path) -> Model:
    """Read a model written by ``save_model``; nothing in it is ever executed.

    Raises
    ------
    ModelError
        If a file is missing, the weights are not safetensors, the version is unknown or the digest does not fit.

    """
    folder = Path(folder)
    try:
        stamps = tuple((file.stat().st_mtime_ns, file.stat().st_size) for file in map(folder.joinpath, FILES))
    except OSError:  # what is missing, ``_read`` says; a model in an object store has no times to go by
        return _read(folder)
    return _read_once(folder, stamps)


FILES = ("model.json", "model.safetensors")


@lru_cache(maxsize=2)
def _read_once(folder: Path, _stamps: tuple[tuple[int, int], ...]) -> Model:
    """Read a model: several stages of one command ask for the same."""
    return _read(folder)


def _read(folder: Path) -> Model:
    try:
        stated = json.loads(folder_at(folder).read("model.json"))
        content = folder_at(folder).read("model.safetensors")
    except (OSError, json.JSONDecodeError) as error:
        raise ModelError(f"{folder}: expected a model (model.json and model.safetensors): {error}; see ecgbatch train") from error
    if not isinstance(stated, dict) or stated.get("schema_version") not in READABLE_VERSIONS:
        raise ModelError(f"{folder}: model.json must have schema_version 1 to {SCHEMA_VERSION}; use the ecgbatch that wrote it")
    try:
        tensors = load_tensors(content)
    except (SafetensorError, KeyError, ValueError) as error:
        raise ModelError(
            f"{folder}/model.safetensors: not a safetensors file ({error}). Other formats, pickles above all, are refused: "
            "they can run code. Fetch or train the model again."
        ) from error
    digest = stated.pop("digest", None)
    found = digest_of(tensors, stated)
    if found != digest:
        raise ModelError(f"{folder}: digest is {found}, model.json says {digest}: altered or damaged. Fetch or train it again.")
    return model_of(stated, tensors, folder)


def write_synced(path: Path, content: bytes) -> None:
    """Write a file so that its content is on the disk when this returns."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_same(folder: Path, model: Model) -> None:
    if load_model(folder).digest != model.digest:
        raise ModelError(f"{folder}: holds another model; published models never change. Give a new folder.")


def _files(model: Model) -> dict[str, bytes]:
    stated, tensors = stated_of(model), tensors_of(model)
    document = plain(stated)
    digest = digest_of(tensors, document)
    n_kernels = sum(len(values) for name, values in model.kernels.items() if name.startswith("bias"))
    card = model_card(stated, name=model.name, digest=digest, n_kernels=n_kernels)
    text = json.dumps(document | {"digest": digest}, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return {
        "model.safetensors": save_tensors(tensors),
        "model.json": text.encode() + b"\n",
        "MODEL_CARD.md": card.encode(),
    }
