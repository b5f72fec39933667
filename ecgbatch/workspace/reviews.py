"""What readers have said of records: one small sealed file a verdict, put if absent, never changed; the latest of each counts.

Files lie side by side below ``WORK/reviews``, named by time and chance, so that two readers at once write two files and nothing
is lost, on a disk and in a bucket alike. A verdict is acknowledged when ``storage`` says that it is on the disk. Only an erasure
removes one.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from functools import partial
from threading import Lock

from ecgbatch.terms import DECISION
from storage import PARTIAL, CorruptStore, Folder, StoreError, document_problems, folder_at, sealed, unsealed

REVIEWS = "reviews"
"""Below the workspace."""

OPINIONS: Mapping[str, str] = {
    "agree": "the reader agrees with the decision",
    "disagree": "the reader does not agree",
    "cannot_judge": "the reader cannot judge this recording",
    "undecided": "read blind, and the score made no call to agree with",
}
"""What a verdict says of the decision."""

LABELS = ("mi", "control", "other")
"""Labels that a reader can give."""

LONGEST_NOTE = 4000
"""Characters."""

REMOVED_NOTE = "(this note named somebody who was erased)"

CALLS = frozenset({"mi_indicated", "mi_not_indicated"})
"""Decisions that one can agree with or not."""

_READ_AT_ONCE = 16  # files; in a bucket each takes a while


@dataclass(frozen=True)
class Review:
    """One verdict of one reader on one record.

    Parameters
    ----------
    record_name, patient_id
        As the stores have them, whatever the page showed.
    reader, at
        Who, and when (ISO 8601, UTC).
    run, model, decision
        The run whose score was judged, the digest of its model, and what it decided.
    opinion, label, note
        Of ``OPINIONS``; of ``LABELS`` or empty; free text.
    is_blind
        Whether score and decision were hidden until the verdict.
    key
        Of its file; empty while it has none.

    """

    record_name: str
    patient_id: str
    reader: str
    at: str
    run: str
    model: str
    decision: str
    opinion: str
    label: str
    note: str
    is_blind: bool
    key: str = ""

    @property
    def call(self) -> bool | None:
        """Whether the reader sees an infarction; None where that is not said."""
        if self.opinion == "cannot_judge":
            return None
        if self.label:
            return self.label == "mi"
        if self.decision not in CALLS or self.opinion == "undecided":
            return None
        return (self.decision == "mi_indicated") == (self.opinion == "agree")


def now() -> str:
    """Return the time as a review states it."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def blind_opinion(sees: str, decision: str) -> str:
    """Return what a verdict given blind (``mi``, ``not_mi`` or ``cannot_judge``) says of the decision that was hidden."""
    if sees == "cannot_judge":
        return sees
    if decision not in CALLS:
        return "undecided"
    return "agree" if (sees == "mi") == (decision == "mi_indicated") else "disagree"


def put_review(work: str, review: Review) -> Review:
    """Write a verdict; when this returns it is on the disk, or in the bucket, and nothing else has changed.

    Raises
    ------
    ValueError
        If it says what none can say.
    OSError
        If it cannot be written: then nothing is acknowledged.

    """
    _check(review)
    stamp = "".join(sign for sign in review.at[:26] if sign.isdigit())
    document = {name: value for name, value in asdict(review).items() if name != "key"}
    while True:
        key = f"{REVIEWS}/{stamp}-{secrets.token_hex(8)}.json"
        if folder_at(work).put_if_absent(key, sealed(document)):
            return replace(review, key=key)


def _check(review: Review) -> None:
    wrong = [
        f"{name} {value!r}, expected one of {', '.join(known)}"
        for name, value, known in (
            ("opinion", review.opinion, tuple(OPINIONS)),
            ("label", review.label, ("", *LABELS)),
            ("decision", review.decision, tuple(DECISION)),
        )
        if value not in known
    ]
    wrong += ["no record"] if not review.record_name else []
    wrong += ["no reader"] if not review.reader else []
    wrong += (
        [f"a note of {len(review.note)} characters, at most {LONGEST_NOTE} are kept"] if len(review.note) > LONGEST_NOTE else []
    )
    if wrong:
        raise ValueError(f"a review cannot be kept: {'; '.join(wrong)}")


def read_reviews(work: str) -> list[Review]:
    """Return all verdicts of a workspace, the earliest first.

    Raises
    ------
    CorruptStore
        If one is not what was written.

    """
    kept = Kept(work)
    found = kept.all()
    if kept.damaged:
        told = f"{kept.damaged[0]}: not what was written ({len(kept.damaged)} such reviews)"
        raise CorruptStore(f"{folder_at(work)}/{told}; restore it from a copy; ecgbatch verify names all")
    return found


