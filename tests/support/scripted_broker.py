"""A cluster of brokers in the test's own event loop, whose answers a test scripts.

Behind every node are the handlers and the log of the embedded broker, so what is acknowledged can be held
against what is in the log. A node answers as Kafka does, unless a step stands in the script for a request of
its kind.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from kafka.protocol.consumer import FetchRequest
from kafka.protocol.metadata import MetadataRequest, MetadataResponse
from kafka.protocol.producer import ProduceRequest, ProduceResponse
from kafka.record import MemoryRecords

from infra.broker.apis import APIS
from infra.broker.node import Broker
from infra.broker.wire import (
    Call,
    Malformed,
    RequestHeader,
    decode,
    encode,
    frame_size,
    request_header,
)

HOST: Final = "127.0.0.1"
NOT_LEADER: Final = 6
PRODUCE: Final = ProduceRequest.API_KEY
FETCH: Final = FetchRequest.API_KEY
METADATA: Final = MetadataRequest.API_KEY
_CELL: Final = ProduceResponse.TopicProduceResponse.PartitionProduceResponse


class Exchange:
    """A request that has come to node `node`, and its peer. A step answers it as it likes, or not at all."""

    def __init__(
        self,
        cluster: ScriptedBroker,
        node: int,
        header: RequestHeader,
        request: Any,
        writer: asyncio.StreamWriter,
        held: list[bytes],
    ) -> None:
        self.cluster, self.node, self.header, self.request = cluster, node, header, request
        self._writer = writer
        self.held = held
        """Frames of this connection that a step has kept back."""

    async def perform(self) -> Any:
        """Does what is asked, and gives the answer."""
        return await self.cluster.perform(self.node, self.header, self.request)

    def refusal(self, code: int) -> Any:
        """The answer to a Produce of which nothing was done."""
        rows = [
            ProduceResponse.TopicProduceResponse(
                name=topic.name,
                topic_id=topic.topic_id,
                partition_responses=[refused(it.index, code) for it in topic.partition_data],
            )
            for topic in self.request.topic_data
        ]
        return ProduceResponse(responses=rows, throttle_time_ms=0)

    def frame(self, answer: Any, more: int = 0) -> bytes:
        """The answer's bytes. `more`: how far its correlation id is off."""
        return encode(answer, self.header.correlation + more, self.header.version)

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    async def flush(self) -> None:
        await self._writer.drain()

    async def answer(self, answer: Any = None) -> None:
        """Answers, by default with what the broker says."""
        self.write(self.frame(await self.perform() if answer is None else answer))
        await self.flush()

    def hang_up(self) -> None:
        """Resets the connection."""
        with contextlib.suppress(OSError, ValueError):
            self._writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
        self._writer.transport.abort()


Step = Callable[[Exchange], Awaitable[None]]


