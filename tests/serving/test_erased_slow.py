"""A patient who is erased while a server runs: gone from reviews and from every page."""

from __future__ import annotations

import pytest

from ecgbatch.upkeep.erase import erase_patient
from ecgbatch.upkeep.verify import verify_workspace
from ecgbatch.workspace.reviews import read_reviews
from ecgbatch.workspace.runs import write_run
from storage import folder_at
from tests.serving.served import Served, form_of, send
from tests.serving.test_journey import key_of

pytestmark = pytest.mark.slow


def test_an_erased_patient_is_gone_from_reviews_and_from_every_page(work, ran):
    write_run(str(work), ran.run, {"counts": {}})
    served = Served(work)
    reader, (name, other) = served.reader(), (ran.names[0], ran.names[-1])
    patient = ran.records[name]["patient_id"]
    assert patient != ran.records[other]["patient_id"]
    key, there = key_of(ran, name), form_of(reader.get(f"/record/{key_of(ran, name)}").text)
    send(reader, key, opinion="agree", note="mine")
    send(reader, key_of(ran, other), opinion="disagree", label="other", note=f"like {name}, I think")
    said = erase_patient(str(work), patient)
    assert said["n_removed"]["reviews"] == 2
    (left,) = read_reviews(str(work))
    assert (left.record_name, left.opinion, left.label) == (other, "disagree", "other")
    assert not [path for path in (work / "reviews").iterdir() if patient.encode() in path.read_bytes()]
    assert reader.get(f"/record/{key}").status_code == 404
    late = reader.post(f"/record/{key}/review", data=there | {"opinion": "agree"}, headers={"origin": "http://127.0.0.1:8417"})
    assert late.status_code == 409
    run = folder_at(work).pointed("reports/latest")
    for page in ("/", f"/run/{run}", f"/run/{run}/cohort.html", f"/run/{run}/scores.csv"):
        assert patient not in reader.get(page).text
    assert verify_workspace(str(work)) == {}
