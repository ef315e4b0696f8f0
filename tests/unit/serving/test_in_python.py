"""What the compiled decision leaves to Python, as status and metrics say it."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from models.kernels.loading import VARIABLE, kernel, missing
from serving.read.in_python import in_python
from tests.support.worlds import catalogue, release
from tests.unit.test_house import ROOT

_WITHOUT = """
from serving.decide.case import Ask
from serving.decide.decide import ENTRIES, decide
from serving.decide.person import EMPTY_PERSON
from tests.support.worlds import NOW, catalogue, world
assert len(decide(EMPTY_PERSON, world(catalogue(20, 3, 1)), Ask(now=NOW)).items) == 10
found = ENTRIES.in_python
assert {"covisit", "popular"} <= {*found["source"], *found["column"]} and "seen" in found["rule"]
"""


def serving(**releases: Any) -> Any:
    loaded = {name: SimpleNamespace(release=it) for name, it in releases.items()}
    return SimpleNamespace(releases=SimpleNamespace(loaded=loaded))


@pytest.mark.skipif(kernel is None, reason=missing or "there is one")
def test_a_ranker_that_onnx_runtime_runs_is_named_with_its_reason() -> None:
    items = catalogue(5, 1, 1)
    ranks, does_not = release(items, 1), release(items, 2, ranker=False)
    object.__setattr__(ranks, "without_trees", "it is no ensemble of trees")
    assert in_python(serving(one=ranks, two=does_not)) == {
        "decision": [],
        "source": [],
        "rule": [],
        "column": [],
        "ranker": ["one: it is no ensemble of trees"],
    }


def test_without_a_kernel_python_decides_and_everything_is_named() -> None:
    subprocess.run(
        [sys.executable, "-c", _WITHOUT], cwd=ROOT, env={**os.environ, VARIABLE: "off"}, check=True
    )
