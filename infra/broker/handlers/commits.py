"""OffsetCommit and OffsetFetch."""

from __future__ import annotations

from typing import Any, Final

from kafka.protocol.consumer import OffsetCommitResponse, OffsetFetchResponse

from infra.broker.codes import Code, Refused
from infra.broker.commits import Commit, TopicPartition
from infra.broker.handlers.partitions import ByPartition, once
from infra.broker.node import Broker
from infra.broker.wire import Call

MAX_METADATA_BYTES: Final = 4096  # Kafka's offset.metadata.max.bytes
NO_COMMIT: Final = Commit(-1, -1, "")
COMMIT_ROW = OffsetCommitResponse.OffsetCommitResponseTopic
COMMITTED: Final = ByPartition(COMMIT_ROW, COMMIT_ROW.OffsetCommitResponsePartition)
FETCH_ROW = OffsetFetchResponse.OffsetFetchResponseTopic
FETCH_CELL = FETCH_ROW.OffsetFetchResponsePartition
FETCH_GROUP = OffsetFetchResponse.OffsetFetchResponseGroup
GROUP_ROW = FETCH_GROUP.OffsetFetchResponseTopics
GROUP_CELL = GROUP_ROW.OffsetFetchResponsePartitions


async def commit(broker: Broker, call: Call) -> Any:
    """Writes the offsets that the member may commit, and answers each with its code."""
    request = call.request
    group_code = _may_commit(broker, request)
    codes: dict[TopicPartition, Code] = {}
    accepted: dict[TopicPartition, Commit] = {}
    for topic in request.topics:
        for requested in topic.partitions:
            key = (topic.name, requested.partition_index)
            codes[key] = group_code or _check(broker, topic.name, requested)
            if codes[key] is Code.NONE:
                accepted[key] = Commit(
                    requested.committed_offset,
                    requested.committed_leader_epoch,
                    requested.committed_metadata or "",
                )
    try:
        if accepted:
            broker.commits.put(request.group_id, accepted)
    except OSError:
        codes |= dict.fromkeys(accepted, Code.COORDINATOR_NOT_AVAILABLE)  # clients try again

    def answer(topic: str, requested: Any) -> dict[str, Code]:
        return {"error_code": codes[topic, requested.partition_index]}

    return OffsetCommitResponse(throttle_time_ms=0, topics=COMMITTED.rows(request.topics, answer))


def _may_commit(broker: Broker, request: Any) -> Code:
    try:
        broker.groups.check_commit(
            request.group_id,
            request.member_id,
            request.group_instance_id,
            request.generation_id_or_member_epoch,
        )
    except Refused as refused:
        return refused.code
    return Code.NONE


def _check(broker: Broker, topic: str, requested: Any) -> Code:
    try:
        broker.catalogue.topic_by_name(topic).log(requested.partition_index)
    except Refused as refused:
        return refused.code
    if len((requested.committed_metadata or "").encode()) > MAX_METADATA_BYTES:
        return Code.OFFSET_METADATA_TOO_LARGE
    return Code.NONE


async def fetch(broker: Broker, call: Call) -> Any:
    """The requested committed offsets, or all of a group; -1 where there is none."""
    request = call.request
    if call.version < 8:
        rows = _rows(broker, request.group_id, request.topics, FETCH_ROW, FETCH_CELL)
        return OffsetFetchResponse(throttle_time_ms=0, topics=rows, error_code=0)
    return OffsetFetchResponse(
        throttle_time_ms=0,
        groups=[
            FETCH_GROUP(
                group_id=group.group_id,
                topics=_rows(broker, group.group_id, group.topics, GROUP_ROW, GROUP_CELL),
                error_code=0,
            )
            # a group whose topics are not named has all of them in the answer
            for group in once(
                request.groups, lambda it: it.group_id if it.topics is None else id(it)
            )
        ],
    )


def _rows(broker: Broker, group: str, topics: Any, row: Any, cell: Any) -> list[Any]:
    commits = broker.commits.of_group(group)
    if topics is None:
        partitions_by_topic: dict[str, list[int]] = {}
        for name, partition in commits:
            partitions_by_topic.setdefault(name, []).append(partition)
    else:
        partitions_by_topic = {topic.name: list(topic.partition_indexes) for topic in topics}
    rows = []
    for name, partitions in partitions_by_topic.items():
        cells = []
        for partition in partitions:
            committed = commits.get((name, partition), NO_COMMIT)
            cells.append(
                cell(
                    partition_index=partition,
                    committed_offset=committed.offset,
                    committed_leader_epoch=committed.leader_epoch,
                    metadata=committed.metadata,
                    error_code=0,
                )
            )
        rows.append(row(name=name, partitions=cells))
    return rows
