"""An exported model says in onnxruntime what it says here, on real beats, and its script prepares them without ecgbatch."""

from __future__ import annotations

import json
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from ecgbatch.beats.lookup import extract_beats
from ecgbatch.beats.record import BeatSettings
from ecgbatch.cli import app
from ecgbatch.model import onnx_graph
from ecgbatch.model.definition import Model
from ecgbatch.model.export import export_model
from ecgbatch.model.files import load_model, shipped_model
from ecgbatch.model.members import abnormal_logits, member_probabilities
from ecgbatch.model.preparation import median_beat, prepare_waveforms
from ecgbatch.model.probability import calibrated, record_probability
from ecgbatch.model.waves import r_index, wave_figures
from ecgbatch.signals.stage import convert_archive
from ecgbatch.terms import UNSCORABLE_BEAT
from storage import list_stores, open_store
from tests.model import test_members

onnxruntime = pytest.importorskip("onnxruntime")
model = test_members.model
"""Fixture: three members of networks alone, two classes."""

SHIPPED = ("mi-12-leads", "mi-lead-ii")
LEAST = 1e-4
Beats = tuple[np.ndarray, np.ndarray, list[str]]


@pytest.fixture(scope="module")
def recorded(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Beats]:
    """Beats of real records, as stored: steps, which are scorable, names of leads."""
    archive, work = tmp_path_factory.mktemp("archive"), str(tmp_path_factory.mktemp("work"))
    names = (test_data / "ptb" / "RECORDS").read_text().split()[:9]
    for name in names:
        for file in (test_data / "ptb").glob(f"{name}.*"):
            place = archive / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, place.parent)
    (archive / "RECORDS").write_text("\n".join(names))
    convert_archive(str(archive), work)
    extract_beats(work, BeatSettings())
    (store,) = list_stores(work, "beats")
    beats = open_store(store).load()
    leads, flags = beats["lead"].values.tolist(), beats["beat_flags"].values
    rows = [np.flatnonzero(beats["record_index"].values == row) for row in range(beats.sizes["record"])]
    found = [(beats["waveform"].values[own], (flags[own] & UNSCORABLE_BEAT) == 0, leads) for own in rows]
    return [one for one in found if one[1].any()]


def said_here(model: Model, steps: np.ndarray, is_scorable: np.ndarray, leads: list[str]) -> dict[str, np.ndarray]:
    """Return what the model's members say of a record, all of them, under the names of the graph's outputs."""
    given = {"store_leads": leads, "leads": model.leads, "preprocessing": model.preprocessing}
    return said_of(model, prepare_waveforms(steps, is_scorable, **given)[is_scorable])


def said_of(model: Model, prepared: np.ndarray) -> dict[str, np.ndarray]:
    everybody = range(len(model.members))
    beats = member_probabilities(model, everybody, prepared)
    mi = record_probability(beats, model.calibration)
    said = {"mi_probability": np.array([mi]), "beat_probability": beats}
    if model.abnormal is not None:
        logit = abnormal_logits(model, everybody, median_beat(prepared)[None]).mean(axis=0)
        said["abnormal_probability"] = np.maximum(calibrated(logit, model.abnormal), mi)
    return said


