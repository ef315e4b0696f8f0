"""Lists snapshots, and reads their contents."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from flows.snapshots import files
from flows.snapshots.files import BadSnapshot, ForeignSnapshot, NoSnapshot, Row, SnapshotError
from flows.snapshots.versions import check_versions, upgraded
from infra.kafka import kafka_client
from infra.kafka.kafka_client import TopicInfo
from infra.lake.store import Store, open_store
from infra.settings import Settings
from models.aggregates.tables import Tables
from schemas import snapshots
from schemas.alphabet import Millis
from schemas.snapshots import MANIFEST, OUTBOX, PAIRS, Snapshot
from schemas.state.fences import Fence
from schemas.topics import EVENTS
from schemas.version import OtherVersion

log = logging.getLogger(__name__)


class Listed(NamedTuple):
    """A folder of `snapshots`. `why`: the reason for which it cannot be used, or ""."""

    id: str
    snapshot: Snapshot | None
    why: str
    newest_at: float
    """When the newest of its objects was written, Unix time in s."""
    half: bool
    """It has no manifest."""


class Loaded(NamedTuple):
    """A partition of a snapshot. `state`: its string keys by their names in `schemas.keys.PLAIN`; `received`
    and `tallies`: the fields of ``or:{p}`` and ``n:{p}``."""

    fence: Fence
    state: dict[bytes, bytes]
    received: dict[bytes, bytes]
    tallies: dict[bytes, bytes]


# -- the list -------------------------------------------------------------------------------


def listed(settings: Settings, topic: TopicInfo | None = None) -> list[Listed]:
    """All snapshots, the newest first. `topic`: of `events`, read from the broker where it is None.

    Errors: `LakeError`, `KafkaError`.
    """
    topic = topic or topic_of(settings)
    store, found = open_store(settings), []
    for id_, objects in sorted(files.names(store).items(), reverse=True):
        held, why = None, ""
        try:
            held = _read(store, id_)
            check(held, topic)
        except SnapshotError as error:
            why = str(error)
        newest = max(it.at for it in objects.values())
        found.append(Listed(id_, held, why, newest, MANIFEST not in objects))
    return found


def latest(
    settings: Settings,
    topic: TopicInfo | None = None,
    within: Sequence[int] | None = None,
    before: Millis | None = None,
    since: Sequence[int] | None = None,
) -> Snapshot | None:
    """The usable snapshot with the highest offsets, or None.

    `within`: no partition beyond these offsets; `before`: all records before this time, ms; `since`: no
    partition short of these offsets.

    Errors: `LakeError`, `KafkaError`.
    """
    good: list[Snapshot] = []
    for it in listed(settings, topic):
        if it.why:
            log.warning("skipped: %s", it.why)
        elif it.snapshot is not None and _reaches(it.snapshot, within, before, since):
            good.append(it.snapshot)
    return max(good, key=lambda it: (sum(it.offsets), it.id), default=None)


def find(settings: Settings, id_: str, topic: TopicInfo | None = None) -> Snapshot:
    """The snapshot with this id.

    Errors: `NoSnapshot`, `BadSnapshot`, `ForeignSnapshot`, `LakeError`, `KafkaError`.
    """
    held = _read(open_store(settings), id_)
    check(held, topic or topic_of(settings))
    return held


def check(snapshot: Snapshot, topic: TopicInfo) -> None:
    """Errors: `ForeignSnapshot` where it is of another topic or version."""
    where, remedy = f"snapshot {snapshot.id}", "make a new one (freshet snapshot make)"
    if len(snapshot.partitions) != topic.partitions:
        raise ForeignSnapshot(
            f"{where}: it is of {len(snapshot.partitions)} partitions, the topic has"
            f" {topic.partitions}; {remedy}"
        )
    if snapshot.topic_id != topic.id:
        raise ForeignSnapshot(
            f"{where}: its topic id is {snapshot.topic_id}, that of events is {topic.id}: the topic was"
            f" recreated; {remedy}"
        )
    check_versions(snapshot)


def remove(settings: Settings, id_: str) -> None:
    """Removes a snapshot, complete or not. Errors: `NoSnapshot`, `LakeError`."""
    store = open_store(settings)
    if id_ not in files.names(store):
        raise _no_such_snapshot(store, id_)
    files.remove(store, id_)


def _read(store: Store, id_: str) -> Snapshot:
    try:
        data = store.get(files.path(id_, MANIFEST))
    except FileNotFoundError:
        if id_ not in files.names(store):
            raise _no_such_snapshot(store, id_) from None
        raise BadSnapshot(
            f"snapshot {id_}: it has no {MANIFEST}: half a snapshot, whose making failed or still runs"
        ) from None
    try:
        held = snapshots.decode(data)
    except OtherVersion as error:
        raise ForeignSnapshot(
            f"snapshot {id_}: {error.sentence}", remedy="use the one that made it"
        ) from None
    except msgspec.MsgspecError:
        raise files.bad_snapshot(id_, MANIFEST, "is not a manifest of a snapshot") from None
    if held.id != id_:
        raise files.bad_snapshot(id_, MANIFEST, "is that of another snapshot")
    return held


def _no_such_snapshot(store: Store, id_: str) -> NoSnapshot:
    there = ", ".join(sorted(files.names(store), reverse=True)[:5]) or "none"
    return NoSnapshot(f"there is no snapshot of that name; the newest are: {there}")


def _reaches(
    snapshot: Snapshot,
    within: Sequence[int] | None,
    before: Millis | None,
    since: Sequence[int] | None,
) -> bool:
    offsets = snapshot.offsets
    if before is not None and snapshot.newest >= before:
        return False
    if since is not None and any(a < b for a, b in zip(offsets, since, strict=True)):
        return False
    return within is None or all(a <= b for a, b in zip(offsets, within, strict=True))


def topic_of(settings: Settings) -> TopicInfo:
    return kafka_client.ensure_topics(settings)[EVENTS.name]


# -- the contents ---------------------------------------------------------------------------


def load(settings: Settings, snapshot: Snapshot, partition: int) -> Loaded:
    """A partition of the snapshot. Every record has the version that this code writes.

    Errors: `BadSnapshot`, `ForeignSnapshot`, `LakeError`.
    """
    check_versions(snapshot)
    held = snapshot.partitions[partition]
    rows = files.read_rows(open_store(settings), snapshot.id, held.people, PAIRS)
    state: dict[bytes, bytes] = dict(rows)  # type: ignore[arg-type]
    fence, state = upgraded(snapshot, partition, state)
    received = {source.encode(): number.encode() for source, number in held.received.items()}
    tallies = {reason.encode(): b"%d" % total for reason, total in held.tallies.items()}
    return Loaded(fence, state, received, tallies)


def verify(settings: Settings, snapshot: Snapshot) -> None:
    """Reads the whole snapshot. Errors: `BadSnapshot`, `ForeignSnapshot`, `LakeError`."""
    for partition in range(len(snapshot.partitions)):
        load(settings, snapshot, partition)
        outbox(settings, snapshot, partition)
    tables(settings, snapshot)


def outbox(settings: Settings, snapshot: Snapshot, partition: int) -> list[Row]:
    """(id, person, record) of the partition's entries that their receivers had not folded yet.

    Errors: `BadSnapshot`, `LakeError`.
    """
    held = snapshot.partitions[partition].outbox
    return list(files.read_rows(open_store(settings), snapshot.id, held, OUTBOX))


def tables(settings: Settings, snapshot: Snapshot) -> Tables:
    """The tables at the snapshot's offsets. Errors: `BadSnapshot`, `ForeignSnapshot`, `LakeError`."""
    check_versions(snapshot)
    data = files.read_bytes(open_store(settings), snapshot.id, snapshot.tables)
    try:
        made = Tables.load(data)
    except (ValueError, KeyError, OSError):
        raise files.bad_snapshot(snapshot.id, snapshot.tables.name, "holds no tables") from None
    if made.positions != snapshot.offsets:
        raise files.bad_snapshot(
            snapshot.id, snapshot.tables.name, "is at other offsets than the people are"
        )
    return made
