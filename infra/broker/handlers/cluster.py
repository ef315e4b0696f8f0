"""Metadata, FindCoordinator, DescribeCluster, DescribeLogDirs: the one node and its topics."""

from __future__ import annotations

import asyncio
from typing import Any

from kafka.protocol.admin import DescribeClusterResponse, DescribeLogDirsResponse
from kafka.protocol.metadata import FindCoordinatorResponse, MetadataResponse

from infra.broker.catalogue import check_new_topic
from infra.broker.codes import Code, Refused
from infra.broker.handlers.missing import no_transactions
from infra.broker.handlers.partitions import once
from infra.broker.node import LEADER_EPOCH, NODE_ID, Broker
from infra.broker.topic import Topic, check_name
from infra.broker.wire import NO_TOPIC_ID, Call

TOPIC = MetadataResponse.MetadataResponseTopic
PARTITION = TOPIC.MetadataResponsePartition
DIR = DescribeLogDirsResponse.DescribeLogDirsResult


async def metadata(broker: Broker, call: Call) -> Any:
    """Topics by name or id; a missing topic is made where the request allows it."""
    request, (host, port) = call.request, call.advertised
    requested = request.topics
    if requested is None or (call.version == 0 and not requested):
        topics = [_describe(topic) for topic in broker.catalogue.topics.values()]
    else:
        topics = []
        for row in once(requested, lambda row: (row.name, row.topic_id)):
            topics.append(_look_up(broker, call, row.name, row.topic_id))
            await asyncio.sleep(0)  # it may have been created: other clients go in between
    return MetadataResponse(
        throttle_time_ms=0,
        brokers=[
            MetadataResponse.MetadataResponseBroker(
                node_id=NODE_ID, host=host, port=port, rack=None
            )
        ],
        cluster_id=broker.catalogue.cluster,
        controller_id=NODE_ID,
        topics=topics,
        error_code=0,
    )


def _look_up(broker: Broker, call: Call, name: str | None, topic_id: Any) -> Any:
    try:
        if name is None and call.version >= 10:
            return _describe(broker.catalogue.topic_by_id(topic_id))
        may_create = broker.auto_create and (
            call.version < 4 or call.request.allow_auto_topic_creation
        )
        return _describe(_get_or_create(broker, name, may_create))
    except Refused as refused:
        return TOPIC(
            error_code=refused.code,
            name=name if name is not None or call.version >= 12 else "",
            topic_id=topic_id or NO_TOPIC_ID,
            is_internal=False,
            partitions=[],
        )


def _get_or_create(broker: Broker, name: str | None, may_create: bool) -> Topic:
    topic = broker.catalogue.topics.get(name or "")
    if topic is not None:
        return topic
    check_name(name)
    if not may_create:
        raise Refused(Code.UNKNOWN_TOPIC_OR_PARTITION, "no such topic")
    legal = check_new_topic(broker.catalogue, name, broker.default_partitions)
    return broker.catalogue.create(legal, broker.default_partitions, {})


def _describe(topic: Topic) -> Any:
    return TOPIC(
        error_code=0,
        name=topic.name,
        topic_id=topic.id,
        is_internal=False,
        partitions=[
            PARTITION(
                error_code=0,
                partition_index=n,
                leader_id=NODE_ID,
                leader_epoch=LEADER_EPOCH,
                replica_nodes=[NODE_ID],
                isr_nodes=[NODE_ID],
                offline_replicas=[],
            )
            for n in range(len(topic.logs))
        ],
    )


async def find_coordinator(broker: Broker, call: Call) -> Any:
    """This node, for groups; a refusal for transactions."""
    request, (host, port) = call.request, call.advertised
    error, reason = Code.NONE, None
    if request.key_type != 0:
        refusal = no_transactions()
        error, reason = refusal.code, refusal.reason
    coordinator = {
        "error_code": error,
        "error_message": reason,
        "node_id": -1 if error else NODE_ID,
        "host": "" if error else host,
        "port": -1 if error else port,
    }
    if call.version < 4:
        return FindCoordinatorResponse(throttle_time_ms=0, **coordinator)
    row = FindCoordinatorResponse.Coordinator
    return FindCoordinatorResponse(
        throttle_time_ms=0,
        coordinators=[row(key=key, **coordinator) for key in request.coordinator_keys],
    )


async def describe(broker: Broker, call: Call) -> Any:
    """Id, controller and the one broker."""
    return DescribeClusterResponse(
        throttle_time_ms=0,
        error_code=0,
        error_message=None,
        endpoint_type=1,
        cluster_id=broker.catalogue.cluster,
        controller_id=NODE_ID,
        brokers=[
            DescribeClusterResponse.DescribeClusterBroker(
                broker_id=NODE_ID, host=call.advertised[0], port=call.advertised[1], rack=None
            )
        ],
    )


async def log_dirs(broker: Broker, call: Call) -> Any:
    """Bytes of every requested partition; of all where the request names none."""
    requested = call.request.topics
    chosen = None if requested is None else {row.topic: set(row.partitions) for row in requested}
    rows = []
    for topic in broker.catalogue.topics.values():
        if chosen is not None and topic.name not in chosen:
            continue
        cells = [
            DIR.DescribeLogDirsTopic.DescribeLogDirsPartition(
                partition_index=n, partition_size=log.size, offset_lag=0, is_future_key=False
            )
            for n, log in enumerate(topic.logs)
            if chosen is None or n in chosen[topic.name]
        ]
        rows.append(DIR.DescribeLogDirsTopic(name=topic.name, partitions=cells))
    result = DIR(
        error_code=0,
        log_dir=str(broker.folder.path),
        topics=rows,
        total_bytes=-1,
        usable_bytes=-1,
    )
    return DescribeLogDirsResponse(throttle_time_ms=0, error_code=0, results=[result])
