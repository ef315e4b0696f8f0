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


def _append(broker: Broker, call: Call, topic_data: Any, partition_data: Any) -> Any:
    request = call.request
    if request.acks not in (-1, 0, 1):
        raise Refused(Code.INVALID_REQUIRED_ACKS, "acks must be -1, 0 or 1")
    if request.transactional_id is not None:
        raise no_transactions()
    name = None if call.version >= 13 else topic_data.name
    topic = broker.catalogue.topic_by_either(name, topic_data.topic_id)
    log = topic.log(partition_data.index)
    receipt = log.append(partition_data.records or b"", topic.log_config, broker.now())
    return CELL(
        index=partition_data.index,
        error_code=0,
        base_offset=receipt.base_offset,
        log_append_time_ms=receipt.append_time,
        log_start_offset=log.start_offset,
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
