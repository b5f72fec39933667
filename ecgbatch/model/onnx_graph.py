"""A model as an ONNX graph: every member's network, trees and random kernels, their mean, and the calibration.

Drawn from the weights by hand, node by node: it is small, needs no PyTorch, and says in its names what a number is. Everything
that ``members`` and ``probability`` compute is in it, in their precision; what is not, is an input: the beats, prepared, and the
wave figures of their median, which loops find that no graph has (``standalone`` does both).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ecgbatch.model.definition import Calibration, Model
from ecgbatch.model.forward_kernels import BLOCKS, KERNEL, POOL, POOL_STRIDE
from ecgbatch.model.inference import check_weights
from ecgbatch.model.members import TREE_VOTES
from ecgbatch.model.probability import PROBABILITY_FLOOR
from ecgbatch.model.random_kernels import DILATIONS
from ecgbatch.model.vectors import CHANNELS, LENGTH
from ecgbatch.model.waves import N_OF_BEAT, N_OF_LEAD

if TYPE_CHECKING:
    from onnx import ModelProto

Array = NDArray[Any]

OPSET, TREES_OPSET, IR_VERSION = 17, 3, 8
"""What runtimes of 2022 and later understand."""


def check_installed() -> None:
    """Raise ``ValueError`` if the library that writes ONNX files is not installed."""
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise ValueError(f"an ONNX file needs the package onnx ({error}); install it: pip install 'ecgbatch[onnx]'") from None


class _Graph:
    """Nodes and constants as they are drawn; a method gives the name of what it adds."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, Array] = {}

    def constant(self, name: str, values: Any, kind: Any = None) -> str:
        self.constants[name] = np.ascontiguousarray(values, kind)
        return name

    def add(self, name: str, operation: str, *inputs: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(operation, list(inputs), [name], name=name, **attributes))
        return name

    def whole(self, name: str, value: Any) -> str:
        return self.constant(name, value, np.int64)

    def double(self, name: str, value: Any) -> str:
        return self.constant(name, value, np.float64)

    def cast(self, name: str, source: str, kind: str) -> str:
        from onnx import TensorProto

        return self.add(name, "Cast", source, to=getattr(TensorProto, kind))


def graph_of(model: Model) -> ModelProto:
    """Return a model as an ONNX graph of all its members, for the beats of one record whose patient none of them has seen.

    Inputs: ``beats`` (beat, lead, sample) float32, prepared, scorable ones only, at least one; of a model with trees
    ``wave_figures`` (1, figure) float32, of the median of these beats.

    Outputs: ``mi_probability`` (1,) float64, calibrated; ``abnormal_probability`` (1,) float64, of a model that knows a third
    class, never below the first; ``beat_probability`` (member, beat) float32, before calibration; ``network_scores``
    (member, beat, class) float32, what the networks alone say, before any softmax.

    Raises
    ------
    ValueError
        If onnx is not installed, or a member's weights are not those of the network.

    """
    check_installed()
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    for member in model.members:
        check_weights(member.weights)
    graph = _Graph()
    has_trees, has_kernels = bool(model.members[0].trees), bool(model.kernels)
    inputs = [helper.make_tensor_value_info("beats", TensorProto.FLOAT, ["beat", len(model.leads), model.n_samples])]
    if has_trees:
        n_figures = N_OF_BEAT + N_OF_LEAD * len(model.leads)
        inputs.append(helper.make_tensor_value_info("wave_figures", TensorProto.FLOAT, [1, n_figures]))
    outputs = [
        helper.make_tensor_value_info("mi_probability", TensorProto.DOUBLE, [1]),
        helper.make_tensor_value_info("beat_probability", TensorProto.FLOAT, [len(model.members), "beat"]),
        helper.make_tensor_value_info("network_scores", TensorProto.FLOAT, [len(model.members), "beat", _n_classes(model)]),
    ]
    _add_median(graph)
    _add_networks(graph, model)
    votes = [_add_regressions(graph, model)] if has_kernels else []
    if has_trees:
        _add_trees(graph, model)
        votes += [_add_logits(graph, "tree_scores", "mi", _n_classes(model))] * TREE_VOTES
    _add_beat_probability(graph, model, votes)
    _add_record_probability(graph, model)
    if model.abnormal is not None:
        _add_abnormal(graph, model, model.abnormal, has_trees=has_trees)
        outputs.insert(1, helper.make_tensor_value_info("abnormal_probability", TensorProto.DOUBLE, [1]))
    constants = [numpy_helper.from_array(values, name) for name, values in graph.constants.items()]
    drawn = helper.make_graph(graph.nodes, "ecgbatch", inputs, outputs, constants)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", TREES_OPSET)]
    whole = helper.make_model(drawn, opset_imports=opsets, ir_version=IR_VERSION, producer_name="ecgbatch")
    helper.set_model_props(whole, {"digest": model.digest, "leads": json.dumps(model.leads)})
    onnx.checker.check_model(whole, full_check=True)
    return whole


