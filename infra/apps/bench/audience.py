"""Generated events for the bench, as a log for replay and as bodies for POSTs.

People are drawn by a power law (a few act much), items by Zipf's law (a few are acted on much), both
from a seed: the same arguments always give the same events.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from infra.kafka import kafka_client
from infra.kafka.names import broker_name
from infra.settings import Settings
from schemas import events
from schemas.alphabet import Pseudonym
from schemas.events import Action
from schemas.identity import partition_of, pseudonym
from schemas.times import iso
from schemas.topics import EVENTS

PEOPLE: Final = 20_000
ITEMS: Final = 10_000
CATEGORIES: Final = 20
ACTIONS: Final = ("view", "view", "view", "click", "click", "like", "cart", "purchase")
DUPLICATE_EVERY: Final = 100
"""One record of so many is delivered twice: the fold must count it once."""
START_MS: Final = 1_760_000_000_000
STEP_MS: Final = 200
_SESSION_MS: Final = 3_600_000
_KEY: Final = (1, b"the bench's pseudonyms are no secret")


@dataclass(frozen=True)
class WrittenLog:
    """A log in the broker: the end offset of each partition, events without duplicates, people, bytes."""

    end_offsets: dict[int, int]
    distinct: int
    people: int
    bytes: int
    """Of record values."""

    @property
    def records(self) -> int:
        return sum(self.end_offsets.values())


def people(chance: np.random.Generator, count: int, of: int = PEOPLE) -> NDArray[np.int64]:
    """The person of each of `count` events: numbers below `of`, Pareto with index 1.1 (median about 180)."""
    return (chance.pareto(1.1, count) * of / 100).astype(np.int64) % of


def items(chance: np.random.Generator, count: int, of: int = ITEMS) -> NDArray[np.int64]:
    """The item of each of `count` events: ranks below `of`, Zipf with exponent 1.2, modulo `of`."""
    return (chance.zipf(1.2, count).astype(np.uint64) % np.uint64(of)).astype(np.int64)


def actions(count: int, seed: int = 0) -> Iterator[Action]:
    """`count` events as the edge enriches them, one every `STEP_MS` ms, about 230 B of JSON each."""
    chance = np.random.default_rng(seed)
    persons, ranks = people(chance, count).tolist(), items(chance, count).tolist()
    which = chance.integers(len(ACTIONS), size=count).tolist()
    names: dict[int, Pseudonym] = {}
    for i in range(count):
        at, person = START_MS + STEP_MS * i, persons[i]
        name = names.get(person) or names.setdefault(person, pseudonym(*_KEY, f"p{person}"))
        yield Action(
            event_id=f"{seed:x}-{i:08x}",
            person=name,
            item_id=f"i{ranks[i]}",
            action=ACTIONS[which[i]],
            occurred_at=at,
            received_at=at + 40,
            category=f"genre{ranks[i] % CATEGORIES}",
            known=True,
            session_id=f"p{person}-{at // _SESSION_MS - 488_000}",
        )


def write(settings: Settings, count: int, seed: int = 0) -> WrittenLog:
    """Fills `events` with `count` events, every `DUPLICATE_EVERY`-th of them twice.

    Errors: `KafkaError`.
    """
    producer = kafka_client.producer(settings, linger_ms=20, batch_size=200_000)
    sent: Counter[int] = Counter()
    partitions: dict[str, int] = {}
    size, name = 0, broker_name(settings, EVENTS.name)
    try:
        for number, action in enumerate(actions(count, seed)):
            person, value = action.person, events.encode(action)
            if person not in partitions:
                partitions[person] = partition_of(person.encode(), settings.partitions)
            partition = partitions[person]
            for _ in range(2 if number % DUPLICATE_EVERY == 0 else 1):
                headers = list(EVENTS.headers)
                producer.send(name, value, person.encode(), headers, partition)
                sent[partition] += 1
                size += len(value)
        producer.flush()
    finally:
        producer.close()
    return WrittenLog(dict(sent), count, len(partitions), size)


def bodies(
    count: int, batch: int, item_ids: Sequence[str], start_ms: int, rate: float, seed: int
) -> Iterator[tuple[str, str]]:
    """`count` POSTs of (user, JSON), the events of each by one user.

    Events happen when they are sent: POST number k at `start_ms` + k / `rate` s. A `seed` of its own
    gives each run event ids of its own, else all but the first would be duplicates.
    """
    chance = np.random.default_rng(seed)
    persons = people(chance, count).tolist()
    ranks = items(chance, count * batch, len(item_ids)).tolist()
    which = chance.integers(len(ACTIONS), size=count * batch).tolist()
    for k in range(count):
        at = iso(start_ms + int(k * 1000 / rate))
        user = f"bench-{persons[k]}"
        made = [
            {
                "event_id": f"{seed:x}-{i:08x}",
                "user_id": user,
                "session_id": f"{user}-{seed:x}",
                "item_id": item_ids[ranks[i]],
                "action": ACTIONS[which[i]],
                "occurred_at": at,
            }
            for i in range(k * batch, (k + 1) * batch)
        ]
        yield user, json.dumps(made[0] if batch == 1 else {"events": made})