def said_there(written: Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(written, options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_model_says_the_same_of_real_beats_through_its_own_script(name, recorded, tmp_path):
    shipped = load_model(shipped_model(name))
    written, document, script = export_model(shipped, tmp_path / f"{name}.onnx")
    stated, own = json.loads(document.read_text()), runpy.run_path(str(script))
    found = []
    for steps, is_scorable, leads in recorded:
        here = said_here(shipped, steps, is_scorable, leads)
        there = own["ask"](written, stated, own["inputs_of"](stated, steps, is_scorable, leads))
        for output, values in here.items():
            np.testing.assert_allclose(there[output], values, rtol=0, atol=LEAST, err_msg=output)
        found.append(float(there["mi_probability"][0]))
    assert len(found) >= 6
    assert max(found) - min(found) > 0.3  # records of which it says different things


@pytest.mark.parametrize("n_samples", [88, 187])
def test_networks_alone_are_exported_too(model, n_samples, tmp_path):
    import torch

    from ecgbatch.model.network import BeatNet

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        weights = {name: 2 * tensor.numpy() for name, tensor in BeatNet(12, n_samples).state_dict().items()}
    alone = replace(model, members=(replace(model.members[0], weights=weights),) * 2, n_samples=n_samples)
    (written, document, _) = export_model(alone, tmp_path / "m.onnx")
    assert json.loads(document.read_text())["inputs"].keys() == {"beats"}
    for n_beats in (1, 2, 7):
        prepared = np.random.default_rng(n_beats).standard_normal((n_beats, 12, n_samples), np.float32)
        there = said_there(written, {"beats": prepared})
        for output, values in said_of(alone, prepared).items():
            np.testing.assert_allclose(there[output], values, rtol=0, atol=LEAST)
        assert np.ptp(there["beat_probability"]) > 0 or n_beats == 1
        assert there["network_scores"].shape == (2, n_beats, 2)


def test_script_finds_the_wave_figures_that_the_kernels_find(tmp_path):
    """Bit for bit: a tree asks whether a figure is above a bound."""
    random = np.random.default_rng(3)
    shape = np.exp(-0.5 * ((np.arange(88) - 31) / random.uniform(1, 9, (40, 12, 1))) ** 2)
    beats = (random.normal(0, 2, (40, 12, 1)) * shape + random.normal(0, 0.1, (40, 12, 88))).astype(np.float32)
    beats[0, 3], beats[1] = 0, 0
    shipped = load_model(shipped_model())
    _, document, script = export_model(shipped, tmp_path / "m.onnx")
    at = json.loads(document.read_text())["r_index"]
    assert at == r_index(shipped.beats, shipped.n_samples)
    np.testing.assert_array_equal(runpy.run_path(str(script))["figures_of"](beats, at), wave_figures(beats, at))


WITHOUT_US = """
import runpy, sys
sys.modules |= dict.fromkeys(("ecgbatch", "numba", "torch"))
runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""


def test_command_writes_a_model_that_runs_where_there_is_no_ecgbatch(tmp_path):
    out = tmp_path / "mi.onnx"
    done = CliRunner().invoke(app, ["model", "export", "mi-lead-ii", str(out), "--json"])
    assert done.exit_code == 0, done.output
    written = json.loads(done.stdout)["written"]
    assert [Path(path).name for path in written] == ["mi.onnx", "mi.json", "mi.py"]
    stated = json.loads((tmp_path / "mi.json").read_text())
    assert stated["digest"] == load_model(shipped_model("mi-lead-ii")).digest
    assert len(stated["not_in_it"]) == 3
    steps = np.random.default_rng(0).integers(-900, 900, (5, 2, 88)).astype(np.int16)
    np.savez(tmp_path / "beats.npz", waveform=steps, is_scorable=np.array([1, 1, 0, 1, 1], bool), leads=["V5", "II"])
    command = [sys.executable, "-c", WITHOUT_US, str(out.with_suffix(".py")), str(tmp_path / "beats.npz")]
    asked = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert asked.returncode == 0, asked.stderr
    said = json.loads(asked.stdout)
    shipped = load_model(shipped_model("mi-lead-ii"))
    here = said_here(shipped, steps, np.array([1, 1, 0, 1, 1], bool), ["V5", "II"])
    assert said["mi_probability"] == pytest.approx(here["mi_probability"][0], abs=LEAST)
    assert said["notice"].startswith("Research software.")
    assert said["threshold"] == shipped.operating_point.threshold


@pytest.fixture
def without_onnx(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setitem(sys.modules, "onnx", None)
    return onnx_graph


def test_what_cannot_be_exported_is_said_and_nothing_written(model, without_onnx, tmp_path):
    with pytest.raises(ValueError, match=r"pip install 'ecgbatch\[onnx\]'"):
        export_model(model, tmp_path / "m.onnx")
    with pytest.raises(ValueError, match=r"ends in \.onnx, found 'm\.pt'"):
        export_model(model, tmp_path / "m.pt")
    with pytest.raises(ValueError, match=r"expected a folder .*, found none"):
        export_model(model, tmp_path / "gone" / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_inputs_that_are_none_are_refused_by_the_script(tmp_path):
    _, document, script = export_model(load_model(shipped_model("mi-lead-ii")), tmp_path / "m.onnx")
    stated, inputs_of = json.loads(document.read_text()), runpy.run_path(str(script))["inputs_of"]
    steps = np.zeros((2, 1, 88), np.int16)
    with pytest.raises(ValueError, match="at least one scorable beat"):
        inputs_of(stated, steps, np.zeros(2, bool), ["II"])
    with pytest.raises(ValueError, match="88 samples a beat"):
        inputs_of(stated, steps[:, :, :80], np.ones(2, bool), ["II"])
