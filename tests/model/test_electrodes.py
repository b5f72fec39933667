"""Electrodes exchanged: every exchange is undone by itself, and named on records that obey Einthoven."""

from __future__ import annotations

import numpy as np
import pytest

from ecgbatch.model.electrodes import EXCHANGES, name_exchange, put_back
from ecgbatch.terms import LEADS, MISSING_SAMPLE

TWELVE = LEADS[:12]


def potentials(rng: np.random.Generator) -> np.ndarray:
    """Potentials (electrode, sample) of LA, RA, LL and of V6 over Wilson's terminal: a heart that points left and down."""
    t = np.arange(88)
    qrs, t_wave = np.exp(-(((t - 31) / 3) ** 2)), np.exp(-(((t - 65) / 8) ** 2))
    heart = 1000 * qrs + 250 * t_wave
    la, ra, ll, v6 = (gain * heart + rng.normal(0, 5, 88) for gain in (0.3, -0.5, 0.6, 0.9))
    return np.stack([la, ra, ll, v6])


def leads_of(electrodes: np.ndarray) -> np.ndarray:
    """Twelve leads (lead, sample) of electrodes LA, RA, LL and a V6; other chest leads like it."""
    la, ra, ll, v6 = electrodes
    limb = [la - ra, ll - ra, ll - la, ra - (la + ll) / 2, la - (ra + ll) / 2, ll - (la + ra) / 2]
    return np.stack([*limb, *[v6 * share for share in (-0.5, -0.2, 0.3, 0.8, 1.1, 1.0)]])


@pytest.mark.parametrize(("name", "order"), [("LA-RA", (1, 0, 2, 3)), ("RA-LL", (0, 2, 1, 3))])
def test_an_exchange_is_named_and_undone(name: str, order: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    electrodes = potentials(rng)
    right, wrong = leads_of(electrodes), leads_of(electrodes[list(order)])
    assert name_exchange(right, TWELVE) == ""
    assert name_exchange(wrong, TWELVE) == name
    restored = put_back(np.round(wrong)[None].astype(np.int16), TWELVE, name)
    np.testing.assert_allclose(restored[0], right, atol=1)


@pytest.mark.parametrize("name", EXCHANGES)
def test_an_exchange_undoes_itself_and_a_missing_sample_stays_missing(name: str) -> None:
    beats = np.random.default_rng(1).integers(-900, 900, (3, 12, 88)).astype(np.int16)
    beats[0, 0, :5] = MISSING_SAMPLE
    np.testing.assert_array_equal(put_back(put_back(beats, TWELVE, name), TWELVE, name), beats)
    assert (put_back(beats, TWELVE, name) == MISSING_SAMPLE).sum() == 5


def test_without_the_leads_that_show_it_nothing_is_named() -> None:
    wrong = leads_of(potentials(np.random.default_rng(2))[[1, 0, 2, 3]])
    assert name_exchange(wrong[1:2], ("II",)) == ""
    assert (put_back(np.round(wrong[1:2])[None].astype(np.int16), ("II",), "LA-RA") == MISSING_SAMPLE).all()
