"""Reads people from the store: the only request that a read makes to it.

The reads of one event-loop iteration travel as one MGET. The fence of each person's partition is among
their keys, so a state and the offset up to which it is folded are of the same moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

from redis.asyncio import Redis

from infra import logs
from infra.store import redis_client
from infra.store.lookups import Lookups
from models.outcomes.strangers import bucket_of, find
from schemas.alphabet import Position, Pseudonym
from schemas.keys import Keyspace
from serving.decide.person import Blobs, Person, StoreDown, Unreadable, decode
from serving.state.fences import FenceWatch, Waited
from serving.state.generation import Generation
from serving.state.log_end import LogEnd

log = logs.paced("freshet.serving.requests")

STORE_TIMEOUT_SECONDS: Final = 2.0
"""How long a read waits for a store that does not answer."""
STORE_REST_SECONDS: Final = 0.25
"""How long no read is sent to a store that failed."""
ReadCallback = Callable[[Blobs | StoreDown], None]
"""Called once with what the store has of a person, a value per key of `stored_keys`, or with why it did not
answer."""
_PendingRead = tuple[list[bytes], ReadCallback]
UnreadableCallback = Callable[[Pseudonym, int, Unreadable], None]
"""Called with a person, their partition, and what of their state cannot be read."""


class TimedRead(NamedTuple):
    """`waited_ms`: between the first read and the last. `stale`: the state does not include the position that
    was asked for."""

    person: Person
    waited_ms: int
    stale: bool


class PersonReader:
    """Reads people from the store: one for the process, and its event loop. `on_unreadable` is called for
    each person whose state cannot be read."""

    def __init__(
        self,
        redis: Redis,
        generation: Generation,
        log_end: LogEnd,
        on_unreadable: UnreadableCallback = lambda *_: None,
    ) -> None:
        self._redis, self._generation, self._on_unreadable = redis, generation, on_unreadable
        self._lookups = (
            None if redis_client.is_cluster(redis) else Lookups(redis, STORE_TIMEOUT_SECONDS)
        )
        self._fences = FenceWatch(self._mget, lambda: generation.keyspace, log_end)
        self._pending: list[_PendingRead] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._down_until = 0.0
        self.waiting = 0
        """Reads that the store has not answered yet."""

    def submit(self, person: Pseudonym, partition: int, done: ReadCallback) -> None:
        """Reads what the store has of `person`, with the other reads of this iteration of the event loop.
        `done` is called in a later one, and raises nothing."""
        if not self._pending:
            asyncio.get_running_loop().call_soon(self._send)
        self._pending.append((stored_keys(person, partition, self._generation.keyspace), done))
        self.waiting += 1

    async def read(self, person: Pseudonym, partition: int) -> Person:
        """The state of `person`. Errors: `StoreDown`, `Unreadable`."""
        answer: asyncio.Future[Blobs | StoreDown] = asyncio.get_running_loop().create_future()

        def done(found: Blobs | StoreDown) -> None:
            if not answer.done():  # else the reader was cancelled
                answer.set_result(found)

        self.submit(person, partition, done)
        return self.decoded(person, partition, await answer)

    def decoded(self, person: Pseudonym, partition: int, found: Blobs | StoreDown) -> Person:
        """The state of `person`, as `submit` found it. Errors: `StoreDown`, `Unreadable`."""
        if isinstance(found, StoreDown):
            raise found
        try:
            return decode(found)
        except Unreadable as error:
            self._on_unreadable(person, partition, error)
            raise

    async def read_after(self, person: Pseudonym, after: Position, max_wait_ms: int) -> TimedRead:
        """Reads until the fence is past `after`, at most `max_wait_ms`; not so long where the log has no
        record there. Errors: `StoreDown`, `Unreadable`."""
        loop = asyncio.get_running_loop()
        start, waited, why = loop.time(), 0.0, Waited.PASSED
        while True:
            state = await self.read(person, after.partition)
            # a look saw the fence of one generation, and this read may be of the next
            fresh = state.fence is not None and state.fence.offset > after.offset
            remaining = max_wait_ms / 1000 - waited
            if fresh or remaining <= 0 or why is Waited.NO_RECORD:
                return TimedRead(state, round(waited * 1000), not fresh)
            why = await self._fences.wait(after, remaining)
            waited = loop.time() - start

    def _send(self) -> None:
        pending, self._pending = self._pending, []
        loop = asyncio.get_running_loop()
        if self._lookups is None:
            task = loop.create_task(self._fetch(pending))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif loop.time() < self._down_until:
            self._answer(pending, StoreDown("failed a moment ago"))
        else:
            keys = [key for keys, _ in pending for key in keys]
            self._lookups.mget(keys, partial(self._looked_up, pending))

    async def _fetch(self, pending: list[_PendingRead]) -> None:
        found: list[Any] | StoreDown
        try:
            found = await self._mget([key for keys, _ in pending for key in keys])
        except StoreDown as error:
            found = error
        self._answer(pending, found)

    def _looked_up(self, pending: list[_PendingRead], found: list[Any] | Exception) -> None:
        self._answer(pending, self._down(found) if isinstance(found, Exception) else found)

    def _answer(self, pending: list[_PendingRead], found: list[Any] | StoreDown) -> None:
        if isinstance(found, StoreDown):
            for _, done in pending:
                self._finish(done, StoreDown(str(found)))
            return
        for n, (keys, done) in enumerate(pending):
            self._finish(done, blobs_of(keys, found[n * len(keys) : (n + 1) * len(keys)]))

    def _down(self, error: Exception) -> StoreDown:
        """The store rests after any error."""
        self._down_until = asyncio.get_running_loop().time() + STORE_REST_SECONDS
        return StoreDown(type(error).__name__)

    def _finish(self, done: ReadCallback, found: Blobs | StoreDown) -> None:
        self.waiting -= 1
        try:
            done(found)
        except Exception as error:  # a fault in one must not leave the others without an answer
            log.error("a read's callback failed: %s", type(error).__name__)

    async def _mget(self, keys: list[bytes]) -> list[Any]:
        """Errors: `StoreDown`."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._down_until:
            raise StoreDown("failed a moment ago")
        try:
            async with asyncio.timeout(STORE_TIMEOUT_SECONDS):
                return await redis_client.mget_async(self._redis, keys)
        except Exception as error:  # any error: no read may wait for ever
            raise self._down(error) from None


def stored_keys(person: Pseudonym, partition: int, keyspace: Keyspace) -> list[bytes]:
    """The keys of `STORED_FIELDS`, in its order."""
    return [
        keyspace.row(partition, person),
        keyspace.seen(partition, person),
        keyspace.preferences(partition, person),
        keyspace.fence("people", partition),
        keyspace.impressions(partition, person),
        keyspace.vector(partition, person),
        keyspace.link(partition, person),
        keyspace.tombstone(partition, person),
        keyspace.strangers_bucket(partition, bucket_of(person)),
    ]


def blobs_of(keys: list[bytes], found: list[bytes | None]) -> Blobs:
    """The values of a person, found under their `stored_keys`. The last key has many strangers: of these it
    is theirs, or all where that cannot be read, which `decode` refuses."""
    if bucket := found[-1]:
        try:
            entry = find(bucket, Keyspace.person_of(keys[0]))
        except ValueError:
            return [*found[:-1], bucket]
        return [*found[:-1], entry]
    return found
