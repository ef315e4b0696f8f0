"""Whether this code can read what is stored about people: looked at in the background.

A worker of another version than the flow that wrote would answer everybody without their state. It finds
that out by itself, as it starts and after each swap, from a sample of rows; and from the reads it answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any, Final, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from infra.settings import Settings
from infra.store import redis_client
from models.features.registry import ForeignRow, read_row
from schemas.alphabet import Pseudonym
from schemas.keys import Keyspace
from serving.decide.person import Unreadable, decode
from serving.metrics import Metrics
from serving.state.background import Background, Fault
from serving.state.generation import Generation
from serving.state.people import stored_keys

log = logging.getLogger("freshet.serving")

LOOK_SECONDS: Final = 1.0
SAMPLE: Final = 32
"""Rows looked at together."""
SCANNED: Final = 1000
"""Keys that the store walks at once in search of them."""
SCAN_SECONDS: Final = 0.5
"""What is not found until then is not in the sample."""
FOREIGN: Final = "foreign_version"


class Suspect(NamedTuple):
    """Somebody whose state could not be read when it was last tried."""

    person: Pseudonym
    partition: int


class Compatibility(Background):
    """`fault`: what is wrong now. It `fails` everybody where no row of the sample can be read: then this
    instance has nothing to answer from, and one of another version may."""

    name = "people"

    def __init__(
        self, settings: Settings, redis: Redis, generation: Generation, metrics: Metrics
    ) -> None:
        self._redis, self._generation, self._metrics = redis, generation, metrics
        self._partitions = range(settings.partitions)
        self._suspect: Suspect | None = None
        self._sampled = -1
        """The generation that was looked at."""
        self._told: set[str] = set()
        self._wake = asyncio.Event()
        self.fault: Fault | None = None
        self.fails = False

    @property
    def loaded(self) -> bool:
        """It has looked."""
        return self._sampled >= 0

    @property
    def ready(self) -> bool:
        return self.loaded and self.fault is None

    def note(self, person: Pseudonym, partition: int, error: Unreadable) -> None:
        """A read could not be answered from what is stored."""
        self._metrics.add("freshet_people_unreadable_total", what=error.what)
        self._tell(error)
        self._suspect = Suspect(person, partition)
        if self.fault is None:  # until the sample says how many it concerns: the worse
            self._found(error, fails=error.what == "row")
        self._wake.set()

    async def run(self) -> None:
        while True:
            if self.fault is not None or self._sampled != self._generation.live:
                # the store away: what was found holds until it can be asked again
                with contextlib.suppress(RedisError, OSError):
                    await self._look()
            if self.fault is not None:
                await asyncio.sleep(LOOK_SECONDS)  # reads that fail on and on wake nobody meanwhile
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._wake.wait()
            self._wake.clear()

    async def _look(self) -> None:
        keyspace = self._generation.keyspace
        concerned = await self._of_suspect(keyspace)
        rows = await self._sample(keyspace)
        foreign = [error for error in map(_error, rows) if error is not None]
        self._sampled = keyspace.generation
        if foreign:
            self._tell(foreign[0])
            self._found(foreign[0], fails=len(foreign) == len(rows))
        elif concerned is not None:
            self._found(concerned, fails=concerned.what == "row" and not rows)
        elif self.fault is not None:
            self.fault, self.fails = None, False
            self._told.clear()
            log.warning("what is stored about people can be read again")

    async def _of_suspect(self, keyspace: Keyspace) -> Unreadable | None:
        """What still cannot be read of whom a read could not be answered about."""
        if self._suspect is not None:
            names = stored_keys(*self._suspect, keyspace)
            try:
                decode(await redis_client.mget_async(self._redis, names))
            except Unreadable as error:
                return error
            self._suspect = None
        return None

    async def _sample(self, keyspace: Keyspace) -> list[bytes]:
        """Some rows of this generation, those that are found soon. Errors: RedisError, OSError."""
        starts = tuple(keyspace.row(p, "") for p in self._partitions)
        names: list[bytes] = []
        found: Any = self._redis.scan_iter(match=keyspace.rows(), count=SCANNED)
        with contextlib.suppress(TimeoutError, ResponseError):  # some stores forbid it
            async with asyncio.timeout(SCAN_SECONDS), contextlib.aclosing(found):
                async for name in found:
                    if name.startswith(starts):
                        names.append(name)
                    if len(names) == SAMPLE:
                        break
        held = await redis_client.mget_async(self._redis, names) if names else []
        return [row for row in held if row is not None]

    def _found(self, error: Unreadable, *, fails: bool) -> None:
        code = FOREIGN if error.what == "row" else "unreadable"
        self.fault, self.fails = Fault(self.name, code, f"{error}."), fails

    def _tell(self, error: Unreadable) -> None:
        """Once until all can be read again, however many reads it concerns."""
        if error.what not in self._told:
            self._told.add(error.what)
            log.error("people are answered as if the store were away: %s", error)


def _error(row: bytes) -> Unreadable | None:
    try:
        read_row(row)
    except ForeignRow as error:
        return Unreadable("row", str(error))
    return None
