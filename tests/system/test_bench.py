"""A short run of the benchmarks of the write path, on processes as the product starts them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from infra.apps.bench.freshness import EVENT_LOADS
from infra.apps.bench.writes import report
from infra.local.plan import FRESHET, own_modules
from tests.support.whole import whole_only

pytestmark = [
    pytest.mark.check,
    pytest.mark.timeout(420),
    whole_only,
]
PERCENTILES = {"p50", "p99"}


def test_the_write_path_is_measured_whole(tmp_path: Path) -> None:
    chosen = [it for name in ("post", "freshness", "cpu", "rollup") for it in ("--only", name)]
    options = ["--seconds", "1", "--repeats", "1", "--neighbours", "1", "--json"]
    done = subprocess.run(
        [*FRESHET, "bench", *chosen, *options, "--data-dir", str(tmp_path / "data")],
        env={**os.environ, **own_modules()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    made = json.loads(done.stdout)
    skipped = {name for name in report.KEYS if made[name] is None}
    assert skipped == {"served_record", "replay_ratio_to_consumer"}
    assert made["post"]["cpu_us"] > 0 < made["bare_fastapi"]
    single = made["post_details"]["bare_fastapi_single_worker_per_s"]
    assert min(made["post"]["single_worker_per_s"], single) > 0
    for name, *_ in EVENT_LOADS:
        assert made["freshness_ms"][name].keys() == PERCENTILES
        stages = made["freshness"][name]["stages_ms"]
        assert all(stages[it].keys() == PERCENTILES for it in ("post", "commit", "read"))
        assert made["freshness"][name]["records_a_batch"]["edge"] >= 1
    for by_component in (made["cpu_us_per_event_at_1000"], made["idle_percent"]):
        others = sum(us for name, us in by_component.items() if name != "sum")
        assert by_component["sum"] == pytest.approx(others, abs=0.1)
        assert {"edge", "people", "broker", "redis", "rollup"} <= by_component.keys()
    assert not [*(tmp_path / "data" / "bench").glob("run-*")]
