"""First and end offsets of partitions, asked of their leaders."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any, Final

from kafka.errors import (
    KafkaConnectionError,
    KafkaError,
    LeaderNotAvailableError,
    RetriableError,
    for_code,
)
from kafka.protocol.consumer import ListOffsetsRequest

from infra.backoff import Pauses
from infra.kafka.consume.connection import BlockingConnection
from infra.kafka.consume.leaders import LeaderConnections, Place, find
from infra.settings import Settings

EARLIEST: Final = -2
LATEST: Final = -1
FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 0.02, 0.5
ONE_SECONDS: Final = 1.0
"""Every request may take so long, also the last one and that of who asks once."""
_NO_REPLICA: Final = -1
_ANY_EPOCH: Final = -1
_UNCOMMITTED: Final = 0
Bounds = tuple[int, int]


def bounds(
    settings: Settings, topic: str, partitions: Collection[int], seconds: float
) -> dict[int, Bounds]:
    """First offset and end of each partition's log, by number. `topic`: the broker's name.

    Errors: those of `LogBounds.ask`.
    """
    asked = LogBounds(settings, [(topic, p) for p in partitions])
    try:
        first, end = asked.ask(EARLIEST, seconds), asked.ask(LATEST, seconds)
        return {p: (first[topic, p], end[topic, p]) for p in partitions}
    finally:
        asked.close()


class LogBounds:
    """Asks for offsets of `places`, each a topic, by the broker's name, and a partition. It connects when it
    is asked first, and keeps the connections. Used by one thread at a time."""

    def __init__(self, settings: Settings, places: Collection[Place]) -> None:
        self._settings, self._places = settings, places
        self._leaders: LeaderConnections | None = None

    def ask(self, at: int, seconds: float) -> dict[Place, int]:
        """The offset at `EARLIEST` or `LATEST`, of a request that begins after this call.

        It asks once, and again for `seconds` where that may help. Errors: `KafkaError`, so
        `KafkaConnectionError` where no broker answers; `KafkaSecurityError` at once.
        """
        until, pauses = time.monotonic() + seconds, Pauses(FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS)
        while True:
            try:
                return self._ask(at, max(until - time.monotonic(), ONE_SECONDS))
            except (OSError, EOFError, RetriableError) as error:
                self.close()
                pause = next(pauses)
                if time.monotonic() + pause > until:
                    raise _kafka_error(error) from None
            except BaseException:
                self.close()
                raise
            time.sleep(pause)

    def close(self) -> None:
        if self._leaders is not None:
            self._leaders.close()
            self._leaders = None

    def _ask(self, at: int, seconds: float) -> dict[Place, int]:
        leaders = self._leaders
        if leaders is None or leaders.expires_at < time.monotonic():
            self.close()
            leaders = self._leaders = find(self._settings, self._places, ())
        if leaders.errors:
            raise leaders.errors[0]
        found: dict[Place, int] = {}
        for address, connection in leaders.opened.items():
            its = [place for place, leader in leaders.leaders.items() if leader == address]
            found.update(_offsets(connection, its, at, seconds))
        if set(found) != set(self._places):
            raise LeaderNotAvailableError("not all partitions were answered")
        return found


def _kafka_error(error: Exception) -> KafkaError:
    if isinstance(error, KafkaError):
        return error
    made: KafkaError = KafkaConnectionError(str(error) or type(error).__name__)
    return made


def _offsets(
    connection: BlockingConnection, places: Collection[Place], at: int, seconds: float
) -> dict[Place, int]:
    """Errors: OSError, EOFError, `KafkaError`."""
    row = ListOffsetsRequest.ListOffsetsTopic
    topics: dict[str, list[Any]] = {}
    for topic, p in places:
        topics.setdefault(topic, []).append(
            row.ListOffsetsPartition(
                partition_index=p, current_leader_epoch=_ANY_EPOCH, timestamp=at
            )
        )
    request = ListOffsetsRequest(
        replica_id=_NO_REPLICA,
        isolation_level=_UNCOMMITTED,
        topics=[row(name=topic, partitions=cells) for topic, cells in topics.items()],
        timeout_ms=int(1000 * seconds),
    )
    found: dict[Place, int] = {}
    for entry in connection.ask(request, seconds).topics:
        for it in entry.partitions:
            if it.error_code:
                error: Any = for_code(it.error_code)
                raise error(f"{entry.name} partition {it.partition_index}")
            found[entry.name, it.partition_index] = int(it.offset)
    return found
