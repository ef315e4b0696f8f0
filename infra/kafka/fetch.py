"""Columnar fetches: a reader of a log takes every record, and looks at few of them one by one.

kafka-python makes two objects of each record and reads it byte by byte, which costs as much as a fold.
Here the batches of a fetch are decoded together, whether `infra.kafka.consume` fetched them or `consumer`,
with kafka-python's thread and positions. kafka-python decompresses them and knows their sums.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from kafka import KafkaConsumer
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError
from kafka.record.default_records import DefaultRecordBatch
from kafka.record.util import calc_crc32c, decode_varint
from numpy.typing import NDArray

from infra.kafka import kafka_client
from infra.kafka.record_headers import block_of, past_headers, sized, unpacked
from infra.log_reader import Batch, EncodedHeaders, Headers
from infra.settings import Settings

CHUNK_BYTES: Final = 1 << 20
"""Decompressed bytes that are decoded together; a larger batch is a chunk of its own."""
CHUNKS_PER_POLL: Final = 16
"""Most chunks that one poll answers."""
MIN_COLUMNAR_RECORDS: Final = 100
"""Below so many records decoding one by one is quicker than by columns."""
MAX_COLUMNAR_HEADERS: Final = 8
"""Headers of a record that are found by columns; those beyond are skipped record by record."""
OLD_FORMAT: Final = "a batch has the format of a Kafka before 0.11: it cannot be read"
BAD_SUM: Final = "the batch at %d is not what its sum says"
BAD_LENGTH: Final = "from %d on a record is not what its length says"
_HEADER: Final = DefaultRecordBatch.HEADER_STRUCT
_Ints = NDArray[np.int64]


class Records(NamedTuple):
    """Records of one partition by columns, in log order."""

    offsets: list[int]
    timestamps: list[int]
    """Record timestamps, ms."""
    keys: list[bytes | None]
    values: list[bytes | None]
    headers: Sequence[Headers]
    """The headers of each record; empty where no record has any."""

    def since(self, offset: int) -> Records:
        """The records from `offset` on: a fetch from within a batch brings the whole batch."""
        n = bisect_left(self.offsets, offset)
        return self.between(n, len(self.offsets)) if n else self

    def before(self, offset: int) -> Records:
        """The records below `offset`."""
        n = bisect_left(self.offsets, offset)
        return self.between(0, n) if n < len(self.offsets) else self

    def between(self, begin: int, end: int) -> Records:
        """The records at indexes begin <= n < end."""
        cut = slice(begin, end)
        offsets, timestamps, headers = self.offsets[cut], self.timestamps[cut], self.headers[cut]
        return Records(offsets, timestamps, self.keys[cut], self.values[cut], headers)

    def chunks(self, size: int) -> Iterator[Records]:
        """All records, at most `size` a chunk."""
        if len(self.offsets) <= size:
            yield self
            return
        for begin in range(0, len(self.offsets), size):
            yield self.between(begin, begin + size)

    def batch(self, partition: int, first: int) -> Batch:
        """The records as a batch that was read from offset `first` on. There must be one record or more."""
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
    """A `kafka_client.consumer` whose `poll` answers a list of `Records` for each partition.

    Errors: `KafkaError`.
    """
    columnar = kafka_client.consumer(settings, max_poll_records=CHUNKS_PER_POLL, **options)
    columnar._fetcher.PartitionRecords = _Unpacked
    return columnar


class _Unpacked(Fetcher.PartitionRecords):  # type: ignore[misc]
    """What a fetch brought of one partition: yields `Records` of one record or more."""

    def _maybe_skip_record(self, records: Records) -> bool:
        return False  # `_unpack_records` drops what lies before the fetch offset

    def _unpack_records(self, tp: Any, records: Any, *deserializers: Any) -> Iterator[Records]:
        for batches in chunks(iter(records.next_batch, None)):
            decoded = read(batches).since(self.fetch_offset)
            self.next_fetch_offset = batches[-1].next_offset
            self.leader_epoch = batches[-1].leader_epoch
            if decoded.offsets:
                yield decoded
        self.drain()


def chunks(batches: Iterable[Any]) -> Iterator[list[Any]]:
    """Batches of kafka-python's that are decoded together, decompressed. Errors: `CorruptRecordError`."""
    chunk: list[Any] = []
    size = 0
    for it in map(_unpacked, batches):
        chunk.append(it)
        size += len(it._buffer)
        if size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _unpacked(batch: Any) -> Any:
    if batch.magic != 2:
        raise CorruptRecordError(OLD_FORMAT)
    if not batch.validate_crc():
        raise CorruptRecordError(BAD_SUM % batch.base_offset)
    return iter(batch)  # decompresses the batch


