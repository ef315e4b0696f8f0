"""CreateTopics, DeleteTopics, CreatePartitions."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from kafka.protocol.admin import (
    CreatePartitionsResponse,
    CreateTopicsResponse,
    DeleteTopicsResponse,
)

from infra.broker.catalogue import MAX_PARTITIONS_PER_TOPIC, check_new_topic
from infra.broker.codes import Code, Refused
from infra.broker.configs import TOPIC_CONFIGS, checked_configs
from infra.broker.node import NODE_ID, Broker
from infra.broker.storage.missing import unsupported
from infra.broker.topic import Topic
from infra.broker.wire import NO_TOPIC_ID, Call

CREATED = CreateTopicsResponse.CreatableTopicResult
DELETED = DeleteTopicsResponse.DeletableTopicResult
GROWN = CreatePartitionsResponse.CreatePartitionsTopicResult
DEFAULT_CONFIG, TOPIC_CONFIG = 5, 1


async def create(broker: Broker, call: Call) -> Any:
    """Creates topics, each with a new id; answers the partition count and the configs."""
    rows = []
    for name, requests in _by_name(call).items():
        try:
            rows.append(_create(broker, _only(requests), call.request.validate_only))
            await asyncio.sleep(0)  # other clients go in between
        except Refused as refused:
            rows.append(
                CREATED(
                    name=name,
                    topic_id=NO_TOPIC_ID,
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
    for requested in call.request.topics:
        rows.setdefault(requested.name, []).append(requested)
    return rows


def _only(requests: list[Any]) -> Any:
    """The one request for a topic. Errors: `Refused` where there are several."""
    if len(requests) > 1:
        raise Refused(Code.INVALID_REQUEST, "topic named twice in one request")
    return requests[0]


def _create(broker: Broker, requested: Any, validate_only: bool) -> Any:
    partitions = _count(broker, requested)
    name = check_new_topic(broker.catalogue, requested.name, partitions)
    configs = checked_configs({row.name: row.value for row in requested.configs})
    topic_id = NO_TOPIC_ID
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
                value=configs.get(key, config.default),
                read_only=False,
                config_source=TOPIC_CONFIG if key in configs else DEFAULT_CONFIG,
                is_sensitive=False,
            )
            for key, config in TOPIC_CONFIGS.items()
        ],
    )


def _count(broker: Broker, requested: Any) -> int:
    """The number of partitions of a requested topic. Errors: `Refused`."""
    if requested.assignments:
        if requested.num_partitions != -1 or requested.replication_factor != -1:
            raise Refused(Code.INVALID_REQUEST, "counts and an assignment exclude each other")
        brokers = {row.partition_index: list(row.broker_ids) for row in requested.assignments}
        if any(ids != [NODE_ID] for ids in brokers.values()) or sorted(brokers) != list(
            range(len(requested.assignments))
        ):
            raise unsupported(
                Code.INVALID_REPLICA_ASSIGNMENT, "replication: there is one broker only"
            )
        return len(brokers)
    if requested.replication_factor not in (-1, 1):
        raise unsupported(Code.INVALID_REPLICATION_FACTOR, "replication: there is one broker only")
    return (
        broker.default_partitions
        if requested.num_partitions == -1
        else int(requested.num_partitions)
    )


async def delete(broker: Broker, call: Call) -> Any:
    """Removes topics by name or id, with their records and commits."""
    if call.version >= 6:
        names = [(row.name, row.topic_id) for row in call.request.topics]
    else:
        names = [(name, NO_TOPIC_ID) for name in call.request.topic_names]
    rows = []
    for name, topic_id in names:
        error, reason, topic = Code.NONE, None, None
        try:
            topic = broker.catalogue.topic_by_either(name, topic_id)
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
        broker.commits.delete_topic(topic.name)
    except OSError as error:
        raise Refused(Code.KAFKA_STORAGE_ERROR, os.strerror(error.errno or 0)) from error
    broker.catalogue.delete(topic)


async def grow(broker: Broker, call: Call) -> Any:
    """Adds partitions; the same number or fewer is refused."""
    rows = []
    for name, requests in _by_name(call).items():
        error, reason = Code.NONE, None
        try:
            _grow(broker, _only(requests), call.request.validate_only)
        except Refused as refused:
            error, reason = refused.code, refused.reason
        rows.append(GROWN(name=name, error_code=error, error_message=reason))
    return CreatePartitionsResponse(throttle_time_ms=0, results=rows)


def _grow(broker: Broker, requested: Any, validate_only: bool) -> None:
    topic = broker.catalogue.topic_by_name(requested.name)
    if not len(topic.logs) < requested.count <= MAX_PARTITIONS_PER_TOPIC:
        raise Refused(Code.INVALID_PARTITIONS, "partitions can only become more")
    assignments = requested.assignments
    if assignments is not None and (
        len(assignments) != requested.count - len(topic.logs)
        or any(list(row.broker_ids) != [NODE_ID] for row in assignments)
    ):
        raise unsupported(Code.INVALID_REPLICA_ASSIGNMENT, "replication: there is one broker only")
    if not validate_only:
        broker.catalogue.grow(topic, requested.count)
