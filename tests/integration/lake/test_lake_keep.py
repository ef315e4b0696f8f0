"""`freshet lake keep`: the files of a lake stay few by themselves, and one that is torn stops no other."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from infra.apps.inspect.scrape import scrape
from infra.lake.keep import keep
from infra.lake.reader import Lake
from infra.lake.store import Store
from infra.local import services
from infra.local.plan import ROOT
from infra.metrics import ProcessMetrics
from infra.objects import PARTIAL_SUFFIX
from schemas.lake import TABLES
from schemas.topics import EVENTS, SLATES
from tests.support import lakes
from tests.support.lakes import DAY, everything, put
from tests.support.waits import until

KEPT = "freshet_lake_kept_timestamp_seconds"


@pytest.fixture
def held(tmp_path: Path) -> Lake:
    """A lake with a past day of two topics."""
    lake = Lake(Store(str(tmp_path / "lake")))
    put(lake, lakes.a_day(600, 9, 6))
    put(lake, [lakes.batch(n, [b"{}"], [DAY]) for n in range(4)], SLATES.name)
    return lake


def test_the_keeper_compacts_and_sweeps_and_counts_both(held: Lake) -> None:
    before, telemetry, began = everything(held), ProcessMetrics("flows"), time.time()
    keep(held, telemetry)
    metrics = telemetry.render().decode()
    for topic, files, merged in ((EVENTS.name, 2, 5), (SLATES.name, 2, 3)):
        assert f'freshet_lake_files{{topic="{topic}"}} {files}.0' in metrics
        assert f'freshet_lake_merged_files_total{{topic="{topic}"}} {merged}.0' in metrics
    (line,) = (it for it in metrics.splitlines() if it.startswith(KEPT))
    assert float(line.split()[1]) >= began
    assert everything(held)[:5] == before[:5]
    old = time.time() - 4000
    for path in Path(held.store.root).rglob("*.*"):
        os.utime(path, (old, old))
    keep(held, telemetry)
    assert sum(1 for _ in held.store.list("data")) == 4, "what was merged is deleted after an hour"
    assert everything(held)[:5] == before[:5]


def test_a_torn_file_stops_no_other_topic(held: Lake, caplog: pytest.LogCaptureFixture) -> None:
    first = sorted(Path(held.store.path(f"data/{EVENTS.name}")).rglob("*.parquet"))[0]
    first.write_bytes(first.read_bytes()[:-1])
    telemetry = ProcessMetrics("flows")
    with caplog.at_level(logging.WARNING):
        keep(held, telemetry)
    (warned,) = caplog.records
    assert f"{first.name} is torn" in warned.getMessage()
    metrics = telemetry.render().decode()
    assert f'freshet_lake_files{{topic="{SLATES.name}"}} 2.0' in metrics
    assert f"{KEPT} NaN" in metrics, "so the alert LakeNotKept comes"
    assert len(held.manifest(EVENTS.name, 0).chain()) == 6


@pytest.mark.parametrize(("options", "seconds"), [(["--every", "1"], "600"), ([], "0")])
def test_the_keeper_runs_until_sigterm(
    held: Lake, tmp_path: Path, options: list[str], seconds: str
) -> None:
    """A keeper that is started by hand, where the setting is 0, keeps the default interval."""
    port = services.free_port()
    named = {"KAFKA_BOOTSTRAP": "127.0.0.1:1", "FRESHET_DATA_DIR": str(tmp_path)}
    often = {"FRESHET_LAKE_KEEP_SECONDS": seconds, "FRESHET_METRICS_PORT": str(port)}
    process = subprocess.Popen(
        [sys.executable, "-m", "infra.cli", "lake", "keep", *options],
        cwd=ROOT,
        env={**os.environ, **named, **often},
        stderr=subprocess.PIPE,
        text=True,
    )

    def samples(name: str) -> Any:
        return scrape("127.0.0.1", port).get(name, {})

    try:
        last = (("topic", TABLES[-1].topic),)
        services.wait_until(lambda: last in samples("freshet_lake_files"), 30, "it keeps nothing")
        for _ in range(2 if options else 0):  # one rise may be the end of the first round
            before = samples(KEPT)[()]
            services.wait_until(
                lambda at=before: samples(KEPT)[()] > at,  # type: ignore[misc]
                30,
                "it keeps once only",
            )
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=10)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "600 records" not in said
    assert re.search(r" INFO infra\.lake\.keep: .* 500 records of 5 files$", said, re.MULTILINE)
    assert "Traceback" not in said


def test_a_keeper_that_is_stopped_while_it_writes_keeps_the_old_files(tmp_path: Path) -> None:
    lake = Lake(Store(str(tmp_path / "lake")))
    put(lake, lakes.a_day(60_000, 9, 6))
    before, folder = everything(lake), Path(lake.store.path(f"data/{EVENTS.name}"))
    process = subprocess.Popen(
        [sys.executable, "-m", "infra.cli", "lake", "keep"],
        cwd=ROOT,
        env={**os.environ, "KAFKA_BOOTSTRAP": "127.0.0.1:1", "FRESHET_DATA_DIR": str(tmp_path)},
    )
    try:
        chain = lake.manifest(EVENTS.name, 0).chain
        until(lambda: bool(list(folder.rglob(f"*{PARTIAL_SUFFIX}"))) or len(chain()) == 2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
    assert everything(lake)[:5] == before[:5]
    old = time.time() - 4000
    for path in Path(lake.store.root).rglob("*.*"):
        os.utime(path, (old, old))
    for _ in range(2):  # one compacts, the next sweeps
        keep(lake, ProcessMetrics("flows"))
    assert everything(lake)[:5] == before[:5]
    assert not list(folder.rglob(f"*{PARTIAL_SUFFIX}"))
    assert len(lake.manifest(EVENTS.name, 0).chain()) == 2
