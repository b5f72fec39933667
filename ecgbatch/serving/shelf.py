"""What a server keeps of a workspace between requests: lists, what the reports of a run say alike, verdicts. It writes none."""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from threading import BoundedSemaphore, Lock
from typing import Any, TypeVar

import numpy as np
from markupsafe import Markup

from ecgbatch.reports.on_demand import Asked, Made, report_on_demand
from ecgbatch.reports.pages import Around
from ecgbatch.reports.record import Edition
from ecgbatch.reports.sources import store_path
from ecgbatch.reports.writing import edition_of
from ecgbatch.serving.listing import FILE, Listed
from ecgbatch.workspace.erased import ERASED_FILE, Erased, erased_list
from ecgbatch.workspace.privacy import PSEUDONYMOUS, Pseudonyms, workspace_pseudonyms
from ecgbatch.workspace.reviews import Kept
from ecgbatch.workspace.runs import read_run
from storage import StoreError, folder_at, load_columns

MOST_RUNS = 60
"""Nights on a page of the overview."""

_KEPT_LISTS = 2  # of a million records each takes two hundred megabytes
_AT_ONCE = 2  # pages that are made at the same time: each takes a processor, and some ten megabytes
_KEY = re.compile(rf"([0-9a-zA-Z]{{1,64}}(?:{PSEUDONYMOUS})?)-(\d{{1,9}})")

T = TypeVar("T")


class NotThere(Exception):
    """There is no such run or record, or not any more; the words are for the reader."""


@dataclass(frozen=True)
class Spot:
    """A record of a run: its place in the list, and its row of the scores store ``scores_run``."""

    run: str
    place: int
    scores_run: str
    row: int

    @property
    def key(self) -> str:
        """Its key in an address: no name of a record or patient stands there."""
        return key_of(self.run, self.place)


def key_of(run: str, place: int) -> str:
    """Return the key of a record: the run, and its place in the run's table."""
    return f"{run}-{place}"


