"""`lake`: every record of every topic, in Parquet.

log ─ put ─ commit

A chunk of a partition's records becomes an object under a new name (`put`). Then the fence moves and stores
the object's entry, then the entry is added to the manifest (`commit`). A writer that is killed before the
fence moves leaves an unused object, and its records are read again. After that, the next writer adds the
entry. So the chain of entries holds each record once, whichever process is killed or suspended.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import DynamicSource, StatelessSourcePartition
from kafka import KafkaConsumer, TopicPartition

from flows.kit.commit import Fenced, Torn
from flows.kit.metrics import FlowMetrics
from flows.kit.run import run_flow, run_with_retries, stop_on_signals
from flows.kit.sink import Committed
from flows.lake.partition import Owner
from infra.frames import spread
from infra.kafka import fetch, kafka_client
from infra.kafka.fetch import Records
from infra.kafka.names import own_name, topic_partition
from infra.lake.store import open_store
from infra.log_reader import Batch
from infra.settings import Settings
from infra.store import redis_client
from schemas.lake import TABLES, ManifestEntry

log = logging.getLogger(__name__)
MIN_FETCH_BYTES: Final = 1 << 20
"""The broker answers a fetch with at least so many bytes, or after the wait with what there is."""
MIN_WAIT_SECONDS: Final = 0.05
MAX_WAIT_SECONDS: Final = 1.0
"""Bounds of that wait: it is a fifth of `lake_seconds`. A poll costs a millisecond of CPU however many
records it returns, so the wait bounds what an idle lake costs, and how long a stop takes."""
MAX_CHUNK_RECORDS: Final = 200_000
MAX_CHUNK_BYTES: Final = 32 << 20
"""Of one partition's records in memory: a larger chunk is written before its time."""
MAX_BUFFERED_BYTES: Final = 128 << 20
"""Of all partitions together: then all chunks are written."""

Place = tuple[str, int]
"""Topic and partition."""


class Chunk(NamedTuple):
    """Consecutive records of a partition, for one object."""

    place: Place
    batches: list[Batch]


class Written(NamedTuple):
    place: Place
    entry: ManifestEntry


@dataclass
class _Buffer:
    since: float
    batches: list[Batch] = field(default_factory=list)
    records: int = 0
    bytes: int = 0

    def add(self, batch: Batch) -> None:
        self.batches.append(batch)
        self.records += len(batch.offsets)
        self.bytes += sum(len(value) for value in batch.stored_values() if value)


class Gatherer:
    """One consumer for every partition of every topic; it buffers records until a chunk is due."""

    def __init__(
        self, settings: Settings, stop: threading.Event, *, until_end: bool = False
    ) -> None:
        self.stop, self._settings = stop, settings
        wait = min(MAX_WAIT_SECONDS, max(MIN_WAIT_SECONDS, settings.lake_seconds / 5))
        self._wait_ms = int(1000 * wait)
        self.consumer: KafkaConsumer = fetch.consumer(
            settings,
            fetch_min_bytes=1 if until_end else MIN_FETCH_BYTES,
            fetch_max_wait_ms=self._wait_ms,
        )
        self.end_offsets: dict[Place, int] = {}
        """Of each partition, as of its last fetch."""
        self.polled_at = time.time()
        """When the log was last polled, Unix time in s."""
        self._seconds, self._until_end = settings.lake_seconds, until_end
        self._position: dict[Place, int] = {}
        self._held: dict[Place, _Buffer] = {}

    def bounds(self, places: Iterable[Place]) -> dict[Place, kafka_client.Bounds]:
        """First offset and end of each partition's log."""
        fetched = kafka_client.bounds(
            self.consumer, [self._topic_partition(place) for place in places]
        )
        bounds = {self._place(at): its for at, its in fetched.items()}
        self.end_offsets.update((place, end) for place, (_, end) in bounds.items())
        return bounds

    def assign(self, positions: dict[Place, int]) -> None:
        self._position = dict(positions)
        self.consumer.assign([self._topic_partition(place) for place in positions])
        for place, offset in positions.items():
            self.consumer.seek(self._topic_partition(place), offset)

    def next(self) -> list[Chunk]:
        """The chunks that are due.

        Errors: StopIteration once `stop` is set, or at the end, and all chunks were returned.
        """
        if self.stop.is_set() or self._at_end():
            if not self._held:
                raise StopIteration
            return list(self._due(flush=True))
        for tp, pieces in self.consumer.poll(self._wait_ms).items():
            self._buffer(place := self._place(tp), pieces)
            self.end_offsets[place] = self.consumer.highwater(tp) or 0
        self.polled_at = time.time()
        return list(self._due())

    def _topic_partition(self, place: Place) -> TopicPartition:
        return topic_partition(self._settings, *place)

    def _place(self, at: TopicPartition) -> Place:
        return own_name(self._settings, at.topic), at.partition

    def _at_end(self) -> bool:
        return self._until_end and all(
            offset >= self.end_offsets[place] for place, offset in self._position.items()
        )

    def _buffer(self, place: Place, pieces: list[Records]) -> None:
        held = self._held.setdefault(place, _Buffer(time.monotonic()))
        for records in pieces:
            batch = spread(place[0], records.batch(place[1], self._position[place]))
            held.add(batch)
            self._position[place] = batch.next

    def _due(self, flush: bool = False) -> Iterator[Chunk]:
        old = time.monotonic() - self._seconds
        flush |= sum(held.bytes for held in self._held.values()) >= MAX_BUFFERED_BYTES
        for place, held in list(self._held.items()):
            large = held.records >= MAX_CHUNK_RECORDS or held.bytes >= MAX_CHUNK_BYTES
            if flush or large or held.since <= old:
                del self._held[place]
                yield Chunk(place, held.batches)


