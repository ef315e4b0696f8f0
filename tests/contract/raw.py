"""The protocol without a client's help: one connection, record batches made by hand."""

from __future__ import annotations

import itertools
import socket
import struct
import time
import uuid
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from crc32c import crc32c
from kafka.protocol.admin import CreateTopicsRequest
from kafka.protocol.api_header import ResponseClassRegistry
from kafka.protocol.consumer import FetchRequest, ListOffsetsRequest
from kafka.protocol.producer import InitProducerIdRequest, ProduceRequest
from kafka.record.default_records import DefaultRecordBatchBuilder

from tests.support.waits import until

SECONDS: Final = 10.0
HEADER: Final = struct.Struct(">qiibIhiqqqhii")
FIELDS: Final = {
    "magic": (16, ">b"),
    "attributes": (21, ">h"),
    "last_delta": (23, ">i"),
    "records": (57, ">i"),
    "base": (0, ">q"),
}
COORDINATOR_LOADING: Final = (14, 15, 16)


def now() -> int:
    """Wall clock, ms since 1970."""
    return time.time_ns() // 1_000_000


def fresh(word: str) -> str:
    """A name that no other test uses."""
    return f"{word}-{uuid.uuid4().hex[:8]}"


eventually = partial(until, seconds=20.0)


def batch(
    values: Sequence[bytes | None] = (b"value",),
    *,
    key: bytes | None = b"key",
    codec: int = 0,
    producer: tuple[int, int, int] = (-1, -1, -1),
    timestamp: int | None = None,
) -> bytes:
    """One record batch; `producer` is (id, epoch, first sequence), `stamp` ms since 1970."""
    builder = DefaultRecordBatchBuilder(2, codec, False, *producer, 1 << 26)
    for index, value in enumerate(values):
        builder.append(index, now() if timestamp is None else timestamp, key, value, [])
    return bytes(builder.build())


def with_field(data: bytes, name: str, value: int) -> bytes:
    """The batch with another header field, and a checksum that fits it."""
    at, code = FIELDS[name]
    changed = bytearray(data)
    struct.pack_into(code, changed, at, value)
    return sealed(bytes(changed))


def sealed(data: bytes) -> bytes:
    """The batch with its length and checksum made right."""
    changed = bytearray(data)
    struct.pack_into(">i", changed, 8, len(data) - 12)
    struct.pack_into(">I", changed, 17, crc32c(memoryview(changed)[21:]))
    return bytes(changed)


