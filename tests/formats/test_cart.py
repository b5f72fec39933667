"""The cart's own numbers and statements: what each format states, what is odd left out and named, free text kept apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from ecgbatch.archive.listing import list_archive
from ecgbatch.formats.cart import NUMBERS, Cart, Statement, Told, as_text, of_text, told_by
from ecgbatch.formats.cart_phrases import known_phrase
from ecgbatch.formats.inspection import inspect_record
from ecgbatch.formats.scp_cart import tell
from tests.formats import dicom_files
from tests.formats.cart_files import NUMBERS_OF_MUSE, annotation, scp_parts, sections_of, with_cart
from tests.formats.device_files import TWELVE, aecg, ecg, muse, sierra
from tests.formats.scp_files import assembled, scp


def cart_of(folder: Path, name: str, content: bytes) -> Cart:
    (folder / name).write_bytes(content)
    inspection = inspect_record(folder, name)
    assert (inspection.status, inspection.reason) == (0, "")
    assert inspection.header is not None
    assert ("CART_LEFT_OUT" in inspection.warnings) == bool(inspection.header.cart.left_out)
    return inspection.header.cart


def test_muse_gives_the_original_numbers_and_the_statements_of_the_library(tmp_path: Path) -> None:
    said = "".join(
        f"<DiagnosisStatement>{flag}<StmtText>{text}</StmtText></DiagnosisStatement>"
        for flag, text in (
            ("", "Normal sinus rhythm"),
            ("<StmtFlag>ENDSLINE</StmtFlag>", "with marked sinus arrhythmia"),
            ("<StmtFlag>ENDSLINE</StmtFlag>", "Cannot rule out Anterior infarct , age undetermined"),
            ("<StmtFlag>ENDSLINE</StmtFlag>", "Statement Text(1684)"),
            ("<StmtFlag>USERINSERT</StmtFlag><StmtFlag>ENDSLINE</StmtFlag>", "Normal ECG"),
            ("<StmtFlag>ENDSLINE</StmtFlag>", "Seen by Dr Zaphod"),
        )
    )
    edited = "<RestingECGMeasurements><PRInterval>190</PRInterval></RestingECGMeasurements>"
    told = f"{edited}<OriginalRestingECGMeasurements>{NUMBERS_OF_MUSE}</OriginalRestingECGMeasurements>"
    told += f"<OriginalDiagnosis>{said}</OriginalDiagnosis>"
    cart = cart_of(tmp_path, "m.xml", with_cart(muse(ecg()), told))
    assert cart.numbers == {
        **{"heart_rate_bpm": 69, "pr_ms": 180, "qrs_ms": 56, "qt_ms": 388, "qtc_ms": 416, "qtc_fridericia_ms": 406},
        **{"axis_p_deg": 76, "axis_qrs_deg": -64, "axis_t_deg": -90},
    }
    assert [one.code for one in cart.statements] == [
        "normal sinus rhythm with marked sinus arrhythmia",
        "cannot rule out anterior infarct, age undetermined",
        "1684",
    ]
    assert cart.statements[2] == Statement("1684", "GE 12SL")
    assert cart.text == ("Normal ECG", "Seen by Dr Zaphod")  # what a person inserted is not the cart's, whatever it says
    assert cart.left_out == ()


@pytest.mark.parametrize("version", ["1.03", "1.04"])
def test_sierra_gives_codes_with_their_words_and_nothing_that_was_edited(tmp_path: Path, version: str) -> None:
    measured = {"1.03": "interpretationmeasurements", "1.04": "globalmeasurements"}[version]
    told = f"""<internalmeasurements><crossleadmeasurements><meanqtint>352</meanqtint><meanprint>144</meanprint>
