"""Benchmarks: ratios are of the same round, peers that are missing are said to be, both sides do the same."""

from __future__ import annotations

import sys
from xml.etree import ElementTree

import numpy as np
import pytest

from benchmarks.speed import naive
from benchmarks.speed.__main__ import PARTS, main
from benchmarks.speed.page import drawing
from benchmarks.speed.section import Claim, Section, Times, spread
from ecgbatch.model.files import load_model, shipped_model
from ecgbatch.model.inference import beat_logits, logit_of, pack


def test_a_claim_is_judged_by_the_median_of_its_rounds():
    assert Claim("faster", [14, 16, 40], 15).is_met
    assert not Claim("faster", [14, 14.9, 40], 15).is_met
    assert Claim("of the limit", [1.5, 1.6, 9], 1.6, at_least=False).is_met
    assert "**no**" in Claim("of the limit", [1.61], 1.6, at_least=False).row()


def test_ratios_are_taken_round_by_round():
    times = Times()
    for slow, fast in ((10, 2), (30, 3)):
        times.note("beats", "naive", slow)
        times.note("beats", "ecgbatch", fast)
    assert times.ratios(["beats"], "naive", "ecgbatch") == [5, 10]
    assert spread(times.wall["beats", "naive"]) == "20.00 (10.00-30.00)"


def test_a_sample_of_the_records_speaks_for_all():
    times = Times()
    times.take("convert", "naive", lambda: sum(range(100_000)), 10)
    once = Times()
    once.take("convert", "naive", lambda: sum(range(100_000)))
    assert times.processor["convert", "naive"][0] > 2 * once.processor["convert", "naive"][0]


def test_the_drawing_is_an_svg_whose_bars_have_the_order_of_the_seconds():
    bars = [("convert", "naive", 20.0), ("convert", "ecgbatch", 2.0), ("convert", "limit", 1.5)]
    root = ElementTree.fromstring(drawing(bars, "549 records"))
    widths = [float(bar.get("width")) for bar in root.iter("{http://www.w3.org/2000/svg}rect") if bar.get("height") == "13"]
    assert widths[0] > widths[1] > widths[2] > 0


def test_peers_that_cannot_be_imported_are_said_to_be_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "sleepecg", None)
    assert naive.missing_peers()["sleepecg"].startswith("not measured: ")


def test_peers_score_by_the_very_networks_of_the_shipped_model():
    import torch

    model = load_model(shipped_model())
    shape = len(model.leads), model.n_samples
    beats = np.random.default_rng(0).normal(size=(4, *shape)).astype(np.float32)
    for member, network in zip(model.members[:2], naive.networks(shipped_model(), shape[0])[:2], strict=True):
        with torch.no_grad():
            found = logit_of(network(torch.from_numpy(beats)).numpy())
        assert np.allclose(found, beat_logits(pack(member.weights), beats), atol=1e-4)


def test_every_part_can_be_imported():
    assert {"ptb", "score", "train", "ten-seconds", "growth"} <= set(PARTS)


def test_a_part_that_ends_in_an_error_takes_no_other_with_it(monkeypatch, capsys):
    def broken(_folder, _options):
        raise AttributeError("no longer there")

    measured = {"beats": lambda _folder, _options: Section("Beats alone", ["fast"]), "score": broken}
    monkeypatch.setattr("benchmarks.speed.__main__.PARTS", measured)
    monkeypatch.setattr(sys, "argv", ["benchmarks"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert "score" in str(ended.value)
    page = capsys.readouterr().out
    assert "## Beats alone" in page
    assert "## Part score\n\nNot measured" in page
