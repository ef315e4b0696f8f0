"""A short run of the benchmark of one read, on processes as the product starts them."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.apps.bench.load import Generator, build
from infra.apps.bench.read import measure
from models.kernels.loading import kernel, missing
from tests.support.whole import whole_only
from tests.unit.infra.test_bench_read import KEYS, OF_THE_FIRST

pytestmark = [
    pytest.mark.check,
    whole_only,
    pytest.mark.timeout(300),
    pytest.mark.skipif(kernel is None, reason=missing),
]


def test_one_read_is_measured_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a ranker of trees, on a small catalogue, by one retrieval."""
    for name, value in (("MIN_RATINGS", 4_000), ("MIN_PEOPLE", 80), ("MIN_CHOICES", 300)):
        monkeypatch.setattr(measure, name, value)
    monkeypatch.setattr(measure, "IDLE_SECONDS", 1.0)
    said: list[str] = []
    generator = Generator(build(tmp_path / "load"), "", tmp_path)
    (made,), lines = measure.measure(
        tmp_path / "read", generator, 400, 1.0, 1, said.append, ["usearch"]
    )
    assert made.keys() == KEYS | OF_THE_FIRST
    assert (made["items"], made["retrieval"]) == (400, "usearch")
    numbers = [it for it in made.values() if isinstance(it, float | int)]
    assert all(it > 0 for it in numbers)
    assert made["recall_of_top_100"] == 1
    assert {"retrieve", "rank", "explain"} <= made["cpu_us_by_stage"].keys()
    assert made["cpu_us_system"] > made["cpu_us_serving"] > made["bare_guarded"]["cpu_us"]
    assert len(lines) == 9
    assert any("recommendations/s" in it for it in said)
