"""How many ids of people that nothing is known of a client brings in an hour.

A write must not ask the store whether it knows an id. So the ids of accepted events are looked up in the
background, and those that are new are taken of the client's quota. Once that is used up, each id that this
process does not know is taken of it at once, or refused, until the store is found to know the id.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from schemas.access.limits import NEW_PEOPLE, Exceeded
from schemas.record import Record
from serving.state.background import Background
from serving.state.generation import Generation
from serving.state.leases import PERIOD_SECONDS, STORE_TIMEOUT_SECONDS, Leases

MAX_REMEMBERED: Final = 200_000
"""Ids that a process remembers, some 100 B each."""
STRICT_SECONDS: Final = 60.0
"""So long after a quota was used up, ids are counted at once."""
MAX_PENDING: Final = 20_000
"""Ids that wait to be looked up; those beyond it are not counted."""
Person = tuple[bytes, int]
"""Pseudonym and partition."""


class NewPeople(Background):
    """Does nothing without the policy. `clock` in seconds."""

    name = "new_people"
    ready = True

    def __init__(
        self,
        redis: Redis,
        generation: Generation,
        leases: Leases,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis, self._generation, self._leases = redis, generation, leases
        self._clock, self._is_on = clock, leases.has(NEW_PEOPLE)
        self._remembered: dict[bytes, None] = {}
        self._pending: dict[Person, str] = {}
        """Whom the request was of; "" where it was refused."""
        self._strict_until: dict[str, float] = {}
        """Client -> until when its ids are counted before they are taken."""

    def check(self, client: str, records: Iterable[Record]) -> None:
        """Checks records of `events` before they are appended. Errors: `Exceeded`."""
        if not self._is_on:
            return
        unknown = dict.fromkeys(
            (it.key, it.partition) for it in records if it.key not in self._remembered
        )
        if not unknown:
            return
        strict = self._clock() < self._strict_until.get(client, float("-inf"))
        try:
            if strict:
                self._take(client, len(unknown))
        except Exceeded:
            # those whom the store knows may pass the next time
            self._note(unknown, "")
            raise
        if strict:
            self._remembered.update(dict.fromkeys(name for name, _ in unknown))
        else:
            self._note(unknown, client)

    def _note(self, people: Iterable[Person], client: str) -> None:
        for person in people:
            if len(self._pending) < MAX_PENDING:
                self._pending.setdefault(person, client)

    def _take(self, client: str, count: int) -> None:
        """Errors: `Exceeded`."""
        try:
            self._leases.take((NEW_PEOPLE, client, count))
        except Exceeded:
            self._strict_until[client] = self._clock() + STRICT_SECONDS
            raise

    async def run(self) -> None:
        while self._is_on:
            await asyncio.sleep(PERIOD_SECONDS)
            await self.look_up()

    async def look_up(self) -> None:
        """Looks up those who wait. Errors: none."""
        pending, self._pending = self._pending, {}
        if not pending:
            return
        keyspace = self._generation.keyspace
        try:
            async with asyncio.timeout(STORE_TIMEOUT_SECONDS):
                async with self._redis.pipeline(transaction=False) as pipe:
                    for name, partition in pending:
                        pipe.exists(keyspace.row(partition, name.decode()))
                    found = await pipe.execute()
        except (RedisError, OSError, TimeoutError):
            return  # they are counted when they come again
        new: dict[str, list[bytes]] = {}
        for ((name, _), client), is_there in zip(pending.items(), found, strict=True):
            if is_there:
                self._remembered[name] = None
            else:
                new.setdefault(client, []).append(name)
        for client, names in new.items():
            self._count(client, names)
        while len(self._remembered) > MAX_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]

    def _count(self, client: str, names: list[bytes]) -> None:
        for name in names:
            if client:  # else it was refused
                with contextlib.suppress(Exceeded):
                    self._take(client, 1)
                self._remembered[name] = None
