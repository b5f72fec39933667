"""Quality flags: planted faults are found where they are, clean leads stay unflagged, real records keep their rates."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from ecgbatch.archive.finding import find_records
from ecgbatch.formats.records import read_record
from ecgbatch.signals import quality
from ecgbatch.signals.quality import lead_flags
from ecgbatch.synthetic.archive import synthetic_record
from ecgbatch.terms import LEAD_FLAGS, LEADS, MISSING_SAMPLE, words_of_mask

with warnings.catch_warnings():  # wfdb 4.3.1 uses an argument that pandas 3.1 deprecates
    warnings.simplefilter("ignore")
    import wfdb

RATE_HZ = 1000.0
CLEAN = "Healthy control"
Signal = npt.NDArray[np.int16]


def judge(signal: Signal, rate_hz: float = RATE_HZ, gain: float = 2000.0) -> dict[str, set[str]]:
    """Flags of each lead as words, of a record that has all or the first of the canonical leads."""
    n = len(signal)
    flags = lead_flags(signal, np.full(n, gain), np.zeros(n, dtype=np.int32), rate_hz, LEADS[:n])
    assert flags.dtype == np.uint16
    return {lead: set(words_of_mask(int(mask), LEAD_FLAGS)) for lead, mask in zip(LEADS, flags, strict=False)}


def flagged(word: str, judged: dict[str, set[str]]) -> set[str]:
    return {lead for lead, words in judged.items() if word in words}


def clean(seed: int = 0, n_leads: int = 15, rate_hz: float = RATE_HZ) -> npt.NDArray[np.float64]:
    """A synthetic healthy record in adu, for adding faults to."""
    signal, _ = synthetic_record(seed=seed, duration_s=20.0, n_leads=n_leads, sampling_frequency_hz=rate_hz)
    return signal.astype(np.float64)


def stored(signal: npt.NDArray[np.float64]) -> Signal:
    return np.clip(np.rint(signal), -32767, 32767).astype(np.int16)


def swapped(signal: npt.NDArray[np.float64], one: npt.NDArray[np.float64], two: npt.NDArray[np.float64]) -> Signal:
    """The same chest and Frank leads with other limb leads, all of them computed from I and II."""
    limb = [one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2]
    return stored(np.concatenate([limb, signal[6:]]))


@pytest.mark.parametrize("rate_hz", [250.0, 360.0, 500.0, 1000.0])
def test_clean_records_have_no_flags(rate_hz: float) -> None:
    counts: Counter[str] = Counter()
    for seed in range(15):
        for words in judge(stored(clean(seed, rate_hz=rate_hz)), rate_hz).values():
            counts.update(words)
    assert sum(counts.values()) <= 0.01 * 15 * 15, counts


def test_a_devices_calibration_pulse_at_the_end_flags_no_lead() -> None:
    pulse = np.repeat([0.0, 2000.0, 0.0], [150, 200, 100])
    with_pulse = stored(np.concatenate([clean(), np.tile(pulse, (15, 1))], axis=1))
    assert judge(with_pulse) == judge(stored(clean()))
    one_lead_differs = with_pulse.copy()
    one_lead_differs[4, -1] += 1
    assert flagged("clipped", judge(one_lead_differs))


def test_equal_leads_that_are_no_pulse_are_judged_to_their_end() -> None:
    same = stored(np.tile(clean()[1], (12, 1)))
    assert flagged("not_millivolts", judge(same)) == set(LEADS[:12])


def test_infarctions_and_other_diagnoses_are_not_faults() -> None:
    counts: Counter[str] = Counter()
    for seed, diagnosis in enumerate(("Myocardial infarction", "Bundle branch block", "Hypertrophy", "Dysrhythmia") * 4):
        signal, _ = synthetic_record(diagnosis=diagnosis, seed=seed, duration_s=15.0)
        for words in judge(signal).values():
            counts.update(words)
    assert sum(counts.values()) <= 0.01 * 16 * 15, counts


def test_a_missing_lead_has_that_bit_only_and_spares_the_others() -> None:
    signal = stored(clean())
    signal[4] = MISSING_SAMPLE
    judged = judge(signal)
    assert judged.pop("aVL") == {"missing"}
    assert not any(judged.values())


def test_gaps_are_flagged_and_the_rest_of_the_lead_is_judged() -> None:
    signal = stored(clean())
    signal[1, 5000:9000] = MISSING_SAMPLE
    signal[7, ::4000] = MISSING_SAMPLE
    judged = judge(signal)
    assert flagged("gaps", judged) == {"II", "V2"}
    assert not any(words - {"gaps"} for words in judged.values())
    signal[7, :] = stored(clean()[7] + np.random.default_rng(0).normal(0, 200, 20000))
    signal[7, 3000] = MISSING_SAMPLE
    assert judge(signal)["V2"] == {"gaps", "noisy"}


def test_a_flat_lead_is_flat_and_nothing_else() -> None:
    signal = clean()
    signal[8] = 137.0
    signal[10, 8000:] = np.random.default_rng(1).normal(50, 2, 12000)
    judged = judge(stored(signal))
    assert judged["V3"] == {"flat"}
    assert judged["V5"] == {"flat"}
    assert flagged("flat", judged) == {"V3", "V5"}


def test_a_short_pause_of_a_lead_does_not_make_it_flat() -> None:
    signal = clean()
    signal[8, 5000:9000] = 0.0
    assert "flat" not in judge(stored(signal))["V3"]


@pytest.mark.parametrize("rate_hz", [250.0, 1000.0])
def test_clipped_leads_are_found(rate_hz: float) -> None:
    signal = clean(rate_hz=rate_hz)
    for lead in (1, 9):
        centre = np.median(signal[lead])
        top = np.quantile(signal[lead] - centre, 0.98)
        signal[lead] = np.minimum(signal[lead], centre + top)
    assert flagged("clipped", judge(stored(signal), rate_hz)) == {"II", "V4"}


def test_one_long_stay_at_the_rail_is_clipping() -> None:
    signal = stored(clean())
    signal[6, 4000:4300] = 32767
    assert "clipped" in judge(signal)["V1"]


@pytest.mark.parametrize("rate_hz", [250.0, 360.0, 1000.0])
@pytest.mark.parametrize("noise_mv", [0.1, 0.2])
def test_muscle_noise_is_found(rate_hz: float, noise_mv: float) -> None:
    found = []
    for seed in range(5):
        signal = clean(seed, rate_hz=rate_hz)
        rng = np.random.default_rng(seed)
        band = np.convolve(rng.normal(0, 1, signal.shape[1]), np.ones(max(1, round(0.004 * rate_hz))), mode="same")
        signal[7] += 2000 * noise_mv * band / band.std()
        found.append(flagged("noisy", judge(stored(signal), rate_hz)))
    assert all(leads == {"V2"} for leads in found), found


@pytest.mark.parametrize("mains_hz", [50.0, 60.0])
@pytest.mark.parametrize("rate_hz", [250.0, 257.0, 360.0, 1000.0])
def test_mains_hum_is_powerline_and_not_noise(mains_hz: float, rate_hz: float) -> None:
    signal = clean(3, rate_hz=rate_hz)
    signal[11] += 2000 * 0.05 * np.sin(2 * np.pi * (mains_hz + 0.03) * np.arange(signal.shape[1]) / rate_hz)
    judged = judge(stored(signal), rate_hz)
    assert flagged("powerline", judged) == {"V6"}
    assert flagged("noisy", judged) == set()


def test_white_noise_is_not_powerline() -> None:
    signal = clean(3)
    signal[11] += np.random.default_rng(2).normal(0, 300, signal.shape[1])
    assert judge(stored(signal))["V6"] == {"noisy"}


def test_wander_is_found() -> None:
    signal = clean(1)
    signal[6] += 2000 * 1.2 * np.sin(2 * np.pi * 0.25 * np.arange(signal.shape[1]) / RATE_HZ)
    assert flagged("wander", judge(stored(signal))) == {"V1"}


def test_wrong_gains_are_implausible() -> None:
    signal = clean(2)
    assert flagged("implausible_amplitude", judge(stored(signal), gain=200.0)) >= {"II", "V2", "V4", "Vx"}
    assert flagged("implausible_amplitude", judge(stored(signal), gain=2000000.0)) == set()  # then all leads look flat
    assert flagged("flat", judge(stored(signal), gain=2000000.0)) == set(LEADS)
    small = judge(stored(signal), gain=60000.0)
    assert flagged("implausible_amplitude", small) | flagged("flat", small) == set(LEADS)
    assert len(flagged("implausible_amplitude", small)) >= 10


@pytest.mark.parametrize("lead", range(6))
@pytest.mark.parametrize("fault", ["gain", "other", "inverted"])
def test_the_one_limb_lead_that_breaks_the_sums_is_named(lead: int, fault: str) -> None:
    hits = 0
    for seed in range(6):
        signal = clean(seed)
        change: dict[str, Callable[[], npt.NDArray[np.float64]]] = {
            "gain": lambda signal=signal: 1.4 * signal[lead],
            "other": lambda signal=signal: signal[9],
            "inverted": lambda signal=signal: -signal[lead],
        }
        signal[lead] = change[fault]()
        judged = judge(stored(signal))
        hits += flagged("lead_sum", judged) == {LEADS[lead]}
        assert flagged("not_millivolts", judged) == set()
    assert hits >= 5  # a lead at right angles to the heart's axis is too small to tell


def test_sums_are_judged_with_three_limb_leads_and_not_with_two() -> None:
    signal = clean()
    gain, zero = np.full(3, 2000.0), np.zeros(3, dtype=np.int32)
    good = lead_flags(stored(signal[:3]), gain, zero, RATE_HZ, ("I", "II", "III"))
    assert not good.any()
    signal[2] *= 2
    bad = lead_flags(stored(signal[:3]), gain, zero, RATE_HZ, ("I", "II", "III"))
    assert set(bad) == {LEAD_FLAGS["lead_sum"]}
    assert not lead_flags(stored(signal[:2]), gain[:2], zero[:2], RATE_HZ, ("MLII", "V5")).any()


def test_leads_scaled_one_by_one_are_not_millivolts_and_break_no_sum() -> None:
    for seed in range(5):
        signal = clean(seed, n_leads=12)
        signal = (signal.reshape(12, -1, 1000) - signal.reshape(12, -1, 1000).mean(axis=2, keepdims=True)).reshape(12, -1)
        signal = 400.0 * signal / signal.std(axis=1, keepdims=True)
        judged = judge(stored(signal))
        assert flagged("not_millivolts", judged) == set(LEADS[:12])
        assert not any(words - {"not_millivolts"} for words in judged.values())


@pytest.mark.parametrize("n_leads", [12, 15])
@pytest.mark.parametrize("exchange", ["RA with LA", "RA with LL", "LA with LL"])
def test_swapped_limb_electrodes_are_suspected(n_leads: int, exchange: str) -> None:
    found = 0
    for seed in range(20):
        signal = clean(seed, n_leads=n_leads)
        one, two, three = signal[:3]
        wrong = {"RA with LA": (-one, three), "RA with LL": (-three, -two), "LA with LL": (two, one)}[exchange]
        found += flagged("suspected_swap", judge(swapped(signal, *wrong))) == set(LEADS[:6])
    if exchange != "LA with LL":
        assert found >= (19 if n_leads == 15 else 16)
    elif n_leads == 15:  # without Frank's leads nothing tells this exchange from another axis
        assert found >= 4


def test_flags_do_not_depend_on_offset_or_scale_of_the_storage() -> None:
    signal = clean(4)
    signal[11] += 2000 * 0.05 * np.sin(2 * np.pi * 50.0 * np.arange(signal.shape[1]) / RATE_HZ)
    baseline = np.full(15, 1024, dtype=np.int32)
    coarse = lead_flags(stored(signal / 10 + 1024), np.full(15, 200.0), baseline, RATE_HZ, LEADS)
    fine = lead_flags(stored(signal), np.full(15, 2000.0), np.zeros(15, dtype=np.int32), RATE_HZ, LEADS)
    np.testing.assert_array_equal(coarse, fine)


@pytest.mark.parametrize("n_samples", [0, 1, 2, 30, 999])
def test_very_short_records_are_judged_without_error(n_samples: int) -> None:
    judged = judge(stored(clean())[:, :n_samples])
    assert set().union(*judged.values()) <= {"missing", "flat"}
    assert flagged("missing", judged) == (set(LEADS) if n_samples == 0 else set())


def test_low_rates_are_judged_as_far_as_they_reach() -> None:
    signal, _ = synthetic_record(duration_s=10.0, sampling_frequency_hz=100.0)
    assert not any(judge(signal, 100.0).values())


def faulty(seed: int, rate_hz: float, n_leads: int) -> Signal:
    """A synthetic record with a fault of every kind somewhere, but no gap."""
    rng = np.random.default_rng(seed)
    signal = clean(seed, n_leads=n_leads, rate_hz=rate_hz)
    n = signal.shape[1]
    turns = 2 * np.pi * np.arange(n) / rate_hz
    signal[rng.integers(n_leads)] += rng.uniform(0, 100) * np.sin(rng.choice([50.0, 60.0]) * turns)
    signal[rng.integers(n_leads)] += rng.normal(0, rng.uniform(1, 60), n)
    signal[rng.integers(n_leads)] += rng.uniform(0, 3000) * np.sin(rng.uniform(0.1, 0.5) * turns)
    signal[rng.integers(n_leads)] = 17.0
    top = np.quantile(signal[3], rng.uniform(0.9, 1.0))
    signal[3] = np.minimum(signal[3], top)
    signal[rng.integers(6)] *= rng.uniform(0.9, 1.1)
    return stored(signal)


@pytest.mark.parametrize(("rate_hz", "n_leads"), [(100.0, 12), (257.0, 12), (360.0, 15), (500.0, 12), (1000.0, 15), (2000.0, 12)])
def test_machine_code_measures_and_flags_as_numpy_does(rate_hz: float, n_leads: int, monkeypatch) -> None:
    gain, baseline = np.full(n_leads, 2000.0), np.full(n_leads, 3, dtype=np.int32)
    for seed in range(5):
        signal = faulty(seed, rate_hz, n_leads)
        by_numpy = quality.measure_leads(signal, gain, baseline, rate_hz, has_gaps=False)
        by_kernel = quality.measure_whole_leads(signal, gain, baseline, rate_hz, signal.shape[1])
        for name in ("range_mv", "flat_share"):
            np.testing.assert_array_equal(getattr(by_kernel, name), getattr(by_numpy, name))
        for name in ("noise_mv", "mains_mv", "beside_mains_mv", "wander_mv_per_s", "covariance_mv2"):
            np.testing.assert_allclose(getattr(by_kernel, name), getattr(by_numpy, name), rtol=1e-4, atol=1e-6)
        flags = lead_flags(signal, gain, baseline, rate_hz, LEADS[:n_leads])
        with monkeypatch.context() as patch:
            patch.setattr(quality, "FEWEST_LEADS", 99)
            np.testing.assert_array_equal(lead_flags(signal, gain, baseline, rate_hz, LEADS[:n_leads]), flags)


def test_machine_code_flags_real_records_as_numpy_does(test_data: Path, monkeypatch) -> None:
    for collection, n_records in (("ptb", 20), ("ptb-10s", 31), ("ptbxl", 200)):
        for name in find_records(test_data / collection)[:n_records]:
            record = read_record(test_data / collection, name)
            known = [record[name].values for name in ("signal", "adc_gain", "baseline")]
            known += [record.attrs["sampling_frequency_hz"], record["lead"].values.tolist()]
            flags = lead_flags(*known)
            with monkeypatch.context() as patch:
                patch.setattr(quality, "FEWEST_LEADS", 99)
                np.testing.assert_array_equal(lead_flags(*known), flags, err_msg=name)


@pytest.mark.parametrize("has_gap", [False, True])
def test_a_record_in_a_longer_row_is_judged_as_it_is_alone(has_gap: bool) -> None:
    signal = faulty(3, 500.0, 12)
    signal[5, 100] = MISSING_SAMPLE if has_gap else 0
    row = np.full((12, signal.shape[1] + 777), MISSING_SAMPLE, np.int16)
    row[:, : signal.shape[1]] = signal
    known = (np.full(12, 2000.0), np.zeros(12, dtype=np.int32), 500.0, LEADS[:12])
    np.testing.assert_array_equal(lead_flags(row, *known, n_samples=signal.shape[1]), lead_flags(signal, *known))


def test_wrong_arguments_are_refused() -> None:
    signal = stored(clean())
    with pytest.raises(ValueError, match=r"one gain, baseline and name for each lead, found signal \(15, 20000\)"):
        lead_flags(signal, np.full(12, 2000.0), np.zeros(15, dtype=np.int32), RATE_HZ, LEADS)
    with pytest.raises(ValueError, match=r"expected adc_gain above 0 adu/mV, found I 0.0"):
        lead_flags(signal, np.array([0.0, *[2000.0] * 14]), np.zeros(15, dtype=np.int32), RATE_HZ, LEADS)


def rates(folder: Path, n_records: int, n_samples: int = 60000) -> tuple[Counter[str], int]:
    counts: Counter[str] = Counter()
    n_leads = 0
    canonical = {lead.upper(): lead for lead in LEADS}
    for name in (folder / "RECORDS").read_text().split()[:n_records]:
        header = wfdb.rdheader(str(folder / name))
        there = [k for k, file in enumerate(header.file_name) if ((folder / name).parent / file).exists()]
        record = wfdb.rdrecord(str(folder / name), physical=False, channels=there, sampto=min(header.sig_len, n_samples))
        leads = [canonical.get(lead.upper(), lead) for lead in record.sig_name]
        signal = np.ascontiguousarray(record.d_signal.T.astype(np.int16))
        for mask in lead_flags(signal, np.array(record.adc_gain), np.array(record.baseline), record.fs, leads):
            counts.update(words_of_mask(int(mask), LEAD_FLAGS))
        n_leads += len(leads)
    return counts, n_leads


@pytest.mark.parametrize(
    ("collection", "usual"), [("ptb", set()), ("ptb-full", set()), ("ptbxl", {"not_millivolts"}), ("mitdb-ds1", {"powerline"})]
)
def test_real_leads_are_mostly_unflagged(test_data: Path, collection: str, usual: set[str]) -> None:
    counts, n_leads = rates(test_data / collection, 60)
    assert {word for word, count in counts.items() if count > 0.1 * n_leads} == usual
    assert counts["flat"] == counts["missing"] == counts["lead_sum"] == 0
    assert counts["noisy"] + counts["clipped"] <= 0.05 * n_leads


def test_noise_stress_records_are_flagged(test_data: Path) -> None:
    counts, _ = rates(test_data / "nstdb", 2, n_samples=650000)
    assert counts["wander"] >= 2


def test_the_exchanged_arms_of_a_ptb_record_are_found(test_data: Path) -> None:
    record = wfdb.rdrecord(str(test_data / "ptb" / "patient071" / "s0236lre"), physical=False)
    assert flagged("suspected_swap", judge(np.ascontiguousarray(record.d_signal.T.astype(np.int16)))) == set(LEADS[:6])