def read(batches: Sequence[Any]) -> Records:
    """All records of kafka-python's decompressed batches of one partition, without a transaction's marks.

    Errors: `CorruptRecordError`.
    """
    batches = [it for it in batches if not it.is_control_batch]
    if not batches:
        return Records([], [], [], [], [])
    data = b"".join([*(memoryview(it._buffer)[it._pos :] for it in batches), b"\0"])
    count = sum(it.records_count for it in batches)
    try:
        return (_one_by_one if count < MIN_COLUMNAR_RECORDS else _columns)(data, batches)
    except (IndexError, ValueError):
        raise CorruptRecordError(BAD_LENGTH % batches[0].base_offset) from None


def read_small(batches: Sequence[memoryview], records: int) -> Records | None:
    """As `read`, of batches that are neither compressed nor many: without an object a batch. None where it
    does not apply. `records`: how many the batches say they have.

    Errors: `CorruptRecordError`.
    """
    if records >= MIN_COLUMNAR_RECORDS:
        return None
    found, blocks = Records([], [], [], [], []), list[bytes]()
    for batch in batches:
        base, _, _, _, crc, attributes, _, first, newest, _, _, _, count = _HEADER.unpack_from(
            batch
        )
        if attributes & DefaultRecordBatch.CODEC_MASK:
            return None
        data = bytes(batch)
        if calc_crc32c(data[DefaultRecordBatch.ATTRIBUTES_OFFSET :]) != crc:
            raise CorruptRecordError(BAD_SUM % base)
        if attributes & DefaultRecordBatch.CONTROL_MASK:
            continue
        appended = bool(attributes & DefaultRecordBatch.TIMESTAMP_TYPE_MASK)
        place = _BatchBase(count, base, newest if appended else first, appended)
        try:
            end = _scan(data, _HEADER.size, place, found, blocks)
        except (IndexError, ValueError):
            end = -1
        if end != len(data):
            raise CorruptRecordError(BAD_LENGTH % base)
    return found._replace(headers=EncodedHeaders(blocks, unpacked) if any(blocks) else [])


class _BatchBase(NamedTuple):
    """Of the records of one batch: how many, and from where their offsets and times count."""

    records: int
    offset: int
    time: int
    is_appended: bool
    """All have the time `time`."""


def _one_by_one(data: bytes, batches: Sequence[Any]) -> Records:
    """As `_columns`."""
    found, blocks, at = Records([], [], [], [], []), list[bytes](), 0
    for batch in batches:
        end = at + len(batch._buffer) - batch._pos
        place = _BatchBase(
            batch.records_count, batch.base_offset, _time(batch), bool(batch.timestamp_type)
        )
        at = _scan(data, at, place, found, blocks)
        if at != end:
            raise ValueError
    return found._replace(headers=EncodedHeaders(blocks, unpacked) if any(blocks) else [])


