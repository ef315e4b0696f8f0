"""Reads people from the store: the only thing that a request asks of it.

The reads of one turn of the event loop travel as one MGET, the fence of each person's partition
among their keys, so what is known of a person and how far that goes are of the same moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from redis.asyncio import Redis

from infra.backoff import Pauses
from infra.store import redis_client
from schemas.alphabet import Position, Pseudonym
from schemas.keys import Keyspace
from serving.decide.person import STORED, Blobs, Person, StoreDown, Unreadable, decode
from serving.state.generation import Generation

STORE_TIMEOUT_SECONDS: Final = 2.0
"""How long a read waits for a store that does not say no either."""
REST_SECONDS: Final = 0.25
"""How long a store that failed is left alone."""
_FIRST_PAUSE: Final = 0.002
_LAST_PAUSE: Final = 0.010
_FACTOR: Final = 1.2
_KEYS: Final = len(STORED)
_Asked = tuple[list[bytes], asyncio.Future[Blobs]]
Note = Callable[[Pseudonym, int, Unreadable], None]
"""Person, partition, and what of them cannot be read."""


class Waited(NamedTuple):
    """`stale`: the person's state did not come to include the position that was asked for."""

    person: Person
    waited_ms: int
    stale: bool


class PersonReader:
    """Reads people from the store: one for the process, and its event loop. `note` is told of each whose
    state cannot be read."""

    def __init__(self, redis: Redis, generation: Generation, note: Note = lambda *_: None) -> None:
        self._redis, self._generation, self._note = redis, generation, note
        self._asked: list[_Asked] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._down_until = 0.0

    async def read(self, person: Pseudonym, partition: int) -> Person:
        """Errors: `StoreDown`, `Unreadable`."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._down_until:
            raise StoreDown("failed a moment ago")
        answer: asyncio.Future[Blobs] = loop.create_future()
        if not self._asked:
            loop.call_soon(self._send)
        self._asked.append((stored_keys(person, partition, self._generation.keyspace), answer))
        try:
            return decode(await answer)
        except Unreadable as error:
            self._note(person, partition, error)
            raise

    async def read_after(self, person: Pseudonym, after: Position, max_wait_ms: int) -> Waited:
        """Reads until the fence is past `after`, at most `max_wait_ms`. Errors: `StoreDown`."""
        loop = asyncio.get_running_loop()
        start, waited = loop.time(), 0.0
        pauses = Pauses(_FIRST_PAUSE, _LAST_PAUSE, _FACTOR)
        while True:
            found = await self.read(person, after.partition)
            if found.fence is not None and found.fence.offset > after.offset:
                return Waited(found, round(waited * 1000), False)
            left = max_wait_ms / 1000 - waited
            if left <= 0:
                return Waited(found, round(waited * 1000), True)
            await asyncio.sleep(min(next(pauses), left))
            waited = loop.time() - start

    def _send(self) -> None:
        asked, self._asked = self._asked, []
        task = asyncio.get_running_loop().create_task(self._fetch(asked))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fetch(self, asked: list[_Asked]) -> None:
        names = [name for part, _ in asked for name in part]
        try:
            async with asyncio.timeout(STORE_TIMEOUT_SECONDS):
                values: list[Any] = await redis_client.mget_async(self._redis, names)
        except Exception as error:  # whatever it is: nobody may wait for ever
            self._down_until = asyncio.get_running_loop().time() + REST_SECONDS
            for _, answer in asked:
                if not answer.done():
                    answer.set_exception(StoreDown(type(error).__name__))
            return
        for at, (_, answer) in enumerate(asked):
            if not answer.done():  # else the client went away
                answer.set_result(values[at * _KEYS : (at + 1) * _KEYS])


def stored_keys(person: Pseudonym, partition: int, keyspace: Keyspace) -> list[bytes]:
    """The keys of `STORED`."""
    return [
        keyspace.row(partition, person),
        keyspace.seen(partition, person),
        keyspace.hidden(partition, person),
        keyspace.preferences(partition, person),
        keyspace.fence("people", partition),
        keyspace.impressions(partition, person),
        keyspace.vector(partition, person),
        keyspace.link(partition, person),
        keyspace.tombstone(partition, person),
    ]
