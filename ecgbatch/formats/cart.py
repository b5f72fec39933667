"""What an electrocardiograph itself said of its ECG: numbers and coded statements, kept beside ours; and free text, kept apart.

Nothing of it is ever used to score or label a record. Odd values are left out and named; no file is refused for them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from ecgbatch.formats.cart_phrases import known_phrase
from ecgbatch.formats.leads import CONTROL
from storage import NOT_OF_A_ROW


class Number(NamedTuple):
    """One of the numbers that carts state: its unit, and the values that a person's heart can have."""

    unit: str
    low: float
    high: float


NUMBERS: Mapping[str, Number] = MappingProxyType(
    {
        "heart_rate_bpm": Number("min-1", 10, 400),
        "atrial_rate_bpm": Number("min-1", 10, 700),
        "rr_ms": Number("ms", 100, 6000),
        "p_ms": Number("ms", 10, 400),
        "pr_ms": Number("ms", 20, 1000),
        "qrs_ms": Number("ms", 20, 400),
        "qt_ms": Number("ms", 100, 1000),
        "qtc_ms": Number("ms", 100, 1000),
        "qtc_fridericia_ms": Number("ms", 100, 1000),
        "qtc_bazett_ms": Number("ms", 100, 1000),
        "axis_p_deg": Number("degree", -360, 360),
        "axis_qrs_deg": Number("degree", -360, 360),
        "axis_t_deg": Number("degree", -360, 360),
    }
)
"""Names are those of ``measurements.QUANTITIES`` where both measure the same; the formula of ``qtc_ms`` is not named in the file.
Limits tell a number of that kind from another field's or a fault, not health from disease."""

_IN_UNIT = MappingProxyType(
    {"ms": ("ms", 1.0), "s": ("ms", 1000.0), "us": ("ms", 1e-3), "msec": ("ms", 1.0)}
    | dict.fromkeys(("bpm", "/min", "1/min", "min-1", "{beats}/min", "{h.b.}/min", "bpm."), ("min-1", 1.0))
    | dict.fromkeys(("deg", "degree", "degrees", "°"), ("degree", 1.0))
)
_NUMBER = re.compile(r"[-+]?\d{1,6}(?:\.\d{1,6})?", re.ASCII)
_NOT_STATED = frozenset({"", "-", "--", "---", "*", "na", "n/a", "none", "null", "nan", "indeterminate", "invalid", "unknown"})
_CODE = re.compile(r"[A-Z0-9][A-Z0-9_.+-]{0,11}|MDC_ECG_[A-Z0-9_]{1,60}|\d{1,18}", re.ASCII)
"""Short, of capitals and digits: whatever a person writes into such a field is not."""
PHRASE = "phrase"
"""System of a statement whose code is the very sentence of a cart's library (``cart_phrases``)."""
MOST_STATEMENTS, MOST_TEXT = 64, 500
"""Of a file: a cart prints a dozen. Characters of a line of free text."""


class Statement(NamedTuple):
    """A coded statement: ``code`` in ``system``, and what it says where the file told it in words of the carts' libraries."""

    code: str
    system: str
    words: str = ""


@dataclass(frozen=True)
class Cart:
    """What the electrocardiograph said; ``text`` may hold anything, names too, and goes nowhere but with ``--keep-comments``."""

    numbers: Mapping[str, float] = field(default_factory=dict)
    """By the names of ``NUMBERS``, in their units; axes from -179 to 180."""
    statements: tuple[Statement, ...] = ()
    text: tuple[str, ...] = field(default=(), repr=False)
    left_out: tuple[str, ...] = ()
    """Names of numbers, and kinds of statements, that a file states and that cannot be."""


NOTHING = Cart()
LEFT_OUT_WARNING = "CART_LEFT_OUT"


