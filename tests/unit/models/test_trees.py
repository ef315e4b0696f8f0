"""Trees are read off ONNX as ONNX Runtime runs them; what is not read is left to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import lightgbm
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from models.kernels.loading import kernel, missing
from models.release import agreement, artefact
from models.release.onnx_trees import F32, TreeNodes
from models.release.release import NO_SPACE, Release
from models.release.trees import Trees
from models.training import ranker
from models.training.onnx import export, in_float32
from tests.unit.models.kernels.test_trees_kernel import beside, ensemble
from tests.unit.models.test_training import FEATURES, WEIGHTS, some_lists

UP: Final = np.float32(np.inf)
MODES: Final = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT")


def as_onnx(nodes: TreeNodes, width: int, modes: list[str], tracks: list[int]) -> onnx.ModelProto:
    """A model with these nodes; `modes` and `tracks` (N,): how an inner node asks, and whether NaN holds."""
    n, inner = len(nodes.column), nodes.column >= 0
    tree = np.searchsorted(nodes.root, np.arange(n), side="right") - 1
    number = np.arange(n) - nodes.root[tree]
    child = np.where(inner[:, None], nodes.child - nodes.root[tree][:, None], 0)
    leaves = np.flatnonzero(~inner)
    trees = helper.make_node(
        "TreeEnsembleRegressor",
        ["rows"],
        ["trees"],
        domain="ai.onnx.ml",
        n_targets=1,
        base_values=[float(nodes.base)],
        nodes_treeids=tree.tolist(),
        nodes_nodeids=number.tolist(),
        nodes_featureids=np.maximum(nodes.column, 0).tolist(),
        nodes_modes=[mode if it else "LEAF" for mode, it in zip(modes, inner, strict=True)],
        nodes_values=np.where(inner, nodes.value, 0).tolist(),
        nodes_truenodeids=child[:, 0].tolist(),
        nodes_falsenodeids=child[:, 1].tolist(),
        nodes_missing_value_tracks_true=tracks,
        target_treeids=tree[leaves].tolist(),
        target_nodeids=number[leaves].tolist(),
        target_ids=[0] * len(leaves),
        target_weights=nodes.value[leaves].tolist(),
    )
    made, constants, score = [trees], [], "trees"
    if len(nodes.start):
        constants = [numpy_helper.from_array(nodes.start[:, None], "weights")]
        made += [
            helper.make_node("MatMul", ["rows", "weights"], ["start"]),
            helper.make_node("Add", ["start", "trees"], ["score"]),
        ]
        score = "score"
    graph = helper.make_graph(
        made,
        "ranker",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, [None, width])],
        [helper.make_tensor_value_info(score, TensorProto.FLOAT, [None, 1])],
        constants,
    )
    opsets = [helper.make_opsetid("", 15), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def some_model(linear: bool = True) -> onnx.ModelProto:
    nodes = ensemble(np.random.default_rng(0), 9, 8, 3, linear)
    n = len(nodes.column)
    return as_onnx(nodes, 3, ["BRANCH_LEQ"] * n, [0] * n)


def judged(model: onnx.ModelProto, width: int, rows: F32) -> F32:
    made: F32 = artefact.ranker(model.SerializeToString(), width)(rows)
    return made


@given(
    st.integers(0, 2**32),
    st.integers(1, 30),
    st.integers(1, 20),
    st.integers(1, 9),
    st.sampled_from([0.0, 0.1]),
    st.booleans(),
)
def test_scores_are_those_of_onnx_runtime(
    seed: int, trees: int, leaves: int, width: int, odd: float, linear: bool
) -> None:
    random = np.random.default_rng(seed)
    nodes = ensemble(random, trees, leaves, width, linear)
    modes = random.choice(MODES, len(nodes.column)).tolist()
    tracks = random.integers(0, 2, len(nodes.column)).tolist()
    for at, mode in enumerate(modes):
        if mode in ("BRANCH_LT", "BRANCH_GTE") and nodes.value[at] == -np.inf:
            modes[at] = "BRANCH_LEQ"  # below -inf nothing is: not read
    model = as_onnx(nodes, width, modes, tracks)
    held = Trees.read(model.SerializeToString(), width)
    assert held is not None
    rows = beside(random, nodes, 60, width, odd)
    with np.errstate(all="ignore"):
        rows[np.abs(rows) > 1e30] = np.sign(rows[np.abs(rows) > 1e30]) * np.inf  # sums stay finite
        found, wanted = held.predict_by_numpy(rows), judged(model, width, rows)
        allowed = 1e-6 * np.maximum(1, np.abs(wanted))
        near = (np.abs(found - wanted) <= allowed) | (found == wanted)
    assert np.all(near | (np.isnan(found) & np.isnan(wanted)))


def test_a_trained_ranker_scores_alike_on_its_thresholds_and_a_hair_beside_them() -> None:
    """Python's LightGBM, ONNX Runtime, the kernel and numpy; thresholds and rows are float32."""
    made = ranker.fit(some_lists(600), FEATURES, WEIGHTS)
    width = len(made.features)
    held = Trees.read(made.export(), width)
    assert held is not None
    cuts = held.nodes.value[held.nodes.column >= 0]
    values = np.concatenate([cuts, np.nextafter(cuts, UP), np.nextafter(cuts, -UP), [0]])
    rows = np.random.default_rng(0).choice(values, (3_000, width)).astype(np.float32)
    by_numpy = held.predict_by_numpy(rows)
    assert np.array_equal(held.predict(rows), by_numpy)
    onnx_runtime = artefact.ranker(made.export(), width)(rows)
    assert np.abs(by_numpy - onnx_runtime).max() <= 1e-6
    assert np.abs(by_numpy - made.predict(rows)).max() <= 1e-5
    assert agreement.disagreement(held, artefact.ranker(made.export(), width), rows) == ""


