"""Produce and InitProducerId."""

from __future__ import annotations

from typing import Any

from kafka.protocol.producer import InitProducerIdResponse, ProduceResponse

from infra.broker.codes import Code, Refused
from infra.broker.handlers.missing import no_transactions
from infra.broker.node import Broker
from infra.broker.wire import Call, Malformed

ROW = ProduceResponse.TopicProduceResponse
CELL = ROW.PartitionProduceResponse


async def produce(broker: Broker, call: Call) -> Any:
    """Appends one batch a partition. With acks=0 nothing is answered, and an error hangs up."""
    request, failed, rows = call.request, False, []
    for asked in request.topic_data:
        cells = []
        for part in asked.partition_data:
            try:
                cells.append(_append(broker, call, asked, part))
            except Refused as refused:
                failed = True
                cells.append(_refusal(part.index, refused))
        rows.append(ROW(name=asked.name, topic_id=asked.topic_id, partition_responses=cells))
    if request.acks == 0:
        if failed:
            raise Malformed("acks=0 has no other way to tell of an error")
        return None
    return ProduceResponse(responses=rows, throttle_time_ms=0)


def _append(broker: Broker, call: Call, asked: Any, part: Any) -> Any:
    request = call.request
    if request.acks not in (-1, 0, 1):
        raise Refused(Code.INVALID_REQUIRED_ACKS, "acks must be -1, 0 or 1")
    if request.transactional_id is not None:
        raise no_transactions()
    name = None if call.version >= 13 else asked.name
    topic = broker.catalogue.addressed(name, asked.topic_id)
    log = topic.log(part.index)
    receipt = log.append(part.records or b"", topic.rules, broker.now())
    return CELL(
        index=part.index,
        error_code=0,
        base_offset=receipt.base,
        log_append_time_ms=receipt.append_time,
        log_start_offset=log.start,
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
    """A new producer id with epoch 0. Transactional ids are refused for good."""
    try:
        if call.request.transactional_id is not None:
            raise no_transactions()
        producer, epoch, error = broker.catalogue.new_producer(), 0, Code.NONE
    except Refused as refused:
        producer, epoch, error = -1, -1, refused.code
    return InitProducerIdResponse(
        throttle_time_ms=0, error_code=error, producer_id=producer, producer_epoch=epoch
    )
