"""Which lead a signal is, whatever its recorder calls it; whether it is an ECG at all; which of several rates a record has."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from types import MappingProxyType

from ecgbatch.terms import LEADS

CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
"""Control characters, line separators, and what turns or hides other characters: ``II`` must not look like another lead."""

_WORDS = (
    *("ecg", "ekg", "lead", "leads", "mdc_ecg_lead", "mdc_ecg"),  # EDF+ (2003), table of standard texts; ISO/IEEE 11073-10101
    *(
        "abl",
        "ableitung",
        "brustwand",
        "brustwandableitung",
        "extremitätenableitung",
        "goldberger",
        "wilson",
        "einthoven",
    ),  # German
    *("afl", "afleiding", "avl.", "avledning", "afledning", "kytkentä", "elvezetés"),  # Dutch, Scandinavian, Finnish, Hungarian
    *(
        "deriv",
        "derivation",
        "dérivation",
        "derivacion",
        "derivación",
        "derivação",
        "derivazione",
        "derivasyon",
        "der",
        "dér",
    ),  # Romance languages
    *("odprowadzenie", "odpr", "svod", "отведение", "отв"),  # Polish, Czech, Russian
    *("第", "导联", "導聯", "導联", "誘導", "标准", "標準", "유도"),  # Chinese, Japanese, Korean: before the lead or after it
)
"""What may stand before a lead's name. Sources: the standards named, and recorders' exports in public issue trackers
(sleepecg 122: ``DI``; MIMIC II on PhysioNet: ``II+``; Kardio-Software of German hospitals: ``Abl. I``)."""

_LIMB = MappingProxyType(
    {"i": "I", "ii": "II", "iii": "III", "avr": "aVR", "avl": "aVL", "avf": "aVF"}
    | {"d1": "I", "d2": "II", "d3": "III", "di": "I", "dii": "II", "diii": "III"}  # D of derivación, dérivation
    | {"l1": "I", "l2": "II", "l3": "III", "li": "I", "lii": "II", "liii": "III"}  # L of lead
    | {"la-ra": "I", "ll-ra": "II", "ll-la": "III"}  # Einthoven's definitions: left arm less right arm, and so on
)
_NUMBERED = MappingProxyType({"1": "I", "2": "II", "3": "III"} | {f"c{n}": f"V{n}" for n in range(1, 7)})
"""Only after one of ``_WORDS``: C is a chest electrode of IEC 60601-2-25, but C3 and C4 alone are places of an EEG."""
_FRANK = MappingProxyType({name: f"V{name}" for name in "xyz"})
_BY_NAME = MappingProxyType({lead.lower(): lead for lead in LEADS} | dict(_LIMB))

_ANY_WORD = "|".join(re.escape(word) for word in sorted(_WORDS, key=len, reverse=True))
_BEFORE = re.compile(rf"(?:(?:{_ANY_WORD})(?:[ _]*-(?=[ _])|(?<=\w)-|[ _.:])*)+", re.IGNORECASE)
"""A hyphen after a word joins it to the lead (``EKG-II``); one that stands before the lead alone turns it over (``ECG -aVR``)."""
_UNIT = r"(?:mv|uv|µv|μv)"
_AFTER = re.compile(
    rf"(?:[ _-]*\(?(?:ecg|ekg)\)?|[ _]*[(\[]{_UNIT}[)\]]|(?:, ?|/){_UNIT}|\+|[ _-]+ref|[ _-]*(?:{_ANY_WORD})|[ _.])$",
    re.IGNORECASE,
)
_APART = re.compile(r"^([DLV])[ _-]?0?([1-6]|I{1,3})$", re.IGNORECASE)
_AUGMENTED = re.compile(r"a[ _]?v[ _]?([rlf])", re.IGNORECASE)
_TURNED = re.compile(r"(?:-|\(-\)|minus[ _]?|inv(?:erted)?[ _.]?)[ _]?avr", re.IGNORECASE)
"""aVR turned over, as Cabrera's order has it: another lead than aVR."""
_WRITTEN_AS = str.maketrans({"\u2160": "I", "\u2161": "II", "\u2162": "III", "\u2212": "-", "\u2013": "-"})
"""Roman numerals of one character, as Japanese carts write them; the minus and the dash."""
_AROUND = MappingProxyType({"(": ")", "[": "]", '"': '"', "'": "'"})
_LEAD_WORD = re.compile(r"lead|abl|deriv|afl|avl|odpr|svod|отв|导联|導|誘導|wand", re.IGNORECASE)
_FRANK_WORD = re.compile(r"(?:frank|vcg)[ _-]*([xyz])", re.IGNORECASE)