def _n_classes(model: Model) -> int:
    return len(model.members[0].weights["output.bias"])


def _add_median(graph: _Graph) -> None:
    """Sort beats sample by sample; the mean of the one or two in the middle is the median beat (1, lead, sample)."""
    n = graph.add("n_beats", "Slice", graph.add("shape", "Shape", "beats"), graph.whole("from_0", [0]), graph.whole("to_1", [1]))
    graph.nodes.append(_top_k(n))
    two, one = graph.whole("two", [2]), graph.whole("one", [1])
    low = graph.add("low", "Div", graph.add("n_less_1", "Sub", n, one), two)
    middle = graph.add("middle", "Concat", low, graph.add("high", "Div", n, two), axis=0)
    graph.add("median", "ReduceMean", graph.add("middle_beats", "Gather", "sorted", middle, axis=0), axes=[0], keepdims=1)


def _top_k(n: str) -> Any:
    from onnx import helper

    return helper.make_node("TopK", ["beats", n], ["sorted", "sorted_from"], name="sorted", axis=0, largest=0, sorted=1)


def _add_networks(graph: _Graph, model: Model) -> None:
    """Run all networks side by side, on the beats and behind them on the median: ``scores`` (member, beat + 1, class)."""
    n, weights = len(model.members), [member.weights for member in model.members]

    def stacked(name: str) -> str:
        return graph.constant(name, np.concatenate([own[name] for own in weights]), np.float32)

    def along(name: str, source: str, groups: int) -> str:
        own = (stacked(f"{name}.weight"), stacked(f"{name}.bias"))
        return graph.add(name, "Conv", source, *own, group=groups, kernel_shape=[KERNEL], pads=[KERNEL // 2] * 2)

    x, length = along("first", graph.add("beats_and_median", "Concat", "beats", "median", axis=0), 1), model.n_samples
    for block in range(BLOCKS):
        inner = graph.add(f"relu.inner.{block}", "Relu", along(f"inner.{block}", x, n))
        summed = graph.add(f"sum.{block}", "Add", along(f"outer.{block}", inner, n), x)
        x = graph.add(f"relu.outer.{block}", "Relu", summed)
        if length >= POOL:
            x = graph.add(f"pool.{block}", "MaxPool", x, kernel_shape=[POOL], strides=[POOL_STRIDE])
            length = (length - POOL) // POOL_STRIDE + 1
    flat = graph.add("flat", "Reshape", x, graph.whole("flat_shape", [0, n, CHANNELS * length]))
    x = graph.add("by_member", "Transpose", flat, perm=[1, 0, 2])
    for name in ("hidden1", "hidden2", "output"):
        weight = graph.constant(f"{name}.weight", np.stack([own[f"{name}.weight"].T for own in weights]), np.float32)
        bias = graph.constant(f"{name}.bias", np.stack([own[f"{name}.bias"][None] for own in weights]), np.float32)
        x = graph.add(name, "Add", graph.add(f"{name}.product", "MatMul", x, weight), bias)
        x = x if name == "output" else graph.add(f"relu.{name}", "Relu", x)
    last = graph.whole("last", [-1])
    graph.add("network_scores", "Slice", x, "from_0", last, graph.whole("beat_axis", [1]))
    end = graph.whole("end", [np.iinfo(np.int64).max])
    graph.add("median_scores", "Slice", x, last, end, "beat_axis")


def _add_regressions(graph: _Graph, model: Model) -> str:
    """Return the logits (member, 1) of the regressions on the median's random kernels."""
    found = []
    for step in DILATIONS:
        own = [graph.constant(f"kernels.{part}{step}", model.kernels[f"{part}{step}"], np.float32) for part in ("weight", "bias")]
        edges = [step * (LENGTH // 2)] * 2
        answer = graph.add(f"answer{step}", "Conv", "median", *own, dilations=[step], kernel_shape=[LENGTH], pads=edges)
        above = graph.add(f"above{step}", "Greater", answer, graph.constant(f"zero{step}", 0, np.float32))
        share = graph.add(f"share{step}", "ReduceMean", graph.cast(f"counted{step}", above, "FLOAT"), axes=[2], keepdims=0)
        found += [share, graph.add(f"largest{step}", "ReduceMax", answer, axes=[2], keepdims=0)]
    features = graph.cast("kernel_features", graph.add("features", "Concat", *found, axis=1), "DOUBLE")
    regressions = [member.regression for member in model.members]
    weighed = graph.add(
        "weighed", "MatMul", features, graph.double("coefficient", np.stack([own["coefficient"] for own in regressions], axis=1))
    )
    intercept = graph.double("intercept", np.concatenate([own["intercept"] for own in regressions])[None])
    return graph.add("regression_logit", "Transpose", graph.add("regressions", "Add", weighed, intercept), perm=[1, 0])


def _add_trees(graph: _Graph, model: Model) -> None:
    """Ask all trees of all members at once: ``tree_scores`` (member, 1, class)."""
    n_classes = _n_classes(model)
    nodes: dict[str, list[Any]] = {
        name: []
        for name in (
            "treeids",
            "nodeids",
            "featureids",
            "values",
            "modes",
            "truenodeids",
            "falsenodeids",
            "missing_value_tracks_true",
        )
    }
    leaves: dict[str, list[Any]] = {name: [] for name in ("treeids", "nodeids", "ids", "weights")}
    n_trees = 0
    for place, member in enumerate(model.members):
        trees = member.trees
        begins = np.append(np.unique(trees["root"]), len(trees["figure"]))
        for number, root in enumerate(trees["root"].tolist()):
            stop = int(begins[np.searchsorted(begins, root, "right")])
            target = place * n_classes + number % n_classes
            _add_tree(nodes, leaves, {name: trees[name][root:stop].tolist() for name in _OF_NODE}, n_trees, target)
            n_trees += 1
    graph.add(
        "tree_sums",
        "TreeEnsembleRegressor",
        "wave_figures",
        domain="ai.onnx.ml",
        n_targets=len(model.members) * n_classes,
        aggregate_function="SUM",
        base_values=np.concatenate([member.trees["start"] for member in model.members]).astype(np.float32).tolist(),
        **{f"nodes_{name}": values for name, values in nodes.items()},
        **{f"target_{name}": values for name, values in leaves.items()},
    )
    shape = graph.whole("tree_shape", [len(model.members), 1, n_classes])
    graph.add("tree_scores", "Reshape", "tree_sums", shape)


_OF_NODE = ("figure", "value", "left", "right")


def _add_tree(
    nodes: dict[str, list[Any]], leaves: dict[str, list[Any]], own: dict[str, Sequence[Any]], tree: int, to: int
) -> None:
    for node, (figure, value, left, right) in enumerate(zip(*(own[name] for name in _OF_NODE), strict=True)):
        is_leaf = figure < 0
        row = (tree, node, max(figure, 0), 0.0 if is_leaf else value, "LEAF" if is_leaf else "BRANCH_LEQ")
        for name, said in zip(nodes, (*row, 0 if is_leaf else left, 0 if is_leaf else right, 0), strict=True):
            nodes[name].append(said)
        if is_leaf:
            for name, said in zip(leaves, (tree, node, to, value), strict=True):
                leaves[name].append(said)


def _add_logits(graph: _Graph, scores: str, of: str, n_classes: int) -> str:
    """Return the logits (member, beat) float64 of a softmax of scores (member, beat, class), as ``inference.logit_of``."""
    name = f"{scores}.{of}"
    classes = graph.cast(f"{name}.classes", scores, "DOUBLE")

    def together(*numbers: int) -> str:
        label = f"{name}.{'_'.join(map(str, numbers))}"
        chosen = graph.add(f"{label}.chosen", "Gather", classes, graph.whole(f"{label}.numbers", numbers), axis=2)
        return graph.add(label, "ReduceLogSumExp", chosen, axes=[2], keepdims=0)

    against = (0, 2) if of == "mi" and n_classes == 3 else (0,)
    return graph.add(name, "Sub", together(*([1] if of == "mi" else range(1, n_classes))), together(*against))


def _add_said(graph: _Graph, name: str, logit: str) -> str:
    """Return logits (float64) as a float32 probability keeps them, within ``PROBABILITY_FLOOR`` of 0 and 1."""
    kept = graph.cast(
        f"{name}.kept", graph.cast(f"{name}.probability", graph.add(f"{name}.odds", "Sigmoid", logit), "FLOAT"), "DOUBLE"
    )
    return _add_logit_of_kept(graph, name, kept)


def _add_logit_of_kept(graph: _Graph, name: str, probability: str) -> str:
    """Do ``probability.beat_logit``."""
    bounds = [
        graph.double(f"{name}.{end}", value) for end, value in (("least", PROBABILITY_FLOOR), ("most", 1 - PROBABILITY_FLOOR))
    ]
    inside = graph.add(f"{name}.inside", "Clip", probability, *bounds)
    rest = graph.add(f"{name}.rest", "Sub", graph.double(f"{name}.whole", 1.0), inside)
    return graph.add(f"{name}.logit", "Sub", graph.add(f"{name}.log", "Log", inside), graph.add(f"{name}.log_rest", "Log", rest))


def _add_mean_vote(graph: _Graph, name: str, network: str, votes: Sequence[str]) -> str:
    """Return (network + votes) / their number, (member, beat)."""
    total = network
    for number, vote in enumerate(votes):
        total = graph.add(f"{name}.sum{number}", "Add", total, vote)
    return graph.add(f"{name}.mean", "Div", total, graph.double(f"{name}.n", 1.0 + len(votes)))


def _single(graph: _Graph, name: str, logit: str) -> str:
    """Round logits to float32 as ``inference.beat_logits`` gives them."""
    return graph.cast(f"{name}.again", graph.cast(f"{name}.single", logit, "FLOAT"), "DOUBLE")


def _add_beat_probability(graph: _Graph, model: Model, votes: Sequence[str]) -> None:
    """Add ``beat_probability``, as ``members.joined``."""
    logit = _single(graph, "network_mi", _add_logits(graph, "network_scores", "mi", _n_classes(model)))
    if votes:
        logit = _add_mean_vote(graph, "joined", _add_said(graph, "network_said", logit), votes)
    graph.cast("beat_probability", graph.add("beat_odds", "Sigmoid", logit), "FLOAT")


def _add_record_probability(graph: _Graph, model: Model) -> None:
    """Add ``mi_probability``, as ``probability.record_probability`` with all members."""
    logit = _add_logit_of_kept(graph, "beat_said", graph.cast("beat_kept", "beat_probability", "DOUBLE"))
    mean = graph.add("record_logit", "ReduceMean", graph.add("flat_logits", "Reshape", logit, "last"), axes=[0], keepdims=1)
    graph.add("mi_probability", "Sigmoid", _calibrated(graph, "mi", mean, model.calibration))


def _add_abnormal(graph: _Graph, model: Model, calibration: Calibration, *, has_trees: bool) -> None:
    """Add ``abnormal_probability``: any heart disease against none, of the median beat, not below that of MI."""
    n_classes = _n_classes(model)
    logit = _single(graph, "median_abnormal", _add_logits(graph, "median_scores", "abnormal", n_classes))
    logit = _add_said(graph, "median_said", logit)
    if has_trees:
        vote = _add_logits(graph, "tree_scores", "abnormal", n_classes)
        logit = _add_mean_vote(graph, "abnormal_joined", logit, [vote] * TREE_VOTES)
    mean = graph.add("abnormal_logit", "ReduceMean", graph.add("abnormal_flat", "Reshape", logit, "last"), axes=[0], keepdims=1)
    alone = graph.add("abnormal_alone", "Sigmoid", _calibrated(graph, "abnormal", mean, calibration))
    graph.add("abnormal_probability", "Max", alone, "mi_probability")


def _calibrated(graph: _Graph, name: str, logit: str, calibration: Calibration) -> str:
    steep = graph.add(f"{name}.steep", "Mul", logit, graph.double(f"{name}.slope", calibration.slope))
    return graph.add(f"{name}.calibrated", "Add", steep, graph.double(f"{name}.intercept", calibration.intercept))
