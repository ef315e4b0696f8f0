"""The same recommender on older or other state, in process: what would each arm have shown?

Every arm gets the same targets, at the same times, with the same `decide`, recipe and cap. No arm shows what
the person has seen just before: `seen` is always fresh, since an arm with stale state would lose by repeating
items that cannot be chosen again. The placement's `repeat` is never, so no arm shows an item twice.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from flows.offline.history import Cut, Facts, Log, State, by_time, fold
from infra.apps.replay.recipe import PLACEMENT
from infra.apps.replay.shown import unseen
from infra.apps.replay.world import Ids, ReplayWorld, in_time_order
from infra.settings import Settings
from models.release.release import Release
from schemas.events import Action
from serving.decide import offline
from serving.decide.person import EMPTY_PERSON, Person, from_log
from serving.world.placements import BUILT_IN_RECIPES

LATE_MS: Final = 60_000
Progress = Callable[[int], None]


class Read(NamedTuple):
    """One answer of the running system: person, time, and the state that it was made from.

    `offset`: the answer includes the partition's records before it. `tables`: the positions of its tables.
    """

    item_id: str
    """The target: the item that the person chose next."""
    person: str
    partition: int
    now: int
    offset: int
    tables: tuple[int, ...]


class Arms(NamedTuple):
    """For each read, in order, the items that each arm shows. `eligible`: the number of items that the person
    could have been shown, for the random arm. `by_numpy`: `fresh` where Python decides, not the kernel."""

    fresh: list[Ids]
    untrained: list[Ids]
    popular: list[Ids]
    frozen: list[Ids]
    late_60s: list[Ids]
    eligible: list[int]
    by_numpy: list[Ids]


class Knowledge(NamedTuple):
    """The state of a person at a read, for each arm."""

    fresh: Person
    late: Person
    frozen: Person


def play(
    log: Log,
    reads: Sequence[Read],
    split: Sequence[int],
    settings: Settings,
    progress: Progress = lambda count: None,
    release: Release | None = None,
) -> Arms:
    """The answer of every arm to every read, with `release`. `split[p]`: the offset at which the history
    ended.

    `progress` is called with the number of decisions since its last call.
    """
    people, facts = _people(log, reads, split, settings)
    world = offline.world(
        log.items,
        recipe=BUILT_IN_RECIPES[PLACEMENT],
        release=release,
        exact=settings.exact_search,
        retrieval=settings.retrieval,
    )
    every = range(len(reads))
    by_tables = sorted(every, key=lambda n: sum(reads[n].tables))
    by_now = sorted(every, key=lambda n: reads[n].now)
    replayed = ReplayWorld(world, facts)
    fresh: dict[int, Ids] = {}
    by_numpy: dict[int, Ids] = {}
    untrained: dict[int, Ids] = {}
    popular: dict[int, Ids] = {}
    for n in by_tables:
        person, now = people[n].fresh, reads[n].now
        replayed.advance(reads[n].tables)
        fresh[n] = replayed.show(person, now)
        by_numpy[n] = replayed.show(person, now, by_numpy=True)
        untrained[n] = replayed.show(person, now, trained=False)
        popular[n] = replayed.show(EMPTY_PERSON._replace(seen=person.seen), now)
        progress(4)
    replayed = ReplayWorld(world, facts)
    replayed.advance(split)
    frozen: dict[int, Ids] = {}
    for n in every:
        frozen[n] = replayed.show(people[n].frozen, reads[n].now)
        progress(1)
    replayed, times = ReplayWorld(world, [by_time(facts)]), in_time_order(facts)
    late: dict[int, Ids] = {}
    for n in by_now:
        replayed.advance([bisect_left(times, _start_of_minute(reads[n].now) // 1000)])
        late[n] = replayed.show(people[n].late, reads[n].now)
        progress(1)

    def in_order(shown: dict[int, Ids]) -> list[Ids]:
        return [shown[n] for n in every]

    return Arms(
        fresh=in_order(fresh),
        untrained=in_order(untrained),
        popular=in_order(popular),
        frozen=in_order(frozen),
        late_60s=in_order(late),
        eligible=[unseen(world, it.fresh) for it in people],
        by_numpy=in_order(by_numpy),
    )


def _start_of_minute(now: int) -> int:
    return now // LATE_MS * LATE_MS


def _people(
    log: Log, reads: Sequence[Read], split: Sequence[int], settings: Settings
) -> tuple[list[Knowledge], list[Facts]]:
    histories = _histories(log)
    fresh_cuts = [Cut(read.partition, read.offset, read.person) for read in reads]
    offsets = [
        sorted({cut.offset for cut in fresh_cuts if cut.partition == p}) for p in range(len(split))
    ]
    cuts = [
        (
            cut,
            cut._replace(
                offset=_late_offset(histories[cut.person], read.now, offsets[cut.partition])
            ),
            cut._replace(offset=split[cut.partition]),
        )
        for cut, read in zip(fresh_cuts, reads, strict=True)
    ]
    states, facts = fold(log, [cut for three in cuts for cut in three], settings)
    people = []
    for fresh, late, frozen in cuts:
        now = _person(states[fresh])
        stale = (_person(states[cut])._replace(seen=now.seen) for cut in (late, frozen))
        people.append(Knowledge(now, *stale))
    return people, facts


def _person(state: State) -> Person:
    return from_log(*state)


def _histories(log: Log) -> dict[str, list[tuple[int, int]]]:
    """(time, offset) of each person's actions, in the order of the log."""
    found: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for records in log.events:
        for offset, _, event in records:
            if isinstance(event, Action):
                found[event.person].append((event.occurred_at, offset))
    return found


def _late_offset(history: Sequence[tuple[int, int]], now: int, offsets: Sequence[int]) -> int:
    """An offset that includes exactly the person's actions before the minute of `now`. It is one of `offsets`
    where possible, which saves a cut."""
    done = bisect_left(history, (_start_of_minute(now), -1))
    first = history[done - 1][1] + 1 if done else 0
    end = history[done][1] if done < len(history) else first
    at = bisect_left(offsets, first)
    return offsets[at] if at < len(offsets) and offsets[at] <= end else first
