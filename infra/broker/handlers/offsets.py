"""ListOffsets, OffsetForLeaderEpoch, DeleteRecords: offsets of the logs."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any, Final

from kafka.protocol.admin import DeleteRecordsResponse
from kafka.protocol.consumer import ListOffsetsResponse, OffsetForLeaderEpochResponse

from infra.broker.codes import Code, Refused
from infra.broker.handlers.fetch import check_epoch
from infra.broker.handlers.partitions import ByPartition
from infra.broker.node import LEADER_EPOCH, Broker
from infra.broker.storage.log import Log
from infra.broker.wire import Call

LATEST, EARLIEST, MAX_TIMESTAMP, EARLIEST_LOCAL = -1, -2, -3, -4
LIST_ROW = ListOffsetsResponse.ListOffsetsTopicResponse
LISTED: Final = ByPartition(
    LIST_ROW,
    LIST_ROW.ListOffsetsPartitionResponse,
    {"offset": -1, "timestamp": -1, "leader_epoch": -1},
)
EPOCH_ROW = OffsetForLeaderEpochResponse.OffsetForLeaderTopicResult
NO_EPOCH: Final = {"leader_epoch": -1, "end_offset": -1}
EPOCHS: Final = ByPartition(EPOCH_ROW, EPOCH_ROW.EpochEndOffset, NO_EPOCH, "topic", "partition")
DELETE_ROW = DeleteRecordsResponse.DeleteRecordsTopicResult
DELETED: Final = ByPartition(
    DELETE_ROW, DELETE_ROW.DeleteRecordsPartitionResult, {"low_watermark": -1}
)


async def list_offsets(broker: Broker, call: Call) -> Any:
    """The first or next offset, or the first record at or after a time. A partition that is named twice is
    refused, as by Kafka: a look for a time may decompress a batch."""
    named = Counter(
        (row.name, it.partition_index) for row in call.request.topics for it in row.partitions
    )

    def answer(topic: str, requested: Any) -> dict[str, int]:
        if named[topic, requested.partition_index] > 1:
            raise Refused(Code.INVALID_REQUEST, "a partition is named twice")
        log = broker.catalogue.topic_by_name(topic).log(requested.partition_index)
        check_epoch(requested.current_leader_epoch)
        offset, time = _find(log, requested.timestamp)
        epoch = LEADER_EPOCH if offset >= 0 else -1
        return {"offset": offset, "timestamp": time, "leader_epoch": epoch}

    return ListOffsetsResponse(throttle_time_ms=0, topics=LISTED.rows(call.request.topics, answer))


def _find(log: Log, time: int) -> tuple[int, int]:
    if time == LATEST:
        return log.next_offset, -1
    if time in (EARLIEST, EARLIEST_LOCAL):
        return log.start_offset, -1
    if time == MAX_TIMESTAMP:
        return log.newest()
    if time < 0:
        raise Refused(Code.UNSUPPORTED_VERSION, "no such special time")
    return log.at_time(time)


async def for_leader_epoch(broker: Broker, call: Call) -> Any:
    """The end offset of a leader epoch; the broker has one epoch alone."""

    def answer(topic: str, requested: Any) -> dict[str, int]:
        log = broker.catalogue.topic_by_name(topic).log(requested.partition)
        check_epoch(requested.current_leader_epoch)
        if requested.leader_epoch != LEADER_EPOCH:
            return NO_EPOCH
        return {"leader_epoch": LEADER_EPOCH, "end_offset": log.next_offset}

    rows = EPOCHS.rows(call.request.topics, answer)
    return OffsetForLeaderEpochResponse(throttle_time_ms=0, topics=rows)


async def delete_records(broker: Broker, call: Call) -> Any:
    """Raises the first offset of logs; -1 means to the end."""

    def answer(topic: str, requested: Any) -> dict[str, int]:
        return {"low_watermark": _truncate(broker, topic, requested)}

    rows = DELETED.rows(call.request.topics, answer)
    return DeleteRecordsResponse(throttle_time_ms=0, topics=rows)


def _truncate(broker: Broker, name: str, requested: Any) -> int:
    topic = broker.catalogue.topic_by_name(name)
    log = topic.log(requested.partition_index)
    if "delete" not in topic.configs.get("cleanup.policy", "delete"):
        raise Refused(Code.POLICY_VIOLATION, "records of a compacted topic are not deleted")
    try:
        log.truncate_before(log.next_offset if requested.offset == -1 else requested.offset)
    except OSError as error:
        raise Refused(Code.KAFKA_STORAGE_ERROR, os.strerror(error.errno or 0)) from error
    return log.start_offset
