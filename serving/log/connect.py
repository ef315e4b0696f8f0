"""Opening an idempotent producer: the leaders of our topics, a connection to each, a producer id."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from kafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    KafkaError,
    NotCoordinatorError,
    for_code,
)
from kafka.protocol.producer import InitProducerIdRequest

from infra.kafka.connection import BrokerConnection
from infra.kafka.reachable import open_any
from infra.settings import Settings
from serving.log import leaders
from serving.log.failure import Failure
from serving.log.idempotent import IdempotentProducer
from serving.log.leaders import Cluster
from serving.log.pending import PendingAppends
from serving.log.record_batch import ProducerId

DELIVERY_TIMEOUT_MS: Final = 5000
"""After this long without an acknowledgement a record has failed."""
LOADING_PAUSE_SECONDS: Final = 0.05
_LOADING: Final = {
    CoordinatorLoadInProgressError.errno,
    CoordinatorNotAvailableError.errno,
    NotCoordinatorError.errno,
}
OnFailure = Callable[[IdempotentProducer, Failure], None]


async def open_producer(
    settings: Settings,
    addresses: Sequence[str],
    pending: PendingAppends,
    on_failure: OnFailure,
    max_batch_bytes: Mapping[str, int],
    known: ProducerId | None = None,
) -> IdempotentProducer:
    """A producer, by way of the first of `addresses` that answers. `max_batch_bytes`: by the broker's names
    of topics, where they are known to take less than they say. `known`: its id, where it has one already.

    Errors: OSError, EOFError where a broker does not answer; `KafkaError`, `KafkaSecurityError`,
    `leaders.TopicsDiffer`.
    """
    first = await open_any(settings, addresses)
    try:
        cluster = await leaders.cluster_of(first, settings)
        producer = known or await _producer_id(first)
    finally:
        first.abort()
    topics = {
        name: topic._replace(
            max_batch_bytes=min(
                topic.max_batch_bytes, max_batch_bytes.get(topic.name, topic.max_batch_bytes)
            )
        )
        for name, topic in cluster.topics.items()
    }
    return await _connected(
        settings, producer, cluster._replace(topics=topics), pending, on_failure
    )


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
    tries = [
        asyncio.create_task(BrokerConnection.open(settings, *cluster.nodes[node], lost))
        for node in nodes
    ]
    connections: dict[int, BrokerConnection] = {}
    try:
        for node, each in zip(nodes, tries, strict=True):
            connections[node] = await each
        if any(connection.closed for connection in connections.values()):
            raise ConnectionError("a connection has ended")
    except BaseException:
        for each in tries:
            each.cancel()
        for result in await asyncio.gather(*tries, return_exceptions=True):
            if isinstance(result, BrokerConnection):
                result.abort()
        raise
    opened.append(IdempotentProducer(producer, cluster, connections, pending, on_failure))
    return opened[0]
