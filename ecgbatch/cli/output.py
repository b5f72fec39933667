"""What a command says: progress on standard error, its result on standard output, for a person or as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def progress(as_json: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Yield ``on_progress(stage, done, total)``; bars on standard error, so that standard output stays a result."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description:<22}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=as_json) as bars:
        tasks: dict[str, Any] = {}

        def on_progress(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield on_progress


def print_result(result: dict[str, Any], as_json: bool) -> None:
    """Print where the reports are and where the time went."""
    if as_json:
        print_document(result, as_json)
        return
    counts, seconds = result["counts"], result["seconds"]
    n_aside, n_without = sum(counts["n_set_aside"].values()), counts["n_not_scorable"]
    print(
        f"{counts['n_records']} records of {counts['n_patients']} patients: {counts['n_scored']} scored, "
        f"{n_without} not scorable, {n_aside} of these set aside"
    )
    print("decisions: " + ", ".join(f"{word} {n}" for word, n in counts["decisions"].items()))
    for reason, n in counts["not_scorable_reasons"].items():
        print(f"{'set aside' if reason in counts['n_set_aside'] else 'not scorable'}: {n} {reason}")
    if "labels_matched" in (prepared := result.get("prepared", {})):
        print(f"labels: {prepared['labels_matched']} records named by the table; {prepared['labels_unmatched']} of it not here")
    print("time: " + ", ".join(f"{stage} {value:.1f} s" for stage, value in seconds.items()))
    print(f"cohort report: {result['cohort']}")


def print_document(document: dict[str, Any], as_json: bool) -> None:
    """Print a result: one JSON object, or lines for a person (curves and other long tables are left to the JSON)."""
    if as_json:
        print(json.dumps(document, ensure_ascii=False, default=str))
        return
    for line in _lines({key: value for key, value in document.items() if key != "curves"}):
        print(line)


def _lines(document: dict[str, Any], indent: str = "") -> Iterator[str]:
    """Yield a line a figure or value; what holds several is a heading with them below, two spaces further in."""
    for key, value in document.items():
        if isinstance(value, list | tuple):
            yield f"{indent}{key}:" + ("" if value else " none")
            for entry in value:
                nested = isinstance(entry, dict) and any(isinstance(one, dict) for one in entry.values())
                yield from _lines(entry, f"{indent}  ") if nested else [f"{indent}  {entry}"]
        elif isinstance(value, dict) and not _is_figure(value):
            yield f"{indent}{key}:" + ("" if value else " none")
            yield from _lines(value, f"{indent}  ")
        else:
            yield f"{indent}{key}: {_figure(value)}"


def _unit(figure: dict[str, Any]) -> str:
    """Spell how many of what a figure's interval rests on."""
    return f"{figure['n_units']} {figure['unit']}" if "n_units" in figure else f"{figure.get('n_patients', '?')} patients"


def _is_figure(value: Any) -> bool:
    return isinstance(value, dict) and "value" in value


def _figure(entry: Any) -> str:
    """Spell a figure as value, interval and number of patients; anything else as it is."""
    if not _is_figure(entry):
        return f"{entry:.3f}" if isinstance(entry, float) else str(entry)
    value, low, high = ("unknown" if entry.get(k) is None else f"{entry[k]:.3f}" for k in ("value", "low", "high"))
    note = f"; {entry['note']}" if entry.get("note") else ""
    return f"{value} [{low}, {high}] ({_unit(entry)}{note})"
