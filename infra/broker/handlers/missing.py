"""Unsupported requests: transactions, and consumer groups of the new protocol (KIP-848).

ApiVersions lists none of these, so a client that reads the list sends none. A client that does not
read the list gets an error code.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from kafka.protocol.producer import (
    AddOffsetsToTxnResponse,
    AddPartitionsToTxnResponse,
    EndTxnResponse,
    TxnOffsetCommitResponse,
)

from infra.broker.codes import Code, Refused
from infra.broker.handlers.partitions import ByPartition
from infra.broker.node import Broker
from infra.broker.storage.missing import unsupported
from infra.broker.wire import Call

CONSUMER_GROUP_HEARTBEAT: Final = 68
ADDED = AddPartitionsToTxnResponse.AddPartitionsToTxnTopicResult
ADDED_CELL: Final = ADDED.AddPartitionsToTxnPartitionResult
OFFSETS_ROW = TxnOffsetCommitResponse.TxnOffsetCommitResponseTopic
OFFSETS: Final = ByPartition(OFFSETS_ROW, OFFSETS_ROW.TxnOffsetCommitResponsePartition)


def no_transactions() -> Refused:
    """The refusal to raise; clients do not retry after its code."""
    return unsupported(Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, "transactions")


async def add_partitions(_: Broker, call: Call) -> Any:
    """Refused, partition by partition."""
    code = no_transactions().code
    return AddPartitionsToTxnResponse(
        throttle_time_ms=0,
        results_by_topic_v3_and_below=[
            ADDED(
                name=topic.name,
                results_by_partition=[
                    ADDED_CELL(partition_index=n, partition_error_code=code)
                    for n in topic.partitions
                ],
            )
            for topic in call.request.v3_and_below_topics
        ],
    )


async def add_offsets(_: Broker, __: Call) -> Any:
    """Refused."""
    return AddOffsetsToTxnResponse(throttle_time_ms=0, error_code=no_transactions().code)


async def end_transaction(_: Broker, __: Call) -> Any:
    """Refused."""
    return EndTxnResponse(throttle_time_ms=0, error_code=no_transactions().code)


async def commit_offsets(_: Broker, call: Call) -> Any:
    """Refused, partition by partition."""
    code = no_transactions().code
    rows = OFFSETS.rows(call.request.topics, lambda *_: {"error_code": code})
    return TxnOffsetCommitResponse(throttle_time_ms=0, topics=rows)


def refused_heartbeat(correlation: int) -> bytes:
    """The framed answer to a ConsumerGroupHeartbeat: kafka-python has no codec for that API."""
    refusal = unsupported(Code.UNSUPPORTED_VERSION, "KIP-848 groups (group.protocol=consumer)")
    reason = str(refusal).encode()
    body = b"".join(
        (
            struct.pack(">ixih", correlation, 0, refusal.code),  # no tags; no throttling
            bytes([len(reason) + 1]) + reason,
            b"\0" + struct.pack(">ii", -1, 0) + b"\xff\0",  # member, epoch, interval, assignment
        )
    )
    return struct.pack(">i", len(body)) + body
