"""OffsetCommit and OffsetFetch."""

from __future__ import annotations

from typing import Any, Final

from kafka.protocol.consumer import OffsetCommitResponse, OffsetFetchResponse

from infra.broker.codes import Code, Refused
from infra.broker.commits import Commit
from infra.broker.handlers.partitions import ByPartition
from infra.broker.node import Broker
from infra.broker.wire import Call

MAX_METADATA: Final = 4096  # bytes, Kafka's offset.metadata.max.bytes
NEVER: Final = Commit(-1, -1, "")
COMMIT_ROW = OffsetCommitResponse.OffsetCommitResponseTopic
COMMITTED: Final = ByPartition(COMMIT_ROW, COMMIT_ROW.OffsetCommitResponsePartition)
FETCH_ROW = OffsetFetchResponse.OffsetFetchResponseTopic
FETCH_CELL = FETCH_ROW.OffsetFetchResponsePartition
FETCH_GROUP = OffsetFetchResponse.OffsetFetchResponseGroup
GROUP_ROW = FETCH_GROUP.OffsetFetchResponseTopics
GROUP_CELL = GROUP_ROW.OffsetFetchResponsePartitions


async def commit(broker: Broker, call: Call) -> Any:
    """Writes the offsets that may be written, and answers for each."""
    request = call.request
    whole = _may_commit(broker, request)
    codes: dict[tuple[str, int], Code] = {}
    good: dict[tuple[str, int], Commit] = {}
    for asked in request.topics:
        for part in asked.partitions:
            place = (asked.name, part.partition_index)
            codes[place] = whole or _check(broker, asked.name, part)
            if codes[place] is Code.NONE:
                good[place] = Commit(
                    part.committed_offset,
                    part.committed_leader_epoch,
                    part.committed_metadata or "",
                )
    try:
        if good:
            broker.commits.put(request.group_id, good)
    except OSError:
        codes |= dict.fromkeys(good, Code.COORDINATOR_NOT_AVAILABLE)  # clients try again

    def answer(topic: str, part: Any) -> dict[str, Code]:
        return {"error_code": codes[topic, part.partition_index]}

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


def _check(broker: Broker, topic: str, part: Any) -> Code:
    try:
        broker.catalogue.named(topic).log(part.partition_index)
    except Refused as refused:
        return refused.code
    if len((part.committed_metadata or "").encode()) > MAX_METADATA:
        return Code.OFFSET_METADATA_TOO_LARGE
    return Code.NONE


async def fetch(broker: Broker, call: Call) -> Any:
    """The committed offsets asked for, or all of a group; -1 where there is none."""
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
            for group in request.groups
        ],
    )


def _rows(broker: Broker, group: str, topics: Any, row: Any, cell: Any) -> list[Any]:
    commits = broker.commits.of(group)
    if topics is None:
        wanted: dict[str, list[int]] = {}
        for topic, partition in commits:
            wanted.setdefault(topic, []).append(partition)
    else:
        wanted = {asked.name: list(asked.partition_indexes) for asked in topics}
    rows = []
    for topic, partitions in wanted.items():
        cells = []
        for partition in partitions:
            found = commits.get((topic, partition), NEVER)
            cells.append(
                cell(
                    partition_index=partition,
                    committed_offset=found.offset,
                    committed_leader_epoch=found.leader_epoch,
                    metadata=found.metadata,
                    error_code=0,
                )
            )
        rows.append(row(name=topic, partitions=cells))
    return rows
