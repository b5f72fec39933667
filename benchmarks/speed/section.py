"""What a part of the benchmarks hands over: a section of the page, its claims and its bars; and how times are taken."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Claim:
    """A ratio that was to be reached: ``ratios`` one a round, ``target`` with its direction, ``why`` it is not, if it is not."""

    text: str
    ratios: Sequence[float]
    target: float
    at_least: bool = True
    why: str = ""

    @property
    def figure(self) -> float:
        """The median over rounds."""
        return statistics.median(self.ratios)

    @property
    def is_met(self) -> bool:
        """Whether the median reaches the target."""
        return self.figure >= self.target if self.at_least else self.figure <= self.target

    def row(self) -> str:
        """Return the claim as a row of a table."""
        spread = f" ({min(self.ratios):.2f}-{max(self.ratios):.2f})" if len(self.ratios) > 1 else ""
        word = "at least" if self.at_least else "at most"
        return f"| {self.text} | {word} {self.target:g} | {self.figure:.2f}{spread} | {'yes' if self.is_met else '**no**'} |"


@dataclass
class Section:
    """A part's result: ``lines`` of Markdown, ``bars`` (group, way, seconds) for the plot, ``figures`` for ``--json``."""

    title: str
    lines: list[str] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    bars: list[tuple[str, str, float]] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)


def processor_seconds() -> float:
    """Return what this process has used, and the processes it started that have ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


class Times:
    """Seconds on the wall and of processor time, by stage and way, one of each a round."""

    def __init__(self) -> None:
        self.wall: dict[tuple[str, str], list[float]] = {}
        self.processor: dict[tuple[str, str], list[float]] = {}

    def take(self, stage: str, way: str, work: Callable[[], Any], times: float = 1.0) -> Any:
        """Do ``work`` and note how long it took, ``times`` over (what a sample of the records says of all)."""
        wall, processor = time.perf_counter(), processor_seconds()
        result = work()
        self.note(stage, way, times * (time.perf_counter() - wall), times * (processor_seconds() - processor))
        return result

    def note(self, stage: str, way: str, wall: float, processor: float = float("nan")) -> None:
        """Note a time that was taken elsewhere."""
        self.wall.setdefault((stage, way), []).append(wall)
        self.processor.setdefault((stage, way), []).append(processor)

    def total(self, way: str, stages: Iterable[str]) -> list[float]:
        """Return the seconds of these stages together, one a round."""
        return [sum(round_) for round_ in zip(*(self.wall[stage, way] for stage in stages), strict=True)]

    def ratios(self, stages: Iterable[str], slow: str, fast: str) -> list[float]:
        """Return how many times longer ``slow`` takes, one a round."""
        stages = list(stages)
        return [a / b for a, b in zip(self.total(slow, stages), self.total(fast, stages), strict=True)]

    def table(self, stages: Sequence[str], ways: Sequence[str], total: str = "") -> list[str]:
        """Return medians and spread as a table, a row a stage; processor seconds in brackets where they are known."""
        rows = ["| stage | " + " | ".join(f"{way} (s)" for way in ways) + " |", "|---|" + "---:|" * len(ways)]
        for stage in stages:
            rows.append(f"| {stage} | " + " | ".join(self._cell(stage, way) for way in ways) + " |")
        if total:
            cells = [spread(self.total(way, stages)) if all((s, way) in self.wall for s in stages) else "" for way in ways]
            rows.append(f"| **{total}** | " + " | ".join(cells) + " |")
        return rows

    def _cell(self, stage: str, way: str) -> str:
        if (stage, way) not in self.wall:
            return ""
        processor = statistics.median(self.processor[stage, way])
        return spread(self.wall[stage, way]) + (f" [{processor:.2f}]" if processor == processor else "")


def spread(seconds: Sequence[float]) -> str:
    """Return the median with the lowest and highest."""
    middle = statistics.median(seconds)
    digits = 2 if middle < 100 else 0
    return f"{middle:.{digits}f}" + (f" ({min(seconds):.{digits}f}-{max(seconds):.{digits}f})" if len(seconds) > 1 else "")
