"""Fetch: reads from many partitions, and waits for more where there is too little."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

from kafka.protocol.consumer import FetchResponse

from infra.broker.codes import Code, Refused
from infra.broker.node import LEADER_EPOCH, Broker
from infra.broker.storage.log import Log
from infra.broker.storage.missing import lacks
from infra.broker.wire import Call

MAX_BYTES: Final = 55 << 20  # of one response, Kafka's fetch.max.bytes
ROW = FetchResponse.FetchableTopicResponse
CELL = ROW.PartitionData


@dataclass(slots=True)
class PartitionFetch:
    """One partition of a fetch: where it reads, or why it cannot."""

    partition: int
    limit: int
    offset: int = -1
    position: int = 0
    log: Log | None = None
    error: Code = Code.NONE

    def ready(self) -> int:
        """Bytes that could be answered now."""
        return 0 if self.log is None else min(self.log.end - self.position, self.limit)


async def fetch(broker: Broker, call: Call) -> Any:
    """Answers when `min_bytes` are there, on an error, or after `max_wait_ms`.

    Fetch sessions are not kept: every answer has session 0 and tells all partitions.
    """
    request = call.request
    if request.session_id != 0 and request.session_epoch > 0:
        return FetchResponse(
            throttle_time_ms=0,
            error_code=lacks(Code.FETCH_SESSION_ID_NOT_FOUND, "fetch sessions").code,
            session_id=0,
            responses=[],
        )
    plan = [
        (asked, [_want(broker, call, asked, part) for part in asked.partitions])
        for asked in request.topics
    ]
    wanted = [want for _, wants in plan for want in wants]
    await _enough(wanted, request.min_bytes, request.max_wait_ms / 1000)
    budget = min(max(request.max_bytes, 0), MAX_BYTES)
    rows, first = [], True
    for asked, wants in plan:
        cells = []
        for want in wants:
            records = _read(want, budget, first)
            if records:
                budget, first = budget - len(records), False
            cells.append(_cell(want, records))
        rows.append(ROW(topic=asked.topic, topic_id=asked.topic_id, partitions=cells))
    return FetchResponse(throttle_time_ms=0, error_code=0, session_id=0, responses=rows)


def _want(broker: Broker, call: Call, asked: Any, part: Any) -> PartitionFetch:
    want = PartitionFetch(part.partition, max(part.partition_max_bytes, 0))
    try:
        name = None if call.version >= 13 else asked.topic
        log = broker.catalogue.addressed(name, asked.topic_id).log(part.partition)
        check_epoch(part.current_leader_epoch)
        want.offset, want.position = part.fetch_offset, log.locate(part.fetch_offset)
        want.log = log
    except Refused as refused:
        want.error = refused.code
    return want


async def _enough(wanted: list[PartitionFetch], min_bytes: int, seconds: float) -> None:
    """Waits until `wanted` holds `min_bytes` or an error, at most `seconds`."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while sum(want.ready() for want in wanted) < min_bytes:
        left = until - loop.time()
        logs = [want.log for want in wanted if want.log is not None]
        if left <= 0 or len(logs) < len(wanted) or any(log.closed for log in logs):
            return
        waiter: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(left, _wake, waiter)
        for log in logs:
            log.subscribe(waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            for log in logs:
                log.unsubscribe(waiter)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _read(want: PartitionFetch, budget: int, first: bool) -> bytes:
    log = want.log
    if log is None:
        return b""
    if log.closed:
        want.log, want.error = None, Code.UNKNOWN_TOPIC_OR_PARTITION
        return b""
    if want.offset < log.start:
        want.log, want.error = None, Code.OFFSET_OUT_OF_RANGE
        return b""
    return log.read(want.position, min(want.limit, budget), first) if budget or first else b""


def _cell(want: PartitionFetch, records: bytes) -> Any:
    log = want.log
    end = -1 if log is None else log.next
    return CELL(
        partition_index=want.partition,
        error_code=want.error,
        high_watermark=end,
        last_stable_offset=end,
        log_start_offset=-1 if log is None else log.start,
        aborted_transactions=None,
        preferred_read_replica=-1,
        records=records,
    )


def check_epoch(epoch: int) -> None:
    """The leader epoch a client believes in; -1 is none. Errors: `Refused`."""
    if epoch > LEADER_EPOCH:
        raise lacks(Code.UNKNOWN_LEADER_EPOCH, "leader epoch but 0")
    if -1 < epoch < LEADER_EPOCH:
        raise Refused(Code.FENCED_LEADER_EPOCH, "leader epoch is older than the broker's")
