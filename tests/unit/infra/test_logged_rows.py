"""Online equals offline: what a server logs with its slates is what the log gives of them afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from flows.offline.fold import Offline
from flows.offline.history import Log
from flows.people.batch import read_of
from flows.people.fold import VERSION
from infra.apps.replay.ranks import CandidateLists, ShownRanks
from infra.apps.replay.recipe import SLATE_SIZE
from infra.apps.replay.scenes import FEATURES, RECIPE, HeldOutChoice, TrainingReplay
from infra.apps.train.log import cut
from infra.settings import Settings
from models.aggregates.tables import Tables
from models.evaluation.ranking import gains
from models.release import content
from models.release.release import Release, Space
from schemas import slates
from schemas.events import Action
from schemas.identity import item_hash
from schemas.keys import PLAIN
from schemas.slates import Slate, SlateItem
from schemas.state.counting import Counting
from schemas.state.fences import Fence
from serving.decide import offline
from serving.decide.case import Ask, World
from serving.decide.decide import decide
from serving.decide.person import from_log
from serving.edge.identity import People
from tests.support import demo_data

PEOPLE = People(demo_data.KEY, demo_data.PARTITIONS)
FOUND = demo_data.catalogue()
LOG = demo_data.log(FOUND, PEOPLE)
SETTINGS = Settings(partitions=demo_data.PARTITIONS)


def release() -> Release:
    """A release whose ranker looks at every column, and whose lists are not the built-in ones."""
    chance = np.random.default_rng(2)
    hashes = np.array(sorted(item_hash(it.item_id) for it in FOUND.items), np.uint64)
    vectors = content.rows_on_grid(chance.normal(size=(len(hashes), content.DIM)))
    weights = chance.normal(size=len(FEATURES)).astype(np.float32)

    def rank(rows: NDArray[np.float32]) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = rows @ weights
        return scores

    counting = Counting(lag_power=1.0, backward=0.5, gap="any")
    coarse = {"covisit": 1.0, "popular": 0.2, "vector": 0.1}
    space = Space(hashes, vectors, np.zeros_like)
    return Release("2026-11-24.1", FEATURES, coarse, space, rank, counting)


RELEASE = release()


def targets() -> list[HeldOutChoice]:
    """The later choices of each person."""
    found = []
    for p, records in enumerate(LOG.events):
        done: dict[str, int] = {}
        for offset, _, event in records:
            assert isinstance(event, Action)
            done[event.person] = done.get(event.person, 0) + 1
            if done[event.person] > 6:
                item = item_hash(event.item_id)
                found.append(HeldOutChoice(p, offset, event.person, item, event.occurred_at))
    return sorted(found, key=lambda it: it.now)


TARGETS = targets()


class Server(NamedTuple):
    """Folds and tables of a system that takes one event at a time."""

    people: list[Offline]
    sums: Tables
    world: World


def server() -> Server:
    folds = [Offline(SETTINGS, p, Fence("", 3, 0, 0, VERSION)) for p in range(demo_data.PARTITIONS)]
    world = offline.world(LOG.items, recipe=RECIPE, release=RELEASE)
    return Server(folds, Tables(demo_data.PARTITIONS), world)


def take(server: Server, partition: int, offset: int, time: int, event: Action) -> None:
    batch = read_of(partition, offset, offset + 1, [(offset, time, event)])
    server.sums.apply(partition, server.people[partition].fold_decoded(batch))


def slate(server: Server, target: HeldOutChoice, version: int) -> bytes:
    """The record of the slate that the server shows just before a choice."""
    server.world.tables.apply(server.sums.publish(version, server.world.counting))
    fold, keys = server.people[target.partition], (PLAIN.row, PLAIN.seen, PLAIN.impressions)
    person = from_log(*(fold.get(key(target.partition, target.person)) for key in keys))
    decision = decide(person, server.world, Ask(now=target.now, count=SLATE_SIZE))
    shown = tuple(
        SlateItem(item_id=it.item_id, rank=rank, score=it.score, features=it.features)
        for rank, it in enumerate(decision.items, 1)
    )
    return msgspec.json.encode(
        Slate(slate_id="s", served_at=1, placement="replay", person=None, items=shown)
    )


@pytest.fixture(scope="module")
def logged() -> dict[HeldOutChoice, Slate]:
    """By choice, the slate as it was logged, of a server that knew all that happened before its second."""
    made, held = server(), dict[HeldOutChoice, Slate]()
    events = sorted(
        (
            (event.occurred_at // 1000, p, offset, time, event)
            for p, records in enumerate(LOG.events)
            for offset, time, event in records
            if isinstance(event, Action)
        ),
        key=lambda it: it[:3],
    )
    waiting = list(TARGETS)
    for second, *record in events:
        while waiting and waiting[0].now // 1000 <= second:
            target = waiting.pop(0)
            held[target] = slates.decode(slate(made, target, len(held) + 1))
        take(made, *record)  # type: ignore[arg-type]
    assert len(held) == len(TARGETS) > 20
    return held


def replayed(log: Log, choices: list[HeldOutChoice]) -> Iterator[tuple[HeldOutChoice, Slate]]:
    replay = TrainingReplay(log, choices, SETTINGS)
    for target, person, world in replay.play(choices, RELEASE, lambda count: None):
        items = decide(person, world, Ask(now=target.now, count=SLATE_SIZE)).items
        shown = tuple(
            SlateItem(item_id=it.item_id, rank=rank, score=it.score, features=it.features)
            for rank, it in enumerate(items, 1)
        )
        yield target, Slate(slate_id="s", served_at=1, placement="replay", person=None, items=shown)


def test_rows_made_of_the_log_are_those_logged_with_the_slates(
    logged: dict[HeldOutChoice, Slate],
) -> None:
    count, columns = 0, np.zeros(len(FEATURES), np.bool_)
    for target, made in replayed(LOG, TARGETS):
        then = logged[target]
        assert [it.item_id for it in made.items] == [it.item_id for it in then.items]
        mine, theirs = (np.array([it.features for it in each.items]) for each in (made, then))
        assert mine.shape == (SLATE_SIZE, len(FEATURES))
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-6)
        columns |= theirs.any(0)
        count += 1
    assert count == len(TARGETS)
    assert columns.sum() > len(FEATURES) // 2  # columns of zeros would equal anything


def test_quality_of_logged_slates_is_that_of_the_evaluation(
    logged: dict[HeldOutChoice, Slate],
) -> None:
    ids = {item_hash(it.item_id): it.item_id for it in FOUND.items}
    ranks = []
    for target in TARGETS:
        shown = [it.item_id for it in logged[target].items]
        item = ids[target.item]
        ranks.append(shown.index(item) + 1 if item in shown else 0)
    shown_ranks = ShownRanks({"ranker": RECIPE})
    replay = TrainingReplay(LOG, TARGETS, SETTINGS)
    for scene in replay.play(TARGETS, RELEASE, lambda count: None):
        shown_ranks.add(scene)
    online, evaluated = gains(np.array(ranks)).mean(), gains(shown_ranks.ranks["ranker"]).mean()
    assert online > 0
    assert abs(online - evaluated) < 1e-9


def rows(log: Log, target: HeldOutChoice) -> NDArray[np.float32]:
    found = CandidateLists()
    replay = TrainingReplay(log, [target], SETTINGS)
    for scene in replay.play([target], RELEASE, lambda count: None):
        # a list without its choice is dropped: any candidate will do as one
        shown = decide(scene.person, scene.world, Ask(now=target.now, count=SLATE_SIZE)).items
        item = item_hash(shown[0].item_id)
        found.add(scene._replace(target=target._replace(item=item)))
    assert len(found.lists(np.empty(0, np.uint64)).size) == 1
    made: NDArray[np.float32] = found.lists(np.empty(0, np.uint64)).rows
    return made


@pytest.mark.parametrize("n", [0, len(TARGETS) // 2, len(TARGETS) - 1])
def test_rows_of_the_whole_log_are_those_of_the_log_cut_before_the_choice(n: int) -> None:
    target = TARGETS[n]
    before = str(np.datetime64(target.now, "ms")) + "Z"
    shorter = cut(LOG, before)
    assert sum(map(len, shorter.events)) < sum(map(len, LOG.events))
    assert np.array_equal(rows(LOG, target), rows(shorter, target))


def test_a_row_that_looked_ahead_would_differ() -> None:
    """The law above can fail: where the tables know the choice itself, and what came after it."""
    target = TARGETS[len(TARGETS) // 2]
    late = target._replace(now=target.now + 600_000)
    assert not np.array_equal(rows(LOG, target), rows(LOG, late))