def _scan(data: bytes, at: int, place: _BatchBase, found: Records, blocks: list[bytes]) -> int:
    """Adds the records of a batch, which begin at byte `at`, to `found`, and their headers to `blocks`.
    Returns the byte behind them. Errors: IndexError, ValueError."""
    offsets, timestamps, keys, values, _ = found
    count, base, time, is_appended = place
    for _ in range(count):
        low, high = data[at], data[at + 1]
        if low > 127 > high:  # the usual two bytes, of a number that is not negative
            at += 2
            behind = at + ((low & 127 | high << 7) >> 1)
        else:
            length, at = decode_varint(data, at)
            behind = at + length
        at += 1
        delta = data[at]
        if delta < 128:
            delta, at = (delta >> 1) ^ -(delta & 1), at + 1
        else:
            delta, at = decode_varint(data, at)
        offset = data[at]
        if offset < 128:
            offset, at = (offset >> 1) ^ -(offset & 1), at + 1
        else:
            offset, at = decode_varint(data, at)
        key, at = sized(data, at)
        value, at = sized(data, at)
        if at >= behind:
            raise ValueError
        blocks.append(block_of(data[at:behind]))
        offsets.append(base + offset)
        timestamps.append(time if is_appended else time + delta)
        keys.append(key)
        values.append(value)
        at = behind
    return at


def _columns(data: bytes, batches: Sequence[Any]) -> Records:
    """The records that lie in `data` one after the other; the last byte of `data` belongs to no record.

    A record is, `v` a varint: v length, attributes, v time, v offset, v key's length, key, v value's length,
    value, v headers' count, headers. Time and offset count from the batch's.
    """
    end_positions = np.array(_end_positions(data, batches), np.int64)
    counts = [it.records_count for it in batches]
    fields = _Fields(data, np.concatenate([[0], end_positions])[:-1])
    fields.varints()
    fields.at += 1
    # where the broker sets a batch's time (LogAppendTime), all its records have that one time
    appended = np.repeat([it.timestamp_type for it in batches], counts)
    deltas = fields.varints() * (1 - appended)
    timestamps = np.repeat([_time(it) for it in batches], counts) + deltas
    offsets = np.repeat([it.base_offset for it in batches], counts) + fields.varints()
    keys, values = fields.slices(), fields.slices()
    header_counts = fields.varints()
    headers = _headers(data, fields.at, header_counts)
    if (fields.at != end_positions).any():
        raise ValueError
    return Records(offsets.tolist(), timestamps.tolist(), keys, values, headers)


def _time(batch: Any) -> int:
    return int(batch.max_timestamp if batch.timestamp_type else batch.first_timestamp)


def _end_positions(data: bytes, batches: Sequence[Any]) -> list[int]:
    """The byte behind each record: the only thing that has to be found record by record."""
    found, at = [], 0
    for batch in batches:
        end = at + len(batch._buffer) - batch._pos
        for _ in range(batch.records_count):
            low, high = data[at], data[at + 1]
            if low > 127 > high:  # the usual two bytes, of a number that is not negative
                at += 2 + ((low & 127 | high << 7) >> 1)
            else:
                length, at = decode_varint(data, at)
                at += length
            found.append(at)
        if at != end:
            raise ValueError
    return found


class _Fields:
    """Reads one field of every record at once. `at`: the byte where each record's next field begins."""

    def __init__(self, data: bytes, at: _Ints) -> None:
        self._data, self._bytes, self.at = data, np.frombuffer(data, np.uint8), at

    def varints(self) -> _Ints:
        """A number of each record. Errors: ValueError for one of more than ten bytes, IndexError."""
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
        """The bytes of each record's next field: a length, -1 for None, and as many bytes."""
        sizes, data = self.varints(), self._data
        start, self.at = self.at, self.at + np.maximum(sizes, 0)
        found: list[bytes | None] = [
            data[a:b] for a, b in zip(start.tolist(), self.at.tolist(), strict=True)
        ]
        for n in np.flatnonzero(sizes < 0).tolist():
            found[n] = None
        return found

    def skip(self, least: int) -> None:
        """Passes over a length and as many bytes. Errors: ValueError for a length below `least`."""
        sizes = self.varints()
        if len(sizes) and sizes.min() < least:
            raise ValueError
        self.at = self.at + np.maximum(sizes, 0)


def _headers(data: bytes, at: _Ints, counts: _Ints) -> Sequence[Headers]:
    """The headers of each record, `counts` of them from byte `at` on; moves `at` behind them.

    Empty where no record has any. Errors: IndexError, ValueError.
    """
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
