"""What is read about a person: the only thing a request asks of the store.

The reads of one turn of the event loop travel as one MGET, the fence of each person's partition
among their keys, so what is known of a person and how far that goes are of the same moment.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from redis.asyncio import Redis

from infra import store
from models.features.registry import ROW, ForeignRow, read_row
from models.outcomes.impressions import IMPRESSION
from schemas import fence, keys
from schemas import links as ties
from schemas import vector as vectors
from schemas.alphabet import Position, Pseudonym
from schemas.event import Preferences
from schemas.fence import Fence
from schemas.links import Links
from schemas.vector import Vector
from serving.state.generation import Generation
from serving.world.catalogue import Hashes

STORE_SECONDS: Final = 2.0
"""How long a read waits for a store that does not say no either."""
REST_SECONDS: Final = 0.25
"""How long a store that failed is left alone."""
_FIRST_PAUSE: Final = 0.002
_LAST_PAUSE: Final = 0.010
_KEYS: Final = 9

_PREFERENCES: Final = msgspec.json.Decoder(Preferences)
_NOTHING: Final[Hashes] = np.empty(0, np.uint64)
NO_IMPRESSIONS: Final[NDArray[np.void]] = np.empty(0, IMPRESSION)
_EMPTY_ROW: Final[np.void] = np.zeros(1, ROW)[0]

_Blobs = list[bytes | None]
_Asked = tuple[list[bytes], asyncio.Future[_Blobs]]


class StoreDown(Exception):
    """The store did not answer, or not with what this code can read."""


class Person(NamedTuple):
    """`row` as `models.features.registry.ROW` (zeros: never seen); `seen` and `hidden` are item hashes."""

    row: np.void
    seen: Hashes
    hidden: Hashes
    preferences: Preferences | None
    fence: Fence | None
    """Of the person's partition, read together with the rest; None where nothing was folded yet."""
    impressions: NDArray[np.void] = NO_IMPRESSIONS
    """What they were shown lately, `models.outcomes.impressions.IMPRESSION`."""
    vector: Vector | None = None
    """As the flow last made it: good for its release only."""
    links: Links = ties.NONE
    cold: bool = False
    """They were not seen for long: their records lie in the lake until the flow has brought them back."""

    @property
    def known(self) -> bool:
        return bool(self.row["newest"]) or self.preferences is not None


NOBODY: Final = Person(_EMPTY_ROW, _NOTHING, _NOTHING, None, None)


class Waited(NamedTuple):
    """`stale`: the person's state did not come to include the position that was asked for."""

    person: Person
    waited_ms: int
    stale: bool


def decode(blobs: _Blobs) -> Person:
    """Row, seen, hidden, preferences, fence, impressions, vector, links and tombstone, as stored.

    Errors: `StoreDown`.
    """
    row, seen, hidden, preferences, stands, impressions, vector, links, tombstone = blobs
    try:
        return Person(
            read_row(row) if row else _EMPTY_ROW,
            np.frombuffer(seen, "<u8") if seen else _NOTHING,
            np.frombuffer(hidden, "<u8") if hidden else _NOTHING,
            _PREFERENCES.decode(preferences) if preferences else None,
            fence.decode(stands) if stands else None,
            np.frombuffer(impressions, IMPRESSION) if impressions else NO_IMPRESSIONS,
            vectors.DECODER.decode(vector) if vector else None,
            ties.decode(links),
            tombstone is not None,
        )
    except (ForeignRow, ValueError, msgspec.MsgspecError) as error:
        raise StoreDown(type(error).__name__) from None


def of_log(row: bytes | None, seen: bytes | None, impressions: bytes | None) -> Person:
    """What the log alone says of somebody. Errors: `StoreDown`."""
    return decode([row, seen, None, None, None, impressions, None, None, None])


class PersonReader:
    """Reads people from the store: one for the process, and its event loop."""

    def __init__(self, redis: Redis, generation: Generation) -> None:
        self._redis, self._generation = redis, generation
        self._asked: list[_Asked] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._down_until = 0.0

    async def read(self, person: Pseudonym, partition: int) -> Person:
        """Errors: `StoreDown`."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._down_until:
            raise StoreDown("failed a moment ago")
        answer: asyncio.Future[_Blobs] = loop.create_future()
        if not self._asked:
            loop.call_soon(self._send)
        self._asked.append((_keys(person, partition, self._generation.live), answer))
        return decode(await answer)

    async def read_after(self, person: Pseudonym, after: Position, max_wait_ms: int) -> Waited:
        """Reads until the fence is past `after`, at most `max_wait_ms`. Errors: `StoreDown`."""
        loop = asyncio.get_running_loop()
        start, waited, pause = loop.time(), 0.0, _FIRST_PAUSE
        while True:
            found = await self.read(person, after.partition)
            if found.fence is not None and found.fence.offset > after.offset:
                return Waited(found, round(waited * 1000), False)
            left = max_wait_ms / 1000 - waited
            if left <= 0:
                return Waited(found, round(waited * 1000), True)
            await asyncio.sleep(min(pause, left))
            waited = loop.time() - start
            pause = min(pause * 1.2, _LAST_PAUSE)

    def _send(self) -> None:
        asked, self._asked = self._asked, []
        task = asyncio.get_running_loop().create_task(self._fetch(asked))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fetch(self, asked: list[_Asked]) -> None:
        names = [name for part, _ in asked for name in part]
        try:
            async with asyncio.timeout(STORE_SECONDS):
                values: list[Any] = await store.mget_async(self._redis, names)
        except Exception as error:  # whatever it is: nobody may wait for ever
            self._down_until = asyncio.get_running_loop().time() + REST_SECONDS
            for _, answer in asked:
                if not answer.done():
                    answer.set_exception(StoreDown(type(error).__name__))
            return
        for at, (_, answer) in enumerate(asked):
            if not answer.done():  # else the client went away
                answer.set_result(values[at * _KEYS : (at + 1) * _KEYS])


def _keys(person: Pseudonym, partition: int, generation: int) -> list[bytes]:
    return [
        keys.row(partition, person, generation),
        keys.seen(partition, person, generation),
        keys.hidden(partition, person, generation),
        keys.preferences(partition, person, generation),
        keys.fence("people", partition, generation),
        keys.impressions(partition, person, generation),
        keys.vector(partition, person, generation),
        keys.link(partition, person, generation),
        keys.tombstone(partition, person, generation),
    ]
