"""Opening an idempotent producer: the leaders of our topics, a connection to each, a producer id."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from kafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    KafkaError,
    NotCoordinatorError,
    for_code,
)
from kafka.protocol.producer import InitProducerIdRequest

from infra.kafka.connection import BrokerConnection
from infra.kafka.produce import leaders
from infra.kafka.produce.failure import Failure
from infra.kafka.produce.idempotent import IdempotentProducer
from infra.kafka.produce.leaders import Cluster
from infra.kafka.produce.pending import PendingAppends
from infra.kafka.produce.record_batch import ProducerId
from infra.kafka.reachable import abandon, open_any
from infra.settings import Settings
from schemas.topics import EVENTS

DELIVERY_TIMEOUT_MS: Final = 5000
"""After this long without an acknowledgement a record has failed."""
LOADING_PAUSE_SECONDS: Final = 0.05
_LOADING: Final = {
    CoordinatorLoadInProgressError.errno,
    CoordinatorNotAvailableError.errno,
    NotCoordinatorError.errno,
}
OnFailure = Callable[[IdempotentProducer, Failure], None]


class Predecessor(NamedTuple):
    """What earlier producers of a process have left.

    `producer`: the last one's id with a newer epoch, so that what that one has sent and a broker gets late
    comes into no partition any more behind what is sent again. `events_topic`: the id of the topic in the
    cluster that gave it; in another cluster it may be another's. `too_large`: by the broker's names of
    topics, the size of a batch that was refused.
    """

    producer: ProducerId | None = None
    events_topic: str = ""
    too_large: Mapping[str, int] = {}


async def open_producer(
    settings: Settings,
    addresses: Sequence[str],
    pending: PendingAppends,
    on_failure: OnFailure,
    predecessor: Predecessor,
) -> IdempotentProducer:
    """A producer, by way of the first of `addresses` that answers.

    Errors: OSError, EOFError where a broker does not answer; `KafkaError`, `KafkaSecurityError`,
    `leaders.TopicsDiffer`.
    """
    first = await open_any(settings, addresses)
    try:
        cluster = await leaders.cluster_of(first, settings)
        is_same = cluster.topics[EVENTS.name].id == predecessor.events_topic
        producer = (is_same and predecessor.producer) or await _producer_id(first)
    finally:
        first.abort()
    cluster = cluster.bounded(predecessor.too_large)
    return await _connected(settings, producer, cluster, pending, on_failure)


async def _producer_id(connection: BrokerConnection) -> ProducerId:
    """A new one; a broker that has just started needs a moment. Errors: OSError, EOFError, `KafkaError`."""
    while True:
        request = InitProducerIdRequest(
            transactional_id=None, transaction_timeout_ms=0, producer_id=-1, producer_epoch=-1
        )
        answer: Any = await connection.ask(request)
        if not answer.error_code:
            return ProducerId(answer.producer_id, answer.producer_epoch)
        if answer.error_code not in _LOADING:
            error: type[KafkaError] = for_code(answer.error_code)
            raise error("a producer id")
        await asyncio.sleep(LOADING_PAUSE_SECONDS)


async def _connected(
    settings: Settings,
    producer: ProducerId,
    cluster: Cluster,
    pending: PendingAppends,
    on_failure: OnFailure,
) -> IdempotentProducer:
    """The producer, connected to each leader. Errors: as `BrokerConnection.open`'s."""
    opened: list[IdempotentProducer] = []

    def lost(connection: BrokerConnection, error: Exception | None) -> None:
        for each in opened:
            each.lose(connection, error)

    nodes = sorted({node for topic in cluster.topics.values() for node in topic.leaders})
    tries = [asyncio.create_task(open_any(settings, [cluster.nodes[node]], lost)) for node in nodes]
    connections: dict[int, BrokerConnection] = {}
    try:
        for node, each in zip(nodes, tries, strict=True):
            connections[node] = await each
        if any(connection.closed for connection in connections.values()):
            raise ConnectionError("a connection has ended")
    except BaseException:
        abandon(tries)
        raise
    opened.append(IdempotentProducer(producer, cluster, connections, pending, on_failure))
    return opened[0]
