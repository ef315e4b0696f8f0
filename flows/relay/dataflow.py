"""`relay`: sends the entries of the folds' outboxes, and trims them once the broker has them (law 7).

It may send a record twice. Each record carries its number (source partition, offset, n), and the receiving
fold drops a number that it has received, so two relays at once do no harm. A fold also drops a lower number
that arrives after a higher one, so the records for one partition are sent in order or not at all.
"""

from __future__ import annotations

import logging
import threading
from contextlib import closing
from functools import partial
from typing import Any, Final

from kafka import KafkaProducer

from flows.kit.generation import run_live
from flows.kit.metrics import FlowMetrics
from flows.relay.sent import NONE_SENT, Number, Relayed, sent_before
from infra import heartbeat
from infra.kafka import kafka_client
from infra.kafka.kafka_client import ensure_topics
from infra.kafka.names import broker_name
from infra.settings import Settings
from infra.store import redis_client
from infra.store.redis_client import Client
from schemas.errors import FreshetError
from schemas.events import merge_number
from schemas.identity import partition_of
from schemas.state import fences
from schemas.topics import EVENTS

log = logging.getLogger(__name__)
BLOCK_MS: Final = 500
"""How long one wait for an outbox blocks: it bounds how long a stop takes."""
CLUSTER_POLL_SECONDS: Final = 0.02
"""Between polls of empty outboxes on a cluster, where no one node can block on all of them."""
MAX_ENTRIES_PER_OUTBOX: Final = 500
"""Sent in one step."""
SEND_TIMEOUT_SECONDS: Final = 30.0
_NEVER_MS: Final = 2**31 - 1

# One request at a time, and no timeout: a producer that drops a batch would send the next one
_IN_ORDER: Final = {"max_in_flight_requests_per_connection": 1, "delivery_timeout_ms": _NEVER_MS}


class OtherTopic(FreshetError):
    """The relay's positions belong to another topic id: the relay has to start again."""


class Relay:
    """Sends the outboxes of all partitions. `sent[p]`: the highest number of partition p that the log has."""

    def __init__(self, settings: Settings, client: Client, generation: int = 0) -> None:
        self._settings, self._redis = settings, client
        self._keyspace = settings.keyspace.in_generation(generation)
        self._name, topic = broker_name(settings, EVENTS.name), ensure_topics(settings)[EVENTS.name]
        self._topic, self.partitions = topic.id, topic.partitions
        self.sent: dict[int, Number] = dict.fromkeys(range(self.partitions), NONE_SENT)
        self._read_to = {self._keyspace.outbox(p): b"0-0" for p in range(self.partitions)}
        """Outbox -> id of the last entry that was read."""
        self._read_outboxes()
        self._producer: KafkaProducer = kafka_client.producer(settings, **_IN_ORDER)

    def _positions_from_log(self) -> None:
        """Reads the positions from the log where Redis has none of this topic, and stores them at once: an
        outbox that is empty now may fill again soon."""
        log.info("no stored position: reading from %s what was sent", self._name)
        found = sent_before(self._settings, self._redis, self.partitions, self._keyspace)
        for p in range(self.partitions):
            self.sent[p] = max(self.sent[p], found.get(p, NONE_SENT))
            self._redis.set(self._keyspace.relayed(p), self._stored(p))

    def _stored(self, partition: int) -> bytes:
        return Relayed(self._topic, self.sent[partition]).stored()

    def step(self) -> int:
        """Sends the outboxes' entries, waits for the broker, trims. Returns how many records were sent.

        Errors: `KafkaTimeoutError`, after which nothing more may be sent by this relay; `OtherTopic`.
        """
        outboxes = self._read_outboxes()
        futures = []
        for p, entries in enumerate(outboxes):
            due = [fields for id_, fields in entries if merge_number(id_) > self.sent[p]]
            if len(due) < len(entries):
                self._check_topic(p)
            futures += [self._send(fields) for fields in due]
        for future in futures:
            future.get(SEND_TIMEOUT_SECONDS)
        for p, entries in enumerate(outboxes):
            if entries:
                self._trim(p, [id_ for id_, _ in entries])
        return len(futures)

    def wait(self, stop: threading.Event) -> None:
        """Returns once an outbox has a new entry, or `stop` is set, at the latest after `BLOCK_MS`. Where
        Redis was emptied, an entry may come under an id of before: the next step finds it."""
        if redis_client.is_cluster(self._redis):
            stop.wait(CLUSTER_POLL_SECONDS)
        else:
            self._redis.xread(self._read_to, count=1, block=BLOCK_MS)

    def _read_outboxes(self) -> list[Any]:
        """The entries of each outbox. It reads the positions as well: another relay may have moved them, and
        a missing position means that Redis was emptied."""
        with self._redis.pipeline(transaction=False) as pipe:
            for p in range(self.partitions):
                pipe.get(self._keyspace.relayed(p))
                pipe.xrange(self._keyspace.outbox(p), count=MAX_ENTRIES_PER_OUTBOX)
            found: list[Any] = pipe.execute()
        held = [Relayed.read(value) for value in found[::2]]
        for p, at in enumerate(held):
            if at is not None and at.topic == self._topic:
                self.sent[p] = max(self.sent[p], at.number)
        if not all(at is not None and at.topic == self._topic for at in held):
            self._positions_from_log()
        outboxes = found[1::2]
        for key, entries in zip(self._read_to, outboxes, strict=True):
            if entries:
                self._read_to[key] = entries[-1][0]
        return outboxes

    def _send(self, fields: dict[bytes, bytes]) -> Any:
        key, value = fields[b"k"], fields[b"v"]
        # no trace header: a fold reads no headers, and the record names its link or slate
        headers, partition = list(EVENTS.headers), partition_of(key, self.partitions)
        return self._producer.send(self._name, value, key, headers, partition)

    def _trim(self, partition: int, ids: list[bytes]) -> None:
        self.sent[partition] = max(self.sent[partition], merge_number(ids[-1]))
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.set(self._keyspace.relayed(partition), self._stored(partition))
            pipe.xdel(self._keyspace.outbox(partition), *ids)
            pipe.execute()

    def _check_topic(self, partition: int) -> None:
        """Entries below the position are either old entries of a refilled outbox, or entries of a new topic,
        whose offsets start at 0 and which were not sent. Errors: `OtherTopic` for the latter."""
        held = self._redis.get(self._keyspace.fence("people", partition))
        if held is not None and fences.decode(held).topic_id != self._topic:
            raise OtherTopic(f"{self._name} was recreated: the relay has to start again")

    def close(self) -> None:
        self._producer.close(timeout=SEND_TIMEOUT_SECONDS)


def run(settings: Settings) -> None:
    """Runs the relay of the live generation until SIGTERM. A generation that is filled sends nothing.

    Errors: `KafkaError`, `OtherTopic`.
    """
    run_live(settings, partial(_run, settings))


def _run(settings: Settings, generation: int, stop: threading.Event) -> None:
    with redis_client.connect(settings) as client:
        relay, metrics = Relay(settings, client, generation), FlowMetrics(settings, "relay")
        with metrics.exposed(), closing(relay), heartbeat.watched_loop():
            while not stop.is_set():
                heartbeat.beat()
                sent = relay.step()
                metrics.relayed(sent)
                if sent == 0:
                    relay.wait(stop)
