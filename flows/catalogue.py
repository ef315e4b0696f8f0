"""`catalogue`: the current items, from which serving fills its catalogue.

items ─ decode ─ dead_letters ─ apply ─ commit
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import msgspec
from bytewax.dataflow import Dataflow

from flows.kit.dead_letters import split
from flows.kit.single_step import run_worker, single_step_flow
from flows.kit.source import Reader
from flows.kit.worker import Worker
from infra.log_reader import Batch
from infra.settings import Settings
from schemas import items
from schemas.dead_letters import DeadLetter
from schemas.items import Item, ItemChange, PatchItem, PutItem
from schemas.state.write import StreamEntry, Write
from schemas.topics import ITEMS

VERSION: Final = 1
MAX_CHANGE_ENTRIES: Final = 100_000
"""Of the stream of changes; a reader further behind loads the whole catalogue again."""

PATCH_OF_UNKNOWN_ITEM: Final = "patch_of_unknown_item"
"""Why a change is not counted: a patch that creates nothing found no item."""

Decoded = tuple[Batch, list[tuple[int, int, ItemChange]]]


class Catalogue(Worker):
    """One process's partitions of `items`."""

    def __init__(
        self, settings: Settings, partitions: Sequence[int] = (), reader: Reader | None = None
    ) -> None:
        super().__init__(settings, "catalogue", ITEMS, VERSION, partitions, reader)

    def apply(self, decoded: Decoded) -> Write:
        """The items that a batch changed, in their state after it."""
        batch, changes = decoded
        p = batch.partition
        fence = self.next_fence(p, batch.next, batch.timestamps)
        write = Write(self.name, p, batch.first, fence, self.keyspace)
        now = self._held(p, [item_id(change) for _, _, change in changes])
        places = {offset: place for place, offset in enumerate(batch.offsets)}
        changed, dropped = set[str](), 0
        for offset, _, change in changes:
            name = item_id(change)
            if now[name] is None and isinstance(change, PatchItem) and not change.creates:
                dropped += 1
                continue
            changed.add(name)
            try:
                now[name] = items.apply(change, now[name])
            except msgspec.ValidationError:
                self.refuse(batch, places[offset], "does_not_fit_item")
        for n, (name, item) in enumerate(now.items(), 1):
            if name not in changed:
                continue
            value = b"" if item is None else msgspec.json.encode(item)
            if item is None:
                write.removed.setdefault(self.keyspace.items(p), []).append(name.encode())
            else:
                write.fields.setdefault(self.keyspace.items(p), {})[name.encode()] = value
            write.entries.append(
                StreamEntry(
                    self.keyspace.item_changes(p),
                    b"%d-%d" % (batch.next, n),
                    {b"i": name.encode(), b"v": value},
                    MAX_CHANGE_ENTRIES,
                )
            )
        if dropped:
            self._count_dropped(write, dropped)
        return write

    def _count_dropped(self, write: Write, n: int) -> None:
        """Adds `n` to the patches that were dropped: the total is committed with the batch, so that a record
        that is read again counts once."""
        key = self.keyspace.item_tallies(write.partition)
        held: Any = self.redis.hget(key, PATCH_OF_UNKNOWN_ITEM)
        write.fields[key] = {PATCH_OF_UNKNOWN_ITEM.encode(): b"%d" % (int(held or 0) + n)}
        write.counts[PATCH_OF_UNKNOWN_ITEM] = n

    def _held(self, partition: int, names: list[str]) -> dict[str, Item | None]:
        names = list(dict.fromkeys(names))
        if not names:
            return {}
        held: list[Any] = self.redis.hmget(self.keyspace.items(partition), names)
        return {
            name: items.decode_item(value) if value else None
            for name, value in zip(names, held, strict=True)
        }


def item_id(change: ItemChange) -> str:
    return change.item.item_id if isinstance(change, PutItem) else change.item_id


def decode(batch: Batch) -> tuple[Decoded, list[DeadLetter]]:
    changes, letters = split(ITEMS.name, batch, lambda values, _: map(items.decode, values))
    return (batch, changes), letters


def dataflow(worker: Catalogue) -> Dataflow:
    return single_step_flow("catalogue", ITEMS.name, worker, decode, worker.apply)


def run(settings: Settings, partitions: Sequence[int] = ()) -> None:
    """Until SIGTERM."""
    run_worker(settings, ITEMS, partial(Catalogue, settings, partitions), dataflow)
