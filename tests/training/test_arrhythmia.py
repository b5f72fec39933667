"""The paper's five classes and its transfer: labels from the reference, nobody on both sides by record, a trunk that stays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ecgbatch.formats.wfdb_annotation import CODES
from ecgbatch.model.definition import ModelError, Preprocessing
from ecgbatch.signals.stage import convert_archive
from ecgbatch.training import arrhythmia
from ecgbatch.training.arrhythmia import (
    AAMI,
    CLASSES,
    ArrhythmiaSettings,
    ClassedBeats,
    load_trunk,
    read_classed_beats,
    train_arrhythmia,
)
from ecgbatch.training.fit import train
from ecgbatch.training.settings import TrainSettings
from tests.formats.wfdb_files import Lead, Record
from tests.training.test_fit import synthetic_beats

QUICK = ArrhythmiaSettings(n_folds=2, steps=60, steps_by_record=30)
WIDTHS = {"N": 0.02, "A": 0.02, "V": 0.08, "F": 0.05}


def write_archive(folder: Path, n_records: int = 4) -> list[tuple[list[int], str]]:
    """Records of 60 s at 360 Hz whose beats' width (and sign, for A) tells their symbol, with .atr files; return the truth."""
    truth = []
    for number in range(n_records):
        random = np.random.default_rng(number)
        peaks = list(range(200, 60 * 360 - 300, 290))
        symbols = "".join(random.choice(list("NNNAVF"), len(peaks)))
        time_s = np.arange(60 * 360) / 360
        wave = np.zeros(len(time_s))
        for peak, symbol in zip(peaks, symbols, strict=True):
            wave += (-1 if symbol == "A" else 1) * np.exp(-(((time_s - peak / 360) / WIDTHS[symbol]) ** 2))
        wave += 0.02 * random.standard_normal(len(wave))
        samples = np.round(200 * wave).astype(np.int64)[:, None]
        Record([Lead("MLII", samples, file=f"r{number}.dat", gain="200")], name=f"r{number}", fs="360").write(folder)
        code = {symbol: number for number, symbol in CODES.items()}
        words = [code[symbol] << 10 | int(gap) for symbol, gap in zip(symbols, np.diff(peaks, prepend=0), strict=True)]
        (folder / f"r{number}.atr").write_bytes(np.array([*words, 0], "<u2").tobytes())
        truth.append((peaks, symbols))
    (folder / "RECORDS").write_text("\n".join(f"r{number}" for number in range(n_records)))
    return truth


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, list[tuple[list[int], str]]]:
    folder = tmp_path_factory.mktemp("arrhythmia")
    truth = write_archive(folder / "archive")
    convert_archive(str(folder / "archive"), str(folder / "W"))
    return folder / "archive", str(folder / "W"), truth


def test_symbols_fall_into_the_classes_of_ec57() -> None:
    assert {symbol: AAMI.get(symbol, "Q") for symbol in "NLRejAaJSVEF/fQ"} == dict(
        zip("NLRejAaJSVEF/fQ", "NNNNNSSSSVVFQQQ", strict=True)
    )


def test_beats_begin_at_the_references_r_with_its_label(archive: tuple[Path, str, list[tuple[list[int], str]]]) -> None:
    folder, work, truth = archive
    beats = read_classed_beats(work, folder)
    for number, (peaks, symbols) in enumerate(truth):
        own = beats.record == f"r{number}"
        inside = [symbol for peak, symbol in zip(peaks, symbols, strict=True) if peak / 360 < 60]
        labels = [CLASSES.index(AAMI[symbol]) for symbol in inside]
        assert beats.label[own].tolist() == labels
    upright = beats.waveform[beats.label == 0, 0]
    assert (upright[:, 0] > 0.8).all()  # R is the first sample
    assert (upright[:, int(1.2 * 290 / 360 * 125) + 2 :] == 0).all()  # 1.2 RR, then zeros
    assert 0 <= beats.waveform.min() <= beats.waveform.max() <= 1


def test_classes_are_learnt_and_the_trunk_is_kept(archive: tuple[Path, str, list[tuple[list[int], str]]], tmp_path: Path) -> None:
    folder, work, _ = archive
    done = train_arrhythmia(work, folder, tmp_path / "trunk", settings=QUICK)
    assert done["random_beats"]["balanced_accuracy"]["value"] > 0.6
    assert "LEAKS" in done["random_beats"]["note"]
    assert sum(done["n_beats"].values()) == sum(map(sum, done["by_record"]["confusion"]))
    digest, weights = load_trunk(tmp_path / "trunk")
    assert digest == done["digest"]
    assert weights["output.weight"].shape == (5, 32)
    with pytest.raises(ModelError, match="give a new folder"):
        train_arrhythmia(work, folder, tmp_path / "trunk", settings=QUICK)
    (tmp_path / "trunk" / "trunk.safetensors").write_bytes(b"other")
    with pytest.raises(ModelError, match="is not the file that"):
        load_trunk(tmp_path / "trunk")
    with pytest.raises(ModelError, match="expected arrhythmia"):
        load_trunk(tmp_path)


def test_no_annotations_is_refused(archive: tuple[Path, str, list[tuple[list[int], str]]], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected an archive such as the MIT-BIH"):
        read_classed_beats(archive[1], tmp_path)


def test_two_trainings_with_one_seed_agree_bit_for_bit() -> None:
    beats = ClassedBeats(np.random.default_rng(0).random((60, 1, 187), np.float32), np.arange(60) % 4, np.arange(60) // 10)
    task = (np.arange(60) % 5 == 0, 4)
    (first, _), (second, _) = (arrhythmia._train_one(beats, QUICK, task) for _ in range(2))
    assert all((first[name] == second[name]).all() for name in first)


def test_transfer_freezes_the_convolutions_and_trains_the_rest(
    archive: tuple[Path, str, list[tuple[list[int], str]]], tmp_path: Path
) -> None:
    folder, work, _ = archive
    train_arrhythmia(work, folder, tmp_path / "trunk", settings=replace(QUICK, steps=5, steps_by_record=2))
    digest, trunk = load_trunk(tmp_path / "trunk")
    settings = TrainSettings(
        leads=("II",), preprocessing=Preprocessing(kind="scaled"), trunk=digest, n_folds=2, epochs=1, min_steps=3, n_kernels=0
    )
    torch.manual_seed(0)
    model = train(synthetic_beats(), settings, trunk=tmp_path / "trunk", checkpoints=tmp_path / "checkpoints")
    for member in model.members:
        for name, values in member.weights.items():
            is_trunk = name.split(".")[0] in ("first", "inner", "outer")
            same = values.shape == trunk[name].shape and bool((values == trunk[name]).all())
            assert same == is_trunk, name
