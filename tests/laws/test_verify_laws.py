"""The fold stores what `freshet verify` expects: people, links and tables, for any log."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flows.verify import person_records, stored_tables, table_sums
from flows.verify.person_records import PERSON_RECORDS
from flows.verify.report import Findings, Mismatch
from flows.verify.waiting import PartitionWaits
from models.aggregates.tables import Tables
from models.reference.dedupe import Window
from models.reference.partition import Partition
from models.reference.sample import Sample
from models.reference.sums import Sums
from schemas.keys import PLAIN
from schemas.state import facts
from tests.laws.test_fold_laws import build
from tests.laws.test_link_laws import (
    HOME,
    MONEY,
    case,
    folded,
    law,
    linkings,
    one_record,
    purchases,
    records,
    splits,
)
from tests.laws.test_outcome_laws import busy
from tests.laws.world import Memory, Record, fold_log, log_of

DAY = 86_400_000


def by_definition(log: Sequence[Record], sums: Sums | None = None, strangers: int = 0) -> Partition:
    reference = Partition(DAY, Sample(None), sums, strangers=strangers)
    for offset, timestamp, event in log:
        reference.take(offset, timestamp, event)
    return reference


def mismatches(memory: Memory, partition: int, reference: Partition) -> list[Mismatch]:
    """The mismatches of all people, and the stored keys of people who are not in the log."""
    found, named = Findings(), set()
    for name, person in reference.people.items():
        for feature in PERSON_RECORDS:
            key = feature.key(PLAIN, partition, name)
            person_records.compare(found, feature, key, memory.values.get(key), person)
            named.add(key)
    prefixes = tuple(feature.key(PLAIN, partition, "") for feature in PERSON_RECORDS)
    assert {key for key in memory.values if key.startswith(prefixes)} <= named
    received = {b"%d" % p: b"%d-%d" % number for p, number in reference.received.items()}
    assert memory.hashes.get(PLAIN.received(partition), {}) == received
    held = memory.hashes.get(PLAIN.tallies(partition), {})
    tallies = {reason.decode(): int(total) for reason, total in held.items()}
    found.compare("not counted", "value", tallies, dict(reference.tallies))
    return found.mismatches()


def wrong_sums(
    memories: Sequence[Memory], logs: Sequence[Sequence[Record]], strangers: int = 0
) -> list[Mismatch]:
    tables = Tables(len(memories))
    for p, memory in enumerate(memories):
        for entry in memory.streams.get(PLAIN.deltas(p), []):
            tables.apply(p, facts.decode(entry[1][facts.FIELD]))
    stored, found = stored_tables.of_tables(tables, PLAIN.tables()), Findings()
    sums = Sums(stored.marks)
    waits = [
        PartitionWaits.of(p, by_definition(log, sums, strangers).waiting)
        for p, log in enumerate(logs)
    ]
    table_sums.compare(found, stored, sums, waits)
    assert found.fields > 0 or not any(logs)
    return found.mismatches()


def crowded(rnd: random.Random) -> tuple[list[dict[str, Any]], list[tuple[int, int, int]]]:
    """Actions of a few people, many on the same items, with links and unlinks among them."""
    what = ["served", "display", "click", "click", "purchase", "view", "hide"]
    what += ["served", "display", *MONEY, "order", "gift", "gift"]
    drawn = []
    for _ in range(250):
        acted = rnd.choice(what)
        drawn.append(
            {
                "who": rnd.choice([1, 1, 2, 3, 3, 4]),
                "what": acted,
                "item": f"i{rnd.randrange(6)}",
                "slate": (rnd.choice([1, 1, 2, 3, 4]), rnd.randrange(4)),
                "named": rnd.random() < (0.2 if acted in MONEY else 0.9),
                "back": rnd.choice([0, 0, 0, 5_000, 9 * DAY]),
            }
        )
    linked = [
        (rnd.randrange(250), of, rnd.choice([3, 3, 4, -3, -4])) for of in (1, 1, 2, 2, 1, 1, 2, 2)
    ]
    return drawn, linked


ONE = {"who": 1, "item": "i0", "slate": (1, 0), "named": False, "back": 0}


@law
@given(st.lists(one_record | purchases, min_size=1, max_size=80), linkings, splits)
@example(
    [
        *[{**ONE, "what": "served", "named": True}] * 14,
        {**ONE, "what": "order"},
        {**ONE, "what": "refund"},
        {**ONE, "what": "order", "who": 3},
    ],
    [(0, 1, 3)],
    [],
)
def test_people_links_and_sums_are_what_the_slow_definitions_say(
    drawn: list[dict[str, Any]], linked: list[tuple[int, int, int]], sizes: list[int]
) -> None:
    check(drawn, linked, sizes, random.Random(len(drawn)))


@pytest.mark.parametrize("seed", range(6))
def test_a_crowded_log_with_links_is_what_the_slow_definitions_say(seed: int) -> None:
    rnd = random.Random(seed)
    drawn, linked = crowded(rnd)
    check(drawn, linked, [rnd.randrange(1, 40)], rnd)


def check(drawn: Any, linked: Any, sizes: Sequence[int], rnd: random.Random) -> None:
    made = case(drawn, linked)
    done = folded(made, rnd, sizes)
    logs = [log_of(made.logs[0]), log_of(made.logs[1]), log_of(done.log)]
    for p, log in enumerate(logs):
        assert mismatches(done.memories[p], p, by_definition(log)) == []
    assert wrong_sums(done.memories, logs) == []
    assert len(logs) - 1 == HOME


@pytest.mark.parametrize("seed", range(2))
def test_more_slates_than_are_kept_are_what_the_slow_definitions_say(seed: int) -> None:
    log = busy(seed)
    memory = fold_log(log, [50])
    assert mismatches(memory, 0, by_definition(log)) == []
    assert wrong_sums([memory], [log]) == []


def test_a_fact_less_or_more_is_found() -> None:
    """The check finds a log without its last counted action, and one with an action twice."""
    log = busy(3)
    memory = fold_log(log, [50])
    assert mismatches(memory, 0, by_definition(log[:-30]))
    found = {it.what for it in wrong_sums([memory], [log[:-30]])}
    assert {"popularity", "arms", "experiments"} <= found


@law
@given(records)
def test_law_12_the_slow_window_takes_what_the_fold_takes(drawn: list[dict[str, Any]]) -> None:
    """Ids that come again later: the remembered ids are the stored ones, bucket by bucket."""
    rnd = random.Random(len(drawn))
    made = case(drawn, []).logs[HOME]
    if not made:
        return
    order = [rnd.choice(made) for _ in range(3 * len(made))]
    log = [(n, 1_000_000 + n * rnd.randrange(900), event) for n, event in enumerate(order)]
    memory, window = fold_log(log, [7, 2], hours=0.005, partition=HOME), Window(18_000)
    for _, timestamp, event in log:
        window.fresh(event, timestamp)  # type: ignore[arg-type]
    held = window.held()
    for bucket in range(window.oldest, window.oldest + 6):
        blob = memory.values.get(PLAIN.dedupe(HOME, bucket), b"")
        stored = {blob[at : at + 8] for at in range(0, len(blob), 8)}
        expected = {number.to_bytes(8, "little") for number in held.get(bucket, ())}
        assert stored == expected


def test_a_sample_is_whole_fixed_by_its_seed_and_of_those_alone() -> None:
    drawn = [
        {"who": n, "item": "i1", "what": "click", "gap": 1000, "back": 0, "session": "",
         "known": True, "again": False}
        for n in range(300)
    ] * 2  # fmt: skip
    log = build(drawn)

    def sample(seed: int) -> dict[str, int]:
        reference = Partition(DAY, Sample(40, seed))
        for offset, timestamp, event in log:
            reference.take(offset, timestamp, event)
        return {name: len(it.kept.acts) for name, it in reference.checked.items() if it.kept}

    one, other = sample(1), sample(2)
    assert len(one) == len(other) == 40
    assert set(one.values()) == {2}, "no event of a sampled person was missed"
    assert one == sample(1) != other
