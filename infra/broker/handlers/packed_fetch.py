"""Fetch in version 11, which our consumers send, straight from bytes to bytes: through kafka-python's classes
an answer about four partitions costs 100 us more.

Layout: the Kafka protocol guide, "Fetch".
"""

from __future__ import annotations

import struct
from collections.abc import Coroutine
from typing import Any, Final

from infra.broker.codes import Code
from infra.broker.handlers.fetch import (
    MAX_RESPONSE_BYTES,
    PartitionFetch,
    is_ready,
    read,
    start,
    wait_for_bytes,
)
from infra.broker.node import Broker
from infra.broker.storage.missing import unsupported
from infra.broker.wire import MAX_ELEMENTS, NO_TOPIC_ID, Malformed, RequestHeader

VERSION: Final = 11
_SHORT, _INT = struct.Struct(">h"), struct.Struct(">i")
# replica, longest wait in ms, least bytes, most bytes, isolation, session, its epoch, number of topics
_FIXED: Final = struct.Struct(">iiiibiii")
# partition, leader epoch, offset, start of the log, most bytes
_PARTITION: Final = struct.Struct(">iiqqi")
# size of the frame, correlation id, throttle in ms, error, session, number of topics
_HEAD: Final = struct.Struct(">iiihii")
# partition, error, high watermark, last stable offset, start of the log, aborted (none), replica, bytes
_CELL: Final = struct.Struct(">ihqqqiii")

Topics = list[tuple[bytes, list[PartitionFetch]]]
"""Each topic's name and number of partitions as the request has them, and its partitions."""


def fetch(
    broker: Broker, frame: bytes, header: RequestHeader
) -> bytes | Coroutine[Any, Any, bytes]:
    """The framed answer where it can be given now, else what waits for it. Errors: `Malformed`."""
    try:
        _, wait_ms, min_bytes, max_bytes, _, session, epoch, count = _FIXED.unpack_from(
            frame, header.body
        )
        if session != 0 and epoch > 0:
            error = unsupported(Code.FETCH_SESSION_ID_NOT_FOUND, "fetch sessions").code
            return _HEAD.pack(_HEAD.size - 4, header.correlation, 0, error, 0, 0)
        topics = _topics(broker, frame, header.body + _FIXED.size, count)
    except (struct.error, UnicodeDecodeError) as error:
        raise Malformed("request does not decode") from error
    budget = min(max(max_bytes, 0), MAX_RESPONSE_BYTES)
    fetches = [it for _, partitions in topics for it in partitions]
    if wait_ms <= 0 or is_ready(fetches, min_bytes):
        return _answer(header, topics, budget)
    return _waited(header, topics, fetches, min_bytes, wait_ms / 1000, budget)


async def _waited(
    header: RequestHeader,
    topics: Topics,
    fetches: list[PartitionFetch],
    min_bytes: int,
    seconds: float,
    budget: int,
) -> bytes:
    await wait_for_bytes(fetches, min_bytes, seconds)
    return _answer(header, topics, budget)


def _topics(broker: Broker, frame: bytes, at: int, count: int) -> Topics:
    topics: Topics = []
    room = MAX_ELEMENTS - max(count, 0)
    for _ in range(count if room >= 0 else 0):
        begin = at
        (size,) = _SHORT.unpack_from(frame, at)
        at += _SHORT.size + max(size, 0)
        name = frame[begin + _SHORT.size : at].decode()
        (partitions,) = _INT.unpack_from(frame, at)
        at += _INT.size
        room -= max(partitions, 0)
        if room < 0:
            break
        found = []
        for _ in range(partitions):
            partition, epoch, offset, _, limit = _PARTITION.unpack_from(frame, at)
            at += _PARTITION.size
            found.append(start(broker, name, NO_TOPIC_ID, partition, epoch, offset, limit))
        topics.append((frame[begin : begin + _SHORT.size + max(size, 0) + _INT.size], found))
    if room < 0:
        raise Malformed("more elements than a request may have")
    _INT.unpack_from(frame, at)  # what a session forgets: there are no sessions
    return topics


def _answer(header: RequestHeader, topics: Topics, budget: int) -> bytes:
    pieces, first = [b""], True
    for name, partitions in topics:
        pieces.append(name)
        for it in partitions:
            records = read(it, budget, first)
            if records:
                budget, first = budget - len(records), False
            end, begin = it.end, it.start
            pieces.append(_CELL.pack(it.partition, it.error, end, end, begin, -1, -1, len(records)))
            pieces.append(records)
    size = _HEAD.size - _INT.size + sum(map(len, pieces))
    pieces[0] = _HEAD.pack(size, header.correlation, 0, 0, 0, len(topics))
    return b"".join(pieces)
