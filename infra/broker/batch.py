"""One record batch (magic 2): its header, and the checks before a log accepts it.

A batch that the broker acknowledged and no consumer can read stops every consumer for good. So each
batch is walked record by record before it is written.  Layout: the Kafka protocol guide, "Record
Batch".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from crc32c import crc32c

from infra.broker.codes import Code, Refused
from infra.broker.compression import decompress
from infra.broker.storage.missing import unsupported

HEADER: Final = struct.Struct(">qiibIhiqqqhii")
PREFIX: Final = struct.Struct(">qii")  # a broker rewrites base offset, length, leader epoch
FRAMING_BYTES: Final = 12  # base offset and length, which the length does not count
CRC_START: Final = 21  # the checksum covers everything from the attributes on
COMPRESSION_BITS: Final = 0x07
LOG_APPEND_TIME_BIT: Final = 0x08
TRANSACTIONAL_BIT: Final = 0x10
CONTROL_BIT: Final = 0x20
MIN_RECORD_BYTES: Final = 6  # attributes, two deltas, two lengths, number of headers


class Header(NamedTuple):
    """The 61 bytes before the records; offsets are absolute, timestamps are ms since 1970."""

    base_offset: int
    length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    record_count: int

    @property
    def size(self) -> int:
        """Bytes of the whole batch."""
        return self.length + FRAMING_BYTES

    @property
    def last_offset(self) -> int:
        """Offset of the last record."""
        return self.base_offset + self.last_offset_delta


def header_at(data: bytes | memoryview, position: int = 0) -> Header:
    """The header at `position`. Errors: `struct.error` where fewer than 61 bytes follow."""
    return Header._make(HEADER.unpack_from(data, position))


def validated(data: bytes, max_bytes: int) -> Header:
    """The header of `data`, which must be exactly one readable batch of at most `max_bytes`.

    Errors: `Refused` with CORRUPT_MESSAGE for damaged bytes, INVALID_RECORD for a malformed batch,
    MESSAGE_TOO_LARGE.
    """
    header = _framed(data)
    if len(data) > max_bytes:
        raise Refused(Code.MESSAGE_TOO_LARGE, "batch larger than max.message.bytes")
    if crc32c(memoryview(data)[CRC_START:]) != header.crc:
        raise Refused(Code.CORRUPT_MESSAGE, "checksum does not match")
    if header.base_offset != 0:
        raise Refused(Code.INVALID_RECORD, "base offset of a new batch must be 0")
    if header.record_count <= 0 or header.record_count != header.last_offset_delta + 1:
        raise Refused(Code.INVALID_RECORD, "record count and last offset delta disagree")
    if header.attributes & (TRANSACTIONAL_BIT | CONTROL_BIT):
        raise unsupported(Code.INVALID_RECORD, "transactions")
    if header.attributes & LOG_APPEND_TIME_BIT:
        raise Refused(Code.INVALID_TIMESTAMP, "only the broker sets append time")
    if header.producer_id >= 0 and (header.base_sequence < 0 or header.producer_epoch < 0):
        raise Refused(Code.INVALID_RECORD, "producer id without epoch or sequence")
    payload, position = _payload(data, header)
    try:
        _walk_lengths(payload, position, header.record_count)
    except IndexError:
        raise Refused(Code.INVALID_RECORD, "records end too early") from None
    return header


def record_times(data: bytes) -> Iterator[tuple[int, int]]:
    """(offset, timestamp in ms) of every record of a stored batch, in order of offset."""
    header = header_at(data)
    if header.attributes & LOG_APPEND_TIME_BIT:
        yield from (
            (header.base_offset + i, header.max_timestamp) for i in range(header.record_count)
        )
        return
    payload, position = _payload(data, header)
    for index in range(header.record_count):
        size, position = _varint(payload, position)
        delta, _ = _varint(payload, position + 1)
        yield header.base_offset + index, header.base_timestamp + delta
        position += size


def _framed(data: bytes) -> Header:
    """The header of bytes that are one whole magic-2 batch and nothing else. Errors: `Refused`."""
    size = len(data)
    if size < 17:
        raise Refused(Code.INVALID_RECORD, "no whole record batch")
    length, magic = int.from_bytes(data[8:12], "big", signed=True), data[16]
    if length < 14 or magic > 2:
        raise Refused(Code.CORRUPT_MESSAGE, "not a record batch")
    if size < length + FRAMING_BYTES:
        raise Refused(Code.INVALID_RECORD, "record batch is cut short")
    if magic != 2:
        raise Refused(Code.INVALID_RECORD, "record batches must have magic 2")
    if length + FRAMING_BYTES < HEADER.size:
        raise Refused(Code.CORRUPT_MESSAGE, "record batch shorter than its header")
    if size > length + FRAMING_BYTES:
        raise Refused(Code.INVALID_RECORD, "one record batch a partition and request")
    return header_at(data)


def _payload(data: bytes, header: Header) -> tuple[bytes, int]:
    """The bytes that hold the uncompressed records, and the position of the first record."""
    kind = header.attributes & COMPRESSION_BITS
    if kind == 0:
        return data, HEADER.size
    return decompress(kind, memoryview(data)[HEADER.size : header.size]), 0


def _walk_lengths(data: bytes, at: int, count: int) -> None:
    """Refuses records that do not fill the batch exactly; about 0.2 microseconds a record.

    Errors: `Refused`; `IndexError` where the bytes end too early.
    """
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
        if size & 1 or size < MIN_RECORD_BYTES << 1:
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
    """A zig-zag number, and the position of the next byte."""
    value, at = _unsigned(data, at)
    return (value >> 1) ^ -(value & 1), at
