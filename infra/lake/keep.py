"""`freshet lake keep`: a process that keeps the lake's files few, and exports how many there are."""

from __future__ import annotations

import logging
import time
from typing import Final

from infra import heartbeat, logs
from infra.lake.compact import compact
from infra.lake.errors import LakeError
from infra.lake.reader import Lake
from infra.lake.sweep import sweep
from infra.metrics import ProcessMetrics
from infra.priority import lower_priority
from infra.settings import Settings
from infra.signals import end_at_once
from schemas.lake import TABLES

log = logging.getLogger(__name__)
NICE: Final = 15
"""Niceness: no other process waits for compaction."""


def run(settings: Settings, seconds: float) -> None:
    """Compacts and sweeps every `seconds` until SIGTERM or SIGINT, which may cut any step: a later run sweeps
    what a cut step left."""
    end_at_once()
    heartbeat.start()
    logs.set_up(settings.log_level or "info")
    lower_priority(NICE)
    metrics = ProcessMetrics("flows")
    with metrics.exposed(settings):
        lake = Lake.of(settings)
        metrics.set("freshet_lake_kept_timestamp_seconds", time.time())
        while True:
            begun = time.monotonic()
            keep(lake, metrics)
            time.sleep(max(0.0, begun + seconds - time.monotonic()))


def keep(lake: Lake, metrics: ProcessMetrics) -> None:
    """Compacts and sweeps, topic by topic; logs why a topic could not be."""
    whole = True
    for table in TABLES:
        try:
            _keep(lake, metrics, table.topic)
        except LakeError as error:
            whole = False
            log.warning("%s", error)
    if whole:
        metrics.set("freshet_lake_kept_timestamp_seconds", time.time())


def _keep(lake: Lake, metrics: ProcessMetrics, topic: str) -> None:
    merged, files = metrics.series("freshet_lake_merged_files_total", topic), 0
    for partition in lake.partitions(topic):
        for entry, replaced in compact(lake, topic, partition, time.time_ns() // 1_000_000):
            merged.inc(replaced)
            log.info("%s: %d records of %d files", entry.name, entry.rows, replaced)
        files += len(lake.manifest(topic, partition).chain())
    metrics.set("freshet_lake_files", files, topic)
    swept = sweep(lake, topic, time.time())
    if swept.objects:
        log.info("%s: %d files deleted, %d bytes", topic, swept.objects, swept.bytes)
