"""Produce in version 7, which our producer sends, straight from bytes to bytes: through kafka-python's
classes a request of one record costs 75 us more.

Layout: the Kafka protocol guide, "Produce".
"""

from __future__ import annotations

import struct
from typing import Final

from infra.broker.codes import Refused
from infra.broker.handlers.produce import append
from infra.broker.node import Broker
from infra.broker.wire import MAX_ELEMENTS, NO_TOPIC_ID, Malformed, RequestHeader

VERSION: Final = 7
_SHORT, _INT = struct.Struct(">h"), struct.Struct(">i")
# acks, time-out in ms, number of topics
_FIXED: Final = struct.Struct(">hii")
_PARTITION: Final = struct.Struct(">ii")
# size of the frame, correlation id, number of topics
_HEAD: Final = struct.Struct(">iii")
# partition, error, base offset, time of appending, start of the log
_RESULT: Final = struct.Struct(">ihqqq")
_NO_THROTTLE: Final = bytes(4)


def produce(broker: Broker, frame: bytes, header: RequestHeader) -> bytes:
    """The framed answer; b"" where none is sent. Errors: `Malformed`."""
    try:
        return _produce(broker, frame, header)
    except (struct.error, UnicodeDecodeError) as error:
        raise Malformed("request does not decode") from error


def _produce(broker: Broker, frame: bytes, header: RequestHeader) -> bytes:
    transactional, at = _text(frame, header.body)
    acks, _, topics = _FIXED.unpack_from(frame, at)
    at += _FIXED.size
    pieces, failed, elements = [b""], False, _counted(topics, 0)
    for _ in range(topics):
        begin = at
        name, at = _text(frame, at)
        (partitions,) = _INT.unpack_from(frame, at)
        at += _INT.size
        elements = _counted(partitions, elements)
        pieces.append(frame[begin:at])
        for _ in range(partitions):
            partition, size = _PARTITION.unpack_from(frame, at)
            at += _PARTITION.size
            records = frame[at : at + size] if size > 0 else b""
            at += len(records)
            if size > len(records):
                raise Malformed("request is cut short")
            try:
                done = append(
                    broker, acks, transactional, name, NO_TOPIC_ID, partition, records
                )  # fmt: skip
                pieces.append(_RESULT.pack(partition, 0, *done))
            except Refused as refused:
                failed = True
                pieces.append(_RESULT.pack(partition, refused.code, -1, -1, -1))
    if acks == 0:
        if failed:
            raise Malformed("an error of a request with acks=0 has no answer")
        return b""
    pieces.append(_NO_THROTTLE)
    size = _HEAD.size - _INT.size + sum(map(len, pieces))
    pieces[0] = _HEAD.pack(size, header.correlation, topics)
    return b"".join(pieces)


def _text(frame: bytes, at: int) -> tuple[str | None, int]:
    (size,) = _SHORT.unpack_from(frame, at)
    at += _SHORT.size
    if size < 0:
        return None, at
    text = frame[at : at + size]
    if len(text) < size:
        raise Malformed("request is cut short")
    return text.decode(), at + size


def _counted(count: int, before: int) -> int:
    if before + max(count, 0) > MAX_ELEMENTS:
        raise Malformed("more elements than a request may have")
    return before + max(count, 0)
