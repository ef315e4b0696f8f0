"""Fetch: reads from many partitions, and waits until there are enough bytes."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from typing import Any, Final

from kafka.protocol.consumer import FetchResponse

from infra.broker.codes import Code, Refused
from infra.broker.node import LEADER_EPOCH, Broker
from infra.broker.storage.log import Log
from infra.broker.storage.missing import unsupported
from infra.broker.wire import Call

MAX_RESPONSE_BYTES: Final = 55 << 20  # Kafka's fetch.max.bytes
ROW = FetchResponse.FetchableTopicResponse
CELL = ROW.PartitionData


@dataclass(slots=True)
class PartitionFetch:
    """One partition of a fetch: the position to read from, or an error."""

    partition: int
    limit: int
    offset: int = -1
    position: int = 0
    log: Log | None = None
    error: Code = Code.NONE

    def ready(self) -> int:
        """Bytes that can be answered now."""
        return 0 if self.log is None else min(self.log.end_position - self.position, self.limit)

    @property
    def end(self) -> int:
        """The offset of the log's next record, -1 where there is an error."""
        return -1 if self.log is None else self.log.next_offset

    @property
    def start(self) -> int:
        """The log's first offset, -1 where there is an error."""
        return -1 if self.log is None else self.log.start_offset


async def fetch(broker: Broker, call: Call) -> Any:
    """Answers when `min_bytes` are there, on an error, or after `max_wait_ms`.

    There are no fetch sessions: every answer has session 0 and lists all partitions.
    """
    request = call.request
    if request.session_id != 0 and request.session_epoch > 0:
        return FetchResponse(
            throttle_time_ms=0,
            error_code=unsupported(Code.FETCH_SESSION_ID_NOT_FOUND, "fetch sessions").code,
            session_id=0,
            responses=[],
        )
    plan = [
        (topic, [_partition_fetch(broker, call, topic, row) for row in topic.partitions])
        for topic in request.topics
    ]
    fetches = [partition for _, partitions in plan for partition in partitions]
    await wait_for_bytes(fetches, request.min_bytes, request.max_wait_ms / 1000)
    budget = min(max(request.max_bytes, 0), MAX_RESPONSE_BYTES)
    rows, first = [], True
    for topic, partitions in plan:
        cells = []
        for partition in partitions:
            records = read(partition, budget, first)
            if records:
                budget, first = budget - len(records), False
            cells.append(_cell(partition, records))
        rows.append(ROW(topic=topic.topic, topic_id=topic.topic_id, partitions=cells))
    return FetchResponse(throttle_time_ms=0, error_code=0, session_id=0, responses=rows)


def _partition_fetch(broker: Broker, call: Call, topic: Any, row: Any) -> PartitionFetch:
    name = None if call.version >= 13 else topic.topic
    where = (broker, name, topic.topic_id, row.partition)
    return start(*where, row.current_leader_epoch, row.fetch_offset, row.partition_max_bytes)


def start(
    broker: Broker,
    name: str | None,
    topic_id: uuid.UUID,
    partition: int,
    epoch: int,
    offset: int,
    limit: int,
) -> PartitionFetch:
    """The fetch of one partition from `offset` on, of at most `limit` bytes. `name`: None where the topic is
    named by its id; `epoch`: of the leader, -1 for none."""
    fetch = PartitionFetch(partition, max(limit, 0))
    try:
        log = broker.catalogue.topic_by_either(name, topic_id).log(partition)
        check_epoch(epoch)
        fetch.offset, fetch.position = offset, log.locate(offset)
        fetch.log = log
    except Refused as refused:
        fetch.error = refused.code
    return fetch


def is_ready(fetches: list[PartitionFetch], min_bytes: int) -> bool:
    """Whether `fetches` are to be answered at once: they have `min_bytes` together, or an error."""
    ready = 0
    for fetch in fetches:
        if fetch.log is None or fetch.log.closed:
            return True
        ready += fetch.ready()
    return ready >= min_bytes


async def wait_for_bytes(fetches: list[PartitionFetch], min_bytes: int, seconds: float) -> None:
    """Waits until `fetches` are ready, at most `seconds`. An append wakes it with the next turn of the loop,
    so that it sees all that came in this one."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while not is_ready(fetches, min_bytes):
        remaining = until - loop.time()
        if remaining <= 0:
            return
        logs = [fetch.log for fetch in fetches if fetch.log is not None]
        waiter: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(remaining, _wake, waiter)
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


def read(fetch: PartitionFetch, budget: int, first: bool) -> bytes:
    """The records of a partition's fetch, at most `budget` bytes; the `first` batch of an answer is read even
    if it is larger."""
    log = fetch.log
    if log is None:
        return b""
    if log.closed:
        fetch.log, fetch.error = None, Code.UNKNOWN_TOPIC_OR_PARTITION
        return b""
    if fetch.offset < log.start_offset:
        fetch.log, fetch.error = None, Code.OFFSET_OUT_OF_RANGE
        return b""
    return log.read(fetch.position, min(fetch.limit, budget), first) if budget or first else b""


def _cell(fetch: PartitionFetch, records: bytes) -> Any:
    return CELL(
        partition_index=fetch.partition,
        error_code=fetch.error,
        high_watermark=fetch.end,
        last_stable_offset=fetch.end,
        log_start_offset=fetch.start,
        aborted_transactions=None,
        preferred_read_replica=-1,
        records=records,
    )


def check_epoch(epoch: int) -> None:
    """Checks the client's leader epoch, -1 for none. Errors: `Refused`."""
    if epoch > LEADER_EPOCH:
        raise unsupported(Code.UNKNOWN_LEADER_EPOCH, "leader epoch but 0")
    if -1 < epoch < LEADER_EPOCH:
        raise Refused(Code.FENCED_LEADER_EPOCH, "leader epoch is older than the broker's")
