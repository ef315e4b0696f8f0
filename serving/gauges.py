"""The gauges of a serving process, read at each scrape."""

from __future__ import annotations

from functools import partial

from serving.context import Serving
from serving.health import health
from serving.read.in_python import in_python


def refresh_before_scrapes(serving: Serving) -> None:
    """Makes every scrape, of the API's port or the worker's own, refresh the gauges of `serving`."""
    serving.metrics.process_metrics.before(partial(refresh, serving))


def refresh(serving: Serving) -> None:
    """Sets every gauge."""
    metrics = serving.metrics
    metrics.set("freshet_log_pending", serving.producer.pending)
    metrics.set("freshet_log_requests_total", serving.producer.requests)
    metrics.set("freshet_log_records_total", serving.producer.acknowledged)
    serving.writes.set_gauges()
    serving.lag.set_gauges()
    serving.clock_check.set_gauges()
    metrics.set("freshet_queued_reads", len(serving.queue))
    metrics.set("freshet_read_cost_seconds", serving.queue.cost)
    longest = serving.loop_lag.take()
    metrics.set("freshet_longest_turn_seconds", longest.wall, clock="wall")
    metrics.set("freshet_longest_turn_seconds", longest.cpu, clock="cpu")
    metrics.set("freshet_items", serving.catalogue.count)
    metrics.set("freshet_tables_version", serving.tables.meta.version)
    metrics.process_metrics.only("freshet_release_info", serving.ranking_release)
    for kind, names in in_python(serving).items():
        metrics.set("freshet_python_entries", len(names), kind=kind)
    for name, is_ready in health(serving).components.items():
        metrics.set("freshet_ready", is_ready, part=name)