class Peer:
    """One connection. Errors: `ConnectionError` once the broker has closed it."""

    def __init__(self, bootstrap: str) -> None:
        host, port = bootstrap.rsplit(":", 1)
        self._socket = socket.create_connection((host, int(port)), SECONDS)
        self._numbers = itertools.count(1)

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, request: Any, version: int) -> Any:
        """Sends a request and answers the decoded response."""
        return self.receive(request, version, self.send(request, version))

    def receive(self, request: Any, version: int, number: int) -> Any:
        """The decoded response to a request that `send` numbered."""
        response = ResponseClassRegistry.get_response_class(request.header)
        answer = response.decode(self.read_frame(), version=version, header=True)
        assert answer.header.correlation_id == number
        return answer

    def send(self, request: Any, version: int) -> int:
        """Sends without waiting and answers the correlation id."""
        number = next(self._numbers)
        request.API_VERSION = version
        request.with_header(number, "suite")
        self.send_bytes(bytes(request.encode(header=True, framed=True)))
        return number

    def send_bytes(self, data: bytes) -> None:
        self._socket.sendall(data)

    def send_some(self, data: bytes, within: float = 1.0) -> int:
        """How many bytes of `data` the broker's side takes; 0 where it takes none for so many seconds."""
        self._socket.settimeout(within)
        try:
            return self._socket.send(data)
        except TimeoutError:
            return 0
        finally:
            self._socket.settimeout(SECONDS)

    def read_frame(self) -> bytes:
        return self._exactly(struct.unpack(">i", self._exactly(4))[0])

    def leave(self, reset: bool) -> None:
        """Closes the connection, or resets it as a peer does that was killed with bytes unread."""
        if reset:
            linger = struct.pack("ii", 1, 0)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._socket.close()

    def closed(self, within: float = 3.0) -> bool:
        """Whether the broker closes the connection within so many seconds, unasked."""
        self._socket.settimeout(within)
        try:
            return self._socket.recv(1) == b""
        except ConnectionError:
            return True
        except TimeoutError:
            return False

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self._socket.recv(size - len(data))
            if not more:
                raise ConnectionError("closed by the broker")
            data += more
        return data

    # -- the requests that most tests need

    def create(self, name: str, partitions: int = 1, replicas: int = 1, **configs: str) -> int:
        """Error code of CreateTopics; `_` in a config's name stands for a dot."""
        row = CreateTopicsRequest.CreatableTopic
        request = CreateTopicsRequest(
            topics=[
                row(
                    name=name, num_partitions=partitions, replication_factor=replicas,
                    assignments=[],
                    configs=[
                        row.CreatableTopicConfig(name=key.replace("_", "."), value=value)
                        for key, value in configs.items()
                    ],
                )
            ],
            timeout_ms=10_000,
            validate_only=False,
        )  # fmt: skip
        code: int = self.ask(request, 7).topics[0].error_code
        return code

    def produce(self, topic: str, records: bytes | None, partition: int = 0, acks: int = -1) -> Any:
        """The response for the partition."""
        response = self.ask(produce_request(topic, records, partition, acks), 9)
        return response.responses[0].partition_responses[0]

    def code(self, topic: str, records: bytes | None) -> int:
        """Error code of a produce."""
        error: int = self.produce(topic, records).error_code
        return error

    def fetch(
        self, topic: str, offset: int, *, partition: int = 0, max_bytes: int = 1 << 20,
        min_bytes: int = 1, wait: int = 0, epoch: int = -1,
    ) -> Any:  # fmt: skip
        """The response for the partition."""
        request = fetch_request(topic, offset, partition, max_bytes, min_bytes, wait, epoch)
        return self.ask(request, 12).responses[0].partitions[0]

    def offset_at(self, topic: str, timestamp: int, partition: int = 0) -> tuple[int, int]:
        """(error code, offset) of ListOffsets."""
        row = ListOffsetsRequest.ListOffsetsTopic
        cell = row.ListOffsetsPartition(
            partition_index=partition, current_leader_epoch=-1, timestamp=timestamp
        )
        request = ListOffsetsRequest(
            replica_id=-1, isolation_level=0, topics=[row(name=topic, partitions=[cell])]
        )
        answer = self.ask(request, 7).topics[0].partitions[0]
        return answer.error_code, answer.offset

    def new_producer(self) -> int:
        """A producer id; a broker that just came up says for a while that it is loading."""
        request = InitProducerIdRequest(
            transactional_id=None, transaction_timeout_ms=1000, producer_id=-1, producer_epoch=-1
        )
        until = time.monotonic() + SECONDS
        while True:
            answer = self.ask(request, 4)
            if answer.error_code not in COORDINATOR_LOADING or time.monotonic() > until:
                assert answer.error_code == 0
                return int(answer.producer_id)
            time.sleep(0.05)


def produce_request(topic: str, records: bytes | None, partition: int = 0, acks: int = -1) -> Any:
    """One batch for one partition."""
    row = ProduceRequest.TopicProduceData
    cell = row.PartitionProduceData(index=partition, records=records)
    return ProduceRequest(
        transactional_id=None, acks=acks, timeout_ms=5000,
        topic_data=[row(name=topic, partition_data=[cell])],
    )  # fmt: skip


def fetch_request(
    topic: str, offset: int, partition: int = 0, max_bytes: int = 1 << 20, min_bytes: int = 1,
    wait: int = 0, epoch: int = -1, session: tuple[int, int] = (0, -1),
) -> Any:  # fmt: skip
    """One partition; `session` is (id, epoch), without one by default."""
    row = FetchRequest.FetchTopic
    cell = row.FetchPartition(
        partition=partition, current_leader_epoch=epoch, fetch_offset=offset,
        last_fetched_epoch=-1, log_start_offset=-1, partition_max_bytes=max_bytes,
    )  # fmt: skip
    return FetchRequest(
        max_wait_ms=wait, min_bytes=min_bytes, max_bytes=max_bytes, isolation_level=0,
        session_id=session[0], session_epoch=session[1],
        topics=[row(topic=topic, partitions=[cell])],
        forgotten_topics_data=[], rack_id="",
    )  # fmt: skip
