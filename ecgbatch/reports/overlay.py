"""Two recordings of one patient on one sheet: the median beat of each lead, this recording's dark, the other's light."""

from __future__ import annotations

from collections.abc import Sequence
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


def median_beat(folder: Folder, source: Source) -> MedianBeat | None:
    """Read the median beat of a recording; None where it has no beats, or none in millivolts."""
    if not source.beats_store:
        return None
    beats_at = str(folder.path(f"beats/{source.beats_store}.zarr"))
    store = open_once(beats_at, ())
    beats = _row(beats_at, source.beats_row, ("lead", "sample_time_s", "first_beat", "n_beats"))
    flags = _row(str(folder.path(f"signals/{source.signals_store}.zarr")), source.signals_row, ("lead", "lead_flags"))
    first, last = int(beats["first_beat"][0]), int(beats["first_beat"][0] + beats["n_beats"][0])
    if last == first or store.attrs["settings"].get("method", "robust") == "kachuee":
        return None
    waveform, beat_flags = (store[name].variable[first:last].values for name in ("waveform", "beat_flags"))
    of_lead = dict(zip(flags["lead"].tolist(), flags["lead_flags"][0].tolist(), strict=True))
    own = beats["lead"].tolist()
    return _of_millivolts(
        own, [of_lead.get(lead, _UNLIKE) for lead in own], beat_quartiles(waveform, beat_flags)[1], beats["sample_time_s"]
    )


def _row(path: str, row: int, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    columns = read_columns(path, np.array([row], np.int64), names)
    return {str(name): variable.values for name, variable in columns.variables.items()}


def _of_millivolts(leads: Sequence[str], flags: Sequence[int], level: Float, time_s: Float) -> MedianBeat | None:
    kept = [place for place, mask in enumerate(flags) if not mask & _UNLIKE and np.isfinite(level[place]).any()]
    return MedianBeat([leads[place] for place in kept], level[kept], time_s) if kept else None


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
    mm_per_s = min(beat_speed(beat.time_s) for beat in (mine, other))
    start_s = min(float(beat.time_s[0]) for beat in (mine, other))
    drawings = []
    for number in range(0, len(shared), BEATS_A_ROW):
        row = [
            (lead, [_line(beat, lead, mm_per_s, start_s) for beat in (other, mine)])
            for lead in shared[number : number + BEATS_A_ROW]
        ]
        heights = np.concatenate([y for _, lines in row for _, y in lines])
        above = min(max(8.0, float(np.nanmax(heights))), _MOST_ABOVE_MM) + 1.0
        below = min(max(4.0, -float(np.nanmin(heights))), _MOST_BELOW_MM) + 1.0
        drawings += [(lead, _drawing(lead, lines, np.ceil(above), np.ceil(below))) for lead, lines in row]
    return drawings


def _line(beat: MedianBeat, lead: str, mm_per_s: float, start_s: float) -> tuple[Float, Float]:
    """Return a lead's median beat in mm, x from the sheet's left and y up from the level before P."""
    level = beat.level[beat.leads.index(lead)]
    before = level[: max(3, level.size // 16)]
    start = float(np.nanmedian(before)) if np.isfinite(before).any() else float(np.nanmedian(level))
    return _MARGIN_MM + (beat.time_s - start_s) * mm_per_s, (level - start) * MM_PER_MV


def _drawing(lead: str, lines: Sequence[tuple[Float, Float]], above_mm: float, below_mm: float) -> Markup:
    height = above_mm + below_mm
    parts = [sheet(0.0, 0.0, _WIDTH_MM, height, is_millivolts=True)]
    for (x, y), colour, width in zip(lines, (_OTHER, _THIS), (16, 12), strict=True):
        path = svg.path(x * svg.UNITS_PER_MM, (above_mm - y) * svg.UNITS_PER_MM)
        parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-linejoin="round"/>')
    return svg.drawing(_WIDTH_MM, height, parts, f"median beats of lead {lead}: this recording dark, the other light")
