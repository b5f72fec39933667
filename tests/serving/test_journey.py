"""A reader's way: runs, list, search, filter, record, verdict, export, training on it; two readers; a patient who is erased."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from pathlib import Path

import pytest

from ecgbatch.archive.watch import LookOptions
from ecgbatch.cli import main
from ecgbatch.reports.writing import report_workspace
from ecgbatch.serving.access import Reader
from ecgbatch.serving.shelf import Shelf
from ecgbatch.serving.site import Site
from ecgbatch.signals.lookup import current_records
from ecgbatch.signals.stage import convert_archive
from ecgbatch.terms import LABEL
from ecgbatch.upkeep.labels_of_reviews import export_labels
from ecgbatch.upkeep.status import status
from ecgbatch.upkeep.verify import verify_workspace
from ecgbatch.workspace.privacy import workspace_pseudonyms
from ecgbatch.workspace.reviews import read_reviews
from storage import CorruptStore, folder_at
from tests.serving.served import Served, form_of, keys_on, names_on, send


def table_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def rows_of(ran) -> list[dict[str, str]]:
    return table_of(ran.folder / "scores.csv")


def key_of(ran, name: str) -> str:
    return f"{ran.run}-{[row['record_name'] for row in rows_of(ran)].index(name)}"


def test_the_overview_says_of_each_run_what_its_cohort_says(ran):
    text = Served(ran.work).reader().get("/").text
    row = re.search(rf'<tr>\s*<th scope="row"><a href="/run/{ran.run}">.*?</tr>', text, re.S)[0]
    numbers = [int(found) for found in re.findall(r'<data value="(\d+)">', row)]
    decisions = ran.cohort["decisions"]
    aside = sum(ran.cohort["n_set_aside"].values())
    assert numbers == [10, 10, decisions["mi_indicated"], decisions["indeterminate"], aside]
    assert "nothing to compare" in row


def test_the_list_is_that_of_the_run_searched_filtered_and_sorted(ran):
    reader, rows = Served(ran.work).reader(), rows_of(ran)

    def listed(query: str) -> list[str]:
        return names_on(reader.get(f"/run/{ran.run}?{query}").text)

    by_rank = sorted(rows, key=lambda row: int(row["needs_look_rank"]))
    assert listed("") == [row["record_name"] for row in by_rank]
    decision = Counter(row["decision"] for row in rows).most_common(1)[0][0]
    assert listed(f"decision={decision}") == [row["record_name"] for row in by_rank if row["decision"] == decision]
    assert listed(f"q={rows[0]['patient_id'].upper()}") == [
        row["record_name"] for row in by_rank if rows[0]["patient_id"] in row["record_name"] + row["patient_id"]
    ]
    known = [row for row in by_rank if row["age_years"]]
    assert listed("age_years-from=55&age_years-to=65") == [
        row["record_name"] for row in known if 55 <= float(row["age_years"]) <= 65
    ]
    scored = [row for row in by_rank if row["mi_probability"]]
    falling = sorted(scored, key=lambda row: -float(row["mi_probability"]))
    unscored = [row["record_name"] for row in by_rank if not row["mi_probability"]]
    assert listed("sort=-mi_probability") == [row["record_name"] for row in falling] + unscored
    assert listed("sort=mi_probability")[: len(falling)] == [row["record_name"] for row in falling][::-1]
    assert listed("sort=-record_name") == sorted((row["record_name"] for row in rows), reverse=True)
    assert listed("decision=nonsense") == []
    assert listed("sort=nonsense&decision-from=x&q=") == listed("")


def test_a_record_says_what_its_file_says_and_leads_to_its_neighbours(ran):
    reader = Served(ran.work).reader()
    order = keys_on(reader.get(f"/run/{ran.run}?sort=record_name").text)
    text = reader.get(f"/record/{order[1]}?sort=record_name").text
    assert f'rel="prev" id="earlier" href="/record/{order[0]}?sort=record_name"' in text
    assert f'rel="next" id="later" href="/record/{order[2]}?sort=record_name"' in text
    names = sorted(ran.names)
    report = reader.get(f"/record/{order[1]}.json").json()
    file = ran.records[names[1]]
    assert report["record_name"] == names[1]
    mine, theirs = ({**one, "serial": [entry | {"report": ""} for entry in one["serial"]]} for one in (report, file))
    for one in (mine, theirs):
        del one["provenance"]  # the links to others stand in its digest
    assert mine == theirs
    others = re.findall(r'<a href="([^"]+\.html)">', text)
    assert len(others) == len(file["serial"]) > 0
    assert reader.get(f"/record/{others[0]}").headers["location"] == f"/record/{others[0].removesuffix('.html')}"


@pytest.mark.parametrize("what", ["broken", "partial", "evil"])
def test_awkward_records_have_pages_too(ran, what):
    name = getattr(ran, what)
    text = Served(ran.work).reader().get(f"/record/{key_of(ran, name)}").text
    assert f"<h1>Record <bdi>{name}</bdi></h1>" in text
    assert 'id="verdict"' in text


def test_the_cohort_page_leads_to_the_records(ran):
    reader = Served(ran.work).reader()
    page = reader.get(f"/run/{ran.run}/cohort.html")
    assert page.content == (ran.folder / "cohort.html").read_bytes()
    slug = ran.slugs[ran.names[2]]
    there = reader.get(f"/run/{ran.run}/records/{slug}.html").headers["location"]
    assert there == f"/record/{key_of(ran, ran.names[2])}"
    assert reader.get(f"/run/{ran.run}/scores.csv").content == (ran.folder / "scores.csv").read_bytes()


def test_a_verdict_says_who_when_and_on_what_and_the_last_one_counts(work, ran):
    served = Served(work)
    reader, name = served.reader("Ann"), ran.names[2]
    key = key_of(ran, name)
    answer = send(reader, key, opinion="disagree", label="control", note="  Elevation is\r\nearly repolarisation ")
    assert answer.status_code == 303
    assert "The verdict is kept." in reader.get(answer.headers["location"]).text
    send(reader, key, opinion="agree", label="mi")
    first, last = read_reviews(str(work))
    report = ran.records[name]
    assert (first.record_name, first.patient_id, first.reader) == (name, report["patient_id"], "Ann")
    assert (first.run, first.model, first.decision) == (ran.run, report["model"]["digest"], report["decision"])
    assert (first.opinion, first.label, first.note) == ("disagree", "control", "Elevation is\nearly repolarisation")
    assert not first.is_blind
    assert first.at < last.at
    text = reader.get(f"/record/{key}").text
    assert 'value="agree" required data-key="a" checked' in text
    assert "early repolarisation" not in text
    assert names_on(reader.get(f"/run/{ran.run}?reviewed=mine").text) == [name]
    assert name not in names_on(reader.get(f"/run/{ran.run}?reviewed=open").text)


def test_keep_and_next_goes_on_in_the_list_even_when_the_record_leaves_it(work, ran):
    reader = Served(work).reader()
    order = keys_on(reader.get(f"/run/{ran.run}?reviewed=open").text)
    fields = form_of(reader.get(f"/record/{order[3]}?reviewed=open").text) | {"opinion": "agree", "go": "next"}
    answer = reader.post(f"/record/{order[3]}/review", data=fields, headers={"origin": "http://127.0.0.1:8417"})
    assert answer.headers["location"] == f"/record/{order[4]}?reviewed=open&kept=1"


@pytest.mark.parametrize(
    "fields", [{}, {"opinion": "perhaps"}, {"opinion": "agree", "label": "sick"}, {"opinion": "agree", "note": "x" * 4001}]
)
def test_a_form_that_says_nothing_that_can_be_kept_is_refused_and_its_note_is_not_lost(work, ran, fields):
    answer = send(Served(work).reader(), f"{ran.run}-0", **{"note": "typed"} | fields)
    assert answer.status_code == 409
    assert "typed" in answer.text or "xxxx" in answer.text
    assert read_reviews(str(work)) == []


def test_two_readers_lose_nothing_and_their_conflict_is_said(work, ran):
    served = Served(work)
    ann, ben, key = served.reader("Ann"), served.reader("Ben"), f"{ran.run}-2"
    forms = [form_of(browser.get(f"/record/{key}").text) for browser in (ann, ben)]  # both look before either writes
    for browser, form, opinion in zip((ann, ben), forms, ("agree", "disagree"), strict=True):
        sent = browser.post(
            f"/record/{key}/review", data=form | {"opinion": opinion}, headers={"origin": "http://127.0.0.1:8417"}
        )
        assert sent.status_code == 303
    assert {one.reader for one in read_reviews(str(work))} == {"Ann", "Ben"}
    assert "Readers differ on this record." in ann.get(f"/record/{key}").text
    assert len(names_on(ann.get(f"/run/{ran.run}?reviewed=conflict").text)) == 1
    told = status(str(work))["reviews"]
    assert (told["n_records"], told["n_readers"], told["n_conflicts"]) == (1, 2, 1)
    assert told["agreement"]["value"] == 0.5
    assert told["agreement_blind"]["value"] is None


def called(ran) -> list[str]:
    return [name for name in ran.names if ran.records[name]["decision"] in ("mi_indicated", "mi_not_indicated")]


def test_blind_the_score_is_nowhere_until_the_verdict_and_the_verdict_says_so(work, ran):
    served = Served(work, blind=True)
    ann, name = served.reader("Ann"), called(ran)[0]
    key, report = key_of(ran, name), ran.records[name]
    hidden = ann.get(f"/record/{key}").text
    told = [f"{report['mi_probability']:.3f}", "infarction indicated", "infarction not indicated", "Reference label"]
    assert all(word in (ran.folder / "records" / f"{ran.slugs[name]}.html").read_text() for word in told[:1])
    assert not [word for word in told if word in hidden]
    assert 'class="trace"' in hidden  # the ECG itself is there
    for page in (f"/run/{ran.run}/cohort.html", f"/run/{ran.run}/scores.csv", f"/record/{key}.json"):
        assert ann.get(page).status_code == 404
    listed = ann.get(f"/run/{ran.run}?decision=mi_indicated&sort=-mi_probability&q=").text
    assert names_on(listed) == sorted(ran.names)
    assert not re.search(r"MI indicated|Probability|Disagreement|Label", listed)
    assert send(ann, key, opinion="agree").status_code == 409  # there is nothing to agree with yet
    assert send(ann, key, sees="not_mi", label="mi").status_code == 409
    assert send(ann, key, sees="mi").status_code == 303
    (review,) = read_reviews(str(work))
    assert review.is_blind
    assert review.opinion == ("agree" if report["decision"] == "mi_indicated" else "disagree")
    assert review.label == "mi"
    assert f"{report['mi_probability']:.3f}" in ann.get(f"/record/{key}").text
    assert "Reference label" not in served.reader("Ben").get(f"/record/{key}").text
    send(ann, key, opinion="agree")
    assert not read_reviews(str(work))[-1].is_blind


def test_blind_and_open_verdicts_are_counted_apart_on_the_cohort_page(work, ran):
    first, second = called(ran)[:2]
    send(Served(work, blind=True).reader("Ann"), key_of(ran, first), sees="mi")
    send(Served(work).reader("Ben"), key_of(ran, second), opinion="agree")
    report_workspace(str(work), ran.run)
    cohort = json.loads(folder_at(work).read(f"reports/{ran.run}/cohort.json"))["reviews"]
    assert (cohort["n_records"], cohort["n_readers"]) == (2, 2)
    assert cohort["agreement_blind"]["n_records"] == cohort["agreement"]["n_records"] == 1
    assert "2</data> of <data" in folder_at(work).read(f"reports/{ran.run}/cohort.html").decode().partition('id="reviews"')[2]


def test_labels_that_readers_agree_on_are_a_table_that_convert_takes(work, ran, tmp_path, capsys):
    served = Served(work)
    ann, ben = served.reader("Ann"), served.reader("Ben")
    names = called(ran)[:5]
    given = dict(zip(names, ("mi", "control", "other", "mi", ""), strict=True))
    for name, label in given.items():
        opinion = "agree" if (label == "mi") == (ran.records[name]["decision"] == "mi_indicated") else "disagree"
        assert send(ann, key_of(ran, name), opinion=opinion if label else "cannot_judge", label=label).status_code == 303
    opposite = "disagree" if ran.records[names[3]]["decision"] == "mi_indicated" else "agree"
    send(ben, key_of(ran, names[3]), opinion=opposite, label="control")
    table = tmp_path / "labels.csv"
    with pytest.raises(SystemExit) as ended:
        main(["review", "export", str(work), str(table), "--json"])
    assert ended.value.code == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["n_labels"], said["n_records"], said["n_conflicts"], said["n_without_label"]) == (3, 5, 1, 1)
    assert {row["record"]: row["label"] for row in table_of(table)} == {name: given[name] for name in names[:3]}
    archive = json.loads((work / "archive.json").read_text())["place"]
    convert_archive(archive, str(work), LookOptions(labels=str(table)))
    records = current_records(str(work), ["record_name", "label", "label_rule"])
    labels = dict(zip(records["record_name"].values.tolist(), records["label"].values.tolist(), strict=True))
    assert [labels[name] for name in names[:3]] == [LABEL["mi"], LABEL["control"], LABEL["other"]]


def test_an_export_that_would_label_nothing_is_refused(work, ran, tmp_path):
    with pytest.raises(ValueError, match="nothing was written"):
        export_labels(str(work), tmp_path / "labels.csv")
    assert not (tmp_path / "labels.csv").exists()


def test_a_pseudonymous_run_is_listed_shown_and_reviewed_under_its_pseudonyms(work, ran, tmp_path):
    report_workspace(str(work), ran.run, pseudonymise=True)
    pseudonyms, reader = workspace_pseudonyms(work), Served(work).reader()
    run = f"{ran.run}-pseudonymous"
    page = reader.get(f"/run/{run}").text
    shown = names_on(page)
    assert set(shown) == {pseudonyms.record(name) for name in ran.names}
    own = {pseudonyms.record(name): name for name in ran.names}
    for key, name in zip(keys_on(page)[:3], shown, strict=False):
        text = reader.get(f"/record/{key}").text
        assert name in text
        assert own[name] not in text
        assert ran.records[own[name]]["patient_id"] not in text
        report = reader.get(f"/record/{key}.json").json()
        assert report["mi_probability"] == ran.records[own[name]]["mi_probability"]
    send(reader, keys_on(page)[0], opinion="disagree", label="other", note="n")
    (review,) = read_reviews(str(work))
    assert review.record_name == own[shown[0]]
    assert names_on(reader.get(f"/run/{run}?reviewed=mine").text) == [shown[0]]
    export_labels(str(work), tmp_path / "labels.csv", pseudonymise=True)
    (row,) = table_of(tmp_path / "labels.csv")
    assert row["record"] == shown[0]
    assert review.patient_id not in (tmp_path / "labels.csv").read_text()


def test_verify_finds_a_verdict_that_was_altered_and_nothing_else_stops_for_it(work, ran, tmp_path):
    reader = Served(work).reader()
    send(reader, f"{ran.run}-2", opinion="agree", label="mi")
    assert verify_workspace(str(work)) == {}
    (path,) = (work / "reviews").iterdir()
    path.write_bytes(path.read_bytes().replace(b'"agree"', b'"disagree"'))
    ((item, problems),) = verify_workspace(str(work)).items()
    assert item == ("reviews", "reviews")
    assert path.name in problems[0]
    assert status(str(work))["reviews"]["n_unreadable"] == 1
    assert Served(work).reader().get(f"/run/{ran.run}").status_code == 200
    with pytest.raises(CorruptStore, match="restore it from a copy"):
        export_labels(str(work), tmp_path / "labels.csv")


def test_a_new_night_is_there_at_once_and_a_run_that_is_gone_is_said_to_be(work, ran):
    reader = Served(work).reader()
    assert reader.get(f"/run/{ran.run}").status_code == 200
    folder_at(work).delete(f"reports/{ran.run}")
    for page in (f"/run/{ran.run}", f"/record/{ran.run}-0"):
        answer = reader.get(page)
        assert answer.status_code == 404
        assert "its reports were removed" in answer.text
    report_workspace(str(work), ran.run)
    assert reader.get(f"/record/{ran.run}-0").status_code == 200


def test_a_viewer_is_told_whose_recording_it_is_and_whether_the_score_is_hidden(work, ran):
    site, ann = Site(Shelf(str(work), blind=True)), Reader("Ann", "")
    name = ran.names[2]
    key = key_of(ran, name)
    row = ran.scores["record_name"].values.tolist().index(name)
    assert site.whose_ecg(ann, key) == (ran.run, row, name, True)
    send(Served(work, blind=True).reader("Ann"), key, sees="cannot_judge")
    assert site.whose_ecg(ann, key)[3] is False
    assert site.whose_ecg(Reader("Ben", ""), key)[3] is True
    assert Site(Shelf(str(work))).whose_ecg(ann, key)[3] is False


def test_a_record_leads_to_its_whole_recording_and_back(ran):
    reader = Served(ran.work).reader()
    key = key_of(ran, ran.names[0])
    assert f'href="/record/{key}/ecg"' in reader.get(f"/record/{key}").text
    page = reader.get(f"/record/{key}/ecg")
    assert page.status_code == 200
    assert f'href="/record/{key}"' in page.text
    assert f'href="/run/{ran.run}"' in page.text
    policy = page.headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    script = re.search(r'src="([^"]+viewer\.js)"', page.text)[1]
    assert reader.get(f"/record/{key}/{script}").status_code == 200  # as a browser resolves it
    about = reader.get(f"/record/{key}/ecg/meta").json()
    assert [lead["name"] for lead in about["leads"]] == ran.records[ran.names[0]]["leads_scored"] + ["Vx", "Vy", "Vz"]
    assert about["tiles"]["levels"]
    beats = reader.get(f"/record/{key}/ecg/beats").json()
    assert any(value is not None for value in beats["probability"])
    assert reader.get(f"/record/{ran.run}-999/ecg").status_code == 404
    assert Served(ran.work).stranger().get(f"/record/{key}/ecg/meta").status_code == 401


def test_a_blind_readers_viewer_knows_no_score(ran, work):
    reader = Served(work, blind=True).reader()
    key = key_of(ran, ran.names[0])
    page = reader.get(f"/record/{key}/ecg").text + reader.get(f"/record/{key}/ecg/meta").text
    assert reader.get(f"/record/{key}/ecg/meta").json()["threshold"] is None
    assert "mi_indicated" not in page
    beats = reader.get(f"/record/{key}/ecg/beats").json()
    assert all(value is None for value in beats.get("probability", []))
    send(reader, key, sees="cannot_judge")
    assert any(value is not None for value in reader.get(f"/record/{key}/ecg/beats").json()["probability"])
