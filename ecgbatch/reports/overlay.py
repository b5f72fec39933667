"""Two recordings of one patient on one sheet: the median beat of each lead, this recording's dark, the other's light."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from ecgbatch.reports import svg
from ecgbatch.reports.grid import sheet
from ecgbatch.reports.layout import MM_PER_MV
from ecgbatch.reports.median_beats import BEATS_A_ROW, beat_quartiles, beat_speed
from ecgbatch.reports.record_page import Drawn
from ecgbatch.reports.serial import Source
from ecgbatch.terms import LEAD_FLAGS
from storage import Folder, open_once, read_columns

Float = NDArray[np.floating[Any]]

_THIS, _OTHER = "#111", "#c76b00"
_WIDTH_MM, _MARGIN_MM = 40.0, 2.5
_MOST_ABOVE_MM, _MOST_BELOW_MM = 35.0, 30.0  # as the median beats are cut
_UNLIKE = LEAD_FLAGS["missing"] | LEAD_FLAGS["flat"] | LEAD_FLAGS["not_millivolts"]


class MedianBeat(NamedTuple):
    """Of the leads that are in millivolts: median over the scorable beats, (lead, sample) mV, at times from R, (sample,) s."""

    leads: Sequence[str]
    level: Float
    time_s: Float


class OtherBeats:
    """Median beats of the recordings that stand beside those of a task; what lies near one another is read together."""

    def __init__(self, folder: Folder, wanted: Iterable[Source]) -> None:
        self._folder = folder
        self._wanted: dict[str, set[Source]] = {}
        for source in wanted:
            self._wanted.setdefault(source.beats_store, set()).add(source)
        self._found: dict[Source, MedianBeat | None] = {}

    def of(self, source: Source) -> MedianBeat | None:
        """Return the median beat of a recording, one of those wanted; None where it has no beats, or none in millivolts."""
        if source not in self._found:
            together = self._wanted.pop(source.beats_store, {source})
            try:
                self._found |= self._read(source.beats_store, together)
            except Exception:  # of one of them: from now on each is read alone, and whose neighbour it is hears of it
                self._found |= self._read(source.beats_store, {source})
        return self._found[source]

    def _read(self, name: str, wanted: set[Source]) -> dict[Source, MedianBeat | None]:
        """Read recordings of one beats store."""
        sources = sorted(wanted, key=lambda source: source.beats_row)
        found: dict[Source, MedianBeat | None] = dict.fromkeys(sources)
        path = str(self._folder.path(f"beats/{name}.zarr"))
        if not name or open_once(path, ()).attrs["settings"].get("method", "robust") == "kachuee":
            return found
        store = open_once(path, ())
        beats = _rows(path, [source.beats_row for source in sources], ("lead", "sample_time_s", "first_beat", "n_beats"))
        first, n_beats = beats["first_beat"].tolist(), beats["n_beats"].tolist()
        flags_of = self._lead_flags(sources)
        beat_bytes = math.prod(store["waveform"].shape[1:]) * store["waveform"].dtype.itemsize
        for near in _near(first, n_beats, max(1, _MOST_BYTES // beat_bytes)):
            start, stop = first[near[0]], first[near[-1]] + n_beats[near[-1]]
            waveform, beat_flags = (store[name].variable[start:stop].values for name in ("waveform", "beat_flags"))
            for place in near:
                own = slice(first[place] - start, first[place] - start + n_beats[place])
                level = beat_quartiles(waveform[own], beat_flags[own])[1]
                of_lead, leads = flags_of[sources[place]], beats["lead"].tolist()
                flags = [of_lead.get(lead, _UNLIKE) for lead in leads]
                found[sources[place]] = _of_millivolts(leads, flags, level, beats["sample_time_s"])
        return found

    def _lead_flags(self, sources: Sequence[Source]) -> dict[Source, dict[str, int]]:
        """Return the flags of each recording's leads."""
        found: dict[Source, dict[str, int]] = {}
        for name in {source.signals_store for source in sources}:
            mine = [source for source in sources if source.signals_store == name]
            path = str(self._folder.path(f"signals/{name}.zarr"))
            signals = _rows(path, [source.signals_row for source in mine], ("lead", "lead_flags"))
            leads = signals["lead"].tolist()
            flags = signals["lead_flags"].tolist()
            found |= {source: dict(zip(leads, own, strict=True)) for source, own in zip(mine, flags, strict=True)}
        return found


_MOST_BYTES = 16_000_000  # of beats held at once
_APART = 256  # beats between two recordings that are still read together


def _near(first: Sequence[int], n_beats: Sequence[int], most: int) -> list[list[int]]:
    """Return the places of recordings that have beats, those together that lie near one another and are no more than ``most``."""
    groups: list[list[int]] = []
    for place in sorted((place for place, n in enumerate(n_beats) if n), key=lambda place: first[place]):
        start, stop = (first[groups[-1][0]], first[groups[-1][-1]] + n_beats[groups[-1][-1]]) if groups else (0, 0)
        if groups and first[place] - stop <= _APART and first[place] + n_beats[place] - start <= most:
            groups[-1].append(place)
        else:
            groups.append([place])
    return groups


