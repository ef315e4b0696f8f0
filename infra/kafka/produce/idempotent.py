"""One producer id and a connection to each leader: it sends each record once, and ends with the first error.

Its batches carry their partition's sequence (KIP-98). A broker takes a batch only behind the one before it,
so of two batches under way the second is refused where the first was not taken, and nothing overtakes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from kafka.protocol.metadata import ApiVersionsRequest

from infra.kafka.connection import BrokerConnection
from infra.kafka.produce import failure
from infra.kafka.produce.batch import PartitionQueue
from infra.kafka.produce.errors import NotDurable
from infra.kafka.produce.failure import BatchError, Failure
from infra.kafka.produce.leaders import Cluster
from infra.kafka.produce.messages import Result
from infra.kafka.produce.pending import PendingAppend, PendingAppends
from infra.kafka.produce.record_batch import HEAD_BYTES, ProducerId, encoded_headers
from infra.kafka.produce.sender import Sender, Sent
from schemas.headers import Headers
from schemas.record import Record
from schemas.topics import EVENTS

KEEP_ALIVE: Final = (ApiVersionsRequest.API_KEY, 0)
"""The request that every broker answers, and its version, which has no body."""


class IdempotentProducer:
    """`on_failure` is called once, unless it was aborted before: nothing more will be acknowledged, and every
    append under way fails."""

    def __init__(
        self,
        producer: ProducerId,
        cluster: Cluster,
        connections: Mapping[int, BrokerConnection],
        pending: PendingAppends,
        on_failure: Callable[[IdempotentProducer, Failure], None],
    ) -> None:
        self.id, self.cluster = producer, cluster
        self.pending_records = 0
        self.pending_bytes = 0
        self.acknowledged_records = 0
        self._connections, self._pending = connections, pending
        self._on_failure, self._ended = on_failure, False
        self._senders = {
            node: Sender(connection, producer, self._take, self._fail)
            for node, connection in connections.items()
        }
        self._places = {
            name: [
                (
                    PartitionQueue(topic.name.encode(), partition, topic.max_batch_bytes),
                    self._senders[node],
                )
                for partition, node in enumerate(topic.leaders)
            ]
            for name, topic in cluster.topics.items()
        }

    @property
    def events_topic(self) -> str:
        """Id of the topic `events`."""
        return self.cluster.topics[EVENTS.name].id

    @property
    def requests(self) -> int:
        """Requests that it has sent."""
        return sum(sender.requests for sender in self._senders.values())

    def append(
        self, topic: str, records: Sequence[Record], headers: Headers, append: PendingAppend
    ) -> None:
        """Takes records of our `topic`, at least one. `headers`: of those that have none.

        Errors: `NotDurable` for a partition that the topic lacks: then it has taken none.
        """
        places = self._places[topic]
        now, common = time.time_ns() // 1_000_000, encoded_headers(headers)
        partitions = by_partition(records)
        if min(partitions) < 0 or max(partitions) >= len(places):
            raise NotDurable
        for partition, those in partitions.items():
            queue, sender = places[partition]
            self.pending_bytes += queue.add(those, now, common, append)
            sender.wake(queue)
        self.pending_records += len(records)

    def lose(self, connection: BrokerConnection, error: Exception | None) -> None:
        """A connection has ended: the first one ends them all."""
        self._end(Failure())

    def keep_alive(self) -> None:
        """Asks each leader something: brokers and firewalls end connections on which nothing is said, and a
        leader that is asked for few records has such a one. No answer ends it."""
        for connection in self._connections.values():
            with suppress(OSError):
                connection.send(*KEEP_ALIVE, [], lambda *_: None)

    def abort(self) -> None:
        """Ends it at once; what is under way is neither sent again nor acknowledged."""
        self._ended = True
        self.pending_records = self.pending_bytes = 0
        for sender in self._senders.values():
            sender.close()
        for connection in self._connections.values():
            connection.abort()

    def _take(self, answered: list[tuple[Sent, Result]]) -> None:
        failed = []
        now = time.monotonic()
        for (queue, batch), result in answered:
            if result.error:
                failed.append(BatchError(queue.topic.decode(), batch, result.error))
                continue
            queue.acknowledge(now)
            self.pending_records -= batch.count
            self.pending_bytes -= batch.size - HEAD_BYTES
            self.acknowledged_records += batch.count
            self._pending.heard = now
            for append, last in batch.appends:
                self._pending.acknowledge(append, queue.partition, result.offset + last)
        if failed:
            self._end(failure.of_batches(failed))

    def _fail(self, error: Exception) -> None:
        if isinstance(error, OSError):  # the connection has ended, which `lose` will hear of
            self._end(Failure())
        else:
            self._end(Failure(f"a request could not be sent ({type(error).__name__})"))

    def _end(self, why: Failure) -> None:
        if not self._ended:
            self.abort()
            self._on_failure(self, why)


def by_partition(records: Sequence[Record]) -> Mapping[int, Sequence[Record]]:
    """Partition -> its records, in their order."""
    if len(records) == 1:
        return {records[0].partition: records}
    parts: dict[int, list[Record]] = {}
    for record in records:
        part = parts.get(record.partition)
        if part is None:
            part = parts[record.partition] = []
        part.append(record)
    return parts
