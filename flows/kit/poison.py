"""Pauses a partition after many records in a row that do not decode; the other partitions continue.

The number of such records in a row (the streak) is a function of the log. Each batch stores it in the
transaction of the fence, so a restart continues the count. The partition is paused at the end of the batch
that reaches the limit.
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
"""How often a paused partition checks whether an operator resumed it."""


class Poison:
    """The streaks of one worker's partitions. Errors of the constructor: Redis's."""

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
        self._offsets: dict[int, int] = {}
        self._bad: dict[int, set[tuple[int, int]]] = {}
        """(offset, index) of each record of the current batch that does not decode."""
        self._streak: dict[int, int] = {}
        self._accepted: dict[int, int] = {}
        self.paused = set[int]()
        self._polled_at = 0.0
        self.begin(fences)

    def begin(self, fences: Mapping[int, Fence]) -> None:
        """Reads what is stored of these partitions, which start at their fences. Errors: Redis's."""
        self._offsets |= {p: fence.offset for p, fence in fences.items()}
        self._bad |= {p: set() for p in fences}
        self._streak |= self._stored_streaks(list(fences))
        self._accepted |= self._accepted_offsets(list(fences))
        for p in fences:
            self.paused.discard(p)
            self.pauses(p)

    def forget(self, partition: int) -> None:
        """What the batches since the fence held is no longer so, until `begin`."""
        self.paused.discard(partition)
        self._bad.get(partition, set()).clear()

    def add_undecodable(self, letters: Iterable[DeadLetter]) -> None:
        """Notes the records of the current batch that do not decode."""
        for letter in letters:
            if letter.partition in self._bad:
                self._bad[letter.partition].add((letter.offset, letter.index))

    def count(self, batch: Batch, write: Write) -> None:
        """Adds the streak at the batch's end to `write`, where it changed."""
        p = batch.partition
        bad, accepted = self._bad[p], self._accepted[p]
        streak = 0
        for n in reversed(range(len(batch.offsets)) if bad else ()):
            offset = batch.offsets[n]
            if (offset, batch.index(n)) not in bad or offset < accepted:
                break
            streak += 1
        if streak == len(batch.offsets) and self._offsets[p] > accepted:
            streak += self._streak[p]
        bad.clear()
        self._offsets[p] = batch.next
        if streak != self._streak[p]:
            self._streak[p] = streak
            write.values[self._keyspace.poison(self._flow, p)] = b"%d" % streak

    def pauses(self, partition: int) -> bool:
        """Whether the partition is paused at its fence: it is from then on."""
        if not self._is_paused(partition):
            return False
        self.paused.add(partition)
        self._log_paused(partition)
        return True

    def resumed(self) -> list[int]:
        """Partitions that an operator resumed since the last call. Reads Redis every `POLL_SECONDS`."""
        now = time.monotonic()
        if not self.paused or now - self._polled_at < POLL_SECONDS:
            return []
        self._polled_at = now
        try:
            self._accepted |= self._accepted_offsets(sorted(self.paused))
        except redis.RedisError:
            return []  # they stay paused; a partition that is not paused fails by itself
        resumed = [p for p in sorted(self.paused) if not self._is_paused(p)]
        self.paused -= set(resumed)
        for p in resumed:
            log.info("%s partition %d goes on at %d", self._flow, p, self._offsets[p])
        return resumed

    def _is_paused(self, p: int) -> bool:
        return poison.paused(self._streak[p], self._offsets[p], self._accepted[p], self._limit)

    def _stored_streaks(self, partitions: list[int]) -> dict[int, int]:
        names = [self._keyspace.poison(self._flow, p) for p in partitions]
        held = redis_client.mget(self._redis, names)
        return dict(zip(partitions, map(poison.number, held), strict=True))

    def _accepted_offsets(self, partitions: list[int]) -> dict[int, int]:
        held = redis_client.mget(
            self._redis, [self._keyspace.accepted(self._flow, p) for p in partitions]
        )
        return dict(zip(partitions, map(poison.number, held), strict=True))

    def _log_paused(self, p: int) -> None:
        log.error(
            "%s partition %d is PAUSED at %d: the last %d records of %s could not be decoded. Look at them"
            " (freshet dead-letters list), stop their sender, then resume the partition (freshet dead-letters"
            " resume %s %d)",
            self._flow, p, self._offsets[p], self._streak[p], self._topic, self._topic, p,
        )  # fmt: skip
