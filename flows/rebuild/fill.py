"""Fills a generation: writes a snapshot's state to Redis; the ordinary flows then fold the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Final

from flows.rollup.tables import Rollup
from flows.snapshots import read
from infra.settings import Settings
from infra.store import redis_client
from infra.store.redis_client import Client
from schemas.errors import FreshetError
from schemas.keys import Keyspace
from schemas.snapshots import Snapshot
from schemas.state import fences
from schemas.state.fences import Fence

KEYS_PER_BATCH: Final = 500
KEY_OVERHEAD_BYTES: Final = 100
"""That Redis needs for a key besides its name and value: measured 72 to 96."""


class TooLittleMemory(FreshetError):
    """Redis has no room for a second generation."""


class Stuck(FreshetError):
    """The flows of the new generation ended, or their lag does not shrink."""


def check_memory(client: Client, need: int) -> None:
    """Errors: `TooLittleMemory` where Redis does not have `need` bytes more."""
    infos = [server.info("memory") for server in redis_client.servers(client)]
    limits = [it.get("maxmemory") or it.get("total_system_memory") or 0 for it in infos]
    room = sum(limits) - sum(it["used_memory"] for it in infos)
    if all(limits) and room < need:
        raise TooLittleMemory(
            f"a second generation takes about {need >> 20:,} MB, and Redis has {room >> 20:,} MB free"
            f" of {sum(limits) >> 20:,}",
            remedy="give Redis more memory (maxmemory), and run this again",
        )


def size(state: Mapping[bytes, bytes]) -> int:
    """About how many bytes these keys take in Redis."""
    return sum(len(name) + len(value) + KEY_OVERHEAD_BYTES for name, value in state.items())


def fill(
    client: Client,
    settings: Settings,
    snapshot: Snapshot,
    generation: int,
    on_written: Callable[[int], None],
) -> None:
    """Writes a snapshot as `generation`: people, then their fences, and at the same time the tables.

    `on_written` gets the number of keys of each command.
    Errors: `TooLittleMemory`, those of `flows.snapshots`, Redis's.
    """
    with ThreadPoolExecutor(1) as background:
        # no process reads a generation before it is live, so their order decides nothing
        tables = background.submit(_fill_tables, settings, snapshot, generation)
        for p in range(settings.partitions):
            _fill_people(
                client,
                settings,
                snapshot,
                settings.keyspace.in_generation(generation),
                p,
                on_written,
            )
        tables.result()


def _fill_tables(settings: Settings, snapshot: Snapshot, generation: int) -> None:
    with redis_client.connect(settings) as client:
        rollup = Rollup(client, settings, generation)
        rollup.tables = read.tables(settings, snapshot)
        rollup.publish()
        rollup.store()


def _fill_people(
    client: Client,
    settings: Settings,
    snapshot: Snapshot,
    keyspace: Keyspace,
    partition: int,
    on_written: Callable[[int], None],
) -> None:
    fence, state, received, tallies = read.load(settings, snapshot, partition)
    check_memory(client, size(state))
    _write(client, state, keyspace, on_written)
    if received:
        client.hset(keyspace.received(partition), mapping=received)
    if tallies:
        client.hset(keyspace.tallies(partition), mapping=tallies)
    for id_, person, value in read.outbox(settings, snapshot, partition):
        client.xadd(keyspace.outbox(partition), {b"k": person, b"v": value}, id=id_)
    client.set(keyspace.fence("people", partition), fences.encode(fence))


def _write(
    client: Client,
    state: Mapping[bytes, bytes],
    keyspace: Keyspace,
    on_written: Callable[[int], None],
) -> None:
    items = iter(state.items())
    while slice_ := dict(islice(items, KEYS_PER_BATCH)):
        client.mset({keyspace.renamed(k): v for k, v in slice_.items()})
        on_written(len(slice_))


def carry_relayed(client: Client, settings: Settings, old: int, new: int) -> None:
    """Copies the relay's positions from generation `old` to `new`."""
    before, after = settings.keyspace.in_generation(old), settings.keyspace.in_generation(new)
    for p in range(settings.partitions):
        if sent := client.get(before.relayed(p)):
            client.set(after.relayed(p), sent)


def fence_positions(client: Client, settings: Settings, generation: int) -> list[Fence]:
    """The fences of `people`, by partition. Errors: `Stuck` where one is missing."""
    keyspace = settings.keyspace.in_generation(generation)
    held = [client.get(keyspace.fence("people", p)) for p in range(settings.partitions)]
    if not all(held):
        raise Stuck(f"generation {generation} has no fence for every partition")
    return [fences.decode(value) for value in held]
