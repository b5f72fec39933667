"""Inference: the compiled kernel computes the network, the same bits everywhere; bfloat16 only where it decides nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
import xarray as xr

from ecgbatch.model import forward_kernels, inference, network, precision, tile_kernels
from ecgbatch.model.definition import Model
from ecgbatch.model.files import load_model, shipped_model
from ecgbatch.model.inference import beat_logits, changed_logits, pack
from ecgbatch.model.network import BeatNet
from ecgbatch.scores import shard as scores_shard
from ecgbatch.scores.shard import score_shard
from ecgbatch.scores.stored_beats import RecordBeats
from ecgbatch.terms import DECISION


def drawn(n_leads: int, n_samples: int, n_beats: int = 9, seed: int = 0) -> tuple[BeatNet, dict[str, np.ndarray], np.ndarray]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = BeatNet(n_leads, n_samples).eval()
    weights = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    return net, weights, np.random.default_rng(seed).standard_normal((n_beats, n_leads, n_samples)).astype(np.float32)


WITH_UNIT = pytest.mark.skipif(not tile_kernels.may_use_tiles(), reason="the processor has no matrix unit, or Linux keeps it")


@pytest.fixture(scope="module")
def shipped() -> Model:
    return load_model(shipped_model())


@pytest.mark.parametrize(("n_leads", "n_samples"), [(12, 88), (1, 187), (15, 187), (2, 88), (3, 4), (1, 1)])
def test_the_kernel_computes_the_network_that_torch_computes(n_leads, n_samples):
    net, weights, beats = drawn(n_leads, n_samples)
    with torch.inference_mode():
        control, mi = net(torch.from_numpy(beats)).numpy().T
    np.testing.assert_allclose(beat_logits(pack(weights), beats), mi - control, atol=2e-6)
    for kind in inference.PRECISIONS[1:]:
        assert np.abs(beat_logits(pack(weights), beats, kind) - (mi - control)).max() < 0.01


def test_a_network_of_three_classes_gives_two_logits():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        net = BeatNet(12, 88, 3).eval()
    weights = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    beats = np.random.default_rng(1).standard_normal((9, 12, 88)).astype(np.float32)
    with torch.inference_mode():
        control, mi, other = torch.softmax(net(torch.from_numpy(beats)).double(), 1).numpy().T
    np.testing.assert_allclose(beat_logits(pack(weights), beats), np.log(mi / (1 - mi)), atol=2e-5)
    np.testing.assert_allclose(beat_logits(pack(weights), beats, of="abnormal"), np.log((mi + other) / control), atol=2e-5)


@pytest.mark.parametrize("kind", inference.PRECISIONS)
def test_a_beats_logit_does_not_depend_on_its_neighbours(kind):
    _, weights, beats = drawn(12, 88)
    together = beat_logits(pack(weights), beats, kind)
    np.testing.assert_array_equal([beat_logits(pack(weights), beats[i : i + 1], kind)[0] for i in range(9)], together)


def test_a_beats_logit_does_not_depend_on_threads():
    _, weights, beats = drawn(12, 88, n_beats=40)
    packed = pack(weights)
    expected = beat_logits(packed, beats, "bfloat16")
    with ThreadPoolExecutor(4) as pool:
        parts = [beats[start:stop] for start, stop in pairwise((0, 1, 20, 33, 40))]
        found = np.concatenate(list(pool.map(lambda own: beat_logits(packed, own, "bfloat16"), parts)))
    np.testing.assert_array_equal(found, expected)


def test_a_precision_that_is_none_is_refused():
    _, weights, beats = drawn(2, 88)
    with pytest.raises(ValueError, match="expected a precision of float32, bfloat16, found 'float16'"):
        beat_logits(pack(weights), beats, "float16")


def rounded(values: np.ndarray) -> np.ndarray:
    """Return float32 rounded to bfloat16, to nearest and to even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def in_order_of_tiles(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sum products (row, product) by (product, channel) as the matrix unit does: those of bfloat16 are float32 as they are."""
    total = np.zeros((len(rows), weights.shape[1]), np.float32)
    for step in range(0, len(weights), 32):
        even, odd = np.zeros_like(total), np.zeros_like(total)
        for k in range(step, min(step + 32, len(weights)), 2):
            even += rows[:, k, None] * weights[k]
            odd += rows[:, k + 1, None] * weights[k + 1]
        total += even + odd
    return total


def windows(rows: np.ndarray) -> np.ndarray:
    """Return what each sample's convolution looks at, (sample, tap x channel)."""
    edged = np.pad(rows, ((2, 2), (0, 0)))
    return np.hstack([edged[tap : tap + len(rows)] for tap in range(5)])


def rows_by_numpy(weights: dict[str, np.ndarray], beat: np.ndarray) -> np.ndarray:
    """Return what is left of a beat behind the last block, each sum in the order that ``tile_kernels`` states."""

    def turned(name: str) -> np.ndarray:
        return weights[f"{name}.weight"].transpose(2, 1, 0).reshape(-1, 32)

    own, first = windows(beat.T), turned("first")
    pairs = np.stack([rounded(own), rounded(own - rounded(own))], axis=2).reshape(len(own), -1)
    high, low = (np.repeat(half, 2, axis=0) for half in (rounded(first), rounded(first - rounded(first))))
    fill = -len(high) % 32
    both = np.vstack([np.pad(half, ((0, fill), (0, 0))) for half in (high, low)])
    x = in_order_of_tiles(np.tile(np.pad(pairs, ((0, 0), (0, fill))), 2), both) + weights["first.bias"]
    for block in range(5):
        inner = in_order_of_tiles(windows(rounded(x)), rounded(turned(f"inner.{block}"))) + weights[f"inner.{block}.bias"]
        outer = in_order_of_tiles(windows(rounded(np.maximum(inner, 0))), rounded(turned(f"outer.{block}")))
        x = np.maximum(outer + (weights[f"outer.{block}.bias"] + x), 0)
        if len(x) >= 5:
            x = np.array([x[at : at + 5].max(axis=0) for at in range(0, len(x) - 4, 2)])
    return x


@pytest.mark.parametrize("in_unit", [False, pytest.param(True, marks=WITH_UNIT)], ids=["vectors", "unit"])
@pytest.mark.parametrize(("n_leads", "n_samples"), [(12, 88), (1, 33), (3, 4), (1, 1)])
def test_tiles_are_summed_in_the_order_that_is_stated(monkeypatch, in_unit, n_leads, n_samples):
    """Every bit, by the processor's matrix unit and by what stands in for it."""
    monkeypatch.setattr(inference, "may_use_tiles", lambda: in_unit)
    _, weights, beats = drawn(n_leads, n_samples, n_beats=3)
    given: list[np.ndarray] = []
    monkeypatch.setattr(inference, "leave", lambda rows, *_: given.append(rows))
    beat_logits(pack(weights), beats, "bfloat16")
    np.testing.assert_array_equal(given[0].reshape(3, -1), [rows_by_numpy(weights, beat).ravel() for beat in beats])


@pytest.mark.parametrize("in_unit", [False, pytest.param(True, marks=WITH_UNIT)], ids=["vectors", "unit"])
def test_tiles_see_neither_their_neighbours_nor_what_was_in_the_room(monkeypatch, in_unit):
    monkeypatch.setattr(inference, "may_use_tiles", lambda: in_unit)
    monkeypatch.setattr(inference, "scratch", lambda _, shape, dtype: np.full(shape, np.nan, dtype))
    _, weights, beats = drawn(3, 42, n_beats=20)
    expected = beat_logits(pack(weights), beats, "bfloat16")
    assert np.isfinite(expected).all()
    beats[[3, 17]] = np.nan
    found = beat_logits(pack(weights), beats, "bfloat16")
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(found)), [3, 17])
    np.testing.assert_array_equal(np.delete(found, [3, 17]), np.delete(expected, [3, 17]))


