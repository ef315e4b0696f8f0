"""The benchmarks of the write path: what they compute, against values worked by hand and small real parts."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from infra.apps.bench import cpu
from infra.apps.bench.load import NotMeasured
from infra.apps.bench.run import measured
from infra.apps.bench.services import busy_loops, logged
from infra.apps.bench.writes import rollup
from infra.apps.bench.writes.batches import Batches, of_log
from infra.apps.bench.writes.timeline import SeenCommits

MS = 1_000_000


def test_the_stages_of_a_probe_add_up_to_its_freshness() -> None:
    commits = SeenCommits(2)
    commits.see(30 * MS, [0, 8])
    commits.see(40 * MS, [5, 8])
    # POST, commit, read: 20 + 15 + 10; seen committed before its 202: 25 + 0 + 5; never seen: 10 + 30 + 0
    timeline = f"0:4 {5 * MS} {25 * MS} {50 * MS}\n1:7 {10 * MS} {35 * MS} {40 * MS}\n"
    stages = commits.stages(timeline + f"0:5 0 {10 * MS} {40 * MS}\n")
    assert (stages.post["p50"], stages.commit["p50"], stages.read["p50"]) == (20.0, 15.0, 5.0)
    assert stages.post["p99"] == pytest.approx(25, abs=0.2)
    assert stages.probes == 3
    assert str(stages).startswith("POST p50 20.0 p99 24.9 ms, commit p50 15.0")


def test_a_record_is_committed_once_a_fence_is_past_it() -> None:
    commits = SeenCommits(1)
    for at, offset in ((10, 3), (20, 3), (30, 7)):
        commits.see(at, [offset])
    assert [commits.seen(0, offset) for offset in (0, 2, 3, 6, 7)] == [10, 10, 30, 30, None]


def test_a_timeline_without_probes_is_no_measurement() -> None:
    with pytest.raises(NotMeasured, match="no probe was answered"):
        SeenCommits(1).stages("")


def test_the_batches_of_the_log_are_counted_as_the_broker_keeps_them(tmp_path: Path) -> None:
    with logged(tmp_path, 300, lambda line: None) as at:
        records, batches = of_log(at.settings)
    assert records == at.log.records == 303
    assert 1 <= batches <= 303


def test_records_a_batch_are_those_of_a_run() -> None:
    run = Batches(110, 30, 95, 12).since(Batches(10, 5, 5, 2))
    assert run.sizes() == {"edge": 4.0, "people": 9.0}
    assert run.since(run).sizes() == {"edge": 0.0, "people": 0.0}


def test_an_entry_is_applied_to_tables_that_have_listed_every_item() -> None:
    found = rollup.measure(2, items=(50, 200))
    assert {name: len(runs) for name, runs in found.items()} == {"50": 2, "200": 2}
    hashes = np.arange(1, 51, dtype=np.uint64)
    tables = rollup.listing(hashes)
    entries = rollup.entries(hashes, first=1)
    for _ in range(3):
        tables.apply(0, next(entries))
    assert tables.positions == [1 + 3 * rollup.EVENTS]
    assert (len(tables.items), tables.waiting.ids) == (50, 0)
    assert (tables.popularity.sums[:, 0] > 0).sum() > 1


def test_a_benchmark_without_a_figure_does_not_end_the_others() -> None:
    def nothing() -> float:
        raise NotMeasured("too many requests failed")

    failed, said = list[str](), list[str]()
    made = measured({"posts": nothing, "rollup": lambda: {"50": [1.0]}}, failed, said.append)
    assert made == {"rollup": {"50": [1.0]}}
    assert failed == ["too many requests failed"]
    assert said == ["not measured: too many requests failed"]


def test_busy_loops_use_cpu_and_end() -> None:
    with busy_loops(1) as pids:
        while cpu.cpu_seconds(pids[0]) < 0.05:
            time.sleep(0.01)
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)
