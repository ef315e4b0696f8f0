"""`freshet verify --every`: verifies at intervals, and exports the result as metrics."""

from __future__ import annotations

import logging
import time
from typing import Final

import redis
from kafka.errors import KafkaError

from flows.verify.run import Behind, Moved, Report, verify
from infra import heartbeat, logs
from infra.lake.errors import LakeError
from infra.lake.log import open_log
from infra.log_reader import OffTheLog
from infra.metrics import ProcessMetrics
from infra.settings import Settings
from infra.signals import end_at_once
from infra.terminal.errors import explained

log = logging.getLogger(__name__)
TRANSIENT_ERRORS: Final = (redis.RedisError, KafkaError, LakeError, OffTheLog, Moved, Behind)
"""Raised while a service is away; the next run may succeed."""


def run(settings: Settings, seconds: float, people: int) -> None:
    """Verifies all tables and another sample of `people` every `seconds`, until SIGTERM or SIGINT.

    Errors: those of `verify` except `TRANSIENT_ERRORS`.
    """
    end_at_once()
    heartbeat.start()
    logs.set_up(settings.log_level or "info")
    metrics = ProcessMetrics("flows")
    with metrics.exposed(settings):
        metrics.set("freshet_verify_timestamp_seconds", time.time())
        seed = 0
        while True:
            begun = time.monotonic()
            try:
                export(metrics, verify(settings, open_log(settings), people=people, seed=seed))
            except TRANSIENT_ERRORS as error:
                log.warning("could not verify: %s", explained(error))
            seed += 1
            time.sleep(max(0.0, begun + seconds - time.monotonic()))


def export(metrics: ProcessMetrics, report: Report) -> None:
    """Sets the metrics of a report, and logs its counts and first mismatches."""
    metrics.set("freshet_verify_mismatches", len(report.mismatches))
    metrics.set("freshet_verify_fields", report.fields_checked)
    metrics.set("freshet_verify_timestamp_seconds", time.time())
    log.info("%d fields compared, %d wrong", report.fields_checked, len(report.mismatches))
    for it in report.mismatches[:20]:
        log.warning(
            "%s %s: stored %s, expected %s %s", it.what, it.field, it.stored, it.expected, it.key
        )
