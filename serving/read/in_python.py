"""Which parts of a decision this process computes in Python, because the kernel does not."""

from __future__ import annotations

from models.kernels.loading import kernel, missing
from serving.context import Serving
from serving.decide.decide import ENTRIES


def in_python(serving: Serving) -> dict[str, list[str]]:
    """Kind -> what Python computes of it: "decision", where there is no kernel, with the reason; names of a
    "source", "rule" or "column" that has no entry in C; a "ranker" that ONNX Runtime runs, by its release,
    with the reason."""
    loaded = sorted(serving.releases.loaded.items())
    rankers = [
        f"{name}: {it.release.without_trees or missing}"
        for name, it in loaded
        if it.release.rank is not None and (kernel is None or it.release.trees is None)
    ]
    return {
        "decision": [] if kernel is not None else [missing],
        **ENTRIES.in_python,
        "ranker": rankers,
    }
