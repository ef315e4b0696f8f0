"""A consumer of one topic that fetches in the caller's thread: one request a leader for all its partitions.

A request lies at the broker until there is a record, so at rest a record is fetched at once. Under load the
next request waits until `FETCH_INTERVAL` has passed since the one before, for a batch costs less a record the
more it has. Where an answer brought more than is folded in one batch, the next request goes out before its
records are folded, so that broker and fold work at the same time.

A broker that is away is tried again and again, by a thread that lives as long as that takes: `poll` never
waits longer than it is told to.
"""

from __future__ import annotations

import logging
import selectors
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from kafka.errors import (
    LogTruncationError,
    OffsetOutOfRangeError,
    RetriableError,
    TopicAuthorizationFailedError,
    for_code,
)

from infra.backoff import Pauses
from infra.kafka.connection import ANSWER_SECONDS, BrokenConnection
from infra.kafka.consume import wire
from infra.kafka.consume.batches import Fetched, split
from infra.kafka.consume.connection import BlockingConnection
from infra.kafka.consume.finder import Finder
from infra.kafka.consume.leaders import Address, LeaderConnections
from infra.kafka.fetch import Records
from infra.kafka.names import own_name, topic_partition
from infra.kafka.security import KafkaSecurityError
from infra.settings import Settings

log = logging.getLogger(__name__)
FETCH_WAIT_MS: Final = 2000
"""How long a request lies at a broker that has no record."""
FETCH_INTERVAL: Final = 0.008
"""Under load, from one request to the next, in s. A round of a flow costs its process some half a millisecond
before its first record: 125 rounds a second leave it most of its core, and a record waits 4 ms on average."""
FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 0.02, 0.5
"""Bounds of the pause before brokers are asked for leaders again."""
LOOK_SECONDS: Final = 0.02
"""How often it is looked whether leaders were found, while other leaders are read from."""
SILENCE_SECONDS: Final = FETCH_WAIT_MS / 1000 + ANSWER_SECONDS
"""A broker of which nothing has come for so long, of an answer that waits, is away."""
_LOST = (OSError, EOFError)


@dataclass(eq=False)
class _Place:
    """A partition that is read. What is fetched for one that was sought since belongs to no place."""

    partition: int
    offset: int
    epoch: int = -1
    leader: Address | None = None


@dataclass(eq=False)
class _Link:
    """A connection to a leader, and what was asked of it last."""

    connection: BlockingConnection
    asked: list[_Place] = field(default_factory=list)
    sent_at: float = float("-inf")
    is_behind: bool = False
    """The last answer filled a batch: there may be more."""


