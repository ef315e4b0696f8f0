"""Sends the batches of one leader: a request takes one of each partition that has some."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

from infra.kafka.produce import messages
from infra.kafka.produce.batch import PartitionQueue, ProducerBatch
from infra.kafka.produce.messages import Result
from infra.kafka.produce.record_batch import ProducerId

INTERVAL_SECONDS: Final = 0.006
"""Between two requests; the first after a pause leaves at once. A request costs this process and the broker
about 0.2 ms each, whatever it holds."""
MAX_IN_FLIGHT: Final = 2
MAX_REQUEST_BYTES: Final = 1 << 20
"""Of the batches of a request, unless one alone has more; the event loop makes it without a break."""
BROKER_TIMEOUT_MS: Final = 4000
"""So long a broker waits for the replicas of a batch before it answers with an error."""


class Sent(NamedTuple):
    """A batch under way, and where it goes."""

    queue: PartitionQueue
    batch: ProducerBatch


Answered = Callable[[list[tuple[Sent, Result]]], None]
"""Takes what the broker says of the batches of a request."""


class Sender:
    """The requests to one leader, over `connection`, on the event loop. `on_answer` takes each answer, and
    `on_error` an error while a request is made, which is a fault of this code."""

    def __init__(
        self,
        connection: Any,
        producer: ProducerId,
        on_answer: Answered,
        on_error: Callable[[Exception], None],
    ) -> None:
        self.requests = 0
        self._connection, self._producer = connection, producer
        self._on_answer, self._on_error = on_answer, on_error
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[PartitionQueue, None] = {}
        """The partitions that have batches, the one that was served last at the end."""
        self._in_flight = 0
        self._not_before = 0.0
        self._timer: asyncio.Handle | None = None

    def wake(self, queue: PartitionQueue) -> None:
        """A partition of this leader has records."""
        self._waiting[queue] = None
        if self._timer is None and self._in_flight < MAX_IN_FLIGHT:
            self._schedule()

    def close(self) -> None:
        """Sends nothing from now on."""
        self._waiting.clear()
        self._in_flight = MAX_IN_FLIGHT
        if self._timer is not None:
            self._timer.cancel()

    def _wait(self, seconds: float) -> None:
        """Sends nothing for so long: the broker's quota is used up."""
        self._not_before = max(self._not_before, time.monotonic() + seconds)
        if self._timer is not None:
            self._timer.cancel()
            self._schedule()

    def _schedule(self) -> None:
        wait = self._not_before - time.monotonic()
        if wait > 0:
            self._timer = self._loop.call_later(wait, self._flush)
        else:  # after all that this turn of the loop appends
            self._timer = self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._timer = None
        now = time.monotonic()
        try:
            sent, pieces = self._take(now)
            if not sent:
                return  # each partition waits for an answer, which flushes
            self._connection.send(
                messages.API_KEY, messages.VERSION, pieces, partial(self._receive, sent)
            )
        except Exception as error:
            self._on_error(error)
            return
        self.requests += 1
        self._in_flight += 1
        self._not_before = now + INTERVAL_SECONDS
        if self._waiting and self._in_flight < MAX_IN_FLIGHT:
            self._schedule()

    def _take(self, now: float) -> tuple[list[Sent], list[bytes]]:
        """The batches of the next request, and its body."""
        sent: list[Sent] = []
        encoded: list[tuple[bytes, int, bytes]] = []
        total = 0
        for queue in list(self._waiting):
            size = queue.next_size(now)
            if not size:
                continue
            if sent and total + size > MAX_REQUEST_BYTES:
                break
            batch, data = queue.take(self._producer)
            total += size
            sent.append(Sent(queue, batch))
            encoded.append((queue.topic, queue.partition, data))
            del self._waiting[queue]
            if queue:
                self._waiting[queue] = None
        return sent, messages.request(encoded, BROKER_TIMEOUT_MS)

    def _receive(self, sent: list[Sent], frame: bytes, at: int) -> None:
        """Errors: ValueError, `struct.error` for an answer that is not one to the request of `sent`."""
        answer = messages.answer(frame, at)
        results = answer.results
        if len(results) != len(sent):
            raise ValueError("an answer for other partitions")
        answered = []
        for it in sent:
            result = results.get((it.queue.topic, it.queue.partition))
            if result is None or (not result.error and result.offset < 0):
                raise ValueError("an answer for other partitions")
            answered.append((it, result))
        self._in_flight -= 1
        if answer.throttle_ms > 0:
            self._wait(answer.throttle_ms / 1000)
        self._on_answer(answered)
        if self._timer is None and self._waiting and self._in_flight < MAX_IN_FLIGHT:
            self._schedule()
