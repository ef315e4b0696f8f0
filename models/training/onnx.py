"""The ranker as ONNX: the same trees on the same start, for a runtime that serves them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Final

import lightgbm
import numpy as np
from numpy.typing import NDArray

OPSET: Final = 15
ROWS: Final = "rows"
_THRESHOLDS: Final = "threshold="
_ZERO: Final = np.float32(1e-35)
"""LightGBM reads a number up to it, of either sign, as 0 (kZeroThreshold in its meta.h); ONNX does not."""


def export(model: lightgbm.Booster, start: Sequence[float] | NDArray[np.float64]) -> bytes:
    """One input "rows" (n, F) float32, one output (n, 1): trees(rows) + rows @ start; `start` is (F,).

    A model of `in_float32` sends every row to the same leaves as in Python.
    """
    from onnx import TensorProto, checker, helper, numpy_helper

    exported = _trees(model, len(start))
    graph = exported.graph
    weights = np.asarray(start, np.float32).reshape(-1, 1)
    graph.initializer.append(numpy_helper.from_array(weights, "weights"))
    graph.node.append(helper.make_node("MatMul", [ROWS, "weights"], ["start"]))
    graph.node.append(helper.make_node("Add", [graph.output[0].name, "start"], ["score"]))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("score", TensorProto.FLOAT, [None, 1]))
    checker.check_model(exported)
    data: bytes = exported.SerializeToString()
    return data


def in_float32(model: lightgbm.Booster) -> lightgbm.Booster:
    """The same model for float32 rows, its thresholds float32 too: each the next one down, so that
    x <= threshold holds for the same x."""
    lines = []
    for line in model.model_to_string().splitlines():
        if line.startswith(_THRESHOLDS):
            lines.append(_THRESHOLDS + " ".join(map(_down, line[len(_THRESHOLDS) :].split())))
        elif not line.startswith("tree_sizes="):  # in bytes, of the text as it was
            lines.append(line)
    return lightgbm.Booster(model_str="\n".join(lines) + "\n")


def _down(threshold: str) -> str:
    exact = float(threshold)
    rounded = np.float32(exact)
    if abs(rounded) <= _ZERO:
        # 0 goes as it goes: with the positive ones below the threshold, or with the negative ones above it
        rounded = _ZERO if exact >= 0 else -_ZERO
        exact = -np.inf if exact < 0 else float(rounded)
    if float(rounded) > exact:
        rounded = np.nextafter(rounded, np.float32(-np.inf))
    return repr(float(rounded))


def _trees(model: lightgbm.Booster, features: int) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the converter's own dependencies
        from onnxmltools.convert import convert_lightgbm
        from onnxmltools.convert.common.data_types import FloatTensorType

        return convert_lightgbm(
            model,
            name="ranker",  # else a random one: no two exports would be alike
            initial_types=[(ROWS, FloatTensorType([None, features]))],
            target_opset=OPSET,
            zipmap=False,
        )