class Lake:
    """Every partition of every topic, in one process.

    Errors (of the constructor): `resume.StateMismatch`, `LakeError`, `StoreMisconfigured`, Kafka's and
    Redis's.
    """

    def __init__(
        self, settings: Settings, stop: threading.Event | None = None, *, until_end: bool = False
    ) -> None:
        with ExitStack() as opened:
            self.redis: redis_client.Client = redis_client.connect(settings)
            opened.callback(self.redis.close)
            redis_client.check(self.redis)
            self.gatherer = Gatherer(settings, stop or threading.Event(), until_end=until_end)
            opened.callback(self.gatherer.consumer.close)
            self.owners = dict(self._owners(settings))
            self.gatherer.assign({place: it.fence.offset for place, it in self.owners.items()})
            self.metrics = FlowMetrics(settings, "lake")
            self.metrics.at_scrape(self._report_lag)
            self._opened = opened.pop_all()

    def _owners(self, settings: Settings) -> Iterator[tuple[Place, Owner]]:
        objects, topics = open_store(settings), kafka_client.ensure_topics(settings)
        tables = {(it.topic, p): it for it in TABLES for p in range(topics[it.topic].partitions)}
        for place, bounds in self.gatherer.bounds(tables).items():
            topic, p = place
            made = topics[topic]
            yield (
                place,
                Owner(self.redis, objects, tables[place], p, made, bounds, settings.keyspace),
            )

    def put(self, chunk: Chunk) -> Written:
        """Writes the chunk's records to an object. Errors: `LakeError`."""
        begun = time.monotonic()
        entry = self.owners[chunk.place].put(chunk.batches)
        series, topic = self.metrics.process.series, chunk.place[0]
        series("freshet_lake_write_seconds").observe(time.monotonic() - begun)
        series("freshet_lake_records_total", topic).inc(entry.rows)
        series("freshet_lake_bytes_total", topic).inc(entry.bytes)
        return Written(chunk.place, entry)

    def commit(self, written: Written) -> None:
        """Moves the fence, then adds the entry. Errors: `Fenced`, `Torn`, `LakeError`."""
        owner = self.owners[written.place]
        with self.metrics.counting_failures(fenced=Fenced, torn=Torn):
            owner.move(written.entry)
        owner.add(written.entry)

    def commit_all(self, written: list[Written]) -> None:
        for it in written:
            self.commit(it)

    def _report_lag(self) -> None:
        series = self.metrics.process.series
        self.metrics.seen(self.gatherer.polled_at)
        for (topic, p), owner in self.owners.items():
            lag = max(0, self.gatherer.end_offsets[topic, p] - owner.fence.offset)
            series("freshet_lake_lag", topic, str(p)).set(lag)

    def close(self) -> None:
        self._opened.close()


class _LakePartition(StatelessSourcePartition[Chunk]):
    def __init__(self, gatherer: Gatherer) -> None:
        self._gatherer = gatherer

    def next_batch(self) -> list[Chunk]:
        return self._gatherer.next()


class _Log(DynamicSource[Chunk]):
    def __init__(self, gatherer: Gatherer) -> None:
        self._gatherer = gatherer

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _LakePartition:
        return _LakePartition(self._gatherer)


def dataflow(lake: Lake) -> Dataflow:
    flow = Dataflow("lake")
    chunks = op.input("log", flow, _Log(lake.gatherer))
    entries = op.map("put", chunks, lake.put)
    op.output("commit", entries, Committed(lake.commit_all))
    return flow


def run(settings: Settings) -> None:
    """Runs the flow until SIGTERM, then writes the buffered records.

    Errors: `Fenced`, `LakeFull`, `LakeReadOnly` and others; a restart continues from the fence.
    """
    stop = threading.Event()
    stop_on_signals(stop)

    def run_once() -> None:
        lake = Lake(settings, stop)
        try:
            with lake.metrics.exposed():
                run_flow(dataflow(lake))
        finally:
            lake.close()

    run_with_retries(settings, stop, run_once)
