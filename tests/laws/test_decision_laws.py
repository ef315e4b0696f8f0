"""A decision by the kernel is the one that Python defines; its scores depend on nobody else in the list."""

from __future__ import annotations

import pytest
from hypothesis import given

from models.kernels.loading import kernel
from serving.decide.decide import decide, decide_by_numpy
from tests.support.decisions import Seeds, assert_same, made, seeds

compiled = pytest.mark.skipif(kernel is None, reason="no kernel was built")


@compiled
@given(seeds)
def test_the_kernel_decides_as_python_does(of: Seeds) -> None:
    setting = made(of)
    arguments = (setting.world, setting.ask, setting.explain)
    assert_same(
        decide(setting.person, *arguments),
        decide_by_numpy(setting.person, *arguments),
    )