@pytest.mark.parametrize("n_samples", [1, 30, 31, 32, 33, 88, 187])
@pytest.mark.parametrize(("n_beats", "n_leads"), [(0, 1), (1, 1), (1, 12), (5, 3), (9, 15)])
def test_what_tiles_reach_lies_in_their_room(n_beats, n_leads, n_samples):
    """They are loaded whole, also where fewer rows are wanted."""
    _, beat, words, _, short, other = tile_kernels.room_sizes(n_beats, n_leads, n_samples)
    last = max(0, min(tile_kernels.GROUP, n_beats) * (n_samples + 2) - 1) // 32 * 32
    assert (last + 31 + 4 + 1) * 16 <= min(short, other)
    last, n_steps = (n_samples - 1) // 32 * 32, -(-5 * n_leads // 16)
    assert (last + 31) * n_leads + 16 * n_steps <= min(beat, words)


@pytest.mark.parametrize(("n_leads", "n_samples"), [(12, 88), (1, 187), (2, 7), (3, 4)])
def test_what_has_not_changed_need_not_be_computed_again(n_leads, n_samples):
    """Every span of a few lengths, the ends above all: the bits are those of whole passes."""
    _, weights, (beat, other) = drawn(n_leads, n_samples, n_beats=2)
    lengths = (0, 1, 2, n_samples // 3, n_samples)
    spans = [(low, low + length) for length in lengths for low in range(0, n_samples - length + 1, max(1, n_samples // 23))]
    copies = np.repeat(beat[None], len(spans), axis=0)
    for copy, (low, high) in zip(copies, spans, strict=True):
        copy[:, low:high] = other[:, low:high]
    found = changed_logits(pack(weights), beat, copies, np.array(spans))
    np.testing.assert_array_equal(found, beat_logits(pack(weights), np.concatenate([beat[None], copies])))


def test_weights_and_beats_that_do_not_fit_are_refused():
    """The kernel would read what lies behind them."""
    _, weights, beats = drawn(2, 88)
    for name, wrong in (
        ("first.weight", weights["first.weight"][:, :, :4]),
        ("inner.3.bias", np.zeros(31)),
        ("output.bias", None),
    ):
        broken = {key: values for key, values in weights.items() if key != name} | ({} if wrong is None else {name: wrong})
        with pytest.raises(ValueError, match=rf"{name}.*instead of"):
            pack(broken)
    for other in (beats[:, :1], beats[:, :, :60], np.tile(beats, (1, 2, 1))):
        with pytest.raises(ValueError, match="made for other leads or samples"):
            beat_logits(pack(weights), other)
    with pytest.raises(ValueError, match="a span for each"):
        changed_logits(pack(weights), beats[0], beats, np.zeros((2, 2), int))


def test_weights_that_are_not_numbers_give_no_number():
    _, weights, beats = drawn(2, 88)
    weights["inner.1.bias"] = np.full(32, np.nan, np.float32)
    for kind in inference.PRECISIONS:
        assert np.isnan(beat_logits(pack(weights), beats, kind)).all()


def test_processors_without_avx512_get_the_same_bits(tmp_path, shipped):
    """They have narrower vectors and no matrix unit: what they do instead is the same sums in the same order."""
    script = (
        "import sys, numpy as np\nfrom ecgbatch.model import inference\n"
        "from ecgbatch.model.files import load_model, shipped_model\n"
        "beats = np.random.default_rng(0).standard_normal((3, 12, 88)).astype(np.float32)\n"
        "packed = inference.pack(load_model(shipped_model()).members[0].weights)\n"
        "found = [inference.beat_logits(packed, beats, kind).tobytes().hex() for kind in inference.PRECISIONS]\n"
        "print(inference.may_use_tiles(), *found)"
    )
    older = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma,+avx,+sse4.2", "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", script]
    found = subprocess.run(command, env=os.environ | older, capture_output=True, text=True, check=True).stdout.split()
    beats = np.random.default_rng(0).standard_normal((3, 12, 88)).astype(np.float32)
    packed = pack(shipped.members[0].weights)
    assert found == ["False", *[beat_logits(packed, beats, kind).tobytes().hex() for kind in inference.PRECISIONS]]


def test_scoring_and_explaining_need_no_torch():
    """A second of every start, and some 200 MB of every worker."""
    script = (
        "import sys, numpy as np\nimport ecgbatch.scores.stage, flows.cluster\nfrom ecgbatch.model.evidence import evidence\n"
        "from ecgbatch.model.files import load_model, shipped_model\n"
        "from ecgbatch.model.members import medians_of, member_probabilities\n"
        "from ecgbatch.model.precision import choose_precision\n"
        "model = load_model(shipped_model('mi-lead-ii'))\nchoose_precision(model)\n"
        "beats = np.ones((3, 1, 88), np.float32)\nmember_probabilities(model, (0,), beats)\n"
        "evidence(model, (0,), medians_of(model, [beats]))\n"
        "print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip() == "False"


def test_the_kernels_constants_are_the_networks():
    for name in ("CHANNELS", "KERNEL", "BLOCKS", "POOL", "POOL_STRIDE"):
        assert getattr(forward_kernels, name) == getattr(tile_kernels, name) == getattr(network, name)
    assert 2 * tile_kernels.WEIGHTS == network.KERNEL * network.CHANNELS**2
    assert tile_kernels.KERNEL * tile_kernels.STEP == tile_kernels.WEIGHTS
    assert forward_kernels.CHANNELS * (forward_kernels.KERNEL // 2) == forward_kernels.EDGE
    assert forward_kernels.KERNEL * forward_kernels.CHANNELS == 2 * forward_kernels.PAIRS
    assert forward_kernels.OUTPUTS + forward_kernels.KERNEL - 1 == forward_kernels.POINTS
    assert forward_kernels.POINTS * forward_kernels.CHANNELS**2 == forward_kernels.WEIGHTS
    assert (forward_kernels.POINTS - 1 - forward_kernels.KERNEL // 2) * forward_kernels.CHANNELS == forward_kernels.AFTER
    assert network.HIDDEN == forward_kernels.CHANNELS


def test_the_shipped_models_may_score_in_bfloat16(monkeypatch):
    monkeypatch.setattr(precision, "may_use_tiles", lambda: True)
    for name in ("mi-12-leads", "mi-lead-ii"):
        assert precision.choose_precision(load_model(shipped_model(name))).name == "bfloat16"


def test_without_a_gain_or_without_a_reference_it_is_float32(monkeypatch, shipped):
    monkeypatch.setattr(precision, "may_use_tiles", lambda: True)
    assert "holds no description" in precision.choose_precision(replace(shipped, novelty={})).why
    monkeypatch.setattr(precision, "may_use_tiles", lambda: False)
    assert precision.choose_precision(shipped) == ("float32", "this processor is not faster in bfloat16")


def test_a_model_whose_records_move_too_far_is_refused_bfloat16(monkeypatch, shipped):
    """One member alone, and its logits made steeper: what ten members average out is then seen."""
    monkeypatch.setattr(precision, "may_use_tiles", lambda: True)
    steep = replace(shipped.calibration, slope=20.0)
    found = precision.choose_precision(replace(shipped, members=shipped.members[:1], calibration=steep))
    assert found.name == "float32"
    assert "bfloat16 was refused: on 64 records" in found.why


def records(model: Model, n: int) -> tuple[xr.Dataset, list[RecordBeats]]:
    """Records of beats like those of training, in stored steps."""
    beats = precision.reference_beats(model).reshape(precision.N_RECORDS, precision.N_BEATS, *model.novelty["mean"].shape)[:n]
    found = [
        RecordBeats(
            np.clip(np.rint(1000 * own), -32000, 32000).astype(np.int16),
            np.zeros(len(own), np.uint16),
            np.full(len(own), 0.8, np.float32),
            model.leads,
            np.ones(len(model.leads), bool),
        )
        for own in beats
    ]
    names = np.array([f"r{number}" for number in range(n)], dtype=np.dtypes.StringDType())
    text, number = np.full(n, "", dtype=np.dtypes.StringDType()), np.zeros(n, np.int64)
    columns = dict.fromkeys(("signals_row", "beats_row", "status", "label", "mi", "sex"), ("record", number))
    columns |= dict.fromkeys(("signals_store", "beats_store", "reason"), ("record", text))
    columns |= {"record_name": ("record", names), "patient_id": ("record", names), "age_years": ("record", np.full(n, 60.0))}
    return xr.Dataset(columns), found


def test_scores_in_bfloat16_decide_as_float32_does(shipped):
    rows, found = records(shipped, 40)
    plain, rounded = (score_shard(rows, shipped, found, precision=kind) for kind in inference.PRECISIONS)
    assert (plain["decision"].values == rounded["decision"].values).all()
    assert (plain["decision"].values != DECISION["not_scorable"]).all()
    assert np.abs(plain["mi_probability"].values - rounded["mi_probability"].values).max() < precision.RECORD_TOLERANCE
    assert (plain["mi_probability"].values != rounded["mi_probability"].values).any()
    np.testing.assert_array_equal(plain["evidence"].values, rounded["evidence"].values)


def test_close_decisions_are_taken_in_float32(monkeypatch, shipped):
    rows, found = records(shipped, 12)
    monkeypatch.setattr(scores_shard, "DECISION_MARGIN", 1.0)  # every decision is close
    plain, rounded = (score_shard(rows, shipped, found, precision=kind) for kind in inference.PRECISIONS)
    xr.testing.assert_identical(plain, rounded)


def test_records_that_some_members_score_are_scored_in_float32(monkeypatch, shipped):
    rows, found = records(shipped, 3)
    monkeypatch.setattr(scores_shard, "_members_for", lambda *_: (0, 3))
    plain, rounded = (score_shard(rows, shipped, found, precision=kind) for kind in inference.PRECISIONS)
    xr.testing.assert_identical(plain, rounded)


def test_what_a_trial_found_is_taken_over_from_scores_and_only_that(monkeypatch: pytest.MonkeyPatch) -> None:
    from ecgbatch.model import precision

    model = load_model(shipped_model("mi-lead-ii"))
    monkeypatch.setattr(precision, "may_use_tiles", lambda: True)
    monkeypatch.setattr(precision, "_chosen", {})
    monkeypatch.setattr(precision, "trial", lambda _: (0.0, 0.0, 3))
    found = {"engine": precision.ENGINE, "name": "bfloat16", "why": f"on {precision.N_RECORDS} records like those of training"}
    precision.remember(model.digest, found | {"engine": "another"})
    precision.remember(model.digest, found | {"why": "this processor is not faster in bfloat16"})
    assert precision.choose_precision(model).name == "float32"
    precision._chosen.clear()
    precision.remember(model.digest, found)
    assert precision.choose_precision(model) == ("bfloat16", found["why"])
