"""A partition in which nothing comes but what no fold can take is paused, and its siblings go on.

The count of such records in a row is a function of the log: it is stored with the fence, in the
transaction of each batch, so a restart goes on counting. The partition is paused at the end of the batch
in which the limit is reached.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from typing import Final

import redis

from infra.log_reader import Batch
from infra.store import redis_client
from infra.store.redis_client import Client
from schemas.dead_letters import DeadLetter
from schemas.keys import Keyspace
from schemas.state import poison
from schemas.state.fences import Fence
from schemas.state.write import Write

log = logging.getLogger(__name__)
POLL_SECONDS: Final = 0.5
"""How long after an operator's word a paused partition goes on."""


class Poison:
    """The counts of one worker's partitions. Errors of the constructor: Redis's own."""

    def __init__(
        self,
        client: Client,
        flow: str,
        topic: str,
        fences: Mapping[int, Fence],
        limit: int,
        keyspace: Keyspace,
    ) -> None:
        self._redis, self._flow, self._topic, self._limit = client, flow, topic, limit
        self._keyspace = keyspace
        self._stands = {p: fence.offset for p, fence in fences.items()}
        self._bad: dict[int, set[int]] = {p: set() for p in fences}
        self._row, self._accepted = self._stored(), self._marks(list(fences))
        self._looked = 0.0
        self.paused = {p for p in fences if self._is_paused(p)}
        for p in self.paused:
            self._tell(p)

    def saw(self, letters: Iterable[DeadLetter]) -> None:
        """Of a batch under way, what does not decode."""
        for letter in letters:
            self._bad[letter.partition].add(letter.offset)

    def count(self, batch: Batch, write: Write) -> None:
        """Adds to `write` how many came in a row at the batch's end, where that changes."""
        p = batch.partition
        bad, least = self._bad[p], self._accepted[p]
        row = 0
        for offset in reversed(batch.offsets):
            if offset not in bad or offset < least:
                break
            row += 1
        if row == len(batch.offsets) and self._stands[p] > least:
            row += self._row[p]
        bad.clear()
        self._stands[p] = batch.next
        if row != self._row[p]:
            self._row[p] = row
            write.values[self._keyspace.poison(self._flow, p)] = b"%d" % row

    def pauses(self, partition: int) -> bool:
        """Whether the partition, whose batch is committed, goes no further."""
        if not self._is_paused(partition):
            return False
        self.paused.add(partition)
        self._tell(partition)
        return True

    def resumed(self) -> list[int]:
        """Partitions that an operator let go on since. Asks the store now and then."""
        now = time.monotonic()
        if not self.paused or now - self._looked < POLL_SECONDS:
            return []
        self._looked = now
        try:
            self._accepted |= self._marks(sorted(self.paused))
        except redis.RedisError:
            return []  # they stay paused, and what is not paused will say so itself
        goes_on = [p for p in sorted(self.paused) if not self._is_paused(p)]
        self.paused -= set(goes_on)
        for p in goes_on:
            log.info("%s partition %d goes on at %d", self._flow, p, self._stands[p])
        return goes_on

    def _is_paused(self, p: int) -> bool:
        return poison.paused(self._row[p], self._stands[p], self._accepted[p], self._limit)

    def _stored(self) -> dict[int, int]:
        names = [self._keyspace.poison(self._flow, p) for p in self._stands]
        held = redis_client.mget(self._redis, names)
        return dict(zip(self._stands, map(poison.number, held), strict=True))

    def _marks(self, partitions: list[int]) -> dict[int, int]:
        held = redis_client.mget(
            self._redis, [self._keyspace.accepted(self._flow, p) for p in partitions]
        )
        return dict(zip(partitions, map(poison.number, held), strict=True))

    def _tell(self, p: int) -> None:
        log.error(
            "%s partition %d is PAUSED at %d: the last %d records of %s could not be decoded. Look at them"
            " (freshet dead-letters list), stop who sends them, then let it go on (freshet dead-letters"
            " resume %s %d)",
            self._flow, p, self._stands[p], self._row[p], self._topic, self._topic, p,
        )  # fmt: skip
