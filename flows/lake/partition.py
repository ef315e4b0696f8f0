"""The writer of one partition of the lake: its fence, and the three steps of a commit."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import msgspec
import redis

from flows.kit.commit import commit
from flows.kit.resume import StateMismatch
from infra.kafka.kafka_client import TopicInfo
from infra.lake.errors import LakeHole
from infra.lake.manifest import Manifest
from infra.lake.store import Store
from infra.lake.write import write
from infra.log_reader import Batch
from infra.store.redis_client import Client
from schemas import lake
from schemas.keys import Keyspace
from schemas.lake import LakeFence, ManifestEntry, Table
from schemas.state.write import Write

log = logging.getLogger(__name__)


def flow_name(topic: str) -> str:
    """The flow name under which the lake stores its fence of this topic."""
    return f"lake-{topic}"


class Owner:
    """Writes one partition of a topic. Errors (of the constructor): `StateMismatch`, `LakeError`."""

    def __init__(
        self,
        client: Client,
        store: Store,
        table: Table,
        partition: int,
        topic: TopicInfo,
        bounds: tuple[int, int],
        keyspace: Keyspace,
    ) -> None:
        self._redis, self._store, self._table, self._keyspace = client, store, table, keyspace
        self._manifest = Manifest(store, table.topic, partition, keyspace)
        self.fence = resume(client, self._manifest, topic, bounds, keyspace)

    def put(self, batches: Sequence[Batch]) -> ManifestEntry:
        """Step 1: writes the records to an object that nothing names yet. Errors: `LakeError`."""
        fence = self.fence
        return write(self._store, self._table, batches, fence.topic_id, fence.partitions)

    def move(self, entry: ManifestEntry) -> None:
        """Step 2: moves the fence to the object's end and stores its entry. Errors: `Fenced`, `Torn`."""
        held = self.fence
        newest = max(held.newest, entry.last_at)
        fence = LakeFence(
            held.topic_id,
            held.partitions,
            entry.end,
            newest,
            held.version,
            entry=entry,
            origin=held.origin,
        )
        name, partition = flow_name(self._table.topic), self._manifest.partition
        commit(self._redis, Write(name, partition, entry.start, fence, self._keyspace))
        self.fence = fence

    def add(self, entry: ManifestEntry) -> None:
        """Step 3: adds the entry to the manifest, so that readers see it. Errors: `LakeError`."""
        self._manifest.write(entry)


def resume(
    client: Client,
    manifest: Manifest,
    topic: TopicInfo,
    bounds: tuple[int, int],
    keyspace: Keyspace,
) -> LakeFence:
    """The fence to continue from: the end of the manifest's chain, after the fence's own entry was added.

    A fence elsewhere is moved there, so a Redis that lost its last second, or everything, does no harm.
    `bounds`: first offset and end of the log. Errors: `StateMismatch`, `LakeError`.
    """
    held = _stored_fence(client, manifest, keyspace)
    if held is not None:
        _check_topic(manifest, held.topic_id, held.partitions, topic, keyspace)
        if held.entry is not None and manifest.repair(held.entry):
            log.warning("%s: added the entry that its writer could not", manifest.folder)
    chain = manifest.chain()
    last = manifest.entry(chain[-1]) if chain else None
    if last is not None:
        _check_topic(manifest, last.topic_id, last.partitions, topic, keyspace)
    start = chain[0].start if chain else bounds[0]
    if held is not None and held.entry is not None and start > held.origin:
        raise LakeHole(
            f"{manifest.folder} starts at {start}, and did at {held.origin}: restore what is missing"
        )
    fence = _new_fence(topic, start, chain[-1].end if chain else start, held, last)
    _check_offset(manifest, fence.offset, bounds)
    if held is None or held.offset != fence.offset:
        _store_fence(client, manifest, held, fence, keyspace)
    return fence


def _new_fence(
    topic: TopicInfo, start: int, end: int, held: LakeFence | None, last: ManifestEntry | None
) -> LakeFence:
    newest = max(held.newest if held else 0, last.last_at if last else 0)
    return LakeFence(
        topic.id, topic.partitions, end, newest, lake.VERSION, entry=last, origin=start
    )


def _store_fence(
    client: Client,
    manifest: Manifest,
    held: LakeFence | None,
    fence: LakeFence,
    keyspace: Keyspace,
) -> None:
    if held is None and fence.entry is None and fence.offset:
        log.warning("%s starts at %d: the topic does", manifest.folder, fence.offset)
    first = held.offset if held else 0
    commit(client, Write(flow_name(manifest.topic), manifest.partition, first, fence, keyspace))


def _stored_fence(client: Client, manifest: Manifest, keyspace: Keyspace) -> LakeFence | None:
    key = keyspace.fence(flow_name(manifest.topic), manifest.partition)
    try:
        data: Any = client.get(key)
        fence = None if data is None else lake.decode_fence(data)
    except (msgspec.MsgspecError, redis.ResponseError):
        fence = LakeFence("", 0, 0, 0, 0)
    if fence is not None and fence.version != lake.VERSION:
        raise StateMismatch(
            f"{key.decode()} in Redis is no fence of this version: delete it, and the flow lake continues"
            " from the end of its manifest"
        )
    return fence


def _check_topic(
    manifest: Manifest, topic_id: str, partitions: int, topic: TopicInfo, keyspace: Keyspace
) -> None:
    key = keyspace.fence(flow_name(manifest.topic), manifest.partition).decode()
    for what, is_, was in (
        ("topic id", topic.id, topic_id),
        ("partition count", topic.partitions, partitions),
    ):
        if is_ != was:
            raise StateMismatch(
                f"lake of {manifest.topic} partition {manifest.partition}: the {what} is {is_}, the lake was"
                f" written with {was}; name another lake with FRESHET_LAKE_URL (this one stays as it is) and"
                f" delete the key {key}, and that of each other partition"
            )


def _check_offset(manifest: Manifest, offset: int, bounds: tuple[int, int]) -> None:
    start, end = bounds
    if not start <= offset <= end:
        raise StateMismatch(
            f"lake of {manifest.topic} partition {manifest.partition}: it stands at {offset}, the log runs"
            f" from {start} to {end}: "
            + (
                "what lies between is gone from the log; name another lake with FRESHET_LAKE_URL"
                if offset < start
                else "the log lost records that the lake holds"
            )
        )