def test_zeros_of_rows_meet_the_threshold_that_lightgbm_sets_beside_zero() -> None:
    """Its bins part zero from what is not by 1e-35, of which float32 has no exact value."""
    random = np.random.default_rng(0)
    rows = np.where(random.random((900, 2)) < 0.5, 0, random.normal(size=(900, 2))).astype(
        np.float32
    )
    options = {"verbosity": -1, "num_threads": 1, "min_data_in_leaf": 5, "num_leaves": 7}
    model = in_float32(lightgbm.train(options, lightgbm.Dataset(rows, rows.prod(axis=1) != 0), 20))
    held = Trees.read(export(model, [0.0, 0.0]), 2)
    assert held is not None
    cuts = held.nodes.value[held.nodes.column >= 0]
    assert ((cuts > 0) & (cuts < 1e-30)).any()
    tiny = np.array([0, -0.0, *cuts, *np.nextafter(cuts, UP), 1e-45, -1e-45], np.float32)
    tried = random.choice(tiny, (2_000, 2))
    assert np.abs(held.predict(tried) - model.predict(tried)).max() <= 1e-6
    assert (
        np.abs(held.predict(tried) - artefact.ranker(export(model, [0.0, 0.0]), 2)(tried)).max()
        == 0
    )


@contextmanager
def attribute(model: onnx.ModelProto, name: str) -> Iterator[Any]:
    yield next(it for it in model.graph.node[0].attribute if it.name == name)


def changed(name: str, field: str, at: int, value: object) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        with attribute(model, name) as held:
            getattr(held, field)[at] = value

    return change


def more(name: str, value: object) -> Callable[[onnx.ModelProto], None]:
    return lambda model: model.graph.node[0].attribute.append(helper.make_attribute(name, value))


def without(name: str) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        with attribute(model, name) as held:
            model.graph.node[0].attribute.remove(held)

    return change


def linear(change: Callable[[Any], None]) -> Callable[[onnx.ModelProto], None]:
    return lambda model: change(model.graph.initializer[0])


