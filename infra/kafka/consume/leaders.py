"""Which broker leads each partition, and a connection to it; asked of any broker that answers."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from kafka.errors import IncompatibleBrokerVersion, LeaderNotAvailableError
from kafka.protocol.consumer import FetchRequest
from kafka.protocol.metadata import MetadataRequest

from infra.kafka.connection import ANSWER_SECONDS
from infra.kafka.consume import wire
from infra.kafka.consume.connection import BlockingConnection, open_connection
from infra.kafka.reachable import addresses
from infra.kafka.security import KafkaSecurityError
from infra.settings import Settings

Address = tuple[str, int]
"""Host and port."""
Place = tuple[str, int]
"""Topic, by the broker's name, and partition."""


class LeaderConnections(NamedTuple):
    """What was asked for, as far as it was found."""

    leaders: dict[Place, Address]
    """Of each partition that has a leader."""
    opened: dict[Address, BlockingConnection]
    """New connections, to leaders alone."""
    errors: list[Exception]
    """Why a partition has no leader here, or none that could be connected to."""

    @property
    def expires_at(self) -> float:
        """Until when the brokers take requests, by `time.monotonic`, in s."""
        return min((it.expires_at for it in self.opened.values()), default=float("inf"))

    def close(self) -> None:
        for connection in self.opened.values():
            connection.close()


def open_any(
    settings: Settings, servers: Iterable[Address] = ()
) -> tuple[Address, BlockingConnection]:
    """A connection to the first broker that answers, of `servers` and those of the settings, one by one.

    Errors: the first one's, `KafkaSecurityError` before others.
    """
    errors: list[Exception] = []
    for at in dict.fromkeys([*addresses(settings.kafka_bootstrap.split(",")), *servers]):
        try:
            return at, open_connection(settings, *at)
        except (OSError, EOFError, KafkaSecurityError, IncompatibleBrokerVersion) as error:
            errors.append(error)
    refusals = (it for it in errors if isinstance(it, KafkaSecurityError))
    raise next(refusals, errors[0])


def metadata(
    connection: BlockingConnection, topics: Iterable[str], seconds: float = ANSWER_SECONDS
) -> Any:
    """kafka-python's answer of Metadata about topics that exist or not. Errors: as `ask`'s."""
    named = [MetadataRequest.MetadataRequestTopic(name=topic) for topic in topics]
    request = MetadataRequest(topics=named, allow_auto_topic_creation=False)
    return connection.ask(request, seconds)


def find(
    settings: Settings, places: Collection[Place], held: Collection[Address]
) -> LeaderConnections:
    """The leaders of `places`, and a connection to each that is none of `held`.

    Errors: as `open_any`'s and `BlockingConnection.ask`'s; one of a leader is in the answer.
    """
    at, first = open_any(settings, held)
    found = LeaderConnections({}, {}, [])
    try:
        leaders = _leaders(metadata(first, {topic for topic, _ in places}))
        found.leaders.update((it, leaders[it]) for it in places if it in leaders)
        if missing := [it for it in places if it not in leaders]:
            topic, partition = missing[0]
            found.errors.append(LeaderNotAvailableError(f"{topic} partition {partition}"))
        for leader in set(found.leaders.values()) - set(held):
            if leader == at:
                found.opened[at] = first
                continue
            try:
                found.opened[leader] = open_connection(settings, *leader)
            except (OSError, EOFError, KafkaSecurityError, IncompatibleBrokerVersion) as error:
                found.errors.append(error)
    except BaseException:
        found.close()
        raise
    finally:
        if first not in found.opened.values():
            first.close()
    for connection in found.opened.values():
        if not connection.knows(FetchRequest, wire.VERSION):
            found.close()
            raise IncompatibleBrokerVersion(
                f"the broker at {connection.address} does not know Fetch {wire.VERSION}: Apache Kafka 2.7"
                " and newer do"
            )
    return found


def _leaders(answer: Any) -> dict[Place, Address]:
    brokers = {it.node_id: (it.host, it.port) for it in answer.brokers}
    return {
        (entry.name, it.partition_index): brokers[it.leader_id]
        for entry in answer.topics
        for it in entry.partitions
        if it.leader_id in brokers
    }
