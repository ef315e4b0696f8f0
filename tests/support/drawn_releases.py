"""Random releases: with trees, with a ranker of another kind, with none; each made once a process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, Final, Literal, get_args

import numpy as np

from models.release import artefact, content
from models.release.release import Release, Scores, Space, Vectors
from schemas.identity import item_hash
from schemas.state.counting import Counting, Mix
from serving.decide.columns import ALL_COLUMNS

Random = np.random.Generator
Kind = Literal["", "unranked", "trees", "network", "steps", "invalid"]
"""Of a release: "" is none; "unranked" has no ranker; "trees" and "network" are graphs of ONNX, the first of
which compiled code may read; "steps" is a function of ours; "invalid" has outputs that are not finite."""
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
SEEDS: Final = 6
"""Releases of each kind."""
ITEMS: Final = 400
_VALUES: Final = (0.0, 0.0, 1.0, 0.25, 0.5, 0.1, 0.05, 0.693147, 2.0, 4.0, -0.2, 1e-3)
"""Of thresholds: what columns often have, and what lies between."""


@cache
def release(kind: Kind, seed: int) -> Release | None:
    """The release of this kind and seed, as serving has it once it is loaded; None where `kind` is ""."""
    if not kind:
        return None
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    features = _features(rng)
    made = Release(f"{kind}{seed}", features, _coarse(rng), _space(rng), counting=_counting(rng))
    if kind in ("trees", "network"):
        graph = trees if kind == "trees" else network
        return artefact.with_ranker(made, graph(rng, len(features)))
    if kind in ("steps", "invalid"):
        return replace(made, rank=_steps(rng, len(features), kind == "invalid"))
    return made


def _features(rng: Random) -> tuple[str, ...]:
    """All columns, or some of them, in any order."""
    names = [column.name for column in ALL_COLUMNS]
    count = len(names) if rng.random() < 0.5 else int(rng.integers(1, len(names)))
    return tuple(str(name) for name in rng.permutation(names)[:count])


def _coarse(rng: Random) -> dict[str, float]:
    """Weights of a few columns; of none in one of six."""
    if rng.random() < 1 / 6:
        return {}
    some = rng.choice([column.name for column in ALL_COLUMNS], 5, replace=False)
    found = {str(name): float(rng.normal()) for name in some}
    return {**found, "covisit": 1.0, "vector": 0.3, "popular": 0.1}


def _counting(rng: Random) -> Counting:
    mixes: tuple[Mix, ...] = ((0, 1, 1, 1), (1, 0, 0, 0), (0, 0, 0, 1), (0.5, 0, 3, 1e-3))
    window, strangers = (mixes[int(rng.integers(len(mixes)))] for _ in range(2))
    fade = float(rng.choice([0.0, 0.6, 0.75, 1.0]))
    return Counting(fade=fade, window=window, strangers=strangers)


def _space(rng: Random) -> Space:
    """Vectors of most of the items i0, i1, ... and of some that no catalogue has; zeros among them."""
    names = [f"i{n}" for n in range(ITEMS) if rng.random() < 0.7] + [f"m{n}" for n in range(5)]
    hashes = np.sort(np.array([item_hash(name) for name in names], np.uint64))
    vectors = content.rows_on_grid(rng.normal(size=(len(hashes), content.DIM)))
    vectors[rng.random(len(vectors)) < 0.03] = 0
    vectors[rng.random(len(vectors)) < 0.1] = vectors[0]  # so that cosines are equal
    matrix = rng.normal(size=(content.DIM, content.DIM)) / 8
    return Space(hashes, vectors, artefact.encoder(matrix.astype(np.float32)))


def _steps(rng: Random, width: int, invalid: bool) -> Callable[[Vectors], Scores]:
    weights = rng.normal(size=width)

    def rank(rows: Vectors) -> Scores:
        outputs = np.round((rows.astype(np.float64) * weights).sum(axis=1) * 4) / 4
        if invalid and len(outputs):
            outputs[np.argmax(outputs)] = np.inf
        scores: Scores = outputs.astype(np.float32)
        return scores

    return rank


def trees(rng: Random, width: int) -> bytes:
    """Random trees in the form in which training exports them: on their sum comes a linear start."""
    nodes: dict[str, list[Any]] = {name: [] for name in _NODE_FIELDS}
    leaves: dict[str, list[Any]] = {name: [] for name in _LEAF_FIELDS}
    for tree in range(int(rng.integers(1, 30))):
        _grow(rng, width, tree, nodes, leaves)
    from onnx import helper, numpy_helper

    ensemble = helper.make_node(
        "TreeEnsembleRegressor",
        ["rows"],
        ["output"],
        domain="ai.onnx.ml",
        n_targets=1,
        post_transform="NONE",
        **nodes,  # type: ignore[arg-type]  # onnx declares one type for all of them
        **leaves,  # type: ignore[arg-type]
    )
    start = (rng.normal(size=(width, 1)) * (rng.random() < 0.5)).astype(np.float32)
    return _graph(
        [
            ensemble,
            helper.make_node("MatMul", ["rows", "weights"], ["start"]),
            helper.make_node("Add", ["output", "start"], ["score"]),
        ],
        [numpy_helper.from_array(start, "weights")],
        width,
    )


_NODE_FIELDS: Final = (
    "nodes_treeids",
    "nodes_nodeids",
    "nodes_featureids",
    "nodes_modes",
    "nodes_values",
    "nodes_truenodeids",
    "nodes_falsenodeids",
    "nodes_hitrates",
    "nodes_missing_value_tracks_true",
)
_LEAF_FIELDS: Final = ("target_treeids", "target_nodeids", "target_ids", "target_weights")


def _grow(
    rng: Random, width: int, tree: int, nodes: dict[str, list[Any]], leaves: dict[str, list[Any]]
) -> None:
    """Adds one tree of at most 31 nodes, which are numbered level by level."""
    number, grown = 0, 1
    while number < grown:
        splits = grown < 31 and (number == 0 or rng.random() < 0.75)
        children = (grown, grown + 1) if splits else (0, 0)
        threshold = float(rng.choice(_VALUES)) if rng.random() < 0.6 else float(rng.normal())
        feature = int(rng.integers(width)) if splits else 0
        mode, value = ("BRANCH_LEQ", float(np.float32(threshold))) if splits else ("LEAF", 0.0)
        node = (tree, number, feature, mode, value, *children, 1.0, int(splits))
        for name, field in zip(_NODE_FIELDS, node, strict=True):
            nodes[name].append(field)
        if splits:
            grown += 2
        else:
            leaf = (tree, number, 0, float(np.float32(rng.normal())))
            for name, field in zip(_LEAF_FIELDS, leaf, strict=True):
                leaves[name].append(field)
        number += 1


def network(rng: Random, width: int) -> bytes:
    """A small network, which no trees express."""
    from onnx import helper, numpy_helper

    hidden = rng.normal(size=(width, 4)).astype(np.float32)
    last = rng.normal(size=(4, 1)).astype(np.float32)
    return _graph(
        [
            helper.make_node("MatMul", ["rows", "hidden"], ["inner"]),
            helper.make_node("Tanh", ["inner"], ["bent"]),
            helper.make_node("MatMul", ["bent", "last"], ["score"]),
        ],
        [numpy_helper.from_array(hidden, "hidden"), numpy_helper.from_array(last, "last")],
        width,
    )


def _graph(nodes: list[Any], weights: list[Any], width: int) -> bytes:
    from onnx import TensorProto, checker, helper

    rows = helper.make_tensor_value_info("rows", TensorProto.FLOAT, [None, width])
    score = helper.make_tensor_value_info("score", TensorProto.FLOAT, [None, 1])
    graph = helper.make_graph(nodes, "ranker", [rows], [score], weights)
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("ai.onnx.ml", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data
