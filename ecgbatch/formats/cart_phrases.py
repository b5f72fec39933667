"""Sentences of electrocardiographs' own libraries: one of them is as good as a code, any other words are free text."""

from __future__ import annotations

import re
from functools import lru_cache

_HOW_SURE = r"(?:probabl[ey]|possibl[ey]|consider|cannot rule out|suspect|borderline|minimal|moderate|marked|mild|acute)"
_PLACE = (
    r"(?:(?:extensive )?"
    r"(?:septal|anterior|anteroseptal|anterolateral|lateral|high lateral|inferior|inferolateral|posterior|apical)"
    r"(?:(?: and| or| &|,) (?:septal|anterior|lateral|inferior|posterior|apical))?)"
)
_AGE = r"(?:, (?:age undetermined|age indeterminate|old|recent|acute|possibly acute|possibly recent|probably recent))?"
_SINUS = r"(?:normal |marked |mild )?sinus (?:rhythm|bradycardia|tachycardia|arrhythmia)"
_BEATS = (
    r"(?:premature (?:ventricular|atrial|supraventricular|ectopic|junctional)|ventricular premature|atrial premature)"
    r" complex(?:es)?"
)
_BLOCK = r"(?:1st|first|2nd|second|3rd|third) degree (?:av|a-v) block(?:, mobitz (?:i|ii))?"
_CHANGE = r"(?:abnormality|abnormalities|changes?|elevation|depression|inversion)"
_RHYTHM = (
    r"(?:ectopic atrial|low atrial|junctional|accelerated junctional|wandering atrial|idioventricular|undetermined"
    r"|supraventricular|paced|av dual-paced|atrial-paced|ventricular-paced|atrial paced|ventricular paced)"
)

_PHRASES = (
    r"(?:normal|abnormal|borderline|atypical|otherwise normal) e[ck]g",
    r"poor data quality(?:, interpretation may be adversely affected)?|artifact|baseline wander|muscle artifact",
    r"suspect arm lead reversal, interpretation assumes no reversal|no further analysis attempted due to paced rhythm",
    rf"{_SINUS}(?: with (?:(?:marked )?sinus arrhythmia|short pr|{_BLOCK}|(?:occasional |frequent )?{_BEATS}))?",
    rf"{_RHYTHM} rhythm|unusual p axis, possible ectopic atrial rhythm",
    r"atrial (?:fibrillation|flutter|tachycardia)(?: with (?:a )?(?:rapid|slow|controlled) ventricular response)?",
    r"(?:supraventricular|ventricular|wide qrs|narrow qrs) tachycardia",
    r"electronic (?:atrial |ventricular )?pacemaker|pacemaker rhythm",
    rf"(?:with )?(?:occasional |frequent |multiple )?{_BEATS}",
    rf"{_BLOCK}|complete (?:heart|av) block|(?:short|prolonged|long) pr interval",
    r"(?:complete |incomplete )?(?:left|right) bundle[- ]branch block|left (?:anterior|posterior) fascicular block",
    r"(?:bifascicular|trifascicular) block|(?:non-?specific )?intraventricular conduction (?:delay|block|defect)",
    r"rsr' or qr pattern in v1 suggests right ventricular conduction delay",
    r"ventricular pre-?excitation|wolff-parkinson-white(?: pattern| syndrome)?",
    r"(?:normal|indeterminate|left|leftward|right|rightward|northwest|abnormal|superior) axis",
    r"(?:abnormal |extreme )?(?:left|right) axis deviation|low voltage(?: qrs)?|low qrs voltages?",
    r"(?:left|right) (?:ventricular|atrial) (?:hypertrophy|enlargement|abnormality)"
    r"(?: with (?:repolarization abnormality|strain pattern))?",
    r"(?:biventricular|biatrial) (?:hypertrophy|enlargement)|voltage criteria for left ventricular hypertrophy",
    r"voltage criteria for lvh, may be normal variant|early repolarization|poor r[- ]wave progression",
    rf"{_PLACE} (?:myocardial )?(?:infarct|infarction|injury|injury pattern|ischemia|ischaemia|subendocardial injury){_AGE}",
    rf"(?:non-?specific )?(?:st|t|st-t|t wave|t-wave|st and t wave|st & t wave) {_CHANGE}(?: in {_PLACE} leads)?",
    rf"(?:st|t wave) {_CHANGE}, (?:consider|probably|possible) {_PLACE} (?:ischemia|injury)(?: or injury| or acute infarct)?",
    rf"{_PLACE} (?:st|t wave|t) {_CHANGE}(?:, probably due to lvh)?",
    r"(?:borderline )?(?:prolonged|short|long) qt(?: interval)?|pericarditis|acute mi",
)
"""As carts of GE (12SL), Philips (DXL), Mortara (VERITAS) and others print them: no word of them is a name."""

_KNOWN = re.compile("|".join(f"(?:{_HOW_SURE} )?(?:{phrase})" for phrase in _PHRASES))
_AROUND = " \t*-.,;:!()<>"
_LONGEST = 120


@lru_cache(maxsize=4096)
def known_phrase(text: str) -> str:
    """Return a sentence of the carts' libraries in small letters; empty where a text is none of them."""
    plain = " ".join(text.lower().split()).replace(" ,", ",").strip(_AROUND) if len(text) < 2 * _LONGEST else ""
    return plain if len(plain) <= _LONGEST and _KNOWN.fullmatch(plain) else ""
