"""Boosted trees, evaluated by the kernel: what serves where a release's ranker is such an ensemble.

ONNX stays the format, and ONNX Runtime the judge (`models.release.agreement`). A row is float32, and so is
each threshold: a comparison of two float32 numbers has one answer everywhere.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.arrays import I64
from models.kernels.loading import kernel
from models.release import onnx_trees
from models.release.onnx_trees import F32, TreeNodes

MASK_LEAVES: Final = 8
"""Of each tree, at most: then the kernel evaluates an ensemble by masks of leaves (trees.c)."""
MASK_COLUMNS: Final = 64
"""Of a row, likewise."""


class _Masks(NamedTuple):
    """Of T trees as many tests S each, the last ones of which may be idle.

    `column`, `value`, `mask` (T, S): a row whose column is not <= the value keeps the leaves of the mask;
    `leaf` (T, MASK_LEAVES): weights, child 0 first.
    """

    column: NDArray[np.int32]
    value: F32
    mask: NDArray[np.int32]
    leaf: F32


class Trees:
    """An ensemble over rows of `width` columns. Immutable."""

    def __init__(self, nodes: TreeNodes, width: int, *, by_masks: bool = True) -> None:
        """`by_masks`: evaluate by masks where the trees are small enough; the scores are the same."""
        self.nodes, self.width = nodes, width
        self._by_masks = by_masks

    @classmethod
    def read(cls, model: bytes, width: int) -> Trees | None:
        """The trees of an ONNX model; None where `models.release.onnx_trees` does not take it."""
        nodes = onnx_trees.read(model, width)
        return None if nodes is None else cls(nodes, width)

    def predict(self, rows: F32) -> F32:
        """(n,) float32 scores of (n, `width`) float32 rows: for each the sum of a leaf of each tree, in their
        order, then `base` and the linear part added. Errors: ValueError for rows of another width."""
        rows = self._checked(rows)
        if kernel is None:
            return self.predict_by_numpy(rows)
        scores = np.empty(len(rows), np.float32)
        pointer = kernel.ffi.from_buffer
        kernel.lib.trees_scores(
            self.compiled,
            pointer("float[]", rows),
            len(rows),
            self.width,
            pointer("float[]", scores),
        )
        return scores

    def predict_by_numpy(self, rows: F32) -> F32:
        """The definition of `predict`."""
        rows, nodes = self._checked(rows), self.nodes
        of = np.arange(len(rows))[:, None]
        at = np.broadcast_to(nodes.root, (len(rows), len(nodes.root))).copy()
        while (inner := nodes.column[at] >= 0).any():
            # an infinite value or NaN may meet a leaf's weight: nothing is read off that
            value = rows[of, np.maximum(nodes.column[at], 0)]
            other = np.where(np.isnan(value), nodes.missing[at], ~(value <= nodes.value[at]))
            at = np.where(inner, nodes.child[at, other.astype(np.int64)], at)
        # one addition after the other; a sum may pair them
        scores: F32 = np.zeros(len(rows), np.float32)
        for tree in range(at.shape[1]):
            scores += nodes.value[at[:, tree]]
        scores += nodes.base
        return scores + self._linear(rows) if len(nodes.start) else scores

    @cached_property
    def compiled(self) -> Any:
        """The ensemble as trees.h has it: a pointer, valid as long as this object. There must be a kernel."""
        assert kernel is not None
        nodes, masks = self.nodes, self._masks() if self._by_masks else None
        made = kernel.ffi.new("tree_ensemble *")
        self._held = held = {
            "root": ("int32_t[]", nodes.root.astype(np.int32)),
            "column": ("int32_t[]", nodes.column.astype(np.int32)),
            "value": ("float[]", np.ascontiguousarray(nodes.value)),
            "child": ("int32_t[]", nodes.child.astype(np.int32)),
            "missing": ("uint8_t[]", nodes.missing.astype(np.uint8)),
        }
        if len(nodes.start):
            held["start"] = ("float[]", np.ascontiguousarray(nodes.start))
        if masks is not None:
            made.tests = masks.column.shape[1]
            held["test_column"] = ("int32_t[]", masks.column)
            held["test_value"] = ("float[]", masks.value)
            held["test_mask"] = ("int32_t[]", masks.mask)
            held["leaf"] = ("float[]", masks.leaf)
        made.width, made.trees, made.base = self.width, len(nodes.root), float(nodes.base)
        for name, (kind, array) in held.items():
            setattr(made, name, kernel.ffi.from_buffer(kind, array))
        return made

    def _checked(self, rows: F32) -> F32:
        if rows.ndim != 2 or rows.shape[1] != self.width:
            raise ValueError(f"rows have {self.width} columns")
        return np.ascontiguousarray(rows, np.float32)

    def _linear(self, rows: F32) -> F32:
        """(n,) rows @ start; each product is added unrounded (trees.c)."""
        sums = np.zeros(len(rows), np.float32)
        with np.errstate(invalid="ignore", over="ignore"):
            for column, weight in zip(rows.T, self.nodes.start.astype(np.float64), strict=True):
                sums = (column.astype(np.float64) * weight + sums).astype(np.float32)
        return sums

    def _masks(self) -> _Masks | None:
        """None where a tree has too many leaves, or a row too many columns."""
        leaves = _leaves(self.nodes)
        if leaves.max() > MASK_LEAVES or self.width > MASK_COLUMNS:
            return None
        trees, tests = len(leaves), max(int(leaves.max()) - 1, 1)
        made = _Masks(
            np.zeros((trees, tests), np.int32),
            np.zeros((trees, tests), np.float32),
            np.full((trees, tests), (1 << MASK_LEAVES) - 1, np.int32),  # idle: keeps every leaf
            np.zeros((trees, MASK_LEAVES), np.float32),
        )
        for number, root in enumerate(self.nodes.root.tolist()):
            self._describe(made, number, root)
        return made

    def _describe(self, masks: _Masks, number: int, root: int) -> None:
        """Writes tree `number` into `masks`."""
        nodes, test, leaf = self.nodes, 0, 0

        def below(at: int) -> int:
            """The leaves below a node, a bit each."""
            nonlocal test, leaf
            if nodes.column[at] < 0:
                masks.leaf[number, leaf] = nodes.value[at]
                leaf += 1
                return 1 << (leaf - 1)
            mine, test = test, test + 1
            first, second = (below(child) for child in nodes.child[at].tolist())
            masks.column[number, mine], masks.value[number, mine] = (
                nodes.column[at],
                nodes.value[at],
            )
            masks.mask[number, mine] &= ~first
            return first | second

        below(root)


def _leaves(nodes: TreeNodes) -> I64:
    """(T,) how many leaves each tree has: its nodes lie together."""
    total = np.append(0, np.cumsum(nodes.column < 0))
    until = np.append(nodes.root[1:], len(nodes.column))
    counts: I64 = total[until] - total[nodes.root]
    return counts
