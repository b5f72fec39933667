"""The report of one record for a reader who asks for it now: made of the stores as the files are, and written nowhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from markupsafe import Markup

from ecgbatch.reports.failed import failed_page, failed_report
from ecgbatch.reports.overlay import OtherBeats, beside
from ecgbatch.reports.pages import Around
from ecgbatch.reports.record import Edition, record_report
from ecgbatch.reports.record_files import draw, scores_of
from ecgbatch.reports.record_page import Drawn, record_page
from ecgbatch.reports.rows import Row, plain_rows
from ecgbatch.reports.serial import Serial, series_of
from ecgbatch.reports.sources import Sources, store_path
from ecgbatch.workspace.privacy import Pseudonyms
from storage import NOT_OF_A_ROW, TEXT, folder_at, open_once


@dataclass(frozen=True)
class Asked:
    """Whose report is asked for.

    ``rows``: of the scores store ``run``, this record's first, then those of the patient's other recordings. ``links``: where
    the page of each of them is; a page's links are these and ``.html``.
    """

    work: str
    run: str
    edition: Edition
    rows: Sequence[int]
    links: Sequence[str]
    pseudonyms: Pseudonyms | None = None


@dataclass(frozen=True)
class Made:
    """A record's report: what it says, and what its page draws. ``failed``: type of what went wrong, empty where nothing did.

    ``own`` is its row of the scores store under its own names, whatever the report shows.
    """

    own: Row
    report: dict[str, Any]
    drawn: Drawn = field(default_factory=Drawn)
    over: Sequence[tuple[str, Markup]] = ()
    failed: str = ""

    def page(self, around: Around) -> str:
        """Return the page, as a server hands it out."""
        if self.failed:
            return failed_page(self.report, self.failed, around)
        return record_page(self.report, self.drawn, self.over, around=around)

    def blind_page(self, around: Around) -> str:
        """Return a page without score, decision or reference label, for a reader who is yet to say what the ECG shows."""
        hidden = blinded(self.report)
        return record_page(hidden, self.drawn, (), around=around, template="blind.html")


def report_on_demand(asked: Asked) -> Made:
    """Make one record's report, as ``record_files`` does for a file.

    Raises
    ------
    UnfinishedStore, FileNotFoundError
        If a store that its score names is not there any more: an erasure or a compaction put others in their place.

    """
    folder = folder_at(asked.work)
    path = store_path(folder, "scores", asked.run)
    order = np.argsort(np.array(asked.rows), kind="stable")
    scores = scores_of(path, np.array(asked.rows)[order])
    here = int(np.flatnonzero(order == 0)[0])
    own = plain_rows(scores.isel(record=[here]))[0]
    shown = asked.pseudonyms.scores(scores) if asked.pseudonyms else scores
    series = series_of(asked.work, shown, np.array(asked.links, TEXT)[order])
    edition = replace(asked.edition, segments_s=open_once(path, ()).attrs["settings"].get("segments_s"))
    row = plain_rows(shown.isel(record=[here]))[0]
    sources = Sources(folder, [own])
    signals = sources.row("signals", 0)
    source = asked.pseudonyms.signals(signals) if asked.pseudonyms else signals
    try:
        return _made(sources, (own, row, source), series.of(here), edition, asked.work)
    except NOT_OF_A_ROW:
        raise
    except Exception as error:  # one record's content, as in ``record_files``
        kind = type(error).__name__
        return Made(own, failed_report(row, source, kind, edition), failed=kind)


def _made(sources: Sources, rows: tuple[Row, Row, Row | None], serial: Serial, edition: Edition, work: str) -> Made:
    own, row, source = rows
    beats = sources.beats(0)
    report = record_report(row, source, beats, edition, serial)
    drawn = draw(report, sources, 0, beats)
    over = beside(drawn, OtherBeats(folder_at(work), [serial.source] if serial.source else []), serial.source)
    return Made(own, report, drawn, over)


_HIDDEN: Mapping[str, Any] = {
    "decision": "hidden",
    "decision_words": "score and decision hidden until the verdict",
    "indeterminate_because": [],
    "mi_probability": None,
    "abnormal_probability": None,
    "exchange": "",
    "probability_put_back": None,
    "interval": None,
    "score_flags": [],
    "novelty": None,
    "at_prevalence": None,
    "beat_agreement": None,
    "n_beats_scored": 0,
    "evidence": None,
    "extreme_beats": {"most_mi_like": [], "least_mi_like": []},
    "cautions": [],
    "label": "unknown",
    "label_rule": "",
    "diagnosis": "",
    "infarct_location": "",
    "infarct_age": "",
}


def blinded(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record's report without all that tells score, decision or reference label, this recording's or another's."""
    found = {**report, **_HIDDEN}
    found.pop("comments", None)  # the reason for admission stands there
    found["beats"] = {**report["beats"], "probability": [None] * len(report["beats"]["probability"])}
    shown = ("record_name", "report", "days_from_this", "is_drawn")
    found["serial"] = [{name: entry[name] for name in shown} for entry in report["serial"]]
    return found
