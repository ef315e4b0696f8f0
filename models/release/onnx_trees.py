"""The nodes of boosted trees, read off an ONNX graph.

It takes what `models.training.onnx.export` writes and graphs like it: one TreeEnsembleRegressor whose scores
are sums of leaves, alone or with a linear part, rows @ weights, added. Everything else is None, for ONNX
Runtime to run. Operators: https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsembleRegressor.html.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.arrays import I64, Mask

F32 = NDArray[np.float32]
MAX_NODES: Final = 1 << 22
_ML: Final = "ai.onnx.ml"
_OPERATORS: Final = {("", "Add"), ("", "Identity"), ("", "MatMul"), (_ML, "TreeEnsembleRegressor")}
_NODES: Final = (
    "treeids",
    "nodeids",
    "featureids",
    "modes",
    "values",
    "truenodeids",
    "falsenodeids",
)
_LEAVES: Final = ("treeids", "nodeids", "ids", "weights")
_MISSING: Final = "nodes_missing_value_tracks_true"
_TAKEN: Final = {
    *(f"nodes_{name}" for name in _NODES),
    *(f"target_{name}" for name in _LEAVES),
    *("aggregate_function", "base_values", "n_targets", "post_transform"),
    *("nodes_hitrates", _MISSING),
}
_STRICT: Final = (b"BRANCH_LT", b"BRANCH_GTE")
"""Modes that a value equal to the threshold parts from those below it: it goes with those above."""
_SWAPPED: Final = (b"BRANCH_GTE", b"BRANCH_GT")
"""Modes by which the larger values go the way of true."""
_MODES: Final = (b"LEAF", b"BRANCH_LEQ", b"BRANCH_LT", b"BRANCH_GTE", b"BRANCH_GT")


class TreeNodes(NamedTuple):
    """N nodes of T trees.

    `root` (T,): the first node of each tree. `column` (N,): what a node tests, -1: it is a leaf. `value` (N,)
    float32: the largest value that goes to child 0; the weight of a leaf. `child` (N, 2): nodes; of a leaf 0.
    `missing` (N,): whether NaN goes to child 1. Each node is reached from one root, by one way. `start` (F,)
    float32: weights of the linear part; empty: there is none. `base`: added to each sum of leaves.
    """

    root: I64
    column: I64
    value: F32
    child: I64
    missing: Mask
    start: F32
    base: np.float32


class _Foreign(Exception):
    """The graph has something that is not read here."""


def read(model: bytes, width: int) -> TreeNodes | None:
    """The trees of an ONNX model over rows of `width` columns; None for any other model, and for bytes that
    are none."""
    from onnx import ModelProto

    try:
        parsed = ModelProto.FromString(model)
    except Exception:  # of a type of protobuf's
        return None
    try:
        return _of_model(parsed, width)
    except _Foreign:
        return None


def _must(holds: bool) -> None:
    if not holds:
        raise _Foreign


def _of_model(model: Any, width: int) -> TreeNodes:
    graph = model.graph
    # a function of the model's own may give an operator another meaning
    _must(not model.functions and len(graph.input) == 1 and len(graph.output) == 1)
    _must({(it.domain, it.op_type) for it in graph.node} <= _OPERATORS)
    makers = {name: node for node in graph.node for name in node.output}
    _must(len(makers) == len(graph.node))
    trees, start = _operands(graph, makers, width)
    attributes = {it.name: it for it in trees.attribute}
    _must(attributes.keys() <= _TAKEN and list(trees.input) == [graph.input[0].name])
    return _nodes(attributes, width, start)


def _operands(graph: Any, makers: Mapping[str, Any], width: int) -> tuple[Any, F32]:
    """The node of the trees, and the weights of the linear part. All nodes of the graph are needed."""
    used: list[Any] = []

    def maker(name: str) -> Any:
        while True:
            node = makers.get(name)
            if node is None or len(used) > len(makers):  # an input, or a cycle
                raise _Foreign
            used.append(node)
            if node.op_type != "Identity":
                return node
            name = node.input[0] if node.input else ""

    last, start = maker(graph.output[0].name), np.empty(0, np.float32)
    if last.op_type == "Add":
        _must(len(last.input) == 2)
        operands = {it.op_type: it for it in map(maker, last.input)}
        _must(operands.keys() == {"MatMul", "TreeEnsembleRegressor"})
        start = _weights(operands["MatMul"], graph, width)
        last = operands["TreeEnsembleRegressor"]
    _must(last.op_type == "TreeEnsembleRegressor" and len(used) == len(graph.node))
    return last, start


def _weights(product: Any, graph: Any, width: int) -> F32:
    """(F,) of rows @ weights, where the weights are a constant of shape (F, 1)."""
    _must(len(product.input) == 2 and product.input[0] == graph.input[0].name)
    held = [it for it in graph.initializer if it.name == product.input[1]]
    _must(len(held) == 1)
    (tensor,) = held
    # 1 is FLOAT, location 0 is the model itself
    _must(list(tensor.dims) == [width, 1] and tensor.data_type == 1 and not tensor.data_location)
    if tensor.raw_data:
        _must(len(tensor.raw_data) == 4 * width)
        weights = np.frombuffer(tensor.raw_data, "<f4").astype(np.float32)
    else:
        weights = np.array(tensor.float_data, np.float32)
    _must(weights.shape == (width,) and bool(np.isfinite(weights).all()))
    return weights


def _nodes(attributes: Mapping[str, Any], width: int, start: F32) -> TreeNodes:
    _must(_text(attributes, "post_transform", b"NONE") == b"NONE")
    _must(_text(attributes, "aggregate_function", b"SUM") == b"SUM")
    _must("n_targets" not in attributes or attributes["n_targets"].i == 1)
    tree, number, column, modes, value, true, false = (
        _list(attributes, f"nodes_{name}") for name in _NODES
    )
    n = len(tree)
    _must(0 < n <= MAX_NODES)
    _must(all(len(it) == n for it in (number, column, modes, value, true, false)))
    _must(set(modes) <= {*_MODES})
    at = _Places(tree, number)
    is_leaf = np.array([mode == b"LEAF" for mode in modes])
    first = np.flatnonzero(np.diff(tree, prepend=tree[0] - 1))
    _must(len(np.unique(tree)) == len(first))  # the nodes of a tree lie together
    child = np.zeros((n, 2), np.int64)
    inner = np.flatnonzero(~is_leaf)
    child[inner] = np.stack([at(tree[inner], true[inner]), at(tree[inner], false[inner])], axis=1)
    _once(first, child, is_leaf)
    missing = ~_flags(attributes, n)
    swapped = np.array([mode in _SWAPPED for mode in modes])
    child[swapped] = child[swapped, ::-1]
    missing[swapped] = ~missing[swapped]
    value, strict = value.astype(np.float32), np.array([mode in _STRICT for mode in modes])
    _must(not np.isnan(value[inner]).any() and not np.isneginf(value[strict]).any())
    value[strict] = np.nextafter(value[strict], np.float32(-np.inf))  # x < a is x <= the next below
    _must(bool(((column[inner] >= 0) & (column[inner] < width)).all()))
    value[is_leaf] = _leaf_weights(attributes, at, is_leaf)[is_leaf]
    column = np.where(is_leaf, -1, column)
    return TreeNodes(first, column, value, child, missing & ~is_leaf, start, _base(attributes))


class _Places:
    """The index of a node, by its tree and its number there."""

    def __init__(self, tree: I64, number: I64) -> None:
        bounds = 0, 1 << 31
        _must(all(bounds[0] <= it.min() and it.max() < bounds[1] for it in (tree, number)))
        keys = tree << 32 | number
        self._order = np.argsort(keys, kind="stable")
        self._keys = keys[self._order]
        _must(bool((np.diff(self._keys) > 0).all()))

    def __call__(self, tree: I64, number: I64) -> I64:
        """(n,) index of each. Errors: `_Foreign` where there is no such node."""
        _must(bool(((number >= 0) & (number < 1 << 31) & (tree >= 0) & (tree < 1 << 31)).all()))
        keys = tree << 32 | number
        found = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        _must(bool((self._keys[found] == keys).all()))
        return self._order[found]


def _once(roots: I64, child: I64, is_leaf: Mask) -> None:
    """Each node is reached from one root, by one way. Errors: `_Foreign`."""
    reached, level = np.zeros(len(child), np.bool_), roots
    while len(level):
        _must(len(np.unique(level)) == len(level) and not reached[level].any())
        reached[level] = True
        level = child[level[~is_leaf[level]]].ravel()
    _must(bool(reached.all()))


def _leaf_weights(attributes: Mapping[str, Any], at: _Places, is_leaf: Mask) -> F32:
    """(N,) the weight of each leaf: exactly one each."""
    tree, number, target, weight = (_list(attributes, f"target_{name}") for name in _LEAVES)
    _must(len(tree) == len(number) == len(target) == len(weight) == is_leaf.sum())
    _must(not target.any() and bool(np.isfinite(weight).all()))
    places = at(tree, number)
    _must(len(np.unique(places)) == len(places) and bool(is_leaf[places].all()))
    weights = np.zeros(len(is_leaf), np.float32)
    weights[places] = weight
    return weights


def _flags(attributes: Mapping[str, Any], n: int) -> Mask:
    """(N,) whether NaN goes the way of true."""
    flags = np.array(attributes[_MISSING].ints if _MISSING in attributes else (), np.int64)
    _must(len(flags) in (0, n))
    return flags != 0 if len(flags) else np.zeros(n, np.bool_)


def _base(attributes: Mapping[str, Any]) -> np.float32:
    held: Iterable[float] = attributes["base_values"].floats if "base_values" in attributes else ()
    values = np.array(held, np.float32)
    _must(len(values) <= 1 and bool(np.isfinite(values).all()))
    return np.float32(values.sum())


def _text(attributes: Mapping[str, Any], name: str, default: bytes) -> bytes:
    return bytes(attributes[name].s) if name in attributes else default


def _list(attributes: Mapping[str, Any], name: str) -> Any:
    """The values of an attribute: int64, float32, or a list of bytes."""
    _must(name in attributes)
    held = attributes[name]
    if name.endswith("modes"):
        return list(held.strings)
    if name.endswith(("values", "weights")):
        return np.array(held.floats, np.float32)
    return np.array(held.ints, np.int64)
