"""Offline arms see any state and any tables that the log can give, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from flows.offline.history import Cut, Facts, by_time, fold
from infra.apps.demo.arms import Arms, Read, play
from infra.apps.replay.world import ReplayWorld
from infra.settings import Settings
from models.release import content
from models.release.release import Release, Space
from schemas.events import Action
from schemas.identity import item_hash
from serving.decide import offline
from serving.decide.person import EMPTY_PERSON
from serving.edge.identity import People
from tests.support import demo_data

PEOPLE = People(demo_data.KEY, demo_data.PARTITIONS)
FOUND = demo_data.catalogue()
LOG = demo_data.log(FOUND, PEOPLE)
SETTINGS = Settings(partitions=demo_data.PARTITIONS)
END_OFFSETS = [len(records) for records in LOG.events]
USERS = [PEOPLE.user(f"u{n}") for n in range(6)]


def cuts() -> list[Cut]:
    return [
        Cut(who.partition, offset, who.pseudonym)
        for who in USERS
        for offset in range(0, END_OFFSETS[who.partition] + 1, 5)
    ]


def same(a: Facts, b: Facts) -> bool:
    mine: Iterable[NDArray[Any]] = a.actions[1:]  # delta belongs to an entry
    theirs: Iterable[NDArray[Any]] = b.actions[1:]
    columns = zip(mine, theirs, strict=True)
    return np.array_equal(a.place, b.place) and all(np.array_equal(x, y) for x, y in columns)


def test_a_state_is_made_of_the_records_before_its_offset_alone() -> None:
    states, _ = fold(LOG, cuts(), SETTINGS)
    for cut in cuts():
        shorter = LOG._replace(
            events=[
                records[: cut.offset] if p == cut.partition else records
                for p, records in enumerate(LOG.events)
            ]
        )
        alone, _ = fold(shorter, [cut], SETTINGS)
        assert states[cut] == alone[cut]


def test_cuts_of_a_log_change_no_fact() -> None:
    _, whole = fold(LOG, [], SETTINGS)
    _, cut = fold(LOG, cuts(), SETTINGS)
    assert all(same(a, b) for a, b in zip(whole, cut, strict=True))
    assert sum(len(each.place) for each in whole) == len(FOUND.ratings)


def test_facts_by_time_are_the_same_facts() -> None:
    _, facts = fold(LOG, [], SETTINGS)
    joined = by_time(facts)
    assert (np.diff(joined.actions.time.astype(np.int64)) >= 0).all()

    def facts_of(held: Facts) -> list[tuple[int, int, tuple[int, ...]]]:
        return [
            (int(time), int(item), tuple(held.actions.partner[a:b].tolist()))
            for time, item, a, b in zip(
                held.actions.time,
                held.actions.item,
                held.start[:-1].tolist(),
                held.start[1:].tolist(),
                strict=True,
            )
        ]

    assert sorted(facts_of(joined)) == sorted(fact for held in facts for fact in facts_of(held))


def test_tables_are_the_same_in_one_step_or_in_many() -> None:
    _, facts = fold(LOG, [], SETTINGS)
    world = offline.world(LOG.items)
    direct, stepwise = ReplayWorld(world, facts), ReplayWorld(world, facts)
    chance, at = Random(1), [0] * len(END_OFFSETS)
    while at != END_OFFSETS:
        at = [
            min(end, place + chance.randrange(6))
            for place, end in zip(at, END_OFFSETS, strict=True)
        ]
        stepwise.advance(at)
    direct.advance(END_OFFSETS)
    assert stepwise.world.tables.version == ".".join(map(str, END_OFFSETS))
    assert stepwise.show(EMPTY_PERSON, demo_data.START) == direct.show(
        EMPTY_PERSON, demo_data.START
    )
    lists = direct.world.tables.neighbours
    assert len(lists) > 0
    for slot in lists.owners().tolist():
        neighbours, other = lists.get(slot), stepwise.world.tables.neighbours.get(slot)
        assert np.array_equal(neighbours.slots, other.slots)
        assert np.allclose(neighbours.scores, other.scores, rtol=1e-6)
    with pytest.raises(ValueError, match="forward"):
        direct.advance([0] * len(END_OFFSETS))


def reads(shift: int = 0) -> list[Read]:
    """A read of each person just before their eighth rating, or `shift` ms after that."""
    found = []
    for n, who in enumerate(USERS):
        mine = [it for it in FOUND.ratings if it.user_id == f"u{n}"]
        now = mine[7].at + shift
        end_offsets = _end_offsets(now)
        found.append(
            Read(
                mine[7].item_id,
                who.pseudonym,
                who.partition,
                now,
                end_offsets[who.partition],
                end_offsets,
            )
        )
    return found


def _end_offsets(now: int) -> tuple[int, ...]:
    """By partition, the number of actions before `now`."""
    return tuple(
        sum(isinstance(e, Action) and e.occurred_at < now for _, _, e in records)
        for records in LOG.events
    )


def arms(asked: list[Read], release: Release | None = None) -> Arms:
    return play(LOG, asked, [0] * len(END_OFFSETS), SETTINGS, release=release)


def release() -> Release:
    """A release that ranks by random vectors alone."""
    hashes = np.array(sorted(item_hash(it.item_id) for it in FOUND.items), np.uint64)
    places = np.random.default_rng(1).normal(size=(len(hashes), content.DIM))
    space = Space(hashes, content.rows_on_grid(places), np.zeros_like)
    return Release("2026-11-24.1", (), {"vector": 1.0}, space)


def test_nothing_shown_was_had_before_whatever_the_arm_knows() -> None:
    asked = reads()
    made = arms(asked)
    for n, read in enumerate(asked):
        had = {
            e.item_id
            for _, _, e in LOG.events[read.partition]
            if isinstance(e, Action) and e.person == read.person and e.occurred_at < read.now
        }
        for shown in (
            made.fresh[n],
            made.untrained[n],
            made.late_60s[n],
            made.frozen[n],
            made.popular[n],
        ):
            assert len(shown) == 10
            assert not had & set(shown)
        assert made.eligible[n] == len(FOUND.items) - len(had)


def test_the_late_arm_equals_the_fresh_one_where_nothing_happened_in_the_last_minute() -> None:
    long_after = reads(shift=3_600_000)
    made = arms(long_after)
    assert made.late_60s == made.fresh
    busy = arms(reads())
    assert busy.late_60s != busy.fresh


def test_an_arm_frozen_before_everything_knows_nothing() -> None:
    asked = reads()
    made, other = (
        arms(asked),
        arms([read._replace(tables=(0,) * len(END_OFFSETS)) for read in asked]),
    )
    # a person without actions, on empty tables: the popular items of that time
    assert made.frozen == other.popular


def test_a_release_has_a_say_in_every_arm_but_the_untrained() -> None:
    asked = reads()
    bare, made = arms(asked), arms(asked, release())
    assert bare.untrained == bare.fresh
    assert made.untrained == bare.fresh
    assert made.fresh != bare.fresh
    assert made.late_60s != bare.late_60s
    assert all(len(shown) == 10 for shown in made.fresh)
