"""People not seen for long move to the lake, and back when a record of theirs arrives.

The worker that owns the partition does both, between two batches, under its own fence: no other process
moves what its caches hold. No byte changes and no fold sees a move, so its moment does not matter (as with
a person's vector). An operator requests a sweep, or FRESHET_COLD_DAYS starts one each day of the log.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final

import msgspec

from flows.kit.commit import commit
from infra.lake import cold_objects
from infra.settings import Settings
from infra.store import redis_client
from infra.store.redis_client import Client
from models import seen
from models.features.registry import read_row
from models.outcomes import impressions
from schemas import keys
from schemas.keys import Keyspace
from schemas.state import cold
from schemas.state.cold import SweepRequest
from schemas.state.fences import Fence
from schemas.state.write import Write
from schemas.times import DAY_MS

log = logging.getLogger(__name__)
PEOPLE_PER_STEP: Final = 500
"""People that a sweep checks between two batches."""
POLL_SECONDS: Final = 1.0
MAX_WARM_PEOPLE: Final = 1_000_000


class Tier:
    """The cold tier of one partition. `fence` returns the fence of its fold. The fold's caches hold the last
    stored values, so they stay valid for a person who moved and came back."""

    def __init__(
        self,
        settings: Settings,
        client: Client,
        partition: int,
        keyspace: Keyspace,
        fence: Callable[[], Fence],
    ) -> None:
        self._settings, self._redis = settings, client
        self._partition, self._keyspace = partition, keyspace
        self._fence = fence
        self._held = cold.decode(client.get(keyspace.cold(partition)))
        self._warm: set[str] = set()
        self._swept_day = -1
        self._polled_at = 0.0
        self._steps: Iterator[None] | None = None

    @property
    def holds_any(self) -> bool:
        """Whether anyone of the partition is cold."""
        return self._held.people > 0

    def warm(self, people: Iterable[str]) -> None:
        """Brings those of `people` back who are cold. Call it with the people of a batch before its fold.

        Errors: `infra.lake.cold_objects.ColdTorn`, `LakeError`, and those of a commit.
        """
        if not self._held.people:
            return
        if len(self._warm) > MAX_WARM_PEOPLE:
            self._warm.clear()
        asked = [person for person in dict.fromkeys(people) if person not in self._warm]
        found = self._tombstones(asked)
        if found:
            self._bring_back(found)
        self._warm.update(asked)

    def _tombstones(self, people: list[str]) -> dict[str, bytes]:
        """Person -> name of the lake's object, for those who are cold."""
        if not people:
            return {}
        held = redis_client.mget(self._redis, [self._key(person) for person in people])
        return {person: name for person, name in zip(people, held, strict=True) if name}

    def _bring_back(self, found: dict[str, bytes]) -> None:
        values: dict[bytes, bytes] = {}
        for name in set(found.values()):
            members = [person for person, place in found.items() if place == name]
            for person, records in cold_objects.get(self._settings, name.decode(), members).items():
                names = dict(
                    zip(
                        keys.COLD_KINDS,
                        self._keyspace.cold_keys(self._partition, person),
                        strict=True,
                    )
                )
                values.update({names[kind]: value for kind, value in records.items()})
        existing = [
            key
            for key, held in zip(values, redis_client.mget(self._redis, list(values)), strict=True)
            if held
        ]
        if existing:
            # the partition was rebuilt while tombstones existed: the stored records are newer
            log.warning("%d keys are not cold, although tombstones name them", len(existing))
            whole = {Keyspace.person_of(key) for key in existing}
            values = {k: v for k, v in values.items() if Keyspace.person_of(k) not in whole}
        self._held.people -= len(found)
        self._move(values, [self._key(person) for person in found])

    def step(self) -> None:
        """Does one step of a sweep, where one is due. Call it between two batches."""
        if self._steps is None:
            request = self._request()
            if request is None:
                return
            self._steps = self._sweep(request)
        try:
            next(self._steps)
        except StopIteration:
            self._steps = None

    def _request(self) -> SweepRequest | None:
        now = time.monotonic()
        if now - self._polled_at < POLL_SECONDS:
            return None
        self._polled_at = now
        request = cold.decode_request(self._redis.get(self._keyspace.cold_asked(self._partition)))
        if request is not None and request.id != self._held.done:
            return request
        newest, days = self._fence().newest, self._settings.cold_days
        if not days or newest // DAY_MS <= self._swept_day:
            return None
        self._swept_day = newest // DAY_MS
        return SweepRequest(self._held.done, newest - int(days * DAY_MS))

    def _sweep(self, request: SweepRequest) -> Iterator[None]:
        """Moves people not seen since `request.before`, some at a time; then drops unneeded objects."""
        from infra.lake.errors import LakeError

        moved = 0
        try:
            for kind in (keys.ROW, keys.IMPRESSIONS):
                names = self._scan(kind)
                while people := [Keyspace.person_of(it) for it in islice(names, PEOPLE_PER_STEP)]:
                    moved += self._evict(list(dict.fromkeys(people)), request.before)
                    yield
            named = set()
            names = self._scan(keys.TOMBSTONE)
            while tombstones := list(islice(names, PEOPLE_PER_STEP)):
                named |= {it.decode() for it in redis_client.mget(self._redis, tombstones) if it}
                yield
            yield from self._drop(named)
        except LakeError as error:
            log.error("the sweep of partition %d ended early: %s", self._partition, error)
            self._polled_at = time.monotonic() + 60 * POLL_SECONDS
            return
        self._held.done, self._held.moved = request.id, moved
        self._move({}, [])
        log.info("partition %d: %d people are cold now", self._partition, moved)

    def _drop(self, named: set[str]) -> Iterator[None]:
        """Drops objects that no tombstone names. A scan misses keys that move between nodes of a cluster, so
        the tombstones of the people of each object are read once more."""
        where = (self._settings, self._partition, self._keyspace.generation)
        for name in cold_objects.orphans(*where, named, time.time()):
            people = cold_objects.people(self._settings, name)
            if name.encode() not in self._tombstones(people).values():
                cold_objects.delete(self._settings, name)
            yield

    def _scan(self, kind: bytes) -> Iterator[bytes]:
        pattern = self._keyspace.people_pattern(kind, self._partition)
        for server in redis_client.servers(self._redis):
            yield from server.scan_iter(match=pattern, count=1000)

    def _evict(self, people: list[str], before: int) -> int:
        """Moves those of `people` not seen since `before`, ms; returns how many. The object is written first,
        then tombstones replace the keys."""
        width = len(keys.COLD_KINDS)
        names = [
            name for person in people for name in self._keyspace.cold_keys(self._partition, person)
        ]
        held = redis_client.mget(self._redis, names)
        gone, deleted = {}, []
        for n, person in enumerate(people):
            at = slice(n * width, (n + 1) * width)
            records = {
                p: v for p, v in zip(keys.COLD_KINDS, held[at], strict=True) if v is not None
            }
            if 0 < last_seen(records) < before:
                if hides_any(records.get(keys.SEEN)):
                    del records[keys.SEEN]  # a read needs it at once
                gone[person] = records
                kinds = zip(names[at], keys.COLD_KINDS, strict=True)
                deleted += [name for name, kind in kinds if kind in records]
        if not gone:
            return 0
        where = (self._settings, self._partition, self._keyspace.generation)
        name = cold_objects.put(*where, self._fence().offset, gone).encode()
        self._held.people += len(gone)
        self._move({self._key(person): name for person in gone}, deleted)
        self._warm.clear()
        return len(gone)

    def _move(self, values: dict[bytes, bytes], deleted: list[bytes]) -> None:
        """One transaction, which fails where another worker moved the fence."""
        fence = self._fence()
        count = {self._keyspace.cold(self._partition): cold.encode(self._held)}
        write = Write("people", self._partition, fence.offset, fence, self._keyspace)
        write.after = msgspec.structs.replace(fence)
        write.values, write.deleted = {**values, **count}, deleted
        commit(self._redis, write)

    def _key(self, person: str) -> bytes:
        return self._keyspace.tombstone(self._partition, person)


def hides_any(stored: bytes | None) -> bool:
    """Whether the string of seen items says that one is hidden."""
    return bool((seen.read(stored)["bits"] & seen.HIDE).any())


def last_seen(records: cold_objects.Records) -> int:
    """When a person last acted or was last shown an item, ms; 0 where neither is stored."""
    row, shown = records.get(keys.ROW), impressions.read(records.get(keys.IMPRESSIONS))
    acted = int(read_row(row)["newest"]) if row else 0
    return max(acted, 1000 * int(shown["last"].max()) if len(shown) else 0)
