"""All metrics of the product in one table, and the registry in which a process keeps those it exports.

Each process counts for itself and exports Prometheus's text format: serving under GET /metrics, and every
process on a port of its own where FRESHET_METRICS_PORT gives it one. Labels have few values (partitions,
stages, entries of our registries, names that an operator chose), never the id of a person or an item.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from infra.settings import Settings

log = logging.getLogger(__name__)
# a series' creation time says nothing that its first sample does not
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]

Kind = Literal["counter", "gauge", "histogram"]
Exporter = Literal["serving", "flows"]
LOOPBACK: Final = "127.0.0.1"
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Metric(NamedTuple):
    """A row of the table. `exporter`: the processes that export it. `buckets`: upper bounds, in the unit that
    the name ends with."""

    exporter: Exporter
    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


_READ: Final = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 1.0)
_STAGE: Final = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25)
_WRITE: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_FRESH: Final = (0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0, 600.0)
_BATCH: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0)

# fmt: off
TABLE: Final[tuple[Metric, ...]] = (
    # the edge
    Metric("serving", "freshet_requests_total", "counter", "Requests answered.", ("route", "status")),
    Metric("serving", "freshet_request_bytes_total", "counter", "Bytes of the bodies of requests."),
    Metric("serving", "freshet_problems_total", "counter", "Requests answered with a problem.", ("status",)),
    Metric("serving", "freshet_limited_total", "counter", "Requests that a limit refused.", ("policy",)),
    Metric("serving", "freshet_events_accepted_total", "counter", "Events acknowledged with 202."),
    Metric("serving", "freshet_events_rejected_total", "counter", "Events refused.", ("code",)),
    Metric("serving", "freshet_events_ignored_fields_total", "counter",
           "Events with experiment, variant or propensity, ignored."),
    Metric("serving", "freshet_events_duplicates_total", "counter",
           "Events that equal an earlier one of their request, which alone was appended."),
    Metric("serving", "freshet_events_unknown_items_total", "counter",
           "Events accepted on items that the catalogue does not have."),
    Metric("serving", "freshet_idempotency_unchecked_total", "counter",
           "Requests with an Idempotency-Key taken while the store did not say whether it is used again."),
    Metric("serving", "freshet_not_durable_total", "counter",
           "Requests answered 503 since neither the broker nor the spool took them."),
    Metric("serving", "freshet_write_seconds", "histogram",
           "Time from a write request's arrival to its acknowledgement.", (), _WRITE),
    Metric("serving", "freshet_log_pending", "gauge", "Records sent to the broker and not acknowledged yet."),
    Metric("serving", "freshet_log_requests_total", "counter",
           "Produce requests to the broker, each for all partitions of a leader."),
    Metric("serving", "freshet_log_records_total", "counter", "Records that the broker has acknowledged."),
    Metric("serving", "freshet_audit_records_total", "counter",
           "Records for the topic audit, those that are lost included.", ("kind",)),
    Metric("serving", "freshet_audit_lost_total", "counter",
           "Records of the topic audit that neither the broker nor the spool took.", ("kind",)),
    # what a serving process holds
    Metric("serving", "freshet_ready", "gauge",
           "Whether a component of the server works, 0 or 1.", ("part",)),
    Metric("serving", "freshet_items", "gauge", "Items that can be shown."),
    Metric("serving", "freshet_behind_records", "gauge",
           "Records from a flow's fence to the log's end, by the broker and the store; NaN: not known.",
           ("flow", "partition")),
    Metric("serving", "freshet_tables_version", "gauge", "Version of the roll-up's tables."),
    Metric("serving", "freshet_release_info", "gauge", "The release that serves: 1.", ("release",)),
    Metric("serving", "freshet_release_refused_total", "counter",
           "Releases that were not taken; the one before goes on.", ("why",)),
    # reads
    Metric("serving", "freshet_read_seconds", "histogram", "Time to make an answer.", ("route",), _READ),
    Metric("serving", "freshet_stage_seconds", "histogram", "Time of a stage of an answer.",
           ("stage",), _STAGE),
    Metric("serving", "freshet_answers_total", "counter", "Answers; fallback is none for a full one.",
           ("placement", "fallback")),
    Metric("serving", "freshet_shed_total", "counter",
           "Reads that were shed: more was asked than can be done. none: of people in no experiment.",
           ("experiment", "variant")),
    Metric("serving", "freshet_queued_reads", "gauge", "Reads taken and not answered yet."),
    Metric("serving", "freshet_read_cost_seconds", "gauge", "CPU of a read, smoothed."),
    Metric("serving", "freshet_longest_turn_seconds", "gauge",
           "The longest turn of the event loop since the last scrape, sampled; cpu: of its own work alone.",
           ("clock",)),
    Metric("serving", "freshet_stale_reads_total", "counter",
           "Answers given before the state included what `after` asked for."),
    Metric("serving", "freshet_store_down_total", "counter", "Answers made without the store."),
    Metric("serving", "freshet_people_unreadable_total", "counter",
           "Reads of a person with a record in the store that this version does not read.", ("what",)),
    Metric("serving", "freshet_stale_vector_total", "counter",
           "Answers made without the person's vector, which was of another release."),
    Metric("serving", "freshet_candidates_total", "counter", "Candidates brought.", ("source",)),
    Metric("serving", "freshet_rule_removed_total", "counter", "Candidates that a rule removed.", ("why",)),
    Metric("serving", "freshet_rule_kept_total", "counter", "Candidates that every rule kept."),
    Metric("serving", "freshet_python_entries", "gauge",
           "Parts of a decision that Python computes, since the kernel has no entry for them; decision: all,"
           " without a kernel; ranker: releases whose ranker ONNX Runtime runs.", ("kind",)),
    Metric("serving", "freshet_clock_skew_seconds", "gauge",
           "By how much this process's clock is ahead of Redis's; NaN: Redis is silent."),
    Metric("serving", "freshet_shown_total", "counter", "Items shown.", ("placement",)),
    Metric("serving", "freshet_explored_total", "counter", "Items shown that exploration drew.",
           ("placement",)),
    Metric("serving", "freshet_assignments_total", "counter", "Answers that an experiment took part in.",
           ("experiment", "variant")),
    Metric("serving", "freshet_slates_total", "counter", "Slates given to the log."),
    Metric("serving", "freshet_slates_lost_total", "counter", "Slates that did not reach the log."),
    Metric("serving", "freshet_spool_bytes", "gauge", "Bytes in the spool that are not in the log yet."),
    Metric("serving", "freshet_spool_writable", "gauge",
           "Whether slates survive the process's death: 1, or 0 while the disk takes none."),
    Metric("serving", "freshet_spool_taken_over_total", "counter",
           "Spools of workers that were killed, taken over."),
    # what clients wrote while the broker was away
    Metric("serving", "freshet_write_spooled_total", "counter", "Records acknowledged from the spool."),
    Metric("serving", "freshet_write_spool_records", "gauge", "Records in the spool, not in the log yet."),
    Metric("serving", "freshet_write_spool_bytes", "gauge", "Bytes of them."),
    Metric("serving", "freshet_write_spool_oldest_seconds", "gauge", "Age of the oldest of them."),
    Metric("serving", "freshet_write_spool_writable", "gauge",
           "Whether writes would be taken while the broker is away: 1, or 0 while the disk takes none."),
    Metric("serving", "freshet_write_spool_drained_total", "counter", "Records sent from the spool."),
    Metric("serving", "freshet_write_spool_taken_over_total", "counter",
           "Spools with records of workers that were killed, taken over."),
    Metric("serving", "freshet_write_spool_refused_total", "counter",
           "Records of the spool that the broker refuses for good, kept on disk."),
    Metric("serving", "freshet_write_spool_lost_bytes_total", "counter",
           "Bytes of a spool that the disk did not give back as it took them."),
    # flows on a topic
    Metric("flows", "freshet_flow_lag", "gauge",
           "Records from the fence to the log's end, by the broker when scraped; NaN: it is silent.",
           ("flow", "partition")),
    Metric("flows", "freshet_flow_paused", "gauge",
           "Whether a partition is paused, since nothing but poison comes in it: 0 or 1.",
           ("flow", "partition")),
    Metric("flows", "freshet_flow_out", "gauge",
           "Whether a partition is out after a fault of its own, until it goes on from its fence: 0 or 1.",
           ("flow", "partition")),
    Metric("flows", "freshet_flow_clock_skew_seconds", "gauge",
           "By how much the flow's clock is ahead of Redis's; NaN: Redis is silent.", ("flow",)),
    Metric("flows", "freshet_flow_offset", "gauge", "Offset of the fence.", ("flow", "partition")),
    Metric("flows", "freshet_flow_seen_timestamp_seconds", "gauge",
           "When the flow last looked for more, Unix time.", ("flow",)),
    Metric("flows", "freshet_flow_records_total", "counter", "Records committed.", ("flow",)),
    Metric("flows", "freshet_flow_batch_records", "histogram", "Records of a batch.", ("flow",), _BATCH),
    Metric("flows", "freshet_flow_batch_seconds", "histogram",
           "Time from a batch's reading to its commit's end.", ("flow",), _WRITE),
    Metric("flows", "freshet_flow_commit_seconds", "histogram", "Time of a commit.", ("flow",), _WRITE),
    Metric("flows", "freshet_flow_fresh_seconds", "histogram",
           "Time from the oldest record of a batch to its commit.", ("flow",), _FRESH),
    Metric("flows", "freshet_flow_dead_letters_total", "counter", "Records that no fold could take.",
           ("flow", "reason")),
    Metric("flows", "freshet_flow_fenced_total", "counter",
           "Partitions taken out since another had moved their fence, also by processes before.", ("flow",)),
    Metric("flows", "freshet_flow_full_total", "counter",
           "Partitions taken out since Redis was at maxmemory, also by processes before.", ("flow",)),
    Metric("flows", "freshet_flow_torn_total", "counter",
           "Partitions taken out since they were torn, also by processes before.", ("flow",)),
    Metric("flows", "freshet_fold_counts_total", "counter", "What a fold counted.", ("flow", "what")),
    Metric("flows", "freshet_people_numpy_features", "gauge",
           "Features of a person that numpy folds: those without a C function, or all without a kernel."),
    Metric("flows", "freshet_people_strangers", "gauge",
           "Ids in the rings that were shown something and have done nothing yet."),
    # the roll-up and the relay
    Metric("flows", "freshet_rollup_positions_lag", "gauge",
           "Records folded by `people` and not in the tables yet.", ("partition",)),
    Metric("flows", "freshet_rollup_publish_seconds", "histogram", "Time of a publication.", (), _WRITE),
    Metric("flows", "freshet_rollup_rows", "gauge", "Rows of the tables.", ("table",)),
    Metric("flows", "freshet_rollup_ignored_total", "counter",
           "Facts that the tables do not take.", ("why",)),
    Metric("flows", "freshet_readouts_total", "counter", "Readouts of experiments.", ("outcome",)),
    Metric("flows", "freshet_relay_sent_total", "counter", "Records sent to other partitions."),
    # freshet verify
    Metric("flows", "freshet_verify_mismatches", "gauge",
           "Values in Redis that were not what the log says, when last compared."),
    Metric("flows", "freshet_verify_fields", "gauge", "Values that were compared then."),
    Metric("flows", "freshet_verify_timestamp_seconds", "gauge",
           "When that was, or the process began, Unix time."),
    # the lake
    Metric("flows", "freshet_lake_lag", "gauge", "Records of the log that are not in the lake yet.",
           ("topic", "partition")),
    Metric("flows", "freshet_lake_records_total", "counter", "Records written to the lake.", ("topic",)),
    Metric("flows", "freshet_lake_bytes_total", "counter", "Bytes written to the lake.", ("topic",)),
    Metric("flows", "freshet_lake_write_seconds", "histogram", "Time to write an object.", (), _WRITE),
    Metric("flows", "freshet_lake_files", "gauge", "Files of a topic in the lake.", ("topic",)),
    Metric("flows", "freshet_lake_merged_files_total", "counter", "Files merged into others.", ("topic",)),
    Metric("flows", "freshet_lake_kept_timestamp_seconds", "gauge",
           "When the lake was last compacted and swept whole, or the keeper began, Unix time."),
)
# fmt: on
METRICS: Final = {metric.name: metric for metric in TABLE}
_MADE_BY: Final[dict[Kind, Any]] = {"counter": Counter, "gauge": Gauge, "histogram": Histogram}


class ProcessMetrics:
    """The metrics of one process: the rows of the table that `exporter` exports.

    Errors of every method: KeyError for a name that is not in it, ValueError for other labels than its
    own. Counting is safe in any thread, and costs 0.3 to 0.6 µs once a series exists.
    """

    def __init__(self, exporter: Exporter) -> None:
        self.registry = CollectorRegistry()
        self._hooks = _Hooks()
        # registered first, so that the values that hooks set are in the same answer
        self.registry.register(self._hooks)
        self._families = {
            it.name: _made(it, self.registry) for it in TABLE if it.exporter == exporter
        }
        ProcessCollector(registry=self.registry)
        self._series: dict[tuple[str, ...], Any] = {}
        self._totals: dict[tuple[str, ...], float] = {}
        self._lock = threading.Lock()

    def series(self, name: str, *labels: str) -> Any:
        """The counter, gauge or histogram `name` with these values of its labels, in their order."""
        try:
            return self._series[(name, *labels)]
        except KeyError:
            family = self._families[name]
            made = family.labels(*labels) if METRICS[name].labels or labels else family
            self._series[(name, *labels)] = made
            return made

    def set(self, name: str, value: float, *labels: str) -> None:
        """Sets a gauge, or a counter whose total is kept elsewhere and never falls."""
        if METRICS[name].kind == "gauge":
            self.series(name, *labels).set(value)
            return
        with self._lock:
            before = self._totals.get((name, *labels), 0.0)
            if value > before:
                self.series(name, *labels).inc(value - before)
                self._totals[(name, *labels)] = value

    def only(self, name: str, *labels: str) -> None:
        """Sets the gauge to 1 for these labels, and drops its other series."""
        family = self._families[name]
        family.clear()
        family.labels(*labels).set(1)

    def before(self, hook: Callable[[], None]) -> None:
        """Calls `hook` before each scrape, in its thread, to set values that are read and not counted."""
        self._hooks.hooks.append(hook)

    def render(self) -> bytes:
        """The metrics in Prometheus's text format."""
        return prometheus_client.generate_latest(self.registry)

    @contextlib.contextmanager
    def exposed(self, settings: Settings) -> Iterator[None]:
        """Answers scrapes on the process's own port, in a thread, where it has one.

        A port that cannot be bound is a warning: no process ends for its metrics.
        """
        host, port = settings.metrics_host or LOOPBACK, settings.metrics_port
        if not port:
            yield
            return
        try:
            server, thread = prometheus_client.start_http_server(port, host, self.registry)
        except OSError as error:
            log.warning("no metrics on %s port %d: %s", host, port, error.strerror)
            yield
            return
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def observe_all(histogram: Histogram, values: Sequence[float]) -> None:
    """Observes many values at once: one by one each costs over 1 µs."""
    places = np.searchsorted(histogram._upper_bounds, values)
    histogram._sum.inc(math.fsum(values))
    for bucket, n in zip(histogram._buckets, np.bincount(places).tolist(), strict=False):
        if n:
            bucket.inc(n)


def set_observed(histogram: Histogram, buckets: Sequence[float], total: float) -> None:
    """Sets what was observed in all, where that is counted elsewhere. `buckets`: how many values came into
    each bucket; `total`: their sum."""
    for bucket, n in zip(histogram._buckets, buckets, strict=True):
        bucket.set(n)
    histogram._sum.set(total)


class _Hooks(Collector):
    """Calls the hooks at each scrape; exports no metric of its own."""

    def __init__(self) -> None:
        self.hooks: list[Callable[[], None]] = []

    def collect(self) -> Iterable[Family]:
        for hook in self.hooks:
            hook()
        return ()


def _made(metric: Metric, registry: CollectorRegistry) -> Any:
    options: dict[str, Any] = {"buckets": metric.buckets} if metric.buckets else {}
    made = _MADE_BY[metric.kind](
        metric.name, metric.help, metric.labels, registry=registry, **options
    )
    if metric.kind == "gauge" and not metric.labels:
        made.set(math.nan)  # unknown: 0 would read as a time long ago, and raise an alert
    return made