class ScriptedBroker:
    """`nodes` brokers, of which `leader_of` leads a partition; the first is the controller.

    `script`: API key -> steps for its next requests, one each; `always`: API key -> the step of all others.
    """

    def __init__(self, data: Path, nodes: int = 1) -> None:
        self._broker = Broker(data, auto_create=False)
        self._nodes = range(1, nodes + 1)
        self._servers: dict[int, asyncio.Server] = {}
        self._peers: dict[asyncio.Task[None], int] = {}
        self.ports: dict[int, int] = {}
        self.script: defaultdict[int, deque[Step]] = defaultdict(deque)
        self.always: dict[int, Step] = {}
        self.seen: Counter[int] = Counter()
        """API key -> requests so far."""
        self.leader_of: Callable[[int], int] = lambda partition: 1
        """Partition -> node."""
        self.advertised: dict[int, tuple[str, int]] = {}
        """Node -> the address that metadata say, where it is another than its own."""

    @property
    def bootstrap(self) -> str:
        return f"{HOST}:{self.ports[1]}"

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[ScriptedBroker]:
        """The nodes accept connections while the block runs."""
        async with contextlib.AsyncExitStack() as stack:
            for node in self._nodes:
                server = await asyncio.start_server(self._accepting(node), HOST, 0)
                self._servers[node] = server
                stack.callback(server.close)
                self.ports[node] = server.sockets[0].getsockname()[1]
            try:
                yield self
            finally:
                for task in self._peers:
                    task.cancel()
                await asyncio.gather(*self._peers, return_exceptions=True)
                self._broker.close()

    def close(self, node: int) -> None:
        """The node is away from now on."""
        self._servers[node].close()
        for task, its in self._peers.items():
            if its == node:
                task.cancel()

    async def perform(self, node: int, header: RequestHeader, request: Any) -> Any:
        """What the embedded broker answers, with the nodes and leaders of this cluster."""
        rejected = self._reject(node, request) if header.api == PRODUCE else {}
        elsewhere = self._led_elsewhere(node, request) if header.api == FETCH else set()
        call = Call(request, header.version, header.client, f"/{HOST}", self.address(node))
        answer = await APIS[header.api].handle(self._broker, call)
        if header.api == METADATA:
            self._describe_nodes(answer)
        for row in answer.responses if header.api == FETCH else ():
            for cell in row.partitions:
                if cell.partition_index in elsewhere:
                    cell.error_code, cell.records = NOT_LEADER, b""
        for row in answer.responses if header.api == PRODUCE else ():
            row.partition_responses += rejected.get(row.name or row.topic_id, ())
        return answer

    def logged(self, topic: str) -> dict[int, list[bytes]]:
        """Partition -> the values in the log, by offset."""
        logs = self._broker.catalogue.topics[topic].logs
        return {n: list(_values(log.read(0, 1 << 30, True))) for n, log in enumerate(logs)}

    def _reject(self, node: int, request: Any) -> dict[Any, list[Any]]:
        """Takes the batches of partitions that `node` does not lead out of a request; gives their answers."""
        rejected: defaultdict[Any, list[Any]] = defaultdict(list)
        for topic in request.topic_data:
            led = []
            for it in topic.partition_data:
                if self.leader_of(it.index) == node:
                    led.append(it)
                else:
                    rejected[topic.name or topic.topic_id].append(refused(it.index, NOT_LEADER))
            topic.partition_data = led
        return rejected

    def _led_elsewhere(self, node: int, request: Any) -> set[int]:
        """Partitions of a Fetch that `node` does not lead; where there are some, it does not wait."""
        asked = {it.partition for topic in request.topics for it in topic.partitions}
        elsewhere = {partition for partition in asked if self.leader_of(partition) != node}
        request.max_wait_ms = 0 if elsewhere else request.max_wait_ms
        return elsewhere

    def address(self, node: int) -> tuple[str, int]:
        """As metadata say it."""
        return self.advertised.get(node, (HOST, self.ports[node]))

    def _describe_nodes(self, answer: Any) -> None:
        answer.brokers = [
            MetadataResponse.MetadataResponseBroker(
                node_id=node, host=self.address(node)[0], port=self.address(node)[1], rack=None
            )
            for node in self._nodes
        ]
        for topic in answer.topics:
            for it in topic.partitions:
                it.leader_id = self.leader_of(it.partition_index)
                it.replica_nodes = it.isr_nodes = list(self._nodes)

    def _accepting(
        self, node: int
    ) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._peers[task] = node
            try:
                await self._serve(node, reader, writer)
            except (asyncio.IncompleteReadError, OSError, Malformed):
                pass
            except asyncio.CancelledError:
                writer.transport.abort()
            finally:
                self._peers.pop(task)
                writer.close()

        return accepted

    async def _serve(
        self, node: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        held: list[bytes] = []
        while True:
            frame = await reader.readexactly(frame_size(await reader.readexactly(4)))
            header = request_header(frame)
            self.seen[header.api] += 1
            request = decode(APIS[header.api].codec, header, frame)
            exchange = Exchange(self, node, header, request, writer, held)
            steps = self.script[header.api]
            step = steps.popleft() if steps else self.always.get(header.api, Exchange.answer)
            await step(exchange)


def refused(partition: int, code: int) -> Any:
    """A partition of the answer to a Produce of which nothing was done."""
    return _CELL(
        index=partition,
        error_code=code,
        base_offset=-1,
        log_append_time_ms=-1,
        log_start_offset=-1,
        record_errors=[],
        error_message=None,
    )


def _values(data: bytes) -> Iterator[bytes]:
    records = MemoryRecords(data)
    while (batch := records.next_batch()) is not None:
        yield from (record.value for record in batch)
