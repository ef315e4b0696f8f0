"""No interaction is dropped because the write before it was still in flight (Metarank's issue 1620).

There a feature's value was read back for every interaction while its last write was under way, so the last
addition was lost, "on essentially every interaction" of a quick user. Here one owner folds a
partition in order, and commits only if no other worker did since it read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from flows.kit.commit import Fenced, commit
from flows.kit.resume import resume
from flows.people.fold import VERSION, PeopleFold
from flows.verify import person_records
from flows.verify.person_records import PERSON_RECORDS
from flows.verify.report import Findings
from infra.kafka.kafka_client import TopicInfo
from infra.settings import Settings
from infra.store import redis_client
from models.features import counts
from models.features.registry import read_row
from models.reference.partition import Partition
from models.reference.sample import Sample
from schemas.keys import PLAIN
from tests.laws.world import Record, action, cuts, log_of, person, served, write_of

TOPIC = TopicInfo("topic-1", 4)
DAY = 86_400_000
ACTS = 240
LOG: list[Record] = log_of(
    [
        served(f"s{n}", [f"i{n % 9}", "i1"]) if n % 12 == 11 else
        action(n, 1, f"i{n % 70}", ["view", "click", "purchase", "hide"][n % 4],
               slate_id=f"s{n - n % 12 - 1}" if n % 3 else "")
        for n in range(ACTS)
    ]
)  # fmt: skip
"""One person, as quick as can be."""


@pytest.fixture
def client(redis_url: str) -> Iterator[Any]:
    with redis_client.connect(Settings(redis_url=redis_url)) as connected:
        connected.flushall()
        yield connected


class Worker:
    """A flow's worker on partition 0, that keeps rows in memory (or, with `cache` 0, reads each again)."""

    def __init__(self, client: Any, cache: int) -> None:
        self.client = client
        fence = resume(client, "people", 0, TOPIC, 0, 10**9, VERSION, PLAIN)
        self.fold = PeopleFold({0: fence}, client.mget, DAY, cache, PLAIN)

    @property
    def next(self) -> int:
        return self.fold.fence(0).offset

    def take(self, records: list[Record]) -> None:
        """Folds and commits. Errors: `Fenced`."""
        commit(self.client, write_of(self.fold, records))


def dropped(client: Any) -> list[object]:
    """The fields of the person that differ from the slow definitions over the whole log."""
    reference, found, name = Partition(DAY, Sample(None)), Findings(), person(1)
    for offset, timestamp, event in LOG:
        reference.take(offset, timestamp, event)
    for feature in PERSON_RECORDS:
        key = feature.key(PLAIN, 0, name)
        person_records.compare(found, feature, key, client.get(key), reference.people[name])
    row = read_row(client.get(PLAIN.row(0, name)))
    assert sum(counts.value(row)[0]) == ACTS - ACTS // 12
    return list(found.mismatches())


@pytest.mark.parametrize("cache", [0, 1000])
@pytest.mark.parametrize("size", [1, 7, ACTS])
def test_of_many_interactions_of_one_person_none_is_dropped(
    client: Any, size: int, cache: int
) -> None:
    worker = Worker(client, cache)
    for piece in cuts(len(LOG), [size]):
        worker.take(LOG[piece])
    assert dropped(client) == []


@pytest.mark.parametrize("cache", [0, 1000])
def test_none_is_dropped_where_two_workers_fold_the_same_person(client: Any, cache: int) -> None:
    """Both workers read the state for a batch, each wins every other one, and the loser starts again."""
    workers, refused = [Worker(client, cache), Worker(client, cache)], 0
    step = 0
    while any(worker.next < ACTS for worker in workers):
        step += 1
        size = 1 + step % 5
        for n in (step % 2, 1 - step % 2):
            records = LOG[workers[n].next : workers[n].next + size]
            if not records:
                continue
            try:
                workers[n].take(records)
            except Fenced:
                refused += 1
                workers[n] = Worker(client, cache)
    assert refused > ACTS // 10
    assert dropped(client) == []


def test_the_check_would_see_a_single_one_that_was_dropped(client: Any) -> None:
    worker = Worker(client, 1000)
    for piece in cuts(len(LOG), [7]):
        worker.take(LOG[piece])
    key = PLAIN.seen(0, person(1))
    client.set(key, client.get(key)[:-8])
    assert len(dropped(client)) == 1
