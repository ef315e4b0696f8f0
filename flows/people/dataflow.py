"""`people`: folds the events of people, in one dataflow. Its items are reads: what one fetch brought.

events ─ decode ─ dead_letters ─ dedupe ─ fold ─ commit
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow

from flows.kit.generation import run_live
from flows.kit.run import run_flow
from flows.kit.sink import Committed
from flows.kit.source import Reader, Source
from flows.kit.worker import Worker
from flows.people.batch import Decoded
from flows.people.cold import Tier
from flows.people.encoder import CurrentRelease
from flows.people.fold import READABLE, VERSION
from flows.people.steps import decode, new_fold
from infra.kafka.kafka_client import ensure_topics
from infra.log_reader import Batch
from infra.releases.fetch import fetch
from infra.settings import Settings
from infra.store import redis_client
from models.features.compiled import features_by_numpy
from models.records import Remembered
from models.release.artefact import load
from models.release.release import Release
from schemas.dead_letters import DeadLetter
from schemas.state.fences import Fence
from schemas.state.write import Write
from schemas.topics import EVENTS


class People(Worker):
    """One process's partitions of `events`, and the fold of them."""

    def __init__(
        self,
        settings: Settings,
        partitions: Sequence[int] = (),
        reader: Reader | None = None,
        generation: int = 0,
    ) -> None:
        super().__init__(
            settings, "people", EVENTS, VERSION, partitions, reader, generation, READABLE
        )
        self.metrics.process.set("freshet_people_numpy_features", features_by_numpy())
        read = partial(redis_client.mget, self.redis)
        self._fold = new_fold(settings, {}, read, self.keyspace)
        self.metrics.at_scrape(
            lambda: self.metrics.process.set("freshet_people_strangers", self._fold.strangers)
        )
        self._remembered = Remembered()
        self.tiers: dict[int, Tier] = {}
        try:
            for p, fence in list(self.fences.items()):
                with self.taking_out(p):
                    self.begin(p, fence)
        except BaseException:
            super().close()
            raise
        self._release = CurrentRelease(
            self.redis, self.keyspace, settings.releases, partial(_load, settings)
        )

    def begin(self, partition: int, fence: Fence) -> None:
        self._fold.begin(partition, fence)
        received = self.redis.hgetall(self.keyspace.received(partition))
        self._fold.remember_received(partition, received)
        self._fold.remember_tallies(partition, self.redis.hgetall(self.keyspace.tallies(partition)))
        self.tiers[partition] = self._tier(partition)

    def forget(self, partition: int) -> None:
        self._fold.forget(partition)
        self.tiers.pop(partition, None)

    def _tier(self, partition: int) -> Tier:
        return Tier(
            self.settings,
            self.redis,
            partition,
            self.keyspace,
            lambda: self.fences[partition],
        )

    def between_batches(self, partition: int) -> None:
        self.tiers[partition].step()

    def decode(self, batches: Sequence[Batch]) -> tuple[Decoded, list[DeadLetter]]:
        return decode(batches, self._remembered)

    def dedupe(self, batch: Decoded) -> Decoded:
        return self._fold.dedupe(batch)

    def fold(self, batch: Decoded) -> list[Write]:
        """The writes of the read. A value that cannot be read takes out its partition."""
        self._fold.encoder = self._release.encoder()
        self._warm(batch)
        if any(span.partition in self.out for span in batch.spans):
            batch = batch.without(p for p in self.partitions if p in self.out)
        writes = self._fold.fold(batch)
        for partition, error in self._fold.faults.items():
            self.take_out(partition, error)
        return writes

    def _warm(self, batch: Decoded) -> None:
        """Brings those of the read's people back who are cold; a duplicate writes its person's row, too."""
        for it in filter(None, (batch, batch.dropped)):
            for span in it.spans:
                tier = self.tiers.get(span.partition)
                if tier is not None and tier.holds_any:
                    people = map(it.columns.person_text, range(span.start, span.stop))
                    with self.taking_out(span.partition):
                        tier.warm(people)

    def close(self) -> None:
        self._release.close()
        super().close()


def _load(settings: Settings, path: Path, manifest_sha256: str) -> Release:
    """Errors: `BadRelease`, `ReleaseUnavailable`."""
    return load(fetch(settings, path.name, manifest_sha256), manifest_sha256)


def dataflow(worker: People) -> Dataflow:
    flow = Dataflow("people")
    reads = op.input("events", flow, Source(worker.reader, is_joint=True))
    decoded = op.map("decode", reads, worker.decode)
    good = op.map("dead_letters", decoded, worker.dead_letters)
    fresh = op.map("dedupe", good, worker.dedupe)
    writes = op.flat_map("fold", fresh, worker.fold)
    op.output("commit", writes, Committed(worker.commit))
    return flow


def run(settings: Settings, partitions: Sequence[int] = (), generation: int | None = None) -> None:
    """Runs the flow until SIGTERM, in `generation` or in the live one.

    Errors: `Fenced`, `Torn`, `StateMismatch`, Kafka's and Redis's.
    """

    def run_in(generation: int, stop: threading.Event) -> None:
        worker = People(settings, partitions, Reader(settings, EVENTS.name, stop), generation)
        try:
            run_flow(dataflow(worker))
        finally:
            worker.close()

    run_live(settings, run_in, generation)


def dry_run(
    settings: Settings, partition: int, start: int, limit: int | None = None
) -> Iterator[dict[str, Any]]:
    """A description of each write that folding the log from offset `start` would make; nothing is written.

    The fold starts from an empty state. `limit`: of records. Errors: Kafka's.
    """
    reader = Reader(settings, EVENTS.name, until_end=True)
    try:
        topic = ensure_topics(settings)[EVENTS.name]
        reader.assign({partition: start})
        fence = Fence(topic.id, topic.partitions, start, 0, VERSION)
        keyspace = settings.keyspace
        fold = new_fold(settings, {partition: fence}, lambda names: [None] * len(names), keyspace)
        read = 0
        while limit is None or read < limit:
            try:
                batches = reader.next()
            except StopIteration:
                return
            if not batches:
                continue
            decoded, letters = decode(batches)
            read += sum(len(batch.offsets) for batch in batches)
            for write in fold.fold(fold.dedupe(decoded)):
                yield describe(write, letters)
                reader.committed(partition)
    finally:
        reader.close()


def describe(write: Write, letters: Sequence[DeadLetter] = ()) -> dict[str, Any]:
    """A write in plain values: keys and sizes in bytes, no contents."""
    return {
        "partition": write.partition,
        "first": write.first,
        "next": write.fence.offset,
        "set": {key.decode(): len(value) for key, value in write.values.items()},
        "append": {key.decode(): len(value) for key, value in write.appends.items()},
        "stream": [f"{e.key.decode()} {e.id.decode()}" for e in write.entries],
        "delete": [key.decode() for key in write.deleted],
        "counts": dict(sorted(write.counts.items())),
        "dead_letters": [letter.reason for letter in letters],
    }
