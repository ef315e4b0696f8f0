"""Logs for tests of the lake: batches of events, and what a reader has read of them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from infra.lake.reader import Lake
from infra.lake.write import write
from infra.log_reader import Batch, Headers
from schemas import events
from schemas.alphabet import Pseudonym
from schemas.lake import BY_TOPIC, ManifestEntry
from schemas.topics import EVENTS

DAY: Final = 1_700_006_400_000
"""2023-11-15T00:00:00Z, ms."""
HOUR: Final = 3_600_000
POISON: Final = b'{"kind":"action","person":'


class Read(NamedTuple):
    """The columns of all records that were read, and the bounds of each batch."""

    offsets: list[int]
    timestamps: list[int]
    keys: list[bytes | None]
    values: list[bytes | None]
    headers: list[Headers]
    cuts: list[tuple[int, int]]


def person(n: int) -> Pseudonym:
    return Pseudonym(f"{n:032x}")


def action(n: int, who: int, at: int) -> bytes:
    return events.encode(
        events.Action(
            event_id=f"e{n}",
            person=person(who),
            item_id=f"i{n % 50}",
            action="click",
            occurred_at=at,
            received_at=at,
            category="Drama",
            known=True,
        )
    )


def batch(
    start: int, values: Sequence[bytes | None], timestamps: Sequence[int], partition: int = 0
) -> Batch:
    offsets = list(range(start, start + len(values)))
    keys: list[bytes | None] = [b"k%d" % (it % 7) for it in offsets]
    return Batch(
        partition, start, start + len(values), offsets, list(timestamps), list(values), keys=keys
    )


def a_day(records: int, people: int, files: int, day: int = DAY, start: int = 0) -> list[Batch]:
    """A day's events in so many batches: times go up, but for some seconds of jitter."""
    chance = random.Random(5)
    each = records // files
    made = []
    for first in range(start, start + each * files, each):
        places = range(first, first + each)
        timestamps = [
            min(
                day + 24 * HOUR - 1,
                max(day, day + (n - start) * 24 * HOUR // records + chance.randrange(-9000, 9000)),
            )
            for n in places
        ]
        values = [
            action(n, chance.randrange(people), at)
            for n, at in zip(places, timestamps, strict=True)
        ]
        made.append(batch(first, values, timestamps))
    return made


def put(lake: Lake, batches: Iterable[Batch], topic: str = EVENTS.name) -> list[ManifestEntry]:
    """Writes an object and an entry for each batch."""
    entries = []
    for it in batches:
        entry = write(lake.store, BY_TOPIC[topic], [it], "id", 4)
        lake.manifest(topic, it.partition).write(entry)
        entries.append(entry)
    return entries


def read(batches: Iterable[Batch]) -> Read:
    found = Read([], [], [], [], [], [])
    for it in batches:
        found.offsets.extend(it.offsets)
        found.timestamps.extend(it.timestamps)
        found.keys.extend(it.keys)
        found.values.extend(it.values)
        found.headers.extend(it.headers or [()] * len(it.offsets))
        found.cuts.append((it.first, it.next))
    return found


def everything(lake: Lake, partition: int = 0, topic: str = EVENTS.name, size: int = 500) -> Read:
    return read(lake.read(topic, partition, *lake.bounds(topic, partition), size))
