"""Produce and InitProducerId."""

from __future__ import annotations

import uuid
from typing import Any

from kafka.protocol.producer import InitProducerIdResponse, ProduceResponse

from infra.broker.codes import Code, Refused
from infra.broker.handlers.missing import no_transactions
from infra.broker.node import Broker
from infra.broker.wire import Call, Malformed

ROW = ProduceResponse.TopicProduceResponse
CELL = ROW.PartitionProduceResponse


async def produce(broker: Broker, call: Call) -> Any:
    """Appends one batch a partition. With acks=0 there is no answer, and an error closes the connection."""
    request, failed, rows = call.request, False, []
    for topic in request.topic_data:
        cells = []
        for partition in topic.partition_data:
            try:
                cells.append(_append(broker, call, topic, partition))
            except Refused as refused:
                failed = True
                cells.append(_refusal(partition.index, refused))
        rows.append(ROW(name=topic.name, topic_id=topic.topic_id, partition_responses=cells))
    if request.acks == 0:
        if failed:
            raise Malformed("an error of a request with acks=0 has no answer")
        return None
    return ProduceResponse(responses=rows, throttle_time_ms=0)


def append(
    broker: Broker,
    acks: int,
    transactional_id: str | None,
    name: str | None,
    topic_id: uuid.UUID,
    partition: int,
    records: bytes,
) -> tuple[int, int, int]:
    """Appends one batch. Base offset, time of appending (ms, -1: the producer's), first offset of the log.

    `name`: None where the topic is named by its id. Errors: `Refused`.
    """
    if acks not in (-1, 0, 1):
        raise Refused(Code.INVALID_REQUIRED_ACKS, "acks must be -1, 0 or 1")
    if transactional_id is not None:
        raise no_transactions()
    topic = broker.catalogue.topic_by_either(name, topic_id)
    log = topic.log(partition)
    receipt = log.append(records, topic.log_config, broker.now())
    return receipt.base_offset, receipt.append_time, log.start_offset


def _append(broker: Broker, call: Call, topic_data: Any, partition_data: Any) -> Any:
    name = None if call.version >= 13 else topic_data.name
    request, index = call.request, partition_data.index
    where = (request.transactional_id, name, topic_data.topic_id, index)
    base, at, start = append(broker, request.acks, *where, partition_data.records or b"")
    return CELL(
        index=index,
        error_code=0,
        base_offset=base,
        log_append_time_ms=at,
        log_start_offset=start,
        record_errors=[],
        error_message=None,
    )


def _refusal(index: int, refused: Refused) -> Any:
    return CELL(
        index=index,
        error_code=refused.code,
        base_offset=-1,
        log_append_time_ms=-1,
        log_start_offset=-1,
        record_errors=[],
        error_message=refused.reason,
    )


async def init_producer(broker: Broker, call: Call) -> Any:
    """A new producer id with epoch 0. Transactional ids are always refused."""
    try:
        if call.request.transactional_id is not None:
            raise no_transactions()
        producer, epoch, error = broker.catalogue.new_producer(), 0, Code.NONE
    except Refused as refused:
        producer, epoch, error = -1, -1, refused.code
    return InitProducerIdResponse(
        throttle_time_ms=0, error_code=error, producer_id=producer, producer_epoch=epoch
    )
