"""The roll-up's tables, and their copies in Redis: loaded, updated, published, stored."""

from __future__ import annotations

import ctypes
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain
from typing import Any, Final

import redis

from flows.kit.commit import WritesLost
from flows.rollup.counting import LiveCounting
from infra import heartbeat
from infra.settings import Settings
from infra.store import redis_client
from infra.store.redis_client import Client
from models.aggregates.tables import Hole, Tables
from models.aggregates.waiting import Limits
from schemas.alphabet import Millis
from schemas.errors import FreshetError
from schemas.state import facts, fences, tables
from schemas.state.counting import Counting

CHUNK_BYTES: Final = 1 << 20
"""Of one key of the base: Redis writes it in about a millisecond, and serves others in between."""
MAX_ENTRIES_PER_LOG: Final = 200
"""Of each delta log, in one read."""
CHANGES_KEPT_SECONDS: Final = 120.0
"""Length of the stream of changes; a reader further behind loads all tables. An entry has 8 B for a row."""


class Overtaken(FreshetError):
    """Another roll-up stored or published since this one last did."""


class Rollup:
    """One process's tables. Every write checks that this process made the write before it."""

    def __init__(self, client: Client, settings: Settings, generation: int = 0) -> None:
        self._redis, self._settings = client, settings
        self._keyspace = settings.keyspace.in_generation(generation)
        self._keys = self._keyspace.tables()
        self.tables, self._base = self._load()
        meta = client.get(self._keys.meta)
        self._meta = meta
        self._published = tables.META_DECODER.decode(meta) if meta else None
        self.version = self._published.version if self._published else 0
        self._live = LiveCounting(settings, client)
        self._keep = max(2, math.ceil(CHANGES_KEPT_SECONDS / settings.rollup_seconds))
        self.as_of: Millis = 0
        """When the tables last held all that the delta logs did."""

    def _load(self) -> tuple[Tables, bytes | None]:
        head = self._redis.get(self._keys.base)
        if head is None:
            return Tables(self._settings.partitions, limits(self._settings)), None
        chunks = self._redis.mget(self._keys.base_chunks(head))
        if not all(chunks):
            raise Hole(
                "the stored tables lack a chunk: drop the state and rebuild (freshet rebuild)"
            )
        self._sweep(head)
        return Tables.load(b"".join(chunks)), head

    def _sweep(self, head: bytes) -> None:
        """Drops the chunks of a roll-up that was killed while it stored."""
        mine = {self._keys.base, *self._keys.base_chunks(head)}
        for key in self._redis.scan_iter(match=self._keys.base + b"*", count=1000):
            if key not in mine:
                self._redis.unlink(key)

    def read(self) -> int:
        """Applies the entries of the delta logs beyond the positions. Returns how many.

        Errors: `Hole`.
        """
        heartbeat.beat()
        applied, looked = 0, _now()
        for p, reply in enumerate(self._read_logs()):
            values = [fields[facts.FIELD] for _, fields in _entries(reply)]
            self.tables.apply_stored(p, values)
            applied += len(values)
        if applied < MAX_ENTRIES_PER_LOG:
            self.as_of = looked
        return applied

    def _read_logs(self) -> list[Any]:
        """By partition, the reply of XREAD of its delta log."""
        with self._redis.pipeline(transaction=False) as pipe:
            for log, position in self.places().items():
                pipe.xread({log: position}, count=MAX_ENTRIES_PER_LOG)
            replies: list[Any] = pipe.execute()
        return replies

    def places(self) -> dict[bytes, bytes]:
        """Delta log -> the last id read."""
        positions = enumerate(self.tables.positions)
        return {self._keyspace.deltas(p): b"%d-0" % position for p, position in positions}

    def catch_up(self, seconds: float) -> None:
        """Reads until no entry remains, or for about `seconds`."""
        until = time.monotonic() + seconds
        while self.read() >= MAX_ENTRIES_PER_LOG and time.monotonic() < until:
            pass

    def publish(self) -> bool:
        """Publishes the changes as the next version, lists of neighbours under the counting of the release
        that serves; False where nothing changed, or the positions are behind the last version.

        Errors: `WritesLost`, `Overtaken`.
        """
        if self._behind():
            return False
        counting = self._live.read()
        if not (self.tables.changed or self._lists_others(counting) or self._moved()):
            return False
        published = self.tables.publish(self.version + 1, counting)
        published.meta.published_at = _now()
        meta = tables.ENCODER.encode(published.meta)
        with self._redis.pipeline(transaction=True) as pipe:
            self._guard(pipe, self._keys.meta, self._meta)
            changed = tables.Changed.of(published)
            for name, keys in zip(tables.HASHES, changed.keys(), strict=True):
                if keys:
                    rows = getattr(published, name).values()
                    pairs = chain.from_iterable(zip(keys, rows, strict=True))
                    pipe.execute_command("HSET", getattr(self._keys, name), *pairs)
            pipe.set(self._keys.meta, meta)
            pipe.xadd(
                self._keys.changes,
                {tables.FIELD: tables.ENCODER.encode(changed)},
                id=b"%d-0" % published.meta.version,
                maxlen=self._keep,
                approximate=True,
            )
            self._execute(pipe)
        self.version, self._meta, self._published = published.meta.version, meta, published.meta
        return True

    @property
    def published(self) -> tables.Meta | None:
        """The last published version, where the tables are at its positions; else None."""
        return None if self._moved() else self._published

    def behind(self) -> dict[int, int]:
        """By partition: records that `people` has committed and the tables lack."""
        stored = redis_client.mget(
            self._redis, [self._keyspace.fence("people", p) for p in self._partitions]
        )
        return {
            p: max(0, fences.decode(held).offset - self.tables.positions[p]) if held else 0
            for p, held in zip(self._partitions, stored, strict=True)
        }

    def rows(self) -> dict[str, int]:
        """By table, how many rows it has."""
        held = self.tables
        return {
            "items": len(held.items),
            "pairs": len(held.pairs),
            "arms": len(held.arms),
            "experiments": len(held.moments),
            "waiting_items": held.waiting.ids,
            "waiting_pairs": held.waiting.pairs,
        }

    @property
    def _partitions(self) -> range:
        return range(len(self.tables.positions))

    def _behind(self) -> bool:
        """Whether the base is older than the published version, as after a crash: catch up first."""
        last = self._published
        return last is not None and any(
            mine < theirs
            for mine, theirs in zip(self.tables.positions, last.positions, strict=True)
        )

    def _lists_others(self, counting: Counting) -> bool:
        """Whether a list may have been published under another counting."""
        last = self._published
        return last is not None and last.countings != [counting.pairs]

    def _moved(self) -> bool:
        return self._published is None or self._published.positions != self.tables.positions

    def store(self) -> None:
        """Stores tables and positions together, then trims the delta logs up to them.

        Errors: `WritesLost`, `Overtaken`.
        """
        data = self.tables.dump()
        head = b"%d:%d" % (time.time_ns(), -(-len(data) // CHUNK_BYTES))
        # the chunks have new names, which no reader knows yet
        for n, key in enumerate(self._keys.base_chunks(head)):
            self._redis.set(key, data[n * CHUNK_BYTES : (n + 1) * CHUNK_BYTES])
        with self._redis.pipeline(transaction=True) as pipe:
            self._guard(pipe, self._keys.base, self._base, self._keys.base_chunks(head))
            pipe.set(self._keys.base, head)
            self._execute(pipe)
        if self._base is not None:
            self._redis.unlink(*self._keys.base_chunks(self._base))
        self._base = head
        for p, position in enumerate(self.tables.positions):
            self._redis.xtrim(self._keyspace.deltas(p), minid=f"{position}-0", approximate=False)
        del data
        _return_memory()

    def _guard(
        self, pipe: Any, key: bytes, expected: bytes | None, chunks: Sequence[bytes] = ()
    ) -> None:
        """Starts the transaction, unless `key` is not as `expected` or another process deleted `chunks`.

        Errors: `WritesLost`, `Overtaken`.
        """
        pipe.watch(key, *chunks)
        held = pipe.get(key)
        if self._written(key, held) < self._written(key, expected):
            raise WritesLost("Redis has not kept what the roll-up wrote last")
        if held != expected or (chunks and pipe.exists(*chunks) != len(chunks)):
            raise Overtaken("another roll-up is at work")
        pipe.multi()

    def _written(self, key: bytes, held: bytes | None) -> int:
        """An order of the values of the base's head, or of the meta: a later value has a larger number."""
        if held is None:
            return 0
        if key == self._keys.base:
            return int(held.partition(b":")[0])
        return tables.META_DECODER.decode(held).version

    def _execute(self, pipe: Any) -> None:
        try:
            pipe.execute()
        except redis.WatchError as error:
            if redis_client.is_away(error):
                raise
            raise Overtaken("another roll-up is at work") from None


def limits(settings: Settings) -> Limits:
    """Of what waits, where tables begin; tables that are loaded go on with their own."""
    return Limits(settings.unknown_live, settings.unknown_imported, settings.unknown_days)


def _return_memory() -> None:
    """Gives free memory back to the system, where the C library can: it keeps what the copy of the tables
    took, some three times their size, for a copy that comes a minute later."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def _entries(reply: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:
    return list(reply[0][1]) if reply else []


def _now() -> Millis:
    return time.time_ns() // 1_000_000
