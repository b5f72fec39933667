"""Verdicts are kept one by one: none lost, none changed, the latest of each reader counts, an erasure takes a patient's."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from ecgbatch.workspace.reviews import (
    REMOVED_NOTE,
    Kept,
    Review,
    agreed_labels,
    blind_opinion,
    forget,
    is_conflict,
    latest,
    now,
    put_review,
    read_reviews,
    review_problems,
)
from storage import CorruptStore, folder_at

ONE = Review("p1/r1", "p1", "Ann", "2026-01-01T08:00:00.000000+00:00", "run", "model", "mi_indicated", "agree", "", "", False)


def test_a_verdict_comes_back_as_it_was_given(tmp_path):
    given = replace(ONE, note='"Ünïcode", \n\x00 and \u202e', label="mi", is_blind=True)
    kept = put_review(str(tmp_path), given)
    assert read_reviews(str(tmp_path)) == [kept]
    assert replace(kept, key="") == given
    assert review_problems(str(tmp_path)) == []
    assert "p1" not in kept.key


@pytest.mark.parametrize(
    "wrong",
    [{"opinion": "perhaps"}, {"label": "sick"}, {"decision": "ill"}, {"reader": ""}, {"record_name": ""}, {"note": "x" * 4001}],
)
def test_what_none_can_say_is_refused_and_nothing_is_written(tmp_path, wrong):
    with pytest.raises(ValueError, match="a review cannot be kept"):
        put_review(str(tmp_path), replace(ONE, **wrong))
    assert folder_at(tmp_path).children("reviews") == []


def test_many_readers_at_once_lose_nothing(tmp_path):
    given = [replace(ONE, reader=f"reader {k % 7}", at=now(), note=str(k)) for k in range(60)]
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda one: put_review(str(tmp_path), one), given))
    assert sorted(int(one.note) for one in read_reviews(str(tmp_path))) == list(range(60))


def test_of_each_reader_the_latest_counts_and_readers_who_differ_are_told(tmp_path):
    later = replace(ONE, at="2026-01-02T08:00:00.000000+00:00", opinion="disagree")
    ben = replace(ONE, reader="Ben")
    found = latest([later, ONE, ben])
    assert found == {"p1/r1": {"Ann": later, "Ben": ben}}
    assert is_conflict(found["p1/r1"].values())
    assert not is_conflict([ONE, ben, replace(ONE, reader="Cem", opinion="cannot_judge")])
    assert is_conflict([replace(ONE, label="control", opinion="disagree"), replace(ben, label="other", opinion="disagree")])


def test_a_call_follows_from_label_or_opinion():
    no = replace(ONE, decision="mi_not_indicated")
    assert [ONE.call, replace(ONE, opinion="disagree").call, no.call, replace(no, opinion="disagree").call] == [
        True,
        False,
        False,
        True,
    ]
    assert replace(ONE, decision="indeterminate").call is None
    assert replace(ONE, decision="indeterminate", label="other").call is False
    assert replace(ONE, opinion="cannot_judge", label="mi").call is None
    assert [
        blind_opinion(*said) for said in (("mi", "mi_indicated"), ("mi", "mi_not_indicated"), ("not_mi", "indeterminate"))
    ] == [
        "agree",
        "disagree",
        "undecided",
    ]


def test_labels_are_those_on_which_readers_agree():
    def of(name: str, *said: tuple[str, str]) -> list[Review]:
        return [replace(ONE, record_name=name, reader=str(k), opinion=o, label=label) for k, (o, label) in enumerate(said)]

    given = [
        *of("both", ("agree", "mi"), ("agree", "")),
        *of("differ", ("agree", ""), ("disagree", "control")),
        *of("no more said", ("disagree", "")),
        *of("other", ("disagree", "other"), ("cannot_judge", "")),
        *of("nobody", ("cannot_judge", "")),
    ]
    assert agreed_labels(given) == {"both": ("p1", "mi"), "other": ("p1", "other")}


def test_what_was_read_is_not_read_again_and_what_is_new_or_gone_is_noticed(tmp_path, monkeypatch):
    put_review(str(tmp_path), ONE)
    kept = Kept(str(tmp_path))
    assert len(kept.all()) == 1
    read, asked = type(folder_at(tmp_path)).read, []
    monkeypatch.setattr(type(folder_at(tmp_path)), "read", lambda self, key: asked.append(key) or read(self, key))
    version = kept.version
    assert (len(kept.all()), asked, kept.version) == (1, [], version)
    second = put_review(str(tmp_path), replace(ONE, reader="Ben"))
    assert len(kept.all()) == 2
    assert asked == [second.key]
    folder_at(tmp_path).delete(second.key)
    assert [one.reader for one in kept.all()] == ["Ann"]
    assert kept.version == version + 2


def test_a_file_that_was_altered_counts_for_nothing_and_is_told(tmp_path):
    whole, altered = put_review(str(tmp_path), ONE), put_review(str(tmp_path), replace(ONE, reader="Ben"))
    folder = folder_at(tmp_path)
    folder.put(altered.key, folder.read(altered.key).replace(b'"agree"', b'"disagree"'))
    kept = Kept(str(tmp_path))
    assert kept.all() == [whole]
    assert kept.damaged == [altered.key]
    assert [altered.key in problem for problem in review_problems(str(tmp_path))] == [True]
    with pytest.raises(CorruptStore, match="restore it from a copy"):
        read_reviews(str(tmp_path))


def test_an_erasure_takes_a_patients_verdicts_and_what_notes_of_others_say(tmp_path):
    work = str(tmp_path)
    put_review(work, ONE)
    put_review(work, replace(ONE, record_name="p2/r1", patient_id="p2", note="as p1, see p1/r1", label="mi"))
    other = put_review(work, replace(ONE, record_name="p3/r1", patient_id="p3", note="as p12"))
    names = ("p1", "p1/r1")
    assert forget(work, "p1", ["p1/r1"], lambda text: any(f"{name}," in text or text == name for name in names)) == 2
    left = read_reviews(work)
    assert {one.record_name: one.note for one in left} == {"p2/r1": REMOVED_NOTE, "p3/r1": "as p12"}
    assert other in left
    assert [one.label for one in left if one.record_name == "p2/r1"] == ["mi"]
    assert forget(work, "p1", ["p1/r1"], lambda text: False) == 0
