"""What a command says: progress on standard error, its result on standard output, for a person or as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
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
    for reason, n in result.get("n_left_out", {}).items():
        print(f"no record was looked for in: {n} {reason} (ecgbatch inspect names them)")
    print("time: " + ", ".join(f"{stage} {value:.1f} s" for stage, value in seconds.items()))
    if "pages" in result:
        print(f"pages: {result['pages']}")
    print(f"cohort report: {result['cohort']}")


def print_document(document: Mapping[str, Any], as_json: bool) -> None:
    """Print a result: one JSON object, or tables for a person (curves and other long tables are left to the JSON).

    On a terminal tables have lines; piped they are plain columns, each row whole on one line.
    """
    if as_json:
        print(json.dumps(document, ensure_ascii=False, default=str))
        return
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _WIDEST
    for piece in _pieces({key: value for key, value in document.items() if key != "curves"}, is_plain=not console.is_terminal):
        with console.capture() as printed:
            console.print(piece)
        print("\n".join(line.rstrip() for line in printed.get().split("\n")), end="")


_WIDEST = 100_000  # columns of what is piped: no row is broken
_ON_ONE_LINE = 100  # characters that several counts may take beside their name


def _pieces(document: Mapping[str, Any], *, is_plain: bool, title: str = "") -> Iterator[Any]:
    """Yield what a document is printed as: its plain values as one table, then tables of each value that holds several."""
    from rich.table import Table

    plain = {key: _line(value) for key, value in document.items()}
    grid = Table.grid(padding=(0, 2))
    for key, line in plain.items():
        if line is not None:
            grid.add_row(f"{key}:", line)
    if title:
        yield f"\n{title}"
    if grid.row_count:
        yield grid
    for key, value in document.items():
        if plain[key] is not None:
            continue
        name = f"{title}, {key}" if title else key
        if isinstance(value, Mapping) and all(_is_figure(one) for one in value.values()):
            yield f"\n{name}"
            yield _table([{"": which, **_of_figure(figure)} for which, figure in value.items()], is_plain=is_plain)
        elif isinstance(value, Mapping):
            yield from _pieces(value, is_plain=is_plain, title=name)
        elif all(isinstance(one, Mapping) for one in value):
            yield f"\n{name}"
            yield _table([{column: _cell(cell) for column, cell in one.items()} for one in value], is_plain=is_plain)
        else:
            yield f"\n{name}"
            yield from (f"  {one}" for one in value)


def _line(value: Any) -> str | None:
    """Return a value that fits beside its name; None of one that needs a table."""
    if isinstance(value, list | tuple | Mapping) and not value:
        return "none"
    if _is_figure(value) or not isinstance(value, list | tuple | Mapping):
        return _figure(value)
    parts = [f"{key} {_figure(one)}" for key, one in value.items()] if isinstance(value, Mapping) else [str(one) for one in value]
    nested = value.values() if isinstance(value, Mapping) else value
    is_short = len(line := ", ".join(parts)) <= _ON_ONE_LINE
    return line if is_short and not any(isinstance(one, list | tuple | Mapping) for one in nested) else None


def _table(rows: Sequence[Mapping[str, str]], *, is_plain: bool) -> Any:
    from rich import box
    from rich.table import Table

    columns = list(dict.fromkeys(column for row in rows for column in row))
    table = Table(*columns, box=None if is_plain else box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*(row.get(column, "") for column in columns))
    return table


def _cell(value: Any) -> str:
    """Return what stands in a cell: a figure with its interval, counts as words, anything else as it is."""
    if isinstance(value, Mapping) and not _is_figure(value):
        return ", ".join(f"{key} {_figure(one)}" for key, one in value.items()) or "none"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else _figure(value)


def _of_figure(figure: Mapping[str, Any]) -> dict[str, str]:
    """Return a figure's cells: value, interval, how many it rests on."""
    value, low, high = ("unknown" if figure.get(key) is None else f"{figure[key]:.3f}" for key in ("value", "low", "high"))
    return {"value": value, "95 % interval": f"{low} to {high}", "of": _unit(figure), "note": str(figure.get("note") or "")}


def _unit(figure: Mapping[str, Any]) -> str:
    """Spell how many of what a figure's interval rests on."""
    return f"{figure['n_units']} {figure['unit']}" if "n_units" in figure else f"{figure.get('n_patients', '?')} patients"


def _is_figure(value: Any) -> bool:
    return isinstance(value, Mapping) and "value" in value


def _figure(entry: Any) -> str:
    """Spell a figure as value, interval and number of patients; anything else as it is."""
    if not _is_figure(entry):
        return f"{entry:.3f}" if isinstance(entry, float) else str(entry)
    of = _of_figure(entry)
    note = f"; {of['note']}" if of["note"] else ""
    low, high = of["95 % interval"].split(" to ")
    return f"{of['value']} [{low}, {high}] ({of['of']}{note})"
