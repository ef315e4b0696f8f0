"""A log in memory with every kind of record of `events`, for tests of offline folds."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from flows.offline.fold import Offline
from flows.people.fold import VERSION
from infra.kafka.kafka_client import TopicInfo
from infra.log_reader import Batch, OffTheLog
from infra.settings import Settings
from schemas import events
from schemas.events import Link, Preferences
from schemas.identity import partition_of
from schemas.state.fences import Fence
from tests.laws.world import T0, action, assigned, person, served

PARTITIONS = 2
TOPIC = TopicInfo("a topic id", PARTITIONS)
POISON = b'{"kind":"action","event_id":'
HOUR = 3_600_000


class MemoryLog:
    """A `infra.log_reader.LogReader` of plain lists: partitions[p][offset] = (record time, value)."""

    def __init__(self, partitions: Sequence[Sequence[tuple[int, bytes]]]) -> None:
        self.partitions = [list(records) for records in partitions]

    @property
    def end_offsets(self) -> list[int]:
        return [len(records) for records in self.partitions]

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        return 0, len(self.partitions[partition])

    def read(
        self, topic: str, partition: int, start: int, end: int, size: int = 20_000
    ) -> Iterator[Batch]:
        if end > len(self.partitions[partition]):
            raise OffTheLog(f"the log ends at {len(self.partitions[partition])}")
        while start < end:
            next_ = min(end, start + size)
            records = self.partitions[partition][start:next_]
            yield Batch(
                partition,
                start,
                next_,
                list(range(start, next_)),
                [timestamp for timestamp, _ in records],
                [value for _, value in records],
            )
            start = next_


def settings_in(folder: Path) -> Settings:
    return Settings(data_dir=folder, partitions=PARTITIONS)


def crowd(n: int, seed: int = 0, people: int = 12) -> list[events.Event]:
    """n records of every kind, some of them twice."""
    rnd, made = random.Random(seed), list[events.Event]()
    for i in range(n):
        who, item, at = rnd.randint(1, people), f"i{rnd.randint(1, 40)}", T0 + i * 1000
        draw = rnd.random()
        if draw < 0.1:
            items = [f"i{rnd.randint(1, 40)}" for _ in range(4)]
            made.append(served(f"s{i}", items, who, at, experiments=(assigned(),)))
        elif draw < 0.13:
            preferences = Preferences(event_id=f"p{i}", person=person(who), received_at=at)
            made.append(preferences)
        elif draw < 0.16:
            to = person(rnd.randint(1, people))
            made.append(Link(event_id=f"l{i}", person=person(who), to=to, received_at=at))
        elif draw < 0.2 and made:
            made.append(rnd.choice(made[-50:]))
        else:
            what = rnd.choice(["view", "click", "click", "like", "purchase", "hide", "display"])
            slate = f"s{rnd.randint(max(0, i - 40), i)}"
            back = rnd.choice([0, 0, 0, 5000])
            made.append(action(i, who, item, what, at=at - back, received_at=at, slate_id=slate))
    return made


def log_of(made: Sequence[events.Event], seed: int = 0) -> MemoryLog:
    """The log of these events, with poison, each record an hour or less after the one before."""
    rnd, partitions = random.Random(seed), [list[tuple[int, bytes]]() for _ in range(PARTITIONS)]
    at = T0
    for n, event in enumerate(made):
        at += rnd.choice([0, 1000, 1000, HOUR // 10])
        partition = partition_of(event.person.encode(), PARTITIONS)
        partitions[partition].append((at, events.encode(event)))
        if n % 97 == 50:
            partitions[partition].append((at, POISON))
    return MemoryLog(partitions)


def start(settings: Settings, partition: int) -> Offline:
    return Offline(settings, partition, Fence(TOPIC.id, TOPIC.partitions, 0, 0, VERSION))


def folded(settings: Settings, log: MemoryLog, partition: int, size: int = 20_000) -> Offline:
    """A partition folded from its beginning to its end, in batches of `size`."""
    made = start(settings, partition)
    for batch in log.read("events", partition, 0, log.end_offsets[partition], size):
        made.fold(batch)
    return made


def relayed(settings: Settings, log: MemoryLog, at: int) -> MemoryLog:
    """The log with the records of its outboxes appended, as a relay would have done."""
    after = MemoryLog(log.partitions)
    for partition in range(PARTITIONS):
        for entry in folded(settings, log, partition).outbox:
            to = partition_of(entry.fields[b"k"], PARTITIONS)
            after.partitions[to].append((at, entry.fields[b"v"]))
    return after
