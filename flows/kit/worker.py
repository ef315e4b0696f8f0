"""What every flow on a topic is made of: where it stands, its letters, its commit."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from flows.kit.commit import Fenced, Torn, commit
from flows.kit.letters import REASONS, Letters, letter
from flows.kit.meter import Meter
from flows.kit.source import Reader
from flows.kit.stand import stand
from infra import store
from infra.kafka import ensure_topics
from infra.log import Batch
from infra.settings import Settings
from infra.store import Client
from schemas.dead_letter import DeadLetter
from schemas.fence import Fence
from schemas.topics import Topic
from schemas.write import Write

log = logging.getLogger(__name__)


class Worker:
    """One process's partitions of one topic, for the flow `name`.

    Errors (of the constructor): `stand.Refused`, `store.StoreMisconfigured`, Kafka's and Redis's.
    """

    def __init__(
        self,
        settings: Settings,
        name: str,
        topic: Topic,
        version: int,
        partitions: Sequence[int] = (),
        reader: Reader | None = None,
        generation: int = 0,
    ) -> None:
        self.settings, self.name, self.topic = settings, name, topic
        self.generation = generation
        self.redis: Client = store.connect(settings)
        store.check(self.redis)
        info = ensure_topics(settings)[topic.name]
        self.partitions = sorted(set(partitions)) or list(range(info.partitions))
        if self.partitions[-1] >= info.partitions or self.partitions[0] < 0:
            raise ValueError(f"topic {topic.name} has partitions 0 to {info.partitions - 1}")
        self.reader = reader or Reader(settings, topic.name)
        self._letters = Letters(settings)
        self.fences: dict[int, Fence] = {}
        for p in self.partitions:
            start, end = self.reader.bounds(p)
            self.fences[p] = stand(self.redis, name, p, info, start, end, version, generation)
            log.info("%s partition %d stands at %d of %d", name, p, self.fences[p].offset, end)
        self.reader.assign({p: fence.offset for p, fence in self.fences.items()})
        self.meter = Meter(settings, name, str(self.partitions[0]))
        self.meter.expect(REASONS)
        self.meter.at_scrape(self._stands)
        self._open = ExitStack()
        self._open.enter_context(self.meter.exposed())

    def dead_letters(self, step: tuple[Any, list[DeadLetter]]) -> Any:
        """Passes the good on once the broker has the bad."""
        good, letters = step
        self.send(letters)
        return good

    def send(self, letters: list[DeadLetter]) -> None:
        self._letters.send(letters)
        self.meter.dead(letters)
        for sent in letters:
            log.warning("dead letter %s: %s", sent.key.decode(), sent.reason)

    def refuse(self, batch: Batch, place: int, why: str) -> None:
        """Sends record number `place` of a batch to the dead letters."""
        self.send(
            [
                letter(
                    self.topic.name,
                    batch.partition,
                    batch.offsets[place],
                    batch.stamps[place],
                    why,
                    batch.values[place],
                )
            ]
        )

    def next_fence(self, partition: int, next_: int, stamps: Sequence[int]) -> Fence:
        """The fence after a batch that ends before offset `next_`."""
        held = self.fences[partition]
        newest = max([held.newest, *stamps])
        return Fence(held.topic_id, held.partitions, next_, newest, held.version)

    def commit(self, write: Write) -> None:
        begun = time.monotonic()
        with self.meter.ending(fenced=Fenced, torn=Torn):
            commit(self.redis, write)
        spent = time.monotonic() - begun
        self.fences[write.partition] = write.fence
        if batch := self.reader.committed(write.partition):
            self.meter.committed(batch, spent, write.counts)

    def _stands(self) -> None:
        self.meter.seen(self.reader.polled_at)
        for partition, fence in self.fences.items():
            self.meter.stands(partition, fence.offset, self.reader.log_ends[partition])

    def close(self) -> None:
        self._open.close()
        self._letters.close()
        self.reader.consumer.close()
        self.redis.close()
