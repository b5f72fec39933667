"""What the electrocardiograph itself said of a record, beside what is measured here: in the record's JSON, page and tables.

None of it has a part in the probability, the decision or the label.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ecgbatch.formats.cart import NUMBERS, PHRASE, of_text
from ecgbatch.measurements.quantities import QUANTITIES

_TITLES = {"atrial_rate_bpm": "Atrial rate", "qtc_ms": "QTc, formula not named", "statement": "a statement"}
_SHORT = re.compile(r"\b(?:ecg|ekg|lvh|qt|st|st-t|av|a-v|qrs|pr|mi|i{1,3}|[prt](?= wave|-wave| axis)|rsr'|qr|v1)\b")
"""What is written in capitals in a sentence of a cart's library."""
_UNITS = {"min-1": "/min", "degree": "°"}


class CartRow(NamedTuple):
    """A line of the page's table; ``difference`` is the cart's less ours, None where one of them is not known."""

    title: str
    unit: str
    value: float
    ours: float | None
    difference: float | None


def cart_document(text: str) -> dict[str, Any] | None:
    """Return ``cart`` of a record's JSON, by what a signals store has of it; None where the file stated nothing."""
    cart = of_text(text)
    if cart is None:
        return None
    return {
        "numbers": {name: {"value": value, "ours": None, "difference": None} for name, value in cart.numbers.items()},
        "statements": [statement._asdict() for statement in cart.statements],
        "left_out": list(cart.left_out),
    }


def compared(cart: Mapping[str, Any] | None, measurements: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return ``cart`` with what is measured here (``measurements`` of the JSON) beside each number, and the cart's less ours."""
    if cart is None:
        return None
    numbers = {}
    for name, found in cart["numbers"].items():
        ours = measurements[name]["value"] if name in QUANTITIES else None
        numbers[name] = {"value": found["value"], "ours": ours, "difference": _difference(name, found["value"], ours)}
    return {**cart, "numbers": numbers}


def _difference(name: str, cart: float, ours: float | None) -> float | None:
    if ours is None:
        return None
    apart = cart - ours
    return round(180 - (180 - apart) % 360 if NUMBERS[name].unit == "degree" else apart, 3)


def cart_words(cart: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return what a page shows of ``cart``: ``rows`` (``CartRow``), ``statements`` as pairs of words and code, ``left_out``."""
    if cart is None:
        return None
    rows = []
    for name, found in cart["numbers"].items():
        unit = NUMBERS[name].unit
        rows.append(CartRow(_title(name), _UNITS.get(unit, unit), found["value"], found["ours"], found["difference"]))
    return {
        "rows": rows,
        "statements": [_in_words(one) for one in cart["statements"]],
        "left_out": [_title(name) for name in cart["left_out"]],
    }


def cart_line(cart: Mapping[str, Any] | None, most: int = 300) -> str:
    """Return ``cart`` in one line of at most about ``most`` characters, numbers first; empty where there is none."""
    said = cart_words(cart)
    parts = [f"{row.title} {row.value:.0f} {row.unit}" for row in said["rows"]] if said else []
    parts += [words for words, _ in said["statements"]] if said else []
    if not parts:
        return ""
    kept = [part for place, part in enumerate(parts) if len("; ".join(parts[: place + 1])) <= most]
    more = f"; {len(parts) - len(kept)} more on the HTML page" if len(kept) < len(parts) else ""
    return f"The cart's own, no part of the score: {'; '.join(kept)}{more}."


def _in_words(statement: Mapping[str, str]) -> tuple[str, str]:
    """Return what a statement says, as far as it is known, and its code."""
    code, system = statement["code"], statement["system"]
    words = _SHORT.sub(lambda found: found[0].upper(), statement["words"])
    if not words:
        return f"Code {code}", system
    return f"{words[:1].upper()}{words[1:]}", "" if system == PHRASE else f"{code}, {system}"


def _title(name: str) -> str:
    return QUANTITIES[name].title if name in QUANTITIES else _TITLES.get(name, name)


def cart_facts(report: Mapping[str, Any]) -> dict[str, str]:
    """Return columns of the tables: ``cart_numbers`` as name:value, ``cart_statements`` as their codes, semicolons between."""
    cart = report.get("cart") or {"numbers": {}, "statements": []}
    return {
        "cart_numbers": ";".join(f"{name}:{found['value']:g}" for name, found in cart["numbers"].items()),
        "cart_statements": ";".join(one["code"].replace(";", ",") for one in cart["statements"]),
    }
