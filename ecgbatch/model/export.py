"""A model for other programs: one ONNX file, a document that says what it takes and gives, and a script that prepares beats."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ecgbatch import __version__
from ecgbatch.model.definition import Model
from ecgbatch.model.files import write_synced
from ecgbatch.model.onnx_graph import graph_of
from ecgbatch.model.standalone import script_of
from ecgbatch.model.waves import OF_BEAT, OF_LEAD, r_index
from ecgbatch.terms import NOTICE

NOT_IN_IT = (
    "reading of files, R peaks, filtering and resampling, which beats are scorable: `ecgbatch beats` does these",
    "members that saw a patient in training are not left out: a score of one of those patients is no out-of-fold score",
    "whether a record is unlike training, electrodes exchanged, the interval and the decision: `ecgbatch score` says these",
)
"""What scoring does that an exported model does not."""


def export_model(model: Model, out: str | Path) -> list[Path]:
    """Write OUT.onnx, and OUT.json and OUT.py beside it; replace them if they are there.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    ValueError
        If ``out`` does not end in ``.onnx`` or its folder is not there, if the package onnx is missing, or the model's networks
        are not ours.
    OSError
        If the files cannot be written.

    """
    out = Path(out)
    if out.suffix != ".onnx":
        raise ValueError(f"expected a file that ends in .onnx, found {out.name!r}: name it {out.name}.onnx")
    if not out.parent.is_dir():
        raise ValueError(f"{out}: expected a folder {str(out.parent)!r}, found none; make it first")
    graph = graph_of(model)
    document = json.dumps(document_of(model, graph), indent=1, ensure_ascii=False, allow_nan=False)
    files = {out: graph.SerializeToString(), out.with_suffix(".json"): f"{document}\n".encode()}
    files[out.with_suffix(".py")] = script_of(out.stem).encode()
    for path, content in files.items():
        aside = path.with_name(f".{path.name}.partial")
        write_synced(aside, content)
        aside.rename(path)
    return list(files)


def document_of(model: Model, graph: Any) -> dict[str, Any]:
    """Return what an exported model is, takes and gives, and what it leaves out."""
    given = {"beats": "prepared, scorable beats of one record (beat, lead, sample)"}
    given["wave_figures"] = f"of their median beat: {', '.join(OF_BEAT)}; then of each lead {', '.join(OF_LEAD)}"
    outputs = {
        "mi_probability": "of the record, calibrated; called MI from the operating point's threshold on",
        "abnormal_probability": "of any heart disease, MI or another, calibrated",
        "beat_probability": "(member, beat) of MI, before calibration",
        "network_scores": "(member, beat, class) of the networks alone, before a softmax: control, MI and, of three, other",
    }
    return {
        "notice": NOTICE,
        "name": model.name,
        "digest": model.digest,
        "ecgbatch_version": __version__,
        "inputs": {one.name: given[one.name] for one in graph.graph.input},
        "outputs": {one.name: outputs[one.name] for one in graph.graph.output},
        "in_it": _in_it(model),
        "not_in_it": list(NOT_IN_IT),
        "leads": list(model.leads),
        "n_samples": model.n_samples,
        "r_index": r_index(model.beats, model.n_samples),
        "beats": dict(model.beats),
        "preprocessing": asdict(model.preprocessing),
        "calibration": asdict(model.calibration),
        "operating_point": asdict(model.operating_point),
        "members": [member.name for member in model.members],
    }


def _in_it(model: Model) -> list[str]:
    first = model.members[0]
    parts = [("networks", True), ("boosted trees on wave figures", first.trees), ("regressions on random kernels", model.kernels)]
    return [
        f"the {' and '.join(name for name, is_there in parts if is_there)} of {len(model.members)} members",
        "the mean of members and beats, and the calibration",
    ]
