"""The fence from which a flow starts, and every reason to refuse the start (law 8)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import msgspec

from infra.kafka.kafka_client import TopicInfo
from infra.store import redis_client
from infra.store.redis_client import Client
from schemas.errors import FreshetError
from schemas.flows import REBUILT
from schemas.keys import Keyspace
from schemas.state import fences
from schemas.state.fences import Fence

log = logging.getLogger(__name__)
REBUILD_WAIT_SECONDS: Final = 60.0
"""How long a start waits for a partition that is being rebuilt."""
KEYS_PER_PAGE: Final = 1000
PAGES_PER_STEP: Final = 20
"""Of all keys in Redis, which are looked through for those of a torn partition."""


class StateMismatch(FreshetError):
    """The log and the stored state do not belong together."""


class HeldByRebuild(FreshetError):
    """A rebuild of the partition is running: it releases the fence at its end."""


def resume(
    client: Client,
    flow: str,
    partition: int,
    topic: TopicInfo,
    log_start: int,
    log_end: int,
    version: int,
    keyspace: Keyspace,
    readable: Sequence[int] = (),
) -> Fence:
    """The fence to start from, at offset 0 where none is stored. Waits while a rebuild holds the partition.

    `log_start`, `log_end`: first offset and end of the log; `version`: of the fold; `readable`: other
    versions whose state the fold goes on from.
    Errors: `StateMismatch`.
    """
    until = time.monotonic() + REBUILD_WAIT_SECONDS
    bounds = log_start, log_end
    while True:
        try:
            steps = resumed(
                client, flow, partition, topic, lambda: bounds, version, keyspace, readable
            )
            return next(it for it in steps if it is not None)
        except HeldByRebuild:
            if time.monotonic() > until:
                raise rebuild_did_not_end(flow, partition) from None
            time.sleep(0.05)


def resumed(
    client: Client,
    flow: str,
    partition: int,
    topic: TopicInfo,
    bounds: Callable[[], tuple[int, int]],
    version: int,
    keyspace: Keyspace,
    readable: Sequence[int] = (),
) -> Iterator[Fence | None]:
    """As `resume`, in steps of some ms: yields None while there is more to do, then the fence.

    Errors: `StateMismatch`, `HeldByRebuild`; those of `bounds`, which gives the log's first offset and end.
    """
    yield from _drop_if_torn(client, flow, partition, keyspace)
    where = f"{flow} partition {partition}"
    held = client.get(keyspace.fence(flow, partition))
    try:
        fence = None if held is None else fences.decode(held)
    except msgspec.MsgspecError:
        raise StateMismatch(
            f"{where}: {keyspace.fence(flow, partition).decode()} in Redis is no fence",
            remedy=_remedy(flow, partition, keyspace),
        ) from None
    if fence is not None and fence.version == fences.HELD:
        raise HeldByRebuild(f"{where} is being rebuilt")
    log_start, log_end = bounds()
    if fence is None:
        if log_start != 0:
            raise StateMismatch(
                f"{where}: no fence, and the log starts at {log_start}: the records before it are gone",
                remedy="rebuild from the lake (freshet rebuild)",
            )
        yield Fence(topic.id, topic.partitions, 0, 0, version)
        return
    for what, current, stored in (
        ("topic id", topic.id, fence.topic_id),
        ("partition count", topic.partitions, fence.partitions),
        ("fold version", version, version if fence.version in readable else fence.version),
    ):
        if current != stored:
            raise StateMismatch(
                f"{where}: the {what} is {current}, the state was made with {stored}",
                remedy=_remedy(flow, partition, keyspace),
            )
    if not log_start <= fence.offset <= log_end:
        raise StateMismatch(
            f"{where}: the fence stands at {fence.offset}, the log runs from {log_start} to {log_end}",
            remedy=_remedy(flow, partition, keyspace),
        )
    yield fence


def recreated(
    flow: str, partition: int, topic: str, now: TopicInfo, keyspace: Keyspace
) -> StateMismatch:
    """The error for a topic that was deleted and created again while a flow read it."""
    return StateMismatch(
        f"{flow} partition {partition}: the topic {topic} was recreated, its id is {now.id} and it has"
        f" {now.partitions} partitions",
        remedy=_remedy(flow, partition, keyspace, " --from beginning"),
    )


def _remedy(flow: str, partition: int, keyspace: Keyspace, how: str = "") -> str:
    """What to do. A flow without generations folds its log from the beginning where it has no fence."""
    if flow in REBUILT:
        return f"drop the state and rebuild it from this log (freshet rebuild{how})"
    key = keyspace.fence(flow, partition).decode()
    return f"delete the key {key} from Redis, and it folds this log from its beginning"


def rebuild_did_not_end(flow: str, partition: int) -> StateMismatch:
    return StateMismatch(
        f"{flow} partition {partition}: a rebuild of this partition did not end",
        remedy="run it again (freshet rebuild --partition)",
    )


def _drop_if_torn(client: Client, flow: str, partition: int, keyspace: Keyspace) -> Iterator[None]:
    """Drops the partition's keys where it is marked torn, some pages of them a step; the mark last."""
    mark = keyspace.torn(flow, partition)
    if client.get(mark) is None:
        return
    log.warning(
        "%s partition %d was torn: dropping its keys and folding its log again", flow, partition
    )
    pages = 0
    for server in redis_client.servers(client):
        for pattern in keyspace.owned_patterns(flow, partition):
            cursor = -1
            while cursor != 0:
                if pages % PAGES_PER_STEP == 0:
                    yield
                pages += 1
                cursor, names = server.scan(max(cursor, 0), match=pattern, count=KEYS_PER_PAGE)
                if gone := [name for name in names if name != mark]:
                    client.unlink(*gone)
    client.delete(mark)
