"""What waits is small: bytes that the tables hold and store of 100,000 ids that no item has."""

from __future__ import annotations

import gc
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import numpy as np
import pytest

from models.aggregates.tables import Tables
from models.arrays import U64
from schemas.actions import CODE
from schemas.state import facts
from schemas.state.facts import IMPORTED, UNKNOWN, Delta
from tests.support.whole import whole_only

UNKNOWN_IDS: Final = 100_000
PARTITIONS, START = 4, 1_760_000_000
FACTS_PER_ENTRY: Final = 500
MAX_BYTES: Final = 4_000_000
"""Held by the roll-up, and stored, where each id has an action."""
MAX_BYTES_OF_SESSIONS: Final = 10_000_000
"""Where each id has three, of people of several partitions: each partition keeps its own."""
FEW_IDS: Final = 20_000
BYTES_OF_AN_ID: Final = 100
"""Held, with any number of facts without partners."""
BYTES_OF_DAYS: Final = 1_000_000
"""The actions of each partition that are not packed yet, and the tables themselves."""


class Act(NamedTuple):
    time: int
    person: int
    item: int
    partners: tuple[int, ...] = ()


def each_on_its_own() -> Iterator[Act]:
    """5,000 people act 20 times, a minute between."""
    for minute in range(20):
        for person in range(5000):
            yield Act(60 * minute + person // 100, person, 20 * person + minute)


def in_sessions() -> Iterator[Act]:
    """Each id three times, in sessions of ten by 5,000 people."""
    items = np.random.default_rng(1).permutation(np.repeat(np.arange(UNKNOWN_IDS), 3)).tolist()
    for n, item in enumerate(items):
        session, step = n // 10, n % 10
        yield Act(3600 * (session // 5000) + 30 * step + session % 25, session % 5000, item)


def of_few_ids() -> Iterator[Act]:
    for n in range(10 * FEW_IDS):
        yield Act(n, n % 5000, n % FEW_IDS)


def with_partners(acts: Iterator[Act]) -> Iterator[Act]:
    """In the order of time, with the ten items before in a person's session."""
    before: dict[int, deque[int]] = {}
    newest: dict[int, int] = {}
    for act in sorted(acts):
        session = before.setdefault(act.person, deque(maxlen=10))
        if act.time - newest.get(act.person, act.time) > 1800:
            session.clear()
        newest[act.person] = act.time
        yield act._replace(partners=tuple(it for it in session if it != act.item))
        session.appendleft(act.item)


def apply(made: Tables, acts: Iterator[Act], flags: int) -> None:
    waiting: list[list[Act]] = [[] for _ in range(PARTITIONS)]
    for act in acts:
        mine = waiting[act.person % PARTITIONS]
        mine.append(act)
        if len(mine) == FACTS_PER_ENTRY:
            apply_entry(made, act.person % PARTITIONS, mine, flags)
            mine.clear()
    for partition, rest in enumerate(waiting):
        apply_entry(made, partition, rest, flags)


def apply_entry(made: Tables, partition: int, acts: list[Act], flags: int) -> None:
    first, n = made.positions[partition], len(acts)
    entry = Delta(
        first,
        first + n,
        facts.Actions(
            np.arange(n, dtype=np.uint32),
            hashed([act.item for act in acts]),
            np.array([START + act.time for act in acts], np.uint32),
            np.full(n, CODE["view"], np.uint8),
            np.full(n, UNKNOWN | flags, np.uint8),
            np.array([len(act.partners) for act in acts], np.uint8),
            hashed([it for act in acts for it in act.partners]),
            np.array([lag for act in acts for lag, _ in enumerate(act.partners, 1)], np.uint8),
        ),
    )
    made.apply(partition, facts.decode(facts.encode(entry)))


def hashed(items: list[int]) -> U64:
    """Numbers that look random, one an item."""
    hashes: U64 = np.array(items, np.uint64) * np.uint64(0x9E37_79B9_7F4A_7C15)
    return hashes


def held(shape: Callable[[], Iterator[Act]], flags: int, *, partners: bool) -> tuple[Tables, int]:
    """The tables of these actions, and how many bytes they hold."""
    acts = list(with_partners(shape()) if partners else shape())
    made = Tables(PARTITIONS)
    apply(Tables(PARTITIONS), iter(acts[:10]), flags)  # what any first use allocates
    gc.collect()
    tracemalloc.start()
    apply(made, iter(acts), flags)
    gc.collect()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return made, size


@pytest.mark.check
@pytest.mark.parametrize(
    "flags", [0, pytest.param(IMPORTED, marks=whole_only)], ids=["live", "imported"]
)
@pytest.mark.parametrize(
    ("shape", "most"), [(each_on_its_own, MAX_BYTES), (in_sessions, MAX_BYTES_OF_SESSIONS)]
)
def test_many_ids_that_no_item_has_take_few_bytes(
    shape: Callable[[], Iterator[Act]], most: int, flags: int
) -> None:
    made, size = held(shape, flags, partners=True)
    assert made.waiting.pairs > 7 * UNKNOWN_IDS or not flags
    assert size + len(made.dump()) < most


@pytest.mark.check
def test_facts_of_the_same_ids_take_no_more_bytes() -> None:
    made, size = held(of_few_ids, 0, partners=False)
    assert made.waiting.ids == FEW_IDS
    assert size < BYTES_OF_AN_ID * FEW_IDS + BYTES_OF_DAYS
    kept = sum(day.size for days in made.waiting.days for day in days.values())
    assert kept < size
