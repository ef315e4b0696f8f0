"""`relay`: sends what the folds put into their outboxes, and trims it once the broker has it (law 7).

It may send a record twice; each carries its number (source partition, offset, n), and the fold that
receives it drops what it had.
"""

from __future__ import annotations

import logging
import threading
from functools import partial
from typing import Any, Final

from kafka import KafkaProducer, TopicPartition

from flows.kit.generation import run_live
from flows.kit.meter import Meter
from infra import kafka, store
from infra.kafka import ensure_topics
from infra.settings import Settings
from infra.store import Client
from schemas import event as events
from schemas import keys
from schemas.event import Merge
from schemas.identity import partition_of
from schemas.topics import EVENTS

log = logging.getLogger(__name__)
PAUSE_SECONDS: Final = 0.02
"""Between looks at empty outboxes: a link is merged within this and a fold."""
READ: Final = 100
Number = tuple[int, int]


class Relay:
    """One process's outboxes: `sent[p]` is the highest number of partition p known to be in the log."""

    def __init__(self, settings: Settings, client: Client, generation: int = 0) -> None:
        self._settings, self._redis, self._generation = settings, client, generation
        self.partitions = ensure_topics(settings)[EVENTS.name].partitions
        self._producer: KafkaProducer = kafka.producer(settings)
        self.sent = self._positions()

    def _positions(self) -> dict[int, Number]:
        """Where each outbox stands; without a stored position, what the log itself says."""
        held = self._redis.mget([keys.relayed(p, self._generation) for p in range(self.partitions)])
        if all(held):
            return {p: _number(value) for p, value in enumerate(held)}
        if not any(
            self._redis.exists(keys.outbox(p, self._generation)) for p in range(self.partitions)
        ):
            return dict.fromkeys(range(self.partitions), (-1, 0))
        log.info("no position: reading %s for what was sent", EVENTS.name)
        return self._highest_in_log()

    def _highest_in_log(self) -> dict[int, Number]:
        highest: dict[int, Number] = dict.fromkeys(range(self.partitions), (-1, 0))
        consumer = kafka.consumer(self._settings, max_poll_records=5000)
        try:
            topics = [TopicPartition(EVENTS.name, p) for p in range(self.partitions)]
            consumer.assign(topics)
            consumer.seek_to_beginning()
            ends = consumer.end_offsets(topics)
            while any(consumer.position(tp) < end for tp, end in ends.items()):
                for records in consumer.poll(200).values():
                    for record in records:
                        # a cheap look first: nearly every record is an action
                        if record.value and b'"kind":"merge"' in record.value[:20]:
                            merge = events.decode(record.value)
                            if isinstance(merge, Merge):
                                number = (merge.offset, merge.n)
                                highest[merge.source] = max(highest[merge.source], number)
        finally:
            consumer.close()
        return highest

    def step(self) -> int:
        """Sends what stands in the outboxes, waits for the broker, trims. How many were sent."""
        with self._redis.pipeline(transaction=False) as pipe:
            for p in range(self.partitions):
                pipe.xrange(keys.outbox(p, self._generation), count=READ)
            outboxes: list[Any] = pipe.execute()
        sent = 0
        for p, entries in enumerate(outboxes):
            due = [(id_, fields) for id_, fields in entries if _number(id_) > self.sent[p]]
            for future in [self._send(fields) for _, fields in due]:
                future.get(30)
            if entries:
                self._done(p, [id_ for id_, _ in entries])
            sent += len(due)
        return sent

    def _send(self, fields: dict[bytes, bytes]) -> Any:
        key = fields[b"k"]
        return self._producer.send(
            EVENTS.name, key=key, value=fields[b"v"], partition=partition_of(key, self.partitions)
        )

    def _done(self, partition: int, ids: list[bytes]) -> None:
        self.sent[partition] = max(self.sent[partition], _number(ids[-1]))
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.set(keys.relayed(partition, self._generation), b"%d-%d" % self.sent[partition])
            pipe.xdel(keys.outbox(partition, self._generation), *ids)
            pipe.execute()

    def close(self) -> None:
        self._producer.close()


def _number(text: bytes) -> Number:
    offset, _, n = text.partition(b"-")
    return int(offset), int(n)


def run(settings: Settings) -> None:
    """Until SIGTERM, for the generation that is live: one that is being rebuilt sends nothing."""
    run_live(settings, partial(_run, settings))


def _run(settings: Settings, generation: int, stop: threading.Event) -> None:
    client = store.connect(settings)
    relay, meter = Relay(settings, client, generation), Meter(settings, "relay")
    with meter.exposed():
        while not stop.is_set():
            sent = relay.step()
            meter.relayed(sent)
            if sent == 0:
                stop.wait(PAUSE_SECONDS)
    relay.close()
    client.close()
