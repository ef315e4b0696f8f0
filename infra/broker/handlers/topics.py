"""CreateTopics, DeleteTopics, CreatePartitions."""

from __future__ import annotations

import os
from typing import Any

from kafka.protocol.admin import (
    CreatePartitionsResponse,
    CreateTopicsResponse,
    DeleteTopicsResponse,
)

from infra.broker.catalogue import MAX_PARTITIONS, check_new
from infra.broker.codes import Code, Refused
from infra.broker.configs import CONFIGS, check
from infra.broker.node import NODE_ID, Broker
from infra.broker.storage.missing import lacks
from infra.broker.topic import Topic
from infra.broker.wire import NO_ID, Call

CREATED = CreateTopicsResponse.CreatableTopicResult
DELETED = DeleteTopicsResponse.DeletableTopicResult
GROWN = CreatePartitionsResponse.CreatePartitionsTopicResult
DEFAULT_CONFIG, TOPIC_CONFIG = 5, 1


async def create(broker: Broker, call: Call) -> Any:
    """Makes topics, each with a new id; answers count and configs."""
    rows = []
    for name, named in _by_name(call).items():
        try:
            rows.append(_create(broker, _only(named), call.request.validate_only))
        except Refused as refused:
            rows.append(
                CREATED(
                    name=name,
                    topic_id=NO_ID,
                    error_code=refused.code,
                    error_message=refused.reason,
                    num_partitions=-1,
                    replication_factor=-1,
                    configs=[],
                )
            )
    return CreateTopicsResponse(throttle_time_ms=0, topics=rows)


def _by_name(call: Call) -> dict[str, list[Any]]:
    rows: dict[str, list[Any]] = {}
    for asked in call.request.topics:
        rows.setdefault(asked.name, []).append(asked)
    return rows


def _only(named: list[Any]) -> Any:
    """Errors: `Refused` where there are several."""
    if len(named) > 1:
        raise Refused(Code.INVALID_REQUEST, "topic named twice in one request")
    return named[0]


def _create(broker: Broker, asked: Any, validate_only: bool) -> Any:
    partitions = _count(broker, asked)
    name = check_new(broker.catalogue, asked.name, partitions)
    configs = check({row.name: row.value for row in asked.configs})
    topic_id = NO_ID
    if not validate_only:
        topic_id = broker.catalogue.create(name, partitions, configs).id
    return CREATED(
        name=name,
        topic_id=topic_id,
        error_code=0,
        error_message=None,
        num_partitions=partitions,
        replication_factor=1,
        configs=[
            CREATED.CreatableTopicConfigs(
                name=key,
                value=configs.get(key, known.default),
                read_only=False,
                config_source=TOPIC_CONFIG if key in configs else DEFAULT_CONFIG,
                is_sensitive=False,
            )
            for key, known in CONFIGS.items()
        ],
    )


def _count(broker: Broker, asked: Any) -> int:
    """Partitions of a topic to be. Errors: `Refused`."""
    if asked.assignments:
        if asked.num_partitions != -1 or asked.replication_factor != -1:
            raise Refused(Code.INVALID_REQUEST, "counts and an assignment exclude each other")
        placed = {row.partition_index: list(row.broker_ids) for row in asked.assignments}
        if any(brokers != [NODE_ID] for brokers in placed.values()) or sorted(placed) != list(
            range(len(asked.assignments))
        ):
            raise lacks(Code.INVALID_REPLICA_ASSIGNMENT, "replication: there is one broker only")
        return len(placed)
    if asked.replication_factor not in (-1, 1):
        raise lacks(Code.INVALID_REPLICATION_FACTOR, "replication: there is one broker only")
    return broker.partitions if asked.num_partitions == -1 else int(asked.num_partitions)


async def delete(broker: Broker, call: Call) -> Any:
    """Removes topics by name or id, with their records and commits."""
    if call.version >= 6:
        asked = [(row.name, row.topic_id) for row in call.request.topics]
    else:
        asked = [(name, NO_ID) for name in call.request.topic_names]
    rows = []
    for name, topic_id in asked:
        error, reason, topic = Code.NONE, None, None
        try:
            topic = broker.catalogue.addressed(name, topic_id)
            _delete(broker, topic)
        except Refused as refused:
            error, reason = refused.code, refused.reason
        rows.append(
            DELETED(
                name=topic.name if topic is not None else name,
                topic_id=topic.id if topic is not None else topic_id,
                error_code=error,
                error_message=reason,
            )
        )
    return DeleteTopicsResponse(throttle_time_ms=0, responses=rows)


def _delete(broker: Broker, topic: Topic) -> None:
    try:
        broker.commits.forget_topic(topic.name)
    except OSError as error:
        raise Refused(Code.KAFKA_STORAGE_ERROR, os.strerror(error.errno or 0)) from error
    broker.catalogue.delete(topic)


async def grow(broker: Broker, call: Call) -> Any:
    """Adds partitions; fewer or as many are refused."""
    rows = []
    for name, named in _by_name(call).items():
        error, reason = Code.NONE, None
        try:
            _grow(broker, _only(named), call.request.validate_only)
        except Refused as refused:
            error, reason = refused.code, refused.reason
        rows.append(GROWN(name=name, error_code=error, error_message=reason))
    return CreatePartitionsResponse(throttle_time_ms=0, results=rows)


def _grow(broker: Broker, asked: Any, validate_only: bool) -> None:
    topic = broker.catalogue.named(asked.name)
    if not len(topic.logs) < asked.count <= MAX_PARTITIONS:
        raise Refused(Code.INVALID_PARTITIONS, "partitions can only become more")
    placed = asked.assignments
    if placed is not None and (
        len(placed) != asked.count - len(topic.logs)
        or any(list(row.broker_ids) != [NODE_ID] for row in placed)
    ):
        raise lacks(Code.INVALID_REPLICA_ASSIGNMENT, "replication: there is one broker only")
    if not validate_only:
        broker.catalogue.grow(topic, asked.count)
