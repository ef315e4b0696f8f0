"""Scores of trees by the kernel, by masks and by walks, are those of numpy, to the bit."""

from __future__ import annotations

from typing import Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.kernels.loading import kernel, missing
from models.release.onnx_trees import F32, TreeNodes
from models.release.trees import MASK_COLUMNS, MASK_LEAVES, Trees

pytestmark = pytest.mark.skipif(kernel is None, reason=missing)

CUTS: Final = np.array(
    [0, -0.0, 1, -1, 1e-35, 1e-45, -1e-45, 3.4e38, -3.4e38, np.inf, -np.inf, 0.1, 0.7], np.float32
)


def ensemble(
    random: np.random.Generator, trees: int, leaves: int, width: int, linear: bool = True
) -> TreeNodes:
    """Random trees of 1 to `leaves` leaves."""
    column: list[int] = []
    child: list[tuple[int, int]] = []
    roots = []
    for _ in range(trees):
        roots.append(len(column))
        column.append(-1)
        child.append((0, 0))
        open_leaves = [roots[-1]]
        for _ in range(int(random.integers(0, leaves))):
            at = open_leaves.pop(int(random.integers(len(open_leaves))))
            column[at], child[at] = int(random.integers(width)), (len(column), len(column) + 1)
            open_leaves += child[at]
            column += [-1, -1]
            child += [(0, 0), (0, 0)]
    columns, n = np.array(column), len(column)
    value = np.where(columns < 0, random.normal(size=n).astype(np.float32), random.choice(CUTS, n))
    return TreeNodes(
        np.array(roots),
        columns,
        value.astype(np.float32),
        np.array(child),
        (columns >= 0) & (random.random(n) < 0.5),
        random.normal(size=width if linear else 0).astype(np.float32),
        np.float32(random.normal()),
    )


def beside(random: np.random.Generator, nodes: TreeNodes, n: int, width: int, odd: float) -> F32:
    """(n, width) rows: values on thresholds, and next to them; a share `odd` is NaN or infinite."""
    with np.errstate(over="ignore"):
        cuts = np.append(nodes.value, CUTS)
        every = np.concatenate([cuts, np.nextafter(cuts, np.float32(np.inf)), -cuts])
    every = np.append(every[np.isfinite(every)], random.normal(size=20)).astype(np.float32)
    rows = random.choice(every, (n, width))
    drawn = random.random(rows.shape)
    rows = np.where(drawn < odd / 2, np.inf, rows)
    return np.where((drawn >= odd / 2) & (drawn < odd), np.nan, rows).astype(np.float32)


@given(
    st.integers(0, 2**32),
    st.integers(1, 40),
    st.integers(1, MASK_LEAVES) | st.integers(1, 70),
    st.integers(1, 20) | st.integers(1, MASK_COLUMNS + 9),
    st.integers(0, 50),
    st.sampled_from([0.0, 0.01, 0.3]),
    st.booleans(),
)
def test_scores_by_the_kernel(
    seed: int, trees: int, leaves: int, width: int, n: int, odd: float, linear: bool
) -> None:
    random = np.random.default_rng(seed)
    nodes = ensemble(random, trees, leaves, width, linear)
    rows = beside(random, nodes, n, width, odd)
    with np.errstate(all="ignore"):
        wanted = Trees(nodes, width).predict_by_numpy(rows)
    for by_masks in (True, False):
        found = Trees(nodes, width, by_masks=by_masks).predict(rows)
        assert found.dtype == np.float32
        assert np.array_equal(found, wanted, equal_nan=True)
        # no zero of another sign either
        finite = ~np.isnan(wanted)
        assert found[finite].tobytes() == wanted[finite].tobytes()


def test_small_trees_are_evaluated_by_masks_and_large_ones_are_walked() -> None:
    random = np.random.default_rng(0)
    small = Trees(ensemble(random, 50, MASK_LEAVES, 3), 3).compiled
    assert 1 <= small.tests < MASK_LEAVES
    for leaves, width in ((40, 3), (MASK_LEAVES, MASK_COLUMNS + 1)):
        assert Trees(ensemble(random, 50, leaves, width), width).compiled.tests == 0


def test_rows_of_another_width_are_refused() -> None:
    assert kernel is not None
    trees = Trees(ensemble(np.random.default_rng(0), 2, 4, 3), 3)
    for rows in (np.zeros((2, 4), np.float32), np.zeros(3, np.float32)):
        for predict in (trees.predict, trees.predict_by_numpy):
            with pytest.raises(ValueError, match="3 columns"):
                predict(rows)
    one, out = (kernel.ffi.new("float[4]") for _ in range(2))
    assert kernel.lib.trees_scores(trees.compiled, one, 1, 4, out) == -1
    assert kernel.lib.trees_scores(trees.compiled, one, 1, 3, out) == 0
