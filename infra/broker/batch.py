"""One record batch (magic 2): its header, and the checks without which no log accepts it.

A batch that a broker acknowledges and no consumer can read stops every consumer behind it for
good, so a batch is walked record by record before it is written.  Layout: the Kafka protocol
guide, "Record Batch".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from crc32c import crc32c

from infra.broker.codes import Code, Refused
from infra.broker.compression import decompress
from infra.broker.storage.missing import lacks

HEADER: Final = struct.Struct(">qiibIhiqqqhii")
PREFIX: Final = struct.Struct(">qii")  # what a broker rewrites: base offset, length, leader epoch
OVERHEAD: Final = 12  # base offset and length, which the length does not count
CRC_FROM: Final = 21  # the checksum covers everything from the attributes on
COMPRESSION_BITS: Final = 0x07
LOG_APPEND_TIME_BIT: Final = 0x08
TRANSACTIONAL_BIT: Final = 0x10
CONTROL_BIT: Final = 0x20
MIN_RECORD: Final = 6  # bytes: attributes, two deltas, two lengths, number of headers


class Header(NamedTuple):
    """The 61 bytes before the records; offsets are absolute, times are ms since 1970."""

    base: int
    length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_delta: int
    base_time: int
    max_time: int
    producer: int
    epoch: int
    sequence: int
    records: int

    @property
    def size(self) -> int:
        """Bytes of the whole batch."""
        return self.length + OVERHEAD

    @property
    def last(self) -> int:
        """Offset of the last record."""
        return self.base + self.last_delta


def header_at(data: bytes | memoryview, position: int = 0) -> Header:
    """The header at `position`. Errors: `struct.error` where fewer than 61 bytes are left."""
    return Header._make(HEADER.unpack_from(data, position))


def checked(data: bytes, max_bytes: int) -> Header:
    """The header of `data` if it is exactly one readable batch of at most `max_bytes`.

    Errors: `Refused` with CORRUPT_MESSAGE where bytes were damaged, INVALID_RECORD where they
    were made wrong, MESSAGE_TOO_LARGE.
    """
    header = _framed(data)
    if len(data) > max_bytes:
        raise Refused(Code.MESSAGE_TOO_LARGE, "batch larger than max.message.bytes")
    if crc32c(memoryview(data)[CRC_FROM:]) != header.crc:
        raise Refused(Code.CORRUPT_MESSAGE, "checksum does not match")
    if header.base != 0:
        raise Refused(Code.INVALID_RECORD, "base offset of a new batch must be 0")
    if header.records <= 0 or header.records != header.last_delta + 1:
        raise Refused(Code.INVALID_RECORD, "record count and last offset delta disagree")
    if header.attributes & (TRANSACTIONAL_BIT | CONTROL_BIT):
        raise lacks(Code.INVALID_RECORD, "transactions")
    if header.attributes & LOG_APPEND_TIME_BIT:
        raise Refused(Code.INVALID_TIMESTAMP, "only the broker stamps append time")
    if header.producer >= 0 and (header.sequence < 0 or header.epoch < 0):
        raise Refused(Code.INVALID_RECORD, "producer id without epoch or sequence")
    payload, position = _payload(data, header)
    try:
        _walk_lengths(payload, position, header.records)
    except IndexError:
        raise Refused(Code.INVALID_RECORD, "records end too early") from None
    return header


def times(data: bytes) -> Iterator[tuple[int, int]]:
    """(offset, timestamp in ms) of every record of a stored batch, in order of offset."""
    header = header_at(data)
    if header.attributes & LOG_APPEND_TIME_BIT:
        yield from ((header.base + i, header.max_time) for i in range(header.records))
        return
    payload, position = _payload(data, header)
    for index in range(header.records):
        size, position = _varint(payload, position)
        delta, _ = _varint(payload, position + 1)
        yield header.base + index, header.base_time + delta
        position += size


def _framed(data: bytes) -> Header:
    """The header, once the bytes are known to be one whole magic-2 batch and nothing else."""
    left = len(data)
    if left < 17:
        raise Refused(Code.INVALID_RECORD, "no whole record batch")
    length, magic = int.from_bytes(data[8:12], "big", signed=True), data[16]
    if length < 14 or magic > 2:
        raise Refused(Code.CORRUPT_MESSAGE, "not a record batch")
    if left < length + OVERHEAD:
        raise Refused(Code.INVALID_RECORD, "record batch is cut short")
    if magic != 2:
        raise Refused(Code.INVALID_RECORD, "record batches must have magic 2")
    if length + OVERHEAD < HEADER.size:
        raise Refused(Code.CORRUPT_MESSAGE, "record batch shorter than its header")
    if left > length + OVERHEAD:
        raise Refused(Code.INVALID_RECORD, "one record batch a partition and request")
    return header_at(data)


def _payload(data: bytes, header: Header) -> tuple[bytes, int]:
    """The bytes that hold the records, uncompressed, and where they begin."""
    kind = header.attributes & COMPRESSION_BITS
    if kind == 0:
        return data, HEADER.size
    return decompress(kind, memoryview(data)[HEADER.size : header.size]), 0


def _walk_lengths(data: bytes, at: int, count: int) -> None:
    """Refuses records that do not fill the batch exactly; about 0.2 microseconds a record."""
    for _ in range(count):
        size = data[at]
        if size < 128:
            at += 1 + (size >> 1)
        elif (more := data[at + 1]) < 128:
            size = size & 0x7F | more << 7
            at += 2 + (size >> 1)
        else:
            size, at = _unsigned(data, at)
            at += size >> 1
        if size & 1 or size < MIN_RECORD << 1:
            raise Refused(Code.INVALID_RECORD, "record length out of range")
    if at != len(data):
        raise Refused(Code.INVALID_RECORD, "records and the length of their batch disagree")


def _unsigned(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise Refused(Code.INVALID_RECORD, "number longer than 64 bits")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A zig-zag number and the position behind it."""
    value, at = _unsigned(data, at)
    return (value >> 1) ^ -(value & 1), at
