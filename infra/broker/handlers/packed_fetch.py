"""Fetch in version 12, which our flows send (infra.kafka.consume.wire), straight from bytes
to bytes: through kafka-python's classes an answer about four partitions costs 100 us more.

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
from infra.broker.wire import (
    MAX_ELEMENTS,
    NO_TOPIC_ID,
    Malformed,
    RequestHeader,
    packed_uvarint,
    skip_tags,
    uvarint,
)

VERSION: Final = 12
# replica, longest wait in ms, least bytes, most bytes, isolation, session, its epoch
_FIXED: Final = struct.Struct(">iiiibii")
# partition, leader epoch, offset, epoch of the record before, start of the log, most bytes
_PARTITION: Final = struct.Struct(">iiqiqi")
# size of the frame, correlation id, no tags, throttle in ms, error, session
_HEAD: Final = struct.Struct(">iiBihi")
_SIZE_BYTES: Final = 4
# partition, error, high watermark, last stable offset, start of the log, aborted (none), replica
_CELL: Final = struct.Struct(">ihqqqBi")
_NO_TAGS: Final = b"\0"

Topics = list[tuple[bytes, list[PartitionFetch]]]
"""Each topic's name and number of partitions as the request has them, and its partitions."""


def fetch(
    broker: Broker, frame: bytes, header: RequestHeader
) -> bytes | Coroutine[Any, Any, bytes]:
    """The framed answer where it can be given now, else what waits for it. Errors: `Malformed`."""
    try:
        at = skip_tags(frame, header.body)
        _, wait_ms, min_bytes, max_bytes, _, session, epoch = _FIXED.unpack_from(frame, at)
        if session != 0 and epoch > 0:
            error = unsupported(Code.FETCH_SESSION_ID_NOT_FOUND, "fetch sessions").code
            return _framed(header, error, [packed_uvarint(1), _NO_TAGS])
        topics = _topics(broker, frame, at + _FIXED.size)
    except (struct.error, ValueError, IndexError) as error:
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


def _topics(broker: Broker, frame: bytes, at: int) -> Topics:
    """Errors: `struct.error`, ValueError, IndexError; `Malformed`."""
    topics: Topics = []
    count, at = _count(frame, at, MAX_ELEMENTS)
    remaining = MAX_ELEMENTS - count
    for _ in range(count):
        begin = at
        size, at = uvarint(frame, at)
        name = frame[at : at + max(size - 1, 0)].decode()
        partitions, at = _count(frame, at + max(size - 1, 0), remaining)
        named, remaining = frame[begin:at], remaining - partitions
        found = []
        for _ in range(partitions):
            partition, epoch, offset, _, _, limit = _PARTITION.unpack_from(frame, at)
            at = skip_tags(frame, at + _PARTITION.size)
            found.append(start(broker, name, NO_TOPIC_ID, partition, epoch, offset, limit))
        topics.append((named, found))
        at = skip_tags(frame, at)
    uvarint(frame, at)  # what a session forgets: there are no sessions
    return topics


def _count(frame: bytes, at: int, most: int) -> tuple[int, int]:
    """The number of elements of the array at `at`, and the byte behind it. Errors: `Malformed`."""
    number, at = uvarint(frame, at)
    if number - 1 > most:
        raise Malformed("more elements than a request may have")
    return max(number - 1, 0), at


def _answer(header: RequestHeader, topics: Topics, budget: int) -> bytes:
    pieces, first = [packed_uvarint(len(topics) + 1)], True
    for name, partitions in topics:
        pieces.append(name)
        for it in partitions:
            records = read(it, budget, first)
            if records:
                budget, first = budget - len(records), False
            end, begin = it.end, it.start
            pieces.append(_CELL.pack(it.partition, it.error, end, end, begin, 0, -1))
            pieces += (packed_uvarint(len(records) + 1), records, _NO_TAGS)
        pieces.append(_NO_TAGS)
    pieces.append(_NO_TAGS)
    return _framed(header, 0, pieces)


def _framed(header: RequestHeader, error: int, pieces: list[bytes]) -> bytes:
    size = _HEAD.size - _SIZE_BYTES + sum(map(len, pieces))
    return b"".join([_HEAD.pack(size, header.correlation, 0, 0, error, 0), *pieces])
