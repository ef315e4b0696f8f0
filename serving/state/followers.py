"""The states that serving keeps in process: catalogue, tables and control."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

import msgspec
from redis.asyncio import Redis

from models.release import content
from schemas import items
from schemas.identity import partition_of
from schemas.items import Item
from schemas.keys import Keyspace
from schemas.state import tables
from serving.state.follow import (
    MAX_ENTRIES_PER_READ,
    Follower,
    Gap,
    StreamEntry,
    last_id,
    parsed,
)
from serving.state.generation import Generation
from serving.world.index import ContentIndex
from serving.world.neighbours import Lists
from serving.world.placements import Control
from serving.world.tables import Located, Tables

CATALOGUE_POLL_SECONDS: Final = 0.02
ITEMS_PER_YIELD: Final = 200
"""Items put before the event loop runs other tasks."""
BYTES_PER_YIELD: Final = 256 << 10
"""Of stored items that are decoded together."""
INDEXED_PER_YIELD: Final = 50
"""Items whose places in the index change before the event loop runs other tasks."""
Prepared = tuple[Item, content.Vector] | None
"""An item and its content vector; None where it is gone."""


# HGETALL by its name: redis-py's transaction on a cluster passes the method's own arguments to its parser

log = logging.getLogger("freshet.serving")


class CatalogueFollower(Follower):
    """The table of items, and the index over it."""

    name = "catalogue"

    def __init__(
        self, redis: Redis, keyspace: Keyspace, index: ContentIndex, partitions: int
    ) -> None:
        super().__init__(redis)
        self._keyspace = keyspace
        self.table, self.index = index.items, index
        self._streams = {keyspace.item_changes(p): p for p in range(partitions)}

    async def load(self) -> None:
        for stream, p in self._streams.items():
            async with self.redis.pipeline(transaction=True) as pipe:
                pipe.execute_command("HGETALL", self._keyspace.items(p))
                pipe.xrevrange(stream, count=1)
                values, last_entry = await pipe.execute()
            if (
                values or last_entry
            ):  # an emptied store: the items in process serve until it is filled
                await self._replace(values, p)
            self.last_ids[stream] = last_id(last_entry)
            self.table.positions[p] = self.last_ids[stream][0]
        await self._refresh_index()

    async def _replace(self, stored: dict[bytes, bytes], partition: int) -> None:
        async for group in prepared(stored.items()):
            self._take(group)
        partitions = len(self._streams)
        for name in self.table.item_ids():
            key = name.encode()
            if key not in stored and partition_of(key, partitions) == partition:
                self.table.drop(name)

    async def apply(self, stream: bytes, entries: list[StreamEntry]) -> None:
        async for group in prepared((fields[b"i"], fields[b"v"]) for _, fields in entries):
            self._take(group)
        self.table.positions[self._streams[stream]] = entries[-1][0][0]
        await self._refresh_index()

    async def _refresh_index(self) -> None:
        while not self.index.refresh(INDEXED_PER_YIELD):
            await asyncio.sleep(0)

    def _take(self, group: dict[bytes, Prepared]) -> None:
        for name, item in group.items():
            if item is None:
                self.table.drop(name.decode())
            else:
                self.table.put(*item)


class TablesFollower(Follower):
    """The tables that the roll-up publishes, version after version."""

    name = "tables"

    def __init__(
        self,
        redis: Redis,
        serving_tables: Tables,
        generation: Generation,
        catalogue: CatalogueFollower | None = None,
    ) -> None:
        """`catalogue`: is loaded first, so that few rows wait for their items."""
        super().__init__(redis)
        self._catalogue = catalogue
        self.tables, self._generation = serving_tables, generation
        self._keys, self._loaded_generation = generation.keyspace.tables(), 0

    async def load(self) -> None:
        while self._catalogue is not None and not self._catalogue.loaded:
            await asyncio.sleep(CATALOGUE_POLL_SECONDS)
        keyspace = self._generation.keyspace
        self._keys, self._loaded_generation = keyspace.tables(), keyspace.generation
        async with self.redis.pipeline(transaction=True) as pipe:
            pipe.get(self._keys.meta)
            pipe.execute_command("HGETALL", self._keys.neighbours)
            pipe.execute_command("HGETALL", self._keys.popularity)
            pipe.execute_command("HGETALL", self._keys.arms)
            pipe.execute_command("HGETALL", self._keys.experiments)
            meta, neighbours, popularity, arms, experiments = await pipe.execute()
        version = 0
        if meta:
            published = tables.META_DECODER.decode(meta)
            version = published.version
            located = await self._locate(_by_hash(neighbours))
            self.tables.clear()
            self.tables.install(published, located, _by_hash(popularity), arms, experiments)
        self.last_ids = {self._keys.changes: (version, 0)}
        self._generation.tables = self._loaded_generation

    async def apply(self, stream: bytes, entries: list[StreamEntry]) -> None:
        """Becomes the version that was published last: it may be later than that of the last entry."""
        named: list[dict[bytes, None]] = [{} for _ in tables.HASHES]
        version = self._name(named, self.tables.meta.version, entries)
        while version > self.tables.meta.version:
            meta, rows = await self._rows(named)
            if meta.version == version:
                neighbours, popularity, arms, experiments = rows
                located = await self._locate(_by_hash(neighbours))
                self.tables.install(meta, located, _by_hash(popularity), arms, experiments)
                return
            more = await self.redis.xread({stream: b"%d-0" % version}, count=MAX_ENTRIES_PER_READ)
            before, version = version, self._name(named, version, parsed(more))
            if version == before:
                raise Gap

    def _name(
        self, named: list[dict[bytes, None]], version: int, entries: list[StreamEntry]
    ) -> int:
        """Adds the keys of what changed after `version`. The version of the last entry. Errors: `Gap`."""
        for _, fields in entries:
            try:
                change = tables.DECODER.decode(fields[tables.FIELD])
            except (
                msgspec.MsgspecError
            ):  # another version of the roll-up wrote it: the hashes have it
                raise Gap from None
            if change.version > version + 1:
                raise Gap
            if change.version == version + 1:
                version = change.version
                for mine, keys in zip(named, change.keys(), strict=True):
                    mine.update(dict.fromkeys(keys))
        return version

    async def _rows(
        self, named: list[dict[bytes, None]]
    ) -> tuple[tables.Meta, list[dict[bytes, bytes]]]:
        """The rows of these keys, and the version that they are of. Errors: `Gap` where one is gone."""
        async with self.redis.pipeline(transaction=True) as pipe:
            pipe.get(self._keys.meta)
            for name, keys in zip(tables.HASHES, named, strict=True):
                if keys:
                    pipe.execute_command("HMGET", getattr(self._keys, name), *keys)
            held, *replies = await pipe.execute()
        if not held or any(None in reply for reply in replies):
            raise Gap
        found = iter(replies)
        rows = [dict(zip(keys, next(found), strict=True)) if keys else {} for keys in named]
        return tables.META_DECODER.decode(held), rows

    async def _locate(self, neighbours: dict[int, bytes]) -> Located:
        """As `Tables.locate`, `ITEMS_PER_YIELD` at a time: reads are served in between."""
        lists = list(neighbours.items())
        located, missing = list[Lists](), list[tuple[int, bytes]]()
        for at in range(0, len(lists), ITEMS_PER_YIELD):
            found = self.tables.locate(lists[at : at + ITEMS_PER_YIELD])
            located.extend(found.lists)
            missing.extend(found.missing)
            await asyncio.sleep(0)
        return Located(located, missing)

    async def check_gaps(self) -> None:
        """Errors: `Gap` where another generation is live or the store has an older version than ours.

        Versions are consecutive, so `apply` detects a trimmed stream. An entry may be long, so the
        end of the stream is derived from the version that was published last."""
        if self._loaded_generation != self._generation.live:
            raise Gap
        meta: Any = await self.redis.get(self._keys.meta)
        if (tables.META_DECODER.decode(meta).version if meta else 0) < self.tables.meta.version:
            raise Gap


class ControlFollower(Follower):
    """The recipes of placements."""

    name = "control"

    def __init__(self, redis: Redis, keyspace: Keyspace, control: Control) -> None:
        super().__init__(redis)
        self._state, self._changes = keyspace.control_state(), keyspace.control_changes()
        self.control = control

    async def load(self) -> None:
        async with self.redis.pipeline(transaction=True) as pipe:
            pipe.execute_command("HGETALL", self._state)
            pipe.xrevrange(self._changes, count=1)
            values, last_entry = await pipe.execute()
        if values or last_entry:
            self.control.replace({name.decode(): value for name, value in values.items()})
            self._log_skipped()
        self.last_ids = {self._changes: last_id(last_entry)}

    async def apply(self, stream: bytes, entries: list[StreamEntry]) -> None:
        for _, fields in entries:
            self.control.put(fields[b"s"].decode(), fields[b"v"])
        self._log_skipped()

    def _log_skipped(self) -> None:
        for line in self.control.problems:
            log.warning("%s", line)
        self.control.problems.clear()


async def prepared(stored: Iterable[tuple[bytes, bytes]]) -> AsyncIterator[dict[bytes, Prepared]]:
    """The items of (id, value as stored), in their order and in groups of `ITEMS_PER_YIELD` and of
    `BYTES_PER_YIELD`; in a group each once, as it is last. Other tasks run between two groups. Errors:
    `msgspec.DecodeError`.

    A thread decodes them and makes their vectors: of an item with a long title and many tags that takes
    milliseconds.
    """
    group, size = dict[bytes, bytes](), 0
    for name, value in stored:
        group.pop(name, None)  # the order is that of the last change of each
        group[name] = value
        size += len(value)
        if len(group) == ITEMS_PER_YIELD or size >= BYTES_PER_YIELD:
            yield await asyncio.to_thread(_prepare, group)
            group, size = {}, 0
    if group:
        yield await asyncio.to_thread(_prepare, group)


def _prepare(group: dict[bytes, bytes]) -> dict[bytes, Prepared]:
    found: dict[bytes, Prepared] = {}
    for name, value in group.items():
        item = items.decode_item(value) if value else None
        found[name] = None if item is None else (item, content.vector(item))
        # the event loop may have the interpreter between two items, not only every 5 ms
        time.sleep(0)
    return found


def _by_hash(fields: dict[bytes, Any]) -> dict[int, bytes]:
    return {int.from_bytes(name, "little"): value for name, value in fields.items()}