def _rows(path: str, rows: Sequence[int], names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    columns = read_columns(path, np.array(rows, np.int64), names)
    return {str(name): variable.values for name, variable in columns.variables.items()}


def _of_millivolts(leads: Sequence[str], flags: Sequence[int], level: Float, time_s: Float) -> MedianBeat | None:
    kept = [place for place, mask in enumerate(flags) if not mask & _UNLIKE and np.isfinite(level[place]).any()]
    return MedianBeat([leads[place] for place in kept], level[kept], time_s) if kept else None


def beside(drawn: Drawn, others: OtherBeats, source: Source | None) -> list[tuple[str, Markup]]:
    """Return ``overlay`` of a recording and that of ``source``, one that ``others`` knows; nothing where there is none."""
    return [] if source is None else overlay(drawn, others.of(source))


def overlay(drawn: Drawn, other: MedianBeat | None) -> list[tuple[str, Markup]]:
    """Draw the median beats of two recordings over one another, lead by lead, at one scale and R above R.

    Parameters
    ----------
    drawn
        What ``record_page`` draws of this recording.
    other
        The other one's.

    Returns
    -------
    list of (lead name, drawing)
        Of the leads that both have in millivolts; at the speed and scale of the page's other median beats.

    """
    excerpt, times = drawn.excerpt, drawn.sample_time_s
    if excerpt is None or drawn.quartiles is None or times is None or other is None or not drawn.is_millivolts:
        return []
    mine = _of_millivolts(excerpt.leads, excerpt.lead_flags, drawn.quartiles[1], times)
    if mine is None:
        return []
    shared = [lead for lead in mine.leads if lead in other.leads]
    if not shared:
        return []
    mm_per_s = min(beat_speed(beat.time_s) for beat in (mine, other))
    start_s = min(float(beat.time_s[0]) for beat in (mine, other))
    heights = [_heights_mm(beat, shared) for beat in (other, mine)]
    ends = [(np.fmax.reduce(y, axis=1).tolist(), (-np.fmin.reduce(y, axis=1)).tolist()) for y in heights]
    reach = [_reach(ends, slice(first, first + BEATS_A_ROW)) for first in range(0, len(shared), BEATS_A_ROW)]
    reach_of = [reach[place // BEATS_A_ROW] for place in range(len(shared))]
    above_mm = np.array([above for above, _ in reach_of])[:, None]
    paths = [
        _paths(_MARGIN_MM + (beat.time_s - start_s) * mm_per_s, above_mm - y)
        for beat, y in zip((other, mine), heights, strict=True)
    ]
    return [(lead, _drawing(lead, *own)) for lead, *own in zip(shared, reach_of, *paths, strict=True)]


def _heights_mm(beat: MedianBeat, leads: Sequence[str]) -> Float:
    """Return the leads' median beats in mm up from the level before P, (lead, sample)."""
    level = beat.level[[beat.leads.index(lead) for lead in leads]]
    start = _medians(level[:, : max(3, level.shape[1] // 16)])
    if not np.isfinite(start).all():
        start = np.where(np.isfinite(start), start, _medians(level))
    heights: Float = (level - start[:, None]) * MM_PER_MV
    return heights


def _medians(values: Float) -> Float:
    """Return the median of each row's known values, NaN of none; a tenth of the time of ``numpy.nanmedian``."""
    ordered = np.sort(values, axis=1)  # unknown sorts last
    n_known = np.isfinite(ordered).sum(axis=1)[:, None]
    lower, upper = (np.take_along_axis(ordered, np.maximum(n, 0) // 2, axis=1)[:, 0] for n in (n_known - 1, n_known))
    return np.where(n_known[:, 0] > 0, (lower + upper) / 2, np.nan).astype(values.dtype)


def _reach(ends: Sequence[tuple[Sequence[float], Sequence[float]]], row: slice) -> tuple[float, float]:
    """Return what a row of leads needs above and below the level before P, mm."""
    above = min(max([8.0, *(value for high, _ in ends for value in high[row])]), _MOST_ABOVE_MM) + 1.0
    below = min(max([4.0, *(value for _, low in ends for value in low[row])]), _MOST_BELOW_MM) + 1.0
    return float(math.ceil(above)), float(math.ceil(below))


def _paths(x_mm: Float, y_mm: Float) -> list[str]:
    """Return path data of lines, (line, sample) mm down from a drawing's top."""
    n_lines, n_samples = y_mm.shape
    x = np.broadcast_to(x_mm * svg.UNITS_PER_MM, y_mm.shape).ravel()
    return svg.paths(x, (y_mm * svg.UNITS_PER_MM).ravel(), range(0, n_lines * n_samples + 1, n_samples))


def _drawing(lead: str, reach_mm: tuple[float, float], *paths: str) -> Markup:
    head, tail = _frame(lead, sum(reach_mm))
    lines = "".join(
        f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-linejoin="round"/>'
        for path, colour, width in zip(paths, (_OTHER, _THIS), (16, 12), strict=True)
    )
    return Markup(f"{head}{lines}{tail}")  # noqa: S704 - numbers, and what ``svg`` has escaped


@lru_cache(maxsize=4096)
def _frame(lead: str, height_mm: float) -> tuple[str, str]:
    """Return a lead's drawing before and after its lines."""
    paper = sheet(0.0, 0.0, _WIDTH_MM, height_mm, is_millivolts=True)
    label = f"median beats of lead {lead}: this recording dark, the other light"
    head, _, tail = str(svg.drawing(_WIDTH_MM, height_mm, [paper, "\n"], label)).partition("\n")
    return head, tail
