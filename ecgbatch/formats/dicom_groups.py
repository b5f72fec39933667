"""Multiplex groups of a DICOM ECG: which make the record together, which were recorded in turn, which are left out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from numpy.typing import NDArray

from ecgbatch.terms import lead_order

_WHOLE, _PART = 0.95, 0.75
"""Shares of the recording: a lead is of all of it, or of a part."""
_COVERED = 0.9
"""Share of the recording that the parts have together, where leads were recorded one after the other."""
_NEAR = 0.02
"""Share of the recording by which leads of one part may seem to begin or end apart: an ECG may begin with the padding's value."""


class Group(NamedTuple):
    """What is known of a group before its samples; groups that agree in all but ``leads`` are of one record."""

    leads: frozenset[str]
    """Standard ones."""
    n_samples: int
    fs: float
    offset_ms: float


def leads_of(described: Sequence[Group], like: Group) -> frozenset[str]:
    """Return the leads of all groups that agree with one."""
    return frozenset(lead for one in described if one[1:] == like[1:] for lead in one.leads)


def left_out_words(described: Sequence[Group], kept: Sequence[int]) -> str:
    """Return, for people, which groups with leads are left out."""
    others = [one for row, one in enumerate(described) if row not in kept and one.leads]
    told = [f"{' '.join(lead_order(set(one.leads)))} of {one.n_samples / one.fs:.4g} s at {one.fs:g} Hz" for one in others]
    return f"left out: {'; '.join(told)}"[:300] if told else ""


def groups_in_turn(described: Sequence[Group], chosen: Group) -> list[int]:
    """Return the groups of one rate that were recorded one after the other, if together they have more standard leads."""
    same = [row for row, one in enumerate(described) if one.fs == chosen.fs and one.leads]
    spans = sorted(
        {(one.offset_ms / 1000, one.offset_ms / 1000 + one.n_samples / one.fs) for one in _without_strips(described, same)}
    )
    if any(end > start + 0.05 for (_, end), (start, _) in pairwise(spans)):
        return []  # not one after the other, whatever the offsets say
    leads = frozenset(lead for row in same for lead in described[row].leads)
    ends = [described[row].offset_ms / 1000 + described[row].n_samples / chosen.fs for row in same]
    is_dense = bool(ends) and max(ends) <= 1.5 * sum(described[row].n_samples for row in same) / chosen.fs
    is_after = all(described[row].offset_ms >= 0 for row in same)
    return same if len(leads) > len(leads_of(described, chosen)) and is_dense and is_after else []


def _without_strips(described: Sequence[Group], rows: Sequence[int]) -> list[Group]:
    """Return groups without those whose every lead another group has too: rhythm strips below the others."""
    found = [described[row] for row in rows]
    return [
        one for one in found if not one.leads <= frozenset(lead for other in found if other is not one for lead in other.leads)
    ]


def parts_in_turn(signals: Sequence[NDArray[Any]]) -> list[slice | None]:
    """Return the part of the recording in which each lead was recorded, where leads of all its length are padded in turn.

    Some devices write leads that were recorded one after the other (4 x 3) at full length, the same number wherever another lead
    was recorded. That is no flat line: no electrode was off.

    Parameters
    ----------
    signals
        (sample) of each lead, one length.

    Returns
    -------
    list
        None for a lead of the whole recording; for every lead, where the recording is no such one: half of its leads at least
        must have a part, and the parts must follow each other and fill it.

    """
    n = len(signals[0])
    spans = [_span(values) for values in signals]
    padded = [place for place, (first, last) in enumerate(spans) if 0 < last - first <= _PART * n]
    others = [last - first for place, (first, last) in enumerate(spans) if place not in padded]
    nothing: list[slice | None] = [None] * len(signals)
    if 2 * len(padded) < len(signals) or any(length < _WHOLE * n for length in others):
        return nothing
    parts: list[list[int]] = []
    for place in sorted(padded, key=spans.__getitem__):
        if parts and spans[place][0] - spans[parts[-1][0]][0] <= _NEAR * n:
            parts[-1].append(place)
        else:
            parts.append([place])
    edges = [(min(spans[place][0] for place in part), max(spans[place][1] for place in part)) for part in parts]
    is_in_turn = all(start >= end - _NEAR * n for (_, end), (start, _) in pairwise(edges))
    if len(parts) < 2 or not is_in_turn or sum(last - first for first, last in edges) < _COVERED * n:
        return nothing
    for part, (first, last) in zip(parts, edges, strict=True):
        for place in part:
            nothing[place] = slice(first, last)
    return nothing


def _span(values: NDArray[Any]) -> tuple[int, int]:
    """Return where a lead first leaves the value that it begins with, and where it last has another than it ends with.

    A run at an end that is short is no padding, but a part of the ECG.
    """
    n = len(values)
    moves, ends = values != values[0], values != values[-1]
    if not moves.any():
        return 0, 0
    first, last = int(moves.argmax()), int(n - ends[::-1].argmax())
    return first if first > _NEAR * n else 0, last if n - last > _NEAR * n else n
