"""The commands, in the order in which help lists them."""

from __future__ import annotations

from typing import Annotated

import typer

from ecgbatch import __version__
from ecgbatch.cli.doctor import doctor
from ecgbatch.cli.keep import compact, config, erase, fetch, gc, status, verify, warm
from ecgbatch.cli.model import app as model
from ecgbatch.cli.run import demo, run, schedule
from ecgbatch.cli.serve import review, serve
from ecgbatch.cli.stages import beats, convert, inspect, measure, report, score
from ecgbatch.cli.train import evaluate, train
from ecgbatch.terms import NOTICE

app = typer.Typer(
    help=f"Archives of ECG recordings in, beats, myocardial infarction scores and reports out. {NOTICE}",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

COMMANDS = (
    demo,
    run,
    inspect,
    convert,
    beats,
    measure,
    train,
    evaluate,
    score,
    report,
    serve,
    review,
    verify,
    gc,
    compact,
    erase,
    status,
    config,
    doctor,
    schedule,
    fetch,
    warm,
)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        print(f"ecgbatch {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Take what stands before a command's name."""


for _command in COMMANDS:
    app.command()(_command)
    if _command is evaluate:
        app.add_typer(model, name="model")