_OTHER_LEADS = re.compile(
    r"ml ?(?:i|ii|iii|[1-6])|m?cl\d?|mcl ?[1-6]r?|cm ?[1-6]|c[bcms]\d|mv\d|v|v[7-9]|v1[0-2]|v[1-9]r|d[1-4]?|nehb ?[dai]|es|as|ai"
    r"|-avr|(?:ecg|ekg) ?\d*|(?:(?:ecg|ekg)[ _-]?)?ch(?:annel)? ?\d+",
    re.IGNORECASE,
)
"""Leads that are none of ``LEADS`` and yet known: modified and bipolar leads of monitors and Holters (MLII, MCL1, CM5), right and
back chest leads (V3R, V7), Nehb's, EASI's, -aVR of Cabrera's order, and signals that are called ECG and no more."""

_SHORT_LEADS = re.compile(r"ml ?(?:i|ii|iii|[1-6])|mcl ?[1-6]r?|cm ?[1-6]|v[7-9]|v1[0-2]|v[1-9]r|nehb ?[dai]", re.IGNORECASE)
"""Those of them whose names mean the same without the words before them: ``Lead V3R``."""

_PLACE = r"(?:fp[12z]|f[z34578]|c[z34]|p[z34]|o[12z]|t[3-8]|a[12]|m[12])"
_NO_ECG = re.compile(
    "|".join(
        (
            r"resp\w*|airflow|flow.*|nasal.*|snor\w*|thor\w*|chest(?: ?(?:resp|effort|belt|wall).*)?|effort.*|impedance.*",
            r"abd(?:o(?:men|minal)?)?(?: ?(?:resp|effort|belt).*)?|pleth\w*|ppg\w*|spo2.*|sao2.*|o2.*|co2.*|etco2|pulse.*",
            r"a?bp\d*|art\w*|abp.*|cvp\w*|pap\w*|icp\w*|lap|rap|uap|ubp|fap|pawp|p\d|press\w*|nibp.*",  # pressures
            r"eeg.*|eog.*|emg.*|erg.*|mcg.*|meg.*|(?:chin|leg|tib|loc|roc|e[12][ _-]?m[12]).*|fpz|fz|cz|pz|oz",
            rf"{_PLACE}[ _-](?:{_PLACE}|ref)",  # an EEG's bipolar leads
            r"gsr|eda|scr|temp.*|accel\w*|acc[ _-]?[xyz]|gyro.*|position|body.*|light.*|event.*|marker.*|status|trigger.*|stim.*",
            r"hr|heart ?rate|rr|rate|edf annotations|bdf annotations|sound.*|audio.*|mic\w*|pcg|scg|bcg",
        )
    ),
    re.IGNORECASE,
)
"""Signals that recorders store beside the ECG, as EDF+ (standard texts), PhysioNet's databases and polysomnographs name them."""


@lru_cache(maxsize=1024)
def canonical_lead(description: str) -> str:
    """Return the lead's name: one of ``LEADS`` whatever a recorder writes around it or instead of it, others as they are.

    ``MLII`` stays ``MLII``: a modified limb lead is another lead than II, and so are ``V3R`` and ``-aVR``. White space becomes
    ``_``.
    """
    name = CONTROL.sub("", description).strip()
    return _standard(name.translate(_WRITTEN_AS)) or "_".join(name.split())[:64]


def _standard(name: str) -> str:
    """Return the standard lead that a name means, or another that is known by a shorter name; else nothing."""
    bare, rest = _bare(name)
    frank = _FRANK_WORD.fullmatch(bare)
    if _TURNED.fullmatch(rest):
        return "-aVR"
    if found := _BY_NAME.get(bare.lower()) or _by_parts(bare) or (_FRANK[frank[1].lower()] if frank else ""):
        return found
    is_channel = rest.isdigit() and not _LEAD_WORD.search(bare)  # ECG 1 is a recorder's first channel, Lead 1 is lead I
    if rest == bare or is_channel:
        return ""
    if rest.lower() in _FRANK and "mdc_ecg" in bare.lower():
        return _FRANK[rest.lower()]  # ISO/IEEE 11073-10101: MDC_ECG_LEAD_X is Frank's
    found = _BY_NAME.get(rest.lower()) or _by_parts(rest) or _NUMBERED.get(rest.lower(), "")
    return found or (rest if _SHORT_LEADS.fullmatch(rest) else "")


