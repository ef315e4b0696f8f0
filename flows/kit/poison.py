"""Pauses a partition after many records in a row that do not decode; the other partitions continue.

The number of such records in a row (the streak) is a function of the log. Each batch stores it in the
transaction of the fence, so a restart continues the count. The partition is paused at the end of the batch
that reaches the limit.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

import redis

from infra.log_reader import Batch
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
    """The streaks of one worker's partitions, of none before it begins."""

    def __init__(
        self, client: Client, flow: str, topic: str, limit: int, keyspace: Keyspace
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

    def begin(self, partition: int, fence: Fence) -> None:
        """Reads what is stored of a partition, which starts at its fence. Errors: ValueError where that
        cannot be read, Redis's."""
        self._offsets[partition], self._bad[partition] = fence.offset, set()
        self._streak[partition] = self._number(self._keyspace.poison(self._flow, partition))
        self._accepted[partition] = self._accepted_offset(partition)
        self.paused.discard(partition)
        self.pauses(partition)

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
        for p in sorted(self.paused):
            # what cannot be read leaves it paused; a partition that is not paused fails by itself
            with suppress(redis.RedisError, ValueError):
                self._accepted[p] = self._accepted_offset(p)
        resumed = [p for p in sorted(self.paused) if not self._is_paused(p)]
        self.paused -= set(resumed)
        for p in resumed:
            log.info("%s partition %d goes on at %d", self._flow, p, self._offsets[p])
        return resumed

    def _is_paused(self, p: int) -> bool:
        return poison.paused(self._streak[p], self._offsets[p], self._accepted[p], self._limit)

    def _accepted_offset(self, partition: int) -> int:
        return self._number(self._keyspace.accepted(self._flow, partition))

    def _number(self, key: bytes) -> int:
        try:
            return poison.number(self._redis.get(key))
        except ValueError:
            raise ValueError(f"{key.decode()} in Redis is no number") from None

    def _log_paused(self, p: int) -> None:
        log.error(
            "%s partition %d is PAUSED at %d: the last %d records of %s could not be decoded. Look at them"
            " (freshet dead-letters list), stop their sender, then resume the partition (freshet dead-letters"
            " resume %s %d)",
            self._flow, p, self._offsets[p], self._streak[p], self._topic, self._topic, p,
        )  # fmt: skip
