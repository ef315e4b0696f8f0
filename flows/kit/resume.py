"""The fence from which a flow starts, and every reason to refuse the start (law 8)."""

from __future__ import annotations

import logging
import time
from typing import Final

from infra.kafka.kafka_client import TopicInfo
from infra.store.redis_client import Client
from schemas.errors import FreshetError
from schemas.flows import REBUILT
from schemas.keys import Keyspace
from schemas.state import fences
from schemas.state.fences import Fence

log = logging.getLogger(__name__)
REBUILD_WAIT_SECONDS: Final = 60.0
"""How long a start waits for a partition that is being rebuilt."""


class StateMismatch(FreshetError):
    """The log and the stored state do not belong together."""


def resume(
    client: Client,
    flow: str,
    partition: int,
    topic: TopicInfo,
    log_start: int,
    log_end: int,
    version: int,
    keyspace: Keyspace,
) -> Fence:
    """The fence to start from, at offset 0 where none is stored. Waits while a rebuild holds the partition.

    `log_start`, `log_end`: first offset and end of the log; `version`: of the fold.
    Errors: `StateMismatch`.
    """
    _drop_if_torn(client, flow, partition, keyspace)
    where = f"{flow} partition {partition}"
    held = _unheld_fence(client, keyspace.fence(flow, partition), where)
    if held is None:
        if log_start != 0:
            raise StateMismatch(
                f"{where}: no fence, and the log starts at {log_start}: the records before it are gone",
                remedy="rebuild from the lake (freshet rebuild)",
            )
        return Fence(topic.id, topic.partitions, 0, 0, version)
    fence = fences.decode(held)
    for what, current, stored in (
        ("topic id", topic.id, fence.topic_id),
        ("partition count", topic.partitions, fence.partitions),
        ("fold version", version, fence.version),
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
    return fence


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


def _unheld_fence(client: Client, key: bytes, where: str) -> bytes | None:
    """The fence, once no rebuild holds it. Errors: `StateMismatch` after `REBUILD_WAIT_SECONDS`."""
    until = time.monotonic() + REBUILD_WAIT_SECONDS
    while held := client.get(key):
        if fences.decode(held).version != fences.HELD:
            return bytes(held)
        if time.monotonic() > until:
            raise StateMismatch(
                f"{where}: a rebuild of this partition did not end",
                remedy="run it again (freshet rebuild --partition)",
            )
        time.sleep(0.05)
    return None


def _drop_if_torn(client: Client, flow: str, partition: int, keyspace: Keyspace) -> None:
    mark = keyspace.torn(flow, partition)
    if client.get(mark) is None:
        return
    log.warning(
        "%s partition %d was torn: dropping its keys and folding its log again", flow, partition
    )
    for pattern in keyspace.owned_patterns(flow, partition):
        names = [name for name in client.scan_iter(match=pattern, count=1000) if name != mark]
        for at in range(0, len(names), 500):
            client.delete(*names[at : at + 500])
    client.delete(mark)
