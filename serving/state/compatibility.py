"""Whether this code can read the stored state of people: checked in the background.

A worker whose version differs from that of the flow that wrote the state would answer every person without
it. The worker detects this from a sample of rows, as it starts and after each swap of generations, and from
the reads that it serves.
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
from serving.state.people import blobs_of, stored_keys

log = logging.getLogger("freshet.serving")

POLL_SECONDS: Final = 1.0
MAX_SAMPLE_ROWS: Final = 32
"""Rows of one check."""
KEYS_PER_SCAN: Final = 1000
"""COUNT of each SCAN."""
MAX_SCAN_SECONDS: Final = 0.5
"""A scan ends here, and the sample is what it found."""
FOREIGN_VERSION: Final = "foreign_version"


class Suspect(NamedTuple):
    """A person whose state could not be read at the last attempt."""

    person: Pseudonym
    partition: int


class Compatibility(Background):
    """`fault`: what is wrong now, None where nothing is. `fails`: no row of the sample can be read. Then this
    instance has no state to answer from, and an instance of another version may have it."""

    name = "people"

    def __init__(
        self, settings: Settings, redis: Redis, generation: Generation, metrics: Metrics
    ) -> None:
        self._redis, self._generation, self._metrics = redis, generation, metrics
        self._partitions = range(settings.partitions)
        self._suspect: Suspect | None = None
        self._sampled_generation = -1
        """The generation that was checked last."""
        self._logged: set[str] = set()
        self._wake = asyncio.Event()
        self.fault: Fault | None = None
        self.fails = False

    @property
    def loaded(self) -> bool:
        """A generation was checked."""
        return self._sampled_generation >= 0

    @property
    def ready(self) -> bool:
        return self.loaded and self.fault is None

    def report_unreadable(self, person: Pseudonym, partition: int, error: Unreadable) -> None:
        """Records that a read could not decode the state of `person`."""
        self._metrics.add("freshet_people_unreadable_total", what=error.what)
        self._log_once(error)
        self._suspect = Suspect(person, partition)
        if self.fault is None:  # the worst case, until a sample says how many people it concerns
            self._set_fault(error, fails=error.what == "row")
        self._wake.set()

    async def run(self) -> None:
        while True:
            if self.fault is not None or self._sampled_generation != self._generation.live:
                # while the store is away the last finding holds
                with contextlib.suppress(RedisError, OSError):
                    await self._check()
            if self.fault is not None:
                await asyncio.sleep(
                    POLL_SECONDS
                )  # failing reads cause no more than one check a period
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._wake.wait()
            self._wake.clear()

    async def _check(self) -> None:
        keyspace = self._generation.keyspace
        suspect_error = await self._check_suspect(keyspace)
        rows = await self._sample(keyspace)
        foreign = [error for error in map(_error, rows) if error is not None]
        self._sampled_generation = keyspace.generation
        if foreign:
            self._log_once(foreign[0])
            self._set_fault(foreign[0], fails=len(foreign) == len(rows))
        elif suspect_error is not None:
            self._set_fault(suspect_error, fails=suspect_error.what == "row" and not rows)
        elif self.fault is not None:
            self.fault, self.fails = None, False
            self._logged.clear()
            log.warning("the stored state of people can be read again")

    async def _check_suspect(self, keyspace: Keyspace) -> Unreadable | None:
        """The error of the person whose read failed last, None where their state can be read now. Errors:
        RedisError, OSError."""
        if self._suspect is not None:
            keys = stored_keys(*self._suspect, keyspace)
            try:
                decode(blobs_of(keys, await redis_client.mget_async(self._redis, keys)))
            except Unreadable as error:
                return error
            self._suspect = None
        return None

    async def _sample(self, keyspace: Keyspace) -> list[bytes]:
        """At most `MAX_SAMPLE_ROWS` rows of this generation, those found within `MAX_SCAN_SECONDS`.
        Errors: RedisError, OSError."""
        prefixes = tuple(keyspace.row(p, "") for p in self._partitions)
        keys: list[bytes] = []
        matches: Any = self._redis.scan_iter(match=keyspace.rows_pattern(), count=KEYS_PER_SCAN)
        with contextlib.suppress(TimeoutError, ResponseError):  # some stores forbid SCAN
            async with asyncio.timeout(MAX_SCAN_SECONDS), contextlib.aclosing(matches):
                async for key in matches:
                    if key.startswith(prefixes):
                        keys.append(key)
                    if len(keys) == MAX_SAMPLE_ROWS:
                        break
        rows = await redis_client.mget_async(self._redis, keys) if keys else []
        return [row for row in rows if row is not None]

    def _set_fault(self, error: Unreadable, *, fails: bool) -> None:
        code = FOREIGN_VERSION if error.what == "row" else "unreadable"
        self.fault, self.fails = Fault(self.name, code, f"{error}."), fails

    def _log_once(self, error: Unreadable) -> None:
        """Logs each kind of error once until all state can be read again."""
        if error.what not in self._logged:
            self._logged.add(error.what)
            log.error("reads are answered without the stored state of people: %s", error)


def _error(row: bytes) -> Unreadable | None:
    try:
        read_row(row)
    except ForeignRow as error:
        return Unreadable("row", str(error))
    return None
