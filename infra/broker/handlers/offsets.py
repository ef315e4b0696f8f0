"""ListOffsets, OffsetForLeaderEpoch, DeleteRecords: positions in the logs."""

from __future__ import annotations

import os
from typing import Any, Final

from kafka.protocol.admin import DeleteRecordsResponse
from kafka.protocol.consumer import ListOffsetsResponse, OffsetForLeaderEpochResponse

from infra.broker.codes import Code, Refused
from infra.broker.handlers.fetch import check_epoch
from infra.broker.log import Log
from infra.broker.node import LEADER_EPOCH, Broker
from infra.broker.wire import Call

LATEST, EARLIEST, MAX_TIMESTAMP, EARLIEST_LOCAL = -1, -2, -3, -4
LIST_ROW = ListOffsetsResponse.ListOffsetsTopicResponse
LIST_CELL: Final = LIST_ROW.ListOffsetsPartitionResponse
EPOCH_ROW = OffsetForLeaderEpochResponse.OffsetForLeaderTopicResult
EPOCH_CELL: Final = EPOCH_ROW.EpochEndOffset
DELETE_ROW = DeleteRecordsResponse.DeleteRecordsTopicResult
DELETE_CELL: Final = DELETE_ROW.DeleteRecordsPartitionResult


async def list_offsets(broker: Broker, call: Call) -> Any:
    """The first or next offset, or the first record at or after a time."""
    rows = []
    for asked in call.request.topics:
        cells = []
        for part in asked.partitions:
            offset, time, error = -1, -1, Code.NONE
            try:
                log = broker.catalogue.named(asked.name).log(part.partition_index)
                check_epoch(part.current_leader_epoch)
                offset, time = _find(log, part.timestamp)
            except Refused as refused:
                error = refused.code
            cells.append(
                LIST_CELL(
                    partition_index=part.partition_index,
                    error_code=error,
                    timestamp=time,
                    offset=offset,
                    leader_epoch=LEADER_EPOCH if offset >= 0 else -1,
                )
            )
        rows.append(LIST_ROW(name=asked.name, partitions=cells))
    return ListOffsetsResponse(throttle_time_ms=0, topics=rows)


def _find(log: Log, time: int) -> tuple[int, int]:
    if time == LATEST:
        return log.next, -1
    if time in (EARLIEST, EARLIEST_LOCAL):
        return log.start, -1
    if time == MAX_TIMESTAMP:
        return log.newest()
    if time < 0:
        raise Refused(Code.UNSUPPORTED_VERSION, "no such special time")
    return log.at_time(time)


async def for_leader_epoch(broker: Broker, call: Call) -> Any:
    """Where the log of a leader epoch ends; the broker has only one epoch."""
    rows = []
    for asked in call.request.topics:
        cells = []
        for part in asked.partitions:
            epoch, end, error = -1, -1, Code.NONE
            try:
                log = broker.catalogue.named(asked.topic).log(part.partition)
                check_epoch(part.current_leader_epoch)
                if part.leader_epoch == LEADER_EPOCH:
                    epoch, end = LEADER_EPOCH, log.next
            except Refused as refused:
                error = refused.code
            cells.append(
                EPOCH_CELL(
                    error_code=error,
                    partition=part.partition,
                    leader_epoch=epoch,
                    end_offset=end,
                )
            )
        rows.append(EPOCH_ROW(topic=asked.topic, partitions=cells))
    return OffsetForLeaderEpochResponse(throttle_time_ms=0, topics=rows)


async def delete_records(broker: Broker, call: Call) -> Any:
    """Moves logs' first offset up; -1 means to the end."""
    rows = []
    for asked in call.request.topics:
        cells = []
        for part in asked.partitions:
            low, error = -1, Code.NONE
            try:
                low = _cut(broker, asked.name, part)
            except Refused as refused:
                error = refused.code
            cells.append(
                DELETE_CELL(
                    partition_index=part.partition_index, low_watermark=low, error_code=error
                )
            )
        rows.append(DELETE_ROW(name=asked.name, partitions=cells))
    return DeleteRecordsResponse(throttle_time_ms=0, topics=rows)


def _cut(broker: Broker, name: str, part: Any) -> int:
    topic = broker.catalogue.named(name)
    log = topic.log(part.partition_index)
    if "delete" not in topic.configs.get("cleanup.policy", "delete"):
        raise Refused(Code.POLICY_VIOLATION, "records of a compacted topic are not deleted")
    try:
        log.truncate_before(log.next if part.offset == -1 else part.offset)
    except OSError as error:
        raise Refused(Code.KAFKA_STORAGE_ERROR, os.strerror(error.errno or 0)) from error
    return log.start
