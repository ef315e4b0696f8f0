"""Repairs one partition's people in place: no deltas, no outbox, and the tables stay unchanged.

The partition is held only while the newest records are folded and the differing keys are written. Reads
continue.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

import redis

from flows.kit.resume import StateMismatch
from flows.offline.fold import Offline
from flows.people.fold import READABLE, VERSION
from flows.snapshots.read import latest, load
from infra.kafka import kafka_client
from infra.lake.log import open_log
from infra.log_reader import LogReader
from infra.settings import Settings
from infra.store import generation
from infra.store.redis_client import Client
from infra.terminal.progress import Reporter
from schemas import keys
from schemas.keys import Keyspace
from schemas.state import facts, fences
from schemas.state.fences import Fence
from schemas.topics import EVENTS

KEYS_PER_BATCH: Final = 500
_KEPT_PREFIXES: Final = {b"f", b"dl", b"ob", keys.VECTOR, b"or", b"n"}
"""Of fence, delta log, outbox, received numbers, tallies, and vectors, which follow from rows."""
_REBUILT_PREFIXES: Final = {
    key.prefix for key in keys.KEYS if key.owner == "people"
} - _KEPT_PREFIXES
"""Of the keys to repair. Keys of other flows (catalogue, control) carry the same hash tag."""


def rebuild(client: Client, settings: Settings, partition: int, said: Reporter) -> dict[str, Any]:
    """Folds the partition again and writes the keys that differ. Returns counts for a report.

    Errors: `StateMismatch` where the other stored state does not fit the result.
    """
    keyspace = generation.live_keys(client, settings)
    if partition >= settings.partitions:
        raise StateMismatch(f"partitions are 0 to {settings.partitions - 1}")
    key, log = keyspace.fence("people", partition), open_log(settings)
    if client.get(key) is None and log.bounds(EVENTS.name, partition)[1] == 0:
        said(f"partition {partition} has no events yet: there is nothing to repair")
        return {"partition": partition, "events": 0, "written": 0, "deleted": 0}
    fence = _current_fence(client, key, partition, keyspace)
    offline = _start(settings, partition)
    began = offline.fence.offset
    with said.work("events folded", fence.offset - began) as folded:
        _fold(offline, log, fence.offset, folded)
    held = _take_over(client, key)
    _fold(offline, log, held.offset, lambda n: None)
    written, deleted = _repair(client, offline, keyspace)
    client.set(key, fences.encode(offline.fence))
    said(f"partition {partition}: {written} keys were wrong, {deleted} did not belong there")
    return {
        "partition": partition,
        "events": held.offset - began,
        "written": written,
        "deleted": deleted,
    }


def _current_fence(client: Client, key: bytes, partition: int, keyspace: Keyspace) -> Fence:
    """The stored fence. Errors: `StateMismatch` where it, or the delta log, is of another version."""
    held = client.get(key)
    if held is None:
        raise StateMismatch(
            f"people partition {partition} holds nothing: start its flow, or rebuild all"
        )
    fence = fences.decode(held)
    if fence.version not in (*READABLE, fences.HELD):
        raise StateMismatch(
            f"people partition {partition} was folded by version {fence.version}, this is {VERSION}:"
            " its facts may have another meaning now, so sums have to be rebuilt too (freshet"
            " rebuild, without --partition)"
        )
    for _, fields in client.xrevrange(keyspace.deltas(partition), count=1):
        try:
            facts.decode(fields[facts.FIELD])
        except ValueError as error:
            raise StateMismatch(f"{error}: sums have to be rebuilt too (freshet rebuild)") from None
    return fence


def _start(settings: Settings, partition: int) -> Offline:
    newest = latest(settings)
    if newest is not None:
        return Offline(settings, partition, *load(settings, newest, partition))
    topic = kafka_client.ensure_topics(settings)[EVENTS.name]
    return Offline(settings, partition, Fence(topic.id, topic.partitions, 0, 0, VERSION))


def _fold(offline: Offline, log: LogReader, end: int, folded: Any) -> None:
    for batch in log.read(EVENTS.name, offline.partition, offline.fence.offset, end):
        offline.fold(batch)
        folded(len(batch.offsets))


def _take_over(client: Client, key: bytes) -> Fence:
    """Marks the fence as held, so that the flow cannot commit. Returns the fence of its last commit."""
    while True:
        with client.pipeline(transaction=True) as pipe:
            pipe.watch(key)
            fence = fences.decode(pipe.get(key))
            fence.version = fences.HELD
            pipe.multi()
            pipe.set(key, fences.encode(fence))
            try:
                pipe.execute()
            except redis.WatchError:
                continue  # it committed once more
            return fence


def _repair(client: Client, offline: Offline, keyspace: Keyspace) -> tuple[int, int]:
    """Writes the keys that differ, and deletes the extra ones. Returns how many of each."""
    want = {keyspace.renamed(name): value for name, value in offline.state.items()}
    written = _write_wrong(client, want, keyspace)
    extra = [
        name
        for name in client.scan_iter(
            match=keyspace.partition_pattern(offline.partition), count=1000
        )
        if (parsed := keyspace.parse(name))
        and parsed.kind in _REBUILT_PREFIXES
        and name not in want
    ]
    for name in extra:
        client.unlink(name)
    hashes = {
        keyspace.received(offline.partition): offline.received,
        keyspace.tallies(offline.partition): offline.tallies,
    }
    return written + sum(_write_hash(client, *it) for it in hashes.items()), len(extra)


def _write_hash(client: Client, key: bytes, want: dict[bytes, bytes]) -> bool:
    """Writes a hash that differs. Returns whether it did."""
    if client.hgetall(key) == want:
        return False
    client.delete(key)
    if want:
        client.hset(key, mapping=want)
    return True


def _write_wrong(client: Client, want: Mapping[bytes, bytes], keyspace: Keyspace) -> int:
    written, items = 0, iter(want.items())
    while slice_ := dict(islice(items, KEYS_PER_BATCH)):
        with client.pipeline(transaction=False) as pipe:
            for name in slice_:
                pipe.get(name)
            held = pipe.execute(raise_on_error=False)
        wrong = {n: v for (n, v), stored in zip(slice_.items(), held, strict=True) if stored != v}
        for name, value in wrong.items():
            client.set(name, value)
            parsed = keyspace.parse(name)
            if parsed is not None and parsed.kind == keys.ROW:  # the vector was made of the row
                client.unlink(keyspace.vector(int(parsed.home), parsed.rest.decode()))
        written += len(wrong)
    return written
