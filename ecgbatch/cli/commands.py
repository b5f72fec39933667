"""The commands, in the order in which help lists them."""

from __future__ import annotations

import typer

from ecgbatch.cli import keep, run, stages, train
from ecgbatch.terms import NOTICE

app = typer.Typer(
    help=f"Archives of ECG recordings in, beats, myocardial infarction scores and reports out. {NOTICE}",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

COMMANDS = (
    run.demo,
    run.run,
    stages.inspect,
    stages.convert,
    stages.beats,
    train.train,
    train.evaluate,
    stages.score,
    stages.report,
    keep.verify,
    keep.gc,
    keep.compact,
    keep.erase,
    keep.status,
    keep.config,
    run.schedule,
    keep.fetch,
)
for _command in COMMANDS:
    app.command()(_command)