class Consumer:
    """`topic`: the broker's name. `size`: records of a partition that are folded in one batch.

    Nothing is connected before the first `poll`.
    """

    def __init__(self, settings: Settings, topic: str, size: int) -> None:
        self._settings, self._name, self._size = settings, topic, size
        self._places: dict[int, _Place] = {}
        self._paused: set[int] = set()
        self._links: dict[Address, _Link] = {}
        self._selector = selectors.DefaultSelector()
        self._finder = Finder(settings)
        self._pauses = Pauses(FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS)
        self._retry_at = float("-inf")
        self._is_away = False
        self._troubled: set[int] = set()
        """Partitions whose last fetch failed."""
        self._is_whole = False
        """Each partition that is read has a connection to its leader, and none waits for an older request."""
        self.requests = 0
        """How many were sent."""

    def seek(self, partition: int, offset: int) -> None:
        """Reads the partition from `offset` on. A request that is under way for others delays it by none."""
        was = self._places.get(partition)
        self._places[partition] = _Place(partition, offset, leader=was.leader if was else None)
        self._is_whole = False

    def drop(self, partition: int) -> None:
        """Reads the partition no more."""
        self._places.pop(partition, None)

    def pause(self, partition: int) -> None:
        """Leaves the partition out of requests; what is fetched for it is dropped."""
        self._paused.add(partition)

    def resume(self, partition: int) -> None:
        self._paused.discard(partition)
        self._is_whole = False

    def position(self, partition: int) -> int:
        """The offset of the next fetch: behind marks of transactions and gaps of compaction, too."""
        return self._places[partition].offset

    def poll(self, seconds: float) -> dict[int, Iterator[Records]]:
        """What was fetched, by partition, as soon as there is something; empty after `seconds`.

        Each partition's pieces are decoded as they are asked for (`CorruptRecordError`).

        Errors: `OffsetOutOfRangeError`, `LogTruncationError` where the log does not hold what is asked for;
        `CorruptRecordError`; other `KafkaError` that no waiting mends.
        """
        until = time.monotonic() + seconds
        while True:
            self._mend()
            now = time.monotonic()
            due = self._send(now)
            fetched = self._receive(max(0.0, min(until, due) - now))
            if fetched:
                return {it.partition: found.decoded() for it, found in fetched}
            if time.monotonic() >= until:
                return {}

    def close(self) -> None:
        self._finder.close()
        for at in list(self._links):
            self._close(at)
        self._selector.close()

    def _active(self) -> list[_Place]:
        return [it for p, it in self._places.items() if p not in self._paused]

    # leaders

    def _mend(self) -> None:
        """Takes what the finder found, and has it look for leaders that are missing."""
        if self._is_whole:
            return
        outcome = self._finder.take()
        if isinstance(outcome, LeaderConnections):
            self._adopt(outcome)
        elif isinstance(outcome, (*_LOST, RetriableError, KafkaSecurityError)):
            self._is_lost(outcome, self._missing())
        elif outcome is not None:
            raise outcome
        active = self._active()
        for at, link in list(self._links.items()):
            # a broker takes one request of a connection after the other: one that waits would delay the next
            if link.connection.is_waiting and any(
                it.leader == at and it not in link.asked for it in active
            ):
                self._close(at)
        missing = self._missing()
        self._is_whole = not missing and not self._finder.is_busy
        if missing and not self._finder.is_busy and time.monotonic() >= self._retry_at:
            self._finder.start([(self._name, p) for p in missing], list(self._links))

    def _adopt(self, found: LeaderConnections) -> None:
        for at, connection in found.opened.items():
            self._links[at] = _Link(connection)
            self._selector.register(connection, selectors.EVENT_READ, at)
        for (_, p), leader in found.leaders.items():
            if p in self._places:
                self._places[p].leader = leader
        for error in found.errors:
            self._is_lost(error, self._missing())

    def _missing(self) -> list[int]:
        """Partitions that are read and have no connection to a leader."""
        return [it.partition for it in self._active() if it.leader not in self._links]

    def _close(self, at: Address) -> None:
        self._is_whole = False
        connection = self._links.pop(at).connection
        self._selector.unregister(connection)
        connection.close()

    def _lose(self, at: Address, error: BaseException) -> None:
        """Ends a connection that failed."""
        troubled = [it.partition for it in self._links[at].asked]
        self._close(at)
        self._is_lost(error, troubled)

    def _is_lost(self, error: BaseException, partitions: Iterable[int]) -> None:
        """A broker is away, or a partition has no leader that takes requests: leaders are looked for after a
        pause."""
        self._is_whole = False
        self._retry_at = time.monotonic() + next(self._pauses)
        self._troubled.update(partitions)
        if not self._is_away:
            self._is_away = True
            log.warning("%s cannot be fetched (%s): trying again", self._name, _text(error))

    def _is_found(self, partition: int) -> None:
        """A partition was fetched. Once each that was not is, the next pause is the first one again."""
        self._troubled.discard(partition)
        if self._troubled.isdisjoint(it.partition for it in self._active()):
            self._pauses.reset()
            self._is_away = False
            log.info("%s is fetched again", self._name)

    # requests and answers

    def _send(self, now: float) -> float:
        """Sends what is due; answers when the next request is, by `time.monotonic`."""
        due = float("inf")
        for at, link in list(self._links.items()):
            if link.connection.is_waiting:
                continue
            next_at = link.sent_at if link.is_behind else link.sent_at + FETCH_INTERVAL
            if next_at > now:
                due = min(due, next_at)
            else:
                self._ask(at, link, now)
        if self._finder.is_busy:
            due = min(due, now + LOOK_SECONDS)
        elif not self._is_whole:
            due = min(due, max(self._retry_at, now))
        return due

    def _ask(self, at: Address, link: _Link, now: float) -> None:
        asked = [it for it in self._active() if it.leader == at]
        if not asked:
            return
        if now > link.connection.expires_at:
            self._close(at)  # a new one authenticates
            return
        # the first partition may bring a batch that is larger than an answer: each one's is the first in turn
        self.requests += 1
        cut = self.requests % len(asked)
        link.asked, link.sent_at = asked[cut:] + asked[:cut], now
        positions = [wire.Position(it.partition, it.offset, it.epoch) for it in link.asked]
        body = wire.request(self._name, positions, FETCH_WAIT_MS)
        try:
            link.connection.send(wire.API, wire.VERSION, body, wire.MAX_ANSWER_BYTES)
        except _LOST as error:
            self._lose(at, error)

    def _receive(self, seconds: float) -> list[tuple[_Place, Fetched]]:
        """Waits for an answer; gives what the answers that are there brought."""
        if not any(it.connection.is_waiting for it in self._links.values()):
            self._finder.wait(seconds)
            return []
        found: list[tuple[_Place, Fetched]] = []
        for key, _ in self._selector.select(seconds):
            found += self._read(key.data)
        if not found:
            self._drop_silent()
        return found

    def _read(self, at: Address) -> list[tuple[_Place, Fetched]]:
        link = self._links[at]
        try:
            frame = link.connection.receive()
            if frame is None:
                return []
            cells = wire.answer(frame, 8, self._name)
            found = self._fetched(link, cells)
        except _LOST as error:
            self._lose(at, error)
            return []
        for place, fetched in found:
            place.offset, place.epoch = fetched.next, fetched.epoch
        link.is_behind = any(it.records >= self._size for _, it in found)
        if link.is_behind:
            self._ask(at, link, time.monotonic())
        return found

    def _fetched(self, link: _Link, cells: Iterable[wire.Cell]) -> list[tuple[_Place, Fetched]]:
        """Errors: `BrokenConnection`; those of `poll`."""
        asked = {it.partition: it for it in link.asked}
        active = {id(it) for it in self._active()}
        found = []
        for cell in cells:
            place = asked.pop(cell.partition, None)
            if place is None:
                raise BrokenConnection(f"an answer of partition {cell.partition}, not asked for")
            if id(place) not in active:
                continue
            if cell.error or cell.diverged:
                self._refused(place, cell)
                continue
            if fetched := split(cell.records, place.offset):
                found.append((place, fetched))
            if self._is_away:
                self._is_found(cell.partition)
        return found

    def _refused(self, place: _Place, cell: wire.Cell) -> None:
        """Looks for the leader again where that mends it. Errors: those of `poll`."""
        ours = own_name(self._settings, self._name)
        at = topic_partition(self._settings, ours, place.partition)
        if cell.diverged:
            raise LogTruncationError(
                {at: None},
                f"{at.topic} partition {at.partition} was cut off at {cell.diverged[1]}, and was read up to"
                f" {place.offset}",
            )
        error = for_code(cell.error)
        if error is OffsetOutOfRangeError:
            raise OffsetOutOfRangeError({at: place.offset})
        if error is TopicAuthorizationFailedError:
            raise TopicAuthorizationFailedError({self._name})
        if not issubclass(error, RetriableError):
            raise error(f"fetching {at.topic} partition {at.partition}")
        place.leader = None
        self._is_lost(error(f"partition {at.partition}"), [at.partition])

    def _drop_silent(self) -> None:
        now = time.monotonic()
        for at, link in list(self._links.items()):
            if link.connection.is_waiting and now - link.connection.heard_at > SILENCE_SECONDS:
                self._lose(at, TimeoutError(f"no answer within {SILENCE_SECONDS:g} s"))


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
