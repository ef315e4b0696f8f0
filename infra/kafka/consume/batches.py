"""The batches of a partition in a fetch: where each begins and ends, before any is decompressed."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from kafka.errors import CorruptRecordError
from kafka.record.default_records import DefaultRecordBatch

from infra.kafka import fetch
from infra.kafka.connection import BrokenConnection
from infra.kafka.fetch import Records

_HEADER: Final = struct.Struct(">qiibIhi")
"""Base offset, length, leader epoch, magic, sum, attributes, last offset's delta."""
_RECORDS_AT: Final = 57
_RECORDS: Final = struct.Struct(">i")
_HEADER_BYTES: Final = 61
_AFTER_LENGTH: Final = 12
_MAGIC: Final = 2


class Fetched(NamedTuple):
    """Whole batches of one partition, compressed, in log order; one or more."""

    offset: int
    """From which on records were asked for; the first batch may begin before it."""
    batches: list[memoryview]
    next: int
    """The offset of the next fetch."""
    epoch: int
    """The leader's when the last batch was written."""
    records: int
    """How many records the batches say they have."""

    def decoded(self) -> Iterator[Records]:
        """The records, decompressed piece by piece. Errors: `CorruptRecordError`."""
        small = fetch.read_small(self.batches, self.records)
        if small is not None:
            if (small := small.since(self.offset)).offsets:
                yield small
            return
        for some in fetch.chunks(map(DefaultRecordBatch, self.batches)):
            records = fetch.read(some).since(self.offset)
            if records.offsets:
                yield records


def split(data: memoryview, offset: int) -> Fetched | None:
    """The whole batches of `data`, which was fetched from `offset` on; None where it is empty.

    Errors: `CorruptRecordError` for what no log holds; `BrokenConnection` where no batch is whole.
    """
    batches: list[memoryview] = []
    at, end, records, following, epoch = 0, len(data), 0, offset, -1
    while end - at >= _HEADER_BYTES:
        base, length, epoch_here, magic, _, _, delta = _HEADER.unpack_from(data, at)
        if magic != _MAGIC:
            raise CorruptRecordError(fetch.OLD_FORMAT)
        (count,) = _RECORDS.unpack_from(data, at + _RECORDS_AT)
        behind = base + delta + 1
        if length < _HEADER_BYTES - _AFTER_LENGTH or delta < 0 or count < 0:
            raise CorruptRecordError(f"the header of the batch at {base} is not one of a batch")
        if behind <= following or (batches and base < following):
            raise CorruptRecordError(f"the batch at {base} comes where {following} is the next")
        if at + _AFTER_LENGTH + length > end:
            break
        batches.append(data[at : at + _AFTER_LENGTH + length])
        at += _AFTER_LENGTH + length
        records, following, epoch = records + count, behind, epoch_here
    if not batches:
        if end:
            raise BrokenConnection("records of which no batch is whole")
        return None
    return Fetched(offset, batches, following, epoch, records)
