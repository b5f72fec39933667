"""A model given to others: model export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ecgbatch.cli.exit_codes import OK
from ecgbatch.cli.options import AsJson, model_place
from ecgbatch.cli.output import print_document

app = typer.Typer(help="Give a model to other programs: model export.")


@app.callback()
def _group() -> None:
    """Keep the command's own name: a group of one would take its place."""


@app.command()
def export(
    model: Annotated[
        Path,
        typer.Argument(help="A model's folder, or the name of one that ships: mi-12-leads, mi-lead-ii.", parser=model_place),
    ],
    out: Annotated[Path, typer.Argument(help="File to write, .onnx; a .json and a .py go beside it.", dir_okay=False)],
    as_json: AsJson = False,
) -> int:
    """Write a model as ONNX, with what it takes and gives as JSON, and a script that prepares beats (needs ecgbatch[onnx])."""
    from ecgbatch.model.export import export_model
    from ecgbatch.model.files import load_model

    read = load_model(model)
    written = export_model(read, out)
    said = {"written": [str(path) for path in written], "digest": read.digest}
    print_document(said, as_json)
    return OK
