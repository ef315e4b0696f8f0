"""Strangers lie in a ring, by a rule of the log alone, until they do something: then it is as if they had
been people all along, but for what did not fit."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from models.outcomes import open_slates, strangers
from models.outcomes.open_slates import Account
from models.reference.partition import Partition
from models.reference.sample import Sample
from schemas.events import Event, Link
from schemas.keys import IMPRESSIONS, OPEN_SLATES, PLAIN, STRANGERS
from tests.laws.test_link_laws import (
    HOME,
    case,
    folded,
    law,
    linkings,
    one_record,
    purchases,
    splits,
)
from tests.laws.test_verify_laws import DAY, by_definition, crowded, mismatches, wrong_sums
from tests.laws.world import Memory, Record, action, assigned, fold_log, log_of, person, served

limits = st.sampled_from([1, 2, 50])
visits = st.lists(
    st.tuples(
        st.sampled_from(["served", "served", "served", "click", "view", "purchase", "link"]),
        st.integers(1, 6),
        st.integers(0, 20),
    ),
    min_size=1,
    max_size=40,
)


def ring(memory: Memory, partition: int = 0) -> list[tuple[str, Account]]:
    """Oldest first."""
    start = PLAIN.start(STRANGERS, partition)
    entries = [
        entry
        for key, value in memory.values.items()
        if key.startswith(start)
        for entry in strangers.read_bucket(value).items()
    ]
    entries.sort(key=lambda it: it[1].order)
    return [(name, open_slates.decode(it.stored)) for name, it in entries]


def log(drawn: Sequence[tuple[str, int, int]]) -> list[Record]:
    made: list[Event] = []
    for n, (what, who, width) in enumerate(drawn):
        at = 1_760_000_000_000 + n * 1000
        if what == "served":
            items = [f"i{(who + k) % 30}" for k in range(width)]
            made.append(served(f"s{n}", items, who, at, experiments=(assigned(),)))
        elif what == "link":
            linked = Link(event_id=f"l{n}", person=person(who), to=person(99), received_at=at)
            made.append(linked)
        else:
            last = next((k for k in range(n, 0, -1) if drawn[k - 1][:2] == ("served", who)), 0)
            made.append(action(n, who, f"i{who}", what, at=at, slate_id=f"s{last - 1}"))
    return log_of(made)


@law
@given(visits, splits, splits, limits)
def test_the_ring_is_the_same_however_the_log_is_cut(
    drawn: list[tuple[str, int, int]], one: list[int], other: list[int], limit: int
) -> None:
    records = log(drawn)
    first = fold_log(records, one, strangers=limit)
    again = fold_log(records, other, strangers=limit, restart=True)
    assert first.state() == again.state()
    assert (first.arms(), first.moments()) == (again.arms(), again.moments())
    reference = by_definition(records, strangers=limit)
    assert mismatches(first, 0, reference) == []
    names = list(reference.strangers)
    assert ring(first) == [(name, reference.strangers.account(name)) for name in names]
    assert len(names) <= limit


@law
@given(visits, splits)
def test_who_is_no_stranger_any_more_is_as_if_they_had_never_been_one(
    drawn: list[tuple[str, int, int]], sizes: list[int]
) -> None:
    drawn = [(what, who, min(width, 3)) for what, who, width in drawn]
    latest = {who: n for n, (what, who, _) in enumerate(drawn) if what != "served"}
    # one slate before the first act fits, whatever it is
    seen: set[int] = set()
    kept = []
    for n, (what, who, width) in enumerate(drawn):
        if what == "served" and n < latest.get(who, 0) and who in seen:
            continue
        seen.add(who)
        kept.append((what, who, width))
    records = log(kept)
    with_ring, without = (fold_log(records, sizes, strangers=n) for n in (50, 0))
    acted = {person(who).encode() for what, who, _ in kept if what != "served"}
    for kind in (OPEN_SLATES, IMPRESSIONS):
        start = PLAIN.start(kind, 0)
        every = {key: value for key, value in without.values.items() if key.startswith(start)}
        there = {key: value for key, value in with_ring.values.items() if key.startswith(start)}
        assert there == {k: v for k, v in every.items() if k.removeprefix(start) in acted}
    assert (with_ring.arms(), with_ring.moments()) == (without.arms(), without.moments())


@law
@given(st.lists(one_record | purchases, min_size=1, max_size=60), linkings, splits, limits)
@example(
    [{"who": 1, "what": "served", "item": "i0", "slate": (1, 0), "named": True, "back": 0}],
    [(1, 1, 3)],
    [],
    1,
)
def test_people_links_and_sums_are_what_the_slow_definitions_say(
    drawn: list[dict[str, Any]], linked: list[tuple[int, int, int]], sizes: list[int], limit: int
) -> None:
    check(drawn, linked, sizes, random.Random(len(drawn)), limit)


def test_a_crowded_log_is_what_the_slow_definitions_say() -> None:
    for seed in range(3):
        rnd = random.Random(seed)
        drawn, linked = crowded(rnd)
        check(drawn, linked, [rnd.randrange(1, 40)], rnd, 1 + seed)


def check(drawn: Any, linked: Any, sizes: Sequence[int], rnd: random.Random, limit: int) -> None:
    made = case(drawn, linked)
    done = folded(made, rnd, sizes, limit)
    logs = [log_of(made.logs[0]), log_of(made.logs[1]), log_of(done.log)]
    for p, records in enumerate(logs):
        reference = by_definition(records, strangers=limit)
        assert mismatches(done.memories[p], p, reference) == []
        expected = [(name, reference.strangers.account(name)) for name in reference.strangers]
        assert ring(done.memories[p], p) == expected
    assert wrong_sums(done.memories, logs, limit) == []
    assert len(logs) - 1 == HOME


def test_the_oldest_leaves_and_keeps_what_was_counted() -> None:
    shown = [served(f"s{who}", ["i1"], who, experiments=(assigned(),)) for who in range(1, 5)]
    memory = fold_log(log_of([*shown, shown[1], action(9, 1, "i1", slate_id="s1")]), strangers=2)
    assert [name for name, _ in ring(memory)] == [person(3), person(4)]
    assert len(memory.moments()) == 4  # of each id one, and none of the click
    assert memory.counts["strangers_evicted"] == 2
    assert not [
        key for key in memory.values if key.startswith((b"im:", b"o:{0}:" + b"0" * 31 + b"3"))
    ]


@law
@given(visits, limits, st.integers(0, 3))
def test_who_is_not_checked_keeps_their_place_in_the_ring(
    drawn: list[tuple[str, int, int]], limit: int, size: int
) -> None:
    records, whole = log(drawn), by_definition(log(drawn), strangers=limit)
    reference = Partition(DAY, Sample(size), strangers=limit)
    for offset, timestamp, event in records:
        checked = reference.sample.open_to(event.person)
        (reference.take if checked else reference.pass_over)(offset, timestamp, event)
    assert list(reference.strangers) == list(whole.strangers)
    for name in reference.strangers:
        account = reference.strangers.account(name)
        assert account is None or account == whole.strangers.account(name)


def test_before_the_ring_began_nobody_is_a_stranger() -> None:
    shown = log_of([served("a", ["i1"], 1), served("b", ["i1"], 2), served("c", ["i1"], 1)])
    old = fold_log(shown[:1])
    memory = fold_log(shown[1:], memory=old, strangers=9)
    assert [name for name, _ in ring(memory)] == [person(2)]
    assert memory.values[PLAIN.strangers(0)] == b"1"
    reference = Partition(DAY, Sample(None), strangers=9, since=1)
    for record in shown:
        reference.take(*record)
    assert mismatches(memory, 0, reference) == []
    assert list(reference.strangers) == [person(2)]
