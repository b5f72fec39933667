"""A script that makes an exported model's inputs of beats without ecgbatch: this package's own functions, cut out of their files.

So there is one preparation and not two that drift apart. Kernels are not compiled there: a median beat is small enough for
Python's own loops. Their numbers are of the kinds that the compiler takes them for: the figures are the same to the bit.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from ecgbatch import __version__
from ecgbatch.terms import NOTICE

_CUT = {
    "definition.py": ("Preprocessing",),
    "preparation.py": ("prepare_waveforms", "_normalised", "median_beat"),
    "waves.py": (
        "N_OF_BEAT", "N_OF_LEAD", "EDGE_SHARE", "LEVEL", "TURN",
        "figures_of", "move", "edge", "scale_lead", "beyond", "qrs_figures", "turns", "t_and_p_figures",
    ),
}  # fmt: skip
"""File to what is taken of it: all that its functions need but for what stands at the script's head."""


def script_of(name: str) -> str:
    """Return the text of the script that goes with ``NAME.onnx`` and ``NAME.json``, which lie beside it."""
    pieces = [piece for file, wanted in _CUT.items() for piece in _cut(Path(__file__).with_name(file), wanted)]
    head = _HEAD.format(name=name, version=__version__, notice=NOTICE)
    return "\n\n".join([head.strip(), *pieces, _OWN.format(name=name).strip()]) + "\n"


def _cut(file: Path, wanted: tuple[str, ...]) -> Iterator[str]:
    """Yield the text of the classes, functions and constants of a file that are wanted, without what compiles them."""
    text = file.read_text(encoding="utf-8")
    found = dict(_named(ast.parse(text)))
    for name in wanted:
        node = found[name]
        if isinstance(node, ast.FunctionDef) and node.decorator_list:
            node.decorator_list = []
            yield f"\n{ast.unparse(_AsCompiled().visit(node))}"
        else:
            yield ("\n" if not isinstance(node, ast.Assign) else "") + _as_written(text, node)


def _named(module: ast.Module) -> Iterator[tuple[str, ast.stmt]]:
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name, node
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                for one in target.elts if isinstance(target, ast.Tuple) else [target]:
                    yield ast.unparse(one), node


class _AsCompiled(ast.NodeTransformer):
    """A number written in a kernel is a float64, beside which Python's own would be as narrow as what it meets; ``float`` of a
    float32 stays one.
    """

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        is_number = isinstance(node.value, float)
        return ast.parse(f"np.float64({node.value!r})", mode="eval").body if is_number else node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id == "float":
            node.func.id = "as_number"
        return node


def _as_written(text: str, node: ast.stmt) -> str:
    """Return a node as its file has it, a class with its decorators."""
    lines = text.splitlines()
    first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", []))])
    return "\n".join(lines[first - 1 : node.end_lineno])


_HEAD = '''
"""From beats to the inputs of {name}.onnx, and what it says of them. Needs numpy; to ask the model, onnxruntime too.

{notice}

    python {name}.py BEATS.npz        prints the probabilities of one record

BEATS.npz holds ``waveform`` (beat, lead, sample) int16 in steps of 1 uV, cut as {name}.json says under "beats", ``is_scorable``
(beat,) bool and ``leads`` (lead,) text: what `ecgbatch beats` stores. From Python: ``inputs_of``, then ``ask``.
Written by ecgbatch {version}: its own functions, but for the last three.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

MISSING_SAMPLE = -32768
DEFAULT_LEADS: Sequence[str] = ()
Array = np.ndarray


def as_number(value: Any) -> Any:
    """Return a floating-point number as it is, another as float64."""
    return value if isinstance(value, np.floating) else np.float64(value)
'''

_OWN = '''
def inputs_of(document: dict[str, Any], waveform: Array, is_scorable: Array, leads: Sequence[str]) -> dict[str, Array]:
    """Return what the model takes, by name: prepared scorable beats, and of a model with trees their median's wave figures."""
    is_scorable = np.asarray(is_scorable, bool)
    if not is_scorable.any():
        raise ValueError("expected at least one scorable beat, found none: this record has no probability")
    if waveform.shape[2:] != (document["n_samples"],):
        raise ValueError(f"expected {{document['n_samples']}} samples a beat, found {{waveform.shape}}: cut them as 'beats' says")
    given = {{"store_leads": leads, "leads": document["leads"], "preprocessing": Preprocessing(**document["preprocessing"])}}
    beats = prepare_waveforms(waveform, is_scorable, **given)[is_scorable]
    inputs = {{"beats": beats, "wave_figures": figures_of(median_beat(beats)[None], document["r_index"])}}
    return {{name: inputs[name] for name in document["inputs"]}}


def ask(model: Path, document: dict[str, Any], inputs: dict[str, Array]) -> dict[str, Array]:
    """Return the model's outputs by name."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return dict(zip(document["outputs"], session.run(list(document["outputs"]), inputs), strict=True))


def main() -> None:
    """Print what the model beside this script says of one record's beats."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    document = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
    with np.load(sys.argv[1]) as given:
        inputs = inputs_of(document, given["waveform"], given["is_scorable"], given["leads"].tolist())
    said = ask(Path(__file__).with_suffix(".onnx"), document, inputs)
    whole = {{name: float(values[0]) for name, values in said.items() if values.shape == (1,)}}
    print(json.dumps(whole | {{"threshold": document["operating_point"]["threshold"], "notice": document["notice"]}}))


if __name__ == "__main__":
    main()
'''