class Kept:
    """The verdicts of a workspace, each read once: a file never changes. One that an erasure took, or wrote anew, is noticed."""

    def __init__(self, work: str) -> None:
        self.work = work
        self._known: dict[str, Review] = {}
        self._lock = Lock()
        self.version = 0
        """Grows when there are others than before."""
        self.damaged: list[str] = []
        """Keys of files that are not what was written: they count for nothing, and stop nobody's work."""

    def all(self) -> list[Review]:
        """Return all verdicts that are there now, the earliest first."""
        with self._lock:
            folder = folder_at(self.work)
            keys = _keys(folder)
            new = [key for key in keys if key not in self._known and key not in self.damaged]
            if new or len(keys) != len(self._known) + len(self.damaged):
                with ThreadPoolExecutor(_READ_AT_ONCE) as pool:
                    found = dict(zip(new, pool.map(partial(_read_if_whole, folder), new), strict=True))
                self._known = {key: review for key in keys if (review := self._known.get(key) or found.get(key))}
                self.damaged = [key for key in keys if key not in self._known]
                self.version += 1
            return sorted(self._known.values(), key=lambda review: (review.at, review.key))


def _keys(folder: Folder) -> list[str]:
    return [f"{REVIEWS}/{name}" for name in folder.children(REVIEWS) if name.endswith(".json") and PARTIAL not in name]


def _read_if_whole(folder: Folder, key: str) -> Review | None:
    try:
        return _read(folder, key)
    except CorruptStore:
        return None


def _read(folder: Folder, key: str) -> Review | None:
    """Return a verdict; None of a file that an erasure took meanwhile."""
    try:
        document = unsealed(folder.read(key), f"{folder}/{key}")
    except FileNotFoundError:
        return None
    names = {one.name for one in fields(Review)} - {"key"}
    if not names <= document.keys():
        raise CorruptStore(f"{folder}/{key}: expected a review with {', '.join(sorted(names))}; restore it from a copy")
    return Review(**{name: document[name] for name in names}, key=key)


def latest(reviews: Iterable[Review]) -> dict[str, dict[str, Review]]:
    """Return by record and reader the verdict that counts: of each reader the last."""
    found: dict[str, dict[str, Review]] = {}
    for review in sorted(reviews, key=lambda review: (review.at, review.key)):
        found.setdefault(review.record_name, {})[review.reader] = review
    return found


def is_conflict(verdicts: Iterable[Review]) -> bool:
    """Tell whether readers differ on a record: whether there is an infarction, or which label it has."""
    verdicts = list(verdicts)
    calls = {review.call for review in verdicts} - {None}
    labels = {review.label for review in verdicts} - {""}
    return len(calls) > 1 or len(labels) > 1


def agreed_labels(reviews: Iterable[Review]) -> dict[str, tuple[str, str]]:
    """Return by record the patient and the label that its readers agree on; a record without one is left out.

    No infarction is no label: what else there is, or that there is nothing, must have been said.
    """
    found = {}
    for name, verdicts in latest(reviews).items():
        each = list(verdicts.values())
        labels = {review.label or ("mi" if review.call else "") for review in each if review.call is not None} - {""}
        if len(labels) == 1 and not is_conflict(each):
            found[name] = (each[-1].patient_id, labels.pop())
    return found


def review_problems(work: str) -> list[str]:
    """Return what is wrong with the verdicts: each must be, to the byte, what was written."""
    folder, problems = folder_at(work), []
    for key in _keys(folder):
        told = list(document_problems(folder, key))
        try:
            review = None if told else _read(folder, key)
            if review is not None:
                _check(review)
        except (StoreError, ValueError, TypeError) as error:
            told = [f"{folder}/{key}: {error}"]
        problems += told
    return problems


def forget(work: str, patient_id: str, names: Sequence[str], is_named: Callable[[str], bool]) -> int:
    """Remove the verdicts on an erased patient's records, and notes on others that name one of them; return how many.

    A note is taken out of its verdict, which stays under another name: what was said of somebody else is kept.
    """
    folder, n_removed, theirs = folder_at(work), 0, set(names)
    for key in _keys(folder):
        try:
            review = _read(folder, key)
        except (StoreError, OSError):
            if not is_named(folder.read(key).decode("utf-8", "replace")):
                continue
            review = None  # it cannot be read, and names the patient
        if review is not None and review.record_name not in theirs and review.patient_id != patient_id:
            if not is_named(review.note):
                continue
            put_review(work, replace(review, note=REMOVED_NOTE, key=""))
        folder.delete(key)
        n_removed += 1
    return n_removed
