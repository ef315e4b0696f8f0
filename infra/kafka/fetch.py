"""What a consumer fetches, by columns: who reads a log takes every record and looks at few alone.

kafka-python makes two objects of each record and reads it byte by byte, which costs as much as a fold.
Here the batches of a fetch are read in one go; kafka-python still fetches them, checks their sums and
says where to go on.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from kafka import KafkaConsumer
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError
from kafka.record.util import decode_varint
from numpy.typing import NDArray

from infra.kafka import kafka_client
from infra.kafka.record_headers import past_headers, unpacked
from infra.log_reader import Batch, EncodedHeaders, Headers
from infra.settings import Settings

CHUNK_BYTES: Final = 1 << 20
"""Bytes, unpacked, that are read in one go: or one batch, where that is larger."""
CHUNKS_PER_POLL: Final = 16
"""That one poll answers at most."""
MIN_COLUMNAR_RECORDS: Final = 40
"""Records: below it reading them one by one is quicker than all at once."""
MAX_COLUMNAR_HEADERS: Final = 8
"""Headers of a record that are found by columns, those of all records together."""
_Ints = NDArray[np.int64]


class Records(NamedTuple):
    """Records of one partition by columns, in log order."""

    offsets: list[int]
    timestamps: list[int]
    """Record timestamps, ms."""
    keys: list[bytes | None]
    values: list[bytes | None]
    headers: Sequence[Headers]
    """Of each record; empty where none has any."""

    def since(self, offset: int) -> Records:
        """Those at `offset` and after it: a fetch from within a batch brings the whole batch."""
        n = bisect_left(self.offsets, offset)
        return self.between(n, len(self.offsets)) if n else self

    def before(self, offset: int) -> Records:
        n = bisect_left(self.offsets, offset)
        return self.between(0, n) if n < len(self.offsets) else self

    def between(self, begin: int, end: int) -> Records:
        """Those from number `begin` to before number `end`."""
        cut = slice(begin, end)
        offsets, stamps, headers = self.offsets[cut], self.timestamps[cut], self.headers[cut]
        return Records(offsets, stamps, self.keys[cut], self.values[cut], headers)

    def chunks(self, size: int) -> Iterator[Records]:
        """All, at most `size` at once."""
        if len(self.offsets) <= size:
            yield self
            return
        for begin in range(0, len(self.offsets), size):
            yield self.between(begin, begin + size)

    def batch(self, partition: int, first: int) -> Batch:
        """The same, where the read began at offset `first`. It holds one record or more."""
        return Batch(
            partition,
            first,
            self.offsets[-1] + 1,
            self.offsets,
            self.timestamps,
            self.values,
            keys=self.keys,
            headers=self.headers,
        )


def consumer(settings: Settings, **options: Any) -> KafkaConsumer:
    """As `kafka_client.consumer` makes it, but a `poll` answers a list of `Records` for a partition.

    Errors: `KafkaError`.
    """
    made = kafka_client.consumer(settings, max_poll_records=CHUNKS_PER_POLL, **options)
    made._fetcher.PartitionRecords = _Unpacked
    return made


class _Unpacked(Fetcher.PartitionRecords):  # type: ignore[misc]
    """A partition's part of a fetch: gives out `Records`, of one or more each."""

    def _maybe_skip_record(self, records: Records) -> bool:
        return False  # what lies before the fetch is left out below

    def _unpack_records(self, tp: Any, records: Any, *deserializers: Any) -> Iterator[Records]:
        for batches in _chunks(iter(records.next_batch, None)):
            found = read(batches).since(self.fetch_offset)
            self.next_fetch_offset = batches[-1].next_offset
            self.leader_epoch = batches[-1].leader_epoch
            if found.offsets:
                yield found
        self.drain()


def _chunks(batches: Iterator[Any]) -> Iterator[list[Any]]:
    """Batches, unpacked, that are read in one go."""
    piece: list[Any] = []
    size = 0
    for it in map(_unpacked, batches):
        piece.append(it)
        size += len(it._buffer)
        if size >= CHUNK_BYTES:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece


def _unpacked(batch: Any) -> Any:
    if batch.magic != 2:
        raise CorruptRecordError("a batch has the format of a Kafka before 0.11: it cannot be read")
    if not batch.validate_crc():
        raise CorruptRecordError(f"the batch at {batch.base_offset} is not what its sum says")
    return iter(batch)  # which unpacks it


def read(batches: Sequence[Any]) -> Records:
    """All records of kafka-python's batches, unpacked, of one partition. A transaction's marks are none.

    Errors: `CorruptRecordError`.
    """
    batches = [it for it in batches if not it.is_control_batch]
    if not batches:
        return Records([], [], [], [], [])
    try:
        if sum(it.records_count for it in batches) < MIN_COLUMNAR_RECORDS:
            starts = [it._pos for it in batches]
            try:
                return _one_by_one(batches)
            except CorruptRecordError:  # or no UTF-8 is a header's name, which the columns take
                for it, at in zip(batches, starts, strict=True):
                    it._pos = at
        data = b"".join([*(memoryview(it._buffer)[it._pos :] for it in batches), b"\0"])
        return _columns(data, batches)
    except (IndexError, ValueError):
        where = batches[0].base_offset
        raise CorruptRecordError(f"from {where} on a record is not what its length says") from None


