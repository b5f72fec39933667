"""What each page of the server is made of: the workspace as it is now, the reader who asks, and what the address chooses."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import numpy as np

from ecgbatch.reports.on_demand import Made
from ecgbatch.reports.reviewed import OF_SCORES
from ecgbatch.reports.sources import store_path
from ecgbatch.serving.access import Reader
from ecgbatch.serving.listing import REVIEWED, ROWS, Choice, Listed, Places
from ecgbatch.serving.pages import around, filters, list_rows, rendered, word
from ecgbatch.serving.shelf import NotThere, Shelf, Spot, key_of
from ecgbatch.terms import DECISION
from ecgbatch.workspace.reviews import (
    LABELS,
    LONGEST_NOTE,
    OPINIONS,
    Review,
    blind_opinion,
    is_conflict,
    latest,
    now,
    put_review,
)
from storage import StoreError, read_columns

SEES = {"mi": "infarction", "not_mi": "no infarction", "cannot_judge": "cannot judge"}
"""What a reader says before the score is seen."""


class Refused(Exception):
    """A form that cannot be kept; ``note`` is what was typed, so that it is not lost."""

    def __init__(self, words: str, note: str = "") -> None:
        super().__init__(words)
        self.note = note


@dataclass(frozen=True)
class Site:
    """One workspace for its readers."""

    shelf: Shelf
    read_only: bool = False
    has_sessions: bool = True

    def overview(self, reader: Reader) -> str:
        """Return the page of all runs."""
        verdicts = latest(self.shelf.reviews.all())
        return rendered(
            "overview.html",
            reader,
            nights=self.shelf.nights(),
            latest=self.shelf.latest(),
            n_reviewed=len(verdicts),
            n_mine=sum(reader.name in each for each in verdicts.values()),
            n_conflicts=sum(is_conflict(each.values()) for each in verdicts.values()),
            is_blind=self.shelf.is_blind,
            read_only=self.read_only,
            leave=self.has_sessions,
        )

    def list_page(self, reader: Reader, run: str, asked: Mapping[str, str]) -> str:
        """Return a page of the list of a run's records."""
        listed = self.shelf.listed(run)
        choice = Choice.of(asked, listed.names)
        places = self._places(listed, choice, reader)
        first = _whole(asked.get("from", "")) // ROWS * ROWS
        first = first if first < places.size else 0
        chosen = filters(listed, choice)
        columns = [one for one in listed.shown if one.is_column]
        sorts = [(one.name, one.title, choice.sorted_by(one.name).address(), _falls(choice, one.name)) for one in columns]
        return rendered(
            "list.html",
            reader,
            run=listed.run,
            n_records=listed.n_records,
            n_found=int(places.size),
            first=first,
            rows=list_rows(listed, places, first),
            keys=lambda place: key_of(listed.run, place),
            sorts=sorts,
            numeric=[one.digits is not None or one.then is not None for one in columns],
            choice=choice,
            filters=chosen,
            said=[(one["title"], word(one["name"], one.get("value") or "")) for one in chosen if one["is_set"]],
            reviewed=REVIEWED,
            query=choice.address(),
            earlier=choice.address(**{"from": first - ROWS or None}) if first else None,
            later=choice.address(**{"from": first + ROWS}) if first + ROWS < places.size else None,
            reviews=self._reviewed_here(listed, reader),
            names=[row["cells"][0][0] for row in list_rows(listed, places, first)],
            is_blind=self.shelf.is_blind,
            has_cohort=not self.shelf.is_blind,
        )

    def _places(self, listed: Listed, choice: Choice, reader: Reader) -> Places:
        if not choice.reviewed:
            return listed.places(choice)
        verdicts = latest(self.shelf.reviews.all())
        chosen = {
            "open": [name for name, each in verdicts.items() if reader.name in each],
            "mine": [name for name, each in verdicts.items() if reader.name in each],
            "any": list(verdicts),
            "conflict": [name for name, each in verdicts.items() if is_conflict(each.values())],
        }[choice.reviewed]
        version = (reader.name, self.shelf.reviews.version)
        return listed.places(choice, self._as_shown(listed, chosen), version=version)

    def _as_shown(self, listed: Listed, names: Collection[str]) -> list[str]:
        pseudonyms = self.shelf.pseudonyms(listed.run)
        return [pseudonyms.record(name) for name in names] if pseudonyms else list(names)

    def _reviewed_here(self, listed: Listed, reader: Reader) -> dict[str, str]:
        """Return what is said of each reviewed record in the list, by its name there."""
        verdicts = latest(self.shelf.reviews.all())
        shown = self._as_shown(listed, verdicts)
        said = {}
        for name, each in zip(shown, verdicts.values(), strict=True):
            is_hidden = self.shelf.is_blind and reader.name not in each
            others = len(each) - (reader.name in each)
            words = ["you"] if reader.name in each else []
            words += [f"{others} other{'s' if others > 1 else ''}"] if others else []
            said[name] = " and ".join(words) + (", they differ" if is_conflict(each.values()) and not is_hidden else "")
        return said

    def record_page(self, reader: Reader, key: str, asked: Mapping[str, str]) -> str:
        """Return a record's report, with the way to its neighbours in the list and a form for the verdict."""
        spot, listed = self.shelf.spot(key)
        made = self.shelf.made(spot, listed)
        choice = Choice.of(asked, listed.names)
        verdicts = self._verdicts(made.own["record_name"])
        hidden = self.is_hidden(reader, verdicts, made.report["model"]["digest"])
        above = rendered(
            "bar.html",
            reader,
            key=key,
            run=listed.run,
            query=choice.address(),
            is_kept=asked.get("kept") == "1",
            **self._neighbours(listed, spot, choice, reader),
        )
        below = rendered("review.html", reader, **self._form(reader, key, choice, made, verdicts, hidden=hidden))
        put = around(above, below)
        return made.blind_page(put) if hidden else made.page(put)

    def _neighbours(self, listed: Listed, spot: Spot, choice: Choice, reader: Reader) -> dict[str, Any]:
        places = self._places(listed, choice, reader)
        found = np.flatnonzero(places == spot.place)
        if not found.size:
            # In a list of what is still open, a record that was just reviewed has left: the next one stands where it was.
            return {"at": None, "n_found": int(places.size), "earlier": None, "later": self._first_open(listed, places)}
        at = int(found[0])
        earlier = key_of(listed.run, int(places[at - 1])) if at else None
        later = key_of(listed.run, int(places[at + 1])) if at + 1 < places.size else None
        return {"at": at, "n_found": int(places.size), "earlier": earlier, "later": later}

    @staticmethod
    def _first_open(listed: Listed, places: Places) -> str | None:
        return key_of(listed.run, int(places[0])) if places.size else None

    def _verdicts(self, record_name: str) -> dict[str, Review]:
        return latest(one for one in self.shelf.reviews.all() if one.record_name == record_name).get(record_name, {})

    def is_hidden(self, reader: Reader, verdicts: Mapping[str, Review], model: str) -> bool:
        """Tell whether the score of a record is hidden from a reader: blind, and no verdict on this model's score yet."""
        mine = verdicts.get(reader.name)
        return self.shelf.is_blind and (mine is None or mine.model != model)

    def _form(
        self, reader: Reader, key: str, choice: Choice, made: Made, verdicts: Mapping[str, Review], *, hidden: bool
    ) -> dict[str, Any]:
        shown = [] if hidden else sorted(verdicts.values(), key=lambda one: one.at, reverse=True)
        mine = None if hidden else verdicts.get(reader.name)
        return {
            "key": key,
            "chosen": [(f"list-{name}", value) for name, value in parse_qsl(choice.address())],
            "hidden": hidden,
            "read_only": self.read_only,
            "sees": SEES,
            "opinions": {name: words for name, words in OPINIONS.items() if name != "undecided"},
            "labels": {name: word("label", name) for name in LABELS},
            "verdicts": shown,
            "mine": mine,
            "differ": not hidden and is_conflict(verdicts.values()),
            "decision_words": made.report.get("decision_words", word("decision", made.report["decision"])),
            "longest": LONGEST_NOTE,
        }

    def record_json(self, reader: Reader, key: str) -> dict[str, Any]:
        """Return a record's report as its JSON file has it."""
        spot, listed = self.shelf.spot(key)
        made = self.shelf.made(spot, listed)
        if self.is_hidden(reader, self._verdicts(made.own["record_name"]), made.report["model"]["digest"]):
            raise NotThere("The report of this record is hidden until your verdict.")
        return made.report

    def whose_ecg(self, reader: Reader, key: str) -> tuple[str, int, str, bool]:
        """Return what a viewer of the whole recording needs: run and row of the scores store, name as shown, whether all that
        tells the score is hidden from this reader.
        """
        spot, listed = self.shelf.spot(key)
        own = self._own(spot)
        shown = self._as_shown(listed, [own[0]])[0]
        return spot.scores_run, spot.row, shown, self.is_hidden(reader, self._verdicts(own[0]), self.shelf.model(spot))

    def _own(self, spot: Spot) -> tuple[str, str, str]:
        """Return a record's own name, its patient, and what the score decided."""
        row = read_columns(store_path(self.shelf.folder, "scores", spot.scores_run), np.array([spot.row]), OF_SCORES)
        name, patient = str(row["record_name"].values[0]), str(row["patient_id"].values[0])
        self.shelf.check_not_erased(name)
        return name, patient, next(word for word, value in DECISION.items() if value == int(row["decision"].values[0]))

    def keep(self, reader: Reader, key: str, form: Mapping[str, str]) -> str:
        """Keep a verdict; return the address to go on at. When this returns, the verdict is on the disk.

        Raises
        ------
        Refused
            If nothing was kept: the form says nothing, or the record is not there any more.

        """
        note = form.get("note", "").replace("\r\n", "\n").strip()
        try:
            spot, listed = self.shelf.spot(key)
            review = self._review(reader, spot, form, note)
        except (NotThere, StoreError, FileNotFoundError) as error:
            words = str(error) if isinstance(error, NotThere) else "The stores of this record were replaced meanwhile."
            raise Refused(f"{words} The verdict was not kept.", note) from None
        of_list = {name.removeprefix("list-"): value for name, value in form.items() if name.startswith("list-")}
        choice = Choice.of(of_list, listed.names)
        onward = self._neighbours(listed, spot, choice, reader)["later"] if form.get("go") == "next" else None
        try:
            done = put_review(self.shelf.work, review)
        except ValueError as error:
            raise Refused(str(error), note) from None
        with suppress(NotThere):
            self.shelf.check_not_erased(review.record_name)
            return f"/record/{onward or key}?{choice.address(kept=1)}"
        self.shelf.folder.delete(done.key)  # an erasure began meanwhile, and may have passed by already
        raise Refused("This record is not here any more. The verdict was not kept.")

    def _review(self, reader: Reader, spot: Spot, form: Mapping[str, str], note: str) -> Review:
        """Return what a form says as a verdict on the score of the run that it names."""
        name, patient, decision = self._own(spot)
        model = self.shelf.model(spot)
        hidden = self.is_hidden(reader, self._verdicts(name), model)
        label, sees = form.get("label", ""), form.get("sees", "")
        if hidden and sees not in SEES:
            raise Refused("Say what the ECG shows: infarction, no infarction, or that you cannot judge. Nothing was kept.", note)
        if hidden and ((sees == "mi" and label not in ("", "mi")) or (sees != "mi" and label == "mi")):
            raise Refused("Verdict and label contradict one another. Nothing was kept.", note)
        if not hidden and form.get("opinion", "") not in OPINIONS:
            raise Refused("Say whether you agree, disagree or cannot judge. Nothing was kept.", note)
        opinion = blind_opinion(sees, decision) if hidden else form["opinion"]
        label = "mi" if hidden and sees == "mi" else label
        return Review(name, patient, reader.name, now(), spot.scores_run, model, decision, opinion, label, note, hidden)


def _whole(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 10 else 0


def _falls(choice: Choice, name: str) -> str:
    return {name: "ascending", f"-{name}": "descending"}.get(choice.sort, "")