def _bare(name: str) -> tuple[str, str]:
    """Return a name without what stands behind the lead, and that without what stands before it too."""
    bare = name
    while (shorter := _AFTER.sub("", _unwrapped(bare)).strip()) and shorter != bare:
        bare = shorter
    rest = _BEFORE.sub("", bare, count=1) if _BEFORE.match(bare) else bare
    return bare, _unwrapped(rest.strip(" _.:")) or bare


def _unwrapped(name: str) -> str:
    return name[1:-1].strip() if len(name) > 2 and _AROUND.get(name[0]) == name[-1] and not name.startswith("(-)") else name


def _by_parts(name: str) -> str:
    """Return the lead whose name is written with blanks or a nought in it: ``D II``, ``V 3``, ``V01``, ``aV R``."""
    if found := _AUGMENTED.fullmatch(name):
        return f"aV{found[1].upper()}"
    return _BY_NAME.get(_APART.sub(r"\1\2", name).lower(), "")


def by_company(leads: Sequence[str]) -> list[str]:
    """Return names of which ``C1`` to ``C6`` are chest leads where all six are there beside I and II, and no ``V1`` to ``V6``.

    So IEC 60601-2-25 calls them. Alone, and in an EEG, they are places on the head.
    """
    iec, others = {f"C{n}" for n in range(1, 7)}, set(leads)
    is_chest = iec | {"I", "II"} <= others and not others & {f"V{n}" for n in range(1, 7)} and not others & {"Cz", "Fz", "Pz"}
    return [f"V{lead[1]}" if is_chest and lead in iec else lead for lead in leads]


@lru_cache(maxsize=1024)
def is_known(lead: str) -> bool:
    """Return whether a canonical name is one that this room knows, of an ECG or of another signal."""
    name = lead.replace("_", " ")
    return lead in LEADS or bool(_OTHER_LEADS.fullmatch(_untold(name))) or bool(_NO_ECG.fullmatch(name))


@lru_cache(maxsize=1024)
def is_ecg(lead: str, is_volts: bool) -> bool:
    """Return whether a signal of this canonical name is an ECG: by its name, and where that is not known by its unit."""
    name = lead.replace("_", " ")
    if lead in LEADS or _OTHER_LEADS.fullmatch(_untold(name)) or name.lower().startswith(("ecg", "ekg")):
        return True
    return is_volts and not _NO_ECG.fullmatch(name)


def which_are_ecgs(leads: Sequence[str], are_volts: Sequence[bool]) -> list[bool]:
    """Return which of a record's signals are ECGs: those that ``is_ecg`` knows, or, if it knows none, those of unknown names."""
    known = [is_ecg(lead, bool(is_volts)) for lead, is_volts in zip(leads, are_volts, strict=True)]
    return known if any(known) else [is_ecg(lead, True) for lead in leads]


def which_decide_rate(leads: Sequence[str], are_volts: Sequence[bool]) -> list[bool]:
    """Return which signals have a say in a record's rate, and on its beats: ECGs by name, or, if none is, ``which_are_ecgs``.

    An EEG whose leads are called C3 and C4 and have volts must not outvote what is called ECG. What is (``ECG_L``,
    ``EKG1-EKG2``) has a say, though which lead it is, nobody knows.
    """
    named = [is_ecg(lead, False) for lead in leads]
    return named if any(named) else which_are_ecgs(leads, are_volts)


def _untold(name: str) -> str:
    """Return a name without what ``told_apart`` has added."""
    return re.sub(r" #\d+$", "", name)


def told_apart(leads: Sequence[str]) -> list[str]:
    """Return names of which none but standard leads occurs twice: the second ``ECG`` is ``ECG_#2``.

    Two signals that claim to be the same standard lead stay as they are: one of them is another, and which cannot be told.
    """
    seen: dict[str, int] = {}
    apart = []
    for lead in leads:
        seen[lead] = seen.get(lead, 0) + 1
        apart.append(lead if seen[lead] == 1 or lead in LEADS or not lead else f"{lead}_#{seen[lead]}")
    return apart


def samples_a_frame(counts: Sequence[int], is_ecgs: Sequence[bool]) -> int:
    """Return how many samples of a frame (a data record, a second: whatever all signals share) the record has.

    That of most ECG leads, then the higher; signals that are no ECG never decide it, unless there are no others.
    """
    asked = [count for count, is_one in zip(counts, is_ecgs, strict=True) if is_one] or list(counts)
    return max(sorted(set(asked), reverse=True), key=asked.count)
