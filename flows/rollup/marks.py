"""Marks of items that were put after events on them, sent to the partitions where facts wait for them.

A mark (`schemas.events.Listed`) is a record of `events`, so what a partition keeps is a function of its own
log. It changes nothing where the partition has the item already: one too many does no harm.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from flows.rollup.readouts import Sender
from infra.settings import Settings
from infra.store.redis_client import Client
from models.aggregates.tables import Tables
from models.arrays import U64
from schemas import events
from schemas.events import Listed
from schemas.identity import item_hash
from schemas.topics import EVENTS

RESEND_SECONDS: Final = 10.0
"""A mark that its partition has not folded by then is sent again."""
RECENT_SECONDS: Final = 600.0
"""An edge that lags less than this behind the catalogue needs no other reason for a mark."""
MAX_RECENT: Final = 200_000
"""Ids put lately that are remembered."""
MAX_ENTRIES: Final = 5000
"""Of each stream of changes, in one step."""
IDS_PER_RECORD: Final = 2000
StreamId = tuple[int, int]


class Marks:
    """Follows the catalogue's changes, and sends the marks that are due. `clock`: monotonic, s."""

    def __init__(
        self, settings: Settings, client: Client, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.sender = Sender(settings, EVENTS)
        self._redis, self._clock, self._keys = client, clock, settings.keyspace
        self._positions: list[StreamId] | None = None
        self._due: list[dict[int, float]] = [{} for _ in range(settings.partitions)]
        """By partition: id that waits and has a reason -> when its mark was sent last."""
        self._looked: dict[tuple[int, int], int] = {}
        """(partition, day) -> how many of its ids were looked at."""
        self._recent: deque[tuple[float, U64]] = deque()

    def step(self, tables: Tables) -> int:
        """Reads what was put, and sends marks. Returns how many ids. Errors: Redis's."""
        put = self._read(tables)
        if len(put):
            self._recent.append((self._clock(), put))
        self._forget()
        sent = 0
        for partition in range(len(self._due)):
            self._find(tables, partition, put)
            sent += self._send(partition)
        if not any(self._due):
            # a mark that is due is found again after a restart
            tables.catalogue_positions = list(self._positions or [])
        return sent

    def places(self) -> dict[bytes, bytes]:
        """Stream of the catalogue's changes -> id of the last entry read."""
        positions = enumerate(self._positions or [])
        return {self._keys.item_changes(p): b"%d-%d" % position for p, position in positions}

    def close(self, seconds: float = 1.0) -> None:
        self.sender.close(seconds)

    # -- the catalogue ----------------------------------------------------------------------------

    def _read(self, tables: Tables) -> U64:
        """The ids put since the last step; at the first one also some that were put before."""
        first = self._positions is None
        at = self._positions = list(tables.catalogue_positions) if first else self._positions or []
        found: list[U64] = []
        with self._redis.pipeline(transaction=False) as pipe:
            for partition, (ms, n) in enumerate(at):
                stream = self._keys.item_changes(partition)
                pipe.xread({stream: f"{ms}-{n}"}, count=MAX_ENTRIES)
                pipe.xrange(stream, count=1)
                pipe.xrevrange(stream, count=1000 if first else 1)
            replies = pipe.execute()
        for partition, position in enumerate(at):
            new, oldest, newest = replies[3 * partition : 3 * partition + 3]
            entries = list(new[0][1]) if new else []
            end = _id(newest[0][0]) if newest else (0, 0)
            if end < position or (oldest and _id(oldest[0][0]) > position != end):
                found.append(self._whole(partition))
                at[partition] = end
            elif entries:
                found.append(_put(entries))
                at[partition] = _id(entries[-1][0])
            if first:
                found.append(_put(newest))
        return np.unique(np.concatenate([np.empty(0, np.uint64), *found]))

    def _whole(self, partition: int) -> U64:
        """The ids of all items of a partition: the stream does not reach back to our position."""
        names = self._redis.hscan_iter(self._keys.items(partition), count=2000)
        return np.array([item_hash(name.decode()) for name, _ in names], np.uint64)

    def _forget(self) -> None:
        held = sum(len(ids) for _, ids in self._recent)
        while self._recent and (
            held > MAX_RECENT or self._clock() - self._recent[0][0] > RECENT_SECONDS
        ):
            held -= len(self._recent.popleft()[1])

    # -- the marks --------------------------------------------------------------------------------

    def _find(self, tables: Tables, partition: int, put: U64) -> None:
        """Notes the ids that wait in the partition and are put or known elsewhere; forgets those that wait no
        longer."""
        waiting, due = tables.waiting, self._due[partition]
        new = self._new(tables, partition)
        if len(new):
            lately = np.isin(new, np.concatenate([new[:0], *(ids for _, ids in self._recent)]))
            new = new[lately | (tables.items.find(new) >= 0)]
        if not (len(put) or len(new) or due):
            return
        ids = np.unique(np.concatenate([put, new, np.array([*due], np.uint64)]))
        waits = ids[waiting.holding(partition, ids)].tolist()
        self._due[partition] = {id_: due.get(id_, float("-inf")) for id_ in waits}

    def _new(self, tables: Tables, partition: int) -> U64:
        """The ids that began to wait since the last step."""
        new = [np.empty(0, np.uint64)]
        days = tables.waiting.days[partition]
        for key in [key for key in self._looked if key[0] == partition and key[1] not in days]:
            del self._looked[key]
        for day, held in days.items():
            new.append(held.ids[self._looked.get((partition, day), 0) :])
            self._looked[partition, day] = len(held.ids)
        return np.concatenate(new)

    def _send(self, partition: int) -> int:
        now, due = self._clock(), self._due[partition]
        ids = [id_ for id_, at in due.items() if now - at >= RESEND_SECONDS]
        received = time.time_ns() // 1_000_000
        for n in range(0, len(ids), IDS_PER_RECORD):
            some = tuple(ids[n : n + IDS_PER_RECORD])
            record = events.encode(Listed(items=some, received_at=received))
            self.sender.offer(b"%d:%d" % (partition, n), record, key=b"", partition=partition)
        due.update(dict.fromkeys(ids, now))
        return len(ids)


def _put(entries: Any) -> U64:
    """The ids of the items that these changes put."""
    names = [fields[b"i"] for _, fields in entries if fields[b"v"]]
    return np.array([item_hash(name.decode()) for name in names], np.uint64)


def _id(name: bytes) -> StreamId:
    ms, _, n = name.partition(b"-")
    return int(ms), int(n)
