"""First and end offsets of partitions, asked of their leaders."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any, Final

from kafka.errors import (
    LeaderNotAvailableError,
    RetriableError,
    for_code,
)
from kafka.protocol.consumer import ListOffsetsRequest

from infra.backoff import Pauses
from infra.kafka.consume.connection import BlockingConnection
from infra.kafka.consume.leaders import find
from infra.settings import Settings

EARLIEST: Final = -2
LATEST: Final = -1
_NO_REPLICA: Final = -1
_ANY_EPOCH: Final = -1
_COMMITTED_OR_NOT: Final = 0
Bounds = tuple[int, int]


def bounds(
    settings: Settings, topic: str, partitions: Collection[int], seconds: float
) -> dict[int, Bounds]:
    """First offset and end of each partition's log, by number. `topic`: the broker's name.

    It asks again until `seconds` have passed. Errors: `KafkaSecurityError` at once; OSError, EOFError,
    `KafkaError` for what did not end.
    """
    until, pauses = time.monotonic() + seconds, Pauses(0.02, 0.5)
    while True:
        try:
            return _asked(settings, topic, partitions)
        except (OSError, EOFError, RetriableError):
            pause = next(pauses)
            if time.monotonic() + pause > until:
                raise
        time.sleep(pause)


def _asked(settings: Settings, topic: str, partitions: Collection[int]) -> dict[int, Bounds]:
    found = find(settings, topic, partitions, ())
    try:
        if found.errors:
            raise found.errors[0]
        made: dict[int, Bounds] = {}
        for leader, connection in found.opened.items():
            its = [p for p, at in found.leaders.items() if at == leader]
            first, end = (_offsets(connection, topic, its, at) for at in (EARLIEST, LATEST))
            made.update((p, (first[p], end[p])) for p in its)
        return made
    finally:
        found.close()


def _offsets(
    connection: BlockingConnection, topic: str, partitions: Collection[int], at: int
) -> dict[int, int]:
    """The offset of each partition at `EARLIEST` or `LATEST`. Errors: as `bounds`'."""
    row = ListOffsetsRequest.ListOffsetsTopic
    cells = [
        row.ListOffsetsPartition(
            partition_index=p, current_leader_epoch=_ANY_EPOCH, timestamp=at, max_num_offsets=1
        )
        for p in partitions
    ]
    request = ListOffsetsRequest(
        replica_id=_NO_REPLICA,
        isolation_level=_COMMITTED_OR_NOT,
        topics=[row(name=topic, partitions=cells)],
        timeout_ms=10_000,
    )
    answer: Any = connection.ask(request)
    found: dict[int, int] = {}
    for entry in answer.topics:
        for it in entry.partitions:
            if it.error_code:
                raise for_code(it.error_code)(f"{topic} partition {it.partition_index}")
            found[it.partition_index] = int(it.offset)
    if set(found) != set(partitions):
        raise LeaderNotAvailableError(f"{topic}: not all partitions were answered")
    return found