class Lately:
    """A few things that were made last, by key and version; each is made once, however many ask at the same time."""

    def __init__(self, most: int) -> None:
        self._most, self._kept, self._lock = most, OrderedDict[Hashable, Any](), Lock()
        self._gates: dict[Hashable, Lock] = {}

    def of(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what is kept under a key, or make it."""
        with self._lock:
            gate = self._gates.setdefault(key, Lock())
        with gate:
            with self._lock:
                if key in self._kept:
                    self._kept.move_to_end(key)
                    kept: T = self._kept[key]
                    return kept
            made = make()
            with self._lock:
                self._kept[key] = made
                while len(self._kept) > self._most:
                    self._gates.pop(self._kept.popitem(last=False)[0], None)
            return made


class Shelf:
    """One workspace as its server sees it."""

    def __init__(self, work: str, *, blind: bool = False) -> None:
        self.work, self.is_blind = work, blind
        self.folder = folder_at(work)
        self.reviews = Kept(work)
        self._lists, self._editions, self._rows = Lately(_KEPT_LISTS), Lately(_KEPT_LISTS), Lately(_KEPT_LISTS)
        self._erased, self._nights = Lately(1), Lately(4 * MOST_RUNS)
        self._making = BoundedSemaphore(_AT_ONCE)

    def look_ahead(self) -> None:
        """Open the latest list and make a page of it, so that the first reader waits for neither, nor for what they import."""
        with suppress(Exception):  # whatever is wrong is told to who asks for it
            spot, listed = self.spot(key_of(self.latest(), 0))
            self.made(spot, listed).page(Around(Markup(), Markup(), Markup()))

    def latest(self) -> str:
        """Return the run whose reports are shown first; empty where there is none."""
        return self.folder.pointed("reports/latest")

    def runs(self) -> list[str]:
        """Return the runs that have reports."""
        return [name for name in self.folder.children("reports") if name != "latest" and not name.startswith(".")]

    def checked_run(self, run: str) -> str:
        """Return a run that an address names, as the workspace names it; what is not there is never made a path."""
        for name in self.runs():
            if name == run:
                return name
        raise NotThere("There is no such run here, or its reports were removed.")

    def listed(self, run: str) -> Listed:
        """Return the list of a run's records."""
        run = self.checked_run(run)
        version = self.folder.version(f"reports/{run}/{FILE}")
        if not version:
            raise NotThere("This run has no table of its records; its operator can write it: ecgbatch report.")
        return self._lists.of((run, version), lambda: Listed(self.folder, run, blind=self.is_blind))

    def spot(self, key: str) -> tuple[Spot, Listed]:
        """Return the record of a key, and the list that it is in."""
        found = _KEY.fullmatch(key)
        if found is None:
            raise NotThere("There is no such record.")
        listed = self.listed(found[1])
        place = int(found[2])
        if place >= listed.n_records:
            raise NotThere("There is no such record in this run.")
        scores_run = listed.run.removesuffix(PSEUDONYMOUS)
        return Spot(listed.run, place, scores_run, int(self._row_of(listed, scores_run)(place))), listed

    def pseudonyms(self, run: str) -> Pseudonyms | None:
        """Return what names are shown as in a run's reports; None where they are shown as they are."""
        return workspace_pseudonyms(self.work) if run.endswith(PSEUDONYMOUS) else None

    def _row_of(self, listed: Listed, scores_run: str) -> Callable[[int], int]:
        """Return what gives the row of the scores store of a place in the list: pseudonymous lists have another order."""
        pseudonyms = self.pseudonyms(listed.run)
        if pseudonyms is None:
            return lambda place: place

        def order() -> Any:
            names = load_columns(store_path(self.folder, "scores", scores_run), ("record_name",))["record_name"].values
            return np.argsort(np.array([pseudonyms.record(name) for name in names.tolist()]), kind="stable")

        rows = self._rows.of((listed.run, listed.n_records), order)
        return lambda place: rows[place]

    def made(self, spot: Spot, listed: Listed) -> Made:
        """Make a record's report now.

        Raises
        ------
        NotThere
            If its patient was erased, or its stores were replaced since the list was made.

        """
        places = listed.of_patient(spot.place)
        row_of = self._row_of(listed, spot.scores_run)
        links = [key_of(spot.run, place) for place in places]
        try:
            edition = self._edition(spot)
            asked = Asked(
                self.work, spot.scores_run, edition, [int(row_of(place)) for place in places], links, self.pseudonyms(spot.run)
            )
            with self._making:
                made = report_on_demand(asked)
        except (StoreError, FileNotFoundError):
            raise NotThere("The stores of this record were replaced meanwhile, or cannot be read. Open the list anew.") from None
        self.check_not_erased(made.own["record_name"])
        return made

    def check_not_erased(self, record_name: str) -> None:
        """Refuse a record of a patient who was erased: ``NotThere``."""
        if self._erased_now().has_record(record_name):
            raise NotThere("This record is not here any more.")

    def _erased_now(self) -> Erased:
        version = self.folder.version(ERASED_FILE)
        return self._erased.of(version, lambda: erased_list(self.work)) if version else Erased(b"")

    def _edition(self, spot: Spot) -> Edition:
        def make() -> Edition:
            made = edition_of(self.work, spot.scores_run)
            return Edition(**{**vars(made), "run": spot.run, "pages": None})

        return self._editions.of((spot.run, self.folder.version(f"runs/{spot.scores_run}.json")), make)

    def model(self, spot: Spot) -> str:
        """Return the digest of the model whose score a record has."""
        return str(self._edition(spot).model["digest"])

    def nights(self) -> list[dict[str, Any]]:
        """Return what is told of each run, the newest first: ``MOST_RUNS`` at most, and of all the reports' folders."""
        names = [name.removesuffix(".json") for name in self.folder.children("runs") if name.endswith(".json")]
        with ThreadPoolExecutor(8) as pool:
            stated = list(pool.map(self._stated, names))
        order = sorted(zip(names, stated, strict=True), key=lambda one: (one[1].get("created", ""), one[0]), reverse=True)[
            :MOST_RUNS
        ]
        there = set(self.runs())
        told = []
        for name, document in order:
            shown = next((one for one in (name, f"{name}{PSEUDONYMOUS}") if one in there), "")
            told.append({"run": name, "shown": shown, "created": document.get("created", ""), **self._cohort(shown)})
        return told

    def _stated(self, run: str) -> dict[str, Any]:
        try:
            return self._nights.of(("run", run, self.folder.version(f"runs/{run}.json")), lambda: read_run(self.work, run))
        except StoreError:
            return {}

    def _cohort(self, run: str) -> dict[str, Any]:
        """Return what a run's cohort report says in numbers; empty where it has none."""
        key = f"reports/{run}/cohort.json"
        version = self.folder.version(key) if run else ""
        return self._nights.of(("cohort", run, version), lambda: _summary(json.loads(self.folder.read(key)))) if version else {}


def _summary(cohort: dict[str, Any]) -> dict[str, Any]:
    since, drift = cohort.get("since_last_run") or {}, cohort.get("drift", {}).get("last_run", {}).get("variables") or {}
    return {
        "archive": cohort["archive"],
        "is_synthetic": cohort["is_synthetic"],
        "model": cohort["model"]["name"],
        "n_records": cohort["n_records"],
        "n_new": since.get("n_new", cohort["n_records"]),
        "n_changed": since.get("n_changed", 0),
        "n_called": cohort["decisions"].get("mi_indicated", 0),
        "n_indeterminate": cohort["decisions"].get("indeterminate", 0),
        "n_set_aside": sum(cohort["n_set_aside"].values()),
        "shifts": [name for name, row in drift.items() if row["verdict"] == "large shift"],
        "n_compared": len(drift),
    }