class Told:
    """Gathers what a reader finds of the cart's, whatever it is: each call keeps it, or names it among what is left out."""

    def __init__(self) -> None:
        self._numbers: dict[str, float] = {}
        self._statements: dict[tuple[str, str], Statement] = {}
        self._text: dict[str, None] = {}
        self._left_out: dict[str, None] = {}

    def number(self, name: str, text: str, unit: str | None = None) -> None:
        """Keep a number, the first of its name; ``unit`` as the file states it, None where its format fixes that of ``NUMBERS``.

        Nothing, a mark of "not measured", and 0 of what cannot be 0 are no numbers, and nothing odd.
        """
        plain, of = text.strip(), NUMBERS[name]
        is_zero = of.low > 0 and plain.strip("0.") == ""
        if name in self._numbers or plain.lower() in _NOT_STATED or is_zero:
            return
        known, scale = (of.unit, 1.0) if unit is None else _IN_UNIT.get(unit.strip().lower(), ("", 1.0))
        value = float(plain) * scale if known == of.unit and _NUMBER.fullmatch(plain) else float("nan")
        if not of.low <= value <= of.high:
            self.leave_out(name)
            return
        self._numbers[name] = round(180 - (180 - value) % 360 if of.unit == "degree" else value, 3)

    def statement(self, code: str, system: str, words: str = "") -> None:
        """Keep a coded statement; words of its own are kept where a library has them, else as free text."""
        plain = code.strip()
        if not plain:
            self.words(words)
            return
        known = known_phrase(words)
        if not _CODE.fullmatch(plain) or len(self._statements) >= MOST_STATEMENTS:
            self.leave_out("statement")
            self.words(words)
            return
        self._statements.setdefault((system, plain), Statement(plain, system, known))
        if words.strip() and not known:
            self.free(words)

    def words(self, text: str) -> None:
        """Keep a statement in words: as a code where a cart's library has the very sentence, else as free text."""
        known = known_phrase(text)
        if known and len(self._statements) < MOST_STATEMENTS:
            self._statements.setdefault((PHRASE, known), Statement(known, PHRASE, known))
        else:
            self.free(text)

    def free(self, text: str) -> None:
        """Keep free text."""
        plain = " ".join(CONTROL.sub(" ", text).split())[:MOST_TEXT]
        if plain and len(self._text) < MOST_STATEMENTS:
            self._text[plain] = None

    def leave_out(self, name: str) -> None:
        """Name something that the file states and that is not kept."""
        self._left_out[name] = None

    def cart(self) -> Cart:
        """Return what was kept, numbers in the order of ``NUMBERS``."""
        numbers = {name: self._numbers[name] for name in NUMBERS if name in self._numbers}
        left_out = tuple(name for name in self._left_out if name not in numbers)
        return Cart(numbers, tuple(self._statements.values()), tuple(self._text), left_out)


def told_by(read: Callable[[Told], None]) -> Cart:
    """Return what a reader tells of the cart's; where a file's content breaks it, what it had told until then."""
    told = Told()
    try:
        read(told)
    except NOT_OF_A_ROW:
        raise
    except Exception:  # beside the ECG: a reader's fault here must not cost the record
        told.leave_out("unreadable")
    return told.cart()


def warnings_of(cart: Cart) -> set[str]:
    """Return the codes of ``header.WARNINGS`` that a cart's statements give."""
    return {LEFT_OUT_WARNING} if cart.left_out else set()


def free_text(cart: Cart) -> list[str]:
    """Return the free text, each line marked as the cart's: for those who asked for comments, and nobody else."""
    return [f"The cart's: {line}" for line in cart.text]


def as_text(cart: Cart) -> str:
    """Return a cart's numbers and coded statements as a store keeps them: JSON, empty where there are none; never free text."""
    if not (cart.numbers or cart.statements or cart.left_out):
        return ""
    said: dict[str, Any] = {
        "numbers": dict(cart.numbers),
        "statements": [statement._asdict() for statement in cart.statements],
        "left_out": list(cart.left_out),
    }
    return json.dumps(said, ensure_ascii=True, separators=(",", ":"))


def of_text(text: str) -> Cart | None:
    """Return what ``as_text`` wrote; None where it is empty."""
    if not text:
        return None
    said = json.loads(text)
    return Cart(said["numbers"], tuple(Statement(**one) for one in said["statements"]), (), tuple(said["left_out"]))