@pytest.mark.parametrize(
    "change",
    [
        changed("nodes_values", "floats", 0, float("nan")),
        changed("nodes_featureids", "ints", 0, 3),
        changed("nodes_featureids", "ints", 0, -1),
        changed("nodes_truenodeids", "ints", 0, 0),  # a cycle
        changed("nodes_truenodeids", "ints", 0, 99),
        changed("nodes_truenodeids", "ints", 0, -(2**63)),
        changed("nodes_falsenodeids", "ints", 0, 1),  # two ways to a node, none to another
        changed("nodes_nodeids", "ints", 1, 0),
        changed("nodes_nodeids", "ints", 1, 2**40),
        changed("nodes_treeids", "ints", 0, -1),
        changed("nodes_treeids", "ints", 0, 8),
        changed("nodes_treeids", "ints", 0, -(2**63)),
        changed("nodes_modes", "strings", 0, b"BRANCH_EQ"),
        changed("nodes_modes", "strings", 0, b"LEAF"),
        changed("target_ids", "ints", 0, 1),
        changed("target_nodeids", "ints", 0, 0),
        changed("target_treeids", "ints", 0, 77),
        changed("target_weights", "floats", 0, float("inf")),
        changed("base_values", "floats", 0, float("nan")),
        without("nodes_values"),
        without("nodes_treeids"),
        without("target_weights"),
        more("post_transform", "LOGISTIC"),
        more("aggregate_function", "AVERAGE"),
        more("nodes_values_as_tensor", numpy_helper.from_array(np.ones(3))),
        linear(lambda it: it.dims.__setitem__(0, 4)),
        linear(lambda it: setattr(it, "raw_data", it.raw_data[:-1])),
        linear(lambda it: setattr(it, "raw_data", np.full(3, np.nan, "<f4").tobytes())),
        linear(lambda it: setattr(it, "data_type", TensorProto.INT32)),
        linear(lambda it: setattr(it, "data_location", TensorProto.EXTERNAL)),
        lambda model: model.graph.node.append(helper.make_node("Neg", ["score"], ["minus"])),
        lambda model: model.graph.node.append(
            helper.make_node("Add", ["rows", "rows"], ["unused"])
        ),
        lambda model: model.graph.node[1].input.__setitem__(0, "trees"),
        lambda model: model.graph.node[2].output.__setitem__(0, "trees"),
        lambda model: setattr(model.graph.output[0], "name", "start"),
        lambda model: setattr(model.graph.output[0], "name", "rows"),
        lambda model: model.graph.input.append(model.graph.input[0]),
        lambda model: setattr(model.graph.node[0], "domain", "else.where"),
        lambda model: model.functions.append(
            helper.make_function("", "Add", ["x"], ["y"], [], [helper.make_opsetid("", 15)])
        ),
    ],
)
def test_what_is_not_such_an_ensemble_is_not_read(
    change: Callable[[onnx.ModelProto], None],
) -> None:
    model = some_model()
    held = Trees.read(model.SerializeToString(), 3)
    assert held is not None
    assert held.nodes.column[0] >= 0
    assert held.nodes.root[1] > 2
    change(model)
    assert Trees.read(model.SerializeToString(), 3) is None


def test_names_of_nodes_are_free_and_an_identity_says_nothing() -> None:
    model, same = some_model(), some_model()
    model.graph.node[1].output[0] = "product"
    model.graph.node[2].input[0] = "product"
    model.graph.node[2].input.reverse()
    model.graph.node.append(helper.make_node("Identity", ["score"], ["out"]))
    model.graph.output[0].name = "out"
    one, other = (Trees.read(it.SerializeToString(), 3) for it in (model, same))
    assert one is not None
    assert other is not None
    rows = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    assert np.array_equal(one.predict(rows), other.predict(rows))


def test_a_circle_of_identities_ends() -> None:
    model = some_model(linear=False)
    model.graph.node.append(helper.make_node("Identity", ["out"], ["out"]))
    model.graph.output[0].name = "out"
    assert Trees.read(model.SerializeToString(), 3) is None


@given(st.binary(max_size=60), st.integers(0, 10_000), st.integers(0, 3))
def test_whatever_bytes_there_are_nothing_is_raised(data: bytes, at: int, how: int) -> None:
    whole = some_model().SerializeToString()
    at %= len(whole)
    spoilt = [data, whole[:at], whole[:at] + data + whole[at + len(data) :], whole[:at] + data][how]
    held = Trees.read(spoilt, 3)
    if held is not None:
        with np.errstate(all="ignore"):
            rows = agreement.probes(held)[:20]
            assert np.array_equal(held.predict(rows), held.predict_by_numpy(rows), equal_nan=True)


def test_every_threshold_is_probed_from_both_sides() -> None:
    held = Trees.read(some_model().SerializeToString(), 3)
    assert held is not None
    rows, nodes = agreement.probes(held), held.nodes
    for at in np.flatnonzero(nodes.column >= 0):
        cut, column = nodes.value[at], rows[:, nodes.column[at]]
        if np.isfinite(cut):
            assert {cut, np.nextafter(cut, UP), np.nextafter(cut, -UP)} - {-UP, UP} <= {*column}
    assert np.isfinite(rows).all()