<tfrontaxis>Failed</tfrontaxis></crossleadmeasurements></internalmeasurements>
<interpretations><interpretation><{measured}><heartrate>84</heartrate><print editedflag="True">199</print>
<qtcb>417</qtcb><qrsfrontaxis>Indeterminate</qrsfrontaxis></{measured}><severity code="AB">- ABNORMAL ECG -</severity>
<statement><statementcode>SR</statementcode><leftstatement>SINUS RHYTHM</leftstatement>
<rightstatement>normal P axis</rightstatement></statement>
<statement><statementcode>LVHCNP</statementcode><leftstatement>PROBABLE LEFT VENTRICULAR HYPERTROPHY</leftstatement>
</statement><statement editedflag="True"><statementcode>AMI</statementcode><leftstatement>ANTERIOR INFARCT</leftstatement>
</statement></interpretation></interpretations>"""
    encoding = {"1.03": "utf-8", "1.04": "utf-16"}[version]
    content = with_cart(sierra(ecg(TWELVE), version=version), told, "<waveforms>", encoding)
    cart = cart_of(tmp_path, "s.xml", content)
    assert cart.numbers == {"heart_rate_bpm": 84, "pr_ms": 144, "qt_ms": 352, "qtc_bazett_ms": 417}
    assert cart.statements == (
        Statement("AB", "Philips severity", "abnormal ecg"),
        Statement("SR", "Philips", "sinus rhythm"),
        Statement("LVHCNP", "Philips", "probable left ventricular hypertrophy"),
    )
    assert cart.text == ("normal P axis", "ANTERIOR INFARCT")


def test_aecg_gives_a_devices_annotations_of_all_leads_and_no_persons(tmp_path: Path) -> None:
    place = '<component><boundary><code code="MDC_ECG_LEAD_II"/></boundary></component>'
    lead = f"<support><supportingROI>{place}</supportingROI></support>"
    mdc = 'codeSystem="2.16.840.1.113883.6.24"'
    beats = [
        annotation("MDC_ECG_BEAT", "", annotation("MDC_ECG_TIME_PD_QT", f'value="{qt}" unit="ms"') + annotation(
            "MDC_ECG_TIME_PD_P", 'value="0.102" unit="s"')) for qt in (400, 420)
    ]  # fmt: skip
    device = "".join(
        (
            annotation("MDC_ECG_RHY", f'code="MDC_ECG_RHY_SINUS_RHY" {mdc} displayName="Sinus Rhythm"'),
            annotation("MDC_ECG_TIME_PD_PR", 'value="999" unit="ms"', lead),
            annotation("MDC_ECG_TIME_PD_PR", 'value="148" unit="ms"'),
            annotation("MDC_ECG_TIME_PD_QTc", 'value="0" unit="ms"'),
            annotation("MDC_ECG_ANGLE_QRS_FRONT", 'value="-61" unit="ms"'),
            *beats,
            '<component><annotation><code code="MDC_ECG_INTERPRETATION"/><component><annotation>'
            '<code code="MDC_ECG_INTERPRETATION_STATEMENT"/><value>Rythme sinusal de M. Zaphod</value>'
            "</annotation></component></annotation></component>",
        )
    )
    person = annotation("MDC_ECG_TIME_PD_QRS", 'value="120" unit="ms"')
    author = "<author><assignedEntity><assignedAuthorType><assignedPerson/></assignedAuthorType></assignedEntity></author>"
    sets = f"<annotationSet>{device}</annotationSet>", f"<annotationSet>{author}{person}</annotationSet>"
    told = "".join(f"<subjectOf>{one}</subjectOf>" for one in sets)
    cart = cart_of(tmp_path, "a.xml", with_cart(aecg(ecg()), told, "</series>", "utf-8"))
    assert cart.numbers == {"p_ms": 102, "pr_ms": 148}  # of QT the beats disagree; of the axis the unit is none of an angle
    assert cart.left_out == ("axis_qrs_deg",)
    assert cart.statements == (Statement("MDC_ECG_RHY_SINUS_RHY", "MDC", "sinus rhythm"),)
    assert cart.text == ("Rythme sinusal de M. Zaphod",)


def test_scp_gives_section_7_as_numbers_11_as_codes_and_8_as_words(tmp_path: Path) -> None:
    whole = scp(ecg())
    parts = sections_of(whole) | scp_parts()
    cart = cart_of(tmp_path, "r.scp", assembled(parts))
    assert cart.numbers == {
        **{"heart_rate_bpm": 69, "rr_ms": 870, "p_ms": 102, "pr_ms": 148, "qrs_ms": 120, "qt_ms": 420, "qtc_bazett_ms": 443},
        **{"axis_p_deg": 44, "axis_qrs_deg": -61},
    }
    assert [one.code for one in cart.statements] == ["sinus rhythm", "NORM", "PVC2"]
    assert cart.text == ("of Zaphod",)
    odd = cart_of(tmp_path, "o.scp", assembled(sections_of(whole) | scp_parts(rate=4000, formula=0, state=1)))
    assert odd.left_out == ("heart_rate_bpm",)
    assert (odd.numbers["qtc_ms"], odd.statements) == (443, ())  # confirmed by a person: no statement is the cart's alone
    assert odd.text == ("Sinus rhythm", "of Zaphod", "NORM", "PVC2")


@pytest.mark.parametrize("number", [7, 8, 11])
def test_scp_sections_that_are_cut_or_altered_cost_nothing_but_themselves(tmp_path: Path, number: int) -> None:
    whole = sections_of(scp(ecg()))
    section = scp_parts()[number]
    for length in range(len(section)):
        told = told_by(lambda told, n=length: tell({number: section[:n]}, told))  # type: ignore[misc]
        assert not {"section 1", "unreadable"} & set(told.left_out)
    cut = cart_of(tmp_path, "c.scp", assembled(whole | {number: section[:4]}))
    assert cut.numbers.keys() <= {"rr_ms"}
    assert cut.left_out == (f"section {number}",)


def test_dicom_annotations_of_the_whole_recording_are_the_devices(tmp_path: Path) -> None:
    dataset = dicom_files.ecg(dicom_files.group(("I", "II", "V1"), dicom_files.waves(3, 2500)))
    dataset.WaveformAnnotationSequence = Items(
        [
            numeric("5.13.5-7", "161", "ms"),
            numeric("5.10.3-13", "52", "deg"),
            numeric("8634-8", "0.368", "s", system="LN"),
            numeric("5.13.5-9", "75", "mm"),
            numeric("5.10.2.5-5", "370", "ms", TemporalRangeType="POINT"),
            concept(ConceptCodeSequence=Items([code("D3-31120", "SRT", "Sinus rhythm")])),
            concept(UnformattedTextValue="Referred by Zaphod"),
        ]
    )
    cart = cart_of(tmp_path, "d.dcm", dicom_files.encoded(dataset))
    assert cart.numbers == {"pr_ms": 161, "qt_ms": 368, "axis_qrs_deg": 52}
    assert cart.left_out == ("qrs_ms",)
    assert cart.statements == (Statement("D3-31120", "SNOMED RT", "sinus rhythm"),)
    assert cart.text == ("Referred by Zaphod",)


def code(value: str, system: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, system, meaning
    return item


def concept(**fields: Any) -> Dataset:
    item = Dataset()
    item.ReferencedWaveformChannels = [1, 0]
    for keyword, value in fields.items():
        setattr(item, keyword, value)
    return item


def numeric(name: str, value: str, unit: str, *, system: str = "SCPECG", **fields: Any) -> Dataset:
    units, names = Items([code(unit, "UCUM", unit)]), Items([code(name, system, name)])
    return concept(ConceptNameCodeSequence=names, MeasurementUnitsCodeSequence=units, NumericValue=value, **fields)


@pytest.mark.parametrize(
    ("name", "text", "unit", "value"),
    [
        ("pr_ms", "148", None, 148.0),
        ("pr_ms", " 148.5 ", "ms", 148.5),
        ("pr_ms", "0.148", "s", 148.0),
        ("heart_rate_bpm", "69", "/min", 69.0),
        ("axis_qrs_deg", "-180", None, 180.0),
        ("axis_qrs_deg", "270", "deg", -90.0),
        ("axis_qrs_deg", "0", "deg", 0.0),
    ],
)
def test_numbers_are_kept_in_the_units_of_their_names(name: str, text: str, unit: str | None, value: float) -> None:
    told = Told()
    told.number(name, text, unit)
    assert told.cart() == Cart({name: value})


@pytest.mark.parametrize("text", ["", " ", "0", "0.0", "-", "NA", "Indeterminate"])
def test_numbers_that_are_not_stated_are_nothing_odd(text: str) -> None:
    told = Told()
    told.number("pr_ms", text)
    assert told.cart() == Cart()


@pytest.mark.parametrize(
    ("text", "unit"),
    [("Zaphod", None), ("148 ms", None), ("1e9", None), ("99999", None), ("-148", None), ("148", "mV"), ("٣", None)],
)
def test_numbers_that_cannot_be_are_left_out_by_name(text: str, unit: str | None) -> None:
    told = Told()
    told.number("pr_ms", text, unit)
    assert told.cart() == Cart(left_out=("pr_ms",))


def test_a_right_number_after_an_odd_one_stands() -> None:
    told = Told()
    for text in ("Zaphod", "148", "150"):
        told.number("pr_ms", text)
    assert told.cart() == Cart({"pr_ms": 148.0})


@pytest.mark.parametrize("text", ["Zaphod Canary", "smith", "A" * 13, "SR; DROP", "x" * 1000])
def test_codes_that_are_none_are_free_text_or_nothing(text: str) -> None:
    told = Told()
    told.statement(text, "Philips", "of Dr Zaphod")
    assert told.cart() == Cart({}, (), ("of Dr Zaphod",), ("statement",))
    assert "Zaphod" not in as_text(told.cart()) + repr(told.cart())


@pytest.mark.parametrize(
    "text",
    [
        "*** ACUTE MI ***",
        "- NORMAL ECG -",
        "Possible Left atrial enlargement",
        "Left bundle branch block",
        "T wave inversion in lateral leads",
    ],
)
def test_sentences_of_the_libraries_are_known_however_they_are_written(text: str) -> None:
    assert known_phrase(text) == known_phrase(text.upper()) == " ".join(text.lower().strip("*- ").split())


@pytest.mark.parametrize(
    "text", ["Sinus rhythm, Mr Smith", "Normal", "ECG of Smith normal", "Anterior infarct seen by Jones", "", "a" * 5000]
)
def test_sentences_with_another_word_in_them_are_free_text(text: str) -> None:
    assert known_phrase(text) == ""


@given(st.dictionaries(st.sampled_from(sorted(NUMBERS)), st.text(max_size=12)), st.lists(st.text(max_size=40), max_size=5))
def test_whatever_is_told_comes_back_from_a_store_and_free_text_never_does(numbers: dict[str, str], texts: list[str]) -> None:
    told = Told()
    for name, text in numbers.items():
        told.number(name, text)
    for text in texts:
        told.statement(text, "any", text)
        told.words(text)
    cart, kept = told.cart(), of_text(as_text(told.cart()))
    assert (kept or Cart()) == Cart(cart.numbers, cart.statements, (), cart.left_out)
    assert all(NUMBERS[name].low <= value <= NUMBERS[name].high for name, value in cart.numbers.items())


def test_a_reader_that_breaks_costs_what_it_had_not_told() -> None:
    def read(told: Told) -> None:
        told.number("pr_ms", "148")
        raise ZeroDivisionError

    assert told_by(read) == Cart({"pr_ms": 148.0}, left_out=("unreadable",))
    with pytest.raises(MemoryError):
        told_by(lambda _: (_ for _ in ()).throw(MemoryError()))


def test_real_files_give_what_is_printed_in_them(test_data: Path) -> None:
    listing = list_archive(test_data / "formats")
    said = dict(zip(listing["record_name"].values.tolist(), map(of_text, listing["cart"].values.tolist()), strict=True))
    carts = {name.rpartition("/")[2]: cart for name, cart in said.items() if cart is not None}
    assert carts["MUSE_20080710_165457_96000.xml"].numbers["pr_ms"] == 180
    assert [one.code for one in carts["MUSE_20080710_165457_96000.xml"].statements] == ["22", "1684"]
    assert carts["Example.scp"].numbers == carts["subject1_0.xml"].numbers  # the same ECG, exported twice
    assert carts["3191723_ZZDEMOPTONLY_1-04_orig.xml"].numbers["qtc_bazett_ms"] == 417
    assert carts["129DYPRG.XML"].numbers["heart_rate_bpm"] == 41
    assert carts["anonymous_ecg.dcm"].numbers["qt_ms"] == 368
    assert carts["Example.dcm"].left_out == ("axis_p_deg", "axis_qrs_deg", "axis_t_deg")  # axes in milliseconds
    assert np.count_nonzero(listing["cart"].values != "") == len(carts) == 8
