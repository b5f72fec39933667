"""All machine code of the kernels, made at once and in parallel: afterwards no command compiles on this machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

from ecgbatch.beats.lookup import extract_beats
from ecgbatch.beats.record import BeatSettings
from ecgbatch.beats.warm import cut_as_published, cut_beats, find_peaks
from ecgbatch.formats.warm import warm_up as read_samples
from ecgbatch.machine_code import open_to_readers
from ecgbatch.measurements.lookup import measure_workspace
from ecgbatch.model.files import load_model, shipped_model
from ecgbatch.model.warm import warm_up as score_beats
from ecgbatch.reports.path_kernels import warm_up as draw_lines
from ecgbatch.scores.stage import score_workspace
from ecgbatch.signals.quality import warm_up as judge_leads
from ecgbatch.signals.stage import convert_archive
from ecgbatch.synthetic.archive import ArchiveShape, write_archive
from ecgbatch.upkeep.owned import end_with_parent

PARTS: dict[str, Callable[[], None]] = {
    "R peaks": find_peaks,
    "scores": score_beats,
    "lead quality": judge_leads,
    "beats": cut_beats,
    "beats as published": cut_as_published,
    "files of devices": read_samples,
    "lines of drawings": draw_lines,
}
"""Rooms that share no kernel, those first that take longest."""


def warm(on_progress: Callable[[str, int, int], None] | None = None) -> None:
    """Compile every kernel that is not on disk yet, each part in a process of its own, then see the whole job through once.

    Parameters
    ----------
    on_progress
        Called with what is done, parts done and parts in all.

    """
    say = on_progress or (lambda _what, _done, _total: None)
    n_parts = len(PARTS) + 1
    say("compiling", 0, n_parts)
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), get_context("spawn"), initializer=end_with_parent) as pool:
        for number, done in enumerate(as_completed([pool.submit(part) for part in PARTS.values()]), 1):
            done.result()
            say("compiling", number, n_parts)
    see_through()
    open_to_readers()
    say("compiling", n_parts, n_parts)


def see_through() -> None:
    """Run all stages that compute on a small archive, so that what no part thought of is compiled here and not by a user."""
    with TemporaryDirectory(prefix="ecgbatch-warm-") as folder:
        archive, work = str(Path(folder) / "archive"), str(Path(folder) / "work")
        write_archive(archive, ArchiveShape(n_records=2, duration_s=12.0))
        convert_archive(archive, work)
        for settings in (BeatSettings(method="kachuee"), BeatSettings()):
            extract_beats(work, settings)
        measure_workspace(work, load_model(shipped_model()).beats)
        score_workspace(work, str(shipped_model()))