def test_trees_that_score_otherwise_are_found() -> None:
    random = np.random.default_rng(0)
    made = ensemble(random, 9, 8, 3)
    inner = made.column >= 0
    made.value[inner] = random.normal(size=inner.sum())
    asked = ["BRANCH_LEQ"] * len(inner), [0] * len(inner)
    model = as_onnx(made, 3, *asked)
    rank = artefact.ranker(model.SerializeToString(), 3)
    held = Trees.read(model.SerializeToString(), 3)
    assert held is not None
    rows = agreement.probes(held)
    assert agreement.disagreement(held, rank, rows) == ""
    assert agreement.disagreement(held, rank, rows[:0]) == ""
    nodes = held.nodes
    moved = np.where(nodes.column >= 0, np.nextafter(nodes.value, UP), nodes.value)
    for other in (
        nodes._replace(value=moved),
        nodes._replace(base=np.float32(nodes.base + 1e-4)),
        nodes._replace(start=-nodes.start),
        nodes._replace(child=nodes.child[:, ::-1]),
    ):
        assert "score otherwise" in agreement.disagreement(Trees(other, 3), rank, rows)
    # a linear part makes NaN of NaN, whatever way it goes
    plain = nodes._replace(start=nodes.start[:0])
    rank = artefact.ranker(as_onnx(plain, 3, *asked).SerializeToString(), 3)
    gaps = np.where(rows > rows[0, 0], np.nan, rows).astype(np.float32)
    assert agreement.disagreement(Trees(plain, 3), rank, gaps) == ""
    other = plain._replace(missing=~nodes.missing)
    assert "score otherwise" in agreement.disagreement(Trees(other, 3), rank, gaps)


class TestRelease:
    """A release with a ranker: what serves."""

    @pytest.fixture
    def release(self) -> Release:
        return Release("r1", ("a", "b", "c"), {}, NO_SPACE)

    @pytest.fixture
    def rows(self) -> F32:
        return np.random.default_rng(1).normal(size=(100, 3)).astype(np.float32)

    def test_its_trees_serve(self, release: Release, rows: F32) -> None:
        made = artefact.with_ranker(release, some_model().SerializeToString(), rows)
        assert made.rank is not None
        assert np.abs(made.predict(rows) - made.rank(rows)).max() <= 1e-6
        if kernel is None:
            assert (made.trees, made.without_trees) == (None, "there is no compiled kernel")
        else:
            assert made.trees is not None
            assert made.without_trees == ""
            assert np.array_equal(made.predict(rows), made.trees.predict(rows))

    @pytest.mark.skipif(kernel is None, reason=missing)
    def test_another_graph_goes_through_onnx_runtime(self, release: Release, rows: F32) -> None:
        model = some_model()
        model.graph.node.append(helper.make_node("Neg", ["score"], ["minus"]))
        model.graph.output[0].name = "minus"
        made = artefact.with_ranker(release, model.SerializeToString())
        assert made.trees is None
        assert made.without_trees == "the kernel reads no trees in ranker.onnx"
        assert made.rank is not None
        assert np.array_equal(made.predict(rows), made.rank(rows))

    @pytest.mark.skipif(kernel is None, reason=missing)
    @pytest.mark.parametrize("on", ["thresholds", "sample"])
    def test_trees_that_onnx_runtime_contradicts_do_not_serve(
        self,
        on: str,
        release: Release,
        rows: F32,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        held = Trees.read(some_model().SerializeToString(), 3)
        assert held is not None
        other = Trees(held.nodes._replace(base=held.nodes.base + np.float32(0.01)), 3)
        monkeypatch.setattr(Trees, "read", lambda model, width: other)
        if on == "sample":
            monkeypatch.setattr(agreement, "probes", lambda trees: rows[:0])
        made = artefact.with_ranker(release, some_model().SerializeToString(), rows)
        assert made.trees is None
        assert "score otherwise than by ONNX Runtime" in made.without_trees
        assert made.without_trees in caplog.text
        assert made.rank is not None
        assert np.array_equal(made.predict(rows), made.rank(rows))