def _one_by_one(batches: Sequence[Any]) -> Records:
    records = [record for it in batches for record in it]
    headers = [it.headers for it in records]
    return Records(
        [it.offset for it in records],
        [it.timestamp for it in records],
        [it.key for it in records],
        [it.value for it in records],
        headers if any(headers) else [],
    )


def _columns(data: bytes, batches: Sequence[Any]) -> Records:
    """Of the records that lie in `data` one after the other, and a byte that is none's.

    Each is, `v` a varint: v length, attributes, v time, v offset, v key's length, key, v value's length,
    value, v headers' count, headers. Time and offset count from the batch's.
    """
    ends = np.array(_record_ends(data, batches), np.int64)
    counts = [it.records_count for it in batches]
    fields = _Fields(data, np.concatenate([[0], ends])[:-1])
    fields.varints()
    fields.at += 1
    # where the broker stamps a batch, all its records have that one time
    appended = np.repeat([it.timestamp_type for it in batches], counts)
    stamps = np.repeat([_time(it) for it in batches], counts) + fields.varints() * (1 - appended)
    offsets = np.repeat([it.base_offset for it in batches], counts) + fields.varints()
    keys, values = fields.slices(), fields.slices()
    told = fields.varints()
    headers = _headers(data, fields.at, told)
    if (fields.at != ends).any():
        raise ValueError
    return Records(offsets.tolist(), stamps.tolist(), keys, values, headers)


def _time(batch: Any) -> int:
    return int(batch.max_timestamp if batch.timestamp_type else batch.first_timestamp)


def _record_ends(data: bytes, batches: Sequence[Any]) -> list[int]:
    """Where each record ends: all that has to be found one after the other."""
    ends, at = [], 0
    for batch in batches:
        end = at + len(batch._buffer) - batch._pos
        for _ in range(batch.records_count):
            low, high = data[at], data[at + 1]
            if low > 127 > high:  # the usual two bytes, of a number that is not negative
                at += 2 + ((low & 127 | high << 7) >> 1)
            else:
                length, at = decode_varint(data, at)
                at += length
            ends.append(at)
        if at != end:
            raise ValueError
    return ends


class _Fields:
    """Takes the same field of every record at once. `at`: where each one's next field begins."""

    def __init__(self, data: bytes, at: _Ints) -> None:
        self._data, self._bytes, self.at = data, np.frombuffer(data, np.uint8), at

    def varints(self) -> _Ints:
        found, more = np.zeros(len(self.at), np.uint64), np.ones(len(self.at), np.bool_)
        for shift in range(0, 70, 7):
            byte = self._bytes[self.at].astype(np.uint64)
            found |= np.where(more, (byte & 127) << shift, 0)
            self.at = self.at + more
            more &= byte > 127
            if not more.any():
                return ((found >> 1) ^ -(found & 1)).view(np.int64)
        raise ValueError

    def slices(self) -> list[bytes | None]:
        """A length, -1 for None, and as many bytes."""
        sizes, data = self.varints(), self._data
        start, self.at = self.at, self.at + np.maximum(sizes, 0)
        found: list[bytes | None] = [
            data[a:b] for a, b in zip(start.tolist(), self.at.tolist(), strict=True)
        ]
        for n in np.flatnonzero(sizes < 0).tolist():
            found[n] = None
        return found

    def skip(self, least: int) -> None:
        """A length, and as many bytes. Errors: ValueError for a length below `least`."""
        sizes = self.varints()
        if len(sizes) and sizes.min() < least:
            raise ValueError
        self.at = self.at + np.maximum(sizes, 0)


def _headers(data: bytes, at: _Ints, counts: _Ints) -> Sequence[Headers]:
    """Of each record, where `counts` says how many it has; moves `at` behind them. Empty where none has
    any. Errors: IndexError, ValueError."""
    if not counts.any():
        return []
    begins = at.tolist()
    if counts.min() < 0:
        raise ValueError
    for n in range(min(MAX_COLUMNAR_HEADERS, int(counts.max()))):
        some = np.flatnonzero(counts > n)
        fields = _Fields(data, at[some])
        fields.skip(least=0)
        fields.skip(least=-1)
        at[some] = fields.at
    for n in np.flatnonzero(counts > MAX_COLUMNAR_HEADERS).tolist():
        at[n] = past_headers(data, int(at[n]), int(counts[n]) - MAX_COLUMNAR_HEADERS)
    blocks = [data[a:b] for a, b in zip(begins, at.tolist(), strict=True)]
    return EncodedHeaders(blocks, unpacked)
